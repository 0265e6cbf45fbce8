package store

import "math"

// Role is what a member may do. Roles are ordered: a greater one may do more. They are the affiliations of XEP-0045 §5.2.
type Role uint8

const (
	// RoleNone: not a member, or not any more.
	RoleNone Role = iota
	// RoleOutcast: not a member, and may not become one.
	RoleOutcast
	// RoleMember may read and write. So are the parties of a direct conversation.
	RoleMember
	// RoleAdmin may change members, and retract what others have said.
	RoleAdmin
	// RoleOwner may do everything.
	RoleOwner
)

// MaxIntervals is how many intervals a member's Access may have.
const MaxIntervals = 64

// ThisSeq, as a bound of an Interval in Append.Members, stands for the number of the entry that brings it.
const ThisSeq uint64 = math.MaxUint64

// Interval is a range of numbers of a conversation, with both its ends. Through 0 means that it is still open.
type Interval struct{ From, Through uint64 }

// Member is an account's membership of a conversation.
type Member struct {
	Account AccountID
	Role    Role
	// Access is what of the history the member may read, in rising order, without overlaps, and with at most MaxIntervals.
	Access []Interval
}

// MayRead reports whether the message of that number lies in the member's Access.
func (m *Member) MayRead(seq uint64) bool {
	for _, i := range m.Access {
		if seq >= i.From && (i.Through == 0 || seq <= i.Through) {
			return true
		}
	}
	return false
}

// ValidAccess reports whether the intervals are as Member.Access asks for.
func ValidAccess(access []Interval) bool {
	end := uint64(0) // of the interval before
	for i, a := range access {
		open := a.Through == 0 || a.Through == ThisSeq
		if a.From <= end || !open && a.Through < a.From || open && i < len(access)-1 {
			return false
		}
		end = a.Through
	}
	return len(access) <= MaxIntervals
}
