package pebble

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store/storetest"
)

// rows is a flag of the tests, not of the package.
var rows = flag.Int("rows", 1_000_000, "messages that BenchmarkCompare fills a log with")

// BenchmarkAppend measures batches of several sizes; run it with -benchtime 1x. A million rows are enough for flushes and
// compactions to be part of what is measured.
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
