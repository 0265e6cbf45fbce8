package content

import (
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// region is a part of a body, in code points (XEP-0426).
type region struct{ begin, end int }

// trimmed is a body without what is in it for clients that do not know what else the message has.
type trimmed struct {
	text    string
	cut     bool     // something was marked
	regions []region // what was cut, in order, apart from each other
}

// without returns the body without its fallbacks (XEP-0428 §2.2) for what is understood.
func without(body string, s *stanza.Stanza, understood []string) trimmed {
	t := trimmed{text: body}
	var marked []region
	n := utf8.RuneCountInString(body)
	for i := range s.Payload {
		e := &s.Payload[i]
		if e.Space != payload.NSFallback || e.Local != "fallback" || !slices.Contains(understood, e.Attr("for")) {
			continue
		}
		if len(e.Nodes) == 0 {
			marked = append(marked, region{0, n})
		}
		for child := range e.Elements {
			if r, ok := regionOf(child, n); ok && len(marked) < MaxMentions {
				marked = append(marked, r)
			}
		}
	}
	if len(marked) == 0 {
		return t
	}
	t.cut = true
	slices.SortFunc(marked, func(a, b region) int { return a.begin - b.begin })
	for _, r := range marked {
		if last := len(t.regions) - 1; last >= 0 && r.begin <= t.regions[last].end {
			t.regions[last].end = max(t.regions[last].end, r.end)
		} else if r.begin < r.end {
			t.regions = append(t.regions, r)
		}
	}
	runes := []rune(body)
	kept := make([]rune, 0, len(runes))
	at := 0
	for _, r := range t.regions {
		kept = append(kept, runes[at:r.begin]...)
		at = r.end
	}
	t.text = string(append(kept, runes[at:]...))
	return t
}

func regionOf(e *stanza.Element, n int) (region, bool) {
	if e.Space != payload.NSFallback || e.Local != "body" {
		return region{}, false
	}
	r := region{0, n}
	var err1, err2 error
	if e.HasAttr("start") || e.HasAttr("end") {
		r.begin, err1 = strconv.Atoi(e.Attr("start"))
		r.end, err2 = strconv.Atoi(e.Attr("end"))
	}
	return r, err1 == nil && err2 == nil && r.begin >= 0 && r.begin <= r.end && r.end <= n
}

// moved returns where a part of the body is in the text, false when it was cut, be it in part.
func (t *trimmed) moved(r region) (region, bool) {
	before := 0
	for _, c := range t.regions {
		if c.end <= r.begin {
			before += c.end - c.begin
		} else if c.begin < r.end {
			return region{}, false
		}
	}
	return region{r.begin - before, r.end - before}, true
}

// mentions reads the references of XEP-0372 §3.2, of which the text that they are in is known.
func mentions(s *stanza.Stanza, t trimmed, text string) (list []Mention) {
	n := utf8.RuneCountInString(text)
	for i := range s.Payload {
		e := &s.Payload[i]
		if e.Space != payload.NSReference || e.Local != "reference" || e.Attr("type") != "mention" ||
			len(list) == MaxMentions {
			continue
		}
		who, ok := parseURI(e.Attr("uri"))
		begin, err1 := strconv.Atoi(e.Attr("begin"))
		end, err2 := strconv.Atoi(e.Attr("end"))
		if !ok || err1 != nil || err2 != nil || begin < 0 || begin >= end {
			continue
		}
		if r, ok := t.moved(region{begin, end}); ok && r.end <= n {
			list = append(list, Mention{JID: who, Begin: r.begin, End: r.end})
		}
	}
	return list
}
