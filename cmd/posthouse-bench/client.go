package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/wire/scram"
)

// replyTimeout bounds every wait for the server during negotiation.
const replyTimeout = 60 * time.Second

// xmlClient is one connection that speaks XML. It is used by one goroutine, but for write.
type xmlClient struct {
	traffic
	o     *options
	name  string
	conn  net.Conn
	split splitter
	read  []byte // the read buffer while negotiating; released after
	jid   string // bound full address

	writing sync.Mutex // guards writes to conn
}

// connect opens the socket and, where asked for, TLS. The stream is not opened.
func connectXML(ctx context.Context, o *options, name string) (*xmlClient, error) {
	// Without keepalive and without a goroutine to watch ctx: the load generator shares the machine with what it
	// measures.
	dialer := net.Dialer{KeepAlive: -1}
	conn, err := dialer.DialContext(context.WithoutCancel(ctx), "tcp", o.address)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	c := &xmlClient{o: o, name: name, conn: conn, read: make([]byte, 4096)}
	if o.security == "tls" {
		c.conn = tls.Client(conn, c.tlsConfig())
	}
	return c, nil
}

// tlsConfig accepts any certificate: what is measured is the cost of TLS, and benchmark nodes sign their own.
func (c *xmlClient) tlsConfig() *tls.Config {
	return &tls.Config{ServerName: c.o.domain, InsecureSkipVerify: true, NextProtos: []string{"xmpp-client"},
		MinVersion: tls.VersionTLS12}
}

func (c *xmlClient) close() { c.conn.Close() }

// bye ends the stream in order.
func (c *xmlClient) bye() {
	if c.write("</stream:stream>") == nil {
		c.conn.SetReadDeadline(time.Now().Add(replyTimeout))
		for {
			e, err := c.next()
			if err != nil || strings.HasPrefix(string(e), "</stream:stream") {
				break
			}
		}
	}
	c.close()
}

func (c *xmlClient) write(s string) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	n, err := io.WriteString(c.conn, s)
	c.written.Add(int64(n))
	return err
}

func (c *xmlClient) writeBytes(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	n, err := c.conn.Write(b)
	c.written.Add(int64(n))
	return err
}

func (c *xmlClient) address() string { return c.jid }

// next returns the next top-level element; its bytes are valid until the following call.
func (c *xmlClient) next() ([]byte, error) {
	for {
		if e := c.split.next(); e != nil {
			if isElement(e, "stream:error") {
				return nil, fmt.Errorf("the server ended the stream: %.300s", e)
			}
			return e, nil
		}
		n, err := c.conn.Read(c.read)
		if n > 0 {
			c.taken.Add(int64(n))
			c.split.feed(c.read[:n])
			continue
		}
		if err != nil {
			return nil, err
		}
	}
}

// expect returns the next element, which must have one of the names.
func (c *xmlClient) expect(names ...string) ([]byte, error) {
	c.conn.SetReadDeadline(time.Now().Add(replyTimeout))
	e, err := c.next()
	if err != nil {
		return nil, fmt.Errorf("waiting for <%s>: %w", names[0], err)
	}
	for _, name := range names {
		if isElement(e, name) {
			return e, nil
		}
	}
	return nil, fmt.Errorf("waiting for <%s>, got %.300s", names[0], e)
}

// reply returns the answer to the IQ of that id, and passes over everything else.
func (c *xmlClient) reply(id string) ([]byte, error) {
	c.conn.SetReadDeadline(time.Now().Add(replyTimeout))
	for {
		e, err := c.next()
		if err != nil {
			return nil, fmt.Errorf("waiting for the answer to %s: %w", id, err)
		}
		if isElement(e, "iq") && attr(e, "id") == id {
			if attr(e, "type") != "result" {
				return e, fmt.Errorf("%s was refused: %.300s", id, e)
			}
			return e, nil
		}
	}
}

// open opens a stream and returns the features.
func (c *xmlClient) open() ([]byte, error) {
	c.split.reset()
	err := c.write(
		"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' " +
			"version='1.0' to='" + c.o.domain + "'>")
	if err != nil {
		return nil, fmt.Errorf("opening a stream: %w", err)
	}
	if _, err := c.expect("stream:stream"); err != nil {
		return nil, err
	}
	return c.expect("stream:features")
}

// start opens a stream, with STARTTLS where asked for.
func (c *xmlClient) start(ctx context.Context) error {
	if _, err := c.open(); err != nil {
		return err
	}
	if c.o.security != "starttls" {
		return nil
	}
	if err := c.write("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"); err != nil {
		return err
	}
	if _, err := c.expect("proceed"); err != nil {
		return err
	}
	secure := tls.Client(c.conn, c.tlsConfig())
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.conn = secure
	_, err := c.open()
	return err
}

// login negotiates the whole stream up to a bound resource.
func (c *xmlClient) login(ctx context.Context, keys *loginKeys) error {
	if err := c.start(ctx); err != nil {
		return err
	}
	if err := c.authenticate(keys.scram); err != nil {
		return fmt.Errorf("authenticating %s: %w", c.name, err)
	}
	if _, err := c.open(); err != nil {
		return err
	}
	if err := c.write("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>" +
		c.o.resource + "</resource></bind></iq>"); err != nil {
		return err
	}
	e, err := c.reply("bind")
	if err != nil {
		return err
	}
	_, after, _ := strings.Cut(string(e), "<jid>")
	c.jid, _, _ = strings.Cut(after, "<")
	if c.jid == "" {
		return fmt.Errorf("no address in %.200s", e)
	}
	return nil
}

// presence sends initial presence and waits for its own echo (RFC 6121 §4.2.2), so that the session is known to be
// available.
func (c *xmlClient) presence() error {
	if err := c.write("<presence/>"); err != nil {
		return err
	}
	c.conn.SetReadDeadline(time.Now().Add(replyTimeout))
	for {
		e, err := c.next()
		if err != nil {
			return fmt.Errorf("waiting for presence: %w", err)
		}
		if isElement(e, "presence") && attr(e, "from") == c.jid {
			return nil
		}
	}
}

// manage enables stream management without resumption.
func (c *xmlClient) manage() error {
	if err := c.write("<enable xmlns='urn:xmpp:sm:3'/>"); err != nil {
		return err
	}
	c.conn.SetReadDeadline(time.Now().Add(replyTimeout))
	for {
		e, err := c.next()
		if err != nil {
			return fmt.Errorf("waiting for stream management: %w", err)
		}
		if isElement(e, "enabled") {
			return nil
		}
		if isElement(e, "failed") {
			return fmt.Errorf("stream management was refused: %.200s", e)
		}
	}
}

// authenticate runs the SASL exchange of RFC 6120 §6.4.
func (c *xmlClient) authenticate(keys *client.KeyCache) error {
	if c.o.mechanism == "PLAIN" {
		plain := base64.StdEncoding.EncodeToString([]byte("\x00" + c.name + "\x00" + c.o.password))
		if err := c.write("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + plain +
			"</auth>"); err != nil {
			return err
		}
		_, err := c.expect("success")
		return err
	}
	exchange := &scram.Client{Hash: scram.HashOf(c.o.mechanism), User: c.name, Password: c.o.password,
		Derive: keys.Derive}
	encode := base64.StdEncoding.EncodeToString
	if err := c.write("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='" + c.o.mechanism + "'>" +
		encode(exchange.First()) + "</auth>"); err != nil {
		return err
	}
	e, err := c.expect("challenge")
	if err != nil {
		return err
	}
	challenge, err := base64.StdEncoding.DecodeString(string(text(e)))
	if err != nil {
		return fmt.Errorf("challenge: %w", err)
	}
	final, err := exchange.Final(challenge)
	if err != nil {
		return err
	}
	if err := c.write("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + encode(final) +
		"</response>"); err != nil {
		return err
	}
	e, err = c.expect("success", "challenge")
	if err != nil {
		return err
	}
	proof, err := base64.StdEncoding.DecodeString(string(text(e)))
	if err != nil {
		return fmt.Errorf("success: %w", err)
	}
	if err := exchange.Verify(proof); err != nil {
		return err
	}
	if isElement(e, "success") {
		return nil
	}
	// Some servers send the proof in a challenge of its own (RFC 4422 §5, without additional data with success).
	if err := c.write("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"); err != nil {
		return err
	}
	_, err = c.expect("success")
	return err
}

// errExists says that a user is registered already.
var errExists = errors.New("the user exists")

// register makes the client's user by in-band registration (XEP-0077 §3.1).
func (c *xmlClient) register(ctx context.Context) error {
	if err := c.start(ctx); err != nil {
		return err
	}
	if err := c.write("<iq type='set' id='reg' to='" + c.o.domain + "'><query xmlns='jabber:iq:register'><username>" +
		c.name + "</username><password>" + c.o.password + "</password></query></iq>"); err != nil {
		return err
	}
	e, err := c.reply("reg")
	if err != nil && strings.Contains(string(e), "<conflict") {
		return errExists
	}
	return err
}
