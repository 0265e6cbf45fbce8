package router

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noWaits = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "test"})

// open returns a delivery that is closed, with all its jobs done, at the end of the test.
func open(t testing.TB, b deliveryBounds, do func(context.Context, *job)) *delivery {
	d := newDelivery(b, noWaits, do)
	t.Cleanup(func() {
		require.NoError(t, d.close(context.Background()))
		require.Zero(t, d.depth())
		require.Zero(t, d.bytes.Load())
		for i := range d.shards {
			require.LessOrEqual(t, len(d.shards[i].queues), keepQueues,
				"keys without work are forgotten, but for a few")
		}
	})
	return d
}

var wide = deliveryBounds{jobs: 1 << 20, bytes: 1 << 40, total: 1 << 40}

// numbered is an envelope that a test finds again.
func numbered(n uint64) *Envelope { return &Envelope{Receipt: Receipt{ID: n}} }

func (d *delivery) put(t testing.TB, key uint64, e *Envelope) {
	q, _, ok := d.reserve(t.Context(), key, key, 1)
	require.True(t, ok)
	d.push(q, job{envelope: e, bytes: 1})
}

// TestOrderOfEachKey: many push for many keys at once; the jobs of each key are done one at a time, in the order in
// which they were pushed.
func TestOrderOfEachKey(t *testing.T) {
	const keys, producers, each = 50, 8, 3000
	var working [keys]atomic.Bool
	last := [keys][producers]uint64{} // each written by whoever works on the key
	var done atomic.Int64
	d := newDelivery(wide, noWaits, func(_ context.Context, j *job) {
		n := j.envelope.Receipt.ID
		key, producer, i := n%keys, n/keys%producers, n/keys/producers
		if !working[key].CompareAndSwap(false, true) {
			t.Errorf("two workers at key %d", key)
		}
		if i <= last[key][producer] {
			t.Errorf("key %d: %d after %d", key, i, last[key][producer])
		}
		last[key][producer] = i
		if n%97 == 0 {
			runtime.Gosched()
		}
		working[key].Store(false)
		done.Add(1)
	})
	var all sync.WaitGroup
	for p := range uint64(producers) {
		all.Go(func() {
			random := rand.New(rand.NewPCG(p, 1))
			for i := range uint64(each) {
				key := random.Uint64N(keys)
				d.put(t, key, numbered(((i+1)*producers+p)*keys+key))
			}
		})
	}
	all.Wait()
	require.NoError(t, d.close(context.Background()))
	require.Equal(t, int64(producers*each), done.Load())
}

// TestStuckKey: a job that never ends holds up its key and no other, also when there are more of them than there are
// workers.
func TestStuckKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stuck = 40
		release := make(chan struct{})
		var done atomic.Int32
		d := open(t, wide, func(_ context.Context, j *job) {
			if j.envelope.Receipt.ID == 1 {
				<-release
			}
			done.Add(1)
		})
		for key := range uint64(stuck) {
			d.put(t, key, numbered(1))
			d.put(t, key, numbered(2))
		}
		<-time.After(time.Second) // of the bubble's clock
		for key := range uint64(1000) {
			d.put(t, stuck+key, numbered(2))
		}
		began := time.Now()
		synctest.Wait()
		require.Equal(t, int32(1000), done.Load(), "the others are done, and wait for nothing")
		require.Zero(t, time.Since(began))
		require.LessOrEqual(t, d.running, d.normal)
		close(release)
		synctest.Wait()
		require.Equal(t, int32(1000+2*stuck), done.Load())
		require.LessOrEqual(t, len(d.workers), d.normal, "those that took the place of others have ended")
	})
}

// TestStuckAtOnce: keys that become ready behind a job that is stuck wait for no longer than that is found out.
func TestStuckAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		other := make(chan time.Time, 1)
		d := open(t, wide, func(_ context.Context, j *job) {
			if j.envelope.Receipt.ID == 1 {
				<-release
			} else {
				other <- time.Now()
			}
		})
		began := time.Now()
		d.put(t, 1, numbered(1))
		d.put(t, 2, numbered(2))
		require.LessOrEqual(t, (<-other).Sub(began), 2*stuckAfter)
		close(release)
	})
}

// TestReservations: slots are bounded by key, in number and in bytes, and in bytes for all; who waits for one holds
// none.
func TestReservations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, deliveryBounds{jobs: 3, bytes: 1000, total: 2000}, func(context.Context, *job) {})
		reserve := func(a, b uint64, bytes int) (got func() bool, cancel func()) {
			ctx, cancel := context.WithCancel(t.Context())
			var ok atomic.Bool
			go func() {
				_, _, got := d.reserve(ctx, a, b, bytes)
				ok.Store(got)
			}()
			synctest.Wait()
			return ok.Load, cancel
		}
		free := func(key uint64, bytes int) {
			d.release(d.shards[shardOf(key)].queues[key], int32(bytes))
			synctest.Wait()
		}
		for range 3 {
			got, cancel := reserve(1, 1, 10)
			defer cancel()
			require.True(t, got())
		}
		fourth, cancel := reserve(2, 1, 10) // as a message from 2 to 1
		require.False(t, fourth(), "in number")
		require.Zero(t, d.shards[shardOf(2)].queues[2].slots, "it holds no slot of 2 meanwhile")
		free(1, 10)
		require.True(t, fourth())
		defer cancel()
		given, cancel := reserve(1, 1, 10)
		cancel()
		synctest.Wait()
		require.False(t, given(), "who is gone gets none")
		for range 3 {
			free(1, 10)
		}
		free(2, 10)
		require.Zero(t, d.bytes.Load())

		large, cancel := reserve(1, 1, 5000)
		defer cancel()
		require.True(t, large(), "one alone is never too large")
		second, cancel := reserve(2, 2, 1)
		defer cancel()
		require.False(t, second(), "bytes in all")
		free(1, 5000)
		require.True(t, second())
		inBytes, cancel := reserve(2, 2, 1000)
		defer cancel()
		require.False(t, inBytes(), "bytes of a key")
		free(2, 1)
		require.True(t, inBytes())
		free(2, 1000)
	})
}

// TestReservationsInBothDirections: pairs that send to each other through full queues get on.
func TestReservationsInBothDirections(t *testing.T) {
	d := open(t, deliveryBounds{jobs: 1, bytes: 1 << 30, total: 10}, func(context.Context, *job) {})
	var all sync.WaitGroup
	for i := range uint64(8) {
		all.Go(func() {
			for n := range uint64(2000) {
				a, b := (i+n)%5, (i*n)%5
				qa, qb, ok := d.reserve(t.Context(), a, b, 2)
				if !ok {
					t.Error("not reserved")
					return
				}
				d.push(qa, job{envelope: numbered(n), bytes: 2})
				if qa != qb {
					d.release(qb, 2)
				}
			}
		})
	}
	all.Wait()
}

// TestCloseWaits: close waits for what is queued, and gives up when its context ends, which the jobs are told.
func TestCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDelivery(wide, noWaits, func(ctx context.Context, _ *job) { <-ctx.Done() })
		d.put(t, 1, numbered(1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, d.close(ctx), context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(began))
		synctest.Wait()
		require.Empty(t, d.workers)

		quick := newDelivery(wide, noWaits, func(context.Context, *job) { <-time.After(time.Hour) })
		quick.put(t, 1, numbered(1))
		quick.put(t, 1, numbered(2))
		require.NoError(t, quick.close(t.Context()))
		require.Equal(t, 2*time.Hour, time.Since(began.Add(time.Minute)))
		require.Empty(t, quick.workers)
	})
}

// BenchmarkDelivery is what the two jobs of a message cost beside what is done in them: a sender reserves, a committer
// pushes batches of 200 for 400 accounts, and workers do nothing. cpu-ns/op is that of the whole process.
func BenchmarkDelivery(b *testing.B) {
	const batch = 200
	d := open(b, wide, func(context.Context, *job) {})
	e := numbered(1)
	var queue [batch][2]*keyQueue
	b.ReportAllocs()
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.ResetTimer()
	for range b.N / batch {
		for i := range queue {
			queue[i][0], queue[i][1], _ = d.reserve(b.Context(), uint64(i), uint64(i+1000), 300)
		}
		for i := range queue {
			d.push(queue[i][0], job{envelope: e, bytes: 300})
			d.push(queue[i][1], job{envelope: e, bytes: 300})
		}
	}
	b.StopTimer()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
}
