package archive

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/pebble"
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

// conversation is that of romeo and juliet.
func (h *house) conversation(t testing.TB) store.Opened {
	t.Helper()
	opened, err := h.log.FindConversation(context.Background(), store.DirectKey(party(orchard), party(balcony)))
	require.NoError(t, err)
	return opened
}

func party(address string) store.Party {
	who := from(address)
	return store.Party{JID: who.Address.Bare(), Account: store.AccountID(who.Account)}
}

// An edit and a retraction find what the same sender has sent just before, which waits for the disk, and what is in
// between keeps its order.
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
		require.Equal(t, []string{"1 false", "2 false", "3 false", "item-not-found", "3 true", "item-not-found",
			"4 false"}, got)
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
			require.Equal(t, fmt.Sprint(i+1),
				say(orchard, named(fmt.Sprint("m", i+1), chat(to, "text", origin(fmt.Sprint("o", i+1))))))
		}
		require.Equal(t, "7", say(balcony, named("j1", chat(back, "mine"))))
		require.Equal(t, "1", say(orchard, named("n1", chat("nurse@verona.example", "other", origin("on")))))
		h.seen()

		require.Equal(t, "8", say(orchard, chat(to, "better", replace("m1"))))
		require.Equal(t, "9", say("romeo@verona.example/street", chat(to, "best", replace("o1"))),
			"another device of the same account")
		require.Equal(t, "forbidden", say(balcony, chat(back, "worse", replace("o1"))))
		require.Equal(t, "forbidden", say(balcony, chat(back, "worse", replace("m1"))))
		require.Equal(t, "forbidden", say(orchard, chat(to, "x", replace("on"))), "of another conversation")
		require.Equal(t, "10", say(orchard, chat(to, "x", replace("never said"))))
		require.Equal(t, "item-not-found", say(orchard, chat(to, "", retract("never said"))))
		require.Equal(t, "forbidden", say(balcony, chat(back, "", retract("o1"))))
		require.Equal(t, "item-not-found", say("nurse@verona.example/home", chat(to, "", retract("o1"))),
			"of a conversation that is not hers")
		require.Equal(t, "11", say(orchard, named("r1", chat(to, "", retract("o2"), origin("or2")))))
		require.Equal(t, "12", say(balcony, named("r2", chat(back, "", retract("j1")))))
		require.Equal(t, "item-not-found", say(orchard, chat(to, "", retract("o2"))), "once")
		require.Equal(t, "item-not-found", say(orchard, chat(to, "x", replace("m2"))), "nothing is left to edit")

		later(3 * time.Minute)
		require.Equal(t, "policy-violation", say(orchard, chat(to, "", retract("o3"))))
		require.Equal(t, "13", say(orchard, chat(to, "", replace("o3"))))
		later(time.Hour)
		require.Equal(t, "policy-violation", say(orchard, chat(to, "", replace("o3"))))
		again := h.say(t, "romeo@verona.example/street", named("r1", chat(to, "", retract("o2"), origin("or2"))))
		require.Nil(t, again.Err, "sent again, it is known, whatever the window says now")
		require.True(t, again.Duplicate)
		require.EqualValues(t, 11, again.Seq)

		id := h.conversation(t).ID
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

// TestChangeIsDecidedAnew: a message that comes between the decision and the commit is seen by the next one, which does
// not miss an edit. A sender who has left is refused by the committer, and a conversation that always goes on is busy.
func TestChangeIsDecidedAnew(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log, func(c *Config) { c.RetractWindow = -1 })
		h.run(t)
		h.say(t, orchard, named("m1", chat("juliet@verona.example", "secret", origin("o1"))))
		tries, always := 0, false
		h.log.before = func(batch []*store.Append) error {
			if len(batch) == 1 && batch[0].Retract != 0 {
				if tries++; tries == 1 || always {
					edit := stored(t, log, orchard, "juliet@verona.example", "secret 2")
					edit.Stanza = xmlstream.Marshal(nil, chat("juliet@verona.example", "secret 2", replace("m1")))
					put(t, log, noon, edit)
				}
			}
			return nil
		}
		r := h.say(t, orchard, named("r1", chat("juliet@verona.example", "", retract("m1"))))
		require.Nil(t, r.Err)
		require.EqualValues(t, 3, r.Seq)
		require.Equal(t, 2, tries)
		all, err := log.Since(t.Context(), 0, 10)
		require.NoError(t, err)
		for _, m := range all[:2] {
			require.NotZero(t, m.Flags&store.Retracted)
			require.NotContains(t, string(m.Stanza), "secret")
		}

		h.say(t, orchard, named("m4", chat("juliet@verona.example", "x")))
		always, tries = true, 0
		r = h.say(t, orchard, named("r2", chat("juliet@verona.example", "", retract("m4"))))
		require.Equal(t, busy.Condition, r.Err.Condition)
		require.Equal(t, changeTries, tries)
	})
}

// Who leaves while an entry of his waits is told by the committer that it was overtaken, since nobody decides it anew.
func TestOvertakenAndLeft(t *testing.T) {
	log := memory()
	h := newHouse(t, log, func(c *Config) { c.RetractWindow = -1 })
	h.accept(t.Context(), from(orchard), named("m1", chat("juliet@verona.example", "x")))
	h.step(t)
	ctx, leave := context.WithCancel(t.Context())
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		h.accept(ctx, from(orchard), chat("juliet@verona.example", "", retract("m1")))
	}()
	<-h.queue.wake // what was put first
	<-h.queue.wake
	leave()
	<-accepted
	put(t, log, noon, stored(t, log, balcony, "romeo@verona.example", "between"))
	h.step(t)
	require.Len(t, h.receipts, 2)
	require.Equal(t, busy.Condition, h.receipts[1].Err.Condition)
}

// The id of a stanza names the newest message that has it, however long ago it was.
func TestNamedByItsStanza(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		h.run(t)
		long := strings.Repeat("long ", 100)
		for _, id := range []string{"m<0>", "twice", "twice", long} {
			require.Nil(t, h.say(t, orchard, named(id, chat("juliet@verona.example", "x"))).Err)
		}
		for range 300 {
			require.Nil(t, h.say(t, orchard, named("other", chat("juliet@verona.example", "x"))).Err)
		}
		for id, want := range map[string]int{"m<0>": 1, "twice": 3, long: 4} {
			require.Nil(t, h.say(t, orchard, chat("juliet@verona.example", "", retract(id))).Err)
			found, err := log.Since(t.Context(), 0, 10)
			require.NoError(t, err)
			require.NotZero(t, found[want-1].Flags&store.Retracted, id)
		}
	})
}
