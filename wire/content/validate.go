package content

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// What may be said at most. Lengths are in bytes.
const (
	MaxText      = 64 << 10
	MaxData      = 32 << 10 // of custom content
	MaxURL       = 2048
	MaxName      = 255 // names, titles, types, languages
	MaxID        = 1023
	MaxMentions  = 64
	MaxReactions = 16
	MaxReaction  = 64
	MaxForwards  = 3 // messages inside each other
	// MaxMessage bounds all that is built, in XML, so that it fits into a stanza of the usual limits.
	MaxMessage = 192 << 10
	maxNumber  = 1<<53 - 1
)

// Error says which field of a content is wrong and why.
type Error struct {
	Field  string // its path in JSON: "attachment.url"
	Reason string // for people
}

func (e *Error) Error() string { return "content: " + e.Field + " " + e.Reason }

// checker finds the first thing that is wrong.
type checker struct{ err *Error }

func (k *checker) fail(field, reason string) {
	if k.err == nil {
		k.err = &Error{Field: field, Reason: reason}
	}
}

func (k *checker) require(ok bool, field, reason string) {
	if !ok {
		k.fail(field, reason)
	}
}

// Validate reports why Build would refuse c, as an *Error, or nil.
func (c *Content) Validate() error {
	_, err := Build(*c)
	return err
}

// validate reports what is wrong with c, its size aside.
func (c *Content) validate() error {
	var k checker
	switch c.Kind {
	case Retracted, Other:
		k.fail("kind", "is not one that is sent")
	default:
		k.content(c, "", 0)
	}
	if k.err != nil {
		return k.err
	}
	return nil
}

// size is about how many bytes of XML an element takes.
func size(e *stanza.Element) int {
	n := 2*len(e.Local) + len(e.Space) + 16
	for i := range e.Attrs {
		n += len(e.Attrs[i].Local) + escaped(e.Attrs[i].Value) + 4
	}
	for i := range e.Nodes {
		if c := e.Nodes[i].Element; c != nil {
			n += size(c)
		}
		n += escaped(e.Nodes[i].Text)
	}
	return n
}

// escaped is how long a text is in XML, at most.
func escaped(s string) int {
	return len(s) + 5*(strings.Count(s, "&")+strings.Count(s, "<")+strings.Count(s, ">")+strings.Count(s, "'")+
		strings.Count(s, "\r"))
}

// content checks c, of which the fields are at the given path, inside so many other messages.
func (k *checker) content(c *Content, at string, depth int) {
	kind := c.Kind
	if kind == Edit {
		if kind = c.Becomes; kind == "" {
			kind = Text
		}
		k.require(speaks(kind), at+"becomes", "is no kind that a message can become")
	} else {
		k.require(c.Becomes == "", at+"becomes", "belongs to an edit")
	}
	k.fields(c, kind, at)
	k.line(c.Language, at+"language", MaxName)
	k.text(c.Text, at+"text", MaxText)
	switch kind {
	case Text, Code, Notice:
		k.require(c.Text != "", at+"text", "is missing")
	case Image, Voice, Video, File:
		k.attachment(c.Attachment, kind, at+"attachment.")
	case Location:
		k.geolocation(c.Location, at+"location.")
	case Card:
		k.card(c.Card, at+"card.")
	case Forward:
		k.forwarded(c.Forwarded, at+"forwarded.", depth)
	case Custom:
		k.custom(c.Custom, at+"custom.")
	case Reaction:
		k.reactions(c.Reactions, at+"reactions")
	case Retract, Delivered, Read, Typing:
	default:
		k.fail(at+"kind", "is not known")
	}
	switch c.Kind {
	case Edit, Retract, Reaction, Delivered, Read:
		k.id(c.Target, at+"target")
	}
	k.mentions(c, at+"mentions")
	if r := c.ReplyTo; r != nil {
		k.id(r.ID, at+"reply_to.id")
		k.require(r.To == "" || validJID(r.To), at+"reply_to.to", "is no address")
	}
}

// fields asks that nothing is there that the kind does not have.
func (k *checker) fields(c *Content, kind Kind, at string) {
	about := c.Kind == Edit || kind == Retract || kind == Reaction || kind == Delivered || kind == Read
	for _, f := range [...]struct {
		name       string
		there, may bool
	}{
		{"text", c.Text != "", speaks(kind)},
		{"attachment", c.Attachment != nil, kind == Image || kind == File || kind == Voice || kind == Video},
		{"location", c.Location != nil, kind == Location},
		{"language", c.Language != "", kind == Code},
		{"card", c.Card != nil, kind == Card},
		{"forwarded", c.Forwarded != nil, kind == Forward},
		{"custom", c.Custom != nil, kind == Custom},
		{"reply_to", c.ReplyTo != nil, speaks(kind)},
		{"mentions", len(c.Mentions) > 0, speaks(kind) && kind != Code},
		{"target", c.Target != "", about},
		{"reactions", len(c.Reactions) > 0, kind == Reaction},
		{"composing", c.Composing, kind == Typing},
	} {
		k.require(!f.there || f.may, at+f.name, "does not belong to this kind")
	}
}

func (k *checker) text(s, field string, most int) {
	k.require(len(s) <= most, field, "is too long")
	k.require(stanza.ValidText(s), field, "has a character that XML cannot carry")
}

// line checks a text that has no line breaks and other controls.
func (k *checker) line(s, field string, most int) {
	k.text(s, field, most)
	k.require(strings.IndexFunc(s, unicode.IsControl) < 0, field, "has a control character")
}

func (k *checker) id(s, field string) {
	k.require(s != "", field, "is missing")
	k.text(s, field, MaxID)
}

func (k *checker) url(s, field string, schemes ...string) {
	k.require(ValidURL(s, schemes...), field, "is no URL of a kind that is allowed here")
}

// ValidURL reports whether s is an absolute URL of one of the schemes, and no longer than MaxURL. A URL of http or
// https must have a host, and no user in front of it.
func ValidURL(s string, schemes ...string) bool {
	if len(s) > MaxURL || !stanza.ValidText(s) || strings.ContainsFunc(s, notInURL) {
		return false
	}
	u, err := url.Parse(s)
	if err != nil || !slices.Contains(schemes, u.Scheme) {
		return false
	}
	return u.Scheme != "http" && u.Scheme != "https" || u.Host != "" && u.User == nil
}

func notInURL(r rune) bool {
	return unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune(`<>"\`, r)
}

func (k *checker) attachment(a *Attachment, kind Kind, at string) {
	if a == nil {
		k.fail(strings.TrimSuffix(at, "."), "is missing")
		return
	}
	k.url(a.URL, at+"url", "http", "https")
	k.require(a.Name == "" || validFileName(a.Name), at+"name", "is no name of a file")
	k.require(a.Type == "" || validMediaType(a.Type), at+"type", "is no media type")
	if kind != File {
		k.require(kindOf(a.Type) == kind, at+"type", "is no media type of that kind")
	}
	k.require(a.Size <= maxNumber, at+"size", "is too large")
	k.require(a.Duration <= maxNumber, at+"duration", "is too large")
	k.require(a.SHA256 == "" || validHash(a.SHA256), at+"sha256", "is no SHA-256 in base64")
}

// validFileName reports whether s can be the name of a file and says nothing of a folder (XEP-0446 §4).
func validFileName(s string) bool {
	return s != "." && s != ".." && len(s) <= MaxName && stanza.ValidText(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r == '/' || r == '\\' || unicode.IsControl(r) })
}

// validMediaType reports whether s is type/subtype of RFC 6838 §4.2, in lower case and without parameters.
func validMediaType(s string) bool {
	major, minor, ok := strings.Cut(s, "/")
	return ok && len(s) <= MaxName && restrictedName(major) && restrictedName(minor)
}

func restrictedName(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$&-^_.+", r)
	}) < 0
}

func validHash(s string) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == 32 && len(s) == base64.StdEncoding.EncodedLen(32)
}

func (k *checker) geolocation(p *Geolocation, at string) {
	if p == nil {
		k.fail(strings.TrimSuffix(at, "."), "is missing")
		return
	}
	k.require(p.Latitude >= -90 && p.Latitude <= 90, at+"latitude", "is not between -90 and 90")
	k.require(p.Longitude >= -180 && p.Longitude <= 180, at+"longitude", "is not between -180 and 180")
	k.line(p.Name, at+"name", MaxName)
	k.text(p.Address, at+"address", MaxURL)
}

func (k *checker) card(c *CardBody, at string) {
	if c == nil {
		k.fail(strings.TrimSuffix(at, "."), "is missing")
		return
	}
	k.require(c.Title != "", at+"title", "is missing")
	k.line(c.Title, at+"title", MaxName)
	k.text(c.Text, at+"text", MaxText)
	if c.URL != "" {
		k.url(c.URL, at+"url", "http", "https", "geo")
	}
	if c.Image != "" {
		k.url(c.Image, at+"image", "http", "https")
	}
}

func (k *checker) custom(c *CustomBody, at string) {
	if c == nil {
		k.fail(strings.TrimSuffix(at, "."), "is missing")
		return
	}
	k.require(c.Type != "", at+"type", "is missing")
	k.line(c.Type, at+"type", MaxName)
	k.text(c.Data, at+"data", MaxData)
	k.require(json.Valid([]byte(c.Data)), at+"data", "is no JSON")
}

func (k *checker) forwarded(f *Forwarded, at string, depth int) {
	switch {
	case f == nil:
		k.fail(strings.TrimSuffix(at, "."), "is missing")
	case depth+1 > MaxForwards:
		k.fail(strings.TrimSuffix(at, "."), "is too deep")
	case !speaks(f.Kind):
		k.fail(at+"kind", "is not one that is forwarded")
	default:
		k.require(validJID(f.From), at+"from", "is no address")
		k.text(f.ID, at+"id", MaxID)
		k.require(f.Time.IsZero() || f.Time.UTC().Year() >= 1970 && f.Time.UTC().Year() <= 9999, at+"time",
			"is out of range")
		k.content(&f.Content, at, depth+1)
	}
}

func validJID(s string) bool {
	_, err := jid.Parse(s)
	return err == nil
}

func (k *checker) mentions(c *Content, field string) {
	k.require(len(c.Mentions) <= MaxMentions, field, "are too many")
	if k.err != nil || len(c.Mentions) == 0 {
		return
	}
	n := utf8.RuneCountInString(c.Text)
	for _, m := range c.Mentions {
		j, err := jid.Parse(m.JID)
		k.require(err == nil && j.IsBare(), field, "have one of what is no bare address")
		k.require(m.Begin >= 0 && m.Begin < m.End && m.End <= n, field, "have one that is not within the text")
	}
}

func (k *checker) reactions(list []string, field string) {
	k.require(len(list) <= MaxReactions, field, "are too many")
	if k.err != nil {
		return
	}
	for i, r := range list {
		k.require(r != "", field, "have an empty one")
		k.line(r, field, MaxReaction)
		k.require(!slices.Contains(list[:i], r), field, "have one twice")
	}
}
