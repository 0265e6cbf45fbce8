package client

import (
	"context"
	"errors"
	"time"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// arrival is one thing that waits for the handlers.
type arrival struct {
	message  *Message
	presence *Presence
	roster   *RosterChange
	state    *State
	// own is a confirmation: a message of ours got its number.
	own *confirmation
	// catchUp: everything after this StanzaID is to be fetched first.
	catchUp bool
	after   string
	// baseline: what is the newest message is to be found out.
	baseline bool
}

// confirmation is what became of a message of ours.
type confirmation struct {
	conversation jid.JID
	number       uint64
	stanzaID     string
}

// push puts something in the inbox, without waiting. What is stored and finds it full is fetched later. c.mu is held.
func (c *Client) push(a arrival) {
	if a == (arrival{}) {
		return
	}
	stored, id := false, ""
	switch {
	case a.message != nil && a.message.Number > 0:
		stored, id = true, a.message.StanzaID
	case a.own != nil:
		stored, id = true, a.own.stanzaID
	}
	select {
	case c.inbox <- a:
	default:
		switch {
		case a.catchUp && !c.missing:
			c.missing, c.missed = true, a.after
		case stored && !c.missing:
			c.missing, c.missed = true, c.lastQueued
		case !stored && !a.catchUp:
			c.stats.Lost++
		}
		select {
		case c.repair <- struct{}{}:
		default:
		}
		return
	}
	if id != "" {
		c.lastQueued = id
	}
}

// notify tells the State handler.
func (c *Client) notify(s State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.push(arrival{state: &s})
}

// take handles one stanza, on the goroutine that reads.
func (c *Client) take(s *stanza.Stanza) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handled++
	switch s.Kind {
	case stanza.IQ:
		c.takeIQ(s)
	case stanza.Presence:
		c.takePresence(s)
	case stanza.Message:
		c.takeMessage(s)
	}
}

// mine reports whether a stanza comes from the account itself, which is how the server speaks of its own accord. c.mu
// is held.
func (c *Client) mine(s *stanza.Stanza) bool { return s.From.IsZero() || s.From == c.bare }

func (c *Client) takePresence(s *stanza.Stanza) {
	c.push(arrival{presence: &Presence{
		From: s.From, Type: s.Type, Show: childText(s, "show"), Status: childText(s, "status"),
	}})
}

func childText(s *stanza.Stanza, local string) string {
	if e := s.Child(stanza.NSClient, local); e != nil {
		return e.Text()
	}
	return ""
}

func (c *Client) takeMessage(s *stanza.Stanza) {
	if s.Type == stanza.TypeError {
		if w := c.sends[s.ID]; w != nil && s.From.Bare() == w.out.s.To.Bare() || w != nil && c.mine(s) {
			c.outbox.finish(w, Receipt{ID: s.ID}, s.Refusal())
		}
		return
	}
	if c.mine(s) {
		if e := s.Child(nsConfirm, "confirmed"); e != nil {
			c.confirmed(e)
			return
		}
		if e := s.Child(payload.NSMAM, "result"); e != nil {
			c.found(e)
			return
		}
		if e := s.ChildNS(payload.NSCarbons); e != nil {
			if m, ok := forwarded(e, c.bare); ok {
				c.push(arrival{message: &m})
			}
			return
		}
	}
	m := readMessage(s, c.bare)
	c.push(arrival{message: &m})
}

// confirmed handles the server's word that a message of ours is stored (docs/protocol/confirm.md).
func (c *Client) confirmed(e *stanza.Element) {
	with, err := jid.Parse(e.Attr("conversation"))
	if err != nil {
		return
	}
	r := Receipt{ID: e.Attr("id"), StanzaID: e.Attr("stanza-id"), Conversation: with,
		Duplicate: e.Attr("duplicate") == "true"}
	r.Number = positionNumber(e)
	if t, err := time.Parse(time.RFC3339, e.Attr("stamp")); err == nil {
		r.Time = t
	}
	if w := c.sends[r.ID]; w != nil {
		c.outbox.finish(w, r, nil)
	}
	c.push(arrival{own: &confirmation{conversation: with, number: r.Number, stanzaID: r.StanzaID}})
}

// found adds a message to the answer of the query that asked for it.
func (c *Client) found(e *stanza.Element) {
	id := e.Attr("queryid")
	for _, r := range c.requests {
		if r.query != "" && r.query == id && len(r.results) < pageSize {
			if m, ok := result(e, c.bare); ok {
				r.results = append(r.results, m)
			}
			return
		}
	}
}

// order is how far each conversation has got. It belongs to deliverAll.
type order struct {
	seen map[jid.JID]lastSeen
}

// lastSeen is the last message of a conversation that was handed on.
type lastSeen struct {
	number   uint64
	stanzaID string
}

// deliverAll calls the handlers, one after the other, until the client ends.
func (c *Client) deliverAll() {
	o := &order{seen: map[jid.JID]lastSeen{}}
	for {
		select {
		case a := <-c.inbox:
			c.deliver(o, a)
			continue
		default:
		}
		select {
		case <-c.gone:
			c.drain(o)
			return
		case a := <-c.inbox:
			c.deliver(o, a)
		case <-c.repair:
			c.refetch(o)
		}
	}
}

// drain hands on what is left at the end: nothing else comes.
func (c *Client) drain(o *order) {
	for {
		select {
		case a := <-c.inbox:
			c.deliver(o, a)
		default:
			return
		}
	}
}

// refetch fetches what found the inbox full, now that it is empty.
func (c *Client) refetch(o *order) {
	c.mu.Lock()
	missing, after := c.missing, c.missed
	c.missing, c.missed = false, ""
	c.mu.Unlock()
	if missing {
		c.catchUp(o, after)
	}
}

func (c *Client) deliver(o *order, a arrival) {
	switch {
	case a.catchUp:
		c.catchUp(o, a.after)
	case a.baseline:
		c.baseline()
	case a.message != nil:
		c.inOrder(o, a.message)
	case a.own != nil:
		c.fill(o, a.own.conversation, a.own.number)
		o.advance(a.own.conversation, a.own.number, a.own.stanzaID)
	case a.presence != nil && c.config.Presence != nil:
		c.config.Presence(*a.presence)
	case a.roster != nil && c.config.Roster != nil:
		c.config.Roster(*a.roster)
	case a.state != nil && c.config.State != nil:
		c.config.State(*a.state)
	}
}

// inOrder hands on a message after those that must come before it, and once.
func (c *Client) inOrder(o *order, m *Message) {
	if m.Number > 0 {
		c.fill(o, m.Conversation, m.Number)
		if !o.advance(m.Conversation, m.Number, m.StanzaID) {
			return
		}
	}
	if c.config.Message != nil {
		c.config.Message(*m)
	}
}

// advance notes that a message was handed on. It reports false for one that was before.
func (o *order) advance(with jid.JID, number uint64, stanzaID string) bool {
	p := o.seen[with]
	if number == 0 || number <= p.number {
		return number == 0
	}
	if stanzaID == "" {
		stanzaID = p.stanzaID
	}
	o.seen[with.Clone()] = lastSeen{number: number, stanzaID: stanzaID}
	return true
}

// fill fetches what is missing before a message. What was before the client began to look is not missing.
func (c *Client) fill(o *order, with jid.JID, number uint64) {
	p := o.seen[with]
	if p.number == 0 || number <= p.number+1 || p.stanzaID == "" {
		return
	}
	c.log.Info("messages are missing", "event", "gap", "from", p.number+1, "to", number-1)
	after := p.stanzaID
	for {
		page, err := c.insist(Query{With: with, After: after})
		if err != nil {
			return
		}
		for i := range page.Messages {
			m := &page.Messages[i]
			after = m.StanzaID
			if m.Number >= number {
				return
			}
			c.fetched(o, m)
		}
		if page.Complete || len(page.Messages) == 0 {
			return
		}
	}
}

// fetched hands on a message that was fetched, unless it was handed on before.
func (c *Client) fetched(o *order, m *Message) {
	if !o.advance(m.Conversation, m.Number, m.StanzaID) {
		return
	}
	c.mu.Lock()
	c.stats.Refetched++
	c.mu.Unlock()
	if c.config.Message != nil {
		c.config.Message(*m)
	}
}

// catchUp fetches everything after a message, in the order in which the server accepted it.
func (c *Client) catchUp(o *order, after string) {
	for {
		page, err := c.insist(Query{After: after})
		if err != nil {
			return
		}
		for i := range page.Messages {
			m := &page.Messages[i]
			after = m.StanzaID
			c.fetched(o, m)
		}
		if page.Complete || len(page.Messages) == 0 {
			return
		}
	}
}

// baseline finds out after which message a client that began without Since would have to catch up.
func (c *Client) baseline() {
	page, err := c.insist(Query{Last: true, Max: 1})
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.based = true
	if c.lastQueued == "" && len(page.Messages) > 0 {
		c.lastQueued = page.Messages[len(page.Messages)-1].StanzaID
	}
}

// insist asks the archive until it answers, over as many sessions as that takes. It fails only when the server refuses,
// or the client ends.
func (c *Client) insist(q Query) (Page, error) {
	for {
		ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
		page, err := c.History(ctx, q)
		cancel()
		var refused *stanza.Error
		switch {
		case err == nil:
			return page, nil
		case errors.As(err, &refused) && refused.Type != stanza.Wait:
			c.log.Warn("the archive does not give what is missing", "event", "gap", "error", err.Error())
			return page, err
		case c.ctx.Err() != nil || errors.Is(err, ErrClosed):
			return page, err
		}
		if refused != nil && !c.pause(2*time.Second) {
			return page, err
		}
	}
}
