package abuse

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

// A55, A54, A56: invalid addresses, and different spellings of one address.
func TestA55Addresses(t *testing.T) {
	s := open(t)
	juliet := s.available(script.TCP, "juliet", "balcony")
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		romeo := s.connect(how, "romeo", "phone")
		for i, to := range []string{
			"@localhost", "juliet@", "juliet@localhost/", "ju liet@localhost", "ju&quot;liet@localhost",
			"ju&amp;liet@localhost", "ju&apos;liet@localhost",
			"ju:liet@localhost", "&lt;juliet&gt;@localhost", "juliet@@localhost", strings.Repeat("a", 1024) +
				"@localhost",
			"juliet@" + strings.Repeat("a", 1024), "juliet@localhost/" + strings.Repeat("a", 1024),
			"juliet@xn--localhost-", "juliet@xn--example-.com",
			"juliet@-localhost", "juliet@local_host", "juliet@[::1", "ju\u200dliet@localhost", "ju\u202eliet@localhost",
			"juliet@localhost/\u0085",
			"\u265a@localhost", "henry\u2163@localhost", "juliet@a\u2024b",
		} {
			for _, kind := range []string{"message", "presence", "iq"} {
				id := fmt.Sprintf("%s%d", kind, i)
				types := map[string]string{"iq": "type='get' "}[kind]
				tell(t, romeo, "<%s xmlns='jabber:client' %sid='%s' to='%s'><x xmlns='u'/></%s>", kind, types, id, to,
					kind)
				n := next(t, romeo)
				require.Equal(t, id, n.Attr("id"), to)
				require.Equal(t, "jid-malformed", refusal(n), to)
				require.Equal(t, "modify", n.Child("jabber:client", "error").Attr("type"))
			}
		}
		for _, to := range []string{"JULIET@localhost", "juliet@LOCALHOST", "\uff2auliet@localhost",
			"juliet@localhost.", "juliet@localhost/BALCONY", "juliet@Localhost/balcony"} {
			tell(t, romeo, "<message xmlns='jabber:client' to='%s' type='chat'><body>%s</body></message>", to, to)
			n := next(t, juliet)
			require.Equal(t, to, body(n))
			require.Contains(t, []string{"juliet@localhost", "juliet@localhost/balcony", "juliet@localhost/BALCONY"},
				n.Attr("to"))
		}
		nothing(t, romeo)
	})
	nothing(t, juliet)
}

// A59: a client cannot forge the sender of any kind of stanza, not even as another device of its account.
func TestA59ForgedSender(t *testing.T) {
	s := open(t)
	juliet := s.available(script.TCP, "juliet", "balcony")
	on(t, s, everywhere, func(t *testing.T, s *fixture, how script.Transport) {
		for _, from := range []string{"bystander@localhost", "bystander@localhost/bench", "juliet@localhost",
			"romeo@localhost/other", "localhost", "romeo@example.org/phone"} {
			for _, stanza := range []string{
				"<message from='%s' to='juliet@localhost'><body>x</body></message>", "<presence from='%s'/>",
				"<presence from='%s' to='juliet@localhost' type='subscribe'/>",
				"<iq from='%s' type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>",
				"<iq from='%s' type='result' id='1' to='juliet@localhost/balcony'/>",
			} {
				v := s.visit(how).login("romeo")
				v.bind("phone")
				v.sendStanza(fmt.Sprintf(stanza, from))
				requireFails(t, v, "invalid-from", from+" "+stanza[:9])
			}
		}
		v := s.visit(how).login("romeo")
		v.bind("phone")
		for _, from := range []string{"romeo@localhost", "romeo@localhost/phone", "ROMEO@localhost/phone"} {
			v.sendStanza("<iq from='" + from + "' type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
			v.expect("to='romeo@localhost/phone'", "id='p'")
		}
	})
	nothing(t, juliet)
}

// A60, A61, A62, A72: malformed stanzas are answered with errors, and unsolicited answers are ignored.
func TestA60MalformedStanzas(t *testing.T) {
	s := open(t)
	juliet := s.available(script.TCP, "juliet", "balcony")
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		romeo := s.connect(how, "romeo", "phone")
		const ping = "<ping xmlns='urn:xmpp:ping'/>"
		for _, row := range []struct{ row, stanza, want string }{
			{"A60", "<iq type='get'>" + ping + "</iq>", "bad-request"},
			{"A60", "<iq id='1'>" + ping + "</iq>", "bad-request"},
			{"A60", "<iq type='foo' id='1'>" + ping + "</iq>", "bad-request"},
			{"A60", "<iq type='GET' id='1'>" + ping + "</iq>", "bad-request"},
			{"A60", "<iq type='get' id='1'/>", "bad-request"},
			{"A60", "<iq type='set' id='1'/>", "bad-request"},
			{"A60", "<iq type='get' id='1'>" + ping + ping + "</iq>", "bad-request"},
			{"A60", "<iq type='get' id=''>" + ping + "</iq>", "bad-request"},
			{"A60", "<iq type='get' id='1'>x</iq>", "bad-request"},
			// RFC 6121 §5.2.2: as normal
			{"A60", "<message type='foo' to='juliet@localhost'><body>x</body></message>", ""},
			{"A60", "<presence type='foo'/>", "bad-request"},
			{"A60", "<presence type='foo' to='juliet@localhost'/>", "bad-request"},
			{"A60", "<presence type='subscribe'/>", "bad-request"},
			{"A61", "<iq type='get' id='1'><query xmlns='urn:example:unknown'/></iq>", "service-unavailable"},
			{"A61", "<iq type='set' id='1' to='localhost'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
				"service-unavailable"},
			{"A61", "<iq type='get' id='1' to='juliet@localhost'><query xmlns='urn:example:unknown'/></iq>",
				"service-unavailable"},
			{"A62", "<iq type='result' id='1'/>", ""},
			{"A62", "<iq type='result' id='1' to='localhost'/>", ""},
			{"A62", "<iq type='result' id='1' to='juliet@localhost'/>", ""},
			{"A62",
				"<iq type='error' id='1' to='localhost'><error type='cancel'><gone " +
					"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>", ""},
			{"A62",
				"<message type='error' to='nobody@localhost'><error type='cancel'><gone " +
					"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>", ""},
			{"A62", "<presence type='error' to='nobody@localhost'/>", ""},
			{"A72", "<presence><priority>999</priority></presence>", "bad-request"},
			{"A72", "<presence><priority>-129</priority></presence>", "bad-request"},
			{"A72", "<presence><priority>1e1</priority></presence>", "bad-request"},
			{"A72", "<presence><priority>1</priority><priority>2</priority></presence>", "bad-request"},
			{"A72",
				"<message to='juliet@localhost'><body>x</body><delay xmlns='urn:xmpp:delay' " +
					"stamp='-0001-01-01T00:00:00Z'/></message>", "bad-request"},
			{"A72",
				"<message to='juliet@localhost'><body>x</body><delay xmlns='urn:xmpp:delay' " +
					"stamp='9999-12-31T23:59:59Z'/></message>", "bad-request"},
			{"A72",
				"<message to='juliet@localhost'><body>x</body><delay xmlns='urn:xmpp:delay' " +
					"stamp='99999999999999999999-01-01T00:00:00Z'/></message>", "bad-request"},
			{"A72",
				"<message to='juliet@localhost'><body>x</body><delay xmlns='urn:xmpp:delay' " +
					"stamp='yesterday'/></message>", "bad-request"},
		} {
			text := row.stanza
			for _, kind := range []string{"<iq", "<message", "<presence"} {
				text = strings.Replace(text, kind, kind+" xmlns='jabber:client'", 1)
			}
			tell(t, romeo, text)
			before, err := romeo.Barrier("after")
			require.NoError(t, err, row.stanza)
			if row.want == "" {
				require.Empty(t, before, row.stanza)
				continue
			}
			require.Len(t, before, 1, row.stanza)
			require.Equal(t, row.want, refusal(before[0]), row.stanza)
		}
		require.Equal(t, "x", body(next(t, juliet)), "the message of an unknown type")
	})
	nothing(t, juliet)
}

// A63, row 37 of the advisories: two clients that answer every error do not cause a loop, and an answer reaches its
// recipient with its true sender.
func TestA63ErrorsAreNotAnswered(t *testing.T) {
	runScript(t, `people: romeo juliet
	romeo/orchard connects
	juliet/balcony connects
	romeo/orchard sends:
	    <message to='nobody@localhost' type='error' id='e1'><body>x</body><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>
	    <message to='juliet@localhost/gone' type='error' id='e2'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>
	    <iq to='juliet@localhost/gone' type='error' id='e3'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>
	    <message to='juliet@elsewhere.invalid' type='error' id='e4'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>
	    <iq to='elsewhere.invalid' type='result' id='e5'/>
	romeo/orchard receives nothing
	romeo/orchard sends:
	    <iq to='juliet@localhost/balcony' type='result' id='roster-1' from='romeo@localhost'/>
	juliet/balcony receives:
	    <iq from='romeo@localhost/orchard' to='juliet@localhost/balcony' type='result' id='roster-1'/>
	`)
}

// A64: messages of type error are neither stored nor delivered later.
func TestA64ErrorIsNoMessage(t *testing.T) {
	runScript(t, `people: romeo juliet
	romeo/orchard connects
	romeo/orchard sends:
	    <message to='juliet@localhost' type='error' id='e1'><body>dead letter</body><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>
	    <iq type='set' id='h1'><query xmlns='urn:xmpp:mam:2'/></iq>
	romeo/orchard receives:
	    <iq type='result' id='h1'><etc/><fin xmlns='urn:xmpp:mam:2' complete='true'><etc/></fin></iq>
	juliet/balcony connects
	juliet/balcony receives nothing
	juliet/balcony sends:
	    <iq type='set' id='h2'><query xmlns='urn:xmpp:mam:2'/></iq>
	juliet/balcony receives:
	    <iq type='result' id='h2'><etc/><fin xmlns='urn:xmpp:mam:2' complete='true'><etc/></fin></iq>
	`)
}

// A65, row 36: only the owner changes a roster, and roster pushes cannot be forged.
func TestA65ForgedRosterPush(t *testing.T) {
	s := open(t)
	juliet := s.available(script.TCP, "juliet", "balcony")
	ask(t, juliet, "r", "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		romeo := s.available(how, "romeo", "phone "+string(how))
		for to, want := range map[string]string{"juliet@localhost": "forbidden", "nobody@localhost": "forbidden",
			"juliet@localhost/balcony": "service-unavailable", "juliet@localhost/other": "service-unavailable"} {
			n := ask(t, romeo, "push", "<iq xmlns='jabber:client' type='set' id='push' to='"+to+
				"'><query xmlns='jabber:iq:roster'><item jid='evil@localhost' subscription='both'/></query></iq>")
			require.Equal(t, want, refusal(n), to)
			n = ask(t, romeo, "get", "<iq xmlns='jabber:client' type='get' id='get' to='"+to+
				"'><query xmlns='jabber:iq:roster'/></iq>")
			require.Equal(t, want, refusal(n), to)
		}
	})
	nothing(t, juliet)
	roster := ask(t, juliet, "r", "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
	require.Empty(t, roster.Child("jabber:iq:roster", "query").Children)
}

// A66: a roster is bounded, and its names and groups are escaped correctly (A152).
func TestA66RosterLimits(t *testing.T) {
	s := open(t, "roster.max_items=5")
	romeo := s.available(script.TCP, "romeo", "phone")
	set := func(item string) string {
		return refusal(ask(t, romeo, "set", "<iq type='set' id='set'><query xmlns='jabber:iq:roster'>"+item+
			"</query></iq>"))
	}
	long := strings.Repeat("n", 1025)
	require.Equal(t, "not-acceptable", set("<item jid='a@localhost' name='"+long+"'/>"))
	require.Equal(t, "not-acceptable", set("<item jid='a@localhost'><group>"+long+"</group></item>"))
	require.Equal(t, "not-acceptable", set("<item jid='a@localhost'><group/></item>"))
	require.Equal(t, "not-acceptable", set("<item jid='a@localhost'>"+times(51, "<group>g%d</group>")+"</item>"))
	require.Equal(t, "bad-request", set("<item jid='a@localhost'/><item jid='b@localhost'/>"))
	require.Equal(t, "bad-request", set("<item jid='a@localhost/x'/>"))
	require.Equal(t, "bad-request", set(""))
	quoted := `'; DROP TABLE account; -- " \ % _ $1 ?`
	escaped := strings.NewReplacer("'", "&apos;", `"`, "&quot;").Replace(quoted)
	require.Empty(t, set("<item jid='quoted@localhost' name='"+escaped+"' subscription='both'>"+
		times(49, "<group>g%d</group>")+"<group>"+escaped+"</group></item>"))
	for i := range 6 {
		require.Equal(t, map[bool]string{false: "", true: "resource-constraint"}[i >= 4],
			set(fmt.Sprintf("<item jid='c%d@localhost'/>", i)))
	}
	tell(t, romeo, "<presence to='juliet@localhost' type='subscribe' id='one-more'/>")
	n, _, err := romeo.Until(func(n *script.Element) bool { return n.Attr("id") == "one-more" })
	require.NoError(t, err)
	require.Equal(t, "resource-constraint", refusal(n), "by way of a subscription")
	s.restart()
	romeo = s.connect(script.TCP, "romeo", "phone")
	items := ask(t, romeo, "r", "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>").Child(
		"jabber:iq:roster", "query").Children
	require.Len(t, items, 5)
	for _, item := range items {
		require.Equal(t, "none", item.Attr("subscription"), "which is not the client's to say")
		if item.Attr("jid") == "quoted@localhost" {
			require.Equal(t, quoted, item.Attr("name"))
			require.Len(t, item.Children, 50)
		}
	}
}

// A67: subscription requests are limited by sender and by recipient.
func TestA67SubscriptionSpam(t *testing.T) {
	s := open(t, "roster.requests_per_day=3", "roster.max_requests=2")
	s.people("a", "b", "c", "d")
	spammer := s.available(script.TCP, "romeo", "phone")
	for i, name := range []string{"a", "b", "c", "d"} {
		tell(t, spammer, "<presence to='%s@localhost' type='subscribe' id='%s'/>", name, name)
		before, err := spammer.Barrier("after")
		require.NoError(t, err)
		refusals := ""
		for _, n := range before {
			refusals += refusal(n)
		}
		require.Equal(t, map[bool]string{true: "policy-violation"}[i >= 3], refusals, name)
	}
	for _, name := range []string{"a", "b", "c"} {
		tell(t, s.available(script.TCP, name, "x"), "<presence to='juliet@localhost' type='subscribe'/>")
	}
	for _, name := range []string{"a", "b", "c"} {
		_, err := s.connect(script.TCP, name, "y").Barrier("asked")
		require.NoError(t, err)
	}
	var asked []string
	juliet := s.connect(script.TCP, "juliet", "balcony")
	tell(t, juliet, "<presence/>")
	before, err := juliet.Barrier("all")
	require.NoError(t, err)
	for _, n := range before {
		if n.Attr("type") == "subscribe" {
			asked = append(asked, n.Attr("from"))
		}
	}
	require.LessOrEqual(t, len(asked), 2)
}

// A68: a client that changes its presence too often gets errors, and is disconnected when it goes on.
func TestA68PresenceFlap(t *testing.T) {
	s := open(t, "local.presence_burst=5", "local.presence_rate=0.001")
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		v := s.visit(how).login("romeo")
		v.bind("phone")
		for range 5 {
			v.sendStanza("<presence><show>away</show></presence>")
			v.expect("<presence", "</presence>")
		}
		v.sendStanza("<presence id='6'/>")
		v.expect("<presence", "id='6'", "<policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'", "</presence>")
		for range 250 {
			v.sendStanza("<presence/>")
		}
		v.fails("policy-violation")
	})
}

// A69, and row 53: without a subscription nobody learns whether an account is online, or whether it exists.
func TestA69NotSubscribed(t *testing.T) {
	s := open(t)
	juliet := s.available(script.TCP, "juliet", "balcony")
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		romeo := s.available(how, "romeo", "phone")
		seen := map[string]string{}
		for _, whom := range []string{"juliet@localhost", "juliet@localhost/balcony", "juliet@localhost/other",
			"nobody@localhost", "nobody@localhost/balcony"} {
			tell(t, romeo, "<presence xmlns='jabber:client' type='probe' to='%s'/>", whom)
			answers := ""
			for i, query := range []string{
				"<query xmlns='jabber:iq:last'/>", "<query xmlns='jabber:iq:version'/>",
				"<ping xmlns='urn:xmpp:ping'/>", "<query xmlns='http://jabber.org/protocol/disco#info'/>",
				"<query xmlns='http://jabber.org/protocol/disco#items'/>", "<query xmlns='urn:xmpp:mam:2'/>",
				"<vCard xmlns='vcard-temp'/>", "<pubsub xmlns='http://jabber.org/protocol/pubsub'/>",
			} {
				id := fmt.Sprint("q", i)
				n, before, err := romeo.Request(id, "<iq xmlns='jabber:client' type='get' id='"+id+"' to='"+whom+"'>"+
					query+"</iq>")
				require.NoError(t, err)
				require.Empty(t, before, whom)
				answer := refusal(n)
				if q := n.Child("http://jabber.org/protocol/disco#items", "query"); q != nil && len(q.Children) == 0 {
					answer = "empty" // XEP-0030 §8
				}
				answers += " " + answer
			}
			seen[whom] = answers
		}
		for whom, answers := range seen {
			_, resource, _ := strings.Cut(whom, "@localhost")
			require.Equal(t, seen["nobody@localhost"+strings.Replace(resource, "other", "balcony", 1)], answers, whom)
			require.NotContains(t, answers, "  ", "an answer that is no refusal")
		}
	})
	nothing(t, juliet)
}

// A70: one resource belongs to one connection, and there are so many for an account.
func TestA70Resources(t *testing.T) {
	s := open(t, "session.max_resources=2")
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		old := s.visit(how).login("romeo")
		old.bind("one")
		s.visit(how).login("romeo").bind("one")
		old.fails("conflict")
		s.visit(how).login("romeo").bind("two")
		v := s.visit(how).login("romeo")
		v.sendStanza(
			"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>three</resource>" +
				"</bind></iq>")
		v.expect("<resource-constraint ", "<resource-limit-exceeded xmlns='urn:xmpp:errors'/>", "</iq>")
		v.bind("two") // in the place of the other
	})
}

// forgeries are payloads that only servers may send, as a client would forge them to juliet.
var forgeries = []string{
	"<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@localhost' id='forged'/>",
	"<stanza-id xmlns='urn:xmpp:sid:0' by='JULIET@localhost' id='forged'/>",
	"<stanza-id xmlns='urn:xmpp:sid:0' by='localhost' id='forged'/>",
	"<delay xmlns='urn:xmpp:delay' from='localhost' stamp='2001-01-01T00:00:00Z'/>",
	"<delay xmlns='urn:xmpp:delay' from='juliet@localhost' stamp='2001-01-01T00:00:00Z'/>",
	"<received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' " +
		"from='bystander@localhost'><body>forged</body></message></forwarded></received>",
	"<sent xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' " +
		"to='bystander@localhost'><body>forged</body></message></forwarded></sent>",
	"<result xmlns='urn:xmpp:mam:2' id='forged'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' " +
		"from='bystander@localhost'><body>forged</body></message></forwarded></result>",
	"<occupant-id xmlns='urn:xmpp:occupant-id:0' id='forged'/>",
	"<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' jid='forged@localhost'/></x>",
	"<addresses xmlns='http://jabber.org/protocol/address'><address type='ofrom' jid='forged@localhost'/></addresses>",
	"<confirmed xmlns='urn:posthouse:confirm:1' id='forged' number='1'/>",
	"<position xmlns='urn:posthouse:position:1' number='7' note='forged'/>",
	"<retracted xmlns='urn:xmpp:message-retract:1' id='forged'/>",
	"<retract xmlns='urn:xmpp:message-retract:1' id='1'><moderated xmlns='urn:xmpp:message-moderate:1' " +
		"by='forged@localhost'/></retract>",
}

// A73, rows 21 and 35: payloads that only this server may send are removed, however many there are and in whatever
// order. Those of other entities stay.
func TestA73ForgedAssertions(t *testing.T) {
	s := open(t)
	const foreign = "<stanza-id xmlns='urn:xmpp:sid:0' by='room@elsewhere.example' id='foreign'/><origin-id " +
		"xmlns='urn:xmpp:sid:0' id='%s'/>" +
		"<delay xmlns='urn:xmpp:delay' from='elsewhere.example' stamp='2001-01-01T00:00:00Z'/>"
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		romeo, juliet := s.available(how, "romeo", "phone "+string(how)), s.available(script.TCP, "juliet", "balcony")
		for i, order := range []func(body string) string{
			func(body string) string { return strings.Join(forgeries, "") + body },
			func(body string) string { return body + strings.Join(forgeries, "") },
			func(body string) string { return strings.Join(forgeries, body) },
			func(body string) string {
				return strings.Repeat(forgeries[0]+forgeries[8], 100) + body + strings.Repeat(forgeries[3], 100)
			},
		} {
			inner := "<body>x</body>" + fmt.Sprintf(foreign, string(how)+fmt.Sprint(i))
			for _, kind := range []string{"message type='chat'", "presence"} {
				name, _, _ := strings.Cut(kind, " ")
				tell(t, romeo, "<%s xmlns='jabber:client' to='juliet@localhost/balcony'>%s</%s>", kind, order(inner),
					name)
				n := next(t, juliet)
				require.Equal(t, name, n.Name.Local)
				require.NotContains(t, n.String(), "forged")
				require.NotContains(t, n.String(), "urn:xmpp:carbons:2")
				require.Contains(t, n.String(), "id='foreign'")
				for _, c := range n.Children {
					if c.Name.Local == "delay" {
						require.Equal(t, "elsewhere.example", c.Attr("from"))
					}
				}
			}
		}
	})
	_, kept, err := s.connect(script.TCP, "juliet", "later").Request("h",
		"<iq type='set' id='h'><query xmlns='urn:xmpp:mam:2'/></iq>")
	require.NoError(t, err)
	require.Len(t, kept, 8)
	for _, n := range kept {
		require.NotContains(t, n.String(), "forged")
	}
}

// A76: a body may be any text, and arrives unchanged.
func TestA76OddBodies(t *testing.T) {
	s := open(t)
	juliet := s.available(script.TCP, "juliet", "balcony")
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		romeo := s.connect(how, "romeo", "phone")
		for _, text := range []string{
			"a" + strings.Repeat("\u0301", 100_000), strings.Repeat("\u202e", 60_000), strings.Repeat("a", 200_000),
			strings.Repeat("\n", 200_000), strings.Repeat("\U0010FFFD", 50_000),
		} {
			tell(t, romeo, "<message xmlns='jabber:client' to='juliet@localhost' type='chat'><body>%s</body></message>",
				text)
			require.True(t, text == body(next(t, juliet)), "%.20q", text)
		}
	})
	_, kept, err := juliet.Request("h",
		"<iq type='set' id='h'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>"+
			"250</max></set></query></iq>")
	require.NoError(t, err)
	require.NotEmpty(t, kept)
}

// Row 20: well-formed stanzas of protocols that are not implemented are answered or ignored, and have no other effect.
func TestRow20SenselessStanzas(t *testing.T) {
	s := open(t)
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		romeo := s.available(how, "romeo", "phone")
		var names []string
		for _, space := range []string{
			"http://jabber.org/protocol/pubsub", "http://jabber.org/protocol/pubsub#owner", "vcard-temp",
			"jabber:iq:private", "urn:xmpp:blocking", "jabber:iq:privacy",
			"http://jabber.org/protocol/commands", "jabber:iq:roster", "urn:xmpp:mam:2", "urn:xmpp:mam:prefs",
			"http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items",
			"jabber:iq:register", "urn:xmpp:carbons:2", "urn:xmpp:ping", "jabber:iq:last", "jabber:iq:version",
			"urn:xmpp:time", "urn:posthouse:confirm:1",
			"urn:ietf:params:xml:ns:xmpp-session", "urn:ietf:params:xml:ns:xmpp-bind", "jabber:iq:search",
			"urn:xmpp:http:upload:0", "",
		} {
			for _, name := range []string{"query", "pubsub", "prefs", "enable", "item", "ping", "time", "vCard",
				"command"} {
				names = append(names, name+" xmlns='"+space+"'")
			}
		}
		n := 0
		for _, content := range []string{"", "<x/>", "<item/>", "<item jid='' id='' node='' version='-1'/>",
			"<set xmlns='http://jabber.org/protocol/rsm'><max>-1</max><index>x</index><before>'</before></set>",
			"<x xmlns='jabber:x:data' type='submit'><field/><field var='' type='\U0001F339'><value/><value/>" +
				"</field></x>", "text"} {
			for _, name := range names {
				local, _, _ := strings.Cut(name, " ")
				for _, kind := range []string{"get", "set"} {
					n++
					tell(t, romeo, "<iq xmlns='jabber:client' type='%s' id='s%d'><%s>%s</%s></iq>", kind, n, name,
						content, local)
				}
			}
			_, err := romeo.Barrier("after")
			require.NoError(t, err)
		}
	})
}
