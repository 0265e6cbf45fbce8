package cache_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/cache"
)

// clock is a time that only tests let pass.
type clock struct{ nanoseconds atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_000, c.nanoseconds.Load()) }
func (c *clock) advance(d time.Duration) { c.nanoseconds.Add(int64(d)) }

func newCache[K comparable, V any](limit int) (*cache.Cache[K, V], *clock) {
	var c clock
	return cache.New(cache.Config[K, V]{Limit: limit, Now: c.now}), &c
}

func TestCache(t *testing.T) {
	c, clock := newCache[string, int](100)
	_, ok := c.Get("a")
	require.False(t, ok)
	c.Put(c.Begin("a"), "a", 1, time.Minute)
	c.Set("b", 2, cache.Forever)
	c.Put(c.Begin("c"), "c", 3, 0)
	c.Set("d", 4, -time.Second)
	for key, want := range map[string]int{"a": 1, "b": 2, "c": 0, "d": 0} {
		got, ok := c.Get(key)
		require.Equal(t, want != 0, ok, key)
		require.Equal(t, want, got, key)
	}
	require.Equal(t, 2, c.Size())
	clock.advance(time.Minute - 1)
	_, ok = c.Get("a")
	require.True(t, ok)
	clock.advance(1)
	_, ok = c.Get("a")
	require.False(t, ok, "it has expired")
	clock.advance(200 * 365 * 24 * time.Hour)
	_, ok = c.Get("b")
	require.True(t, ok, "this never does")
	c.Set("b", 5, 0)
	_, ok = c.Get("b")
	require.False(t, ok, "what was kept before does not come back")
}

func TestCacheWithTheMachinesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cache.New(cache.Config[int, int]{Limit: 10})
		c.Set(1, 1, time.Second)
		<-time.After(time.Second - 1)
		_, ok := c.Get(1)
		require.True(t, ok)
		<-time.After(time.Nanosecond)
		_, ok = c.Get(1)
		require.False(t, ok)
	})
}

// What was read before an invalidation and is put after it is not kept.
func TestPutAfterInvalidation(t *testing.T) {
	for name, invalidate := range map[string]func(*cache.Cache[uint64, string]){
		"key":   func(c *cache.Cache[uint64, string]) { c.Invalidate(12) },
		"group": func(c *cache.Cache[uint64, string]) { c.InvalidateGroup(1, nil) },
		"matching": func(c *cache.Cache[uint64, string]) {
			c.InvalidateGroup(1, func(k uint64) bool { return k == 12 })
		},
		"all": func(c *cache.Cache[uint64, string]) { c.Clear() },
	} {
		c := cache.New(cache.Config[uint64, string]{Limit: 1000, Group: func(k uint64) uint64 { return k / 10 }})
		token := c.Begin(12)
		invalidate(c)
		c.Put(token, 12, "old", cache.Forever)
		_, ok := c.Get(12)
		require.False(t, ok, name)
		c.Put(c.Begin(12), 12, "new", cache.Forever)
		got, _ := c.Get(12)
		require.Equal(t, "new", got, name)
	}
	c, _ := newCache[string, string](100)
	token := c.Begin("a")
	c.Set("a", "new", cache.Forever)
	c.Put(token, "a", "old", cache.Forever)
	got, _ := c.Get("a")
	require.Equal(t, "new", got, "what was set is newer than what was being read")
}

func TestInvalidateGroup(t *testing.T) {
	c := cache.New(cache.Config[uint64, int]{Limit: 10_000, Group: func(k uint64) uint64 { return k / 10 }})
	held := func() (keys int) {
		for key := range uint64(1000) {
			if _, ok := c.Get(key); ok {
				keys++
			}
		}
		return keys
	}
	for key := range uint64(1000) {
		c.Set(key, int(key), cache.Forever)
	}
	require.Equal(t, 1000, held())
	c.InvalidateGroup(7, func(k uint64) bool { return k%2 == 0 })
	require.Equal(t, 995, held())
	c.InvalidateGroup(7, nil)
	require.Equal(t, 990, held())
	c.InvalidateGroup(1_000_000, nil)
	require.Equal(t, 990, held())
	for key := range uint64(10) {
		_, ok := c.Get(70 + key)
		require.False(t, ok)
	}
	c.Clear()
	require.Zero(t, held())
	require.Zero(t, c.Size())
}

// Never more is held than may be, and what is used stays.
func TestCacheIsBounded(t *testing.T) {
	for _, limit := range []int{1, 10, 100, 640, 5000} {
		c, _ := newCache[int, int](limit)
		for i := range 4 * limit {
			c.Set(i, i, cache.Forever)
			got, ok := c.Get(i)
			require.True(t, ok && got == i, "what was put last is there")
		}
		require.LessOrEqual(t, c.Size(), limit)
		require.Greater(t, c.Size(), limit*8/10)
	}

	c, _ := newCache[string, int](100)
	for i := range 100 {
		c.Set("hot"+strconv.Itoa(i%3), i, cache.Forever)
	}
	lost := 0
	for i := range 5000 {
		for h := range 3 {
			if _, ok := c.Get("hot" + strconv.Itoa(h)); !ok {
				lost++
				c.Set("hot"+strconv.Itoa(h), i, cache.Forever)
			}
		}
		c.Set("cold"+strconv.Itoa(i), i, time.Hour)
	}
	require.LessOrEqual(t, lost, 12, "chance alone would give some 150")
}

func TestWeights(t *testing.T) {
	c := cache.New(cache.Config[int, string]{Limit: 100, Weight: func(s string) int { return len(s) }})
	for i := range 1000 {
		c.Set(i, strings.Repeat("x", i%20), cache.Forever)
		require.LessOrEqual(t, c.Size(), 100)
	}
	require.Greater(t, c.Size(), 70)
	c.Set(1, strings.Repeat("x", 1000), cache.Forever)
	_, ok := c.Get(1)
	require.True(t, ok, "one always fits")
	require.Equal(t, 1000, c.Size(), "alone")
	c.Set(1, "small again", cache.Forever)
	c.Set(2, "beside it", cache.Forever)
	require.Equal(t, len("small again")+len("beside it"), c.Size())
	c.Invalidate(1)
	c.Invalidate(1)
	require.Equal(t, len("beside it"), c.Size())
	c.Invalidate(2)
	require.Zero(t, c.Size())
}

func TestSweep(t *testing.T) {
	c, clock := newCache[int, int](100_000)
	for i := range 50_000 {
		ttl := time.Minute
		if i%100 == 0 {
			ttl = time.Hour
		}
		c.Set(i, i, ttl)
	}
	token := c.Begin(1)
	c.Sweep()
	require.Greater(t, c.Size(), 49_000)
	clock.advance(time.Minute)
	c.Sweep()
	require.LessOrEqual(t, c.Size(), 500)
	for i := 0; i < 50_000; i += 100 {
		if _, ok := c.Get(i); !ok {
			require.Less(t, c.Size(), 500, "only what had to go earlier")
		}
	}
	c.Put(token, 1, 1, time.Minute)
	_, ok := c.Get(1)
	require.True(t, ok, "it invalidates nothing")
}

// answers is the plain model of a cache: what may be answered for a key, and until when.
type answers map[string]struct {
	value   int
	expires time.Time
}

// checkCache performs what an input says on a cache and on the model. Each three bytes are what is done, the key, and a
// time. A cache that is as large as the model forgets nothing; a smaller one only answers what the model does.
func checkCache(t *testing.T, limit int, steps []byte) {
	t.Helper()
	var clock clock
	c := cache.New(cache.Config[string, int]{
		Limit: limit, Now: clock.now, Group: func(k string) uint64 { return uint64(k[0]) },
	})
	model, tokens, stale := answers{}, map[string]cache.Token{}, map[string]bool{}
	value := 0
	forget := func(match func(string) bool) {
		for key := range tokens {
			stale[key] = stale[key] || match(key)
		}
		for key := range model {
			if match(key) {
				delete(model, key)
			}
		}
	}
	for ; len(steps) >= 3; steps = steps[3:] {
		key := string(rune('a'+steps[1]%3)) + strconv.Itoa(int(steps[1]>>2%16))
		ttl := time.Duration(steps[2]) * time.Second
		value++
		switch steps[0] % 10 {
		case 0, 1, 2:
			want, known := model[key]
			known = known && clock.now().Before(want.expires)
			got, ok := c.Get(key)
			require.True(t, !ok || known, "answers %s, which is not known", key)
			require.True(t, !ok || got == want.value)
		case 3:
			clock.advance(ttl / 8)
		case 4:
			tokens[key], stale[key] = c.Begin(key), false
		case 5:
			token, ok := tokens[key]
			if !ok {
				continue
			}
			c.Put(token, key, value, ttl)
			got, kept := c.Get(key)
			kept = kept && got == value
			require.False(t, kept && stale[key], "what was overtaken is not kept")
			require.False(t, kept && ttl == 0)
			if kept || !stale[key] && ttl == 0 {
				model[key] = struct {
					value   int
					expires time.Time
				}{value, clock.now().Add(ttl)}
			}
		case 6:
			c.Set(key, value, ttl)
			forget(func(k string) bool { return k == key })
			model[key] = struct {
				value   int
				expires time.Time
			}{value, clock.now().Add(ttl)}
			got, ok := c.Get(key)
			require.True(t, ttl == 0 || ok && got == value)
		case 7:
			c.Invalidate(key)
			forget(func(k string) bool { return k == key })
		case 8:
			c.InvalidateGroup(uint64(key[0]), nil)
			forget(func(k string) bool { return k[0] == key[0] })
		case 9:
			if steps[2]%8 == 0 {
				c.Clear()
				forget(func(string) bool { return true })
			}
			c.Sweep()
		}
		require.LessOrEqual(t, c.Size(), limit)
	}
	if limit < 1000 {
		return
	}
	for key, want := range model {
		got, ok := c.Get(key)
		require.Equal(t, clock.now().Before(want.expires), ok, key)
		require.True(t, !ok || got == want.value)
	}
}

func FuzzCache(f *testing.F) {
	f.Add([]byte{4, 1, 9, 7, 1, 1, 5, 1, 9, 0, 1, 1, 6, 2, 200, 3, 0, 255, 0, 2, 0, 9, 0, 0})
	f.Fuzz(func(t *testing.T, steps []byte) {
		checkCache(t, 1000, steps)
		checkCache(t, 5, steps)
	})
}

func TestCacheIsAMap(t *testing.T) {
	for seed := range uint64(150) {
		random := rand.New(rand.NewPCG(seed, 3))
		steps := make([]byte, 3000)
		for i := range steps {
			steps[i] = byte(random.Uint32())
		}
		checkCache(t, []int{1000, 5, 20}[seed%3], steps)
	}
}

func TestHitsDoNotAllocate(t *testing.T) {
	type device struct {
		account uint64
		id      string
	}
	c, d := cache.New(cache.Config[string, int]{Limit: 100}), cache.New(cache.Config[device, [4]uint64]{
		Limit: 100, Group: func(d device) uint64 { return d.account },
	})
	name, phone := "juliet", device{1, "phone"}
	c.Set(name, 1, time.Hour)
	d.Set(phone, [4]uint64{}, cache.Forever)
	missed := errors.New("not there")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = c.Load(t.Context(), name, func(context.Context) (int, time.Duration, error) {
			return len(phone.id), 0, missed
		})
		c.Get(name)
		d.Get(phone)
		c.Begin(name)
		c.Get("romeo")
	}))
}

func BenchmarkHit(b *testing.B) {
	c := cache.New(cache.Config[string, uint64]{Limit: 100_000})
	names := make([]string, 5000)
	for i := range names {
		names[i] = "user" + strconv.Itoa(i)
		c.Set(names[i], uint64(i), time.Hour)
	}
	i := 0
	for b.Loop() {
		i++
		c.Get(names[i%len(names)])
	}
}
