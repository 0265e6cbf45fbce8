package c2s

import (
	"strconv"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// nsConfirm is our own extension: the server tells a client what became of each message that it stored.
// docs/protocol/confirm.md describes it.
const nsConfirm = "urn:posthouse:confirm:1"

// stampFormat is a DateTime of XEP-0082 with milliseconds, in UTC.
const stampFormat = "2006-01-02T15:04:05.000Z"

// setConfirm turns confirmations on or off for this session; they stay so when its stream is resumed.
func (c *conn) setConfirm(e *stanza.Element) *stanza.Error {
	if e.Local != "enable" && e.Local != "disable" {
		return stanza.Refuse(stanza.BadRequest, "")
	}
	b := c.bound
	b.mu.Lock()
	defer b.mu.Unlock()
	b.confirm = e.Local == "enable"
	return nil
}

// confirmation words what a receipt says. It is made anew each time that it is written.
func (b *bound) confirmation(e *router.Envelope) *stream.Packet {
	full := b.session.JID()
	with := e.Stanza.To.Bare()
	if e.Stanza.To.IsZero() {
		with = full.Bare()
	}
	r := &e.Receipt
	c := stanza.Element{Space: nsConfirm, Local: "confirmed", Attrs: make([]stanza.Attr, 0, 6)}
	add := func(name, value string) { c.Attrs = append(c.Attrs, stanza.Attr{Local: name, Value: value}) }
	if e.Stanza.ID != "" {
		add("id", e.Stanza.ID)
	}
	if f := b.srv.config.StanzaID; f != nil {
		add("stanza-id", f(r.ID))
	}
	add("conversation", with.String())
	add("number", strconv.FormatUint(r.Seq, 10))
	add("stamp", r.Time.UTC().Format(stampFormat))
	if r.Duplicate {
		add("duplicate", "true")
	}
	return &stream.Packet{Stanza: &stanza.Stanza{
		Kind: stanza.Message, Type: stanza.TypeHeadline, From: full.Bare(), To: full, Payload: []stanza.Element{c},
	}}
}
