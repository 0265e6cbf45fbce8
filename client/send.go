package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Receipt tells what became of a message that was sent.
type Receipt struct {
	// ID is the message's own id: what edits, retractions, reactions and read markers about it name.
	ID string
	// StanzaID, Conversation, Number and Time are those of the Message that all devices see. They are zero for read
	// markers and signals.
	StanzaID     string
	Conversation jid.JID
	Number       uint64
	Time         time.Time
	// Duplicate: a message of this id had been stored before, and this repeats the answer of then.
	Duplicate bool
}

// newID returns a random UUID of version 4 (RFC 9562 §5.4), which the compact stream carries in 16 bytes.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	var text [36]byte
	hex.Encode(text[:8], b[:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:], b[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// NewID returns an id for SendAs.
func NewID() string { return newID() }

// Send sends a message and returns when the server has it on disk, however many connections that takes. Edits,
// retractions, reactions and read markers are sent like any other message: Content.Target names what they are about. A
// *stanza.Error is the server's refusal. When the context ends first, it is not known what became of the message:
// SendAs with the same id finds out.
func (c *Client) Send(ctx context.Context, to jid.JID, what content.Content) (Receipt, error) {
	return c.SendAs(ctx, to, newID(), what)
}

// SendAs is Send with an id that the app made and kept, so that it can send the same message again after it was started
// anew: within 7 days the server stores and delivers it once, and gives the same answer. The id must be unique for the
// account; a random UUID is best.
func (c *Client) SendAs(ctx context.Context, to jid.JID, id string, what content.Content) (Receipt, error) {
	said, err := content.Build(what)
	if err != nil {
		return Receipt{}, err
	}
	s := &stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat, ID: id, To: to,
		Payload: append(said, content.Requests(what.Kind)...)}
	w := &sending{done: make(chan struct{}), confirmed: true}
	switch what.Kind {
	case content.Typing:
		w.signal = true
	case content.Delivered, content.Read:
		w.confirmed = false // one that comes too late changes nothing and is not confirmed
	default:
		s.Payload = append(s.Payload, stanza.New(payload.NSStanzaID, "origin-id", "id", id)) // XEP-0359 §3.2
	}
	if w.signal {
		s.Payload = append(s.Payload, stanza.New(payload.NSHints, "no-store")) // XEP-0334 §4.2
	}
	return c.sendStanza(ctx, s, w)
}

func (c *Client) sendStanza(ctx context.Context, s *stanza.Stanza, w *sending) (Receipt, error) {
	if err := s.Validate(); err != nil {
		return Receipt{}, fmt.Errorf("what is sent cannot be said: %w", err)
	}
	w.out = &outgoing{s: s, send: w}
	if err := c.enqueue(ctx, w.out); err != nil {
		return Receipt{}, err
	}
	select {
	case <-w.done:
		return w.receipt, w.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	c.outbox.drop(w.out, ctx.Err())
	c.mu.Unlock()
	<-w.done
	return w.receipt, w.err
}

// enqueue waits for room in the outbox and puts something in it.
func (c *Client) enqueue(ctx context.Context, o *outgoing) error {
	select {
	case c.room <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return c.ended()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, again := c.sends[o.s.ID]
	switch {
	case c.err != nil || c.closing:
		<-c.room
		if c.err == nil {
			return ErrClosed
		}
		return c.err
	case again && o.send != nil:
		<-c.room
		return errors.New("a message of this id is on its way already")
	}
	c.outbox.add(o)
	c.kick()
	return nil
}

func (c *Client) ended() error {
	if err := c.Err(); err != nil {
		return err
	}
	return ErrClosed
}

// SetPresence tells those who may know how available the account's owner is: "" (available), away, chat, dnd or xa,
// with a text. It is said again in each new session. It does not wait.
func (c *Client) SetPresence(show, status string) {
	s := &stanza.Stanza{Kind: stanza.Presence}
	if show != "" {
		s.Payload = append(s.Payload, stanza.New(stanza.NSClient, "show").WithText(show))
	}
	if status != "" {
		s.Payload = append(s.Payload, stanza.New(stanza.NSClient, "status").WithText(status))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.presence = s
	if c.conn != nil {
		c.queue = append(c.queue, &outgoing{s: s})
		c.kick()
	}
}

// Subscribe asks to see somebody's presence, or, with one of the types of RFC 6121 §3, answers: subscribe, subscribed,
// unsubscribe, unsubscribed. It returns when the server has taken it.
func (c *Client) Subscribe(ctx context.Context, to jid.JID, kind string) error {
	s := &stanza.Stanza{Kind: stanza.Presence, Type: kind, To: to.Bare(), ID: newID()}
	_, err := c.sendStanza(ctx, s, &sending{done: make(chan struct{})})
	return err
}
