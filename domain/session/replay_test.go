package session

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

var background = context.Background()

func TestReplayHoldsWhatComesInMeanwhile(t *testing.T) {
	m := New(Config{})
	s, box := bind(t, m, "phone")
	r := appear(m, s, 0).Replay
	require.NotNil(t, r)
	require.Equal(t, uint64(1), r.Account())
	require.Equal(t, 1, deliver(m, chat(10, juliet)), "it is taken, and waits aside")
	require.Empty(t, box.ids())
	require.True(t, r.Yield(background, chat(1, juliet), true))
	require.True(t, r.Yield(background, chat(2, juliet), true))
	require.True(t, r.Yield(background, chat(10, juliet), true), "it was in the log already")
	require.Equal(t, []uint64{1, 2}, box.ids())
	left, next := r.Finish(background)
	require.Empty(t, left)
	require.Nil(t, next)
	require.Equal(t, []uint64{1, 2, 10}, box.ids())
	deliver(m, chat(11, juliet))
	require.Equal(t, []uint64{1, 2, 10, 11}, box.ids())
}

func TestReplayAheadOfTheRouter(t *testing.T) {
	m := New(Config{})
	s, box := bind(t, m, "phone")
	r := appear(m, s, 0).Replay
	require.True(t, r.Yield(background, chat(5, juliet), true)) // committed, and read from the log before it was routed
	require.Equal(t, 1, deliver(m, chat(5, juliet)))
	r.Finish(background)
	require.Equal(t, 1, deliver(m, chat(6, juliet)))
	require.Equal(t, []uint64{5, 6}, box.ids())

	vanish(m, s)
	c := appear(m, s, 0)
	require.True(t, c.Replay.Yield(background, chat(5, juliet), true), "it waits for its acknowledgement")
	require.True(t, c.Replay.Yield(background, chat(6, juliet), true), "so does this one, which came live")
	c.Replay.Finish(background)
	require.Equal(t, []uint64{5, 6}, box.ids())
}

func TestReplayOthersPass(t *testing.T) {
	m := New(Config{})
	s, box := bind(t, m, "phone")
	r := appear(m, s, 0).Replay
	result := chat(0, s.JID())
	result.Stanza.Kind = stanza.IQ
	require.True(t, m.Send(s.JID(), result))
	require.Len(t, box.sent, 1, "an answer does not wait for old messages")
	page := chat(0, s.JID())
	page.Role = stream.History
	require.True(t, m.Send(s.JID(), page))
	require.Len(t, box.sent, 2, "a result of a history query must come before the IQ that ends the page")
	carbon := chat(0, s.JID())
	carbon.Role = stream.Carbon
	require.True(t, m.Send(s.JID(), carbon))
	require.Len(t, box.sent, 2, "a copy of a live message waits")
	r.Finish(background)
	require.Len(t, box.sent, 3)
}

func TestReplayOnlyToOne(t *testing.T) {
	m := New(Config{})
	phone, phoneBox := bind(t, m, "phone")
	laptop, laptopBox := bind(t, m, "laptop")
	quiet, _ := bind(t, m, "quiet")
	require.Nil(t, appear(m, quiet, -1).Replay, "a negative priority gets no messages")
	r := appear(m, phone, 0).Replay
	require.NotNil(t, r)
	require.Nil(t, appear(m, laptop, 5).Replay)
	deliver(m, chat(10, juliet))
	require.Equal(t, []uint64{10}, laptopBox.ids(), "live at once")
	r.Finish(background)
	require.Equal(t, []uint64{10}, phoneBox.ids())
	require.Nil(t, appear(m, quiet, 0).Replay, "others have had it")
}

func TestReplayIsHandedOn(t *testing.T) {
	m := New(Config{})
	phone, phoneBox := bind(t, m, "phone")
	laptop, laptopBox := bind(t, m, "laptop")
	r := appear(m, phone, 0).Replay
	require.Nil(t, appear(m, laptop, 0).Replay)
	require.True(t, r.Yield(background, chat(1, juliet), true))
	deliver(m, chat(10, juliet))
	m.Unbind(phone)
	require.Error(t, r.Context().Err())
	require.False(t, r.Yield(background, chat(2, juliet), true))
	left, next := r.Finish(background)
	require.Len(t, left, 1, "what the phone was promised")
	require.Equal(t, uint64(10), left[0].ArchiveID)
	require.Equal(t, []uint64{1}, phoneBox.ids())
	require.Same(t, laptop, next.Session())
	for _, id := range []uint64{1, 2, 10} {
		require.True(t, next.Yield(background, chat(id, juliet), true))
	}
	_, next = next.Finish(background)
	require.Nil(t, next)
	require.Equal(t, []uint64{10, 1, 2}, laptopBox.ids(), "10 came live, the others late, each once")
}

func TestReplayAgain(t *testing.T) {
	m := New(Config{})
	s, box := bind(t, m, "phone")
	r := appear(m, s, 0).Replay
	vanish(m, s)
	require.Zero(t, deliver(m, chat(10, juliet)), "nobody is there: it is kept")
	require.Nil(t, appear(m, s, 0).Replay, "one is under way")
	_, next := r.Finish(background)
	require.NotNil(t, next, "what was kept in between is due")
	require.True(t, next.Yield(background, chat(10, juliet), true))
	_, next = next.Finish(background)
	require.Nil(t, next)
	require.Equal(t, []uint64{10}, box.ids())
}

func TestReplayAgainKeepsOrder(t *testing.T) {
	m := New(Config{})
	s, box := bind(t, m, "phone")
	r := appear(m, s, 0).Replay
	deliver(m, chat(9, juliet))
	vanish(m, s)
	require.Zero(t, deliver(m, chat(10, juliet)))
	appear(m, s, 0)
	deliver(m, chat(11, juliet))
	_, next := r.Finish(background)
	require.Empty(t, box.ids(), "what was kept comes before 11")
	require.True(t, next.Yield(background, chat(10, juliet), true))
	next.Finish(background)
	require.Equal(t, []uint64{9, 10, 11}, box.ids())
}

func TestReplayIsNotHandedToWhoHasOne(t *testing.T) {
	m := New(Config{})
	phone, _ := bind(t, m, "phone")
	laptop, laptopBox := bind(t, m, "laptop")
	first := appear(m, phone, 0).Replay
	m.Unbind(phone)
	second := appear(m, laptop, 0).Replay
	require.NotNil(t, second)
	deliver(m, chat(7, juliet))
	_, next := first.Finish(background)
	require.Nil(t, next)
	second.Finish(background)
	require.Equal(t, []uint64{7}, laptopBox.ids())
}

func TestGiveDuringAReplayKeepsOrder(t *testing.T) {
	m := New(Config{})
	s, box := bind(t, m, "phone")
	r := appear(m, s, 0).Replay
	deliver(m, chat(8, juliet))
	deliver(m, chat(0, juliet)) // a chat state
	deliver(m, chat(9, juliet))
	m.Visit(juliet, func(u *User) {
		u.Redeliver(s, chat(3, juliet))
		u.Redeliver(s, chat(2, juliet))
	})
	require.True(t, r.Yield(background, chat(4, juliet), true))
	r.Finish(background)
	require.Equal(t, []uint64{2, 3, 4, 8, 9}, box.ids())
	require.Zero(t, box.sent[4].ArchiveID, "what is not stored keeps its place")
}

func TestReplayToSomebodyWhoLeft(t *testing.T) {
	m := New(Config{})
	s, box := bind(t, m, "phone")
	r := appear(m, s, 0).Replay
	deliver(m, chat(10, juliet))
	vanish(m, s)
	require.False(t, r.Yield(background, chat(1, juliet), true))
	left, next := r.Finish(background)
	require.Empty(t, left)
	require.Nil(t, next)
	require.Equal(t, []uint64{10}, box.ids(), "it was accepted while the session was live")
}

func TestReplayOverflow(t *testing.T) {
	m := New(Config{MaxHeld: 3})
	s, box := bind(t, m, "phone")
	r := appear(m, s, 0).Replay
	for id := range uint64(4) {
		require.Equal(t, 1, deliver(m, chat(id+10, juliet)))
	}
	require.Zero(t, deliver(m, chat(14, juliet)), "it gets nothing more")
	require.False(t, m.Send(s.JID(), chat(15, s.JID())))
	require.Error(t, r.Context().Err())
	left, next := r.Finish(background)
	require.Len(t, left, 4)
	require.Nil(t, next)
	require.Empty(t, box.ids())
	require.Equal(t, []string{"resource-constraint"}, box.conditions())
	m.Unbind(s)
	require.Zero(t, m.Connected(juliet))
}

func TestReplayWaitsForRoom(t *testing.T) {
	m := New(Config{})
	g := &gate{room: make(chan struct{}, 1)}
	s, refusal := m.Bind(Binding{Account: 1, Bare: juliet, Resource: "phone", Outbox: g})
	require.Nil(t, refusal)
	r := appear(m, s, 0).Replay
	g.room <- struct{}{}
	require.True(t, r.Yield(r.Context(), chat(1, juliet), true))
	done := make(chan bool)
	go func() { done <- r.Yield(r.Context(), chat(2, juliet), true) }()
	m.Unbind(s) // nobody ever makes room
	require.False(t, <-done)
	require.Equal(t, []uint64{1}, g.ids())
	r.Finish(background)
}

func TestReplayFinishSendsInChunks(t *testing.T) {
	m := New(Config{})
	g := &gate{room: make(chan struct{})}
	s, refusal := m.Bind(Binding{Account: 1, Bare: juliet, Resource: "phone", Outbox: g})
	require.Nil(t, refusal)
	r := appear(m, s, 0).Replay
	want := []uint64{}
	for id := range uint64(3 * releaseChunk) {
		deliver(m, chat(id+1, juliet))
		want = append(want, id+1)
	}
	done := make(chan struct{})
	go func() {
		r.Finish(background)
		close(done)
	}()
	g.room <- struct{}{}
	deliver(m, chat(1000, juliet)) // still behind those that wait
	g.room <- struct{}{}
	select {
	case g.room <- struct{}{}: // whether a fourth chunk was due depends on when it was delivered
		<-done
	case <-done:
	}
	require.Equal(t, append(want, 1000), g.ids())
}

func TestGiveIsNotASpan(t *testing.T) {
	m := New(Config{})
	s, box := bind(t, m, "phone")
	r := appear(m, s, 0).Replay
	m.Visit(juliet, func(u *User) {
		u.Redeliver(s, chat(3, juliet)) // another device did not get it
		u.Redeliver(s, chat(3, juliet))
	})
	deliver(m, chat(9, juliet))
	for id := range uint64(8) {
		require.True(t, r.Yield(background, chat(id+1, juliet), true))
	}
	r.Finish(background)
	require.Equal(t, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9}, box.ids(), "each once, in order")
}

func TestHad(t *testing.T) {
	m := New(Config{})
	s, _ := bind(t, m, "phone")
	had := func(id uint64, to jid.JID, copied bool) (out bool) {
		m.Visit(juliet, func(u *User) { out = u.Had(s, chat(id, to), copied) })
		return out
	}
	other := jid.MustParse("juliet@capulet.lit/laptop")
	require.False(t, had(0, juliet, true), "what is not stored is not tracked")
	r := appear(m, s, 0).Replay
	r.Finish(background)
	deliver(m, chat(10, juliet))
	deliver(m, chat(12, juliet))
	require.False(t, had(9, juliet, true))
	require.True(t, had(11, juliet, true))
	require.True(t, had(11, s.JID(), true))
	require.False(t, had(11, other, true), "it went to the other one alone")
	require.False(t, had(13, juliet, true))
	m.SetCarbons(s, true)
	require.True(t, had(11, juliet, true), "past is past")
	require.False(t, had(11, other, true), "carbons came later")
	m.Visit(juliet, func(u *User) { u.Send(s, chat(20, other)) }) // a carbon
	deliver(m, chat(25, juliet))
	require.True(t, had(22, other, true))
	require.False(t, had(22, other, false), "of that kind there are no carbons")
	for range 2 * maxSpans {
		appear(m, s, -1)
		m.Send(s.JID(), chat(30, s.JID()))
		if next := appear(m, s, 1).Replay; next != nil {
			next.Finish(background)
		}
		deliver(m, chat(31, juliet))
	}
	require.LessOrEqual(t, len(s.extra.past), maxSpans)
}

func TestSeenIsBounded(t *testing.T) {
	s := &Session{}
	for id := uint64(1); id <= maxSeen+10; id++ {
		s.noteReplayed(&stream.Packet{ArchiveID: id})
	}
	require.Len(t, s.extra.seen, maxSeen)
	require.False(t, s.extra.replayed(10))
	require.True(t, s.extra.replayed(11))
	require.True(t, s.extra.replayed(maxSeen+10))
	require.False(t, s.extra.replayed(maxSeen+11))
}

// TestSeveralIdentities: who was given a packet that is at several positions of the log has had what is at each.
func TestSeveralIdentities(t *testing.T) {
	m := New(Config{})
	s, box := bind(t, m, "phone")
	appear(m, s, 0).Replay.Finish(background)
	text := func(to jid.JID, also ...uint64) *stream.Packet {
		p := chat(also[len(also)-1]+1, to)
		p.Also = also
		return p
	}
	left := jid.MustParse("juliet@capulet.lit/left")
	m.Visit(juliet, func(u *User) {
		u.SendLive(text(juliet, 5, 6))
		u.SendLive(text(left, 8, 9)) // remembered one by one
		for id := uint64(4); id <= 11; id++ {
			require.Equal(t, id != 4 && id != 11, u.Had(s, chat(id, juliet), false), id)
		}
	})
	require.Equal(t, []uint64{7, 10}, box.ids())
}

func TestStrayedMessageIsRemembered(t *testing.T) {
	m := New(Config{})
	s, box := bind(t, m, "phone")
	appear(m, s, 0).Replay.Finish(background)
	left := jid.MustParse("juliet@capulet.lit/left")
	m.Visit(juliet, func(u *User) {
		require.Equal(t, 1, u.SendLive(chat(5, left)))
		require.True(t, u.Had(s, chat(5, left), false))
		require.False(t, u.Had(s, chat(6, left), false))
	})
	vanish(m, s)
	r := appear(m, s, 0).Replay
	require.True(t, r.Yield(background, chat(5, left), false))
	r.Finish(background)
	require.Equal(t, []uint64{5}, box.ids())
}
