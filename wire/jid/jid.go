// Package jid owns the XMPP address of RFC 7622: parsing, preparation and comparison.
//
// A JID is a small immutable value: it may be copied, compared with == and used as a map key.
// Two addresses are the same entity exactly when their JIDs are ==, because a JID can only be
// made through preparation. The package does no I/O and holds no state.
package jid

import "strings"

// JID is a prepared address: localpart@domainpart/resourcepart. Localpart and resourcepart may be absent.
// The zero JID is no address at all; see IsZero.
type JID struct {
	full  string // canonical text
	at    uint16 // length of the localpart; 0 when there is none
	slash uint16 // length of the bare form, full[:slash]
}

// IsZero reports whether j is the zero value, the absence of an address.
func (j JID) IsZero() bool { return j.full == "" }

// IsBare reports whether j has no resourcepart. The zero JID is not bare.
func (j JID) IsBare() bool { return j.full != "" && int(j.slash) == len(j.full) }

// IsFull reports whether j has a resourcepart.
func (j JID) IsFull() bool { return int(j.slash) < len(j.full) }

// Local returns the localpart, "" when there is none.
func (j JID) Local() string { return j.full[:j.at] }

// Domain returns the domainpart.
func (j JID) Domain() string {
	if j.at == 0 {
		return j.full[:j.slash]
	}
	return j.full[j.at+1 : j.slash]
}

// Resource returns the resourcepart, "" when there is none.
func (j JID) Resource() string {
	if !j.IsFull() {
		return ""
	}
	return j.full[j.slash+1:]
}

// Bare returns j without its resourcepart. It does not allocate.
func (j JID) Bare() JID { return JID{full: j.full[:j.slash], at: j.at, slash: j.slash} }

// DomainJID returns the address of j's domain alone.
func (j JID) DomainJID() JID {
	d := j.Domain()
	return JID{full: d, slash: uint16(len(d))}
}

// String returns the canonical text, "" for the zero JID. It does not allocate.
func (j JID) String() string { return j.full }

// Compare orders addresses by their canonical text: -1, 0 or +1.
func Compare(a, b JID) int { return strings.Compare(a.full, b.full) }
