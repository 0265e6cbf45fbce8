package xmlstream

import (
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// XML writes a client's stream over TCP: stanzas inherit jabber:client from the stream header, and the stream's own
// elements its prefix (RFC 6120 §4.8.5). It implements stream.Codec.
type XML struct{}

// Framed writes WebSocket messages: each element stands alone and declares its namespace (RFC 7395 §3.3.3).
// It implements stream.Codec.
type Framed struct{}

var (
	_ stream.Codec = XML{}
	_ stream.Codec = Framed{}
)

// Content implements stream.Codec.
func (XML) Content() int { return 0 }

// Content implements stream.Codec: only start tags differ.
func (Framed) Content() int { return 0 }

// inClient is what a stanza declares that does not inherit its namespace.
const inClient = " xmlns='" + stanza.NSClient + "'"

// AppendStanza implements stream.Codec.
func (XML) AppendStanza(dst []byte, s *stanza.Stanza) []byte { return appendStanza(dst, s, "") }

// AppendStanza implements stream.Codec.
func (Framed) AppendStanza(dst []byte, s *stanza.Stanza) []byte {
	return appendStanza(dst, s, inClient)
}

// AppendContent implements stream.Codec.
func (XML) AppendContent(dst []byte, p *stream.Packet) ([]byte, bool) {
	return appendElements(dst, p.Stanza.Payload), true
}

// AppendContent implements stream.Codec.
func (Framed) AppendContent(dst []byte, p *stream.Packet) ([]byte, bool) {
	return XML{}.AppendContent(dst, p)
}

// AppendFrame implements stream.Codec.
func (XML) AppendFrame(dst []byte, p *stream.Packet, _ int) ([]byte, int) {
	return appendFrame(dst, p, "")
}

// AppendFrame implements stream.Codec.
func (Framed) AppendFrame(dst []byte, p *stream.Packet, _ int) ([]byte, int) {
	return appendFrame(dst, p, inClient)
}

// AppendElement implements stream.Codec.
func (XML) AppendElement(dst []byte, e *stanza.Element) []byte {
	if e.Space == stanza.NSStream {
		dst = append(dst, "<stream:"...)
		dst = appendName(dst, e.Local)
		return appendRest(dst, e, stanza.NSClient, "stream:")
	}
	return appendElement(dst, e, stanza.NSClient)
}

// AppendElement implements stream.Codec. Clients look for the prefix of the stream's elements, so it is kept.
func (Framed) AppendElement(dst []byte, e *stanza.Element) []byte {
	if e.Space == stanza.NSStream {
		dst = append(dst, "<stream:"...)
		dst = appendName(dst, e.Local)
		dst = append(dst, " xmlns:stream='"+stanza.NSStream+"'"...)
		return appendRest(dst, e, "", "stream:")
	}
	return appendElement(dst, e, "")
}

// AppendOpen implements stream.Codec (RFC 6120 §4.7 and §11.5).
func (XML) AppendOpen(dst []byte, h stream.Header) []byte {
	dst = append(dst, "<?xml version='1.0'?><stream:stream xmlns='"+stanza.NSClient+
		"' xmlns:stream='"+stanza.NSStream+"'"...)
	return append(appendHeader(dst, h), '>')
}

// AppendOpen implements stream.Codec (RFC 7395 §3.4).
func (Framed) AppendOpen(dst []byte, h stream.Header) []byte {
	dst = append(dst, "<open xmlns='"+NSFraming+"'"...)
	return append(appendHeader(dst, h), "/>"...)
}

func appendHeader(dst []byte, h stream.Header) []byte {
	if h.From != "" {
		dst = appendAttr(dst, "from", h.From)
	}
	if h.To != "" || h.HasTo {
		dst = appendAttr(dst, "to", h.To)
	}
	if h.ID != "" {
		dst = appendAttr(dst, "id", h.ID)
	}
	if h.Version != "" || h.HasVersion {
		dst = appendAttr(dst, "version", h.Version)
	}
	return appendLang(dst, h.Lang)
}

func appendLang(dst []byte, lang string) []byte {
	if lang == "" {
		return dst
	}
	dst = append(dst, " xml:lang='"...)
	dst = appendValue(dst, lang)
	return append(dst, '\'')
}

// AppendError implements stream.Codec.
func (c XML) AppendError(dst []byte, e *stream.Error) []byte {
	el := e.Element()
	return c.AppendElement(dst, &el)
}

// AppendError implements stream.Codec.
func (c Framed) AppendError(dst []byte, e *stream.Error) []byte {
	el := e.Element()
	return c.AppendElement(dst, &el)
}

// AppendClose implements stream.Codec.
func (XML) AppendClose(dst []byte) []byte { return append(dst, "</stream:stream>"...) }

// AppendClose implements stream.Codec (RFC 7395 §3.6).
func (Framed) AppendClose(dst []byte) []byte { return append(dst, "<close xmlns='"+NSFraming+"'/>"...) }

// appendStanza appends s; declaration is what its start tag must declare.
func appendStanza(dst []byte, s *stanza.Stanza, declaration string) []byte {
	dst = appendStanzaStart(dst, s, declaration)
	if len(s.Payload) == 0 {
		return append(dst, "/>"...)
	}
	dst = appendElements(append(dst, '>'), s.Payload)
	return appendStanzaEnd(dst, s)
}

// appendStanzaStart appends the start tag of s up to its end.
func appendStanzaStart(dst []byte, s *stanza.Stanza, declaration string) []byte {
	dst = append(dst, '<')
	dst = append(dst, s.Kind.String()...)
	dst = append(dst, declaration...)
	if !s.From.IsZero() {
		dst = append(dst, " from='"...)
		dst = append(appendValue(dst, s.From.String()), '\'')
	}
	if !s.To.IsZero() {
		dst = append(dst, " to='"...)
		dst = append(appendValue(dst, s.To.String()), '\'')
	}
	if s.Type != "" {
		dst = append(dst, " type='"...)
		dst = append(appendValue(dst, s.Type), '\'')
	}
	if s.ID != "" {
		dst = append(dst, " id='"...)
		dst = append(appendValue(dst, s.ID), '\'')
	}
	return appendLang(dst, s.Lang)
}

func appendStanzaEnd(dst []byte, s *stanza.Stanza) []byte {
	dst = append(dst, "</"...)
	dst = append(dst, s.Kind.String()...)
	return append(dst, '>')
}

// appendElements appends the elements of a stanza.
func appendElements(dst []byte, list []stanza.Element) []byte {
	for i := range list {
		dst = appendElement(dst, &list[i], stanza.NSClient)
	}
	return dst
}

// appendFrame appends all of a packet but its content, and returns the place of that.
func appendFrame(dst []byte, p *stream.Packet, start string) ([]byte, int) {
	s := p.Stanza
	carbon := p.Role == stream.Carbon
	if carbon {
		dst = appendStanzaStart(dst, &stanza.Stanza{
			Kind: stanza.Message, Type: s.Type, ID: s.ID, From: p.CopyTo.Bare(), To: p.CopyTo,
		}, start)
		dst = append(append(dst, "><"...), p.Wrapper()...)
		dst = append(dst, " xmlns='"+stanza.NSCarbons+"'><forwarded xmlns='"+stanza.NSForward+"'>"...)
		start = inClient
	}
	dst = appendStanzaStart(dst, s, start)
	at := len(dst) + 1
	if len(s.Payload)+len(p.Own) == 0 {
		dst = append(dst, "/>"...)
		at++
	} else {
		dst = appendElements(append(dst, '>'), p.Own)
		dst = appendStanzaEnd(dst, s)
	}
	if carbon {
		dst = append(append(append(dst, "</forwarded></"...), p.Wrapper()...), "></message>"...)
	}
	return dst, at
}
