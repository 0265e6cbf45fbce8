package archive

import (
	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// class is what becomes of a message. docs/design/acknowledgement.md has the decisions as a table, which a test
// compares with this file.
type class uint8

const (
	// transient: it goes the same way in its turn, and is not stored.
	transient class = iota
	// offline: stored for delivery, in no history (XEP-0160 §3 says to keep what XEP-0313 §6.1.1 does not ask for).
	offline
	// archived: stored for delivery and in the history of both sides.
	archived
)

// String returns the word that the documentation uses.
func (c class) String() string { return [...]string{"transient", "offline", "archived"}[c] }

// name is the name of a payload element. Local "" stands for every element of the namespace.
type name struct{ space, local string }

const nsHints = "urn:xmpp:hints"

// meaning says what a payload element by itself makes of a chat or normal message; what is not in here is offline.
// It is a constant table.
var meaning = map[name]class{
	// Content, by whichever name (XEP-0313 §6.1.1).
	{stanza.NSClient, "body"}:                       archived,
	{stanza.NSClient, "subject"}:                    archived,
	{"jabber:x:oob", ""}:                            archived, // XEP-0066
	{"urn:xmpp:sims:1", ""}:                         archived, // XEP-0385
	{"urn:xmpp:sfs:0", ""}:                          archived, // XEP-0447
	{"urn:xmpp:stickers:0", ""}:                     archived, // XEP-0449
	{"http://jabber.org/protocol/geoloc", ""}:       archived, // XEP-0080
	{"urn:posthouse:content:1", "card"}:             archived, // our own: docs/messages.md
	{"urn:posthouse:content:1", "custom"}:           archived,
	{"urn:xmpp:forward:0", "forwarded"}:             archived, // XEP-0297
	{content.Namespace, ""}:                         archived, // docs/messages.md
	{"jabber:x:encrypted", ""}:                      archived, // XEP-0027
	{"urn:xmpp:openpgp:0", ""}:                      archived, // XEP-0373
	{"eu.siacs.conversations.axolotl", "encrypted"}: archived, // XEP-0384 before 0.4
	{"urn:xmpp:omemo:1", "encrypted"}:               archived, // XEP-0384
	{"urn:xmpp:omemo:2", "encrypted"}:               archived,
	{"urn:xmpp:sce:1", ""}:                          archived, // XEP-0420
	{nsReceipts, "received"}:                        archived, // XEP-0184 §5.5
	{"urn:xmpp:chat-markers:0", "received"}:         archived, // XEP-0333
	{"urn:xmpp:chat-markers:0", "displayed"}:        archived,
	{"urn:xmpp:chat-markers:0", "acknowledged"}:     archived,
	{"urn:xmpp:message-correct:0", "replace"}:       archived, // XEP-0308
	{"urn:xmpp:message-retract:0", ""}:              archived, // XEP-0424
	{"urn:xmpp:message-retract:1", ""}:              archived,
	{"urn:xmpp:message-moderate:1", ""}:             archived,  // XEP-0425
	{"urn:xmpp:fasten:0", "apply-to"}:               archived,  // XEP-0422
	{"urn:xmpp:reactions:0", "reactions"}:           archived,  // XEP-0444
	{"urn:xmpp:jingle-message:0", ""}:               archived,  // XEP-0353
	{"jabber:x:conference", ""}:                     archived,  // XEP-0249
	{"http://jabber.org/protocol/muc#user", "x"}:    archived,  // XEP-0045 §7.8: invitation, decline
	{"http://jabber.org/protocol/rosterx", ""}:      archived,  // XEP-0144
	{"jabber:x:data", "x"}:                          archived,  // XEP-0004: a form that somebody is to fill in
	{"http://jabber.org/protocol/http-auth", ""}:    offline,   // XEP-0070
	{"http://jabber.org/protocol/chatstates", ""}:   transient, // XEP-0085 §5.5, XEP-0160 §3
	{"jabber:x:event", ""}:                          transient, // XEP-0022
	{"urn:xmpp:rtt:0", ""}:                          transient, // XEP-0301
	{"http://jabber.org/protocol/ibb", ""}:          transient, // XEP-0047: worth nothing out of its session
	{"urn:xmpp:attention:0", ""}:                    transient, // XEP-0224
	{stanza.NSClient, "thread"}:                     transient, // from here on: says something about other content
	{"http://jabber.org/protocol/nick", ""}:         transient, // XEP-0172
	{"http://jabber.org/protocol/xhtml-im", ""}:     transient, // XEP-0071
	{"http://jabber.org/protocol/address", ""}:      transient, // XEP-0033
	{"urn:xmpp:receipts", "request"}:                transient,
	{"urn:xmpp:chat-markers:0", "markable"}:         transient,
	{"urn:xmpp:sid:0", ""}:                          transient, // XEP-0359
	{"urn:xmpp:reply:0", ""}:                        transient, // XEP-0461
	{"urn:xmpp:fallback:0", ""}:                     transient, // XEP-0428
	{"urn:xmpp:eme:0", ""}:                          transient, // XEP-0380
	{"urn:xmpp:carbons:2", ""}:                      transient, // XEP-0280
	{"urn:xmpp:delay", ""}:                          transient, // XEP-0203
	{"urn:xmpp:idle:1", ""}:                         transient, // XEP-0319
	{nsHints, ""}:                                   transient, // XEP-0334
}

// classify decides what becomes of a message.
func classify(s *stanza.Stanza) class {
	switch s.Type {
	case stanza.TypeError, stanza.TypeHeadline, stanza.TypeGroupchat:
		// XEP-0160 §3. A room archives what it accepts itself; an error is about a message and not one.
		return transient
	}
	result := transient
	for i := range s.Payload {
		e := &s.Payload[i]
		if e.Space == nsHints {
			switch e.Local {
			case "no-store", "no-permanent-store":
				if s.Child(nsRetract, "retract") != nil {
					continue // what is to be taken out is in the log, so its retraction has to come there
				}
				// XEP-0334 §4.1, §4.2. The log keeps what it gets, so the second hint cannot be honoured by less.
				return transient
			case "store": // §4.4
				result = archived
			}
			continue
		}
		if result != archived {
			result = max(result, meaningOf(e))
		}
	}
	return result
}

func meaningOf(e *stanza.Element) class {
	if e.Space == stanza.NSClient && e.Local == "body" { // nearly always, and cheaper than the table
		return archived
	}
	if c, ok := meaning[name{e.Space, e.Local}]; ok {
		return c
	}
	if c, ok := meaning[name{e.Space, ""}]; ok {
		return c
	}
	return offline
}
