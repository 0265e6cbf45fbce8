package node

import (
	"context"

	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/pebble"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// open opens the stores of a folder as a node does.
func open(t *testing.T, folder, domain string) (*stores, error) {
	t.Helper()
	return openStores(t.Context(), folder, domain, sqlite.Options{},
		pebble.Options{Logger: slog.New(slog.DiscardHandler)})
}

// with does something with the stores of a folder, and closes them. At the end they are in step.
func with(t *testing.T, folder string, do func(s *stores)) {
	t.Helper()
	s, err := open(t, folder, "localhost")
	require.NoError(t, err)
	if do != nil {
		do(s)
	}
	require.NoError(t, (&stepper{stores: s}).look(t.Context(), true))
	require.NoError(t, s.close())
}

func create(t *testing.T, s *sqlite.Store, name string) store.Party {
	t.Helper()
	id, err := s.CreateAccount(t.Context(), store.Account{Name: name})
	require.NoError(t, err)
	return store.Party{JID: jid.MustParse(name + "@localhost"), Account: id}
}

func say(t *testing.T, l *pebble.Log, from, to store.Party, text string) {
	t.Helper()
	now := time.Now()
	opened, err := l.OpenConversation(t.Context(), now, store.DirectKey(from, to), nil)
	require.NoError(t, err)
	b := &store.Batch{Now: now, Entries: []*store.Append{{Message: store.Message{
		Conversation: opened.ID, Author: from, Stanza: []byte(text),
		Flags: store.InAuthorArchive | store.InRecipientArchive,
	}}}}
	require.NoError(t, l.Append(t.Context(), b))
}

// copyOf copies files of a folder aside, and returns what puts them back in place of those that are there then.
func copyOf(t *testing.T, folder string, names ...string) (back func()) {
	t.Helper()
	aside := t.TempDir()
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(folder, name)); err == nil {
			run(t, "cp", "-a", filepath.Join(folder, name), aside)
		}
	}
	return func() {
		for _, name := range names {
			require.NoError(t, os.RemoveAll(filepath.Join(folder, name)))
			if _, err := os.Stat(filepath.Join(aside, name)); err == nil {
				run(t, "cp", "-a", filepath.Join(aside, name), folder)
			}
		}
	}
}

var databaseFiles = []string{Database, Database + "-wal", Database + "-shm"}

// TestOlderDatabase: an account that is made in an older database, beside a message log that knows accounts which the
// database does not, gets nothing of theirs; and the two do not start together.
func TestOlderDatabase(t *testing.T) {
	folder := t.TempDir()
	var alice store.Party
	with(t, folder, func(s *stores) { alice = create(t, s.database, "alice") })
	back := copyOf(t, folder, databaseFiles...)
	with(t, folder, func(s *stores) {
		say(t, s.log, alice, create(t, s.database, "bob"), "for bob alone")
	})
	back()

	database, err := openDatabase(t.Context(), folder, "localhost", sqlite.Options{})
	require.NoError(t, err, "the command line does not open the log")
	mallory := create(t, database, "mallory")
	require.NoError(t, database.Close())
	log, err := pebble.Open(filepath.Join(folder, MessageLog), pebble.Options{})
	require.NoError(t, err)
	found, _, err := log.History(t.Context(), store.HistoryQuery{Owner: mallory.Account, Limit: 10})
	require.NoError(t, err)
	require.Empty(t, found)
	found, _, err = log.History(t.Context(), store.HistoryQuery{Owner: alice.Account, Limit: 10})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.NoError(t, log.Close())

	_, err = open(t, folder, "localhost")
	require.ErrorContains(t, err, "is older than the message log")
}

// TestNumbersTheLogKnows: the node does not give out a number that only its message log knows.
func TestNumbersTheLogKnows(t *testing.T) {
	s, err := open(t, t.TempDir(), "localhost")
	require.NoError(t, err)
	defer func() { require.NoError(t, s.close()) }()
	a, b := store.Party{JID: jid.MustParse("a@localhost"), Account: 11},
		store.Party{JID: jid.MustParse("b@localhost"), Account: 1<<63 - 1}
	say(t, s.log, a, b, "x")
	for id, want := range map[store.AccountID]bool{10: false, 11: true, 12: false, 1<<63 - 1: true, 1<<63 - 2: false} {
		known, err := s.log.KnowsAccount(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, want, known, id)
	}
	require.NoError(t, s.log.Deliver(t.Context(), []store.Delivered{{Account: 13, IDs: []store.MessageID{1}}}))
}

// TestStoresThatDoNotFit: each is refused with the file that is meant, what is wrong with it and what to do; and
// nothing is made in its place.
func TestStoresThatDoNotFit(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(t *testing.T, folder string)
		want  []string
	}{
		"no database": {
			func(t *testing.T, folder string) { remove(t, folder, databaseFiles...) },
			[]string{"/" + Database + " is missing", "/messages is there", "put the database back",
				"posthouse restore", "move the message log away"},
		},
		"an empty database": {
			func(t *testing.T, folder string) {
				remove(t, folder, databaseFiles...)
				require.NoError(t, os.WriteFile(filepath.Join(folder, Database), nil, 0o600))
			},
			[]string{"/" + Database + " is missing"},
		},
		"no log": {
			func(t *testing.T, folder string) { remove(t, folder, MessageLog) },
			[]string{"/messages is missing", "/" + Database + " is there", "put the log back", "posthouse restore"},
		},
		"an empty log": {
			func(t *testing.T, folder string) {
				remove(t, folder, MessageLog)
				require.NoError(t, os.Mkdir(filepath.Join(folder, MessageLog), 0o700))
			},
			[]string{"/messages is missing"},
		},
		"a log without its engine's files": {
			func(t *testing.T, folder string) {
				remove(t, folder, MessageLog)
				require.NoError(t, os.Mkdir(filepath.Join(folder, MessageLog), 0o700))
				require.NoError(t, os.WriteFile(filepath.Join(folder, MessageLog, "LOCK"), nil, 0o600))
			},
			[]string{"/messages", "there is no message log in the folder"},
		},
		"another database": {
			func(t *testing.T, folder string) {
				other := t.TempDir()
				with(t, other, nil)
				back := copyOf(t, other, databaseFiles...)
				remove(t, folder, databaseFiles...)
				remove(t, other, databaseFiles...)
				back()
				run(t, "cp", "-a", filepath.Join(other, Database), folder)
			},
			[]string{"/" + Database + " and the message log", "do not belong together", "posthouse restore"},
		},
		"another log": {
			func(t *testing.T, folder string) {
				other := t.TempDir()
				with(t, other, nil)
				remove(t, folder, MessageLog)
				run(t, "cp", "-a", filepath.Join(other, MessageLog), folder)
			},
			[]string{"do not belong together", "posthouse restore"},
		},
		"an older database": {
			func(t *testing.T, folder string) {
				back := copyOf(t, folder, databaseFiles...)
				with(t, folder, func(s *stores) { create(t, s.database, "bob") })
				back()
			},
			[]string{"/" + Database + " is older than the message log", "posthouse restore"},
		},
		"an older database, of before there was a log": {
			func(t *testing.T, folder string) {
				remove(t, folder, append(databaseFiles, MessageLog)...)
				database, err := openDatabase(t.Context(), folder, "localhost", sqlite.Options{})
				require.NoError(t, err)
				require.NoError(t, database.Close())
				back := copyOf(t, folder, databaseFiles...)
				s, err := open(t, folder, "localhost")
				require.NoError(t, err)
				require.NoError(t, s.close())
				back()
			},
			[]string{"is older than the message log"},
		},
		"an older log": {
			func(t *testing.T, folder string) {
				back := copyOf(t, folder, MessageLog)
				with(t, folder, func(s *stores) {
					a := create(t, s.database, "bob")
					say(t, s.log, a, a, "acknowledged")
				})
				back()
			},
			[]string{"/messages is older than the database", "posthouse restore"},
		},
		"another domain": {
			nil,
			[]string{"is of the domain localhost", "says example.org", "set domain to localhost", "--data",
				"cannot be renamed"},
		},
		"an interrupted restore": {
			func(t *testing.T, folder string) {
				require.NoError(t, os.WriteFile(filepath.Join(folder, restoring), nil, 0o600))
			},
			[]string{"was interrupted", "posthouse restore again"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder, domain := t.TempDir(), "localhost"
			with(t, folder, func(s *stores) {
				alice := create(t, s.database, "alice")
				say(t, s.log, alice, alice, "a note")
			})
			if test.spoil != nil {
				test.spoil(t, folder)
			} else {
				domain = "example.org"
			}
			before := listing(t, folder)
			_, err := open(t, folder, domain)
			for _, part := range test.want {
				require.ErrorContains(t, err, part)
			}
			require.ErrorContains(t, err, folder)
			database := filepath.Join(folder, Database)
			require.Subset(t, append(before, database+".lock", database+"-wal", database+"-shm"), listing(t, folder),
				"nothing was made")
		})
	}
}

// TestStoresFit: what a crash may leave between two steps of a mark is no reason to refuse.
func TestStoresFit(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, ctx context.Context, s *stores){
		"nothing":         func(*testing.T, context.Context, *stores) {},
		"after the first": func(t *testing.T, ctx context.Context, s *stores) { begin(t, s) },
		"after the second": func(t *testing.T, ctx context.Context, s *stores) {
			require.NoError(t, s.log.SetMark(ctx, begin(t, s)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			for range 3 {
				s, err := open(t, folder, "localhost")
				require.NoError(t, err)
				spoil(t, t.Context(), s)
				require.NoError(t, s.close())
			}
			with(t, folder, nil)
		})
	}
	t.Run("during the first start", func(t *testing.T) {
		folder := t.TempDir()
		database, err := openDatabase(t.Context(), folder, "localhost", sqlite.Options{})
		require.NoError(t, err)
		_, err = database.BeginMark(t.Context())
		require.NoError(t, err)
		require.NoError(t, database.Close())
		require.NoError(t, os.Mkdir(filepath.Join(folder, MessageLog), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(folder, MessageLog, "LOCK"), nil, 0o600))
		with(t, folder, nil)
	})
	t.Run("of before there were identities", func(t *testing.T) {
		folder := t.TempDir()
		log, err := pebble.Open(filepath.Join(folder, MessageLog), pebble.Options{})
		require.NoError(t, err)
		require.NoError(t, log.Close())
		database, err := sqlite.Open(t.Context(), filepath.Join(folder, Database), sqlite.Options{})
		require.NoError(t, err)
		require.NoError(t, database.Close())
		with(t, folder, nil)
		remove(t, folder, MessageLog)
		_, err = open(t, folder, "localhost")
		require.ErrorContains(t, err, "is missing")
	})
}

func begin(t *testing.T, s *stores) uint64 {
	t.Helper()
	mark, err := s.database.BeginMark(t.Context())
	require.NoError(t, err)
	return mark
}

func remove(t *testing.T, folder string, names ...string) {
	t.Helper()
	for _, name := range names {
		require.NoError(t, os.RemoveAll(filepath.Join(folder, name)))
	}
}

// listing returns what is in a data folder and, when there is no log in the folder of the log, in that.
func listing(t *testing.T, folder string) (names []string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(folder, MessageLog, "MANIFEST-*"))
	require.NoError(t, err)
	for _, pattern := range []string{"*", MessageLog + "/*"}[:2-min(1, len(logs))] {
		found, err := filepath.Glob(filepath.Join(folder, pattern))
		require.NoError(t, err)
		names = append(names, found...)
	}
	return names
}

func run(t *testing.T, command ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput()
	require.NoError(t, err, "%s: %s", command, out)
}
