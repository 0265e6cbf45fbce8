package main

import (
	"bytes"
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/client"
)

// connection is one connection of one user, in either protocol. One goroutine uses it, but for writeBytes, wire and
// close.
type connection interface {
	register(ctx context.Context) error
	login(ctx context.Context, keys *loginKeys) error
	// presence sends initial presence and waits for its own echo.
	presence() error
	// manage turns stream management on.
	manage() error
	ping() error
	// bye ends the stream in order.
	bye()
	close()
	// address is the bound full address.
	address() string
	// wire returns how many bytes came and went.
	wire() (in, out int64)

	writeBytes(b []byte) error
	appendMessage(b []byte, to string, id, head []byte, padding, origin string) []byte
	appendAsk(b []byte) []byte
	appendAck(b []byte, h uint32) []byte
	// drain tells what the server says until the connection ends.
	drain(wait *sync.WaitGroup, handle func(said))
}

// saidKind is what of the server's words matters here.
type saidKind uint8

const (
	saidOther saidKind = iota
	saidMessage
	saidStanza // presence and IQ
	saidAck
	saidAsk
	saidRefusal // a message of type error
	saidEnd     // the connection broke
)

// said is one thing that the server said. What it refers to is valid until the next one.
type said struct {
	kind saidKind
	h    uint32
	body []byte // of a message: its body, or all of a refusal
}

// traffic counts bytes.
type traffic struct {
	taken, written atomic.Int64
}

func (t *traffic) wire() (in, out int64) { return t.taken.Load(), t.written.Load() }

// loginKeys are what logins leave behind for the next ones.
type loginKeys struct {
	scram *client.KeyCache

	mu     sync.Mutex // guards tokens
	tokens map[string]client.Token
}

func newKeys() *loginKeys {
	return &loginKeys{scram: &client.KeyCache{}, tokens: map[string]client.Token{}}
}

func (k *loginKeys) token(user string) client.Token {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tokens[user]
}

func (k *loginKeys) keep(user string, t client.Token) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tokens[user] = t
}

// dial opens a connection; nothing is said on it.
func dial(ctx context.Context, o *options, name string) (connection, error) {
	if o.transport == "compact" {
		return connectCompact(ctx, o, name)
	}
	return connectXML(ctx, o, name)
}

func (c *xmlClient) ping() error {
	if err := c.write("<iq type='get' id='ping'><ping xmlns='urn:xmpp:ping'/></iq>"); err != nil {
		return err
	}
	_, err := c.reply("ping")
	return err
}

func (c *xmlClient) appendMessage(b []byte, to string, id, head []byte, padding, origin string) []byte {
	b = append(b, "<message type='chat' id='m"...)
	b = append(b, id...)
	b = append(b, "' to='"...)
	b = append(b, to...)
	b = append(b, "'><body>"...)
	b = append(b, head...)
	b = append(b, padding...)
	b = append(b, "</body>"...)
	if origin != "" {
		b = append(b, "<origin-id xmlns='urn:xmpp:sid:0' id='"...)
		b = append(b, origin...)
		b = append(b, "'/>"...)
	}
	return append(b, "</message>"...)
}

func (c *xmlClient) appendAsk(b []byte) []byte { return append(b, "<r xmlns='urn:xmpp:sm:3'/>"...) }

func (c *xmlClient) appendAck(b []byte, h uint32) []byte {
	b = append(b, "<a xmlns='urn:xmpp:sm:3' h='"...)
	return append(strconv.AppendUint(b, uint64(h), 10), "'/>"...)
}

func (c *xmlClient) drain(wait *sync.WaitGroup, handle func(said)) {
	defer wait.Done()
	c.conn.SetReadDeadline(time.Time{})
	for {
		e, err := c.next()
		if err != nil {
			if broke(err) {
				handle(said{kind: saidEnd})
			}
			return
		}
		handle(xmlSaid(e))
	}
}

func xmlSaid(e []byte) said {
	switch {
	case isElement(e, "message"):
		if attr(e, "type") == "error" {
			return said{kind: saidRefusal, body: e}
		}
		_, rest, _ := bytes.Cut(e, []byte("<body>"))
		return said{kind: saidMessage, body: rest}
	case isElement(e, "a"):
		h, err := strconv.ParseUint(attr(e, "h"), 10, 32)
		if err != nil {
			return said{}
		}
		return said{kind: saidAck, h: uint32(h)}
	case isElement(e, "r"):
		return said{kind: saidAsk}
	case isElement(e, "presence"), isElement(e, "iq"):
		return said{kind: saidStanza}
	}
	return said{}
}
