package script

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/wire/stream/pbstream/pb"
)

const nsSync = "urn:posthouse:sync:1"

// rarer is the element of the other kinds.
func (d *dictionary) rarer(p *pb.Payload) (*Element, error) {
	switch k := p.Kind.(type) {
	case *pb.Payload_Caps:
		return capsElement(k.Caps), nil
	case *pb.Payload_Retract:
		return element("urn:xmpp:message-retract:1", "retract", "id", idText(k.Retract)), nil
	case *pb.Payload_Reply:
		n := element("urn:xmpp:reply:0", "reply")
		n.maySet("to", k.Reply.To)
		n.maySet("id", idText(k.Reply))
		return n, nil
	case *pb.Payload_Fallback:
		return d.fallback(k.Fallback)
	case *pb.Payload_Reactions:
		n := element("urn:xmpp:reactions:0", "reactions", "id", idText(k.Reactions))
		for _, r := range k.Reactions.Reactions {
			n.Children = append(n.Children, element(n.Name.Space, "reaction").with(r))
		}
		return n, nil
	case *pb.Payload_Mention:
		m := k.Mention
		return element("urn:xmpp:reference:0", "reference", "type", "mention", "uri", "xmpp:"+m.Address,
			"begin", strconv.FormatUint(uint64(m.Begin), 10), "end", strconv.FormatUint(uint64(m.End), 10)), nil
	case *pb.Payload_Conversation:
		return conversationElement(k.Conversation), nil
	case *pb.Payload_Contacts:
		n := element(nsSync, "roster")
		n.mayBe("all", k.Contacts.All)
		n.Children = itemElements(k.Contacts.Items)
		return n, nil
	case *pb.Payload_Profile:
		n := element("urn:posthouse:profile:1", "profile")
		n.maySet("jid", k.Profile.Jid)
		n.maySet("name", k.Profile.Name)
		n.maySet("title", k.Profile.Title)
		return n, nil
	}
	return nil, fmt.Errorf("a payload of no known kind: %v", p)
}

func capsElement(c *pb.Caps) *Element {
	n := element("http://jabber.org/protocol/caps", "c", "node", c.Node, "hash", "sha-1", "ver", c.GetVer())
	if b := c.GetSha1(); b != nil {
		n.set("", "ver", base64.StdEncoding.EncodeToString(b))
	}
	if c.Hash != "" {
		n.set("", "hash", c.Hash)
	}
	return n
}

func (d *dictionary) fallback(f *pb.Fallback) (*Element, error) {
	n := element("urn:xmpp:fallback:0", "fallback")
	space, err := lookUp(d.spaces, f.For, f.ForName)
	n.maySet("for", space)
	for _, r := range f.Bodies {
		body := element(n.Name.Space, "body")
		mayCount(body, "start", r.Start)
		mayCount(body, "end", r.End)
		n.Children = append(n.Children, body)
	}
	return n, err
}

func (d *dictionary) sync(account string, s *pb.Sync) (*Element, error) {
	n := element(nsSync, "sync")
	if s.Cursor != nil {
		n.set("", "cursor", *s.Cursor)
	}
	mayCount(n, "max", s.Max)
	n.mayBe("more", s.More)
	n.mayBe("first", s.First)
	for _, i := range s.Items {
		c, err := d.payload(nsSync, account, "", i)
		if err != nil {
			return nil, err
		}
		n.Children = append(n.Children, c)
	}
	return n, nil
}

func conversationElement(c *pb.Conversation) *Element {
	n := element(nsSync, "conversation")
	n.maySet("with", c.With)
	mayCount(n, "number", c.Number)
	mayCount(n, "read", c.Read)
	mayCount(n, "delivered", c.Delivered)
	mayCount(n, "peer-read", c.PeerRead)
	mayCount(n, "peer-delivered", c.PeerDelivered)
	mayCount(n, "unread", c.Unread)
	if c.Last != nil {
		n.set("", "last", idText(c.Last))
	}
	switch k := c.MutedUntil.(type) {
	case *pb.Conversation_Millis:
		n.set("", "muted-until", time.UnixMilli(int64(k.Millis)).UTC().Format(millis))
	case *pb.Conversation_Seconds:
		n.set("", "muted-until", time.Unix(int64(k.Seconds), 0).UTC().Format(time.RFC3339))
	case *pb.Conversation_Other:
		n.set("", "muted-until", k.Other)
	}
	n.mayBe("pinned", c.Pinned)
	return n
}
