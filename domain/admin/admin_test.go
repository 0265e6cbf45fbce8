package admin

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

var domain = jid.MustParse("montague.lit")

// stub is the domain around the handlers. It notes what happens, in order.
type stub struct {
	happened []string
	auditErr error
	fail     error
	sees     bool
}

func (s *stub) did(what string) error {
	s.happened = append(s.happened, what)
	return s.fail
}

func (s *stub) Create(_ context.Context, name, _ string) (store.Account, error) {
	return store.Account{}, s.did("create " + name)
}
func (s *stub) SetPassword(_ context.Context, name, _ string) error { return s.did("password " + name) }
func (s *stub) SetDisabled(_ context.Context, name string, _ bool) error {
	return s.did("disable " + name)
}
func (s *stub) Delete(_ context.Context, name string) error { return s.did("delete " + name) }
func (s *stub) Lookup(_ context.Context, name string) (store.AccountID, bool, error) {
	return 1, name == "romeo", nil
}
func (s *stub) Sees(context.Context, uint64, jid.JID) (bool, error) { return s.sees, nil }
func (s *stub) NewServiceKey(_ context.Context, name string, _ []token.Scope, _ time.Time) (string, store.ServiceKey,
	error) {
	return "secret", store.ServiceKey{ID: "id"}, s.did("key " + name)
}
func (s *stub) ForgetKey(id string) { _ = s.did("forget " + id) }
func (s *stub) AppendAudit(_ context.Context, e store.AuditEntry) (store.AuditEntry, error) {
	s.happened = append(s.happened, "audit "+e.Action+" "+e.Target+" by "+e.Actor+" from "+e.Remote)
	return e, s.auditErr
}
func (s *stub) AuditEntries(context.Context, uint64, int) ([]store.AuditEntry, error) {
	return nil, nil
}
func (s *stub) VerifyAudit(context.Context) (store.AuditEntry, error) {
	return store.AuditEntry{}, nil
}

// services has one key.
type services struct{ store.ServiceKeys }

func (services) ServiceKey(_ context.Context, id string) (store.ServiceKey, error) {
	if id != "id" {
		return store.ServiceKey{}, store.ErrNotFound
	}
	return store.ServiceKey{ID: "id", Name: "crm"}, nil
}
func (services) RevokeServiceKey(context.Context, string, time.Time) (store.ServiceKey, error) {
	return store.ServiceKey{}, nil
}

type box struct{ ended int }

func (*box) Send(*stream.Packet)   {}
func (b *box) Close(*stream.Error) { b.ended++ }

func (*box) WaitRoom(context.Context) error { return nil }
func (*box) Detached() bool                 { return false }

// house is the handlers, with somebody on a stream and an administrator who acts by the public layer.
type house struct {
	*stub
	admin    *Admin
	sessions *session.Manager
	hub      *service.Hub
	romeo    *box
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{stub: &stub{}, sessions: session.New(session.Config{}), romeo: &box{}}
	var err error
	h.admin, err = New(Config{
		Domain: domain, Sessions: h.sessions, Accounts: h, Directory: h, Contacts: h, Keys: h, Services: services{},
		Audit:   h,
		Changed: func(context.Context, store.AccountID, string) { _ = h.did("changed") },
		Moderate: func(_ context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
			_ = h.did("moderate " + r.Payload().Attr("id"))
			return nil, nil
		},
		Status: func() Status { return Status{Version: "v", State: "ready"} },
	})
	require.NoError(t, err)
	h.hub, err = service.New(service.Config{Domain: domain})
	require.NoError(t, err)
	require.NoError(t, h.hub.Serve(h.admin.Handlers()))
	for _, b := range []session.Binding{
		{Account: 1, Bare: jid.MustParse("romeo@montague.lit"), Resource: "orchard", Outbox: h.romeo},
		{Account: 2, Bare: jid.MustParse("nurse@montague.lit"), Resource: "stream", Outbox: &box{}},
		{Account: 2, Bare: jid.MustParse("nurse@montague.lit"), Resource: "plain", Outbox: &box{},
			Hidden: &session.Hidden{}},
		{Account: 2, Bare: jid.MustParse("nurse@montague.lit"), Resource: "admin", Outbox: &box{},
			Hidden: &session.Hidden{Admin: true}},
		{Bare: domain, Resource: "key", Outbox: &box{}, Hidden: &session.Hidden{Admin: true, Actor: "key:crm"}},
	} {
		_, refusal := h.sessions.Bind(b)
		require.Nil(t, refusal)
	}
	return h
}

// ask sends a request from somebody and returns the answer.
func (h *house) ask(t *testing.T, from, kind string, payload stanza.Element) ([]stanza.Element, *stanza.Error) {
	t.Helper()
	s := &stanza.Stanza{Kind: stanza.IQ, Type: kind, ID: "1", From: jid.MustParse(from), To: domain,
		Payload: []stanza.Element{payload}}
	if payload.Space == Namespace && payload.Local == "sessions" && !payload.HasAttr("name") {
		s.To = s.From.Bare()
	}
	origin := service.Origin{Account: h.sessions.Connected(s.From)}
	if from := h.sessions.Lookup(s.From); from != nil { // as package ingress has it
		origin.Session, origin.Admin, origin.Actor = from, from.Admin(), from.Actor()
	}
	return h.hub.Answer(t.Context(), origin, s)
}

const nurse = "nurse@montague.lit/admin"

func element(local string, attrs ...string) stanza.Element {
	return stanza.New(Namespace, local, attrs...)
}

// TestGuard: to whoever does not act as an administrator no request is known, and nothing happens.
func TestGuard(t *testing.T) {
	h := newHouse(t)
	for _, r := range h.admin.Handlers() {
		if r.Space != Namespace || r.At != service.AtDomain {
			continue
		}
		for _, from := range []string{"nurse@montague.lit/stream", "nurse@montague.lit/plain",
			"nurse@montague.lit/gone", "nurse@montague.lit", "romeo@montague.lit/orchard",
			"nurse@elsewhere.lit/admin"} {
			_, refusal := h.ask(t, from, r.Type, element(r.Local, "name", "romeo"))
			require.NotNil(t, refusal, "%s %s", from, r.Local)
			require.Equal(t, stanza.ServiceUnavailable, refusal.Condition)
		}
	}
	require.Empty(t, h.happened)
}

// TestAudit: every change is noted before it happens, with who made it, and does not happen when it cannot be noted.
func TestAudit(t *testing.T) {
	for _, test := range []struct {
		request stanza.Element
		noted   string
		effect  []string
	}{
		{element("create-account", "name", "Juliet").WithText("secret"), "account.create juliet@montague.lit",
			[]string{"create juliet"}},
		{element("set-password", "name", "romeo").WithText("secret"), "account.password romeo@montague.lit",
			[]string{"password romeo", "changed"}},
		{element("disable-account", "name", "romeo"), "account.disable romeo@montague.lit",
			[]string{"disable romeo", "changed"}},
		{element("enable-account", "name", "romeo"), "account.enable romeo@montague.lit", []string{"disable romeo"}},
		{element("delete-account", "name", "romeo"), "account.delete romeo@montague.lit",
			[]string{"delete romeo", "changed"}},
		{element("kick", "name", "romeo"), "session.kick romeo@montague.lit", nil},
		{element("kick", "name", "romeo", "resource", "orchard"), "session.kick romeo@montague.lit/orchard", nil},
		{element("create-key", "name", "k").With(element("scope").WithText("message.send")), "key.create k",
			[]string{"key k"}},
		{element("revoke-key", "id", "id"), "key.revoke crm", []string{"forget id"}},
		{element("moderate", "id", "x"), "message.moderate x", []string{"moderate x"}},
	} {
		for from, actor := range map[string]string{nurse: "nurse@montague.lit", "montague.lit/key": "key:crm"} {
			h := newHouse(t)
			test.request.Attrs = append(test.request.Attrs[:len(test.request.Attrs):len(test.request.Attrs)],
				stanza.Attr{Local: "remote", Value: "192.0.2.1"})
			_, refusal := h.ask(t, from, stanza.TypeSet, test.request)
			require.Nil(t, refusal, test.noted)
			require.Equal(t, append([]string{"audit " + test.noted + " by " + actor + " from 192.0.2.1"},
				test.effect...), h.happened)
			if test.request.Local == "kick" {
				require.Equal(t, 1, h.romeo.ended)
			}
			h = newHouse(t)
			h.auditErr = errors.New("the disk is full")
			_, refusal = h.ask(t, from, stanza.TypeSet, test.request)
			require.Equal(t, stanza.InternalServerError, refusal.Condition)
			require.Len(t, h.happened, 1, "nothing happens that was not noted")
			require.Zero(t, h.romeo.ended)
		}
	}
}

// TestRefusals: what cannot be done is said in its own words, and is not noted when it was clear before.
func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		request   stanza.Element
		fail      error
		condition stanza.Condition
		noted     bool
	}{
		{element("delete-account", "name", "nobody"), nil, stanza.ItemNotFound, false},
		{element("delete-account", "name", "a b"), nil, stanza.BadRequest, false},
		{element("create-account", "name", "romeo"), nil, stanza.Conflict, false},
		{element("create-account", "name", "juliet"), auth.RefusedPasswordShort, stanza.NotAcceptable, true},
		{element("create-account", "name", "juliet"), auth.RefusedNameTaken, stanza.Conflict, true},
		{element("create-account", "name", "juliet"), auth.RefusedBusy, stanza.ResourceConstraint, true},
		{element("create-account", "name", "juliet"), errors.New("the store is down"), stanza.InternalServerError,
			true},
		{element("kick", "name", "romeo", "resource", "gone"), nil, stanza.ItemNotFound, false},
		{element("revoke-key", "id", "other"), nil, stanza.ItemNotFound, false},
		{element("create-key", "name", "k", "expires", "tomorrow"), nil, stanza.BadRequest, false},
		{element("create-key", "name", "k"), token.ErrKeyScopes, stanza.NotAcceptable, true},
	} {
		h := newHouse(t)
		h.fail = test.fail
		_, refusal := h.ask(t, nurse, stanza.TypeSet, test.request)
		require.NotNil(t, refusal)
		require.Equal(t, test.condition, refusal.Condition, "%s %v", test.request.Local, test.fail)
		require.Equal(t, test.noted, len(h.happened) > 0, test.request.Local)
		if test.noted {
			action, rest, _ := strings.Cut(strings.TrimPrefix(h.happened[0], "audit "), " ")
			require.Equal(t, "audit "+action+".failed "+rest, h.happened[len(h.happened)-1])
		}
	}
}

// TestSessions: everybody sees their own, administrators those of all, and nobody those that are hidden.
func TestSessions(t *testing.T) {
	h := newHouse(t)
	own, refusal := h.ask(t, "nurse@montague.lit/plain", stanza.TypeGet, element("sessions"))
	require.Nil(t, refusal)
	require.Len(t, own[0].Nodes, 1)
	theirs, refusal := h.ask(t, nurse, stanza.TypeGet, element("sessions", "name", "romeo"))
	require.Nil(t, refusal)
	require.Equal(t, "romeo@montague.lit/orchard", theirs[0].Child(Namespace, "session").Attr("jid"))
	status, refusal := h.ask(t, nurse, stanza.TypeGet, element("status"))
	require.Nil(t, refusal)
	require.Equal(t, "2", status[0].Attr("sessions"))
}

// TestPresence: presence is told of those who share it, and to the domain of all.
func TestPresence(t *testing.T) {
	h := newHouse(t)
	s := h.sessions.Lookup(jid.MustParse("romeo@montague.lit/orchard"))
	here := &stanza.Stanza{Kind: stanza.Presence, From: s.JID(), Payload: []stanza.Element{
		stanza.New(stanza.NSClient, "show").WithText("away"),
		stanza.New(stanza.NSClient, "status").WithText("Under the balcony"),
	}}
	h.sessions.SetPresence(s, here, 0)
	query := stanza.New(NamespacePresence, "query")
	for _, j := range []string{"romeo@montague.lit", "nobody@montague.lit", "romeo@elsewhere.lit", "montague.lit"} {
		query = query.With(stanza.New(NamespacePresence, "item", "jid", j))
	}
	items := func(from string) int {
		result, refusal := h.ask(t, from, stanza.TypeGet, query)
		require.Nil(t, refusal)
		return len(result[0].Nodes)
	}
	require.Zero(t, items(nurse), "he shares his with others")
	require.Equal(t, 1, items("romeo@montague.lit/orchard"))
	require.Equal(t, 1, items("montague.lit/key"))
	h.sees = true
	result, refusal := h.ask(t, nurse, stanza.TypeGet, query)
	require.Nil(t, refusal)
	item := result[0].Child(NamespacePresence, "item")
	require.Equal(t, "true", item.Attr("online"))
	require.Equal(t, "away", item.Attr("show"))
	require.Equal(t, "Under the balcony", item.ChildText(NamespacePresence, "status"))

	_, refusal = h.ask(t, nurse, stanza.TypeGet,
		stanza.New(NamespacePresence, "query").With(stanza.New(NamespacePresence, "item", "jid",
			"romeo@montague.lit/x")))
	require.Equal(t, stanza.JIDMalformed, refusal.Condition)
	many := stanza.New(NamespacePresence, "query")
	for range maxItems + 1 {
		many = many.With(stanza.New(NamespacePresence, "item", "jid", "romeo@montague.lit"))
	}
	_, refusal = h.ask(t, nurse, stanza.TypeGet, many)
	require.Equal(t, stanza.NotAcceptable, refusal.Condition)
	_, refusal = h.ask(t, "romeo@elsewhere.lit/x", stanza.TypeGet, query)
	require.Equal(t, stanza.ServiceUnavailable, refusal.Condition)
}
