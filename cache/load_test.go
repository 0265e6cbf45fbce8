package cache_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/cache"
)

func TestLoad(t *testing.T) {
	c, clock := newCache[string, int](100)
	reads := 0
	load := func() (int, error) {
		return c.Load(t.Context(), "a", func(context.Context) (int, time.Duration, error) {
			reads++
			return reads, time.Minute, nil
		})
	}
	for range 3 {
		got, err := load()
		require.NoError(t, err)
		require.Equal(t, 1, got)
	}
	clock.advance(time.Minute)
	got, err := load()
	require.NoError(t, err)
	require.Equal(t, 2, got)
	c.Invalidate("a")
	got, err = load()
	require.NoError(t, err)
	require.Equal(t, 3, got)

	failed := errors.New("disk on fire")
	_, err = c.Load(t.Context(), "b", func(context.Context) (int, time.Duration, error) {
		return 1, time.Minute, failed
	})
	require.ErrorIs(t, err, failed)
	_, ok := c.Get("b")
	require.False(t, ok, "errors are not kept")
	got, err = c.Load(t.Context(), "b", func(context.Context) (int, time.Duration, error) { return 7, 0, nil })
	require.NoError(t, err)
	require.Equal(t, 7, got)
	_, ok = c.Get("b")
	require.False(t, ok, "nor what is not to be kept")
}

// Many who ask at once cost one read, and all get its value or its error.
func TestLoadReadsOnce(t *testing.T) {
	for _, failed := range []error{nil, errors.New("disk on fire")} {
		synctest.Test(t, func(t *testing.T) {
			c := cache.New(cache.Config[string, int]{Limit: 100})
			var reads, answers atomic.Int64
			disk := make(chan struct{}) // closed when it answers
			for range 50 {
				go func() {
					got, err := c.Load(t.Context(), "a", func(context.Context) (int, time.Duration, error) {
						reads.Add(1)
						<-disk
						return 5, time.Minute, failed
					})
					if errors.Is(err, failed) && got == 5 {
						answers.Add(1)
					}
				}()
			}
			synctest.Wait()
			require.EqualValues(t, 1, reads.Load())
			require.Zero(t, answers.Load())
			close(disk)
			synctest.Wait()
			require.EqualValues(t, 50, answers.Load())
			_, ok := c.Get("a")
			require.Equal(t, failed == nil, ok)
		})
	}
}

// Who waits does so for as long as its own context. When that of the one who reads ends, another one reads.
func TestLoadEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cache.New(cache.Config[string, int]{Limit: 100})
		var reads atomic.Int64
		read := func(ctx context.Context) (int, time.Duration, error) {
			n := reads.Add(1)
			select {
			case <-ctx.Done():
				return 0, 0, ctx.Err()
			case <-time.After(time.Minute):
				return int(n), time.Hour, nil
			}
		}
		load := func(limit time.Duration) <-chan error {
			result := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				_, err := c.Load(ctx, "a", read)
				result <- err
			}()
			synctest.Wait()
			return result
		}
		begun := time.Now()
		first, second, third := load(10*time.Second), load(5*time.Second), load(time.Hour)
		require.ErrorIs(t, <-second, context.DeadlineExceeded)
		require.Equal(t, 5*time.Second, time.Since(begun))
		require.ErrorIs(t, <-first, context.DeadlineExceeded)
		require.Equal(t, 10*time.Second, time.Since(begun))
		require.NoError(t, <-third)
		require.Equal(t, 70*time.Second, time.Since(begun))
		require.EqualValues(t, 2, reads.Load())
	})
}

// A panic is that of the one who reads; others read themselves.
func TestLoadSurvivesAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cache.New(cache.Config[string, int]{Limit: 100})
		recovered := make(chan any, 1)
		disk := make(chan struct{}) // closed when it fails
		go func() {
			defer func() { recovered <- recover() }()
			_, _ = c.Load(t.Context(), "a", func(context.Context) (int, time.Duration, error) {
				<-disk
				panic("bad row")
			})
		}()
		synctest.Wait()
		time.AfterFunc(time.Second, func() { close(disk) }) // the next one waits already
		got, err := c.Load(t.Context(), "a", func(context.Context) (int, time.Duration, error) {
			return 3, time.Hour, nil
		})
		require.NoError(t, err)
		require.Equal(t, 3, got)
		require.Equal(t, "bad row", <-recovered)
	})
}

// What is read while the key is invalidated is not kept, and who asks after that does not wait for it.
func TestLoadAfterInvalidation(t *testing.T) {
	for name, invalidate := range map[string]func(*cache.Cache[uint64, string]){
		"key":   func(c *cache.Cache[uint64, string]) { c.Invalidate(12) },
		"group": func(c *cache.Cache[uint64, string]) { c.InvalidateGroup(1, nil) },
		"all":   func(c *cache.Cache[uint64, string]) { c.Clear() },
		"set":   func(c *cache.Cache[uint64, string]) { c.Set(12, "new", time.Hour) },
	} {
		synctest.Test(t, func(t *testing.T) {
			c := cache.New(cache.Config[uint64, string]{Limit: 1000, Group: func(k uint64) uint64 { return k / 10 }})
			disk := make(chan struct{}) // closed when it answers
			old := make(chan string, 1)
			go func() {
				got, _ := c.Load(t.Context(), 12, func(context.Context) (string, time.Duration, error) {
					<-disk
					return "old", time.Hour, nil
				})
				old <- got
			}()
			synctest.Wait()
			invalidate(c)
			got, err := c.Load(t.Context(), 12, func(context.Context) (string, time.Duration, error) {
				return "new", time.Hour, nil
			})
			require.NoError(t, err)
			require.Equal(t, "new", got, name)
			close(disk)
			require.Equal(t, "old", <-old, "it asked before")
			got, _ = c.Get(12)
			require.Equal(t, "new", got, name)
		})
	}
}

// slow is what a cache stands before: versions of things, which only rise.
type slow struct {
	mu       sync.Mutex // guards versions
	versions [40]int
}

func (s *slow) read(key int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.versions[key]
}

func (s *slow) change(key int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[key]++
	return s.versions[key]
}

// While many read and change what is cached, nobody who asks after a change was invalidated gets what was there before
// it.
func TestConcurrently(t *testing.T) {
	for _, limit := range []int{10, 1000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) { checkConcurrently(t, limit) })
	}
}

func checkConcurrently(t *testing.T, limit int) {
	var source slow
	var invalidated [len(source.versions)]atomic.Int64 // the least that may be answered
	c := cache.New(cache.Config[int, int]{Limit: limit, Group: func(k int) uint64 { return uint64(k / 10) }})
	ask := func(key int, load bool) {
		least := invalidated[key].Load()
		got, ok := c.Get(key)
		switch {
		case ok:
		case load:
			got, _ = c.Load(t.Context(), key, func(context.Context) (int, time.Duration, error) {
				return source.read(key), cache.Forever, nil
			})
		default:
			token := c.Begin(key)
			got = source.read(key)
			c.Put(token, key, got, cache.Forever)
		}
		if int64(got) < least {
			t.Errorf("key %d: version %d, after %d was invalidated", key, got, least)
		}
	}
	change := func(key, how int) {
		version := int64(source.change(key))
		switch how {
		case 0:
			c.InvalidateGroup(uint64(key/10), nil)
		case 1:
			c.Clear()
		default:
			c.Invalidate(key)
		}
		for {
			old := invalidated[key].Load()
			if old >= version || invalidated[key].CompareAndSwap(old, version) {
				return
			}
		}
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 4))
			for i := range 6000 {
				if key := random.IntN(len(source.versions)); worker < 2 && i%4 == 0 {
					change(key, random.IntN(40))
				} else {
					ask(key, worker%2 == 0)
				}
				if i%1000 == 0 {
					c.Sweep()
				}
			}
		})
	}
	wg.Wait()
	for key := range source.versions {
		ask(key, true)
		got, ok := c.Get(key)
		require.True(t, ok)
		require.Equal(t, source.read(key), got)
	}
}
