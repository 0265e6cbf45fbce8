package link

import (
	"context"
	"errors"
	"runtime"

	"github.com/posthouse-im/posthouse/limit"
)

// errBusy says that too many handshakes wait for a processor already.
var errBusy = errors.New("too many TLS handshakes waiting")

// NewGate returns a gate that bounds how many TLS handshakes are computed at the same time, to twice the processors, so
// that a flood of them leaves the processors to the connections that are established. 512 may wait; others fail at
// once. A handshake passes it only while it computes, never while it waits for the peer, so that silent peers do not
// shut others out. It may be shared by several listeners.
func NewGate() *limit.Gate { return limit.NewGate(2*runtime.GOMAXPROCS(0), 512) }

// enterGate waits for a place to compute a handshake at, for as long as a handshake may take.
func (o *owner) enterGate() error {
	ctx, cancel := context.WithTimeout(context.Background(), o.handshakeTimeout)
	defer cancel()
	if o.gate.Enter(ctx) != nil {
		return errBusy
	}
	return nil
}
