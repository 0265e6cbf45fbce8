package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
	"github.com/posthouse-im/posthouse/wire/uplink"
)

// Message is a stored message as one of its parties sees it.
type Message struct {
	ID           string          `json:"id" doc:"The server's identity of the message (XEP-0359 stanza-id)."`
	ClientID     string          `json:"client_id,omitempty" doc:"The identity that its sender gave it."`
	Conversation string          `json:"conversation" doc:"The other party's bare address, one's own for notes to oneself, or a room's."`
	Number       uint64          `json:"number" doc:"Counts the messages of the conversation: 1, 2, 3, … without holes."`
	Time         content.Time    `json:"time" doc:"When the server accepted it."`
	From         string          `json:"from" doc:"The sender's bare address."`
	To           string          `json:"to" doc:"The recipient's bare address."`
	Content      content.Content `json:"content"`
}

// message shows a stored message of a conversation to its owner.
func (a *API) message(o inbox.Owner, kind store.ConversationKind, with jid.JID, m *store.Message) (Message, error) {
	s, err := parseStored(m.Stanza)
	if err != nil {
		return Message{}, fmt.Errorf("read message %d: %w", m.ID, err)
	}
	out := Message{
		ID: a.config.StanzaID(uint64(m.ID)), ClientID: m.OriginID, Conversation: with.String(), Number: m.Seq,
		Time: stamp(m.ID.Time()),
		From: m.Author.JID.String(), To: with.String(), Content: content.Parse(s),
	}
	if out.ClientID == "" || strings.HasPrefix(out.ClientID, "sha256:") { // none, or one that was too long to be kept
		out.ClientID = s.ID
	}
	if kind == store.Direct && m.Author.Account != o.Account {
		out.To = o.JID.String()
	}
	return out, nil
}

// parseStored reads the canonical XML of a stored message.
func parseStored(text []byte) (*stanza.Stanza, error) {
	return xmlstream.Unmarshal(text)
}

// NewMessage is a message to send.
type NewMessage struct {
	ClientID string          `json:"client_id" minLength:"1" maxLength:"128" doc:"Made by the client, unique for ever, such as a UUID. A request that is repeated with it has one effect."`
	To       string          `json:"to" doc:"The recipient's bare address."`
	From     string          `json:"from,omitempty" doc:"For service keys: on whose behalf, with the scope message.send_as; without it the system speaks."`
	Content  content.Content `json:"content"`
}

// Sent says that a message is durable.
type Sent struct {
	ID           string       `json:"id"`
	ClientID     string       `json:"client_id"`
	Conversation string       `json:"conversation"`
	Number       uint64       `json:"number"`
	Time         content.Time `json:"time"`
	Duplicate    bool         `json:"duplicate" doc:"It was stored before; this repeats the first answer."`
}

var sayScopes = []token.Scope{token.ScopeUser, token.ScopeSend, token.ScopeSendAs}

// onBehalfOf returns on whose behalf a message is sent.
func (a *API) onBehalfOf(ctx context.Context, from string) (uplink.Caller, error) {
	q := requestFrom(ctx)
	c := a.caller(ctx, false)
	if q.Key == "" {
		if from != "" && from != q.JID.String() {
			return c, wrongField("body.from", "it is for service keys: you speak for yourself")
		}
		return c, nil
	}
	if from == "" || from == a.config.Domain.String() {
		if !q.May(token.ScopeSend) {
			return c, problem(CodeScope, "To speak as the system, the key needs the scope message.send.")
		}
		return c, nil
	}
	if !q.May(token.ScopeSendAs) {
		return c, problem(CodeScope, "To speak on behalf of somebody, the key needs the scope message.send_as.")
	}
	j, err := bare("body.from", from)
	if err != nil {
		return c, err
	}
	p, err := a.party(ctx, j)
	if err != nil {
		return c, err
	}
	if p.Account == 0 {
		return c, problem(CodeNoAddress, "There is no account from.")
	}
	// The power is the key's, and relies on nothing that was read of the account.
	return uplink.Caller{Account: uint64(p.Account), Bare: p.JID, Basis: int64(store.AnyBasis), Actor: c.Actor}, nil
}

func (a *API) sendMessage(ctx context.Context, in *struct{ Body NewMessage }) (*body[Sent], error) {
	switch in.Body.Content.Kind {
	case content.Delivered, content.Read, content.Typing, content.Retracted, content.Other:
		return nil, wrongField("body.content.kind", "it is not one that is sent as a message")
	case content.Edit, content.Retract:
		return nil, wrongField("body.content.kind",
			"messages are edited and retracted by PUT and DELETE of the message")
	}
	to, err := bare("body.to", in.Body.To)
	if err != nil {
		return nil, err
	}
	if to.Domain() != a.config.Domain.Domain() || to.Local() == "" {
		// this server knows no way to other domains, and the domain itself reads nothing
		return nil, problem(CodeNoAddress, "")
	}
	c, err := a.onBehalfOf(ctx, in.Body.From)
	if err != nil {
		return nil, err
	}
	return a.say(ctx, c, to, in.Body.ClientID, in.Body.Content)
}

// say sends content and answers when it is durable. The client's id makes repeating it harmless.
func (a *API) say(ctx context.Context, c uplink.Caller, to jid.JID, clientID string, what content.Content) (*body[Sent],
	error) {
	said, err := content.Build(what)
	if err != nil {
		return nil, err
	}
	said = append(said, content.Requests(what.Kind)...)
	said = append(said, stanza.New(payload.NSStanzaID, "origin-id", "id", clientID)) // XEP-0359 §3.2
	r, err := a.config.Uplink.Send(ctx, c,
		&stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat, ID: clientID, To: to, Payload: said})
	var refusal *stanza.Error
	switch {
	case errors.As(err, &refusal) && refusal.Condition == stanza.Conflict:
		return nil, problem(CodeConflict, "Another message was sent with this client_id.")
	case err != nil:
		return nil, err
	}
	return answer(Sent{ID: r.StanzaID, ClientID: clientID, Conversation: to.String(), Number: r.Number,
		Time: stamp(r.Time), Duplicate: r.Duplicate})
}

// byID is a message in the path.
type byID struct {
	ID string `path:"id" maxLength:"64" doc:"The server's identity of the message."`
}

// find returns a message that the caller can see, and the address of its conversation.
func (a *API) find(ctx context.Context, id string) (m store.Message, with jid.JID, out Message, err error) {
	n, ok := a.config.ParseStanzaID(id)
	if !ok {
		return m, with, out, notFound
	}
	o := owner(ctx)
	m, key, err := a.config.Inbox.Message(ctx, o, store.MessageID(n))
	if err != nil {
		return m, with, out, err
	}
	with = inbox.AddressOf(&key, o)
	out, err = a.message(o, key.Kind, with, &m)
	return m, with, out, err
}

func (a *API) getMessage(ctx context.Context, in *byID) (*body[Message], error) {
	_, _, out, err := a.find(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return answer(out)
}

// own returns the address that a message of the caller was sent to, and the identity that others know it by.
func (a *API) own(ctx context.Context, id string) (to jid.JID, target string, err error) {
	m, with, out, err := a.find(ctx, id)
	if err == nil && m.Author.Account != requestFrom(ctx).Account {
		err = problem(CodeNotFound, "You have sent no such message.")
	}
	return with, out.ClientID, err
}

// NewContent takes the place of what a message says.
type NewContent struct {
	ClientID string          `json:"client_id" minLength:"1" maxLength:"128" doc:"Of the edit, which is a message of its own."`
	Content  content.Content `json:"content" doc:"What the message is to say."`
}

func (a *API) editMessage(ctx context.Context, in *struct {
	ID   string `path:"id" maxLength:"64"`
	Body NewContent
}) (*body[Sent], error) {
	to, target, err := a.own(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	c := in.Body.Content
	if c.Target != "" || c.Becomes != "" {
		return nil, wrongField("body.content", "target and becomes are the server's to say")
	}
	c.Becomes, c.Kind, c.Target = c.Kind, content.Edit, target
	return a.say(ctx, a.caller(ctx, false), to, in.Body.ClientID, c)
}

func (a *API) retractMessage(ctx context.Context, in *struct {
	ID       string `path:"id" maxLength:"64"`
	ClientID string `query:"client_id" maxLength:"128" doc:"Of the retraction, which is a message of its own; made from the message's when it is not given."`
}) (*body[Sent], error) {
	to, target, err := a.own(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if in.ClientID == "" {
		in.ClientID = "retract-" + in.ID // so that repeating it has one effect
	}
	if !stanza.ValidText(in.ClientID) {
		return nil, wrongField("query.client_id", "it has characters that XML cannot carry")
	}
	return a.say(ctx, a.caller(ctx, false), to, in.ClientID, content.Content{Kind: content.Retract, Target: target})
}

// owner is whose view of the store the caller has.
func owner(ctx context.Context) inbox.Owner {
	q := requestFrom(ctx)
	return inbox.Owner{Account: q.Account, JID: q.JID}
}
