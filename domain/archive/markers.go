package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// prepareMarkers makes changes of markers from what a message says about how far its sender has come. Who sends a
// marker has got the message that it names, so that is stored; a marker that names none, or is about a thread, moves
// nothing, and is told to those who are there.
func (a *Archive) prepareMarkers(ctx context.Context, next *entry, meaning *payload.Meaning, author,
	other store.Party) error {
	e := next.envelope
	if e.Stanza.Child(stanza.NSClient, "thread") != nil {
		return nil
	}
	next.tells = slices.ContainsFunc(e.Stanza.Payload, func(e stanza.Element) bool { return payload.Passing(&e) })
	read := store.MarkRead
	if meaning.Read != "" || meaning.ReadNumber != 0 {
		hidden, err := a.preferences.hidesReads(ctx, author.Account)
		if err != nil {
			return err
		}
		if hidden {
			read = store.MarkReadPrivate
		}
	}
	conversation := store.ConversationID(e.Target.Conversation)
	for _, named := range [...]struct {
		kind   store.MarkerKind
		id     string
		number uint64
	}{{store.MarkDelivered, meaning.Delivered, meaning.DeliveredNumber}, {read, meaning.Read, meaning.ReadNumber}} {
		through, err := named.number, error(nil)
		if through != 0 {
			through, err = a.clamp(ctx, e, named.kind, through, author, other)
		} else {
			through, err = a.numberOf(ctx, conversation, other, named.id)
		}
		if err != nil {
			return err
		}
		if through == 0 {
			next.tells = next.tells || named.id != ""
			continue
		}
		change := &store.Append{}
		change.Conversation, change.Author = conversation, author
		change.Marker = &store.Marker{Account: author.Account, Kind: named.kind, Through: through}
		next.markers = append(next.markers, change)
	}
	next.receipt = meaning.DeliveredNumber == 0 && e.Stanza.Child(payload.NSReceipts, "received") != nil
	return nil
}

// hideRead keeps from others how far the author has read, when the author has chosen so: they get what is left without
// it, if that says anything. It looks for the elements and not for what they name: one that names nothing tells that
// somebody reads, too.
func (a *Archive) hideRead(ctx context.Context, e *router.Envelope, author, other store.Party) error {
	isRead := func(e *stanza.Element) bool { return payload.Of(e).Relation == payload.Read }
	found, says := false, false
	for i := range e.Stanza.Payload {
		el := &e.Stanza.Payload[i]
		switch row := payload.Of(el); {
		case row.Relation == payload.Read:
			found = true
		case row.Storage == payload.Offline, row.Storage == payload.Archived, payload.Passing(el):
			says = true
		}
	}
	if !found || other.Is(author) {
		return nil
	}
	if hidden, err := a.preferences.hidesReads(ctx, author.Account); err != nil || !hidden {
		return err
	}
	if !says {
		e.Target.Own = true
		return nil
	}
	e.Whole, e.Stanza = e.Stanza, e.Stanza.Copy()
	e.Stanza.Remove(isRead)
	return nil
}

// clamp returns the number that a marker names, or that of the last message when it is beyond, 0 when there is none.
// The stanza then says that number, and beside it, for clients that know no numbers, the id of the message, or of each
// message that asks for a receipt and that the marker passes now, the newest first (XEP-0184 §5). A marker that moves
// nothing looks for no ids.
func (a *Archive) clamp(
	ctx context.Context, e *router.Envelope, kind store.MarkerKind, through uint64, author, other store.Party,
) (uint64, error) {
	in := store.ConversationID(e.Target.Conversation)
	n := names{Archive: a, conversation: in, author: other, limit: 1, exact: true}
	var err error
	if n.told, err = a.reached(ctx, markerOf{in, author.Account, kind}); err != nil {
		return 0, err
	}
	if through <= n.told {
		return through, nil
	}
	relation := payload.Read
	if kind == store.MarkDelivered {
		relation = payload.Delivered
		n.asked, n.limit = true, maxReceipts
	}
	ids, err := n.find(ctx, through)
	if err == nil && n.beyond {
		n.exact = false
		var last uint64
		if last, err = a.end(ctx, in); err == nil {
			through = min(through, last)
			ids, err = n.find(ctx, through)
		}
	}
	if err != nil || through == 0 {
		return 0, err
	}
	s := e.Stanza.Copy()
	s.Payload = make([]stanza.Element, 0, len(e.Stanza.Payload)+1)
	for _, child := range e.Stanza.Payload {
		if child.Space == payload.NSMarker && payload.Of(&child).Relation == relation {
			child = stanza.New(payload.NSMarker, child.Local, "number", strconv.FormatUint(through, 10))
			for _, id := range ids {
				s.Payload = append(s.Payload, namedBy(kind, id))
			}
			ids = nil
		}
		s.Payload = append(s.Payload, child)
	}
	e.Stanza = s
	return through, nil
}

// end returns the number of a conversation's last message.
func (a *Archive) end(ctx context.Context, in store.ConversationID) (uint64, error) {
	opened, err := a.log.ConversationByID(ctx, in)
	if err != nil {
		return 0, fmt.Errorf("find the end of a conversation: %w", err)
	}
	return opened.Last, nil
}

// markerOf names a marker.
type markerOf struct {
	conversation store.ConversationID
	account      store.AccountID
	kind         store.MarkerKind
}

// maxMarkersKnown bounds the markers of which it is held how far they have come at least, some 80 bytes each.
const maxMarkersKnown = 1 << 16

// reached returns how far a marker has come, or had come when it was last moved from here. It reads the log when it was
// not moved lately.
func (a *Archive) reached(ctx context.Context, m markerOf) (uint64, error) {
	return a.markers.Load(ctx, m, func(ctx context.Context) (uint64, time.Duration, error) {
		all, _, err := a.log.Markers(ctx, m.conversation, m.account, 1)
		if err != nil {
			return 0, 0, fmt.Errorf("look how far a marker has come: %w", err)
		}
		for i := range all {
			if all[i].Account == m.account && all[i].Kind == m.kind {
				return all[i].Through, cache.Forever, nil
			}
		}
		return 0, cache.Forever, nil
	})
}

// noteMarkers remembers how far the markers of an entry that is stored have come. A marker never goes back, so what is
// remembered is never too much.
func (a *Archive) noteMarkers(next *entry) {
	for _, m := range next.markers {
		if m.Stale {
			continue
		}
		a.markers.Set(markerOf{m.Conversation, m.Marker.Account, m.Marker.Kind}, m.Marker.Through, cache.Forever)
	}
}

// namedBy is a marker that names a message by its id, as XMPP clients say it.
func namedBy(kind store.MarkerKind, id string) stanza.Element {
	if kind == store.MarkDelivered {
		return stanza.New(payload.NSReceipts, "received", "id", id)
	}
	return stanza.New(payload.NSMarkers, "displayed", "id", id)
}

// numberOf returns the number of the newest message of an author in a conversation that has the id, by whichever of its
// ids; 0 for none.
func (a *Archive) numberOf(ctx context.Context, conversation store.ConversationID, author store.Party,
	id string) (uint64, error) {
	if id == "" {
		return 0, nil
	}
	seq, _, err := a.log.Named(ctx, conversation, author, originKey(id))
	if !errors.Is(err, store.ErrNotFound) {
		if err != nil {
			return 0, fmt.Errorf("look for a message by its id: %w", err)
		}
		return seq, nil
	}
	m, err := a.byStanzaID(ctx, id)
	if m == nil || m.Conversation != conversation || !m.Author.Is(author) {
		return 0, err
	}
	return m.Seq, nil
}

// byStanzaID returns the message of a stanza-id, nil when it is none or its message cannot be read.
func (a *Archive) byStanzaID(ctx context.Context, text string) (*store.Message, error) {
	id, ok := a.ParseStanzaID(text)
	if !ok {
		return nil, nil
	}
	return a.message(ctx, store.MessageID(id))
}

// message returns a message that another one refers to, nil when it is not there or cannot be read.
func (a *Archive) message(ctx context.Context, id store.MessageID) (*store.Message, error) {
	m, err := a.log.Message(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case errors.Is(err, store.ErrDamaged):
		a.unreadable(&store.Message{ID: id}, err)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read a message that another one refers to: %w", err)
	}
	return &m, nil
}

// identify fills in what an entry's markers are in the log: the last one for its author, and for the other party
// those that it may see. One that was merged has the identity of a later one of its batch, which is not given out
// twice: those who are there are told of it without one. It reports whether any moved, for the author and for the other
// party.
func (e *entry) identify() (moved, shown bool) {
	receipt, target := &e.envelope.Receipt, &e.envelope.Target
	own := target.Account != 0 && target.Account == e.envelope.Origin.Account
	for _, m := range e.markers {
		if m.Stale {
			continue
		}
		visible := own || m.Marker.Kind != store.MarkReadPrivate
		moved, shown = true, shown || visible
		if m.Merged {
			continue
		}
		receipt.ID, receipt.Time = uint64(m.ID), m.ID.Time()
		if visible {
			target.Add(uint64(m.ID))
		}
	}
	return moved, shown
}
