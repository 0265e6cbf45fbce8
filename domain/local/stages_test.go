package local

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// A59: c2s ends a stream that claims another's address; here it cannot matter
func TestAddressStampsTheSender(t *testing.T) {
	w := newWorld(t)
	w.appear(romeo, 0)
	w.appear(phone, 0)
	require.Nil(t, w.say(romeo, "<message from='pope@vatican.lit' to='"+phone+
		"' type='chat'><body>hi</body></message>"))
	w.got(phone, "<message from='"+romeo+"' to='"+phone+"' type='chat'><body>hi</body></message>")
}

func TestAddressFillsTo(t *testing.T) { // RFC 6120 §10.3
	w := newWorld(t)
	w.appear(phone, 0)
	w.appear(laptop, 0)
	w.boxes[phone].take()
	require.Nil(t, w.say(phone, "<message id='m'><body>note to self</body></message>"))
	w.got(laptop, "<message from='"+phone+"' to='juliet@capulet.lit' id='m'><body>note to self</body></message>")
	w.got(phone, "<message from='"+phone+"' to='juliet@capulet.lit' id='m'><body>note to self</body></message>")
	require.Nil(t, w.say(phone, "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>"))
	w.got(phone, "<iq from='juliet@capulet.lit' to='"+phone+"' type='result' id='1'/>")
}

func TestAddressRefusesMalformedStanzas(t *testing.T) { // A60, A72
	const delay = "<message to='juliet@capulet.lit'><delay xmlns='urn:xmpp:delay' stamp='%s'/></message>"
	const priority = "<presence><priority>%s</priority></presence>"
	for text, want := range map[string]stanza.Condition{
		"<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>":                      stanza.BadRequest,
		"<iq id='1'><ping xmlns='urn:xmpp:ping'/></iq>":                          stanza.BadRequest,
		"<iq id='1' type='foo'><ping xmlns='urn:xmpp:ping'/></iq>":               stanza.BadRequest,
		"<iq id='1' type='get'/>":                                                stanza.BadRequest,
		"<iq id='1' type='get'><ping xmlns='urn:xmpp:ping'/><b xmlns='x'/></iq>": stanza.BadRequest,
		"<iq id='1' type='set'/>":                                                stanza.BadRequest,
		"<iq id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>":               "",
		"<presence type='foo'/>":                                                 stanza.BadRequest,
		"<presence type='available'/>":                                           stanza.BadRequest,
		"<presence type='probe'/>":                                               stanza.BadRequest,
		"<presence type='subscribe'/>":                                           stanza.BadRequest,
		fmt.Sprintf(priority, "128"):                                             stanza.BadRequest,
		fmt.Sprintf(priority, "-129"):                                            stanza.BadRequest,
		fmt.Sprintf(priority, "999"):                                             stanza.BadRequest,
		fmt.Sprintf(priority, ""):                                                stanza.BadRequest,
		fmt.Sprintf(priority, "1e2"):                                             stanza.BadRequest,
		fmt.Sprintf(priority, "99999999999999999999"):                            stanza.BadRequest,
		"<presence><priority>1</priority><priority>2</priority></presence>":      stanza.BadRequest,
		fmt.Sprintf(priority, " -128\n"):                                         "",
		fmt.Sprintf(priority, "+127"):                                            "",
		fmt.Sprintf(delay, "-0001-01-01T00:00:00Z"):                              stanza.BadRequest,
		fmt.Sprintf(delay, "9999-12-31T23:59:59Z"):                               stanza.BadRequest,
		fmt.Sprintf(delay, "99999-12-31T23:59:59Z"):                              stanza.BadRequest,
		fmt.Sprintf(delay, "1969-07-20T02:56:15Z"):                               stanza.BadRequest,
		fmt.Sprintf(delay, "2026-02-30T00:00:00Z"):                               stanza.BadRequest,
		fmt.Sprintf(delay, "2026-02-03T00:00:00."+strings.Repeat("1", 1000)+"Z"): stanza.BadRequest,
		fmt.Sprintf(delay, ""):                                                   stanza.BadRequest,
		fmt.Sprintf(delay, "1e9"):                                                stanza.BadRequest,
		fmt.Sprintf(delay, "2002-09-10T23:08:25Z"):                               "",
		fmt.Sprintf(delay, "2002-09-10T23:08:25.123456+02:00"):                   "",
		"<message type='foo' to='juliet@capulet.lit'/>":                          "",
	} {
		w := newWorld(t)
		w.connect(phone)
		require.Equal(t, want, condition(w.say(phone, text)), text)
		w.domain.replays.Wait()
	}
}

func FuzzAddress(f *testing.F) {
	f.Add("get", "1", "1", "2002-09-10T23:08:25Z")
	f.Add("", "", "-129", "9999-99-99")
	f.Fuzz(func(t *testing.T, typ, id, priority, stamp string) {
		w := &Domain{domain: "capulet.lit"}
		for kind := stanza.Message; kind <= stanza.IQ; kind++ {
			s := &stanza.Stanza{Kind: kind, Type: typ, ID: id, Payload: []stanza.Element{
				stanza.New(stanza.NSClient, "priority").WithText(priority),
				stanza.New(nsDelay, "delay", "stamp", stamp),
			}}
			_, refusal := w.address(t.Context(),
				&router.Envelope{Stanza: s, Origin: &router.Origin{Kind: router.Client, Account: 1,
					Address: jid.MustParse(phone)}})
			if refusal != nil {
				continue
			}
			if kind != stanza.Presence && s.To.IsZero() || typeOf(s) < 0 || kind == stanza.IQ && s.ID == "" {
				t.Fatalf("accepted %q", show(s))
			}
			if _, refusal := priorityOf(s); kind == stanza.Presence && typ == "" && refusal != nil {
				t.Fatalf("accepted priority %q", priority)
			}
		}
	})
}

// TestStrip is A73 and row 21 of the advisories: every forgery goes, at any count and in any order, and nothing else.
func TestStrip(t *testing.T) {
	forged := []string{
		"<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='juliet@capulet.lit'/>",
		"<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='capulet.lit'/>",
		"<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='ROMEO@capulet.lit'/>",
		"<delay xmlns='urn:xmpp:delay' from='capulet.lit' stamp='2002-09-10T23:08:25Z'/>",
		"<delay xmlns='urn:xmpp:delay' from='juliet@capulet.lit' stamp='2002-09-10T23:08:25Z'/>",
		"<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'/></received>",
		"<sent xmlns='urn:xmpp:carbons:2'/>",
		"<result xmlns='urn:xmpp:mam:2' queryid='f' id='1'/>",
		"<fin xmlns='urn:xmpp:mam:2'/>",
		"<occupant-id xmlns='urn:xmpp:occupant-id:0' id='x'/>",
		"<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' role='moderator'/></x>",
		"<x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@montague.lit'/></x>",
		"<addresses xmlns='http://jabber.org/protocol/address'><address type='ofrom' " +
			"jid='pope@vatican.lit'/></addresses>",
		"<receipt xmlns='urn:posthouse:receipt:1' seq='1'/>",
		"<request xmlns='urn:posthouse:receipt:1'/>",
		"<position xmlns='urn:posthouse:position:1' number='1'/>",
		"<retracted xmlns='urn:xmpp:message-retract:1' id='1'/>",
		"<retract xmlns='urn:xmpp:message-retract:1' id='1'><moderated xmlns='urn:xmpp:message-moderate:1' " +
			"by='capulet.lit'/></retract>",
		"<moderated xmlns='urn:xmpp:message-moderate:1' by='capulet.lit'/>",
	}
	kept := []string{
		"<body>hi</body>",
		"<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='montague.lit'/>",
		"<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='not an address'/>",
		"<stanza-id xmlns='urn:xmpp:sid:0' id='1'/>",
		"<origin-id xmlns='urn:xmpp:sid:0' id='1'/>",
		"<delay xmlns='urn:xmpp:delay' stamp='2002-09-10T23:08:25Z'/>",
		"<delay xmlns='urn:xmpp:delay' from='" + romeo + "' stamp='2002-09-10T23:08:25Z'/>",
		"<delay xmlns='urn:xmpp:delay' from='montague.lit' stamp='2002-09-10T23:08:25Z'/>",
		"<x xmlns='jabber:x:conference' jid='room@muc.capulet.lit'/>",
		"<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><occupant-id " +
			"xmlns='urn:xmpp:occupant-id:0' id='x'/></message></forwarded>",
		"<code xmlns='urn:posthouse:content:1' language='go'/>",
		"<retract xmlns='urn:xmpp:message-retract:1' id='1'/>",
	}
	w := newWorld(t)
	w.appear(romeo, 0)
	w.appear(phone, 0)
	send := func(children []string) []string {
		require.Nil(t, w.say(romeo, "<message to='"+phone+"' type='chat'>"+strings.Join(children, "")+"</message>"))
		got := w.boxes[phone].texts()
		require.Len(t, got, 1)
		return got
	}
	want := send(kept)
	require.Equal(t, "<message from='"+romeo+"' to='"+phone+"' type='chat'>"+strings.Join(kept, "")+"</message>",
		want[0], "nothing of this is forged")
	for _, one := range forged {
		for _, count := range []int{1, 2, 100} {
			many := make([]string, count)
			for i := range many {
				many[i] = one
			}
			require.Equal(t, want, send(append(append([]string{}, many...), kept...)), one)
			require.Equal(t, want, send(append(append([]string{}, kept...), many...)), one)
		}
		var mixed []string
		for _, k := range kept {
			mixed = append(mixed, one, k, one)
		}
		require.Equal(t, want, send(mixed), one)
	}
	require.Equal(t, want, send(append(append([]string{}, forged...), kept...)))

	w.boxes[phone].take()
	require.Nil(t, w.say(romeo, "<presence to='"+phone+"'>"+forged[9]+forged[10]+"<show>away</show></presence>"))
	w.got(phone, "<presence from='"+romeo+"' to='"+phone+"'><show>away</show></presence>")
}

func TestStripKeepsWhatClientsSayToRooms(t *testing.T) {
	w := newWorld(t)
	w.appear(romeo, 0)
	const invite = "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='juliet@capulet.lit'/></x>"
	const private = "<x xmlns='http://jabber.org/protocol/muc#user'/>"
	const forged = "<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner'/></x>"
	require.Nil(t, w.say(romeo, "<message to='room@montague.lit'>"+invite+private+forged+"</message>"))
	require.Equal(t, []string{"<message from='" + romeo + "' to='room@montague.lit'>" + invite + private +
		"</message>"}, w.away.texts())
}

func TestCarbonsFromAnotherDomainAreDropped(t *testing.T) { // row 35 of the advisories
	w := newWorld(t)
	w.appear(phone, 0)
	require.Nil(t, w.route("<message from='juliet@montague.lit' to='"+phone+"' type='chat'><body>hi</body>"+
		"<received xmlns='urn:xmpp:carbons:2'/><sent xmlns='urn:xmpp:carbons:2'/></message>", 0))
	w.got(phone, "<message from='juliet@montague.lit' to='"+phone+"' type='chat'><body>hi</body></message>")
}

func TestPresenceStage(t *testing.T) {
	w := newWorld(t)
	w.connect(phone)
	require.Nil(t, w.say(phone, "<presence><priority>5</priority></presence>"))
	w.domain.replays.Wait()
	require.Nil(t, w.say(phone, "<presence><show>away</show></presence>"))
	require.Nil(t, w.say(phone, "<presence type='subscribe' to='romeo@montague.lit'/>"))
	require.Nil(t, w.say(phone, "<presence type='unavailable'/>"))
	require.Equal(t, []string{
		"announce " + phone + " available initial=true",
		"announce " + phone + " available initial=false",
		"subscribe " + phone + " subscribe to romeo@montague.lit",
		"announce " + phone + " unavailable initial=false",
	}, w.friends.take())

	require.Nil(
		t, w.say(phone, "<presence to='room@montague.lit/j'><x xmlns='http://jabber.org/protocol/muc'/></presence>"))
	require.Nil(t, w.say(phone, "<presence to='juliet@capulet.lit'/>"), "to herself: nothing to remember")
	require.Equal(t, []jid.JID{jid.MustParse("room@montague.lit/j")}, w.sessions.TakeDirected(w.sess[phone]))
	require.Equal(t, []string{"<presence from='" + phone +
		"' to='room@montague.lit/j'><x xmlns='http://jabber.org/protocol/muc'/></presence>"}, w.away.texts())
	require.Nil(t, w.say(phone, "<presence to='room@montague.lit/j'/>"))
	require.Nil(t, w.say(phone, "<presence to='room@montague.lit/j' type='unavailable'/>"))
	require.Empty(t, w.sessions.TakeDirected(w.sess[phone]))

	e := &router.Envelope{Stanza: parse(t, "<presence/>"),
		Origin: &router.Origin{Kind: router.Client, Account: 1, Address: jid.MustParse(phone)}}
	w.router.Accept(t.Context(), e)
	require.Equal(t, stanza.NotAllowed, condition(e.Receipt.Err), "an uplink has no presence")
}

func TestDirectedPresenceLimit(t *testing.T) {
	w := newWorld(t)
	w.connect(phone)
	for i := range 1000 {
		require.Nil(t, w.say(phone, fmt.Sprintf("<presence to='room%d@montague.lit/j'/>", i)))
	}
	require.Equal(t, stanza.ResourceConstraint, condition(w.say(phone, "<presence to='room@montague.lit/j'/>")))
}

func TestPresenceFlap(t *testing.T) { // A68
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.connect(phone)
		announced, refused, ended := 0, 0, 0
		for range 300 {
			refusal := w.say(phone, "<presence/>")
			synctest.Wait()
			if refusal != nil {
				require.Equal(t, stanza.PolicyViolation, refusal.Condition)
				refused++
			}
			require.Nil(t, w.say(phone, "<presence type='unavailable'/>"), "whoever leaves is heard")
			if len(w.boxes[phone].closed) > 0 {
				ended++
				require.Equal(t, "policy-violation", string(w.boxes[phone].closed[0].Condition))
			}
		}
		for _, call := range w.friends.take() {
			if strings.Contains(call, " available") {
				announced++
			}
		}
		require.Equal(t, 20, announced)
		require.Equal(t, 280, refused)
		require.Equal(t, 80, ended, "after 200 refusals the stream is ended")
		<-time.After(11 * time.Minute)
		require.Nil(t, w.say(phone, "<presence/>"), "time heals")
		synctest.Wait()
		w.sessions.Unbind(w.sess[phone])
		synctest.Wait()
	})
}

func carbonsOn(w *world, fulls ...string) {
	for _, full := range fulls {
		require.Nil(w.t, w.say(full, "<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>"))
		w.boxes[full].take()
	}
}

func TestCarbonsOfSentMessages(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Stamp = func(p *stream.Packet, by jid.JID, _ uint64, _ bool) {
			p.Own = []stanza.Element{
				stanza.New(payload.NSStanzaID, "stanza-id", "by", by.String(), "id", fmt.Sprint(p.ArchiveID)),
			}
		}
	})
	w.appear(phone, 0)
	w.appear(laptop, -1)
	w.appear(tablet, 0)
	w.connect("juliet@capulet.lit/watch")
	carbonsOn(w, phone, laptop, "juliet@capulet.lit/watch")
	require.Nil(t, w.sayStored(phone, "<message to='romeo@montague.lit' type='chat' id='m'><body>hi</body></message>",
		8))
	require.Len(t, w.away.take(), 1)
	want := func(to string) string {
		return "<message from='juliet@capulet.lit' to='" + to +
			"' type='chat' id='m'><sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>" +
			"<message xmlns='jabber:client' from='" + phone +
			"' to='romeo@montague.lit' type='chat' id='m'><body>hi</body>" +
			"<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@capulet.lit' id='8'/></message></forwarded></sent></message>"
	}
	p := w.boxes[laptop].take()
	require.Len(t, p, 1)
	require.Equal(t, stream.Carbon, p[0].Role)
	require.Zero(t, p[0].ArchiveID, "that a copy arrived says nothing of the message")
	require.Equal(t, want(laptop), show(p[0].Whole()))
	w.got("juliet@capulet.lit/watch", want("juliet@capulet.lit/watch"))
	w.got(phone)
	w.got(tablet)

	require.Nil(t, w.say(laptop, "<iq type='set' id='c' to='capulet.lit'><disable xmlns='urn:xmpp:carbons:2'/></iq>"))
	require.Nil(t, w.say(laptop, "<iq type='set' id='c'><disable xmlns='urn:xmpp:carbons:2'/></iq>"))
	w.got(laptop, "<iq from='capulet.lit' to='"+laptop+"' type='result' id='c'/>", "<iq from='juliet@capulet.lit' to='"+
		laptop+"' type='result' id='c'/>")
	require.Nil(t, w.say(phone, "<message to='romeo@montague.lit' type='chat'><body>hi</body></message>"))
	w.got(laptop)
}

// TestCarbonsEligibility is A86.
func TestCarbonsEligibility(t *testing.T) {
	const body = "<body>hi</body>"
	for _, tc := range []struct {
		kind, elements string
		copied         bool
	}{
		{"chat", body, true},
		{"chat", "<composing xmlns='http://jabber.org/protocol/chatstates'/>", true},
		{"chat", "", true},
		{"normal", body, true},
		{"", body, true},
		{"", "", false},
		{"", "<event xmlns='http://jabber.org/protocol/pubsub#event'/>", false},
		{"", "<received xmlns='urn:xmpp:receipts' id='1'/>", true},
		{"", "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>", true},
		{"", "<x xmlns='jabber:x:conference' jid='r@muc.lit'/>", true},
		{"groupchat", body, false},
		{"headline", body, false},
		{"error", body, false},
		{"chat", body + "<private xmlns='urn:xmpp:carbons:2'/>", false},
		{"chat", "<private xmlns='urn:xmpp:carbons:2'/>" + body, false},
		{"chat", body + "<no-copy xmlns='urn:xmpp:hints'/>", false},
		{"chat", body + "<no-store xmlns='urn:xmpp:hints'/>", true},
		{"chat", body + "<x xmlns='http://jabber.org/protocol/muc#user'/>", false},
		{"", "<x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@montague.lit'/></x>", true},
		{"chat", body + "<received xmlns='urn:xmpp:carbons:2'/>", false},
	} {
		s := parse(t, "<message from='a@montague.lit/x' to='"+phone+"' type='"+tc.kind+"'>"+tc.elements+"</message>")
		require.Equal(t, tc.copied, payload.Eligible(s), "%s %s", tc.kind, tc.elements)
		if strings.Contains(tc.elements, "<received xmlns='urn:xmpp:carbons:2'") {
			continue // stripped on the way in
		}
		w := newWorld(t)
		w.appear(phone, 0)
		w.appear(laptop, 0)
		carbonsOn(w, phone, laptop)
		require.Nil(t, w.domain.Route(t.Context(), packet(s, 0)))
		require.Equal(t, tc.copied, len(w.boxes[laptop].take()) == 1, "received: %s %s", tc.kind, tc.elements)
		for _, p := range w.boxes[phone].take() {
			require.NotContains(t, show(p.Whole()), "private", "XEP-0280: the recipient need not know")
		}
		if !strings.Contains(tc.elements, "muc#user") {
			w.say(laptop, "<message to='romeo@montague.lit' type='"+tc.kind+"'>"+tc.elements+"</message>")
			require.Equal(t, tc.copied, len(w.boxes[phone].take()) == 1, "sent: %s %s", tc.kind, tc.elements)
		}
	}
}

func TestCarbonsOfReceivedMessages(t *testing.T) {
	w := newWorld(t)
	w.appear(phone, 0)
	w.appear(laptop, 0)
	w.appear(tablet, -1)
	carbonsOn(w, phone, laptop, tablet)
	all := func() string { return w.count(phone, laptop, tablet) }
	require.Nil(t, w.route("<message from='romeo@montague.lit/x' to='juliet@capulet.lit' type='chat'><body/></message>",
		3))
	require.Len(t, w.boxes[phone].take(), 1)
	require.Len(t, w.boxes[laptop].take(), 1)
	p := w.boxes[tablet].take()
	require.Len(t, p, 1, "it has a negative priority, and wants carbons")
	require.Equal(t, stream.Carbon, p[0].Role)
	require.Equal(t, uint64(3), p[0].ArchiveID)
	require.Equal(t, "<message from='juliet@capulet.lit' to='"+tablet+
		"' type='chat'><received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>"+
		"<message xmlns='jabber:client' from='romeo@montague.lit/x' to='juliet@capulet.lit' "+
		"type='chat'><body/></message></forwarded></received></message>", show(p[0].Whole()))
	require.Equal(t, show(parse(t,
		"<message from='romeo@montague.lit/x' to='juliet@capulet.lit' type='chat'><body/></message>")),
		show(p[0].Original().Whole()))

	require.Nil(t, w.route("<message from='romeo@montague.lit/x' to='"+phone+"' type='chat'><body/></message>", 4))
	require.Equal(t, "phone=1 laptop=1 tablet=1", all())
	require.Nil(t, w.say(phone, "<message to='juliet@capulet.lit' type='chat'><body>note</body></message>"))
	require.Equal(t, "phone=1 laptop=1 tablet=1", all(), "by the table and as received, not as sent too")
	require.Nil(t, w.say(phone, "<message to='"+laptop+"' type='chat'><body>over there</body></message>"))
	require.Equal(t, "phone=0 laptop=1 tablet=1", all())
}

func TestCarbonsOnlyForOwnSessions(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, stanza.NotAllowed, condition(w.route(
		"<iq type='set' id='c' from='eve@montague.lit/x' to='capulet.lit'><enable xmlns='urn:xmpp:carbons:2'/></iq>",
		0)))
}
