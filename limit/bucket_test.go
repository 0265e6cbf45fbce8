package limit_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/limit"
)

func TestBucket(t *testing.T) {
	r := limit.Per(2, time.Second, 3)
	var b limit.Bucket
	now := time.Hour
	for range 3 {
		require.True(t, b.Wait(r, now, 1) == 0)
		require.Zero(t, b.Take(r, now, 1))
	}
	require.False(t, b.Full(now))
	for range 2 {
		require.Equal(t, 500*time.Millisecond, b.Take(r, now, 1), "a refusal takes nothing")
	}
	require.Equal(t, time.Second, b.Wait(r, now, 2))
	now += 500 * time.Millisecond
	require.Zero(t, b.Take(r, now, 1))
	require.NotZero(t, b.Take(r, now, 1))

	require.Equal(t, 2*time.Second, b.Spend(r, now, 4), "four tokens of debt")
	require.Equal(t, 2500*time.Millisecond, b.Take(r, now, 1))
	require.Equal(t, now+3500*time.Millisecond, b.FullAt())
	now += 2500*time.Millisecond - 1
	require.Equal(t, time.Nanosecond, b.Take(r, now, 1))
	require.Zero(t, b.Take(r, now+1, 1))
	now += time.Hour
	require.True(t, b.Full(now))
	require.Zero(t, b.Take(r, now, 3))
	require.NotZero(t, b.Take(r, now, 1), "no more is saved up than the burst")
}

func TestBucketCosts(t *testing.T) {
	r := limit.Per(10, time.Second, 2)
	var b limit.Bucket
	require.Zero(t, b.Take(r, 0, 0.5))
	require.Zero(t, b.Take(r, 0, 1.5))
	require.Equal(t, 50*time.Millisecond, b.Take(r, 0, 0.5))
	require.Zero(t, b.Take(r, 0, 0), "nothing costs nothing")
	require.Zero(t, b.Spend(r, time.Second, -5), "and a negative cost gives nothing back")
	require.Zero(t, b.Take(r, time.Second, 2))
	require.NotZero(t, b.Take(r, time.Hour, 3), "more than there is room for is never there")
	require.Zero(t, b.Take(r, time.Hour, 2))
}

func TestRates(t *testing.T) {
	for _, none := range []limit.Rate{
		{}, limit.Per(0, time.Second, 5), limit.Per(-1, time.Second, 5), limit.Per(1, 0, 5),
		limit.Per(math.NaN(), time.Second, 5),
	} {
		require.False(t, none.Limited())
		var b limit.Bucket
		for range 100 {
			require.Zero(t, b.Take(none, 1, 1e9))
			require.Zero(t, b.Spend(none, 1, 1e9))
		}
		require.True(t, b.Full(1))
	}
	for _, burst := range []float64{-1, 0, 0.5, 1} {
		r := limit.Per(0.1, time.Second, burst)
		require.True(t, r.Limited())
		var b limit.Bucket
		require.Zero(t, b.Take(r, 0, 1), "a burst is at least one")
		require.Equal(t, 10*time.Second, b.Take(r, 0, 1))
	}
}

// A debt beyond all measure stays one, and does not turn into credit.
func TestBucketDoesNotOverflow(t *testing.T) {
	r := limit.Per(1, time.Hour, 10)
	var b limit.Bucket
	now := time.Duration(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	for _, cost := range []float64{1e3, 1e30, math.Inf(1), math.MaxFloat64} {
		for range 10 {
			require.Positive(t, b.Spend(r, now, cost))
			require.Positive(t, b.Wait(r, now, cost))
			require.Positive(t, b.Take(r, now, 1))
		}
	}
	huge := limit.Per(1e-300, time.Hour, math.MaxFloat64)
	require.True(t, huge.Limited())
	var c limit.Bucket
	require.Zero(t, c.Take(huge, now, 1e-301))
}

// A bucket is a part of every connection.
func TestBucketIsSmall(t *testing.T) {
	require.EqualValues(t, 8, unsafe.Sizeof(limit.Bucket{}))
	r, now := limit.Per(1e6, time.Second, 10), time.Duration(0)
	var b limit.Bucket
	require.Zero(t, testing.AllocsPerRun(100, func() {
		now += time.Microsecond
		b.Take(r, now, 1)
		b.Spend(r, now, 1)
		b.Wait(r, now, 1)
	}))
}

// tokens is the plain model of a bucket: a number of tokens, in units of which unit come back every nanosecond.
type tokens struct{ have, burst, at int64 }

func (m *tokens) fill(now int64) {
	if now > m.at {
		m.have, m.at = min(m.burst, m.have+now-m.at), now
	}
}

// checkBucket performs what an input says on a bucket and on the model. Each three bytes are a step of the clock, what
// is done, and for how many tokens.
func checkBucket(t *testing.T, token, burst int64, steps []byte) {
	t.Helper()
	r := limit.Per(1e9/float64(token), time.Second, float64(burst))
	var b limit.Bucket
	now, m := int64(0), tokens{have: burst * token, burst: burst * token}
	for ; len(steps) >= 3; steps = steps[3:] {
		now += int64(steps[0]) * token / 16
		m.fill(now)
		cost := int64(steps[2] % 8)
		price, missing := cost*token, max(0, cost*token-m.have)
		at := time.Duration(now)
		require.EqualValues(t, missing, b.Wait(r, at, float64(cost)))
		require.Equal(t, m.have == m.burst, b.Full(at))
		if steps[1]%2 == 0 {
			require.EqualValues(t, missing, b.Take(r, at, float64(cost)))
			if missing == 0 {
				m.have -= price
			}
		} else {
			require.EqualValues(t, missing, b.Spend(r, at, float64(cost)))
			m.have -= price
		}
	}
}

func FuzzBucket(f *testing.F) {
	f.Add(uint16(1000), uint8(3), []byte{1, 0, 1, 0, 0, 1, 255, 1, 7, 3, 0, 0})
	f.Fuzz(func(t *testing.T, token uint16, burst uint8, steps []byte) {
		// Powers of two, so that the rate is exact as a number of tokens in a second, too.
		checkBucket(t, 1<<(token%24+4), int64(burst)+1, steps)
	})
}

func TestBucketIsATokenBucket(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		steps := make([]byte, 600)
		for i := range steps {
			steps[i] = byte(random.Uint32())
			if i%3 == 0 && random.IntN(3) > 0 {
				steps[i] %= 16
			}
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) { checkBucket(t, 1<<(4+seed%20), 1+int64(seed%9), steps) })
	}
}

func BenchmarkBucket(b *testing.B) {
	r, now := limit.Per(20_000, time.Second, 262_144), time.Duration(0)
	var bucket limit.Bucket
	for b.Loop() {
		now += time.Microsecond
		bucket.Spend(r, now, 200)
	}
}
