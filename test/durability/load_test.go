package durability

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posthouse-im/posthouse/test/script"
)

const (
	nsSM      = "urn:xmpp:sm:3"
	nsConfirm = "urn:posthouse:confirm:1"
	nsSID     = "urn:xmpp:sid:0"
	nsStreams = "http://etherx.jabber.org/streams"
)

// load is what was asked of the node and what it acknowledged, over all rounds.
type load struct {
	server *server
	pairs  []*pair
	// burst is how many messages a sender writes before it asks for an acknowledgement.
	burst int
	total atomic.Int64 // acknowledged in this round
	conns atomic.Int64 // connections that carried the load in this round
	told  atomic.Int64 // how many of them ended with <system-shutdown/>
}

// pair is two people, of whom the first writes to the second. It belongs to the first one's goroutine.
type pair struct {
	number int
	// online: the recipient is there during the load.
	online bool
	// again: the sender gives each message an origin-id, asks for confirmations, and after a crash sends again what was
	// not acknowledged.
	again bool

	sent  []string // bodies, in order; each is "round.number"
	acked []string // those acknowledged, in order
	// receipts is what the server confirmed, by body.
	receipts map[string]receipt
	repeated int // how many messages that were stored before the crash were sent again after it

	known []entry // what was found in both histories after the last round
}

// receipt is what the server said about a message that it had stored.
type receipt struct {
	id        string // stanza-id
	number    int
	duplicate bool
}

func (p *pair) sender() int    { return 2 * p.number }
func (p *pair) recipient() int { return 2*p.number + 1 }

// newLoad makes pairs of every kind.
func newLoad(s *server, pairs int) *load {
	l := &load{server: s, burst: 8}
	for i := range pairs {
		l.pairs = append(l.pairs, &pair{number: i, online: i%2 == 0, again: i/2%2 == 0, receipts: map[string]receipt{}})
	}
	return l
}

// round sends until every connection has ended, and calls enough once, when so many messages were acknowledged.
func (l *load) round(ctx context.Context, number, stop int, enough func()) {
	l.total.Store(0)
	l.told.Store(0)
	l.conns.Store(0)
	var once sync.Once
	var all sync.WaitGroup
	for _, p := range l.pairs {
		all.Go(func() {
			if p.online {
				if to, err := l.server.connect(ctx, p.recipient()); err == nil {
					all.Go(func() { l.listen(to) })
				}
			}
			l.send(ctx, p, number, func() {
				if l.total.Load() >= int64(stop) {
					once.Do(enough)
				}
			})
		})
	}
	all.Wait()
	once.Do(enough)
}

// after returns a function that waits for a random moment and then does f, so that the end comes not always right after
// an answer.
func after(most time.Duration, f func()) func() {
	return func() {
		<-time.After(rand.N(most))
		f()
	}
}

// listen reads what comes to a recipient until the connection ends.
func (l *load) listen(a *script.Client) {
	defer a.Cut()
	if a.Write("<presence/>") != nil {
		return
	}
	l.conns.Add(1)
	for {
		n, err := a.Next()
		if err != nil {
			return
		}
		l.heard(n)
	}
}

// heard notes a stream error that tells that the server stops.
func (l *load) heard(n *script.Element) {
	if n.Name.Space == nsStreams && n.Name.Local == "error" &&
		n.Child("urn:ietf:params:xml:ns:xmpp-streams", "system-shutdown") != nil {
		l.told.Add(1)
	}
}

// window is how many times the burst a sender has on its way at most.
const window = 4

// sending is one stream of a sender.
type sending struct {
	load   *load
	pair   *pair
	round  int
	client *script.Client
	// queue is what is to be sent before anything new.
	queue []string
	// stream holds the bodies sent since stream management was enabled, of which the first acked are acknowledged.
	stream []string
	acked  int
	next   int // number of the next new message of the round
}

// send writes for one pair until its connection ends.
func (l *load) send(ctx context.Context, p *pair, round int, progress func()) {
	a, err := l.server.connect(ctx, p.sender())
	if err != nil {
		return
	}
	defer a.Cut()
	s := &sending{load: l, pair: p, round: round, client: a, next: 1}
	if p.again {
		s.queue = slices.Clone(p.unacknowledged())
		if confirm(a) != nil {
			return
		}
	}
	if enable(a) == nil {
		return
	}
	l.conns.Add(1)
	for s.step() == nil {
		progress()
	}
}

// confirm asks for confirmations.
func confirm(a *script.Client) error {
	_, _, err := a.Request("confirm", "<iq type='set' id='confirm'><enable xmlns='"+nsConfirm+"'/></iq>")
	return err
}

// enable turns on stream management that can be resumed and returns the answer, nil when the connection has ended.
func enable(a *script.Client) *script.Element {
	if a.Write("<enable xmlns='"+nsSM+"' resume='true'/>") != nil {
		return nil
	}
	n, _, err := a.Until(func(n *script.Element) bool { return n.Name.Space == nsSM })
	if err != nil || n.Name.Local != "enabled" {
		return nil
	}
	return n
}

// step writes as much as the window lets through and takes one answer. It returns an error when the connection has
// ended.
func (s *sending) step() error {
	for len(s.stream)-s.acked <= (window-1)*s.load.burst {
		if s.write(s.load.burst) != nil {
			break // what was answered before the end still counts
		}
	}
	n, err := s.client.Next()
	if err != nil {
		return err
	}
	s.take(n)
	return nil
}

// write sends so many messages and asks for an acknowledgement.
func (s *sending) write(count int) error {
	var text strings.Builder
	for range count {
		var body string
		if len(s.queue) > 0 {
			body, s.queue = s.queue[0], s.queue[1:]
		} else {
			body = fmt.Sprintf("%d.%d", s.round, s.next)
			s.next++
			s.pair.sent = append(s.pair.sent, body)
		}
		s.stream = append(s.stream, body)
		text.WriteString(s.pair.message(body))
	}
	text.WriteString("<r xmlns='" + nsSM + "'/>")
	return s.client.Write(text.String())
}

// message is a message as it is sent, each time the same.
func (p *pair) message(body string) string {
	origin := ""
	if p.again {
		origin = fmt.Sprintf("<origin-id xmlns='%s' id='%d/%s'/>", nsSID, p.number, body)
	}
	return fmt.Sprintf("<message to='%s@localhost' type='chat' id='%s'><body>%s</body>%s</message>",
		user(p.recipient()), body, body, origin)
}

// take notes what the server said.
func (s *sending) take(n *script.Element) {
	switch {
	case n.Name.Space == nsSM && n.Name.Local == "a":
		h, err := strconv.Atoi(n.Attr("h"))
		if err != nil {
			panic(fmt.Sprintf("an acknowledgement without a number: %v", n))
		}
		s.acknowledged(h)
	case n.Child(nsConfirm, "confirmed") != nil:
		s.pair.confirmed(n.Child(nsConfirm, "confirmed"))
	default:
		s.load.heard(n)
	}
}

// acknowledged notes that the server has handled h messages of the stream.
func (s *sending) acknowledged(h int) {
	if h > len(s.stream) || h < s.acked {
		panic(fmt.Sprintf("%d acknowledged of %d sent, %d before", h, len(s.stream), s.acked))
	}
	s.pair.acked = append(s.pair.acked, s.stream[s.acked:h]...)
	s.load.total.Add(int64(h - s.acked))
	s.acked = h
}

// confirmed notes a confirmation, which is an acknowledgement too.
func (p *pair) confirmed(c *script.Element) receipt {
	number, _ := strconv.Atoi(c.Attr("number"))
	r := receipt{id: c.Attr("stanza-id"), number: number, duplicate: c.Attr("duplicate") == "true"}
	p.receipts[c.Attr("id")] = r
	return r
}

// promised returns the bodies of all that was acknowledged in either way.
func (p *pair) promised() map[string]bool {
	all := map[string]bool{}
	for _, body := range p.acked {
		all[body] = true
	}
	for body := range maps.Keys(p.receipts) {
		all[body] = true
	}
	return all
}

// unacknowledged returns what a sender with origin-ids is to send again: it acknowledges in order over all rounds.
func (p *pair) unacknowledged() []string { return p.sent[len(p.acked):] }
