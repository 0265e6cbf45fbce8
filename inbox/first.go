package inbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/posthouse-im/posthouse/store"
)

// first begins a first sync. What it tells of is the log as it is now; what comes later is left to the pages that follow.
func (v *View) first(ctx context.Context, o Owner, limit int) (Page, error) {
	p := v.pass(o, cursor{account: o.Account, left: uint64(v.config.Conversations)}, limit)
	p.page.First = true
	// The versions are read before what they are of, so that a change meanwhile comes again.
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
	if err := p.recent(ctx); err != nil {
		return Page{}, fmt.Errorf("first sync: %w", err)
	}
	return p.end(ctx)
}

// goOn answers with a further page of a first sync.
func (v *View) goOn(ctx context.Context, o Owner, from cursor, limit int) (Page, error) {
	p := v.pass(o, from, limit)
	if err := p.recent(ctx); err != nil {
		return Page{}, fmt.Errorf("first sync: %w", err)
	}
	return p.end(ctx)
}

// conversationThen is a conversation with the newest message that it had when the first sync began.
type conversationThen struct {
	store.Conversation
	at store.MessageID
}

// recent adds the next conversations of a first sync with their newest messages, as many as there is room for, and at least one.
func (p *pass) recent(ctx context.Context) error {
	listed, more, err := p.listed(ctx)
	if err != nil {
		return err
	}
	for i := range listed {
		c := &listed[i]
		found, _, err := p.history(ctx, store.HistoryQuery{
			Owner: p.owner.Account, With: c.With, Before: p.next.at + 1, Backward: true, Limit: min(p.config.Messages, p.limit),
		})
		if err != nil {
			return err
		}
		if i > 0 && len(p.page.Messages)+len(found) > p.limit {
			p.page.More = true
			break
		}
		p.page.Messages = append(p.page.Messages, found...)
		if err := p.add(ctx, c.Conversation, true); err != nil {
			return err
		}
		p.next.left--
		p.next.before = c.at
	}
	slices.SortFunc(p.page.Messages, func(a, b store.Message) int { return cmp.Compare(a.ID, b.ID) })
	if p.page.More {
		return nil
	}
	if more {
		p.next.floor = p.next.before
	}
	p.next.left, p.next.before = 0, 0
	_, last, err := p.config.Log.Bounds(ctx, p.owner.Account)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	p.page.More = last > p.next.at
	return err
}

// listed returns the conversations that the first sync has still to tell of, the newest first, as they were when it began: what was said since
// moves none of them, although it stands at the head of the store's list. more tells whether there are others beyond.
func (p *pass) listed(ctx context.Context) (list []conversationThen, more bool, err error) {
	want := int(p.next.left)
	before := store.MessageID(0)
	for unmoved := 0; unmoved <= want; {
		page, beyond, err := p.config.Log.Conversations(ctx, p.owner.Account, before, want+1)
		if err != nil {
			return nil, false, err
		}
		for i := range page {
			c := conversationThen{page[i], page[i].Last}
			before = c.Last
			if c.at > p.next.at {
				if c.at, err = p.lastThen(ctx, c.With); err != nil {
					return nil, false, err
				}
			}
			if c.at == 0 || p.next.before != 0 && c.at >= p.next.before {
				continue
			}
			if c.at == c.Last {
				unmoved++
			}
			list = append(list, c)
		}
		if !beyond {
			break
		}
	}
	slices.SortFunc(list, func(a, b conversationThen) int { return cmp.Compare(b.at, a.at) })
	more = len(list) > want
	return list[:min(len(list), want)], more, nil
}

// lastThen returns a conversation's newest message of when the first sync began, 0 when it had none.
func (p *pass) lastThen(ctx context.Context, with store.Party) (store.MessageID, error) {
	found, _, err := p.config.Log.History(ctx, store.HistoryQuery{
		Owner: p.owner.Account, With: with, Before: p.next.at + 1, Backward: true, Limit: 1,
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
