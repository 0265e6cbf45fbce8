package archive

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/pebble"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

const (
	orchard = "romeo@verona.example/orchard"
	balcony = "juliet@verona.example/balcony"
)

func displayed(id string) stanza.Element { return stanza.New(payload.NSMarkers, "displayed", "id", id) }
func received(id string) stanza.Element  { return stanza.New(payload.NSReceipts, "received", "id", id) }
func replace(id string) stanza.Element   { return stanza.New(nsCorrect, "replace", "id", id) }
func retract(id string) stanza.Element   { return stanza.New(nsRetract, "retract", "id", id) }

// named gives a stanza an id.
func named(id string, s *stanza.Stanza) *stanza.Stanza {
	s.ID = id
	return s
}

// logs runs a test with the log in memory and with the real one.
func logs(t *testing.T, run func(t *testing.T, log store.MessageLog)) {
	t.Run("memory", func(t *testing.T) { run(t, memory()) })
	t.Run("pebble", func(t *testing.T) {
		log, err := pebble.Open(t.TempDir(), pebble.Options{Durability: pebble.DurabilityRelaxed})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, log.Close()) })
		run(t, log)
	})
}

func party(address string) store.Party {
	who := from(address)
	return store.Party{JID: who.Address.Bare(), Account: store.AccountID(who.Account)}
}

// markers returns how far an account has come in the conversation of romeo and juliet, device by device.
func (h *house) markers(t *testing.T, account store.AccountID) map[string]string {
	t.Helper()
	id, _, err := h.log.Conversation(t.Context(), party(orchard), party(balcony))
	require.NoError(t, err)
	all, err := h.log.ReadMarkersOf(t.Context(), id, account)
	require.NoError(t, err)
	out := map[string]string{}
	for _, p := range all {
		out[p.Device] = fmt.Sprintf("%d/%d", p.Delivered, p.Read)
	}
	return out
}

// Read markers move forward, each device's own, whichever way they name the message, and one that moves nothing is acknowledged and no more.
func TestReadMarkers(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		h.run(t)
		first := h.say(t, orchard, named("m1", chat("juliet@verona.example", "one", origin("o1")))) // 1
		h.say(t, orchard, named("m<2>", chat("juliet@verona.example", "two")))                      // 2
		h.say(t, orchard, named("m3", chat("juliet@verona.example", "three")))                      // 3
		h.seen()

		mark := func(who string, marks ...stanza.Element) (number uint64) {
			t.Helper()
			to := "romeo@verona.example"
			if from(who).Account == romeo {
				to = "juliet@verona.example"
			}
			r := h.say(t, who, chat(to, "", marks...))
			require.Nil(t, r.Err)
			if r.Seq == 0 {
				require.Empty(t, h.seen(), "what moves nothing is not delivered")
			} else {
				require.Len(t, h.seen(), 1)
			}
			return r.Seq
		}
		require.EqualValues(t, 4, mark(balcony, received("o1")))
		require.Equal(t, map[string]string{"balcony": "1/0"}, h.markers(t, juliet))
		require.Zero(t, mark(balcony, received("o1")))
		require.EqualValues(t, 5, mark(balcony, displayed("m<2>")), "by the stanza's id")
		require.Zero(t, mark(balcony, displayed("o1")), "not backward")
		require.Zero(t, mark(balcony, received("m<2>")), "what is read is delivered too")
		require.EqualValues(t, 6, mark("juliet@verona.example/tablet", stanza.New(payload.NSMarkers, "received", "id", h.StanzaID(first.ID))), "by the stanza-id")
		require.EqualValues(t, 7, mark(balcony, received("m3"), displayed("m3")))
		require.Equal(t, map[string]string{"balcony": "3/3", "tablet": "1/0"}, h.markers(t, juliet))
		// What is not found passes as it did, and moves nothing; so does a marker for one's own message, or on that of another conversation.
		require.EqualValues(t, 8, mark(balcony, displayed("unknown")))
		require.EqualValues(t, 9, mark(orchard, displayed("m3")))
		require.Nil(t, h.say(t, orchard, named("m4", chat("nurse@verona.example", "one", origin("o4")))).Err)
		h.seen()
		require.EqualValues(t, 10, mark(balcony, displayed("o4")))
		require.Equal(t, map[string]string{"balcony": "3/3", "tablet": "1/0"}, h.markers(t, juliet))
		require.Empty(t, h.markers(t, romeo))
		// A marker with a text is a text too: it is kept when the marker moves nothing, and counts as said.
		r := h.say(t, balcony, chat("romeo@verona.example", "and I read it", displayed("m3")))
		require.EqualValues(t, 11, r.Seq)
		require.Len(t, h.seen(), 1)
		c, err := h.log.ConversationWith(t.Context(), romeo, party(balcony))
		require.NoError(t, err)
		require.Equal(t, 1, c.Unread)
		require.EqualValues(t, 3, c.Peer.Read)
	})
}

// An edit and a retraction find what the same sender has sent just before, which waits for the disk, and what is in between keeps its order.
func TestChangeOfWhatIsOnItsWay(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		stop := h.run(t)
		who := from(orchard)
		h.accept(t.Context(), who, named("m1", chat("juliet@verona.example", "one")))
		h.accept(t.Context(), who, chat("juliet@verona.example", "uno", replace("m1")))
		h.accept(t.Context(), who, named("r1", chat("juliet@verona.example", "", retract("m1"), origin("or"))))
		h.accept(t.Context(), who, named("r2", chat("juliet@verona.example", "", retract("m1"))))
		h.accept(t.Context(), who, named("r1", chat("juliet@verona.example", "", retract("m1"), origin("or"))))
		h.accept(t.Context(), who, chat("juliet@verona.example", "dos", replace("m1")))
		h.accept(t.Context(), who, named("m5", chat("juliet@verona.example", "two")))
		require.NoError(t, stop())
		var got []string
		for _, r := range h.receipts {
			switch {
			case r.Err != nil:
				got = append(got, string(r.Err.Condition))
			default:
				got = append(got, fmt.Sprint(r.Seq, r.Duplicate))
			}
		}
		require.Equal(t, []string{"1 false", "2 false", "3 false", "item-not-found", "3 true", "item-not-found", "4 false"}, got)
	})
}

// Who may edit and retract what, and until when. A refusal is in turn, and takes no number.
func TestEditAndRetract(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		now := time.Now()
		var mu sync.Mutex // guards now
		h := newHouse(t, log, func(c *Config) {
			c.EditWindow = time.Hour
			c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		})
		later := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
		h.run(t)
		say := func(who string, s *stanza.Stanza) string {
			t.Helper()
			r := h.say(t, who, s)
			if r.Err != nil {
				require.Zero(t, r.Seq)
				return string(r.Err.Condition)
			}
			return fmt.Sprint(r.Seq)
		}
		to, back := "juliet@verona.example", "romeo@verona.example"
		for i := range 6 {
			require.Equal(t, fmt.Sprint(i+1), say(orchard, named(fmt.Sprint("m", i+1), chat(to, "text", origin(fmt.Sprint("o", i+1))))))
		}
		require.Equal(t, "7", say(balcony, named("j1", chat(back, "mine"))))
		require.Equal(t, "1", say(orchard, named("n1", chat("nurse@verona.example", "other", origin("on")))))
		h.seen()

		require.Equal(t, "8", say(orchard, chat(to, "better", replace("m1"))))
		require.Equal(t, "9", say("romeo@verona.example/street", chat(to, "best", replace("o1"))), "another device of the same account")
		require.Equal(t, "forbidden", say(balcony, chat(back, "worse", replace("o1"))))
		require.Equal(t, "forbidden", say(balcony, chat(back, "worse", replace("m1"))))
		require.Equal(t, "forbidden", say(orchard, chat(to, "x", replace("on"))), "of another conversation")
		require.Equal(t, "10", say(orchard, chat(to, "x", replace("never said"))))
		require.Equal(t, "item-not-found", say(orchard, chat(to, "", retract("never said"))))
		require.Equal(t, "forbidden", say(balcony, chat(back, "", retract("o1"))))
		require.Equal(t, "item-not-found", say("nurse@verona.example/home", chat(to, "", retract("o1"))), "of a conversation that is not hers")
		require.Equal(t, "11", say(orchard, named("r1", chat(to, "", retract("o2"), origin("or2")))))
		require.Equal(t, "12", say(balcony, named("r2", chat(back, "", retract("j1")))))
		require.Equal(t, "item-not-found", say(orchard, chat(to, "", retract("o2"))), "once")
		require.Equal(t, "item-not-found", say(orchard, chat(to, "x", replace("m2"))), "nothing is left to edit")

		later(3 * time.Minute)
		require.Equal(t, "not-acceptable", say(orchard, chat(to, "", retract("o3"))))
		require.Equal(t, "13", say(orchard, chat(to, "", replace("o3"))))
		later(time.Hour)
		require.Equal(t, "not-acceptable", say(orchard, chat(to, "", replace("o3"))))
		again := h.say(t, "romeo@verona.example/street", named("r1", chat(to, "", retract("o2"), origin("or2"))))
		require.Nil(t, again.Err, "sent again, it is known, whatever the window says now")
		require.True(t, again.Duplicate)
		require.EqualValues(t, 11, again.Seq)

		id, _, err := h.log.Conversation(t.Context(), party(orchard), party(balcony))
		require.NoError(t, err)
		all, err := h.log.Numbered(t.Context(), id, 1, 100)
		require.NoError(t, err)
		require.Len(t, all, 13)
		for _, m := range all {
			retracted := m.Seq == 2 || m.Seq == 7
			require.Equal(t, retracted, m.Flags&store.Retracted != 0, "number %d", m.Seq)
			require.Equal(t, m.Seq <= 6 && !retracted, m.Flags&store.Unread != 0, "number %d", m.Seq)
		}
		left := parse(t, string(all[1].Stanza))
		require.Equal(t, "m2", left.ID)
		require.Equal(t, orchard, left.From.String())
		require.Empty(t, left.Body())
		require.Equal(t, "r1", left.Child(nsRetract, "retracted").Attr("id"))
		require.NotEmpty(t, left.Child(nsRetract, "retracted").Attr("stamp"))
		require.Equal(t, "o2", left.Child(nsStanzaID, "origin-id").Attr("id"))
		require.Equal(t, "r2", parse(t, string(all[6].Stanza)).Child(nsRetract, "retracted").Attr("id"))
	})
}

// What is looked for is found within reach, and no further.
func TestResolveReach(t *testing.T) {
	h := newHouse(t, memory())
	h.run(t)
	for i := range resolveReach + 20 {
		require.Nil(t, h.say(t, orchard, named(fmt.Sprint("m", i), chat("juliet@verona.example", "x"))).Err)
	}
	for id, want := range map[string]string{"m0": "item-not-found", "m19": "item-not-found", "m20": "", "m100": "", fmt.Sprint("m", resolveReach+19): ""} {
		next := &entry{envelope: &router.Envelope{Stanza: chat("juliet@verona.example", "", retract(id)), Origin: from(orchard)}, accepted: time.Now()}
		next.envelope.Stanza.From = jid.MustParse(orchard)
		next.envelope.Target = router.Target{Kind: router.AnAccount, Account: juliet}
		require.NoError(t, h.prepare(t.Context(), next))
		refusal, err := h.resolveChange(t.Context(), next)
		require.NoError(t, err)
		if want != "" {
			require.Equal(t, want, string(refusal.Condition), id)
			continue
		}
		require.Nil(t, refusal, id)
		require.NotZero(t, next.message.Retract, id)
	}
}

// Whatever a stanza's id is, the message is found by it: nothing that is written in another way is missed by looking for the text.
func FuzzCalled(f *testing.F) {
	for _, seed := range []string{"m1", "a&b", "<'\">", "\t\n\r", "\u0085\u2028", "ü王", "]]>", "&amp;", " x "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if id == "" || !stanza.ValidText(id) {
			return
		}
		m := &store.Message{Stanza: xmlstream.Marshal(nil, named(id, chat("juliet@verona.example", "x")))}
		if !called(m, id) || called(m, id+"x") {
			t.Fatalf("a message of the id %q is not found by it, or by another: %s", id, m.Stanza)
		}
	})
}
