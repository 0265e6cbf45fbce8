// Package stream owns the contract between a negotiated link and its codecs: what a peer can send (Item), how it is
// decoded and encoded, stream errors (RFC 6120 §4.9), and Packet, an outgoing stanza whose content is encoded once per
// codec for all recipients.
//
// It contains no sockets, clocks or goroutines.
package stream

import (
	"errors"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// ItemKind says what a peer said.
type ItemKind uint8

// The kinds of item.
const (
	// Open is a stream header, or <open/> of RFC 7395.
	Open ItemKind = iota + 1
	// Stanza is a message, presence or IQ.
	Stanza
	// Element is any other top-level element: <auth/>, <starttls/>, <r/> …
	Element
	// Close is the end of the stream, or <close/> of RFC 7395.
	Close
	// Keepalive is white space between stanzas.
	Keepalive
)

// Item is one thing that a peer said. Only the field of its kind is set.
type Item struct {
	Kind    ItemKind
	Header  Header
	Stanza  *stanza.Stanza
	Element *stanza.Element
	// Malformed is set on a Stanza whose own content is wrong but whose stream is sound, such as an
	// address that cannot be parsed: the receiver answers Stanza with this error and carries on.
	Malformed *stanza.Error
	// Size is the number of bytes that the item took on the wire.
	Size int
}

// Header is a stream header (RFC 6120 §4.7). Addresses are kept as text: a bad one has its own stream error.
type Header struct {
	From, To, ID, Version, Lang string
	HasTo, HasVersion           bool
}

// Limits bound what a peer can make the decoder hold. Zero fields mean the defaults named.
type Limits struct {
	Bytes      int // of one top-level element; default 256 KiB
	Depth      int // of nesting, the top-level element being 1; default 64
	Elements   int // in one top-level element; default 5,000
	Attributes int // on one element; default 64
	Namespaces int // declarations in scope in one top-level element; default 32
	Name       int // bytes of one name; default 256
	Space      int // bytes of white space in a row between stanzas; default 64 KiB
}

// ErrMore says that the decoder needs more bytes.
var ErrMore = errors.New("more bytes needed")

// Decoder turns bytes into items. It is owned by one goroutine.
// After an error other than ErrMore it must not be used any more.
type Decoder interface {
	// Feed gives the decoder bytes to read; it copies what it must keep beyond the next Next that returns ErrMore.
	Feed(p []byte)
	// Next returns the next item, ErrMore, or a *Error that must end the stream.
	Next() (Item, error)
	// Restart begins a new stream on the same link (RFC 6120 §4.3.3); unread bytes stay.
	Restart()
	// SetLimits takes effect with the next item.
	SetLimits(Limits)
	// Buffered returns the number of bytes fed and not yet consumed by an item.
	Buffered() int
}

// Codec writes what is said on a link. It has no state: appending is a pure function.
type Codec interface {
	// Content is a small number below Contents. Codecs that write the elements of a stanza alike have the same one.
	Content() int
	AppendStanza(dst []byte, s *stanza.Stanza) []byte
	AppendElement(dst []byte, e *stanza.Element) []byte
	AppendOpen(dst []byte, h Header) []byte
	AppendError(dst []byte, e *Error) []byte
	AppendClose(dst []byte) []byte

	// AppendContent appends the elements of the packet's stanza, of which there is one at least. shared is false when
	// they are encoded otherwise for another recipient.
	AppendContent(dst []byte, p *Packet) (out []byte, shared bool)
	// AppendFrame appends all else of the packet. The content, of the given length, belongs at the place at in out.
	// With it, out is what AppendStanza appends for the whole packet.
	AppendFrame(dst []byte, p *Packet, content int) (out []byte, at int)
}

// Contents bounds Codec.Content.
const Contents = 2
