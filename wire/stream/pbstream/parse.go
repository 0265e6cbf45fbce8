package pbstream

import (
	"strconv"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// frame is what a frame says: an item, or only that the peer lives.
type frame struct {
	item stream.Item
	ping bool
	kind uint32 // field of Frame
}

// parse reads one frame. What it returns shares no memory with raw.
func parse(raw []byte, limits *stream.Limits) (f frame, err *stream.Error) {
	const kinds = 1<<(frameError+1) - 1<<frameMessage
	b := newBuilder(raw, limits)
	defer b.release()
	r := reader{s: b.all.String()}
	var data string
	for r.next() {
		if r.num >= frameMessage && r.num <= frameError {
			f.kind, data = r.num, r.choice(kinds)
		}
	}
	if r.err != nil {
		return f, r.err
	}
	switch f.kind {
	case frameMessage, framePresence, frameIQ:
		f.item.Kind = stream.Stanza
		f.item.Stanza, f.item.Malformed, err = b.readStanza(stanza.Kind(f.kind), data)
	case frameAck:
		f.item.Kind = stream.Element
		f.item.Element, err = parseAck(data)
	case frameAckRequest:
		f.item.Kind = stream.Element
		f.item.Element = &stanza.Element{Space: nsSM, Local: "r"}
		err = skip(data)
	case framePing, framePong:
		f.item.Kind = stream.Keepalive
		f.ping = f.kind == framePing
		err = skip(data)
	case frameElement:
		f.item.Kind = stream.Element
		f.item.Element, err = b.readElement(data)
		if err == nil {
			err = acceptable(f.item.Element)
		}
	case frameOpen:
		f.item.Kind = stream.Open
		f.item.Header, err = parseOpen(data)
	case frameClose:
		f.item.Kind = stream.Close
		err = skip(data)
	case frameError:
		f.item.Kind = stream.Element
		f.item.Element, err = b.readError(data)
	default:
		err = stream.Fail(stream.UnsupportedStanzaType, "frame of an unknown kind")
	}
	return f, err
}

// skip reads a message of which no field is known.
func skip(data string) *stream.Error {
	r := reader{s: data}
	for r.next() {
	}
	return r.err
}

// acceptable refuses elements that XML would take for something else at the top level.
func acceptable(e *stanza.Element) *stream.Error {
	switch {
	case e.Space == stanza.NSClient:
		return stream.Fail(stream.UnsupportedStanzaType, "unknown stanza, or one in the form of an element")
	case e.Space == stanza.NSStream && e.Local == "stream":
		return tooMany("stream header without a restart")
	}
	return nil
}

func parseAck(data string) (*stanza.Element, *stream.Error) {
	r := reader{s: data}
	var h uint64
	for r.next() {
		if r.num == 1 {
			h = r.uint(1<<32 - 1)
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	e := stanza.New(nsSM, "a", "h", strconv.FormatUint(h, 10))
	return &e, nil
}

func parseOpen(data string) (h stream.Header, err *stream.Error) {
	r := reader{s: data}
	var schema uint64
	for r.next() {
		switch r.num {
		case 1:
			h.From = r.str()
		case 2:
			h.To, h.HasTo = r.str(), true
		case 3:
			h.ID = r.str()
		case 4:
			h.Version, h.HasVersion = r.str(), true
		case 5:
			h.Lang = r.str()
		case 6:
			schema = r.uint(1<<32 - 1)
		}
	}
	if r.err != nil {
		return h, r.err
	}
	for _, s := range [...]string{h.From, h.To, h.ID, h.Version, h.Lang} {
		if !validText(s) {
			return h, unspeakable("character that XML does not allow")
		}
	}
	if schema == 0 {
		return h, stream.Fail(stream.UnsupportedVersion, "schema of the compact stream is missing")
	}
	return h, nil
}

func (b *builder) readError(data string) (*stanza.Element, *stream.Error) {
	r := reader{s: data}
	e := stream.Error{Condition: stream.UndefinedCondition}
	for r.next() {
		switch r.num {
		case 1:
			e.Condition = value(&r, conditions[:], r.uint(1<<32-1))
		case 2:
			e.Text = r.str()
		case 3:
			app := r.str()
			if r.err == nil {
				e.App, r.err = b.readElement(app)
			}
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	if !validText(e.Text) {
		return nil, unspeakable("character that XML does not allow")
	}
	out := e.Element()
	return &out, nil
}

// readElement reads Element at the top level.
func (b *builder) readElement(data string) (*stanza.Element, *stream.Error) {
	b.start(b.limits.Elements)
	b.elems = 1
	if err := b.generic(&b.dummy, data, "", 1, 0); err != nil {
		return nil, err
	}
	b.elem, b.attr, b.node = stanza.Slabs(b.elems, b.attrs, b.nodes)
	b.fill(1)
	if err := b.generic(&b.elem[0], data, "", 1, 0); err != nil {
		return nil, err
	}
	return &b.elem[0], nil
}

// readStanza reads Stanza. An address that cannot be parsed is left out and reported.
func (b *builder) readStanza(kind stanza.Kind, data string) (*stanza.Stanza, *stanza.Error, *stream.Error) {
	b.start(b.limits.Elements - 1)
	var head stanza.Stanza
	from, body, top, err := b.stanza(&head, data)
	if err != nil {
		return nil, nil, err
	}
	var out *stanza.Stanza
	out, b.elem, b.attr, b.node = stanza.Allocate(b.elems, b.attrs, b.nodes)
	b.fill(top)
	*out = head
	out.Kind = kind
	bad := b.addresses(out, from)
	if top > 0 {
		if err := b.payloads(data, body); err != nil {
			return nil, nil, err
		}
		out.Payload = b.elem[:top:top]
	}
	return out, bad, nil
}

// stanza reads the fields of Stanza while counting: the attributes into s, but for the addresses, and how many
// children there are.
func (b *builder) stanza(s *stanza.Stanza, data string) (from, body string, top int, err *stream.Error) {
	const ids = 7 << stanzaID
	const kinds = 1<<stanzaType | 1<<stanzaTypeName
	const tos = 1<<stanzaTo | 1<<stanzaOwnTo
	r := reader{s: data}
	var uuid, key, ownTo string
	for r.next() {
		switch r.num {
		case stanzaTo:
			b.to = r.choice(tos)
		case stanzaOwnTo:
			ownTo = r.choice(tos)
		case stanzaOwnFrom:
			r.fail("address of no account")
		case stanzaFrom:
			from = r.str()
		case stanzaID:
			s.ID = r.choice(ids)
		case stanzaUUID:
			uuid = r.choice(ids)
			b.uuid(&r, uuid)
		case stanzaKey:
			key = r.choice(ids)
			b.key(&r, key)
		case stanzaType:
			s.Type = value(&r, types[:], r.choiceUint(kinds, 1<<32-1))
		case stanzaTypeName:
			s.Type = r.choice(kinds)
		case stanzaLang:
			s.Lang = r.str()
		case stanzaBody:
			body = r.str()
		case stanzaPayload:
			r.many()
			b.count(&r)
		}
	}
	if r.has(stanzaOwnTo) {
		if from == "" {
			r.fail("address of no account")
		}
		b.to = ownAddress(account(from), ownTo)
	}
	if r.err != nil {
		return "", "", 0, r.err
	}
	for _, s := range [...]string{b.to, from, s.ID, s.Type, s.Lang} {
		b.check(s)
	}
	switch {
	case uuid != "":
		out := formatUUID(uuid)
		s.ID = b.keep(out[:])
	case key != "":
		out := formatKey(key)
		s.ID = b.keep(out[:])
	}
	if body != "" {
		b.count(&r)
	}
	b.id = s.ID
	top = b.elems
	if r.err == nil && top > 0 {
		r.err = b.payloads(data, body)
	}
	if r.err == nil && b.invalid {
		r.err = unspeakable("character that XML does not allow")
	}
	return from, body, top, r.err
}

// addresses parses the addresses of s; the first one that is wrong is what the sender is told of (RFC 6120 §8.3.3.8).
func (b *builder) addresses(s *stanza.Stanza, from string) *stanza.Error {
	var bad *stanza.Error
	for _, a := range [...]struct {
		name, text string
		out        *jid.JID
	}{{"from", from, &s.From}, {"to", b.to, &s.To}} {
		if a.text == "" {
			continue
		}
		j, err := jid.Parse(a.text)
		if err != nil && bad == nil {
			bad = stanza.Refuse(stanza.JIDMalformed, "the "+a.name+" address is malformed")
		}
		*a.out = j
	}
	if b.by = s.To.Bare().String(); s.To.IsZero() {
		b.by = b.to
	}
	return bad
}

// payloads reads the children of a stanza.
func (b *builder) payloads(data, body string) *stream.Error {
	next := 0
	child := func() *stanza.Element {
		if b.counting {
			return &b.dummy
		}
		next++
		return &b.elem[next-1]
	}
	if body != "" {
		e := child()
		e.Space, e.Local = stanza.NSClient, "body"
		b.text(e, body)
	}
	r := reader{s: data}
	for r.next() {
		if r.num == stanzaPayload {
			if err := b.payload(child(), r.data, stanza.NSClient, 2, 1); err != nil {
				return err
			}
		}
	}
	return nil
}
