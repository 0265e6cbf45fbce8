// Package link owns the sockets under a stream: TCP, direct TLS, STARTTLS, WebSocket and the PROXY protocol.
//
// It moves bytes and knows nothing of XMPP. An idle connection holds no buffers: the goroutine in Receive is parked
// on readability and takes a buffer from a shared pool only when there is something to read.
package link

import (
	"context"
	"crypto/tls"
	"net/netip"
	"time"
)

// Conn is one connection. Receive is called by one goroutine at a time; Send by one goroutine at a time,
// possibly another one; Close by anyone.
type Conn interface {
	// Receive waits for bytes, without holding a buffer, and calls use with them. On a framed link it calls use once for each
	// whole text message. p is only valid during the call. It returns nil after use was called at least once; io.EOF when the peer has closed;
	// os.ErrDeadlineExceeded; or *FrameError when the peer broke the WebSocket protocol.
	Receive(use func(p []byte)) error
	// Send writes all of bufs, in one system call where it can. On a framed link each buf becomes one text message.
	// It fails when it cannot be written within the write timeout of the listener.
	Send(bufs [][]byte) error
	// SetReadDeadline bounds every Receive until it is changed; the zero time means no bound.
	SetReadDeadline(t time.Time) error
	// StartTLS makes the link a TLS server after the plain bytes sent so far. It blocks until the handshake is done.
	// It fails on a link that is TLS already or is framed.
	StartTLS(ctx context.Context, config *tls.Config) error
	// TLS returns the connection's TLS state, nil on a plain link. Behind a WebSocket it is that of the HTTPS connection.
	TLS() *tls.ConnectionState
	// LocalCertificate returns the DER bytes of the certificate that this side presented, nil on a plain link (for tls-server-end-point, RFC 5929 §4).
	LocalCertificate() []byte
	// Framed reports whether it is a WebSocket.
	Framed() bool
	// Remote is the peer's address, as told by the PROXY protocol when a trusted proxy sent one.
	Remote() netip.AddrPort
	// Close closes the socket after an orderly end: TLS close_notify, WebSocket close frame with the given code (1000 for 0).
	Close(code int) error
	// Abort closes the socket at once.
	Abort() error
}
