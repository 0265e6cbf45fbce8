package archive

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/pebble"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// nullLog numbers messages and keeps nothing.
type nullLog struct {
	store.MessageLog
	last store.MessageID
	seq  uint64
}

func (n *nullLog) Append(_ context.Context, b *store.Batch) error {
	for _, a := range b.Entries {
		n.last = store.NextMessageID(n.last, b.Now)
		n.seq++
		a.ID, a.Seq = n.last, n.seq
	}
	return nil
}

func (n *nullLog) OpenConversation(context.Context, time.Time, store.ConversationKey, []store.Member) (store.Opened,
	error) {
	return store.Opened{ID: 1}, nil
}

func (n *nullLog) Deliver(context.Context, []store.Delivered) error { return nil }

// nobody takes what is delivered, and acknowledges it when it is for an account here.
type nobody struct{ archive *Archive }

func (nobody) Resolve(_ context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
	e.Target = router.Target{Kind: router.AnAccount, Account: juliet}
	return router.Continue, nil
}

func (n nobody) Deliver(_ context.Context, e *router.Envelope) *stanza.Error {
	if n.archive != nil {
		n.archive.Delivered(juliet, e.Receipt.ID)
	}
	return nil
}

func (nobody) Route(context.Context, *stream.Packet) *stanza.Error { return nil }

func processCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchmarkCommitter pushes messages of 60 characters through the stage.
func benchmarkCommitter(b *testing.B, log store.MessageLog, reports, origins bool) {
	body := stanza.New(stanza.NSClient,
		"body").WithText("It is the east, and Juliet is the sun. Arise, fair sun, and kill")
	request := stanza.New("urn:xmpp:receipts", "request")
	benchmarkStage(b, log, reports, func(i int) []stanza.Element {
		if origins {
			return []stanza.Element{body, request, origin(fmt.Sprintf("%d", i))}
		}
		return []stanza.Element{body, request}
	})
}

// benchmarkStage pushes what is said from 200 sources through the stage, as fast as the queue takes it.
func benchmarkStage(b *testing.B, log store.MessageLog, reports bool, say func(i int) []stanza.Element) {
	h := newHouse(b, log, func(c *Config) { c.QueueMessages = 1024 })
	n := nobody{}
	if reports {
		n.archive = h.Archive
	}
	h.router.Handle("verona.example", n)
	stop := h.run(b)
	const sources = 200
	b.ReportAllocs()
	b.ResetTimer()
	cpu := processCPU()
	var wg sync.WaitGroup
	for s := range sources {
		wg.Go(func() {
			who := from(fmt.Sprintf("romeo@verona.example/%d", s))
			to := jid.MustParse("juliet@verona.example")
			for i := s; i < b.N; i += sources {
				h.router.Accept(context.Background(), &router.Envelope{
					Origin: who,
					Stanza: &stanza.Stanza{
						Kind: stanza.Message, Type: stanza.TypeChat, ID: "purple1234", From: who.Address, To: to,
						Payload: say(i),
					},
				})
			}
		})
	}
	wg.Wait()
	require.NoError(b, stop())
	b.StopTimer()
	b.ReportMetric(float64((processCPU()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

func BenchmarkCommitterNull(b *testing.B)          { benchmarkCommitter(b, &nullLog{}, false, false) }
func BenchmarkCommitterNullDelivered(b *testing.B) { benchmarkCommitter(b, &nullLog{}, true, false) }
func BenchmarkCommitterNullOrigin(b *testing.B)    { benchmarkCommitter(b, &nullLog{}, false, true) }

func BenchmarkCommitterPebble(b *testing.B) {
	log, err := pebble.Open(b.TempDir(), pebble.Options{})
	require.NoError(b, err)
	defer log.Close()
	benchmarkCommitter(b, log, true, false)
}

// BenchmarkMarkersPebble says how far somebody has read in a conversation of 300,000 messages: by an id that the log
// does not have, by that of the last message, which moves the marker once, and by numbers that move it each time.
func BenchmarkMarkersPebble(b *testing.B) {
	for name, mark := range map[string]func(i int) stanza.Element{
		"unknown": func(i int) stanza.Element { return displayed(fmt.Sprint("unknown ", i)) },
		"known":   func(int) stanza.Element { return displayed("last") },
		"number":  func(i int) stanza.Element { return numbered("read", uint64(i+1)) },
	} {
		b.Run(name, func(b *testing.B) {
			log, err := pebble.Open(b.TempDir(), pebble.Options{})
			require.NoError(b, err)
			defer log.Close()
			for range 300 {
				batch := make([]*store.Append, 1000)
				for i := range batch {
					batch[i] = stored(b, log, balcony, "romeo@verona.example", "x")
					batch[i].StanzaID = "last"
				}
				put(b, log, noon, batch...)
			}
			benchmarkStage(b, log, true, func(i int) []stanza.Element { return []stanza.Element{mark(i)} })
		})
	}
}

func BenchmarkStanzaID(b *testing.B) {
	a := newIDs(b, "sixteen bytes or")
	b.ReportAllocs()
	for i := range b.N {
		a.StanzaID(uint64(i))
	}
}

func BenchmarkHistoryPage(b *testing.B) {
	log, err := pebble.Open(b.TempDir(), pebble.Options{})
	require.NoError(b, err)
	defer log.Close()
	h := newHouse(b, log)
	h.router.Handle("verona.example", nobody{})
	fill(b, h.log, noon, 300, withEverybody)
	q := form("<max>50</max><before/>")
	iq := parse(b, q)
	iq.From = jid.MustParse("romeo@verona.example/orchard")
	request := &service.Request{From: iq.From, Origin: service.Origin{Account: romeo}, IQ: iq}
	h.budget = newBudget(0, 0, h.now) // without limit
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		_, refusal := h.answerQuery(b.Context(), request)
		require.Nil(b, refusal)
	}
}
