package c2s

import (
	"strconv"
	"strings"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// nsConfirm is our own extension: the server tells a client what became of each message that it stored.
// docs/protocol/confirm.md describes it.
const nsConfirm = "urn:posthouse:confirm:1"

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

// receipt is what a confirmation tells. It waits without the message, which may be a thousand times as large.
type receipt struct {
	router.Receipt
	id string
	to jid.JID
}

func newReceipt(e *router.Envelope) *receipt {
	return &receipt{Receipt: e.Receipt, id: strings.Clone(e.Stanza.ID), to: e.Stanza.To.Bare().Clone()}
}

// confirmation makes the packet that tells the client of a receipt. It is made anew each time that it is written.
func (b *bound) confirmation(r *receipt) *stream.Packet {
	full := b.session.JID()
	with := r.to
	if with.IsZero() {
		with = full.Bare()
	}
	c := stanza.Element{Space: nsConfirm, Local: "confirmed", Attrs: make([]stanza.Attr, 0, 6)}
	add := func(name, value string) { c.Attrs = append(c.Attrs, stanza.Attr{Local: name, Value: value}) }
	if r.id != "" {
		add("id", r.id)
	}
	if f := b.srv.config.StanzaID; f != nil {
		add("stanza-id", f(r.ID))
	}
	add("conversation", with.String())
	if r.Seq != 0 { // what only moved markers has none
		add("number", strconv.FormatUint(r.Seq, 10))
	}
	add("stamp", stanza.FormatTime(r.Time))
	if r.Duplicate {
		add("duplicate", "true")
	}
	return &stream.Packet{Stanza: &stanza.Stanza{
		Kind: stanza.Message, Type: stanza.TypeHeadline, From: full.Bare(), To: full, Payload: []stanza.Element{c},
	}}
}
