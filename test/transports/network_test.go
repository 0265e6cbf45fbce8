package transports

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/test/flakyproxy"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// said is a message as its sender knows it.
type said struct {
	text    string
	receipt client.Receipt
}

// requireHistory compares the archive of an app with what was said: nothing lost, nothing doubled, the same identities
// and numbers.
func requireHistory(t *testing.T, a *app, with jid.JID, all []said) {
	t.Helper()
	after := ""
	n := 0
	for {
		page, err := a.History(wait(t), client.Query{With: with, After: after})
		require.NoError(t, err)
		for _, m := range page.Messages {
			require.Less(t, n, len(all), "more in the history than was sent: %s", m.Content.Text)
			requireSame(t, all[n], m)
			after = m.StanzaID
			n++
		}
		if page.Complete {
			require.Equal(t, len(all), n)
			return
		}
	}
}

func requireSame(t *testing.T, s said, m client.Message) {
	t.Helper()
	require.Equal(t, s.text, m.Content.Text)
	require.Equal(t, s.receipt.ID, m.ID)
	require.Equal(t, s.receipt.StanzaID, m.StanzaID)
	require.Equal(t, s.receipt.Number, m.Number)
	require.True(t, s.receipt.Time.Equal(m.Time) || !m.Fetched)
}

// TestCutBetweenAcceptanceAndAnswer breaks the connections of both sides at any byte that the server says, over and
// over, while one writes to the other: each message is stored and seen once, in order, as its sender was told.
func TestCutBetweenAcceptanceAndAnswer(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]bool{"resumed": false, "new session": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := newNode(t, "romeo", "juliet")
			near, far := flakyproxy.New(t, node.Endpoints().Compact), flakyproxy.New(t, node.Endpoints().Compact)
			r := connect(t, "tcp://"+near.Addr(), "romeo")
			j := connect(t, "tcp://"+far.Addr(), "juliet")
			var all []said
			rounds := 30
			if forget {
				rounds = 6
			}
			for round := range rounds {
				near.BreakAfter(rand.IntN(900))
				far.BreakAfter(rand.IntN(2000))
				for i := range 8 {
					body := fmt.Sprintf("%d.%d", round, i)
					receipt, err := r.Send(wait(t), juliet, text(body))
					require.NoError(t, err)
					require.Equal(t, uint64(len(all)+1), receipt.Number)
					all = append(all, said{body, receipt})
				}
				if forget && round%2 == 1 { // the server starts anew and has forgotten all streams
					require.NoError(t, node.Restart())
					near.SetTarget(node.Endpoints().Compact)
					far.SetTarget(node.Endpoints().Compact)
				}
			}
			for _, s := range all {
				requireSame(t, s, next(t, j.messages, numbered))
			}
			require.Positive(t, near.Breaks())
			require.Positive(t, far.Breaks())
			if forget {
				require.Greater(t, r.Stats().Sessions, uint64(1))
			} else {
				require.Positive(t, r.Stats().Resumptions)
			}
			requireHistory(t, r, juliet, all)
			requireHistory(t, j, romeo, all)
			require.Empty(t, j.messages, "something came twice")
		})
	}
}

// TestInboxOverflows: whoever reads slower than others write gets everything in order all the same.
func TestInboxOverflows(t *testing.T) {
	t.Parallel()
	node := newNode(t, "romeo", "juliet")
	go1 := make(chan struct{})
	var got []client.Message
	full := make(chan struct{})
	r := connect(t, "tcp://"+node.Endpoints().Compact, "romeo")
	j := connect(t, "tcp://"+node.Endpoints().Compact, "juliet", func(c *client.Config) {
		c.Inbox = 10
		c.Message = func(m client.Message) {
			<-go1
			if m.Number == 0 {
				return
			}
			if got = append(got, m); m.Content.Text == "the end" {
				close(full)
			}
		}
	})
	var all []said
	send := func(body string) {
		receipt, err := r.Send(wait(t), juliet, text(body))
		require.NoError(t, err)
		all = append(all, said{body, receipt})
	}
	for i := range 300 {
		send(fmt.Sprint(i))
	}
	send("the end")
	close(go1)
	next(t, full, func(struct{}) bool { return true })
	require.NoError(t, j.Close())
	require.Len(t, got, len(all))
	for i, s := range all {
		requireSame(t, s, got[i])
	}
	require.Positive(t, j.Stats().Refetched)
}

// TestCutHTTP breaks the connections of a program that sends by HTTP, at any byte of the answers: each message is
// stored once, as its sender was told.
func TestCutHTTP(t *testing.T) {
	t.Parallel()
	node := open(t, "romeo", "juliet")
	proxy := flakyproxy.New(t, node.Endpoints().HTTP)
	j := connect(t, "tcp://"+node.Endpoints().Compact, "juliet")
	d := newHTTP(t, node, "romeo")
	d.api.Base = "http://" + proxy.Addr()
	var all []said
	duplicates := 0
	for i := range 60 {
		proxy.BreakAfter(rand.IntN(400)) // an answer has more
		body := fmt.Sprint(i)
		r, err := d.api.Send(wait(t), client.APINewMessage{ClientID: "c" + body, To: juliet.String(),
			Content: text(body)})
		require.NoError(t, err)
		require.Equal(t, uint64(i+1), r.Number)
		if r.Duplicate {
			duplicates++
		}
		all = append(all, said{body, client.Receipt{ID: r.ClientID, StanzaID: r.ID, Number: r.Number, Time: r.Time}})
	}
	require.Greater(t, proxy.Breaks(), 30)
	require.Positive(t, duplicates, "no answer was lost")
	for _, s := range all {
		requireSame(t, s, next(t, j.messages, numbered))
	}
	requireHistory(t, j, romeo, all)
	require.Empty(t, j.messages, "something came twice")
}

// TestAway: a client that was away for 10,000 messages, in several conversations, is given all of them, in order,
// before anything new; and whoever syncs from a cursor, on the stream or by HTTP, is told of each of them once.
func TestAway(t *testing.T) {
	t.Parallel()
	const people, each = 4, 2500
	names := []string{"juliet"}
	for i := range people {
		names = append(names, fmt.Sprintf("friend%d", i))
	}
	node := open(t, names...)
	address := "tcp://" + node.Endpoints().Compact
	j := connect(t, address, "juliet")
	program := newHTTP(t, node, "juliet")
	friends := make([]*app, people)
	for i := range friends {
		friends[i] = connect(t, address, names[i+1])
	}
	first, err := friends[0].Send(wait(t), juliet, text("before"))
	require.NoError(t, err)
	seen := next(t, j.messages, numbered)
	require.Equal(t, first.StanzaID, seen.StanzaID)
	require.Equal(t, first.StanzaID, program.hears(false).stanzaID)
	cursor := ""
	for more := true; more; {
		page, err := j.Sync(wait(t), cursor, 0)
		require.NoError(t, err)
		cursor, more = page.Cursor, page.More
	}
	require.NoError(t, j.Close())

	errs := make(chan error, people)
	for i, f := range friends {
		go func() {
			errs <- sendMany(t, f, each, func(n int) string { return fmt.Sprintf("%d.%d", i, n) })
		}()
	}
	for range friends {
		require.NoError(t, <-errs)
	}
	j = connect(t, address, "juliet", func(c *client.Config) { c.Since = seen.StanzaID })
	handed := newLedger(t)
	for range people * each {
		m := next(t, j.messages, numbered)
		handed.enter(m.Conversation.String(), m.Number, m.StanzaID)
	}
	synced := newLedger(t)
	for more := true; more; {
		page, err := j.Sync(wait(t), cursor, 500)
		require.NoError(t, err)
		cursor, more = page.Cursor, page.More
		for _, m := range page.Messages {
			synced.enter(m.Conversation.String(), m.Number, m.StanzaID)
		}
	}
	require.Equal(t, handed.all, synced.all)
	polled := newLedger(t)
	for more := true; more; {
		page, err := program.api.Sync(wait(t), program.cursor, 500, 0)
		require.NoError(t, err)
		program.cursor, more = page.Cursor, page.More
		for _, m := range page.Messages {
			polled.enter(m.Conversation, m.Number, m.ID)
		}
	}
	require.Equal(t, handed.all, polled.all)
	receipt, err := friends[1].Send(wait(t), juliet, text("after"))
	require.NoError(t, err)
	require.Equal(t, receipt.StanzaID, next(t, j.messages, numbered).StanzaID)
}

// ledger holds the stanza-ids of what came in each conversation, by number.
type ledger struct {
	t   *testing.T
	all map[string][]string
}

// newLedger begins where TestAway does: one message of friend0 is known.
func newLedger(t *testing.T) *ledger {
	return &ledger{t, map[string][]string{"friend0@localhost": {"before"}}}
}

// enter notes a message, which must be the next of its conversation.
func (l *ledger) enter(with string, number uint64, id string) {
	require.Equal(l.t, uint64(len(l.all[with])+1), number, "a hole in the conversation with %s", with)
	l.all[with] = append(l.all[with], id)
}

// sendMany sends so many messages to Juliet, many at a time, in order.
func sendMany(t *testing.T, a *app, n int, body func(int) string) error {
	const window = 64
	errs := make(chan error, n)
	slots := make(chan struct{}, window)
	for i := range n {
		slots <- struct{}{}
		go func() {
			_, err := a.Send(t.Context(), juliet, text(body(i)))
			<-slots
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}
