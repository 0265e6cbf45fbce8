package pbstream

import "github.com/posthouse-im/posthouse/wire/stanza"

// What has a typed form, in one table: which element each kind of Payload stands for, and which attribute or child each
// of its fields. typed.go writes and reads all of them; compact.proto says the same to compilers, dictionary.json to
// clients that interpret the table as this package does. Whatever says more than its form can is written as an Element.

// as says how a field stands for what it stands for.
type as uint8

// An attribute may have several fields, of which one is there.
const (
	asText    as = iota // the text; an empty one is the same as none
	asUUID              // 16 bytes, of which the text is a UUID in lower case
	asKey               // 16 bytes, of which the text is base64url without padding
	asData              // bytes, one at least, of which the text is base64 with padding
	asNumber            // a number in decimal
	asMillis            // a time, in milliseconds since 1970
	asSeconds           // a time, in seconds since 1970
	asName              // a number in a list of texts; 0 is the same as none
	asOwn               // the resource of an address of the account; an empty one is the bare address
	asChild             // a child element with this text; not repeated it is the first child, and not empty
	asForm              // a child element of another form
	asPayload           // children, each a Payload
)

// field is one field of a form.
type field struct {
	number uint32
	as     as
	// name is that of the attribute, or of the child element for asChild.
	name string
	// space is the namespace of the attribute.
	space    string
	names    []string // of asName, from 1
	of       *form    // of asForm
	repeated bool     // of asChild and asForm
	// one is the fields of which one may be there, itself included, as bits. newForm sets it.
	one uint64
	// after is where the fields of the next attribute begin. newForm sets it.
	after int
}

// implied says what an attribute is when it is absent from the form.
type implied uint8

const (
	nothing    implied = iota
	ofStanza           // the id of the stanza around
	ofAccount          // the bare form of the outermost stanza's to
	ofNestedID         // nothing; but the attribute id is that of a stanza, which ofStanza is about
	sha1               // "sha-1"
)

// form says what a message of compact.proto stands for.
type form struct {
	name         string // of the message
	space, local string
	// within is the child that has the form's children, in the namespace of forwarded messages; "" when there is none.
	within string
	fields []field
	// text says that the only field is the element's text.
	text bool
	// implied is about the attribute that the first field is for.
	implied implied

	attrs    int // how many of fields are about attributes
	byNumber [16]*field
}

// newForm completes a form: fields of one attribute follow each other, and children come last.
func newForm(f form) *form {
	for i := range f.fields {
		x := &f.fields[i]
		for j := range f.fields {
			y := &f.fields[j]
			if x.number == y.number || x.as < asChild && y.as < asChild && x.name == y.name && x.space == y.space {
				x.one |= 1 << y.number
			}
		}
		if f.byNumber[x.number] = x; x.as < asChild && !f.text {
			f.attrs++
		}
	}
	for i := range f.fields[:f.attrs] {
		x := &f.fields[i]
		for x.after = i; x.after < f.attrs && f.fields[x.after].one == x.one; {
			x.after++
		}
	}
	return &f
}

// identifier returns the three fields of an attribute that is an id, which are numbered from first on.
func identifier(first uint32, name string) []field {
	return []field{
		{number: first + 1, as: asUUID, name: name},
		{number: first + 2, as: asKey, name: name},
		{number: first, name: name},
	}
}

// moment returns the three fields of an attribute that is a time.
func moment(first uint32, name string) []field {
	return []field{
		{number: first, as: asMillis, name: name},
		{number: first + 1, as: asSeconds, name: name},
		{number: first + 2, name: name},
	}
}

// all joins fields.
func all(lists ...[]field) (out []field) {
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

// Names of attributes that are true or not there, or asked for or not.
var (
	truth  = []string{"", "true"}
	asking = []string{"", "subscribe"}
)

// The forms. Constant tables.
var (
	// XEP-0203.
	delayForm = newForm(form{name: "Delay", space: nsDelay, local: "delay",
		fields: append(moment(1, "stamp"), field{number: 4, name: "from"})})
	// A message in another one: by itself (XEP-0297 §3), as a carbon (XEP-0280 §6), as a result of an archive (XEP-0313
	// §4.2).
	messageForm = newForm(form{name: "Stanza", space: stanza.NSClient, local: "message", implied: ofNestedID,
		fields: all(
			[]field{
				{number: stanzaOwnFrom, as: asOwn, name: "from"},
				{number: stanzaFrom, name: "from"},
				{number: stanzaOwnTo, as: asOwn, name: "to"},
				{number: stanzaTo, name: "to"},
				{number: stanzaType, as: asName, name: "type", names: types[:]},
				{number: stanzaTypeName, name: "type"},
			},
			identifier(stanzaID, "id"),
			[]field{
				{number: stanzaLang, name: "lang", space: stanza.NSXML},
				{number: stanzaBody, as: asChild, name: "body"},
				{number: stanzaPayload, as: asPayload},
			})})
	forwarded = []field{
		{number: 1, as: asForm, of: delayForm}, {number: forwardedMessage, as: asForm, of: messageForm},
	}
	// RFC 6121 §2.1.2.
	itemForm = newForm(form{name: "RosterItem", space: nsRoster, local: "item", fields: []field{
		{number: 1, name: "jid"},
		{number: 2, name: "name"},
		{number: 3, as: asName, name: "subscription", names: subscriptions[:]},
		{number: 4, as: asName, name: "ask", names: asking},
		{number: 5, as: asName, name: "approved", names: truth},
		{number: 6, as: asChild, name: "group", repeated: true},
	}})
	items  = field{number: 2, as: asForm, of: itemForm, repeated: true}
	text   = []field{{number: 1}}
	marker = append([]field{{number: 1, as: asNumber, name: "number"}}, identifier(2, "id")...)

	// forms has the kinds of Payload that have one.
	forms = [...]*form{
		kindOriginID: newForm(form{name: "Id", space: nsSID, local: "origin-id", implied: ofStanza,
			fields: identifier(1, "id")}),
		kindStanzaID: newForm(form{name: "StanzaId", space: nsSID, local: "stanza-id", implied: ofAccount,
			fields: append([]field{{number: 4, name: "by"}}, identifier(1, "id")...)}),
		kindConfirmed: newForm(form{name: "Confirmed", space: nsConfirm, local: "confirmed", fields: all(
			identifier(1, "id"),
			identifier(4, "stanza-id"),
			[]field{
				{number: 7, name: "conversation"},
				{number: 8, as: asNumber, name: "number"},
				{number: 9, as: asMillis, name: "stamp"},
				{number: 10, as: asName, name: "duplicate", names: truth},
			})}),
		kindDelivered: newForm(form{name: "Marker", space: nsMarker, local: "delivered", fields: marker}),
		kindRead:      newForm(form{name: "Marker", space: nsMarker, local: "read", fields: marker}),
		kindDelay:     delayForm,
		kindForwarded: newForm(form{name: "Forwarded", space: nsForward, local: "forwarded", fields: forwarded}),
		kindSent: newForm(form{name: "Forwarded", space: nsCarbons, local: "sent", within: "forwarded",
			fields: forwarded}),
		kindReceived: newForm(form{name: "Forwarded", space: nsCarbons, local: "received", within: "forwarded",
			fields: forwarded}),
		kindResult: newForm(form{name: "Result", space: nsMAM, local: "result", within: "forwarded", fields: all(
			identifier(3, "id"),
			[]field{{number: 6, name: "queryid"}},
			forwarded)}),
		kindSync: newForm(form{name: "Sync", space: nsSync, local: "sync", fields: []field{
			{number: 1, name: "cursor"},
			{number: 2, as: asNumber, name: "max"},
			{number: 3, as: asName, name: "more", names: truth},
			{number: 4, as: asName, name: "first", names: truth},
			{number: 5, as: asPayload},
		}}),
		kindRoster: newForm(form{name: "Roster", space: nsRoster, local: "query",
			fields: []field{{number: 1, name: "ver"}, items}}),
		kindConversation: newForm(form{name: "Conversation", space: nsSync, local: "conversation", fields: all(
			[]field{
				{number: 1, name: "with"},
				{number: 2, as: asNumber, name: "number"},
				{number: 3, as: asNumber, name: "read"},
				{number: 4, as: asNumber, name: "delivered"},
				{number: 5, as: asNumber, name: "peer-read"},
				{number: 6, as: asNumber, name: "peer-delivered"},
				{number: 7, as: asNumber, name: "unread"},
			},
			identifier(8, "last"),
			moment(11, "muted-until"),
			[]field{{number: 14, as: asName, name: "pinned", names: truth}})}),
		// XEP-0115 §4.
		kindCaps: newForm(form{name: "Caps", space: nsCaps, local: "c", implied: sha1, fields: []field{
			{number: 4, name: "hash"},
			{number: 1, name: "node"},
			{number: 2, as: asData, name: "ver"},
			{number: 3, name: "ver"},
		}}),
		// RFC 6121 §4.7.2.
		kindStatus:   newForm(form{name: "Text", space: stanza.NSClient, local: "status", text: true, fields: text}),
		kindPriority: newForm(form{name: "Text", space: stanza.NSClient, local: "priority", text: true, fields: text}),
		kindContacts: newForm(form{name: "Contacts", space: nsSync, local: "roster",
			fields: []field{{number: 1, as: asName, name: "all", names: truth}, items}}),
	}
)

// signals are whole elements, by number.
var signals = [...]struct{ space, local, text string }{
	1:  {nsReceipts, "request", ""},
	2:  {nsMarkers, "markable", ""},
	3:  {nsHints, "store", ""},
	4:  {nsHints, "no-store", ""},
	5:  {nsHints, "no-copy", ""},
	6:  {nsChatStates, "active", ""},
	7:  {nsChatStates, "composing", ""},
	8:  {nsChatStates, "paused", ""},
	9:  {nsChatStates, "inactive", ""},
	10: {nsChatStates, "gone", ""},
	11: {stanza.NSClient, "show", "away"},
	12: {stanza.NSClient, "show", "chat"},
	13: {stanza.NSClient, "show", "dnd"},
	14: {stanza.NSClient, "show", "xa"},
	15: {nsPing, "ping", ""},
}
