package api

import (
	"context"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Contact is somebody in the roster, or who asks to be.
type Contact struct {
	JID          string   `json:"jid"`
	Name         string   `json:"name"`
	Groups       []string `json:"groups"`
	Subscription string   `json:"subscription" enum:"none,to,from,both" doc:"to: you see their presence; from: they see yours."`
	Asked        bool     `json:"asked" doc:"You have asked to see their presence and wait."`
	Asks         bool     `json:"asks" doc:"They have asked to see yours and wait."`
	Listed       bool     `json:"listed" doc:"In the roster; false for somebody who only asks."`
}

func contactOf(i *store.RosterItem) Contact {
	shown := i.Shown()
	c := Contact{JID: i.JID.String(), Name: i.Name, Groups: i.Groups, Subscription: shown.Subscription,
		Asked: i.PendingOut, Asks: i.PendingIn, Listed: i.Listed}
	if c.Groups == nil {
		c.Groups = []string{}
	}
	return c
}

// Roster is the whole list of contacts.
type Roster struct {
	Contacts []Contact `json:"contacts"`
}

func (a *API) getRoster(ctx context.Context, _ *none) (*body[Roster], error) {
	items, _, err := a.config.Rosters.Roster(ctx, requestFrom(ctx).Account)
	if err != nil {
		return nil, err
	}
	out := Roster{Contacts: []Contact{}}
	for i := range items {
		if items[i].Listed || items[i].PendingIn {
			out.Contacts = append(out.Contacts, contactOf(&items[i]))
		}
	}
	return answer(out)
}

func (a *API) getContact(ctx context.Context, in *whom) (*body[Contact], error) {
	item, err := a.contact(ctx, in.JID)
	if err != nil {
		return nil, err
	}
	return answer(contactOf(&item))
}

// contact finds somebody in the caller's roster, or who asks to be.
func (a *API) contact(ctx context.Context, address string) (store.RosterItem, error) {
	j, err := bare("path.jid", address)
	if err != nil {
		return store.RosterItem{}, err
	}
	items, _, err := a.config.Rosters.Roster(ctx, requestFrom(ctx).Account)
	if err != nil {
		return store.RosterItem{}, err
	}
	for i := range items {
		if items[i].JID == j && (items[i].Listed || items[i].PendingIn) {
			return items[i], nil
		}
	}
	return store.RosterItem{}, notFound
}

// NewContact is what the owner says of a contact.
type NewContact struct {
	Name      string   `json:"name,omitempty" maxLength:"1024"`
	Groups    []string `json:"groups,omitempty" maxItems:"50"`
	Subscribe bool     `json:"subscribe,omitempty" doc:"Ask to see their presence."`
	Approve   bool     `json:"approve,omitempty" doc:"Let them see yours, now or when they ask."`
}

func (a *API) setContact(ctx context.Context, in *struct {
	JID  string `path:"jid" maxLength:"2047" doc:"The contact's bare address."`
	Body NewContact
}) (*none, error) {
	j, err := bare("path.jid", in.JID)
	if err != nil {
		return nil, err
	}
	item := stanza.RosterItem{JID: j, Name: in.Body.Name, Groups: in.Body.Groups}
	if _, err := a.ask(ctx, requestFrom(ctx).JID,
		stanza.New(stanza.NSRoster, "query").With(item.Element())); err != nil {
		return nil, err
	}
	if in.Body.Approve {
		if err := a.presence(ctx, j, stanza.TypeSubscribed); err != nil {
			return nil, err
		}
	}
	if in.Body.Subscribe {
		if err := a.presence(ctx, j, stanza.TypeSubscribe); err != nil {
			return nil, err
		}
	}
	return &none{}, nil
}

// presence sends a subscription stanza (RFC 6121 §3).
func (a *API) presence(ctx context.Context, to jid.JID, kind string) error {
	_, err := a.config.Uplink.Send(ctx, a.caller(ctx, false), &stanza.Stanza{Kind: stanza.Presence, Type: kind, To: to})
	return err
}

// whom is a contact in the path.
type whom struct {
	JID string `path:"jid" maxLength:"2047" doc:"The contact's bare address."`
}

// acceptContact, declineContact and cancelContact answer a request, or withdraw one. Where none waits they do nothing,
// so that they end no subscription.
func (a *API) acceptContact(ctx context.Context, in *whom) (*none, error) {
	return a.settleRequest(ctx, in, stanza.TypeSubscribed)
}

func (a *API) declineContact(ctx context.Context, in *whom) (*none, error) {
	return a.settleRequest(ctx, in, stanza.TypeUnsubscribed)
}

func (a *API) cancelContact(ctx context.Context, in *whom) (*none, error) {
	return a.settleRequest(ctx, in, stanza.TypeUnsubscribe)
}

// settleRequest sends the presence that settles a request, when one waits.
func (a *API) settleRequest(ctx context.Context, in *whom, kind string) (*none, error) {
	item, err := a.contact(ctx, in.JID)
	if err != nil {
		return nil, err
	}
	waits := item.PendingIn
	if kind == stanza.TypeUnsubscribe {
		waits = item.PendingOut
	}
	if !waits {
		return nil, problem(CodeNotFound, "No such request waits for an answer.")
	}
	if err := a.presence(ctx, item.JID, kind); err != nil {
		return nil, err
	}
	return &none{}, nil
}

func (a *API) removeContact(ctx context.Context, in *whom) (*none, error) {
	item, err := a.contact(ctx, in.JID)
	if err != nil {
		return nil, err
	}
	if !item.Listed { // somebody who only asks is sent away (RFC 6121 §3.2)
		return &none{}, a.presence(ctx, item.JID, stanza.TypeUnsubscribed)
	}
	gone := stanza.RosterItem{JID: item.JID, Subscription: "remove"}
	return a.ask(ctx, requestFrom(ctx).JID, stanza.New(stanza.NSRoster, "query").With(gone.Element()))
}
