package ingress

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/uplink"
)

// proxy stands in the domain for a caller: it is the outbox of a hidden session, and takes answers to requests.
// Everything else that it is sent, such as roster pushes, is dropped: the caller reads what has changed from the store.
type proxy struct {
	// Fixed after enter.
	session *session.Session
	origin  router.Origin

	// Guarded by Ingress.mu.
	users int       // requests that use it now
	left  time.Time // when the last one was over

	mu     sync.Mutex             // guards the rest
	asked  map[string]chan answer // by the id of the request; bounded by the requests on their way
	closed bool
}

// answer is what became of a request.
type answer struct {
	payload []stanza.Element
	err     error
}

// errClosed says that the domain ended the session, such as when the account was deleted: it is not known what became
// of the request.
var errClosed = fmt.Errorf("the domain ended the caller's session: %w", context.Canceled)

// fits reports whether it can be used for the caller. Under Ingress.mu.
func (p *proxy) fits(c uplink.Caller) bool {
	return !p.ended() && p.session.Account() == c.Account && p.session.Admin() == c.Admin &&
		(c.Actor == "" || p.session.Actor() == c.Actor)
}

// ended reports whether the domain has ended the session.
func (p *proxy) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *proxy) expect(id string) (<-chan answer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, used := p.asked[id]; used {
		return nil, false
	}
	c := make(chan answer, 1)
	if p.closed {
		c <- answer{err: errClosed}
	}
	p.asked[id] = c
	return c, true
}

func (p *proxy) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.asked, id)
}

// Send takes an answer. It implements session.Outbox.
func (p *proxy) Send(packet *stream.Packet) {
	s := packet.Stanza
	if s.Kind != stanza.IQ || s.IsRequest() {
		return
	}
	a := answer{payload: s.Payload}
	if s.Type == stanza.TypeError {
		a = answer{err: s.Refusal()}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.asked[s.ID] <- a: // a nil channel, of a request that is over, takes nothing
	default:
	}
}

// Close ends all requests. It implements session.Outbox.
func (p *proxy) Close(*stream.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.asked {
		select {
		case c <- answer{err: errClosed}:
		default: // it has its answer
		}
	}
}

// WaitRoom returns at once: nothing waits here. It implements session.Outbox.
func (p *proxy) WaitRoom(context.Context) error { return nil }

// Detached reports false: there is no connection to be lost. It implements session.Outbox.
func (p *proxy) Detached() bool { return false }
