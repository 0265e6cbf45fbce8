-- +goose Up
-- Who administers the domain.
ALTER TABLE account ADD COLUMN admin INTEGER NOT NULL DEFAULT 0;
