package conversation

import (
	"context"
	"errors"
	"strconv"

	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

const (
	// defaultPage and maxPage are how many messages, settings and so on a page has when nothing is asked for, and at
	// most.
	defaultPage = 50
	maxPage     = 500
	// maxCursor is longer than any cursor.
	maxCursor = 1024
)

// startOver tells that the cursor leads nowhere any more.
var startOver = func() *stanza.Error {
	app := stanza.New(nsSync, "start-over")
	return &stanza.Error{Condition: stanza.ItemNotFound, Text: "Start over, without a cursor.", App: &app}
}()

// sync answers what has changed for the account since a cursor.
func (c *Conversations) sync(ctx context.Context, o inbox.Owner, iq *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
	request := iq.Child(nsSync, "sync")
	limit, refusal := pageOf(request)
	if refusal != nil {
		return nil, refusal
	}
	cursor := request.Attr("cursor")
	if len(cursor) > maxCursor {
		return nil, noCursor
	}
	if !c.config.Archive.Allow(uint64(o.Account)) {
		return nil, tooMany
	}
	page, err := c.config.Inbox.Sync(ctx, o, cursor, limit, c.config.PageBytes)
	switch {
	case errors.Is(err, inbox.ErrCursor):
		return nil, noCursor
	case errors.Is(err, inbox.ErrStartOver):
		return nil, startOver
	case err != nil:
		return nil, c.failed("sync", o, err)
	}
	c.config.Archive.Spend(uint64(o.Account), max(len(page.Messages), len(page.Conversations)))
	return []stanza.Element{c.answer(o, &page)}, nil
}

// pageOf reads the size of a page.
func pageOf(request *stanza.Element) (int, *stanza.Error) {
	text := request.Attr("max")
	if text == "" {
		return defaultPage, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, bad("max is not a number from 1 on.")
	}
	return int(min(n, maxPage)), nil
}

// answer is a page as one element.
func (c *Conversations) answer(o inbox.Owner, p *inbox.Page) stanza.Element {
	out := stanza.New(nsSync, "sync", "cursor", p.Cursor)
	flag(&out, "more", p.More)
	flag(&out, "first", p.First)
	add := func(e stanza.Element) { out.Nodes = append(out.Nodes, stanza.Node{Element: &e}) }
	for i := range p.Messages {
		if e, ok := c.config.Archive.Forwarded(&p.Messages[i], o.JID); ok {
			add(e)
		}
	}
	for i := range p.Conversations {
		add(c.conversation(nsSync, &p.Conversations[i]))
	}
	if p.RosterAll || len(p.Roster)+len(p.Removed) > 0 {
		add(rosterElement(p))
	}
	for i := range p.Profiles {
		if e, ok := c.profileElement(&p.Profiles[i]); ok {
			add(e)
		}
	}
	return out
}

// conversation is a conversation as it is now. What is not known, or is as it is by default, has no attribute.
func (c *Conversations) conversation(space string, v *inbox.Conversation) stanza.Element {
	e := stanza.New(space, "conversation", "with", v.Address().String())
	add := func(name, value string) { e.Attrs = append(e.Attrs, stanza.Attr{Local: name, Value: value}) }
	number := func(name string, n uint64) {
		if n != 0 {
			add(name, strconv.FormatUint(n, 10))
		}
	}
	if v.Kind == store.Room {
		add("kind", "room")
	}
	number("number", v.LastSeq)
	number("read", v.Own.Read)
	number("delivered", v.Own.Delivered)
	number("peer-read", v.Peer.Read)
	number("peer-delivered", v.Peer.Delivered)
	number("unread", uint64(v.Unread))
	if v.Last != 0 {
		add("last", c.config.Archive.StanzaID(uint64(v.Last)))
	}
	choose(&e, &v.Settings)
	return e
}

// choose adds the attributes of settings that are not as they are by default.
func choose(e *stanza.Element, s *store.ConversationSettings) {
	if !s.MutedUntil.IsZero() {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "muted-until", Value: stamp(s.MutedUntil)})
	}
	flag(e, "pinned", s.Pinned)
}

// flag adds an attribute when it is true.
func flag(e *stanza.Element, name string, is bool) {
	if is {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: name, Value: "true"})
	}
}

// rosterElement tells the changes of the roster as roster items (RFC 6121 §2.1.2).
func rosterElement(p *inbox.Page) stanza.Element {
	out := stanza.New(nsSync, "roster")
	flag(&out, "all", p.RosterAll)
	items := make([]stanza.Element, 0, len(p.Roster)+len(p.Removed))
	for i := range p.Roster {
		if !p.Roster[i].Listed { // who only asks is told of by presence (RFC 6121 §3.1.3), and is in no roster
			if !p.RosterAll {
				gone := stanza.RosterItem{JID: p.Roster[i].JID, Subscription: "remove"}
				items = append(items, gone.Element())
			}
			continue
		}
		shown := p.Roster[i].Shown()
		items = append(items, shown.Element())
	}
	for _, j := range p.Removed {
		gone := stanza.RosterItem{JID: j, Subscription: "remove"}
		items = append(items, gone.Element())
	}
	return out.With(items...)
}

// list answers which conversations there are, the newest first.
func (c *Conversations) list(ctx context.Context, o inbox.Owner, iq *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
	request := iq.Child(nsConversations, "conversations")
	limit, refusal := pageOf(request)
	if refusal != nil {
		return nil, refusal
	}
	from, ok := inbox.ParsePosition(request.Attr("before"), c.config.Archive.ParseStanzaID)
	if !ok {
		return nil, stanza.Refuse(stanza.ItemNotFound, "before is not where a page ended.")
	}
	if !c.config.Archive.Allow(uint64(o.Account)) {
		return nil, tooMany
	}
	found, next, err := c.config.Inbox.Conversations(ctx, o, from, limit)
	if err != nil {
		return nil, c.failed("list conversations", o, err)
	}
	c.config.Archive.Spend(uint64(o.Account), len(found))
	out := stanza.New(nsConversations, "conversations")
	if text := next.Text(c.config.Archive.StanzaID); text != "" {
		out.Attrs = append(out.Attrs, stanza.Attr{Local: "next", Value: text})
	}
	for i := range found {
		e := c.conversation(nsConversations, &found[i])
		out.Nodes = append(out.Nodes, stanza.Node{Element: &e})
	}
	return []stanza.Element{out}, nil
}

// addressOf is the address of an account of this domain.
func (c *Conversations) addressOf(name string) (jid.JID, error) {
	return jid.New(name, c.config.Domain.Domain(), "")
}
