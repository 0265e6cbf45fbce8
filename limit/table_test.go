package limit_test

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/limit"
)

// clock is a time that only tests let pass.
type clock struct{ nanoseconds atomic.Int64 }

func (c *clock) now() time.Time             { return time.Unix(1_000, c.nanoseconds.Load()) }
func (c *clock) advance(d time.Duration)    { c.nanoseconds.Add(int64(d)) }
func (c *clock) elapsed() time.Duration     { return time.Duration(c.nanoseconds.Load()) }
func keyOf(i int) string                    { return "key" + strconv.Itoa(i) }
func perSecond(n, burst float64) limit.Rate { return limit.Per(n, time.Second, burst) }

func TestTable(t *testing.T) {
	var c clock
	table := limit.NewTable[string](perSecond(2, 3), 100, c.now)
	for range 3 {
		require.Zero(t, table.Take("a", 1))
	}
	require.Equal(t, 500*time.Millisecond, table.Take("a", 1))
	require.Zero(t, table.Take("b", 1), "keys do not concern each other")
	c.advance(500 * time.Millisecond)
	require.Zero(t, table.Take("a", 1))
	require.NotZero(t, table.Take("a", 1))
	require.Equal(t, time.Second, table.Spend("a", 2))
	require.Equal(t, 1500*time.Millisecond, table.Take("a", 1))
	require.Equal(t, 2, table.Len())
}

func TestTableWithoutLimit(t *testing.T) {
	table := limit.NewTable[int](limit.Rate{}, 100, nil)
	for i := range 1000 {
		require.Zero(t, table.Take(i%3, 1e9))
		require.Zero(t, table.Spend(i%3, 1e9))
	}
	require.Zero(t, table.Len())
}

// A clock that is set back to before the table was made refills nothing, and takes nothing either.
func TestTableWithClockSetBack(t *testing.T) {
	var c clock
	table := limit.NewTable[int](perSecond(1, 2), 100, c.now)
	require.Zero(t, table.Take(1, 2))
	c.advance(-time.Hour)
	require.Equal(t, time.Second, table.Take(1, 1))
	require.Zero(t, table.Take(2, 1))
}

func TestTableWithTheMachinesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := limit.NewTable[int](perSecond(1, 1), 100, nil)
		require.Zero(t, table.Take(1, 1))
		require.Equal(t, time.Second, table.Take(1, 1))
		<-time.After(time.Second)
		require.Zero(t, table.Take(1, 1))
	})
}

// Keys that have not been seen for a while take no memory.
func TestTableForgetsFullBuckets(t *testing.T) {
	var c clock
	table := limit.NewTable[int](perSecond(10, 10), 1<<20, c.now)
	for i := range 50_000 {
		table.Take(i, 1)
		c.advance(time.Millisecond) // so that 100 of them are not full
		if i%100 == 0 {
			require.Less(t, table.Len(), 2000)
		}
	}
}

// When there are more keys than there may be, those that owe least are forgotten.
func TestTableIsBounded(t *testing.T) {
	var c clock
	table := limit.NewTable[string](perSecond(0.001, 100), 1600, c.now)
	for i := range 20 {
		require.NotZero(t, table.Spend("greedy"+strconv.Itoa(i), 1000))
	}
	for i := range 50_000 {
		require.Zero(t, table.Take(keyOf(i), 1))
		if i%100 == 0 {
			require.LessOrEqual(t, table.Len(), 1600)
		}
	}
	require.Greater(t, table.Len(), 1400)
	for i := range 20 {
		require.NotZero(t, table.Take("greedy"+strconv.Itoa(i), 1), "others do not push out who owes much")
	}
	one := limit.NewTable[int](perSecond(1, 1), 1, c.now)
	for i := range 1000 {
		require.Zero(t, one.Take(i, 1))
	}
	require.LessOrEqual(t, one.Len(), 16)
}

// A table is a bucket for each key; when it is too small it allows more, never less.
func TestTableIsManyBuckets(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 2))
		var c clock
		rate := perSecond(8, 4)
		bound := 1000
		small := seed%2 == 1
		if small {
			bound = 32
		}
		table, model := limit.NewTable[string](rate, bound, c.now), map[string]*limit.Bucket{}
		for range 3000 {
			c.advance(time.Duration(random.IntN(int(40 * time.Millisecond))))
			key, cost := keyOf(random.IntN(60)), float64(random.IntN(4))
			b := model[key]
			if b == nil {
				b = &limit.Bucket{}
				model[key] = b
			}
			spend := random.IntN(2) == 0
			want, got := time.Duration(0), time.Duration(0)
			if spend {
				want, got = b.Spend(rate, c.elapsed(), cost), table.Spend(key, cost)
			} else if want = b.Take(rate, c.elapsed(), cost); want == 0 || !small {
				got = table.Take(key, cost)
			}
			if small {
				require.LessOrEqual(t, got, want)
			} else {
				require.Equal(t, want, got)
			}
		}
		require.LessOrEqual(t, table.Len(), bound)
	}
}

// Many at once get what one would.
func TestTableConcurrently(t *testing.T) {
	var c clock
	table := limit.NewTable[int](perSecond(1, 100), 1<<16, c.now)
	var granted [8]atomic.Int64
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 4000 {
				if key := (worker + i) % len(granted); table.Take(key, 1) == 0 {
					granted[key].Add(1)
				}
				table.Spend(100+i%3000, 1)
				if i%500 == 0 {
					table.Len()
				}
			}
		})
	}
	wg.Wait()
	for key := range granted {
		require.EqualValues(t, 100, granted[key].Load(), key)
	}
}

// What is known already is looked up without allocating, whatever the kind of key.
func TestTableDoesNotAllocate(t *testing.T) {
	type pair struct {
		address [16]byte
		account uint64
	}
	var c clock
	rate := perSecond(1e6, 5)
	texts, numbers := limit.NewTable[string](rate, 100, c.now), limit.NewTable[uint64](rate, 100, nil)
	pairs, text := limit.NewTable[pair](rate, 100, c.now), keyOf(1)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		c.advance(time.Microsecond)
		texts.Take(text, 1)
		numbers.Take(7, 1)
		pairs.Spend(pair{account: 7}, 1)
	}))
}

func BenchmarkTable(b *testing.B) {
	table := limit.NewTable[uint64](perSecond(1e9, 1e9), 1<<16, nil)
	i := uint64(0)
	for b.Loop() {
		i++
		table.Take(i%5000, 1)
	}
}
