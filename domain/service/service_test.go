package service

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// people are the accounts of capulet.lit, and who sees whose presence: "2 romeo@capulet.lit".
type people struct {
	names  map[string]store.AccountID
	sees   map[string]bool
	broken bool
	asked  int // how often
}

func (p *people) Lookup(_ context.Context, name string) (store.AccountID, bool, error) {
	p.asked++
	if p.broken {
		return 0, false, errors.New("broken")
	}
	id, ok := p.names[name]
	return id, ok, nil
}

func (p *people) Sees(_ context.Context, account uint64, peer jid.JID) (bool, error) {
	return p.sees[string(rune('0'+account))+" "+peer.String()], nil
}

// fixture is a hub with people, in which juliet's phone and laptop are available.
type fixture struct {
	*Hub
	t      *testing.T
	people *people
}

func newFixture(t *testing.T, change ...func(*Config)) *fixture {
	t.Helper()
	p := &people{names: map[string]store.AccountID{"juliet": 1, "romeo": 2}, sees: map[string]bool{}}
	c := Config{
		Domain: jid.MustParse("capulet.lit"), Accounts: p, Contacts: p,
		Available: func(account jid.JID) (list []jid.JID) {
			if account.Local() == "juliet" {
				list = append(list, jid.MustParse("juliet@capulet.lit/laptop"),
					jid.MustParse("juliet@capulet.lit/phone"))
			}
			return list
		},
	}
	for _, f := range change {
		f(&c)
	}
	h, err := New(c)
	require.NoError(t, err)
	return &fixture{h, t, p}
}

const (
	juliet = "juliet@capulet.lit/phone"
	romeo  = "romeo@capulet.lit/orchard"
	abroad = "paris@verona.lit/x"
)

// ask returns the answer as XML, or the condition of the refusal.
func (f *fixture) ask(from, to, kind, payload string) string {
	f.t.Helper()
	s, err := xmlstream.Unmarshal([]byte("<iq xmlns='jabber:client' type='" + kind + "' id='1' from='" + from +
		"' to='" + to + "'>" + payload + "</iq>"))
	require.NoError(f.t, err)
	account := map[string]uint64{juliet: 1, romeo: 2}[from]
	result, refusal := f.Answer(f.t.Context(), Origin{Account: account}, s)
	if refusal != nil {
		return string(refusal.Condition)
	}
	text := string(xmlstream.Marshal(nil, &stanza.Stanza{Kind: stanza.IQ, Payload: result}))
	_, text, _ = strings.Cut(text, ">")
	return strings.TrimSuffix(text, "</iq>")
}

const (
	discoInfo  = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
	discoItems = "<query xmlns='http://jabber.org/protocol/disco#items'/>"
	noItems    = discoItems
)

func nothing(context.Context, *Request) ([]stanza.Element, *stanza.Error) { return nil, nil }

func TestAnswer(t *testing.T) {
	f := newFixture(t)
	var got []string
	handle := func(name string) Handle {
		return func(ctx context.Context, r *Request) ([]stanza.Element, *stanza.Error) {
			relation, refusal := r.Relation(ctx)
			require.Nil(t, refusal)
			target, refusal := r.Target(ctx)
			require.Nil(t, refusal)
			got = append(got, name+" "+r.From.String()+" "+string(rune('0'+r.Account))+string(rune('0'+target))+" "+
				string(rune('0'+relation)))
			return nil, nil
		}
	}
	require.NoError(t, f.Serve([]Handler{
		{At: AtDomain, Type: stanza.TypeGet, Space: "urn:example", Local: "a", Handle: handle("domain")},
		{At: AtAccount, Space: "urn:example", Local: "a", Handle: handle("everybody")},
		{At: AtAccount, Type: stanza.TypeGet, Space: "urn:example", Local: "b", From: Subscriber,
			Handle: handle("subscribers")},
		{At: AtAccount | AtDomain, Type: stanza.TypeSet, Space: "urn:example", Local: "b", From: Self,
			Handle: handle("self")},
	}))
	f.people.sees["1 romeo@capulet.lit"] = true
	const a, b = "<a xmlns='urn:example'/>", "<b xmlns='urn:example'/>"
	for _, test := range []struct{ from, to, kind, payload, want string }{
		{romeo, "capulet.lit", "get", a, "domain " + romeo + " 20 0"},
		{romeo, "capulet.lit", "set", b, "self " + romeo + " 20 0"},
		{abroad, "capulet.lit", "get", a, "domain " + abroad + " 00 0"},
		{romeo, "juliet@capulet.lit", "set", a, "everybody " + romeo + " 21 1"},
		{romeo, "romeo@capulet.lit", "get", a, "everybody " + romeo + " 22 2"},
		{juliet, "romeo@capulet.lit", "get", a, "everybody " + juliet + " 12 0"},
		{juliet, "nobody@capulet.lit", "get", a, "everybody " + juliet + " 10 0"},
		{romeo, "juliet@capulet.lit", "get", b, "subscribers " + romeo + " 21 1"},
		{romeo, "romeo@capulet.lit", "get", b, "subscribers " + romeo + " 22 2"},
		{romeo, "romeo@capulet.lit", "set", b, "self " + romeo + " 22 2"},
	} {
		got = nil
		require.Empty(t, f.ask(test.from, test.to, test.kind, test.payload), "%v", test)
		require.Equal(t, []string{test.want}, got, "%v", test)
	}
	for _, test := range [][4]string{
		{romeo, "capulet.lit", "set", a}, {romeo, "capulet.lit", "get", b},
		{juliet, "romeo@capulet.lit", "get", b}, {juliet, "nobody@capulet.lit", "get", b},
		{abroad, "juliet@capulet.lit", "get", b},
		{romeo, "capulet.lit", "get", "<c xmlns='urn:example'/>"},
		{romeo, "capulet.lit", "get", "<a xmlns='urn:example:other'/>"},
		{romeo, "verona.lit", "get", a}, {romeo, "capulet.lit/x", "get", a}, {romeo, "juliet@capulet.lit/x", "get", a},
		{"juliet@capulet.lit/gone", "juliet@capulet.lit", "get", a}, // it has left meanwhile
	} {
		got = nil
		require.Equal(t, "service-unavailable", f.ask(test[0], test[1], test[2], test[3]), "%v", test)
		require.Empty(t, got)
	}
	for _, to := range []string{"juliet@capulet.lit", "nobody@capulet.lit"} { // whether or not there is one
		require.Equal(t, "forbidden", f.ask(romeo, to, "set", b))
		require.Equal(t, "forbidden", f.ask(abroad, to, "set", b))
	}
	require.Empty(t, got)
	require.Equal(t, "bad-request", f.ask(romeo, "capulet.lit", "get", ""))
}

// A look-up is made once for each request, and only when somebody wants to know.
// TestTurns: a large answer takes one of the requester's turns; without one it is refused, for now.
func TestTurns(t *testing.T) {
	free, left, whose := true, 0, uint64(0)
	f := newFixture(t, func(c *Config) {
		c.Turn = func(_ context.Context, account uint64) (func(), bool) {
			whose = account
			return func() { left++ }, free
		}
	})
	require.NoError(t, f.Serve([]Handler{
		{At: AtAccount, Space: "large", Local: "x", Heavy: true, Handle: nothing},
		{At: AtAccount, Space: "small", Local: "x", Handle: nothing},
	}))
	require.Equal(t, "", f.ask(romeo, "romeo@capulet.lit", "get", "<x xmlns='large'/>"))
	require.Equal(t, []uint64{2, 1}, []uint64{whose, uint64(left)})
	free = false
	require.Equal(t, "resource-constraint", f.ask(romeo, "romeo@capulet.lit", "get", "<x xmlns='large'/>"))
	require.Equal(t, "", f.ask(romeo, "romeo@capulet.lit", "get", "<x xmlns='small'/>"))
	require.Equal(t, 1, left)
}

func TestRelationIsLookedUpOnce(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.Serve([]Handler{
		{At: AtAccount | AtDomain, Type: stanza.TypeGet, Space: "urn:example", Local: "a", Handle: nothing},
		{At: AtAccount, Type: stanza.TypeGet, Space: "urn:example", Local: "b", From: Subscriber,
			Handle: func(ctx context.Context, r *Request) ([]stanza.Element, *stanza.Error) {
				_, _ = r.Relation(ctx)
				_, _ = r.Target(ctx)
				return nil, nil
			}},
	}))
	f.people.sees["1 romeo@capulet.lit"] = true
	for payload, want := range map[string]map[string]int{
		"<a xmlns='urn:example'/>": {"juliet@capulet.lit": 0, "romeo@capulet.lit": 0, "capulet.lit": 0},
		"<b xmlns='urn:example'/>": {"juliet@capulet.lit": 1, "romeo@capulet.lit": 0},
	} {
		for to, n := range want {
			f.people.asked = 0
			require.Empty(t, f.ask(romeo, to, "get", payload))
			require.Equal(t, n, f.people.asked, "%s to %s", payload, to)
		}
	}
	f.people.broken = true
	require.Equal(t, "internal-server-error", f.ask(romeo, "juliet@capulet.lit", "get", "<b xmlns='urn:example'/>"))
	require.Equal(t, "internal-server-error", f.ask(romeo, "juliet@capulet.lit", "get", discoInfo))
	require.Equal(t, "internal-server-error", f.ask(romeo, "juliet@capulet.lit", "get", discoItems))
}

func TestServeRefusesTwoHandlersForOneRequest(t *testing.T) {
	f := newFixture(t)
	a := Handler{At: AtDomain, Type: "get", Space: "x", Local: "q", Handle: nothing}
	b := a
	require.Error(t, f.Serve([]Handler{a, b}))
	b.Type = ""
	require.Error(t, f.Serve([]Handler{a}, []Handler{b}))
	b.Type = "set"
	require.NoError(t, f.Serve([]Handler{a, b}))
	b.Type, b.At = "get", AtAccount
	require.NoError(t, f.Serve([]Handler{a, b}))
	b.At = AtAccount | AtDomain
	require.Error(t, f.Serve([]Handler{a, b}))
	b.At = 0
	require.Error(t, f.Serve([]Handler{b}))
}

func TestNewRefusesWhatIsNoDomain(t *testing.T) {
	for _, domain := range []jid.JID{{}, jid.MustParse("a@capulet.lit"), jid.MustParse("capulet.lit/x")} {
		_, err := New(Config{Domain: domain})
		require.Error(t, err)
	}
}

// In a hub without look-ups of accounts nobody is subscribed.
func TestNobodyIsKnown(t *testing.T) {
	h, err := New(Config{Domain: jid.MustParse("capulet.lit")})
	require.NoError(t, err)
	f := &fixture{Hub: h, t: t}
	require.NoError(t, f.Serve())
	require.Equal(t, "service-unavailable", f.ask(romeo, "juliet@capulet.lit", "get", discoInfo))
	require.Contains(t, f.ask(juliet, "juliet@capulet.lit", "get", discoInfo), "registered")
	require.Equal(t, noItems, f.ask(juliet, "juliet@capulet.lit", "get", discoItems))
}

func TestBasics(t *testing.T) {
	at := time.Date(2006, 12, 19, 17, 58, 35, 0, time.FixedZone("", -6*3600))
	for _, test := range []struct {
		hide bool
		want string
	}{{false, "1.2"}, {true, "unstated"}} {
		f := newFixture(t, func(c *Config) {
			c.Now = func() time.Time { return at }
			c.Version, c.HideVersion = "1.2", test.hide
		})
		require.NoError(t, f.Serve(f.Basics()))
		require.Empty(t, f.ask(romeo, "capulet.lit", "get", "<ping xmlns='urn:xmpp:ping'/>"))
		require.Empty(t, f.ask(romeo, "romeo@capulet.lit", "get", "<ping xmlns='urn:xmpp:ping'/>"))
		require.Equal(t, "forbidden", f.ask(romeo, "juliet@capulet.lit", "get", "<ping xmlns='urn:xmpp:ping'/>"))
		require.Equal(t, "<query xmlns='jabber:iq:version'><name>Posthouse</name><version>"+test.want+
			"</version></query>",
			f.ask(romeo, "capulet.lit", "get", "<query xmlns='jabber:iq:version'/>"))
		require.Equal(t, "<time xmlns='urn:xmpp:time'><tzo>-06:00</tzo><utc>2006-12-19T23:58:35Z</utc></time>",
			f.ask(romeo, "capulet.lit", "get", "<time xmlns='urn:xmpp:time'/>"))
	}
}

// TestHiddenAccounts is A104: who is not subscribed learns nothing, not even that the account exists (XEP-0030 §8).
func TestHiddenAccounts(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.Serve())
	node := strings.Replace(discoItems, "/>", " node='x'/>", 1)
	for _, from := range []string{romeo, abroad} {
		for _, to := range []string{"juliet@capulet.lit", "nobody@capulet.lit"} {
			require.Equal(t, "service-unavailable", f.ask(from, to, "get", discoInfo), to)
			require.Equal(t, noItems, f.ask(from, to, "get", discoItems), "an empty result, and no error")
			require.Equal(t, node, f.ask(from, to, "get", node), to)
		}
	}
	f.people.sees["1 romeo@capulet.lit"] = true
	require.Contains(t, f.ask(romeo, "juliet@capulet.lit", "get", discoInfo),
		"<identity category='account' type='registered'/>")
	const resources = "<query xmlns='http://jabber.org/protocol/disco#items'>" +
		"<item jid='juliet@capulet.lit/laptop'/><item jid='juliet@capulet.lit/phone'/></query>"
	require.Equal(t, resources, f.ask(romeo, "juliet@capulet.lit", "get", discoItems))
	require.Equal(t, resources, f.ask(juliet, "juliet@capulet.lit", "get", discoItems))
	require.Equal(t, "item-not-found", f.ask(juliet, "juliet@capulet.lit", "get", node))
	require.Equal(t, noItems, f.ask(romeo, "romeo@capulet.lit", "get", discoItems), "he has no available resource")
}

func TestDiscovery(t *testing.T) {
	f := newFixture(t, func(c *Config) {
		c.Features, c.AccountFeatures = []string{"urn:example:domain"}, []string{"urn:example:account"}
		c.Contact = map[string][]string{
			"abuse-addresses": {"mailto:abuse@capulet.lit"},
			"admin-addresses": {"xmpp:nurse@capulet.lit", "mailto:nurse@capulet.lit"},
		}
	})
	require.NoError(t, f.Serve([]Handler{
		{At: AtDomain | AtAccount, Type: "get", Space: "urn:example:both", Local: "a", Handle: nothing},
		{At: AtAccount, Type: "get", Space: "urn:example:named", Local: "a", Feature: "urn:example:name",
			Handle: nothing},
		{At: AtAccount, Type: "get", Space: "urn:example:sought", Local: "a", Announced: AtDomain | AtAccount,
			Handle: nothing},
		{At: AtDomain | AtAccount, Type: "get", Space: "urn:example:silent", Local: "a", Feature: "-", Handle: nothing},
	}))
	features := func(to string) (list []string) {
		for _, part := range strings.Split(f.ask(juliet, to, "get", discoInfo), "<feature var='")[1:] {
			feature, _, _ := strings.Cut(part, "'")
			list = append(list, feature)
		}
		return list
	}
	both := []string{nsDiscoInfo, nsDiscoItems, "urn:example:both", "urn:example:sought"}
	require.ElementsMatch(t, append([]string{nsCaps, "urn:example:domain"}, both...), features("capulet.lit"))
	require.ElementsMatch(t, append([]string{"urn:example:account", "urn:example:name"}, both...),
		features("juliet@capulet.lit"))

	domain := f.ask(juliet, "capulet.lit", "get", discoInfo)
	for _, want := range []string{
		"<identity category='server' type='im' name='Posthouse'/>",
		"<field var='abuse-addresses' type='list-multi'><value>mailto:abuse@capulet.lit</value></field>",
		"<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/network/serverinfo</value></field>",
	} {
		require.Contains(t, domain, want)
	}
	for _, to := range []string{"capulet.lit", "juliet@capulet.lit"} {
		for _, q := range []string{discoInfo, discoItems} {
			require.Equal(t, "item-not-found",
				f.ask(juliet, to, "get", strings.Replace(q, "/>", " node='nonsense'/>", 1)))
			require.Equal(t, "service-unavailable", f.ask(juliet, to, "set", q))
		}
	}
	caps := f.Caps()
	require.Equal(t, "sha-1", caps.Attr("hash"))
	node := " node='" + caps.Attr("node") + "#" + caps.Attr("ver") + "'"
	require.Equal(t, strings.Replace(domain, "info'>", "info'"+node+">", 1),
		f.ask(juliet, "capulet.lit", "get", strings.Replace(discoInfo, "/>", node+"/>", 1)),
		"the answer that the hash is over")
}

// A service with an address of its own answers for itself, and the domain shows it.
func TestOtherServices(t *testing.T) {
	f := newFixture(t)
	require.NoError(t, f.Serve(f.Basics()))
	rooms := Service{
		Address:    jid.MustParse("rooms.capulet.lit"),
		Identities: []Identity{{Category: "conference", Type: "text", Lang: "en", Name: "Rooms"}},
		Features:   []string{"http://jabber.org/protocol/muc"},
		Items: func(_ context.Context, r *Request) ([]Item, *stanza.Error) {
			if r.Account == 0 {
				return nil, stanza.Refuse(stanza.Forbidden, "")
			}
			return []Item{{JID: jid.MustParse("garden@rooms.capulet.lit"), Name: "Garden"},
				{JID: jid.MustParse("rooms.capulet.lit"), Node: "n"}}, nil
		},
		Handlers: []Handler{Ping(0), {Type: "set", Space: "urn:example", Local: "x", From: Self, Handle: nothing}},
	}
	require.NoError(t, f.Add(rooms))
	require.Error(t, f.Add(rooms), "it is there")
	upload := Service{
		Address: jid.MustParse("files.capulet.lit"), Identities: []Identity{{Category: "store", Type: "file"}},
		Handlers: []Handler{{Type: "get", Space: nsDiscoInfo, Local: "query", Handle: nothing}},
	}
	require.NoError(t, f.Add(upload))
	require.Equal(
		t,
		"<query xmlns='http://jabber.org/protocol/disco#items'><item jid='files.capulet.lit'/><item "+
			"jid='rooms.capulet.lit' name='Rooms'/></query>",
		f.ask(romeo, "capulet.lit", "get", discoItems))
	require.Equal(
		t,
		"<query xmlns='http://jabber.org/protocol/disco#info'><identity category='conference' type='text' "+
			"name='Rooms' xml:lang='en'/>"+
			"<feature var='http://jabber.org/protocol/disco#info'/><feature "+
			"var='http://jabber.org/protocol/disco#items'/>"+
			"<feature var='http://jabber.org/protocol/muc'/><feature var='urn:example'/><feature "+
			"var='urn:xmpp:ping'/></query>",
		f.ask(abroad, "rooms.capulet.lit", "get", discoInfo))
	require.Equal(
		t,
		"<query xmlns='http://jabber.org/protocol/disco#items'><item jid='garden@rooms.capulet.lit' "+
			"name='Garden'/><item jid='rooms.capulet.lit' node='n'/></query>",
		f.ask(romeo, "rooms.capulet.lit", "get", discoItems))
	require.Equal(t, "forbidden", f.ask(abroad, "rooms.capulet.lit", "get", discoItems))
	require.Empty(t, f.ask(abroad, "rooms.capulet.lit", "get", "<ping xmlns='urn:xmpp:ping'/>"))
	require.Empty(t, f.ask(abroad, "rooms.capulet.lit", "set", "<x xmlns='urn:example'/>"))
	require.Equal(t, "service-unavailable",
		f.ask(romeo, "rooms.capulet.lit", "get", "<query xmlns='jabber:iq:version'/>"))
	require.Equal(t, "service-unavailable", f.ask(romeo, "garden@rooms.capulet.lit", "get", discoInfo))
	require.Empty(t, f.ask(romeo, "files.capulet.lit", "get", discoInfo), "it answers discovery itself")

	for _, bad := range []Service{
		{Identities: rooms.Identities}, {Address: jid.MustParse("a@capulet.lit"), Identities: rooms.Identities},
		{Address: jid.MustParse("x.capulet.lit/y"), Identities: rooms.Identities},
		{Address: jid.MustParse("capulet.lit"), Identities: rooms.Identities},
		{Address: jid.MustParse("x.capulet.lit")},
		{Address: jid.MustParse("x.capulet.lit"), Identities: rooms.Identities, Handlers: []Handler{Ping(0), Ping(0)}},
	} {
		require.Error(t, f.Add(bad), "%v", bad.Address)
	}
}

// TestCapsExamples checks the two examples of XEP-0115 §5.2 and §5.3.
func TestCapsExamples(t *testing.T) {
	features := []stanza.Element{
		stanza.New(nsDiscoInfo, "feature", "var", "http://jabber.org/protocol/muc"),
		stanza.New(nsDiscoInfo, "feature", "var", nsDiscoInfo),
		stanza.New(nsDiscoInfo, "feature", "var", nsDiscoItems),
		stanza.New(nsDiscoInfo, "feature", "var", nsCaps),
	}
	simple := append([]stanza.Element{stanza.New(nsDiscoInfo, "identity", "category", "client", "type", "pc", "name",
		"Exodus 0.9.1")}, features...)
	require.Equal(t, "QgayPKawpkPSDYmwT/WM94uAlu0=", capsVersion(simple))

	form := stanza.New(nsForm, "x", "type", "result").With(
		field("os", "text-single", "Mac"), field("FORM_TYPE", "hidden", "urn:xmpp:dataforms:softwareinfo"),
		field("ip_version", "text-multi", "ipv6", "ipv4"), field("os_version", "text-single", "10.5.1"),
		field("software", "text-single", "Psi"), field("software_version", "text-single", "0.11"),
	)
	complex := append(info([]Identity{{"client", "pc", "en", "Psi 0.11"}, {"client", "pc", "el", "Ψ 0.11"}}, nil,
		[]stanza.Element{form}), features...)
	require.Equal(t, "q07IKJEyjvHSyhy//CH0CxmKi8w=", capsVersion(complex))
}

// What is sorted are the parts, and not the parts with what is put behind them: "<" and "/" sort after other characters
// that names have (XEP-0115 §5.1).
func TestCapsSortsParts(t *testing.T) {
	hash := func(text string) string {
		sum := sha1.Sum([]byte(text))
		return base64.StdEncoding.EncodeToString(sum[:])
	}
	form := func(formType string, fields ...stanza.Element) stanza.Element {
		return stanza.New(nsForm, "x", "type", "result").With(append(fields, field("FORM_TYPE", "hidden", formType))...)
	}
	for _, test := range []struct {
		name       string
		identities []Identity
		features   []string
		forms      []stanza.Element
		want       string
	}{
		{name: "features", features: []string{"urn:xmpp:mam:2#extended", "urn:xmpp:mam:2"},
			want: "urn:xmpp:mam:2<urn:xmpp:mam:2#extended<"},
		{
			name: "identities",
			identities: []Identity{{"a", "b+c", "", ""}, {"a", "b", "", ""}, {"a+", "b", "", ""}, {"a", "b", "en", "y"},
				{"a", "b", "de", "z"}},
			want: "a/b//<a/b/de/z<a/b/en/y<a/b+c//<a+/b//<",
		},
		{name: "values", forms: []stanza.Element{form("t", field("f", "text-multi", "v#w", "v"))}, want: "t<f<v<v#w<"},
		{name: "fields", forms: []stanza.Element{form("t", field("f#g", "text-single", "1"),
			field("f", "text-single", "2"))}, want: "t<f<2<f#g<1<"},
		{name: "forms", forms: []stanza.Element{form("t#u"), form("t")}, want: "t<t#u<"},
	} {
		require.Equal(t, hash(test.want), capsVersion(info(test.identities, test.features, test.forms)), test.name)
	}
}
