package api

import (
	"context"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// ReadMarkers say how far somebody has come in a conversation, as numbers of messages. They only move forward.
type ReadMarkers struct {
	Delivered uint64 `json:"delivered" doc:"Through which number messages have reached a device."`
	Read      uint64 `json:"read" doc:"Through which number they were read."`
}

// Conversation is a conversation as its owner sees it.
type Conversation struct {
	With        string        `json:"with" doc:"The other party's bare address, one's own for notes to oneself, or a room's."`
	Kind        string        `json:"kind" enum:"direct,room" doc:"Between two people, or between the members of a room."`
	LastNumber  uint64        `json:"last_number" doc:"The number of its newest message; 0 when there is none yet."`
	LastMessage *Message      `json:"last_message,omitempty"`
	Unread      int           `json:"unread" doc:"How many messages wait to be read; 1000 stands for as many or more."`
	Own         ReadMarkers   `json:"own" doc:"How far the owner has come, over all their devices."`
	Peer        ReadMarkers   `json:"peer" doc:"How far the other party has come, as far as it tells; zero in a room."`
	MutedUntil  *content.Time `json:"muted_until,omitempty" doc:"No notifications before then."`
	Pinned      bool          `json:"pinned"`
}

func (a *API) conversation(o inbox.Owner, c *inbox.Conversation) (Conversation, error) {
	out := Conversation{
		With: c.Address().String(), Kind: "direct", LastNumber: c.LastSeq, Unread: c.Unread,
		Pinned: c.Settings.Pinned, MutedUntil: at(c.Settings.MutedUntil),
		Own: ReadMarkers{c.Own.Delivered, c.Own.Read}, Peer: ReadMarkers{c.Peer.Delivered, c.Peer.Read},
	}
	if c.Kind == store.Room {
		out.Kind = "room"
	}
	if c.LastMessage != nil {
		m, err := a.message(o, c.Kind, c.Address(), c.LastMessage)
		if err != nil {
			return out, err
		}
		out.LastMessage = &m
	}
	return out, nil
}

// Conversations is a page of them: those with a message, the newest message first; then those without for which
// something was chosen.
type Conversations struct {
	Conversations []Conversation `json:"conversations"`
	Next          string         `json:"next,omitempty" doc:"Where the next page begins; not there on the last. A page with a next one may be short."`
}

func (a *API) listConversations(ctx context.Context, in *struct {
	Before string `query:"before" maxLength:"64" doc:"The next of the page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}) (*body[Conversations], error) {
	from, ok := inbox.ParsePosition(in.Before, a.config.ParseStanzaID)
	if !ok {
		return nil, problem(CodeInvalidCursor, "")
	}
	o := owner(ctx)
	found, next, err := a.config.Inbox.Conversations(ctx, o, from, in.Limit)
	if err == nil {
		found, next, err = a.config.Inbox.AddNewest(ctx, found, next)
	}
	if err != nil {
		return nil, err
	}
	out := Conversations{Conversations: make([]Conversation, 0, len(found)), Next: next.Text(a.config.StanzaID)}
	for i := range found {
		c, err := a.conversation(o, &found[i])
		if err != nil {
			return nil, err
		}
		out.Conversations = append(out.Conversations, c)
	}
	return answer(out)
}

func (a *API) getConversation(ctx context.Context, in *struct {
	With string `path:"jid" maxLength:"2047" doc:"The other party's bare address, or a room's."`
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
	out, err := a.conversation(o, &c)
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
	With   string    `path:"jid" maxLength:"2047" doc:"The other party's bare address, or a room's."`
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
	c, found, more, err := a.config.Inbox.History(ctx, o, j, inbox.HistoryQuery{
		After: in.After, Before: in.Before, From: in.From, Until: in.Until, Backward: in.Order == "newest",
		Limit: in.Limit,
	})
	if err != nil {
		return nil, err
	}
	out := History{Messages: make([]Message, 0, len(found)), More: more}
	for i := range found {
		m, err := a.message(o, c.Kind, c.Address(), &found[i])
		if err != nil {
			return nil, err
		}
		out.Messages = append(out.Messages, m)
	}
	return answer(out)
}

// Settings are what somebody has chosen for a conversation, for all their devices.
type Settings struct {
	MutedUntil *content.Time `json:"muted_until,omitempty" doc:"No notifications before then; not there: not muted. For ever is a time in the year 9999."`
	Pinned     bool          `json:"pinned"`
}

// nsConversations qualifies settings (docs/messages.md).
const nsConversations = "urn:posthouse:conversations:1"

func (a *API) getSettings(ctx context.Context, in *struct {
	With string `path:"jid" maxLength:"2047" doc:"The other party's bare address, or a room's."`
}) (*body[Settings], error) {
	j, err := bare("path.jid", in.With)
	if err != nil {
		return nil, err
	}
	c, err := a.config.Inbox.Conversation(ctx, owner(ctx), j)
	if err != nil {
		return nil, err
	}
	return answer(Settings{at(c.Settings.MutedUntil), c.Settings.Pinned})
}

func (a *API) setSettings(ctx context.Context, in *struct {
	With string `path:"jid" maxLength:"2047" doc:"The other party's bare address, or a room's."`
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

// Marker is how far somebody has come.
type Marker struct {
	Number uint64 `json:"number" minimum:"1" maximum:"9007199254740991" doc:"Through which number. Beyond the last one it is taken for the last."`
}

type markerInput struct {
	With string `path:"jid" maxLength:"2047" doc:"The other party's bare address, or a room's."`
	Body Marker
}

func (a *API) markRead(ctx context.Context, in *markerInput) (*none, error) {
	return a.mark(ctx, in, "read")
}

func (a *API) markDelivered(ctx context.Context, in *markerInput) (*none, error) {
	return a.mark(ctx, in, "delivered")
}

// mark says a number as the marker of that name.
func (a *API) mark(ctx context.Context, in *markerInput, name string) (*none, error) {
	j, err := bare("path.jid", in.With)
	if err != nil {
		return nil, err
	}
	c, err := a.config.Inbox.Conversation(ctx, owner(ctx), j)
	if err != nil {
		return nil, err
	}
	if c.Last == 0 {
		return &none{}, nil // there is nothing to mark
	}
	return a.transient(ctx, j, stanza.New(payload.NSMarker, name, "number", strconv.FormatUint(in.Body.Number, 10)))
}

func (a *API) typing(ctx context.Context, in *struct {
	With string `path:"jid" maxLength:"2047" doc:"The other party's bare address, or a room's."`
	Body struct {
		Composing bool `json:"composing" doc:"Typing began, or ended."`
	}
}) (*none, error) {
	j, err := bare("path.jid", in.With)
	if err != nil {
		return nil, err
	}
	said, err := content.Build(content.Content{Kind: content.Typing, Composing: in.Body.Composing})
	if err != nil {
		return nil, err
	}
	return a.transient(ctx, j, said...)
}

// transient sends what has no identity of its own.
func (a *API) transient(ctx context.Context, to jid.JID, said ...stanza.Element) (*none, error) {
	_, err := a.config.Uplink.Send(
		ctx, a.caller(ctx, false), &stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat, To: to, Payload: said},
	)
	if err != nil {
		return nil, err
	}
	return &none{}, nil
}
