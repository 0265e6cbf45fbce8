package router

import (
	"context"
	"runtime"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// IQHandler answers an IQ request that reached the server or an account of this domain. account is the identity of
// the requester, 0 when it is not an account of this domain. It returns the payload of the result, or a refusal.
// It runs on the requester's goroutine and may take as long as the requester can be made to wait.
type IQHandler func(ctx context.Context, account uint64, iq *stanza.Stanza) ([]stanza.Element, *stanza.Error)

// Target says whom an IQ request addresses.
type Target uint8

// The targets of an IQ route.
const (
	// ToServer: the domain itself.
	ToServer Target = 1 << iota
	// ToOwnAccount: the requester's own bare address, or no address at all (RFC 6120 §10.3.3).
	ToOwnAccount
	// ToOtherAccount: the bare address of another account of this domain.
	ToOtherAccount
)

// IQRoute is one line of the table that says who answers which request. The table is one visible list.
type IQRoute struct {
	// Target is a set: where the request must be addressed.
	Target Target
	// Type is get or set; "" means both.
	Type string
	// Space and Local name the payload element.
	Space, Local string
	// Feature is announced in service discovery (XEP-0030 §3) by the targets; "" announces Space, "-" nothing.
	Feature string
	Handle  IQHandler
}

// stack returns the running goroutine's stack, cut to a size that a log line can carry.
func stack() string {
	buf := make([]byte, 8<<10)
	return string(buf[:runtime.Stack(buf, false)])
}
