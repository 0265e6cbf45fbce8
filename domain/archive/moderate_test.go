package archive

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// An administrator's retraction is a message in the conversation that it concerns, durable and numbered, and reaches
// both.
func TestModerate(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log, func(c *Config) {
			c.RetractWindow = time.Nanosecond
		})
		h.run(t)
		r := h.say(t, orchard, named("m1", chat("juliet@verona.example", "bad words", origin("o1"))))
		h.seen()
		h.copied()
		admin := jid.MustParse("prince@verona.example")
		done, refusal := h.Moderate(t.Context(), admin, h.StanzaID(r.ID), "Banned.")
		require.Nil(t, refusal)
		require.EqualValues(t, 2, done.Number)
		require.Equal(t, r.ID, done.Original)
		require.Equal(t, "romeo@verona.example juliet@verona.example", done.Sender.String()+" "+done.Recipient.String())
		h.flushDelivery(t)

		got := h.seen()
		require.Len(t, got, 1)
		require.Equal(t, done.Message, got[0].ArchiveID)
		s := got[0].Whole()
		require.Equal(t, "romeo@verona.example juliet@verona.example", s.From.String()+" "+s.To.String())
		said := s.Child(nsRetract, "retract")
		require.Equal(t, "o1", said.Attr("id"))
		require.Equal(t, "Banned.", said.ChildText(nsRetract, "reason"))
		require.Equal(t, admin.String(), said.Child(nsModerate, "moderated").Attr("by"))
		require.Equal(t, []string{"2"}, positions(s))
		copies := h.copied()
		require.Len(t, copies, 1)
		require.Equal(t, done.Message, copies[0].Receipt.ID)

		m, err := h.log.Message(t.Context(), store.MessageID(r.ID))
		require.NoError(t, err)
		left := parse(t, string(m.Stanza))
		require.NotContains(t, string(m.Stanza), "bad words")
		require.Equal(t, s.ID, left.Child(nsRetract, "retracted").Attr("id"))
		require.Equal(t, admin.String(), left.Child(nsRetract, "retracted").Child(nsModerate, "moderated").Attr("by"))

		for _, id := range []string{h.StanzaID(r.ID), h.StanzaID(1 << 40), "nonsense", ""} {
			_, refusal = h.Moderate(t.Context(), admin, id, "")
			require.Equal(t, stanza.ItemNotFound, refusal.Condition, "%q", id)
		}
		iq := parse(
			t,
			"<iq xmlns='jabber:client' type='set' id='1' from='prince@verona.example/x'><moderate "+
				"xmlns='urn:posthouse:admin:1' id='"+h.StanzaID(done.Message)+"'/></iq>")
		result, refusal := h.AnswerModerate(t.Context(), &service.Request{From: iq.From, IQ: iq})
		require.Nil(t, refusal)
		require.Equal(t, h.StanzaID(done.Message), result[0].Attr("id"))

		// What administrators say themselves they may retract at any time.
		late := h.say(t, orchard, named("m2", chat("juliet@verona.example", "late")))
		require.Nil(t, late.Err)
		require.Equal(t, stanza.PolicyViolation,
			h.say(t, orchard, chat("juliet@verona.example", "", retract("m2"))).Err.Condition)
		answered := make(chan router.Receipt, 1)
		own := chat("juliet@verona.example", "", retract("m2"))
		own.From = jid.MustParse(orchard)
		moderator := from(orchard)
		moderator.Admin = true
		h.router.Accept(t.Context(), &router.Envelope{Stanza: own, Origin: moderator,
			Stored: func(e *router.Envelope) { answered <- e.Receipt }})
		require.Nil(t, (<-answered).Err)
	})
}

// Who moderates when the committer has ended, or goes away, is not kept.
func TestModerateWithoutCommitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, memory())
		m := fill(t, h.log, noon, 1, withEverybody)[0]
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, refusal := h.Moderate(ctx, jid.MustParse("prince@verona.example"), h.StanzaID(uint64(m.ID)), "")
		require.Equal(t, stanza.InternalServerError, refusal.Condition)
		h.queue.end()
		_, refusal = h.Moderate(t.Context(), jid.MustParse("prince@verona.example"), h.StanzaID(uint64(m.ID)), "")
		require.Equal(t, stanza.InternalServerError, refusal.Condition)
	})
}

// What was retracted is gone with all its edits, and with nobody else's.
func TestRetractTakesEditsAlong(t *testing.T) {
	logs(t, func(t *testing.T, log store.MessageLog) {
		h := newHouse(t, log, func(c *Config) { c.RetractWindow = -1 })
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
		opened := h.conversation(t)
		id, last := opened.ID, opened.Last
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
		_, refusal := h.Moderate(t.Context(), jid.MustParse("prince@verona.example"), h.StanzaID(m2), "")
		require.Nil(t, refusal)
		require.Equal(t, []uint64{1, 2, last - 2, last - 1, last + 1}, gone())
	})
}

// An edit and its retraction right after each other: the edit is stored first, so that the retraction finds it.
func TestRetractFindsEditsOnTheirWay(t *testing.T) {
	h := newHouse(t, memory())
	stop := h.run(t)
	who := from(orchard)
	h.accept(t.Context(), who, named("m1", chat("juliet@verona.example", "one")))
	h.accept(t.Context(), who, chat("juliet@verona.example", "two", replace("m1")))
	h.accept(t.Context(), who, named("x", chat("juliet@verona.example", "", retract("m1"))))
	require.NoError(t, stop())
	all, err := h.log.Since(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.NotZero(t, all[0].Flags&store.Retracted)
	require.NotZero(t, all[1].Flags&store.Retracted)
}

// A moderation of what is gone meanwhile, or that does not fit, is told to the administrator, and to nobody in whose
// name it would have been.
func TestModerateRefusedByTheCommitter(t *testing.T) {
	full := false
	h := newHouse(t, memory(), func(c *Config) { c.RetractWindow = -1 })
	h.log.before = func([]*store.Append) error {
		if full {
			return store.ErrFull
		}
		return nil
	}
	h.run(t)
	r := h.say(t, orchard, named("m1", chat("juliet@verona.example", "x")))
	h.seen()
	full = true
	_, refusal := h.Moderate(t.Context(), jid.MustParse("prince@verona.example"), h.StanzaID(r.ID), "")
	require.Equal(t, stanza.ResourceConstraint, refusal.Condition)
	require.Empty(t, h.seen())
}
