-- +goose Up
-- Which message log belongs to the file, and how far the two were in step: one row. A mark is written in three steps:
-- begun is raised here, then the log gets it, then it is noted here as mark. So mark <= the log's <= begun at any time.
CREATE TABLE identity (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    store  BLOB NOT NULL,           -- 16 random bytes
    epoch  INTEGER NOT NULL,        -- 0, or since the last time that a backup was restored a random number
    domain TEXT NOT NULL,           -- '': not known yet
    begun  INTEGER NOT NULL,
    mark   INTEGER NOT NULL         -- 0: there was never a log
);
INSERT INTO identity (id, store, epoch, domain, begun, mark) VALUES (1, randomblob(16), 0, '', 0, 0);
