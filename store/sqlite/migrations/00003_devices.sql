-- +goose Up
CREATE TABLE device (
    account         INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    id              TEXT NOT NULL,
    name            TEXT NOT NULL,
    software        TEXT NOT NULL,
    created         INTEGER NOT NULL,           -- Unix milliseconds, as all times here; 0 is no time
    seen            INTEGER NOT NULL,
    generation      INTEGER NOT NULL,
    used            INTEGER NOT NULL,
    login_expires   INTEGER NOT NULL,
    used_expires    INTEGER NOT NULL,
    counter         INTEGER NOT NULL,
    refresh         BLOB,
    refresh_before  BLOB,
    refresh_expires INTEGER NOT NULL,
    PRIMARY KEY (account, id)
) WITHOUT ROWID;
-- The device that was signed out; '' when the change concerns the whole account.
ALTER TABLE account_change ADD COLUMN device TEXT NOT NULL DEFAULT '';
