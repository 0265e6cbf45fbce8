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
	// Key is a secret of the database, of 16 bytes or more. It proves cursors, and tells this database from another.
	Key []byte `yaml:"-"`

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
	return &View{config: c, seal: newSeal(c.Key), log: c.Logger.With("part", "inbox")}, nil
}

// The limits of one answer.
const (
	defaultLimit = 50
	maxLimit     = 1000
)

// bounded puts a limit into its range; 0 and less means the default.
func bounded(limit int) int {
	if limit <= 0 {
		return defaultLimit
	}
	return min(limit, maxLimit)
}

// Conversations returns the owner's conversations with something in the owner's archive, those with the newest messages first, each with
// its newest message. Those whose Last is before the given identity come; 0 means from the newest on. A limit of 0 or less means 50.
// more tells that there are others beyond the limit.
func (v *View) Conversations(ctx context.Context, o Owner, before store.MessageID, limit int) (found []Conversation, more bool, err error) {
	stored, more, err := v.config.Log.Conversations(ctx, o.Account, before, bounded(limit))
	if err != nil {
		return nil, false, fmt.Errorf("list conversations: %w", err)
	}
	settings, err := v.settings(ctx, o)
	if err != nil {
		return nil, false, fmt.Errorf("list conversations: %w", err)
	}
	found = make([]Conversation, 0, len(stored))
	for i := range stored {
		c := Conversation{Conversation: stored[i], Settings: settings[stored[i].With.JID.String()]}
		if c.LastMessage, err = v.last(ctx, &c); err != nil {
			return nil, false, fmt.Errorf("list conversations: %w", err)
		}
		found = append(found, c)
	}
	return found, more, nil
}

// Conversation returns the owner's conversation with an address, with its newest message, or store.ErrNotFound.
func (v *View) Conversation(ctx context.Context, o Owner, with jid.JID) (Conversation, error) {
	stored, err := v.find(ctx, o, with)
	if err != nil {
		return Conversation{}, fmt.Errorf("conversation: %w", err)
	}
	settings, err := v.settings(ctx, o)
	if err != nil {
		return Conversation{}, fmt.Errorf("conversation: %w", err)
	}
	c := Conversation{Conversation: stored, Settings: settings[with.Bare().String()]}
	if c.LastMessage, err = v.last(ctx, &c); err != nil {
		return Conversation{}, fmt.Errorf("conversation: %w", err)
	}
	return c, nil
}

// last reads a conversation's newest message, nil when it is damaged.
func (v *View) last(ctx context.Context, c *Conversation) (*store.Message, error) {
	m, err := v.config.Log.Message(ctx, c.Last)
	if errors.Is(err, store.ErrDamaged) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &m, nil
}

// settings returns all that the owner has chosen, by bare address.
func (v *View) settings(ctx context.Context, o Owner) (map[string]store.ConversationSettings, error) {
	all, err := v.config.Settings.ConversationSettings(ctx, o.Account)
	if err != nil {
		return nil, err
	}
	found := make(map[string]store.ConversationSettings, len(all))
	for _, s := range all {
		found[s.With] = s
	}
	return found, nil
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

// find returns the owner's conversation with an address. When no account has the address any
// more, it is the most recent conversation with that address.
func (v *View) find(ctx context.Context, o Owner, with jid.JID) (store.Conversation, error) {
	p, ok, err := v.party(ctx, o, with)
	if err != nil {
		return store.Conversation{}, err
	}
	if ok {
		return v.config.Log.ConversationWith(ctx, o.Account, p)
	}
	for before, more := store.MessageID(0), true; more; {
		var page []store.Conversation
		if page, more, err = v.config.Log.Conversations(ctx, o.Account, before, maxLimit); err != nil {
			return store.Conversation{}, err
		}
		for i := range page {
			if page[i].With.JID == p.JID {
				return page[i], nil
			}
			before = page[i].Last
		}
	}
	return store.Conversation{}, store.ErrNotFound
}

// Message returns a message of the owner's archive. One that is not in it is store.ErrNotFound, whether it exists or not.
func (v *View) Message(ctx context.Context, o Owner, id store.MessageID) (store.Message, error) {
	in, err := v.config.Log.InHistory(ctx, o.Account, id)
	if err != nil {
		return store.Message{}, err
	}
	if !in {
		return store.Message{}, fmt.Errorf("message %d: %w", id, store.ErrNotFound)
	}
	return v.config.Log.Message(ctx, id)
}

// HistoryQuery selects messages of one conversation, by number, by time or by both. Bounds that are zero are none.
type HistoryQuery struct {
	// After and Before are exclusive bounds of the number.
	After, Before uint64
	// From is the first moment that is wanted, Until the first that is not.
	From, Until time.Time
	// Backward returns the last Limit messages of the range instead of the first. The answer is in rising order either way.
	Backward bool
	// Limit is at most 1,000; 0 or less means 50.
	Limit int
}

// History returns messages of the owner's conversation with an address. more tells whether the range holds others beyond the limit.
// Damaged messages are left out, as holes in the numbers show. A conversation that is not there has no messages.
func (v *View) History(ctx context.Context, o Owner, with jid.JID, q HistoryQuery) (found []store.Message, more bool, err error) {
	c, err := v.find(ctx, o, with)
	if errors.Is(err, store.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("history: %w", err)
	}
	asked := store.HistoryQuery{Owner: o.Account, With: c.With, Backward: q.Backward, Limit: bounded(q.Limit)}
	if q.After > c.LastSeq || !q.Until.IsZero() && store.FirstMessageID(q.Until) == 0 {
		return nil, false, nil
	}
	if asked.After, err = v.number(ctx, c.ID, q.After); err != nil {
		return nil, false, fmt.Errorf("history: %w", err)
	}
	if asked.Before, err = v.number(ctx, c.ID, q.Before); err != nil {
		return nil, false, fmt.Errorf("history: %w", err)
	}
	if from := store.FirstMessageID(q.From); !q.From.IsZero() && from > 0 {
		asked.After = max(asked.After, from-1)
	}
	if until := store.FirstMessageID(q.Until); !q.Until.IsZero() && (asked.Before == 0 || until < asked.Before) {
		asked.Before = until
	}
	return v.history(ctx, asked)
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
