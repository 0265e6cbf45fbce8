-- +goose Up
-- Identities are never used again, also after the newest account was deleted: hence AUTOINCREMENT.
CREATE TABLE account (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    name     TEXT NOT NULL UNIQUE,
    created  INTEGER NOT NULL, -- Unix milliseconds
    disabled INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE credential (
    account    INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    hash       TEXT NOT NULL,
    salt       BLOB NOT NULL,
    iterations INTEGER NOT NULL,
    stored_key BLOB NOT NULL,
    server_key BLOB NOT NULL,
    PRIMARY KEY (account, hash)
) WITHOUT ROWID;
-- Names of deleted accounts, and until when nobody else gets them.
CREATE TABLE reserved_name (
    name  TEXT PRIMARY KEY,
    until INTEGER NOT NULL -- Unix milliseconds
) WITHOUT ROWID;
CREATE TABLE roster (
    account INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    version INTEGER NOT NULL
);
CREATE TABLE roster_item (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    contact TEXT NOT NULL,
    removed INTEGER NOT NULL DEFAULT 0, -- kept, so that clients can be told what they missed
    changed INTEGER NOT NULL,           -- the roster's version that the last change made
    name    TEXT NOT NULL DEFAULT '',
    state   INTEGER NOT NULL DEFAULT 0, -- bits, see roster.go
    request BLOB,
    groups  TEXT NOT NULL DEFAULT '[]', -- JSON
    PRIMARY KEY (account, contact)
) WITHOUT ROWID;
CREATE TABLE archive_preference (
    account INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    fallback TEXT NOT NULL,
    always  TEXT NOT NULL, -- JSON
    never   TEXT NOT NULL  -- JSON
);
CREATE TABLE last_activity (
    account INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    seconds INTEGER NOT NULL, -- Unix time
    status  TEXT NOT NULL
);
CREATE TABLE secret (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;
-- What happened to accounts in the last day, so that a running node notices what another process did.
CREATE TABLE account_change (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL, -- Unix milliseconds
    origin  TEXT NOT NULL,    -- the process
    account INTEGER NOT NULL,
    name    TEXT NOT NULL
);
