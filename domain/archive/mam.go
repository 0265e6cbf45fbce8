package archive

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// nsPreferences qualifies <preferences/>, our own: what others are told. docs/messages.md describes it.
const nsPreferences = "urn:posthouse:preferences:1"

// Handlers returns who answers history queries and requests for metadata (XEP-0313), archive preferences (XEP-0441) and
// our own preferences, each to the requester's own account only. Asking for somebody else's is forbidden (XEP-0313
// §8.1). Many clients look for the features at the domain, although XEP-0313 (Determining support) has them announced
// by the account.
func (a *Archive) Handlers() []service.Handler {
	of := func(space, kind, local, feature string, handle service.Handle) service.Handler {
		return service.Handler{
			At: service.AtAccount, Type: kind, Space: space, Local: local, Feature: feature,
			From: service.Self, Announced: service.AtAccount | service.AtDomain, Handle: handle,
		}
	}
	own := func(kind, local, feature string, handle service.Handle) service.Handler {
		return of(nsMAM, kind, local, feature, handle)
	}
	query := own(stanza.TypeSet, "query", nsMAM, a.answerQuery)
	query.Heavy = true
	return []service.Handler{
		of(nsPreferences, stanza.TypeGet, "preferences", "-", a.answerOwnPreferences),
		of(nsPreferences, stanza.TypeSet, "preferences", "-", a.setOwnPreferences),
		query,
		own(stanza.TypeGet, "query", "-", answerForm),
		own(stanza.TypeGet, "metadata", nsMAMExtended, a.answerMetadata),
		own(stanza.TypeGet, "prefs", "-", a.answerPreferences),
		own(stanza.TypeSet, "prefs", "-", a.setPreferences),
	}
}

// Refusals of IQ requests.
var (
	tooMany    = stanza.Refuse(stanza.ResourceConstraint, "Too many history queries. Try again later.")
	unreadable = &stanza.Error{Type: stanza.Wait, Condition: stanza.InternalServerError,
		Text: "The archive cannot be read now."}
)

// answerForm tells which fields a query may have (XEP-0313 §4.1.5).
func answerForm(context.Context, *service.Request) ([]stanza.Element, *stanza.Error) {
	field := func(name, kind string) stanza.Element { return stanza.New(nsForm, "field", "type", kind, "var", name) }
	open := stanza.New(nsValidate, "validate", "datatype", "xs:string").With(stanza.New(nsValidate, "open"))
	form := stanza.New(nsForm, "x", "type", "form").With(
		field("FORM_TYPE", "hidden").With(stanza.New(nsForm, "value").WithText(nsMAM)),
		field("with", "jid-single"),
		field("start", "text-single"),
		field("end", "text-single"),
		field("before-id", "text-single"),
		field("after-id", "text-single"),
		field("ids", "list-multi").With(open),
	)
	return []stanza.Element{stanza.New(nsMAM, "query").With(form)}, nil
}

// answerMetadata tells the first and last message (XEP-0313 §5). An empty archive has neither.
func (a *Archive) answerMetadata(ctx context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
	if !a.Allow(r.Account) {
		return nil, tooMany
	}
	out := stanza.New(nsMAM, "metadata")
	first, last, err := a.log.Bounds(ctx, store.AccountID(r.Account))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return []stanza.Element{out}, nil
	case err != nil:
		return nil, a.failed("read the bounds of an archive", r.Account, err)
	}
	bound := func(local string, id store.MessageID) stanza.Element {
		return stanza.New(nsMAM, local, "id", a.StanzaID(uint64(id)), "timestamp", stanza.FormatTime(id.Time()))
	}
	return []stanza.Element{out.With(bound("start", first), bound("end", last))}, nil
}

// failed logs what went wrong and returns what the requester is told of it.
func (a *Archive) failed(doing string, account uint64, err error) *stanza.Error {
	a.logger.Error("could not "+doing, "account", store.AccountID(account), "error", err)
	return unreadable
}

// maxPreferences is how many addresses an account's lists may have in all.
const maxPreferences = 1000

// answerPreferences tells what the account wants kept (XEP-0441 §2.1).
func (a *Archive) answerPreferences(ctx context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
	p, err := a.config.Preferences.ArchivePreference(ctx, store.AccountID(r.Account))
	if err != nil {
		return nil, a.failed("read an archive preference", r.Account, err)
	}
	return []stanza.Element{preferenceElement(p)}, nil
}

// setPreferences replaces them and answers with what applies from now on.
func (a *Archive) setPreferences(ctx context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
	p, refusal := parsePreference(r.Payload())
	if refusal != nil {
		return nil, refusal
	}
	if err := a.preferences.set(ctx, store.AccountID(r.Account), p); err != nil {
		return nil, a.failed("store an archive preference", r.Account, err)
	}
	return []stanza.Element{preferenceElement(p)}, nil
}

// answerOwnPreferences tells whether others are told how far the account has read.
func (a *Archive) answerOwnPreferences(ctx context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
	hide, err := a.preferences.hidesReads(ctx, store.AccountID(r.Account))
	if err != nil {
		return nil, a.failed("read a preference", r.Account, err)
	}
	return []stanza.Element{stanza.New(nsPreferences, "preferences", "share-read", strconv.FormatBool(!hide))}, nil
}

// setOwnPreferences sets it, and answers with what applies from now on.
func (a *Archive) setOwnPreferences(ctx context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
	share := r.Payload().Attr("share-read")
	if share != "true" && share != "false" {
		return nil, badQuery("share-read is true or false.")
	}
	if err := a.preferences.setHideReads(ctx, store.AccountID(r.Account), share == "false"); err != nil {
		return nil, a.failed("store a preference", r.Account, err)
	}
	return a.answerOwnPreferences(ctx, r)
}

func parsePreference(e *stanza.Element) (p store.ArchivePreference, refusal *stanza.Error) {
	if e == nil {
		return p, badQuery("There are no preferences.")
	}
	switch p.Default = strings.Clone(e.Attr("default")); p.Default {
	case keepAlways, keepNever, keepRoster:
	default:
		return p, badQuery("default is one of always, never and roster.")
	}
	read := func(local string) (list []jid.JID) {
		listed := e.Child(nsMAM, local)
		if listed == nil {
			return nil // XEP-0441 §2.1.2: as if it were empty
		}
		for item := range listed.Elements {
			if item.Space != nsMAM || item.Local != "jid" {
				continue
			}
			address, err := jid.Parse(item.Text())
			if err != nil {
				refusal = stanza.Refuse(stanza.JIDMalformed, "A list has something that is not an address.")
				return nil
			}
			list = append(list, address.Clone()) // it is kept, the stanza is not
		}
		return list
	}
	p.Always, p.Never = read("always"), read("never")
	if refusal == nil && len(p.Always)+len(p.Never) > maxPreferences {
		refusal = stanza.Refuse(stanza.NotAcceptable, "The lists have too many addresses.")
	}
	return p, refusal
}

func preferenceElement(p store.ArchivePreference) stanza.Element {
	if p.Default == "" {
		p.Default = keepAlways
	}
	list := func(local string, addresses []jid.JID) stanza.Element {
		out := stanza.New(nsMAM, local)
		for _, address := range addresses {
			out = out.With(stanza.New(nsMAM, "jid").WithText(address.String()))
		}
		return out
	}
	return stanza.New(nsMAM, "prefs", "default", p.Default).With(list("always", p.Always), list("never", p.Never))
}
