package admin

import (
	"context"
	"strconv"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// NamespacePresence qualifies the question for the presence of many: <query><item jid='…'/>…</query>, an IQ of type get
// to the domain. The answer has an item, with online='true' or 'false', for each of those whose presence the asker may
// see: their own, and that of accounts that share it with them. The domain itself, which asks for systems that may read
// the directory, sees all.
const NamespacePresence = "urn:posthouse:presence:1"

// maxItems is how many one question may name.
const maxItems = 500

func (a *Admin) presence(ctx context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
	asker := r.From.Bare()
	if r.Account == 0 && asker != a.Domain {
		return nil, stanza.Refuse(stanza.ServiceUnavailable, "")
	}
	out := stanza.New(NamespacePresence, "query")
	n := 0
	for item := range r.Payload().Elements {
		if n++; n > maxItems {
			return nil, stanza.Refuse(stanza.NotAcceptable, "Ask for at most 500 at once.")
		}
		j, err := jid.Parse(item.Attr("jid"))
		if err != nil || j.IsFull() {
			return nil, stanza.Refuse(stanza.JIDMalformed, "An item needs a bare address.")
		}
		shown, err := a.shows(ctx, j, asker)
		if err != nil {
			a.Log.Error("the presence of many could not be read", "error", err)
			return nil, stanza.Refuse(stanza.InternalServerError, "")
		}
		if shown {
			out = out.With(a.item(j))
		}
	}
	return []stanza.Element{out}, nil
}

// shows reports whether an account exists and shows its presence to the asker.
func (a *Admin) shows(ctx context.Context, j, asker jid.JID) (bool, error) {
	if j.Domain() != a.Domain.Domain() || j.Local() == "" {
		return false, nil
	}
	var account store.AccountID
	account, ok, err := a.Directory.Lookup(ctx, j.Local())
	if err != nil || !ok || j == asker || asker == a.Domain {
		return ok, err
	}
	return a.Contacts.Sees(ctx, uint64(account), asker)
}

// item describes the session that would get messages first, of those that are available.
func (a *Admin) item(j jid.JID) stanza.Element {
	var best *stanza.Stanza
	a.Sessions.Visit(j, func(u *session.User) {
		for s := range u.All {
			if p := u.Presence(s); p != nil && (best == nil || u.IsLive(s) && priority(p) > priority(best)) {
				best = p
			}
		}
	})
	e := stanza.New(NamespacePresence, "item", "jid", j.String(), "online", strconv.FormatBool(best != nil))
	if best == nil {
		return e
	}
	for i := range best.Payload {
		switch p := &best.Payload[i]; {
		case p.Space != stanza.NSClient:
		case p.Local == "show":
			e.Attrs = append(e.Attrs, stanza.Attr{Local: "show", Value: shorten(p.Text())})
		case p.Local == "status" && e.Child(NamespacePresence, "status") == nil:
			e = e.With(stanza.New(NamespacePresence, "status").WithText(shorten(p.Text())))
		}
	}
	return e
}

// maxStatus is how many bytes of what somebody says of their presence are told to whoever asks for that of many.
const maxStatus = 256

func shorten(text string) string {
	if len(text) <= maxStatus {
		return text
	}
	end := maxStatus
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// priority of available presence (RFC 6121 §4.7.2.3), which was checked when it came in.
func priority(p *stanza.Stanza) int {
	e := p.Child(stanza.NSClient, "priority")
	if e == nil {
		return 0
	}
	n, _ := strconv.Atoi(e.Text())
	return n
}
