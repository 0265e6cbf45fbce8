package play

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws/wsutil"
)

// patience bounds every wait. It is generous, because a slow machine must not fail a play.
const patience = 30 * time.Second

// Transport is how an actor connects.
type Transport string

// The transports.
const (
	TCP       Transport = "tcp"
	StartTLS  Transport = "starttls"
	DirectTLS Transport = "tls"
	WebSocket Transport = "websocket"
	// The same with the compact stream.
	CompactTCP       Transport = "compact-tcp"
	CompactTLS       Transport = "compact-tls"
	CompactWebSocket Transport = "compact-websocket"
)

// Transports are all of them.
func Transports() []Transport {
	return []Transport{TCP, StartTLS, DirectTLS, WebSocket, CompactTCP, CompactTLS, CompactWebSocket}
}

// Place is where a node can be reached.
type Place struct {
	XMPP, XMPPTLS, Compact, HTTP, Private string // host:port
	Domain                                string
}

// Actor is one connection of one person.
type Actor struct {
	Name, Password, Resource string
	Domain                   string
	JID                      string // bound full address

	conn    net.Conn
	ws      *wsStream // nil unless a WebSocket
	compact *compact  // nil unless it speaks compact
	decoder *xml.Decoder
	inbox   chan *Node // closed by the reader when the connection ends
	ended   error      // why; valid when inbox is closed
	// Handled counts stanzas received, for stream management. It belongs to the reader.
	Handled uint32
	carried atomic.Uint32 // what Handled begins with when a stream is resumed
}

// Connect opens a stream and authenticates with PLAIN on TLS and loopback; the resource is not bound.
func Connect(ctx context.Context, at Place, how Transport, name, password string) (*Actor, error) {
	return arrive(ctx, at, how, name, password, (*Actor).authenticate)
}

// Knock opens a stream and does not authenticate.
func Knock(ctx context.Context, at Place, how Transport, name, password string) (*Actor, error) {
	return arrive(ctx, at, how, name, password, func(*Actor) error { return nil })
}

func arrive(ctx context.Context, at Place, how Transport, name, password string, enter func(*Actor) error) (*Actor, error) {
	a := &Actor{Name: name, Password: password, Domain: at.Domain}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := a.dial(ctx, at, how); err != nil {
		return nil, err
	}
	a.conn.SetDeadline(time.Now().Add(patience))
	if err := a.negotiate(ctx, how, enter); err != nil {
		a.conn.Close()
		return nil, err
	}
	a.conn.SetDeadline(time.Time{})
	a.inbox = make(chan *Node, 4096)
	go a.readAll()
	return a, nil
}

func (a *Actor) negotiate(ctx context.Context, how Transport, enter func(*Actor) error) error {
	if err := a.open(); err != nil {
		return err
	}
	if how == StartTLS {
		if err := a.Write("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"); err != nil {
			return err
		}
		if _, err := a.expect("proceed"); err != nil {
			return err
		}
		secure := tls.Client(a.conn, a.tlsConfig("xmpp-client"))
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
		a.conn = secure
		if err := a.open(); err != nil {
			return err
		}
	}
	return enter(a)
}

func (a *Actor) authenticate() error {
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + a.Name + "\x00" + a.Password))
	if err := a.Write("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + plain + "</auth>"); err != nil {
		return err
	}
	if _, err := a.expect("success"); err != nil {
		return err
	}
	return a.open()
}

// open opens a stream and reads its features.
func (a *Actor) open() error {
	if a.compact != nil {
		if err := a.compact.open(a.Domain); err != nil {
			return err
		}
		if _, err := a.expect("open"); err != nil {
			return err
		}
	} else if a.ws != nil {
		if err := a.Write("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='" + a.Domain + "' version='1.0'/>"); err != nil {
			return err
		}
		if _, err := a.expect("open"); err != nil {
			return err
		}
	} else {
		err := a.Write("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='" + a.Domain + "'>")
		if err != nil {
			return err
		}
		a.decoder = xml.NewDecoder(a.conn)
		for {
			token, err := a.decoder.Token()
			if err != nil {
				return fmt.Errorf("waiting for the stream header: %w", err)
			}
			if start, ok := token.(xml.StartElement); ok {
				if start.Name.Local != "stream" {
					return fmt.Errorf("a stream header was expected, not <%s>", start.Name.Local)
				}
				break
			}
		}
	}
	_, err := a.expect("features")
	return err
}

// expect reads one element, which must have that name; only during negotiation.
func (a *Actor) expect(name string) (*Node, error) {
	n, err := a.readNode()
	if err != nil {
		return nil, fmt.Errorf("waiting for <%s>: %w", name, err)
	}
	if n.Name.Local != name {
		return nil, fmt.Errorf("waiting for <%s>, got:\n%v", name, n)
	}
	return n, nil
}

func (a *Actor) readNode() (*Node, error) {
	if a.compact != nil {
		return a.compact.node()
	}
	if a.ws != nil {
		text, err := a.ws.read()
		if err != nil {
			return nil, err
		}
		return parse(text)
	}
	for {
		token, err := a.decoder.Token()
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			return readNode(a.decoder, t)
		case xml.EndElement:
			return nil, io.EOF
		}
	}
}

// readAll runs in the actor's own goroutine from login to the end of the connection.
func (a *Actor) readAll() {
	defer close(a.inbox)
	for {
		n, err := a.readNode()
		if err != nil {
			a.ended = err
			a.conn.Close() // the server waits for it, for a while
			return
		}
		switch n.Name.Local {
		case "r":
			if n.Name.Space == nsSM {
				a.Write(fmt.Sprintf("<a xmlns='%s' h='%d'/>", nsSM, a.Handled))
				continue
			}
		case "message", "presence", "iq":
			a.Handled++
		case "enabled":
			a.Handled = 0 // both sides count from here (XEP-0198 §4)
		case "resumed":
			a.Handled = a.carried.Load()
		}
		a.inbox <- n
	}
}

const nsSM = "urn:xmpp:sm:3"

// Write sends raw XML; on a compact stream, what it says.
func (a *Actor) Write(text string) error {
	if a.compact != nil {
		return a.compact.write(text)
	}
	if a.ws != nil {
		return wsutil.WriteClientText(a.conn, []byte(text))
	}
	_, err := io.WriteString(a.conn, text)
	return err
}

// Next returns the next element received.
func (a *Actor) Next() (*Node, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case n, ok := <-a.inbox:
		if !ok {
			return nil, fmt.Errorf("%s's connection has ended: %w", a.Name, a.ended)
		}
		return n, nil
	case <-timer.C:
		return nil, errors.New("nothing came")
	}
}

// Until returns the first element that is wanted, and what came before it.
func (a *Actor) Until(wanted func(*Node) bool) (found *Node, before []*Node, err error) {
	for {
		n, err := a.Next()
		if err != nil {
			return nil, before, err
		}
		if wanted(n) {
			return n, before, nil
		}
		before = append(before, n)
	}
}

// Request sends an IQ with that id and returns the answer, and what came before it.
func (a *Actor) Request(id, iq string) (*Node, []*Node, error) {
	if err := a.Write(iq); err != nil {
		return nil, nil, err
	}
	return a.Until(func(n *Node) bool { return n.Name.Local == "iq" && n.Attr("id") == id })
}

// Bind binds the resource.
func (a *Actor) Bind(resource string) error {
	n, _, err := a.Request("bind", "<iq xmlns='jabber:client' type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>"+resource+"</resource></bind></iq>")
	if err != nil {
		return err
	}
	jid := n.Find("urn:ietf:params:xml:ns:xmpp-bind", "jid")
	if jid == nil {
		return fmt.Errorf("the resource was not bound:\n%v", n)
	}
	a.JID, a.Resource = jid.Text, resource
	return nil
}

// Barrier waits until the server has handled all that was sent before, and returns what was received until then.
func (a *Actor) Barrier(id string) ([]*Node, error) {
	_, before, err := a.Request(id, "<iq xmlns='jabber:client' type='get' id='"+id+"' to='"+a.Domain+"'><ping xmlns='urn:xmpp:ping'/></iq>")
	return before, err
}

// Leave closes the stream in order and waits for the end.
func (a *Actor) Leave() error {
	if err := a.sayClose(); err != nil {
		return err
	}
	return a.waitEnd()
}

func (a *Actor) sayClose() error {
	switch {
	case a.compact != nil:
		return a.compact.close()
	case a.ws != nil:
		return a.Write("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>")
	}
	return a.Write("</stream:stream>")
}

func (a *Actor) waitEnd() error {
	for {
		if _, err := a.Next(); err != nil {
			a.conn.Close()
			if a.ended != nil {
				return nil
			}
			return err
		}
	}
}

// Cut closes the socket without a word.
func (a *Actor) Cut() {
	if tcp, ok := a.conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	a.conn.Close()
	for range a.inbox {
	}
}
