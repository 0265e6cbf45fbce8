package client_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
)

// fake is a server as far as a client needs one: it lets anybody in who has the token, keeps what Romeo sends, and says
// what the test tells it to. Its goroutines end with close.
type fake struct {
	listener net.Listener
	running  sync.WaitGroup
	came     chan struct{} // gets one for each session

	mu      sync.Mutex // guards what follows
	conn    net.Conn
	archive []stanza.Stanza // messages as they were delivered, number n at n-1
	count   uint32          // stanzas taken on the stream
	logins  int
}

const secret = "the token of Romeo's phone"

func newFake() *fake {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	f := &fake{listener: listener, came: make(chan struct{}, 100)}
	f.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.running.Go(func() { f.serve(conn) })
		}
	})
	return f
}

func (f *fake) close() {
	f.listener.Close()
	f.mu.Lock()
	if f.conn != nil {
		f.conn.Close()
	}
	f.mu.Unlock()
	f.running.Wait()
}

// config is that of Romeo's client.
func (f *fake) config() client.Config {
	return client.Config{
		Address: "tcp://" + f.listener.Addr().String(), Domain: "example.org", Username: "romeo",
		Device: client.Device{ID: "d4565fa7-4d72-4749-b3d3-740edbf87770"},
		Token:  client.Token{Secret: secret, Mechanism: "HT-SHA-256-NONE"},
	}
}

func (f *fake) serve(conn net.Conn) {
	defer conn.Close()
	f.mu.Lock()
	f.conn, f.count = conn, 0
	f.logins++
	f.mu.Unlock()
	d := pbstream.NewDecoder(stream.Limits{})
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		d.Feed(buf[:n])
		for {
			item, err := d.Next()
			if err == stream.ErrMore {
				break
			}
			if err != nil || !f.take(item) {
				return
			}
		}
	}
}

func (f *fake) take(item stream.Item) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case item.Kind == stream.Close:
		f.write(pbstream.Codec{}.AppendClose(nil))
		return false
	case item.Kind == stream.Element && item.Element.Local == "authenticate":
		f.enter()
	case item.Kind == stream.Element && item.Element.Local == "r":
		f.say(stanza.New("urn:xmpp:sm:3", "a", "h", strconv.FormatUint(uint64(f.count), 10)))
	case item.Kind == stream.Stanza:
		f.count++
		f.stanza(item.Stanza)
	}
	return true
}

func (f *fake) enter() {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte("Responder"))
	const space = "urn:xmpp:sasl:2"
	success := stanza.New(space, "success").With(
		stanza.New(space, "additional-data").WithText(base64.StdEncoding.EncodeToString(m.Sum(nil))),
		stanza.New(space, "authorization-identifier").WithText("romeo@example.org/phone"),
		stanza.New("urn:xmpp:bind:0", "bound").With(stanza.New("urn:xmpp:sm:3", "enabled")))
	out := pbstream.Codec{}.AppendOpen(nil,
		stream.Header{From: "example.org", ID: "s1", Version: "1.0", HasVersion: true})
	out = pbstream.Codec{}.AppendElement(out, &success)
	features := stanza.New(stanza.NSStream, "features")
	f.write(pbstream.Codec{}.AppendElement(out, &features))
	f.came <- struct{}{}
}

func (f *fake) stanza(s *stanza.Stanza) {
	switch {
	case s.Kind == stanza.Message && s.Body() != "":
		n := f.keep(s.Body(), s.ID, "romeo@example.org/phone", "juliet@example.org")
		f.hear(stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeHeadline,
			Payload: []stanza.Element{stanza.New("urn:posthouse:confirm:1", "confirmed",
				"id", s.ID, "stanza-id", fmt.Sprint("s", n), "conversation", "juliet@example.org", "number",
				strconv.Itoa(n), "stamp", "2026-10-21T08:00:00.123Z")}})
	case s.Kind == stanza.IQ && s.Child("urn:xmpp:mam:2", "query") != nil:
		f.query(s)
	case s.IsRequest():
		f.hear(*s.Reply())
	}
}

// keep puts a message in the archive and returns its number. f.mu is held.
func (f *fake) keep(body, id, from, to string) int {
	n := len(f.archive) + 1
	f.archive = append(f.archive, stanza.Stanza{
		Kind: stanza.Message, Type: stanza.TypeChat, ID: id, From: jid.MustParse(from), To: jid.MustParse(to),
		Payload: []stanza.Element{
			stanza.New(stanza.NSClient, "body").WithText(body),
			stanza.New("urn:xmpp:sid:0", "stanza-id", "id", fmt.Sprint("s", n), "by", "romeo@example.org"),
			stanza.New("urn:posthouse:position:1", "position", "number", strconv.Itoa(n)),
		},
	})
	return n
}

// juliet lets Juliet say something, of which Romeo hears live only when told is true.
func (f *fake) juliet(body string, told bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.keep(body, "j-"+body, "juliet@example.org/balcony", "romeo@example.org")
	if told {
		f.hear(f.archive[n-1])
	}
}

// query answers with what comes after the message that is named, three at a time.
func (f *fake) query(s *stanza.Stanza) {
	q := s.Child("urn:xmpp:mam:2", "query")
	set := q.Child("http://jabber.org/protocol/rsm", "set")
	after, _ := strconv.Atoi("0" + trimS(set.ChildText("http://jabber.org/protocol/rsm", "after")))
	if set.Child("http://jabber.org/protocol/rsm", "before") != nil {
		after = max(0, len(f.archive)-1)
	}
	complete := "true"
	for i := after; i < len(f.archive); i++ {
		if i == after+3 {
			complete = "false"
			break
		}
		m := f.archive[i]
		e := stanza.New(stanza.NSClient, "message", "type", m.Type, "id", m.ID, "from", m.From.String(), "to",
			m.To.String()).With(m.Payload...)
		f.hear(stanza.Stanza{Kind: stanza.Message, Payload: []stanza.Element{
			stanza.New("urn:xmpp:mam:2", "result", "queryid", q.Attr("queryid"), "id",
				fmt.Sprint("s", i+1)).With(stanza.New("urn:xmpp:forward:0", "forwarded").With(e))}})
	}
	f.hear(*s.Reply(stanza.New("urn:xmpp:mam:2", "fin", "complete", complete)))
}

func trimS(id string) string {
	if id == "" {
		return ""
	}
	return id[1:]
}

// hear says a stanza to Romeo. f.mu is held.
func (f *fake) hear(s stanza.Stanza) { f.write(pbstream.Codec{}.AppendStanza(nil, &s)) }

func (f *fake) say(e stanza.Element) { f.write(pbstream.Codec{}.AppendElement(nil, &e)) }

func (f *fake) write(b []byte) { f.conn.Write(b) }
