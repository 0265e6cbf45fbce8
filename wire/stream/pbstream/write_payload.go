package pbstream

import (
	"strconv"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// appendPayload appends the fields of Payload: a form of its own where that says everything, else an element.
func appendPayload(dst []byte, at around, e *stanza.Element) []byte {
	if out, ok := appendTyped(dst, at, e); ok {
		return out
	}
	dst, inner := beginField(dst, kindElement)
	return end(appendElement(dst, e, at.space), inner)
}

// appendTyped appends e in a form of its own. When it returns false, nothing of dst was changed.
func appendTyped(dst []byte, at around, e *stanza.Element) ([]byte, bool) {
	switch e.Space {
	case stanza.NSClient:
		return appendClient(dst, e)
	case nsChatStates:
		return appendEnum(dst, kindChatState, index(chatStates[:], e.Local), empty(e))
	case nsSID:
		return appendSID(dst, at, e)
	case nsPosition:
		return appendPosition(dst, e)
	case nsDelay:
		return appendDelay(dst, kindDelay, e)
	case nsConfirm:
		if e.Local == "confirmed" {
			return appendConfirmed(dst, e)
		}
	case nsRoster:
		return appendRoster(dst, e)
	case nsCorrect:
		return appendLoneID(dst, kindReplace, e, "replace", "")
	case nsReceipts:
		if e.Local == "received" {
			return appendLoneID(dst, kindReceived, e, "received", "")
		}
	case nsMarkers:
		if kind := index(markers[:], e.Local); kind != 0 && hasOnly(e, "id") {
			dst, inner := beginField(dst, kindMarker)
			dst = appendID(dst, 1, e.Attrs[0].Value)
			return end(appendUint(dst, 4, kind), inner), true
		}
	default:
		if out, ok := appendRarer(dst, at, e); ok {
			return out, true
		}
	}
	if !empty(e) {
		return dst, false
	}
	for i := 1; i < len(signals); i++ {
		if signals[i].local == e.Local && signals[i].space == e.Space {
			return appendUint(dst, kindSignal, uint64(i)), true
		}
	}
	return dst, false
}

// empty reports whether e has neither attributes nor content.
func empty(e *stanza.Element) bool { return len(e.Attrs) == 0 && len(e.Nodes) == 0 }

// hasOnly reports whether e has that one attribute, with a valid value, and nothing else.
func hasOnly(e *stanza.Element, local string) bool {
	return len(e.Attrs) == 1 && len(e.Nodes) == 0 && e.Attrs[0].Local == local && e.Attrs[0].Space == ""
}

func appendEnum(dst []byte, field uint32, n uint64, lossless bool) ([]byte, bool) {
	if n == 0 || !lossless {
		return dst, false
	}
	return appendNumber(dst, field, n), true
}

// appendClient appends what RFC 6121 §4.7.2 and §5.2 define.
func appendClient(dst []byte, e *stanza.Element) ([]byte, bool) {
	switch e.Local {
	case "body":
		return appendText(dst, kindBody, e)
	case "subject":
		return appendText(dst, kindSubject, e)
	case "status":
		return appendText(dst, kindStatus, e)
	case "show":
		text, ok := plainText(e, stanza.NSClient)
		return appendEnum(dst, kindShow, index(shows[:], text), ok)
	case "priority":
		text, ok := plainText(e, stanza.NSClient)
		n, err := strconv.ParseInt(text, 10, 32)
		if !ok || err != nil || strconv.FormatInt(n, 10) != text {
			return dst, false
		}
		return appendNumber(dst, kindPriority, uint64(uint32(n<<1)^uint32(n>>31))), true // zigzag
	case "thread":
		text, ok := onlyText(e)
		if !ok || len(e.Attrs) > 0 && (!oneAttr(e, "", "parent") || e.Attrs[0].Value == "") {
			return dst, false
		}
		dst, inner := beginField(dst, kindThread)
		dst = appendString(dst, 1, text)
		if len(e.Attrs) > 0 {
			dst = appendString(dst, 2, e.Attrs[0].Value)
		}
		return end(dst, inner), true
	}
	return dst, false
}

func oneAttr(e *stanza.Element, space, local string) bool {
	return len(e.Attrs) == 1 && e.Attrs[0].Space == space && e.Attrs[0].Local == local
}

// appendText appends an element that has text, and perhaps xml:lang.
func appendText(dst []byte, field uint32, e *stanza.Element) ([]byte, bool) {
	text, ok := onlyText(e)
	if !ok || len(e.Attrs) > 0 && (!oneAttr(e, stanza.NSXML, "lang") || e.Attrs[0].Value == "") {
		return dst, false
	}
	dst, inner := beginField(dst, field)
	dst = appendString(dst, 1, text)
	if len(e.Attrs) > 0 {
		dst = appendString(dst, 2, e.Attrs[0].Value)
	}
	return end(dst, inner), true
}

// appendLoneID appends an element whose only attribute is an id; own is the id that need not be said.
func appendLoneID(dst []byte, field uint32, e *stanza.Element, local, own string) ([]byte, bool) {
	if e.Local != local || !hasOnly(e, "id") {
		return dst, false
	}
	dst, inner := beginField(dst, field)
	if id := e.Attrs[0].Value; own == "" || id != own {
		dst = appendID(dst, 1, id)
	}
	return end(dst, inner), true
}

// appendSID appends what XEP-0359 defines.
func appendSID(dst []byte, at around, e *stanza.Element) ([]byte, bool) {
	if e.Local == "origin-id" {
		return appendLoneID(dst, kindOriginID, e, e.Local, at.id)
	}
	if e.Local != "stanza-id" || len(e.Attrs) != 2 || len(e.Nodes) > 0 || !e.HasAttr("id") {
		return dst, false
	}
	by := e.Attr("by")
	if by == "" {
		return dst, false
	}
	dst, inner := beginField(dst, kindStanzaID)
	dst = appendID(dst, 1, e.Attr("id"))
	if by != at.own {
		dst = appendString(dst, 4, by)
	}
	return end(dst, inner), true
}

// appendDelay appends a delay of XEP-0203.
func appendDelay(dst []byte, field uint32, e *stanza.Element) ([]byte, bool) {
	reason, ok := onlyText(e)
	from, stamp := e.Attr("from"), e.Attr("stamp")
	known := 1
	if from != "" {
		known = 2
	}
	if !ok || e.Local != "delay" || len(e.Attrs) != known || !e.HasAttr("stamp") {
		return dst, false
	}
	dst, inner := beginField(dst, field)
	dst = appendStamp(dst, 1, stamp)
	dst = appendString(dst, 4, from)
	return end(appendString(dst, 5, reason), inner), true
}

// appendStamp appends a time in the shortest of three forms, of which the fields follow each other.
func appendStamp(dst []byte, field uint32, stamp string) []byte {
	if n, ok := parseStamp(stamp, stampMillis); ok {
		return appendNumber(dst, field, n)
	}
	if n, ok := parseStamp(stamp, stampSeconds); ok {
		return appendNumber(dst, field+1, n)
	}
	return appendPresent(dst, field+2, stamp)
}

// appendPosition appends the number of a message in its conversation.
func appendPosition(dst []byte, e *stanza.Element) ([]byte, bool) {
	if e.Local != "position" || !hasOnly(e, "number") {
		return dst, false
	}
	n, ok := parseNumber(e.Attrs[0].Value, 1<<64-1)
	if !ok {
		return dst, false
	}
	return appendNumber(dst, kindPosition, n), true
}

// appendConfirmed appends a confirmation of docs/protocol/confirm.md.
func appendConfirmed(dst []byte, e *stanza.Element) ([]byte, bool) {
	number, ok := parseNumber(e.Attr("number"), 1<<64-1)
	stamp, stamped := parseStamp(e.Attr("stamp"), stampMillis)
	with := e.Attr("conversation")
	if !ok || !stamped || with == "" || len(e.Nodes) > 0 {
		return dst, false
	}
	known := 3
	for _, local := range [...]string{"id", "stanza-id", "duplicate"} {
		if e.HasAttr(local) {
			known++
		}
	}
	if known != len(e.Attrs) || e.HasAttr("duplicate") && e.Attr("duplicate") != "true" {
		return dst, false
	}
	dst, inner := beginField(dst, kindConfirmed)
	for i, local := range [...]string{"id", "stanza-id"} {
		if e.HasAttr(local) {
			var id int
			dst, id = beginField(dst, uint32(i+1))
			dst = end(appendID(dst, 1, e.Attr(local)), id)
		}
	}
	dst = appendString(dst, 3, with)
	dst = appendUint(dst, 4, number)
	dst = appendUint(dst, 5, stamp)
	if e.HasAttr("duplicate") {
		dst = appendUint(dst, 6, 1)
	}
	return end(dst, inner), true
}

// appendRoster appends a roster of RFC 6121 §2.1.
func appendRoster(dst []byte, e *stanza.Element) ([]byte, bool) {
	if e.Local != "query" || len(e.Attrs) > 0 && !oneAttr(e, "", "ver") {
		return dst, false
	}
	start := dst
	dst, inner := beginField(dst, kindRoster)
	if len(e.Attrs) > 0 {
		dst = appendPresent(dst, 1, e.Attrs[0].Value)
	}
	for i := range e.Nodes {
		item := e.Nodes[i].Element
		if item == nil || item.Space != nsRoster || item.Local != "item" {
			return start, false
		}
		var ok bool
		if dst, ok = appendRosterItem(dst, item); !ok {
			return start, false
		}
	}
	return end(dst, inner), true
}

func appendRosterItem(dst []byte, e *stanza.Element) ([]byte, bool) {
	dst, inner := beginField(dst, 2)
	var jid, name string
	var subscription, ask, approved uint64
	for i := range e.Attrs {
		a := &e.Attrs[i]
		ok := false
		switch a.Local {
		case "jid":
			ok = jid == "" && a.Value != ""
			jid = a.Value
		case "name":
			ok = name == "" && a.Value != ""
			name = a.Value
		case "subscription":
			ok = subscription == 0 && index(subscriptions[:], a.Value) != 0
			subscription = index(subscriptions[:], a.Value)
		case "ask":
			ok = ask == 0 && a.Value == "subscribe"
			ask = 1
		case "approved":
			ok = approved == 0 && a.Value == "true"
			approved = 1
		}
		if !ok || a.Space != "" {
			return dst, false
		}
	}
	dst = appendString(dst, 1, jid)
	dst = appendString(dst, 2, name)
	dst = appendUint(dst, 3, subscription)
	dst = appendUint(dst, 4, ask)
	dst = appendUint(dst, 5, approved)
	for i := range e.Nodes {
		group := e.Nodes[i].Element
		if group == nil || group.Local != "group" {
			return dst, false
		}
		text, ok := plainText(group, nsRoster)
		if !ok {
			return dst, false
		}
		dst = appendPresent(dst, 6, text)
	}
	return end(dst, inner), true
}
