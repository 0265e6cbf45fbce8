package durability

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

// inbox is what one recipient received without asking for history. It belongs to the recipient's goroutine.
type inbox struct {
	// streams holds what came on each stream. A resumed stream goes on.
	streams []received
	// crashes is how often the node has crashed. What came before a crash may come again after it.
	crashes int
}

// received is what came on one stream.
type received struct {
	entries []entry
	crashes int // as it was in the inbox
}

// open begins a stream.
func (b *inbox) open() { b.streams = append(b.streams, received{crashes: b.crashes}) }

// take notes a message and returns its body, "" when it has none.
func (b *inbox) take(n *script.Element) string {
	body, id := n.Child("jabber:client", "body"), n.Child(nsSID, "stanza-id")
	if n.Name.Local != "message" || body == nil {
		return ""
	}
	e := entry{body: body.Text}
	if id != nil {
		e.id = id.Attr("id")
	}
	last := &b.streams[len(b.streams)-1]
	last.entries = append(last.entries, e)
	return e.body
}

// judge compares what was received with the history, and with what was acknowledged to the sender.
func (b *inbox) judge(p *pair, bad func(format string, args ...any)) {
	place := map[entry]int{}
	for i, m := range p.known {
		place[m] = i + 1
	}
	have := map[string]int{} // after how many crashes it came last, and one more
	for _, stream := range b.streams {
		last := 0
		for _, m := range stream.entries {
			at := place[m]
			switch {
			case at == 0:
				bad("%s came with the stanza-id %q, which is not in the history", m.body, m.id)
			case at <= last:
				bad("%s came after the message at place %d of the history, on one stream", m.body, last)
			}
			last = max(last, at)
			if have[m.body] == stream.crashes+1 {
				bad("%s came twice without a crash between", m.body)
			}
			have[m.body] = stream.crashes + 1
		}
	}
	lost, of := 0, 0
	promised := p.promised()
	for _, m := range p.known { // which has all that was promised, and not what the look into it has sent
		if promised[m.body] {
			if of++; have[m.body] == 0 {
				lost++
			}
		}
	}
	if lost > 0 {
		bad("%d of %d acknowledged messages never came", lost, of)
	}
}

// repeats is how many messages came more than once.
func (b *inbox) repeats() int {
	seen := map[string]int{}
	for _, stream := range b.streams {
		for _, m := range stream.entries {
			seen[m.body]++
		}
	}
	return len(slices.DeleteFunc(slices.Collect(maps.Values(seen)), func(n int) bool { return n < 2 }))
}

// recipient is the other half of a pair, reading its inbox.
type recipient struct {
	load  *load
	pair  *pair
	inbox inbox
	// managed: the recipient acknowledges what it receives (XEP-0198). Otherwise what was written to the socket counts
	// as received.
	managed bool
	// stream names the stream to resume; handled is how many stanzas of it were received.
	stream  string
	handled uint32
}

// take notes what came and returns the body of a message, "" for anything else.
func (r *recipient) take(n *script.Element) string {
	switch n.Name.Local {
	case "message", "presence", "iq":
		r.handled++
	}
	return r.inbox.take(n)
}

// crash kills the node.
func crash(t *testing.T, p *process, people []*recipient) {
	t.Helper()
	p.kill()
	p.killed(t)
	for _, r := range people {
		r.inbox.crashes++
	}
}

// stop ends the node in order.
func stop(t *testing.T, p *process) {
	t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	require.Zero(t, p.wait(t), "%s", p.log)
}

// recipients makes one for every pair, every other one with stream management.
func recipients(l *load) (all []*recipient) {
	for i, p := range l.pairs {
		all = append(all, &recipient{load: l, pair: p, managed: i%2 == 0})
	}
	return all
}

// enter logs in anew and becomes available.
func (r *recipient) enter(ctx context.Context) (*script.Client, error) {
	a, err := r.load.server.connect(ctx, r.pair.recipient())
	if err != nil {
		return nil, err
	}
	r.inbox.open()
	if r.managed {
		n := enable(a)
		if n == nil {
			a.Cut()
			return nil, fmt.Errorf("%s: stream management was not enabled", a.Name)
		}
		r.stream, r.handled = n.Attr("id"), 0
	}
	if err := a.Write("<presence/>"); err != nil {
		a.Cut()
		return nil, err
	}
	return a, nil
}

// drop cuts the connection and notes what had come in.
func (r *recipient) drop(a *script.Client) {
	for _, n := range a.Break() {
		r.take(n)
	}
}

// readTo reads until a message with that body has come.
func (r *recipient) readTo(a *script.Client, body string) error {
	for {
		n, err := a.Next()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", body, err)
		}
		if r.take(n) == body {
			return nil
		}
	}
}

// mark has the sender send one more message, which comes after everything else.
func (l *load) mark(ctx context.Context, p *pair, body string) error {
	a, err := l.server.connect(ctx, p.sender())
	if err != nil {
		return err
	}
	defer a.Cut()
	if err := confirm(a); err != nil {
		return err
	}
	var bodies []string
	if p.again { // first what is still open, so that its order is kept
		bodies = append(bodies, p.unacknowledged()...)
	}
	p.sent = append(p.sent, body)
	_, err = p.sendAll(a, append(bodies, body))
	return err
}

// each runs f for every element at the same time and returns the first error.
func each[T any](all []T, f func(T) error) error {
	errs := make([]error, len(all))
	var running sync.WaitGroup
	for i, v := range all {
		running.Go(func() { errs[i] = f(v) })
	}
	running.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
