package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSplitterCutsAtEveryChunking feeds the same stream in pieces of every size.
func TestSplitterCutsAtEveryChunking(t *testing.T) {
	const stream = "<?xml version='1.0'?><stream:stream id='1>2' xmlns='jabber:client'>" +
		"<stream:features><bind xmlns='x'/></stream:features> \n" +
		"<message from='a@b/c' id='1'><body>1 22 x&lt;y</body></message><a xmlns='urn:xmpp:sm:3' " +
		"h='7'/></stream:stream>"
	want := []string{
		"<stream:stream id='1>2' xmlns='jabber:client'>",
		"<stream:features><bind xmlns='x'/></stream:features>",
		"<message from='a@b/c' id='1'><body>1 22 x&lt;y</body></message>",
		"<a xmlns='urn:xmpp:sm:3' h='7'/>",
		"</stream:stream>",
	}
	for size := 1; size <= len(stream); size++ {
		var s splitter
		var got []string
		for rest := stream; rest != ""; {
			n := min(size, len(rest))
			s.feed([]byte(rest[:n]))
			rest = rest[n:]
			for e := s.next(); e != nil; e = s.next() {
				got = append(got, string(e))
			}
		}
		require.Equal(t, want, got, "pieces of %d bytes", size)
	}
}

func TestAttrAndText(t *testing.T) {
	e := []byte(`<message id="7" from='a@b'><body id='9'>hello</body></message>`)
	require.Equal(t, "7", attr(e, "id"))
	require.Equal(t, "a@b", attr(e, "from"))
	require.Equal(t, "", attr(e, "to"))
	require.Equal(t, "proof", string(text([]byte("<success xmlns='x'>proof</success>"))))
	require.Nil(t, text([]byte("<success/>")))
	require.True(t, isElement([]byte("<a/>"), "a"))
	require.False(t, isElement([]byte("<auth/>"), "a"))
}

// TestHistogramError: a percentile is never below the true value and at most 1/32 above it.
func TestHistogramError(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 31, 32, 33, 1000, time.Millisecond, 15 * time.Second} {
		var h histogram
		h.add(d)
		h.add(time.Hour)
		got := time.Duration(h.percentiles().P50 * 1e6) // rank 1 of 2 is the larger one
		require.Equal(t, time.Hour, got.Round(time.Second))
		up := time.Duration(upper(bucketOf(uint64(d))))
		require.GreaterOrEqual(t, up, d)
		require.LessOrEqual(t, up-d, d/32+1)
	}
}
