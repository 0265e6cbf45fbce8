package session

import (
	"slices"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Change is what a presence stanza changed.
type Change struct {
	// Now is the presence that was set, with the sender's full address in From; its Type is "" or unavailable.
	Now *stanza.Stanza
	// Previous is the available presence before it, nil when the session was unavailable.
	Previous *stanza.Stanza
	// Replay is not nil when the messages that wait for the account are due to this session: the caller must run it.
	Replay *Replay
	// Gone: the session has ended meanwhile, nothing was changed, and nothing may be announced.
	Gone bool
}

// Initial reports whether the session has become available by it (RFC 6121 §4.2).
func (c *Change) Initial() bool { return c.Previous == nil && c.Now.Type == "" }

// SetPresence records undirected presence, available or unavailable. The caller holds s.Broadcasting.
//
// When it makes the session the only one of its account that messages to the bare address reach, messages are held
// aside for it from this moment on, and the Replay in the Change must be run and finished.
func (m *Manager) SetPresence(s *Session, p *stanza.Stanza, priority int8) Change {
	u := s.user
	u.mu.Lock()
	defer u.mu.Unlock()
	c := Change{Now: p, Previous: s.presence}
	if s.gone {
		c.Gone = true
		return c
	}
	was := s.live()
	becomes := p.Type == "" && priority >= 0 && !s.failed
	if was != becomes {
		s.newSpan()
	}
	if p.Type == "" {
		s.presence, s.priority = p, priority
	} else {
		s.presence, s.priority = nil, 0
	}
	m.announce(s)
	if !was && becomes {
		c.Replay = m.replayDue(u, s)
	}
	return c
}

// replayDue begins a replay to s, which has just become live, unless another session has had it or is having it.
func (m *Manager) replayDue(u *User, s *Session) *Replay {
	for _, other := range u.sessions {
		if x := other.extra; x != nil && x.replay != nil {
			if other == s {
				x.replay.again = true
			}
			return nil // when that one cannot go on, it is handed to s
		}
		if other != s && other.live() {
			return nil
		}
	}
	return m.begin(u, s)
}

// SetCarbons turns carbons on or off (XEP-0280 §4, §5) and reports false when the session has ended.
func (m *Manager) SetCarbons(s *Session, on bool) bool {
	s.user.mu.Lock()
	defer s.user.mu.Unlock()
	if s.carbons != on {
		s.newSpan()
		s.carbons = on
		m.announce(s)
	}
	return !s.gone
}

// SetInterested marks the session as one that gets roster pushes (RFC 6121 §2.2), and that was told of all up to a
// version.
func (m *Manager) SetInterested(s *Session, roster uint64) {
	s.user.mu.Lock()
	defer s.user.mu.Unlock()
	s.interested, s.roster = true, roster
	m.announce(s)
}

// SetSynced says whether the session is told of what other sessions of the account change of conversations and the
// profile, and reports false when the session has ended.
func (m *Manager) SetSynced(s *Session, on bool) bool {
	s.user.mu.Lock()
	defer s.user.mu.Unlock()
	s.synced = on
	return !s.gone
}

// Direct records that the session sent directed presence to an address, or took it back (RFC 6121 §4.6.3).
// It reports false when the session has sent it to as many as it may.
func (m *Manager) Direct(s *Session, to jid.JID, available bool) bool {
	s.user.mu.Lock()
	defer s.user.mu.Unlock()
	if !available {
		if s.extra != nil {
			s.extra.directed = slices.DeleteFunc(s.extra.directed, func(have jid.JID) bool { return have == to })
		}
		return true
	}
	x := s.more()
	if slices.Contains(x.directed, to) {
		return true
	}
	if len(x.directed) >= m.config.MaxDirected {
		return false
	}
	x.directed = append(x.directed, to.Clone()) // without the stanza that it stands in
	return true
}

// TakeDirected returns the addresses that got directed presence, and forgets them. It works for a session that has
// ended.
func (m *Manager) TakeDirected(s *Session) []jid.JID {
	s.user.mu.Lock()
	defer s.user.mu.Unlock()
	if s.extra == nil {
		return nil
	}
	out := s.extra.directed
	s.extra.directed = nil
	return out
}

// DirectedTo reports whether a session of the account has sent directed presence to the given address, or to another
// one of the same bare address when that was sent to the bare address.
func (m *Manager) DirectedTo(account, peer jid.JID) (found bool) {
	m.Visit(account, func(u *User) {
		for _, s := range u.sessions {
			if s.extra == nil {
				continue
			}
			for _, to := range s.extra.directed {
				if to == peer || to == peer.Bare() {
					found = true
					return
				}
			}
		}
	})
	return found
}
