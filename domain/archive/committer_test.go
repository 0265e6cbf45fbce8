package archive

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Many connections talk at once, stored and transient messages mixed: each connection's messages are delivered in the
// order in which they were said, and each conversation is numbered without holes in that order.
func TestOrderOfEachSource(t *testing.T) {
	const sources, each = 12, 400
	h := newHouse(t, memory(), func(c *Config) { c.QueueMessages, c.BatchMessages = 64, 16 })
	stop := h.run(t)
	var wg sync.WaitGroup
	for n := range sources {
		wg.Go(func() {
			who := from(fmt.Sprintf("romeo@verona.example/%d", n))
			for i := range each {
				text := fmt.Sprintf("%d %d", n, i)
				s := chat("juliet@verona.example", text)
				if i%3 == 1 { // transient, with its place in the id
					s = chat("juliet@verona.example", "", active())
				}
				s.ID = text
				h.accept(t.Context(), who, s)
			}
		})
	}
	wg.Wait()
	require.NoError(t, stop())
	delivered := h.seen()
	require.Len(t, delivered, sources*each)
	next := map[int]int{}
	var last uint64
	for _, p := range delivered {
		var source, i int
		_, err := fmt.Sscan(p.Stanza.ID, &source, &i)
		require.NoError(t, err)
		require.Equal(t, next[source], i, "order of source %d", source)
		next[source]++
		if transient := i%3 == 1; transient {
			require.Zero(t, p.ArchiveID)
			continue
		}
		require.Greater(t, p.ArchiveID, last, "ids rise in the order of delivery")
		last = p.ArchiveID
	}
	all, err := h.log.Since(t.Context(), 0, sources*each)
	require.NoError(t, err)
	for i, m := range all {
		require.Equal(t, uint64(i+1), m.Seq, "dense numbers")
	}
	require.Len(t, h.receipts, sources*each)
	require.Greater(t, int(h.log.largest.Load()), 1, "messages shared batches")
	require.LessOrEqual(t, int(h.log.largest.Load()), 16)
}

func TestTransientOnlyDoesNotTouchTheLog(t *testing.T) {
	h := newHouse(t, memory())
	h.run(t)
	for range 10 {
		r := h.say(t, "romeo@verona.example/orchard", chat("juliet@verona.example", "", active()))
		require.Zero(t, r)
	}
	require.Zero(t, h.log.commits.Load())
	require.Len(t, h.seen(), 10)
}

// A114 on XMPP: the same origin-id again gets its first receipt and is not delivered twice; with other content it is
// refused.
func TestDuplicateAndConflict(t *testing.T) {
	h := newHouse(t, memory())
	h.run(t)
	send := func(from, body, origin_ string, more ...stanza.Element) (r struct {
		id, seq uint64
		dup     bool
		err     *stanza.Error
	}) {
		s := chat("juliet@verona.example", body, append(more, origin(origin_))...)
		s.ID = from // another one for each connection
		got := h.say(t, from, s)
		r.id, r.seq, r.dup, r.err = got.ID, got.Seq, got.Duplicate, got.Err
		return r
	}
	first := send("romeo@verona.example/orchard", "but soft", "o1")
	require.Nil(t, first.err)
	require.False(t, first.dup)
	require.Equal(t, uint64(1), first.seq)
	require.Len(t, h.seen(), 1)

	again := send("romeo@verona.example/balcony", "but soft", "o1",
		stanza.New(nsDelay, "delay", "stamp", "2026-01-01T00:00:00Z"))
	require.True(t, again.dup)
	require.Equal(t, first.id, again.id)
	require.Equal(t, first.seq, again.seq)
	require.Empty(t, h.seen(), "not delivered twice")

	conflict := send("romeo@verona.example/orchard", "but hard", "o1")
	require.NotNil(t, conflict.err)
	require.Equal(t, stanza.Conflict, conflict.err.Condition)
	bounced := h.seen()
	require.Len(t, bounced, 1)
	require.Equal(t, stanza.TypeError, bounced[0].Stanza.Type)
	require.Equal(t, "cancel", bounced[0].Stanza.Child(stanza.NSClient, "error").Attr("type"))
	require.Equal(t, "romeo@verona.example/orchard", bounced[0].Stanza.To.String())

	other := send("nurse@verona.example/home", "but hard", "o1")
	require.Nil(t, other.err, "an origin-id belongs to its sender")

	long := strings.Repeat("x", 5000)
	require.False(t, send("romeo@verona.example/orchard", "a", long).dup)
	require.True(t, send("romeo@verona.example/orchard", "a", long).dup)
	require.False(t, send("romeo@verona.example/orchard", "b", long+"x").dup)

	next := send("romeo@verona.example/orchard", "last", "o2")
	require.Equal(t, uint64(4), next.seq, "what was refused or known took no number")
}

// A failed Append is the end: nothing of its batch nor of what comes later is acknowledged, delivered or refused.
func TestFailedLogIsFatal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory(), func(c *Config) { c.QueueMessages = 4 })
		entered, goOn := make(chan struct{}), make(chan struct{})
		failing := false
		h.log.before = func([]*store.Append) error {
			if !failing {
				return nil
			}
			close(entered)
			<-goOn
			return errDisk
		}
		ended := make(chan error, 1)
		go func() { ended <- h.Run(context.Background()) }()
		who := from("romeo@verona.example/orchard")
		h.accept(t.Context(), who, chat("juliet@verona.example", "kept"))
		synctest.Wait()
		failing = true
		h.accept(t.Context(), who, chat("juliet@verona.example", "lost"))
		<-entered
		// While the disk is failing: fill the queue and let more wait for room.
		var waiters sync.WaitGroup
		for i := range 20 {
			s := chat("juliet@verona.example", fmt.Sprint("later ", i))
			if i%4 == 0 {
				s = chat("juliet@verona.example", "", active())
			}
			waiters.Go(func() { h.accept(t.Context(), from(fmt.Sprintf("nurse@verona.example/%d", i)), s) })
		}
		synctest.Wait()
		n, _ := h.queue.depth()
		require.Equal(t, 4, n, "the others wait")
		close(goOn)
		require.ErrorIs(t, <-ended, errDisk)
		waiters.Wait() // they are released
		h.accept(t.Context(), who, chat("juliet@verona.example", "after the end"))
		synctest.Wait()
		require.Len(t, h.receipts, 1)
		require.Len(t, h.delivered, 1)
		require.Equal(t, "kept", h.delivered[0].Stanza.Body())
	})
}

// P17: a full storage refuses what is to be stored, passes the rest, and recovers by itself.
func TestFullStorageRefusesAndRecovers(t *testing.T) {
	h := newHouse(t, memory())
	var full atomic.Bool
	full.Store(true)
	h.log.before = func([]*store.Append) error {
		if full.Load() {
			return fmt.Errorf("appending: %w", store.ErrFull)
		}
		return nil
	}
	stop := h.run(t)
	r := h.say(t, "romeo@verona.example/orchard", chat("juliet@verona.example", "no room"))
	require.NotNil(t, r.Err)
	require.Equal(t, stanza.ResourceConstraint, r.Err.Condition)
	require.Zero(t, r.ID)
	bounced := h.seen()
	require.Len(t, bounced, 1)
	require.Equal(t, "wait", bounced[0].Stanza.Child(stanza.NSClient, "error").Attr("type"))

	require.Nil(t, h.say(t, "romeo@verona.example/orchard", chat("juliet@verona.example", "", active())).Err)
	require.Len(t, h.seen(), 1, "what needs no room passes")

	full.Store(false)
	r = h.say(t, "romeo@verona.example/orchard", chat("juliet@verona.example", "room"))
	require.Nil(t, r.Err)
	require.Equal(t, uint64(1), r.Seq, "nothing was half written")
	require.NoError(t, stop())
}

// Nobody hears of a message before it is durable: neither its sender nor its recipient nor the sender's other devices.
func TestNothingBeforeTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory())
		entered, goOn := make(chan struct{}), make(chan struct{})
		h.log.before = func([]*store.Append) error {
			close(entered)
			<-goOn
			return nil
		}
		stop := h.run(t)
		h.accept(t.Context(), from(orchard), chat("juliet@verona.example", "x"))
		<-entered
		synctest.Wait()
		h.mu.Lock()
		require.Empty(t, h.receipts, "not acknowledged")
		require.Empty(t, h.delivered, "not delivered")
		require.Empty(t, h.copies, "not copied")
		h.mu.Unlock()
		close(goOn)
		require.NoError(t, stop())
		require.Len(t, h.receipts, 1)
		require.NotZero(t, h.receipts[0].ID)
		require.Len(t, h.seen(), 1)
	})
}

// When its context ends, the committer finishes what was put before and takes nothing more.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory(), func(c *Config) { c.BatchMessages = 2 })
		entered, goOn := make(chan struct{}), make(chan struct{})
		var once sync.Once
		h.log.before = func([]*store.Append) error {
			once.Do(func() { close(entered); <-goOn })
			return nil
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		who := from("romeo@verona.example/orchard")
		h.accept(t.Context(), who, chat("juliet@verona.example", "0"))
		<-entered
		for i := range 9 {
			h.accept(t.Context(), who, chat("juliet@verona.example", fmt.Sprint(i+1)))
		}
		cancel()
		synctest.Wait()
		close(goOn)
		require.NoError(t, <-ended)
		synctest.Wait()
		h.accept(t.Context(), who, chat("juliet@verona.example", "too late"))
		require.Len(t, h.receipts, 10)
		for i, p := range h.delivered {
			require.Equal(t, fmt.Sprint(i), p.Stanza.Body())
		}
		require.Len(t, h.delivered, 10)
	})
}

// A full queue makes those who send wait; nothing is dropped. One who goes away while waiting is not acknowledged.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory(), func(c *Config) { c.QueueMessages, c.QueueBytes = 3, 2000 })
		who := from("romeo@verona.example/orchard")
		for range 3 {
			h.accept(t.Context(), who, chat("juliet@verona.example", "x"))
		}
		ctx, leave := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		waiting.Go(func() { h.accept(t.Context(), who, chat("juliet@verona.example", "waits")) })
		waiting.Go(func() { h.accept(ctx, who, chat("juliet@verona.example", "leaves")) })
		synctest.Wait()
		n, _ := h.queue.depth()
		require.Equal(t, 3, n)
		leave()
		synctest.Wait()
		stop := h.run(t)
		waiting.Wait()
		// One message beyond the bound in bytes passes when it is alone.
		h.accept(t.Context(), who, chat("juliet@verona.example", strings.Repeat("y", 5000)))
		synctest.Wait()
		require.NoError(t, stop())
		require.Len(t, h.receipts, 5)
		for _, p := range h.delivered {
			require.NotEqual(t, "leaves", p.Stanza.Body())
		}
	})
}

func TestReceiptAndStanzaID(t *testing.T) {
	h := newHouse(t, memory())
	h.run(t)
	// A forged stanza-id by the recipient's archive, by another account's, and one of a room, which is its own
	// business.
	forged := stanza.New(nsStanzaID, "stanza-id", "by", "juliet@verona.example", "id", "forged")
	other := stanza.New(nsStanzaID, "stanza-id", "by", "nurse@verona.example", "id", "forged")
	room := stanza.New(nsStanzaID, "stanza-id", "by", "ball@rooms.verona.example", "id", "r1")
	s := chat("juliet@verona.example", "hello", forged, other, room)
	before := len(s.Payload)
	r := h.say(t, "romeo@verona.example/orchard", s)
	require.Nil(t, r.Err)
	require.NotZero(t, r.ID)
	require.Equal(t, store.MessageID(r.ID).Time(), r.Time)
	require.Len(t, s.Payload, before, "the accepted stanza is not changed")
	p := h.seen()[0]
	require.Equal(t, r.ID, p.ArchiveID)
	got := map[string]string{}
	for _, e := range p.Whole().Payload {
		if e.Local == "stanza-id" {
			require.NotContains(t, got, e.Attr("by"), "one for each archive")
			got[e.Attr("by")] = e.Attr("id")
		}
	}
	require.Equal(t, map[string]string{"ball@rooms.verona.example": "r1", "juliet@verona.example": h.StanzaID(r.ID)},
		got)

	// The sender's copy names the sender's archive, and not the recipient's (XEP-0313 §3.4).
	copied := &stream.Packet{Stanza: p.Whole(), ArchiveID: r.ID}
	h.Stamp(copied, jid.MustParse("romeo@verona.example"), r.Seq, true)
	carbon := copied.Whole()
	var by []string
	for _, e := range carbon.Payload {
		if e.Local == "stanza-id" {
			by = append(by, e.Attr("by"))
		}
	}
	require.Equal(t, []string{"ball@rooms.verona.example", "romeo@verona.example"}, by)
	require.Equal(t, []string{"1"}, positions(p.Whole()))
	require.Equal(t, []string{"1"}, positions(carbon), "one number, also after it was stamped twice")

	// Who keeps no history is told the number too, so that none seems to be missing.
	h.prefs.kept = map[store.AccountID]store.ArchivePreference{juliet: {Default: keepNever}}
	h.preferences = newPreferences(h.prefs, nil)
	require.Nil(t, h.say(t, "romeo@verona.example/orchard", chat("juliet@verona.example", "go")).Err)
	p = h.seen()[0]
	require.Nil(t, p.Whole().Child(nsStanzaID, "stanza-id"))
	require.Equal(t, []string{"2"}, positions(p.Whole()))

	// A contact elsewhere must not see an identity of an archive here.
	require.Nil(t, h.say(t, "romeo@verona.example/orchard", chat("balthasar@mantua.example", "go")).Err)
	p = h.seen()[0]
	require.Nil(t, p.Whole().Child(nsStanzaID, "stanza-id"))
	require.Empty(t, positions(p.Whole()))
}

// positions returns the numbers that a stanza says it has.
func positions(s *stanza.Stanza) (all []string) {
	for i := range s.Payload {
		if e := &s.Payload[i]; e.Space == nsPosition && e.Local == "position" {
			all = append(all, e.Attr("number"))
		}
	}
	return all
}

// What is said beside a message is one allocation, and the message is not copied for it.
func TestStampAllocations(t *testing.T) {
	h := newHouse(t, memory())
	s, by := chat("juliet@verona.example", "hello"), jid.MustParse("juliet@verona.example")
	p := &stream.Packet{Stanza: s, ArchiveID: 1 << 60}
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { h.Stamp(p, by, 1<<60, true) }), 1.0)
	require.Same(t, s, p.Stanza)
}

func TestPresenceAndIQPass(t *testing.T) {
	h := newHouse(t, memory()) // no committer runs: what passes does not need it
	for _, kind := range []stanza.Kind{stanza.Presence, stanza.IQ} {
		h.accept(t.Context(), from("romeo@verona.example/orchard"),
			&stanza.Stanza{Kind: kind, Type: stanza.TypeResult, To: jid.MustParse("juliet@verona.example/b")})
	}
	require.Len(t, h.delivered, 2)
}

// Who cannot be looked up is refused at once, and holds up nothing.
func TestRefusedAtOnce(t *testing.T) {
	h := newHouse(t, memory())
	h.directory.err = errDisk
	who := from("romeo@verona.example/orchard")
	h.accept(t.Context(), who, chat("balthasar@mantua.example", "first")) // needs no directory
	h.accept(t.Context(), who, chat("juliet@verona.example", "second"))
	require.Len(t, h.receipts, 1)
	require.Equal(t, stanza.InternalServerError, h.receipts[0].Err.Condition)
	require.NoError(t, h.run(t)())
	require.Len(t, h.receipts, 2)
	require.Nil(t, h.receipts[1].Err)
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	h := newHouse(t, memory(), func(c *Config) { c.Metrics = registry })
	stop := h.run(t)
	h.say(t, "romeo@verona.example/o", chat("juliet@verona.example", "x", origin("1")))
	h.say(t, "romeo@verona.example/o", chat("juliet@verona.example", "x", origin("1")))
	h.say(t, "romeo@verona.example/o", chat("juliet@verona.example", "y", origin("1")))
	h.say(t, "romeo@verona.example/o", chat("juliet@verona.example", "", active()))
	require.NoError(t, stop())
	h.accept(t.Context(), from("romeo@verona.example/o"), chat("juliet@verona.example", "too late"))
	h.Kept(juliet, 1)
	families, err := registry.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		require.True(t, strings.HasPrefix(f.GetName(), "posthouse_archive_"), f.GetName())
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "posthouse_archive_")
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"messages_total stored": 1, "messages_total duplicate": 1, "messages_total conflict": 1,
		"messages_total transient": 1,
		"messages_total stopped":   1, "messages_total full": 0, "messages_total refused": 0,
		"commits_total": 3, "batch_messages": 3, "commit_seconds": 3, "durable_seconds": 2, "kept_total": 1,
		"queue_messages": 0, "queue_bytes": 0,
	} {
		require.Contains(t, got, name)
		require.Equal(t, want, got[name], name)
	}
}

func TestNewAndRunWithoutWhatTheyNeed(t *testing.T) {
	_, err := New(Config{})
	require.Error(t, err)
	h := newHouse(t, memory())
	c := h.config
	c.Key = []byte("short")
	_, err = New(c)
	require.Error(t, err)
	c.Key = h.config.Key
	a, err := New(c)
	require.NoError(t, err)
	require.Error(t, a.Run(t.Context()), "it is not connected")
}
