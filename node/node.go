package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/domain/admin"
	"github.com/posthouse-im/posthouse/domain/archive"
	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/domain/c2s"
	"github.com/posthouse-im/posthouse/domain/conversation"
	"github.com/posthouse-im/posthouse/domain/device"
	"github.com/posthouse-im/posthouse/domain/ingress"
	"github.com/posthouse-im/posthouse/domain/local"
	"github.com/posthouse-im/posthouse/domain/roster"
	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/public/api"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/pebble"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// assembly is a node while it is put together, and what its parts share. Fixed once Assemble has returned.
type assembly struct {
	*Runtime
	domain jid.JID

	stores   *stores // whose database and log follow
	database *sqlite.Store
	log      *pebble.Log
	state    sqlite.State
	activity *activityWriter

	auth     *auth.Authenticator
	tokens   *token.Service
	devices  *device.Keeper
	sessions *session.Manager
	contacts *roster.Contacts
	services *service.Hub
	local    *local.Domain
	archive  *archive.Archive
	router   *router.Router

	conversations *conversation.Conversations

	inbox   *inbox.View
	ingress *ingress.Ingress
	admin   *admin.Admin
	api     *api.API
	clients *c2s.Server

	tls       atomic.Pointer[tls.Config] // for STARTTLS
	directTLS atomic.Pointer[tls.Config]
	webTLS    atomic.Pointer[tls.Config] // for HTTPS
	web       *link.WebSocket
	admitted  admissions
	turns     *limit.Turns[uint64] // for large answers, by account
	// Filled while the parts start, one after the other.
	listeners    []*link.Listener
	webListeners []*link.Listener
}

// Assemble makes the parts of a node and adds them to the runtime's group, in the order in which they start. It is for
// Options.Assemble.
func Assemble(ctx context.Context, s *Runtime) error {
	_, err := assemble(ctx, s)
	return err
}

func assemble(ctx context.Context, s *Runtime) (*assembly, error) {
	domain, err := jid.Parse(s.Config.Domain)
	if err != nil || domain != domain.DomainJID() {
		return nil, fmt.Errorf("domain %q is not a domain: %w", s.Config.Domain, err)
	}
	a := &assembly{Runtime: s, domain: domain, turns: limit.NewTurns[uint64](2, 8, 2*time.Second)}
	if err := a.openStores(ctx); err != nil {
		return nil, errors.Join(err, a.closeStores())
	}
	if err := a.wire(ctx); err != nil {
		return nil, errors.Join(err, a.closeStores())
	}
	s.Group.Add(Part{Name: "stores", Stop: func(context.Context) error { return a.closeStores() }})
	s.Group.Add(Loop("marks", a.keepInStep)) // after all that writes
	s.Group.Add(Loop("memory", giveBack))
	s.Group.Add(Loop("last activity", a.activity.run))
	s.Group.Add(Part{Name: "delivery", Stop: a.router.Close}) // after the archive, which gives it work to the last
	s.Group.Add(Loop("archive", a.archive.Run))
	s.Group.Add(Part{Name: "replays", Stop: a.local.Close})
	s.Group.Add(Loop("changes", a.followChanges))
	s.Group.Add(Loop("device logins", a.auth.Run))
	s.Group.Add(Loop("token keys", a.tokens.Run))
	s.Group.Add(Loop("uplink", a.ingress.Run))
	s.Group.Add(a.clientsPart())
	if err := a.addListeners(ctx); err != nil {
		return nil, errors.Join(err, a.closeStores())
	}
	s.Group.Add(a.controlPart())
	s.Group.Add(Loop("watch", a.watch)) // the last: it looks at the listeners
	return a, nil
}

// watch tells the health what happens to storage and listeners.
func (a *assembly) watch(ctx context.Context) error {
	w := &watcher{health: a.Health, log: a.log, database: a.database}
	for _, l := range slices.Concat(a.listeners, a.webListeners) {
		w.accepting = append(w.accepting, l)
	}
	return w.run(ctx)
}

func (a *assembly) openStores(ctx context.Context) (err error) {
	if err := os.RemoveAll(a.Folder.File(frozen)); err != nil {
		return fmt.Errorf("remove what a backup has left: %w", err)
	}
	relaxed := a.Config.Durability == "relaxed"
	o := a.Config.Messages
	o.Durability = pebble.DurabilityFull
	o.Logger = a.Log
	o.Metrics = a.Registry
	if relaxed {
		o.Durability = pebble.DurabilityRelaxed
	}
	a.stores, err = openStores(ctx, a.Folder.Path, a.domain.Domain(), sqlite.Options{Relaxed: relaxed}, o)
	if err != nil {
		return err
	}
	a.database, a.log = a.stores.database, a.stores.log
	a.state, err = a.database.State(ctx)
	return err
}

func (a *assembly) closeStores() error {
	if a.stores == nil {
		return nil
	}
	return a.stores.close()
}

// wire makes the parts of the domain and hands them to each other. The circle of the message path is closed here and
// nowhere else: the router gets the stages of the others, and they get the router's Forward.
func (a *assembly) wire(ctx context.Context) error {
	stanzaKey, err := a.database.Secret(ctx, "stanza-id", 16)
	if err != nil {
		return err
	}
	forward := func(ctx context.Context, p *stream.Packet) { a.router.Forward(ctx, p) }
	a.activity = newActivityWriter(a.database, a.Log)

	if err := a.makeAuth(ctx); err != nil {
		return err
	}
	if err := a.makeTokens(ctx); err != nil {
		return err
	}
	if err := a.makeInbox(ctx); err != nil {
		return err
	}
	a.sessions = session.New(a.sessionConfig())
	if err := a.makeDevices(); err != nil {
		return err
	}
	rosterConfig := a.Config.Roster
	rosterConfig.Domain = a.domain
	rosterConfig.Sessions = a.sessions
	rosterConfig.Store = a.database
	rosterConfig.Epoch = a.state.Epoch
	rosterConfig.Forward = forward
	rosterConfig.Activity = a.activity
	rosterConfig.Changed = a.changed
	rosterConfig.Metrics = a.Registry
	rosterConfig.Log = a.Log
	if a.contacts, err = roster.New(rosterConfig); err != nil {
		return err
	}
	archiveConfig := a.Config.Archive
	archiveConfig.Log = a.log
	archiveConfig.Preferences = a.database
	archiveConfig.Directory = a.auth.Directory()
	archiveConfig.Contacts = a.contacts
	archiveConfig.Reply = func(account uint64, to jid.JID, p *stream.Packet) bool {
		return a.local.Reply(account, to, p)
	}
	archiveConfig.Domain = a.domain
	archiveConfig.Key = stanzaKey
	archiveConfig.Metrics = a.Registry
	archiveConfig.Logger = a.Log
	if a.archive, err = archive.New(archiveConfig); err != nil {
		return err
	}
	if err := a.makeServices(); err != nil {
		return err
	}
	localConfig := a.Config.Local
	localConfig.Domain = a.domain
	localConfig.Sessions = a.sessions
	localConfig.Accounts = a.auth.Directory()
	localConfig.Contacts = a.contacts
	localConfig.Forward = forward
	localConfig.Offline = a.archive
	localConfig.Stamp = a.archive.Stamp
	localConfig.Activity = a.activity
	localConfig.Known = a.archive.Known
	localConfig.Services = a.services
	localConfig.Metrics = a.Registry
	localConfig.Log = a.Log
	if a.local, err = local.New(localConfig); err != nil {
		return err
	}
	routerConfig := a.Config.Delivery
	routerConfig.Chains = a.chains()
	routerConfig.Recipient = a.toRecipient()
	routerConfig.Author = a.toAuthor()
	routerConfig.Metrics = a.Registry
	routerConfig.Log = a.Log
	a.router = router.New(routerConfig)
	a.router.Handle(a.domain.Domain(), a.local)
	a.archive.Connect(a.router)
	if err := a.makeUplink(); err != nil {
		return err
	}
	if err := a.makeConversations(); err != nil {
		return err
	}
	if err := a.makeClients(); err != nil {
		return err
	}
	return a.makeAPI()
}

// makeAuth makes what checks logins.
func (a *assembly) makeAuth(ctx context.Context) (err error) {
	c := a.Config.Auth
	if c.Secret, err = a.database.Secret(ctx, "unknown-names", 32); err != nil {
		return err
	}
	if c.Tokens.Key, err = a.database.Secret(ctx, "device-token", 32); err != nil {
		return err
	}
	c.Tokens.Devices = a.database
	c.Changes = a.database
	c.Registerer = a.Registry
	c.Log = a.Log
	a.auth, err = auth.New(a.database, c)
	return err
}

func (a *assembly) sessionConfig() session.Config {
	c := a.Config.Session
	c.Metrics = a.Registry
	c.Log = a.Log
	c.Overtaken = func(ctx context.Context, account uint64, device string, basis int64) (bool, error) {
		changed, _, err := a.database.ChangedSince(ctx, store.AccountID(account), device, store.Basis(basis))
		return changed, err
	}
	c.Departed = func(ctx context.Context, s *session.Session,
		last *stanza.Stanza) {
		a.contacts.Departed(ctx, s, last)
	}
	return c
}

func (a *assembly) makeClients() (err error) {
	a.renewTLS()
	a.OnCertificate(a.renewTLS)
	c := a.Config.C2S
	c.Domain = a.domain.Domain()
	c.Registration = a.Config.Registration
	c.Codec = codec
	c.Secure = confidential
	c.TLS = a.tls.Load
	c.TLSTimeout = a.handshakeTimeout()
	var unset c2s.Config
	defaults.Fill(&unset)
	if c.TLSTimeout == developmentHandshake && c.LoginTimeout == unset.LoginTimeout {
		c.LoginTimeout += developmentHandshake // whoever begins with STARTTLS is asked within it
	}
	c.Auth = a.auth
	c.Sessions = a.sessions
	c.Router = a.router
	c.Marker = a.archive
	c.Returner = a.local
	c.StanzaID = a.archive.StanzaID
	c.Features = func() []stanza.Element { return []stanza.Element{a.services.Caps()} }
	c.Authenticated = a.admitted.authenticated
	c.Revoked = a.accountChanged
	c.Metrics = a.Registry
	c.Log = a.Log
	if a.clients, err = c2s.New(c); err != nil {
		return err
	}
	return a.services.Serve(a.handlers()...)
}

// renewTLS makes a new configuration, and with it new keys for session tickets, so that nobody resumes a session of the
// old certificate.
func (a *assembly) renewTLS() {
	a.tls.Store(link.TLSConfig(a.Certificates.Get, link.ALPNClient))
	// who knows both gets the first
	a.directTLS.Store(link.TLSConfig(a.Certificates.Get, link.ProtocolCompact, link.ALPNClient))
	a.webTLS.Store(link.TLSConfig(a.Certificates.Get, "http/1.1"))
}

// clientsPart runs the sweeper, and ends all client connections when it is stopped. When a store has failed nothing
// can be finished any more: connections are then cut at once.
func (a *assembly) clientsPart() Part {
	var cancel context.CancelFunc
	done := make(chan struct{})
	return Part{
		Name: "clients",
		Start: func(context.Context, func(error)) error {
			ctx, stop := context.WithCancel(context.Background())
			cancel = stop
			go func() { // ends with Stop
				defer close(done)
				a.clients.Run(ctx)
			}()
			return nil
		},
		Stop: func(ctx context.Context) error {
			if a.log.Err() != nil || a.database.Err() != nil {
				cut, stop := context.WithCancel(ctx)
				stop()
				ctx = cut
			}
			err := a.clients.Drain(ctx)
			for _, l := range a.listeners {
				err = errors.Join(err, l.Shutdown(ctx))
			}
			if a.web != nil {
				err = errors.Join(err, a.web.Shutdown(ctx))
			}
			cancel()
			<-done
			return err
		},
	}
}
