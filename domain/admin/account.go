package admin

import (
	"context"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// named returns the prepared name that a request is about, and its account when there is one.
func (a *Admin) named(ctx context.Context, r *request) (name string, account store.AccountID, ok bool, err error) {
	if name, err = jid.PrepareLocal(r.Attr("name")); err != nil {
		return "", 0, false, stanza.Refuse(stanza.BadRequest, "The name is not one that an account can have.")
	}
	account, ok, err = a.Directory.Lookup(ctx, name)
	return name, account, ok, err
}

// existing is as named, for an account that has to be there.
func (a *Admin) existing(ctx context.Context, r *request) (name string, account store.AccountID, err error) {
	name, account, ok, err := a.named(ctx, r)
	if err == nil && !ok {
		err = store.ErrNotFound
	}
	return name, account, err
}

func (a *Admin) address(name string) string { return name + "@" + a.Domain.String() }

func (a *Admin) createAccount(ctx context.Context, r *request) ([]stanza.Element, error) {
	name, _, taken, err := a.named(ctx, r)
	if err != nil {
		return nil, err
	}
	if taken {
		return nil, store.ErrExists
	}
	if err := a.note(ctx, r, "account.create", a.address(name), nil); err != nil {
		return nil, err
	}
	_, err = a.Accounts.Create(ctx, name, r.Text())
	return nil, err
}

// change notes and makes a change of an account that is there, and then ends what was begun under the old state.
func (a *Admin) change(ctx context.Context, r *request, action string, ends bool,
	change func(name string) error) ([]stanza.Element, error) {
	name, account, err := a.existing(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := a.note(ctx, r, action, a.address(name), nil); err != nil {
		return nil, err
	}
	if err := change(name); err != nil {
		return nil, err
	}
	if ends {
		a.Changed(ctx, account, name)
	}
	return nil, nil
}

func (a *Admin) setPassword(ctx context.Context, r *request) ([]stanza.Element, error) {
	return a.change(ctx, r, "account.password", true,
		func(name string) error { return a.Accounts.SetPassword(ctx, name, r.Text()) })
}

func (a *Admin) setDisabled(ctx context.Context, r *request, disabled bool) ([]stanza.Element, error) {
	action := "account.enable"
	if disabled {
		action = "account.disable"
	}
	return a.change(ctx, r, action, disabled,
		func(name string) error { return a.Accounts.SetDisabled(ctx, name, disabled) })
}

func (a *Admin) deleteAccount(ctx context.Context, r *request) ([]stanza.Element, error) {
	return a.change(ctx, r, "account.delete", true, func(name string) error { return a.Accounts.Delete(ctx, name) })
}

func (a *Admin) sessions(ctx context.Context, r *request) ([]stanza.Element, error) {
	name, account, err := a.existing(ctx, r)
	if err != nil {
		return nil, err
	}
	j, err := jid.New(name, a.Domain.Domain(), "")
	if err != nil {
		return nil, err
	}
	return a.sessionsOf(j, uint64(account)), nil
}

// ownSessions answers everybody about themselves.
func (a *Admin) ownSessions(_ context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
	return a.sessionsOf(r.From, r.Account), nil
}

func (a *Admin) sessionsOf(j jid.JID, account uint64) []stanza.Element {
	out := stanza.New(Namespace, "sessions")
	a.Sessions.Visit(j, func(u *session.User) {
		for s := range u.All {
			if u.Account() == account && !s.Hidden() {
				out = out.With(stanza.New(Namespace, "session", "jid", s.JID().String(), "device", u.Device(s),
					"bound", s.Bound().UTC().Format(time.RFC3339), "available",
					strconv.FormatBool(u.Presence(s) != nil)))
			}
		}
	})
	return []stanza.Element{out}
}

// kicked is told to those who are kicked.
var kicked = stream.Fail(stream.PolicyViolation, "An administrator has ended the session.")

func (a *Admin) kick(ctx context.Context, r *request) ([]stanza.Element, error) {
	name, account, err := a.existing(ctx, r)
	if err != nil {
		return nil, err
	}
	resource := r.Attr("resource")
	full, err := jid.New(name, a.Domain.Domain(), resource)
	if err != nil {
		return nil, stanza.Refuse(stanza.BadRequest, "The resource is not valid.")
	}
	if resource != "" && a.Sessions.Lookup(full) == nil {
		return nil, store.ErrNotFound
	}
	if err := a.note(ctx, r, "session.kick", full.String(), nil); err != nil {
		return nil, err
	}
	if resource != "" {
		a.Sessions.KickResource(full, kicked)
	} else {
		a.Sessions.Kick(uint64(account), kicked)
	}
	return nil, nil
}

func (a *Admin) createKey(ctx context.Context, r *request) ([]stanza.Element, error) {
	var expires time.Time
	if text := r.Attr("expires"); text != "" {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, stanza.Refuse(stanza.BadRequest, "The time is not one of XEP-0082.")
		}
		expires = t
	}
	var scopes []token.Scope
	var names []string
	for e := range r.Elements {
		scopes = append(scopes, token.Scope(e.Text()))
		names = append(names, e.Text())
	}
	if err := a.note(ctx, r, "key.create", r.Attr("name"),
		map[string]any{"scopes": names, "expires": r.Attr("expires")}); err != nil {
		return nil, err
	}
	secret, key, err := a.Keys.NewServiceKey(ctx, r.Attr("name"), scopes, expires)
	if err != nil {
		return nil, err
	}
	return []stanza.Element{stanza.New(Namespace, "key", "id", key.ID, "secret", secret)}, nil
}

func (a *Admin) revokeKey(ctx context.Context, r *request) ([]stanza.Element, error) {
	key, err := a.Services.ServiceKey(ctx, r.Attr("id"))
	if err != nil {
		return nil, err
	}
	if err := a.note(ctx, r, "key.revoke", key.Name, map[string]any{"id": key.ID}); err != nil {
		return nil, err
	}
	_, err = a.Services.RevokeServiceKey(ctx, key.ID, a.Now())
	a.Keys.ForgetKey(key.ID)
	return nil, err
}

// moderate takes the content out of a message. The archive does it; here it is only noted.
func (a *Admin) moderate(ctx context.Context, r *request) ([]stanza.Element, error) {
	if err := a.note(ctx, r, "message.moderate", r.Attr("id"),
		map[string]any{"reason": r.ChildText(Namespace, "reason")}); err != nil {
		return nil, err
	}
	result, refusal := a.Moderate(ctx, r.whole)
	if refusal != nil {
		return nil, refusal
	}
	return result, nil
}

func (a *Admin) status(context.Context, *request) ([]stanza.Element, error) {
	s, n := a.Status(), 0
	for range a.Sessions.Sessions {
		n++
	}
	return []stanza.Element{stanza.New(Namespace, "status", "version", s.Version, "durability", s.Durability, "state",
		s.State,
		"started", s.Started.UTC().Format(time.RFC3339), "sessions", strconv.Itoa(n))}, nil
}
