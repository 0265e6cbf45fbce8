// Package admin answers the requests of administrators, and of other systems with a service key for administration:
// accounts, their sessions, service keys and the state of the node. It also answers which of many accounts are online,
// for other systems.
//
// Every change is written to the audit log before it takes effect. If that write fails, the change is not made. Only
// sessions that the public layer has created for an administrator are served; to all others the requests are unknown.
//
// An Operator does the same on the command line, outside of a node.
//
// The package owns no state. Everything runs on the goroutine of the requester. The exception is an import, which
// derives keys on all processors and waits for that.
package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Namespace qualifies the requests. They are IQs to the domain; payloads are of one element each:
//
//	<create-account name='romeo'>password</create-account>     set
//	<set-password name='romeo'>password</set-password>         set
//	<disable-account name='romeo'/>  <enable-account name='romeo'/>  <delete-account name='romeo'/>     set
//	<sessions name='romeo'/>                                    get, answered by
//	    <sessions><session jid= device= bound= available= /></sessions>
//	<kick name='romeo' resource='orchard'/>                     set; all sessions without a resource
//	<create-key name='crm' expires='2027-01-01T00:00:00Z'><scope>message.send</scope></create-key>
//	                                                            set, answered by <key id= secret= />
//	<moderate id='STANZA-ID'><reason/></moderate>               set: takes the content out of any message
//	<revoke-key id='…'/>                                        set
//	<sessions/>                                                 get, to one's own account, for everybody
//	<status/>                                                   get, answered by
//	    <status version= started= sessions= durability= state= />
//
// Changes may have a remote='…': the address of the peer, for the audit log.
const Namespace = "urn:posthouse:admin:1"

// Accounts changes accounts: *auth.Authenticator.
type Accounts interface {
	Create(ctx context.Context, name, password string) (store.Account, error)
	SetPassword(ctx context.Context, name, password string) error
	SetDisabled(ctx context.Context, name string, disabled bool) error
	Delete(ctx context.Context, name string) error
}

// Directory finds accounts.
type Directory interface {
	Lookup(ctx context.Context, name string) (account store.AccountID, ok bool, err error)
}

// Contacts knows who may see whose presence.
type Contacts interface {
	Sees(ctx context.Context, account uint64, peer jid.JID) (bool, error)
}

// Keys makes service keys: *token.Service.
type Keys interface {
	NewServiceKey(ctx context.Context, name string, scopes []token.Scope, expires time.Time) (secret string,
		key store.ServiceKey, err error)
	ForgetKey(id string)
}

// Status is the state of the node.
type Status struct {
	Version, Durability, State string
	Started                    time.Time
}

// Config is what the handlers work on. All of it is required but Log.
type Config struct {
	Domain    jid.JID
	Sessions  *session.Manager
	Accounts  Accounts
	Directory Directory
	Contacts  Contacts
	Keys      Keys
	Services  store.ServiceKeys
	Audit     store.Audit
	// Moderate answers <moderate id='STANZA-ID'><reason/></moderate>: the archive.
	Moderate service.Handle
	// Changed ends the sessions and tokens of an account whose password was set, or that was disabled or deleted.
	Changed func(ctx context.Context, account store.AccountID, name string)
	Status  func() Status
	Now     func() time.Time `default:"now"`
	// Log receives what an operator can act on; nil discards it.
	Log *slog.Logger `default:"discard"`
}

// Admin holds the handlers.
type Admin struct{ Config }

// New returns the handlers.
func New(c Config) (*Admin, error) {
	if c.Domain.IsZero() || c.Sessions == nil || c.Accounts == nil || c.Directory == nil || c.Contacts == nil ||
		c.Keys == nil ||
		c.Services == nil || c.Audit == nil || c.Changed == nil || c.Moderate == nil || c.Status == nil {
		return nil, errors.New("admin: a required part is missing")
	}
	defaults.Fill(&c)
	return &Admin{c}, nil
}

// Handlers returns who answers here.
func (a *Admin) Handlers() []service.Handler {
	return []service.Handler{
		a.route(stanza.TypeSet, "create-account", a.createAccount),
		a.route(stanza.TypeSet, "set-password", a.setPassword),
		a.route(stanza.TypeSet, "disable-account",
			func(ctx context.Context, r *request) ([]stanza.Element, error) { return a.setDisabled(ctx, r, true) }),
		a.route(stanza.TypeSet, "enable-account",
			func(ctx context.Context, r *request) ([]stanza.Element, error) { return a.setDisabled(ctx, r, false) }),
		a.route(stanza.TypeSet, "delete-account", a.deleteAccount),
		a.route(stanza.TypeGet, "sessions", a.sessions),
		a.route(stanza.TypeSet, "kick", a.kick),
		a.route(stanza.TypeSet, "create-key", a.createKey),
		a.route(stanza.TypeSet, "revoke-key", a.revokeKey),
		a.route(stanza.TypeSet, "moderate", a.moderate),
		a.route(stanza.TypeGet, "status", a.status),
		{At: service.AtAccount, Type: stanza.TypeGet, Space: Namespace, Local: "sessions", From: service.Self,
			Feature: "-", Handle: a.ownSessions},
		{At: service.AtDomain, Type: stanza.TypeGet, Space: NamespacePresence, Local: "query", Handle: a.presence},
	}
}

// request is what an administrator asks.
type request struct {
	*stanza.Element
	whole *service.Request
	actor string
	noted store.AuditEntry // of the change that is being made; zero when there is none yet
}

// route guards a handler: to whoever is no administrator the request is not known.
func (a *Admin) route(kind, local string,
	handle func(context.Context, *request) ([]stanza.Element, error)) service.Handler {
	return service.Handler{
		At: service.AtDomain, Type: kind, Space: Namespace, Local: local, Feature: "-",
		Handle: func(ctx context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
			if !r.Admin {
				return nil, stanza.Refuse(stanza.ServiceUnavailable, "")
			}
			asked := &request{Element: r.Payload(), whole: r, actor: cmp.Or(r.Actor, r.From.Bare().String())}
			result, err := handle(ctx, asked)
			if err != nil {
				a.noteFailure(ctx, asked, err)
				return nil, a.refusal(err)
			}
			return result, nil
		},
	}
}

// refusal says what went wrong in the words of RFC 6120 §8.3.3.
func (a *Admin) refusal(err error) *stanza.Error {
	var refused auth.Refusal
	var refusal *stanza.Error
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, auth.RefusedNoAccount), errors.Is(err, store.ErrNotFound):
		return stanza.Refuse(stanza.ItemNotFound, "There is no such account or key.")
	case errors.Is(err, auth.RefusedNameTaken), errors.Is(err, store.ErrExists):
		return stanza.Refuse(stanza.Conflict, "The name is taken.")
	case errors.Is(err, auth.RefusedBusy):
		return &stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint, Text: string(auth.RefusedBusy)}
	case errors.As(err, &refused):
		return stanza.Refuse(stanza.NotAcceptable, refused.Error())
	case errors.Is(err, token.ErrKeyName), errors.Is(err, token.ErrKeyScopes), errors.Is(err, token.ErrKeyExpired):
		return stanza.Refuse(stanza.NotAcceptable, err.Error())
	}
	a.Log.Error("an administrator's request failed", "error", err)
	return stanza.Refuse(stanza.InternalServerError, "")
}

// note writes the audit entry of a change that is about to be made.
func (a *Admin) note(ctx context.Context, r *request, action, target string, detail map[string]any) error {
	e := store.AuditEntry{At: a.Now(), Actor: r.actor, Action: action, Target: target, Remote: r.Attr("remote")}
	err := appendAudit(ctx, a.Audit, e, detail)
	if err == nil {
		r.noted = e
	}
	return err
}

// noteFailure writes that a change that was noted was not made, also when that is because the asker has gone.
func (a *Admin) noteFailure(ctx context.Context, r *request, why error) {
	if r.noted.Action == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	e := r.noted
	e.At, e.Action = a.Now(), e.Action+".failed"
	if err := appendAudit(ctx, a.Audit, e, map[string]any{"error": why.Error()}); err != nil {
		a.Log.Error("that a change failed is not in the audit log", "action", r.noted.Action, "error", err)
	}
}

// appendAudit writes an entry, with detail as JSON.
func appendAudit(ctx context.Context, log store.Audit, e store.AuditEntry, detail map[string]any) error {
	if len(detail) > 0 {
		text, err := json.Marshal(detail)
		if err != nil {
			return fmt.Errorf("write to the audit log: %w", err)
		}
		e.Detail = string(text)
	}
	if _, err := log.AppendAudit(ctx, e); err != nil {
		return fmt.Errorf("write to the audit log: %w", err)
	}
	return nil
}
