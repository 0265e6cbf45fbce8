// Package jid owns the XMPP address of RFC 7622: parsing, preparation and comparison.
//
// A JID is a small immutable value: it may be copied, compared with == and used as a map key.
// Two addresses are the same entity exactly when their JIDs are ==, because a JID can only be
// made through preparation. The package does no I/O and holds no state.
//
// One canonical form for each part:
//   - localpart: PRECIS UsernameCaseMapped (RFC 8265 §3.3), without the characters of RFC 7622 §3.3.1;
//   - domainpart: IDNA2008 U-labels in lower case and without a final dot, or an IP address in the
//     form of RFC 5952 (see PrepareDomain);
//   - resourcepart: PRECIS OpaqueString (RFC 8265 §4.2).
//
// Addresses that are canonical ASCII already, which is nearly all of them, take a path that reads a
// table of character classes and allocates nothing.
package jid

import "strings"

// MaxPart is the largest length of each part in bytes, after preparation (RFC 7622 §3.1).
const MaxPart = 1023

// JID is a prepared address: localpart@domainpart/resourcepart. Localpart and resourcepart may be absent.
// The zero JID is no address at all; see IsZero.
type JID struct {
	full  string // canonical text
	at    uint16 // length of the localpart; 0 when there is none
	slash uint16 // length of the bare form, full[:slash]
}

// Parse prepares an address given as text. The error is always an *Error; on a stream it is the stanza
// condition jid-malformed (RFC 6120 §8.3.3.8). The JID may keep s, so s must not be a view of a buffer
// that is used again.
func Parse(s string) (JID, error) {
	if j, ok := parseCanonical(s); ok {
		return j, nil
	}
	local, domain, resource, err := split(s)
	if err != nil {
		return JID{}, err
	}
	return New(local, domain, resource)
}

// ParseBytes is Parse of bytes that the caller may use again. It allocates the text once.
func ParseBytes(b []byte) (JID, error) {
	if len(b) > maxRaw {
		return JID{}, refuse(PartAddress, ReasonTooLong)
	}
	return Parse(string(b))
}

// MustParse is Parse for constants and tests. It panics on an error.
func MustParse(s string) JID {
	j, err := Parse(s)
	if err != nil {
		panic(err)
	}
	return j
}

// New prepares an address from its parts. Local and resource may be "", which means that there is none.
func New(local, domain, resource string) (JID, error) {
	var err error
	if local != "" {
		if local, err = PrepareLocal(local); err != nil {
			return JID{}, err
		}
	}
	if domain, err = PrepareDomain(domain); err != nil {
		return JID{}, err
	}
	if resource != "" {
		if resource, err = PrepareResource(resource); err != nil {
			return JID{}, err
		}
	}
	return join(local, domain, resource), nil
}

// join builds a JID from prepared parts.
func join(local, domain, resource string) JID {
	full := domain
	switch {
	case local != "" && resource != "":
		full = local + "@" + domain + "/" + resource
	case local != "":
		full = local + "@" + domain
	case resource != "":
		full = domain + "/" + resource
	}
	j := JID{full: full, at: uint16(len(local)), slash: uint16(len(full))}
	if resource != "" {
		j.slash -= uint16(len(resource) + 1)
	}
	return j
}

// split cuts an address as RFC 7622 §3.1 and §3.2 say: the resourcepart is what follows the first slash,
// the localpart is what precedes the first at sign of the rest. A separator must have something at both sides.
func split(s string) (local, domain, resource string, err error) {
	if len(s) > maxRaw {
		return "", "", "", refuse(PartAddress, ReasonTooLong)
	}
	domain, resource, found := strings.Cut(s, "/")
	if found && resource == "" {
		return "", "", "", refuse(PartResource, ReasonEmpty)
	}
	if before, after, found := strings.Cut(domain, "@"); found {
		if before == "" {
			return "", "", "", refuse(PartLocal, ReasonEmpty)
		}
		local, domain = before, after
	}
	return local, domain, resource, nil
}

// WithResource returns j's bare form with that resourcepart, which must not be empty. It allocates the text once.
func (j JID) WithResource(resource string) (JID, error) {
	if j.IsZero() {
		return JID{}, refuse(PartDomain, ReasonEmpty)
	}
	resource, err := PrepareResource(resource)
	if err != nil {
		return JID{}, err
	}
	return JID{full: j.full[:j.slash] + "/" + resource, at: j.at, slash: j.slash}, nil
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

// Clone returns j with memory of its own. An address that was parsed out of a larger text keeps all of that alive, so
// whoever keeps it for longer than the text clones it.
func (j JID) Clone() JID {
	j.full = strings.Clone(j.full)
	return j
}

// String returns the canonical text, "" for the zero JID. It does not allocate.
func (j JID) String() string { return j.full }

// Compare orders addresses by their canonical text: -1, 0 or +1.
func Compare(a, b JID) int { return strings.Compare(a.full, b.full) }
