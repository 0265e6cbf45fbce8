package inbox

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// Position is where a page of the list of conversations begins. The zero value is the beginning.
type Position struct {
	// Before: conversations whose newest message comes before it; 0 is no bound.
	Before store.MessageID
	// Chosen, when it is not 0, is a position in the end of the list, which Before says nothing of: among the
	// conversations without a message, those whose settings have a lower store.ConversationSettings.Changed.
	Chosen uint64
}

// Text is the position as clients are told it, "" for the zero value. stanzaID makes the public identity of a message.
func (p Position) Text(stanzaID func(id uint64) string) string {
	switch {
	case p.Chosen != 0:
		return "." + strconv.FormatUint(p.Chosen, 10)
	case p.Before != 0:
		return stanzaID(uint64(p.Before))
	}
	return ""
}

// ParsePosition reads what Text has made; ok is false for anything else. parse reads the public identity of a message.
func ParsePosition(text string, parse func(text string) (id uint64, ok bool)) (p Position, ok bool) {
	if text == "" {
		return p, true
	}
	if number, chosen := strings.CutPrefix(text, "."); chosen {
		n, err := strconv.ParseUint(number, 10, 63)
		return Position{Chosen: n}, err == nil && n != 0
	}
	id, ok := parse(text)
	return Position{Before: store.MessageID(id)}, ok && id != 0
}

// Conversations returns a page of the owner's conversations, without messages: first those with a message
// that the owner sees, the newest message first; then those without one for which the owner has chosen something, the
// latest choice first. next is where the next page begins, the zero value on the last one; a page may have fewer than
// limit although there is a next one. A limit of 0 or less means 50. What a page costs does not depend on how many
// conversations there are.
func (v *View) Conversations(
	ctx context.Context, o Owner, from Position, limit int,
) (list []Conversation, next Position, err error) {
	limit = bounded(limit)
	if from.Chosen == 0 {
		stored, more, err := v.config.Log.Conversations(ctx, o.Account, from.Before, limit)
		if err != nil {
			return nil, next, fmt.Errorf("list conversations: %w", err)
		}
		for i := range stored {
			list = append(list, Conversation{Conversation: stored[i]})
		}
		if from.Chosen = newest; more {
			next.Before = stored[len(stored)-1].Last
		}
	}
	if next == (Position{}) {
		quiet, left, err := v.quiet(ctx, o, from.Chosen, limit-len(list), list)
		if err != nil {
			return nil, next, fmt.Errorf("list conversations: %w", err)
		}
		list, next.Chosen = append(list, quiet...), left
	}
	if err := v.addSettings(ctx, o, list); err != nil {
		return nil, next, fmt.Errorf("list conversations: %w", err)
	}
	return list, next, nil
}

// AddNewest adds the newest message of each to a page of Conversations, and ends the page where they have more than
// PageBytes.
func (v *View) AddNewest(ctx context.Context, list []Conversation, next Position) ([]Conversation, Position, error) {
	bytes := 0
	for i := range list {
		m, err := v.last(ctx, &list[i])
		if err != nil {
			return nil, next, fmt.Errorf("list conversations: %w", err)
		}
		if m == nil {
			continue
		}
		if bytes += len(m.Stanza); bytes > PageBytes && i > 0 {
			return list[:i], Position{Before: list[i-1].Last}, nil
		}
		list[i].LastMessage = m
	}
	return list, next, nil
}

// quiet returns conversations without a message for which the owner has chosen something: it looks at up to limit
// choices that were made before that number, but for those of conversations that are known to have one. left is the
// number of the last one that it has looked at, 0 when there are no others.
func (v *View) quiet(
	ctx context.Context, o Owner, before uint64, limit int, known []Conversation,
) (list []Conversation, left uint64, err error) {
	chosen, err := v.config.Settings.ChosenConversationSettings(ctx, o.Account, before, limit+1)
	if err != nil {
		return nil, 0, fmt.Errorf("settings: %w", err)
	}
	skip := make(map[string]bool, len(known))
	for i := range known {
		skip[known[i].Address().String()] = true
	}
	if len(chosen) > limit {
		chosen, left = chosen[:limit], before
		if limit > 0 {
			left = chosen[limit-1].Changed
		}
	}
	for _, s := range chosen {
		if skip[s.With] {
			continue
		}
		with, err := jid.Parse(s.With)
		if err != nil {
			v.log.WarnContext(ctx, "settings of no address are left out", "account", o.Account, "err", err)
			continue
		}
		f, err := v.find(ctx, o, with)
		if err != nil {
			return nil, 0, err
		}
		if f.conversation.Last == 0 {
			list = append(list, Conversation{Conversation: f.conversation, Settings: s})
		}
	}
	return list, left, nil
}
