// Package flakyproxy is a TCP proxy that tests put between a client and a node, to break the connection between them.
//
// A Proxy has one goroutine that accepts and two for each connection; they end with the test.
package flakyproxy

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Proxy relays connections to a node until it is told to break them. Its methods may be called from any goroutine.
type Proxy struct {
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	target  string
	conns   map[*net.TCPConn]struct{} // both ends of each connection
	up      chan struct{}             // closed unless the network is down
	limited bool
	left    int // bytes from the node that are still relayed, when limited
	breaks  int
	closed  bool
}

// New starts a proxy to an address (host:port), on a free port of its own. It ends with the test.
func New(t *testing.T, target string) *Proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &Proxy{target: target, listener: listener, conns: map[*net.TCPConn]struct{}{}, up: make(chan struct{})}
	close(p.up)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.Down()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.Up()
		p.running.Wait()
	})
	return p
}

// Addr returns the address (host:port) that clients connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// SetTarget makes new connections go to another address.
func (p *Proxy) SetTarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// BreakAfter breaks one connection, without resetting it, when the node has sent so many bytes more, over whichever
// connections: the node has received what the client sent, and the client does not receive the answer.
func (p *Proxy) BreakAfter(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limited, p.left = true, bytes
}

// Breaks returns how many connections BreakAfter has broken.
func (p *Proxy) Breaks() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.breaks
}

// Down resets all connections. New ones are accepted, but nothing is relayed before Up. It may be called again after
// Up.
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		conn.SetLinger(0)
		conn.Close()
	}
	clear(p.conns)
	select {
	case <-p.up:
		p.up = make(chan struct{})
	default:
	}
}

// Up relays again after Down, also for the connections that were accepted in between.
func (p *Proxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.up)
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.relay(conn.(*net.TCPConn)) })
	}
}

// wait waits until the network is up, and returns the target.
func (p *Proxy) wait() string {
	p.mu.Lock()
	up := p.up
	p.mu.Unlock()
	<-up
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

// add makes both ends of a connection known to Down. It reports false when the proxy has ended.
func (p *Proxy) add(near, far *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.conns[near], p.conns[far] = struct{}{}, struct{}{}
	return true
}

func (p *Proxy) remove(near, far *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, near)
	delete(p.conns, far)
}

// relay relays a connection from a client until one of both ends closes it, or until it breaks.
func (p *Proxy) relay(near *net.TCPConn) {
	defer near.Close()
	conn, err := net.Dial("tcp", p.wait())
	if err != nil {
		return
	}
	far := conn.(*net.TCPConn)
	defer far.Close()
	if !p.add(near, far) {
		return
	}
	defer p.remove(near, far)
	p.running.Go(func() {
		io.Copy(far, near)
		far.CloseWrite()
	})
	buf := make([]byte, 4096)
	for {
		n, err := far.Read(buf)
		n, broken := p.pass(n)
		if _, werr := near.Write(buf[:n]); werr != nil || err != nil || broken {
			return
		}
	}
}

// pass returns how many of n bytes from the node are relayed, and whether the connection breaks after them.
func (p *Proxy) pass(n int) (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.limited {
		return n, false
	}
	if n <= p.left {
		p.left -= n
		return n, false
	}
	p.limited = false
	p.breaks++
	return p.left, true
}
