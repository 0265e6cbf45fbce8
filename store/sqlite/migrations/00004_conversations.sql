-- +goose Up
-- What accounts choose for their conversations. Rows that are back at the default stay, so that devices hear of it.
CREATE TABLE conversation_setting (
    account     INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    contact     TEXT NOT NULL,
    muted_until INTEGER NOT NULL, -- Unix milliseconds; 0: not muted
    pinned      INTEGER NOT NULL,
    changed     INTEGER NOT NULL,
    PRIMARY KEY (account, contact)
) WITHOUT ROWID;
CREATE UNIQUE INDEX conversation_setting_changed ON conversation_setting (account, changed);
-- What accounts show of themselves. An account without a row has an empty profile.
CREATE TABLE profile (
    account INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    name    TEXT NOT NULL,
    title   TEXT NOT NULL,
    changed INTEGER NOT NULL
);
CREATE UNIQUE INDEX profile_changed ON profile (changed);
-- The last number that was given to a change of a profile: one row. Numbers are not used again, also after an account
-- was deleted.
CREATE TABLE profile_version (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL
);
INSERT INTO profile_version (id, version) VALUES (1, 0);
-- The words of names, folded, for searches by their beginnings; see profile_words.go.
CREATE TABLE profile_word (
    word    TEXT NOT NULL,
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    PRIMARY KEY (word, account)
) WITHOUT ROWID;
CREATE INDEX profile_word_account ON profile_word (account, word);
