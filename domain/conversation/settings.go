package conversation

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// setSettings replaces what the account has chosen for a conversation. What is not said is as it is by default.
func (c *Conversations) setSettings(ctx context.Context, o inbox.Owner, iq *stanza.Stanza) ([]stanza.Element,
	*stanza.Error) {
	s, refusal := parseSettings(iq.Child(nsConversations, "settings"))
	if refusal != nil {
		return nil, refusal
	}
	if !c.config.Archive.Allow(uint64(o.Account)) {
		return nil, tooMany
	}
	stored, err := c.config.Settings.SetConversationSettings(ctx, o.Account, s, c.config.MaxSettings)
	switch {
	case errors.Is(err, store.ErrLimit):
		return nil, stanza.Refuse(stanza.ResourceConstraint,
			"There are settings for as many conversations as there may be.")
	case errors.Is(err, store.ErrNotFound):
		return nil, notYours // the account was just deleted
	case err != nil:
		return nil, c.failed("store conversation settings", o, err)
	}
	e := stanza.New(nsConversations, "settings", "with", stored.With)
	choose(&e, &stored)
	c.push(o, iq.From, e)
	return []stanza.Element{e}, nil
}

func parseSettings(e *stanza.Element) (s store.ConversationSettings, refusal *stanza.Error) {
	with, err := jid.Parse(e.Attr("with"))
	if err != nil || with.IsFull() {
		return s, stanza.Refuse(stanza.JIDMalformed, "with is not a bare address.")
	}
	s.With = strings.Clone(with.String()) // without the stanza that it stands in
	switch e.Attr("pinned") {
	case "", "false", "0":
	case "true", "1":
		s.Pinned = true
	default:
		return s, bad("pinned is true or false.")
	}
	if text := e.Attr("muted-until"); text != "" {
		if s.MutedUntil, err = parseStamp(text); err != nil {
			return s, bad("muted-until is a date as in XEP-0082.")
		}
	}
	return s, nil
}

var errStamp = errors.New("not a date")

// parseStamp reads a DateTime of XEP-0082 §3.2, to the millisecond.
func parseStamp(text string) (time.Time, error) {
	if len(text) > 40 || strings.ContainsRune(text, ',') {
		return time.Time{}, errStamp
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.UTC().Year() < 1971 || t.UTC().Year() > 9999 {
		return time.Time{}, errStamp
	}
	return t.UTC().Truncate(time.Millisecond), nil
}

// stamp writes one.
func stamp(t time.Time) string {
	if t.Nanosecond() == 0 {
		return stanza.FormatSeconds(t)
	}
	return stanza.FormatTime(t)
}
