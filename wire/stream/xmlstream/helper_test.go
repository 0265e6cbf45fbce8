package xmlstream

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// chunking says how input is cut before it is fed.
type chunking func(in []byte) [][]byte

func whole(in []byte) [][]byte { return [][]byte{in} }

func byteByByte(in []byte) [][]byte {
	var out [][]byte
	for i := range in {
		out = append(out, in[i:i+1])
	}
	return out
}

// every cuts input into pieces of n bytes.
func every(n int) chunking {
	return func(in []byte) (out [][]byte) {
		for len(in) > n {
			out, in = append(out, in[:n]), in[n:]
		}
		return append(out, in)
	}
}

var chunkings = map[string]chunking{"whole": whole, "byte by byte": byteByByte, "7 bytes": every(7)}

// drain reads all items that the input makes, white space between stanzas left out. The error is nil when the decoder
// only wants more. Each chunk is overwritten once the decoder has asked for more, as a link's read buffer is.
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
			if item.Kind != stream.Keepalive {
				items = append(items, item)
			}
		}
		for i := range chunk {
			chunk[i] = 'X'
		}
	}
	return items, nil
}

// openedDecoder returns a decoder that has read openTCP.
func openedDecoder(t testing.TB, limits stream.Limits) *Decoder {
	t.Helper()
	d := NewDecoder(stream.Limits{})
	items, err := drain(d, []byte(openTCP), whole)
	require.Nil(t, err)
	require.Len(t, items, 1)
	require.Equal(t, stream.Open, items[0].Kind)
	d.SetLimits(limits)
	return d
}

func equalItems(a, b stream.Item) bool {
	return a.Kind == b.Kind && a.Header == b.Header && a.Size == b.Size && a.Stanza.Equal(b.Stanza) &&
		a.Element.Equal(b.Element) && (a.Malformed == nil) == (b.Malformed == nil)
}

func element(t testing.TB, xml string) *stanza.Element {
	t.Helper()
	e, err := UnmarshalElement([]byte(xml))
	require.NoError(t, err, xml)
	return e
}
