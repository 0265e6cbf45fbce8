package session

import (
	"slices"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Visit calls f with the user of that bare address, under its lock, and reports whether it has any session.
// Whatever f decides and sends is one step: no session comes or goes meanwhile, and order is that of the visits.
// f must not block, nor call anything of this package but the methods of User. A full address names its user too.
func (m *Manager) Visit(address jid.JID, f func(u *User)) bool {
	bare := address.Bare().String()
	sh := m.shard(bare)
	for {
		sh.mu.RLock()
		u := sh.users[bare]
		sh.mu.RUnlock()
		if u == nil {
			return false
		}
		if u.visit(f) {
			return true
		}
	}
}

// visit reports false when the user has left the table meanwhile: another one of that name may stand there.
func (u *User) visit(f func(u *User)) bool {
	u.mu.Lock()
	defer u.mu.Unlock() // deferred: a panic in f must not leave the account locked
	if u.gone {
		return false
	}
	f(u)
	return true
}

// Account returns the identity of the account.
func (u *User) Account() uint64 { return u.account }

// All calls yield for each session in the order of binding until it returns false; it is a range function.
func (u *User) All(yield func(s *Session) bool) {
	for _, s := range u.sessions {
		if !yield(s) {
			return
		}
	}
}

// Match returns the session with that resourcepart, available or merely connected, or nil. A hidden one is no match.
func (u *User) Match(resource string) *Session {
	if s := u.match(resource); s != nil && s.hidden == nil {
		return s
	}
	return nil
}

func (u *User) match(resource string) *Session {
	for _, s := range u.sessions {
		if !s.failed && s.address.Resource() == resource {
			return s
		}
	}
	return nil
}

// Live reports whether a session is available with a priority that is not negative.
func (u *User) Live() bool {
	for _, s := range u.sessions {
		if s.live() {
			return true
		}
	}
	return false
}

// Send gives a packet to a session. While older messages are being replayed to it, messages wait aside.
func (u *User) Send(s *Session, p *stream.Packet) {
	if s.gone || s.failed {
		return
	}
	if id := p.ArchiveID; id != 0 {
		if s.first == 0 {
			s.first = id
			if len(p.Also) > 0 {
				s.first = p.Also[0]
			}
		}
		s.last = max(s.last, id)
		if x := s.extra; x != nil && x.replayed(id) {
			return // it was committed when the replay read the log, and only now comes this way
		}
	}
	s.queue(p)
}

// Redeliver gives a stored message to a session out of its turn: one that another session was given and did not get.
func (u *User) Redeliver(s *Session, p *stream.Packet) {
	if s.gone || s.failed || s.extra != nil && s.extra.replayed(p.ArchiveID) {
		return
	}
	s.noteReplayed(p) // not part of a span: the messages around it were not given to this session
	s.queue(p)
}

// queue sends a packet, or holds it aside while a replay runs: messages only, and not the results of a history query,
// which belong before the IQ that ends the page.
func (s *Session) queue(p *stream.Packet) {
	if x := s.extra; x != nil && x.replay != nil && p.Stanza.Kind == stanza.Message && p.Role != stream.History {
		x.replay.hold(p)
		return
	}
	s.outbox.Send(p)
}

// SendLive gives a packet to every session that is available with a priority that is not negative, and returns how many
// there were.
func (u *User) SendLive(p *stream.Packet) (n int) {
	// A stored message that is addressed to a resource which has left is remembered one by one: its address does not
	// tell later to whom it went.
	strayed := p.ArchiveID != 0 && p.Stanza.To.IsFull()
	for _, s := range u.sessions {
		if !s.live() {
			continue
		}
		if n++; strayed {
			u.Redeliver(s, p)
		} else {
			u.Send(s, p)
		}
	}
	return n
}

// SendAvailable gives a packet to every available session, whatever its priority, and returns how many there were.
func (u *User) SendAvailable(p *stream.Packet) (n int) {
	for _, s := range u.sessions {
		if s.presence != nil {
			u.Send(s, p)
			n++
		}
	}
	return n
}

// IsLive reports whether the session is available with a priority that is not negative.
func (u *User) IsLive(s *Session) bool { return s.live() }

// Presence returns the session's last available presence, nil when it is unavailable.
func (u *User) Presence(s *Session) *stanza.Stanza { return s.presence }

// Carbons reports whether the session gets carbons (XEP-0280).
func (u *User) Carbons(s *Session) bool { return s.carbons && !s.failed }

// Interested reports whether the session gets roster pushes (RFC 6121 §2.2).
func (u *User) Interested(s *Session) bool { return s.interested && !s.failed }

// Roster returns the version of the roster that an interested session was told of, and SetRoster says which that is.
func (u *User) Roster(s *Session) uint64 { return s.roster }

// SetRoster is described at Roster.
func (u *User) SetRoster(s *Session, version uint64) { s.roster = version }

// Synced reports whether the session is told of changes of conversations and of the profile, see SetSynced.
func (u *User) Synced(s *Session) bool { return s.synced && !s.failed }

// Had reports whether the stored message was given to the session already, by delivery or replay. copied says whether
// it is of the kind that those who want carbons get a copy of.
func (u *User) Had(s *Session, p *stream.Packet, copied bool) bool { return s.had(p, copied) }

// had relies on ArchiveIDs rising in the order in which an account's messages are routed: a session was given every
// message since the first one that it got, as far as it was entitled to it.
func (s *Session) had(p *stream.Packet, copied bool) bool {
	id := p.ArchiveID
	if id == 0 {
		return false
	}
	if s.covers(span{s.first, s.last, s.live(), s.carbons}, p, copied) {
		return true
	}
	x := s.extra
	if x == nil {
		return false
	}
	for _, past := range x.past {
		if s.covers(past, p, copied) {
			return true
		}
	}
	return x.replayed(id)
}

func (s *Session) covers(sp span, p *stream.Packet, copied bool) bool {
	if sp.first == 0 || p.ArchiveID < sp.first || p.ArchiveID > sp.last {
		return false
	}
	to := p.Stanza.To
	return to == s.address || sp.live && !to.IsFull() || sp.carbons && copied
}

// replayed reports whether a replay gave that message to the session.
func (x *extra) replayed(id uint64) bool {
	if n := len(x.seen); n == 0 || id > x.seen[n-1] {
		return false
	}
	_, found := slices.BinarySearch(x.seen, id)
	return found
}

// newSpan is called before what the session is entitled to changes.
func (s *Session) newSpan() {
	if s.first == 0 {
		return
	}
	x := s.more()
	if len(x.past) == maxSpans {
		x.past = append(x.past[:0], x.past[1:]...)
	}
	x.past = append(x.past, span{s.first, s.last, s.live(), s.carbons})
	s.first, s.last = 0, 0
}

// Send gives a packet to the resource of a full address and reports whether it is there, available or merely connected.
// A hidden one takes answers only.
func (m *Manager) Send(to jid.JID, p *stream.Packet) bool {
	sent := false
	m.VisitResource(to, func(u *User, s *Session) {
		if s.hidden == nil || !p.Stanza.IsRequest() {
			u.Send(s, p)
			sent = true
		}
	})
	return sent
}

// VisitResource is Visit for the session of a full address, a hidden one too, when it is there.
func (m *Manager) VisitResource(full jid.JID, f func(*User, *Session)) {
	m.Visit(full, func(u *User) {
		if s := u.match(full.Resource()); s != nil {
			f(u, s)
		}
	})
}

// SendAvailable gives a packet to every available resource of an account and returns how many there were.
func (m *Manager) SendAvailable(bare jid.JID, p *stream.Packet) (n int) {
	m.Visit(bare, func(u *User) { n = u.SendAvailable(p) })
	return n
}

// Lookup returns the session of a full address, or nil.
func (m *Manager) Lookup(full jid.JID) (found *Session) {
	m.VisitResource(full, func(_ *User, s *Session) { found = s })
	return found
}

// Available returns the addresses of the sessions of an account that have sent presence.
func (m *Manager) Available(bare jid.JID) (list []jid.JID) {
	m.Visit(bare, func(u *User) {
		for s := range u.All {
			if u.Presence(s) != nil {
				list = append(list, s.JID())
			}
		}
	})
	return list
}

// Connected returns the account's identity when it has a session, available or not, and 0 when it has none.
func (m *Manager) Connected(bare jid.JID) (account uint64) {
	m.Visit(bare, func(u *User) { account = u.account })
	return account
}
