package abuse

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

// query is a request for history.
func query(id, to, content string) string {
	if to != "" {
		to = " to='" + to + "'"
	}
	return "<iq xmlns='jabber:client' type='set' id='" + id + "'" + to + "><query xmlns='urn:xmpp:mam:2'>" + content +
		"</query></iq>"
}

func page(content string) string {
	return "<set xmlns='http://jabber.org/protocol/rsm'>" + content + "</set>"
}

func form(fields string) string {
	return "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>" +
		fields + "</x>"
}

func field(name, value string) string {
	return "<field var='" + name + "'><value>" + value + "</value></field>"
}

// A83, A85, and rows 23 and 85: queries that the archive must refuse or limit.
func TestA83History(t *testing.T) {
	s := open(t, "archive.query_rate=1000000", "archive.query_burst=1000000")
	juliet := s.connect(script.TCP, "juliet", "balcony")
	romeo := s.connect(script.TCP, "romeo", "phone")
	for i := range 300 {
		tell(t, romeo, "<message to='juliet@localhost' type='chat'><body>%d %%_\\ '</body></message>", i)
	}
	_, err := romeo.Barrier("said")
	require.NoError(t, err)
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		other := s.connect(how, "juliet", "other "+string(how))
		for _, row := range []struct{ name, to, content, want string }{
			{"of somebody else", "romeo@localhost", "", "forbidden"},
			{"of nobody", "nobody@localhost", "", "forbidden"},
			{"of the domain", "localhost", "", "service-unavailable"},
			{"unknown id", "", page("<after>AAAAAAAAAAAAAAAAAAAAAA</after>"), "item-not-found"},
			{"no id", "", page("<before>28482-98726-73623</before>"), "item-not-found"},
			{"a quote", "", page("<after>&apos; OR 1=1 --</after>"), "item-not-found"},
			{"a pattern", "", page("<after>%</after>"), "item-not-found"},
			{"a parameter", "", page("<after>$1</after>"), "item-not-found"},
			{"a long id", "", page("<after>" + strings.Repeat("A", 10_000) + "</after>"), "item-not-found"},
			{"unknown field", "", form(field("urn:example:field", "x")), "feature-not-implemented"},
			{"full text", "", form(field("{urn:xmpp:fulltext:0}fulltext", "%_\\ .* "+strings.Repeat("a ", 1000))),
				"feature-not-implemented"},
			{"malformed with", "", form(field("with", "@x")), "jid-malformed"},
			{"malformed start", "", form(field("start", "yesterday")), "bad-request"},
			{"start out of range", "", form(field("start", "99999-01-01T00:00:00Z")), "bad-request"},
			{"two values", "", form("<field var='with'><value>a</value><value>b</value></field>"), "bad-request"},
			{"a field twice", "", form(field("with", "a") + field("with", "b")), "bad-request"},
			{"another form", "",
				"<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>u</value></field></x>",
				"bad-request"},
			{"page of -1", "", page("<max>-1</max>"), "bad-request"},
			{"page of a word", "", page("<max>many</max>"), "bad-request"},
			{"too many ids", "", form("<field var='ids'>" +
				strings.Repeat("<value>AAAAAAAAAAAAAAAAAAAAAA</value>", 300) + "</field>"), ""},
		} {
			answer, before, err := other.Request("h", query("h", row.to, row.content))
			require.NoError(t, err, row.name)
			require.Empty(t, before, row.name)
			if row.want == "" {
				require.NotEmpty(t, refusal(answer), row.name)
				continue
			}
			require.Equal(t, row.want, refusal(answer), row.name)
		}
		// A83: a page has its bound, and its end is no end of the archive
		for _, size := range []string{"1000000", "4294967296", "250"} {
			answer, before, err := other.Request("h", query("h", "", page("<max>"+size+"</max>")))
			require.NoError(t, err)
			require.Len(t, before, 250, size)
			require.Empty(t, answer.Child("urn:xmpp:mam:2", "fin").Attr("complete"))
		}
		_, before, err := other.Request("h", query("h", "", page("<max>2</max><before/>")))
		require.NoError(t, err)
		require.Len(t, before, 2)
		require.Contains(t, before[1].String(), "299 %_")
		// Row 85: nothing on this page fits, and more follows.
		answer, before, err := other.Request("h", query("h", "", form(field("with", "bystander@localhost"))))
		require.NoError(t, err)
		require.Empty(t, before)
		require.Equal(t, "true", answer.Child("urn:xmpp:mam:2", "fin").Attr("complete"))
	})
	_, err = juliet.Barrier("there")
	require.NoError(t, err)
}

// A84: queries of the archive are limited for each account. After waiting they are answered again, and other accounts
// are not affected.
func TestA84HistoryBudget(t *testing.T) {
	s := open(t, "archive.query_rate=0.01", "archive.query_burst=5")
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		name := map[script.Transport]string{script.TCP: "romeo", script.WebSocket: "juliet"}[how]
		a, b := s.connect(how, name, "a"), s.connect(script.TCP, name, "b")
		for i := range 100 {
			who := []*script.Client{a, b}[i%2] // it is one budget for the account
			answer := ask(t, who, "h", query("h", "", ""))
			require.Equal(t, map[bool]string{true: "resource-constraint"}[i >= 5], refusal(answer), i)
			if i >= 5 {
				require.Equal(t, "wait", answer.Child("jabber:client", "error").Attr("type"))
			}
		}
	})
	require.Empty(t, refusal(ask(t, s.bystander, "h", query("h", "", ""))))
}

// A86, row 35: messages that must not be copied to other devices (XEP-0280 §6, §8, §11).
func TestA86Carbons(t *testing.T) {
	s := open(t)
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		other := s.connect(how, "juliet", "other")
		ask(t, other, "c", "<iq xmlns='jabber:client' type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
		juliet := s.connect(script.TCP, "juliet", "balcony")
		romeo := s.connect(how, "romeo", "phone")
		n := 0
		for content, copied := range map[string]bool{
			"type='chat'><body>x</body>":                                      true,
			"type='chat'><body>x</body><private xmlns='urn:xmpp:carbons:2'/>": false,
			"type='chat'><body>x</body><no-copy xmlns='urn:xmpp:hints'/>":     false,
			"type='groupchat'><body>x</body>":                                 false,
			"type='headline'><body>x</body>":                                  false,
			"type='error'><body>x</body><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>" +
				"</error>": false,
			"type='normal'><x xmlns='u'/>": false,
			"type='chat'><received xmlns='urn:xmpp:carbons:2'/><sent xmlns='urn:xmpp:carbons:2'/><body>x</body>": true,
			// stripped: it did not come from a room
			"type='chat'><body>x</body><x xmlns='http://jabber.org/protocol/muc#user'/>": true,
		} {
			n++
			id := fmt.Sprintf("%s-%d", how, n)
			tell(t, romeo, "<message xmlns='jabber:client' to='juliet@localhost/balcony' id='%s' %s</message>", id,
				content)
			direct := next(t, juliet)
			require.Equal(t, id, direct.Attr("id"))
			require.NotContains(t, direct.String(), "urn:xmpp:carbons:2", content)
			copies, err := other.Barrier("copies")
			require.NoError(t, err)
			if !copied {
				require.Empty(t, copies, content)
				continue
			}
			require.Len(t, copies, 1, content)
			require.Equal(t, "juliet@localhost", copies[0].Attr("from"), "carbons come from the own account")
			require.NotNil(t, copies[0].Child("urn:xmpp:carbons:2", "received"))
		}
	})
}
