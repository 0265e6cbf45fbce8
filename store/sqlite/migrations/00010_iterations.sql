-- +goose Up
-- How many keys have how many iterations.
CREATE INDEX credential_iterations ON credential (hash, iterations);
