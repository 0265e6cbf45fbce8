package link

import (
	"encoding/binary"
	"io"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

const (
	defaultMaxMessage = 256 << 10
	// maxFragments bounds the frames of one message: each costs a call and none need be long.
	maxFragments = 32
	// Control frames a peer may send: so many at once, and one more for every controlEvery.
	controlBurst = 32
	controlEvery = time.Second / 4
	// maxHeader is the longest header of a frame with a mask.
	maxHeader = 14
)

// wsLayer is the state of the frames of one WebSocket (RFC 6455 §5), server side, without extensions. Owned by the
// goroutine in Receive, but for what says otherwise.
type wsLayer struct {
	protocol *subprotocol // fixed

	limit atomic.Int64 // bytes of one message; set by anyone
	code  atomic.Int32 // close code for the rule that the peer broke; set by the reader, read by Close

	early []byte // came with the request that made this a WebSocket

	head      [maxHeader]byte // header so far
	headLen   uint8
	op        ws.OpCode // of the frame that is being read; valid when inBody
	inBody    bool
	fin       bool
	mask      [4]byte
	maskAt    int
	left      int64     // bytes of the frame still to come
	message   ws.OpCode // of the message that is being read, 0 between messages
	fragments uint8
	body      []byte // of the message so far
	hold      *buffer
	ctl       []byte    // of the control frame so far
	tokens    int       // control frames that may come before refilled is looked at again
	refilled  time.Time // when tokens were last topped up

	sentEnd bool // a close frame has been written, nothing may follow it; guarded by conn.wmu
}

func newWSLayer(p *subprotocol, maxMessage int) *wsLayer {
	l := &wsLayer{protocol: p, tokens: controlBurst, refilled: time.Now()}
	l.setLimit(maxMessage)
	return l
}

// setLimit bounds what a message holds; n < 1 means the default.
func (l *wsLayer) setLimit(n int) {
	if n < 1 {
		n = defaultMaxMessage
	}
	l.limit.Store(int64(n) + l.protocol.extra)
}

// unframe makes messages of p, which it changes, and hands them to use.
func (c *conn) unframe(p []byte) {
	for {
		if c.finished() {
			c.ws.free(c.owner.pools)
			return
		}
		var ferr *FrameError
		switch {
		case c.ws.inBody:
			p, ferr = c.readBody(p)
		case len(p) == 0:
			return
		default:
			p, ferr = c.ws.readHead(p)
		}
		if ferr != nil {
			c.ws.code.Store(int32(ferr.Code))
			c.owner.metrics.frameError(ferr.Code)
			c.rerr = ferr
		} else if c.ws.inBody && len(p) == 0 && c.ws.left > 0 {
			return
		}
	}
}

// readHead takes the header of a frame, or as much of it as there is, checks it, and returns what follows it.
func (l *wsLayer) readHead(p []byte) ([]byte, *FrameError) {
	for {
		size, ferr := headerSize(l.head[:l.headLen])
		if ferr != nil {
			return nil, ferr
		}
		if int(l.headLen) == size {
			break
		}
		if len(p) == 0 {
			return nil, nil
		}
		n := copy(l.head[l.headLen:size], p)
		l.headLen += uint8(n)
		p = p[n:]
	}
	return p, l.begin()
}

// headerSize returns how long the header that begins with h is, as far as h tells: 2 until it has those. A frame
// without a mask is refused as soon as that is known (RFC 6455 §5.1).
func headerSize(h []byte) (int, *FrameError) {
	if len(h) < 2 {
		return 2, nil
	}
	if h[0]&0x70 != 0 {
		return 0, &FrameError{1002, "reserved bits without an extension"}
	}
	if h[1]&0x80 == 0 {
		return 0, &FrameError{1002, "frame without mask"}
	}
	switch h[1] & 0x7f {
	case 126:
		return 8, nil
	case 127:
		return 14, nil
	}
	return 6, nil
}

// begin reads the complete header in l.head and checks it against the state (RFC 6455 §5.2, §5.4, §5.5).
func (l *wsLayer) begin() *FrameError {
	h := l.head[:l.headLen]
	l.headLen = 0
	l.fin, l.op = h[0]&0x80 != 0, ws.OpCode(h[0]&0x0f)
	n := uint64(h[1] & 0x7f)
	switch n {
	case 126:
		if n = uint64(binary.BigEndian.Uint16(h[2:])); n < 126 {
			return &FrameError{1002, "length not in its shortest form"}
		}
	case 127:
		n = binary.BigEndian.Uint64(h[2:])
		if n>>63 != 0 || n < 1<<16 {
			return &FrameError{1002, "length out of range or not in its shortest form"}
		}
	}
	copy(l.mask[:], h[len(h)-4:])
	l.maskAt, l.inBody = 0, true
	if l.op.IsControl() {
		l.left = int64(n)
		return l.beginControl(n)
	}
	if ferr := l.beginData(); ferr != nil {
		return ferr
	}
	if n > uint64(max(0, l.limit.Load()-int64(len(l.body)))) {
		return &FrameError{1009, "message too long"}
	}
	l.left = int64(n)
	return nil
}

func (l *wsLayer) beginControl(n uint64) *FrameError {
	switch {
	case l.op != ws.OpPing && l.op != ws.OpPong && l.op != ws.OpClose:
		return &FrameError{1002, "unknown control frame"}
	case !l.fin:
		return &FrameError{1002, "control frame in fragments"}
	case n > ws.MaxControlFramePayloadSize:
		return &FrameError{1002, "control frame too long"}
	case !l.mayControl():
		return &FrameError{1008, "too many control frames"}
	}
	return nil
}

func (l *wsLayer) beginData() *FrameError {
	switch l.op {
	case ws.OpText, ws.OpBinary:
		if l.op != l.protocol.op { // RFC 7395 §3.2, and likewise
			return &FrameError{1003, "message of a kind that the sub-protocol does not have"}
		}
		if l.message != 0 {
			return &FrameError{1002, "message begins inside another"}
		}
		l.message = l.op
	case ws.OpContinuation:
		if l.message == 0 {
			return &FrameError{1002, "continuation of nothing"}
		}
	default:
		return &FrameError{1002, "unknown frame"}
	}
	if l.fragments++; l.fragments > maxFragments {
		return &FrameError{1008, "too many fragments"}
	}
	return nil
}

// mayControl takes a token for one control frame.
func (l *wsLayer) mayControl() bool {
	if l.tokens == 0 {
		now := time.Now()
		l.tokens = int(min(now.Sub(l.refilled)/controlEvery, controlBurst))
		if l.tokens > 0 {
			l.refilled = now
		}
	}
	if l.tokens == 0 {
		return false
	}
	l.tokens--
	return true
}

// readBody takes what p holds of the frame's body and returns what follows it.
func (c *conn) readBody(p []byte) ([]byte, *FrameError) {
	l := c.ws
	n := int(min(int64(len(p)), l.left))
	part, rest := p[:n], p[n:]
	ws.Cipher(part, l.mask, l.maskAt)
	l.maskAt = (l.maskAt + n) & 3
	l.left -= int64(n)
	done := l.left == 0
	if done {
		l.inBody = false
	}
	if l.op.IsControl() {
		if l.ctl = append(l.ctl, part...); done {
			return rest, c.control()
		}
		return rest, nil
	}
	if done && l.fin && len(l.body) == 0 {
		return rest, c.whole(part) // the usual case: nothing is copied
	}
	l.keep(part, c.owner.pools)
	if done && l.fin {
		return rest, c.whole(l.body)
	}
	return rest, nil
}

// keep adds to the message. Its memory grows with what has come, not with what a header promised.
func (l *wsLayer) keep(part []byte, p *pools) {
	if len(part) == 0 {
		return
	}
	if l.body == nil {
		l.hold = p.get()
		l.body = l.hold.data[:0]
	}
	l.body = append(l.body, part...)
}

// free gives back the memory of a message.
func (l *wsLayer) free(p *pools) {
	p.put(l.hold)
	l.body, l.hold, l.ctl = nil, nil, nil
}

// whole hands a complete message to use.
func (c *conn) whole(p []byte) *FrameError {
	l := c.ws
	l.message, l.fragments = 0, 0
	defer l.free(c.owner.pools)
	if l.protocol.op == ws.OpText && !utf8.Valid(p) {
		return &FrameError{1007, "text is not UTF-8"}
	}
	c.called = true
	c.use(p)
	return nil
}

// control answers the control frame in l.ctl.
func (c *conn) control() *FrameError {
	l := c.ws
	p := l.ctl
	l.ctl = nil
	switch l.op {
	case ws.OpPing:
		c.pong(p)
	case ws.OpClose:
		return c.closing(p)
	}
	return nil // a pong asks for nothing (RFC 6455 §5.5.3)
}

// pong answers a ping with the same bytes. If that fails, so will the next Send.
func (c *conn) pong(p []byte) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.werr == nil && !c.ws.sentEnd {
		c.werr = c.writeControl(ws.OpPong, p)
	}
}

// closing takes the peer's close frame and answers it (RFC 6455 §5.5.1, §7.4).
func (c *conn) closing(p []byte) *FrameError {
	code := 0
	if len(p) == 1 {
		return &FrameError{1002, "close code cut short"}
	}
	if len(p) >= 2 {
		code = int(binary.BigEndian.Uint16(p))
		if !receivable(code) {
			return &FrameError{1002, "close code that must not be sent"}
		}
		if !utf8.Valid(p[2:]) {
			return &FrameError{1007, "close reason is not UTF-8"}
		}
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.werr == nil {
		c.werr = c.writeClose(code)
	}
	c.rerr = io.EOF
	return nil
}

// receivable reports whether a peer may send code (RFC 6455 §7.4, and the registry that it founds).
func receivable(code int) bool {
	switch {
	case code >= 3000 && code <= 4999:
		return true
	case code >= 1000 && code <= 1014:
		return code != 1004 && code != 1005 && code != 1006
	}
	return false
}

// writeClose writes a close frame, once. c.wmu is held.
func (c *conn) writeClose(code int) error {
	l := c.ws
	if l.sentEnd {
		return nil
	}
	l.sentEnd = true
	if code == 0 {
		if code = int(l.code.Load()); code == 0 {
			code = 1000
		}
	}
	var p [2]byte
	binary.BigEndian.PutUint16(p[:], uint16(code))
	return c.writeControl(ws.OpClose, p[:])
}

// writeControl writes one control frame. c.wmu is held.
func (c *conn) writeControl(op ws.OpCode, p []byte) error {
	frame := append(appendHeader(make([]byte, 0, 4+len(p)), op, len(p)), p...)
	if t := c.tls.Load(); t != nil {
		return t.write(frame)
	}
	return c.src.write([][]byte{frame}, c.owner.writeTimeout, nil)
}

// appendHeader appends the header of an unmasked, complete frame of n bytes (RFC 6455 §5.2).
func appendHeader(b []byte, op ws.OpCode, n int) []byte {
	b = append(b, 0x80|byte(op))
	switch {
	case n < 126:
		return append(b, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
}

// outgoing is scratch memory of one Send.
type outgoing struct {
	vec  [][]byte
	head []byte
	flat []byte // at most one TLS record
}

// frame returns bufs with a header before each that says op; empty ones are left out, for they are no message.
func (o *outgoing) frame(op ws.OpCode, bufs [][]byte) [][]byte {
	const most = 10
	if need := most * len(bufs); cap(o.head) < need {
		o.head = make([]byte, 0, need)
	}
	vec, head := o.vec[:0], o.head[:0]
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		at := len(head)
		head = appendHeader(head, op, len(b)) // does not grow: it would move the headers before it
		vec = append(vec, head[at:], b)
	}
	o.vec, o.head = vec, head
	return vec
}

// done gives o back, without anything of the caller's in it.
func (o *outgoing) done(owner *owner) {
	clear(o.vec)
	if cap(o.vec) > 1024 {
		o.vec, o.head = nil, nil // one huge batch is no reason to keep the memory
	}
	owner.outgoing.Put(o)
}
