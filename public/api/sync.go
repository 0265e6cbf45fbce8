package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/store"
)

// Changes is what has changed for the caller since a cursor.
type Changes struct {
	Cursor        string         `json:"cursor" doc:"Where the next call goes on. Keep it when all of the page was kept, and not before."`
	More          bool           `json:"more" doc:"The next call will have something at once."`
	First         bool           `json:"first" doc:"A first sync begins: throw away what you hold of conversations, roster, profiles and settings."`
	Messages      []Message      `json:"messages" doc:"In the order of the log, which is that of the numbers within each conversation. Edits and retractions are messages, too."`
	Conversations []Conversation `json:"conversations" doc:"Those that the messages belong to, or whose read markers or settings have changed, as they are now."`
	Roster        []Contact      `json:"roster" doc:"Contacts that are new or have changed, and those who ask to be one."`
	RosterAll     bool           `json:"roster_all" doc:"These are all that there are."`
	Removed       []string       `json:"removed" doc:"Contacts that are gone, and requests that no longer wait."`
	Profiles      []Profile      `json:"profiles" doc:"Profiles that are new or have changed."`
	Presence      []Presence     `json:"presence,omitempty" doc:"With presence=true: who of the contacts is online now."`
}

// SyncRequest says where to go on.
type SyncRequest struct {
	Cursor   string `query:"cursor" maxLength:"1024" doc:"Of the page before; without it a first sync begins."`
	Limit    int    `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"How many messages and changed markers a page has at most."`
	Wait     int    `query:"wait" minimum:"0" maximum:"55" doc:"When nothing has changed, wait for so many seconds until something does."`
	Presence bool   `query:"presence" doc:"Add a snapshot of who is online."`
}

func (a *API) sync(ctx context.Context, in *SyncRequest) (*body[Changes], error) {
	o := owner(ctx)
	page, err := a.news(ctx, o, in)
	if err != nil {
		return nil, err
	}
	out, err := a.changes(o, &page)
	if err != nil {
		return nil, err
	}
	if in.Presence {
		if out.Presence, err = a.presenceOf(ctx, nil); err != nil {
			return nil, err
		}
	}
	return answer(out)
}

// news returns the page, when it holds something or the time to wait is over.
func (a *API) news(ctx context.Context, o inbox.Owner, in *SyncRequest) (inbox.Page, error) {
	q := requestFrom(ctx)
	read := func() (inbox.Page, error) {
		if p := a.takeTurn(ctx, q); p != nil {
			return inbox.Page{}, p
		}
		return a.config.Inbox.Sync(ctx, o, in.Cursor, in.Limit, 0)
	}
	if in.Wait <= 0 {
		return read()
	}
	if !a.beginWait(o.Account) {
		return inbox.Page{}, limited(time.Second)
	}
	defer a.endWait(o.Account)
	// Watching begins before reading, so that no change falls between the two.
	changed, stop := a.config.Uplink.Watch(uint64(o.Account))
	defer stop()
	wait := time.Duration(in.Wait) * time.Second
	control := http.NewResponseController(q.w)
	// The listener's deadlines are for ordinary requests. A connection that cannot have others ends the wait early.
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Now().Add(wait + 30*time.Second))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for waited, over := false, false; ; waited = true {
		page, err := read()
		if waited { // the device may have been signed out meanwhile; after the read, so that it gets nothing newer
			if _, ended := a.config.Tokens.Check(ctx, requestFrom(ctx).bearer); ended != nil {
				return inbox.Page{}, ended
			}
		}
		if err != nil || !page.Empty() || page.More || over {
			return page, err
		}
		q.w.endTurn() // waiting costs nothing
		select {
		case <-changed:
		case <-timer.C:
			over = true
		case <-a.stopping:
			return page, nil
		case <-ctx.Done():
			return page, ctx.Err()
		}
	}
}

// beginWait counts a request that waits, when the account has not too many already.
func (a *API) beginWait(account store.AccountID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting[account] >= a.config.Waits {
		return false
	}
	a.waiting[account]++
	a.metrics.waiting.Inc()
	return true
}

func (a *API) endWait(account store.AccountID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting[account]--; a.waiting[account] <= 0 {
		delete(a.waiting, account)
	}
	a.metrics.waiting.Dec()
}

// Stop lets requests that wait for news go, so that the listener can end.
func (a *API) Stop() { a.stop.Do(func() { close(a.stopping) }) }

// changes shows a page. Lists are there even when they are empty.
func (a *API) changes(o inbox.Owner, page *inbox.Page) (Changes, error) {
	out := Changes{
		Cursor: page.Cursor, More: page.More, First: page.First, RosterAll: page.RosterAll,
		Messages:      make([]Message, 0, len(page.Messages)),
		Conversations: make([]Conversation, 0, len(page.Conversations)), Roster: make([]Contact, 0, len(page.Roster)),
		Removed: make([]string, 0, len(page.Removed)), Profiles: make([]Profile, 0, len(page.Profiles)),
	}
	in := map[store.ConversationID]*inbox.Conversation{}
	for i := range page.Conversations {
		c, err := a.conversation(o, &page.Conversations[i])
		if err != nil {
			return out, err
		}
		out.Conversations = append(out.Conversations, c)
		in[page.Conversations[i].ID] = &page.Conversations[i]
	}
	for i := range page.Messages {
		c := in[page.Messages[i].Conversation]
		if c == nil {
			return out, fmt.Errorf("message %d: its conversation is not on the page", page.Messages[i].ID)
		}
		m, err := a.message(o, c.Kind, c.Address(), &page.Messages[i])
		if err != nil {
			return out, err
		}
		out.Messages = append(out.Messages, m)
	}
	for i := range page.Roster {
		out.Roster = append(out.Roster, contactOf(&page.Roster[i]))
	}
	for _, j := range page.Removed {
		out.Removed = append(out.Removed, j.String())
	}
	for i := range page.Profiles {
		out.Profiles = append(out.Profiles, a.profileOf(&page.Profiles[i]))
	}
	return out, nil
}
