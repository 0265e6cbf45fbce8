package content

import (
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Parse says what a message means. It takes every stanza: what has none of the kinds, is an error, is encrypted, or is
// no message is Other; pieces that are malformed or beyond the limits count as not there. What it returns, other than
// Retracted and Other, can be built again, unless the text is longer than MaxText.
func Parse(s *stanza.Stanza) Content {
	if s.Kind != stanza.Message || s.Type == stanza.TypeError {
		return Content{Kind: Other}
	}
	return parse(s, 0)
}

// identified returns the id of an element, "" when it is not there or has none.
func identified(s *stanza.Stanza, space, local string) string {
	if e := s.Child(space, local); e != nil {
		return validID(e.Attr("id"))
	}
	return ""
}

// about returns the id of the earlier message to which s stands in that relation, "" for none.
func about(s *stanza.Stanza, r payload.Relation) string {
	_, id := payload.About(s.Payload, r)
	return validID(id)
}

func validID(id string) string {
	if len(id) > MaxID {
		return ""
	}
	return id
}

// parse reads a message that is inside so many others.
func parse(s *stanza.Stanza, depth int) Content {
	if e := s.Child(payload.NSRetract, "retracted"); e != nil {
		return Content{Kind: Retracted, Target: validID(e.Attr("id"))}
	}
	if id := about(s, payload.Retracts); id != "" {
		return Content{Kind: Retract, Target: id}
	}
	if e, id := payload.About(s.Payload, payload.Reacts); validID(id) != "" {
		return Content{Kind: Reaction, Target: id, Reactions: reactions(e)}
	}
	c := spoken(s, depth)
	if !speaks(c.Kind) {
		if mark, ok := unspoken(s); ok {
			return mark
		}
		return c
	}
	if id := about(s, payload.Edits); id != "" {
		if c.Kind != Text {
			c.Becomes = c.Kind
		}
		c.Kind, c.Target = Edit, id
	}
	return c
}

// unspoken reads what is not said with words: a marker, or typing.
func unspoken(s *stanza.Stanza) (c Content, ok bool) {
	for i := range s.Payload {
		e := &s.Payload[i]
		switch payload.Of(e).Relation {
		case payload.Read:
			c.Kind = Read
		case payload.Delivered:
			c.Kind = Delivered
		default:
			continue
		}
		if c.Target = validID(e.Attr("id")); c.Target != "" {
			return c, true
		}
	}
	if e := s.ChildNS(payload.NSChatStates); e != nil {
		return Content{Kind: Typing, Composing: e.Local == "composing"}, true
	}
	return Content{}, false
}

func reactions(e *stanza.Element) (list []string) {
	for r := range e.Elements {
		var k checker
		k.reactions(append(list[:len(list):len(list)], r.Text()), "")
		if r.Space == payload.NSReactions && r.Local == "reaction" && k.err == nil {
			list = append(list, r.Text())
		}
	}
	return list
}

// spoken reads what a message says by itself, in which kind c is: Other when it says nothing that is understood.
func spoken(s *stanza.Stanza, depth int) (c Content) {
	body := s.Body()
	if s.Child(payload.NSEncryption, "encryption") != nil { // XEP-0380: the body is for those that cannot decrypt
		return Content{Kind: Other, Text: body}
	}
	understood := []string{payload.NSReply}
	c.ReplyTo = reply(s)
	if c.ReplyTo == nil {
		understood = nil
	}
	c.Kind = Text
	for i := range s.Payload {
		if space := c.special(&s.Payload[i], depth); space != "" {
			understood = append(understood, space)
			break
		}
	}
	if a := c.Attachment; a == nil && c.Kind == Text {
		if c.Attachment, c.Kind = outOfBand(s); c.Attachment != nil {
			understood = append(understood, payload.NSOOB)
		}
	}
	t := without(body, s, understood)
	c.Text = t.text
	c.settle(s, !t.cut)
	if speaks(c.Kind) && c.Kind != Code {
		c.Mentions = mentions(s, t, c.Text)
	}
	if c.Text == "" && (c.Kind == Text || c.Kind == Code || c.Kind == Notice) {
		return Content{Kind: Other, Text: body}
	}
	return c
}

// special reads an element that makes the message another kind than a text, and returns the namespace for which a body
// may have a fallback, "" when it is none.
func (c *Content) special(e *stanza.Element, depth int) string {
	switch {
	case e.Space == Namespace:
		if !c.ours(e) {
			return ""
		}
	case e.Space == payload.NSFileSharing && e.Local == "file-sharing":
		a, kind := fileSharing(e)
		if a == nil {
			return ""
		}
		c.Kind, c.Attachment = kind, a
	case e.Space == payload.NSGeoloc && e.Local == "geoloc":
		location := parseGeolocation(e)
		if location == nil {
			return ""
		}
		c.Kind, c.Location = Location, location
	case e.Space == payload.NSForward && e.Local == "forwarded":
		f := parseForwarded(e, depth)
		if f == nil {
			return ""
		}
		c.Kind, c.Forwarded = Forward, f
	default:
		return ""
	}
	return e.Space
}

// ours reads an element of Namespace.
func (c *Content) ours(e *stanza.Element) bool {
	var k checker
	switch e.Local {
	case "code":
		k.line(e.Attr("language"), "", MaxName)
		if k.err == nil {
			c.Kind, c.Language = Code, e.Attr("language")
		}
	case "notice":
		c.Kind = Notice
	case "card":
		card := CardBody{Title: e.ChildText(Namespace, "title"), Text: e.ChildText(Namespace, "text"),
			URL: e.ChildText(Namespace, "url"), Image: e.ChildText(Namespace, "image")}
		if k.card(&card, ""); k.err == nil {
			c.Kind, c.Card = Card, &card
		}
	case "custom":
		custom := CustomBody{Type: e.Attr("type"), Data: e.Text()}
		if k.custom(&custom, ""); k.err == nil {
			c.Kind, c.Custom = Custom, &custom
		}
	default:
		return false
	}
	return k.err == nil
}

// settle takes from the text what says the same as an element does, when no mark told which part that is.
func (c *Content) settle(s *stanza.Stanza, unmarked bool) {
	switch c.Kind {
	case Code:
		if language, code, ok := block(c.Text); ok {
			c.Text = code
			if c.Language == "" {
				c.Language = language
			}
		}
	case Text:
		if s.Child(nsStyling, "unstyled") != nil {
			return
		}
		if language, code, ok := block(c.Text); ok && code != "" && !hasFence(code) {
			c.Kind, c.Language, c.Text = Code, language, code
		}
	case Image, File, Voice, Video:
		if unmarked && c.Text == c.Attachment.URL {
			c.Text = ""
		}
		if e := s.Child(payload.NSFileSharing, "file-sharing"); e != nil && c.Text == "" {
			if file := e.Child(nsMetadata, "file"); file != nil {
				c.Text = file.ChildText(nsMetadata, "desc")
			}
		}
	case Location:
		if unmarked && strings.HasPrefix(c.Text, "geo:") && !strings.ContainsAny(c.Text, " \n") {
			c.Text = ""
		}
	}
}

const fence = "```"

// block reads a text that is one preformatted block and nothing else (XEP-0393 §5.1.2).
func block(s string) (language, code string, ok bool) {
	first, rest, ok := strings.Cut(s, "\n")
	if !ok || !strings.HasPrefix(first, fence) {
		return "", "", false
	}
	code, ok = strings.CutSuffix(rest, "\n"+fence)
	language = first[len(fence):]
	var k checker
	if k.line(language, "", MaxName); k.err != nil || strings.TrimSpace(language) != language {
		language = ""
	}
	return language, code, ok
}

// hasFence reports whether a line of the code would end its block.
func hasFence(code string) bool { return strings.Contains("\n"+code+"\n", "\n"+fence+"\n") }

func reply(s *stanza.Stanza) *Reply {
	e := s.Child(payload.NSReply, "reply")
	if e == nil || validID(e.Attr("id")) == "" {
		return nil
	}
	r := Reply{ID: e.Attr("id")}
	if to := e.Attr("to"); validJID(to) {
		r.To = to
	}
	return &r
}

func fileSharing(e *stanza.Element) (*Attachment, Kind) {
	file, sources := e.Child(nsMetadata, "file"), e.Child(payload.NSFileSharing, "sources")
	if file == nil || sources == nil {
		return nil, ""
	}
	a := Attachment{Type: strings.ToLower(file.ChildText(nsMetadata, "media-type")),
		Name: baseName(file.ChildText(nsMetadata, "name"))}
	for source := range sources.Elements {
		if u := source.Attr("target"); source.Space == nsURLData && source.Local == "url-data" &&
			ValidURL(u, "http", "https") {
			a.URL = u
			break
		}
	}
	if a.URL == "" {
		return nil, ""
	}
	a.Size = count(file.ChildText(nsMetadata, "size"), maxNumber)
	a.Duration = count(file.ChildText(nsMetadata, "length"), maxNumber)
	width, height := file.ChildText(nsMetadata, "width"), file.ChildText(nsMetadata, "height")
	if w, h, ok := strings.Cut(file.ChildText(nsMetadata, "dimensions"), "x"); ok { // version 0.1 of XEP-0446
		width, height = w, h
	}
	a.Width, a.Height = uint32(count(width, 1<<32-1)), uint32(count(height, 1<<32-1))
	for h := range file.Elements {
		if h.Space == nsHashes && h.Local == "hash" && h.Attr("algo") == "sha-256" && validHash(h.Text()) {
			a.SHA256 = h.Text()
		}
	}
	if !validMediaType(a.Type) {
		a.Type = ""
	}
	kind := kindOf(a.Type)
	if e.Attr("disposition") == "attachment" {
		kind = File
	}
	return &a, kind
}

// count reads a decimal number of at most most; everything else is 0.
func count(s string, most uint64) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > most {
		return 0
	}
	return n
}

// baseName returns the last part of a path, "" when it is no name of a file.
func baseName(s string) string {
	if i := strings.LastIndexAny(s, `/\`); i >= 0 {
		s = s[i+1:]
	}
	if !validFileName(s) {
		return ""
	}
	return s
}

// outOfBand reads a file that only XEP-0066 tells of. Its kind is guessed from its name.
func outOfBand(s *stanza.Stanza) (*Attachment, Kind) {
	x := s.Child(payload.NSOOB, "x")
	if x == nil {
		return nil, Text
	}
	link := x.ChildText(payload.NSOOB, "url")
	if !ValidURL(link, "http", "https") {
		return nil, Text
	}
	a := Attachment{URL: link}
	if u, err := url.Parse(link); err == nil {
		a.Name = baseName(u.Path)
		a.Type = mediaTypes[strings.ToLower(strings.TrimPrefix(path.Ext(a.Name), "."))]
	}
	return &a, kindOf(a.Type)
}

func parseGeolocation(e *stanza.Element) *Geolocation {
	lat, ok1 := coordinate(e.ChildText(payload.NSGeoloc, "lat"))
	lon, ok2 := coordinate(e.ChildText(payload.NSGeoloc, "lon"))
	location := Geolocation{Latitude: lat, Longitude: lon, Name: e.ChildText(payload.NSGeoloc, "description"),
		Address: e.ChildText(payload.NSGeoloc, "text")}
	var k checker
	if k.geolocation(&location, ""); !ok1 || !ok2 || k.err != nil {
		return nil
	}
	return &location
}

// coordinate reads an xs:decimal, and what has an exponent besides.
func coordinate(s string) (float64, bool) {
	if strings.Trim(s, "+-.0123456789eE") != "" {
		return 0, false // ParseFloat takes more
	}
	f, err := strconv.ParseFloat(s, 64)
	return f + 0, err == nil
}

func parseForwarded(e *stanza.Element, depth int) *Forwarded {
	message, received := payload.Forwarded(e)
	if message == nil || depth+1 > MaxForwards || message.From.IsZero() {
		return nil
	}
	f := Forwarded{From: message.From.String(), ID: validID(message.ID), Content: spoken(message, depth+1)}
	if id := identified(message, payload.NSStanzaID, "origin-id"); id != "" {
		f.ID = id
	}
	if year := received.UTC().Year(); year >= 1970 && year <= 9999 {
		f.Time = Time{received.UTC().Truncate(time.Millisecond)}
	}
	var k checker
	if k.forwarded(&f, "", depth); k.err != nil {
		return nil
	}
	return &f
}
