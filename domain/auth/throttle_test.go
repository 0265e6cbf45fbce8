package auth_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/auth"
)

func (s *server) from(ip, name, password string) *auth.Failure {
	ch := proxied()
	ch.Remote = netip.MustParseAddr(ip)
	_, f := s.plain(ch, "", name, password)
	return f
}

const wrong = "wrong password"

func quickServer(t *testing.T, configure ...func(*auth.Config)) *server {
	return newServer(t, append([]func(*auth.Config){func(c *auth.Config) { c.Iterations = 1 }}, configure...)...)
}

// Section 3 of the defaults: five failures a minute for an address with a name, then a delay that grows to 15 minutes.
func TestThrottlePerUser(t *testing.T) {
	s := quickServer(t)
	for i := range 5 {
		f := s.from("192.0.2.1", "juliet", wrong)
		requireFailure(t, auth.NotAuthorized, f)
		require.Equal(t, i == 4, f.Exhausted, i)
	}
	f := s.from("192.0.2.1", "juliet", password)
	requireFailure(t, auth.TemporaryAuthFailure, f, "also the right one")
	require.True(t, f.Exhausted)

	// Other names and other addresses are not concerned.
	requireFailure(t, auth.NotAuthorized, s.from("192.0.2.1", "romeo", wrong))
	require.Nil(t, s.from("192.0.2.2", "juliet", password))

	var delays []time.Duration
	for range 10 {
		var waited time.Duration
		for s.from("192.0.2.1", "juliet", wrong).Condition != auth.NotAuthorized {
			s.clock.Advance(time.Second)
			waited += time.Second
			require.LessOrEqual(t, waited, 15*time.Minute)
		}
		delays = append(delays, waited)
	}
	require.Equal(t, 12*time.Second, delays[0])
	require.Equal(t, 24*time.Second, delays[1])
	require.Contains(t, delays, 15*time.Minute)
	s.clock.Advance(15 * time.Minute)
	require.Nil(t, s.from("192.0.2.1", "juliet", password), "the owner gets in after the delay")
	requireFailure(t, auth.NotAuthorized, s.from("192.0.2.1", "juliet", wrong), "and is forgiven")
}

// Thirty failures a minute for an address over all names.
func TestThrottlePerAddress(t *testing.T) {
	s := quickServer(t)
	for i := range 30 {
		f := s.from("192.0.2.1", fmt.Sprintf("user%d", i), wrong)
		requireFailure(t, auth.NotAuthorized, f)
		require.Equal(t, i == 29, f.Exhausted)
	}
	f := s.from("192.0.2.1", "juliet", password)
	requireFailure(t, auth.TemporaryAuthFailure, f)
	require.Nil(t, s.from("192.0.2.2", "juliet", password))
	s.clock.Advance(time.Minute)
	require.Nil(t, s.from("192.0.2.1", "juliet", password))
}

// SCRAM is throttled at both of its steps.
func TestThrottleSCRAM(t *testing.T) {
	s := quickServer(t)
	type begun struct {
		e         *auth.Exchange
		c         *scramClient
		challenge []byte
	}
	var exchanges []begun // all begun before the first one fails
	for range 10 {
		c := newSCRAMClient(auth.ScramSHA256)
		c.password = wrong
		e, challenge, f := s.Begin(context.Background(), plainChannel(), auth.ScramSHA256, c.firstMessage(), true)
		require.Nil(t, f)
		exchanges = append(exchanges, begun{e, c, challenge})
	}
	for i, b := range exchanges {
		_, _, f := b.e.Step(context.Background(), b.c.finalMessage(t, b.challenge))
		want := auth.NotAuthorized
		if i >= 5 {
			want = auth.TemporaryAuthFailure
		}
		requireFailure(t, want, f, i)
	}
	_, _, f := s.Begin(context.Background(), plainChannel(), auth.ScramSHA256, newSCRAMClient("").firstMessage(), true)
	requireFailure(t, auth.TemporaryAuthFailure, f)
	require.True(t, f.Exhausted)
}

// Abuse row A45: guessing from everywhere does not lock the owner out, neither at a new address nor at a known one.
func TestOwnerIsNotLockedOut(t *testing.T) {
	s := quickServer(t)
	require.Nil(t, s.from("198.51.100.7", "juliet", password))
	guesses := 0
	for i := range 10_000 {
		if s.from(fmt.Sprintf("10.%d.%d.%d", i%200, i/200, i%7), "juliet", wrong).Condition == auth.NotAuthorized {
			guesses++
		}
	}
	require.Positive(t, guesses)
	require.Nil(t, s.from("198.51.100.7", "juliet", password))
	require.Nil(t, s.from("203.0.113.9", "juliet", password), "a new address of hers")

	// Somebody else behind the owner's own address: guessing other names does not count against her, guessing hers
	// costs her seconds.
	for i := range 200 {
		s.from("198.51.100.7", fmt.Sprintf("victim%d", i), wrong)
	}
	require.Nil(t, s.from("198.51.100.7", "juliet", password))
	checked := 0
	for range 200 {
		if s.from("198.51.100.7", "juliet", wrong).Condition == auth.NotAuthorized {
			checked++
		}
	}
	require.Equal(t, 30, checked, "and does not go on without end")
	for range 10 {
		s.clock.Advance(2 * time.Second)
		requireFailure(t, auth.NotAuthorized, s.from("198.51.100.7", "juliet", wrong), "the delay does not grow")
	}
	s.clock.Advance(2 * time.Second)
	require.Nil(t, s.from("198.51.100.7", "juliet", password))

	// A year later the address is somebody else's.
	s.clock.Advance(365 * 24 * time.Hour)
	for range 5 {
		requireFailure(t, auth.NotAuthorized, s.from("198.51.100.7", "juliet", wrong))
	}
	requireFailure(t, auth.TemporaryAuthFailure, s.from("198.51.100.7", "juliet", password))
}

// An attacker with an account of their own does not reset what the address has used up.
func TestOwnLoginDoesNotResetAddress(t *testing.T) {
	s := quickServer(t)
	checked := 0
	for i := range 100 {
		if s.from("192.0.2.1", fmt.Sprintf("victim%d", i), wrong).Condition == auth.NotAuthorized {
			checked++
		}
		require.Nil(t, s.from("192.0.2.1", "juliet", password))
	}
	require.Equal(t, 30, checked)
}

func TestThrottleCountsIPv6ByNetwork(t *testing.T) {
	s := quickServer(t)
	for i := range 5 {
		requireFailure(t, auth.NotAuthorized, s.from(fmt.Sprintf("2001:db8:0:1::%x", i+1), "juliet", wrong))
	}
	requireFailure(t, auth.TemporaryAuthFailure, s.from("2001:db8:0:1:ffff::1", "juliet", password))
	require.Nil(t, s.from("2001:db8:0:2::1", "juliet", password))
	// IPv4 in IPv6 is IPv4.
	for range 5 {
		requireFailure(t, auth.NotAuthorized, s.from("::ffff:192.0.2.1", "juliet", wrong))
	}
	requireFailure(t, auth.TemporaryAuthFailure, s.from("192.0.2.1", "juliet", password))
	require.Nil(t, s.from("::ffff:192.0.2.2", "juliet", password))
}

func TestThrottleMemoryIsBounded(t *testing.T) {
	s := quickServer(t, func(c *auth.Config) { c.Failures.Entries = 256 })
	for i := range 3000 {
		s.from(fmt.Sprintf("10.0.%d.%d", i/200, i%200), fmt.Sprintf("user%d", i), wrong)
	}
	require.LessOrEqual(t, auth.FailureEntries(s.Authenticator), 256)
	require.Greater(t, auth.FailureEntries(s.Authenticator), 64)
}

func TestThrottleTellsOnce(t *testing.T) {
	s := quickServer(t)
	for range 100 {
		s.from("192.0.2.1", "juliet", wrong)
	}
	log := s.log.String()
	require.Equal(t, 1, strings.Count(log, "auth.throttled"))
	require.Equal(t, 5, strings.Count(log, "auth.login_failed"))
}

func TestThrottleCanBeTurnedOff(t *testing.T) {
	s := quickServer(t, func(c *auth.Config) {
		c.Failures.PerUser, c.Failures.PerAddress, c.Failures.KnownPerUser = -1,
			-1, -1
	})
	for range 1000 {
		requireFailure(t, auth.NotAuthorized, s.from("192.0.2.1", "juliet", wrong))
	}
	require.Nil(t, s.from("192.0.2.1", "juliet", password))
}

// Abuse row A53: registrations of an address are counted.
func TestRegistrationRate(t *testing.T) {
	s := quickServer(t, func(c *auth.Config) { c.Failures.Registrations = 3 })
	ip := netip.MustParseAddr("2001:db8::1")
	for range 3 {
		require.True(t, s.AllowRegistration(ip))
	}
	require.False(t, s.AllowRegistration(netip.MustParseAddr("2001:db8::2")), "the same network")
	require.True(t, s.AllowRegistration(netip.MustParseAddr("2001:db8:1::1")))
	s.clock.Advance(20 * time.Minute)
	require.True(t, s.AllowRegistration(ip))
	require.False(t, s.AllowRegistration(ip))
	s = quickServer(t, func(c *auth.Config) { c.Failures.Registrations = -1 })
	for range 10_000 {
		require.True(t, s.AllowRegistration(ip))
	}
}

// Abuse row A4: what one address may open.
func TestConnectionsPerAddress(t *testing.T) {
	clock := newClock()
	c := auth.NewConnections(auth.ConnectionConfig{}, clock.Now)
	ip := netip.MustParseAddr("127.0.0.2")
	var open []*auth.Admission
	admit := func() bool {
		a, ok := c.Admit(ip)
		if ok {
			open = append(open, a)
		}
		return ok
	}
	for range 60 {
		require.True(t, admit(), "the burst")
	}
	require.False(t, admit())
	clock.Advance(50 * time.Millisecond)
	require.True(t, admit(), "twenty a second")
	require.False(t, admit())
	_, ok := c.Admit(netip.MustParseAddr("127.0.0.3"))
	require.True(t, ok, "others are not concerned")
	for len(open) < 200 {
		clock.Advance(time.Second)
		require.True(t, admit())
	}
	clock.Advance(time.Minute)
	require.False(t, admit(), "two hundred open")
	open[0].Release()
	open[0].Release()
	require.True(t, admit())
	require.False(t, admit(), "a second release gives nothing")
	for _, a := range open {
		a.Release()
	}
	n, strange := c.Count()
	require.Equal(t, 1, n)
	require.Equal(t, 1, strange)
}

// Abuse row A5: how many unauthenticated connections there may be; who has logged in does not count.
func TestConnectionsUnauthenticated(t *testing.T) {
	c := auth.NewConnections(auth.ConnectionConfig{Unauthenticated: 1000}, newClock().Now)
	var open []*auth.Admission
	ip := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, byte(i / 250), byte(i % 250)}) }
	for i := range 1000 {
		a, ok := c.Admit(ip(i))
		require.True(t, ok)
		open = append(open, a)
	}
	_, ok := c.Admit(ip(2000))
	require.False(t, ok)
	open[0].Authenticated()
	open[0].Authenticated()
	a, ok := c.Admit(ip(2000))
	require.True(t, ok, "one has logged in")
	_, ok = c.Admit(ip(2001))
	require.False(t, ok, "only one")
	open[0].Release()
	_, ok = c.Admit(ip(2001))
	require.False(t, ok, "who had logged in leaves no room for an unauthenticated connection")
	a.Release()
	a.Authenticated()
	_, ok = c.Admit(ip(2001))
	require.True(t, ok)
}

func TestConnectionsForgetAddresses(t *testing.T) {
	clock := newClock()
	c := auth.NewConnections(auth.ConnectionConfig{}, clock.Now)
	for i := range 50_000 {
		a, ok := c.Admit(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		require.True(t, ok)
		a.Release()
		clock.Advance(time.Millisecond)
	}
	require.Less(t, auth.ConnectionHosts(c), 2000)
}

func TestConnectionsWithoutLimit(t *testing.T) {
	c := auth.NewConnections(auth.ConnectionConfig{Rate: -1, PerAddress: -1, Unauthenticated: -1}, nil)
	for range 15_000 {
		_, ok := c.Admit(netip.MustParseAddr("127.0.0.1"))
		require.True(t, ok)
	}
}
