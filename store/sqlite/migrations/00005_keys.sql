-- +goose Up
-- What the domain signs its tokens with. The newest is that with the highest number, whatever the clock said.
CREATE TABLE signing_key (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    id      TEXT NOT NULL UNIQUE,
    private BLOB NOT NULL,
    created INTEGER NOT NULL,          -- Unix milliseconds, as all times here; 0 is no time
    retired INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE service_key (
    id      TEXT PRIMARY KEY,
    name    TEXT NOT NULL,
    hash    BLOB NOT NULL,
    scopes  TEXT NOT NULL,             -- JSON
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    used    INTEGER NOT NULL DEFAULT 0,
    revoked INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE UNIQUE INDEX service_key_name ON service_key (name) WHERE revoked = 0;
-- AUTOINCREMENT remembers the highest number there ever was, so that it is noticed when the last entries are missing.
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL,
    remote TEXT NOT NULL,
    hash   BLOB NOT NULL
);
-- +goose StatementBegin
CREATE TRIGGER audit_update BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'entries of the audit log are never changed');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_delete BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'entries of the audit log are never removed');
END;
-- +goose StatementEnd
-- Also keeps an entry from being replaced.
-- +goose StatementBegin
CREATE TRIGGER audit_insert BEFORE INSERT ON audit
WHEN NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM audit) BEGIN
    SELECT RAISE(ABORT, 'entries of the audit log follow each other');
END;
-- +goose StatementEnd
