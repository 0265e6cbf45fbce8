package pbstream

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// chunking says how input is cut before it is fed.
type chunking func(in []byte) [][]byte

func whole(in []byte) [][]byte { return [][]byte{in} }

// every cuts input into pieces of n bytes.
func every(n int) chunking {
	return func(in []byte) (out [][]byte) {
		for len(in) > n {
			out, in = append(out, in[:n]), in[n:]
		}
		return append(out, in)
	}
}

var chunkings = map[string]chunking{"whole": whole, "byte by byte": every(1), "7 bytes": every(7)}

// drain reads all items that the input makes. The error is nil when the decoder only wants more. Each chunk is
// overwritten once the decoder has asked for more, as a link's read buffer is.
func drain(d *Decoder, in []byte, cut chunking) ([]stream.Item, *stream.Error) {
	var items []stream.Item
	for _, chunk := range cut(in) {
		chunk = append([]byte(nil), chunk...)
		d.Feed(chunk)
		for {
			item, err := d.Next()
			if err == stream.ErrMore {
				break
			}
			if err != nil {
				var e *stream.Error
				if !errors.As(err, &e) {
					panic(err)
				}
				return items, e
			}
			items = append(items, item)
		}
		for i := range chunk {
			chunk[i] = 'X'
		}
	}
	return items, nil
}

// unlimited is more than any test needs.
var unlimited = stream.Limits{Bytes: 1 << 28, Depth: 1 << 20, Elements: 1 << 20, Attributes: 1 << 20,
	Namespaces: 1 << 20, Name: 1 << 20, Space: 1 << 20}

var header = stream.Header{To: "example.org", HasTo: true, Version: "1.0", HasVersion: true, Lang: "en"}

// openedDecoder returns a decoder that has read a header.
func openedDecoder(t testing.TB, limits stream.Limits) *Decoder {
	t.Helper()
	d := NewDecoder(stream.Limits{})
	items, err := drain(d, Codec{}.AppendOpen(nil, header), whole)
	require.Nil(t, err)
	require.Len(t, items, 1)
	require.Equal(t, header, items[0].Header)
	d.SetLimits(limits)
	return d
}

// one decodes bytes that must be one item.
func one(t testing.TB, in []byte) stream.Item {
	t.Helper()
	items, err := drain(openedDecoder(t, unlimited), in, whole)
	require.Nil(t, err, "%x", in)
	require.Len(t, items, 1, "%x", in)
	require.Equal(t, len(in), items[0].Size)
	return items[0]
}

func equalItems(a, b stream.Item) bool {
	return a.Kind == b.Kind && a.Header == b.Header && a.Size == b.Size && a.Stanza.Equal(b.Stanza) &&
		a.Element.Equal(b.Element) && (a.Malformed == nil) == (b.Malformed == nil)
}

// fromXML reads a stanza in jabber:client.
func fromXML(t testing.TB, xml string) *stanza.Stanza {
	t.Helper()
	for _, name := range []string{"<message", "<presence", "<iq"} {
		if len(xml) > len(name) && xml[:len(name)] == name {
			s, err := xmlstream.Unmarshal([]byte(name + " xmlns='jabber:client'" + xml[len(name):]))
			require.NoError(t, err, xml)
			return s
		}
	}
	require.Fail(t, "no stanza", xml)
	return nil
}

func elementXML(t testing.TB, xml string) *stanza.Element {
	t.Helper()
	e, err := xmlstream.UnmarshalElement([]byte(xml))
	require.NoError(t, err, xml)
	return e
}
