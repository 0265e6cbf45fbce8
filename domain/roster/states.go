package roster

import (
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// State is a subscription state of RFC 6121 Appendix A.1, from the point of view of the account that owns the roster.
type State uint8

// The nine states. To: the account sees the contact's presence. From: the contact sees the account's.
// Out: the account has asked and waits. In: the contact has asked and waits.
const (
	None State = iota
	NoneOut
	NoneIn
	NoneOutIn
	To
	ToIn
	From
	FromOut
	Both
	stateCount
)

func (s State) String() string {
	return [...]string{
		"None", "None + Pending Out", "None + Pending In", "None + Pending Out+In", "To", "To + Pending In", "From",
		"From + Pending Out", "Both",
	}[s]
}

// stateOf returns the state of an item. Flags that exclude each other cannot be stored by this package; of such, being
// subscribed wins over waiting.
func stateOf(it *store.RosterItem) State {
	switch {
	case it.To && it.From:
		return Both
	case it.To && it.PendingIn:
		return ToIn
	case it.To:
		return To
	case it.From && it.PendingOut:
		return FromOut
	case it.From:
		return From
	case it.PendingOut && it.PendingIn:
		return NoneOutIn
	case it.PendingOut:
		return NoneOut
	case it.PendingIn:
		return NoneIn
	}
	return None
}

// set puts the item into the state.
func (s State) set(it *store.RosterItem) {
	it.To = s == To || s == ToIn || s == Both
	it.From = s == From || s == FromOut || s == Both
	it.PendingOut = s == NoneOut || s == NoneOutIn || s == FromOut
	it.PendingIn = s == NoneIn || s == NoneOutIn || s == ToIn
	if !it.PendingIn {
		it.Request = nil
	}
}

// step is one line of the tables of Appendix A.
type step struct {
	// pass: the stanza is routed to the contact (outbound), or delivered to the account's devices (inbound).
	pass bool
	next State
	// reply is the type of the presence that answers it at once, "" for none (inbound only).
	reply string
	// approve: an approval with nothing to approve is noted in advance (outbound only, RFC 6121 §3.4).
	approve bool
}

// kinds numbers the four types of subscription presence.
const (
	subscribe = iota
	subscribed
	unsubscribe
	unsubscribed
	kindCount
)

// kindOf returns the number of a presence type, or -1 when it does not concern subscriptions.
func kindOf(presenceType string) int {
	switch presenceType {
	case stanza.TypeSubscribe:
		return subscribe
	case stanza.TypeSubscribed:
		return subscribed
	case stanza.TypeUnsubscribe:
		return unsubscribe
	case stanza.TypeUnsubscribed:
		return unsubscribed
	}
	return -1
}

// outbound is RFC 6121 Appendix A.2: what becomes of a subscription stanza that the account sends.
var outbound = [kindCount][stateCount]step{
	subscribe: { // A.2.1; always routed, because the contact's server may have lost it
		None:      {pass: true, next: NoneOut},
		NoneOut:   {pass: true, next: NoneOut},
		NoneIn:    {pass: true, next: NoneOutIn},
		NoneOutIn: {pass: true, next: NoneOutIn},
		To:        {pass: true, next: To},
		ToIn:      {pass: true, next: ToIn},
		From:      {pass: true, next: FromOut},
		FromOut:   {pass: true, next: FromOut},
		Both:      {pass: true, next: Both},
	},
	unsubscribe: { // A.2.2
		None:      {pass: true, next: None},
		NoneOut:   {pass: true, next: None},
		NoneIn:    {pass: true, next: NoneIn},
		NoneOutIn: {pass: true, next: NoneIn},
		To:        {pass: true, next: None},
		ToIn:      {pass: true, next: NoneIn},
		From:      {pass: true, next: From},
		FromOut:   {pass: true, next: From},
		Both:      {pass: true, next: From},
	},
	subscribed: { // A.2.3
		None:      {next: None, approve: true},
		NoneOut:   {next: NoneOut, approve: true},
		NoneIn:    {pass: true, next: From},
		NoneOutIn: {pass: true, next: FromOut},
		To:        {next: To, approve: true},
		ToIn:      {pass: true, next: Both},
		From:      {next: From},
		FromOut:   {next: FromOut},
		Both:      {next: Both},
	},
	unsubscribed: { // A.2.4; it also takes back an approval given in advance
		None:      {next: None},
		NoneOut:   {next: NoneOut},
		NoneIn:    {pass: true, next: None},
		NoneOutIn: {pass: true, next: NoneOut},
		To:        {next: To},
		ToIn:      {pass: true, next: To},
		From:      {pass: true, next: None},
		FromOut:   {pass: true, next: NoneOut},
		Both:      {pass: true, next: To},
	},
}

// inbound is RFC 6121 Appendix A.3: what becomes of one that the account is sent.
var inbound = [kindCount][stateCount]step{
	subscribe: { // A.3.1; what was approved in advance is handled before the table is asked
		None:      {pass: true, next: NoneIn},
		NoneOut:   {pass: true, next: NoneOutIn},
		NoneIn:    {next: NoneIn},
		NoneOutIn: {next: NoneOutIn},
		To:        {pass: true, next: ToIn},
		ToIn:      {next: ToIn},
		From:      {next: From, reply: stanza.TypeSubscribed},
		FromOut:   {next: FromOut, reply: stanza.TypeSubscribed},
		Both:      {next: Both, reply: stanza.TypeSubscribed},
	},
	unsubscribe: { // A.3.2
		None:      {next: None},
		NoneOut:   {next: NoneOut},
		NoneIn:    {pass: true, next: None},
		NoneOutIn: {pass: true, next: NoneOut},
		To:        {next: To},
		ToIn:      {pass: true, next: To},
		From:      {pass: true, next: None},
		FromOut:   {pass: true, next: NoneOut},
		Both:      {pass: true, next: To},
	},
	subscribed: { // A.3.3
		None:      {next: None},
		NoneOut:   {pass: true, next: To},
		NoneIn:    {next: NoneIn},
		NoneOutIn: {pass: true, next: ToIn},
		To:        {next: To},
		ToIn:      {next: ToIn},
		From:      {next: From},
		FromOut:   {pass: true, next: Both},
		Both:      {next: Both},
	},
	unsubscribed: { // A.3.4
		None:      {next: None},
		NoneOut:   {pass: true, next: None},
		NoneIn:    {next: NoneIn},
		NoneOutIn: {pass: true, next: NoneIn},
		To:        {pass: true, next: None},
		ToIn:      {pass: true, next: NoneIn},
		From:      {next: From},
		FromOut:   {pass: true, next: From},
		Both:      {pass: true, next: From},
	},
}

// approved is what an inbound subscribe leads to when the contact was approved in advance (RFC 6121 §3.4.3), for the
// states in which it would otherwise have to wait.
var approved = map[State]State{None: From, NoneOut: FromOut, To: Both}
