package archive

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

func numbered(name string, n uint64) stanza.Element {
	return stanza.New(payload.NSMarker, name, "number", fmt.Sprint(n))
}

func request() stanza.Element { return stanza.New(payload.NSReceipts, "request") }

// markers returns how far an account has come in the conversation of romeo and juliet: delivered, read, and read
// without telling.
func (h *house) markers(t *testing.T, account store.AccountID) (through [3]uint64) {
	t.Helper()
	all, _, err := h.log.Markers(t.Context(), h.conversation(t).ID, 0, 10)
	require.NoError(t, err)
	for _, m := range all {
		if m.Account == account {
			through[m.Kind-1] = m.Through
		}
	}
	return through
}

// mark says a marker and returns its receipt and what was delivered.
func (h *house) mark(t *testing.T, who string, marks ...stanza.Element) (r uint64, got []*stream.Packet) {
	t.Helper()
	to := "romeo@verona.example"
	if from(who).Account == romeo {
		to = "juliet@verona.example"
	}
	receipt := h.say(t, who, chat(to, "", marks...))
	require.Nil(t, receipt.Err)
	require.Zero(t, receipt.Seq, "it has no number")
	return receipt.ID, h.seen()
}

func payloadText(s *stanza.Stanza) string {
	var all []string
	for i := range s.Payload {
		if e := &s.Payload[i]; e.Local != "stanza-id" && e.Local != "delay" {
			all = append(all, e.Local+" "+e.Attr("id")+e.Attr("number"))
		}
	}
	return strings.Join(all, ", ")
}

// found is one result of a history query.
type found struct {
	id   string
	said *stanza.Stanza
}

// history is what an account's history query gives.
func (h *house) history(t *testing.T, who, text string) (all []found) {
	t.Helper()
	h.seen()
	iq := parse(t, text)
	iq.From = from(who).Address
	iq.To = iq.From.Bare()
	_, refusal := h.ask(t, iq, from(who).Account)
	require.Nil(t, refusal)
	for _, p := range h.seen() {
		result := p.Stanza.Child(nsMAM, "result")
		said, _ := payload.Forwarded(result)
		all = append(all, found{result.Attr("id"), said})
	}
	return all
}

// Read markers are state: they move forward, whichever way they name the message; a change takes an identity and no
// number, and one that moves nothing is acknowledged and no more.
func TestReadMarkers(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		h.run(t)
		first := h.say(t, orchard, named("m1", chat("juliet@verona.example", "one", origin("o1")))) // 1
		h.say(t, orchard, named("m<2>", chat("juliet@verona.example", "two")))                      // 2
		h.say(t, orchard, named("m3", chat("juliet@verona.example", "three")))                      // 3
		h.seen()
		last := first.ID
		moves := func(who string, want string, marks ...stanza.Element) {
			t.Helper()
			id, got := h.mark(t, who, marks...)
			require.Greater(t, id, last)
			last = id
			require.Len(t, got, 1)
			require.Equal(t, id, got[0].ArchiveID)
			require.Equal(t, h.StanzaID(id), got[0].Whole().Child(nsStanzaID, "stanza-id").Attr("id"))
			require.Empty(t, positions(got[0].Whole()))
			require.Equal(t, want, payloadText(got[0].Whole()))
		}
		nothing := func(who string, why string, marks ...stanza.Element) {
			t.Helper()
			id, got := h.mark(t, who, marks...)
			require.Zero(t, id, why)
			require.Empty(t, got, why)
		}
		live := func(who string, marks ...stanza.Element) {
			t.Helper()
			id, got := h.mark(t, who, marks...)
			require.Zero(t, id)
			require.Len(t, got, 1)
			require.Zero(t, got[0].ArchiveID)
			require.Nil(t, got[0].Whole().Child(nsStanzaID, "stanza-id"))
		}
		moves(balcony, "received o1", received("o1"))
		require.Equal(t, [3]uint64{1, 0, 0}, h.markers(t, juliet))
		nothing(balcony, "again", received("o1"))
		moves(balcony, "displayed m<2>", displayed("m<2>"))
		nothing(balcony, "not backward", displayed("o1"))
		moves("juliet@verona.example/tablet", "received "+h.StanzaID(first.ID)+", displayed m3",
			stanza.New(payload.NSMarkers, "received", "id", h.StanzaID(first.ID)), displayed("m3"))
		nothing(balcony, "all her devices have the same", displayed("m3"))
		moves(balcony, "received m3", received("m3"))
		require.Equal(t, [3]uint64{3, 3, 0}, h.markers(t, juliet))

		// What is not found is told to those who are there, and moves nothing; so is a marker for one's own message,
		// one on that of another conversation, and one with a thread.
		live(balcony, displayed("unknown"))
		live(balcony, displayed(h.StanzaID(1<<40)))
		live(orchard, displayed("m3"))
		require.Nil(t, h.say(t, orchard, named("m4", chat("nurse@verona.example", "one", origin("o4")))).Err)
		h.seen()
		live(balcony, displayed("o4"))
		require.Nil(t, h.say(t, orchard, named("m4", chat("juliet@verona.example", "four"))).Err) // 4
		h.seen()
		live(balcony, displayed("m4"), stanza.New(stanza.NSClient, "thread").WithText("t"))
		require.Equal(t, [3]uint64{3, 3, 0}, h.markers(t, juliet))
		require.Equal(t, [3]uint64{}, h.markers(t, romeo))

		// By number; the id is told beside it, and beyond the last it is the last.
		moves(balcony, "displayed m4, read 4", numbered("read", 1<<62))
		nothing(balcony, "again", numbered("read", 4))
		moves(balcony, "delivered 4", numbered("delivered", 4)) // nobody has asked for a receipt
		require.Equal(t, [3]uint64{4, 4, 0}, h.markers(t, juliet))

		// A marker with a text is a text too, whether or not it moves.
		r := h.say(t, balcony, chat("romeo@verona.example", "and I read it", displayed("m3")))
		require.EqualValues(t, 5, r.Seq)
		require.Len(t, h.seen(), 1)
		require.Nil(t, h.say(t, orchard, named("m6", chat("juliet@verona.example", "six"))).Err)
		h.seen()
		r = h.say(t, balcony, chat("romeo@verona.example", "this too", displayed("m6")))
		require.EqualValues(t, 7, r.Seq)
		require.Len(t, h.seen(), 1)
		require.Equal(t, [3]uint64{4, 6, 0}, h.markers(t, juliet))
		c, err := h.log.ConversationOf(t.Context(), romeo, h.conversation(t).ID)
		require.NoError(t, err)
		require.Equal(t, store.ReadMarkers{Delivered: 6, Read: 6}, c.Peer)
	})
}

// A number stands for every message through it: each that asks for a receipt is named, once, and no other.
func TestReceiptsByNumber(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		h.run(t)
		for i, asks := range []bool{true, true, false, true, false} {
			s := named(fmt.Sprint("m", i+1), chat("juliet@verona.example", "x"))
			if asks {
				s.Payload = append(s.Payload, request())
			}
			h.say(t, orchard, s)
		}
		h.seen()
		for _, c := range []struct {
			through uint64
			want    string
		}{
			{1, "received m1, delivered 1"}, {4, "received m4, received m2, delivered 4"}, {5, "delivered 5"},
		} {
			_, got := h.mark(t, balcony, numbered("delivered", c.through))
			require.Len(t, got, 1)
			require.Equal(t, c.want, payloadText(got[0].Whole()))
		}
	})
}

// A marker that moves nothing reads nothing: no message, no marker and no end of a conversation.
func TestStaleMarkersReadNoMessages(t *testing.T) {
	h := newHouse(t, memory())
	h.run(t)
	for i := range 20 { // the marker's own author wrote them, so none has an id to tell
		h.say(t, balcony, named(fmt.Sprint("m", i+1), chat("romeo@verona.example", "x")))
	}
	h.mark(t, balcony, numbered("read", 20))
	h.seen()
	before := h.log.numbered.Load()
	for _, number := range []uint64{20, 7, 20} {
		id, got := h.mark(t, balcony, numbered("read", number))
		require.Zero(t, id)
		require.Empty(t, got)
		require.Equal(t, before, h.log.numbered.Load())
	}
}

// Markers of one batch are merged: all are told to those who are there, and the last has the identity.
func TestMarkersOfOneBatch(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		for i := range 3 {
			h.accept(t.Context(), from(orchard), named(fmt.Sprint("m", i), chat("juliet@verona.example", "x")))
		}
		h.step(t)
		h.seen()
		for i := range 3 {
			h.accept(t.Context(), from(balcony), chat("romeo@verona.example", "", displayed(fmt.Sprint("m", i))))
		}
		h.step(t)
		got := h.seen()
		require.Len(t, got, 3)
		require.Zero(t, got[0].ArchiveID+got[1].ArchiveID)
		require.NotZero(t, got[2].ArchiveID)
		require.Equal(t, []uint64{got[2].ArchiveID}, h.replay(t, romeo))
		h.Delivered(romeo, got[2].ArchiveID)
		require.Empty(t, h.replay(t, romeo))
	})
}

// Who was away gets each marker as it is now, once, in history and by a replay.
func TestMarkersAreCaughtUp(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		h.run(t)
		for i := range maxReceipts + 5 {
			h.say(t, orchard, named(fmt.Sprint("m", i+1), chat("juliet@verona.example", "x", request())))
		}
		h.say(t, orchard, named("plain", chat("juliet@verona.example", "x")))
		mine := h.say(t, balcony, named("mine", chat("romeo@verona.example", "x", request())))
		h.Delivered(romeo, mine.ID)
		end := uint64(maxReceipts + 7)
		replaced, _ := h.mark(t, balcony, displayed("m1"))
		read, _ := h.mark(t, balcony, numbered("read", end))
		delivered, _ := h.mark(t, balcony, numbered("delivered", end))
		h.seen()

		// History has both, at their places, for both parties.
		for _, who := range []string{orchard, balcony} {
			after := h.StanzaID(replaced)
			results := h.history(t, who, form("<after>"+after+"</after>"))
			require.Len(t, results, 2, who)
			require.Equal(t, h.StanzaID(read), results[0].id)
			require.Equal(t, "juliet@verona.example romeo@verona.example", results[0].said.From.String()+" "+
				results[0].said.To.String())
			require.Equal(t, fmt.Sprintf("displayed plain, read %d", end), payloadText(results[0].said))
			require.Equal(t, h.StanzaID(delivered), results[1].id)
			require.Len(t, results[1].said.Payload, maxReceipts+2)
			require.True(t, strings.HasPrefix(payloadText(results[1].said), "received m55, received m54, "))
			require.Empty(t, positions(results[1].said))
		}
		require.Len(t, h.history(t, orchard, form("", "ids", h.StanzaID(read))), 1)
		_, refusal := h.own(t, form("", "ids", h.StanzaID(replaced)))
		require.Equal(t, stanza.ItemNotFound, refusal.Condition)

		// A replay has one receipt a message, the newest fifty, and each only once.
		var got []string
		var ids []uint64
		take := func() {
			got, ids = nil, nil
			require.NoError(t, h.Replay(t.Context(), romeo, func(p *stream.Packet) bool {
				require.Equal(t, stream.Replay, p.Role)
				require.NotNil(t, p.Whole().Child(nsDelay, "delay"))
				got, ids = append(got, payloadText(p.Whole())), append(ids, p.ArchiveID)
				return true
			}))
		}
		take()
		require.Len(t, got, 1+maxReceipts)
		require.Equal(t, []string{fmt.Sprintf("displayed plain, read %d", end), "received m6"}, got[:2])
		require.Equal(t, fmt.Sprintf("received m55, delivered %d", end), got[maxReceipts])
		require.Equal(t, []uint64{read, 0}, ids[:2])
		require.Equal(t, delivered, ids[maxReceipts])
		h.Delivered(romeo, read)
		h.Delivered(romeo, delivered)
		take()
		require.Empty(t, got)

		// What was told of is not told again; when nobody has asked, there is nothing to tell.
		h.say(t, orchard, named("next", chat("juliet@verona.example", "x", request())))
		h.mark(t, balcony, received("next"))
		take()
		require.Equal(t, []string{"received next, delivered 58"}, got)
		h.Delivered(romeo, ids[0])
		require.NoError(t, h.flushReports())
		h.say(t, orchard, named("other", chat("juliet@verona.example", "x")))
		h.mark(t, balcony, received("other"))
		take()
		require.Empty(t, got)
		require.NoError(t, h.flushReports())
		require.Empty(t, h.cursor(t, romeo).Missed)
		found, err := h.log.Undelivered(t.Context(), romeo, 0, 10)
		require.NoError(t, err)
		require.Empty(t, found)
	})
}

// Who does not want others to know how far she has read tells her own devices only.
func TestHiddenReads(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		h.run(t)
		h.say(t, orchard, named("m1", chat("juliet@verona.example", "one")))
		h.say(t, orchard, named("m2", chat("juliet@verona.example", "two")))
		require.NoError(t, h.preferences.setHideReads(t.Context(), juliet, true))
		h.seen()
		h.copied()
		id, got := h.mark(t, balcony, displayed("m1"))
		require.NotZero(t, id)
		require.Empty(t, got)
		require.Len(t, h.copied(), 1)
		require.Equal(t, [3]uint64{0, 0, 1}, h.markers(t, juliet))
		_, got = h.mark(t, balcony, displayed("unknown"))
		require.Empty(t, got)
		r := h.say(t, balcony, chat("romeo@verona.example", "hello", displayed("m2")))
		require.EqualValues(t, 3, r.Seq)
		require.Equal(t, "body , position 3", payloadText(h.seen()[0].Whole()))
		require.Equal(t, [3]uint64{0, 0, 2}, h.markers(t, juliet))

		// What is not stored tells no more than what is, and neither does what names nothing.
		for _, s := range []*stanza.Stanza{
			chat("romeo@verona.example", "", displayed("m2"), stanza.New(payload.NSHints, "no-store")),
			chat("romeo@verona.example", "", numbered("read", 0)),
			{Kind: stanza.Message, Type: stanza.TypeHeadline, To: from(orchard).Address.Bare(),
				Payload: []stanza.Element{displayed("m2")}},
		} {
			h.copied()
			require.Nil(t, h.say(t, balcony, s).Err)
			require.Empty(t, h.seen())
			require.Len(t, h.copied(), 1)
		}
		require.Nil(t, h.say(t, balcony,
			chat("romeo@verona.example", "psst", displayed("m2"), stanza.New(payload.NSHints, "no-store"))).Err)
		require.Equal(t, "body , no-store ", payloadText(h.seen()[0].Whole()))

		require.Len(t, h.history(t, orchard, form("")), 3, "no marker")
		require.Len(t, h.history(t, balcony, form("")), 4)
		require.Equal(t, []uint64{r.ID}, h.replay(t, romeo))
		for _, m := range h.history(t, orchard, form("")) {
			require.NotContains(t, string(xmlstream.Marshal(nil, m.said)), "displayed")
		}

		require.NoError(t, h.preferences.setHideReads(t.Context(), juliet, false))
		_, got = h.mark(t, balcony, displayed("m2"))
		require.Len(t, got, 1)
		require.Equal(t, [3]uint64{0, 2, 2}, h.markers(t, juliet))
	})
}
