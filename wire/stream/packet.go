package stream

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Role says what a packet is to the session that gets it, so that nobody has to look into its payload to find out.
type Role uint8

// The roles of a packet.
const (
	// Live: the stanza itself, as it comes.
	Live Role = iota
	// Carbon: a copy of a message that went to another device, or came from one (XEP-0280).
	Carbon
	// Replay: a message that waited for a device, as it is delivered late (XEP-0160).
	Replay
	// History: a result of a history query (XEP-0313), which belongs before the answer that ends the page.
	History
)

// Packet is a stanza on its way to one or more links. It is immutable but for its caches, and may be queued on any
// number of links at once.
//
// What is written consists of segments: the header, the stanza's own elements, what the server adds for this recipient
// (Own), and in a carbon the wrapper around all of it. The stanza's elements are the Content. They are encoded once for
// each codec and shared by all packets that have the same Content; the rest is short, and is encoded for each link.
// Whole returns all segments as one stanza.
type Packet struct {
	// Stanza is what is sent; nobody changes it. That of a carbon is the message that was copied.
	Stanza *stanza.Stanza
	// Own is what the server says to this recipient after the stanza's elements: the identity and the number of the
	// message, the time of a delay.
	Own []stanza.Element
	// Content is shared with other packets whose stanzas have the same ID and Payload; nil when there is none.
	Content *Content
	// ArchiveID is the message's position in the log, 0 when it is not stored. Also are positions of markers that come
	// with it, which are lower: whoever has the packet has all of them.
	ArchiveID uint64
	Also      []uint64
	// Role says what it is. Only what is Live is copied to other devices.
	Role Role
	// Sent, of a carbon: the account has sent the message, from another device. Otherwise it has received it there.
	Sent bool
	// CopyTo is the session that a carbon is for.
	CopyTo jid.JID

	alone Content // when it is not shared
}

// Carbon returns the copy of the message for a session. That it arrived counts as the arrival of the message itself
// when the account has received it; of one that it has sent, it says nothing.
func (p *Packet) Carbon(to jid.JID, sent bool) *Packet {
	c := &Packet{Stanza: p.Stanza, Own: p.Own, Content: p.content(), Role: Carbon, Sent: sent, CopyTo: to}
	if !sent {
		c.ArchiveID, c.Also = p.ArchiveID, p.Also
	}
	return c
}

// Stored calls yield for each position in the log that the packet delivers, until it returns false; it is a range
// function.
func (p *Packet) Stored(yield func(id uint64) bool) {
	for _, id := range p.Also {
		if !yield(id) {
			return
		}
	}
	if p.ArchiveID != 0 {
		yield(p.ArchiveID)
	}
}

// Original returns the packet of which p is a carbon, or p itself.
func (p *Packet) Original() *Packet {
	if p.Role != Carbon {
		return p
	}
	return &Packet{Stanza: p.Stanza, Own: p.Own, Content: p.content(), ArchiveID: p.ArchiveID, Also: p.Also}
}

// Size is about how many bytes the packet takes as XML; see stanza.Stanza.Size. The content is measured once.
func (p *Packet) Size() int {
	n := p.Stanza.HeadSize() + p.content().measure(p.Stanza.Payload)
	for i := range p.Own {
		n += p.Own[i].Size()
	}
	if p.Role == Carbon {
		n += wrapperSize + 2*len(p.CopyTo.String())
	}
	return n
}

// wrapperSize is what a carbon has around the message, about: another header and two elements.
const wrapperSize = 200

// Encode returns the packet in the given codec. What is appended to dst has all but the content, which belongs at the
// place at in it. Nobody may change the content.
func (p *Packet) Encode(c Codec, dst []byte) (out []byte, at int, content []byte) {
	content = p.content().encode(c, p)
	out, at = c.AppendFrame(dst, p, len(content))
	return out, at, content
}

func (p *Packet) content() *Content {
	if p.Content != nil {
		return p.Content
	}
	return &p.alone
}

// Whole returns the stanza as it is written, all segments in one.
func (p *Packet) Whole() *stanza.Stanza {
	s := *p.Stanza
	s.Payload = slices.Concat(s.Payload, p.Own)
	if p.Role != Carbon {
		return &s
	}
	forwarded := stanza.New(stanza.NSForward, "forwarded").With(s.Element())
	wrapper := stanza.New(stanza.NSCarbons, p.Wrapper()).With(forwarded)
	return &stanza.Stanza{
		Kind: stanza.Message, Type: s.Type, ID: s.ID, From: p.CopyTo.Bare(), To: p.CopyTo,
		Payload: []stanza.Element{wrapper},
	}
}

// Wrapper returns the name of the element that a carbon is in (XEP-0280 §6).
func (p *Packet) Wrapper() string {
	if p.Sent {
		return "sent"
	}
	return "received"
}

// Content is what many recipients of a stanza get alike: its elements. It is measured once, and encoded once for each
// codec. The zero value is ready to use; it must not be copied after that.
type Content struct {
	size atomic.Int64 // 0: not measured

	mu      sync.Mutex // guards encoded
	encoded [Contents][]byte
}

// measure returns the size of the elements as XML, about.
func (c *Content) measure(elements []stanza.Element) int {
	if n := c.size.Load(); n != 0 {
		return int(n)
	}
	n := 1
	for i := range elements {
		n += elements[i].Size()
	}
	c.size.Store(int64(n))
	return n
}

// Keep notes what the codec would write, for somebody who has it already. Nobody may change encoded any more.
func (c *Content) Keep(codec Codec, encoded []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.encoded[codec.Content()] = encoded
}

// buffers holds memory for content that is being encoded, whose length is not known before.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// encode returns the content of p, of which c is the Content.
func (c *Content) encode(codec Codec, p *Packet) []byte {
	if len(p.Stanza.Payload) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	slot := &c.encoded[codec.Content()]
	if *slot != nil {
		return *slot
	}
	buf := buffers.Get().(*[]byte)
	b, shared := codec.AppendContent((*buf)[:0], p)
	out := slices.Clone(b)
	if *buf = b; cap(b) <= 64<<10 {
		buffers.Put(buf)
	}
	if shared {
		*slot = out
	}
	return out
}
