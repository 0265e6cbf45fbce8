package archive

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// ask finds the route of an IQ as domain/local would, and answers it.
func (h *house) ask(t testing.TB, iq *stanza.Stanza, target router.Target, account uint64) ([]stanza.Element, *stanza.Error) {
	t.Helper()
	for _, r := range h.Routes() {
		if r.Target&target != 0 && (r.Type == "" || r.Type == iq.Type) && iq.Child(r.Space, r.Local) != nil {
			return r.Handle(t.Context(), account, iq)
		}
	}
	t.Fatalf("no route for %v", iq)
	return nil, nil
}

// own asks romeo's archive, in XML. from is added.
func (h *house) own(t testing.TB, text string) ([]stanza.Element, *stanza.Error) {
	t.Helper()
	iq := parse(t, text)
	iq.From = jid.MustParse("romeo@verona.example/orchard")
	return h.ask(t, iq, router.ToOwnAccount, romeo)
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
	payload, refusal := h.own(t, text)
	if refusal != nil {
		require.Empty(t, h.seen(), "nothing is sent with a refusal")
		return r, refusal
	}
	require.Len(t, payload, 1)
	fin := payload[0]
	require.Equal(t, "fin", fin.Local)
	require.Equal(t, nsMAM, fin.Space)
	r.complete = fin.Attr("complete") == "true"
	set := fin.Child(nsRSM, "set")
	require.NotNil(t, set)
	r.first, r.last = set.ChildText(nsRSM, "first"), set.ChildText(nsRSM, "last")
	want := parse(t, text).Child(nsMAM, "query").Attr("queryid")
	for _, p := range h.seen() {
		s := p.Stanza
		require.True(t, p.Copy)
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
		forwarded := result.Child(nsForward, "forwarded")
		require.NotNil(t, forwarded)
		require.Equal(t, stampOf(store.MessageID(id).Time()), forwarded.Child(nsDelay, "delay").Attr("stamp"))
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
		b.WriteString(`<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value></field>`)
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
		{"§4 everything", `<iq xmlns='jabber:client' type='set' id='juliet1'><query xmlns='urn:xmpp:mam:2' queryid='f27'/></iq>`, numbers(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), true},
		{"§4 without queryid", `<iq xmlns='jabber:client' type='set' id='juliet1'><query xmlns='urn:xmpp:mam:2'/></iq>`, numbers(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), true},
		{"§4.1.1 with", form("", "with", "juliet@verona.example"), numbers(0, 1, 4, 5, 8, 9), true},
		{"§4.1.1 with another domain", form("", "with", "balthasar@mantua.example"), numbers(2, 6, 10), true},
		{"§4.1.1 with a device", form("", "with", "juliet@verona.example/balcony"), numbers(1, 5, 9), true},
		{"§4.1.1 with an unknown device", form("", "with", "juliet@verona.example/closet"), nil, true},
		{"§4.1.1 notes to oneself", form("", "with", "romeo@verona.example"), numbers(3, 7, 11), true},
		{"§4.1.1 an own device", form("", "with", "romeo@verona.example/orchard"), numbers(0, 2, 4, 6, 8, 10), true},
		{"§4.1.1 with a stranger", form("", "with", "paris@verona.example"), nil, true},
		{"§4.1.2 a timespan", form("", "start", "2026-03-01T12:00:02Z", "end", "2026-03-01T12:00:04Z"), numbers(2, 3, 4), true},
		{"§4.1.2 with a zone and fraction", form("", "start", "2026-03-01T13:00:02.000+01:00", "end", "2026-03-01T12:00:04.9994Z"), numbers(2, 3, 4), true},
		{"§4.1.2 after a time", form("", "start", "2026-03-01T12:00:09.001Z"), numbers(10, 11), true},
		{"§4.1.2 before all", form("", "end", "2010-07-07T13:23:54Z"), nil, true},
		{"§4.1.2 before there were computers", form("", "end", "1969-12-31T23:59:59Z"), nil, true},
		{"§4.1.2 since then", form("", "start", "0001-01-01T00:00:00Z"), numbers(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), true},
		{"§4.1.2 until the end of time", form("", "end", "9999-12-31T23:59:59Z"), numbers(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), true},
		{"§4.1.2 after it", form("", "start", "9999-12-31T23:59:59Z"), nil, true},
		{"§4.1.3 after a message", form("", "after-id", id(8)), numbers(9, 10, 11), true},
		{"§4.1.3 between two", form("", "after-id", id(2), "before-id", id(5)), numbers(3, 4), true},
		{"§4.1.3 between neighbours", form("", "after-id", id(2), "before-id", id(3)), nil, true},
		{"§4.1.3 one message", form("", "ids", id(7)), numbers(7), true},
		{"§4.3.1 a page", form("<max>3</max>", "start", "2026-03-01T12:00:02Z"), numbers(2, 3, 4), false},
		{"§4.3.2 the next page", form("<max>3</max><after>"+id(4)+"</after>", "start", "2026-03-01T12:00:02Z"), numbers(5, 6, 7), false},
		{"§4.3.2 the page before", form("<max>3</max><before>" + id(4) + "</before>"), numbers(1, 2, 3), false},
		{"§4.3.2 the first page from behind", form("<max>9</max><before>" + id(4) + "</before>"), numbers(0, 1, 2, 3), true},
		{"§4.3.3 the last page", form("<max>2</max><before/>", "start", "2026-03-01T12:00:02Z"), numbers(10, 11), false},
		{"§4.3.3 a whole archive as last page", form("<before/>"), numbers(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), true},
		{"exactly a page", form("<max>12</max>"), numbers(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), true},
		{"with and a page", form("<max>2</max><before/>", "with", "juliet@verona.example"), numbers(8, 9), false},
		{"a device and a page", form("<max>2</max>", "with", "juliet@verona.example/balcony"), numbers(1, 5), false},
		{"a device and the last page", form("<max>2</max><before/>", "with", "juliet@verona.example/balcony"), numbers(5, 9), false},
		{"RSM between two", form("<max>2</max><after>" + id(2) + "</after><before>" + id(8) + "</before>"), numbers(6, 7), false},
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
		q := strings.Replace(form("", "ids", id(7)), "</value></field></x>", "</value><value>"+id(2)+"</value><value>"+id(7)+"</value></field></x>", 1)
		require.Equal(t, numbers(2, 7), h.query(t, q).bodies)
		require.Equal(t, numbers(7), h.query(t, strings.Replace(q, "</query>", "<set xmlns='http://jabber.org/protocol/rsm'><max>1</max><before/></set></query>", 1)).bodies)
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
		payload, refusal := h.own(t, `<iq xmlns='jabber:client' type='get' id='form1'><query xmlns='urn:xmpp:mam:2'/></iq>`)
		require.Nil(t, refusal)
		kinds := map[string]string{}
		for field := range payload[0].Child(nsForm, "x").Elements {
			kinds[field.Attr("var")] = field.Attr("type")
			if field.Attr("var") == "ids" {
				require.NotNil(t, field.Child(nsValidate, "validate").Child(nsValidate, "open"))
			}
		}
		require.Equal(t, map[string]string{"FORM_TYPE": "hidden", "with": "jid-single", "start": "text-single", "end": "text-single",
			"before-id": "text-single", "after-id": "text-single", "ids": "list-multi"}, kinds)
	})
	t.Run("§5 metadata", func(t *testing.T) {
		payload, refusal := h.own(t, `<iq xmlns='jabber:client' type='get' id='m'><metadata xmlns='urn:xmpp:mam:2'/></iq>`)
		require.Nil(t, refusal)
		require.Equal(t, `<metadata xmlns="urn:xmpp:mam:2"><start id="`+id(0)+`" timestamp="2026-03-01T12:00:00.000Z"/><end id="`+id(11)+`" timestamp="2026-03-01T12:00:11.000Z"/></metadata>`,
			strings.ReplaceAll(string(xmlstream.MarshalElement(nil, &payload[0])), "'", `"`))
		empty := newHouse(t, memory())
		payload, refusal = empty.own(t, `<iq xmlns='jabber:client' type='get' id='m'><metadata xmlns='urn:xmpp:mam:2'/></iq>`)
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
	foreign := stored("juliet@verona.example/b", "nurse@verona.example", "secret")
	require.NoError(t, h.log.Append(t.Context(), noon.Add(time.Hour), []*store.Append{foreign}, nil))
	secret := h.StanzaID(uint64(foreign.ID))
	missing := h.StanzaID(uint64(m[3].ID) + 1)
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
		{"missing after", form("<after>" + missing + "</after>"), stanza.ItemNotFound},
		{"missing after-id", form("", "after-id", missing), stanza.ItemNotFound},
		{"missing before-id", form("", "before-id", missing), stanza.ItemNotFound},
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
		{"other form", strings.Replace(form("", "with", "a@b"), "<value>urn:xmpp:mam:2<", "<value>urn:xmpp:mam:1<", 1), stanza.BadRequest},
		{"no FORM_TYPE", strings.Replace(form("", "with", "a@b"), "FORM_TYPE", "with", 1), stanza.JIDMalformed},
		{"form without FORM_TYPE", `<iq xmlns='jabber:client' type='set' id='q'><query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'/></query></iq>`, stanza.BadRequest},
		{"form of another type", strings.Replace(form("", "with", "a@b"), "type='submit'", "type='result'", 1), stanza.BadRequest},
		{"two forms", strings.Replace(form("", "with", "a@b"), "</x>", "</x><x xmlns='jabber:x:data' type='submit'/>", 1), stanza.BadRequest},
		{"two sets", strings.Replace(form("<max>1</max>"), "</set>", "</set><set xmlns='http://jabber.org/protocol/rsm'/>", 1), stanza.BadRequest},
		{"a node", strings.Replace(form(""), "queryid=", "node='x' queryid=", 1), stanza.FeatureNotImplemented},
	} {
		t.Run(c.what, func(t *testing.T) {
			h.budget = newBudget(1, 100)
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
		for _, payload := range []string{"<query xmlns='urn:xmpp:mam:2'/>", "<metadata xmlns='urn:xmpp:mam:2'/>", "<prefs xmlns='urn:xmpp:mam:2'/>"} {
			for _, kind := range []string{"get", "set"} {
				iq := parse(t, "<iq xmlns='jabber:client' type='"+kind+"' id='1' to='juliet@verona.example' from='romeo@verona.example/o'>"+payload+"</iq>")
				for _, account := range []uint64{0, romeo} {
					_, refusal := h.ask(t, iq, router.ToOtherAccount, account)
					require.NotNil(t, refusal)
					require.Equal(t, stanza.Forbidden, refusal.Condition)
				}
				if kind == "get" && strings.HasPrefix(payload, "<q") || kind == "set" && strings.HasPrefix(payload, "<m") {
					continue
				}
				_, refusal := h.ask(t, iq, router.ToOwnAccount, 0)
				require.NotNil(t, refusal, "%s %s", kind, payload)
				require.Equal(t, stanza.Forbidden, refusal.Condition)
			}
		}
	})
}

// A83: a page has at most 250 messages, 50 when nothing is said, and at most so many bytes.
func TestPageLimits(t *testing.T) {
	h := newHouse(t, memory(), func(c *Config) { c.PageBytes = 64 << 10 })
	fill(t, h.log, noon, 300, withEverybody)
	require.Len(t, h.query(t, form("")).bodies, 50)
	require.Len(t, h.query(t, form("<max>1000000</max>")).bodies, 250)
	require.Len(t, h.query(t, form("<max>18446744073709551615</max>")).bodies, 250)

	big := stored("juliet@verona.example/b", "romeo@verona.example", strings.Repeat("x", 40<<10))
	huge := stored("juliet@verona.example/b", "romeo@verona.example", strings.Repeat("y", 100<<10))
	tail := stored("juliet@verona.example/b", "romeo@verona.example", "z")
	for i, a := range []*store.Append{big, stored("juliet@verona.example/b", "romeo@verona.example", strings.Repeat("x", 40<<10)), huge, tail} {
		require.NoError(t, h.log.Append(t.Context(), noon.Add(time.Hour+time.Duration(i)*time.Second), []*store.Append{a}, nil))
	}
	var lengths []int
	q := form("", "start", "2026-03-01T13:00:00Z")
	for range 10 {
		got := h.query(t, q)
		n := 0
		for _, b := range got.bodies {
			n += len(b)
		}
		lengths = append(lengths, n)
		if got.complete {
			break
		}
		q = form("<after>"+got.last+"</after>", "start", "2026-03-01T13:00:00Z")
	}
	require.Equal(t, []int{40 << 10, 40 << 10, 100 << 10, 1}, lengths)
	last := h.query(t, form("<before/>"))
	require.Equal(t, []string{"z"}, last.bodies, "from behind too")
	require.False(t, last.complete)
}

// §2.1 row 85 of the abuse table: a long stretch in which nothing matches is not the end.
func TestFilteredPageIsNotTheEnd(t *testing.T) {
	h := newHouse(t, memory())
	n := 3*filterReach + 10
	fill(t, h.log, noon, n, func(i int) (string, string) {
		if i == 5 || i == n-3 {
			return "juliet@verona.example/balcony", "romeo@verona.example"
		}
		return "juliet@verona.example/closet", "romeo@verona.example"
	})
	h.budget = newBudget(1, 1e9)
	for _, direction := range []string{"after", "before"} {
		var found []string
		set := "<max>2</max>"
		if direction == "before" {
			set = "<max>2</max><before/>"
		}
		pages := 0
		for {
			pages++
			require.Less(t, pages, 10)
			got := h.query(t, form(set, "with", "juliet@verona.example/balcony"))
			found = append(found, got.bodies...)
			if got.complete {
				break
			}
			require.NotEmpty(t, got.first, "there is a place to go on from")
			if set = "<max>2</max><after>" + got.last + "</after>"; direction == "before" {
				set = "<max>2</max><before>" + got.first + "</before>"
			}
		}
		require.Len(t, found, 2, direction)
		require.Greater(t, pages, 2, "no query reads everything")
	}
}

// Pages of any sizes, forwards and backwards, put together are the whole history.
func TestPagingIsComplete(t *testing.T) {
	h := newHouse(t, memory())
	all := fill(t, h.log, noon, 1000, withEverybody)
	filters := map[string]func(i int) bool{
		"":                              func(int) bool { return true },
		"juliet@verona.example":         func(i int) bool { return i%4 < 2 },
		"juliet@verona.example/balcony": func(i int) bool { return i%4 == 1 },
		"romeo@verona.example":          func(i int) bool { return i%4 == 3 },
		"balthasar@mantua.example":      func(i int) bool { return i%4 == 2 },
	}
	rapid.Check(t, func(rt *rapid.T) {
		h.budget = newBudget(1, 1e9)
		with := rapid.SampledFrom([]string{"", "juliet@verona.example", "juliet@verona.example/balcony", "romeo@verona.example", "balthasar@mantua.example"}).Draw(rt, "with")
		from := rapid.IntRange(0, len(all)).Draw(rt, "from")
		to := rapid.IntRange(from, len(all)).Draw(rt, "to")
		backward := rapid.Bool().Draw(rt, "backward")
		flip := rapid.Bool().Draw(rt, "flip")
		h.config.PageBytes = rapid.SampledFrom([]int{1, 1000, 10000, 1 << 20}).Draw(rt, "bytes")
		var fields []string
		if with != "" {
			fields = append(fields, "with", with)
		}
		if from > 0 {
			fields = append(fields, "start", stampOf(noon.Add(time.Duration(from)*time.Second)))
		}
		fields = append(fields, "end", stampOf(noon.Add(time.Duration(to)*time.Second-1)))
		var want, got []uint64
		for i := from; i < to; i++ {
			if filters[with](i) {
				want = append(want, uint64(all[i].ID))
			}
		}
		place := ""
		if backward {
			place = "<before/>"
		}
		for range 2100 {
			q := form(fmt.Sprintf("<max>%d</max>%s", rapid.IntRange(1, 300).Draw(rt, "max"), place), fields...)
			if flip {
				q = strings.Replace(q, "</query>", "<flip-page/></query>", 1)
			}
			r := h.query(t, q)
			if flip {
				reverse(r.ids)
			}
			if backward {
				got = append(append([]uint64{}, r.ids...), got...)
				place = "<before>" + r.first + "</before>"
			} else {
				got = append(got, r.ids...)
				place = "<after>" + r.last + "</after>"
			}
			if r.complete {
				break
			}
		}
		if fmt.Sprint(want) != fmt.Sprint(got) {
			rt.Fatalf("want %d messages, got %d", len(want), len(got))
		}
	})
}

func reverse(ids []uint64) {
	for i, j := 0, len(ids)-1; i < j; i, j = i+1, j-1 {
		ids[i], ids[j] = ids[j], ids[i]
	}
}

// A84: who asks again and again is told to wait, and may go on later; others are not touched.
func TestQueryBudget(t *testing.T) {
	now := noon.Add(time.Hour)
	h := newHouse(t, memory(), func(c *Config) { c.Now = func() time.Time { return now }; c.QueryRate, c.QueryBurst = 2, 10 })
	fill(t, h.log, noon, 250, withEverybody)
	allowed := 0
	var refusal *stanza.Error
	for range 100 {
		if _, refusal = h.tryQuery(t, form("<max>250</max>")); refusal != nil {
			break
		}
		allowed++
	}
	require.Equal(t, 3, allowed, "a token and one for every 100 messages: 3.5 each of 10")
	require.Equal(t, stanza.ResourceConstraint, refusal.Condition)
	told := refusal.Element()
	require.Equal(t, "wait", told.Attr("type"))
	_, refusal = h.own(t, `<iq xmlns='jabber:client' type='get' id='m'><metadata xmlns='urn:xmpp:mam:2'/></iq>`)
	require.NotNil(t, refusal, "metadata cost too")

	iq := parse(t, form(""))
	iq.From = jid.MustParse("juliet@verona.example/b")
	_, refusal = h.ask(t, iq, router.ToOwnAccount, juliet)
	require.Nil(t, refusal)

	now = now.Add(2 * time.Second)
	_, refusal = h.tryQuery(t, form("<max>1</max>"))
	require.Nil(t, refusal)
}

func TestBudgetForgetsWhoIsQuiet(t *testing.T) {
	b := newBudget(1, 10)
	now := noon
	for i := range 100 * budgetSweep {
		now = now.Add(10 * time.Millisecond)
		require.True(t, b.allow(store.AccountID(i+1), now))
	}
	require.Less(t, len(b.buckets), 4*budgetSweep)
}

func TestDamagedMessagesKeepTheirPlace(t *testing.T) {
	h := newHouse(t, memory())
	m := fill(t, h.log, noon, 6, withEverybody)
	h.Archive.log = &damagedLog{h.Archive.log, map[store.MessageID]bool{m[2].ID: true, m[4].ID: true}}
	got := h.query(t, form(""))
	require.Equal(t, []string{"message 0", "message 1", "(damaged)", "message 3", "(damaged)", "message 5"}, got.bodies)
	got = h.query(t, form("<max>2</max><after>"+h.StanzaID(uint64(m[1].ID))+"</after>"))
	require.Equal(t, []string{"(damaged)", "message 3"}, got.bodies)
	require.Equal(t, []string{"(damaged)"}, h.query(t, form("", "ids", h.StanzaID(uint64(m[4].ID)))).bodies)
}

// damagedLog answers as a log in which some messages do not match their checksums.
type damagedLog struct {
	store.MessageLog
	damaged map[store.MessageID]bool
}

func (d *damagedLog) without(found []store.Message, err error) ([]store.Message, error) {
	if err != nil {
		return nil, err
	}
	var out []store.Message
	e := &store.DamagedError{Cause: store.ErrDamaged}
	for _, m := range found {
		if d.damaged[m.ID] {
			e.IDs = append(e.IDs, m.ID)
		} else {
			out = append(out, m)
		}
	}
	if len(e.IDs) > 0 {
		return out, e
	}
	return out, nil
}

func (d *damagedLog) History(ctx context.Context, q store.HistoryQuery) ([]store.Message, bool, error) {
	found, more, err := d.MessageLog.History(ctx, q)
	found, err = d.without(found, err)
	return found, more, err
}

func (d *damagedLog) Undelivered(ctx context.Context, owner store.AccountID, after store.MessageID, limit int) ([]store.Message, error) {
	return d.without(d.MessageLog.Undelivered(ctx, owner, after, limit))
}

func (d *damagedLog) Message(ctx context.Context, id store.MessageID) (store.Message, error) {
	if d.damaged[id] {
		return store.Message{}, &store.DamagedError{IDs: []store.MessageID{id}, Cause: store.ErrDamaged}
	}
	return d.MessageLog.Message(ctx, id)
}

func TestArchiveThatCannotBeRead(t *testing.T) {
	h := newHouse(t, memory())
	h.Archive.log = &deadLog{MessageLog: h.Archive.log}
	for _, q := range []string{form(""), form("", "ids", h.StanzaID(1)), `<iq xmlns='jabber:client' type='get' id='m'><metadata xmlns='urn:xmpp:mam:2'/></iq>`} {
		_, refusal := h.own(t, q)
		require.NotNil(t, refusal)
		require.Equal(t, stanza.InternalServerError, refusal.Condition)
	}
}

// deadLog fails every read.
type deadLog struct{ store.MessageLog }

func (deadLog) History(context.Context, store.HistoryQuery) ([]store.Message, bool, error) {
	return nil, false, errDisk
}
func (deadLog) InHistory(context.Context, store.AccountID, store.MessageID) (bool, error) {
	return false, errDisk
}
func (deadLog) Bounds(context.Context, store.AccountID) (first, last store.MessageID, err error) {
	return 0, 0, errDisk
}

func TestFeaturesAreAnnounced(t *testing.T) {
	var features []string
	for _, r := range newHouse(t, memory()).Routes() {
		if r.Feature != "-" {
			require.Equal(t, router.ToOwnAccount, r.Target)
			features = append(features, r.Feature)
		}
	}
	require.Equal(t, []string{"urn:xmpp:mam:2", "urn:xmpp:mam:2#extended"}, features)
}

// The examples of XEP-0441.
func TestPreferences(t *testing.T) {
	h := newHouse(t, memory())
	prefs := func(kind, inner string) ([]stanza.Element, *stanza.Error) {
		return h.own(t, "<iq xmlns='jabber:client' type='"+kind+"' id='juliet2'>"+inner+"</iq>")
	}
	text := func(payload []stanza.Element) string {
		return strings.ReplaceAll(string(xmlstream.MarshalElement(nil, &payload[0])), "'", `"`)
	}
	payload, refusal := prefs("get", "<prefs xmlns='urn:xmpp:mam:2'/>")
	require.Nil(t, refusal)
	require.Equal(t, `<prefs xmlns="urn:xmpp:mam:2" default="always"><always/><never/></prefs>`, text(payload))

	h.run(t)
	require.NotZero(t, h.say(t, "romeo@verona.example/o", chat("balthasar@mantua.example", "x")).ID)

	set := `<prefs xmlns="urn:xmpp:mam:2" default="never"><always><jid>juliet@verona.example</jid><jid>nurse@verona.example/home</jid></always><never><jid>montague@verona.example</jid></never></prefs>`
	payload, refusal = prefs("set", set)
	require.Nil(t, refusal)
	require.Equal(t, set, text(payload))
	payload, refusal = prefs("get", "<prefs xmlns='urn:xmpp:mam:2'/>")
	require.Nil(t, refusal)
	require.Equal(t, set, text(payload))
	require.Zero(t, h.say(t, "romeo@verona.example/o", chat("balthasar@mantua.example", "x")).ID, "it counts at once")

	payload, refusal = prefs("set", `<prefs xmlns="urn:xmpp:mam:2" default="roster"/>`)
	require.Nil(t, refusal)
	require.Equal(t, `<prefs xmlns="urn:xmpp:mam:2" default="roster"><always/><never/></prefs>`, text(payload))

	long := strings.Repeat("<jid>a@b</jid>", maxPreferences+1)
	for inner, want := range map[string]stanza.Condition{
		`<prefs xmlns="urn:xmpp:mam:2"/>`:                                                     stanza.BadRequest,
		`<prefs xmlns="urn:xmpp:mam:2" default="sometimes"/>`:                                 stanza.BadRequest,
		`<prefs xmlns="urn:xmpp:mam:2" default="never"><never><jid>@</jid></never></prefs>`:   stanza.JIDMalformed,
		`<prefs xmlns="urn:xmpp:mam:2" default="never"><always>` + long + `</always></prefs>`: stanza.NotAcceptable,
	} {
		_, refusal := prefs("set", inner)
		require.NotNil(t, refusal, inner)
		require.Equal(t, want, refusal.Condition, inner)
	}
	payload, _ = prefs("get", "<prefs xmlns='urn:xmpp:mam:2'/>")
	require.Contains(t, text(payload), "roster", "a refused change changes nothing")

	h.prefs.err = errDisk
	for _, kind := range []string{"get", "set"} {
		_, refusal = prefs(kind, set)
		require.Equal(t, stanza.InternalServerError, refusal.Condition)
	}
}

func FuzzMAMQuery(f *testing.F) {
	a := newIDs(f, "sixteen bytes or")
	f.Add(form(""))
	f.Add(form("<max>10</max><after>"+a.StanzaID(99)+"</after>", "start", "2010-08-07T00:00:00Z", "end", "2011-08-07T00:00:00.123+02:00"))
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
