package api

import (
	"context"
	"strings"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// nsProfile qualifies profiles (docs/messages.md).
const nsProfile = "urn:posthouse:profile:1"

// Profile is what an account shows of itself to others of its domain.
type Profile struct {
	JID   string `json:"jid"`
	Name  string `json:"name" doc:"What to call the person."`
	Title string `json:"title" doc:"What they do."`
}

func (a *API) profileOf(p *store.Profile) Profile {
	return Profile{JID: p.Username + "@" + a.config.Domain.String(), Name: p.Name, Title: p.Title}
}

// Profiles is a list of them.
type Profiles struct {
	Profiles []Profile `json:"profiles"`
	Next     string    `json:"next,omitempty" doc:"Where the next page of a search begins; not there on the last."`
}

func (a *API) profileList(found []store.Profile) Profiles {
	out := Profiles{Profiles: make([]Profile, 0, len(found))}
	for i := range found {
		out.Profiles = append(out.Profiles, a.profileOf(&found[i]))
	}
	return out
}

var readScopes = []token.Scope{token.ScopeUser, token.ScopeDirectory}

func (a *API) getProfile(ctx context.Context, _ *none) (*body[Profile], error) {
	found, err := a.config.Profiles.Profiles(ctx, []store.AccountID{requestFrom(ctx).Account})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, notFound
	}
	return answer(a.profileOf(&found[0]))
}

// NewProfile replaces what an account shows of itself.
type NewProfile struct {
	Name  string `json:"name" maxLength:"128"`
	Title string `json:"title" maxLength:"128"`
}

func (a *API) setProfile(ctx context.Context, in *struct{ Body NewProfile }) (*none, error) {
	return a.ask(ctx, requestFrom(ctx).JID,
		stanza.New(nsProfile, "profile", "name", in.Body.Name, "title", in.Body.Title))
}

// addresses reads bare addresses of this domain with their accounts; those that have none are left out.
func (a *API) addresses(ctx context.Context, texts []string) (found []store.Party, err error) {
	for _, text := range texts {
		j, err := bare("query.jid", text)
		if err != nil {
			return nil, err
		}
		p, err := a.party(ctx, j)
		if err != nil {
			return nil, err
		}
		if p.Account != 0 {
			found = append(found, p)
		}
	}
	return found, nil
}

func (a *API) getProfiles(ctx context.Context, in *struct {
	JID []string `query:"jid,explode" required:"true" minItems:"1" maxItems:"100" doc:"Bare addresses; the parameter may come many times. Those without an account are left out."`
}) (*body[Profiles], error) {
	parties, err := a.addresses(ctx, in.JID)
	if err != nil {
		return nil, err
	}
	var accounts []store.AccountID
	for _, p := range parties {
		accounts = append(accounts, p.Account)
	}
	if len(accounts) == 0 {
		return answer(Profiles{Profiles: []Profile{}})
	}
	found, err := a.config.Profiles.Profiles(ctx, accounts)
	if err != nil {
		return nil, err
	}
	return answer(a.profileList(found))
}

func (a *API) searchDirectory(ctx context.Context, in *struct {
	Query string `query:"q" required:"true" minLength:"1" maxLength:"128" doc:"Words; each has to begin the name of the account or a word of the person's name."`
	After string `query:"after" maxLength:"1023" doc:"The next of the page before."`
	Limit int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
}) (*body[Profiles], error) {
	words := strings.Fields(in.Query)
	if len(words) == 0 || len(words) > 8 {
		return nil, wrongField("query.q", "it has one to eight words")
	}
	if in.After != "" {
		if name, err := jid.PrepareLocal(in.After); err != nil || name != in.After {
			return nil, problem(CodeInvalidCursor, "")
		}
	}
	found, err := a.config.Profiles.SearchProfiles(ctx, words, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	out := a.profileList(found)
	if len(found) == in.Limit {
		out.Next = found[len(found)-1].Username
	}
	return answer(out)
}
