-- +goose Up
-- What happened in the last day to what others keep in memory, so that every process notices what another one did.
DROP TABLE account_change;
CREATE TABLE change (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL, -- Unix milliseconds
    origin  TEXT NOT NULL,    -- the process
    kind    TEXT NOT NULL,    -- store.ChangeKind
    account INTEGER NOT NULL,
    name    TEXT NOT NULL,
    device  TEXT NOT NULL     -- the one that was removed, else ''
);
CREATE INDEX change_account ON change (account, number);
