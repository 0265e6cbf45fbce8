package xmlstream

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// TestLimitEdges feeds each limit exactly, which passes, and one more, which does not (A21, A22, A23).
func TestLimitEdges(t *testing.T) {
	rep := strings.Repeat
	for _, test := range []struct {
		row, name string
		limits    stream.Limits
		in        func(n int) string // input that needs n
		limit     int
	}{
		{"A21", "bytes of a message", stream.Limits{Bytes: 10000}, func(n int) string {
			return "<message><body>" + rep("x", n-len("<message><body></body></message>")) + "</body></message>"
		}, 10000},
		{"A21", "bytes, default", stream.Limits{}, func(n int) string {
			return "<message>" + rep("<a>b</a>", 100) + rep(" ", n-len("<message></message>")-800) + "</message>"
		}, 256 << 10},
		{"A21", "bytes of an attribute", stream.Limits{Bytes: 10000}, func(n int) string {
			return "<message id='" + rep("x", n-len("<message id=''/>")) + "'/>"
		}, 10000},
		{"A21", "bytes of white space in a tag", stream.Limits{Bytes: 10000}, func(n int) string {
			return "<message" + rep(" ", n-len("<message/>")) + "/>"
		}, 10000},
		{"A21", "bytes of white space in an end tag", stream.Limits{Bytes: 10000}, func(n int) string {
			return "<message></message" + rep(" ", n-len("<message></message>")) + ">"
		}, 10000},
		{"A21", "bytes of CDATA", stream.Limits{Bytes: 10000}, func(n int) string {
			return "<message><![CDATA[" + rep("]", n-len("<message><![CDATA[]]></message>")) + "]]></message>"
		}, 10000},
		{"A21", "bytes of references", stream.Limits{Bytes: 10000}, func(n int) string {
			return "<message><b>" + rep("&lt;", (n-len("<message><b></b></message>"))/4) +
				rep("x", (n-len("<message><b></b></message>"))%4) + "</b></message>"
		}, 10000},
		{"A22", "depth", stream.Limits{}, func(n int) string {
			return "<message>" + rep("<a>", n-1) + rep("</a>", n-1) + "</message>"
		}, 64},
		{"A22", "depth of empty elements", stream.Limits{Depth: 2}, func(n int) string {
			return "<message>" + rep("<a>", n-2) + "<b/>" + rep("</a>", n-2) + "</message>"
		}, 2},
		{"A22", "elements before authentication", stream.Limits{Elements: 32}, func(n int) string {
			return "<message>" + rep("<a/>", n-1) + "</message>"
		}, 32},
		{"A22", "elements, default", stream.Limits{}, func(n int) string {
			return "<message><x>" + rep("<a/>", n-2) + "</x></message>"
		}, 5000},
		{"A22", "attributes", stream.Limits{}, func(n int) string {
			return "<message><a" + attributes(" a%d='1'", n) + "/></message>"
		}, 64},
		{"A22", "attributes of the stanza", stream.Limits{Attributes: 3}, func(n int) string {
			return "<message" + attributes(" a%d='1'", n) + "/>"
		}, 3},
		{"A22", "attributes and declarations", stream.Limits{Attributes: 8}, func(n int) string {
			return "<message><a" + attributes(" a%d='1'", 4) + attributes(" xmlns:p%d='u'", n-4) + "/></message>"
		}, 8},
		{"A22", "namespaces on one element", stream.Limits{}, func(n int) string {
			return "<message><a" + attributes(" xmlns:p%d='u'", n) + "/></message>"
		}, 32},
		{"A22", "namespaces in scope", stream.Limits{}, func(n int) string {
			return "<message>" + rep("<b xmlns='u'/>", 40) + rep("<a xmlns='u'>", n) + rep("</a>", n) + "</message>"
		}, 32},
		{"A22", "name", stream.Limits{}, func(n int) string { return "<message><" + rep("a", n) + "/></message>" },
			256},
		{"A22", "name with prefix", stream.Limits{}, func(n int) string {
			return "<message><p:" + rep("a", n-2) + " xmlns:p='u'/></message>"
		}, 256},
		{"A22", "name beyond ASCII", stream.Limits{}, func(n int) string {
			return "<message><" + rep("é", n/2) + rep("a", n%2) + "/></message>"
		}, 256},
		{"A22", "name of an attribute", stream.Limits{},
			func(n int) string { return "<message " + rep("a", n) + "=''/>" }, 256},
		{"A22", "name of a namespace", stream.Limits{},
			func(n int) string { return "<message><a xmlns='" + rep("u", n) + "'/></message>" }, 256},
		{"A23", "white space", stream.Limits{}, func(n int) string { return rep(" ", n) + "<message/>" }, 64 << 10},
		{"A23", "white space after a stanza", stream.Limits{Space: 3},
			func(n int) string { return "   <iq/>" + rep("\n", n) }, 3},
		{"A23", "white space, configured", stream.Limits{Space: 3},
			func(n int) string { return "\r\n" + rep("\t", n-2) + "<message/>" }, 3},
	} {
		for name, cut := range map[string]chunking{"whole": whole, "byte by byte": byteByByte,
			"4096 bytes": every(4096)} {
			t.Run(test.row+" "+test.name+", "+name, func(t *testing.T) {
				items, err := drain(openedDecoder(t, test.limits), []byte(test.in(test.limit)+"<presence/>"), cut)
				require.Nil(t, err, "at the limit")
				require.Len(t, items, 2)
				require.Equal(t, stanza.Presence, items[1].Stanza.Kind)
				_, err = drain(openedDecoder(t, test.limits), []byte(test.in(test.limit+1)), cut)
				require.NotNil(t, err, "beyond the limit")
				require.Equal(t, stream.PolicyViolation, err.Condition, err.Text)
				if test.row == "A21" {
					require.NotNil(t, err.App)
					require.Equal(t, "stanza-too-big", err.App.Local)
					require.Equal(t, "urn:xmpp:errors", err.App.Space)
				}
			})
		}
	}
}

// attributes repeats a format with 0, 1, … n-1.
func attributes(format string, n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, format, i)
	}
	return out.String()
}

// TestHeaderLimits asks that the limits hold before the stream is open.
func TestHeaderLimits(t *testing.T) {
	header := strings.TrimPrefix(openTCP, "<?xml version='1.0'?>")
	limits := stream.Limits{Bytes: len(header)}
	items, err := drain(NewDecoder(limits), []byte(header), byteByByte)
	require.Nil(t, err)
	require.Len(t, items, 1)

	limits.Bytes--
	for _, in := range []string{header, "<a" + strings.Repeat(" ", 1000)} {
		_, err = drain(NewDecoder(limits), []byte(in), byteByByte)
		require.NotNil(t, err)
		require.Equal(t, stream.PolicyViolation, err.Condition)
	}
	_, err = drain(NewDecoder(limits), []byte("<?xml "+strings.Repeat(" ", 1000)), byteByByte)
	require.NotNil(t, err)
	require.Equal(t, stream.PolicyViolation, err.Condition)
	_, err = drain(NewDecoder(stream.Limits{Space: 10}), []byte(strings.Repeat(" ", 11)), byteByByte)
	require.NotNil(t, err)
	require.Equal(t, stream.PolicyViolation, err.Condition)
}

// TestEndTagLimit asks that the end of the stream cannot be drawn out.
func TestEndTagLimit(t *testing.T) {
	_, err := drain(openedDecoder(t, stream.Limits{}), []byte("</stream:stream"+strings.Repeat(" ", 300)), byteByByte)
	require.NotNil(t, err)
	require.Equal(t, stream.PolicyViolation, err.Condition)
}

func TestReferenceLimit(t *testing.T) {
	_, err := drain(openedDecoder(t, stream.Limits{}), []byte("<message>&#"+strings.Repeat("0", 100)), byteByByte)
	require.NotNil(t, err)
	require.Equal(t, stream.PolicyViolation, err.Condition)
}

// TestLimitsTakeEffectWithTheNextItem pins what SetLimits promises.
func TestLimitsTakeEffectWithTheNextItem(t *testing.T) {
	d := openedDecoder(t, stream.Limits{})
	d.Feed([]byte("<message><a/>"))
	_, err := d.Next()
	require.Equal(t, stream.ErrMore, err)
	d.SetLimits(stream.Limits{Elements: 2})
	items, failed := drain(d, []byte("<b/><c/></message>"), whole)
	require.Nil(t, failed)
	require.Len(t, items, 1)
	_, failed = drain(d, []byte("<message><a/><b/>"), whole)
	require.NotNil(t, failed)
	require.Equal(t, stream.PolicyViolation, failed.Condition)
}

// retained is the memory that a decoder holds on to, its own buffers and tapes.
func retained(d *Decoder) int {
	s := d.scanner
	if s == nil {
		return 0
	}
	return cap(s.own) + cap(s.esc)
}

// TestNothingGrowsBeyondLimit feeds what never ends and watches the memory (A21, A23): the bytes kept never exceed the
// limit, and what is unescaped never exceeds what came in.
func TestNothingGrowsBeyondLimit(t *testing.T) {
	const limit = 100 << 10
	for _, test := range []struct{ name, start, more string }{
		{"text", "<message><body>", "x"},
		{"white space in a stanza", "<message>", " "},
		{"attribute", "<message id='", "x"},
		{"references", "<message><body>", "&lt;"},
		{"line ends", "<message><body>", "\r\n"},
		{"dropped references", "<message>", "&lt;<a/>"},
		{"CDATA", "<message><![CDATA[", "]"},
		{"white space in a tag", "<message", "\n"},
		{"elements", "<message>", "<a/>"},
		{"white space between stanzas", "", " "},
	} {
		for _, size := range []int{1, 1000, 1 << 20} {
			t.Run(fmt.Sprintf("%s, %d", test.name, size), func(t *testing.T) {
				d := openedDecoder(t, stream.Limits{Bytes: limit, Elements: 1 << 20})
				_, err := drain(d, []byte(test.start), whole)
				require.Nil(t, err)
				chunk := []byte(strings.Repeat(test.more, max(1, size/len(test.more))))
				fed := 0
				for fed < 10*limit {
					d.Feed(chunk)
					fed += len(chunk)
					var next error
					for next == nil {
						_, next = d.Next()
						require.LessOrEqual(t, retained(d), 3*limit)
						if d.scanner != nil {
							require.LessOrEqual(t, cap(d.scanner.own), max(limit, 16<<10), "input kept")
						}
					}
					if next != stream.ErrMore {
						err := next.(*stream.Error)
						require.Equal(t, stream.PolicyViolation, err.Condition)
						require.Zero(t, retained(d), "nothing is held after an error")
						return
					}
				}
				t.Fatal("no end to it")
			})
		}
	}
}

// TestLargeChunkIsNotCopied asks that of a chunk much larger than the limit only what may still count is copied.
func TestLargeChunkIsNotCopied(t *testing.T) {
	const limit = 100 << 10
	chunk := []byte(strings.Repeat("x", 16<<20))
	d := openedDecoder(t, stream.Limits{Bytes: limit})
	_, err := drain(d, []byte("<message><body>"), whole)
	require.Nil(t, err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	d.Feed(chunk)
	_, next := d.Next()
	runtime.ReadMemStats(&after)
	require.ErrorContains(t, next, "too many bytes")
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4*limit))
}

// TestDroppedTextIsNotKept asks that text between payloads leaves nothing behind, not even unescaped.
func TestDroppedTextIsNotKept(t *testing.T) {
	d := openedDecoder(t, stream.Limits{})
	_, err := drain(d, []byte("<message>"+strings.Repeat("&lt;\r\n<a/>", 100)), whole)
	require.Nil(t, err)
	require.Empty(t, d.scanner.esc)
}

// TestReadingIsLinear feeds a megabyte byte by byte into each construct that has no limit of its own. Reading anything
// again from its start, or moving it, would take a minute or more.
func TestReadingIsLinear(t *testing.T) {
	for _, test := range []struct{ name, start, more string }{
		{"text", "<message><body>", "x"},
		{"attribute", "<message id='", "x"},
		{"references", "<message><body>", "&lt;"},
		{"CDATA", "<message><![CDATA[", "]"},
		{"white space in a tag", "<message", "\n"},
		{"white space before a value", "<message id=", "\n"},
		{"white space in an end tag", "<message></message", " "},
	} {
		t.Run(test.name, func(t *testing.T) {
			began := time.Now()
			d := openedDecoder(t, stream.Limits{Bytes: 2 << 20})
			_, err := drain(d, []byte(test.start+strings.Repeat(test.more, (1<<20)/len(test.more))), byteByByte)
			require.Nil(t, err)
			require.Less(t, time.Since(began), 20*time.Second)
		})
	}
}
