package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
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
	c.Log, c.Rosters, c.Settings, c.Profiles, c.Accounts, c.Logger = a.log, a.database, a.database, a.database, a.auth.Directory(), a.Log
	a.inbox, err = inbox.New(c)
	return err
}

// makeUplink makes the domain's end of the uplink, and what administrators ask.
func (a *assembly) makeUplink() (err error) {
	a.ingress, err = ingress.New(ingress.Config{
		Domain: a.domain, Sessions: a.sessions, Router: a.router, StanzaID: a.archive.StanzaID, Metrics: a.Registry, Log: a.Log,
	})
	if err != nil {
		return err
	}
	started := time.Now()
	a.admin, err = admin.New(admin.Config{
		Domain: a.domain, Sessions: a.sessions, Accounts: a.auth, Directory: a.auth.Directory(), Contacts: a.contacts, Keys: a.tokens,
		Services: a.database, Audit: a.database, Log: a.Log,
		Moderate: a.archive.AnswerModerate,
		Changed:  func(_ context.Context, account store.AccountID, _ string) { a.accountChanged(account) },
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
	u.Domain, u.Metrics = a.ingress, a.Registry
	up, err := uplink.New(u)
	if err != nil {
		return err
	}
	h := a.Config.Listen.HTTP
	origins, err := link.NewOrigins(h.Origins)
	if err != nil {
		return err
	}
	proxies := Networks(h.ProxyFrom)
	c := a.Config.API
	c.Domain, c.Uplink, c.Inbox, c.Log, c.Tokens, c.Login = a.domain, up, a.inbox, a.log, a.tokens, a.login
	c.Accounts, c.Rosters, c.Profiles, c.Devices, c.Keys = a.auth.Directory(), a.database, a.database, a.database, a.database
	c.Audit, c.People = a.database, a.database
	c.StanzaID, c.ParseStanzaID = a.archive.StanzaID, a.archive.ParseStanzaID
	c.Client = func(r *http.Request) netip.AddrPort { return link.Client(r, proxies) }
	c.Origin = origins.Allow
	c.Secure = func(r *http.Request) bool {
		if h.TLS {
			return true
		}
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		for _, p := range proxies {
			if err == nil && p.Contains(peer.Addr().Unmap()) {
				return true // it does HTTPS: that is what it was named for
			}
		}
		return false
	}
	c.Authenticated = func(r *http.Request) {
		if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
			a.admitted.authenticatedAddress(peer)
		}
	}
	c.Version, c.Metrics, c.Logger = a.Version, a.Registry, a.Log
	a.api, err = api.New(c)
	return err
}

// login checks a password as a login by SASL is checked, and makes tokens for the device.
func (a *assembly) login(ctx context.Context, l api.Login) (token.Pair, error) {
	name, domain, full := strings.Cut(l.Name, "@")
	if full && domain != a.domain.Domain() {
		return token.Pair{}, api.ErrLogin
	}
	newest, err := a.database.NewestChange(ctx)
	if err != nil {
		return token.Pair{}, fmt.Errorf("log in: %w", err)
	}
	account, failure := a.auth.Verify(ctx, &auth.Channel{Secure: l.Secure, Loopback: l.Loopback, Remote: l.Remote, Domain: a.domain.Domain()}, name, l.Password)
	switch {
	case failure == nil:
	case failure.Exhausted || failure.Condition == auth.TemporaryAuthFailure:
		return token.Pair{}, api.ErrThrottled
	default:
		return token.Pair{}, api.ErrLogin
	}
	now := time.Now()
	d := store.Device{Account: account.ID, ID: l.Device, Name: l.DeviceName, Software: l.Software, Created: now, Seen: now}
	if d.ID == "" {
		d.ID = rand.Text()[:22]
	}
	devices := a.auth.Devices()
	err = devices.ChangeDevice(ctx, account.ID, d.ID, func(known *store.Device) error {
		if d.Name != "" {
			known.Name = d.Name
		}
		if d.Software != "" {
			known.Software = d.Software
		}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		if err = devices.PutDevice(ctx, d, a.Config.Auth.Tokens.MaxDevices); err == nil {
			err = a.confirmDevice(ctx, account.ID, d.ID, newest)
		}
	}
	if err != nil {
		return token.Pair{}, fmt.Errorf("note the device: %w", err)
	}
	return a.tokens.Issue(ctx, account, d)
}
