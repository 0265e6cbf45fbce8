package api

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// nsAdmin qualifies what administrators ask of the domain.
const nsAdmin = "urn:posthouse:admin:1"

var adminScopes = []token.Scope{token.ScopeAdmin}

// administer sends a request of an administrator to the domain and returns the one element of the result, or an empty
// one. The peer's address goes with it, for the audit log.
func (a *API) administer(ctx context.Context, kind string, e stanza.Element) (stanza.Element, error) {
	if kind == stanza.TypeSet {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "remote", Value: requestFrom(ctx).client.Addr().String()})
	}
	result, err := a.config.Uplink.Ask(ctx, a.caller(ctx, true), a.config.Domain, kind, e)
	if err != nil || len(result) == 0 {
		return stanza.Element{}, err
	}
	return result[0], nil
}

// change is administer for what has no result.
func (a *API) change(ctx context.Context, e stanza.Element) (*none, error) {
	if _, err := a.administer(ctx, stanza.TypeSet, e); err != nil {
		return nil, err
	}
	return &none{}, nil
}

func (a *API) adminModerate(ctx context.Context, in *struct {
	ID     string `path:"id" maxLength:"64" doc:"The server's identity of the message."`
	Reason string `query:"reason" maxLength:"1024" doc:"Shown to both parties."`
}) (*none, error) {
	if !stanza.ValidText(in.Reason) {
		return nil, wrongField("query.reason", "it has characters that XML cannot carry")
	}
	if _, ok := a.config.ParseStanzaID(in.ID); !ok {
		return nil, notFound
	}
	e := stanza.New(nsAdmin, "moderate", "id", in.ID)
	if in.Reason != "" {
		e = e.With(stanza.New(nsAdmin, "reason").WithText(in.Reason))
	}
	return a.change(ctx, e)
}

// User is an account as administrators see it.
type User struct {
	Name     string       `json:"name" doc:"What stands before the @."`
	JID      string       `json:"jid"`
	Created  content.Time `json:"created"`
	Disabled bool         `json:"disabled"`
	Admin    bool         `json:"admin" doc:"The account administers the domain."`
}

// Users is a page of them, by name.
type Users struct {
	Users []User `json:"users"`
	Next  string `json:"next,omitempty" doc:"Where the next page begins; not there on the last."`
}

func (a *API) user(u *store.Account) User {
	return User{Name: u.Name, JID: u.Name + "@" + a.config.Domain.String(), Created: stamp(u.Created),
		Disabled: u.Disabled, Admin: u.Admin}
}

func (a *API) listUsers(ctx context.Context, in *struct {
	After string `query:"after" maxLength:"1023" doc:"The next of the page before."`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}) (*body[Users], error) {
	found, err := a.config.People.ListAccounts(ctx, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	out := Users{Users: make([]User, 0, len(found))}
	for i := range found {
		out.Users = append(out.Users, a.user(&found[i]))
	}
	if len(found) == in.Limit {
		out.Next = found[len(found)-1].Name
	}
	return answer(out)
}

// NewUser is an account to make.
type NewUser struct {
	Name     string `json:"name" minLength:"1" maxLength:"1023"`
	Password string `json:"password" minLength:"1" maxLength:"1024"`
}

func (a *API) createUser(ctx context.Context, in *struct{ Body NewUser }) (*made, error) {
	_, err := a.change(ctx, stanza.New(nsAdmin, "create-account", "name", in.Body.Name).WithText(in.Body.Password))
	if err != nil {
		return nil, err
	}
	name, err := jid.PrepareLocal(in.Body.Name)
	return &made{"/v1/admin/users/" + url.PathEscape(name)}, err
}

// named is an account in the path.
type named struct {
	Name string `path:"name" maxLength:"1023" doc:"What stands before the @."`
}

func (a *API) getUser(ctx context.Context, in *named) (*body[User], error) {
	name, err := jid.PrepareLocal(in.Name)
	if err != nil {
		return nil, notFound
	}
	u, err := a.config.People.Account(ctx, name)
	if err != nil {
		return nil, err
	}
	return answer(a.user(&u))
}

func (a *API) deleteUser(ctx context.Context, in *named) (*none, error) {
	return a.change(ctx, stanza.New(nsAdmin, "delete-account", "name", in.Name))
}

func (a *API) setUser(ctx context.Context, in *struct {
	Name string `path:"name" maxLength:"1023" doc:"What stands before the @."`
	Body struct {
		Disabled bool `json:"disabled" doc:"Disabled accounts keep what they have, and cannot log in. Their sessions end."`
	}
}) (*none, error) {
	action := "enable-account"
	if in.Body.Disabled {
		action = "disable-account"
	}
	return a.change(ctx, stanza.New(nsAdmin, action, "name", in.Name))
}

func (a *API) setPassword(ctx context.Context, in *struct {
	Name string `path:"name" maxLength:"1023" doc:"What stands before the @."`
	Body struct {
		Password string `json:"password" minLength:"1" maxLength:"1024"`
	}
}) (*none, error) {
	return a.change(ctx, stanza.New(nsAdmin, "set-password", "name", in.Name).WithText(in.Body.Password))
}

// Session is a connection of an account.
type Session struct {
	JID       string       `json:"jid" doc:"Its full address."`
	Device    string       `json:"device,omitempty"`
	Bound     content.Time `json:"bound" doc:"Since when."`
	Available bool         `json:"available" doc:"It has said that it is online."`
}

// Sessions is a list of them.
type Sessions struct {
	Sessions []Session `json:"sessions"`
}

func sessionsIn(e stanza.Element) Sessions {
	out := Sessions{Sessions: []Session{}}
	for s := range e.Elements {
		bound, _ := time.Parse(time.RFC3339, s.Attr("bound")) // the domain wrote it
		out.Sessions = append(out.Sessions,
			Session{s.Attr("jid"), s.Attr("device"), stamp(bound), s.Attr("available") == "true"})
	}
	return out
}

func (a *API) userSessions(ctx context.Context, in *named) (*body[Sessions], error) {
	e, err := a.administer(ctx, stanza.TypeGet, stanza.New(nsAdmin, "sessions", "name", in.Name))
	if err != nil {
		return nil, err
	}
	return answer(sessionsIn(e))
}

func (a *API) kickUser(ctx context.Context, in *struct {
	Name     string `path:"name" maxLength:"1023" doc:"What stands before the @."`
	Resource string `query:"resource" maxLength:"1023" doc:"What stands behind the / of the one to end; without it all are ended."`
}) (*none, error) {
	e := stanza.New(nsAdmin, "kick", "name", in.Name)
	if in.Resource != "" {
		if !stanza.ValidText(in.Resource) {
			return nil, wrongField("query.resource", "it has characters that XML cannot carry")
		}
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "resource", Value: in.Resource})
	}
	return a.change(ctx, e)
}

// mySessions are the caller's own.
func (a *API) mySessions(ctx context.Context, _ *none) (*body[Sessions], error) {
	result, err := a.config.Uplink.Ask(ctx, a.caller(ctx, false), requestFrom(ctx).JID, stanza.TypeGet,
		stanza.New(nsAdmin, "sessions"))
	if err != nil || len(result) == 0 {
		return nil, err
	}
	return answer(sessionsIn(result[0]))
}

// Key is a service key without its secret.
type Key struct {
	ID      string        `json:"id"`
	Name    string        `json:"name"`
	Scopes  []string      `json:"scopes"`
	Created content.Time  `json:"created"`
	Expires *content.Time `json:"expires,omitempty"`
	Used    *content.Time `json:"used,omitempty" doc:"When it was last used, to a minute."`
	Revoked *content.Time `json:"revoked,omitempty"`
}

// Keys is a list of them, by name.
type Keys struct {
	Keys []Key `json:"keys"`
}

// stamp is a time in an answer.
func stamp(t time.Time) content.Time { return content.Time{Time: t} }

// at is a time that may be missing.
func at(t time.Time) *content.Time {
	if t.IsZero() {
		return nil
	}
	return &content.Time{Time: t}
}

func keyOf(k *store.ServiceKey) Key {
	return Key{k.ID, k.Name, k.Scopes, stamp(k.Created), at(k.Expires), at(k.Used), at(k.Revoked)}
}

func (a *API) listKeys(ctx context.Context, _ *none) (*body[Keys], error) {
	found, err := a.config.Keys.ListServiceKeys(ctx)
	if err != nil {
		return nil, err
	}
	out := Keys{Keys: make([]Key, 0, len(found))}
	for i := range found {
		out.Keys = append(out.Keys, keyOf(&found[i]))
	}
	return answer(out)
}

func (a *API) getKey(ctx context.Context, in *struct {
	ID string `path:"id" maxLength:"64" doc:"The key's id."`
}) (*body[Key], error) {
	k, err := a.config.Keys.ServiceKey(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return answer(keyOf(&k))
}

// NewKey is a service key to make.
type NewKey struct {
	Name    string     `json:"name" minLength:"1" maxLength:"64"`
	Scopes  []string   `json:"scopes" minItems:"1" maxItems:"10" doc:"Of message.send, message.send_as, directory.read, token.introspect and admin."`
	Expires *time.Time `json:"expires,omitempty"`
}

// Secret is shown once.
type Secret struct {
	ID     string `json:"id"`
	Secret string `json:"secret" doc:"What the other system shows as a Bearer token. It is not kept here and cannot be shown again."`
}

type madeKey struct {
	Location string `header:"Location" doc:"Where it is."`
	Body     Secret
}

func (a *API) createKey(ctx context.Context, in *struct{ Body NewKey }) (*madeKey, error) {
	e := stanza.New(nsAdmin, "create-key", "name", in.Body.Name)
	if t := in.Body.Expires; t != nil && !t.IsZero() {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "expires", Value: t.UTC().Format(time.RFC3339)})
	}
	for _, s := range in.Body.Scopes {
		e = e.With(stanza.New(nsAdmin, "scope").WithText(s))
	}
	k, err := a.administer(ctx, stanza.TypeSet, e)
	if err != nil {
		return nil, err
	}
	return &madeKey{"/v1/admin/keys/" + k.Attr("id"), Secret{k.Attr("id"), k.Attr("secret")}}, nil
}

func (a *API) revokeKey(ctx context.Context, in *struct {
	ID string `path:"id" maxLength:"64" doc:"The key's id."`
}) (*none, error) {
	if !stanza.ValidText(in.ID) {
		return nil, notFound
	}
	return a.change(ctx, stanza.New(nsAdmin, "revoke-key", "id", in.ID))
}

// AuditEntry is one thing that was administered.
type AuditEntry struct {
	Number uint64       `json:"number"`
	At     content.Time `json:"at"`
	Actor  string       `json:"actor"`
	Action string       `json:"action"`
	Target string       `json:"target"`
	Detail string       `json:"detail,omitempty" doc:"The rest, as JSON."`
	Remote string       `json:"remote,omitempty"`
	Hash   []byte       `json:"hash" doc:"SHA-256 over the hash of the entry before and all of this one."`
}

// AuditLog is a page of the audit log, newest first.
type AuditLog struct {
	Entries []AuditEntry `json:"entries"`
	Next    uint64       `json:"next,omitempty" doc:"Where the next page begins; not there on the last."`
}

func (a *API) auditLog(ctx context.Context, in *struct {
	Before uint64 `query:"before" maximum:"9007199254740991" doc:"The next of the page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
}) (*body[AuditLog], error) {
	found, err := a.config.Audit.AuditEntries(ctx, in.Before, in.Limit)
	if err != nil {
		return nil, err
	}
	out := AuditLog{Entries: make([]AuditEntry, 0, len(found))}
	for _, e := range found {
		out.Entries = append(out.Entries,
			AuditEntry{e.Number, stamp(e.At), e.Actor, e.Action, e.Target, e.Detail, e.Remote, e.Hash})
	}
	if n := len(found); n == in.Limit && found[n-1].Number > 1 {
		out.Next = found[n-1].Number
	}
	return answer(out)
}

// Status is the state of the node.
type Status struct {
	Version    string       `json:"version"`
	State      string       `json:"state" doc:"ok, degraded or failed."`
	Durability string       `json:"durability" doc:"full: what is acknowledged was flushed to disk; relaxed: it was handed to the system."`
	Started    content.Time `json:"started"`
	Uptime     int          `json:"uptime" doc:"Seconds."`
	Sessions   int          `json:"sessions" doc:"Connections that are logged in now."`
}

func (a *API) status(ctx context.Context, _ *none) (*body[Status], error) {
	e, err := a.administer(ctx, stanza.TypeGet, stanza.New(nsAdmin, "status"))
	if err != nil {
		return nil, err
	}
	started, _ := time.Parse(time.RFC3339, e.Attr("started")) // the domain wrote it
	sessions, _ := strconv.Atoi(e.Attr("sessions"))
	return answer(Status{e.Attr("version"), e.Attr("state"), e.Attr("durability"), stamp(started),
		seconds(a.now(), started),
		sessions})
}
