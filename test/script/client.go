package script

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

// patience bounds every wait. It is generous, because a slow machine must not fail a test.
const patience = 30 * time.Second

// Transport is how an client connects.
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

// Endpoints is where a node can be reached.
type Endpoints struct {
	XMPP, XMPPTLS, Compact, HTTP, Private string // host:port
	Domain                                string
}

// Client is one connection of one account.
type Client struct {
	Name, Password, Resource string
	Domain                   string
	JID                      string // bound full address

	conn    net.Conn
	ws      *wsStream // nil unless a WebSocket
	compact *compact  // nil unless it speaks compact
	decoder *xml.Decoder
	inbox   chan *Element // closed by the reader when the connection ends
	ended   error         // why; valid when inbox is closed
	// Handled counts stanzas received, for stream management. It belongs to the reader.
	Handled uint32
	carried atomic.Uint32 // what Handled begins with when a stream is resumed
}

// Connect opens a stream and authenticates with PLAIN on TLS and loopback; the resource is not bound.
func Connect(ctx context.Context, at Endpoints, how Transport, name, password string) (*Client, error) {
	return arrive(ctx, at, how, name, password, (*Client).authenticate)
}

// Open opens a stream and does not authenticate.
func Open(ctx context.Context, at Endpoints, how Transport, name, password string) (*Client, error) {
	return arrive(ctx, at, how, name, password, func(*Client) error { return nil })
}

func arrive(ctx context.Context, at Endpoints, how Transport, name, password string,
	enter func(*Client) error) (*Client, error) {
	c := &Client{Name: name, Password: password, Domain: at.Domain}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := c.dial(ctx, at, how); err != nil {
		return nil, err
	}
	c.conn.SetDeadline(time.Now().Add(patience))
	if err := c.negotiate(ctx, how, enter); err != nil {
		c.conn.Close()
		return nil, err
	}
	c.conn.SetDeadline(time.Time{})
	c.inbox = make(chan *Element, 4096)
	go c.readAll()
	return c, nil
}

func (c *Client) negotiate(ctx context.Context, how Transport, enter func(*Client) error) error {
	if err := c.open(); err != nil {
		return err
	}
	if how == StartTLS {
		if err := c.Write("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"); err != nil {
			return err
		}
		if _, err := c.expect("proceed"); err != nil {
			return err
		}
		secure := tls.Client(c.conn, c.tlsConfig("xmpp-client"))
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
		c.conn = secure
		if err := c.open(); err != nil {
			return err
		}
	}
	return enter(c)
}

func (c *Client) authenticate() error {
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + c.Name + "\x00" + c.Password))
	if err := c.Write("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + plain +
		"</auth>"); err != nil {
		return err
	}
	if _, err := c.expect("success"); err != nil {
		return err
	}
	return c.open()
}

// open opens a stream and reads its features.
func (c *Client) open() error {
	if c.compact != nil {
		if err := c.compact.open(c.Domain); err != nil {
			return err
		}
		if _, err := c.expect("open"); err != nil {
			return err
		}
	} else if c.ws != nil {
		if err := c.Write("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='" + c.Domain +
			"' version='1.0'/>"); err != nil {
			return err
		}
		if _, err := c.expect("open"); err != nil {
			return err
		}
	} else {
		err := c.Write(
			"<?xml version='1.0'?><stream:stream xmlns='jabber:client' " +
				"xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='" + c.Domain + "'>")
		if err != nil {
			return err
		}
		c.decoder = xml.NewDecoder(c.conn)
		for {
			token, err := c.decoder.Token()
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
	_, err := c.expect("features")
	return err
}

// expect reads one element, which must have that name; only during negotiation.
func (c *Client) expect(name string) (*Element, error) {
	n, err := c.readElement()
	if err != nil {
		return nil, fmt.Errorf("waiting for <%s>: %w", name, err)
	}
	if n.Name.Local != name {
		return nil, fmt.Errorf("waiting for <%s>, got:\n%v", name, n)
	}
	return n, nil
}

func (c *Client) readElement() (*Element, error) {
	if c.compact != nil {
		return c.compact.element()
	}
	if c.ws != nil {
		text, err := c.ws.read()
		if err != nil {
			return nil, err
		}
		return parse(text)
	}
	for {
		token, err := c.decoder.Token()
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			return readElement(c.decoder, t)
		case xml.EndElement:
			return nil, io.EOF
		}
	}
}

// readAll runs in the client's own goroutine from login to the end of the connection.
func (c *Client) readAll() {
	defer close(c.inbox)
	for {
		n, err := c.readElement()
		if err != nil {
			c.ended = err
			c.conn.Close() // the server waits for it, for a while
			return
		}
		switch n.Name.Local {
		case "r":
			if n.Name.Space == nsSM {
				c.Write(fmt.Sprintf("<a xmlns='%s' h='%d'/>", nsSM, c.Handled))
				continue
			}
		case "message", "presence", "iq":
			c.Handled++
		case "enabled":
			c.Handled = 0 // both sides count from here (XEP-0198 §4)
		case "resumed":
			c.Handled = c.carried.Load()
		}
		c.inbox <- n
	}
}

const nsSM = "urn:xmpp:sm:3"

// Write sends raw XML; on a compact stream, what it says.
func (c *Client) Write(text string) error {
	if c.compact != nil {
		return c.compact.write(text)
	}
	if c.ws != nil {
		return wsutil.WriteClientText(c.conn, []byte(text))
	}
	_, err := io.WriteString(c.conn, text)
	return err
}

// Next returns the next element received.
func (c *Client) Next() (*Element, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case n, ok := <-c.inbox:
		if !ok {
			return nil, fmt.Errorf("%s's connection has ended: %w", c.Name, c.ended)
		}
		return n, nil
	case <-timer.C:
		return nil, errors.New("nothing came")
	}
}

// Until returns the first element that is wanted, and what came before it.
func (c *Client) Until(wanted func(*Element) bool) (found *Element, before []*Element, err error) {
	for {
		n, err := c.Next()
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
func (c *Client) Request(id, iq string) (*Element, []*Element, error) {
	if err := c.Write(iq); err != nil {
		return nil, nil, err
	}
	return c.Until(func(n *Element) bool { return n.Name.Local == "iq" && n.Attr("id") == id })
}

// Bind binds the resource.
func (c *Client) Bind(resource string) error {
	n, _, err := c.Request("bind",
		"<iq xmlns='jabber:client' type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>"+
			resource+"</resource></bind></iq>")
	if err != nil {
		return err
	}
	jid := n.Find("urn:ietf:params:xml:ns:xmpp-bind", "jid")
	if jid == nil {
		return fmt.Errorf("the resource was not bound:\n%v", n)
	}
	c.JID, c.Resource = jid.Text, resource
	return nil
}

// Barrier waits until the server has handled all that was sent before, and has delivered it to everybody, and returns
// what was received until then. It asks a resource that is not there: what goes to others waits for the delivery of
// what was sent before it.
func (c *Client) Barrier(id string) ([]*Element, error) {
	_, before, err := c.Request(id, "<iq xmlns='jabber:client' type='get' id='"+id+"' to='"+c.JID+
		"-barrier'><ping xmlns='urn:xmpp:ping'/></iq>")
	return before, err
}

// Leave closes the stream in order and waits for the end.
func (c *Client) Leave() error {
	if err := c.sayClose(); err != nil {
		return err
	}
	return c.waitEnd()
}

func (c *Client) sayClose() error {
	switch {
	case c.compact != nil:
		return c.compact.close()
	case c.ws != nil:
		return c.Write("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>")
	}
	return c.Write("</stream:stream>")
}

func (c *Client) waitEnd() error {
	for {
		if _, err := c.Next(); err != nil {
			c.conn.Close()
			if c.ended != nil {
				return nil
			}
			return err
		}
	}
}

// Cut resets the connection without closing the stream.
func (c *Client) Cut() {
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.conn.Close()
	for range c.inbox {
	}
}
