// Package pbstream owns the compact form of a stream: length-prefixed Protocol Buffers frames, as specified in
// docs/protocol/compact.md. They can represent exactly what XML can represent.
//
// Frequent stanzas have typed fields, which are used only where the conversion loses nothing. Everything else is
// encoded as a tree of elements, with a dictionary for the usual namespaces and names. Typed forms are rows of a table
// (forms.go) that encoder and decoder interpret. Tests compare them with the types generated from pb/compact.proto.
//
// A Decoder is owned by one goroutine. The codec is a pure function. The package opens no connection and starts no
// goroutine. It never returns a stanza that stanza.Validate refuses.
package pbstream

import (
	"strings"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Fields of Frame.
const (
	frameMessage = iota + 1
	framePresence
	frameIQ
	frameAck
	frameAckRequest
	framePing
	framePong
	frameElement
	frameOpen
	frameClose
	frameError
)

// Fields of Stanza.
const (
	stanzaTo = iota + 1
	stanzaFrom
	stanzaID
	stanzaUUID
	stanzaKey
	stanzaType
	stanzaTypeName
	stanzaLang
	stanzaBody
	stanzaPayload
	stanzaOwnTo
	stanzaOwnFrom
)

// Fields of Payload.
const (
	kindElement = iota + 1
	kindSignal
	kindOriginID
	kindStanzaID
	kindPosition
	kindConfirmed
	kindDelivered
	kindRead
	kindDelay
	kindForwarded
	kindSent
	kindReceived
	kindResult
	kindStatus
	kindCaps
	kindPriority
	kindSync
	kindRoster
	kindConversation
	kindContacts
)

// forwardedMessage is a field of Forwarded.
const forwardedMessage = 2

// Fields of Element.
const (
	elementSpace = iota + 1
	elementSpaceName
	elementLocal
	elementLocalName
	elementAttrs
	elementText
	elementChildren
	elementNodes
	elementTextWord
	elementData
)

// Fields of Attr, the first four of which are as in Element.
const (
	attrValue = iota + 5
	attrUUID
	attrKey
	attrWord
	attrURI
	attrData
	attrURLData
	attrSeconds
	attrMillis
)

// Codec writes compact frames, for TCP and for WebSocket alike: a frame always has its length in front. It implements
// stream.Codec.
type Codec struct{}

var _ stream.Codec = Codec{}

// Content implements stream.Codec.
func (Codec) Content() int { return 1 }

// AppendStanza implements stream.Codec. What is not valid is made valid, as the XML codec does it: a character that XML
// cannot carry becomes U+FFFD, an element name that is no name an underscore; an attribute that has no name, or that is
// there twice, is left out.
func (Codec) AppendStanza(dst []byte, s *stanza.Stanza) []byte {
	at := aroundStanza(s, s.To)
	dst, frame := begin(dst)
	dst, inner := beginField(dst, stanzaFrame(s.Kind))
	dst = appendHead(dst, s)
	dst = appendPayloads(dst, s.Payload, &at)
	return end(end(dst, inner), frame)
}

// stanzaFrame returns the field of Frame for a stanza. The fields are numbered as the kinds are.
func stanzaFrame(kind stanza.Kind) uint32 {
	if kind < stanza.Message || kind > stanza.IQ {
		kind = stanza.Message
	}
	return uint32(kind)
}

// AppendContent implements stream.Codec.
func (Codec) AppendContent(dst []byte, p *stream.Packet) (out []byte, shared bool) {
	at := aroundPacket(p)
	out = appendPayloads(dst, p.Stanza.Payload, &at)
	return out, !at.personal
}

// AppendFrame implements stream.Codec.
func (Codec) AppendFrame(dst []byte, p *stream.Packet, content int) ([]byte, int) {
	s, at := p.Stanza, aroundPacket(p)
	dst, frame := begin(dst)
	var starts [5]int // of what has the content in it, from the outermost one
	inside := append(starts[:0], frame)
	open := func(field uint32) {
		var start int
		dst, start = beginField(dst, field)
		inside = append(inside, start)
	}
	if p.Role == stream.Carbon {
		open(frameMessage)
		dst = appendHead(dst, &stanza.Stanza{Type: s.Type, ID: s.ID, From: p.CopyTo.Bare(), To: p.CopyTo})
		open(stanzaPayload)
		if p.Sent {
			open(kindSent)
		} else {
			open(kindReceived)
		}
		open(forwardedMessage)
		dst = appendInnerHead(dst, s, &at)
	} else {
		open(stanzaFrame(s.Kind))
		dst = appendHead(dst, s)
	}
	place := len(dst)
	for i := range p.Own {
		dst = appendOne(dst, &p.Own[i], &at)
	}
	for i := len(inside) - 1; i >= 0; i-- {
		before := len(dst)
		dst = endWith(dst, inside[i], content)
		place += len(dst) - before
	}
	return dst, place
}

// AppendElement implements stream.Codec.
func (Codec) AppendElement(dst []byte, e *stanza.Element) []byte {
	dst, frame := begin(dst)
	switch {
	case e.Space == nsSM && e.Local == "r" && len(e.Attrs) == 0 && len(e.Nodes) == 0:
		dst = append(dst, frameAckRequest<<3|lengthType, 0)
	case e.Space == nsSM && e.Local == "a" && len(e.Attrs) == 1 && len(e.Nodes) == 0:
		if h, ok := parseNumber(e.Attr("h"), 1<<32-1); ok {
			dst, inner := beginField(dst, frameAck)
			dst = appendUint(dst, 1, h)
			return end(end(dst, inner), frame)
		}
		fallthrough
	default:
		var inner int
		dst, inner = beginField(dst, frameElement)
		dst = end(appendElement(dst, e, ""), inner)
	}
	return end(dst, frame)
}

// AppendOpen implements stream.Codec.
func (Codec) AppendOpen(dst []byte, h stream.Header) []byte {
	dst, frame := begin(dst)
	dst, inner := beginField(dst, frameOpen)
	dst = appendString(dst, 1, h.From)
	if h.HasTo || h.To != "" {
		dst = appendPresent(dst, 2, h.To)
	}
	dst = appendString(dst, 3, h.ID)
	if h.HasVersion || h.Version != "" {
		dst = appendPresent(dst, 4, h.Version)
	}
	dst = appendString(dst, 5, h.Lang)
	dst = appendUint(dst, 6, Schema)
	return end(end(dst, inner), frame)
}

// AppendError implements stream.Codec.
func (Codec) AppendError(dst []byte, e *stream.Error) []byte {
	dst, frame := begin(dst)
	dst, inner := beginField(dst, frameError)
	condition := e.Condition
	if index(conditions[:], condition) == 0 {
		condition = stream.UndefinedCondition
	}
	dst = appendUint(dst, 1, index(conditions[:], condition))
	dst = appendString(dst, 2, e.Text)
	if e.App != nil {
		var app int
		dst, app = beginField(dst, 3)
		dst = end(appendElement(dst, e.App, ""), app)
	}
	return end(end(dst, inner), frame)
}

// AppendClose implements stream.Codec.
func (Codec) AppendClose(dst []byte) []byte { return append(dst, 2, frameClose<<3|lengthType, 0) }

// AppendPing appends a ping, which the peer answers with a pong.
func (Codec) AppendPing(dst []byte) []byte { return append(dst, 2, framePing<<3|lengthType, 0) }

// AppendPong appends the answer to a ping.
func (Codec) AppendPong(dst []byte) []byte { return append(dst, 2, framePong<<3|lengthType, 0) }

// aroundStanza returns what is known around the elements of a stanza that is sent to an address.
func aroundStanza(s *stanza.Stanza, to jid.JID) around {
	return around{space: stanza.NSClient, id: s.ID, own: to.Bare().String()}
}

func aroundPacket(p *stream.Packet) around {
	if p.Role == stream.Carbon {
		return aroundStanza(p.Stanza, p.CopyTo)
	}
	return aroundStanza(p.Stanza, p.Stanza.To)
}

// appendHead appends the attributes of a stanza.
func appendHead(dst []byte, s *stanza.Stanza) []byte {
	from, to := s.From.String(), s.To.String()
	if resource, ok := ownResource(account(from), to); ok {
		dst = appendPresent(dst, stanzaOwnTo, resource)
	} else {
		dst = appendJID(dst, stanzaTo, to)
	}
	dst = appendJID(dst, stanzaFrom, from)
	if s.ID != "" {
		dst = appendID(dst, stanzaID, s.ID)
	}
	if n := index(types[:], s.Type); n != 0 {
		dst = appendUint(dst, stanzaType, n)
	} else {
		dst = appendString(dst, stanzaTypeName, s.Type)
	}
	return appendString(dst, stanzaLang, s.Lang)
}

// appendInnerHead appends the attributes of a stanza that is in another one. Its form can say each of them.
func appendInnerHead(dst []byte, s *stanza.Stanza, at *around) []byte {
	first := 0
	for a := range s.Attrs {
		var x *field
		dst, x = appendAttribute(dst, messageForm, at, &a, first)
		first = x.after
	}
	return dst
}

// appendPayloads appends the elements of a stanza.
func appendPayloads(dst []byte, payload []stanza.Element, at *around) []byte {
	if len(payload) > 0 && payload[0].Local == "body" {
		if text, ok := plainText(&payload[0], stanza.NSClient); ok && text != "" {
			dst = appendString(dst, stanzaBody, text)
			payload = payload[1:]
		}
	}
	for i := range payload {
		dst = appendOne(dst, &payload[i], at)
	}
	return dst
}

// appendOne appends an element of a stanza.
func appendOne(dst []byte, e *stanza.Element, at *around) []byte {
	dst, inner := beginField(dst, stanzaPayload)
	return end(appendPayload(dst, at, e), inner)
}

// account returns the bare form of the text of an address.
func account(text string) string {
	if i := strings.IndexByte(text, '/'); i >= 0 {
		return text[:i]
	}
	return text
}

// ownResource reports whether an address is that of the account, and with which resource.
func ownResource(account, text string) (string, bool) {
	if account == "" || len(text) < len(account) || text[:len(account)] != account {
		return "", false
	}
	rest := text[len(account):]
	if rest == "" {
		return "", true
	}
	return rest[1:], rest[0] == '/' && len(rest) > 1
}

// ownAddress is the inverse of ownResource.
func ownAddress(account, resource string) string {
	if resource == "" {
		return account
	}
	return account + "/" + resource
}

// plainText returns the text of an element in that namespace that has nothing else.
func plainText(e *stanza.Element, space string) (string, bool) {
	if len(e.Attrs) > 0 || e.Space != space {
		return "", false
	}
	return onlyText(e)
}

// onlyText returns the text of an element without child elements.
func onlyText(e *stanza.Element) (string, bool) {
	for i := range e.Nodes {
		if e.Nodes[i].Element != nil {
			return "", false
		}
	}
	return e.Text(), true
}
