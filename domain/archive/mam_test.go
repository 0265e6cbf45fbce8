package archive

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// ask has the hub answer an IQ.
func (h *house) ask(t testing.TB, iq *stanza.Stanza, account uint64) ([]stanza.Element, *stanza.Error) {
	t.Helper()
	hub, err := service.New(service.Config{Domain: jid.MustParse("verona.example")})
	require.NoError(t, err)
	require.NoError(t, hub.Serve(h.Handlers()))
	return hub.Answer(t.Context(), service.Origin{Account: account}, iq)
}

// own asks romeo's archive, in XML. from is added.
func (h *house) own(t testing.TB, text string) ([]stanza.Element, *stanza.Error) {
	t.Helper()
	iq := parse(t, text)
	iq.From = jid.MustParse("romeo@verona.example/orchard")
	iq.To = iq.From.Bare()
	return h.ask(t, iq, romeo)
}

// result is what one history query gave.
type result struct {
	ids         []uint64 // in the order of sending
	bodies      []string
	first, last string
	complete    bool
}

func (h *house) query(t testing.TB, text string) result {
	t.Helper()
	got, refusal := h.tryQuery(t, text)
	require.Nil(t, refusal, text)
	return got
}

func (h *house) tryQuery(t testing.TB, text string) (r result, refusal *stanza.Error) {
	t.Helper()
	h.seen()
	answer, refusal := h.own(t, text)
	if refusal != nil {
		require.Empty(t, h.seen(), "nothing is sent with a refusal")
		return r, refusal
	}
	require.Len(t, answer, 1)
	fin := answer[0]
	require.Equal(t, "fin", fin.Local)
	require.Equal(t, nsMAM, fin.Space)
	r.complete = fin.Attr("complete") == "true"
	set := fin.Child(nsRSM, "set")
	require.NotNil(t, set)
	r.first, r.last = set.ChildText(nsRSM, "first"), set.ChildText(nsRSM, "last")
	want := parse(t, text).Child(nsMAM, "query").Attr("queryid")
	for _, p := range h.seen() {
		s := p.Stanza
		require.Equal(t, stream.History, p.Role)
		require.Zero(t, p.ArchiveID, "a result is not a delivery")
		require.Equal(t, stanza.Message, s.Kind)
		require.Equal(t, "romeo@verona.example/orchard", s.To.String())
		require.Equal(t, "romeo@verona.example", s.From.String())
		result := s.Child(nsMAM, "result")
		require.NotNil(t, result)
		require.Equal(t, want, result.Attr("queryid"))
		id, ok := h.ParseStanzaID(result.Attr("id"))
		require.True(t, ok)
		r.ids = append(r.ids, id)
		forwarded := result.Child(payload.NSForward, "forwarded")
		require.NotNil(t, forwarded)
		require.Equal(t, stanza.FormatTime(store.MessageID(id).Time()), forwarded.Child(nsDelay, "delay").Attr("stamp"))
		m := forwarded.Child(stanza.NSClient, "message")
		if m == nil {
			r.bodies = append(r.bodies, "(damaged)")
			continue
		}
		r.bodies = append(r.bodies, m.ChildText(stanza.NSClient, "body"))
		require.Equal(t, result.Attr("id"), m.Child(nsStanzaID, "stanza-id").Attr("id"))
		require.Equal(t, "romeo@verona.example", m.Child(nsStanzaID, "stanza-id").Attr("by"))
		require.NotEmpty(t, m.Attr("from"))
		require.NotEmpty(t, m.Attr("to"))
	}
	return r, nil
}

// form is the query with fields as pairs of name and value, and a set.
func form(set string, fields ...string) string {
	var b strings.Builder
	b.WriteString(`<iq xmlns='jabber:client' type='set' id='q'><query xmlns='urn:xmpp:mam:2' queryid='f27'>`)
	if len(fields) > 0 {
		b.WriteString(
			`<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field>`)
		for i := 0; i < len(fields); i += 2 {
			fmt.Fprintf(&b, `<field var='%s'><value>%s</value></field>`, fields[i], fields[i+1])
		}
		b.WriteString(`</x>`)
	}
	if set != "" {
		fmt.Fprintf(&b, `<set xmlns='http://jabber.org/protocol/rsm'>%s</set>`, set)
	}
	b.WriteString(`</query></iq>`)
	return b.String()
}

// withEverybody makes a history of 12 messages, one a second from noon on: with juliet (0 mod 4: to her, 1: from
// her), with balthasar in mantua (2), to himself (3).
func withEverybody(i int) (from, to string) {
	switch i % 4 {
	case 0:
		return "romeo@verona.example/orchard", "juliet@verona.example"
	case 1:
		return "juliet@verona.example/balcony", "romeo@verona.example"
	case 2:
		return "balthasar@mantua.example/road", "romeo@verona.example/orchard"
	}
	return "romeo@verona.example/street", "romeo@verona.example"
}

func numbers(list ...int) (out []string) {
	for _, n := range list {
		out = append(out, fmt.Sprintf("message %d", n))
	}
	return out
}

// The examples of XEP-0313, with this archive's messages.
func TestExamplesOfXEP0313(t *testing.T) {
	h := newHouse(t, memory())
	m := fill(t, h.log, noon, 12, withEverybody)
	id := func(i int) string { return h.StanzaID(uint64(m[i].ID)) }
	for _, c := range []struct {
		what, query string
		want        []string
		complete    bool
	}{
		{"§4 everything",
			`<iq xmlns='jabber:client' type='set' id='juliet1'><query xmlns='urn:xmpp:mam:2' queryid='f27'/></iq>`,
			numbers(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), true},
		{"§4 without queryid", `<iq xmlns='jabber:client' type='set' id='juliet1'><query xmlns='urn:xmpp:mam:2'/></iq>`,
			numbers(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), true},
		{"§4.1.1 with", form("", "with", "juliet@verona.example"), numbers(0, 1, 4, 5, 8, 9), true},
		{"§4.1.1 with another domain", form("", "with", "balthasar@mantua.example"), numbers(2, 6, 10), true},
		{"§4.1.1 with a device", form("", "with", "juliet@verona.example/balcony"), numbers(1, 5, 9), true},
		{"§4.1.1 with an unknown device", form("", "with", "juliet@verona.example/closet"), nil, true},
		{"§4.1.1 notes to oneself", form("", "with", "romeo@verona.example"), numbers(3, 7, 11), true},
		{"§4.1.1 an own device", form("", "with", "romeo@verona.example/orchard"), numbers(0, 2, 4, 6, 8, 10), true},
		{"§4.1.1 with somebody unknown", form("", "with", "paris@verona.example"), nil, true},
		{"§4.1.2 a timespan", form("", "start", "2026-03-01T12:00:02Z", "end", "2026-03-01T12:00:04Z"),
			numbers(2, 3, 4), true},
		{"§4.1.2 with a zone and fraction",
			form("", "start", "2026-03-01T13:00:02.000+01:00", "end", "2026-03-01T12:00:04.9994Z"), numbers(2, 3, 4),
			true},
		{"§4.1.2 after a time", form("", "start", "2026-03-01T12:00:09.001Z"), numbers(10, 11), true},
		{"§4.1.2 before all", form("", "end", "2010-07-07T13:23:54Z"), nil, true},
		{"§4.1.2 before there were computers", form("", "end", "1969-12-31T23:59:59Z"), nil, true},
		{"§4.1.2 since then", form("", "start", "0001-01-01T00:00:00Z"), numbers(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
			true},
		{"§4.1.2 until the end of time", form("", "end", "9999-12-31T23:59:59Z"),
			numbers(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), true},
		{"§4.1.2 after it", form("", "start", "9999-12-31T23:59:59Z"), nil, true},
		{"§4.1.3 after a message", form("", "after-id", id(8)), numbers(9, 10, 11), true},
		{"§4.1.3 between two", form("", "after-id", id(2), "before-id", id(5)), numbers(3, 4), true},
		{"§4.1.3 between neighbours", form("", "after-id", id(2), "before-id", id(3)), nil, true},
		{"§4.1.3 one message", form("", "ids", id(7)), numbers(7), true},
		{"§4.3.1 a page", form("<max>3</max>", "start", "2026-03-01T12:00:02Z"), numbers(2, 3, 4), false},
		{"§4.3.2 the next page", form("<max>3</max><after>"+id(4)+"</after>", "start", "2026-03-01T12:00:02Z"),
			numbers(5, 6, 7), false},
		{"§4.3.2 the page before", form("<max>3</max><before>" + id(4) + "</before>"), numbers(1, 2, 3), false},
		{"§4.3.2 the first page from behind", form("<max>9</max><before>" + id(4) + "</before>"), numbers(0, 1, 2, 3),
			true},
		{"§4.3.3 the last page", form("<max>2</max><before/>", "start", "2026-03-01T12:00:02Z"), numbers(10, 11),
			false},
		{"§4.3.3 a whole archive as last page", form("<before/>"), numbers(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), true},
		{"exactly a page", form("<max>12</max>"), numbers(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), true},
		{"with and a page", form("<max>2</max><before/>", "with", "juliet@verona.example"), numbers(8, 9), false},
		{"a device and a page", form("<max>2</max>", "with", "juliet@verona.example/balcony"), numbers(1, 5), false},
		{"a device and the last page", form("<max>2</max><before/>", "with", "juliet@verona.example/balcony"),
			numbers(5, 9), false},
		{"RSM between two", form("<max>2</max><after>" + id(2) + "</after><before>" + id(8) + "</before>"),
			numbers(6, 7), false},
	} {
		t.Run(c.what, func(t *testing.T) {
			got := h.query(t, c.query)
			require.Equal(t, c.want, got.bodies)
			require.Equal(t, c.complete, got.complete)
			if len(c.want) == 0 {
				return
			}
			require.Equal(t, h.StanzaID(got.ids[0]), got.first)
			require.Equal(t, h.StanzaID(got.ids[len(got.ids)-1]), got.last)
		})
	}
	t.Run("§4.1.3 several messages", func(t *testing.T) {
		q := strings.Replace(form("", "ids", id(7)), "</value></field></x>", "</value><value>"+id(2)+"</value><value>"+
			id(7)+"</value></field></x>", 1)
		require.Equal(t, numbers(2, 7), h.query(t, q).bodies)
		for with, want := range map[string][]string{
			"romeo@verona.example": numbers(7), "romeo@verona.example/street": numbers(7),
			"balthasar@mantua.example": numbers(2), "balthasar@mantua.example/road": numbers(2),
			"juliet@verona.example": nil,
		} {
			and := strings.Replace(q, "</x>", "<field var='with'><value>"+with+"</value></field></x>", 1)
			require.Equal(t, want, h.query(t, and).bodies, with)
		}
		until := strings.Replace(q, "</x>", "<field var='end'><value>2026-03-01T12:00:03Z</value></field></x>", 1)
		require.Equal(t, numbers(2), h.query(t, until).bodies)
		require.Equal(t, numbers(7), h.query(t,
			strings.Replace(q, "</query>",
				"<set xmlns='http://jabber.org/protocol/rsm'><max>1</max><before/></set></query>", 1)).bodies)
	})
	t.Run("§4.3.4 flipped", func(t *testing.T) {
		q := strings.Replace(form("<max>3</max><after>"+id(4)+"</after>"), "</query>", "<flip-page/></query>", 1)
		got := h.query(t, q)
		require.Equal(t, numbers(7, 6, 5), got.bodies)
		require.Equal(t, id(5), got.first, "the page itself is the same")
		require.Equal(t, id(7), got.last)
	})
	t.Run("XEP-0059 §2.6 max 0", func(t *testing.T) {
		got := h.query(t, form("<max>0</max>"))
		require.Empty(t, got.bodies)
		require.False(t, got.complete)
		require.Empty(t, got.first+got.last)
		require.True(t, h.query(t, form("<max>0</max>", "with", "paris@verona.example")).complete)
	})
	t.Run("§4.1.5 form", func(t *testing.T) {
		payload, refusal := h.own(
			t, `<iq xmlns='jabber:client' type='get' id='form1'><query xmlns='urn:xmpp:mam:2'/></iq>`)
		require.Nil(t, refusal)
		kinds := map[string]string{}
		for field := range payload[0].Child(nsForm, "x").Elements {
			kinds[field.Attr("var")] = field.Attr("type")
			if field.Attr("var") == "ids" {
				require.NotNil(t, field.Child(nsValidate, "validate").Child(nsValidate, "open"))
			}
		}
		require.Equal(t, map[string]string{"FORM_TYPE": "hidden", "with": "jid-single", "start": "text-single",
			"end":       "text-single",
			"before-id": "text-single", "after-id": "text-single", "ids": "list-multi"}, kinds)
	})
	t.Run("§5 metadata", func(t *testing.T) {
		payload, refusal := h.own(
			t, `<iq xmlns='jabber:client' type='get' id='m'><metadata xmlns='urn:xmpp:mam:2'/></iq>`)
		require.Nil(t, refusal)
		require.Equal(t, `<metadata xmlns="urn:xmpp:mam:2"><start id="`+id(0)+
			`" timestamp="2026-03-01T12:00:00.000Z"/><end id="`+id(11)+
			`" timestamp="2026-03-01T12:00:11.000Z"/></metadata>`,
			strings.ReplaceAll(string(xmlstream.MarshalElement(nil, &payload[0])), "'", `"`))
		empty := newHouse(t, memory())
		payload, refusal = empty.own(t,
			`<iq xmlns='jabber:client' type='get' id='m'><metadata xmlns='urn:xmpp:mam:2'/></iq>`)
		require.Nil(t, refusal)
		require.Empty(t, payload[0].Nodes)
		got := empty.query(t, form(""))
		require.Empty(t, got.bodies)
		require.True(t, got.complete)
	})
}

// A83, and every other way in which a query can be wrong.
func TestQueriesThatAreRefused(t *testing.T) {
	h := newHouse(t, memory())
	m := fill(t, h.log, noon, 4, withEverybody)
	foreign := stored(t, h.log, "juliet@verona.example/b", "nurse@verona.example", "secret")
	put(t, h.log, noon.Add(time.Hour), foreign)
	secret := h.StanzaID(uint64(foreign.ID))
	missing := h.StanzaID(uint64(m[3].ID) + 1)
	beyond := h.StanzaID(uint64(foreign.ID) + 1)
	good := h.StanzaID(uint64(m[1].ID))
	many := form("", "ids", good)
	many = strings.Replace(many, "<value>"+good+"</value>", strings.Repeat("<value>"+good+"</value>", maxIDs+1), 1)
	double := strings.Replace(form("", "with", "a@b"), "<field var='with'>", "<field var='with'><value>c@d</value>", 1)
	for _, c := range []struct {
		what, query string
		want        stanza.Condition
	}{
		{"unknown field", form("", "{http://example.com/}free-text-search", "love"), stanza.FeatureNotImplemented},
		{"include-groupchat", form("", "include-groupchat", "true"), stanza.FeatureNotImplemented},
		{"field without name", form("", "", "x"), stanza.FeatureNotImplemented},
		{"unknown after", form("<after>28482-98726-73623</after>"), stanza.ItemNotFound},
		{"unknown before", form("<before>28482-98726-73623</before>"), stanza.ItemNotFound},
		{"missing after", form("<after>" + beyond + "</after>"), stanza.ItemNotFound},
		{"missing after-id", form("", "after-id", beyond), stanza.ItemNotFound},
		{"missing before-id", form("", "before-id", beyond), stanza.ItemNotFound},
		{"missing ids", form("", "ids", missing), stanza.ItemNotFound},
		{"somebody else's after", form("<after>" + secret + "</after>"), stanza.ItemNotFound},
		{"somebody else's ids", form("", "ids", secret), stanza.ItemNotFound},
		{"somebody else's before-id", form("", "before-id", secret), stanza.ItemNotFound},
		{"too many ids", many, stanza.ResourceConstraint},
		{"index", form("<max>10</max><index>3</index>"), stanza.FeatureNotImplemented},
		{"max is text", form("<max>ten</max>"), stanza.BadRequest},
		{"max is negative", form("<max>-1</max>"), stanza.BadRequest},
		{"max is empty", form("<max/>"), stanza.BadRequest},
		{"max is beyond all numbers", form("<max>99999999999999999999</max>"), stanza.BadRequest},
		{"date", form("", "start", "yesterday"), stanza.BadRequest},
		{"date without zone", form("", "start", "2026-03-01T12:00:00"), stanza.BadRequest},
		{"date in XEP-0091", form("", "end", "20260301T12:00:00"), stanza.BadRequest},
		{"date with a comma", form("", "end", "2026-03-01T12:00:00,5Z"), stanza.BadRequest},
		{"date that is none", form("", "end", "2026-02-30T12:00:00Z"), stanza.BadRequest},
		{"A72: negative year", form("", "end", "-0001-02-03T12:00:00Z"), stanza.BadRequest},
		{"empty date", form("", "end", ""), stanza.BadRequest},
		{"with is no address", form("", "with", "@"), stanza.JIDMalformed},
		{"with is empty", form("", "with", ""), stanza.JIDMalformed},
		{"two values", double, stanza.BadRequest},
		{"a field twice", form("", "with", "a@b", "with", "a@b"), stanza.BadRequest},
		{"other form", strings.Replace(form("", "with", "a@b"), "<value>urn:xmpp:mam:2<", "<value>urn:xmpp:mam:1<", 1),
			stanza.BadRequest},
		{"no FORM_TYPE", strings.Replace(form("", "with", "a@b"), "FORM_TYPE", "with", 1), stanza.JIDMalformed},
		{"form without FORM_TYPE",
			`<iq xmlns='jabber:client' type='set' id='q'><query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'/></query></iq>`, stanza.BadRequest},
		{"form of another type", strings.Replace(form("", "with", "a@b"), "type='submit'", "type='result'", 1),
			stanza.BadRequest},
		{"two forms", strings.Replace(form("", "with", "a@b"), "</x>", "</x><x xmlns='jabber:x:data' type='submit'/>",
			1), stanza.BadRequest},
		{"two sets", strings.Replace(form("<max>1</max>"), "</set>",
			"</set><set xmlns='http://jabber.org/protocol/rsm'/>", 1), stanza.BadRequest},
		{"a node", strings.Replace(form(""), "queryid=", "node='x' queryid=", 1), stanza.FeatureNotImplemented},
	} {
		t.Run(c.what, func(t *testing.T) {
			h.budget = newBudget(1, 100, h.now)
			_, refusal := h.tryQuery(t, c.query)
			require.NotNil(t, refusal)
			require.Equal(t, c.want, refusal.Condition)
		})
	}
	t.Run("an empty field is no field", func(t *testing.T) {
		q := strings.Replace(form("", "with", "a@b"), "<value>a@b</value>", "", 1)
		require.Len(t, h.query(t, q).bodies, 4)
	})
	t.Run("foreign to", func(t *testing.T) {
		for _, request := range []string{
			"type='get'><query xmlns='urn:xmpp:mam:2'/>", "type='set'><query xmlns='urn:xmpp:mam:2'/>",
			"type='get'><metadata xmlns='urn:xmpp:mam:2'/>",
			"type='get'><prefs xmlns='urn:xmpp:mam:2'/>", "type='set'><prefs xmlns='urn:xmpp:mam:2'/>",
		} {
			iq := parse(t, "<iq xmlns='jabber:client' id='1' to='juliet@verona.example' from='romeo@verona.example/o' "+
				request+"</iq>")
			for _, account := range []uint64{0, romeo} {
				_, refusal := h.ask(t, iq, account)
				require.NotNil(t, refusal)
				require.Equal(t, stanza.Forbidden, refusal.Condition)
			}
			iq.To = iq.From.Bare()
			_, refusal := h.ask(t, iq, 0)
			require.NotNil(t, refusal, request)
			require.Equal(t, stanza.ServiceUnavailable, refusal.Condition, "it has left meanwhile")
		}
	})
}

func TestFeaturesAreAnnounced(t *testing.T) {
	var features []string
	for _, r := range newHouse(t, memory()).Handlers() {
		if r.Feature != "-" {
			require.Equal(t, service.AtAccount|service.AtDomain, r.Announced)
			features = append(features, r.Feature)
		}
	}
	require.Equal(t, []string{"urn:xmpp:mam:2", "urn:xmpp:mam:2#extended"}, features)
}

func FuzzMAMQuery(f *testing.F) {
	a := newIDs(f, "sixteen bytes or")
	f.Add(form(""))
	f.Add(form("<max>10</max><after>"+a.StanzaID(99)+"</after>", "start", "2010-08-07T00:00:00Z", "end",
		"2011-08-07T00:00:00.123+02:00"))
	f.Add(form("<max>10</max><before/>", "with", "juliet@capulet.lit/x", "ids", a.StanzaID(7)))
	f.Add(form("<max>10</max><index>1</index>", "before-id", a.StanzaID(7), "after-id", a.StanzaID(9)))
	f.Add(form("", "{http://example.com/}free-text-search", "love"))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := xmlstream.Unmarshal([]byte(text))
		if err != nil {
			return
		}
		e := s.Child(nsMAM, "query")
		if e == nil {
			return
		}
		q, refusal := parseQuery(e, a.ParseStanzaID)
		if refusal != nil {
			return
		}
		if q.limit < 0 || q.limit > maxPage || len(q.ids) > maxIDs || len(q.named) < len(q.ids) {
			t.Fatalf("limits are passed: %+v", q)
		}
		if !q.empty && q.before != 0 && q.before <= q.after {
			t.Fatalf("nothing can be between the bounds: %+v", q)
		}
	})
}

// TestHistoryGoesToWhoAsked: the results of a query are given to the account that asked, by its identity, and no more
// of them once it is not there: its name may belong to somebody else by then.
func TestHistoryGoesToWhoAsked(t *testing.T) {
	h := newHouse(t, memory())
	fill(t, h.log, noon, 5, withEverybody)
	h.onRoute = func(*stream.Packet) { h.left.Store(true) }
	_, refusal := h.own(t, form("<max>5</max>"))
	require.Nil(t, refusal)
	require.Len(t, h.seen(), 1)
}
