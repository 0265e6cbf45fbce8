package xmlstream

import (
	"errors"
	"fmt"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Marshal appends s as one self-contained element in canonical form, which Unmarshal reads back to an equal stanza.
// It is the form in which messages are stored.
func Marshal(dst []byte, s *stanza.Stanza) []byte { return Framed{}.AppendStanza(dst, s) }

// MarshalContent is Marshal that notes the stanza's content in c, which shares the memory of what is appended.
func MarshalContent(dst []byte, s *stanza.Stanza, c *stream.Content) []byte {
	dst = appendStanzaStart(dst, s, inClient)
	if len(s.Payload) == 0 {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	start := len(dst)
	dst = appendElements(dst, s.Payload)
	c.Keep(XML{}, dst[start:len(dst):len(dst)])
	return appendStanzaEnd(dst, s)
}

// MarshalElement appends e as one self-contained element in canonical form.
func MarshalElement(dst []byte, e *stanza.Element) []byte { return appendElement(dst, e, "") }

// Unmarshal reads a stanza that Marshal wrote, or any other XML document whose root is a stanza in jabber:client.
// The only limit is on nesting; the stanza shares no memory with data.
func Unmarshal(data []byte) (*stanza.Stanza, error) {
	var out *stanza.Stanza
	err := parse(data, false, func(b *builder) error {
		if b.s.kind == 0 {
			return errors.New("root is not a stanza")
		}
		s, bad := b.stanza()
		if bad != nil {
			return bad
		}
		out = s
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read stored stanza: %w", err)
	}
	return out, nil
}

// UnmarshalElement reads one element, with nothing before it or after it.
func UnmarshalElement(data []byte) (*stanza.Element, error) {
	var out *stanza.Element
	err := parse(data, true, func(b *builder) error {
		out = b.element()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read stored element: %w", err)
	}
	return out, nil
}

// parse reads the one element that data must be and hands its tape to build. A plain element is not taken as a stanza.
func parse(data []byte, plain bool, build func(*builder) error) error {
	if len(data) == 0 || data[0] != '<' {
		return malformed("element expected")
	}
	if len(data) > maxBytes {
		return tooBig()
	}
	d := Decoder{content: stanza.NSClient, phase: opened}
	s := scanners.Get().(*scanner)
	defer s.release()
	s.begin(stream.Limits{
		Bytes: maxBytes, Depth: 1 << 10, Elements: maxBytes, Attributes: maxBytes, Namespaces: maxBytes, Name: maxBytes,
	})
	s.plain = plain
	if len(data) > 1 && data[1] == '/' {
		return malformed("end tag expected nowhere")
	}
	if err := s.run(data, &d); err != nil {
		if err == errMore {
			return malformed("element is not finished")
		}
		return err
	}
	if s.pos != len(data) {
		return malformed("content after the element")
	}
	b := s.builder(data, &d)
	return build(&b)
}
