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
	nsCarbons    = stanza.NSCarbons
	nsPing       = "urn:xmpp:ping"
	nsCaps       = "http://jabber.org/protocol/caps"
	nsMarker     = "urn:posthouse:marker:1"
	nsPosition   = "urn:posthouse:position:1"
	nsForward    = stanza.NSForward
	nsMAM        = "urn:xmpp:mam:2"
	nsSync       = "urn:posthouse:sync:1"
)

// The enumerations of compact.proto: the value is the index.
var (
	types = [...]string{
		"", stanza.TypeNormal, stanza.TypeChat, stanza.TypeGroupchat, stanza.TypeHeadline, stanza.TypeError,
		stanza.TypeUnavailable, stanza.TypeSubscribe, stanza.TypeSubscribed, stanza.TypeUnsubscribe,
		stanza.TypeUnsubscribed, stanza.TypeProbe, stanza.TypeGet, stanza.TypeSet, stanza.TypeResult,
	}
	subscriptions = [...]string{"", "none", "to", "from", "both", "remove"}

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
