package session

import (
	"context"
	"crypto/rand"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Config configures a Manager. Every field may be zero.
type Config struct {
	// MaxResources is how many resources one account may have bound at once.
	MaxResources int `yaml:"max_resources" default:"10" min:"1"`
	// MaxDirected is how many addresses a session may have sent directed presence to, rooms included.
	MaxDirected int `yaml:"max_directed" default:"1000" min:"1"`
	// MaxHeld is how many packets are held back while older messages are replayed. Beyond it the stream ends with
	// <resource-constraint/>, and stored messages are replayed to the next one.
	MaxHeld int `yaml:"max_held" default:"1000" min:"1"`

	// Departed is told of a session that ended while others believed it available: last is its last presence, nil when
	// it was unavailable and had only sent directed presence. s.Broadcasting is held. It runs on the goroutine of
	// Unbind or Bind.
	Departed func(ctx context.Context, s *Session, last *stanza.Stanza) `yaml:"-"`
	// Overtaken reports whether an account was changed, or a device of it signed out, after the basis (store.Basis)
	// that a login relies on; nil: never.
	Overtaken func(ctx context.Context, account uint64, device string, basis int64) (bool, error) `yaml:"-"`
	// Directory and Peers know the other nodes of the domain; nil means Alone.
	Directory Directory `yaml:"-"`
	Peers     Peers     `yaml:"-"`
	// Metrics receives the package's metrics; nil leaves them unregistered.
	Metrics prometheus.Registerer `yaml:"-"`
	// Log receives what an operator can act on; nil discards it.
	Log *slog.Logger `yaml:"-" default:"discard"`
	// Now is the clock; nil means time.Now.
	Now func() time.Time `yaml:"-" default:"now"`
}

const (
	// departTime bounds telling others that a session has ended.
	departTime = 10 * time.Second
	// confirmTime bounds looking for a change that has overtaken a login.
	confirmTime = 10 * time.Second
)

// shardCount spreads the table of users, so that logins do not wait for each other.
const shardCount = 128

// Manager knows every session of this node.
type Manager struct {
	config  Config
	metrics *metrics
	seed    maphash.Seed
	binds   atomic.Uint64 // of this process; what numbers the bindings of a whole domain comes with several
	shards  [shardCount]shard
}

type shard struct {
	mu    sync.RWMutex     // guards users
	users map[string]*User // by bare address; each has at least one session
}

// User is an account with at least one session. Its methods may only be called in the callback of Visit.
type User struct {
	mu       sync.Mutex // guards the rest but bare and account, and the guarded fields of its sessions
	bare     jid.JID
	account  uint64
	sessions []*Session // in the order of binding
	inline   [1]*Session
	gone     bool // not in the table any more: whoever got here by pointer looks again
}

// New returns a manager without sessions.
func New(c Config) *Manager {
	defaults.Fill(&c)
	if c.Directory == nil {
		c.Directory = Alone{}
	}
	if c.Peers == nil {
		c.Peers = Alone{}
	}
	return &Manager{config: c, metrics: newMetrics(c.Metrics), seed: maphash.MakeSeed()}
}

func (m *Manager) shard(bare string) *shard {
	return &m.shards[maphash.String(m.seed, bare)%shardCount]
}

// limitReached is the answer to one resource too many (RFC 6120 §7.6.2.1, XEP-0205 §4).
var limitReached = func() *stanza.Error {
	app := stanza.New("urn:xmpp:errors", "resource-limit-exceeded")
	return &stanza.Error{Condition: stanza.ResourceConstraint, App: &app,
		Text: "This account has as many connections as it may have."}
}()

// Bind makes a session. An older one with the same address is ended with <conflict/> (RFC 6120 §7.7.2.2, the newest
// wins); too many resources are refused with resource-constraint, unless one of them has no connection and can go. The
// session gets nothing but what is addressed to its full address until it sends presence. It is ended at once when its
// login was overtaken, see Confirm; for a hidden one that is asked by whoever makes it.
func (m *Manager) Bind(b Binding) (*Session, *stanza.Error) {
	resource := b.Resource
	if resource == "" {
		resource = rand.Text() // 128 bits or more: nobody can address it before it shows itself (RFC 6120 §13.10.2)
	}
	address, err := b.Bare.WithResource(resource)
	if err != nil {
		return nil, stanza.Refuse(stanza.BadRequest, "The resource is not valid.")
	}
	s := &Session{address: address, account: b.Account, outbox: b.Outbox, bind: m.binds.Add(1),
		bound: m.config.Now().UnixMilli(), basis: b.Basis, hidden: b.Hidden}
	if b.Device != "" {
		s.extra = &extra{device: b.Device}
	}
	ended, refusal := m.insert(s)
	if refusal != nil {
		m.metrics.refusedTotal.Inc()
		return nil, refusal
	}
	if s.hidden == nil {
		m.metrics.sessions.Inc()
		m.metrics.boundTotal.Inc()
	}
	for _, old := range ended {
		condition := stream.Conflict
		if old.s.account != s.account {
			condition = stream.NotAuthorized // the account was deleted and its name given to another
		}
		old.s.outbox.Close(stream.Fail(condition, ""))
		if old.s.hidden == nil {
			m.metrics.sessions.Dec()
			m.metrics.replacedTotal.Inc()
		}
		m.depart(old)
	}
	if s.hidden == nil {
		m.Confirm(s, b.Basis)
	}
	return s, nil
}

// Confirm ends a session with <not-authorized/> when its account was changed, or its device signed out, after the basis
// that a login relies on. It is called when others can find the session, by Bind and by whoever gives it to another
// connection: what changes later finds it and ends it. So a login is ended by every change that it has not seen,
// whichever of the two was first, and whatever way it came.
func (m *Manager) Confirm(s *Session, basis int64) {
	if m.config.Overtaken == nil || s.account == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), confirmTime)
	defer cancel()
	overtaken, err := m.config.Overtaken(ctx, s.account, s.Device(), basis)
	switch {
	case err != nil: // it cannot be told whether it may be here
		m.config.Log.Error("cannot look for changes of an account that logs in", "account", s.account, "error", err)
		s.outbox.Close(stream.Fail(stream.InternalServerError, ""))
	case overtaken:
		s.outbox.Close(stream.Fail(stream.NotAuthorized, "The account or the device was changed. Log in again."))
	}
}

// departure is a session taken from the table, and what others believed of it.
type departure struct {
	s        *Session
	last     *stanza.Stanza
	directed bool
}

// insert puts s into the table and returns what it replaced.
func (m *Manager) insert(s *Session) (ended []departure, refusal *stanza.Error) {
	bare := s.address.Bare()
	sh := m.shard(bare.String())
	sh.mu.Lock()
	defer sh.mu.Unlock()
	u := sh.users[bare.String()]
	if u != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.account != s.account {
			for len(u.sessions) > 0 {
				ended = append(ended, u.remove(u.sessions[0]))
			}
			u.gone = true
			u = nil
		}
	}
	if u == nil {
		// The bare address shares the memory of the full one. Nobody else knows u until the shard is unlocked.
		u = &User{bare: bare, account: s.account}
		u.sessions = u.inline[:0]
		if sh.users == nil {
			sh.users = map[string]*User{}
		}
		delete(sh.users, bare.String()) // so that the key's memory is ours too, not that of a session that has ended
		sh.users[bare.String()] = u
	} else if old := u.match(s.address.Resource()); old != nil {
		ended = append(ended, u.remove(old))
	} else if s.hidden == nil && u.visible() >= m.config.MaxResources {
		old := u.detached()
		if old == nil {
			return nil, limitReached
		}
		ended = append(ended, u.remove(old))
	}
	s.user = u
	u.sessions = append(u.sessions, s)
	m.announce(s)
	for _, old := range ended {
		m.withdraw(old.s)
		old.s.left = make(chan struct{})
		s.before = old.s.left // one at most is of the same account
	}
	return ended, nil
}

// visible returns how many sessions count against the limit. Under the user's lock.
func (u *User) visible() (n int) {
	for _, s := range u.sessions {
		if s.hidden == nil {
			n++
		}
	}
	return n
}

// detached returns the oldest session that waits for its client to come back, or nil. A client that fails to resume
// again and again must not lock its account out by what it left behind. Under the user's lock.
func (u *User) detached() *Session {
	for _, s := range u.sessions {
		if s.outbox.Detached() {
			return s
		}
	}
	return nil
}

// Unbind ends a session: its contacts are told that it is unavailable, and nothing is delivered to it any more. For a
// session that was replaced it only lets the new one know that the old connection is over; otherwise it does nothing
// the second time.
func (m *Manager) Unbind(s *Session) {
	bare := s.user.bare.String()
	sh := m.shard(bare)
	sh.mu.Lock()
	s.user.mu.Lock()
	if s.gone {
		if s.left != nil {
			close(s.left)
			s.left = nil
		}
		s.user.mu.Unlock()
		sh.mu.Unlock()
		return
	}
	d := s.user.remove(s)
	m.withdraw(s)
	if len(s.user.sessions) == 0 {
		s.user.gone = true
		delete(sh.users, bare)
	}
	s.user.mu.Unlock()
	sh.mu.Unlock()
	if s.hidden == nil {
		m.metrics.sessions.Dec()
	}
	m.depart(d)
}

// remove takes s from its user. The caller holds the lock of the user, and removes it from the table when it was the
// last.
func (u *User) remove(s *Session) departure {
	for i, have := range u.sessions {
		if have == s {
			u.sessions = append(u.sessions[:i], u.sessions[i+1:]...)
			u.sessions[:len(u.sessions)+1][len(u.sessions)] = nil
			break
		}
	}
	d := departure{s: s, last: s.presence}
	s.gone = true
	s.presence = nil
	if x := s.extra; x != nil {
		d.directed = len(x.directed) > 0
		if x.replay != nil {
			x.replay.stop()
		}
	}
	return d
}

// depart has others told that a session has ended.
func (m *Manager) depart(d departure) {
	if m.config.Departed == nil || d.last == nil && !d.directed {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), departTime)
	defer cancel()
	d.s.Broadcasting.Lock()
	defer d.s.Broadcasting.Unlock()
	m.config.Departed(ctx, d.s, d.last)
}
