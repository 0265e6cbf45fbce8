package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
)

// Protocol names the compact stream, as ALPN and as a sub-protocol of WebSocket (docs/protocol/compact.md).
const Protocol = "posthouse-compact-1"

// writeTimeout bounds how long the server may refuse to take what is sent.
const writeTimeout = 30 * time.Second

// maxFrame is the largest frame that is taken from a server: more than any stanza, with what a copy or an archive wraps
// around it.
const maxFrame = 1 << 20

// answers are the limits on what is taken from a server. They are wider than those on what clients say: a page of a
// sync is one stanza of many messages, each within those.
var answers = stream.Limits{Bytes: maxFrame, Depth: 128, Elements: 100_000, Attributes: 128, Namespaces: 128, Name: 512}

// Conn is a compact stream on one connection, without a memory: it neither reconnects nor resumes. Most programs want a
// Client; a Conn is for those that count every byte.
//
// One goroutine reads (Next, Frame); any may write.
type Conn struct {
	raw     net.Conn
	framed  *frames // nil unless a WebSocket
	decoder *pbstream.Decoder
	codec   pbstream.Codec
	buf     []byte // what was read
	start   int    // the first byte not handed out

	// pinged is called for a ping instead of answering it; nil answers.
	pinged func()

	read, written atomic.Int64
	lastRead      atomic.Int64 // Unix nanoseconds

	writing sync.Mutex // guards writes to raw
}

// Connect opens a connection; nothing is said on it. The address is that of Config.Address. A nil configuration is that
// of crypto/tls, with the host's name of the address.
func Connect(ctx context.Context, address string, config *tls.Config) (*Conn, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf(
			"the address %q is not of the form tls://host:port, tcp://host:port, wss://host:port/path or "+
				"ws://host:port/path", address)
	}
	c := &Conn{decoder: pbstream.NewDecoder(answers)}
	dialer := net.Dialer{KeepAlive: -1} // the stream has a keep-alive of its own
	switch u.Scheme {
	case "tcp":
		c.raw, err = dialer.DialContext(ctx, "tcp", u.Host)
	case "tls":
		c.raw, err = (&tls.Dialer{NetDialer: &dialer, Config: forProtocol(config, u.Hostname())}).DialContext(ctx,
			"tcp", u.Host)
	case "ws", "wss":
		err = c.upgrade(ctx, &dialer, address, config)
	default:
		return nil, fmt.Errorf("the scheme %q is not known; use tls, tcp, wss or ws", u.Scheme)
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", address, err)
	}
	if t, ok := c.raw.(*tls.Conn); ok && u.Scheme == "tls" && t.ConnectionState().NegotiatedProtocol != Protocol {
		c.raw.Close()
		return nil, fmt.Errorf("connecting to %s: the server does not speak %s", address, Protocol)
	}
	c.lastRead.Store(time.Now().UnixNano())
	return c, nil
}

// forProtocol returns a configuration that asks for the compact stream (RFC 7301).
func forProtocol(config *tls.Config, host string) *tls.Config {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if config != nil {
		out = config.Clone()
	}
	out.NextProtos = []string{Protocol}
	if out.ServerName == "" {
		out.ServerName = host
	}
	return out
}

func (c *Conn) upgrade(ctx context.Context, dialer *net.Dialer, address string, config *tls.Config) error {
	up := ws.Dialer{Protocols: []string{Protocol}, NetDial: dialer.DialContext, TLSConfig: config}
	conn, early, shake, err := up.Dial(ctx, address)
	if err != nil {
		return err
	}
	if shake.Protocol != Protocol {
		conn.Close()
		return fmt.Errorf("the server does not speak %s", Protocol)
	}
	c.raw, c.framed = conn, &frames{in: conn}
	if early != nil { // something came along with the answer
		c.framed.in = early
	}
	return nil
}

// TLS returns the state of the connection, nil when it is not encrypted.
func (c *Conn) TLS() *tls.ConnectionState {
	t, ok := c.raw.(*tls.Conn)
	if !ok {
		return nil
	}
	state := t.ConnectionState()
	return &state
}

// Traffic returns how many bytes of frames have been read and written, without what TLS and WebSocket add.
func (c *Conn) Traffic() (read, written int64) { return c.read.Load(), c.written.Load() }

// Close closes the connection at once. It may be called by anyone, more than once.
func (c *Conn) Close() error { return c.raw.Close() }

// SetReadDeadline bounds what Next and Frame wait for; the zero time for no bound. When it has passed, the connection
// is of no more use.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// Write writes whole frames, as AppendStanza and its siblings of pbstream.Codec make them, in one go. It waits for at
// most half a minute; after an error the connection is of no more use.
func (c *Conn) Write(all []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	out := all
	if c.framed != nil {
		var err error
		if out, err = frameEach(all); err != nil {
			return 0, err
		}
	}
	if err := c.raw.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	if _, err := c.raw.Write(out); err != nil {
		return 0, err
	}
	c.written.Add(int64(len(all)))
	return len(all), nil
}

// Say writes top-level elements.
func (c *Conn) Say(elements ...stanza.Element) error {
	var b []byte
	for i := range elements {
		b = c.codec.AppendElement(b, &elements[i])
	}
	_, err := c.Write(b)
	return err
}

// SayStanza writes a stanza.
func (c *Conn) SayStanza(s *stanza.Stanza) error {
	_, err := c.Write(c.codec.AppendStanza(nil, s))
	return err
}

// Next returns the next thing that the server says. Pings are answered and passed over. A stream error is returned as a
// *stream.Error, the server's end of the stream as io.EOF.
func (c *Conn) Next() (stream.Item, error) {
	for {
		frame, err := c.Frame()
		if err != nil {
			return stream.Item{}, err
		}
		c.decoder.Feed(frame)
		item, err := c.decoder.Next()
		if err != nil {
			return stream.Item{}, fmt.Errorf("the server sent what is no compact stream: %w", err)
		}
		switch {
		case item.Kind == stream.Keepalive:
			switch {
			case c.decoder.Pings() == 0:
			case c.pinged != nil:
				c.pinged()
			default:
				if _, err := c.Write(c.codec.AppendPong(nil)); err != nil {
					return stream.Item{}, err
				}
			}
			continue
		case item.Kind == stream.Close:
			return item, io.EOF
		case item.Kind == stream.Element && item.Element.Space == stanza.NSStream && item.Element.Local == "error":
			return item, streamError(item.Element)
		}
		return item, nil
	}
}

// streamError reads a stream error (RFC 6120 §4.9.2).
func streamError(e *stanza.Element) *stream.Error {
	out := &stream.Error{Condition: stream.UndefinedCondition}
	for child := range e.Elements {
		switch {
		case child.Space == stream.NSErrors && child.Local == "text":
			out.Text = child.Text()
		case child.Space == stream.NSErrors:
			out.Condition = stream.Condition(child.Local)
		default:
			out.App = child
		}
	}
	return out
}

// Frame returns the next frame as it came, with its length in front; it is valid until the next call of Frame or Next.
// Whoever uses it takes over from Next: pings are not answered.
func (c *Conn) Frame() ([]byte, error) {
	for {
		size, err := frameSize(c.buf[c.start:])
		if err != nil {
			return nil, err
		}
		if size > 0 && len(c.buf)-c.start >= size {
			f := c.buf[c.start : c.start+size]
			c.start += size
			return f, nil
		}
		if err := c.fill(size); err != nil {
			return nil, err
		}
	}
}

// readSize is how much is read at a time.
const readSize = 4 << 10

// fill reads more. size is what the frame in the buffer needs, 0 when that is not known. A buffer that holds nothing is
// given back while it is not known that there is something to read, so that idle connections are small.
func (c *Conn) fill(size int) error {
	c.buf = append(c.buf[:0], c.buf[c.start:]...)
	c.start = 0
	if len(c.buf) == 0 && cap(c.buf) > 2*readSize {
		c.buf = nil
	}
	if room := max(size-len(c.buf), readSize); cap(c.buf)-len(c.buf) < min(room, readSize) || cap(c.buf) < size {
		c.buf = append(make([]byte, 0, len(c.buf)+room), c.buf...)
	}
	var from io.Reader = c.raw
	if c.framed != nil {
		from = c.framed
		c.framed.pong = c.pong
	}
	n, err := from.Read(c.buf[len(c.buf):cap(c.buf)])
	if n > 0 {
		c.buf = c.buf[:len(c.buf)+n]
		c.read.Add(int64(n))
		c.lastRead.Store(time.Now().UnixNano())
		return nil
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF // the end of a stream is said before
	}
	return err
}

// pong answers a ping of the WebSocket protocol (RFC 6455 §5.5.3).
func (c *Conn) pong(payload []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return ws.WriteFrame(c.raw, ws.MaskFrameInPlace(ws.NewPongFrame(payload)))
}

// frameSize returns how long the frame at the beginning of b is with its length, 0 when that cannot be told yet.
func frameSize(b []byte) (int, error) {
	n := 0
	for i, x := range b {
		if i > 4 {
			break
		}
		n |= int(x&0x7f) << (7 * i)
		if x < 0x80 {
			if n == 0 || n > maxFrame {
				return 0, fmt.Errorf("the server sent a frame of %d bytes", n)
			}
			return i + 1 + n, nil
		}
	}
	if len(b) > 4 {
		return 0, errors.New("the server sent a frame without end")
	}
	return 0, nil
}

// frames takes the frames of a WebSocket off what they carry (RFC 6455 §5).
type frames struct {
	in   io.Reader
	left int64 // of the current frame
	pong func([]byte) error
}

func (f *frames) Read(p []byte) (int, error) {
	for f.left == 0 {
		if err := f.head(); err != nil {
			return 0, err
		}
	}
	n, err := f.in.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	return n, err
}

// head reads the head of the next frame, and answers those that are about the connection.
func (f *frames) head() error {
	h, err := ws.ReadHeader(f.in)
	if err != nil {
		return err
	}
	switch {
	case h.Masked || h.Length > maxFrame || h.OpCode == ws.OpText: // §5.1
		return errors.New("the server sent a WebSocket frame that is not ours")
	case !h.OpCode.IsControl():
		f.left = h.Length
		return nil
	case h.Length > ws.MaxControlFramePayloadSize:
		return ws.ErrProtocolControlPayloadOverflow
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(f.in, payload); err != nil {
		return err
	}
	switch h.OpCode {
	case ws.OpClose:
		return io.EOF
	case ws.OpPing:
		return f.pong(payload)
	}
	return nil
}

// frameEach puts each frame of the stream in a WebSocket frame of its own.
func frameEach(all []byte) ([]byte, error) {
	out := make([]byte, 0, len(all)+16)
	for len(all) > 0 {
		size, err := frameSize(all)
		if err != nil || size == 0 || size > len(all) {
			return nil, errors.New("what is written must be whole frames")
		}
		one, err := ws.CompileFrame(ws.MaskFrame(ws.NewBinaryFrame(all[:size])))
		if err != nil {
			return nil, err
		}
		out, all = append(out, one...), all[size:]
	}
	return out, nil
}
