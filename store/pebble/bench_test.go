package pebble

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store/storetest"
)

// rowsPerRun is enough for flushes and compactions to be part of what is measured.
const rowsPerRun = 1_000_000

// BenchmarkAppend measures batches of several sizes; run it with -benchtime 1x.
func BenchmarkAppend(b *testing.B) {
	for _, w := range []storetest.Workload{
		{Conversations: 200, Batch: 50}, {Conversations: 200, Batch: 200}, {Conversations: 200, Batch: 500},
		{Conversations: 1000, Batch: 50}, {Conversations: 1000, Batch: 200}, {Conversations: 1000, Batch: 500},
		{Conversations: 200, Batch: 200, Origins: true},
	} {
		w.StanzaBytes = 300
		b.Run(fmt.Sprintf("conversations=%d/batch=%d/origins=%t", w.Conversations, w.Batch, w.Origins), func(b *testing.B) {
			for b.Loop() {
				l, err := Open(b.TempDir(), Options{})
				require.NoError(b, err)
				report := w.Fill(b, l, time.Unix(1_700_000_000, 0), rowsPerRun)
				report.Metrics(b)
				b.ReportMetric(l.diskBytes()/rowsPerRun, "disk-B/row")
				require.NoError(b, l.Close())
			}
		})
	}
}
