-- +goose Up
-- hide_reads: others are not to know how far the account has read.
ALTER TABLE archive_preference ADD COLUMN hide_reads INTEGER NOT NULL DEFAULT 0;
