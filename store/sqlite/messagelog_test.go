package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/storetest"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// messageLog is a message log on SQLite, as good as we could make it. It is not used: it is what the decision of
// docs/design/message-log.md was measured against. It has no delivery cursors, since no figure needs them.
type messageLog struct {
	store.ConversationReader // nil: not part of the comparison

	write, read *sql.DB
	reads       *statements
	inserts     map[int]*sql.Stmt
	origin      *sql.Stmt
	begin       *sql.Stmt
	tails       map[[2]string]*logTail
	last        store.MessageID
	folder      string
}

type logTail struct {
	conversation store.ConversationID
	seq          uint64
}

// The log itself is append-only. Its indexes hold all that a page has to be found by; (conversation, seq) doubles as
// the guarantee that a number is given once.
const (
	logTables = `
CREATE TABLE message (
    id INTEGER PRIMARY KEY, conversation INTEGER NOT NULL, seq INTEGER NOT NULL, flags INTEGER NOT NULL,
    sender_account INTEGER NOT NULL, recipient_account INTEGER NOT NULL, sender TEXT NOT NULL, recipient TEXT NOT NULL,
    origin TEXT, origin_key BLOB, hash BLOB, stanza BLOB NOT NULL);
CREATE TABLE conversation (id INTEGER PRIMARY KEY, a TEXT NOT NULL, b TEXT NOT NULL);
CREATE UNIQUE INDEX conversation_parties ON conversation (a, b);
`
	logIndexes = `
CREATE UNIQUE INDEX message_number ON message (conversation, seq);
CREATE INDEX message_sent ON message (sender_account, id) WHERE sender_account <> 0;
CREATE INDEX message_received ON message (recipient_account, id) WHERE recipient_account <> 0;
CREATE UNIQUE INDEX message_origin ON message (origin_key) WHERE origin_key IS NOT NULL;
`
)

const logColumns = `id, conversation, seq, flags, sender_account, recipient_account, sender, recipient, coalesce(origin, ''), stanza`

// rowsPerInsert is how many rows one statement takes: the driver costs as much as the engine otherwise.
const rowsPerInsert = 25

func openMessageLog(t testing.TB, folder, tables string) *messageLog {
	t.Helper()
	path := filepath.Join(folder, "log.db")
	l := &messageLog{tails: map[[2]string]*logTail{}, inserts: map[int]*sql.Stmt{}, folder: folder}
	var err error
	l.write, err = sql.Open("sqlite", dsn(path, Options{BusyTimeout: time.Second}, true))
	require.NoError(t, err)
	l.write.SetMaxOpenConns(1)
	for _, text := range []string{tables, "PRAGMA wal_autocheckpoint = 20000", "PRAGMA cache_size = -65536"} {
		_, err = l.write.Exec(text)
		require.NoError(t, err)
	}
	for _, n := range []int{1, rowsPerInsert} {
		values := strings.TrimSuffix(strings.Repeat("(?,?,?,?,?,?,?,?,?,?,?,?),", n), ",")
		l.inserts[n], err = l.write.Prepare("INSERT INTO message VALUES " + values)
		require.NoError(t, err)
	}
	l.origin, err = l.write.Prepare("SELECT id, conversation, seq, hash FROM message WHERE origin_key = ?")
	require.NoError(t, err)
	l.begin, err = l.write.Prepare("INSERT INTO conversation VALUES (?, ?, ?)")
	require.NoError(t, err)
	l.read, err = sql.Open("sqlite", dsn(path, Options{BusyTimeout: time.Second}, false)+"&_pragma=cache_size(-65536)")
	require.NoError(t, err)
	l.reads = newStatements(l.read)
	return l
}

func (l *messageLog) Close() error { return errors.Join(l.read.Close(), l.write.Close()) }

func parties(a, b store.Party) [2]string {
	one, other := fmt.Sprint(a.Account, a.JID), fmt.Sprint(b.Account, b.JID)
	return [2]string{min(one, other), max(one, other)}
}

// Append implements store.MessageWriter.
func (l *messageLog) Append(ctx context.Context, now time.Time, batch []*store.Append, _ []store.DeliveryCursor) error {
	tx, err := l.write.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	var args []any
	flush := func(n int) error {
		if len(args) < n*12 || len(args) == 0 {
			return nil
		}
		rows := len(args) / 12
		insert := l.inserts[rows]
		if insert == nil {
			for i := range rows {
				if _, err := tx.Stmt(l.inserts[1]).Exec(args[i*12 : (i+1)*12]...); err != nil {
					return err
				}
			}
		} else if _, err := tx.Stmt(insert).Exec(args...); err != nil {
			return err
		}
		args = args[:0]
		return nil
	}
	for _, a := range batch {
		var origin, originKey, hash any
		if a.OriginID != "" {
			digest := sha256.Sum256(fmt.Append(nil, a.Sender.Account, a.OriginID))
			origin, originKey, hash = a.OriginID, digest[:16], a.ContentHash[:]
			var first []byte
			err := tx.Stmt(l.origin).QueryRow(originKey).Scan(&a.ID, &a.Conversation, &a.Seq, &first)
			if err == nil {
				a.Duplicate, a.Conflict = string(first) == string(hash.([]byte)), string(first) != string(hash.([]byte))
				continue
			}
			if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		a.ID = store.NextMessageID(l.last, now)
		l.last = a.ID
		key := parties(a.Sender, a.Recipient)
		tail := l.tails[key]
		if tail == nil {
			tail = &logTail{conversation: store.ConversationID(a.ID)}
			l.tails[key] = tail
			if _, err := tx.Stmt(l.begin).Exec(tail.conversation, key[0], key[1]); err != nil {
				return err
			}
		}
		tail.seq++
		a.Conversation, a.Seq = tail.conversation, tail.seq
		args = append(args, int64(a.ID), int64(a.Conversation), int64(a.Seq), int64(a.Flags), int64(a.Sender.Account),
			int64(a.Recipient.Account), a.Sender.JID.String(), a.Recipient.JID.String(), origin, originKey, hash, a.Stanza)
		if err := flush(rowsPerInsert); err != nil {
			return err
		}
	}
	if err := flush(1); err != nil {
		return err
	}
	return tx.Commit()
}

func (l *messageLog) query(ctx context.Context, text string, args ...any) ([]store.Message, error) {
	rows, err := l.reads.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []store.Message
	known := map[string]jid.JID{}
	address := func(s string) jid.JID {
		j, ok := known[s]
		if !ok {
			j = jid.MustParse(s)
			known[s] = j
		}
		return j
	}
	for rows.Next() {
		var m store.Message
		var sender, recipient string
		if err := rows.Scan(&m.ID, &m.Conversation, &m.Seq, &m.Flags, &m.Sender.Account, &m.Recipient.Account,
			&sender, &recipient, &m.OriginID, &m.Stanza); err != nil {
			return nil, err
		}
		m.Sender.JID, m.Recipient.JID = address(sender), address(recipient)
		found = append(found, m)
	}
	return found, rows.Err()
}

// History implements store.MessageReader. The two sides of an account are two ranges, of which the first ones count.
func (l *messageLog) History(ctx context.Context, q store.HistoryQuery) ([]store.Message, bool, error) {
	before := int64(math.MaxInt64)
	if q.Before != 0 {
		before = int64(q.Before)
	}
	order := "ASC"
	if q.Backward {
		order = "DESC"
	}
	var found []store.Message
	var err error
	if q.With == (store.Party{}) {
		found, err = l.query(ctx, `SELECT `+logColumns+` FROM message WHERE id IN (SELECT id FROM (
			SELECT * FROM (SELECT id FROM message WHERE sender_account = ?1 AND sender_account <> 0 AND id > ?2 AND id < ?3 ORDER BY id `+order+` LIMIT ?4)
			UNION SELECT * FROM (SELECT id FROM message WHERE recipient_account = ?1 AND recipient_account <> 0 AND id > ?2 AND id < ?3 ORDER BY id `+order+` LIMIT ?4))
			ORDER BY id `+order+` LIMIT ?4) ORDER BY id `+order, q.Owner, int64(q.After), before, q.Limit+1)
	} else {
		conversation, _, e := l.Conversation(ctx, store.Party{Account: q.Owner, JID: ownerOf(q)}, q.With)
		if e != nil {
			return nil, false, e
		}
		// Numbers rise with ids: the position is found by binary search.
		first, e := l.position(ctx, conversation, q.After)
		if e != nil {
			return nil, false, e
		}
		found, err = l.query(ctx, `SELECT `+logColumns+` FROM message WHERE conversation = ? AND seq >= ? ORDER BY seq `+order+` LIMIT ?`,
			int64(conversation), int64(first), q.Limit+1)
	}
	if err != nil {
		return nil, false, err
	}
	more := len(found) > q.Limit
	found = found[:min(len(found), q.Limit)]
	if q.Backward {
		slices.Reverse(found)
	}
	return found, more, nil
}

// ownerOf guesses the address of the workload's account: the other half of the pair.
func ownerOf(q store.HistoryQuery) jid.JID {
	return jid.MustParse(fmt.Sprintf("user%d@example.org", q.Owner-1))
}

// position returns the first number of a conversation whose message is later than id.
func (l *messageLog) position(ctx context.Context, c store.ConversationID, id store.MessageID) (uint64, error) {
	if id == 0 {
		return 1, nil
	}
	var high uint64
	if err := l.reads.scan(ctx, `SELECT max(seq) FROM message WHERE conversation = ?`, []any{int64(c)}, &high); err != nil {
		return 0, err
	}
	low := uint64(1)
	for high++; low < high; {
		middle := (low + high) / 2
		var at store.MessageID
		if err := l.reads.scan(ctx, `SELECT id FROM message WHERE conversation = ? AND seq = ?`, []any{int64(c), int64(middle)}, &at); err != nil {
			return 0, err
		}
		if at > id {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low, nil
}

// Conversation implements store.MessageReader.
func (l *messageLog) Conversation(ctx context.Context, a, b store.Party) (id store.ConversationID, last uint64, err error) {
	key := parties(a, b)
	err = l.reads.scan(ctx, `SELECT id, (SELECT max(seq) FROM message WHERE conversation = c.id) FROM conversation c WHERE a = ? AND b = ?`,
		[]any{key[0], key[1]}, &id, &last)
	return id, last, err
}

// Numbered implements store.MessageReader.
func (l *messageLog) Numbered(ctx context.Context, c store.ConversationID, first uint64, limit int) ([]store.Message, error) {
	return l.query(ctx, `SELECT `+logColumns+` FROM message WHERE conversation = ? AND seq >= ? ORDER BY seq LIMIT ?`, int64(c), int64(first), limit)
}

// Undelivered implements store.MessageReader, with the given position for a delivery cursor.
func (l *messageLog) Undelivered(ctx context.Context, owner store.AccountID, after store.MessageID, limit int) ([]store.Message, error) {
	return l.query(ctx, `SELECT `+logColumns+` FROM message WHERE recipient_account = ? AND recipient_account <> 0 AND id > ? AND flags & 4 ORDER BY id LIMIT ?`,
		owner, int64(after), limit)
}

// Bounds implements store.MessageReader.
func (l *messageLog) Bounds(ctx context.Context, owner store.AccountID) (first, last store.MessageID, err error) {
	err = l.reads.scan(ctx, `SELECT min((SELECT min(id) FROM message WHERE sender_account = ?1 AND sender_account <> 0),
			(SELECT min(id) FROM message WHERE recipient_account = ?1 AND recipient_account <> 0)),
		max((SELECT max(id) FROM message WHERE sender_account = ?1 AND sender_account <> 0),
			(SELECT max(id) FROM message WHERE recipient_account = ?1 AND recipient_account <> 0))`, []any{owner}, &first, &last)
	return first, last, err
}

// Since implements store.MessageReader.
func (l *messageLog) Since(ctx context.Context, after store.MessageID, limit int) ([]store.Message, error) {
	return l.query(ctx, `SELECT `+logColumns+` FROM message WHERE id > ? ORDER BY id LIMIT ?`, int64(after), limit)
}

var errUnused = errors.New("not part of the comparison")

func (l *messageLog) Message(context.Context, store.MessageID) (store.Message, error) {
	return store.Message{}, errUnused
}

func (l *messageLog) InHistory(context.Context, store.AccountID, store.MessageID) (bool, error) {
	return false, errUnused
}

func (l *messageLog) DeliveryCursor(context.Context, store.AccountID) (store.DeliveryCursor, error) {
	return store.DeliveryCursor{}, errUnused
}

func (l *messageLog) diskBytes(t testing.TB) float64 {
	total := int64(0)
	files, err := os.ReadDir(l.folder)
	require.NoError(t, err)
	for _, f := range files {
		info, err := f.Info()
		require.NoError(t, err)
		total += info.Size()
	}
	return float64(total)
}

// TestMessageLogOnSQLite makes sure that what is measured does what it should.
func TestMessageLogOnSQLite(t *testing.T) {
	l := openMessageLog(t, t.TempDir(), logTables+logIndexes)
	w := storetest.Workload{Conversations: 3, Batch: 40, StanzaBytes: 300, Origins: true}
	want, start := storetest.NewMemory(), time.Unix(1_700_000_000, 0)
	w.Fill(t, l, start, 1000)
	w.Fill(t, want, start, 1000)
	a, b := w.Parties(1)
	for _, q := range []store.HistoryQuery{
		{Owner: a.Account, Limit: 30}, {Owner: a.Account, Limit: 30, Backward: true}, {Owner: a.Account, With: b, Limit: 30},
		{Owner: a.Account, With: b, Limit: 30, Backward: true}, {Owner: b.Account, With: a, Limit: 30, After: store.FirstMessageID(start.Add(9 * time.Millisecond))},
	} {
		got, more, err := l.History(t.Context(), q)
		require.NoError(t, err)
		expected, wantMore, err := want.History(t.Context(), q)
		require.NoError(t, err)
		require.Equal(t, wantMore, more)
		require.Equal(t, expected, got, "%+v", q)
	}
	first, last, err := l.Bounds(t.Context(), a.Account)
	require.NoError(t, err)
	wantFirst, wantLast, err := want.Bounds(t.Context(), a.Account)
	require.NoError(t, err)
	require.Equal(t, []store.MessageID{wantFirst, wantLast}, []store.MessageID{first, last})
	require.NoError(t, l.Close())
}

var rows = flag.Int("rows", 1_000_000, "messages that BenchmarkMessageLogCompare fills a log with")

// BenchmarkMessageLogAppend measures batches of several sizes; run it with -benchtime 1x.
func BenchmarkMessageLogAppend(b *testing.B) {
	for _, w := range storetest.Workloads() {
		b.Run(w.String(), func(b *testing.B) {
			for b.Loop() {
				l := openMessageLog(b, b.TempDir(), logTables+logIndexes)
				w.Fill(b, l, time.Unix(1_700_000_000, 0), *rows).Metrics(b)
				b.ReportMetric(l.diskBytes(b)/float64(*rows), "disk-B/row")
				require.NoError(b, l.Close())
			}
		})
	}
}

// BenchmarkMessageLogBare measures the table alone, which nothing can be found in but by id: no layout on this engine costs less.
func BenchmarkMessageLogBare(b *testing.B) {
	for b.Loop() {
		l := openMessageLog(b, b.TempDir(), logTables)
		storetest.Workloads()[0].Fill(b, l, time.Unix(1_700_000_000, 0), *rows).Metrics(b)
		b.ReportMetric(l.diskBytes(b)/float64(*rows), "disk-B/row")
		require.NoError(b, l.Close())
	}
}

// BenchmarkMessageLogCompare is the source of the figures in docs/design/message-log.md.
func BenchmarkMessageLogCompare(b *testing.B) {
	for b.Loop() {
		l := openMessageLog(b, b.TempDir(), logTables+logIndexes)
		fmt.Println(storetest.Workloads()[0].Compare(b, l, time.Unix(1_700_000_000, 0), 100_000, *rows, 2000))
		fmt.Printf("%.0f bytes on disk a message\n", l.diskBytes(b)/float64(*rows))
		require.NoError(b, l.Close())
	}
}
