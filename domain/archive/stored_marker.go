package archive

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

const (
	// markerReach is how many messages are looked through for one to which a marker gives a name, and markerStep how
	// many are read at once.
	markerReach = 128
	markerStep  = 16
	// maxReceipts is how many receipts are made from one marker, those of the newest messages.
	maxReceipts = 50
)

// markerStanza returns what a current marker is for a client: a message from whose it is that names, for MarkRead, the
// newest message that was read (XEP-0333); and, for MarkDelivered, each message that has asked for a receipt and was
// not told of yet, the newest first (XEP-0184 §5). It has the number, too. It is nil when there is nothing to name.
// read is how many messages were read for it.
func (a *Archive) markerStanza(ctx context.Context, m *store.Message) (s *stanza.Stanza, read int, err error) {
	opened, err := a.log.ConversationByID(ctx, m.Conversation)
	if err != nil {
		return nil, 0, fmt.Errorf("find the conversation of a marker: %w", err)
	}
	other := opened.Key.Other(m.Author)
	n := names{Archive: a, conversation: m.Conversation, author: other, limit: 1}
	if m.Marker.Kind == store.MarkDelivered {
		n.asked, n.limit = true, maxReceipts
		if n.told = m.Marker.Told; n.told >= m.Marker.Through {
			n.told, n.limit = 0, 1 // all were told of; the newest stands for them
		}
	}
	ids, err := n.find(ctx, m.Marker.Through)
	if err != nil {
		return nil, n.read, err
	}
	s = &stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat, From: m.Author.JID, To: other.JID}
	s.Payload = make([]stanza.Element, 0, len(ids)+4)
	name := "read"
	if n.asked {
		name = "delivered"
	}
	for _, id := range ids {
		s.Payload = append(s.Payload, namedBy(m.Marker.Kind, id))
	}
	s.Payload = append(s.Payload, stanza.New(payload.NSMarker, name, "number",
		strconv.FormatUint(m.Marker.Through, 10)))
	return s, n.read, nil
}

// names looks for the ids by which an author knows messages of its own.
type names struct {
	*Archive
	conversation store.ConversationID
	author       store.Party
	asked        bool   // only those that ask for a receipt
	told         uint64 // only later ones
	limit        int
	read         int
	// exact ends the search when there is no message of the number itself, which beyond tells then.
	exact, beyond bool
}

// find returns ids of the newest messages through a number, the newest first.
func (n *names) find(ctx context.Context, through uint64) (ids []string, err error) {
	step := uint64(1) // most markers name the last message
	for end := through; end > n.told && n.read < markerReach && len(ids) < n.limit; step = markerStep {
		first := n.told + 1
		if end-n.told > step {
			first = end - step + 1
		}
		found, err := n.log.Numbered(ctx, n.conversation, first, int(end-first+1))
		if found, err = salvage(found, err, n.unreadable); err != nil {
			return nil, fmt.Errorf("look for what a marker names: %w", err)
		}
		n.read += int(end - first + 1)
		if n.beyond = n.exact && end == through && len(found) == 0; n.beyond {
			return nil, nil
		}
		for i := len(found) - 1; i >= 0 && len(ids) < n.limit; i-- {
			if m := &found[i]; m.Author.Is(n.author) && (!n.asked || asksForReceipt(m)) {
				if id := idOf(m); id != "" {
					ids = append(ids, id)
				}
			}
		}
		end = first - 1
	}
	return ids, nil
}

// asksForReceipt reports whether a stored message asks for a receipt.
func asksForReceipt(m *store.Message) bool {
	if !bytes.Contains(m.Stanza, []byte(payload.NSReceipts)) {
		return false
	}
	s, err := xmlstream.Unmarshal(m.Stanza)
	return err == nil && s.Child(payload.NSReceipts, "request") != nil
}

// idOf returns the id by which its author knows a stored message: that of the stanza, which markers and receipts name,
// or else its origin-id.
func idOf(m *store.Message) string {
	id := m.StanzaID
	if id == "" {
		id = m.OriginID
	}
	if !strings.HasPrefix(id, hashed) {
		return id
	}
	s, err := xmlstream.Unmarshal(m.Stanza) // it is kept as its hash
	if err != nil {
		return ""
	}
	if origin := s.Child(nsStanzaID, "origin-id"); s.ID == "" && origin != nil {
		return origin.Attr("id")
	}
	return s.ID
}

// apart returns a marker's stanza as one for each of its ids: a receipt is a message of its own (XEP-0184). The oldest
// message's comes first, and the last one has the number.
func apart(s *stanza.Stanza) []*stanza.Stanza {
	ids, number := s.Payload[:len(s.Payload)-1], s.Payload[len(s.Payload)-1]
	all := make([]*stanza.Stanza, 0, len(ids)+1)
	for _, e := range slices.Backward(ids) {
		one := *s
		one.Payload = append(make([]stanza.Element, 0, 5), e)
		all = append(all, &one)
	}
	if len(all) == 0 {
		one := *s
		one.Payload = make([]stanza.Element, 0, 5)
		all = append(all, &one)
	}
	last := all[len(all)-1]
	last.Payload = append(last.Payload, number)
	return all
}
