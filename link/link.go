// Package link owns the sockets under a stream: TCP, direct TLS, STARTTLS, WebSocket and the PROXY protocol.
//
// It moves bytes and knows nothing of XMPP. An idle connection holds no buffers: the goroutine in Receive is parked
// until the socket is readable, and takes a buffer from a shared pool only then.
//
// Goroutines. A [Listener], a [WebSocket] or a [Memory] starts one goroutine per connection. It runs the handler and
// belongs to its owner: Shutdown waits for it. Receive parks that goroutine. Input is processed (decrypted, unframed,
// passed to use) on a borrowed stack, a coroutine from a small pool of the owner, so that the stack of a parked
// goroutine stays at its first 2 KiB. Work on the handler's own goroutine, outside of use, should not go deep. Nothing
// else here starts goroutines. An idle connection has no timer unless a read deadline is set.
package link

import (
	"context"
	"crypto/tls"
	"net/netip"
	"strconv"
	"time"
)

// Conn is one connection. Receive is called by one goroutine at a time; Send by one goroutine at a time,
// possibly another one; Close by anyone.
type Conn interface {
	// Receive waits for bytes, without holding a buffer, and calls use with them. On a framed link it calls use once
	// for each whole message. p is only valid during the call. It returns nil after use was called at least once;
	// io.EOF when the peer has closed; os.ErrDeadlineExceeded; or *FrameError when the peer broke the WebSocket
	// protocol. After Close or Abort it returns net.ErrClosed. use may run on another goroutine while Receive waits for
	// it to return, and may call every other method; a panic in it comes out of Receive as a [PanicError].
	Receive(use func(p []byte)) error
	// Send writes all of bufs, in one system call where it can. On a framed link each buf becomes one message.
	// It fails when it cannot be written within the write timeout of the listener.
	Send(bufs [][]byte) error
	// SetReadDeadline bounds every Receive until it is changed; the zero time means no bound.
	SetReadDeadline(t time.Time) error
	// StartTLS makes the link a TLS server after the plain bytes sent so far. It blocks until the handshake is done.
	// It fails on a link that is TLS already or is framed.
	StartTLS(ctx context.Context, config *tls.Config) error
	// TLS returns the connection's TLS state, nil on a plain link. Behind a WebSocket it is that of the HTTPS
	// connection.
	TLS() *tls.ConnectionState
	// LocalCertificate returns the DER bytes of the certificate that this side presented, nil on a plain link (for
	// tls-server-end-point, RFC 5929 §4).
	LocalCertificate() []byte
	// Protocol is the name of what is spoken on the link: the sub-protocol of a WebSocket, what was agreed on by ALPN
	// (RFC 7301), or what the listener was configured with. "" when nobody has named one.
	Protocol() string
	// Framed reports whether it is a WebSocket.
	Framed() bool
	// Remote is the peer's address, as told by the PROXY protocol when a trusted proxy sent one.
	Remote() netip.AddrPort
	// Close closes the socket after an orderly end: TLS close_notify, WebSocket close frame with the given code (1000
	// for 0).
	Close(code int) error
	// Abort closes the socket at once.
	Abort() error
}

// Limiter is implemented by framed connections: their messages are held until they are whole, so they need a bound of
// their own. Connections that are not framed do not implement it usefully: SetMaxMessage does nothing there.
type Limiter interface {
	// SetMaxMessage bounds the bytes of one message from now on, without those that the sub-protocol puts in front; a
	// longer one ends the connection with [FrameError] 1009, when its header is read and before memory is taken for it.
	// It may be called at any time, also inside use; n < 1 means the default (256 KiB).
	SetMaxMessage(n int)
}

// Peeker tells whether bytes have arrived that Receive has not read yet. Before it answers STARTTLS with <proceed/>,
// the server asks this: whatever came before the handshake in the clear must not be taken for protected (RFC 6120
// §5.4.3.3, §5.3.5).
type Peeker interface {
	// Pending reports whether unread bytes are waiting. It is called by the goroutine of Receive, also inside use;
	// there it does not count p.
	Pending() (bool, error)
}

// Relay tells of connections that a proxy has made for somebody else.
type Relay interface {
	// Relayed reports whether the connection comes from a trusted proxy that speaks for another: by the PROXY protocol,
	// or for a WebSocket, by HTTP.
	Relayed() bool
}

// FrameError says that the peer broke the WebSocket protocol, or a limit on it. The connection is of no more use but
// for Close, which sends Code to the peer when it is called with 0.
type FrameError struct {
	Code   int    // close code to answer with, RFC 6455 §7.4.1
	Reason string // for the log; never holds bytes of the peer
}

// Error returns the code and the reason.
func (e *FrameError) Error() string {
	return "websocket: " + e.Reason + " (close code " + strconv.Itoa(e.Code) + ")"
}
