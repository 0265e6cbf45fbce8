package client

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Our own extensions for what an account has, docs/protocol/sync.md.
const (
	nsSync          = "urn:posthouse:sync:1"
	nsConversations = "urn:posthouse:conversations:1"
	nsProfile       = "urn:posthouse:profile:1"
)

// ErrStartOver: what a cursor points at is gone, as after a backup was restored. Sync again without one.
var ErrStartOver = errors.New("the cursor is too old: start over without one")

// Changes is what has changed for the account since a cursor.
type Changes struct {
	// Cursor is where the next Sync goes on. Keep it when everything else on the page was kept, and not before.
	Cursor string
	// More: the next Sync has something at once.
	More bool
	// First: throw away what you hold of conversations, contacts and settings.
	First bool
	// Messages are in the order in which they were stored, which is that of numbers within each conversation. Edits and
	// retractions are among them.
	Messages []Message
	// Conversations are those that the messages belong to, or whose read markers or settings have changed.
	Conversations []Conversation
	// Contacts are new or changed, or, with All, all that there are. Removed are gone.
	Contacts []Contact
	All      bool
	Removed  []jid.JID
	Profiles []Profile
}

// Conversation is the state of a conversation.
type Conversation struct {
	// With is the other party's bare address, one's own for notes to oneself, or that of a room.
	With jid.JID
	// Room: it is between the members of a room.
	Room bool
	// Number and Last are the number and StanzaID of the newest message; 0 and "" when there is none yet.
	Number uint64
	Last   string
	// Through which numbers oneself has received and read, over all devices, and the other party.
	Read, Delivered, PeerRead, PeerDelivered uint64
	// Unread counts what waits to be read; 1000 stands for as many or more.
	Unread uint64
	// MutedUntil is zero when it is not muted.
	MutedUntil time.Time
	Pinned     bool
}

// Profile is what an account shows of itself.
type Profile struct {
	JID         jid.JID
	Name, Title string
}

// Sync returns what has changed since a cursor; "" begins a first sync. Max is how many messages a page has at most, 0
// for what the server thinks good. It is for apps that keep a copy of everything; messages come to Config.Message as
// well.
func (c *Client) Sync(ctx context.Context, cursor string, max int) (Changes, error) {
	e := stanza.New(nsSync, "sync")
	if cursor != "" {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "cursor", Value: cursor})
	}
	if max > 0 {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "max", Value: strconv.Itoa(max)})
	}
	answer, err := c.Request(ctx, stanza.TypeGet, jid.JID{}, e)
	var refused *stanza.Error
	if errors.As(err, &refused) && refused.App != nil && refused.App.Space == nsSync &&
		refused.App.Local == "start-over" {
		return Changes{}, ErrStartOver
	}
	if err != nil {
		return Changes{}, err
	}
	if len(answer) != 1 || answer[0].Space != nsSync {
		return Changes{}, errors.New("the server does not know " + nsSync)
	}
	return c.readChanges(&answer[0]), nil
}

func (c *Client) readChanges(e *stanza.Element) Changes {
	out := Changes{Cursor: e.Attr("cursor"), More: e.Attr("more") == "true", First: e.Attr("first") == "true"}
	for child := range e.Elements {
		switch {
		case child.Space == payload.NSForward && child.Local == "forwarded":
			if m, ok := forwarded(child, c.bare); ok {
				m.Fetched = true
				out.Messages = append(out.Messages, m)
			}
		case child.Space == nsSync && child.Local == "conversation":
			if v, ok := readConversation(child); ok {
				out.Conversations = append(out.Conversations, v)
			}
		case child.Space == nsSync && child.Local == "roster":
			out.All = child.Attr("all") == "true"
			for item := range child.Elements {
				contact, ok := readContact(item)
				switch {
				case !ok:
				case contact.Subscription == "remove":
					out.Removed = append(out.Removed, contact.JID)
				default:
					out.Contacts = append(out.Contacts, contact)
				}
			}
		case child.Space == nsProfile && child.Local == "profile":
			if p, ok := readProfile(child); ok {
				out.Profiles = append(out.Profiles, p)
			}
		}
	}
	return out
}

func readConversation(e *stanza.Element) (v Conversation, ok bool) {
	with, err := jid.Parse(e.Attr("with"))
	if err != nil {
		return v, false
	}
	number := func(name string) uint64 {
		n, err := strconv.ParseUint(e.Attr(name), 10, 63)
		if err != nil {
			return 0
		}
		return n
	}
	v = Conversation{
		With: with, Room: e.Attr("kind") == "room", Number: number("number"), Last: e.Attr("last"),
		Read: number("read"), Delivered: number("delivered"),
		PeerRead: number("peer-read"), PeerDelivered: number("peer-delivered"), Unread: number("unread"),
		Pinned: e.Attr("pinned") == "true",
	}
	if t, err := time.Parse(time.RFC3339, e.Attr("muted-until")); err == nil {
		v.MutedUntil = t
	}
	return v, true
}

func readProfile(e *stanza.Element) (Profile, bool) {
	j, err := jid.Parse(e.Attr("jid"))
	return Profile{JID: j, Name: e.Attr("name"), Title: e.Attr("title")}, err == nil
}

// Conversations lists the account's conversations: those with a message, the newest first, and then those without for
// which something was chosen. Before is the next of the page before, "" for the first page; next is "" on the last
// page.
func (c *Client) Conversations(ctx context.Context, before string) (all []Conversation, next string, err error) {
	e := stanza.New(nsConversations, "conversations")
	if before != "" {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "before", Value: before})
	}
	answer, err := c.Request(ctx, stanza.TypeGet, jid.JID{}, e)
	if err != nil {
		return nil, "", err
	}
	for i := range answer {
		next = answer[i].Attr("next")
		for child := range answer[i].Elements {
			if v, ok := readConversation(child); ok {
				all = append(all, v)
			}
		}
	}
	return all, next, nil
}

// SetConversation mutes or pins a conversation, on all devices. The zero time ends muting.
func (c *Client) SetConversation(ctx context.Context, with jid.JID, mutedUntil time.Time, pinned bool) error {
	e := stanza.New(nsConversations, "settings", "with", with.String(), "pinned", strconv.FormatBool(pinned))
	if !mutedUntil.IsZero() {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "muted-until", Value: stanza.FormatSeconds(mutedUntil)})
	}
	_, err := c.Request(ctx, stanza.TypeSet, jid.JID{}, e)
	return err
}

// Profile returns what an account shows of itself; the zero address stands for one's own.
func (c *Client) Profile(ctx context.Context, of jid.JID) (Profile, error) {
	e := stanza.New(nsProfile, "profile")
	if !of.IsZero() {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "jid", Value: of.String()})
	}
	answer, err := c.Request(ctx, stanza.TypeGet, jid.JID{}, e)
	if err != nil {
		return Profile{}, err
	}
	for i := range answer {
		if p, ok := readProfile(&answer[i]); ok {
			return p, nil
		}
	}
	return Profile{}, errors.New("the server sent no profile")
}

// SetProfile changes what the account shows of itself.
func (c *Client) SetProfile(ctx context.Context, name, title string) error {
	_, err := c.Request(ctx, stanza.TypeSet, jid.JID{}, stanza.New(nsProfile, "profile", "name", name, "title", title))
	return err
}
