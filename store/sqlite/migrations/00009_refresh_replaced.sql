-- +goose Up
-- When the newest refresh token replaced the one before it, in Unix milliseconds; 0: long ago, or never.
ALTER TABLE device ADD COLUMN refresh_replaced INTEGER NOT NULL DEFAULT 0;
