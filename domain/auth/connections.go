package auth

import (
	"net/netip"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/limit"
)

// ConnectionConfig bounds connections before anything is known of them. The zero value works; a negative number means
// without limit.
type ConnectionConfig struct {
	// Rate is how many new connections a second an address may open, and Burst how many at once.
	Rate  int `yaml:"rate" default:"20"`
	Burst int `yaml:"burst" default:"60"`
	// PerAddress is how many an address may have open.
	PerAddress int `yaml:"per_address" default:"200"`
	// Unauthenticated is how many of the whole node may be open without having logged in.
	Unauthenticated int `yaml:"unauthenticated" default:"5000"`
}

// ConnectionRefusal is why a connection was not admitted, as it stands in the metrics' label; "" for none.
type ConnectionRefusal string

// The refusals.
const (
	ConnectionRate            ConnectionRefusal = "rate"
	ConnectionsOpen           ConnectionRefusal = "open"
	ConnectionUnauthenticated ConnectionRefusal = "unauthenticated"
)

// Connections is the throttle that an accept loop asks before it spends anything on a connection, TLS least of all.
// IPv6 is counted by /64. Any goroutine may call it.
//
// An address is held while it has a connection open, and until its rate has recovered; every admission looks at a few
// others and forgets those that have, so that the table follows the number of open connections.
type Connections struct {
	rate            limit.Rate
	perAddress      int
	unauthenticated int
	clock           func() time.Duration
	refused         func(ConnectionRefusal) // counts; may be nil

	mu      sync.Mutex // guards what follows
	hosts   map[limit.Address]*host
	open    int
	strange int // open and not logged in
}

type host struct {
	open int
	rate limit.Bucket
}

func newConnections(c ConnectionConfig, clock func() time.Duration) *Connections {
	n := &Connections{perAddress: c.PerAddress, unauthenticated: c.Unauthenticated, clock: clock,
		hosts: make(map[limit.Address]*host)}
	if c.Rate > 0 && c.Burst > 0 {
		n.rate = limit.Per(float64(c.Rate), time.Second, float64(c.Burst))
	}
	return n
}

// NewConnections returns a throttle of its own, for listeners apart from an Authenticator. now may be nil.
func NewConnections(config ConnectionConfig, now func() time.Time) *Connections {
	defaults.Fill(&config)
	return newConnections(config, monotonic(now))
}

// Admission is one connection's slot. Release must be called once it is closed.
type Admission struct {
	owner         *Connections
	address       limit.Address
	authenticated bool // guarded by owner.mu
	released      bool // guarded by owner.mu
}

// Admit asks for a slot for a connection from that address. When ok is false, the connection should be closed without
// an answer.
func (c *Connections) Admit(ip netip.Addr) (admission *Admission, ok bool) { return c.admit(ip, 1) }

// AdmitRequest asks for a slot for a request that came on a connection of somebody else, a proxy. It counts as a
// connection that is open while it is served, but not as a new one: a client sends many requests on one connection.
func (c *Connections) AdmitRequest(ip netip.Addr) (admission *Admission, ok bool) {
	return c.admit(ip, 0)
}

// admit asks for a slot that takes so many tokens of the rate.
func (c *Connections) admit(ip netip.Addr, tokens float64) (admission *Admission, ok bool) {
	key, now := limit.AddressOf(ip), c.clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweep(now)
	h, known := c.hosts[key]
	if !known {
		h = &host{}
	}
	refusal := ConnectionRefusal("")
	after := h.rate
	wait := after.Take(c.rate, now, tokens)
	switch {
	case c.unauthenticated > 0 && c.strange >= c.unauthenticated:
		refusal = ConnectionUnauthenticated
	case c.perAddress > 0 && h.open >= c.perAddress:
		refusal = ConnectionsOpen
	case wait > 0:
		refusal = ConnectionRate
	}
	if refusal != "" {
		if c.refused != nil {
			c.refused(refusal)
		}
		return nil, false
	}
	h.rate = after
	h.open++
	c.hosts[key] = h
	c.open++
	c.strange++
	return &Admission{owner: c, address: key}, true
}

// sweep forgets up to four addresses that have nothing open and may connect at full burst again. c.mu is held.
func (c *Connections) sweep(now time.Duration) {
	seen := 0
	for key, h := range c.hosts {
		if h.open == 0 && h.rate.Full(now) {
			delete(c.hosts, key)
		}
		if seen++; seen == 4 {
			return
		}
	}
}

// Authenticated says that the peer has logged in: the connection no longer counts as unauthenticated.
func (a *Admission) Authenticated() {
	c := a.owner
	c.mu.Lock()
	defer c.mu.Unlock()
	if !a.authenticated && !a.released {
		a.authenticated = true
		c.strange--
	}
}

// Release gives the slot back. Calls after the first do nothing.
func (a *Admission) Release() {
	c := a.owner
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.released {
		return
	}
	a.released = true
	c.open--
	if !a.authenticated {
		c.strange--
	}
	h := c.hosts[a.address]
	h.open--
	if h.open == 0 && h.rate.Full(c.clock()) {
		delete(c.hosts, a.address)
	}
}

// Count returns how many connections are open, and how many of them have not logged in.
func (c *Connections) Count() (open, unauthenticated int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, c.strange
}
