package archive

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// Messages that come by the thousand share transactions; the first after a silence waits for nothing.
func TestBatchDelay(t *testing.T) {
	for name, c := range map[string]struct {
		every, disk, delay time.Duration
		least, most        int32 // transactions for 1,000 messages
	}{
		"fast on a quick disk": {every: 200 * time.Microsecond, disk: 50 * time.Microsecond, most: 500},
		"by the thousand":      {every: 700 * time.Microsecond, disk: 50 * time.Microsecond, most: 600},
		"slow":                 {every: 5 * time.Millisecond, disk: 50 * time.Microsecond, least: 990, most: 1000},
		"on a slow disk":       {every: 900 * time.Microsecond, disk: 1200 * time.Microsecond, least: 700, most: 1000},
		"never": {every: 200 * time.Microsecond, disk: 50 * time.Microsecond, delay: -1, least: 990,
			most: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, &nullLog{}, func(conf *Config) { conf.BatchDelay = c.delay })
				h.log.before = func(batch []*store.Append) error {
					if len(batch) > 0 {
						<-time.After(c.disk)
					}
					return nil
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- h.Run(ctx) }()
				who := from(orchard)
				send := func(n int) (commits int32) {
					before := h.log.commits.Load()
					for range n {
						h.accept(t.Context(), who, chat("juliet@verona.example", "x"))
						<-time.After(c.every)
					}
					return h.log.commits.Load() - before
				}
				send(int(time.Second / c.every)) // it takes a while to notice
				commits := send(1000)
				require.GreaterOrEqual(t, commits, c.least)
				require.LessOrEqual(t, commits, c.most)
				<-time.After(time.Minute)
				synctest.Wait()
				began, before := time.Now(), h.log.commits.Load()
				h.accept(t.Context(), who, chat("juliet@verona.example", "x"))
				for h.log.commits.Load() == before {
					<-time.After(10 * time.Microsecond)
				}
				require.Less(t, time.Since(began), c.disk+20*time.Microsecond, "after a silence nothing is waited for")
				cancel()
				require.NoError(t, <-ended)
			})
		})
	}
}
