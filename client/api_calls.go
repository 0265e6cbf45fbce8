package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/wire/content"
)

// APIMessage is a message as the API tells it.
type APIMessage struct {
	// ID is the server's identity of the message, which streams call the stanza-id; ClientID is the sender's own.
	ID           string          `json:"id"`
	ClientID     string          `json:"client_id"`
	Conversation string          `json:"conversation"`
	Number       uint64          `json:"number"`
	Time         time.Time       `json:"time"`
	From         string          `json:"from"`
	To           string          `json:"to"`
	Content      content.Content `json:"content"`
}

// APINewMessage is what is to be sent. ClientID is made by the caller: a request that is repeated with it has one
// effect.
type APINewMessage struct {
	ClientID string          `json:"client_id"`
	To       string          `json:"to"`
	From     string          `json:"from,omitempty"` // for service keys: on whose behalf
	Content  content.Content `json:"content"`
}

// APISent tells what became of it: it is durable.
type APISent struct {
	ID           string    `json:"id"`
	ClientID     string    `json:"client_id"`
	Conversation string    `json:"conversation"`
	Number       uint64    `json:"number"`
	Time         time.Time `json:"time"`
	Duplicate    bool      `json:"duplicate"`
}

// APIReadMarkers are how far somebody has come in a conversation, as numbers.
type APIReadMarkers struct {
	Delivered uint64 `json:"delivered"`
	Read      uint64 `json:"read"`
}

// APIConversation is the state of a conversation.
type APIConversation struct {
	// With is the other party's address, one's own for notes to oneself, or that of a room.
	With string `json:"with"`
	// Kind is direct or room.
	Kind        string         `json:"kind"`
	LastNumber  uint64         `json:"last_number"`
	LastMessage *APIMessage    `json:"last_message"`
	Unread      int            `json:"unread"`
	Own         APIReadMarkers `json:"own"`
	Peer        APIReadMarkers `json:"peer"`
	MutedUntil  *time.Time     `json:"muted_until"`
	Pinned      bool           `json:"pinned"`
}

// APIContact is an entry of the contact list.
type APIContact struct {
	JID          string   `json:"jid"`
	Name         string   `json:"name"`
	Groups       []string `json:"groups"`
	Subscription string   `json:"subscription"`
	Asked        bool     `json:"asked"`
	Asks         bool     `json:"asks"`
	Listed       bool     `json:"listed"`
}

// APIProfile is what an account shows of itself.
type APIProfile struct {
	JID   string `json:"jid,omitempty"`
	Name  string `json:"name"`
	Title string `json:"title"`
}

// APIPresence is whether somebody is online.
type APIPresence struct {
	JID    string `json:"jid"`
	Online bool   `json:"online"`
	Show   string `json:"show"`
	Status string `json:"status"`
}

// APIDevice is one of the account's devices.
type APIDevice struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Software string    `json:"software"`
	Created  time.Time `json:"created"`
	Seen     time.Time `json:"seen"`
	Current  bool      `json:"current"`
}

// APIChanges is what has changed since a cursor.
type APIChanges struct {
	// Cursor is where the next call goes on. Keep it when all of the page was kept, and not before.
	Cursor        string            `json:"cursor"`
	More          bool              `json:"more"`
	First         bool              `json:"first"`
	Messages      []APIMessage      `json:"messages"`
	Conversations []APIConversation `json:"conversations"`
	Roster        []APIContact      `json:"roster"`
	RosterAll     bool              `json:"roster_all"`
	Removed       []string          `json:"removed"`
	Profiles      []APIProfile      `json:"profiles"`
	Presence      []APIPresence     `json:"presence"`
}

// sendTimeout is how long one request of Send may take, and sendPause how long it waits before the next.
const (
	sendTimeout = 15 * time.Second
	sendPause   = 300 * time.Millisecond
)

// Send sends a message and returns when it is durable. A request that breaks is made again with the same ClientID,
// until the context ends: the server takes the message once.
func (a *API) Send(ctx context.Context, m APINewMessage) (APISent, error) {
	var out APISent
	if m.ClientID == "" {
		m.ClientID = newID()
	}
	err := a.insist(ctx, http.MethodPost, "/v1/messages", nil, m, &out)
	return out, err
}

// insist makes a call that has one effect however often it is made, until it is answered.
func (a *API) insist(ctx context.Context, method, path string, query url.Values, in, out any) error {
	for {
		once, cancel := context.WithTimeout(ctx, sendTimeout)
		err := a.do(once, method, path, query, in, out)
		cancel()
		if err == nil || ctx.Err() != nil || !uncertain(err) {
			return err
		}
		timer := time.NewTimer(sendPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// Edit replaces what one's own message says; id is the server's. ClientID is that of the edit, which is a message of
// its own.
func (a *API) Edit(ctx context.Context, id, clientID string, what content.Content) (APISent, error) {
	var out APISent
	in := struct {
		ClientID string          `json:"client_id"`
		Content  content.Content `json:"content"`
	}{clientID, what}
	err := a.insist(ctx, http.MethodPut, "/v1/messages/"+url.PathEscape(id), nil, in, &out)
	return out, err
}

// Retract takes one's own message back.
func (a *API) Retract(ctx context.Context, id string) (APISent, error) {
	var out APISent
	err := a.insist(ctx, http.MethodDelete, "/v1/messages/"+url.PathEscape(id), nil, nil, &out)
	return out, err
}

// Message returns a message by the server's id.
func (a *API) Message(ctx context.Context, id string) (APIMessage, error) {
	var out APIMessage
	err := a.do(ctx, http.MethodGet, "/v1/messages/"+url.PathEscape(id), nil, nil, &out)
	return out, err
}

// Conversations returns a page of the conversations, the newest first, and where the next page begins, "" on the last
// one.
func (a *API) Conversations(ctx context.Context, before string) ([]APIConversation, string, error) {
	var out struct {
		Conversations []APIConversation `json:"conversations"`
		Next          string            `json:"next"`
	}
	query := url.Values{}
	if before != "" {
		query.Set("before", before)
	}
	err := a.do(ctx, http.MethodGet, "/v1/conversations", query, nil, &out)
	return out.Conversations, out.Next, err
}

// Conversation returns the state of one conversation.
func (a *API) Conversation(ctx context.Context, with string) (APIConversation, error) {
	var out APIConversation
	err := a.do(ctx, http.MethodGet, "/v1/conversations/"+url.PathEscape(with), nil, nil, &out)
	return out, err
}

// APIRange chooses messages of a conversation by number; 0 stands for no bound.
type APIRange struct {
	After, Before uint64
	// Oldest takes the piece from the beginning of the range, and not from its end.
	Oldest bool
	Limit  int
}

// History returns messages of a conversation, in the order of their numbers, and whether the range holds more.
func (a *API) History(ctx context.Context, with string, r APIRange) ([]APIMessage, bool, error) {
	query := url.Values{}
	number := func(name string, n uint64) {
		if n > 0 {
			query.Set(name, strconv.FormatUint(n, 10))
		}
	}
	number("after", r.After)
	number("before", r.Before)
	number("limit", uint64(max(0, r.Limit)))
	if r.Oldest {
		query.Set("order", "oldest")
	}
	var out struct {
		Messages []APIMessage `json:"messages"`
		More     bool         `json:"more"`
	}
	err := a.do(ctx, http.MethodGet, "/v1/conversations/"+url.PathEscape(with)+"/messages", query, nil, &out)
	return out.Messages, out.More, err
}

// MarkRead tells that everything through that number was read. A number beyond the last one is taken for the last.
func (a *API) MarkRead(ctx context.Context, with string, number uint64) error {
	return a.mark(ctx, with, "read", number)
}

// MarkDelivered tells that everything through that number has come.
func (a *API) MarkDelivered(ctx context.Context, with string, number uint64) error {
	return a.mark(ctx, with, "delivered", number)
}

func (a *API) mark(ctx context.Context, with, what string, number uint64) error {
	in := map[string]uint64{"number": number}
	return a.insist(ctx, http.MethodPut, "/v1/conversations/"+url.PathEscape(with)+"/"+what, nil, in, nil)
}

// SetTyping tells the other party that typing began or ended.
func (a *API) SetTyping(ctx context.Context, with string, composing bool) error {
	in := map[string]bool{"composing": composing}
	return a.do(ctx, http.MethodPost, "/v1/conversations/"+url.PathEscape(with)+"/typing", nil, in, nil)
}

// SetConversation mutes or pins a conversation. The zero time ends muting.
func (a *API) SetConversation(ctx context.Context, with string, mutedUntil time.Time, pinned bool) error {
	in := struct {
		MutedUntil *time.Time `json:"muted_until,omitempty"`
		Pinned     bool       `json:"pinned"`
	}{Pinned: pinned}
	if !mutedUntil.IsZero() {
		in.MutedUntil = &mutedUntil
	}
	return a.do(ctx, http.MethodPut, "/v1/conversations/"+url.PathEscape(with)+"/settings", nil, in, nil)
}

// Sync returns what has changed since a cursor, "" for a first sync. When nothing has, it waits for up to that long, in
// whole seconds, 55 at most. Limit is how many messages at most, 0 for what the server thinks good. A *Problem of
// status 410 says to start over without a cursor.
func (a *API) Sync(ctx context.Context, cursor string, limit int, wait time.Duration) (APIChanges, error) {
	query := url.Values{}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	if s := int(wait / time.Second); s > 0 {
		query.Set("wait", strconv.Itoa(min(s, 55)))
	}
	var out APIChanges
	err := a.do(ctx, http.MethodGet, "/v1/sync", query, nil, &out)
	return out, err
}

// Roster returns the contact list, and who asks to be in it.
func (a *API) Roster(ctx context.Context) ([]APIContact, error) {
	var out struct {
		Contacts []APIContact `json:"contacts"`
	}
	err := a.do(ctx, http.MethodGet, "/v1/roster", nil, nil, &out)
	return out.Contacts, err
}

// APINewContact is how a contact is to be listed. Subscribe asks to see their presence, Approve lets them see one's
// own.
type APINewContact struct {
	Name      string   `json:"name,omitempty"`
	Groups    []string `json:"groups,omitempty"`
	Subscribe bool     `json:"subscribe,omitempty"`
	Approve   bool     `json:"approve,omitempty"`
}

// SetContact adds a contact or changes it.
func (a *API) SetContact(ctx context.Context, who string, c APINewContact) error {
	return a.do(ctx, http.MethodPut, "/v1/roster/"+url.PathEscape(who), nil, c, nil)
}

// AcceptContact lets somebody who asks see one's presence. It changes nothing else.
func (a *API) AcceptContact(ctx context.Context, who string) error {
	return a.request(ctx, who, "accept")
}

// DeclineContact does not let them.
func (a *API) DeclineContact(ctx context.Context, who string) error {
	return a.request(ctx, who, "decline")
}

// CancelContact withdraws one's own request that waits for an answer.
func (a *API) CancelContact(ctx context.Context, who string) error {
	return a.request(ctx, who, "cancel")
}

func (a *API) request(ctx context.Context, who, verb string) error {
	return a.do(ctx, http.MethodPost, "/v1/roster/"+url.PathEscape(who)+"/"+verb, nil, nil, nil)
}

// RemoveContact takes somebody off the contact list.
func (a *API) RemoveContact(ctx context.Context, who string) error {
	return a.do(ctx, http.MethodDelete, "/v1/roster/"+url.PathEscape(who), nil, nil, nil)
}

// Profile returns one's own profile.
func (a *API) Profile(ctx context.Context) (APIProfile, error) {
	var out APIProfile
	err := a.do(ctx, http.MethodGet, "/v1/profile", nil, nil, &out)
	return out, err
}

// SetProfile changes one's own profile.
func (a *API) SetProfile(ctx context.Context, name, title string) error {
	return a.do(ctx, http.MethodPut, "/v1/profile", nil, APIProfile{Name: name, Title: title}, nil)
}

// Presence tells who of those people is online, as far as one may know; without names, all contacts.
func (a *API) Presence(ctx context.Context, who ...string) ([]APIPresence, error) {
	var out struct {
		Presence []APIPresence `json:"presence"`
	}
	err := a.do(ctx, http.MethodGet, "/v1/presence", url.Values{"jid": who}, nil, &out)
	return out.Presence, err
}

// Devices lists the account's devices.
func (a *API) Devices(ctx context.Context) ([]APIDevice, error) {
	var out struct {
		Devices []APIDevice `json:"devices"`
	}
	err := a.do(ctx, http.MethodGet, "/v1/devices", nil, nil, &out)
	return out.Devices, err
}

// SignOut ends a device's sessions and tokens.
func (a *API) SignOut(ctx context.Context, device string) error {
	return a.do(ctx, http.MethodDelete, "/v1/devices/"+url.PathEscape(device), nil, nil, nil)
}
