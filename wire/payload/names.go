package payload

import "github.com/posthouse-im/posthouse/wire/stanza"

// Namespaces of the elements in the table.
const (
	NSAddresses   = "http://jabber.org/protocol/address"
	NSAttention   = "urn:xmpp:attention:0"
	NSCarbons     = stanza.NSCarbons
	NSChatStates  = "http://jabber.org/protocol/chatstates"
	NSConference  = "jabber:x:conference"
	NSContent     = "urn:posthouse:content:1"
	NSCorrect     = "urn:xmpp:message-correct:0"
	NSDelay       = "urn:xmpp:delay"
	NSEncryption  = "urn:xmpp:eme:0"
	NSFallback    = "urn:xmpp:fallback:0"
	NSFileSharing = "urn:xmpp:sfs:0"
	NSForward     = stanza.NSForward
	NSForms       = "jabber:x:data"
	NSGeoloc      = "http://jabber.org/protocol/geoloc"
	NSHints       = "urn:xmpp:hints"
	NSJingle      = "urn:xmpp:jingle-message:0"
	NSMAM         = "urn:xmpp:mam:2"
	NSMarker      = "urn:posthouse:marker:1"
	NSMarkers     = "urn:xmpp:chat-markers:0"
	NSModerate    = "urn:xmpp:message-moderate:1"
	NSMUCUser     = "http://jabber.org/protocol/muc#user"
	NSOccupantID  = "urn:xmpp:occupant-id:0"
	NSOOB         = "jabber:x:oob"
	NSReactions   = "urn:xmpp:reactions:0"
	NSReceipts    = "urn:xmpp:receipts"
	NSReference   = "urn:xmpp:reference:0"
	NSReply       = "urn:xmpp:reply:0"
	NSRetract     = "urn:xmpp:message-retract:1"
	NSStanzaID    = "urn:xmpp:sid:0"

	nsEvent    = "jabber:x:event"
	nsHTTPAuth = "http://jabber.org/protocol/http-auth"
	nsIBB      = "http://jabber.org/protocol/ibb"
	nsNick     = "http://jabber.org/protocol/nick"
	nsRTT      = "urn:xmpp:rtt:0"
	nsRosterX  = "http://jabber.org/protocol/rosterx"
	nsXHTML    = "http://jabber.org/protocol/xhtml-im"

	// NSOwn begins every namespace of our own.
	NSOwn = "urn:posthouse:"
)
