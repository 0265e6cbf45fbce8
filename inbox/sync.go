package inbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Sync returns what has changed for the owner since the cursor. Without one, "", it begins a first sync: the newest conversations with their
// newest messages, the roster and profiles; the cursors of its pages lead on to what changes from then on. A page has at most limit messages,
// settings and so on; 0 or less means 50, and it is at most 1,000. Nothing is skipped, and no message comes twice: pages follow the order in which
// messages were stored, and no clock. It returns ErrCursor and ErrStartOver as they say.
//
// Everything but messages is shown as it is now, so that a conversation or an item may come again although it was told of before.
func (v *View) Sync(ctx context.Context, o Owner, text string, limit int) (Page, error) {
	limit = bounded(limit)
	if text == "" {
		return v.first(ctx, o, limit)
	}
	c, err := v.seal.open(text, o.Account)
	if err != nil {
		return Page{}, err
	}
	if err := v.stillThere(ctx, c.at); err != nil {
		return Page{}, err
	}
	if c.left > 0 {
		return v.goOn(ctx, o, c, limit)
	}
	return v.changes(ctx, o, c, limit)
}

// stillThere checks that the log has the message that the cursor names: a restored backup has not, even when it has grown since.
func (v *View) stillThere(ctx context.Context, at store.MessageID) error {
	if at == 0 {
		return nil
	}
	_, err := v.config.Log.Message(ctx, at)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%w: its message is not in the log", ErrStartOver)
	case err != nil && !errors.Is(err, store.ErrDamaged):
		return fmt.Errorf("sync: %w", err)
	}
	return nil
}

// pass is the state of one call of Sync.
type pass struct {
	*View
	owner Owner
	limit int
	// from is the cursor of the call, next that of the answer.
	from, next cursor
	page       Page
	// settings of all conversations, by bare address; nil until needed.
	settings map[string]store.ConversationSettings
	// told are the addresses of the page's conversations, known accounts whose profiles are due.
	told map[string]bool
	due  map[store.AccountID]bool
}

func (v *View) pass(o Owner, from cursor, limit int) *pass {
	return &pass{View: v, owner: o, limit: limit, from: from, next: from, told: map[string]bool{}, due: map[store.AccountID]bool{}}
}

// end adds the profiles that are due, and the cursor.
func (p *pass) end(ctx context.Context) (Page, error) {
	for _, known := range p.page.Profiles {
		delete(p.due, known.Account)
	}
	if len(p.due) > 0 {
		accounts := make([]store.AccountID, 0, len(p.due))
		for account := range p.due {
			accounts = append(accounts, account)
		}
		slices.Sort(accounts)
		profiles, err := p.config.Profiles.Profiles(ctx, accounts)
		if err != nil {
			return Page{}, fmt.Errorf("sync: profiles: %w", err)
		}
		p.page.Profiles = append(p.page.Profiles, profiles...)
	}
	p.page.Cursor = p.seal.text(&p.next)
	return p.page, nil
}

// changes is a page after the first sync.
func (v *View) changes(ctx context.Context, o Owner, from cursor, limit int) (Page, error) {
	p := v.pass(o, from, limit)
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"messages", p.newMessages}, {"settings", p.newSettings}, {"roster", p.newRoster}, {"profiles", p.newProfiles},
	} {
		if err := step.do(ctx); err != nil {
			return Page{}, fmt.Errorf("sync: %s: %w", step.name, err)
		}
	}
	return p.end(ctx)
}

// newMessages takes the next messages of the owner's archive, and tells of their conversations.
func (p *pass) newMessages(ctx context.Context) error {
	found, more, err := p.config.Log.History(ctx, store.HistoryQuery{Owner: p.owner.Account, After: p.from.at, Limit: p.limit})
	var damaged *store.DamagedError
	if errors.As(err, &damaged) {
		p.log.WarnContext(ctx, "damaged messages are left out", "account", p.owner.Account, "ids", damaged.IDs)
		err = nil
		for _, id := range damaged.IDs {
			p.next.at = max(p.next.at, id)
		}
	}
	if err != nil {
		return err
	}
	p.page.Messages, p.page.More = found, more
	for i := range found {
		m := &found[i]
		p.next.at = max(p.next.at, m.ID)
		with := p.other(m)
		if p.told[with.JID.String()] {
			continue
		}
		known, err := p.known(ctx, m, with)
		if err != nil {
			return err
		}
		if err := p.tell(ctx, with, !known); err != nil {
			return err
		}
	}
	return nil
}

// other returns the party of a message that is not the owner; the owner for a note.
func (p *pass) other(m *store.Message) store.Party {
	if m.Sender.Account == p.owner.Account {
		return m.Recipient
	}
	return m.Sender
}

// known reports whether the client was told of the conversation before its first message of this page: whether it has had a message
// since the oldest that the first sync told of.
func (p *pass) known(ctx context.Context, m *store.Message, with store.Party) (bool, error) {
	if m.Seq == 1 {
		return false, nil
	}
	before, _, err := p.config.Log.History(ctx, store.HistoryQuery{
		Owner: p.owner.Account, With: with, After: max(p.from.floor, 1) - 1, Before: m.ID, Backward: true, Limit: 1,
	})
	if errors.Is(err, store.ErrDamaged) {
		return true, nil
	}
	return len(before) > 0, err
}

// tell adds a conversation as it is now, once, and its party's profile when the client has not got it.
func (p *pass) tell(ctx context.Context, with store.Party, profile bool) error {
	address := with.JID.String()
	if p.told[address] {
		return nil
	}
	p.told[address] = true
	stored, err := p.config.Log.ConversationWith(ctx, p.owner.Account, with)
	if errors.Is(err, store.ErrNotFound) {
		stored, err = store.Conversation{With: with}, nil
	}
	if err != nil {
		return err
	}
	return p.add(ctx, stored, profile)
}

func (p *pass) add(ctx context.Context, stored store.Conversation, profile bool) (err error) {
	if p.settings == nil {
		if p.settings, err = p.View.settings(ctx, p.owner); err != nil {
			return err
		}
	}
	p.page.Conversations = append(p.page.Conversations, Conversation{Conversation: stored, Settings: p.settings[stored.With.JID.String()]})
	if profile && stored.With.Account != 0 {
		p.due[stored.With.Account] = true
	}
	return nil
}

// newSettings tells of conversations for which the owner has chosen something.
func (p *pass) newSettings(ctx context.Context) error {
	changed, last, err := p.config.Settings.ChangedConversationSettings(ctx, p.owner.Account, p.from.settings, p.limit)
	if err != nil {
		return err
	}
	if p.from.settings > last {
		return fmt.Errorf("%w: its settings are newer than ours", ErrStartOver)
	}
	if len(changed) > 0 {
		// The newest of all may be newer than this answer.
		p.next.settings = changed[len(changed)-1].Changed
		p.page.More = p.page.More || p.next.settings < last
	}
	for _, s := range changed {
		with, err := jid.Parse(s.With)
		if err != nil {
			p.log.WarnContext(ctx, "settings of no address are left out", "account", p.owner.Account, "err", err)
			continue
		}
		stored, err := p.find(ctx, p.owner, with)
		if errors.Is(err, store.ErrNotFound) {
			stored = store.Conversation{}
			stored.With, _, err = p.party(ctx, p.owner, with)
		}
		if err != nil {
			return err
		}
		if stored.With.Account != 0 { // the first sync may have left the conversation out
			p.due[stored.With.Account] = true
		}
		if at := slices.IndexFunc(p.page.Conversations, func(c Conversation) bool { return c.With.JID == with }); at >= 0 {
			p.page.Conversations[at].Settings = s
			continue
		}
		p.page.Conversations = append(p.page.Conversations, Conversation{Conversation: stored, Settings: s})
	}
	return nil
}

// newRoster takes the changes of the roster, or all of it when the store cannot tell them.
func (p *pass) newRoster(ctx context.Context) error {
	items, removed, version, ok, err := p.config.Rosters.RosterChanges(ctx, p.owner.Account, p.from.roster)
	if err != nil {
		return err
	}
	if !ok {
		return p.wholeRoster(ctx)
	}
	p.next.roster = version
	p.page.Removed = removed
	for _, item := range items {
		// What is not listed is a request that waits for an answer (RFC 6121 §3.1.3).
		if !item.Listed {
			p.page.Removed = append(p.page.Removed, item.JID)
			continue
		}
		p.page.Roster = append(p.page.Roster, item)
	}
	return p.contactsProfiles(ctx)
}

func (p *pass) wholeRoster(ctx context.Context) error {
	items, version, err := p.config.Rosters.Roster(ctx, p.owner.Account)
	if err != nil {
		return err
	}
	p.next.roster, p.page.RosterAll = version, true
	p.page.Roster = slices.DeleteFunc(items, func(item store.RosterItem) bool { return !item.Listed })
	return p.contactsProfiles(ctx)
}

// contactsProfiles makes those of the page's contacts due.
func (p *pass) contactsProfiles(ctx context.Context) error {
	for i := range p.page.Roster {
		party, ok, err := p.party(ctx, p.owner, p.page.Roster[i].JID)
		if err != nil {
			return err
		}
		if ok && party.Account != 0 {
			p.due[party.Account] = true
		}
	}
	return nil
}

// profileBatch is how many changes of profiles of the whole domain are looked through for one page.
const profileBatch = 500

// newProfiles takes changes of those that the owner sees: its own, those of contacts and of parties of conversations.
func (p *pass) newProfiles(ctx context.Context) error {
	changed, last, err := p.config.Profiles.ChangedProfiles(ctx, p.from.profiles, profileBatch)
	if err != nil {
		return err
	}
	if p.from.profiles > last {
		return fmt.Errorf("%w: its profiles are newer than ours", ErrStartOver)
	}
	var contacts map[string]bool
	for _, profile := range changed {
		if len(p.page.Profiles) >= p.limit {
			p.page.More = true
			return nil
		}
		seen, err := p.sees(ctx, &profile, &contacts)
		if err != nil {
			return err
		}
		if seen {
			p.page.Profiles = append(p.page.Profiles, profile)
		}
		p.next.profiles = profile.Changed
	}
	p.page.More = p.page.More || len(changed) == profileBatch && p.next.profiles < last
	return nil
}

// sees reports whether the owner is shown a profile without asking for it. contacts are read when they are needed.
func (p *pass) sees(ctx context.Context, profile *store.Profile, contacts *map[string]bool) (bool, error) {
	if profile.Account == p.owner.Account {
		return true, nil
	}
	address, err := jid.New(profile.Username, p.owner.JID.Domain(), "")
	if err != nil {
		return false, fmt.Errorf("account %d: %w", profile.Account, err)
	}
	if *contacts == nil {
		items, _, err := p.config.Rosters.Roster(ctx, p.owner.Account)
		if err != nil {
			return false, err
		}
		*contacts = make(map[string]bool, len(items))
		for i := range items {
			(*contacts)[items[i].JID.String()] = items[i].Listed
		}
	}
	if (*contacts)[address.String()] {
		return true, nil
	}
	_, err = p.config.Log.ConversationWith(ctx, p.owner.Account, store.Party{JID: address, Account: profile.Account})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// newest is more than any version.
const newest = math.MaxInt64
