package pbstream

import (
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Namespaces of what has a form of its own.
const (
	nsSM         = "urn:xmpp:sm:3"
	nsConfirm    = "urn:posthouse:confirm:1"
	nsRoster     = "jabber:iq:roster"
	nsChatStates = "http://jabber.org/protocol/chatstates"
	nsReceipts   = "urn:xmpp:receipts"
	nsMarkers    = "urn:xmpp:chat-markers:0"
	nsSID        = "urn:xmpp:sid:0"
	nsDelay      = "urn:xmpp:delay"
	nsHints      = "urn:xmpp:hints"
	nsCarbons    = "urn:xmpp:carbons:2"
	nsCorrect    = "urn:xmpp:message-correct:0"
	nsAttention  = "urn:xmpp:attention:0"
	nsPing       = "urn:xmpp:ping"
	nsPosition   = "urn:posthouse:position:1"
	nsForward    = "urn:xmpp:forward:0"
	nsMAM        = "urn:xmpp:mam:2"
	nsCaps       = "http://jabber.org/protocol/caps"
	nsRetract    = "urn:xmpp:message-retract:1"
	nsReply      = "urn:xmpp:reply:0"
	nsFallback   = "urn:xmpp:fallback:0"
	nsReactions  = "urn:xmpp:reactions:0"
	nsReference  = "urn:xmpp:reference:0"
	nsSync       = "urn:posthouse:sync:1"
	nsProfile    = "urn:posthouse:profile:1"
	nsContent    = "urn:posthouse:content:1"
)

// The enumerations of compact.proto: the value is the index.
var (
	types = [...]string{
		"", stanza.TypeNormal, stanza.TypeChat, stanza.TypeGroupchat, stanza.TypeHeadline, stanza.TypeError,
		stanza.TypeUnavailable, stanza.TypeSubscribe, stanza.TypeSubscribed, stanza.TypeUnsubscribe,
		stanza.TypeUnsubscribed, stanza.TypeProbe, stanza.TypeGet, stanza.TypeSet, stanza.TypeResult,
	}
	chatStates    = [...]string{"", "active", "composing", "paused", "inactive", "gone"}
	shows         = [...]string{"", "away", "chat", "dnd", "xa"}
	markers       = [...]string{"", "received", "displayed", "acknowledged"}
	wrappers      = [...]string{"", "sent", "received", "result"}
	subscriptions = [...]string{"", "none", "to", "from", "both", "remove"}

	signals = [...]struct{ space, local string }{
		1:  {nsReceipts, "request"},
		2:  {nsMarkers, "markable"},
		3:  {nsHints, "store"},
		4:  {nsHints, "no-store"},
		5:  {nsHints, "no-permanent-store"},
		6:  {nsHints, "no-copy"},
		7:  {nsCarbons, "private"},
		8:  {nsPing, "ping"},
		9:  {nsCarbons, "enable"},
		10: {nsCarbons, "disable"},
		11: {nsConfirm, "enable"},
		12: {nsConfirm, "disable"},
		13: {"urn:ietf:params:xml:ns:xmpp-bind", "bind"},
		14: {"urn:ietf:params:xml:ns:xmpp-session", "session"},
		15: {nsAttention, "attention"},
		16: {nsSync, "enable"},
		17: {nsSync, "disable"},
		18: {nsContent, "notice"},
	}

	conditions = [...]stream.Condition{
		"", stream.BadFormat, stream.BadNamespacePrefix, stream.Conflict, stream.ConnectionTimeout, stream.HostGone,
		stream.HostUnknown, stream.ImproperAddressing, stream.InternalServerError, stream.InvalidFrom,
		stream.InvalidNamespace, stream.InvalidXML, stream.NotAuthorized, stream.NotWellFormed, stream.PolicyViolation,
		stream.RemoteConnectionFailed, stream.Reset, stream.ResourceConstraint, stream.RestrictedXML,
		stream.SeeOtherHost, stream.SystemShutdown, stream.UndefinedCondition, stream.UnsupportedEncoding,
		stream.UnsupportedFeature, stream.UnsupportedStanzaType, stream.UnsupportedVersion,
	}
)

// index returns the number of s in an enumeration, 0 when it has none.
func index[T comparable](list []T, s T) uint64 {
	for i := 1; i < len(list); i++ {
		if list[i] == s {
			return uint64(i)
		}
	}
	return 0
}
