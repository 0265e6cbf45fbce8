-- +goose Up
-- Which account had the name last; 0: it was deleted before this was noted. Rows stay when the reservation is over, so
-- that conversations with people who have left are found by their addresses.
ALTER TABLE reserved_name ADD COLUMN account INTEGER NOT NULL DEFAULT 0;
