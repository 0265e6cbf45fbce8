package pebble

import (
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/storetest"
)

// rows is a flag of the tests, not of the package.
var rows = flag.Int("rows", 1_000_000, "messages that BenchmarkCompare fills a log with")

// BenchmarkAppend measures batches of several sizes; run it with -benchtime 1x. A million rows are enough for flushes
// and compactions to be part of what is measured.
func BenchmarkAppend(b *testing.B) {
	for _, w := range storetest.Workloads() {
		b.Run(w.String(), func(b *testing.B) {
			for b.Loop() {
				l, err := Open(b.TempDir(), Options{})
				require.NoError(b, err)
				w.Fill(b, l, time.Unix(1_700_000_000, 0), *rows).Metrics(b)
				b.ReportMetric(l.diskBytes()/float64(*rows), "disk-B/row")
				require.NoError(b, l.Close())
			}
		})
	}
}

// BenchmarkCompare is the source of the figures in docs/design/message-log.md.
func BenchmarkCompare(b *testing.B) {
	for b.Loop() {
		folder := b.TempDir()
		l, err := Open(folder, Options{})
		require.NoError(b, err)
		fmt.Println(storetest.Workloads()[0].Compare(b, l, time.Unix(1_700_000_000, 0), 100_000, *rows, 2000))
		fmt.Printf("%.0f bytes on disk a message\n", l.diskBytes()/float64(*rows))
		require.NoError(b, l.Close())
		begun := time.Now() // nothing was written out at the end: it is as after a crash
		l, err = Open(folder, Options{})
		require.NoError(b, err)
		fmt.Printf("opened again in %v\n", time.Since(begun))
		require.NoError(b, l.Close())
	}
}

// BenchmarkAccount measures what an account with few or many conversations reads and reports: a page of its list, of
// its history, and of what is undelivered.
func BenchmarkAccount(b *testing.B) {
	for _, conversations := range []int{10, 20_000} {
		l, err := Open(b.TempDir(), Options{})
		require.NoError(b, err)
		for range 4 { // some of it is packed
			toEach(b, l, conversations)
		}
		toEach(b, l, 10)
		last, err := l.Last(b.Context())
		require.NoError(b, err)
		ctx := b.Context()
		for name, do := range map[string]func(i int) error{
			"list, newest": func(int) error {
				_, _, err := l.Conversations(ctx, 1, 0, 50)
				return err
			},
			"list, from the middle": func(int) error {
				_, _, err := l.Conversations(ctx, 1, last-store.MessageID(conversations/2), 50)
				return err
			},
			"history, newest": func(int) error {
				_, _, err := l.History(ctx, store.HistoryQuery{Owner: 1, Backward: true, Limit: 50, Markers: true})
				return err
			},
			"nothing new": func(int) error {
				_, _, err := l.History(ctx, store.HistoryQuery{Owner: 1, After: last, Limit: 50, Markers: true})
				return err
			},
			"unknown name": func(i int) error {
				if _, _, err := l.Named(ctx, opened(b, l), bob(), fmt.Sprint(i)); !errors.Is(err, store.ErrNotFound) {
					return fmt.Errorf("found: %w", err)
				}
				return nil
			},
		} {
			b.Run(fmt.Sprintf("conversations=%d/%s", conversations, name), func(b *testing.B) {
				cpu := storetest.ProcessCPU()
				for i := 0; b.Loop(); i++ {
					require.NoError(b, do(i))
				}
				b.ReportMetric(float64((storetest.ProcessCPU()-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
			})
		}
		require.NoError(b, l.Close())
	}
}

// BenchmarkDeliver measures reports of single messages, one after the other, each beside the commit of the message.
func BenchmarkDeliver(b *testing.B) {
	l, err := Open(b.TempDir(), Options{Durability: DurabilityRelaxed})
	require.NoError(b, err)
	for b.Loop() {
		b.StopTimer()
		one := batch(b, l, 1)
		require.NoError(b, put(b.Context(), l, someTime(), one...))
		b.StartTimer()
		require.NoError(b, l.Deliver(b.Context(), []store.Delivered{{Account: 2, IDs: []store.MessageID{one[0].ID}}}))
	}
	require.NoError(b, l.Close())
}
