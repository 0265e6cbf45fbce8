// Package conversation serves the state that the devices of an account share, beside messages and contacts: the list of
// conversations, their settings, the account's profile, and the exchange by which a device catches up with all of it
// (sync).
//
// It owns only its configuration and starts no goroutine: handlers run on the goroutine of the requester. It reads the
// message log through package inbox, and never writes to it. It writes settings and profiles.
//
// What it never does: show one account another's conversations or settings; or store anything without a bound.
package conversation

import (
	"context"
	"errors"
	"log/slog"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Our own namespaces. docs/protocol/sync.md describes them.
const (
	nsSync          = "urn:posthouse:sync:1"
	nsConversations = "urn:posthouse:conversations:1"
	nsProfile       = "urn:posthouse:profile:1"
)

// Inbox is what an account sees of the stores: *inbox.View.
type Inbox interface {
	Sync(ctx context.Context, o inbox.Owner, cursor string, limit, bytes int) (inbox.Page, error)
	Conversations(ctx context.Context, o inbox.Owner, from inbox.Position, limit int) (list []inbox.Conversation,
		next inbox.Position, err error)
}

// Archive is what is needed of the archive: *archive.Archive.
type Archive interface {
	// Forwarded returns a stored message as its owner is shown it; ok is false when it cannot be read back.
	Forwarded(m *store.Message, owner jid.JID) (e stanza.Element, ok bool)
	StanzaID(id uint64) string
	ParseStanzaID(text string) (id uint64, ok bool)
	// Allow takes one token of the account's budget for queries, and Spend what reading so many messages costs.
	Allow(account uint64) bool
	Spend(account uint64, messages int)
}

// Accounts finds accounts by name.
type Accounts interface {
	Lookup(ctx context.Context, name string) (account store.AccountID, ok bool, err error)
}

// Config configures Conversations. Domain to Accounts are required; the rest may be zero. The fields with a yaml name
// are the operator's.
type Config struct {
	// Domain is the domain of the accounts.
	Domain   jid.JID          `yaml:"-"`
	Sessions *session.Manager `yaml:"-"`
	Inbox    Inbox            `yaml:"-"`
	Archive  Archive          `yaml:"-"`
	Settings store.Settings   `yaml:"-"`
	Profiles store.Profiles   `yaml:"-"`
	Accounts Accounts         `yaml:"-"`
	// Changed is told of an account whose settings or profile have changed; nil tells nobody. It must not block.
	Changed func(account uint64) `yaml:"-"`
	// Log receives what an operator can act on; nil discards it.
	Log *slog.Logger `yaml:"-" default:"discard"`

	// MaxSettings is how many conversations of an account may have settings. Beyond it: <resource-constraint/>.
	MaxSettings int `yaml:"max_settings" default:"5000" min:"1"`
	// MaxName is how many bytes the name and the title of a profile may have. Beyond it: <not-acceptable/>.
	MaxName int `yaml:"max_name" default:"128" min:"1" max:"128"`
	// PageBytes bounds the stored text of one page of a sync, which is one stanza. One message always fits.
	PageBytes int `yaml:"page_bytes" default:"131072" min:"1"`
}

// maxName is what the store takes.
const maxName = 128

// Conversations answers the requests. All methods may be called from any goroutine.
type Conversations struct{ config Config }

// New returns what answers.
func New(c Config) (*Conversations, error) {
	if c.Domain.IsZero() || c.Sessions == nil || c.Inbox == nil || c.Archive == nil || c.Settings == nil ||
		c.Profiles == nil || c.Accounts == nil {
		return nil, errors.New(
			"conversation: Domain, Sessions, Inbox, Archive, Settings, Profiles and Accounts are required")
	}
	defaults.Fill(&c)
	c.MaxName = min(c.MaxName, maxName)
	return &Conversations{c}, nil
}

// Handlers returns who answers here, all of them to the requester's own account only.
func (c *Conversations) Handlers() []service.Handler {
	handler := func(kind, space, local string, handle service.Handle) service.Handler {
		return service.Handler{
			At: service.AtAccount, Type: kind, Space: space, Local: local, From: service.Self, Handle: handle,
		}
	}
	own := func(kind, space, local string,
		handle func(context.Context, inbox.Owner, *stanza.Stanza) ([]stanza.Element, *stanza.Error)) service.Handler {
		return handler(kind, space, local,
			func(ctx context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
				return handle(ctx, inbox.Owner{Account: store.AccountID(r.Account), JID: r.From.Bare()}, r.IQ)
			})
	}
	heavy := func(h service.Handler) service.Handler {
		h.Heavy = true
		return h
	}
	return []service.Handler{
		heavy(own(stanza.TypeGet, nsSync, "sync", c.sync)),
		handler(stanza.TypeSet, nsSync, "enable", c.enable),
		handler(stanza.TypeSet, nsSync, "disable", c.enable),
		heavy(own(stanza.TypeGet, nsConversations, "conversations", c.list)),
		own(stanza.TypeSet, nsConversations, "settings", c.setSettings),
		own(stanza.TypeGet, nsProfile, "profile", c.profile),
		own(stanza.TypeSet, nsProfile, "profile", c.setProfile),
	}
}

// Refusals.
var (
	notYours = stanza.Refuse(stanza.Forbidden, "Conversations are open to their owner only.")
	tooMany  = &stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint,
		Text: "Too many queries. Try again later."}
	broken = &stanza.Error{Type: stanza.Wait, Condition: stanza.InternalServerError,
		Text: "The server cannot answer this now."}
	noCursor = stanza.Refuse(stanza.BadRequest, "The cursor is not one of this account's.")
)

// failed logs what went wrong and returns what the requester is told of it.
func (c *Conversations) failed(doing string, o inbox.Owner, err error) *stanza.Error {
	c.config.Log.Error("could not "+doing, "account", o.Account, "error", err)
	return broken
}

func bad(text string) *stanza.Error { return stanza.Refuse(stanza.BadRequest, text) }

// enable turns on or off that the session is told of changes that other sessions of the account make.
func (c *Conversations) enable(_ context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
	s := session.Of(r.Session)
	if s == nil || !c.config.Sessions.SetSynced(s, r.IQ.Child(nsSync, "enable") != nil) {
		return nil, stanza.Refuse(stanza.NotAllowed, "")
	}
	return nil, nil
}

// push tells the account's other sessions that want to know of a change, and those who wait for one.
func (c *Conversations) push(o inbox.Owner, by jid.JID, change stanza.Element) {
	c.config.Sessions.Visit(o.JID, func(u *session.User) {
		for s := range u.All {
			if s.JID() == by || !u.Synced(s) || u.Account() != uint64(o.Account) {
				continue
			}
			u.Send(s, &stream.Packet{Stanza: &stanza.Stanza{
				Kind: stanza.Message, Type: stanza.TypeHeadline, From: o.JID, To: s.JID(),
				Payload: []stanza.Element{change},
			}})
		}
	})
	if c.config.Changed != nil {
		c.config.Changed(uint64(o.Account))
	}
}
