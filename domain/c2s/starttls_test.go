package c2s_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/link"
)

// A connection that has upgraded by STARTTLS, and is idle, keeps its first stack, as one that was TLS from the start.
func TestStartTLSKeepsItsFirstStack(t *testing.T) {
	if raceEnabled {
		return // the race detector makes every frame larger
	}
	const n = 200
	e := newEnv(t, withTLS(t))
	m := link.NewMemory(func(l link.Conn) { e.server.Serve(context.Background(), l) })
	defer func() { require.NoError(t, m.Shutdown(context.Background())) }()
	defer e.close()
	var open []net.Conn
	upgrade := func() {
		conn, err := m.Dial()
		require.NoError(t, err)
		_, err = fmt.Fprint(conn, header)
		require.NoError(t, err)
		readUntil(t, conn, "</stream:features>")
		_, err = fmt.Fprint(conn, starttls)
		require.NoError(t, err)
		readUntil(t, conn, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		require.NoError(t, secure.HandshakeContext(context.Background()))
		_, err = fmt.Fprint(secure, header)
		require.NoError(t, err)
		readUntil(t, secure, "</stream:features>")
		open = append(open, conn)
	}
	defer func() {
		for _, conn := range open {
			_ = conn.Close()
		}
	}()
	stacks := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.GC() // stacks have been shrunk by now
		runtime.ReadMemStats(&s)
		return s.StackInuse
	}
	upgrade()
	before := stacks()
	for range n {
		upgrade()
	}
	require.Less(t, (stacks()-before)/n, uint64(3<<10), "the stack of a parked goroutine has grown")
}
