package archive

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
)

func newIDs(t testing.TB, key string) *Archive {
	block, err := newBlock([]byte(key))
	require.NoError(t, err)
	return &Archive{block: block, domain: jid.MustParse("verona.example")}
}

func TestStanzaID(t *testing.T) {
	for _, key := range []string{"sixteen bytes or", "thirty-two bytes are a longer key"[:32]} {
		a := newIDs(t, key)
		seen := map[string]bool{}
		for _, id := range []uint64{1, 2, 3, 1 << 20, 1 << 43, math.MaxUint64} {
			text := a.StanzaID(id)
			require.Len(t, text, 22)
			require.NotContains(t, text, "=")
			require.False(t, seen[text])
			seen[text] = true
			got, ok := a.ParseStanzaID(text)
			require.True(t, ok)
			require.Equal(t, id, got)
			require.Equal(t, text, a.StanzaID(id), "it is stable")

			other := newIDs(t, "another key, 16b")
			_, ok = other.ParseStanzaID(text)
			require.False(t, ok, "another server's")
		}
	}
}

func TestParseStanzaIDRefuses(t *testing.T) {
	a := newIDs(t, "sixteen bytes or")
	good := a.StanzaID(42)
	for _, text := range []string{
		"", " ", "28482-98726-73623", good[:21], good + "A", good + "==", strings.Repeat("A", 22), "1",
		good[:10] + "+" + good[11:], "\n" + good[1:], a.StanzaID(0),
	} {
		_, ok := a.ParseStanzaID(text)
		require.False(t, ok, "%q", text)
	}
	// The last character has bits that are not part of the block: only one way to write it is ours.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	count := 0
	for _, c := range alphabet {
		if _, ok := a.ParseStanzaID(good[:21] + string(c)); ok {
			count++
		}
	}
	require.Equal(t, 1, count)
}

func TestStanzaIDAllocations(t *testing.T) {
	a := newIDs(t, "sixteen bytes or")
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { a.StanzaID(7) }), 1.0)
}

func TestKeyLength(t *testing.T) {
	for n := range 40 {
		_, err := newBlock(make([]byte, n))
		require.Equal(t, n == 16 || n == 32, err == nil, "%d bytes", n)
	}
}

func FuzzParseStanzaID(f *testing.F) {
	a := newIDs(f, "sixteen bytes or")
	f.Add(a.StanzaID(1))
	f.Add("28482-98726-73623")
	f.Add(strings.Repeat("A", 22))
	f.Fuzz(func(t *testing.T, text string) {
		id, ok := a.ParseStanzaID(text)
		if ok && a.StanzaID(id) != text {
			t.Fatalf("%q is taken for message %d, whose stanza-id is %q", text, id, a.StanzaID(id))
		}
	})
}
