package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Config configures a View. What is not marked as optional is required.
type Config struct {
	Log      Log                  `yaml:"-"`
	Rosters  store.RosterReader   `yaml:"-"`
	Settings store.SettingsReader `yaml:"-"`
	Profiles store.ProfileReader  `yaml:"-"`
	Accounts Accounts             `yaml:"-"`
	// Former finds who had an address that nobody has any more.
	Former store.FormerAccounts `yaml:"-"`
	// Rooms finds rooms; nil: no address is that of a room.
	Rooms Rooms `yaml:"-"`
	// Key is a secret of the database, of 16 bytes or more. It proves cursors, and tells this database from another.
	Key []byte `yaml:"-"`
	// Epoch is store.Identity.Epoch: cursors of another one start over.
	Epoch uint64 `yaml:"-"`

	// Conversations is how many a first sync tells of, the newest.
	Conversations int `yaml:"conversations" default:"50" min:"1" max:"1000"`
	// Messages is how many of each a first sync has, the newest.
	Messages int `yaml:"messages" default:"20" min:"1" max:"200"`
	// Logger is told of damaged messages that were left out; nil discards it.
	Logger *slog.Logger `yaml:"-" default:"discard"`
}

// View answers what an account sees. Any goroutine may call it.
type View struct {
	config Config
	seal   seal
	log    *slog.Logger
}

// New returns a View.
func New(c Config) (*View, error) {
	if len(c.Key) < 16 {
		return nil, fmt.Errorf("inbox: the key has %d bytes, it must have 16", len(c.Key))
	}
	defaults.Fill(&c)
	return &View{config: c, seal: newSeal(c.Key, c.Epoch), log: c.Logger.With("part", "inbox")}, nil
}

// The limits of one answer. An answer ends early, and says that there is more, when the stanzas on it have more than
// PageBytes; one message is on it in any case.
const (
	defaultLimit = 50
	maxLimit     = 1000
	PageBytes    = 1 << 20
)

// bounded puts a limit into its range; 0 and less means the default.
func bounded(limit int) int {
	if limit <= 0 {
		return defaultLimit
	}
	return min(limit, maxLimit)
}

// Conversation returns the owner's conversation with an address, with its newest message. It is there, empty, also when
// nothing was said yet: when somebody has the address, when it was opened, and when the owner has chosen something for
// it. Otherwise the error is store.ErrNotFound.
func (v *View) Conversation(ctx context.Context, o Owner, with jid.JID) (Conversation, error) {
	c, err := v.state(ctx, o, with)
	if err == nil {
		c.LastMessage, err = v.last(ctx, &c)
	}
	if err != nil {
		return Conversation{}, fmt.Errorf("conversation: %w", err)
	}
	return c, nil
}

// state is Conversation without the newest message.
func (v *View) state(ctx context.Context, o Owner, with jid.JID) (Conversation, error) {
	f, err := v.find(ctx, o, with)
	if err != nil {
		return Conversation{}, err
	}
	all := []Conversation{{Conversation: f.conversation}}
	if err := v.addSettings(ctx, o, all); err != nil {
		return Conversation{}, err
	}
	if c := &all[0]; f.exists || c.ID != 0 || c.Settings.Chosen() {
		return *c, nil
	}
	return Conversation{}, store.ErrNotFound
}

// last reads a conversation's newest message, nil when there is none, or it is damaged.
func (v *View) last(ctx context.Context, c *Conversation) (*store.Message, error) {
	if c.Last == 0 {
		return nil, nil
	}
	m, err := v.config.Log.Message(ctx, c.Last)
	if errors.Is(err, store.ErrDamaged) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &m, nil
}

// addSettings adds what the owner has chosen for these conversations.
func (v *View) addSettings(ctx context.Context, o Owner, all []Conversation) error {
	addresses := make([]string, 0, len(all))
	for i := range all {
		addresses = append(addresses, all[i].Address().String())
	}
	found, err := v.config.Settings.ConversationSettings(ctx, o.Account, addresses)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	chosen := make(map[string]store.ConversationSettings, len(found))
	for _, s := range found {
		chosen[s.With] = s
	}
	for i := range all {
		all[i].Settings = chosen[addresses[i]]
	}
	return nil
}

// party finds out who is behind an address; ok is false when nobody of this domain has it any more.
func (v *View) party(ctx context.Context, o Owner, with jid.JID) (p store.Party, ok bool, err error) {
	p = store.Party{JID: with.Bare()}
	if with.Local() == "" || with.Domain() != o.JID.Domain() {
		return p, true, nil
	}
	p.Account, ok, err = v.config.Accounts.Lookup(ctx, with.Local())
	return p, ok, err
}

// found is what an address leads to.
type found struct {
	// conversation is as the owner sees it; when it was never opened it has nothing but Kind and With.
	conversation store.Conversation
	// exists: it is known that somebody has the address now.
	exists bool
}

// find returns the owner's conversation with an address. When nobody has the address any more, it is the one with the
// account that had it last.
func (v *View) find(ctx context.Context, o Owner, with jid.JID) (found, error) {
	with = with.Bare()
	if v.config.Rooms != nil {
		incarnation, ok, err := v.config.Rooms.Lookup(ctx, with)
		if err != nil {
			return found{}, fmt.Errorf("room: %w", err)
		}
		if ok {
			c, err := v.opened(ctx, o, store.RoomKey(with, incarnation))
			if !errors.Is(err, store.ErrNotFound) {
				return found{c, true}, err
			}
		}
	}
	p, ok, err := v.party(ctx, o, with)
	if err == nil && !ok {
		if p.Account, err = v.config.Former.FormerAccount(ctx, with.Local()); errors.Is(err, store.ErrNotFound) {
			return found{conversation: store.Conversation{Kind: store.Direct, With: p}}, nil
		}
	}
	if err != nil {
		return found{}, err
	}
	c, err := v.opened(ctx, o, store.DirectKey(o.party(), p))
	if errors.Is(err, store.ErrNotFound) {
		c, err = store.Conversation{Kind: store.Direct, With: p}, nil
	}
	return found{c, ok && p.Account != 0}, err
}

// opened returns the conversation of a key, or store.ErrNotFound when there is none that the owner was ever in.
func (v *View) opened(ctx context.Context, o Owner, key store.ConversationKey) (store.Conversation, error) {
	opened, err := v.config.Log.FindConversation(ctx, key)
	if err != nil {
		return store.Conversation{}, err
	}
	return v.config.Log.ConversationOf(ctx, o.Account, opened.ID)
}

// Message returns a message of the owner's archive, and the key of its conversation. One that is not in it is
// store.ErrNotFound, whether it exists or not.
func (v *View) Message(ctx context.Context, o Owner, id store.MessageID) (store.Message, store.ConversationKey, error) {
	in, err := v.config.Log.InHistory(ctx, o.Account, id)
	if err != nil {
		return store.Message{}, store.ConversationKey{}, err
	}
	if !in {
		return store.Message{}, store.ConversationKey{}, fmt.Errorf("message %d: %w", id, store.ErrNotFound)
	}
	m, err := v.config.Log.Message(ctx, id)
	if err != nil {
		return store.Message{}, store.ConversationKey{}, err
	}
	opened, err := v.config.Log.ConversationByID(ctx, m.Conversation)
	return m, opened.Key, err
}

// HistoryQuery selects messages of one conversation, by number, by time or by both. Bounds that are zero are none.
type HistoryQuery struct {
	// After and Before are exclusive bounds of the number.
	After, Before uint64
	// From is the first moment that is wanted, Until the first that is not.
	From, Until time.Time
	// Backward returns the last Limit messages of the range instead of the first. The answer is in rising order either
	// way.
	Backward bool
	// Limit is at most 1,000; 0 or less means 50.
	Limit int
}

// History returns the owner's conversation with an address, and messages of it. more tells whether the range holds
// others beyond the limits. Damaged messages are left out, as holes in the numbers show. The conversation is that of
// Conversation, without LastMessage, and so is the error.
func (v *View) History(ctx context.Context, o Owner, with jid.JID, q HistoryQuery) (
	c Conversation, messages []store.Message, more bool, err error,
) {
	if c, err = v.state(ctx, o, with); err != nil {
		return Conversation{}, nil, false, fmt.Errorf("history: %w", err)
	}
	if c.Last == 0 || q.After > c.LastSeq || !q.Until.IsZero() && store.FirstMessageID(q.Until) == 0 {
		return c, nil, false, nil
	}
	asked := store.HistoryQuery{
		Owner: o.Account, Conversation: c.ID, Backward: q.Backward, Limit: bounded(q.Limit), Bytes: PageBytes,
	}
	if asked.After, err = v.number(ctx, c.ID, q.After); err != nil {
		return Conversation{}, nil, false, fmt.Errorf("history: %w", err)
	}
	if asked.Before, err = v.number(ctx, c.ID, q.Before); err != nil {
		return Conversation{}, nil, false, fmt.Errorf("history: %w", err)
	}
	if from := store.FirstMessageID(q.From); !q.From.IsZero() && from > 0 {
		asked.After = max(asked.After, from-1)
	}
	if until := store.FirstMessageID(q.Until); !q.Until.IsZero() && (asked.Before == 0 || until < asked.Before) {
		asked.Before = until
	}
	messages, more, err = v.history(ctx, asked)
	return c, messages, more, err
}

// history reads a page and leaves out what is damaged.
func (v *View) history(ctx context.Context, q store.HistoryQuery) ([]store.Message, bool, error) {
	found, more, err := v.config.Log.History(ctx, q)
	var damaged *store.DamagedError
	if errors.As(err, &damaged) {
		v.log.WarnContext(ctx, "damaged messages are left out", "account", q.Owner, "ids", damaged.IDs)
		return found, more, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("history: %w", err)
	}
	return found, more, nil
}

// number returns the identity of the message with a number, 0 when there is none.
func (v *View) number(ctx context.Context, c store.ConversationID, seq uint64) (store.MessageID, error) {
	if seq == 0 {
		return 0, nil
	}
	found, err := v.config.Log.Numbered(ctx, c, seq, 1)
	var damaged *store.DamagedError
	switch {
	case errors.As(err, &damaged) && len(damaged.IDs) > 0:
		return damaged.IDs[0], nil
	case err != nil:
		return 0, err
	case len(found) == 0:
		return 0, nil
	}
	return found[0].ID, nil
}
