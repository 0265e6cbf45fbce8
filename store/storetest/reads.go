package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// pageSize is how many messages a read asks for.
const pageSize = 50

// ReadCost is what one kind of read takes.
type ReadCost struct {
	Name     string
	CPU      time.Duration // of the process, for each read
	P50, P99 time.Duration
}

// String shows it as a line.
func (c ReadCost) String() string {
	return fmt.Sprintf("%-28s cpu %7.1f µs  p50 %7.1f µs  p99 %7.1f µs",
		c.Name, micros(c.CPU), micros(c.P50), micros(c.P99))
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// ReadCosts measures pages of a log that Fill has written from the given start on, each kind reads times, at random
// places.
func (w Workload) ReadCosts(t testing.TB, l store.MessageLog, start time.Time, rows, reads int) []ReadCost {
	t.Helper()
	ctx := context.Background()
	r := rand.New(rand.NewPCG(5, 6))
	end := start.Add(time.Duration(rows/w.Batch) * time.Millisecond)
	someID := func() store.MessageID {
		return store.FirstMessageID(start.Add(time.Duration(r.Int64N(int64(end.Sub(start)) * 9 / 10))))
	}
	history := func(q store.HistoryQuery) error {
		q.Limit = pageSize
		found, _, err := l.History(ctx, q)
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("no messages for %+v", q)
		}
		return err
	}
	perConversation := uint64(rows / w.Conversations)
	kinds := []struct {
		name string
		read func(owner store.AccountID, in store.ConversationID) error
	}{
		{"conversation, newest", func(owner store.AccountID, in store.ConversationID) error {
			return history(store.HistoryQuery{Owner: owner, Conversation: in, Backward: true})
		}},
		{"conversation, from a time", func(owner store.AccountID, in store.ConversationID) error {
			return history(store.HistoryQuery{Owner: owner, Conversation: in, After: someID()})
		}},
		{"conversation, from a number", func(_ store.AccountID, in store.ConversationID) error {
			_, err := l.Numbered(ctx, in, 1+r.Uint64N(perConversation*8/10), pageSize)
			return err
		}},
		{"account, newest", func(owner store.AccountID, _ store.ConversationID) error {
			return history(store.HistoryQuery{Owner: owner, Backward: true})
		}},
		{"account, from a time", func(owner store.AccountID, _ store.ConversationID) error {
			return history(store.HistoryQuery{Owner: owner, After: someID()})
		}},
		{"undelivered, from a time", func(owner store.AccountID, _ store.ConversationID) error {
			_, err := l.Undelivered(ctx, owner, someID(), pageSize)
			return err
		}},
		{"bounds of an archive", func(owner store.AccountID, _ store.ConversationID) error {
			_, _, err := l.Bounds(ctx, owner)
			return err
		}},
		{"log, from a position", func(store.AccountID, store.ConversationID) error {
			_, err := l.Since(ctx, someID(), pageSize)
			return err
		}},
	}
	costs := make([]ReadCost, 0, len(kinds))
	for _, kind := range kinds {
		times := make([]time.Duration, reads)
		cpu := ProcessCPU()
		for i := range times {
			a, b := w.Parties(r.IntN(w.Conversations))
			o, err := l.FindConversation(ctx, store.DirectKey(a, b))
			require.NoError(t, err)
			before := time.Now()
			require.NoError(t, kind.read(a.Account, o.ID), kind.name)
			times[i] = time.Since(before)
		}
		c := ReadCost{Name: kind.name, CPU: (ProcessCPU() - cpu) / time.Duration(reads)}
		slices.Sort(times)
		c.P50, c.P99 = times[reads/2], times[reads*99/100]
		costs = append(costs, c)
	}
	return costs
}

// Compare fills a log, and reads from it when it has few rows and when it has all of them. It returns text for a
// document.
func (w Workload) Compare(t testing.TB, l store.MessageLog, start time.Time, few, rows, reads int) string {
	t.Helper()
	var out strings.Builder
	show := func(rows int, costs []ReadCost) {
		fmt.Fprintf(&out, "reads of %d at %d messages:\n", pageSize, rows)
		for _, c := range costs {
			fmt.Fprintf(&out, "  %v\n", c)
		}
	}
	first := w.Fill(t, l, start, few)
	fmt.Fprintf(&out, "first %d: %v\n", few, first)
	show(few, w.ReadCosts(t, l, start, few, reads))
	next := start.Add(time.Duration(few/w.Batch) * time.Millisecond)
	rest := w.Fill(t, l, next, rows-few)
	fmt.Fprintf(&out, "then up to %d: %v\n", rows, rest)
	show(rows, w.ReadCosts(t, l, start, rows, reads))
	return out.String()
}

// String shows a report as a line.
func (r Report) String() string {
	return fmt.Sprintf("%.0f rows/s, %.2f µs CPU a row, batch p50 %.2f ms, p99 %.2f ms",
		float64(r.Rows)/r.Elapsed.Seconds(), micros(r.CPU)/float64(r.Rows), micros(r.P50)/1000, micros(r.P99)/1000)
}
