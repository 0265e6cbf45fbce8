package pebble

import (
	"fmt"
	"math"
	"testing"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// TestNames: what a device named is found in whatever generation of its conversation it is, the newest of a name first,
// also in a log that is opened again; the rows are far fewer than the messages.
func TestNames(t *testing.T) {
	files := vfs.NewMem()
	opts := Options{files: files, packMessages: 1000, Logger: silent()}
	l := mustOpen(t, "log", opts)
	const total = 6000 // reaches generation 2
	id := opened(t, l)
	for n := 0; n < total; {
		var entries []*store.Append
		for ; len(entries) < 500; n++ {
			entries = append(entries, &store.Append{Message: store.Message{
				Conversation: id, Author: bob(), Stanza: []byte("<message/>"), StanzaID: fmt.Sprint(n % 5500),
			}})
		}
		require.NoError(t, put(t.Context(), l, someTime(), entries...))
	}
	check := func() {
		t.Helper()
		for n := range 5500 {
			want := n + 1 // numbers begin with 1
			if n < total-5500 {
				want += 5500
			}
			seq, message, err := l.Named(t.Context(), id, bob(), fmt.Sprint(n))
			require.NoError(t, err)
			require.EqualValues(t, want, seq)
			m, err := l.Message(t.Context(), message)
			require.NoError(t, err)
			require.EqualValues(t, want, m.Seq)
		}
		for _, author := range []store.Party{alice(), bob()} {
			_, _, err := l.Named(t.Context(), id, author, fmt.Sprint("none", author.Account))
			require.ErrorIs(t, err, store.ErrNotFound)
		}
		_, _, err := l.Named(t.Context(), id, alice(), "1")
		require.ErrorIs(t, err, store.ErrNotFound, "it is another author's")
	}
	check()
	<-l.packing.done
	lower, upper := bounds(keyNamed, uint64(id))
	it, err := l.db.NewIter(&engine.IterOptions{LowerBound: lower, UpperBound: upper})
	require.NoError(t, err)
	rows := 0
	for ok := it.First(); ok; ok = it.Next() {
		rows++
	}
	require.NoError(t, it.Close())
	require.Positive(t, rows)
	require.LessOrEqual(t, rows, 1+8+64)
	require.NoError(t, l.Close())
	l = mustOpen(t, "log", opts)
	check()
	require.NoError(t, l.Close())
}

// TestNameRows: a row has some 200 messages when its generation is full, and its key says which it is.
func TestNameRows(t *testing.T) {
	for seq, want := range map[uint64]int{
		1: 0, 511: 0, 512: 1, 4095: 1, 4096: 2, 32767: 2, 32768: 3, 1 << 40: 11, math.MaxUint64: 19,
	} {
		require.Equal(t, want, generationOf(seq), "number %d", seq)
	}
	n := name(0xfedcba9876543210)
	require.Equal(t, []uint32{0, 7, 0x3f, 0xfedcba98, 0xfedcba98}, []uint32{
		nameRowOf(n, 0), nameRowOf(n, 1), nameRowOf(n, 2), nameRowOf(n, 16), nameRowOf(n, 19),
	})
}

// TestRepeatedName: a device that gives every message the same id does not make a row grow with each.
func TestRepeatedName(t *testing.T) {
	l := mustOpen(t, "log", Options{files: vfs.NewMem(), packMessages: 200, Logger: silent()})
	id := opened(t, l)
	var entries []*store.Append
	for range 200 {
		entries = append(entries, &store.Append{Message: store.Message{
			Conversation: id, Author: bob(), Stanza: []byte("<message/>"), StanzaID: "always",
		}})
	}
	require.NoError(t, put(t.Context(), l, someTime(), entries...))
	require.NoError(t, put(t.Context(), l, someTime(), &store.Append{Message: store.Message{
		Conversation: id, Author: bob(), Stanza: []byte("<message/>"),
	}}))
	<-l.packing.done
	n := nameOf(id, bob(), "always")
	row, err := l.get(namedKey(nil, id, 0, nameRowOf(n, 0)))
	require.NoError(t, err)
	require.Len(t, row, namedSize)
	seq, _, err := l.Named(t.Context(), id, bob(), "always")
	require.NoError(t, err)
	require.EqualValues(t, 200, seq)
	require.NoError(t, l.Close())
}
