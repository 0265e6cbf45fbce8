package archive

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Namespaces of history queries.
const (
	nsMAMExtended = "urn:xmpp:mam:2#extended"
	nsRSM         = "http://jabber.org/protocol/rsm"            // XEP-0059
	nsValidate    = "http://jabber.org/protocol/xdata-validate" // XEP-0122
)

// Limits of one query.
const (
	defaultPage = 50
	maxPage     = 250
	maxIDs      = maxPage
)

// query is what a history query asks for, with everything that can be known without the store found to be sound.
type query struct {
	// queryID is repeated in the results (XEP-0313 §4).
	queryID string
	with    jid.JID
	// after and before are exclusive bounds, 0 for none: of time, of form fields and of the page, whichever is
	// narrower.
	after, before store.MessageID
	// named are all messages that the query names; each must be in the archive.
	named []store.MessageID
	// ids is what the form field of that name lists, rising, without repetition; nil when it is absent.
	ids []store.MessageID
	// limit is the size of the page, at most maxPage; it may be 0 (XEP-0059 §2.6).
	limit int
	// backward asks for the end of the range rather than its beginning.
	backward bool
	// flip asks for the page in reverse.
	flip bool
	// empty: no message can be within the bounds.
	empty bool
}

// Refusals of a query.
var (
	unknownField = stanza.Refuse(stanza.FeatureNotImplemented, "The query has a field that this archive does not know.")
	unknownID    = stanza.Refuse(stanza.ItemNotFound, "There is no message of that id in this archive.")
	badDate      = stanza.Refuse(stanza.BadRequest, "start and end are dates as in XEP-0082.")
)

func badQuery(text string) *stanza.Error { return stanza.Refuse(stanza.BadRequest, text) }

// parseQuery reads <query/> of XEP-0313 §4. parseID turns a stanza-id into the message that it names.
func parseQuery(e *stanza.Element, parseID func(string) (uint64, bool)) (query, *stanza.Error) {
	q := query{queryID: e.Attr("queryid"), limit: defaultPage}
	if e.HasAttr("node") {
		return q, stanza.Refuse(stanza.FeatureNotImplemented, "An account's archive has no nodes.") // XEP-0442
	}
	q.flip = e.Child(nsMAM, "flip-page") != nil
	p := queryParser{query: &q, parseID: parseID}
	for child := range e.Elements {
		var refusal *stanza.Error
		switch {
		case child.Space == nsForm && child.Local == "x":
			refusal = p.form(child)
		case child.Space == nsRSM && child.Local == "set":
			refusal = p.set(child)
		}
		if refusal != nil {
			return q, refusal
		}
	}
	if q.before != 0 && q.before <= q.after+1 {
		q.empty = true
	}
	return q, nil
}

type queryParser struct {
	query           *query
	parseID         func(string) (uint64, bool)
	hasForm, hasSet bool
}

// form reads the filter (XEP-0313 §4.1).
func (p *queryParser) form(e *stanza.Element) *stanza.Error {
	if p.hasForm {
		return badQuery("The query has more than one form.")
	}
	p.hasForm = true
	if t := e.Attr("type"); t != "submit" {
		return badQuery("The form is not of type submit.")
	}
	var seen []string
	for field := range e.Elements {
		if field.Space != nsForm || field.Local != "field" {
			continue
		}
		name := field.Attr("var")
		if slices.Contains(seen, name) {
			return badQuery("The form has a field twice.")
		}
		seen = append(seen, name)
		var values []string
		for v := range field.Elements {
			if v.Space == nsForm && v.Local == "value" {
				values = append(values, v.Text())
			}
		}
		if refusal := p.field(name, values); refusal != nil {
			return refusal
		}
	}
	if !slices.Contains(seen, "FORM_TYPE") {
		return badQuery("The form has no FORM_TYPE.")
	}
	return nil
}

func (p *queryParser) field(name string, values []string) *stanza.Error {
	q := p.query
	switch name {
	case "ids":
		return p.ids(values)
	case "FORM_TYPE", "with", "start", "end", "before-id", "after-id":
	default:
		return unknownField // XEP-0313 §4.1.5
	}
	switch len(values) {
	case 0:
		return nil // as if it were absent
	case 1:
	default:
		return badQuery("A field has more than one value.")
	}
	value := values[0]
	switch name {
	case "FORM_TYPE":
		if value != nsMAM {
			return badQuery("The form is not one for history queries.")
		}
	case "with":
		with, err := jid.Parse(value)
		if err != nil {
			return stanza.Refuse(stanza.JIDMalformed, "with is not an address.")
		}
		q.with = with
	case "start", "end":
		return p.date(name, value)
	default:
		id, refusal := p.id(value)
		if refusal != nil {
			return refusal
		}
		if name == "after-id" {
			q.narrow(id, 0)
		} else {
			q.narrow(0, id)
		}
	}
	return nil
}

// date reads start or end: both include messages of exactly that time (XEP-0313 §4.1.2).
func (p *queryParser) date(name, value string) *stanza.Error {
	t, ok := parseDate(value)
	if !ok {
		return badDate
	}
	q := p.query
	if name == "start" {
		switch first := firstAt(t); {
		case first == 0 && t.Year() > 1970:
			q.empty = true
		case first != 0:
			q.narrow(first-1, 0)
		}
		return nil
	}
	switch past := firstAt(t.Truncate(time.Millisecond).Add(time.Millisecond)); {
	case past == 0 && t.Year() < 1970:
		q.empty = true
	case past != 0:
		q.narrow(0, past)
	}
	return nil
}

// firstAt is store.FirstMessageID within the years that an identity can name, and 0 outside.
func firstAt(t time.Time) store.MessageID {
	if y := t.Year(); y < 1970 || y > 2200 {
		return 0
	}
	return store.FirstMessageID(t)
}

func (p *queryParser) ids(values []string) *stanza.Error {
	if len(values) > maxIDs {
		return stanza.Refuse(stanza.ResourceConstraint, "The query names too many messages.")
	}
	ids := make([]store.MessageID, 0, len(values))
	for _, value := range values {
		id, refusal := p.id(value)
		if refusal != nil {
			return refusal
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	p.query.ids = slices.Compact(ids)
	return nil
}

// id reads a stanza-id that must be in the archive.
func (p *queryParser) id(text string) (store.MessageID, *stanza.Error) {
	id, ok := p.parseID(text)
	if !ok {
		return 0, unknownID
	}
	p.query.named = append(p.query.named, store.MessageID(id))
	return store.MessageID(id), nil
}

// set reads the page that is asked for (XEP-0059 §2). With both after and before, which XEP-0059 leaves open, the
// page is the end of what is between them.
func (p *queryParser) set(e *stanza.Element) *stanza.Error {
	if p.hasSet {
		return badQuery("The query has more than one set.")
	}
	p.hasSet = true
	q := p.query
	for child := range e.Elements {
		if child.Space != nsRSM {
			continue
		}
		text := strings.TrimSpace(child.Text())
		switch child.Local {
		case "max":
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				return badQuery("max is not a number.")
			}
			q.limit = int(min(n, maxPage))
		case "after":
			if text == "" {
				continue // from the beginning, as without it
			}
			id, refusal := p.id(text)
			if refusal != nil {
				return refusal
			}
			q.narrow(id, 0)
		case "before":
			q.backward = true
			if text == "" {
				continue // XEP-0059 §2.5: the last page
			}
			id, refusal := p.id(text)
			if refusal != nil {
				return refusal
			}
			q.narrow(0, id)
		case "index":
			// XEP-0059 §2.6
			return stanza.Refuse(stanza.FeatureNotImplemented, "Pages are asked for by id, not by number.")
		}
	}
	return nil
}

// narrow makes the bounds at least as narrow as the given ones; 0 is no bound.
func (q *query) narrow(after, before store.MessageID) {
	q.after = max(q.after, after)
	if before != 0 && (q.before == 0 || before < q.before) {
		q.before = before
	}
}

// parseDate reads the DateTime profile of XEP-0082 §3.2, which is stricter than what time.Parse takes.
func parseDate(s string) (time.Time, bool) {
	const shape = "dddd-dd-ddTdd:dd:dd"
	if len(s) <= len(shape) || len(s) > 64 {
		return time.Time{}, false
	}
	for i := range shape {
		if isDigit := s[i] >= '0' && s[i] <= '9'; isDigit != (shape[i] == 'd') || !isDigit && s[i] != shape[i] {
			return time.Time{}, false
		}
	}
	if strings.ContainsRune(s, ',') {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	return t.UTC(), err == nil
}
