package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
)

// tokenMechanism is -mechanism for logins with a device token, which are what returning clients do.
const tokenMechanism = "token"

// compactClient is one connection that speaks compact frames (docs/protocol/compact.md).
type compactClient struct {
	*client.Conn
	o    *options
	name string
	jid  string
	// present: presence was sent along with the login.
	present bool
	codec   pbstream.Codec
	to      jid.JID // whom messages are for
}

func connectCompact(ctx context.Context, o *options, name string) (*compactClient, error) {
	scheme := "tcp://"
	if o.security == "tls" {
		scheme = "tls://"
	}
	conn, err := client.Connect(context.WithoutCancel(ctx), scheme+o.address,
		&tls.Config{InsecureSkipVerify: true, ServerName: o.domain, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, err
	}
	conn.SetReadDeadline(time.Now().Add(replyTimeout))
	return &compactClient{Conn: conn, o: o, name: name}, nil
}

// deviceOf names the user's one device. It is the same in every run: the server keeps a few devices of an account only.
func (c *compactClient) device() client.Device {
	b := make([]byte, 16)
	copy(b, c.name)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // a UUID of version 4 (RFC 9562 §5.4)
	return client.Device{ID: fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]),
		Software: "posthouse-bench"}
}

func (c *compactClient) login(ctx context.Context, keys *loginKeys) error {
	l := client.Login{Domain: c.o.domain, Username: c.name, Password: c.o.password, Resource: c.o.resource,
		Keys: keys.scram}
	if c.o.mechanism == tokenMechanism {
		l.Device, l.Token = c.device(), keys.token(c.name)
		l.WantToken = l.Token.Secret == ""
		l.Behind = []*stanza.Stanza{{Kind: stanza.Presence}}
	}
	s, err := c.Login(ctx, l)
	if err != nil {
		return fmt.Errorf("logging %s in: %w", c.name, err)
	}
	if s.Token.Secret != "" {
		keys.keep(c.name, s.Token)
	} else if l.WantToken {
		return errors.New("the server gave no token; use another -mechanism")
	}
	c.jid, c.present = s.JID.String(), s.Said
	return nil
}

func (c *compactClient) register(context.Context) error {
	out := c.codec.AppendOpen(nil, stream.Header{To: c.o.domain, HasTo: true, Version: "1.0", HasVersion: true})
	query := stanza.New("jabber:iq:register", "query").With(
		stanza.New("jabber:iq:register", "username").WithText(c.name),
		stanza.New("jabber:iq:register", "password").WithText(c.o.password))
	out = c.codec.AppendStanza(out,
		&stanza.Stanza{Kind: stanza.IQ, Type: stanza.TypeSet, ID: "reg", Payload: []stanza.Element{query}})
	if err := c.writeBytes(out); err != nil {
		return err
	}
	answer, err := c.until(func(s *stanza.Stanza) bool { return s.Kind == stanza.IQ && s.ID == "reg" })
	switch {
	case err != nil:
		return err
	case answer.Type == stanza.TypeResult:
		return nil
	}
	if e := answer.Child(stanza.NSClient, "error"); e != nil &&
		e.Child(stanza.NSStanzas, string(stanza.Conflict)) != nil {
		return errExists
	}
	return fmt.Errorf("registering %s was refused", c.name)
}

// until returns the first stanza that is wanted.
func (c *compactClient) until(wanted func(*stanza.Stanza) bool) (*stanza.Stanza, error) {
	for {
		item, err := c.Next()
		if err != nil {
			return nil, err
		}
		if item.Kind == stream.Stanza && wanted(item.Stanza) {
			return item.Stanza, nil
		}
	}
}

func (c *compactClient) presence() error {
	if !c.present {
		if err := c.SayStanza(&stanza.Stanza{Kind: stanza.Presence}); err != nil {
			return err
		}
	}
	_, err := c.until(func(s *stanza.Stanza) bool { return s.Kind == stanza.Presence && s.From.String() == c.jid })
	if err != nil {
		return fmt.Errorf("waiting for presence: %w", err)
	}
	return nil
}

func (c *compactClient) manage() error {
	if err := c.Say(stanza.New("urn:xmpp:sm:3", "enable")); err != nil {
		return err
	}
	for {
		item, err := c.Next()
		switch {
		case err != nil:
			return fmt.Errorf("waiting for stream management: %w", err)
		case item.Kind == stream.Element && item.Element.Local == "enabled":
			return nil
		case item.Kind == stream.Element && item.Element.Local == "failed":
			return errors.New("stream management was refused")
		}
	}
}

func (c *compactClient) ping() error {
	c.SetReadDeadline(time.Now().Add(replyTimeout))
	id := rand.Text()
	if err := c.SayStanza(&stanza.Stanza{Kind: stanza.IQ, Type: stanza.TypeGet, ID: id,
		Payload: []stanza.Element{stanza.New("urn:xmpp:ping", "ping")}}); err != nil {
		return err
	}
	_, err := c.until(func(s *stanza.Stanza) bool { return s.Kind == stanza.IQ && s.ID == id })
	return err
}

func (c *compactClient) bye() {
	if c.writeBytes(c.codec.AppendClose(nil)) == nil {
		c.SetReadDeadline(time.Now().Add(replyTimeout))
		for {
			if _, err := c.Next(); err != nil {
				break
			}
		}
	}
	c.close()
}

func (c *compactClient) close()          { c.Conn.Close() }
func (c *compactClient) address() string { return c.jid }

func (c *compactClient) wire() (in, out int64) { return c.Traffic() }

func (c *compactClient) writeBytes(b []byte) error {
	_, err := c.Write(b)
	return err
}

func (c *compactClient) appendMessage(b []byte, to string, id, head []byte, padding, origin string) []byte {
	if c.to.IsZero() {
		c.to = jid.MustParse(to)
	}
	s := stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat, To: c.to, ID: "m" + string(id)}
	s.Payload = append(s.Payload, stanza.New(stanza.NSClient, "body").WithText(string(head)+padding))
	if origin != "" {
		s.Payload = append(s.Payload, stanza.New("urn:xmpp:sid:0", "origin-id", "id", origin))
	}
	return c.codec.AppendStanza(b, &s)
}

func (c *compactClient) appendAsk(b []byte) []byte {
	e := stanza.New("urn:xmpp:sm:3", "r")
	return c.codec.AppendElement(b, &e)
}

func (c *compactClient) appendAck(b []byte, h uint32) []byte {
	e := stanza.New("urn:xmpp:sm:3", "a", "h", fmt.Sprint(h))
	return c.codec.AppendElement(b, &e)
}

func (c *compactClient) drain(wait *sync.WaitGroup, handle func(said)) {
	defer wait.Done()
	c.SetReadDeadline(time.Time{})
	for {
		frame, err := c.Frame()
		if err != nil {
			if broke(err) {
				handle(said{kind: saidEnd})
			}
			return
		}
		s, ping := compactSaid(frame)
		if ping {
			c.writeBytes(c.codec.AppendPong(nil))
			continue
		}
		handle(s)
	}
}

// broke reports whether a connection ended in another way than by being closed here or in order.
func broke(err error) bool { return !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) }

// Numbers of compact.proto.
const (
	frameMessage, framePresence, frameIQ, frameAck, frameAsk, framePing = 1, 2, 3, 4, 5, 6

	stanzaType, stanzaBody, typeError = 6, 9, 5
)

// compactSaid looks into a frame no further than it must: like splitter for XML, it trusts the server.
func compactSaid(frame []byte) (s said, ping bool) {
	_, frame = varint(frame) // the length
	kind, inner, _ := protoField(&frame)
	switch kind {
	case frameMessage:
		s.kind = saidMessage
		for rest := inner; len(rest) > 0; {
			number, bytes, value := protoField(&rest)
			switch {
			case number == stanzaType && value == typeError:
				return said{kind: saidRefusal, body: inner}, false
			case number == stanzaBody:
				s.body = bytes
			}
		}
	case framePresence, frameIQ:
		s.kind = saidStanza
	case frameAck:
		s.kind = saidAck
		if len(inner) > 0 {
			_, _, h := protoField(&inner)
			s.h = uint32(h)
		}
	case frameAsk:
		s.kind = saidAsk
	case framePing:
		return s, true
	}
	return s, false
}

// protoField takes the next field off a message of Protocol Buffers: its number, and what it holds, as bytes or as a
// number.
func protoField(b *[]byte) (number int, bytes []byte, value uint64) {
	tag, rest := varint(*b)
	value, rest = varint(rest)
	if tag&7 == 2 {
		n := min(int(value), len(rest))
		bytes, rest = rest[:n], rest[n:]
	}
	*b = rest
	return int(tag >> 3), bytes, value
}

func varint(b []byte) (v uint64, rest []byte) {
	for i, x := range b {
		v |= uint64(x&0x7f) << (7 * i)
		if x < 0x80 {
			return v, b[i+1:]
		}
	}
	return v, nil
}
