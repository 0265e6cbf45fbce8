package xmlstream

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stream"
)

const openFramed = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.org' version='1.0'/>"

// framedDecoder returns a framed decoder that has read openFramed.
func framedDecoder(t testing.TB) *Decoder {
	t.Helper()
	d := NewFramedDecoder(stream.Limits{})
	items, err := drain(d, []byte(openFramed), whole)
	require.Nil(t, err)
	require.Len(t, items, 1)
	require.Equal(t, stream.Open, items[0].Kind)
	require.NoError(t, d.EndFrame())
	return d
}

// TestFrames covers A109: what is not exactly one element of RFC 7395 ends the stream.
func TestFrames(t *testing.T) {
	const message = "<message xmlns='jabber:client'><body>x</body></message>"
	for _, test := range []struct {
		name   string
		frames []string
		want   stream.Condition // "" for none
		items  int              // items before the error
	}{
		{"one stanza", []string{message}, "", 1},
		{"white space after it", []string{message + "\r\n"}, "", 1},
		{"two frames", []string{message, message}, "", 2},
		{"foreign element", []string{"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>eA==</auth>"}, "", 1},
		{"close", []string{"<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"}, "", 1},
		{"no element", []string{""}, stream.BadFormat, 0},
		{"only white space", []string{" "}, stream.BadFormat, 0},
		{"white space before it", []string{" " + message}, stream.BadFormat, 0},
		{"text", []string{"hello"}, stream.BadFormat, 0},
		{"two elements", []string{message + message}, stream.BadFormat, 0},
		{"element and text", []string{message + "x"}, stream.BadFormat, 0},
		{"unfinished element", []string{"<message xmlns='jabber:client'>"}, stream.NotWellFormed, 0},
		{"unfinished tag", []string{"<message"}, stream.NotWellFormed, 0},
		{"less-than", []string{"<"}, stream.NotWellFormed, 0},
		{"rest of an element in the next frame", []string{"<message xmlns='jabber:client'>", "</message>"},
			stream.NotWellFormed, 0},
		{"stream header of RFC 6120", []string{openTCP[len("<?xml version='1.0'?>"):]}, stream.PolicyViolation, 0},
		{"XML declaration", []string{"<?xml version='1.0'?>" + message}, stream.NotWellFormed, 0},
		{"end tag", []string{"</stream:stream>"}, stream.NotWellFormed, 0},
		{"stanza without namespace", []string{"<message/>"}, "", 1}, // an Element, which the session refuses
		{"open again", []string{openFramed}, stream.PolicyViolation, 0},
		{"unknown framing element", []string{"<x xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"}, stream.BadFormat, 0},
		{"unknown stanza", []string{"<x xmlns='jabber:client'/>"}, stream.UnsupportedStanzaType, 0},
		{"after close", []string{"<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>", message}, stream.NotWellFormed,
			1},
	} {
		for name, cut := range map[string]chunking{"whole": whole, "byte by byte": byteByByte} {
			t.Run(test.name+", "+name, func(t *testing.T) {
				d := framedDecoder(t)
				items, err := drainFrames(d, test.frames, cut)
				if test.want == "" {
					require.Nil(t, err)
				} else {
					require.NotNil(t, err, "accepted")
					require.Equal(t, test.want, err.Condition, err.Text)
				}
				if name == "whole" { // in pieces the first element is out before the second one comes
					require.Len(t, items, test.items)
				}
			})
		}
	}
}

func drainFrames(d *Decoder, frames []string, cut chunking) (items []stream.Item, err *stream.Error) {
	for _, frame := range frames {
		got, err := drain(d, []byte(frame), cut)
		items = append(items, got...)
		if err != nil {
			return items, err
		}
		if err := d.EndFrame(); err != nil {
			return items, err.(*stream.Error)
		}
	}
	return items, nil
}

// TestFramedStart covers the first frame of a stream (A109).
func TestFramedStart(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     stream.Condition
	}{
		{"header of RFC 6120", openTCP[len("<?xml version='1.0'?>"):], stream.InvalidNamespace},
		{"stanza", "<message xmlns='jabber:client'/>", stream.InvalidNamespace},
		{"open without namespace", "<open/>", stream.InvalidNamespace},
		{"other framing element", "<x xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>", stream.BadFormat},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := drain(NewFramedDecoder(stream.Limits{}), []byte(test.in), byteByByte)
			require.NotNil(t, err)
			require.Equal(t, test.want, err.Condition, err.Text)
		})
	}
}

func TestFramedRestart(t *testing.T) {
	d := framedDecoder(t)
	d.Restart()
	items, err := drain(d, []byte(openFramed), byteByByte)
	require.Nil(t, err)
	require.Len(t, items, 1)
	require.Equal(t, stream.Header{To: "example.org", HasTo: true, Version: "1.0", HasVersion: true}, items[0].Header)
	require.NoError(t, d.EndFrame())
}
