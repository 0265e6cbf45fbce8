package local

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// ask sends a request from a session and returns the one answer.
func (w *world) ask(full, text string) string {
	w.t.Helper()
	w.boxes[full].take()
	w.say(full, text)
	got := w.boxes[full].texts()
	require.Len(w.t, got, 1, text)
	return got[0]
}

func TestIQToServerAndAccount(t *testing.T) {
	w := newWorld(t)
	w.appear(phone, 0)
	unavailable := func(from string) string {
		return "<iq from='" + from + "' to='" + phone + "' type='error' id='1'><error type='cancel'>" +
			"<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
	}
	// A61: nobody understands it, wherever it is sent.
	for _, to := range []string{"capulet.lit", "juliet@capulet.lit", "romeo@capulet.lit", "nobody@capulet.lit", "nobody@capulet.lit/x", "capulet.lit/x"} {
		require.Equal(t, unavailable(to), w.ask(phone, "<iq type='get' id='1' to='"+to+"'><query xmlns='urn:example:unknown'/></iq>"))
	}
	// Known, but not of this type, not for this target.
	require.Equal(t, unavailable("capulet.lit"), w.ask(phone, "<iq type='set' id='1' to='capulet.lit'><ping xmlns='urn:xmpp:ping'/></iq>"))
	require.Equal(t, unavailable("romeo@capulet.lit"), w.ask(phone, "<iq type='get' id='1' to='romeo@capulet.lit'><ping xmlns='urn:xmpp:ping'/></iq>"))
	require.Equal(t, unavailable("romeo@capulet.lit"), w.ask(phone, "<iq type='set' id='1' to='romeo@capulet.lit'><enable xmlns='urn:xmpp:carbons:2'/></iq>"))
	// From another domain.
	require.Equal(t, stanza.BadRequest, condition(w.route("<iq type='get' id='1' from='a@montague.lit/x' to='capulet.lit'/>", 0)))
	require.Nil(t, w.route("<iq type='get' id='1' from='a@montague.lit/x' to='capulet.lit'><ping xmlns='urn:xmpp:ping'/></iq>", 0))
	require.Equal(t, []string{"<iq from='capulet.lit' to='a@montague.lit/x' type='result' id='1'/>"}, w.away.texts())
}

func TestIQHandlersGetAccountTargetAndOrder(t *testing.T) {
	w := newWorld(t)
	w.appear(phone, 0)
	var got []uint64
	require.NoError(t, w.domain.Answer([]router.IQRoute{{
		Target: router.ToServer | router.ToOwnAccount, Space: "urn:example", Local: "query",
		Handle: func(ctx context.Context, account uint64, iq *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
			got = append(got, account)
			session.AfterReply(ctx, func() {
				w.sessions.Send(iq.From, packet(parse(t, "<message to='"+phone+"'/>"), 0))
			})
			if iq.Type == stanza.TypeSet {
				return nil, stanza.Refuse(stanza.Forbidden, "")
			}
			return []stanza.Element{stanza.New("urn:example", "answer")}, nil
		},
	}}))
	w.say(phone, "<iq type='get' id='1' to='capulet.lit'><query xmlns='urn:example'/></iq>")
	w.got(phone, "<iq from='capulet.lit' to='"+phone+"' type='result' id='1'><answer xmlns='urn:example'/></iq>", "<message to='"+phone+"'/>")
	require.Contains(t, w.ask(phone, "<iq type='set' id='1'><query xmlns='urn:example'/></iq>"), "<forbidden")
	require.Nil(t, w.route("<iq type='get' id='1' from='a@montague.lit/x' to='capulet.lit'><query xmlns='urn:example'/></iq>", 0))
	require.Equal(t, []uint64{1, 1, 0}, got)
}

func TestAnswerRefusesTwoRoutesForOneRequest(t *testing.T) {
	w := newWorld(t)
	handle := func(context.Context, uint64, *stanza.Stanza) ([]stanza.Element, *stanza.Error) { return nil, nil }
	a := router.IQRoute{Target: router.ToServer, Type: "get", Space: "x", Local: "q", Handle: handle}
	b := a
	require.Error(t, w.domain.Answer([]router.IQRoute{a, b}))
	b.Type = ""
	require.Error(t, w.domain.Answer([]router.IQRoute{a}, []router.IQRoute{b}))
	b.Type = "set"
	require.NoError(t, w.domain.Answer([]router.IQRoute{a, b}))
	b.Type, b.Target = "get", router.ToOwnAccount
	require.NoError(t, w.domain.Answer([]router.IQRoute{a, b}))
}

func TestPingVersionTime(t *testing.T) {
	at := time.Date(2006, 12, 19, 17, 58, 35, 0, time.FixedZone("", -6*3600))
	w := newWorld(t, func(c *Config) {
		c.Now = func() time.Time { return at }
		c.Version = "1.2"
	})
	w.appear(phone, 0)
	get := func(payload string) string {
		got := w.ask(phone, "<iq type='get' id='1' to='capulet.lit'>"+payload+"</iq>")
		return strings.TrimSuffix(strings.TrimPrefix(got, "<iq from='capulet.lit' to='"+phone+"' type='result' id='1'>"), "</iq>")
	}
	require.Equal(t, "<iq from='capulet.lit' to='"+phone+"' type='result' id='1'/>", get("<ping xmlns='urn:xmpp:ping'/>"))
	require.Equal(t, "<query xmlns='jabber:iq:version'><name>Posthouse</name><version>1.2</version></query>", get("<query xmlns='jabber:iq:version'/>"))
	require.Equal(t, "<time xmlns='urn:xmpp:time'><tzo>-06:00</tzo><utc>2006-12-19T23:58:35Z</utc></time>", get("<time xmlns='urn:xmpp:time'/>"))
	require.Equal(t, "<query xmlns='jabber:iq:last' seconds='0'/>", get("<query xmlns='jabber:iq:last'/>"))
	w.domain.config.HideVersion = true
	require.NotContains(t, get("<query xmlns='jabber:iq:version'/>"), "1.2")
}

// activity is a store.LastActivity of one account.
type activity map[store.AccountID]int64

func (a activity) LastActivity(_ context.Context, owner store.AccountID) (int64, string, error) {
	if at, ok := a[owner]; ok {
		return at, "Heading home", nil
	}
	return 0, "", store.ErrNotFound
}

func (a activity) SetLastActivity(context.Context, store.AccountID, int64, string) error { return nil }

// TestLastActivityAndPrivacy is XEP-0012, and with disco A104: who is not subscribed learns nothing, not even that the account exists.
func TestLastActivityAndPrivacy(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Now = func() time.Time { return time.Unix(1903, 0) }
		c.Activity = activity{1: 1000}
	})
	const last, info, items = "<query xmlns='jabber:iq:last'/>", "<query xmlns='http://jabber.org/protocol/disco#info'/>", "<query xmlns='http://jabber.org/protocol/disco#items'/>"
	w.appear(romeo, 0)
	get := func(to, payload string) string {
		got := w.ask(romeo, "<iq type='get' id='1' to='"+to+"'>"+payload+"</iq>")
		return strings.ReplaceAll(got, to, "X")
	}
	for _, payload := range []string{last, info, items} {
		missing := get("nobody@capulet.lit", payload)
		require.Contains(t, missing, "service-unavailable")
		require.Equal(t, missing, get("juliet@capulet.lit", payload), "a stranger learns nothing of an account that is away")
		require.Equal(t, missing, get("nurse@capulet.lit", payload))
	}
	w.appear(phone, 0)
	for _, payload := range []string{last, info, items} {
		require.Equal(t, get("nobody@capulet.lit", payload), get("juliet@capulet.lit", payload), "nor of one that is there")
	}
	w.friends.sees["1 romeo@capulet.lit"] = true
	w.friends.sees["3 romeo@capulet.lit"] = true
	require.Contains(t, get("juliet@capulet.lit", last), "seconds='0'/>")
	require.Contains(t, get("juliet@capulet.lit", info), "<identity category='account' type='registered'/>")
	require.Contains(t, get("juliet@capulet.lit", items), "<item jid='"+strings.ReplaceAll(phone, "juliet@capulet.lit", "X")+"'/>")
	w.sessions.Unbind(w.sess[phone])
	require.Contains(t, get("juliet@capulet.lit", last), "<query xmlns='jabber:iq:last' seconds='903'>Heading home</query>")
	require.Contains(t, get("nurse@capulet.lit", last), "service-unavailable", "she was never there")
	require.Contains(t, w.ask(romeo, "<iq type='get' id='1'><query xmlns='jabber:iq:last'/></iq>"), "seconds='0'", "about oneself")
}

func TestDisco(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Items = []Item{{JID: jid.MustParse("muc.capulet.lit"), Name: "Rooms"}, {JID: jid.MustParse("upload.capulet.lit")}}
		c.Features = []string{"urn:example:server"}
		c.AccountFeatures = []string{"urn:example:account"}
		c.Contact = map[string][]string{"abuse-addresses": {"mailto:abuse@capulet.lit"}, "admin-addresses": {"xmpp:nurse@capulet.lit", "mailto:nurse@capulet.lit"}}
	})
	w.appear(phone, 0)
	get := func(to, space, node string) string {
		if node != "" {
			node = " node='" + node + "'"
		}
		return w.ask(phone, "<iq type='get' id='1' to='"+to+"'><query xmlns='http://jabber.org/protocol/"+space+"'"+node+"/></iq>")
	}
	server := get("capulet.lit", "disco#info", "")
	for _, want := range []string{
		"<identity category='server' type='im' name='Posthouse'/>", "<feature var='http://jabber.org/protocol/disco#info'/>",
		"<feature var='http://jabber.org/protocol/disco#items'/>", "<feature var='urn:xmpp:ping'/>", "<feature var='jabber:iq:version'/>",
		"<feature var='urn:xmpp:time'/>", "<feature var='jabber:iq:last'/>", "<feature var='urn:xmpp:carbons:2'/>",
		"<feature var='http://jabber.org/protocol/caps'/>", "<feature var='msgoffline'/>", "<feature var='urn:example:server'/>",
		"<field var='abuse-addresses' type='list-multi'><value>mailto:abuse@capulet.lit</value></field>",
		"<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/network/serverinfo</value></field>",
	} {
		require.Contains(t, server, want)
	}
	require.NotContains(t, server, "urn:example:account")
	account := get("juliet@capulet.lit", "disco#info", "")
	require.Contains(t, account, "<identity category='account' type='registered'/>")
	require.Contains(t, account, "<feature var='urn:example:account'/>")
	require.NotContains(t, account, "jabber:iq:version")
	require.Contains(t, get("capulet.lit", "disco#items", ""),
		"<item jid='muc.capulet.lit' name='Rooms'/><item jid='upload.capulet.lit'/>")
	for _, to := range []string{"capulet.lit", "juliet@capulet.lit"} {
		require.Contains(t, get(to, "disco#info", "nonsense"), "<item-not-found")
		require.Contains(t, get(to, "disco#items", "nonsense"), "<item-not-found")
	}

	caps := w.domain.Caps()
	node := caps.Attr("node") + "#" + caps.Attr("ver")
	require.Equal(t, "sha-1", caps.Attr("hash"))
	require.Equal(t, strings.Replace(server, "<query xmlns='http://jabber.org/protocol/disco#info'>", "<query xmlns='http://jabber.org/protocol/disco#info' node='"+node+"'>", 1),
		get("capulet.lit", "disco#info", node), "the answer that the hash is over")
}

// TestCapsExamples checks the two examples of XEP-0115 §5.2 and §5.3.
func TestCapsExamples(t *testing.T) {
	features := []stanza.Element{
		stanza.New(nsDiscoInfo, "feature", "var", "http://jabber.org/protocol/muc"),
		stanza.New(nsDiscoInfo, "feature", "var", nsDiscoInfo),
		stanza.New(nsDiscoInfo, "feature", "var", nsDiscoItems),
		stanza.New(nsDiscoInfo, "feature", "var", nsCaps),
	}
	simple := append([]stanza.Element{stanza.New(nsDiscoInfo, "identity", "category", "client", "type", "pc", "name", "Exodus 0.9.1")}, features...)
	require.Equal(t, "QgayPKawpkPSDYmwT/WM94uAlu0=", capsVersion(simple))

	identity := func(lang, name string) stanza.Element {
		e := stanza.New(nsDiscoInfo, "identity", "category", "client", "type", "pc", "name", name)
		e.Attrs = append(e.Attrs, stanza.Attr{Space: stanza.NSXML, Local: "lang", Value: lang})
		return e
	}
	form := stanza.New(nsData, "x", "type", "result").With(
		field("os", "text-single", "Mac"), field("FORM_TYPE", "hidden", "urn:xmpp:dataforms:softwareinfo"),
		field("ip_version", "text-multi", "ipv6", "ipv4"), field("os_version", "text-single", "10.5.1"),
		field("software", "text-single", "Psi"), field("software_version", "text-single", "0.11"),
	)
	complex := append([]stanza.Element{identity("en", "Psi 0.11"), identity("el", "Ψ 0.11"), form}, features...)
	require.Equal(t, "q07IKJEyjvHSyhy//CH0CxmKi8w=", capsVersion(complex))
}
