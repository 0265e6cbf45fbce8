package content

import (
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Build returns the payload that says c: the body first, when there is one. It refuses what Validate does. An
// origin-id, and what Requests returns, are the caller's to add.
func Build(c Content) ([]stanza.Element, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	switch c.Kind {
	case Retract: // XEP-0424 §3
		return []stanza.Element{stanza.New(payload.NSRetract, "retract", "id", c.Target)}, nil
	case Reaction: // XEP-0444 §3
		e := stanza.New(payload.NSReactions, "reactions", "id", c.Target)
		for _, r := range c.Reactions {
			e = e.With(stanza.New(payload.NSReactions, "reaction").WithText(r))
		}
		return []stanza.Element{e}, nil
	case Delivered: // XEP-0184 §5.2
		return []stanza.Element{stanza.New(payload.NSReceipts, "received", "id", c.Target)}, nil
	case Read: // XEP-0333 §4.2
		return []stanza.Element{stanza.New(payload.NSMarkers, "displayed", "id", c.Target)}, nil
	case Typing: // XEP-0085 §5.1
		if c.Composing {
			return []stanza.Element{stanza.New(payload.NSChatStates, "composing")}, nil
		}
		return []stanza.Element{stanza.New(payload.NSChatStates, "paused")}, nil
	}
	out := say(&c)
	all := 0
	for i := range out {
		all += size(&out[i])
	}
	if all > MaxMessage {
		return nil, &Error{Field: "text", Reason: "is too long together with what it goes with"}
	}
	return out, nil
}

// say builds what was validated and says something by itself, or takes the place of another message.
func say(c *Content) []stanza.Element {
	var out []stanza.Element
	body, made, space := bodyOf(c)
	if body != "" {
		out = append(out, stanza.New(stanza.NSClient, "body").WithText(body))
	}
	if c.Kind == Edit { // XEP-0308 §3
		out = append(out, stanza.New(payload.NSCorrect, "replace", "id", c.Target))
	}
	switch c.kind() {
	case Image, File, Voice, Video:
		out = append(out, sharing(c), // XEP-0447 §3.1 recommends the second one
			stanza.New(payload.NSOOB, "x").With(stanza.New(payload.NSOOB, "url").WithText(c.Attachment.URL)))
	case Location:
		out = append(out, geoloc(c.Location))
	case Code:
		e := stanza.New(Namespace, "code")
		if c.Language != "" {
			e = stanza.New(Namespace, "code", "language", c.Language)
		}
		out = append(out, e)
	case Card:
		e := stanza.New(Namespace, "card")
		out = append(out, fields(e, "title", c.Card.Title, "text", c.Card.Text, "url", c.Card.URL, "image",
			c.Card.Image))
	case Forward:
		out = append(out, forwarded(c.Forwarded))
	case Notice:
		out = append(out, stanza.New(Namespace, "notice"))
	case Custom:
		out = append(out, stanza.New(Namespace, "custom", "type", c.Custom.Type).WithText(c.Custom.Data))
	}
	if made {
		out = append(out, fallback(space, c.Text, body))
	}
	if r := c.ReplyTo; r != nil {
		e := stanza.New(payload.NSReply, "reply", "id", r.ID)
		if r.To != "" {
			e = stanza.New(payload.NSReply, "reply", "to", r.To, "id", r.ID)
		}
		out = append(out, e)
	}
	for _, m := range c.Mentions { // XEP-0372 §3.2
		out = append(out, stanza.New(payload.NSReference, "reference", "type", "mention", "begin",
			strconv.Itoa(m.Begin), "end", strconv.Itoa(m.End), "uri", uri(m.JID)))
	}
	return out
}

// kind returns what kind of content there is, be it in an edit.
func (c *Content) kind() Kind {
	switch {
	case c.Kind != Edit:
		return c.Kind
	case c.Becomes == "":
		return Text
	}
	return c.Becomes
}

// bodyOf returns the body: the text, and behind it what is made for clients that do not know the kind, if anything is.
// Those that do leave it away: what it stands for is in that namespace (XEP-0428).
func bodyOf(c *Content) (body string, made bool, space string) {
	switch c.kind() {
	case Image, File, Voice, Video:
		body, space = c.Attachment.URL, payload.NSFileSharing
	case Location:
		body, space = geoURI(c.Location), payload.NSGeoloc
	case Code: // XEP-0393 §5.1.2
		return "```" + c.Language + "\n" + c.Text + "\n```", false, ""
	case Card:
		body, space = c.Card.Title, Namespace
		for _, s := range [...]string{c.Card.Text, c.Card.URL} {
			if s != "" {
				body += "\n" + s
			}
		}
	case Forward:
		quoted, _, _ := bodyOf(&c.Forwarded.Content)
		body, space = "> "+strings.ReplaceAll(quoted, "\n", "\n> "), payload.NSForward
	default:
		return c.Text, false, ""
	}
	if c.Text != "" {
		body = c.Text + "\n" + body
	}
	return body, true, space
}

// fallback says which part of the body was made: what comes behind the text.
func fallback(space, text, body string) stanza.Element {
	e := stanza.New(payload.NSFallback, "fallback", "for", space)
	if text == "" {
		return e
	}
	return e.With(stanza.New(payload.NSFallback, "body",
		"start", strconv.Itoa(utf8.RuneCountInString(text)), "end", strconv.Itoa(utf8.RuneCountInString(body))))
}

// fields adds a child for each pair of a name and a text that is not empty.
func fields(e stanza.Element, pairs ...string) stanza.Element {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			e = e.With(stanza.New(e.Space, pairs[i]).WithText(pairs[i+1]))
		}
	}
	return e
}

func number(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

// sharing returns the element of XEP-0447 §3.1. A file is not to be shown in its place, whatever its type.
func sharing(c *Content) stanza.Element {
	a := c.Attachment
	disposition := "inline"
	if c.kind() == File {
		disposition = "attachment"
	}
	file := fields(stanza.New(nsMetadata, "file"), "media-type", a.Type, "name", a.Name, "size", number(a.Size),
		"width", number(uint64(a.Width)), "height", number(uint64(a.Height)), "length", number(a.Duration), "desc",
		c.Text)
	if a.SHA256 != "" {
		file = file.With(stanza.New(nsHashes, "hash", "algo", "sha-256").WithText(a.SHA256))
	}
	return stanza.New(payload.NSFileSharing, "file-sharing", "disposition", disposition).With(file,
		stanza.New(payload.NSFileSharing, "sources").With(stanza.New(nsURLData, "url-data", "target", a.URL)))
}

func degrees(f float64) string { return strconv.FormatFloat(f+0, 'f', -1, 64) } // +0: no negative zero

// geoURI returns the URI of RFC 5870 §3.3.
func geoURI(p *Geolocation) string { return "geo:" + degrees(p.Latitude) + "," + degrees(p.Longitude) }

func geoloc(p *Geolocation) stanza.Element {
	return fields(stanza.New(payload.NSGeoloc, "geoloc"), "lat", degrees(p.Latitude), "lon", degrees(p.Longitude),
		"description", p.Name, "text", p.Address)
}

// forwarded returns the element of XEP-0297 §3.1.
func forwarded(f *Forwarded) stanza.Element {
	from, _ := jid.Parse(f.From) // was validated
	message := stanza.Stanza{Kind: stanza.Message, From: from, Type: stanza.TypeChat, ID: f.ID,
		Payload: say(&f.Content)}
	return payload.Forward(&message, f.Time.Time)
}

// uri returns the URI of a bare address (RFC 5122 §2.2).
func uri(address string) string {
	j, err := jid.Parse(address)
	if err != nil {
		return "" // was validated
	}
	if j.Local() == "" {
		return "xmpp:" + url.PathEscape(j.Domain())
	}
	return "xmpp:" + url.PathEscape(j.Local()) + "@" + url.PathEscape(j.Domain())
}

// parseURI is the inverse of uri; a query or fragment is left away.
func parseURI(s string) (string, bool) {
	rest, ok := strings.CutPrefix(s, "xmpp:")
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		rest = rest[:i]
	}
	rest, err := url.PathUnescape(rest)
	if !ok || err != nil {
		return "", false
	}
	j, err := jid.Parse(rest)
	return j.Bare().String(), err == nil
}
