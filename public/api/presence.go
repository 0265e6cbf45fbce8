package api

import (
	"context"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// nsPresence qualifies the question for the presence of many.
const nsPresence = "urn:posthouse:presence:1"

// Presence says whether somebody is online.
type Presence struct {
	JID    string `json:"jid"`
	Online bool   `json:"online"`
	Show   string `json:"show,omitempty" doc:"away, chat, dnd or xa (RFC 6121 §4.7.2.1), of the device that would get messages first."`
	Status string `json:"status,omitempty" doc:"What they say of it."`
}

// Presences is a list of them.
type Presences struct {
	Presence []Presence `json:"presence"`
}

func (a *API) getPresence(ctx context.Context, in *struct {
	JID []string `query:"jid,explode" maxItems:"100" doc:"Bare addresses; the parameter may come many times. Without it all contacts are meant. Those whose presence is not for you to see are left out."`
}) (*body[Presences], error) {
	found, err := a.presenceOf(ctx, in.JID)
	if err != nil {
		return nil, err
	}
	return answer(Presences{Presence: found})
}

// askAtOnce is how many addresses one question to the domain names.
const askAtOnce = 500

// presenceOf asks the domain for the presence of those addresses, or of all contacts.
func (a *API) presenceOf(ctx context.Context, names []string) ([]Presence, error) {
	var addresses []string
	for _, text := range names {
		j, err := bare("query.jid", text)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, j.String())
	}
	if len(names) == 0 {
		contacts, err := a.subscribedTo(ctx)
		if err != nil {
			return nil, err
		}
		addresses = contacts
	}
	found := []Presence{}
	for len(addresses) > 0 {
		n := min(len(addresses), askAtOnce)
		query := stanza.New(nsPresence, "query")
		for _, j := range addresses[:n] {
			query = query.With(stanza.New(nsPresence, "item", "jid", j))
		}
		addresses = addresses[n:]
		result, err := a.config.Uplink.Ask(ctx, a.caller(ctx, false), a.config.Domain, stanza.TypeGet, query)
		if err != nil {
			return nil, err
		}
		for i := range result {
			for item := range result[i].Elements {
				found = append(found, Presence{
					JID: item.Attr("jid"), Online: item.Attr("online") == "true", Show: item.Attr("show"),
					Status: item.ChildText(nsPresence, "status"),
				})
			}
		}
	}
	return found, nil
}

// subscribedTo returns the contacts whose presence the caller is shown; none for a service key.
func (a *API) subscribedTo(ctx context.Context) (found []string, err error) {
	q := requestFrom(ctx)
	if q.Account == 0 {
		return nil, nil
	}
	items, _, err := a.config.Rosters.Roster(ctx, q.Account)
	for i := range items {
		if items[i].To {
			found = append(found, items[i].JID.String())
		}
	}
	return found, err
}
