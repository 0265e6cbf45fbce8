package pbstream

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// FuzzRoundTrip takes documents through XML, compact and XML again.
func FuzzRoundTrip(f *testing.F) {
	for _, xml := range stanzas {
		f.Add([]byte(xml))
	}
	for _, test := range sizes {
		f.Add([]byte(test.xml))
	}
	for _, xml := range elements {
		f.Add([]byte(xml))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		d := xmlstream.NewDecoder(stream.Limits{})
		d.Feed(xmlstream.XML{}.AppendOpen(nil, header))
		if _, err := d.Next(); err != nil {
			t.Fatal(err)
		}
		d.Feed(in)
		for {
			item, err := d.Next()
			if err != nil {
				break
			}
			switch item.Kind {
			case stream.Stanza:
				checkStanza(t, item.Stanza)
			case stream.Element:
				checkElement(t, item.Element)
			}
		}
		// The same in the form in which clients of the compact stream say it, and as one payload.
		if e, err := xmlstream.UnmarshalElement(in); err == nil {
			checkStanza(t, &stanza.Stanza{Kind: stanza.Message, Payload: []stanza.Element{*e, *e}})
		}
	})
}

// narrow makes limits bite in short inputs.
var narrow = stream.Limits{Bytes: 60, Depth: 3, Elements: 5, Attributes: 3, Namespaces: 3, Name: 20, Space: 4}

// FuzzDecoder asks that nothing panics, that items and errors do not depend on how the input is cut, that what is
// accepted is what the generated types understand and what XML can carry, and that it survives being encoded again.
func FuzzDecoder(f *testing.F) {
	for i, xml := range stanzas {
		f.Add(Codec{}.AppendStanza(nil, fromXML(f, xml)), uint8(i))
	}
	for i, xml := range elements {
		f.Add(Codec{}.AppendElement(nil, elementXML(f, xml)), uint8(i))
	}
	for i, x := range exchanges(f) {
		for _, s := range x.Steps {
			wire, err := hex.DecodeString(string(s.Hex))
			require.NoError(f, err)
			f.Add(wire, uint8(i))
		}
	}
	for i, test := range refused {
		f.Add(test.in, uint8(i))
	}
	f.Fuzz(func(t *testing.T, in []byte, mode uint8) {
		limits := stream.Limits{}
		if mode&1 != 0 {
			limits = narrow
		}
		for name, decoder := range map[string]func() *Decoder{
			"fresh":  func() *Decoder { return NewDecoder(limits) },
			"opened": func() *Decoder { return openedDecoder(t, limits) },
		} {
			items, err := drain(decoder(), in, whole)
			for _, cut := range []chunking{every(1), every(2 + int(mode>>1))} {
				again, failed := drain(decoder(), in, cut)
				require.Equal(t, err, failed, name)
				require.Equal(t, len(items), len(again), name)
				for i := range items {
					require.True(t, equalItems(items[i], again[i]), "%s: %+v, in pieces %+v", name, items[i], again[i])
				}
			}
			at := 0
			for _, item := range items {
				checkAccepted(t, in[at:at+item.Size], item)
				at += item.Size
			}
		}
	})
}

// checkAccepted asks everything of an item that was accepted.
func checkAccepted(t *testing.T, wire []byte, item stream.Item) {
	checkOracle(t, wire, item)
	switch item.Kind {
	case stream.Stanza:
		s := item.Stanza
		require.NoError(t, s.Validate())
		again := Codec{}.AppendStanza(nil, s)
		back := one(t, again)
		require.True(t, s.Equal(back.Stanza), "%x", again)
		require.Equal(t, again, Codec{}.AppendStanza(nil, back.Stanza))
		// XML says it too, and within the same limits but for the bytes.
		checkSpoken(t, xmlstream.XML{}.AppendStanza(nil, s), stream.Item{Kind: stream.Stanza, Stanza: s})
	case stream.Element:
		e := item.Element
		require.NoError(t, e.Validate())
		again := Codec{}.AppendElement(nil, e)
		back := one(t, again)
		require.True(t, e.Equal(back.Element), "%x", again)
		require.Equal(t, again, Codec{}.AppendElement(nil, back.Element))
		checkSpoken(t, xmlstream.XML{}.AppendElement(nil, e), stream.Item{Kind: stream.Element, Element: e})
	case stream.Open:
		d := NewDecoder(unlimited)
		back, err := drain(d, Codec{}.AppendOpen(nil, item.Header), whole)
		require.Nil(t, err)
		require.Equal(t, item.Header, back[0].Header)
	}
}

// checkSpoken asks that XML says one item with the usual limits.
func checkSpoken(t *testing.T, xml []byte, want stream.Item) {
	d := xmlstream.NewDecoder(stream.Limits{Bytes: 1 << 28})
	d.Feed(xmlstream.XML{}.AppendOpen(nil, header))
	if _, err := d.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Next(); err != stream.ErrMore {
		t.Fatal(err)
	}
	d.Feed(xml)
	item, err := d.Next()
	require.NoError(t, err, "%q", xml)
	require.Equal(t, want.Kind, item.Kind, "%q", xml)
	require.True(t, want.Stanza.Equal(item.Stanza), "%q", xml)
	require.True(t, want.Element.Equal(item.Element), "%q", xml)
	_, err = d.Next()
	require.Equal(t, stream.ErrMore, err, "%q", xml)
}
