package inbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/posthouse-im/posthouse/store"
)

// first begins a first sync. What it tells of is the log as it is now; what comes later is left to the pages that
// follow.
func (v *View) first(ctx context.Context, o Owner, limit, bytes int) (Page, error) {
	p := v.pass(o, cursor{account: o.Account, left: uint64(v.config.Conversations)}, limit, bytes)
	p.page.First = true
	// The versions are read before the data that they describe, so that a change meanwhile is sent again.
	var err error
	if p.next.at, err = v.config.Log.Last(ctx); err != nil {
		return Page{}, fmt.Errorf("first sync: %w", err)
	}
	if _, p.next.settings, err = v.config.Settings.ChangedConversationSettings(ctx, o.Account, newest, 1); err != nil {
		return Page{}, fmt.Errorf("first sync: settings: %w", err)
	}
	if _, p.next.profiles, err = v.config.Profiles.ChangedProfiles(ctx, newest, 1); err != nil {
		return Page{}, fmt.Errorf("first sync: profiles: %w", err)
	}
	if err := p.wholeRoster(ctx); err != nil {
		return Page{}, fmt.Errorf("first sync: roster: %w", err)
	}
	p.due[o.Account] = true
	return p.goOn(ctx)
}

// goOn makes a page of a first sync: the next conversations of the list with their newest messages, as many as there is
// room for.
func (p *pass) goOn(ctx context.Context) (Page, error) {
	for _, step := range []func(context.Context) error{p.recent, p.quiet, p.finish} {
		if err := step(ctx); err != nil {
			return Page{}, fmt.Errorf("first sync: %w", err)
		}
		if p.page.More {
			break
		}
	}
	slices.SortFunc(p.page.Messages, func(a, b store.Message) int { return cmp.Compare(a.ID, b.ID) })
	return p.end(ctx)
}

// conversationThen is a conversation with the newest message that it had when the first sync began.
type conversationThen struct {
	store.Conversation
	at store.MessageID
}

// recent adds conversations with a message, at least one on each page. What was said since the first sync began moves
// none of them, although it stands at the head of the store's list.
func (p *pass) recent(ctx context.Context) error {
	if p.next.quiet != 0 {
		return nil
	}
	var still, moved []conversationThen
	var err error
	for more := true; p.next.left > 0; {
		if len(still) == 0 && more {
			if still, more, err = p.still(ctx); err != nil {
				return err
			}
			// Looked for after the others, so that none that moves meanwhile is in neither.
			if moved, err = p.moved(ctx); err != nil {
				return err
			}
		}
		from := &still
		switch {
		case len(still)+len(moved) == 0:
			p.next.quiet = newest
			return nil
		case len(still) == 0 || len(moved) > 0 && moved[0].at > still[0].at:
			from = &moved
		}
		c := (*from)[0]
		*from = (*from)[1:]
		if p.told[c.ID] {
			continue
		}
		if fits, err := p.addRecent(ctx, c); err != nil || !fits {
			p.page.More = true
			return err
		}
		if p.next.left == 0 && p.next.floor == 0 && (more || len(still)+len(moved) > 0) {
			p.next.floor = c.at
		}
	}
	return nil
}

// addRecent adds a conversation with its newest messages, unless they do not fit.
func (p *pass) addRecent(ctx context.Context, c conversationThen) (fits bool, err error) {
	found, _, err := p.history(ctx, store.HistoryQuery{
		Owner: p.owner.Account, Conversation: c.ID, Before: p.next.at + 1, Backward: true,
		Limit: min(p.config.Messages, p.limit), Bytes: p.bytes,
	})
	slices.Reverse(found)
	found = found[:fitting(found, p.bytes)] // the newest
	size := 0
	for i := range found {
		size += len(found[i].Stanza)
	}
	if err != nil || len(p.told) > 0 && (len(p.page.Messages)+len(found) > p.limit || size > p.bytes) {
		return false, err
	}
	p.bytes = max(1, p.bytes-size)
	p.page.Messages = append(p.page.Messages, found...)
	p.add(c.Conversation, true)
	p.next.left--
	p.next.before = c.at
	return true, nil
}

// still returns the next conversations in which nothing was said since the first sync began. more tells whether there
// are others.
func (p *pass) still(ctx context.Context) (list []conversationThen, more bool, err error) {
	before := p.next.before
	if before == 0 {
		before = p.next.at + 1
	}
	// As many as fit when each has all its messages, or, when they turn out to have fewer, as many again as did fit.
	fit := max(8, (p.limit-len(p.page.Messages))/p.config.Messages, len(p.told))
	page, more, err := p.config.Log.Conversations(ctx, p.owner.Account, before, min(int(p.next.left), fit))
	for i := range page {
		list = append(list, conversationThen{page[i], page[i].Last})
	}
	return list, more, err
}

// maxMoved is how many conversations in which something was said since a first sync began keep their place in it.
const maxMoved = 200

// moved returns the conversations in which something was said since the first sync began and that it has still to tell
// of, in the order of then. When there are too many, the others are told of by what was said.
func (p *pass) moved(ctx context.Context) (list []conversationThen, err error) {
	if news, err := p.news(ctx); err != nil || !news {
		return nil, err
	}
	before := store.MessageID(0)
	for seen, more := 0, true; more; {
		var page []store.Conversation
		if page, more, err = p.config.Log.Conversations(ctx, p.owner.Account, before, 20); err != nil {
			return nil, err
		}
		for i := range page {
			c := conversationThen{Conversation: page[i]}
			if before = c.Last; before <= p.next.at {
				more = false
				break
			}
			if seen++; seen > maxMoved {
				p.next.floor = p.next.at // nobody can know which of the others were told of
				more = false
				break
			}
			if c.at, err = p.lastThen(ctx, c.ID); err != nil {
				return nil, err
			}
			if c.at != 0 && (p.next.before == 0 || c.at < p.next.before) {
				list = append(list, c)
			}
		}
	}
	slices.SortFunc(list, func(a, b conversationThen) int { return cmp.Compare(b.at, a.at) })
	return list, nil
}

// lastThen returns a conversation's newest message of when the first sync began, 0 when it had none.
func (p *pass) lastThen(ctx context.Context, c store.ConversationID) (store.MessageID, error) {
	found, _, err := p.config.Log.History(ctx, store.HistoryQuery{
		Owner: p.owner.Account, Conversation: c, Before: p.next.at + 1, Backward: true, Limit: 1,
	})
	var damaged *store.DamagedError
	if errors.As(err, &damaged) && len(damaged.IDs) > 0 {
		return damaged.IDs[0], nil
	}
	if err != nil || len(found) == 0 {
		return 0, err
	}
	return found[0].ID, nil
}

// quiet adds the end of the list: conversations without a message for which the owner has chosen something.
func (p *pass) quiet(ctx context.Context) error {
	if p.next.quiet == 0 || p.next.left == 0 {
		return nil
	}
	room := min(int(p.next.left), p.limit-len(p.page.Conversations))
	if room <= 0 {
		p.page.More = true
		return nil
	}
	list, left, err := p.View.quiet(ctx, p.owner, p.next.quiet, room, p.page.Conversations)
	if err != nil {
		return err
	}
	for i := range list {
		p.add(list[i].Conversation, true)
	}
	p.next.quiet, p.next.left = left, p.next.left-uint64(len(list))
	p.page.More = left != 0 && p.next.left > 0
	return nil
}

// finish ends the first sync. When it had several pages, settings, the roster and profiles may have changed since the
// first: the next page tells.
func (p *pass) finish(ctx context.Context) (err error) {
	p.next.left, p.next.before, p.next.quiet = 0, 0, 0
	if p.page.More = !p.page.First; !p.page.More {
		p.page.More, err = p.news(ctx)
	}
	return err
}

// news reports whether the log has anything for the owner that the client does not know of.
func (p *pass) news(ctx context.Context) (bool, error) {
	found, _, err := p.config.Log.History(
		ctx, store.HistoryQuery{Owner: p.owner.Account, After: p.next.at, Limit: 1, Markers: true},
	)
	if errors.Is(err, store.ErrDamaged) {
		return true, nil
	}
	return len(found) > 0, err
}
