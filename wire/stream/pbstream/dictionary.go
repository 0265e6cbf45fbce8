package pbstream

import "github.com/posthouse-im/posthouse/wire/stanza"

// Schema is the version of the dictionary and of compact.proto that this package speaks. A number is never given a
// second meaning: what is added is a new schema.
const Schema = 1

// spaces is the dictionary of namespaces, numbered from 1. 0 means that of the element around.
var spaces = [...]string{
	1:   "",
	2:   stanza.NSClient,
	3:   stanza.NSStream,
	4:   stanza.NSXML,
	5:   "urn:ietf:params:xml:ns:xmpp-streams",
	6:   stanza.NSStanzas,
	7:   "urn:ietf:params:xml:ns:xmpp-sasl",
	8:   "urn:ietf:params:xml:ns:xmpp-tls",
	9:   "urn:ietf:params:xml:ns:xmpp-bind",
	10:  "urn:ietf:params:xml:ns:xmpp-session",
	11:  nsSM,
	12:  nsConfirm,
	13:  nsRoster,
	14:  "urn:xmpp:features:rosterver",
	15:  "urn:xmpp:features:pre-approval",
	16:  "urn:xmpp:sasl-cb:0",
	17:  "urn:xmpp:stream-limits:0",
	18:  "urn:xmpp:errors",
	19:  "urn:xmpp:sasl:2",
	20:  "urn:xmpp:bind:0",
	21:  "urn:xmpp:fast:0",
	22:  nsChatStates,
	23:  nsReceipts,
	24:  nsMarkers,
	25:  nsSID,
	26:  nsDelay,
	27:  nsHints,
	28:  nsCarbons,
	29:  "urn:xmpp:message-correct:0",
	30:  "urn:xmpp:attention:0",
	31:  nsPing,
	32:  nsForward,
	33:  nsMAM,
	34:  "urn:xmpp:mam:2#extended",
	35:  "http://jabber.org/protocol/rsm",
	36:  "jabber:x:data",
	37:  "http://jabber.org/protocol/disco#info",
	38:  "http://jabber.org/protocol/disco#items",
	39:  nsCaps,
	40:  "urn:xmpp:caps",
	41:  "vcard-temp",
	42:  "vcard-temp:x:update",
	43:  "http://jabber.org/protocol/nick",
	44:  "http://jabber.org/protocol/pubsub",
	45:  "http://jabber.org/protocol/pubsub#event",
	46:  "http://jabber.org/protocol/pubsub#errors",
	47:  "http://jabber.org/protocol/pubsub#owner",
	48:  "http://jabber.org/protocol/pubsub#publish-options",
	49:  "http://jabber.org/protocol/muc",
	50:  "http://jabber.org/protocol/muc#user",
	51:  "http://jabber.org/protocol/muc#admin",
	52:  "http://jabber.org/protocol/muc#owner",
	53:  "jabber:x:conference",
	54:  "jabber:x:oob",
	55:  "urn:xmpp:reactions:0",
	56:  "urn:xmpp:message-retract:1",
	57:  "urn:xmpp:message-moderate:1",
	58:  "urn:xmpp:reply:0",
	59:  "urn:xmpp:fallback:0",
	60:  "urn:xmpp:reference:0",
	61:  "urn:xmpp:styling:0",
	62:  "urn:xmpp:fasten:0",
	63:  "urn:xmpp:occupant-id:0",
	64:  "urn:xmpp:idle:1",
	65:  "urn:xmpp:time",
	66:  "jabber:iq:version",
	67:  "jabber:iq:last",
	68:  "jabber:iq:register",
	69:  "jabber:iq:private",
	70:  "urn:xmpp:blocking",
	71:  "urn:xmpp:blocking:errors",
	72:  "urn:xmpp:push:0",
	73:  "urn:xmpp:csi:0",
	74:  "urn:xmpp:http:upload:0",
	75:  "urn:xmpp:sfs:0",
	76:  "urn:xmpp:file:metadata:0",
	77:  "urn:xmpp:hashes:2",
	78:  "urn:xmpp:thumbs:1",
	79:  "http://jabber.org/protocol/url-data",
	80:  "urn:xmpp:sims:1",
	81:  "urn:xmpp:stickers:0",
	82:  "urn:xmpp:eme:0",
	83:  "eu.siacs.conversations.axolotl",
	84:  "urn:xmpp:omemo:2",
	85:  "urn:xmpp:openpgp:0",
	86:  "urn:xmpp:avatar:metadata",
	87:  "urn:xmpp:avatar:data",
	88:  "urn:xmpp:bookmarks:1",
	89:  "urn:xmpp:mds:displayed:0",
	90:  "urn:xmpp:jingle-message:0",
	91:  "urn:xmpp:jingle:1",
	92:  "http://jabber.org/protocol/geoloc",
	93:  "http://jabber.org/protocol/commands",
	94:  "http://jabber.org/protocol/address",
	95:  "http://jabber.org/protocol/xdata-validate",
	96:  "urn:xmpp:extdisco:2",
	97:  "http://jabber.org/features/iq-register",
	98:  "http://jabber.org/protocol/xhtml-im",
	99:  "http://www.w3.org/1999/xhtml",
	100: nsPosition,
	101: nsSync,
	102: "urn:posthouse:profile:1",
	103: "urn:posthouse:content:1",
	104: "urn:posthouse:conversations:1",
	105: "urn:posthouse:device:1",
	106: "urn:posthouse:token:1",
	107: "urn:posthouse:stream:1",
	108: "urn:posthouse:admin:1",
	109: "urn:posthouse:presence:1",
	110: nsMarker,
}

// words is the dictionary of names and of attribute values, numbered from 1. The first 127 take one byte.
var words = [...]string{
	1: "body", "subject", "thread", "show", "status", "priority", "error", "text", // 8
	"query", "item", "group", "jid", "name", "subscription", "ask", "ver", // 16
	"id", "type", "to", "from", "by", "stamp", "node", "var", // 24
	"value", "field", "x", "form", "submit", "result", "hidden", "text-single", // 32
	"message", "presence", "iq", "forwarded", "delay", "received", "sent", "stanza-id", // 40
	"origin-id", "fin", "set", "first", "last", "count", "index", "max", // 48
	"before", "after", "complete", "queryid", "c", "hash", "sha-1", "feature", // 56
	"identity", "category", "lang", "features", "mechanisms", "mechanism", "auth", "challenge", // 64
	"response", "success", "failure", "bind", "resource", "session", "optional", "sm", // 72
	"enable", "enabled", "resume", "resumed", "failed", "h", "previd", "true", // 80
	"false", "get", "chat", "cancel", "modify", "wait", "continue", "unavailable", // 88
	"subscribe", "both", "none", "remove", "active", "displayed", "reply", "fallback", // 96
	"reactions", "reaction", "retract", "retracted", "replace", "apply-to", "for", "start", // 104
	"end", "reason", "actor", "nick", "affiliation", "role", "member", "moderator", // 112
	"participant", "owner", "admin", "occupant-id", "items", "pubsub", "event", "publish", // 120
	"url", "desc", "photo", "limits", "max-bytes", "idle-seconds", "ping", // 127
	"sub", "sasl-channel-binding", "channel-binding", "tls-exporter", "tls-server-end-point", // 132
	"PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512", // 138
	"SCRAM-SHA-512-PLUS", "register", "starttls", "proceed", "required", "urn", "abort", // 145
	"bad-request", "conflict", "feature-not-implemented", "forbidden", "gone", "internal-server-error", // 151
	"item-not-found", "jid-malformed", "not-acceptable", "not-allowed", "not-authorized", "policy-violation", // 157
	"recipient-unavailable", "redirect", "registration-required", "remote-server-not-found", // 161
	"remote-server-timeout", "resource-constraint", "service-unavailable", "subscription-required", // 165
	"undefined-condition", "unexpected-request", "unsubscribe", "subscribed", "unsubscribed", "probe", // 171
	"groupchat", "headline", "normal", "block", "unblock", "blocklist", "confirmed", "number", // 179
	"conversation", "duplicate", "approved", "code", "reference", "begin", "uri", "mention", // 187
	"data", "file", "file-sharing", "sources", "url-data", "target", "disposition", "inline", // 195
	"media-type", "size", "width", "height", "date", "algo", "sha-256", "encrypted", // 203
	"header", "payload", "key", "keys", "rid", "sid", "iv", "kex", // 211
	"encryption", "namespace", "list-single", "list-multi", "boolean", "text-multi", "jid-single", "fixed", // 219
	"FORM_TYPE", "instructions", "title", "option", "label", "reported", "with", "stable", // 227
	"metadata", "info", "bytes", "slot", "request", "put", "content-type", "filename", // 235
	"client", "account", "server", "pc", "phone", "web", "bot", "store", // 243
	"user", "vCard", "PHOTO", "FN", "NICKNAME", "html", "p", "span", "version", "os", "utc", "tzo", // 255
	// 262
	"authentication", "authenticate", "retraction", "initial-response", "additional-data", "authorization-identifier",
	"user-agent",
	"software", "device", "bound", "tag", "fast", "token", "expiry", "request-token", "invalidate", "keepalive", // 272
	"HT-SHA-256-EXPR", "HT-SHA-256-NONE", "position", "sync", "cursor", "more", "roster", "profile", "devices", // 281
	"settings", "muted-until", "pinned", "read", "delivered", "peer-read", "peer-delivered", "unread", // 289
	"geoloc", "lat", "lon", "description", "length", "card", "notice", "custom", "language", "forward", // 299
	"moderate", "moderated", "seconds", "reconnect", "conversations", // 304
}

// longestWord is the length of the longest entry of words; TestDictionary holds it to that.
const longestWord = 24

// numbers turns a dictionary around.
func numbers(list []string) map[string]uint32 {
	out := make(map[string]uint32, len(list))
	for i, s := range list {
		if i > 0 {
			out[s] = uint32(i)
		}
	}
	return out
}

// Constant tables.
var (
	spaceNumbers = numbers(spaces[:])
	wordNumbers  = numbers(words[:])
)
