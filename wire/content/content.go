// Package content defines what a message means: the kind of its content, and the payload elements that represent each
// kind. It is the only mapping between the kinds of the API and the client library and the XMPP extensions that
// represent them. docs/messages.md describes it for users.
//
// Values are pure: no I/O, clocks or goroutines.
package content

import (
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Namespace is that of the elements for which no extension of XMPP exists: code, card, notice and custom. Clients say
// them.
const Namespace = payload.NSContent

// Kind says what a message is.
type Kind string

// The kinds. docs/messages.md has what each consists of.
const (
	Text     Kind = "text"
	Image    Kind = "image"
	File     Kind = "file"
	Voice    Kind = "voice"
	Video    Kind = "video"
	Location Kind = "location"
	Code     Kind = "code"
	Card     Kind = "card"
	Forward  Kind = "forward"
	Notice   Kind = "notice"
	Custom   Kind = "custom"
	// Edit, Retract and Reaction are about another message; Delivered and Read are marks; Typing is a transient signal.
	Edit      Kind = "edit"
	Retract   Kind = "retract"
	Reaction  Kind = "reaction"
	Delivered Kind = "delivered"
	Read      Kind = "read"
	Typing    Kind = "typing"
	// Retracted is what is left of a message that was retracted.
	Retracted Kind = "retracted"
	// Other is a message that has none of these.
	Other Kind = "other"
)

// Content is what a message says. Which fields are set depends on Kind. The JSON form is that of the HTTP API.
type Content struct {
	Kind Kind `json:"kind"`
	// Text is what is said: the code of code, the caption of an attachment. With a custom content it is what a client
	// shows that does not know it. What Build adds to a body for such clients, as the URL of a file, is not part of it.
	Text string `json:"text,omitempty"`
	// Attachment: image, file, voice, video.
	Attachment *Attachment  `json:"attachment,omitempty"`
	Location   *Geolocation `json:"location,omitempty"`
	// Language is the programming language of code.
	Language string    `json:"language,omitempty"`
	Card     *CardBody `json:"card,omitempty"`
	// Forwarded is the message that is passed on.
	Forwarded *Forwarded `json:"forwarded,omitempty"`
	// Custom is an application's own content.
	Custom *CustomBody `json:"custom,omitempty"`
	// ReplyTo and Mentions may go with any kind that has a text.
	ReplyTo  *Reply    `json:"reply_to,omitempty"`
	Mentions []Mention `json:"mentions,omitempty"`
	// Target is the id of the message that an edit, retraction, reaction or mark is about: its client-made id
	// (origin-id, or stanza id). What is left of a retracted message has that of the retraction.
	Target string `json:"target,omitempty"`
	// Becomes is, in an edit, the kind of what takes the place of the target, of which the other fields are; "" stands
	// for Text.
	Becomes Kind `json:"becomes,omitempty"`
	// Reactions are the emoji; none take all back.
	Reactions []string `json:"reactions,omitempty"`
	// Composing: typing began, or ended.
	Composing bool `json:"composing,omitempty"`
}

// Attachment is a file that lies somewhere else (XEP-0447, XEP-0066).
type Attachment struct {
	URL    string `json:"url"`
	Name   string `json:"name,omitempty"`
	Type   string `json:"type,omitempty"` // media type
	Size   uint64 `json:"size,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // base64, as in XEP-0300
	Width  uint32 `json:"width,omitempty"`
	Height uint32 `json:"height,omitempty"`
	// Duration in milliseconds, of voice and video.
	Duration uint64 `json:"duration,omitempty"`
}

// Geolocation is a location on earth (XEP-0080).
type Geolocation struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
	Name      string  `json:"name,omitempty"`
	Address   string  `json:"address,omitempty"`
}

// CardBody is a title, a text and a link.
type CardBody struct {
	Title string `json:"title"`
	Text  string `json:"text,omitempty"`
	URL   string `json:"url,omitempty"`
	Image string `json:"image,omitempty"` // URL
}

// Forwarded is a message of another conversation.
type Forwarded struct {
	From string `json:"from"`
	Time Time   `json:"time,omitzero"`
	ID   string `json:"id,omitempty"`
	Content
}

// CustomBody is content that an application defines.
type CustomBody struct {
	Type string `json:"type"` // such as com.example.order
	Data string `json:"data"` // JSON text
}

// Reply names the message that is answered (XEP-0461).
type Reply struct {
	To string `json:"to,omitempty"` // who said it
	ID string `json:"id"`
}

// Mention is a person that the text speaks of (XEP-0372).
type Mention struct {
	JID string `json:"jid"`
	// Begin is the first code point of Text that is the name, End the one behind the last (XEP-0426).
	Begin int `json:"begin"`
	End   int `json:"end"`
}

// Requests returns what goes with a message of that kind for its readers to mark it as delivered (XEP-0184 §5.1) and as
// read (XEP-0333 §4.1); nothing for those kinds that are not marked.
func Requests(k Kind) []stanza.Element {
	if !speaks(k) && k != Edit {
		return nil
	}
	return []stanza.Element{stanza.New(payload.NSReceipts, "request"), stanza.New(payload.NSMarkers, "markable")}
}

// speaks reports whether a kind is one of those that say something by themselves, so that it may be forwarded, or take
// the place of another one.
func speaks(k Kind) bool {
	switch k {
	case Text, Image, File, Voice, Video, Location, Code, Card, Forward, Notice, Custom:
		return true
	}
	return false
}
