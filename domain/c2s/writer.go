package c2s

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// How much one write takes from the queue.
const (
	maxWriteEntries = 512
	maxWriteBytes   = 256 << 10
	maxWriteAcks    = 256
	// ackCost is about the size of one <a/>, for the bound on what is owed to a client that does not read.
	ackCost = 40
	// maxCopied is the longest content of a packet that is copied: to pass a short one to the system apart costs more.
	maxCopied = 1024
)

// writer is the scratch of a goroutine that writes. Writers are shared: an idle client has none.
type writer struct {
	entries []entry
	bufs    [][]byte
	text    []byte // what is written; the slices in bufs point into it or into an array that it has left
	cut     int    // what of text is in bufs
	framed  bool   // what is said stands in a buffer of its own, which the link makes a message
	ids     []uint64
	ack     stanza.Element
	pool    *writerPool // nil: none
	waits   atomic.Bool // for its client
}

var writers = sync.Pool{New: func() any {
	return &writer{ack: stanza.Element{Space: nsSM, Local: "a", Attrs: make([]stanza.Attr, 1)}}
}}

// free gives the scratch back without what it points to.
func (w *writer) free() {
	w.reset()
	if cap(w.text) <= 2*maxWriteBytes {
		writers.Put(w)
	}
}

func (w *writer) reset() {
	clear(w.entries)
	clear(w.bufs)
	w.entries, w.bufs, w.text, w.ids = w.entries[:0], w.bufs[:0], w.text[:0], w.ids[:0]
	w.cut = 0
}

// turn is what one write consists of, decided under bound.mu.
type turn struct {
	to      *conn
	control [][]byte
	acks    int
	handled uint32
	pong    bool
	ask     bool
	final   bool
	last    *stream.Error
	sm      bool
}

// kick starts a writer when there is something to write and none is at work. b.mu is held.
func (b *bound) kick() {
	if b.flushing || b.at == nil || b.broken || b.state == ended {
		return
	}
	b.flushing = true
	b.srv.writers.work(b)
}

// maxTurns is how many writes a writer does for one session before it takes the next.
const maxTurns = 64

// writeTurns does at most so many writes, and reports whether there may be more to write. Its connection's reader does
// not end before there is not. pool is whose writer it is, nil when a reader writes.
func (b *bound) writeTurns(pool *writerPool, most int) bool {
	w := writers.Get().(*writer)
	w.pool = pool
	defer w.free()
	defer w.goOn()
	defer func() {
		if p := recover(); p != nil {
			b.srv.panicked("writer", p)
			b.mu.Lock()
			b.flushing = false
			if b.state == live {
				b.state, b.reason = closing, endedByPanic // it is not resumed: it would meet the same packet again
			}
			b.sever()
			b.cond.Broadcast()
			b.mu.Unlock()
		}
	}()
	for range most {
		if !b.writeTurn(w) {
			return false
		}
	}
	return true
}

// writeTurn does one write. It returns false when the writer's work is done.
func (b *bound) writeTurn(w *writer) bool {
	b.mu.Lock()
	t, more := b.takeTurn(w)
	if !more {
		b.flushing = false
		b.cond.Broadcast()
		b.mu.Unlock()
		return false
	}
	b.mu.Unlock()

	b.compose(w, &t)
	err := link.SendOr(t.to.link, w.bufs, w)
	w.goOn()
	b.srv.metrics.writes.Inc()

	b.mu.Lock()
	if b.at != t.to { // a resumption took over, and with it the question what has arrived
		b.mu.Unlock()
		return true
	}
	if err != nil {
		b.flushing, b.broken = false, true
		b.cond.Broadcast()
		b.mu.Unlock()
		t.to.abort()
		return false
	}
	w.ids = b.written(t, w.ids[:0])
	b.mu.Unlock()
	b.report(w.ids)
	if t.final {
		w.MustWait() // a moment at most
		t.to.closeWritten(t.last)
		w.goOn()
	}
	return true
}

// MustWait is called before the writer waits for its client: another one may take its place.
func (w *writer) MustWait() {
	if w.pool != nil && !w.waits.Swap(true) {
		w.pool.block()
	}
}

// goOn is called when it does not wait any more.
func (w *writer) goOn() {
	if w.waits.Swap(false) {
		w.pool.unblock()
	}
}

// takeTurn decides what the next write consists of. b.mu is held.
func (b *bound) takeTurn(w *writer) (t turn, more bool) {
	w.reset()
	if b.at == nil || b.broken || b.finalSent || b.state == ended {
		return t, false
	}
	t = turn{to: b.at, control: b.control, handled: b.handled, sm: b.sm != nil, pong: b.pong}
	b.control, b.pong = nil, false
	t.acks = min(b.acksOwed, maxWriteAcks)
	b.acksOwed -= t.acks
	if !b.urgent {
		size := 0
		for i := b.sent; i < b.queue.len() && len(w.entries) < maxWriteEntries && size < maxWriteBytes; i++ {
			e := *b.queue.at(i)
			w.entries = append(w.entries, e)
			size += e.size
		}
		b.pending -= size
	}
	b.writing = len(w.entries)
	rest := b.queue.len() > b.sent+b.writing || b.acksOwed > 0
	if b.state == closing && (b.urgent || !rest && b.flight.len() == 0) {
		t.final, t.last, b.finalSent = true, b.last, true
	}
	if b.sm != nil && !t.final {
		t.ask = b.askDue(b.writing)
	}
	more = len(t.control) > 0 || t.pong || t.acks > 0 || b.writing > 0 || t.ask || t.final
	return t, more
}

// written accounts for a write that succeeded. b.mu is held. It appends what was delivered by it to ids.
func (b *bound) written(t turn, ids []uint64) []uint64 {
	n := b.writing
	b.writing = 0
	if b.sm != nil {
		b.sent += n
	} else if n > 0 {
		ids = b.pop(n, ids)
	}
	b.cond.Broadcast()
	return ids
}

// choked reports whether so much waits to be written that the client must read before it is read from. b.mu is held.
func (b *bound) choked() bool {
	c := &b.srv.config
	return b.pending+b.acksOwed*ackCost > c.QueueBytes/2 || b.queue.len()-b.sent-b.writing > c.QueueStanzas/2
}

// compose fills w.bufs with the bytes of the turn: control elements, acknowledgements, stanzas, the request for an
// acknowledgement, and the stream error and footer.
func (b *bound) compose(w *writer, t *turn) {
	codec := t.to.codec
	w.framed = t.to.transport == overWebSocket
	w.bufs = append(w.bufs, t.control...)
	if p, ok := codec.(ponger); ok && t.pong {
		w.add(p.AppendPong)
	}
	ack := func(dst []byte) []byte {
		w.ack.Attrs[0] = stanza.Attr{Local: "h", Value: strconv.FormatUint(uint64(t.handled), 10)}
		return codec.AppendElement(dst, &w.ack)
	}
	for range t.acks {
		w.add(ack)
	}
	m := b.srv.metrics
	for i := range w.entries {
		p := w.entries[i].packet
		if p == nil {
			p = b.confirmation(w.entries[i].receipt)
		}
		w.packet(codec, p)
		m.out[p.Stanza.Kind].Inc()
	}
	if t.ask {
		w.add(func(dst []byte) []byte { return codec.AppendElement(dst, &requestAck) })
	}
	if t.final {
		if t.sm { // XEP-0198 §7: what was handled is said before the stream is closed
			w.add(ack)
		}
		if t.last != nil {
			w.add(func(dst []byte) []byte { return codec.AppendError(dst, t.last) })
		}
		w.add(codec.AppendClose)
	}
	w.seal()
}

// add adds what f appends.
func (w *writer) add(f func(dst []byte) []byte) {
	w.text = f(w.text)
	if w.framed {
		w.seal()
	}
}

// packet adds a packet. A long content goes out from where all sessions share it.
func (w *writer) packet(codec stream.Codec, p *stream.Packet) {
	out, at, content := p.Encode(codec, w.text)
	if len(content) <= maxCopied || w.framed {
		w.add(func([]byte) []byte { return slices.Insert(out, at, content...) })
		return
	}
	w.text = out
	w.bufs = append(w.bufs, out[w.cut:at:at], content)
	w.cut = at
}

// seal puts what is not in bufs yet into a buffer.
func (w *writer) seal() {
	if end := len(w.text); end > w.cut {
		w.bufs = append(w.bufs, w.text[w.cut:end:end])
		w.cut = end
	}
}
