package payload

import (
	"time"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Forward puts a stanza into <forwarded/> (XEP-0297 §3.1), which is the body of a carbon, of an archive's result, and
// of a message that is passed on. received is when it was received, the zero time for unknown. The elements of s are
// shared.
func Forward(s *stanza.Stanza, received time.Time) stanza.Element {
	return Empty(received).With(s.Element())
}

// Empty returns a <forwarded/> without a stanza: the place of one that cannot be read (XEP-0313 §3.2). See Forward.
func Empty(received time.Time) stanza.Element {
	e := stanza.Element{Space: NSForward, Local: "forwarded", Nodes: make([]stanza.Node, 0, 2)}
	if !received.IsZero() {
		delay := stanza.New(NSDelay, "delay", "stamp", stanza.FormatTime(received))
		e.Nodes = append(e.Nodes, stanza.Node{Element: &delay})
	}
	return e
}

// Forwarded returns the message in e, which is <forwarded/> or an element around it, and when it was received, the zero
// time for unknown. It is nil when there is no message in it, or one whose addresses are none.
func Forwarded(e *stanza.Element) (s *stanza.Stanza, received time.Time) {
	if e.Space != NSForward {
		if e = e.Child(NSForward, "forwarded"); e == nil {
			return nil, received
		}
	}
	inner := e.Child(stanza.NSClient, "message")
	if inner == nil {
		return nil, received
	}
	s = &stanza.Stanza{Kind: stanza.Message}
	for i := range inner.Attrs {
		a := &inner.Attrs[i]
		var err error
		switch {
		case a.Space == stanza.NSXML && a.Local == "lang":
			s.Lang = a.Value
		case a.Space != "" || a.Value == "":
		case a.Local == "type":
			s.Type = a.Value
		case a.Local == "id":
			s.ID = a.Value
		case a.Local == "from":
			s.From, err = jid.Parse(a.Value)
		case a.Local == "to":
			s.To, err = jid.Parse(a.Value)
		}
		if err != nil {
			return nil, received
		}
	}
	for child := range inner.Elements {
		s.Payload = append(s.Payload, *child)
	}
	if delay := e.Child(NSDelay, "delay"); delay != nil {
		if t, err := time.Parse(time.RFC3339, delay.Attr("stamp")); err == nil {
			received = t
		}
	}
	return s, received
}
