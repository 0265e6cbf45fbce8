package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

const (
	// filterChunk is how many messages are read at once to be filtered here rather than in the store.
	filterChunk = 250
	// filterReach is how many messages one query may read to find those that match, and filterBytes is about how much
	// text.
	filterReach = 2000
	filterBytes = 1 << 20
	// messagesPerToken is how many messages read cost as much as one query, and bytesPerMessage how much text costs as
	// much as a message.
	messagesPerToken = 100
	bytesPerMessage  = 1 << 10
)

// page is one page of history.
type page struct {
	items []item
	// first and last bound what the page is about, 0 when nothing was read: the items themselves, or, when none
	// of what was read matched, what was read. They are where the next page begins, so that a page on which nothing
	// matches is never taken for the end.
	first, last store.MessageID
	// complete: there is nothing more in the direction of the query.
	complete bool
	// read counts the messages read from the store, and bytes the length of their stanzas.
	read, bytes int
}

// cost is what the page costs of the budget, in messages.
func (p *page) cost() int { return max(p.read, p.bytes/bytesPerMessage) }

// item is a message with its stanza, nil when it cannot be read back.
type item struct {
	message *store.Message
	stanza  *stanza.Stanza
}

// answerQuery sends the matching messages to the requester and then returns the end of the results (XEP-0313 §4).
func (a *Archive) answerQuery(ctx context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
	owner := store.AccountID(r.Account)
	if !a.Allow(r.Account) {
		a.metrics.queries.WithLabelValues("too_many").Inc()
		return nil, tooMany
	}
	q, refusal := parseQuery(r.Payload(), a.ParseStanzaID)
	if refusal != nil {
		a.metrics.queries.WithLabelValues("refused").Inc()
		return nil, refusal
	}
	p, err := a.page(ctx, owner, r.From.Bare(), &q)
	a.Spend(r.Account, p.cost()+len(q.named))
	a.metrics.queryMessages.Add(float64(p.read))
	switch {
	case errors.Is(err, store.ErrNotFound):
		a.metrics.queries.WithLabelValues("refused").Inc()
		return nil, unknownID
	case err != nil:
		a.metrics.queries.WithLabelValues("failed").Inc()
		return nil, a.failed("answer a history query", r.Account, err)
	}
	a.metrics.queries.WithLabelValues("ok").Inc()
	a.send(r, &q, &p)
	return []stanza.Element{a.fin(&p)}, nil
}

// page finds the page that a query asks for. store.ErrNotFound means that it names a message that is not in the
// archive.
func (a *Archive) page(ctx context.Context, owner store.AccountID, self jid.JID, q *query) (p page, err error) {
	for _, id := range q.named {
		if err := a.known(ctx, owner, id, slices.Contains(q.ids, id)); err != nil {
			return p, err
		}
	}
	with, err := a.filter(ctx, owner, self, q.with)
	if err != nil {
		return p, err
	}
	switch {
	case q.empty || with.nothing:
		p.complete = true
	case q.ids != nil:
		err = a.listed(ctx, owner, q, with, &p)
	default:
		err = a.scan(ctx, owner, q, with, &p)
	}
	if q.limit == 0 { // XEP-0059 §2.6: nobody asked for a position in the archive
		p.first, p.last = 0, 0
	}
	if err == nil && q.backward {
		slices.Reverse(p.items)
		p.first, p.last = p.last, p.first
	}
	return p, err
}

// known returns store.ErrNotFound for an identity that a query may not name: of a message that the owner does not see,
// and one that was never given out. That of a marker is a position, also when the marker was changed since. Listed ones
// must be there, as results.
func (a *Archive) known(ctx context.Context, owner store.AccountID, id store.MessageID, listed bool) error {
	seen, err := a.log.InHistory(ctx, owner, id)
	if err != nil || seen {
		return err
	}
	if listed {
		found, _, err := a.log.History(ctx,
			store.HistoryQuery{Owner: owner, Kind: store.Direct, After: id - 1, Before: id + 1, Limit: 1,
				Markers: true})
		if err == nil && len(found) == 0 {
			err = store.ErrNotFound
		}
		return err
	}
	if _, err = a.log.Message(ctx, id); err == nil {
		return store.ErrNotFound // somebody else's
	}
	if !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("look for a message: %w", err)
	}
	last, err := a.log.Last(ctx)
	if err == nil && id > last {
		err = store.ErrNotFound
	}
	return err
}

// filter is what the with field comes to (XEP-0313 §4.1.1).
type filter struct {
	// conversation limits the search in the store; 0 does not.
	conversation store.ConversationID
	// nothing: there is no such conversation.
	nothing bool
	// full, when it is not zero, must be in to or from.
	full jid.JID
}

func (a *Archive) filter(ctx context.Context, owner store.AccountID, self, with jid.JID) (f filter, err error) {
	if with.IsZero() {
		return f, nil
	}
	if with.IsFull() {
		f.full = with
	}
	other := store.Party{JID: with.Bare()}
	switch {
	case other.JID == self && with.IsFull():
		return f, nil // what one of the owner's own devices sent or got: that is in every conversation
	case other.JID == self:
		other.Account = owner
	case other.JID.Domain() == a.domain.Domain() && other.JID.Local() != "":
		if other.Account, _, err = a.directory.Lookup(ctx, other.JID.Local()); err != nil {
			return f, fmt.Errorf("look for an account: %w", err)
		}
	}
	opened, err := a.log.FindConversation(ctx, store.DirectKey(store.Party{JID: self, Account: owner}, other))
	if f.nothing = errors.Is(err, store.ErrNotFound); f.nothing {
		return f, nil
	}
	f.conversation = opened.ID
	return f, err
}

// mayMatch reports whether a message is worth reading: whether a full address that is looked for is in its text.
func (f *filter) mayMatch(m *store.Message) bool {
	text := f.full.String()
	return text == "" || strings.ContainsAny(text, `&<>'"`) || bytes.Contains(m.Stanza, []byte(text))
}

// matches reports what the store cannot tell: whether the full address is in to or from.
func (f *filter) matches(it *item) bool {
	if it.stanza == nil {
		return f.full.IsZero()
	}
	return f.full.IsZero() || it.stanza.From == f.full || it.stanza.To == f.full
}

// scan reads a page from a range of the archive. Items are in the order of reading.
func (a *Archive) scan(ctx context.Context, owner store.AccountID, q *query, with filter, p *page) error {
	h := store.HistoryQuery{Owner: owner, Conversation: with.conversation, Kind: store.Direct, After: q.after,
		Before: q.before, Backward: q.backward, Limit: max(1, q.limit), Bytes: a.config.PageBytes,
		Markers: with.full.IsZero()}
	if !with.full.IsZero() {
		h.Limit = filterChunk
	}
	size := 0
	for {
		found, more, err := a.log.History(ctx, h)
		found, err = salvage(found, err, a.unreadable)
		if err != nil {
			return fmt.Errorf("read history: %w", err)
		}
		p.read += len(found)
		if h.Backward {
			slices.Reverse(found)
		}
		for i := range found {
			p.bytes += len(found[i].Stanza)
		}
		for i := range found {
			if !with.mayMatch(&found[i]) {
				p.reach(found[i].ID)
				continue
			}
			it, read, err := a.resultOf(ctx, &found[i])
			if err != nil {
				return err
			}
			p.read += read
			if with.matches(&it) {
				size += it.size()
				if len(p.items) >= q.limit || size > a.config.PageBytes && len(p.items) > 0 {
					return nil
				}
				p.add(it)
			} else {
				p.reach(found[i].ID)
			}
		}
		switch {
		case !more:
			p.complete = true
			return nil
		case len(p.items) >= q.limit || p.read >= filterReach || p.bytes >= filterBytes || len(found) == 0:
			return nil
		}
		if last := found[len(found)-1].ID; h.Backward {
			h.Before = last
		} else {
			h.After = last
		}
	}
}

// listed reads the messages of the ids field that are within the other bounds.
func (a *Archive) listed(ctx context.Context, owner store.AccountID, q *query, with filter, p *page) error {
	ids := slices.Clone(q.ids)
	if q.backward {
		slices.Reverse(ids)
	}
	size := 0
	for _, id := range ids {
		if id <= q.after || q.before != 0 && id >= q.before {
			continue
		}
		found, _, err := a.log.History(ctx, store.HistoryQuery{
			Owner: owner, Conversation: with.conversation, Kind: store.Direct, After: id - 1, Before: id + 1, Limit: 1,
			Markers: true,
		})
		found, err = salvage(found, err, a.unreadable)
		if err != nil {
			return fmt.Errorf("read a message: %w", err)
		}
		if p.read++; len(found) == 0 {
			continue // of another conversation, or a marker that was changed since
		}
		if p.bytes += len(found[0].Stanza); p.bytes > filterBytes && p.first != 0 {
			return nil
		}
		if !with.mayMatch(&found[0]) {
			p.reach(id)
			continue
		}
		it, read, err := a.resultOf(ctx, &found[0])
		if err != nil {
			return err
		}
		if p.read += read; !with.matches(&it) {
			p.reach(id)
			continue
		}
		size += it.size()
		if len(p.items) >= q.limit || size > a.config.PageBytes && len(p.items) > 0 {
			return nil
		}
		p.add(it)
	}
	p.complete = true
	return nil
}

// resultOf is item for a message or a marker. read is how many messages were read for a marker.
func (a *Archive) resultOf(ctx context.Context, m *store.Message) (it item, read int, err error) {
	if m.Marker == nil {
		return a.item(m), 0, nil
	}
	s, read, err := a.markerStanza(ctx, m)
	return item{m, s}, read, err
}

// size is what the item counts for in the bound of a page.
func (it *item) size() int {
	if it.message.Marker != nil {
		return it.stanza.Size()
	}
	return len(it.message.Stanza)
}

func (a *Archive) item(m *store.Message) item {
	if m.Stanza == nil {
		return item{m, nil}
	}
	s, err := xmlstream.Unmarshal(m.Stanza)
	if err != nil {
		a.unreadable(m, err)
		s = nil
	}
	return item{m, s}
}

// add puts an item on the page; the page's bounds are its items' from the first one on.
func (p *page) add(it item) {
	if len(p.items) == 0 {
		p.first = it.message.ID
	}
	p.items = append(p.items, it)
	p.last = it.message.ID
}

// reach says that a message was read and did not match.
func (p *page) reach(id store.MessageID) {
	if len(p.items) > 0 {
		return
	}
	if p.first == 0 {
		p.first = id
	}
	p.last = id
}

// send sends the page as messages to the requester, before the IQ result, which goes the same way (XEP-0313 §4.2).
func (a *Archive) send(r *service.Request, q *query, p *page) {
	owner := r.From.Bare()
	for i := range p.items {
		it := &p.items[i]
		if q.flip { // §4.3.3: only the order of sending
			it = &p.items[len(p.items)-1-i]
		}
		id := a.StanzaID(uint64(it.message.ID))
		result := stanza.New(nsMAM, "result", "id", id)
		if q.queryID != "" {
			result.Attrs = append(result.Attrs, stanza.Attr{Local: "queryid", Value: q.queryID})
		}
		forwarded := a.forwarded(it, owner) // §3.2: without a stanza it stands for a message that is gone
		// Client libraries look at from before they believe a result (§8.2).
		s := &stanza.Stanza{Kind: stanza.Message, From: owner, To: r.From,
			Payload: []stanza.Element{result.With(forwarded)}}
		if !a.config.Reply(r.Account, r.From, &stream.Packet{Stanza: s, Role: stream.History}) {
			return
		}
	}
}

// Forwarded returns a stored message as it is shown to one of its parties: with the time of its acceptance, its
// identity in the owner's archive and its number (XEP-0297). ok is false when it cannot be read back, which is logged.
func (a *Archive) Forwarded(m *store.Message, owner jid.JID) (e stanza.Element, ok bool) {
	it := a.item(m)
	return a.forwarded(&it, owner), it.stanza != nil
}

func (a *Archive) forwarded(it *item, owner jid.JID) stanza.Element {
	received := it.message.ID.Time()
	if it.stanza == nil {
		return payload.Empty(received)
	}
	p := &stream.Packet{Stanza: it.stanza, ArchiveID: uint64(it.message.ID)}
	a.Stamp(p, owner, it.message.Seq, true)
	return payload.Forward(p.Whole(), received)
}

// fin is the end of the results with the page's bounds (XEP-0313 §4.3, XEP-0059 §2.2). The number of all messages that
// match is left out: it would cost a scan.
func (a *Archive) fin(p *page) stanza.Element {
	set := stanza.New(nsRSM, "set")
	if p.first != 0 {
		set = set.With(
			stanza.New(nsRSM, "first").WithText(a.StanzaID(uint64(p.first))),
			stanza.New(nsRSM, "last").WithText(a.StanzaID(uint64(p.last))))
	}
	fin := stanza.New(nsMAM, "fin")
	if p.complete {
		fin.Attrs = append(fin.Attrs, stanza.Attr{Local: "complete", Value: "true"})
	}
	return fin.With(set)
}
