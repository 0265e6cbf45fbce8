package archive

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// step commits what was accepted, as the committer would: the test is its goroutine.
func (h *house) step(t require.TestingT) {
	require.NoError(t, h.commitAll(context.Background(), h.queue.take(nil)))
	h.pending.Wait() // for the delivery
}

// replay returns the messages that a replay to the account gives.
func (h *house) replay(t require.TestingT, account uint64) (ids []uint64, through uint64) {
	through, err := h.Replay(context.Background(), account, func(p *stream.Packet) bool {
		ids = append(ids, p.ArchiveID)
		return true
	})
	require.NoError(t, err)
	return ids, through
}

func TestReplay(t *testing.T) {
	h := newHouse(t, memory())
	h.run(t)
	for i, s := range []*stanza.Stanza{
		chat("juliet@verona.example", "zero"),
		chat("juliet@verona.example", "", active()),
		chat("juliet@verona.example", "", stanza.New("urn:example:unknown", "thing")),
		chat("nurse@verona.example", "not hers"),
		chat("juliet@verona.example/gone", "three", stanza.New(nsDelay, "delay", "from", "romeo@verona.example", "stamp", "2020-01-01T00:00:00Z")),
	} {
		s.ID = fmt.Sprint(i)
		h.say(t, "romeo@verona.example/orchard", s)
	}
	h.say(t, "juliet@verona.example/b", chat("romeo@verona.example", "she says"))
	var got []*stream.Packet
	through, err := h.Replay(t.Context(), juliet, func(p *stream.Packet) bool { got = append(got, p); return true })
	require.NoError(t, err)
	require.Len(t, got, 3)
	for i, id := range []string{"0", "2", "4"} {
		p := got[i]
		require.Equal(t, id, p.Stanza.ID)
		require.Equal(t, stream.Replay, p.Role)
		require.NotZero(t, p.ArchiveID)
		delay := p.Stanza.Payload[len(p.Stanza.Payload)-1]
		require.Equal(t, nsDelay, delay.Space)
		require.Equal(t, "verona.example", delay.Attr("from"))
		require.Equal(t, stanza.FormatTime(store.MessageID(p.ArchiveID).Time()), delay.Attr("stamp"))
		sid := p.Stanza.Child(nsStanzaID, "stanza-id")
		if id == "2" {
			require.Nil(t, sid, "it is not in her history")
			continue
		}
		require.Equal(t, h.StanzaID(p.ArchiveID), sid.Attr("id"))
	}
	require.Equal(t, got[2].ArchiveID, through)

	// She reads two of them; the third comes again, and only that.
	h.Delivered(juliet, got[0].ArchiveID)
	h.Delivered(juliet, got[2].ArchiveID)
	ids, _ := h.replay(t, juliet)
	require.Equal(t, []uint64{got[1].ArchiveID}, ids)
	h.Delivered(juliet, got[1].ArchiveID)
	ids, _ = h.replay(t, juliet)
	require.Empty(t, ids)

	ids, through = h.replay(t, 99)
	require.Empty(t, ids)
	require.Zero(t, through)
}

func TestReplayStopsWhenToldTo(t *testing.T) {
	h := newHouse(t, memory())
	m := fill(t, h.log, noon, 250, func(int) (string, string) { return "romeo@verona.example/o", "juliet@verona.example" })
	n := 0
	through, err := h.Replay(t.Context(), juliet, func(*stream.Packet) bool { n++; return n < 120 })
	require.NoError(t, err)
	require.Equal(t, 120, n)
	require.Equal(t, uint64(m[119].ID), through)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.Archive.log = cancelled{h.Archive.log}
	_, err = h.Replay(ctx, juliet, func(*stream.Packet) bool { t.Error("yielded"); return true })
	require.ErrorIs(t, err, context.Canceled)
}

// cancelled is a log that heeds contexts.
type cancelled struct{ store.MessageLog }

func (c cancelled) Undelivered(ctx context.Context, owner store.AccountID, after store.MessageID, limit int) ([]store.Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.MessageLog.Undelivered(ctx, owner, after, limit)
}

// pass lets time go by in a bubble of synctest, and everything happen that is due.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// A cursor is written with the next batch after the interval, or alone when nothing else is written.
func TestMarksAreWrittenInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards written and batches
		var written []store.DeliveryCursor
		var batches []int
		h := newHouse(t, memory())
		h.log.before = func(batch []*store.Append, cursors []store.DeliveryCursor) error {
			mu.Lock()
			defer mu.Unlock()
			written = append(written, cursors...)
			batches = append(batches, len(batch))
			return nil
		}
		take := func() (cursors []store.DeliveryCursor, sizes []int) {
			mu.Lock()
			defer mu.Unlock()
			cursors, sizes = written, batches
			written, batches = nil, nil
			return cursors, sizes
		}
		stop := h.run(t)
		who := from("romeo@verona.example/orchard")
		h.accept(t.Context(), who, chat("juliet@verona.example", "1"))
		synctest.Wait()
		id := h.receipts[0].ID
		h.Delivered(juliet, id)
		pass(199 * time.Millisecond)
		cursors, sizes := take()
		require.Empty(t, cursors)
		require.Equal(t, []int{1}, sizes)
		pass(2 * time.Millisecond)
		cursors, sizes = take()
		require.Equal(t, []store.DeliveryCursor{{Account: juliet, Through: store.MessageID(id)}}, cursors)
		require.Equal(t, []int{0}, sizes)

		// Busy: cursors go with the messages, at most once in an interval.
		for range 100 {
			h.accept(t.Context(), who, chat("juliet@verona.example", "x"))
			synctest.Wait()
			h.Delivered(juliet, h.receipts[len(h.receipts)-1].ID)
			pass(10 * time.Millisecond)
		}
		cursors, _ = take()
		require.GreaterOrEqual(t, len(cursors), 4)
		require.LessOrEqual(t, len(cursors), 10)

		// The last ones are written when the server stops.
		pass(time.Second)
		h.accept(t.Context(), who, chat("juliet@verona.example", "last"))
		synctest.Wait()
		h.Delivered(juliet, h.receipts[len(h.receipts)-1].ID)
		require.NoError(t, stop())
		cursor, err := h.log.DeliveryCursor(t.Context(), juliet)
		require.NoError(t, err)
		require.Equal(t, h.receipts[len(h.receipts)-1].ID, uint64(cursor.Through))
		require.Empty(t, cursor.Missed)
	})
}

func TestMarksSurviveAFullStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory())
		var full atomic.Bool
		h.log.before = func([]*store.Append, []store.DeliveryCursor) error {
			if full.Load() {
				return store.ErrFull
			}
			return nil
		}
		stop := h.run(t)
		who := from("romeo@verona.example/orchard")
		h.accept(t.Context(), who, chat("juliet@verona.example", "1"))
		synctest.Wait()
		full.Store(true)
		h.replay(t, juliet)
		h.Delivered(juliet, h.receipts[0].ID)
		pass(time.Second)
		h.accept(t.Context(), who, chat("juliet@verona.example", "2"))
		synctest.Wait()
		require.Equal(t, stanza.ResourceConstraint, h.receipts[1].Err.Condition)
		full.Store(false)
		pass(5 * time.Second)
		cursor, err := h.log.DeliveryCursor(t.Context(), juliet)
		require.NoError(t, err)
		require.Equal(t, h.receipts[0].ID, uint64(cursor.Through))
		require.NoError(t, stop())
	})
}

// Everything delivered and written: the cursor is at the end, whatever the order was.
func TestMarkReachesTheEnd(t *testing.T) {
	for _, n := range []int{1, 10, pendingBound, pendingBound + 1, 3*pendingBound + 7} {
		w := newWorld(t)
		for range n {
			w.h.accept(t.Context(), from("romeo@verona.example/o"), chat("juliet@verona.example", "x"))
		}
		w.h.step(t)
		ids, _ := w.h.replay(t, juliet)
		require.Len(t, ids, n)
		for _, id := range ids {
			w.h.Delivered(juliet, id)
		}
		require.NoError(t, w.h.writeCursors(t.Context()))
		cursor, err := w.log.DeliveryCursor(t.Context(), juliet)
		require.NoError(t, err)
		require.Equal(t, store.DeliveryCursor{Account: juliet, Through: store.MessageID(ids[n-1])}, cursor, "%d messages", n)
	}
}

// A message that one device does not acknowledge is listed as missed, and does not hold up the others' cursor.
func TestMissedMessages(t *testing.T) {
	w := newWorld(t)
	w.h.replay(t, juliet)
	var ids []uint64
	for i := range 200 {
		w.h.accept(t.Context(), from("romeo@verona.example/o"), chat("juliet@verona.example", "x"))
		w.h.step(t)
		id := w.h.receipts[i].ID
		ids = append(ids, id)
		if i != 3 && i != 7 {
			w.h.Delivered(juliet, id)
		}
	}
	require.NoError(t, w.h.writeCursors(t.Context()))
	cursor, err := w.log.DeliveryCursor(t.Context(), juliet)
	require.NoError(t, err)
	require.Equal(t, store.DeliveryCursor{Account: juliet, Through: store.MessageID(ids[199]), Missed: []store.MessageID{store.MessageID(ids[3]), store.MessageID(ids[7])}}, cursor)
	w.start()
	got, _ := w.h.replay(t, juliet)
	require.Equal(t, []uint64{ids[3], ids[7]}, got)
}

// A replay may read a message that the committer has stored and not yet spoken of, and its delivery be reported before.
func TestDeliveredBeforeItWasNoted(t *testing.T) {
	h := newHouse(t, memory())
	h.replay(t, juliet) // loads the entry
	m := fill(t, h.log, noon, 2, func(int) (string, string) { return "romeo@verona.example/o", "juliet@verona.example" })
	h.Delivered(juliet, uint64(m[0].ID))
	h.cursors.note(juliet, m[0].ID)
	ids, through := h.replay(t, juliet)
	require.Empty(t, ids, "the other is still with the committer, who gives it to whoever is there")
	require.Equal(t, uint64(m[0].ID), through)
	h.Delivered(juliet, uint64(m[1].ID))
	h.cursors.note(juliet, m[1].ID)
	require.Equal(t, []store.DeliveryCursor{{Account: juliet, Through: m[1].ID}}, h.cursors.collect())
	require.Empty(t, h.cursors.shard(juliet).accounts[juliet].deliveredBeyond)

	// Reports about other messages, such as carbons of what she said, leave nothing behind for long.
	for i := range uint64(10 * pendingBound) {
		h.Delivered(juliet, uint64(m[1].ID)+1+i)
	}
	require.LessOrEqual(t, len(h.cursors.shard(juliet).accounts[juliet].deliveredBeyond), pendingBound)

	// The same when the entry itself was made from it.
	late := newHouse(t, h.Archive.log)
	m = fill(t, h.log, noon, 1, func(int) (string, string) { return "romeo@verona.example/o", "juliet@verona.example" })
	late.Delivered(juliet, uint64(m[0].ID))
	late.cursors.note(juliet, m[0].ID)
	ids, _ = late.replay(t, juliet)
	require.NotContains(t, ids, uint64(m[0].ID))
	require.Empty(t, late.cursors.shard(juliet).accounts[juliet].deliveredBeyond)
}

// Accounts come and go by the thousand; the memory for them is bounded and nothing is lost.
func TestMarksOfManyAccounts(t *testing.T) {
	log := memory()
	m := newCursors(log, cursorShards*4, newMetrics(nil, func() (int, int) { return 0, 0 }), newHouse(t, log).logger)
	for account := store.AccountID(1); account <= 1500; account++ {
		a := stored("romeo@verona.example/o", "juliet@verona.example", "x")
		a.Recipient = store.Party{JID: jid.MustParse("x@verona.example"), Account: account}
		require.NoError(t, log.Append(t.Context(), noon, []*store.Append{a}, nil))
		m.note(account, a.ID)
		m.delivered(account, a.ID)
		if account%10 == 0 {
			require.NoError(t, log.Append(t.Context(), noon, nil, m.collect()))
		}
	}
	total := 0
	for i := range m.shards {
		total += len(m.shards[i].accounts)
	}
	require.LessOrEqual(t, total, cursorShards*5)
	cursor, err := log.DeliveryCursor(t.Context(), 17)
	require.NoError(t, err)
	require.NotZero(t, cursor.Through)
}

// Reports, replays, commits and writes at once, with the race detector.
func TestMarksConcurrently(t *testing.T) {
	h := newHouse(t, memory(), func(c *Config) { c.CursorInterval = time.Millisecond })
	stop := h.run(t)
	const n = 600
	pending := make(chan uint64, n)
	h.onRoute = func(p *stream.Packet) { pending <- p.ArchiveID }
	var wg sync.WaitGroup
	wg.Go(func() {
		for range n {
			h.accept(t.Context(), from("romeo@verona.example/o"), chat("juliet@verona.example", "x"))
		}
	})
	for range 3 {
		wg.Go(func() {
			for range n / 3 {
				h.Delivered(juliet, <-pending)
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if _, err := h.Replay(t.Context(), juliet, func(*stream.Packet) bool { return true }); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	require.NoError(t, stop())
	ids, _ := h.replay(t, juliet)
	require.Empty(t, ids)
	cursor, err := h.log.DeliveryCursor(t.Context(), juliet)
	require.NoError(t, err)
	require.Empty(t, cursor.Missed)
	require.Equal(t, h.receipts[n-1].ID, uint64(cursor.Through))
}

// A log that cannot be read for a moment costs a repetition, and no message.
func TestMarksWhenTheLogCannotBeRead(t *testing.T) {
	h := newHouse(t, memory())
	m := fill(t, h.log, noon, 3, func(int) (string, string) { return "romeo@verona.example/o", "juliet@verona.example" })
	whole := h.cursors.log
	h.cursors.log = deadLog{}
	h.Delivered(juliet, uint64(m[0].ID))
	_, err := h.Replay(t.Context(), juliet, func(*stream.Packet) bool { return true })
	require.ErrorIs(t, err, errDisk)
	h.cursors.log = whole
	ids, _ := h.replay(t, juliet)
	require.Len(t, ids, 3)
}

// A damaged message is passed over and holds up no cursor.
func TestReplayPassesOverDamage(t *testing.T) {
	h := newHouse(t, memory())
	m := fill(t, h.log, noon, replayPage+5, func(int) (string, string) { return "romeo@verona.example/o", "juliet@verona.example" })
	log := &damagedLog{h.Archive.log, map[store.MessageID]bool{m[0].ID: true, m[50].ID: true}}
	h.Archive.log, h.cursors.log = log, log
	ids, _ := h.replay(t, juliet)
	require.Len(t, ids, replayPage+3)
	for _, id := range ids {
		h.Delivered(juliet, id)
	}
	require.Equal(t, []store.DeliveryCursor{{Account: juliet, Through: m[replayPage+4].ID}}, h.cursors.collect())
}

// So is one whose checksum is right and whose text is not a stanza.
func TestReplayPassesOverWhatIsNoStanza(t *testing.T) {
	h := newHouse(t, memory())
	bad := stored("romeo@verona.example/o", "juliet@verona.example", "x")
	bad.Stanza = []byte("<message")
	good := stored("romeo@verona.example/o", "juliet@verona.example", "y")
	require.NoError(t, h.log.Append(t.Context(), noon, []*store.Append{bad, good}, nil))
	ids, through := h.replay(t, juliet)
	require.Equal(t, []uint64{uint64(good.ID)}, ids)
	require.Equal(t, uint64(good.ID), through)
	require.Equal(t, []string{"(damaged)", "y"}, h.query(t, form("")).bodies)
}

func (deadLog) DeliveryCursor(context.Context, store.AccountID) (store.DeliveryCursor, error) {
	return store.DeliveryCursor{}, errDisk
}
