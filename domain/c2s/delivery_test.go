package c2s_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/c2s"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// TestStuckDelivery: while one delivery is stuck, the same client's other messages are counted and delivered and its
// requests to the server answered; what it sends to others than that waits, and follows.
func TestStuckDelivery(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		e.archive.queue = true
		juliet := e.bind("juliet", "balcony")
		c := e.bind("romeo", "phone")
		c.enable()
		c.message("romeo@localhost/phone", "stuck")
		c.message("juliet@localhost/balcony", "goes on")
		c.send("<r xmlns='urn:xmpp:sm:3'/>")
		c.expect("<a xmlns='urn:xmpp:sm:3' h='2'/>")
		elapse(time.Second)
		require.Contains(t, juliet.quiet(), "goes on")
		c.send(
			"<iq type='get' id='own' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq><iq type='get' id='account' " +
				"to='juliet@localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
		c.expect("type='result' id='own'", "id='account'")

		c.send("<presence to='juliet@localhost/balcony' id='follows'/>")
		require.NotContains(t, juliet.quiet(), "follows", "it would overtake")
		close(e.unstick)
		synctest.Wait()
		require.Contains(t, c.quiet(), "stuck")
		require.Contains(t, juliet.quiet(), "follows")
	})
}

// TestEndWithStuckDelivery: a session whose messages are not delivered ends all the same, after a moment.
func TestEndWithStuckDelivery(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		e.archive.queue = true
		c := e.bind("romeo", "phone")
		c.message("juliet@localhost", "stuck")
		synctest.Wait()
		began := time.Now()
		c.conn.Close()
		for e.sessions.Connected(jid.MustParse("romeo@localhost")) != 0 {
			elapse(100 * time.Millisecond)
		}
		require.Less(t, time.Since(began), 3*time.Second)
		close(e.unstick)
	})
}

// TestResourceOfALostConnection: an account that has as many resources as it may have, one of which waits for a client
// that is gone, gets another one.
func TestResourceOfALostConnection(t *testing.T) {
	run(t, func(c *c2s.Config) { c.ResumeTimeout = time.Hour }, func(t *testing.T, e *env) {
		lost := e.bind("romeo", "lost")
		lost.enable()
		for i := range 9 {
			e.bind("romeo", strings.Repeat("r", i+1))
		}
		lost.conn.Close()
		synctest.Wait()
		e.bind("romeo", "new")
	})
}
