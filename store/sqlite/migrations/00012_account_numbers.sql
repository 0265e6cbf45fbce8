-- +goose Up
-- Every number that was ever given to an account, so that none is given twice. They used to be given in order.
CREATE TABLE account_number (
    id INTEGER PRIMARY KEY
);
-- +goose StatementBegin
INSERT INTO account_number (id)
    WITH RECURSIVE given (id) AS (
        SELECT 1 WHERE EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'account' AND seq > 0)
        UNION ALL
        SELECT id + 1 FROM given WHERE id < (SELECT seq FROM sqlite_sequence WHERE name = 'account')
    )
    SELECT id FROM given;
-- +goose StatementEnd
