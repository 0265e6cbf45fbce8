package inbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Sync returns what has changed for the owner since the cursor. Without one, "", it begins a first sync: the newest
// conversations with their newest messages, the roster and profiles; the cursors of its pages lead on to what changes
// from then on. A page has at most limit messages and markers, settings and so on; 0 or less means 50, and it is at
// most 1,000. It ends early when its messages have more than so many bytes; 0 or less means PageBytes, which is also
// the most. Nothing is skipped, and no message comes twice: pages follow the order in which messages were stored, and
// no clock. It returns ErrCursor and ErrStartOver as they say.
//
// A marker that has changed is told as part of its conversation. One that has changed many times since the cursor makes
// one entry, at its last change. Everything but messages is shown in its current state, so a conversation or an item
// may be sent again although it has not changed.
func (v *View) Sync(ctx context.Context, o Owner, text string, limit, bytes int) (Page, error) {
	limit = bounded(limit)
	if bytes <= 0 || bytes > PageBytes {
		bytes = PageBytes
	}
	if text == "" {
		return v.first(ctx, o, limit, bytes)
	}
	c, err := v.seal.open(text, o.Account)
	if err != nil {
		return Page{}, err
	}
	held, err := v.config.Log.Holds(ctx, c.at, c.epoch)
	if err != nil {
		return Page{}, fmt.Errorf("sync: %w", err)
	}
	if !held {
		return Page{}, fmt.Errorf("%w: its position is not of this log", ErrStartOver)
	}
	if c.left > 0 {
		return v.pass(o, c, limit, bytes).goOn(ctx)
	}
	return v.pass(o, c, limit, bytes).changes(ctx)
}

// pass is the state of one call of Sync.
type pass struct {
	*View
	owner Owner
	limit int
	// bytes is how many there is still room for.
	bytes int
	// from is the cursor of the call, next that of the answer.
	from, next cursor
	page       Page
	// told are the page's conversations that were opened, due the accounts whose profiles are to be on it.
	told map[store.ConversationID]bool
	due  map[store.AccountID]bool
}

func (v *View) pass(o Owner, from cursor, limit, bytes int) *pass {
	return &pass{View: v, owner: o, limit: limit, bytes: bytes, from: from, next: from,
		told: map[store.ConversationID]bool{},
		due:  map[store.AccountID]bool{}}
}

// end adds settings, the profiles that are due, and the cursor.
func (p *pass) end(ctx context.Context) (Page, error) {
	if err := p.addSettings(ctx, p.owner, p.page.Conversations); err != nil {
		return Page{}, fmt.Errorf("sync: %w", err)
	}
	for _, known := range p.page.Profiles {
		delete(p.due, known.Account)
	}
	if len(p.due) > 0 {
		accounts := make([]store.AccountID, 0, len(p.due))
		for account := range p.due {
			accounts = append(accounts, account)
		}
		profiles, err := p.config.Profiles.Profiles(ctx, accounts)
		if err != nil {
			return Page{}, fmt.Errorf("sync: profiles: %w", err)
		}
		slices.SortFunc(profiles, func(a, b store.Profile) int { // the owner's first
			return cmp.Or(p.others(a)-p.others(b), strings.Compare(a.Username, b.Username))
		})
		p.page.Profiles = append(p.page.Profiles, profiles...)
	}
	if p.next.at != p.from.at {
		var err error
		if p.next.epoch, err = p.config.Log.Epoch(ctx, p.next.at); err != nil {
			return Page{}, fmt.Errorf("sync: %w", err)
		}
	}
	p.page.Cursor = p.seal.text(&p.next)
	return p.page, nil
}

// others is 0 for the owner's profile.
func (p *pass) others(profile store.Profile) int {
	if profile.Account == p.owner.Account {
		return 0
	}
	return 1
}

// changes is a page after the first sync.
func (p *pass) changes(ctx context.Context) (Page, error) {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"messages", p.newEntries}, {"settings", p.newSettings}, {"roster", p.newRoster}, {"profiles", p.newProfiles},
	} {
		if err := step.do(ctx); err != nil {
			return Page{}, fmt.Errorf("sync: %s: %w", step.name, err)
		}
	}
	return p.end(ctx)
}

// newEntries takes the next messages of the owner's archive and the markers that have changed, and tells of their
// conversations.
func (p *pass) newEntries(ctx context.Context) error {
	found, more, err := p.config.Log.History(
		ctx, store.HistoryQuery{
			Owner: p.owner.Account, After: p.from.at, Limit: p.limit, Bytes: p.bytes, Markers: true,
		},
	)
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
	fit := fitting(found, p.bytes)
	p.page.More = more || fit < len(found)
	for i := range found[:fit] {
		m := &found[i]
		p.next.at = max(p.next.at, m.ID)
		if m.Marker == nil {
			p.page.Messages = append(p.page.Messages, *m)
		} else if m.Author.JID.IsZero() && m.Author.Account != p.owner.Account {
			continue // another member's of a room, of which a conversation shows nothing
		}
		if err := p.tell(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// fitting returns how many results fit into so many bytes: at least one, since the client could not go on otherwise.
func fitting(found []store.Message, bytes int) int {
	for i := range found {
		if bytes -= len(found[i].Stanza); bytes < 0 && i > 0 {
			return i
		}
	}
	return len(found)
}

// tell adds the conversation of a message or marker as it is now, once, and its party's profile when the client has not
// got it.
func (p *pass) tell(ctx context.Context, m *store.Message) error {
	if p.told[m.Conversation] {
		return nil
	}
	known, err := p.known(ctx, m)
	if err != nil {
		return err
	}
	stored, err := p.config.Log.ConversationOf(ctx, p.owner.Account, m.Conversation)
	if err != nil {
		return err
	}
	p.add(stored, !known)
	return nil
}

// known reports whether the client was told of the conversation before this message or marker: whether it has had a
// message since the oldest that the first sync told of.
func (p *pass) known(ctx context.Context, m *store.Message) (bool, error) {
	if m.Seq == 1 {
		return false, nil
	}
	before, _, err := p.config.Log.History(ctx, store.HistoryQuery{
		Owner: p.owner.Account, Conversation: m.Conversation, After: max(p.from.floor, 1) - 1, Before: m.ID,
		Backward: true, Limit: 1,
	})
	if errors.Is(err, store.ErrDamaged) {
		return true, nil
	}
	return len(before) > 0, err
}

func (p *pass) add(c store.Conversation, profile bool) {
	if c.ID != 0 {
		p.told[c.ID] = true
	}
	p.page.Conversations = append(p.page.Conversations, Conversation{Conversation: c})
	if profile && c.With.Account != 0 {
		p.due[c.With.Account] = true
	}
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
		if slices.ContainsFunc(p.page.Conversations, func(c Conversation) bool { return c.Address() == with }) {
			continue
		}
		f, err := p.find(ctx, p.owner, with)
		if err != nil {
			return err
		}
		p.add(f.conversation, true) // the first sync may have left the conversation out
	}
	return nil
}

// newRoster takes the changes of the roster, or all of it when the store cannot tell them.
func (p *pass) newRoster(ctx context.Context) error {
	changes, version, ok, err := p.config.Rosters.RosterChanges(ctx, p.owner.Account, p.from.roster)
	if err != nil {
		return err
	}
	if !ok {
		return p.wholeRoster(ctx)
	}
	p.next.roster = version
	for i := range changes {
		c := &changes[i]
		if !tellsOf(&c.RosterItem) {
			p.page.Removed = append(p.page.Removed, c.JID)
			continue
		}
		p.page.Roster = append(p.page.Roster, c.RosterItem)
	}
	return p.contactsProfiles(ctx)
}

// tellsOf reports whether the owner is told of an item: a contact, or somebody who asks to be one and waits for an
// answer (RFC 6121 §3.1.3).
func tellsOf(item *store.RosterItem) bool { return item.Listed || item.PendingIn }

func (p *pass) wholeRoster(ctx context.Context) error {
	items, version, err := p.config.Rosters.Roster(ctx, p.owner.Account)
	if err != nil {
		return err
	}
	p.next.roster, p.page.RosterAll = version, true
	p.page.Roster = slices.DeleteFunc(items, func(item store.RosterItem) bool { return !tellsOf(&item) })
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
	opened, err := p.config.Log.FindConversation(
		ctx, store.DirectKey(p.owner.party(), store.Party{JID: address, Account: profile.Account}),
	)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return opened.Last != 0, err
}

// newest is more than any version.
const newest = math.MaxInt64
