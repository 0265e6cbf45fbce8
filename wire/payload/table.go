package payload

import "github.com/posthouse-im/posthouse/wire/stanza"

// Row is what one payload element means wherever it is handled: one line of the table.
type Row struct {
	// Space and Local name the element. Local "" stands for every element of the namespace without a row of its own.
	Space, Local string
	Storage      Storage
	Unread       Unread
	Carbon       Carbon
	Sender       Sender
	Relation     Relation
	// By is the document and section that says so.
	By string
}

// table has one row for each element; docs/payloads.md shows it, and a test compares the two. Within a namespace, rows
// with a name come before the row of all other names. What the table does not have is as own and unknown say.
var table = [...]Row{
	// Content: what people read, by whichever name.
	{stanza.NSClient, "body", Archived, Counts, Copied, Anyone, None, "XEP-0313 §6.1.1"},
	{stanza.NSClient, "subject", Archived, Counts, AsType, Anyone, None, "RFC 6121 §5.2.4"},
	{NSOOB, "", Archived, Counts, AsType, Anyone, None, "XEP-0066 §3: a file"},
	{"urn:xmpp:sims:1", "", Archived, Counts, AsType, Anyone, None, "XEP-0385: a file"},
	{NSFileSharing, "", Archived, Counts, AsType, Anyone, None, "XEP-0447 §3.1: a file"},
	{"urn:xmpp:stickers:0", "", Archived, Counts, AsType, Anyone, None, "XEP-0449"},
	{NSGeoloc, "", Archived, Counts, AsType, Anyone, None, "XEP-0080"},
	{NSForward, "forwarded", Archived, Counts, AsType, Anyone, None, "XEP-0297 §3.1: a message that is passed on"},
	{NSContent, "card", Archived, Counts, AsType, Anyone, None, "messages.md: our own kinds of content"},
	{NSContent, "code", Archived, Counts, AsType, Anyone, None, "messages.md"},
	{NSContent, "custom", Archived, Counts, AsType, Anyone, None, "messages.md"},
	{NSContent, "notice", Archived, Counts, AsType, Anyone, None, "messages.md"},
	{"jabber:x:encrypted", "", Archived, Counts, AsType, Anyone, None, "XEP-0027 §3.2: only the recipient can read it"},
	{"urn:xmpp:openpgp:0", "", Archived, Counts, AsType, Anyone, None, "XEP-0373"},
	{"eu.siacs.conversations.axolotl", "encrypted", Archived, Counts, AsType, Anyone, None,
		"XEP-0384 before version 0.4"},
	{"urn:xmpp:omemo:1", "encrypted", Archived, Counts, AsType, Anyone, None, "XEP-0384"},
	{"urn:xmpp:omemo:2", "encrypted", Archived, Counts, AsType, Anyone, None, "XEP-0384"},
	{"urn:xmpp:sce:1", "", Archived, Counts, AsType, Anyone, None, "XEP-0420"},
	{NSConference, "", Archived, Counts, Copied, Anyone, None, "XEP-0249 §2: an invitation"},
	{NSMUCUser, "", Archived, Counts, CopiedInvite, OnlyToRooms, None, "XEP-0045 §7.8.2, XEP-0280 §6"},
	{nsRosterX, "", Archived, Counts, AsType, Anyone, None, "XEP-0144: contacts"},
	{NSForms, "x", Archived, Counts, AsType, Anyone, None, "XEP-0004 §3: a form to fill in"},

	// What is said of an earlier message.
	{NSReceipts, "received", Archived, Nothing, Copied, Anyone, Delivered, "XEP-0184 §7"},
	{NSMarkers, "received", Archived, Nothing, Copied, Anyone, Delivered, "XEP-0333 §6"},
	{NSMarkers, "displayed", Archived, Nothing, Copied, Anyone, Read, "XEP-0333 §6"},
	{NSMarkers, "acknowledged", Archived, Nothing, Copied, Anyone, Read, "XEP-0333 §6"},
	{NSMarker, "delivered", Archived, Nothing, Copied, Anyone, Delivered, "messages.md"},
	{NSMarker, "read", Archived, Nothing, Copied, Anyone, Read, "messages.md"},
	{NSCorrect, "replace", Archived, Cancels, AsType, Anyone, Edits, "XEP-0308 §3"},
	{NSRetract, "retract", Archived, Cancels, Copied, NotModerated, Retracts, "XEP-0424 §3"},
	{NSRetract, "retracted", Archived, Cancels, Copied, ServersOnly, None,
		"XEP-0424 §5: says what an archive took out"},
	{NSRetract, "", Archived, Cancels, Copied, NotModerated, None, "XEP-0424"},
	{"urn:xmpp:message-retract:0", "", Archived, Cancels, AsType, Anyone, None, "XEP-0424 before version 0.4"},
	{NSModerate, "moderated", Archived, Cancels, AsType, ServersOnly, None, "XEP-0425 §5"},
	{NSModerate, "", Archived, Cancels, AsType, Anyone, None, "XEP-0425"},
	{"urn:xmpp:fasten:0", "apply-to", Archived, Cancels, AsType, Anyone, None, "XEP-0422 §3"},
	{NSReactions, "reactions", Archived, Cancels, Copied, Anyone, Reacts, "XEP-0444 §3"},
	{NSReply, "reply", Transient, Nothing, AsType, Anyone, Replies, "XEP-0461 §3: it goes with a body"},
	{NSJingle, "", Archived, Cancels, Copied, Anyone, None, "XEP-0353 §3: a call that was missed"},

	// What is worth something only now.
	{nsHTTPAuth, "", Offline, Nothing, AsType, Anyone, None, "XEP-0070: to be answered, not to be read again"},
	{NSChatStates, "", Transient, Nothing, Copied, Anyone, None, "XEP-0085 §5.8, XEP-0160 §3, XEP-0280 §10.2"},
	{nsEvent, "", Transient, Nothing, AsType, Anyone, None, "XEP-0022"},
	{nsRTT, "", Transient, Nothing, AsType, Anyone, None, "XEP-0301: the text follows as a body"},
	{nsIBB, "", Transient, Nothing, AsType, Anyone, None, "XEP-0047: worth nothing out of its session"},
	{NSAttention, "", Transient, Nothing, AsType, Anyone, None, "XEP-0224"},

	// What says something about other content, and nothing without it.
	{stanza.NSClient, "thread", Transient, Nothing, AsType, Anyone, None, "RFC 6121 §5.2.5"},
	{nsNick, "", Transient, Nothing, AsType, Anyone, None, "XEP-0172"},
	{nsXHTML, "", Transient, Nothing, AsType, Anyone, None, "XEP-0071: it comes with a body"},
	{NSReceipts, "request", Transient, Nothing, Copied, Anyone, None, "XEP-0184 §7"},
	{NSMarkers, "markable", Transient, Nothing, Copied, Anyone, None, "XEP-0333 §6"},
	{NSStanzaID, "stanza-id", Transient, Nothing, AsType, NotByUs, None, "XEP-0359 §4"},
	{NSStanzaID, "", Transient, Nothing, AsType, Anyone, None, "XEP-0359 §3.2"},
	{NSFallback, "", Transient, Nothing, AsType, Anyone, None, "XEP-0428 §2.2: it is about a body"},
	{NSEncryption, "", Transient, Nothing, AsType, Anyone, None, "XEP-0380"},
	{"urn:xmpp:idle:1", "", Transient, Nothing, AsType, Anyone, None, "XEP-0319"},
	{NSDelay, "", Transient, Nothing, AsType, NotFromUs, None, "XEP-0203 §3"},
	{NSOccupantID, "", Transient, Nothing, AsType, ServersOnly, None, "XEP-0421: a room says it"},
	{NSAddresses, "", Transient, Nothing, AsType, ServersOnly, None, "XEP-0033: a multicast service says it"},
	{NSCarbons, "received", Transient, Nothing, NotCopied, ServersOnly, None, "XEP-0280 §11"},
	{NSCarbons, "sent", Transient, Nothing, NotCopied, ServersOnly, None, "XEP-0280 §11"},
	{NSCarbons, "", Transient, Nothing, NotCopied, Anyone, None, "XEP-0280 §9"},
	{NSMAM, "", Offline, Nothing, AsType, ServersOnly, None, "XEP-0313 §4.2: an archive says it"},

	// What asks something of the server.
	{NSHints, "store", AskStore, Nothing, AsType, Anyone, None, "XEP-0334 §4.4"},
	{NSHints, "no-store", AskNoStore, Nothing, AsType, Anyone, None, "XEP-0334 §4.2"},
	{NSHints, "no-permanent-store", AskNoStore, Nothing, AsType, Anyone, None, "XEP-0334 §4.1: the log is permanent"},
	{NSHints, "no-copy", Transient, Nothing, NotCopied, Anyone, None, "XEP-0334 §4.3"},
	{NSHints, "", Transient, Nothing, AsType, Anyone, None, "XEP-0334"},
}

var (
	// own is the row of what is in a namespace of ours and not in the table.
	own = Row{NSOwn, "", Offline, Nothing, AsType, ServersOnly, None, "clients say it in requests only"}
	// unknown is the row of everything else. XEP-0160 asks to keep it for delivery, XEP-0313 does not ask to show it.
	unknown = Row{"", "", Offline, Nothing, AsType, Anyone, None, "XEP-0160 §3, XEP-0313 §6.1.1"}
)

// Storage is what becomes of a chat or normal message that has the element. Of several elements the highest value
// decides.
type Storage uint8

// The values of Storage.
const (
	// Transient: the message goes the same way in its turn, and is not stored.
	Transient Storage = iota
	// Offline: stored for delivery, in nobody's history.
	Offline
	// Archived: stored for delivery and in the history of both sides.
	Archived
	// AskStore and AskNoStore ask for Archived and Transient, whatever else the message has. No Meaning has these
	// values.
	AskStore
	AskNoStore
)

func (s Storage) String() string {
	return [...]string{"transient", "offline", "archived", "asks: archived", "asks: transient"}[s]
}

// Unread is what the element does to the count of unread messages.
type Unread uint8

// The values of Unread.
const (
	Nothing Unread = iota
	// Counts: the message says something of its own, and waits to be read.
	Counts
	// Cancels: the message changes an earlier one, and does not count whatever else it says.
	Cancels
)

func (u Unread) String() string { return [...]string{"", "counts", "does not count"}[u] }

// Carbon is what the element does to copies for other devices (XEP-0280 §6): a chat message is copied, a normal one
// when an element says so.
type Carbon uint8

// The values of Carbon.
const (
	AsType Carbon = iota
	Copied
	// CopiedInvite: copied when it has an invitation; otherwise the message comes from a room and is not copied.
	CopiedInvite
	NotCopied
)

func (c Carbon) String() string {
	return [...]string{"", "copied", "copied with an invitation only", "not copied"}[c]
}

// Sender is who may say the element. What a client may not say is taken out of its messages and presence.
type Sender uint8

// The values of Sender.
const (
	Anyone Sender = iota
	ServersOnly
	// NotByUs: a client may not name an address of this domain in "by".
	NotByUs
	// NotFromUs: a client may not name an address of this domain other than its own in "from".
	NotFromUs
	// NotModerated: a client may not say that it was moderated.
	NotModerated
	// OnlyToRooms: a client may say it to another domain or a room, to invite, to decline, or in a private message.
	OnlyToRooms
)

func (s Sender) String() string {
	return [...]string{
		"", "servers", "clients not in the name of this domain", "clients not in the name of others of this domain",
		"clients without `<moderated/>`", "clients to rooms only",
	}[s]
}

// Relation is what the message does to an earlier one of its conversation, which the element names in its attribute
// "id" or, in a namespace of our own, "number".
type Relation uint8

// The values of Relation.
const (
	None Relation = iota
	// Delivered and Read mark it and all before it, sent by the other party.
	Delivered
	Read
	// Edits and Retracts name a message of the sender's own.
	Edits
	Retracts
	// Reacts and Replies name any message.
	Reacts
	Replies
)

func (r Relation) String() string {
	return [...]string{"", "delivered", "read", "edits it", "retracts it", "reacts to it", "replies to it"}[r]
}
