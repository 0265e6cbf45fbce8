package conversation

import (
	"context"
	"errors"
	"strings"
	"unicode"

	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

var noProfile = stanza.Refuse(stanza.ItemNotFound, "There is no such account.")

// profile answers what an account of the domain shows of itself: the requester's own, or that of the jid named.
func (c *Conversations) profile(ctx context.Context, o inbox.Owner, iq *stanza.Stanza) ([]stanza.Element,
	*stanza.Error) {
	account := o.Account
	if text := iq.Child(nsProfile, "profile").Attr("jid"); text != "" {
		j, err := jid.Parse(text)
		if err != nil {
			return nil, stanza.Refuse(stanza.JIDMalformed, "jid is not an address.")
		}
		if j.Domain() != c.config.Domain.Domain() || j.Local() == "" {
			return nil, noProfile
		}
		var ok bool
		if account, ok, err = c.config.Accounts.Lookup(ctx, j.Local()); err != nil {
			return nil, c.failed("look for an account", o, err)
		} else if !ok {
			return nil, noProfile
		}
	}
	found, err := c.config.Profiles.Profiles(ctx, []store.AccountID{account})
	if err != nil {
		return nil, c.failed("read a profile", o, err)
	}
	if len(found) == 1 {
		if e, ok := c.profileElement(&found[0]); ok {
			return []stanza.Element{e}, nil
		}
	}
	return nil, noProfile
}

// setProfile replaces what the account shows of itself.
func (c *Conversations) setProfile(ctx context.Context, o inbox.Owner, iq *stanza.Stanza) ([]stanza.Element,
	*stanza.Error) {
	request := iq.Child(nsProfile, "profile")
	p := store.Profile{Account: o.Account, Name: clean(request.Attr("name")), Title: clean(request.Attr("title"))}
	if len(p.Name) > c.config.MaxName || len(p.Title) > c.config.MaxName {
		return nil, stanza.Refuse(stanza.NotAcceptable, "The name or the title is too long.")
	}
	if !c.config.Archive.Allow(uint64(o.Account)) {
		return nil, tooMany
	}
	stored, err := c.config.Profiles.SetProfile(ctx, p)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, notYours // the account was just deleted
	case err != nil:
		return nil, c.failed("store a profile", o, err)
	}
	e, ok := c.profileElement(&stored)
	if !ok {
		return nil, broken
	}
	c.push(o, iq.From, e)
	return []stanza.Element{e}, nil
}

// clean makes a text one line without characters that are not seen, which could make one person look like another.
func clean(text string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r) || r >= '\u202A' && r <= '\u202E' || r >= '\u2066' && r <= '\u2069' ||
			r == '\u200E' || r == '\u200F' || r == '\uFEFF':
			return -1 // Unicode TR 36 §2.5: marks that change the direction of what follows
		}
		return r
	}, text)), " ")
}

// profileElement is a profile; ok is false when its account has no valid address, which no account is made with.
func (c *Conversations) profileElement(p *store.Profile) (e stanza.Element, ok bool) {
	j, err := c.addressOf(p.Username)
	if err != nil {
		return e, false
	}
	e = stanza.New(nsProfile, "profile", "jid", j.String())
	if p.Name != "" {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "name", Value: p.Name})
	}
	if p.Title != "" {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "title", Value: p.Title})
	}
	return e, true
}
