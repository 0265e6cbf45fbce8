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
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// step commits what was accepted, as the committer would: the test is its goroutine.
func (h *house) step(t require.TestingT) {
	require.NoError(t, h.commitAll(context.Background(), h.queue.take(nil)))
	h.pending.Wait() // for the delivery
}

// replay returns the messages that a replay to the account gives.
func (h *house) replay(t require.TestingT, account uint64) (ids []uint64) {
	require.NoError(t, h.Replay(context.Background(), account, func(p *stream.Packet) bool {
		ids = append(ids, p.ArchiveID)
		return true
	}))
	return ids
}

// flushReports writes what was reported, as Run would.
func (h *house) flushReports() error { return h.reports.flush(context.Background()) }

func (h *house) cursor(t require.TestingT, account store.AccountID) store.DeliveryCursor {
	c, err := h.log.Cursor(context.Background(), account)
	require.NoError(t, err)
	return c
}

func TestReplay(t *testing.T) {
	h := newHouse(t, memory())
	h.run(t)
	for i, s := range []*stanza.Stanza{
		chat("juliet@verona.example", "zero"),
		chat("juliet@verona.example", "", active()),
		chat("juliet@verona.example", "", stanza.New("urn:example:unknown", "thing")),
		chat("nurse@verona.example", "not hers"),
		chat("juliet@verona.example/gone", "three",
			stanza.New(nsDelay, "delay", "from", "romeo@verona.example", "stamp", "2020-01-01T00:00:00Z")),
	} {
		s.ID = fmt.Sprint(i)
		h.say(t, "romeo@verona.example/orchard", s)
	}
	h.say(t, "juliet@verona.example/b", chat("romeo@verona.example", "she says"))
	var got []*stream.Packet
	err := h.Replay(t.Context(), juliet, func(p *stream.Packet) bool { got = append(got, p); return true })
	require.NoError(t, err)
	require.Len(t, got, 3)
	for i, id := range []string{"0", "2", "4"} {
		p := got[i]
		require.Equal(t, id, p.Stanza.ID)
		require.Equal(t, stream.Replay, p.Role)
		require.NotZero(t, p.ArchiveID)
		whole := p.Whole()
		delay := whole.Payload[len(whole.Payload)-1]
		require.Equal(t, nsDelay, delay.Space)
		require.Equal(t, "verona.example", delay.Attr("from"))
		require.Equal(t, stanza.FormatTime(store.MessageID(p.ArchiveID).Time()), delay.Attr("stamp"))
		sid := whole.Child(nsStanzaID, "stanza-id")
		if id == "2" {
			require.Nil(t, sid, "it is not in her history")
			continue
		}
		require.Equal(t, h.StanzaID(p.ArchiveID), sid.Attr("id"))
	}

	// She reads two of them; the third comes again, and only that.
	h.Delivered(juliet, got[0].ArchiveID)
	h.Delivered(juliet, got[2].ArchiveID)
	ids := h.replay(t, juliet)
	require.Equal(t, []uint64{got[1].ArchiveID}, ids)
	h.Delivered(juliet, got[1].ArchiveID)
	ids = h.replay(t, juliet)
	require.Empty(t, ids)

	require.Empty(t, h.replay(t, 99))
}

func TestReplayStopsWhenToldTo(t *testing.T) {
	h := newHouse(t, memory())
	fill(t, h.log, noon, 250, func(int) (string, string) { return "romeo@verona.example/o", "juliet@verona.example" })
	n := 0
	require.NoError(t, h.Replay(t.Context(), juliet, func(*stream.Packet) bool { n++; return n < 120 }))
	require.Equal(t, 120, n)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.Archive.log = cancelled{h.Archive.log}
	err := h.Replay(ctx, juliet, func(*stream.Packet) bool { t.Error("yielded"); return true })
	require.ErrorIs(t, err, context.Canceled)
}

// cancelled is a log that heeds contexts.
type cancelled struct{ store.MessageLog }

func (c cancelled) Undelivered(ctx context.Context, owner store.AccountID, after store.MessageID,
	limit int) ([]store.Message, error) {
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

// Reports are written an interval after the first of them, all of them at once, and when the server stops.
func TestReportsAreWrittenInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards written
		var written [][]store.Delivered
		h := newHouse(t, memory())
		h.log.deliver = func(reports []store.Delivered) error {
			mu.Lock()
			defer mu.Unlock()
			written = append(written, reports)
			return nil
		}
		take := func() (all [][]store.Delivered) {
			mu.Lock()
			defer mu.Unlock()
			all, written = written, nil
			return all
		}
		stop := h.run(t)
		who := from("romeo@verona.example/orchard")
		h.accept(t.Context(), who, chat("juliet@verona.example", "1"))
		synctest.Wait()
		id := h.receipts[0].ID
		h.Delivered(juliet, id)
		pass(199 * time.Millisecond)
		require.Empty(t, take())
		pass(2 * time.Millisecond)
		require.Equal(t, [][]store.Delivered{{{Account: juliet, IDs: []store.MessageID{store.MessageID(id)}}}}, take())
		require.Equal(t, store.DeliveryCursor{Account: juliet, Through: store.MessageID(id)}, h.cursor(t, juliet))
		commits := h.log.commits.Load()

		// Busy: at most once in an interval.
		for range 100 {
			h.accept(t.Context(), who, chat("juliet@verona.example", "x"))
			synctest.Wait()
			h.Delivered(juliet, h.receipts[len(h.receipts)-1].ID)
			pass(10 * time.Millisecond)
		}
		n := len(take())
		require.GreaterOrEqual(t, n, 4)
		require.LessOrEqual(t, n, 6)
		require.EqualValues(t, 100, h.log.commits.Load()-commits, "no transaction but those of messages")

		// The last ones are written when the server stops.
		pass(time.Second)
		h.accept(t.Context(), who, chat("juliet@verona.example", "last"))
		synctest.Wait()
		h.Delivered(juliet, h.receipts[len(h.receipts)-1].ID)
		require.NoError(t, stop())
		require.Equal(t, store.DeliveryCursor{Account: juliet,
			Through: store.MessageID(h.receipts[len(h.receipts)-1].ID)}, h.cursor(t, juliet))
	})
}

// What a full or busy log does not take waits, and is written when it takes it.
func TestReportsSurviveAFullStorage(t *testing.T) {
	for _, refusal := range []error{store.ErrFull, store.ErrNotStored} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, memory())
			var full atomic.Bool
			h.log.deliver = func([]store.Delivered) error {
				if full.Load() {
					return refusal
				}
				return nil
			}
			stop := h.run(t)
			h.accept(t.Context(), from("romeo@verona.example/orchard"), chat("juliet@verona.example", "1"))
			synctest.Wait()
			full.Store(true)
			h.Delivered(juliet, h.receipts[0].ID)
			pass(time.Second)
			require.Equal(t, []uint64{h.receipts[0].ID}, h.replay(t, juliet), "it comes again rather than never")
			require.Zero(t, h.cursor(t, juliet).Through)
			full.Store(false)
			pass(5 * time.Second)
			require.Equal(t, h.receipts[0].ID, uint64(h.cursor(t, juliet).Through))
			require.NoError(t, stop())
		})
	}
}

// A report that the log cannot take any more ends the committer.
func TestFailedReportIsFatal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory())
		h.log.deliver = func([]store.Delivered) error { return errDisk }
		stop := h.run(t)
		h.Delivered(juliet, 7)
		pass(time.Second)
		h.accept(t.Context(), from("romeo@verona.example/orchard"), chat("juliet@verona.example", "late"))
		synctest.Wait()
		require.Empty(t, h.receipts, "neither stored nor refused")
		h.pending.Done()
		require.ErrorIs(t, stop(), errDisk)
	})
}

// A replay waits for reports that are being written, and writes those that wait, of its account alone.
func TestReplayWritesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory())
		m := fill(t, h.log, noon, 2, func(int) (string, string) {
			return "romeo@verona.example/o",
				"juliet@verona.example"
		})
		entered, goOn := make(chan struct{}), make(chan struct{})
		var accounts []store.AccountID
		h.log.deliver = func(reports []store.Delivered) error {
			for _, r := range reports {
				accounts = append(accounts, r.Account)
			}
			if len(accounts) == 1 {
				close(entered)
				<-goOn
			}
			return nil
		}
		h.Delivered(juliet, uint64(m[0].ID))
		go func() { _ = h.flushReports() }()
		<-entered
		h.Delivered(juliet, uint64(m[1].ID))
		h.Delivered(nurse, 1)
		replayed := make(chan []uint64)
		go func() { replayed <- h.replay(t, juliet) }()
		synctest.Wait()
		select {
		case <-replayed:
			t.Fatal("it did not wait")
		default:
		}
		close(goOn)
		require.Empty(t, <-replayed)
		require.Equal(t, []store.AccountID{juliet, juliet}, accounts)
		require.NoError(t, h.flushReports())
		require.Equal(t, []store.AccountID{juliet, juliet, nurse}, accounts)
	})
}

// Everything delivered and written: the cursor is at the end, whatever the order was.
func TestCursorReachesTheEnd(t *testing.T) {
	for _, n := range []int{1, 10, store.MaxMissed, store.MaxMissed + 1, 5*store.MaxMissed + 7} {
		w := newWorld(t)
		for range n {
			w.h.accept(t.Context(), from("romeo@verona.example/o"), chat("juliet@verona.example", "x"))
		}
		w.h.step(t)
		ids := w.h.replay(t, juliet)
		require.Len(t, ids, n)
		for _, id := range ids {
			w.h.Delivered(juliet, id)
		}
		require.NoError(t, w.h.flushReports())
		require.Equal(t, store.DeliveryCursor{Account: juliet, Through: store.MessageID(ids[n-1])},
			w.h.cursor(t, juliet), "%d messages", n)
	}
}

// A message that one device does not acknowledge is listed as missed, and does not hold up the others' cursor.
func TestMissedMessages(t *testing.T) {
	w := newWorld(t)
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
	require.NoError(t, w.h.flushReports())
	require.Equal(t, store.DeliveryCursor{Account: juliet, Through: store.MessageID(ids[199]),
		Missed: []store.MessageID{store.MessageID(ids[3]), store.MessageID(ids[7])}},
		w.h.cursor(t, juliet))
	w.start()
	require.Equal(t, []uint64{ids[3], ids[7]}, w.h.replay(t, juliet))
	w.h.Delivered(juliet, ids[3]) // below the cursor
	require.Equal(t, []uint64{ids[7]}, w.h.replay(t, juliet))
}

// Reports that nobody takes are bounded, and those that were dropped cost a repetition.
func TestReportsAreBounded(t *testing.T) {
	h := newHouse(t, memory())
	m := fill(t, h.log, noon, 1, func(int) (string, string) {
		return "romeo@verona.example/o",
			"juliet@verona.example"
	})
	for i := range uint64(maxReports) {
		h.Delivered(nurse+i%1000, 1)
	}
	h.Delivered(juliet, uint64(m[0].ID))
	require.Equal(t, maxReports, h.reports.count)
	require.NoError(t, h.flushReports())
	require.Zero(t, h.reports.count)
	require.Len(t, h.replay(t, juliet), 1)
}

// Reports, replays, commits and writes at once, with the race detector.
func TestReportsConcurrently(t *testing.T) {
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
			if err := h.Replay(t.Context(), juliet, func(*stream.Packet) bool { return true }); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	require.NoError(t, stop())
	require.Empty(t, h.replay(t, juliet))
	require.Equal(t, store.DeliveryCursor{Account: juliet, Through: store.MessageID(h.receipts[n-1].ID)},
		h.cursor(t, juliet))
}

// A log that cannot be read for a moment costs a repetition, and no message.
func TestReplayWhenTheLogCannotBeRead(t *testing.T) {
	h := newHouse(t, memory())
	fill(t, h.log, noon, 3, func(int) (string, string) { return "romeo@verona.example/o", "juliet@verona.example" })
	whole := h.Archive.log
	h.Archive.log = deadLog{}
	require.ErrorIs(t, h.Replay(t.Context(), juliet, func(*stream.Packet) bool { return true }), errDisk)
	h.Archive.log = whole
	require.Len(t, h.replay(t, juliet), 3)
}

// A damaged message is passed over and holds up no cursor.
func TestReplayPassesOverDamage(t *testing.T) {
	h := newHouse(t, memory())
	m := fill(t, h.log, noon, replayPage+5,
		func(int) (string, string) { return "romeo@verona.example/o", "juliet@verona.example" })
	h.Archive.log = &damagedLog{h.Archive.log, map[store.MessageID]bool{m[0].ID: true, m[50].ID: true}}
	ids := h.replay(t, juliet)
	require.Len(t, ids, replayPage+3)
	for _, id := range ids {
		h.Delivered(juliet, id)
	}
	require.NoError(t, h.flushReports())
	require.Equal(t, store.DeliveryCursor{Account: juliet, Through: m[replayPage+4].ID}, h.cursor(t, juliet))
}

// So is one whose checksum is right and whose text is not a stanza.
func TestReplayPassesOverWhatIsNoStanza(t *testing.T) {
	h := newHouse(t, memory())
	bad := stored(t, h.log, "romeo@verona.example/o", "juliet@verona.example", "x")
	bad.Stanza = []byte("<message")
	good := stored(t, h.log, "romeo@verona.example/o", "juliet@verona.example", "y")
	put(t, h.log, noon, bad, good)
	require.Equal(t, []uint64{uint64(good.ID)}, h.replay(t, juliet))
	require.Equal(t, []string{"(damaged)", "y"}, h.query(t, form("")).bodies)
}

func (deadLog) Undelivered(context.Context, store.AccountID, store.MessageID, int) ([]store.Message, error) {
	return nil, errDisk
}
