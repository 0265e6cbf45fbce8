package jid

// Part names the part of an address that an Error is about.
type Part uint8

// The parts; PartAddress is the whole.
const (
	PartAddress Part = iota
	PartLocal
	PartDomain
	PartResource
)

// String returns RFC 7622's word for the part.
func (p Part) String() string {
	switch p {
	case PartLocal:
		return "localpart"
	case PartDomain:
		return "domainpart"
	case PartResource:
		return "resourcepart"
	}
	return "address"
}

// Reason says why a part was refused. The set is closed.
type Reason string

// The reasons.
const (
	// ReasonEmpty: there must be something and there is nothing, before or after preparation.
	ReasonEmpty Reason = "is empty"
	// ReasonTooLong: more than MaxPart bytes after preparation, or far more before it.
	ReasonTooLong Reason = "is too long"
	// ReasonEncoding: not UTF-8.
	ReasonEncoding Reason = "is not UTF-8"
	// ReasonCharacter: a character, or a sequence of them, that has no place in the part.
	ReasonCharacter Reason = "has a character that is not allowed"
	// ReasonLabel: a label of a domain that is no NR-LDH label, U-label or round-tripping A-label.
	ReasonLabel Reason = "has a label that is not allowed"
	// ReasonIP: looks like an IP address and is none.
	ReasonIP Reason = "is not an IP address"
	// ReasonUnstable: preparing the prepared text again would change it.
	ReasonUnstable Reason = "has no stable form"
)

// Error is the only error of this package. Callers on a stream answer it with the stanza condition jid-malformed.
// It does not quote the address, so that it can be logged and sent.
type Error struct {
	Part   Part
	Reason Reason
}

func (e *Error) Error() string { return "jid: " + e.Part.String() + " " + string(e.Reason) }

func refuse(p Part, r Reason) error { return &Error{Part: p, Reason: r} }
