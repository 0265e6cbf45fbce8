package archive

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/pebble"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// A83: a page has at most 250 messages, 50 when nothing is said, and at most so many bytes.
func TestPageLimits(t *testing.T) {
	h := newHouse(t, memory(), func(c *Config) { c.PageBytes = 64 << 10 })
	fill(t, h.log, noon, 300, withEverybody)
	require.Len(t, h.query(t, form("")).bodies, 50)
	require.Len(t, h.query(t, form("<max>1000000</max>")).bodies, 250)
	require.Len(t, h.query(t, form("<max>18446744073709551615</max>")).bodies, 250)

	big := stored(t, h.log, "juliet@verona.example/b", "romeo@verona.example", strings.Repeat("x", 40<<10))
	huge := stored(t, h.log, "juliet@verona.example/b", "romeo@verona.example", strings.Repeat("y", 100<<10))
	tail := stored(t, h.log, "juliet@verona.example/b", "romeo@verona.example", "z")
	for i, a := range []*store.Append{big,
		stored(t, h.log, "juliet@verona.example/b", "romeo@verona.example", strings.Repeat("x", 40<<10)), huge, tail} {
		put(t, h.log, noon.Add(time.Hour+time.Duration(i)*time.Second), a)
	}
	var lengths []int
	q := form("", "start", "2026-03-01T13:00:00Z")
	for range 10 {
		got := h.query(t, q)
		n := 0
		for _, b := range got.bodies {
			n += len(b)
		}
		lengths = append(lengths, n)
		if got.complete {
			break
		}
		q = form("<after>"+got.last+"</after>", "start", "2026-03-01T13:00:00Z")
	}
	require.Equal(t, []int{40 << 10, 40 << 10, 100 << 10, 1}, lengths)
	last := h.query(t, form("<before/>"))
	require.Equal(t, []string{"z"}, last.bodies, "from behind too")
	require.False(t, last.complete)
}

// §2.1 row 85 of the abuse table: a long stretch in which nothing matches is not the end.
func TestFilteredPageIsNotTheEnd(t *testing.T) {
	h := newHouse(t, memory())
	n := 3*filterReach + 10
	fill(t, h.log, noon, n, func(i int) (string, string) {
		if i == 5 || i == n-3 {
			return "juliet@verona.example/balcony", "romeo@verona.example"
		}
		return "juliet@verona.example/closet", "romeo@verona.example"
	})
	h.budget = newBudget(1, 1e9, h.now)
	for _, direction := range []string{"after", "before"} {
		var found []string
		set := "<max>2</max>"
		if direction == "before" {
			set = "<max>2</max><before/>"
		}
		pages := 0
		for {
			pages++
			require.Less(t, pages, 10)
			got := h.query(t, form(set, "with", "juliet@verona.example/balcony"))
			found = append(found, got.bodies...)
			if got.complete {
				break
			}
			require.NotEmpty(t, got.first, "there is a place to go on from")
			if set = "<max>2</max><after>" + got.last + "</after>"; direction == "before" {
				set = "<max>2</max><before>" + got.first + "</before>"
			}
		}
		require.Len(t, found, 2, direction)
		require.Greater(t, pages, 2, "no query reads everything")
	}
}

// countedHistory counts what is read of it, and how much at once.
type countedHistory struct {
	store.MessageLog
	rows, bytes, most int
}

func (c *countedHistory) History(ctx context.Context, q store.HistoryQuery) ([]store.Message, bool, error) {
	found, more, err := c.MessageLog.History(ctx, q)
	c.rows += len(found)
	size := 0
	for i := range found {
		size += len(found[i].Stanza)
	}
	c.bytes += size
	c.most = max(c.most, size)
	return found, more, err
}

// A query that finds nothing costs no more than one that does, in messages and in text, whatever their size; it says
// where it ended, is paid for out of the budget, and others go on from there to the end.
func TestFilterIsBounded(t *testing.T) {
	for name, test := range map[string]struct{ n, size int }{"short ones": {2500, 10}, "long ones": {70, 100_000}} {
		disk, err := pebble.Open(t.TempDir(), pebble.Options{})
		require.NoError(t, err)
		log := &countedHistory{MessageLog: disk}
		h := newHouse(t, log)
		long := strings.Repeat("x", test.size)
		var batch []*store.Append
		var listed []string
		for range test.n {
			batch = append(batch, stored(t, log, "juliet@verona.example/closet", "romeo@verona.example", long))
		}
		for _, m := range put(t, log, noon, batch...) {
			listed = append(listed, h.StanzaID(uint64(m.ID)))
		}
		const with = "juliet@verona.example/it's"
		queries := map[string]func(place string) string{
			"forward": func(place string) string { return form("<max>10</max>"+place, "with", with) },
			"backward": func(place string) string {
				return form("<max>10</max><before>"+place+"</before>", "with", with)
			},
			"another": func(place string) string {
				return form("<max>10</max>"+place, "with", "juliet@verona.example/x")
			},
			"listed": func(place string) string {
				return form("<max>10</max>"+place, "with", with, "ids",
					strings.Join(listed[:min(maxIDs, test.n)], "</value><value>"))
			},
		}
		for kind, query := range queries {
			h.budget = newBudget(1, 1e9, h.now)
			place, pages := "", 0
			for {
				log.rows, log.bytes = 0, 0
				got := h.query(t, query(place))
				require.LessOrEqual(t, log.rows, filterReach+filterChunk, name, kind)
				require.LessOrEqual(t, log.bytes, filterBytes+h.config.PageBytes+2*test.size, name, kind)
				require.Empty(t, got.bodies)
				pages++
				require.Less(t, pages, 20, name, kind)
				if got.complete {
					break
				}
				require.NotEmpty(t, got.last, name, kind)
				if place = "<after>" + got.last + "</after>"; kind == "backward" {
					place = got.first
				}
			}
			require.LessOrEqual(t, log.most, h.config.PageBytes+2*test.size, "at once")
			if test.size < 1000 {
				continue
			}
			require.Greater(t, pages, 4, name, kind)
			h.budget = newBudget(0.001, 60, h.now)
			allowed := 0
			for ; allowed < 10; allowed++ {
				if _, refusal := h.tryQuery(t, query("")); refusal != nil {
					break
				}
			}
			require.LessOrEqual(t, allowed, 6, "%s: ten tokens for a megabyte", kind)
		}
		require.NoError(t, disk.Close())
	}
}

// Pages of any sizes, forwards and backwards, put together are the whole history.
func TestPagingIsComplete(t *testing.T) {
	h := newHouse(t, memory())
	all := fill(t, h.log, noon, 1000, withEverybody)
	filters := map[string]func(i int) bool{
		"":                              func(int) bool { return true },
		"juliet@verona.example":         func(i int) bool { return i%4 < 2 },
		"juliet@verona.example/balcony": func(i int) bool { return i%4 == 1 },
		"romeo@verona.example":          func(i int) bool { return i%4 == 3 },
		"balthasar@mantua.example":      func(i int) bool { return i%4 == 2 },
	}
	rapid.Check(t, func(rt *rapid.T) {
		h.budget = newBudget(1, 1e9, h.now)
		with := rapid.SampledFrom([]string{"", "juliet@verona.example", "juliet@verona.example/balcony",
			"romeo@verona.example", "balthasar@mantua.example"}).Draw(rt, "with")
		from := rapid.IntRange(0, len(all)).Draw(rt, "from")
		to := rapid.IntRange(from, len(all)).Draw(rt, "to")
		backward := rapid.Bool().Draw(rt, "backward")
		flip := rapid.Bool().Draw(rt, "flip")
		h.config.PageBytes = rapid.SampledFrom([]int{1, 1000, 10000, 1 << 20}).Draw(rt, "bytes")
		var fields []string
		if with != "" {
			fields = append(fields, "with", with)
		}
		if from > 0 {
			fields = append(fields, "start", stanza.FormatTime(noon.Add(time.Duration(from)*time.Second)))
		}
		fields = append(fields, "end", stanza.FormatTime(noon.Add(time.Duration(to)*time.Second-1)))
		var want, got []uint64
		for i := from; i < to; i++ {
			if filters[with](i) {
				want = append(want, uint64(all[i].ID))
			}
		}
		place := ""
		if backward {
			place = "<before/>"
		}
		for range 2100 {
			q := form(fmt.Sprintf("<max>%d</max>%s", rapid.IntRange(1, 300).Draw(rt, "max"), place), fields...)
			if flip {
				q = strings.Replace(q, "</query>", "<flip-page/></query>", 1)
			}
			r := h.query(t, q)
			if flip {
				reverse(r.ids)
			}
			if backward {
				got = append(append([]uint64{}, r.ids...), got...)
				place = "<before>" + r.first + "</before>"
			} else {
				got = append(got, r.ids...)
				place = "<after>" + r.last + "</after>"
			}
			if r.complete {
				break
			}
		}
		if fmt.Sprint(want) != fmt.Sprint(got) {
			rt.Fatalf("want %d messages, got %d", len(want), len(got))
		}
	})
}

func reverse(ids []uint64) {
	for i, j := 0, len(ids)-1; i < j; i, j = i+1, j-1 {
		ids[i], ids[j] = ids[j], ids[i]
	}
}
