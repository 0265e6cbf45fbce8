-- +goose Up
-- Removals up to this version of the roster are not remembered any more.
ALTER TABLE roster ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;
