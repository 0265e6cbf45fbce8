package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/posthouse-im/posthouse/store"
)

const profileColumns = `SELECT a.id, a.name, coalesce(p.name, ''), coalesce(p.title, ''), coalesce(p.changed, 0)
	FROM account a LEFT JOIN profile p ON p.account = a.id `

// Profiles implements store.Profiles.
func (s *Store) Profiles(ctx context.Context, accounts []store.AccountID) ([]store.Profile, error) {
	if len(accounts) == 0 {
		return nil, nil
	}
	list, err := json.Marshal(accounts)
	if err != nil {
		return nil, fmt.Errorf("read profiles: %w", err)
	}
	found, err := s.readProfiles(ctx, profileColumns+`WHERE a.id IN (SELECT value FROM json_each(?))`, string(list))
	if err != nil {
		return nil, fmt.Errorf("read profiles: %w", err)
	}
	return found, nil
}

// ChangedProfiles implements store.Profiles.
func (s *Store) ChangedProfiles(ctx context.Context, after uint64, limit int) (changed []store.Profile, last uint64,
	err error) {
	// The number is read first: what changes in between is found here and again by the next call, and never by neither.
	if err := s.read.scan(ctx, `SELECT version FROM profile_version`, nil, &last); err != nil {
		return nil, 0, fmt.Errorf("read changed profiles: %w", translate(err))
	}
	changed, err = s.readProfiles(ctx,
		`SELECT a.id, a.name, p.name, p.title, p.changed FROM profile p JOIN account a ON a.id = p.account
		WHERE p.changed > ? ORDER BY p.changed LIMIT ?`, after, limit)
	if err != nil {
		return nil, 0, fmt.Errorf("read changed profiles: %w", err)
	}
	if n := len(changed); n > 0 {
		last = max(last, changed[n-1].Changed)
	}
	return changed, last, nil
}

func (s *Store) readProfiles(ctx context.Context, query string, args ...any) (found []store.Profile, err error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, translate(err)
	}
	defer rows.Close()
	for rows.Next() {
		var p store.Profile
		if err := rows.Scan(&p.Account, &p.Username, &p.Name, &p.Title, &p.Changed); err != nil {
			return nil, translate(err)
		}
		found = append(found, p)
	}
	return found, translate(rows.Err())
}

// SetProfile implements store.Profiles. What is set to what it is already changes nothing, and keeps its number.
func (s *Store) SetProfile(ctx context.Context, p store.Profile) (store.Profile, error) {
	err := s.change(ctx, func(tx *sql.Tx) error {
		if err := tx.QueryRowContext(ctx, `SELECT name FROM account WHERE id = ?`,
			p.Account).Scan(&p.Username); err != nil {
			return err
		}
		var name, title string
		p.Changed = 0
		err := tx.QueryRowContext(ctx, `SELECT name, title, changed FROM profile WHERE account = ?`,
			p.Account).Scan(&name, &title, &p.Changed)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if name == p.Name && title == p.Title {
			return nil
		}
		err = tx.QueryRowContext(ctx, `UPDATE profile_version SET version = version + 1 RETURNING version`).Scan(
			&p.Changed)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO profile (account, name, title, changed) VALUES (?, ?, ?, ?)
			ON CONFLICT (account) DO UPDATE SET name = excluded.name, title = excluded.title, changed = excluded.changed`,
			p.Account, p.Name, p.Title, p.Changed)
		if err != nil {
			return err
		}
		if err := s.note(ctx, tx, store.Change{Kind: store.ProfileChanged, Account: p.Account,
			Name: p.Username}); err != nil || name == p.Name {
			return err
		}
		return indexWords(ctx, tx, p.Account, p.Name)
	})
	if err != nil {
		return store.Profile{}, fmt.Errorf("set profile: %w", err)
	}
	return p, nil
}

// indexWords makes the name's words those by which the account is found.
func indexWords(ctx context.Context, tx *sql.Tx, account store.AccountID, name string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM profile_word WHERE account = ?`, account); err != nil {
		return err
	}
	for _, word := range wordsOf(name) {
		if _, err := tx.ExecContext(ctx, `INSERT INTO profile_word (word, account) VALUES (?, ?)`, word,
			account); err != nil {
			return err
		}
	}
	return nil
}

// maxWords bounds a search: of more words only the longest count.
const maxWords = 8

// beyond is greater than everything that a word may go on with, in the order of the engine, which is that of bytes.
const beyond = "\U0010FFFF"

// SearchProfiles implements store.Profiles. The longest word, which most likely fits the fewest, is looked up in the
// indexes of user names and of words; those found are compared with the others.
func (s *Store) SearchProfiles(ctx context.Context, words []string, after string, limit int) ([]store.Profile, error) {
	query, args := searchQuery(searchWords(words), after, limit)
	found, err := s.readProfiles(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("search profiles: %w", err)
	}
	return found, nil
}

// searchQuery makes one text for each number of words.
func searchQuery(words []string, after string, limit int) (text string, args []any) {
	var query strings.Builder
	query.WriteString(profileColumns)
	// The plus keeps the engine from going through all accounts in the order of the answer.
	order := `AND +a.disabled = 0 AND +a.name > ? ORDER BY +a.name LIMIT ?`
	for i, word := range words {
		if i == 0 {
			query.WriteString(`WHERE a.id IN (SELECT id FROM account WHERE name >= ? AND name < ?
				UNION SELECT account FROM profile_word WHERE word >= ? AND word < ?) `)
		} else {
			query.WriteString(`AND (+a.name >= ? AND +a.name < ?
				OR EXISTS (SELECT 1 FROM profile_word w WHERE w.account = a.id AND w.word >= ? AND w.word < ?)) `)
		}
		args = append(args, word, word+beyond, word, word+beyond)
	}
	if len(words) == 0 {
		order = `WHERE a.disabled = 0 AND a.name > ? ORDER BY a.name LIMIT ?`
	}
	query.WriteString(order)
	return query.String(), append(args, after, limit)
}
