package abuse

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

// metric reads a metric from the private listener: the sum of all lines with that prefix.
func (s *fixture) metric(beginning string) (sum float64) {
	s.t.Helper()
	for line := range strings.Lines(s.get(s.Endpoints().Private, "/metrics")) {
		if strings.HasPrefix(line, beginning) {
			value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " "):]), 64)
			require.NoError(s.t, err)
			sum += value
		}
	}
	return sum
}

func (s *fixture) get(address, path string) string {
	s.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + address + path)
	require.NoError(s.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return string(text)
}

// heap returns the bytes of the heap in use after a garbage collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// numbered are the numbers that the bodies of stored messages begin with.
var numbered = regexp.MustCompile(`<body>(\d+) `)

// history reads somebody's whole archive, page by page, and returns the numbers that the bodies begin with.
func (s *fixture) history(name string) (numbers []int) {
	s.t.Helper()
	v := s.visit(script.TCP).login(name)
	v.bind("reading")
	after := ""
	for {
		v.send(
			"<iq type='set' id='page'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>" +
				"250</max>" + after + "</set></query></iq>")
		page := v.expect("</iq>")
		for _, match := range numbered.FindAllStringSubmatch(page, -1) {
			n, err := strconv.Atoi(match[1])
			require.NoError(s.t, err)
			numbers = append(numbers, n)
		}
		if strings.Contains(page, " complete='true'") {
			return numbers
		}
		require.Contains(s.t, page, "<last>")
		after = "<after>" + page[strings.Index(page, "<last>")+len("<last>"):strings.Index(page, "</last>")] +
			"</after>"
	}
}

// shrink makes the socket's receive buffer small, so that the server soon notices a reader that stops.
func shrink(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(64<<10))
}

// deaf logs in, becomes available, and stops reading.
func (s *fixture) deaf(name, manage string) *visitor {
	s.t.Helper()
	v := s.visit(script.TCP)
	shrink(s.t, v.conn)
	v.login(name).bind("balcony")
	v.send("<presence/>" + manage)
	v.expect("<presence")
	if manage != "" {
		v.expect("<enabled", ">")
	}
	return v
}

// A3 and A82: a client that stops reading, or never acknowledges, is disconnected when its queue is full. Senders are
// not affected, and nothing is lost.
func TestA3ReaderStops(t *testing.T) {
	const messages, size = 1000, 8 << 10 // more than what may wait, and the system's buffers
	for name, row := range map[string]struct {
		manage string // stream management
		reads  bool
	}{
		"stops":                    {"", false},
		"stops, resumable":         {"<enable xmlns='urn:xmpp:sm:3' resume='true'/>", false},
		"reads and never answers":  {"<enable xmlns='urn:xmpp:sm:3'/>", true},
		"never answers, resumable": {"<enable xmlns='urn:xmpp:sm:3' resume='true'/>", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, "archive.query_rate=1000000", "archive.query_burst=1000000")
			juliet := s.deaf("juliet", row.manage)
			if row.reads {
				go io.Copy(io.Discard, juliet.conn) // ends with the connection
			}
			romeo := s.connect(script.TCP, "romeo", "phone")
			tell(t, romeo, "<enable xmlns='urn:xmpp:sm:3'/>")
			next(t, romeo)
			padding := strings.Repeat("x", size)
			for i := range messages {
				tell(t, romeo, "<message to='juliet@localhost' type='chat'><body>%d %s</body></message>", i, padding)
			}
			tell(t, romeo, "<r xmlns='urn:xmpp:sm:3'/>")
			require.Equal(t, fmt.Sprint(messages), next(t, romeo).Attr("h"), "all are stored")
			until(t, func() bool { return s.metric("posthouse_c2s_sessions{transport=\"tcp\"}") <= 1 }) // romeo's
			numbers := s.history("juliet")
			require.Len(t, numbers, messages)
			for i, n := range numbers {
				require.Equal(t, i, n)
			}
		})
	}
}

// A3 and A82: the queue of a client is bounded, tested with messages that are not stored.
func TestA82MemoryOfADeafClient(t *testing.T) {
	const messages, size = 2000, 16 << 10
	for _, manage := range []string{"", "<enable xmlns='urn:xmpp:sm:3' resume='true'/>"} {
		s := open(t)
		s.deaf("juliet", manage)
		romeo := s.connect(script.TCP, "romeo", "phone")
		before := heap()
		padding := strings.Repeat("x", size)
		for range messages {
			tell(
				t, romeo,
				"<message to='juliet@localhost/balcony' type='chat'><body>%s</body><no-store "+
					"xmlns='urn:xmpp:hints'/></message>", padding)
		}
		_, err := romeo.Barrier("said")
		require.NoError(t, err)
		if after := heap(); after > before {
			require.Less(t, after-before, uint64(messages*size/3))
		}
	}
}

// A81 and row 19: a client that sends requests and does not read the answers costs no memory. The server stops reading
// IQs until the client reads again, and no answer is missing then. Requests for acknowledgement (XEP-0198) are read and
// counted.
func TestA81FloodOfRequests(t *testing.T) {
	s := open(t)
	for name, row := range map[string]struct{ enable, request, answer string }{
		"<r/>":  {"<enable xmlns='urn:xmpp:sm:3'/>", "<r xmlns='urn:xmpp:sm:3'/>", "<a "},
		"pings": {"", "<iq type='get' id='1' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>", "<iq "},
	} {
		t.Run(name, func(t *testing.T) {
			v := s.visit(script.TCP)
			shrink(t, v.conn)
			v.login("romeo").bind("phone")
			if row.enable != "" {
				v.send(row.enable)
				v.expect("<enabled", ">")
			}
			before := heap()
			many := []byte(strings.Repeat(row.request, 1000))
			sent, rest := 0, many
			wait := time.Second // the server is to stop reading, and then a write does not end
			if row.enable != "" {
				wait = patience // it is to read on, however busy the machine is
			}
			for ; sent < 300 && len(rest) == len(many); sent++ {
				v.conn.SetWriteDeadline(time.Now().Add(wait))
				n, _ := v.conn.Write(rest)
				rest = many[n:]
				if n == len(many) {
					rest = many
				}
			}
			require.Equal(t, row.enable == "", sent < 300, "the server reads on")
			if after := heap(); after > before {
				require.Less(t, after-before, uint64(8<<20))
			}
			if len(rest) == len(many) {
				rest = nil
			}
			written := make(chan struct{})
			go func() { // ends when the server reads on, or after our patience
				defer close(written)
				v.conn.SetWriteDeadline(time.Now().Add(patience))
				_, _ = v.conn.Write(append(rest, "</stream:stream>"...))
			}()
			answers, tail := 0, ""
			for v.over == nil {
				v.read()
				text := tail + v.unread
				v.unread = ""
				answers += strings.Count(text, row.answer)
				tail = text[max(0, len(text)-len(row.answer)+1):]
			}
			<-written
			last := 0
			if row.enable != "" {
				last = 1 // at the end of the stream (XEP-0198 §7)
			}
			require.Equal(t, sent*1000+last, answers)
		})
	}
}

// A71, rows 3 and 19: a client that sends faster than its rate limit is read more slowly, on every transport, and
// nothing that it sent is dropped.
func TestA71RateOfStanzas(t *testing.T) {
	for name, limit := range map[string][]string{
		"stanzas": {"c2s.rate_stanzas=40", "c2s.burst_stanzas=20"},
		"bytes":   {"c2s.rate_bytes=4000", "c2s.burst_bytes=2000"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, append(limit, "c2s.max_stanza_bytes=10000")...)
			on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
				romeo := s.connect(how, "romeo", "phone")
				began := time.Now()
				for i := range 60 { // 6,000 bytes or so
					tell(
						t, romeo,
						"<message xmlns='jabber:client' to='nobody%d@localhost' type='chat'><body>buy!</body>"+
							"</message>", i)
				}
				for range 60 {
					require.Equal(t, "service-unavailable", refusal(next(t, romeo)))
				}
				require.GreaterOrEqual(t, time.Since(began), 800*time.Millisecond)
			})
		})
	}
}

var previd = regexp.MustCompile(` id='([^']+)'`)

// resumable makes a session, breaks its connection, and returns the id by which its stream can be resumed.
func (s *fixture) resumable(how script.Transport, name, resource string) string {
	s.t.Helper()
	v := s.visit(how).login(name)
	v.bind(resource)
	v.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
	id := previd.FindStringSubmatch(v.expect("<enabled", ">"))[1]
	v.conn.Close()
	return id
}

func resume(previd, h string) string {
	return "<resume xmlns='urn:xmpp:sm:3' previd='" + previd + "' h='" + h + "'/>"
}

// A77, A78: stream management out of turn, and more acknowledged than was sent.
func TestA77StreamManagement(t *testing.T) {
	s := open(t)
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		const enable, unexpected = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>",
			"<unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
		v := s.visit(how)
		v.open()
		v.send(enable)
		v.expect("<failed", unexpected)
		v.send(resume("x", "0"))
		v.expect("<failed", unexpected)

		v = s.visit(how).login("romeo")
		v.send(enable)
		v.expect("<failed", unexpected)
		v.bind("phone")
		v.send(enable)
		v.expect("<enabled", ">")
		v.send(resume("x", "0"))
		v.expect("<failed", unexpected)
		v.send(enable)
		v.fails("policy-violation")

		for _, h := range []string{"1", "4294967295"} {
			v = s.visit(how).login("romeo")
			v.bind("phone")
			v.send(enable)
			v.expect("<enabled", ">")
			v.send("<a xmlns='urn:xmpp:sm:3' h='" + h + "'/>")
			require.Contains(t, v.fails("undefined-condition"), "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='"+h+
				"' send-count='0'/>")
		}
		for _, h := range []string{"-1", "x", "", "4294967296", "99999999999999999999"} {
			v = s.visit(how).login("romeo")
			v.bind("phone")
			v.send(enable)
			v.expect("<enabled", ">")
			v.send("<a xmlns='urn:xmpp:sm:3' h='" + h + "'/>")
			v.fails("bad-format")
		}
		v = s.visit(how).login("romeo")
		v.send(resume(s.resumable(how, "romeo", "late"), "7"))
		v.fails("undefined-condition")
	})
}

// A79: resuming another account's stream, an ended one or one that never existed gets the same answer.
func TestA79ForeignResumption(t *testing.T) {
	s := open(t, "c2s.resume_timeout=2s")
	expired := s.resumable(script.TCP, "romeo", "expired")
	until(t, func() bool { return s.metric(`posthouse_c2s_ended_total{reason="expiry"}`) == 1 })
	on(t, s, both, func(t *testing.T, s *fixture, how script.Transport) {
		foreign := s.resumable(how, "juliet", "balcony")
		v := s.visit(how).login("romeo")
		refused := func(previd string) string {
			v.send(resume(previd, "0"))
			return v.expect("<failed", "</failed>")
		}
		never := refused("AAAAAAAAAAAAAAAAAAAAAA")
		require.Contains(t, never, "<item-not-found ")
		require.Equal(t, never, refused(foreign))
		require.Equal(t, never, refused("no stream at all"))
		require.Equal(t, never, refused(""))
		// with the number of stanzas handled, as it is the own one
		require.Contains(t, refused(expired), "<item-not-found ")
		v.bind("phone") // and another session begins
	})
}

// A80: when many connections resume one stream at the same time, one of them has it in the end.
func TestA80ResumeRace(t *testing.T) {
	s := open(t)
	for range 10 {
		id := s.resumable(script.TCP, "romeo", "phone")
		var racers []*visitor
		for i := range 8 {
			racers = append(racers, s.visit(both[i%2]).login("romeo"))
		}
		for _, v := range racers {
			v.send(resume(id, "0"))
		}
		for _, v := range racers {
			for v.over == nil && !strings.Contains(v.unread, ">") {
				v.read()
			}
			if strings.HasPrefix(v.unread, "<failed") {
				v.expect("<item-not-found ", "</failed>")
			}
		}
		// A connection that resumed it may lose it to the next one: a stream has one connection.
		alive := 0
		for _, v := range racers {
			v.sendStanza("<iq type='get' id='alive' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
			rest := ""
			for !strings.Contains(rest, "id='alive'") && v.over == nil {
				v.read()
				rest, v.unread = rest+v.unread, ""
			}
			if strings.Contains(rest, "id='alive'") {
				alive++
			}
			v.conn.Close()
		}
		require.Equal(t, 1, alive)
	}
}
