package local

import (
	"fmt"
	"slices"
	"strings"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Form says what an address names.
type Form uint8

// The forms of an address of this domain.
const (
	ToDomain         Form = iota // the domain
	ToDomainResource             // domain/something
	ToBare                       // an account
	ToFull                       // a resource of an account
)

func (f Form) String() string {
	return [...]string{"domain", "domain/…", "bare", "full"}[f]
}

func formOf(to jid.JID) Form {
	form := ToDomain
	if to.Local() != "" {
		form = ToBare
	}
	if to.IsFull() {
		form++
	}
	return form
}

// State says who is there. A session is live when it is available with a priority that is not negative.
type State uint8

// The states of an address.
const (
	NoAccount State = iota // there is no such account
	Absent                 // no session is live, nor is it the one addressed
	Live                   // a session is live, and none is the one addressed
	Match                  // the resource addressed is bound, available or not
)

func (s State) String() string {
	return [...]string{"no account", "none live", "live", "that resource"}[s]
}

// Action is what the table says to do.
type Action uint8

// The actions.
const (
	Undecided        Action = iota // the table has no such line: a mistake in the table
	Drop                           // nothing happens and nobody is told
	Refuse                         // the sender gets <service-unavailable/>
	Deliver                        // to the resource addressed
	DeliverLive                    // to every live session
	DeliverAvailable               // to every available session, whatever its priority
	// to the resource addressed, when its account shares presence with the sender; otherwise as Refuse
	DeliverRequest
	Keep          // it waits in the archive for a session that becomes live
	Answer        // the IQ table answers for the domain or the account
	Subscriptions // the account's subscriptions decide (RFC 6121 §3, §4.3)
	Deny          // the sender gets presence of type unsubscribed, as from an account that shares nothing
	actionCount
)

func (a Action) String() string {
	return [...]string{
		"undecided", "ignore", "service-unavailable", "deliver to it", "deliver to all live",
		"deliver to all available",
		"deliver to it unless not subscribed", "keep", "answer", "subscriptions", "unsubscribed",
	}[a]
}

// label is the action as a metric's label value.
func (a Action) label() string {
	return [...]string{
		"undecided", "drop", "refuse", "deliver", "deliver_live", "deliver_available", "deliver_request", "keep",
		"answer",
		"subscriptions", "deny",
	}[a]
}

// Stored says whether a rule is for messages in the archive.
type Stored uint8

// The values of Stored.
const (
	Either Stored = iota
	InArchive
	NotInArchive
)

func (s Stored) String() string { return [...]string{"", "yes", "no"}[s] }

// rule is one line of the delivery table.
type rule struct {
	kind   stanza.Kind
	types  string // separated by spaces; "available" is the absent type of presence
	form   Form
	states []State // nil where the state does not matter
	stored Stored
	action Action
	ref    string // RFC 6121 where no other document is named
}

var (
	anyState  []State // the state does not matter
	noAccount = []State{NoAccount}
	absent    = []State{Absent}
	live      = []State{Live}
	match     = []State{Match}
	exists    = []State{Absent, Live}
	noMatch   = []State{NoAccount, Absent, Live}
	someone   = []State{Absent, Live, Match}
)

// rules is the delivery table of RFC 6121 §8, with the choices that it leaves to the server made. docs/delivery.md
// repeats it line by line; a test compares the two. No two lines may match the same stanza.
var rules = []rule{
	// To the domain.
	{stanza.Message, "normal chat groupchat headline", ToDomain, anyState, Either, Refuse, "RFC 6120 §10.5.1"},
	{stanza.Message, "error", ToDomain, anyState, Either, Drop, "RFC 6120 §8.3.1"},
	{stanza.Presence, "available unavailable subscribe subscribed unsubscribe unsubscribed probe error", ToDomain,
		anyState, Either, Drop, "RFC 6120 §10.5.1"},
	{stanza.IQ, "get set", ToDomain, anyState, Either, Answer, "RFC 6120 §10.5.1"},
	{stanza.IQ, "result error", ToDomain, anyState, Either, Drop, "RFC 6120 §8.2.3"},
	{stanza.Message, "normal chat groupchat headline", ToDomainResource, anyState, Either, Refuse, "RFC 6120 §10.5.2"},
	{stanza.Message, "error", ToDomainResource, anyState, Either, Drop, "RFC 6120 §8.3.1"},
	{stanza.Presence, "available unavailable subscribe subscribed unsubscribe unsubscribed probe error",
		ToDomainResource, anyState, Either, Drop, "RFC 6120 §10.5.2"},
	{stanza.IQ, "get set", ToDomainResource, anyState, Either, Refuse, "RFC 6120 §10.5.2"},
	{stanza.IQ, "result error", ToDomainResource, anyState, Either, Drop, "RFC 6120 §8.2.3"},

	// Messages to an account.
	{stanza.Message, "normal chat groupchat", ToBare, noAccount, Either, Refuse, "§8.5.1"},
	{stanza.Message, "headline error", ToBare, noAccount, Either, Drop, "§8.5.1"},
	{stanza.Message, "normal chat", ToBare, live, Either, DeliverLive, "§8.5.2.1.1"},
	{stanza.Message, "normal chat", ToBare, absent, InArchive, Keep, "§8.5.2.2.1"},
	{stanza.Message, "normal chat", ToBare, absent, NotInArchive, Drop, "§8.5.2.2.1, XEP-0160 §3"},
	{stanza.Message, "groupchat", ToBare, exists, Either, Refuse, "§8.5.2.1.1"},
	{stanza.Message, "headline", ToBare, live, Either, DeliverLive, "§8.5.2.1.1"},
	{stanza.Message, "headline", ToBare, absent, Either, Drop, "§8.5.2.2.1"},
	{stanza.Message, "error", ToBare, exists, Either, Drop, "§8.5.2.1.1"},

	// Messages to a resource.
	{stanza.Message, "normal chat groupchat headline error", ToFull, match, Either, Deliver, "§8.5.3.1"},
	{stanza.Message, "normal chat groupchat headline", ToFull, noAccount, Either, Refuse, "§8.5.1"},
	{stanza.Message, "chat", ToFull, live, Either, DeliverLive, "§8.5.3.2.1"},
	{stanza.Message, "chat", ToFull, absent, InArchive, Keep, "§8.5.3.2.1"},
	{stanza.Message, "chat", ToFull, absent, NotInArchive, Drop, "§8.5.3.2.1"},
	{stanza.Message, "normal groupchat headline", ToFull, exists, Either, Refuse, "§8.5.3.2.1, note 3"},
	{stanza.Message, "error", ToFull, noMatch, Either, Drop, "§8.5.3.2.1"},

	// Presence.
	{stanza.Presence, "available unavailable", ToBare, noAccount, Either, Drop, "§8.5.1"},
	{stanza.Presence, "available unavailable", ToBare, exists, Either, DeliverAvailable, "§8.5.2.1.2"},
	{stanza.Presence, "available unavailable", ToFull, match, Either, Deliver, "§8.5.3.1"},
	{stanza.Presence, "available unavailable", ToFull, noMatch, Either, Drop, "§8.5.3.2.2"},
	{stanza.Presence, "subscribe subscribed unsubscribe unsubscribed", ToBare, noAccount, Either, Drop, "§8.5.1"},
	{stanza.Presence, "subscribe subscribed unsubscribe unsubscribed", ToBare, exists, Either, Subscriptions,
		"§8.5.2.1.2, §3"},
	{stanza.Presence, "subscribe subscribed unsubscribe unsubscribed", ToFull, noAccount, Either, Drop, "§8.5.1"},
	{stanza.Presence, "subscribe subscribed unsubscribe unsubscribed", ToFull, someone, Either, Subscriptions,
		"§8.5.3.1, §3"},
	{stanza.Presence, "probe", ToBare, noAccount, Either, Deny, "§8.5.1, §4.3.2"},
	{stanza.Presence, "probe", ToBare, exists, Either, Subscriptions, "§4.3.2"},
	{stanza.Presence, "probe", ToFull, noAccount, Either, Deny, "§8.5.1, §4.3.2"},
	{stanza.Presence, "probe", ToFull, someone, Either, Subscriptions, "§4.3.2"},
	{stanza.Presence, "error", ToBare, []State{NoAccount, Absent, Live}, Either, Drop, "RFC 6120 §8.3.1"},
	{stanza.Presence, "error", ToFull, match, Either, Deliver, "§8.5.3.1"},
	{stanza.Presence, "error", ToFull, noMatch, Either, Drop, "RFC 6120 §8.3.1"},

	// IQ.
	{stanza.IQ, "get set", ToBare, noMatch, Either, Answer, "§8.5.1, §8.5.2.1.3"},
	{stanza.IQ, "result error", ToBare, []State{NoAccount, Absent, Live}, Either, Drop, "§8.5.2.1.3"},
	{stanza.IQ, "get set", ToFull, match, Either, DeliverRequest, "§8.5.3.1"},
	{stanza.IQ, "result error", ToFull, match, Either, Deliver, "§8.5.3.1"},
	{stanza.IQ, "get set", ToFull, noMatch, Either, Refuse, "§8.5.3.2.3"},
	{stanza.IQ, "result error", ToFull, noMatch, Either, Drop, "§8.5.3.2.3"},
}

// types numbers the values of the type attribute of each kind.
var types = [stanza.IQ + 1][]string{
	stanza.Message: {"normal", "chat", "groupchat", "headline", "error"},
	stanza.Presence: {"available", "unavailable", "subscribe", "subscribed", "unsubscribe", "unsubscribed", "probe",
		"error"},
	stanza.IQ: {"get", "set", "result", "error"},
}

const maxTypes = 8

// typeOf returns the number of a stanza's type, or -1 for one that RFC 6120 and RFC 6121 do not know.
func typeOf(s *stanza.Stanza) int {
	name := s.Type
	switch {
	case s.Kind == stanza.Message:
		name = s.MessageType()
	case s.Kind == stanza.Presence && name == "":
		return 0
	case s.Kind == stanza.Presence && name == "available":
		return -1 // the absent type is available; the word is not a value of the attribute
	}
	for i, known := range types[s.Kind] {
		if name == known {
			return i
		}
	}
	return -1
}

// decisions is the table made ready for looking up.
var decisions = compile(rules)

type decisionTable [stanza.IQ + 1][maxTypes][ToFull + 1][Match + 1][2]Action

func compile(rules []rule) (t decisionTable) {
	for _, r := range rules {
		r.each(func(kind stanza.Kind, typ int, state State, stored int) {
			cell := &t[kind][typ][r.form][state][stored]
			if *cell != Undecided {
				panic(fmt.Sprintf("local: two delivery rules for %v %s to %v, %v", kind, types[kind][typ], r.form,
					state))
			}
			*cell = r.action
		})
	}
	return t
}

// each calls f for everything that the rule matches.
func (r *rule) each(f func(kind stanza.Kind, typ int, state State, stored int)) {
	states := r.states
	if states == nil {
		states = []State{NoAccount, Absent, Live, Match}
	}
	for _, name := range strings.Fields(r.types) {
		for typ, known := range types[r.kind] {
			if name != known {
				continue
			}
			for _, state := range states {
				if r.stored != InArchive {
					f(r.kind, typ, state, 0)
				}
				if r.stored != NotInArchive {
					f(r.kind, typ, state, 1)
				}
			}
		}
	}
}

// decide looks the table up. It is a pure function.
func decide(kind stanza.Kind, typ int, form Form, state State, stored bool) Action {
	if typ < 0 {
		return Refuse
	}
	i := 0
	if stored {
		i = 1
	}
	return decisions[kind][typ][form][state][i]
}

// decideAccepted is decide for a message that was accepted, and cannot be refused any more: the resource that it is
// addressed to has left since, or it is one that concerns the account. Then a normal message is treated like chat, and
// nothing happens with others (note 3).
func decideAccepted(s *stanza.Stanza, form Form, state State, stored bool) Action {
	action := decide(s.Kind, typeOf(s), form, state, stored)
	if action != Refuse {
		return action
	}
	if s.MessageType() == stanza.TypeNormal {
		return decide(s.Kind, typeChat, form, state, stored)
	}
	return Drop
}

// typeChat is the number of the type chat.
var typeChat = slices.Index(types[stanza.Message], stanza.TypeChat)

// DeliveryTable returns the table as lines of Markdown, as docs/delivery.md shows it.
func DeliveryTable() []string {
	lines := []string{
		"| stanza | type | addressed to | who is there | in the archive | what happens | by |",
		"|---|---|---|---|---|---|---|",
	}
	for _, r := range rules {
		var states []string
		for _, s := range r.states {
			states = append(states, s.String())
		}
		lines = append(lines, fmt.Sprintf("| %v | %s | %v | %s | %v | %v | %s |", r.kind,
			strings.ReplaceAll(r.types, " ", ", "), r.form, strings.Join(states, ", "), r.stored, r.action, r.ref))
	}
	return lines
}
