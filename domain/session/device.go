package session

import (
	"time"

	"github.com/posthouse-im/posthouse/wire/stream"
)

// Device returns the device that the session belongs to, as in store.Device.ID; "" when it named none. It must not be
// called in the callback of Visit: User.Device is for that.
func (s *Session) Device() string {
	s.user.mu.Lock()
	defer s.user.mu.Unlock()
	return s.device()
}

// SetDevice says which device the session belongs to from now on, when it has named none, and reports whether it is
// that one now.
func (s *Session) SetDevice(id string) bool {
	s.user.mu.Lock()
	defer s.user.mu.Unlock()
	if s.device() == "" {
		s.more().device = id
	}
	return s.device() == id
}

// Bound returns when the resource was bound, to the millisecond.
func (s *Session) Bound() time.Time { return time.UnixMilli(s.bound).UTC() }

// Hidden reports whether it is a session without a stream, for which another system acts.
func (s *Session) Hidden() bool { return s.hidden != nil }

// End ends the session with the given error, nil for an orderly end, after what is queued for it was written.
func (s *Session) End(e *stream.Error) { s.outbox.Close(e) }

// Device returns the device that a session of the user belongs to, as Session.Device does.
func (u *User) Device(s *Session) string { return s.device() }

// Replaced reports whether it took the place of another session with the same address, so that AwaitPredecessor may
// have to wait.
func (s *Session) Replaced() bool { return s.before != nil }

// device is guarded by user.mu, as extra is.
func (s *Session) device() string {
	if s.extra == nil {
		return ""
	}
	return s.extra.device
}

// Supersede ends the earlier sessions of the device that s belongs to, with <conflict/>, and returns how many there
// were: a device that binds anew has lost them (XEP-0386 §3.2).
func (m *Manager) Supersede(s *Session) int {
	u := s.user
	var earlier []*Session
	u.mu.Lock()
	if device := s.device(); device != "" {
		for _, old := range u.sessions { // in the order of binding
			if old == s {
				break
			}
			if old.hidden == nil && old.device() == device {
				earlier = append(earlier, old)
			}
		}
	}
	u.mu.Unlock()
	for _, old := range earlier {
		old.outbox.Close(stream.Fail(stream.Conflict, "The device has logged in anew."))
	}
	return len(earlier)
}
