package c2s_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// smClient is a client that keeps both sides of stream management by the book (XEP-0198), beside the truth about what
// was sent to it, so that a loss or a double shows.
type smClient struct {
	t    *rapid.T
	e    *env
	conn *client // nil while there is none
	id   string

	got      []int // numbers of the messages that it has read, of all sessions
	handled  int   // stanzas read in this session of stream management
	sent     int   // messages for it that were given to the server
	outgoing []int // its own messages that are not acknowledged
	said     int   // its own messages so far
	acked    int   // the server's h
}

// read takes in what has come.
func (m *smClient) read() {
	if m.conn == nil {
		return
	}
	m.conn.buf = m.conn.quiet()
	for {
		element, rest, ok := m.cut(m.conn.buf)
		if !ok && m.conn.ended {
			m.conn = nil // the server gave it up
		}
		if !ok {
			return
		}
		m.conn.buf = rest
		switch {
		case strings.HasPrefix(element, "<message"):
			m.handled++
			n, err := strconv.Atoi(each(element, "<body>", "</body>")[0])
			require.NoError(m.t, err)
			m.got = append(m.got, n)
		case strings.HasPrefix(element, "<a "):
			m.ack(attr(element, "h"))
		case strings.HasPrefix(element, "<r "):
			m.write(fmt.Sprintf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", m.handled))
		default:
			require.Fail(m.t, "not expected", "%s, before %s, handled %d", element, m.conn.buf, m.handled)
		}
	}
}

// cut takes the first whole element from text.
func (m *smClient) cut(text string) (element, rest string, ok bool) {
	end := ">"
	if strings.HasPrefix(text, "<message") {
		end = "</message>"
	}
	i := strings.Index(text, end)
	if i < 0 {
		return "", text, false
	}
	return text[:i+len(end)], text[i+len(end):], true
}

// ack drops what the server has handled.
func (m *smClient) ack(h string) {
	n, err := strconv.Atoi(h)
	require.NoError(m.t, err)
	require.GreaterOrEqual(m.t, n, m.acked, "h never falls")
	require.LessOrEqual(m.t, n-m.acked, len(m.outgoing), "h is never more than was sent")
	for _, body := range m.outgoing[:n-m.acked] {
		require.Contains(m.t, m.e.archive.finished(), fmt.Sprint(body), "acknowledged before it was stored")
	}
	m.outgoing, m.acked = m.outgoing[n-m.acked:], n
}

func (m *smClient) write(text string) {
	if m.conn != nil {
		_ = m.conn.conn.SetWriteDeadline(time.Time{})
		_, _ = m.conn.conn.Write([]byte(text)) // it may have been closed by the server
	}
}

func (m *smClient) say() {
	m.said++
	m.outgoing = append(m.outgoing, m.said)
	m.write(m.wording(m.said))
}

func (m *smClient) wording(n int) string {
	return fmt.Sprintf("<message to='romeo@localhost' id='%d'><body>%d</body></message>", n, n)
}

// begin makes a new session and says again what the last one did not acknowledge.
func (m *smClient) begin() {
	m.conn.bind("balcony")
	m.id, m.handled, m.acked = m.conn.enable(), 0, 0
	m.again()
}

func (m *smClient) again() {
	for _, n := range m.outgoing {
		m.write(m.wording(n))
	}
}

// resume comes back over a new connection.
func (m *smClient) resume() {
	m.conn = m.e.login("juliet")
	m.conn.sendf("<resume xmlns='urn:xmpp:sm:3' previd='%s' h='%d'/>", m.id, m.handled)
	synctest.Wait()
	for m.e.archive.release(100) > 0 { // h is told when all is stored
		synctest.Wait()
	}
	for !strings.Contains(m.conn.buf, "<resumed") && !strings.Contains(m.conn.buf, "</failed>") {
		require.True(m.t, m.conn.more(), "after %q", m.conn.buf)
	}
	if strings.Contains(m.conn.buf, "<resumed") {
		m.ack(attr(m.conn.expect("<resumed", ">"), "h"))
		m.again()
		return
	}
	answer := m.conn.expect("<failed", "</failed>")
	require.Contains(m.t, answer, "item-not-found")
	m.ack(attr(answer, "h"))
	m.begin()
}

// finished returns the bodies of the messages that are stored and let go on.
func (a *archive) finished() (bodies []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.stored {
		if !slices.Contains(a.held, e) {
			bodies = append(bodies, e.Stanza.Body())
		}
	}
	return bodies
}

// P12: whatever happens to the connections, each message arrives once and in order, in both directions, as long as the
// session can be resumed; and when it cannot, each message for the client was read by it or given back.
func TestStreamManagementModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ *testing.T }{t}, func(rt *rapid.T) { // not a *testing.T, whose deadline is of another clock
			e := newEnv(t, nil)
			e.t = t
			defer e.close()
			e.archive.hold(true)
			m := &smClient{t: rt, e: e, conn: e.login("juliet")}
			m.begin()
			rt.Repeat(map[string]func(*rapid.T){
				"deliver": func(rt *rapid.T) {
					for range rapid.IntRange(1, 15).Draw(rt, "n") {
						if !e.sessions.Send(jidOf("juliet@localhost/balcony"),
							packet(fmt.Sprint(m.sent+1), uint64(m.sent+1))) {
							return // the session has ended: nobody is there
						}
						m.sent++
					}
				},
				"read": func(*rapid.T) { m.read() },
				"say": func(rt *rapid.T) {
					for range rapid.IntRange(1, 5).Draw(rt, "n") {
						m.say()
					}
				},
				"store":       func(rt *rapid.T) { e.archive.release(rapid.IntRange(1, 4).Draw(rt, "n")) },
				"acknowledge": func(*rapid.T) { m.write(fmt.Sprintf("<a xmlns='urn:xmpp:sm:3' h='%d'/>", m.handled)) },
				"ask":         func(*rapid.T) { m.write(ackRequest) },
				"settle":      func(*rapid.T) { synctest.Wait() },
				"drop": func(*rapid.T) { // with what was not read
					if m.conn != nil {
						_ = m.conn.conn.Close()
						m.conn = nil
					}
				},
				"resume": func(*rapid.T) { // also over a connection that is still open
					old := m.conn
					m.resume()
					if old != nil {
						_ = old.conn.Close()
					}
				},
				"wait": func(rt *rapid.T) {
					synctest.Wait()
					d := time.Duration(rapid.IntRange(1, 400).Draw(rt, "seconds")) * time.Second
					elapse(d)
					synctest.Wait()
				},
			})
			synctest.Wait()
			for e.archive.release(100) > 0 {
				synctest.Wait()
			}
			m.read()
			if m.conn == nil {
				m.resume()
			}
			m.check(rt)
		})
	})
}

// check compares what was seen with the truth.
func (m *smClient) check(rt *rapid.T) {
	synctest.Wait()
	for m.e.archive.release(100) > 0 {
		synctest.Wait()
	}
	m.write(ackRequest)
	m.read()
	require.Empty(rt, m.outgoing, "all that it said is acknowledged")
	var said []string
	for n := range m.said {
		said = append(said, fmt.Sprint(n+1))
	}
	require.Equal(rt, said, m.e.archive.storedBodies(), "stored once each, in order")

	require.True(rt, slices.IsSorted(m.got), "in order: %v", m.got)
	seen := map[int]bool{}
	for _, n := range m.got {
		require.False(rt, seen[n], "message %d came twice: %v", n, m.got)
		seen[n] = true
	}
	for _, body := range m.e.done.bodies() {
		n, _ := strconv.Atoi(body)
		seen[n] = true
	}
	for n := 1; n <= m.sent; n++ {
		require.True(rt, seen[n], "message %d was lost: read %v, returned %v", n, m.got, m.e.done.bodies())
	}
	for _, id := range m.e.done.marks() {
		require.True(rt, slices.Contains(m.got, int(id)), "message %d is marked as delivered and was not read", id)
	}
}
