package archive

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// deliver reports what a packet delivers, as the outbox of a device does.
func (h *house) deliver(account uint64, packets ...*stream.Packet) {
	for _, p := range packets {
		for id := range p.Stored {
			h.Delivered(account, id)
		}
	}
}

// stamp is the stanza-id that a stanza tells.
func stamp(s *stanza.Stanza) string {
	if e := s.Child(nsStanzaID, "stanza-id"); e != nil {
		return e.Attr("id")
	}
	return ""
}

// TestAllIdentitiesOfAStanza: a stanza that moves two markers, or is a text and moves some, is at several positions of
// the log. Who has it is told nothing of it again: not by a replay, and not by history after the stanza-id it told.
func TestAllIdentitiesOfAStanza(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		h.run(t)
		for i, said := range []struct {
			body       string
			marks      []string // of the message before
			identities int
		}{
			{"", []string{"received", "displayed"}, 2},
			{"text", []string{"displayed"}, 2},
			{"text", []string{"received", "displayed"}, 3},
			{"", []string{"displayed"}, 1},
			{"text", nil, 1},
		} {
			id := fmt.Sprint("m", i)
			require.Nil(t, h.say(t, orchard, named(id, chat("juliet@verona.example", "x", request()))).Err)
			h.deliver(juliet, h.seen()...)
			s := chat("romeo@verona.example", said.body)
			for _, mark := range said.marks {
				if mark == "received" {
					s.Payload = append(s.Payload, received(id))
				} else {
					s.Payload = append(s.Payload, displayed(id))
				}
			}
			h.copied()
			r := h.say(t, balcony, s)
			require.Nil(t, r.Err)
			got := h.seen()
			require.Len(t, got, 1)
			stored := slices.Collect(got[0].Stored)
			require.Len(t, stored, said.identities)
			require.True(t, slices.IsSorted(stored))
			require.Equal(t, stored[len(stored)-1], r.ID)
			require.Equal(t, h.StanzaID(r.ID), stamp(got[0].Whole()), "the highest")
			for _, who := range []string{orchard, balcony} {
				require.Empty(t, h.history(t, who, form("<after>"+h.StanzaID(r.ID)+"</after>")))
			}
			h.deliver(romeo, got...)
			require.Empty(t, h.replay(t, romeo), i)
		}
		require.NoError(t, h.flushReports())
		require.Empty(t, h.cursor(t, romeo).Missed)
	})
}

// TestMergedWithAnother: of two markers of a stanza one was merged with a later one of the batch; the other has its
// identity all the same.
func TestMergedWithAnother(t *testing.T) {
	h := newHouse(t, memory())
	for i := range 2 {
		h.accept(t.Context(), from(orchard), named(fmt.Sprint("m", i), chat("juliet@verona.example", "x")))
	}
	h.step(t)
	h.seen()
	h.accept(t.Context(), from(balcony), chat("romeo@verona.example", "", received("m1"), displayed("m0")))
	h.accept(t.Context(), from(balcony), chat("romeo@verona.example", "", displayed("m1")))
	h.step(t)
	got := h.seen()
	require.Len(t, got, 2)
	require.NotZero(t, got[0].ArchiveID)
	require.Less(t, got[0].ArchiveID, got[1].ArchiveID)
	h.deliver(romeo, got...)
	require.Empty(t, h.replay(t, romeo))
}

// TestLateReceipts: a receipt for an earlier message than the last one moves nothing, and is told to those who are
// there (XEP-0184), once; but not what another device, or a marker through a later message, has told of.
func TestLateReceipts(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		h.run(t)
		for i := range 9 {
			h.say(t, orchard, named(fmt.Sprint("m", i+1), chat("juliet@verona.example", "x", request())))
		}
		h.seen()
		told := func(want bool, marks ...stanza.Element) {
			t.Helper()
			before := h.markers(t, juliet)
			id, got := h.mark(t, balcony, marks...)
			require.Zero(t, id)
			if !want {
				require.Empty(t, got)
				return
			}
			require.Len(t, got, 1)
			require.Zero(t, got[0].ArchiveID)
			require.Empty(t, stamp(got[0].Whole()))
			require.Equal(t, before, h.markers(t, juliet))
		}
		moves := func(marks ...stanza.Element) {
			t.Helper()
			id, got := h.mark(t, balcony, marks...)
			require.NotZero(t, id)
			require.Len(t, got, 1)
		}
		moves(received("m1"))
		moves(received("m2"))
		told(false, received("m1")) // by her other device
		told(false, received("m2"))
		moves(received("m5"))
		told(true, received("m4"))
		told(false, received("m4"))
		told(true, received("m3"))
		told(false, received("m5"))
		moves(received("m7"))
		moves(stanza.New(payload.NSMarkers, "received", "id", "m8")) // through it (XEP-0333)
		told(false, received("m6"))
		moves(numbered("delivered", 9))
		told(false, received("m9"))
		told(false, stanza.New(payload.NSMarkers, "received", "id", "m3"))
	})
}

// TestReceiptsAfterARestart: what is not known to be told is told.
func TestReceiptsAfterARestart(t *testing.T) {
	log := memory()
	h := newHouse(t, log)
	stop := h.run(t)
	for i := range 5 {
		h.say(t, orchard, named(fmt.Sprint("m", i+1), chat("juliet@verona.example", "x", request())))
	}
	h.mark(t, balcony, received("m4"))
	require.NoError(t, stop())
	h = newHouse(t, log)
	h.run(t)
	for _, step := range []struct {
		id   string
		told int
	}{{"m2", 1}, {"m2", 0}, {"m1", 1}, {"m4", 1}, {"m4", 0}, {"m3", 1}, {"m5", 1}, {"m3", 0}, {"m5", 0}} {
		_, got := h.mark(t, balcony, received(step.id))
		require.Len(t, got, step.told, step.id)
	}
}

// TestSkippedRangesAreBounded: who sends receipts for every other message makes the server remember no more than a few.
func TestSkippedRangesAreBounded(t *testing.T) {
	var r receipts
	for n := uint64(2); n < 1000; n += 2 {
		r.move(n, true)
		require.LessOrEqual(t, len(r.skipped), maxSkipped)
	}
	require.False(t, r.take(1), "the oldest are forgotten")
	require.True(t, r.take(997))
	r.move(10_000, true)
	for n := uint64(1001); n < 9000; n += 2 {
		r.take(n)
		require.LessOrEqual(t, len(r.skipped), maxSkipped)
	}
}

// TestReceiptsOfTwoDevices: romeo has two devices and juliet two, all of which do what devices do: each of hers sends a
// receipt for each message, and his report what they got some time later. No receipt is told twice, neither to those
// who are there nor to one that comes back.
func TestReceiptsOfTwoDevices(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		h.run(t)
		var got []*stream.Packet
		for i := range 6 {
			id := fmt.Sprint("m", i+1)
			h.say(t, orchard, named(id, chat("juliet@verona.example", "x", request())))
			h.deliver(juliet, h.seen()...)
			for _, device := range []string{balcony, "juliet@verona.example/tablet"} {
				_, told := h.mark(t, device, received(id))
				got = append(got, told...)
			}
		}
		require.Len(t, got, 6)
		// His device has acknowledged the first four when it is gone; the marker has moved on since.
		h.deliver(romeo, got[:4]...)
		var again []string
		require.NoError(t, h.Replay(t.Context(), romeo, func(p *stream.Packet) bool {
			again = append(again, payloadText(p.Whole()))
			return true
		}))
		require.Equal(t, []string{"received m5", "received m6, delivered 6"}, again)
	})
}

// TestHiddenReadBesideAnother: what else a stanza says goes to the other party without the read marker; the account's
// own devices get it whole.
func TestHiddenReadBesideAnother(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		h.run(t)
		for i := range 9 {
			h.say(t, orchard, named(fmt.Sprint("m", i+1), chat("juliet@verona.example", "x")))
		}
		require.NoError(t, h.preferences.setHideReads(t.Context(), juliet, true))
		thread := func(s *stanza.Stanza) *stanza.Stanza {
			s.Payload = append(s.Payload, stanza.New(stanza.NSClient, "thread").WithText("t"))
			return s
		}
		to := "romeo@verona.example"
		for _, c := range []struct {
			said        *stanza.Stanza
			others, own string // "" for nothing
			stored      bool   // for the other party
		}{
			{chat(to, "", received("m1"), displayed("m1")), "received m1", "received m1, displayed m1", true},
			{chat(to, "", received("m1"), displayed("m2")), "", "received m1, displayed m2", false},
			{chat(to, "", active(), displayed("m3")), "active ", "active , displayed m3", false},
			{chat(to, "", active(), displayed("m3")), "active ", "active , displayed m3", false},
			{chat(to, "", numbered("delivered", 4), numbered("read", 4)), "delivered 4",
				"delivered 4, displayed m4, read 4", true},
			{chat(to, "text", displayed("m5")), "body , position 10", "body , displayed m5", true},
			{chat(to, "", displayed("m6"), stanza.New(payload.NSHints, "store"), origin("o")), "",
				"displayed m6, store , origin-id o", false},
			{chat(to, "", displayed("unknown")), "", "displayed unknown", false},
			{thread(chat(to, "", received("m9"), displayed("m9"))), "received m9, thread ",
				"received m9, displayed m9, thread ", false},
			{chat(to, "", active(), displayed("m7"), stanza.New(payload.NSHints, "no-store")), "active , no-store ",
				"active , displayed m7, no-store ", false},
		} {
			h.seen()
			h.copied()
			r := h.say(t, balcony, c.said)
			require.Nil(t, r.Err)
			others, own := h.seen(), h.copied()
			if c.others == "" {
				require.Empty(t, others, c.own)
			} else {
				require.Len(t, others, 1, c.own)
				require.Equal(t, c.others, payloadText(others[0].Whole()))
				require.Equal(t, c.stored, others[0].ArchiveID != 0, c.own)
				require.Equal(t, c.stored, stamp(others[0].Whole()) != "", c.own)
				h.deliver(romeo, others...)
			}
			require.Len(t, own, 1)
			require.Equal(t, c.own, payloadText(whole(own[0])))
			require.Empty(t, h.replay(t, romeo), c.own)
		}
		require.Equal(t, [3]uint64{4, 0, 6}, h.markers(t, juliet))
		require.Empty(t, h.history(t, orchard, form("<after>"+h.StanzaID(h.last(t))+"</after>")))
	})
}

func (h *house) last(t *testing.T) uint64 {
	id, err := h.log.Last(t.Context())
	require.NoError(t, err)
	return uint64(id)
}

// whole is what the author's devices get.
func whole(e *router.Envelope) *stanza.Stanza {
	if e.Whole != nil {
		return e.Whole
	}
	return e.Stanza
}

// TestPassingBesideAStaleMarker: a marker that moves nothing does not keep what else a stanza says from those who are
// there.
func TestPassingBesideAStaleMarker(t *testing.T) {
	h := newHouse(t, memory())
	h.run(t)
	h.say(t, orchard, named("m1", chat("juliet@verona.example", "x")))
	h.mark(t, balcony, displayed("m1"))
	h.seen()
	attention := stanza.New(payload.NSAttention, "attention")
	for _, beside := range []stanza.Element{active(), attention, received("unknown")} {
		id, got := h.mark(t, balcony, beside, displayed("m1"))
		require.Zero(t, id)
		require.Len(t, got, 1, beside.Space)
		require.Zero(t, got[0].ArchiveID)
	}
	_, got := h.mark(t, balcony, displayed("m1"), origin("o"))
	require.Empty(t, got)
}

// TestRepeatedAsItWasSent: whether a message is one that was sent before goes by what the client has sent, whatever the
// server made of it.
func TestRepeatedAsItWasSent(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		h.run(t)
		h.say(t, orchard, named("m1", chat("juliet@verona.example", "x")))
		hide := func(hide bool) { require.NoError(t, h.preferences.setHideReads(t.Context(), juliet, hide)) }
		for i, mark := range []stanza.Element{displayed("m1"), numbered("read", 99), numbered("delivered", 99)} {
			send := func() router.Receipt {
				return h.say(t, balcony, chat("romeo@verona.example", "text", mark, origin(fmt.Sprint("o", i))))
			}
			hide(true)
			first := send()
			require.Nil(t, first.Err)
			h.say(t, orchard, named(fmt.Sprint("more", i), chat("juliet@verona.example", "x")))
			for _, hidden := range []bool{true, false} {
				hide(hidden)
				again := send()
				require.Nil(t, again.Err, "%d", i)
				require.True(t, again.Duplicate)
				require.Equal(t, first.ID, again.ID)
				e := &router.Envelope{Origin: from(balcony),
					Stanza: chat("romeo@verona.example", "text", mark, origin(fmt.Sprint("o", i)))}
				e.Stanza.From = e.Origin.Address
				require.True(t, h.Known(t.Context(), e))
			}
			other := chat("romeo@verona.example", "text", displayed("another"), origin(fmt.Sprint("o", i)))
			require.Equal(t, stanza.Conflict, h.say(t, balcony, other).Err.Condition)
		}
	})
}

// TestRefusedWithItsMarker: a message that is refused moves no marker: an edit that was overtaken by a retraction, or a
// text in conflict with an earlier one.
func TestRefusedWithItsMarker(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		h.run(t)
		original := h.say(t, orchard, named("m1", chat("juliet@verona.example", "x", origin("o1"))))
		h.say(t, balcony, named("j1", chat("romeo@verona.example", "y")))
		r := h.say(t, orchard, chat("juliet@verona.example", "other", displayed("j1"), origin("o1")))
		require.Equal(t, stanza.Conflict, r.Err.Condition)
		require.Equal(t, [3]uint64{}, h.markers(t, romeo))

		overtaken := false
		h.log.before = func(batch []*store.Append) error {
			if overtaken || len(batch) == 0 || batch[0].Basis == 0 {
				return nil
			}
			overtaken = true
			retraction := stored(t, log, orchard, balcony, "gone")
			retraction.Retract, retraction.Remains = store.MessageID(original.ID), []byte("<message/>")
			return log.Append(context.Background(), &store.Batch{Now: noon, Entries: []*store.Append{retraction}})
		}
		r = h.say(t, orchard, chat("juliet@verona.example", "better", replace("m1"), displayed("j1")))
		require.Equal(t, stanza.ItemNotFound, r.Err.Condition)
		require.True(t, overtaken)
		require.Equal(t, [3]uint64{}, h.markers(t, romeo))
		r = h.say(t, orchard, chat("juliet@verona.example", "new", displayed("j1")))
		require.Nil(t, r.Err)
		require.Equal(t, [3]uint64{0, 2, 0}, h.markers(t, romeo))
	})
}
