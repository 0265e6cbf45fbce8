package archive

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"sync"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// maxOriginID is the longest origin-id that is kept as it is. A longer one is kept as its hash, so that it
// identifies a message as well as a short one and costs the store no more.
const maxOriginID = 128

// originID returns the message's globally unique identity as its sender gave it (XEP-0359 §3.2), "" for none.
func originID(s *stanza.Stanza) string {
	e := s.Child(nsStanzaID, "origin-id")
	if e == nil {
		return ""
	}
	return originKey(e.Attr("id"))
}

// hashed begins an id that is kept as its hash.
const hashed = "sha256:"

// originKey is an origin-id, or the id of a stanza, as it is kept.
func originKey(id string) string {
	if len(id) <= maxOriginID {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return hashed + hex.EncodeToString(sum[:])
}

// scratch holds buffers for text that is hashed and thrown away.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// contentHash identifies what a message says and to whom. It is the same when the message comes again on another
// connection: id, the sender's resource, the recipient's resource and a delay that the sender's device added on its
// second attempt (XEP-0203 §3) have no part in it, nor has the order of attributes, which codecs need not keep.
func contentHash(s *stanza.Stanza) [16]byte {
	content := stanza.Stanza{Kind: s.Kind, Type: s.MessageType(), To: s.To.Bare(), Lang: s.Lang, Payload: s.Payload}
	if s.Child(nsDelay, "delay") != nil {
		content = *content.Copy()
		content.Remove(func(e *stanza.Element) bool { return e.Space == nsDelay && e.Local == "delay" })
	}
	if slices.ContainsFunc(content.Payload, unsorted) {
		content = *content.Clone()
		for i := range content.Payload {
			sortAttrs(&content.Payload[i])
		}
	}
	buf := scratch.Get().(*[]byte)
	*buf = xmlstream.Marshal((*buf)[:0], &content)
	sum := sha256.Sum256(*buf)
	if cap(*buf) <= 64<<10 {
		scratch.Put(buf)
	}
	return [16]byte(sum[:16])
}

func compareAttrs(a, b stanza.Attr) int {
	return cmp.Or(strings.Compare(a.Space, b.Space), strings.Compare(a.Local, b.Local))
}

// unsorted reports whether e, or an element in it, has attributes that are not in order.
func unsorted(e stanza.Element) bool {
	if len(e.Attrs) > 1 && !slices.IsSortedFunc(e.Attrs, compareAttrs) {
		return true
	}
	for c := range e.Elements {
		if unsorted(*c) {
			return true
		}
	}
	return false
}

func sortAttrs(e *stanza.Element) {
	slices.SortFunc(e.Attrs, compareAttrs)
	for c := range e.Elements {
		sortAttrs(c)
	}
}
