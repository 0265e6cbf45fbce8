package session

import "github.com/posthouse-im/posthouse/wire/stream"

// Device returns the device that the session belongs to, as in store.Device.ID; "" when it named none. It must not be called in the
// callback of Visit: User.Device is for that.
func (s *Session) Device() string {
	s.user.mu.Lock()
	defer s.user.mu.Unlock()
	return s.device()
}

// Device returns the device that a session of the user belongs to, as Session.Device does.
func (u *User) Device(s *Session) string { return s.device() }

// device is guarded by user.mu, as extra is.
func (s *Session) device() string {
	if s.extra == nil {
		return ""
	}
	return s.extra.device
}

// Supersede ends the earlier sessions of the device that s belongs to, with <conflict/>, and returns how many there were: a device that
// binds anew has lost them (XEP-0386 §2.2).
func (m *Manager) Supersede(s *Session) int {
	u := s.user
	var earlier []*Session
	u.mu.Lock()
	if device := s.device(); device != "" {
		for _, old := range u.sessions { // in the order of binding
			if old == s {
				break
			}
			if old.device() == device {
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
