package durability

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/posthouse-im/posthouse/test/play"
)

// load is what was asked of the node and what it acknowledged, over all rounds. Pair i is the people 2i and 2i+1;
// the first of them writes to the second.
type load struct {
	house *house
	pairs int
	// acked holds, for each pair, every body that the node acknowledged, in order.
	acked [][]string
	total atomic.Int64 // acknowledged in this round
}

func newLoad(h *house, pairs int) *load {
	return &load{house: h, pairs: pairs, acked: make([][]string, pairs)}
}

// round sends until every connection has ended, and calls enough once, when so many were acknowledged.
func (l *load) round(ctx context.Context, number, stop int, enough func()) {
	l.total.Store(0)
	var once sync.Once
	var all sync.WaitGroup
	for i := range l.pairs {
		all.Go(func() {
			if i%2 == 0 { // every other recipient is online
				if to, err := l.house.connect(ctx, 2*i+1); err == nil {
					defer to.Cut()
					if to.Write("<presence/>") == nil {
						all.Go(func() {
							for {
								if _, err := to.Next(); err != nil {
									return
								}
							}
						})
					}
				}
			}
			l.send(ctx, i, number, func() {
				if l.total.Load() >= int64(stop) {
					once.Do(enough)
				}
			})
		})
	}
	all.Wait()
	once.Do(enough)
}

// burst is how many messages a sender writes before it asks for an acknowledgement.
const burst = 8

// send writes for one pair until its connection ends.
func (l *load) send(ctx context.Context, pair, round int, progress func()) {
	a, err := l.house.connect(ctx, 2*pair)
	if err != nil {
		return
	}
	defer a.Cut()
	if a.Write("<enable xmlns='urn:xmpp:sm:3'/>") != nil {
		return
	}
	if _, _, err := a.Until(func(n *play.Node) bool { return n.Name.Local == "enabled" }); err != nil {
		return
	}
	var sent []string
	acked := 0
	for {
		var text strings.Builder
		for range burst {
			body := fmt.Sprintf("%d.%d", round, len(sent)+1)
			sent = append(sent, body)
			fmt.Fprintf(&text, "<message to='%s@localhost' type='chat' id='%s'><body>%s</body></message>", user(2*pair+1), body, body)
		}
		text.WriteString("<r xmlns='urn:xmpp:sm:3'/>")
		if a.Write(text.String()) != nil {
			// What was answered before the end still counts.
			for {
				n, err := a.Next()
				if err != nil {
					return
				}
				acked = l.count(pair, n, sent, acked)
			}
		}
		for acked < len(sent) {
			n, err := a.Next()
			if err != nil {
				return
			}
			acked = l.count(pair, n, sent, acked)
		}
		progress()
	}
}

// count notes what an <a/> acknowledges.
func (l *load) count(pair int, n *play.Node, sent []string, acked int) int {
	if n.Name.Local != "a" {
		return acked
	}
	h, err := strconv.Atoi(n.Attr("h"))
	if err != nil || h > len(sent) || h < acked {
		panic(fmt.Sprintf("acknowledgement %v of %d sent, %d acknowledged before", n, len(sent), acked))
	}
	l.acked[pair] = append(l.acked[pair], sent[acked:h]...)
	l.total.Add(int64(h - acked))
	return h
}
