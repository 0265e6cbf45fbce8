package client

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Our own extensions of streams, docs/protocol/compact.md and docs/protocol/confirm.md.
const (
	nsStream  = "urn:posthouse:stream:1"
	nsConfirm = "urn:posthouse:confirm:1"
)

// answerTimeout is how long the server may take to answer a ping.
const answerTimeout = 30 * time.Second

// connect makes a connection and a session on it, or resumes the one there was.
func (c *Client) connect(ctx context.Context) (*Conn, error) {
	conn, err := Connect(ctx, c.config.Address, c.config.TLS)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	opening := c.opening(&Session{Carbons: true, Confirms: true}) // which a server that takes tokens can turn on
	l := Login{
		Behind: stanzas(opening),
		Domain: c.config.Domain, Username: c.bare.Local(), Password: c.config.Password, Token: c.token,
		Device:   c.config.Device,
		Resource: c.config.Resource, WantToken: c.config.Device.ID != "" &&
			(c.token.Secret == "" || c.config.Password != ""),
		Manage: true, Carbons: true, Confirms: true, Previous: c.stream, Handled: c.handled, Keys: &c.keys,
	}
	c.mu.Unlock()
	s, err := conn.Login(ctx, l)
	if err != nil {
		conn.Close()
		var refused *AuthError
		if errors.As(err, &refused) && l.Token.Secret != "" && l.Password != "" {
			c.mu.Lock()
			c.token = Token{}
			c.mu.Unlock()
			return c.connect(ctx) // once more, with the password
		}
		return nil, err
	}
	if s.Token.Secret != "" && c.config.Keep != nil {
		c.config.Keep(s.Token)
	}
	if !c.begin(conn, &s, opening) {
		conn.Close()
		return nil, errors.New("the server resumed a stream with impossible counters")
	}
	return conn, nil
}

func stanzas(all []*outgoing) (out []*stanza.Stanza) {
	for _, o := range all {
		out = append(out, o.s)
	}
	return out
}

// begin takes over a session that was made, on which something may have been said already. It reports false when the
// server's count of a resumed stream cannot be.
func (c *Client) begin(conn *Conn, s *Session, said []*outgoing) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Token.Secret != "" {
		c.token = s.Token
	}
	if s.Resumed {
		if !c.outbox.acknowledge(s.Handled) {
			c.stream = ""
			return false
		}
		c.outbox.again()
		c.stats.Resumptions++
	} else {
		c.stream, c.managed, c.handled, c.full = s.Stream, s.Managed, 0, s.JID
		opening := c.opening(s)
		if s.Said {
			opening = nil
		}
		c.outbox.anew(opening, ErrInterrupted)
		if s.Said && s.Managed {
			c.written, c.unasked = said, len(said)
		}
		c.stats.Sessions++
	}
	c.push(arrival{state: &State{Online: true, Resumed: s.Resumed}})
	if !s.Resumed {
		based := c.based || c.lastQueued != ""
		c.push(arrival{catchUp: based, baseline: !based, after: c.lastQueued})
	}
	c.conn, c.ackDue, c.pongs, c.interval = conn, false, 0, c.config.KeepAlive
	if s.Idle > 0 {
		c.interval = min(c.interval, s.Idle*2/3)
	}
	return true
}

// opening is what a new session says first: that it wants confirmations (and copies, where the login did not bring
// them), and presence.
func (c *Client) opening(s *Session) []*outgoing {
	set := func(e stanza.Element) *outgoing {
		return &outgoing{s: &stanza.Stanza{Kind: stanza.IQ, Type: stanza.TypeSet, ID: newID(),
			Payload: []stanza.Element{e}}}
	}
	var out []*outgoing
	if !s.Confirms {
		out = append(out, set(stanza.New(nsConfirm, "enable")))
	}
	if !s.Carbons {
		out = append(out, set(stanza.New(payload.NSCarbons, "enable")))
	}
	return append(out, &outgoing{s: c.presence})
}

// serve reads until the connection ends. It starts the writer and waits for its end.
func (c *Client) serve(conn *Conn) error {
	var writer sync.WaitGroup
	over := make(chan struct{})
	conn.pinged = func() {
		c.mu.Lock()
		c.pongs++
		c.mu.Unlock()
		c.kick()
	}
	writer.Go(func() { c.write(conn, over) })
	err := c.read(conn)
	conn.Close()
	close(over)
	writer.Wait()
	return err
}

func (c *Client) read(conn *Conn) error {
	for {
		item, err := conn.Next()
		if errors.Is(err, io.EOF) {
			c.mu.Lock()
			c.stream = "" // a stream that was closed in order is not resumed
			c.mu.Unlock()
			if _, werr := conn.Write(conn.codec.AppendClose(nil)); werr != nil {
				return err
			}
			return err
		}
		if err != nil {
			return err
		}
		switch item.Kind {
		case stream.Stanza:
			c.take(item.Stanza)
		case stream.Element:
			if err := c.element(item.Element); err != nil {
				return err
			}
		}
	}
}

// element handles what is no stanza.
func (c *Client) element(e *stanza.Element) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case e.Space == nsSM && e.Local == "a":
		h, err := strconv.ParseUint(e.Attr("h"), 10, 32)
		if err != nil || !c.outbox.acknowledge(uint32(h)) {
			c.stream = ""
			return errors.New("the server acknowledged more than was sent")
		}
		c.outbox.asked = false
	case e.Space == nsSM && e.Local == "r":
		c.ackDue = true
		c.kick()
	case e.Space == nsStream && e.Local == "keepalive":
		if s, err := strconv.ParseUint(e.Attr("seconds"), 10, 31); err == nil && s > 0 {
			c.interval = time.Duration(s) * time.Second
			c.kick()
		}
	case e.Space == nsStream && e.Local == "reconnect":
		c.delay = after(e)
	}
	return nil
}

// after reads how long to wait before coming back.
func after(e *stanza.Element) time.Duration {
	s, err := strconv.ParseFloat(e.Attr("after"), 64)
	if err != nil || s < 0 || s > 3600 {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}

// kick tells the writer that there is something to do.
func (c *Client) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// write writes what gathers, until the connection is over, and looks whether the server is still there.
func (c *Client) write(conn *Conn, over <-chan struct{}) {
	agree := stanza.New(nsStream, "keepalive", "seconds", strconv.Itoa(max(1, int(c.config.KeepAlive/time.Second))))
	buf := conn.codec.AppendElement(nil, &agree)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	lastWrite := time.Now()
	for {
		buf = c.gather(conn, buf)
		if len(buf) > 0 {
			if _, err := conn.Write(buf); err != nil {
				conn.Close()
				return
			}
			buf = buf[:0]
			lastWrite = time.Now()
			continue // what came meanwhile
		}
		c.mu.Lock()
		interval := c.interval
		c.mu.Unlock()
		silent := time.Since(time.Unix(0, conn.lastRead.Load()))
		switch {
		case silent > interval+answerTimeout:
			c.log.Info("the server is silent", "event", "timeout")
			conn.Close()
			return
		case time.Since(lastWrite) >= interval:
			buf = conn.codec.AppendPing(buf)
			continue
		}
		timer.Reset(max(time.Millisecond, min(interval-time.Since(lastWrite), interval+answerTimeout-silent)))
		select {
		case <-over:
			return
		case <-c.wake:
		case <-timer.C:
		}
	}
}

// gather appends what is to be written now.
func (c *Client) gather(conn *Conn, buf []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != conn {
		return buf
	}
	for ; c.pongs > 0; c.pongs-- {
		buf = conn.codec.AppendPong(buf)
	}
	if c.ackDue {
		c.ackDue = false
		e := stanza.New(nsSM, "a", "h", strconv.FormatUint(uint64(c.handled), 10))
		buf = conn.codec.AppendElement(buf, &e)
	}
	for _, o := range c.outbox.take(c.managed) {
		buf = conn.codec.AppendStanza(buf, o.s)
	}
	if c.managed && c.outbox.mustAsk() {
		e := stanza.New(nsSM, "r")
		buf = conn.codec.AppendElement(buf, &e)
	}
	return buf
}
