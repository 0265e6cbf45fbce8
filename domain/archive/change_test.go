package archive

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/pebble"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

const (
	orchard = "romeo@verona.example/orchard"
	balcony = "juliet@verona.example/balcony"
)

func displayed(id string) stanza.Element { return stanza.New(nsMarkers, "displayed", "id", id) }
func received(id string) stanza.Element  { return stanza.New(nsReceipts, "received", "id", id) }
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
	return store.Party{JID: who.address.Bare(), Account: store.AccountID(who.account)}
}

// progress returns how far an account has come in the conversation of romeo and juliet, device by device.
func (h *house) progress(t *testing.T, account store.AccountID) map[string]string {
	t.Helper()
	id, _, err := h.log.Conversation(t.Context(), party(orchard), party(balcony))
	require.NoError(t, err)
	all, err := h.log.ProgressOf(t.Context(), id, account)
	require.NoError(t, err)
	out := map[string]string{}
	for _, p := range all {
		out[p.Device] = fmt.Sprintf("%d/%d", p.Delivered, p.Read)
	}
	return out
}

// Marks move forward, each device's own, whichever way they name the message, and one that moves nothing is acknowledged and no more.
func TestMarks(t *testing.T) {
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
			if from(who).account == romeo {
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
		require.Equal(t, map[string]string{"balcony": "1/0"}, h.progress(t, juliet))
		require.Zero(t, mark(balcony, received("o1")))
		require.EqualValues(t, 5, mark(balcony, displayed("m<2>")), "by the stanza's id")
		require.Zero(t, mark(balcony, displayed("o1")), "not backward")
		require.Zero(t, mark(balcony, received("m<2>")), "what is read is delivered too")
		require.EqualValues(t, 6, mark("juliet@verona.example/tablet", stanza.New(nsMarkers, "received", "id", h.StanzaID(first.ID))), "by the stanza-id")
		require.EqualValues(t, 7, mark(balcony, received("m3"), displayed("m3")))
		require.Equal(t, map[string]string{"balcony": "3/3", "tablet": "1/0"}, h.progress(t, juliet))
		// What is not found passes as it did, and moves nothing; so does a mark on one's own message, or on that of another conversation.
		require.EqualValues(t, 8, mark(balcony, displayed("unknown")))
		require.EqualValues(t, 9, mark(orchard, displayed("m3")))
		require.Nil(t, h.say(t, orchard, named("m4", chat("nurse@verona.example", "one", origin("o4")))).Err)
		h.seen()
		require.EqualValues(t, 10, mark(balcony, displayed("o4")))
		require.Equal(t, map[string]string{"balcony": "3/3", "tablet": "1/0"}, h.progress(t, juliet))
		require.Empty(t, h.progress(t, romeo))
		// A mark with a text is a text too: it is kept when the mark moves nothing, and counts as said.
		r := h.say(t, balcony, chat("romeo@verona.example", "and I read it", displayed("m3")))
		require.EqualValues(t, 11, r.Seq)
		require.Len(t, h.seen(), 1)
		c, err := h.log.ConversationWith(t.Context(), romeo, party(balcony))
		require.NoError(t, err)
		require.Equal(t, 1, c.Unread)
		require.EqualValues(t, 3, c.Peer.Read)
	})
}

// A mark, an edit and a recall find what they are about in the same batch too, and what is in between keeps its order.
func TestReferencesWithinABatch(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log)
		who := from(orchard)
		h.accept(t.Context(), who, named("m1", chat("juliet@verona.example", "one")))
		h.accept(t.Context(), from(balcony), chat("romeo@verona.example", "", displayed("m1")))
		h.accept(t.Context(), who, chat("juliet@verona.example", "uno", replace("m1")))
		h.accept(t.Context(), who, named("r1", chat("juliet@verona.example", "", retract("m1"), origin("or"))))
		h.accept(t.Context(), who, named("r2", chat("juliet@verona.example", "", retract("m1"))))
		h.accept(t.Context(), who, named("r1", chat("juliet@verona.example", "", retract("m1"), origin("or"))))
		h.accept(t.Context(), who, chat("juliet@verona.example", "dos", replace("m1")))
		h.accept(t.Context(), who, named("m5", chat("juliet@verona.example", "two")))
		h.accept(t.Context(), from(balcony), chat("romeo@verona.example", "read", displayed("m5")))
		stop := h.run(t)
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
		require.Equal(t, []string{"1 false", "2 false", "3 false", "4 false", "item-not-found", "4 true", "item-not-found", "5 false", "6 false"}, got)
		require.Equal(t, map[string]string{"balcony": "5/5"}, h.progress(t, juliet))
	})
}

// Who may edit and recall what, and until when. A refusal is in turn, and takes no number.
func TestEditAndRecall(t *testing.T) {
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
			recalled := m.Seq == 2 || m.Seq == 7
			require.Equal(t, recalled, m.Flags&store.Retracted != 0, "number %d", m.Seq)
			require.Equal(t, m.Seq <= 6 && !recalled, m.Flags&store.Counts != 0, "number %d", m.Seq)
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

// moderator is an administrator's own connection.
type moderator struct{ source }

func (moderator) Admin() bool { return true }

// An administrator's recall is said in the conversation of those it concerns, durable and numbered, and reaches both.
func TestRecallByAdministrator(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		var copies []*router.Envelope
		changed := make(chan uint64, 100)
		h := newHouse(t, log, func(c *Config) {
			c.RecallWindow = time.Nanosecond
			c.Copy = func(_ context.Context, e *router.Envelope) { copies = append(copies, e) }
			c.Changed = func(account uint64) { changed <- account }
		})
		h.run(t)
		r := h.say(t, orchard, named("m1", chat("juliet@verona.example", "bad words", origin("o1"))))
		h.seen()
		require.ElementsMatch(t, []uint64{romeo, juliet}, []uint64{<-changed, <-changed})
		admin := jid.MustParse("prince@verona.example")
		done, refusal := h.Recall(t.Context(), admin, h.StanzaID(r.ID), "Banned.")
		require.Nil(t, refusal)
		require.EqualValues(t, 2, done.Number)
		require.Equal(t, r.ID, done.Original)
		require.Equal(t, "romeo@verona.example juliet@verona.example", done.Sender.String()+" "+done.Recipient.String())
		require.ElementsMatch(t, []uint64{romeo, juliet}, []uint64{<-changed, <-changed})

		got := h.seen()
		require.Len(t, got, 1)
		require.Equal(t, done.Message, got[0].ArchiveID)
		s := got[0].Stanza
		require.Equal(t, "romeo@verona.example juliet@verona.example", s.From.String()+" "+s.To.String())
		said := s.Child(nsRetract, "retract")
		require.Equal(t, "o1", said.Attr("id"))
		require.Equal(t, "Banned.", said.ChildText(nsRetract, "reason"))
		require.Equal(t, admin.String(), said.Child(nsModerate, "moderated").Attr("by"))
		require.Equal(t, []string{"2"}, places(s))
		require.Len(t, copies, 1)
		require.Equal(t, done.Message, copies[0].Receipt.ID)

		m, err := h.log.Message(t.Context(), store.MessageID(r.ID))
		require.NoError(t, err)
		left := parse(t, string(m.Stanza))
		require.NotContains(t, string(m.Stanza), "bad words")
		require.Equal(t, s.ID, left.Child(nsRetract, "retracted").Attr("id"))
		require.Equal(t, admin.String(), left.Child(nsRetract, "retracted").Child(nsModerate, "moderated").Attr("by"))

		for _, id := range []string{h.StanzaID(r.ID), h.StanzaID(1 << 40), "nonsense", ""} {
			_, refusal = h.Recall(t.Context(), admin, id, "")
			require.Equal(t, stanza.ItemNotFound, refusal.Condition, "%q", id)
		}
		iq := parse(t, "<iq xmlns='jabber:client' type='set' id='1' from='prince@verona.example/x'><recall xmlns='urn:posthouse:admin:1' id='"+h.StanzaID(done.Message)+"'/></iq>")
		result, refusal := h.AnswerRecall(t.Context(), 9, iq)
		require.Nil(t, refusal)
		require.Equal(t, h.StanzaID(done.Message), result[0].Attr("id"))

		// What administrators say themselves they may recall at any time.
		late := h.say(t, orchard, named("m2", chat("juliet@verona.example", "late")))
		require.Nil(t, late.Err)
		require.Equal(t, stanza.NotAcceptable, h.say(t, orchard, chat("juliet@verona.example", "", retract("m2"))).Err.Condition)
		answered := make(chan router.Receipt, 1)
		own := chat("juliet@verona.example", "", retract("m2"))
		own.From = jid.MustParse(orchard)
		h.router.Accept(t.Context(), &router.Envelope{Stanza: own, Source: moderator{from(orchard)}, Done: func(e *router.Envelope) { answered <- e.Receipt }})
		require.Nil(t, (<-answered).Err)
	})
}

// Who asks for a recall when the committer has ended, or goes away, is not kept.
func TestRecallWithoutCommitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory())
		m := fill(t, h.log, noon, 1, withEverybody)[0]
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, refusal := h.Recall(ctx, jid.MustParse("prince@verona.example"), h.StanzaID(uint64(m.ID)), "")
		require.Equal(t, stanza.InternalServerError, refusal.Condition)
		h.queue.end()
		_, refusal = h.Recall(t.Context(), jid.MustParse("prince@verona.example"), h.StanzaID(uint64(m.ID)), "")
		require.Equal(t, stanza.InternalServerError, refusal.Condition)
	})
}

// What is looked for is found within reach, and no further; what was looked through is not read again.
func TestSeekReach(t *testing.T) {
	h := newHouse(t, memory())
	h.run(t)
	for i := range seekReach + 20 {
		require.Nil(t, h.say(t, orchard, named(fmt.Sprint("m", i), chat("juliet@verona.example", "x"))).Err)
	}
	for id, want := range map[string]string{"m0": "item-not-found", "m19": "item-not-found", "m20": "", "m100": "", fmt.Sprint("m", seekReach+19): ""} {
		h.router.Handle("verona.example", nobody{})
		next := &entry{envelope: &router.Envelope{Stanza: chat("juliet@verona.example", "", retract(id)), Source: from(orchard)}, accepted: time.Now()}
		next.envelope.Stanza.From = jid.MustParse(orchard)
		require.NoError(t, h.prepare(t.Context(), next))
		h.settle(t.Context(), next)
		if want != "" {
			require.Equal(t, want, string(next.refusal.Condition), id)
			continue
		}
		require.Nil(t, next.refusal, id)
		require.NotZero(t, next.message.Retracts, id)
	}
}

func TestPurpose(t *testing.T) {
	for _, c := range []struct {
		payload []stanza.Element
		counts  bool
		about   bool
	}{
		{payload: chat("a@b", "x").Payload, counts: true},
		{payload: []stanza.Element{stanza.New("urn:xmpp:sfs:0", "file-sharing")}, counts: true},
		{payload: []stanza.Element{stanza.New("urn:xmpp:omemo:2", "encrypted")}, counts: true},
		{payload: chat("a@b", "x", replace("1")).Payload, about: true},
		{payload: chat("a@b", "x", retract("1")).Payload, about: true},
		{payload: chat("a@b", "x", stanza.New(nsReactions, "reactions", "id", "1")).Payload},
		{payload: chat("a@b", "x", stanza.New("urn:xmpp:fasten:0", "apply-to", "id", "1")).Payload},
		{payload: chat("a@b", "x", displayed("1")).Payload, counts: true, about: true},
		{payload: []stanza.Element{displayed("1"), stanza.New(nsHints, "store")}, about: true},
		{payload: []stanza.Element{displayed("")}},
		{payload: []stanza.Element{stanza.New(nsMarkers, "markable"), stanza.New(nsReceipts, "request")}},
	} {
		counts, about := purpose(&stanza.Stanza{Kind: stanza.Message, Payload: c.payload})
		require.Equal(t, c.counts, counts, "%v", c.payload)
		require.Equal(t, c.about, about != nil, "%v", c.payload)
	}
}

// Each account that a stored message is news to is told once it has gone on, and of nothing else.
func TestChangedIsTold(t *testing.T) {
	var changed []uint64
	h := newHouse(t, memory(), func(c *Config) { c.Changed = func(account uint64) { changed = append(changed, account) } })
	h.onRoute = func(*stream.Packet) { require.Empty(t, changed, "before it went on") }
	stop := h.run(t)
	for _, s := range []*stanza.Stanza{
		chat("juliet@verona.example", "", active()), chat("juliet@verona.example", "x", origin("1")),
	} {
		require.Nil(t, h.say(t, orchard, s).Err)
	}
	require.NoError(t, stop())
	require.Equal(t, []uint64{romeo, juliet}, changed)
}

// What was recalled is gone with all its edits, and with nobody else's.
func TestRecallTakesEditsAlong(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log, func(c *Config) { c.RecallWindow = -1 })
		h.run(t)
		to, back := "juliet@verona.example", "romeo@verona.example"
		say := func(who string, s *stanza.Stanza) uint64 {
			t.Helper()
			r := h.say(t, who, s)
			require.Nil(t, r.Err)
			return r.ID
		}
		say(orchard, named("m1", chat(to, "secret 1", origin("o1")))) // 1
		say(orchard, chat(to, "secret 2", replace("m1")))             // 2
		say(balcony, chat(back, "mine", replace("unknown")))          // 3
		say(orchard, chat(to, "other", replace("m2")))                // 4
		for range editStep {
			say(orchard, chat(to, "between"))
		}
		say(orchard, chat(to, "secret 3", replace("o1")))
		m2 := say(orchard, named("m2", chat(to, "plain")))
		say(orchard, named("x1", chat(to, "", retract("m1"))))
		id, last, err := h.log.Conversation(t.Context(), party(orchard), party(balcony))
		require.NoError(t, err)
		gone := func() (numbers []uint64) {
			all, err := h.log.Numbered(t.Context(), id, 1, 1000)
			require.NoError(t, err)
			for _, m := range all {
				if m.Flags&store.Retracted != 0 {
					numbers = append(numbers, m.Seq)
					require.NotContains(t, string(m.Stanza), "secret")
					require.Nil(t, parse(t, string(m.Stanza)).Child(nsCorrect, "replace"))
				} else {
					require.NotContains(t, string(m.Stanza), "secret")
				}
			}
			return numbers
		}
		require.Equal(t, []uint64{1, 2, last - 2}, gone())
		// The administrator's does the same.
		say(orchard, chat(to, "plain too", replace("m2")))
		_, refusal := h.Recall(t.Context(), jid.MustParse("prince@verona.example"), h.StanzaID(m2), "")
		require.Nil(t, refusal)
		require.Equal(t, []uint64{1, 2, last - 2, last - 1, last + 1}, gone())
	})
}

// An edit and its recall in one batch: the edit is stored first, so that the recall finds it.
func TestRecallFindsEditsOfItsBatch(t *testing.T) {
	h := newHouse(t, memory())
	who := from(orchard)
	h.accept(t.Context(), who, named("m1", chat("juliet@verona.example", "one")))
	h.accept(t.Context(), who, chat("juliet@verona.example", "two", replace("m1")))
	h.accept(t.Context(), who, named("x", chat("juliet@verona.example", "", retract("m1"))))
	stop := h.run(t)
	require.NoError(t, stop())
	all, err := h.log.Since(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.NotZero(t, all[0].Flags&store.Retracted)
	require.NotZero(t, all[1].Flags&store.Retracted)
}

// A recall of what is gone meanwhile, or that does not fit, is told to the administrator, and to nobody in whose name it would have been.
func TestRecallRefusedByTheCommitter(t *testing.T) {
	full := false
	h := newHouse(t, memory(), func(c *Config) { c.RecallWindow = -1 })
	h.log.before = func([]*store.Append, []store.Mark) error {
		if full {
			return store.ErrFull
		}
		return nil
	}
	h.run(t)
	r := h.say(t, orchard, named("m1", chat("juliet@verona.example", "x")))
	h.seen()
	full = true
	_, refusal := h.Recall(t.Context(), jid.MustParse("prince@verona.example"), h.StanzaID(r.ID), "")
	require.Equal(t, stanza.ResourceConstraint, refusal.Condition)
	require.Empty(t, h.seen())
}
