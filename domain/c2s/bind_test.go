package c2s_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/c2s"
)

const nsBind = "urn:ietf:params:xml:ns:xmpp-bind"

// RFC 6120 §7.6: the server makes a resource that nobody can guess.
func TestServerMadeResource(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		seen := map[string]bool{}
		for _, payload := range []string{"<bind xmlns='" + nsBind + "'/>", "<bind xmlns='" + nsBind +
			"'><resource/></bind>"} {
			c := e.login("romeo")
			c.send("<iq type='set' id='b'>" + payload + "</iq>")
			full := each(c.expect("</iq>"), "<jid>", "</jid>")[0]
			resource, ok := strings.CutPrefix(full, "romeo@localhost/")
			require.True(t, ok)
			require.GreaterOrEqual(t, len(resource), 20)
			seen[resource] = true
		}
		require.Len(t, seen, 2)
	})
}

// RFC 6120 §7.7: what cannot be bound is refused, and the client may try again, a few times.
func TestBindRefused(t *testing.T) {
	for name, iq := range map[string]string{
		"forbidden character": "<iq type='set' id='b'><bind xmlns='" + nsBind +
			"'><resource>a&#x0085;b</resource></bind></iq>",
		"too long": "<iq type='set' id='b'><bind xmlns='" + nsBind + "'><resource>" + strings.Repeat("x", 1024) +
			"</resource></bind></iq>",
		"no id":        "<iq type='set'><bind xmlns='" + nsBind + "'/></iq>",
		"two children": "<iq type='set' id='b'><bind xmlns='" + nsBind + "'/><x xmlns='urn:example:x'/></iq>",
		"to somebody":  "<iq type='set' id='b' to='mercutio@localhost'><bind xmlns='" + nsBind + "'/></iq>",
	} {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(t *testing.T, e *env) {
				c := e.login("romeo")
				c.send(iq)
				c.expect("<iq", "type='error'", "<bad-request ", "</iq>")
				c.bind("phone")

				c = e.login("juliet")
				for range 5 {
					c.send(iq)
					c.expect("</iq>")
				}
				c.send(iq)
				c.fails("policy-violation")
			})
		})
	}
}

// A70: the newest wins, the old stream is told of the conflict.
func TestBindConflict(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		old := e.bind("romeo", "phone")
		fresh := e.bind("romeo", "phone")
		old.fails("conflict")
		fresh.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
		fresh.expect("id='p'")
		require.Equal(t, 1, e.sessionCount())

		// With stream management as well, live or hibernating: a replaced session cannot be resumed.
		id := fresh.enable()
		fresh.conn.Close()
		synctest.Wait()
		third := e.bind("romeo", "phone")
		again := e.login("romeo")
		again.sendf("<resume xmlns='urn:xmpp:sm:3' previd='%s' h='0'/>", id)
		again.expect("<failed", "<item-not-found ")
		third.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
		third.expect("id='p'")
	})
}

// A70: one resource too many.
func TestTooManyResources(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		for i := range 10 {
			e.bind("romeo", string(rune('a'+i)))
		}
		c := e.login("romeo")
		c.send("<iq type='set' id='b'><bind xmlns='" + nsBind + "'/></iq>")
		c.expect("type='error'", "<resource-constraint ", "<resource-limit-exceeded ", "</iq>")
	})
}

// A stream has one resource, and the legacy session is only for show.
func TestAfterBinding(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c := e.bind("romeo", "phone")
		c.send("<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>")
		c.expect("type='result' id='s'", ">")
		c.send("<iq type='set' id='b2'><bind xmlns='" + nsBind + "'><resource>other</resource></bind></iq>")
		c.expect("type='error' id='b2'", "<not-allowed ")
		require.Equal(t, 1, e.sessionCount())
	})
}

// XEP-0077 before authentication, where it is open.
func TestRegistration(t *testing.T) {
	run(t, func(c *c2s.Config) { c.Registration = "open" }, func(t *testing.T, e *env) {
		register := func(name, password string) string {
			return "<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>" + name +
				"</username><password>" + password + "</password></query></iq>"
		}
		c := e.unauthenticated()
		c.send("<iq type='get' id='f'><query xmlns='jabber:iq:register'/></iq>")
		form := c.expect("<iq", "</iq>")
		require.Contains(t, form, "<username/>")
		require.Contains(t, form, "<password/>")
		for sent, condition := range map[string]string{
			register("romeo", "long enough"): "conflict",
			register("a b", "long enough"):   "jid-malformed",
			register("benvolio", ""):         "not-acceptable",
			register("benvolio", "x"):        "not-acceptable",
		} {
			c.send(sent)
			c.expect("type='error'", "<"+condition+" ", "</iq>")
		}
		c.send(register("Mercutio", "secret of mercutio"))
		c.expect("<iq", "type='result'")
		c.sendf("<auth xmlns='"+nsSASL+"' mechanism='PLAIN'>%s</auth>", plain("mercutio"))
		c.expect("<success")
		c.send(header)
		c.expect("</stream:features>")
		c.bind("phone")

		// Anything else is still not for an unauthenticated client, and tries are counted.
		c = e.unauthenticated()
		c.send("<iq type='get' id='f'><query xmlns='jabber:iq:roster'/></iq>")
		c.fails("not-authorized")
		c = e.unauthenticated()
		for range 5 {
			c.send(register("benvolio", ""))
			c.expect("</iq>")
		}
		c.send(register("benvolio", ""))
		c.fails("policy-violation")
	})
}

// XEP-0077 §3.2 and §3.3 for who is logged in.
func TestChangeOfRegistration(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		c, other, juliet := e.bind("romeo", "phone"), e.bind("romeo", "desk"), e.bind("juliet", "balcony")
		asleep := e.bind("romeo", "asleep")
		id := asleep.enable()
		asleep.conn.Close()
		change := func(user, password string) {
			c.sendf(
				"<iq type='set' id='c' to='localhost'><query xmlns='jabber:iq:register'><username>%s</username>"+
					"<password>%s</password></query></iq>", user, password)
		}
		change("juliet", "stolen password")
		c.expect("type='error'", "<not-allowed ", "</iq>")
		change("", "new password")
		c.expect("type='error'", "<bad-request ", "</iq>")
		change("romeo", "a")
		c.expect("type='error'", "<not-acceptable ", "</iq>")
		change("romeo", "new password")
		c.expect("type='result'")
		other.fails("reset")
		synctest.Wait()

		again := e.unauthenticated()
		again.send("<auth xmlns='" + nsSASL + "' mechanism='PLAIN'>" + plain("romeo") + "</auth>")
		again.expect("<not-authorized/>")

		c.send("<iq type='get' id='g'><query xmlns='jabber:iq:register'/></iq>")
		require.Contains(t, c.expect("id='g'", "</iq>"), "<registered/><username>romeo</username>")
		c.send("<iq type='set' id='r'><query xmlns='jabber:iq:register'><remove/></query></iq>")
		c.expect("type='result' id='r'")
		c.fails("not-authorized")
		synctest.Wait()
		require.Equal(t, 1, e.sessionCount())
		require.NotEmpty(t, id)
		juliet.send("<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
		juliet.expect("id='p'")
	})
}
