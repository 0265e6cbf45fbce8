package store

import (
	"fmt"
	"math"
)

// Role is what a member may do. Roles are ordered: a greater one may do more. They are the affiliations of XEP-0045
// §5.2.
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
	// Access is what of the history the member may read, in rising order, without overlaps, and with at most
	// MaxIntervals.
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

// At returns the member as it is from the entry of that number on, which ThisSeq stands for. An interval that would go
// on beyond the beginning of the next ends before it.
func (m Member) At(seq uint64) Member {
	access := make([]Interval, 0, len(m.Access))
	for _, i := range m.Access {
		if i.From == ThisSeq {
			i.From = seq
		}
		if i.Through == ThisSeq {
			i.Through = seq
		}
		for n := len(access); n > 0 && access[n-1].Through >= i.From; n = len(access) {
			if access[n-1].From < i.From {
				access[n-1].Through = i.From - 1
				break
			}
			access = access[:n-1]
		}
		if i.Through == 0 || i.Through >= i.From {
			access = append(access, i)
		}
	}
	m.Access = access
	return m
}

// CheckMembers returns ErrNotFound when one of the members has no account, and ErrLimit when the Access of one is not
// as it should be.
func CheckMembers(members []Member) error {
	for i := range members {
		if members[i].Account == 0 {
			return fmt.Errorf("a member without an account: %w", ErrNotFound)
		}
		if !validAccess(members[i].Access) {
			return fmt.Errorf("access of account %d: %w", members[i].Account, ErrLimit)
		}
	}
	return nil
}

func validAccess(access []Interval) bool {
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
