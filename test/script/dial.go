package script

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

func (c *Client) dial(ctx context.Context, at Endpoints, how Transport) error {
	if err := c.dialLink(ctx, at, how); err != nil {
		return err
	}
	if how != CompactTCP && how != CompactTLS && how != CompactWebSocket {
		return nil
	}
	var err error
	c.compact, err = newCompact(c.conn, c.ws)
	return err
}

func (c *Client) dialLink(ctx context.Context, at Endpoints, how Transport) (err error) {
	address := at.XMPP
	switch how {
	case DirectTLS:
		c.conn, err = c.dialTLS(ctx, at.XMPPTLS, "xmpp-client")
		return err
	case CompactTLS:
		c.conn, err = c.dialTLS(ctx, at.XMPPTLS, compactName)
		return err
	case WebSocket:
		return c.dialWebSocket(ctx, at, "xmpp")
	case CompactWebSocket:
		return c.dialWebSocket(ctx, at, compactName)
	case CompactTCP:
		address = at.Compact
	}
	var d net.Dialer
	c.conn, err = d.DialContext(ctx, "tcp", address)
	return err
}

func (c *Client) dialTLS(ctx context.Context, address, protocol string) (net.Conn, error) {
	conn, err := (&tls.Dialer{Config: c.tlsConfig(protocol)}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if got := conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != protocol {
		conn.Close()
		return nil, fmt.Errorf("ALPN chose %q, not %q", got, protocol)
	}
	return conn, nil
}

func (c *Client) dialWebSocket(ctx context.Context, at Endpoints, protocol string) error {
	conn, reader, chosen, err := ws.Dialer{Protocols: []string{protocol}}.Dial(ctx, "ws://"+at.HTTP+"/xmpp-websocket")
	if err != nil {
		return err
	}
	if chosen.Protocol != protocol {
		conn.Close()
		return fmt.Errorf("the WebSocket speaks %q, not %q", chosen.Protocol, protocol)
	}
	c.conn = conn
	c.ws = &wsStream{conn: conn}
	if reader != nil {
		c.ws.early = reader
	}
	return nil
}

func (c *Client) tlsConfig(protocol string) *tls.Config {
	return &tls.Config{ServerName: c.Domain, InsecureSkipVerify: true, NextProtos: []string{protocol}}
}

// wsStream reads the messages of a WebSocket.
type wsStream struct {
	conn  net.Conn
	early io.Reader // bytes that came with the handshake's answer
}

func (s *wsStream) Read(p []byte) (int, error) {
	if s.early != nil {
		n, err := s.early.Read(p)
		if n > 0 {
			return n, nil
		}
		s.early = nil
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
	}
	return s.conn.Read(p)
}

func (s *wsStream) Write(p []byte) (int, error) { return s.conn.Write(p) }

func (s *wsStream) read() (string, error) {
	data, err := s.message(ws.OpText)
	if err == nil && strings.HasPrefix(string(data), "<close ") {
		return "", io.EOF
	}
	return string(data), err
}

// message reads a message of that kind; there must be no other.
func (s *wsStream) message(kind ws.OpCode) ([]byte, error) {
	data, op, err := wsutil.ReadServerData(s)
	if err == nil && op != kind {
		err = fmt.Errorf("a message of kind %d", op)
	}
	return data, err
}
