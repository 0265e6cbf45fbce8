package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

const (
	nsPing = "urn:xmpp:ping"
	nsRSM  = "http://jabber.org/protocol/rsm"
	nsForm = "jabber:x:data"
)

// Request sends an IQ of type get or set and returns the payload of the answer. To is zero for the account itself. A
// *stanza.Error is a refusal; ErrInterrupted, or the context's end, means that it is not known whether it was carried
// out.
func (c *Client) Request(ctx context.Context, kind string, to jid.JID, payload stanza.Element) ([]stanza.Element,
	error) {
	answer, err := c.ask(ctx, kind, to, payload, &request{})
	if err != nil {
		return nil, err
	}
	return answer.Payload, nil
}

func (c *Client) ask(ctx context.Context, kind string, to jid.JID, payload stanza.Element, r *request) (*stanza.Stanza,
	error) {
	s := &stanza.Stanza{Kind: stanza.IQ, Type: kind, ID: newID(), To: to, Payload: []stanza.Element{payload}}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	r.done = make(chan struct{})
	r.out = &outgoing{s: s, request: r}
	if err := c.enqueue(ctx, r.out); err != nil {
		return nil, err
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		c.mu.Lock()
		c.outbox.drop(r.out, ctx.Err())
		c.mu.Unlock()
		<-r.done
	}
	if r.err != nil {
		return nil, r.err
	}
	if r.answer.Type == stanza.TypeError {
		return nil, r.answer.Refusal()
	}
	return r.answer, nil
}

// takeIQ handles answers, and what the server asks or tells. c.mu is held.
func (c *Client) takeIQ(s *stanza.Stanza) {
	if !s.IsRequest() {
		r := c.requests[s.ID]
		if r == nil {
			return
		}
		if to := r.out.s.To; s.From == to || to.IsZero() && (c.mine(s) || s.From == c.bare.DomainJID()) ||
			to == c.bare && c.mine(s) {
			c.outbox.answer(r, s, nil)
		}
		return
	}
	var reply *stanza.Stanza
	switch e := &s.Payload[0]; {
	case e.Space == nsPing && s.Type == stanza.TypeGet: // XEP-0199 §4.2
		reply = s.Reply()
	case e.Space == stanza.NSRoster && s.Type == stanza.TypeSet && c.mine(s): // RFC 6121 §2.1.6
		for item := range e.Elements {
			if contact, ok := readContact(item); ok {
				c.push(arrival{roster: &RosterChange{Contact: contact, Removed: contact.Subscription == "remove"}})
			}
		}
		reply = s.Reply()
	default:
		reply = s.ErrorReply(stanza.Refuse(stanza.ServiceUnavailable, ""))
	}
	if reply == nil || len(c.queue) >= c.config.Outbox { // whoever asks that much gets no answer
		return
	}
	reply.From = jid.JID{}
	c.queue = append(c.queue, &outgoing{s: reply})
	c.kick()
}

func readContact(e *stanza.Element) (Contact, bool) {
	i, ok := stanza.ReadRosterItem(e)
	return Contact{JID: i.JID, Name: i.Name, Subscription: i.Subscription, Asked: i.Asked, Groups: i.Groups}, ok
}

// Contacts returns the contact list. From then on its changes are handed to Config.Roster.
func (c *Client) Contacts(ctx context.Context) ([]Contact, error) {
	payload, err := c.Request(ctx, stanza.TypeGet, jid.JID{}, stanza.New(stanza.NSRoster, "query"))
	if err != nil {
		return nil, err
	}
	var out []Contact
	for i := range payload {
		for e := range payload[i].Elements {
			if contact, ok := readContact(e); ok {
				out = append(out, contact)
			}
		}
	}
	return out, nil
}

// SetContact adds somebody to the contact list, or changes the entry's name and groups (RFC 6121 §2.3, §2.4).
func (c *Client) SetContact(ctx context.Context, who jid.JID, name string, groups ...string) error {
	item := stanza.RosterItem{JID: who, Name: name, Groups: groups}
	_, err := c.Request(ctx, stanza.TypeSet, jid.JID{}, stanza.New(stanza.NSRoster, "query").With(item.Element()))
	return err
}

// RemoveContact takes somebody off the contact list, with all subscriptions (RFC 6121 §2.5).
func (c *Client) RemoveContact(ctx context.Context, who jid.JID) error {
	item := stanza.RosterItem{JID: who, Subscription: "remove"}
	_, err := c.Request(ctx, stanza.TypeSet, jid.JID{}, stanza.New(stanza.NSRoster, "query").With(item.Element()))
	return err
}

// pageSize is how many messages are asked for at a time, unless Query.Max says less.
const pageSize = 100

// Query asks for messages of the archive (XEP-0313).
type Query struct {
	// With is a conversation; zero for all of them.
	With jid.JID
	// After and Before are StanzaIDs: messages behind the one and before the other. With Before, or Last, the newest
	// come first to fit in the page; they are in the order in which the server accepted them all the same.
	After, Before string
	// Last asks for the newest messages.
	Last bool
	// Max is how many at most; default and limit 100.
	Max int
}

// Page is an answer of History.
type Page struct {
	Messages []Message
	// Complete: there are no more in the direction that was asked for.
	Complete bool
}

// History reads a page of the archive.
func (c *Client) History(ctx context.Context, q Query) (Page, error) {
	if q.Max <= 0 || q.Max > pageSize {
		q.Max = pageSize
	}
	field := func(name, value string) stanza.Element {
		return stanza.New(nsForm, "field", "var", name).With(stanza.New(nsForm, "value").WithText(value))
	}
	form := stanza.New(nsForm, "x", "type", "submit").With(field("FORM_TYPE", payload.NSMAM))
	if !q.With.IsZero() {
		form = form.With(field("with", q.With.String()))
	}
	set := stanza.New(nsRSM, "set").With(stanza.New(nsRSM, "max").WithText(strconv.Itoa(q.Max)))
	if q.After != "" {
		set = set.With(stanza.New(nsRSM, "after").WithText(q.After))
	}
	if q.Before != "" || q.Last {
		set = set.With(stanza.New(nsRSM, "before").WithText(q.Before))
	}
	r := &request{query: newID()}
	query := stanza.New(payload.NSMAM, "query", "queryid", r.query).With(form, set)
	answer, err := c.ask(ctx, stanza.TypeSet, jid.JID{}, query, r)
	if err != nil {
		return Page{}, err
	}
	out := Page{Messages: r.results}
	if fin := answer.Child(payload.NSMAM, "fin"); fin != nil {
		out.Complete = fin.Attr("complete") == "true"
	}
	return out, nil
}

// nsToken qualifies tokens for the HTTP API, docs/tokens.md.
const nsToken = "urn:posthouse:token:1"

// APITokens asks for tokens with which this device may call the HTTP API.
func (c *Client) APITokens(ctx context.Context) (Tokens, error) {
	payload, err := c.Request(ctx, stanza.TypeGet, jid.JID{}, stanza.New(nsToken, "token"))
	if err != nil {
		return Tokens{}, err
	}
	for i := range payload {
		if e := &payload[i]; e.Space == nsToken && e.Local == "token" {
			t := Tokens{Access: e.Attr("access"), Refresh: e.Attr("refresh"), Device: e.Attr("device")}
			if t.Expires, err = time.Parse(time.RFC3339, e.Attr("expires")); err != nil {
				return Tokens{}, fmt.Errorf("the end of a token: %w", err)
			}
			return t, nil
		}
	}
	return Tokens{}, errors.New("the server gave no token")
}
