package session

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Info describes a session to those who administer the domain.
type Info struct {
	JID     jid.JID
	Account uint64
	// Device is what it belongs to; "" when the client has named none.
	Device string
	// Bound is when the resource was bound, to the second.
	Bound time.Time
	// Available and Priority are of its presence.
	Available bool
	Priority  int8
	// Interested: it gets roster pushes. Carbons: it gets carbons.
	Interested, Carbons bool
}

// Sessions calls yield for each session until it returns false; it is a range function. It holds no lock meanwhile:
// those that come or go while it runs may be missing or shown.
func (m *Manager) Sessions(yield func(Info) bool) {
	var users []*User
	var infos []Info
	for i := range m.shards {
		sh := &m.shards[i]
		users, infos = users[:0], infos[:0]
		sh.mu.RLock()
		for _, u := range sh.users {
			users = append(users, u)
		}
		sh.mu.RUnlock()
		for _, u := range users {
			u.mu.Lock()
			for _, s := range u.sessions {
				if s.hidden != nil {
					continue
				}
				infos = append(infos, Info{
					JID: s.address, Account: s.account, Device: s.device(), Bound: s.Bound().Truncate(time.Second),
					Available: s.presence != nil, Priority: s.priority, Interested: s.interested, Carbons: s.carbons,
				})
			}
			u.mu.Unlock()
		}
		for _, info := range infos {
			if !yield(info) {
				return
			}
		}
	}
}

// Kick ends every session of an account with the given error and returns how many there were. Their connections
// unbind them. It looks through all users: it is for administration, not for traffic.
func (m *Manager) Kick(account uint64, e *stream.Error) int {
	return m.end(e, func(s *Session) bool { return s.account == account })
}

// KickResource ends the session of a full address and reports whether there was one.
func (m *Manager) KickResource(full jid.JID, e *stream.Error) bool {
	s := m.Lookup(full)
	if s != nil {
		s.outbox.Close(e)
	}
	return s != nil
}

func (m *Manager) end(e *stream.Error, which func(*Session) bool) (n int) {
	for i := range m.shards {
		sh := &m.shards[i]
		var found []*Session
		sh.mu.RLock()
		for _, u := range sh.users {
			u.mu.Lock()
			for _, s := range u.sessions {
				if s.hidden == nil && which(s) {
					found = append(found, s)
				}
			}
			u.mu.Unlock()
		}
		sh.mu.RUnlock()
		for _, s := range found {
			s.outbox.Close(e)
		}
		n += len(found)
	}
	return n
}

// metrics counts sessions.
type metrics struct {
	sessions                                                             prometheus.Gauge
	boundTotal, refusedTotal, replacedTotal, replaysTotal, overflowTotal prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "posthouse_session_" + name, Help: help})
	}
	m := &metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "posthouse_session_bound",
			Help: "Sessions that are bound now."}),
		boundTotal:    counter("bound_total", "Sessions that were bound."),
		refusedTotal:  counter("refused_total", "Bindings refused because the account had too many."),
		replacedTotal: counter("replaced_total", "Sessions ended because a newer one took their address."),
		replaysTotal:  counter("replays_total", "Replays of waiting messages that were begun."),
		overflowTotal: counter("held_overflow_total",
			"Sessions ended because too many messages came in during a replay."),
	}
	if reg != nil {
		reg.MustRegister(m.sessions, m.boundTotal, m.refusedTotal, m.replacedTotal, m.replaysTotal, m.overflowTotal)
	}
	return m
}
