package api

import (
	"context"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Marks say how far somebody has come in a conversation, as numbers of messages. They only move forward.
type Marks struct {
	Delivered uint64 `json:"delivered"`
	Read      uint64 `json:"read"`
}

// Conversation is a conversation as its owner sees it.
type Conversation struct {
	With        string     `json:"with" doc:"The other party's bare address."`
	LastNumber  uint64     `json:"last_number" doc:"The number of its newest message."`
	LastMessage *Message   `json:"last_message,omitempty"`
	Unread      int        `json:"unread" doc:"How many messages wait to be read; 1000 stands for as many or more."`
	Own         Marks      `json:"own" doc:"The owner's marks, over all their devices."`
	Peer        Marks      `json:"peer" doc:"The other party's marks."`
	MutedUntil  *time.Time `json:"muted_until,omitempty" doc:"No notifications before then."`
	Pinned      bool       `json:"pinned"`
}

func (a *API) conversation(owner store.AccountID, c *inbox.Conversation) (Conversation, error) {
	out := Conversation{
		With: c.With.JID.String(), LastNumber: c.LastSeq, Unread: c.Unread, Pinned: c.Settings.Pinned,
		Own: Marks{c.Own.Delivered, c.Own.Read}, Peer: Marks{c.Peer.Delivered, c.Peer.Read},
	}
	if c.With.JID.IsZero() {
		out.With = c.Settings.With // settings of a conversation that has not begun
	}
	if !c.Settings.MutedUntil.IsZero() {
		t := c.Settings.MutedUntil.UTC()
		out.MutedUntil = &t
	}
	if c.LastMessage != nil {
		m, err := a.message(owner, c.LastMessage)
		if err != nil {
			return out, err
		}
		out.LastMessage = &m
	}
	return out, nil
}

// Conversations is a page of them, the one with the newest message first.
type Conversations struct {
	Conversations []Conversation `json:"conversations"`
	Next          string         `json:"next,omitempty" doc:"Where the next page begins; not there on the last."`
}

func (a *API) listConversations(ctx context.Context, in *struct {
	Before string `query:"before" maxLength:"64" doc:"The next of the page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}) (*body[Conversations], error) {
	var before uint64
	if in.Before != "" {
		var ok bool
		if before, ok = a.config.ParseStanzaID(in.Before); !ok {
			return nil, problem(CodeInvalidCursor, "")
		}
	}
	o := owner(ctx)
	found, more, err := a.config.Inbox.Conversations(ctx, o, store.MessageID(before), in.Limit)
	if err != nil {
		return nil, err
	}
	out := Conversations{Conversations: make([]Conversation, 0, len(found))}
	for i := range found {
		c, err := a.conversation(o.Account, &found[i])
		if err != nil {
			return nil, err
		}
		out.Conversations = append(out.Conversations, c)
	}
	if more && len(found) > 0 {
		out.Next = a.config.StanzaID(uint64(found[len(found)-1].Last))
	}
	return answer(out)
}

func (a *API) getConversation(ctx context.Context, in *struct {
	With string `path:"jid" maxLength:"2047" doc:"The other party's bare address."`
}) (*body[Conversation], error) {
	j, err := bare("path.jid", in.With)
	if err != nil {
		return nil, err
	}
	o := owner(ctx)
	c, err := a.config.Inbox.Conversation(ctx, o, j)
	if err != nil {
		return nil, err
	}
	out, err := a.conversation(o.Account, &c)
	if err != nil {
		return nil, err
	}
	return answer(out)
}

// History is a piece of a conversation, in the order of its numbers.
type History struct {
	Messages []Message `json:"messages"`
	More     bool      `json:"more" doc:"The range holds others beyond the limit."`
}

// HistoryRange says which piece.
type HistoryRange struct {
	With   string    `path:"jid" maxLength:"2047" doc:"The other party's bare address."`
	After  uint64    `query:"after" maximum:"9007199254740991" doc:"Only messages with greater numbers."`
	Before uint64    `query:"before" maximum:"9007199254740991" doc:"Only messages with lower numbers."`
	From   time.Time `query:"from" doc:"Only messages that were accepted then or later."`
	Until  time.Time `query:"until" doc:"Only messages that were accepted before then."`
	Order  string    `query:"order" enum:"newest,oldest" default:"newest" doc:"Which end of the range the piece is taken from; within it the order is always that of the numbers."`
	Limit  int       `query:"limit" minimum:"1" maximum:"250" default:"50"`
}

func (a *API) history(ctx context.Context, in *HistoryRange) (*body[History], error) {
	j, err := bare("path.jid", in.With)
	if err != nil {
		return nil, err
	}
	o := owner(ctx)
	if _, err := a.config.Inbox.Conversation(ctx, o, j); err != nil {
		return nil, err // 404 when there is none
	}
	found, more, err := a.config.Inbox.History(ctx, o, j, inbox.HistoryQuery{
		After: in.After, Before: in.Before, From: in.From, Until: in.Until, Backward: in.Order == "newest", Limit: in.Limit,
	})
	if err != nil {
		return nil, err
	}
	messages, err := a.messagesOf(o.Account, found)
	if err != nil {
		return nil, err
	}
	return answer(History{Messages: messages, More: more})
}

// talk finds the caller's conversation with an address, and its last number. What only others have said there does not count.
func (a *API) talk(ctx context.Context, j jid.JID) (me store.AccountID, with store.Party, id store.ConversationID, last uint64, err error) {
	o := owner(ctx)
	if with, err = a.party(ctx, j); err != nil {
		return 0, with, 0, 0, err
	}
	id, last, err = a.config.Log.Conversation(ctx, store.Party{JID: o.JID, Account: o.Account}, with)
	return o.Account, with, id, last, err
}

// Settings are what somebody has chosen for a conversation, for all their devices.
type Settings struct {
	MutedUntil *time.Time `json:"muted_until,omitempty" doc:"No notifications before then; not there: not muted. For ever is a time in the year 9999."`
	Pinned     bool       `json:"pinned"`
}

// nsConversations qualifies settings (docs/messages.md).
const nsConversations = "urn:posthouse:conversations:1"

func (a *API) setSettings(ctx context.Context, in *struct {
	With string `path:"jid" maxLength:"2047" doc:"The other party's bare address."`
	Body Settings
}) (*none, error) {
	j, err := bare("path.jid", in.With)
	if err != nil {
		return nil, err
	}
	e := stanza.New(nsConversations, "settings", "with", j.String(), "pinned", strconv.FormatBool(in.Body.Pinned))
	if t := in.Body.MutedUntil; t != nil && !t.IsZero() {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "muted-until", Value: t.UTC().Format(time.RFC3339)})
	}
	return a.ask(ctx, requestFrom(ctx).JID, e)
}

// ask sends an IQ of type set for the caller to an address, and drops the result.
func (a *API) ask(ctx context.Context, to jid.JID, payload stanza.Element) (*none, error) {
	_, err := a.config.Uplink.Ask(ctx, a.caller(ctx, false), to, stanza.TypeSet, payload)
	if err != nil {
		return nil, err
	}
	return &none{}, nil
}

// Mark is how far a device has come.
type Mark struct {
	Number uint64 `json:"number" minimum:"1" maximum:"9007199254740991" doc:"The number of the last message that it holds for. Beyond the last one it means the last."`
}

type markInput struct {
	With string `path:"jid" maxLength:"2047" doc:"The other party's bare address."`
	Body Mark
}

func (a *API) markRead(ctx context.Context, in *markInput) (*none, error) {
	return a.mark(ctx, in, content.Read)
}

func (a *API) markDelivered(ctx context.Context, in *markInput) (*none, error) {
	return a.mark(ctx, in, content.Delivered)
}

// lookBack is how many messages are looked through for one of the other party.
const lookBack = 200

// mark says a number as marks are said in XMPP: about a message of the other party.
func (a *API) mark(ctx context.Context, in *markInput, kind content.Kind) (*none, error) {
	j, err := bare("path.jid", in.With)
	if err != nil {
		return nil, err
	}
	me, with, id, last, err := a.talk(ctx, j)
	if err != nil {
		return nil, err
	}
	number := min(in.Body.Number, last)
	first := uint64(1)
	if number > lookBack {
		first = number - lookBack + 1
	}
	found, err := a.config.Log.Numbered(ctx, id, first, int(number-first+1))
	if err != nil {
		return nil, err
	}
	for i := len(found) - 1; i >= 0; i-- {
		m := &found[i]
		if m.Seq > number || m.Sender.Account == me && with.Account != me {
			continue
		}
		shown, err := a.message(me, m)
		if err != nil {
			return nil, err
		}
		if shown.ClientID == "" {
			continue
		}
		return a.transient(ctx, j, content.Content{Kind: kind, Target: shown.ClientID})
	}
	return &none{}, nil // nothing of the other party's stands before it: there is nothing to mark
}

func (a *API) typing(ctx context.Context, in *struct {
	With string `path:"jid" maxLength:"2047" doc:"The other party's bare address."`
	Body struct {
		Composing bool `json:"composing" doc:"Typing began, or ended."`
	}
}) (*none, error) {
	j, err := bare("path.jid", in.With)
	if err != nil {
		return nil, err
	}
	return a.transient(ctx, j, content.Content{Kind: content.Typing, Composing: in.Body.Composing})
}

// transient sends what has no identity of its own.
func (a *API) transient(ctx context.Context, to jid.JID, what content.Content) (*none, error) {
	payload, err := content.Build(what)
	if err != nil {
		return nil, err
	}
	_, err = a.config.Uplink.Send(ctx, a.caller(ctx, false), &stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat, To: to, Payload: payload})
	if err != nil {
		return nil, err
	}
	return &none{}, nil
}
