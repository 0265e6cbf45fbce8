package node

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/posthouse-im/posthouse/domain/admin"
	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/domain/ingress"
	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/public/api"
	"github.com/posthouse-im/posthouse/public/uplink"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
)

// makeInbox makes what accounts see of the stores.
func (a *assembly) makeInbox(ctx context.Context) (err error) {
	c := a.Config.Inbox
	if c.Key, err = a.database.Secret(ctx, "sync-cursor", 16); err != nil {
		return err
	}
	c.Epoch = a.state.Epoch
	c.Log = a.log
	c.Rosters = a.database
	c.Settings = a.database
	c.Profiles = a.database
	c.Accounts = a.auth.Directory()
	c.Former = a.database
	c.Logger = a.Log
	a.inbox, err = inbox.New(c)
	return err
}

// makeUplink makes the domain's end of the uplink, and what administrators ask.
func (a *assembly) makeUplink() (err error) {
	a.ingress, err = ingress.New(ingress.Config{
		Domain:   a.domain,
		Sessions: a.sessions,
		Router:   a.router,
		StanzaID: a.archive.StanzaID,
		Audit:    a.database,
		Metrics:  a.Registry,
		Log:      a.Log,
	})
	if err != nil {
		return err
	}
	started := time.Now()
	a.admin, err = admin.New(admin.Config{
		Domain:    a.domain,
		Sessions:  a.sessions,
		Accounts:  a.auth,
		Directory: a.auth.Directory(),
		Contacts:  a.contacts,
		Keys:      a.tokens,
		Services:  a.database,
		Audit:     a.database,
		Log:       a.Log,
		Moderate:  a.archive.AnswerModerate,
		Changed: func(_ context.Context, account store.AccountID, _ string) {
			a.accountChanged(uint64(account), nil, changedElsewhere())
		},
		Status: func() admin.Status {
			r, _ := a.Health.report()
			return admin.Status{Version: a.Version, Durability: a.Config.Durability, State: r.Status, Started: started}
		},
	})
	return err
}

// makeAPI makes the HTTP API.
func (a *assembly) makeAPI() error {
	u := a.Config.Uplink
	u.Domain = a.ingress
	u.Metrics = a.Registry
	up, err := uplink.New(u)
	if err != nil {
		return err
	}
	h := a.Config.Listen.HTTP
	origins, err := link.NewOrigins(h.Origins)
	if err != nil {
		return err
	}
	c := a.Config.API
	c.Domain = a.domain
	c.Uplink = up
	c.Inbox = a.inbox
	c.Tokens = a.tokens
	c.Login = a.login
	c.Accounts = a.auth.Directory()
	c.Rosters = a.database
	c.Profiles = a.database
	c.Devices = a.database
	c.Keys = a.database
	c.Audit = a.database
	c.People = a.database
	c.Preferences = a.database
	c.StanzaID = a.archive.StanzaID
	c.ParseStanzaID = a.archive.ParseStanzaID
	c.Client = link.Client
	c.Origin = origins.Allow
	c.Secure = func(r *http.Request) bool {
		return h.TLS || link.Relayed(r) // the proxy does HTTPS: that is what it was named for
	}
	c.Authenticated = func(r *http.Request) { a.admitted.authenticatedAddress(link.Client(r)) }
	c.Turn = a.turns.Enter
	c.Version = a.Version
	c.Metrics = a.Registry
	c.Logger = a.Log
	a.api, err = api.New(c)
	return err
}

// login logs a device in by its password and makes tokens for it.
func (a *assembly) login(ctx context.Context, l api.Login) (token.Pair, error) {
	channel := &auth.Channel{Secure: l.Secure, Loopback: l.Loopback, Remote: l.Remote, Domain: a.domain.Domain()}
	account, d, err := a.auth.LogIn(ctx, channel, l.Name, l.Password,
		store.Device{ID: l.Device, Name: l.DeviceName, Software: l.Software})
	var failure *auth.Failure
	switch {
	case err == nil:
		return a.tokens.Issue(ctx, account, d)
	case !errors.As(err, &failure):
		return token.Pair{}, err
	case failure.Exhausted || failure.Condition == auth.TemporaryAuthFailure:
		return token.Pair{}, api.ErrThrottled
	}
	return token.Pair{}, api.ErrLogin
}
