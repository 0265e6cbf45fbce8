package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// Workload is what logs are measured by: one-to-one messages of a fixed size, spread evenly over conversations
// of two accounts each, both of which archive.
type Workload struct {
	Conversations int
	// StanzaBytes is the length of each stanza.
	StanzaBytes int
	// Batch is how many messages share one flush.
	Batch int
	// Origins: every message has an origin-id, which must be looked up and kept.
	Origins bool
	// StanzaIDs: every message has an id of its stanza that is not its origin-id, and must be found by it.
	StanzaIDs bool
	// Markers: after every second message its author's read marker moves.
	Markers bool
}

// Workloads are those that the decision record shows: the first is the one that reads are measured with.
func Workloads() []Workload {
	var all []Workload
	for _, conversations := range []int{1000, 200} {
		for _, batch := range []int{200, 50, 500} {
			all = append(all, Workload{Conversations: conversations, Batch: batch, StanzaBytes: 300})
		}
	}
	return append(all, Workload{Conversations: 1000, Batch: 200, StanzaBytes: 300, Origins: true},
		Workload{Conversations: 50_000, Batch: 200, StanzaBytes: 300},
		Workload{Conversations: 1000, Batch: 200, StanzaBytes: 300, StanzaIDs: true},
		Workload{Conversations: 1000, Batch: 200, StanzaBytes: 300, Markers: true})
}

// String names a workload.
func (w Workload) String() string {
	name := fmt.Sprintf("conversations=%d/batch=%d", w.Conversations, w.Batch)
	if w.Origins {
		name += "/origins"
	}
	if w.StanzaIDs {
		name += "/stanzaids"
	}
	if w.Markers {
		name += "/markers"
	}
	return name
}

// Report is what a run of a workload took.
type Report struct {
	Rows    int
	Elapsed time.Duration
	// CPU is the user and system time of the whole process, background work included.
	CPU time.Duration
	// P50 and P99 are the times of one batch.
	P50, P99 time.Duration
}

// Metrics tells a benchmark.
func (r Report) Metrics(b *testing.B) {
	b.ReportMetric(float64(r.Rows)/r.Elapsed.Seconds(), "rows/s")
	b.ReportMetric(float64(r.CPU.Microseconds())/float64(r.Rows), "cpu-µs/row")
	b.ReportMetric(float64(r.P50.Microseconds())/1000, "p50-ms/batch")
	b.ReportMetric(float64(r.P99.Microseconds())/1000, "p99-ms/batch")
	b.ReportMetric(0, "ns/op")
}

// Parties returns the two sides of a conversation.
func (w Workload) Parties(conversation int) (a, b store.Party) {
	return party(fmt.Sprintf("user%d@example.org", 2*conversation), store.AccountID(2*conversation+1)),
		party(fmt.Sprintf("user%d@example.org", 2*conversation+1), store.AccountID(2*conversation+2))
}

// words make texts that compress about as well as people's do.
var words = [...]string{
	"the",
	"meeting",
	"is",
	"at",
	"ten",
	"please",
	"bring",
	"your",
	"notes",
	"and",
	"coffee",
	"we",
	"will",
	"see",
	"whether",
	"it",
	"rains",
	"tomorrow",
	"because",
	"train",
	"was",
	"late",
	"again",
	"thanks",
	"for",
	"asking",
	"me",
	"about",
	"that",
}

// stanza makes one of the wanted length.
func (w Workload) stanza(r *rand.Rand) []byte {
	s := fmt.Appendf(
		nil,
		"<message xmlns='jabber:client' type='chat' id='%016x' from='user%d@example.org/phone' "+
			"to='user%d@example.org'><body>",
		r.Uint64(), r.IntN(2000), r.IntN(2000),
	)
	const end = "</body></message>"
	for len(s) < w.StanzaBytes-len(end) {
		s = append(append(s, words[r.IntN(len(words))]...), ' ')
	}
	return append(s[:max(0, w.StanzaBytes-len(end))], end...)
}

// Fill appends rows messages, one batch after the other, a millisecond of message time apart. Making the messages is
// done beforehand as far as possible.
func (w Workload) Fill(t testing.TB, l store.MessageWriter, start time.Time, rows int) Report {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	type pair struct {
		a, b store.Party
		in   store.ConversationID
	}
	pairs := make([]pair, w.Conversations)
	for i := range pairs {
		pairs[i].a, pairs[i].b = w.Parties(i)
	}
	stanzas := make([][]byte, 4096)
	for i := range stanzas {
		stanzas[i] = w.stanza(r)
	}
	batch := make([]*store.Append, 0, 2*w.Batch)
	for range cap(batch) {
		batch = append(batch, new(store.Append))
	}
	times := make([]time.Duration, 0, rows/w.Batch+1)
	cpu, begun := ProcessCPU(), time.Now()
	for done := 0; done < rows; {
		now := start.Add(time.Duration(len(times)) * time.Millisecond)
		batch = batch[:0]
		next := func() *store.Append {
			batch = batch[:len(batch)+1]
			return batch[len(batch)-1]
		}
		for i := 0; i < w.Batch && done < rows; i++ {
			c := &pairs[r.IntN(len(pairs))]
			if c.in == 0 {
				o, err := l.OpenConversation(context.Background(), now, store.DirectKey(c.a, c.b), nil)
				require.NoError(t, err)
				c.in = o.ID
			}
			author := c.a
			if r.IntN(2) == 0 {
				author = c.b
			}
			a := next()
			*a = store.Append{
				Message: store.Message{
					Conversation: c.in,
					Flags:        stored,
					Author:       author,
					Stanza:       stanzas[done%len(stanzas)],
				},
			}
			if w.Origins {
				a.OriginID = fmt.Sprintf("%08x-%04x", r.Uint32(), done)
			}
			if w.StanzaIDs {
				a.StanzaID = fmt.Sprintf("%08x-%04x", r.Uint32(), done)
			}
			if done++; w.Markers && i%2 == 1 { // through the end of the conversation
				*next() = *marker(c.in, author.Account, store.MarkRead, uint64(done))
			}
		}
		before := time.Now()
		require.NoError(t, l.Append(context.Background(), &store.Batch{Now: now, Entries: batch}))
		times = append(times, time.Since(before))
	}
	report := Report{Rows: rows, Elapsed: time.Since(begun), CPU: ProcessCPU() - cpu}
	slices.Sort(times)
	report.P50, report.P99 = times[len(times)/2], times[len(times)*99/100]
	return report
}

// ProcessCPU is the user and system time that the process has used.
func ProcessCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
