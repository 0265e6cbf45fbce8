package local

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// store puts a message to juliet into the log, as the archive does before it is routed.
func (w *world) store(id uint64, to string) *stream.Packet {
	p := packet(
		parse(
			w.t, fmt.Sprintf(
				"<message from='romeo@montague.lit/x' to='%s' type='chat' id='%d'><body>hi</body></message>", to, id)),
		id)
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	w.log.stored = append(w.log.stored, p)
	return p
}

// arrive stores and routes.
func (w *world) arrive(id uint64, to string) {
	w.t.Helper()
	require.Nil(w.t, w.domain.Route(context.Background(), w.store(id, to)))
}

// die ends a session without an acknowledgement of what it was sent.
func (w *world) die(full string) {
	s := w.sess[full]
	w.sessions.Unbind(s)
	w.domain.Return(context.Background(), s, w.boxes[full].take())
	delete(w.sess, full)
}

func TestReplayOnBecomingLive(t *testing.T) {
	w := newWorld(t)
	w.arrive(1, "juliet@capulet.lit")
	w.arrive(2, phone)
	require.Equal(t, []uint64{1, 2}, w.log.takeKept())
	w.appear(tablet, -1)
	require.Empty(t, w.boxes[tablet].ids(), "a negative priority gets nothing")
	w.appear(phone, 0)
	require.Equal(t, []uint64{1, 2}, w.boxes[phone].ids())
	w.appear(laptop, 0)
	require.Empty(t, w.boxes[laptop].ids(), "somebody has had them")
	w.arrive(3, "juliet@capulet.lit")
	require.Equal(t, []uint64{3}, w.boxes[phone].ids())
	require.Equal(t, []uint64{3}, w.boxes[laptop].ids())
	require.Empty(t, w.log.takeKept())
}

// TestHistoryDuringAReplay: a client asks for history as soon as it is there, and must not see the end of a page before
// the page.
func TestHistoryDuringAReplay(t *testing.T) {
	w := newWorld(t)
	w.appear(laptop, -1)
	carbonsOn(w, laptop)
	s := w.connect(phone)
	s.Broadcasting.Lock()
	c := w.sessions.SetPresence(s, parse(t, "<presence/>"), 0)
	s.Broadcasting.Unlock()
	page := packet(parse(t, "<message from='juliet@capulet.lit' to='"+phone+
		"' type='chat'><result xmlns='urn:xmpp:mam:2'/></message>"), 0)
	page.Role = stream.History
	require.Nil(t, w.domain.Route(context.Background(), page))
	require.Len(t, w.boxes[phone].take(), 1)
	w.arrive(1, "juliet@capulet.lit")
	require.Empty(t, w.boxes[phone].take(), "messages wait")
	require.Len(t, w.boxes[laptop].take(), 1, "of the message there is a carbon, of the page there is none")
	w.domain.startReplay(c.Replay)
	w.domain.replays.Wait()
	require.Equal(t, []uint64{1}, w.boxes[phone].ids())
}

func TestReplayFailure(t *testing.T) {
	w := newWorld(t)
	w.store(1, "juliet@capulet.lit")
	w.log.fail = errors.New("the disk is on fire")
	w.appear(phone, 0)
	w.arrive(2, "juliet@capulet.lit")
	require.Equal(t, []uint64{2}, w.boxes[phone].ids(), "live messages still come")
}

func TestReplayAfterClose(t *testing.T) {
	w := newWorld(t)
	w.store(1, "juliet@capulet.lit")
	require.NoError(t, w.domain.Close(context.Background()))
	w.appear(phone, 0)
	w.arrive(2, "juliet@capulet.lit")
	require.Equal(t, []uint64{2}, w.boxes[phone].ids(), "no replay starts, and nothing waits aside for one")
}

func TestReturnToOthers(t *testing.T) {
	w := newWorld(t)
	w.appear(phone, 0)
	w.appear(laptop, 0)
	w.arrive(1, "juliet@capulet.lit")
	w.arrive(2, phone)
	require.Equal(t, []uint64{1}, w.boxes[laptop].ids())
	w.die(phone)
	require.Equal(t, []uint64{2}, w.boxes[laptop].ids(), "1 it had, 2 it had not")
	require.Empty(t, w.log.takeKept())
}

func TestReturnWithCarbons(t *testing.T) {
	w := newWorld(t)
	w.appear(phone, 0)
	w.appear(laptop, 0)
	w.appear(tablet, 0)
	carbonsOn(w, laptop)
	w.arrive(2, phone)
	w.die(phone)
	require.Len(t, w.boxes[laptop].sent, 1, "it had a carbon, and gets nothing more")
	require.Empty(t, w.boxes[tablet].ids())
	w.die(laptop)
	p := w.boxes[tablet].take()
	require.Len(t, p, 1, "nobody got it: the carbon is given to another as the message that it was")
	require.Equal(t, phone, p[0].Stanza.To.String())
	require.NotNil(t, p[0].Stanza.Child(stanza.NSClient, "body"))
}

func TestReturnToNobody(t *testing.T) {
	w := newWorld(t)
	w.appear(phone, 0)
	w.connect(laptop)
	w.arrive(1, "juliet@capulet.lit")
	w.arrive(2, phone)
	w.die(phone)
	require.Equal(t, []uint64{1, 2}, w.log.takeKept())
	require.Empty(t, w.boxes[laptop].ids(), "it has not sent presence")
}

func TestReturnToTheSameDeviceOnANewStream(t *testing.T) {
	w := newWorld(t)
	old := w.appear(phone, 0)
	oldBox := w.boxes[phone]
	w.arrive(2, phone)
	w.connect(phone) // the newer wins
	require.Len(t, oldBox.closed, 1)
	unacked := oldBox.take()
	w.sessions.Unbind(old)
	w.domain.Return(context.Background(), old, unacked)
	require.Equal(t, []uint64{2}, w.boxes[phone].ids())
	require.Empty(t, w.log.takeKept())
}

func TestReturnAfterTheNextHasReplayed(t *testing.T) {
	w := newWorld(t)
	old := w.appear(phone, 0)
	oldBox := w.boxes[phone]
	w.arrive(1, "juliet@capulet.lit")
	unacked := oldBox.take()
	w.sessions.Unbind(old)
	w.appear(laptop, 0)
	require.Equal(t, []uint64{1}, w.boxes[laptop].ids(), "nobody acknowledged it, so it is replayed")
	w.domain.Return(context.Background(), old, unacked)
	require.Empty(t, w.boxes[laptop].ids(), "and not given once more")
}

func TestReturnOfEverythingElse(t *testing.T) {
	w := newWorld(t)
	s := w.appear(phone, 0)
	w.appear(laptop, 0)
	w.domain.Return(context.Background(), s, []*stream.Packet{
		packet(parse(t, "<iq type='get' id='q' from='romeo@montague.lit/x' to='"+phone+"'><q xmlns='x'/></iq>"), 0),
		packet(parse(t, "<iq type='set' id='push1' from='juliet@capulet.lit' to='"+phone+
			"'><query xmlns='jabber:iq:roster'/></iq>"), 0),
		packet(parse(t, "<iq type='result' id='r' from='romeo@montague.lit/x' to='"+phone+"'/>"), 0),
		packet(parse(t, "<presence from='romeo@montague.lit/x' to='"+phone+"'/>"), 0),
		packet(parse(t, "<message from='romeo@montague.lit/x' to='"+phone+"' type='chat'><body/></message>"), 0),
	})
	require.Equal(t, []string{"<iq from='" + phone +
		"' to='romeo@montague.lit/x' type='error' id='q'><error type='cancel'>" +
		"<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"}, w.away.texts())
	require.Empty(t, w.boxes[laptop].take())
	require.Empty(t, w.log.takeKept())
}

func TestReturnToADeletedAccount(t *testing.T) {
	w := newWorld(t)
	s := w.appear(phone, 0)
	w.arrive(1, phone)
	unacked := w.boxes[phone].take()
	b := &box{}
	other, refusal := w.sessions.Bind(session.Binding{Account: 99, Bare: s.JID().Bare(), Resource: "laptop", Outbox: b})
	require.Nil(t, refusal)
	w.sess[laptop], w.boxes[laptop] = other, b
	require.Nil(t, w.say(laptop, "<presence/>"))
	w.domain.replays.Wait()
	b.take()
	w.domain.Return(context.Background(), s, unacked)
	require.Empty(t, b.take(), "another person by the same name")
	require.Equal(t, []uint64{1}, w.log.takeKept())
}

// device is an outbox on a connection that may be cut: what was not acknowledged by then did not arrive.
type device struct {
	mu      sync.Mutex // guards the rest
	pending []*stream.Packet
	cut     bool
	got     []uint64 // in the order of arrival
	stream  int      // number of the stream, for finding doubles on one
}

func (d *device) Send(p *stream.Packet) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending = append(d.pending, p)
}

func (d *device) Close(*stream.Error) {}

func (*device) WaitRoom(context.Context) error { return nil }
func (*device) Detached() bool                 { return false }

// acknowledge takes the oldest n packets in.
func (d *device) acknowledge(n int) (ids []uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n = min(n, len(d.pending))
	for _, p := range d.pending[:n] {
		if p.ArchiveID != 0 {
			ids = append(ids, p.ArchiveID)
		}
	}
	d.pending = d.pending[n:]
	d.got = append(d.got, ids...)
	return ids
}

// TestModelOfReplay races live delivery, sessions that come, go negative, and die with unacknowledged messages, and
// replays. However it goes: no message is lost or waits although somebody is there, none comes twice on one stream,
// and a stream sees messages in order, but for those that another device lost.
func TestModelOfReplay(t *testing.T) {
	for seed := range uint64(60) {
		devices := []string{phone, laptop}[:1+seed%2]
		t.Run(fmt.Sprint(len(devices), " devices, ", seed), func(t *testing.T) {
			modelOfReplay(t, rand.New(rand.NewPCG(seed, 1)), devices)
		})
	}
}

func modelOfReplay(t *testing.T, rnd *rand.Rand, devices []string) {
	w := newWorld(t)
	const messages = 300
	ctx := context.Background()
	bare := jid.MustParse("juliet@capulet.lit")

	routed := make(chan struct{})
	addresses := []string{"juliet@capulet.lit", "juliet@capulet.lit", phone, laptop}[:2*len(devices)]
	var script []string
	for range messages {
		script = append(script, addresses[rnd.IntN(len(addresses))])
	}
	go func() { // the committer: stores a batch, then routes it
		defer close(routed)
		for id := 0; id < messages; {
			var batch []*stream.Packet
			for range min(1+id%7, messages-id) {
				id++
				batch = append(batch, w.store(uint64(id), script[id-1]))
			}
			for _, p := range batch {
				if refusal := w.domain.Route(ctx, p); refusal != nil {
					t.Error(refusal)
				}
			}
		}
	}()

	type client struct {
		s *session.Session
		d *device
	}
	live := map[string]*client{}
	var streams []*device
	acknowledge := func(c *client, n int) {
		for _, id := range c.d.acknowledge(n) {
			w.log.mu.Lock()
			w.log.delivered[id] = true
			w.log.mu.Unlock()
		}
	}
	presence := func(c *client, text string) {
		p := parse(t, text)
		p.From = c.s.JID()
		if refusal := w.domain.undirected(ctx, c.s, p); refusal != nil && refusal.Condition != stanza.PolicyViolation {
			t.Error(refusal)
		}
		c.s.Budget = limit.Bucket{}
	}
	step := func() {
		full := devices[rnd.IntN(len(devices))]
		c := live[full]
		if c == nil {
			d := &device{stream: len(streams)}
			j := jid.MustParse(full)
			s, refusal := w.sessions.Bind(session.Binding{Account: 1, Bare: bare, Resource: j.Resource(), Outbox: d})
			require.Nil(t, refusal)
			c = &client{s, d}
			live[full] = c
			streams = append(streams, d)
			presence(c, "<presence/>")
			return
		}
		switch rnd.IntN(8) {
		case 0:
			w.sessions.Unbind(c.s)
			d := c.d
			d.mu.Lock()
			unacked := d.pending
			d.pending, d.cut = nil, true
			d.mu.Unlock()
			w.domain.Return(ctx, c.s, unacked)
			delete(live, full)
		case 1:
			if len(devices) == 1 {
				// Going twice while one replay runs is the one case in which order is not kept.
				w.domain.replays.Wait()
				defer presence(c, "<presence/>")
			}
			presence(c, "<presence><priority>-1</priority></presence>")
		case 2:
			presence(c, "<presence/>")
		default:
			acknowledge(c, rnd.IntN(20))
		}
	}
	for range 250 {
		step()
	}
	<-routed
	if rnd.IntN(2) == 0 { // whoever is live by now must get everything, without anybody logging in once more
		for live[phone] == nil {
			step()
		}
		presence(live[phone], "<presence/>")
		w.domain.replays.Wait()
		for _, c := range live {
			acknowledge(c, messages)
		}
		for id := range uint64(messages) {
			require.True(t, w.log.delivered[id+1], "message %d waits although somebody is there", id+1)
		}
	}
	// At last both die and another one takes over.
	for _, full := range devices {
		if c := live[full]; c != nil {
			w.sessions.Unbind(c.s)
			unacked := c.d.pending
			c.d.mu.Lock()
			c.d.pending = nil
			c.d.mu.Unlock()
			w.domain.Return(ctx, c.s, unacked)
			delete(live, full)
		}
	}
	w.domain.replays.Wait()
	last := &device{stream: len(streams)}
	streams = append(streams, last)
	s, refusal := w.sessions.Bind(session.Binding{Account: 1, Bare: bare, Resource: "last", Outbox: last})
	require.Nil(t, refusal)
	w.sess["last"] = s
	presence(&client{s, last}, "<presence/>")
	w.domain.replays.Wait()
	acknowledge(&client{s, last}, messages)

	seen := map[uint64]int{}
	for _, d := range streams {
		on := map[uint64]bool{}
		for _, id := range d.got {
			require.False(t, on[id], "message %d came twice on stream %d", id, d.stream)
			on[id] = true
			seen[id]++
		}
		if len(devices) == 1 {
			// Nothing is made good for others, and nothing is addressed to a resource, which takes it ahead of what
			// waits. Set aside what an earlier stream replayed and acknowledged before the committer came to route it.
			d.got = slices.DeleteFunc(d.got, func(id uint64) bool { return seen[id] > 1 })
			require.True(t, slices.IsSorted(d.got), "out of order on stream %d: %v", d.stream, d.got)
		}
	}
	for id := range uint64(messages) {
		require.Positive(t, seen[id+1], "message %d was lost", id+1)
	}
	require.True(t, slices.IsSorted(last.got), "a replay is in order")
}
