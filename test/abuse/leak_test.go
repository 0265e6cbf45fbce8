package abuse

import (
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

// A158, and row 11 of the advisories: connections leave no goroutine, descriptor or memory behind, however they end.
func TestA158Leaks(t *testing.T) {
	s := open(t, "c2s.resume_timeout=1s")
	ways := map[string]func(script.Transport){
		"a connection": func(how script.Transport) { s.visit(how).conn.Close() },
		"a stream": func(how script.Transport) {
			v := s.visit(how)
			v.open()
			v.conn.Close()
		},
		"a wrong password": func(how script.Transport) {
			v := s.visit(how)
			v.open()
			v.send(saslAuth("PLAIN", plain("", "romeo", "wrong")))
			v.failure()
			v.conn.Close()
		},
		"half an exchange": func(how script.Transport) {
			v := s.visit(how)
			v.open()
			first, _ := claim{mechanism: "SCRAM-SHA-256", name: "romeo"}.first()
			v.send(saslAuth("SCRAM-SHA-256", b64([]byte(first))))
			v.challenge()
			v.conn.Close()
		},
		"a stream error": func(how script.Transport) {
			v := s.visit(how)
			v.open()
			v.send("<!-- -->")
			v.fails("restricted-xml")
			v.conn.Close()
		},
		"a session": func(how script.Transport) {
			v := s.visit(how).login("romeo")
			v.bind("phone")
			v.sendStanza("<presence/>")
			v.sendStanza("<message to='juliet@localhost' type='chat'><body>x</body></message>")
			v.conn.Close()
		},
		"a session that nobody resumes": func(how script.Transport) { s.resumable(how, "romeo", "gone "+string(how)) },
		"half a handshake": func(how script.Transport) {
			address, text := s.Endpoints().XMPPTLS, clientHello(&tls.Config{})[:20]
			if how == script.WebSocket {
				address, text = s.Endpoints().HTTP, upgrade()[:20]
			}
			conn := dial(t, "", address)
			_, _ = io.WriteString(conn, text)
			conn.Close()
		},
	}
	cycle := func() {
		for _, way := range ways {
			for _, how := range everywhere {
				way(how)
			}
		}
	}
	files := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(all)
	}
	settled := func() bool {
		return s.metric("posthouse_c2s_connections") == 1 && s.metric("posthouse_c2s_sessions{") == 1 // the bystander
	}
	cycle()
	until(t, settled)
	goroutines, descriptors, before := runtime.NumGoroutine(), files(), heap()
	for range 15 {
		cycle()
	}
	until(t, settled)
	until(t, func() bool { return runtime.NumGoroutine() <= goroutines+3 && files() <= descriptors+3 })
	if after := heap(); after > before {
		require.Less(t, after-before, uint64(6<<20), "some 500 connections")
	}
}

// Row 24: names that clients make up take no memory that stays: tens of thousands of long ones cost no more than a few.
func TestRow24Names(t *testing.T) {
	s := open(t, "auth.directory.unknown=100", "auth.failures.entries=128", "auth.failures.per_user=5",
		"auth.failures.per_address=-1", "roster.cache_bytes=15000",
		"messages.memtable_bytes=1048576") // which fills with what is stored, up to its bound
	romeo := s.available(script.TCP, "romeo", "phone")
	long := strings.Repeat("n", 400)
	n := 0
	flood := func() {
		const many = 1200
		for range many {
			n++
			tell(t, romeo, "<message to='%s%d@localhost' type='chat'><body>x</body></message>"+
				"<message to='x@%s.d%d.invalid' type='%s%d' id='%s%d'><body>x</body></message>"+
				"<iq type='get' id='%s%d' to='%s%d@localhost/%s'><q%d xmlns='urn:%s:%d'/></iq>"+
				"<presence to='%s%d@localhost' type='subscribe'/><presence to='%s%d@localhost' type='probe'/>",
				long, n, long[:60], n, long, n, long, n, long, n, long, n, long, n, long[:200], n, long, n, long, n)
			if n%100 == 0 {
				before, err := romeo.Barrier("flood")
				require.NoError(t, err, "%v", before[max(0, len(before)-1):])
			}
		}
		for range many / 40 {
			v := s.visit(script.TCP)
			v.open()
			for range 5 {
				n++
				v.send(saslAuth("PLAIN", plain("", fmt.Sprint(long, n), "wrong")))
				v.failure()
			}
			v.conn.Close()
			v = s.visit(script.TCP).login("romeo")
			v.bind(fmt.Sprint(long, n))
			v.send("</stream:stream>")
			v.rest()
		}
	}
	flood()
	before := heap()
	flood()
	after := heap()
	t.Logf("%d KiB more", (int64(after)-int64(before))>>10)
	if after > before {
		require.Less(t, after-before, uint64(3<<20))
	}
}

// Rows 3 and 24: what is stored of a large stanza does not keep the whole stanza in memory.
func TestRow24Remnants(t *testing.T) {
	const many, size = 300, 60 << 10
	s := open(t)
	s.resumable(script.TCP, "juliet", "balcony") // its queue is in memory, with no system's buffers behind it
	padding := strings.Repeat("x", size)
	stripped := "<result xmlns='urn:xmpp:mam:2'>" + padding + "</result><body>x</body>"
	romeo := s.connect(script.TCP, "romeo", "phone")
	for about, stanza := range map[string]string{
		"a conversation with nobody": "<message to='nobody%d@localhost' type='chat'>" + stripped + "</message>",
		"what waits": "<message to='juliet@localhost/balcony' type='chat' id='i%d'>" + stripped +
			"</message>",
		"an address of directed presence": "<presence to='nobody%d@localhost'><status>" + padding +
			"</status></presence>",
		"a contact": "<iq type='set' id='r%d'><query xmlns='jabber:iq:roster'><item jid='c%[1]d@localhost' name='n'>" +
			"<group>g</group><x xmlns='u'>" + padding + "</x></item></query></iq>",
	} {
		before := heap()
		for i := range many {
			tell(t, romeo, stanza, i)
			if i%20 == 0 {
				_, err := romeo.Barrier("sent")
				require.NoError(t, err)
			}
		}
		_, err := romeo.Barrier("sent")
		require.NoError(t, err)
		if after := heap(); after > before {
			require.Less(t, after-before, uint64(many*size/4), about)
		}
	}
}
