package local

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// resolved is an envelope that Resolve has accepted and the archive has given an identity.
func (w *world) resolved(text string, id uint64) *router.Envelope {
	w.t.Helper()
	e := &router.Envelope{Stanza: parse(w.t, text), Origin: &router.Origin{}}
	verdict, refusal := w.domain.Resolve(context.Background(), e)
	require.Nil(w.t, refusal)
	require.Equal(w.t, router.Continue, verdict)
	e.Receipt.ID, e.Target.ID = id, id
	return e
}

// TestLeftAfterAcceptance: when the resource leaves between acceptance and delivery, a normal message waits or goes to
// the devices that are live, and nothing is refused any more.
func TestLeftAfterAcceptance(t *testing.T) {
	for _, tc := range []struct {
		kind    string
		id      uint64
		another bool // device is live
		arrives int
		kept    bool
	}{
		{"normal", 7, false, 0, true},
		{"normal", 7, true, 1, false},
		{"normal", 0, false, 0, false},
		{"chat", 7, false, 0, true},
		{"groupchat", 0, true, 0, false},
		{"headline", 0, true, 0, false},
		{"error", 0, true, 0, false},
	} {
		w := newWorld(t)
		s := w.appear(phone, 0)
		if tc.another {
			w.appear(laptop, 0)
		}
		e := w.resolved("<message from='romeo@montague.lit/x' to='"+phone+"' type='"+tc.kind+
			"'><body>hi</body></message>", tc.id)
		w.sessions.Unbind(s)
		require.Nil(t, w.domain.Deliver(t.Context(), e), tc)
		if tc.another {
			require.Len(t, w.boxes[laptop].take(), tc.arrives, tc)
		}
		require.Equal(t, tc.kept, len(w.log.takeKept()) == 1, tc)
	}
}

// TestForThePerson: a receipt, a marker and an invitation to a resource that is gone are for the account; other normal
// messages are for the resource.
func TestForThePerson(t *testing.T) {
	const room = "<x xmlns='http://jabber.org/protocol/muc#user'"
	for payload, want := range map[string]stanza.Condition{
		"<received xmlns='urn:xmpp:receipts' id='1'/>":             "",
		"<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>":      "",
		"<x xmlns='jabber:x:conference' jid='room@montague.lit'/>": "",
		room + "><invite from='romeo@montague.lit'/></x>":          "",
		room + "/>":                                   stanza.ServiceUnavailable,
		"<request xmlns='urn:xmpp:receipts'/>":        stanza.ServiceUnavailable,
		"<markable xmlns='urn:xmpp:chat-markers:0'/>": stanza.ServiceUnavailable,
		"<body>hi</body>":                             stanza.ServiceUnavailable,
		"<body>hi</body><displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>": "",
		"<active xmlns='http://jabber.org/protocol/chatstates'/>":            stanza.ServiceUnavailable,
	} {
		w := newWorld(t)
		w.appear(laptop, 0)
		refusal := w.route("<message from='romeo@montague.lit/x' to='juliet@capulet.lit/gone'>"+payload+"</message>", 7)
		require.Equal(t, want, condition(refusal), payload)
		arrived := 0
		if want == "" {
			arrived = 1
		}
		require.Len(t, w.boxes[laptop].take(), arrived, payload)
	}
}

// TestKnownIsNotRefused: what was accepted once and comes again gets its first answer, whoever is gone since; what was
// refused is refused again.
func TestKnownIsNotRefused(t *testing.T) {
	asked := 0
	w := newWorld(t, func(c *Config) {
		c.Known = func(_ context.Context, e *router.Envelope) bool {
			asked++
			e.Receipt = router.Receipt{ID: 5, Duplicate: true}
			return e.Stanza.ID == "known"
		}
	})
	e := &router.Envelope{Stanza: parse(t, "<message id='known' to='nobody@capulet.lit' type='chat'/>"),
		Origin: &router.Origin{Kind: router.Client}}
	verdict, refusal := w.domain.Resolve(t.Context(), e)
	require.Nil(t, refusal)
	require.Equal(t, router.Finish, verdict)
	for range 2 {
		e.Stanza.ID = "new"
		_, refusal = w.domain.Resolve(t.Context(), e)
		require.Equal(t, stanza.ServiceUnavailable, condition(refusal))
	}
	e.Stanza.To = jid.MustParse("juliet@capulet.lit")
	_, refusal = w.domain.Resolve(t.Context(), e)
	require.Nil(t, refusal)
	require.Equal(t, 3, asked, "only before a refusal")
}

// silent are accounts that may not be asked any more.
type silent struct{ t *testing.T }

func (s silent) Lookup(context.Context, string) (store.AccountID, bool, error) {
	s.t.Error("an account is looked up while a message is delivered")
	return 0, false, nil
}

// TestDeliveryLooksNothingUp: whoever is there or not, an accepted message has all that its delivery needs.
func TestDeliveryLooksNothingUp(t *testing.T) {
	w := newWorld(t)
	w.appear(phone, 0)
	carbonsOn(w, phone)
	var all []*router.Envelope
	for _, to := range []string{"juliet@capulet.lit", phone, "juliet@capulet.lit/gone", "romeo@capulet.lit",
		"romeo@capulet.lit/gone"} {
		all = append(all, w.resolved("<message from='nurse@capulet.lit/x' to='"+to+
			"' type='chat'><body>hi</body></message>", uint64(len(all)+1)))
	}
	w.domain.accounts = silent{t}
	for _, e := range all {
		require.Nil(t, w.domain.Deliver(t.Context(), e))
		w.domain.carbons(t.Context(), e)
	}
	require.Len(t, w.boxes[phone].take(), 3)
	require.Len(t, w.log.takeKept(), 2)
}

// elsewhereDirectory says that juliet has a live session at node 2.
type elsewhereDirectory struct {
	session.Alone
	sent []*stream.Packet
}

func (d *elsewhereDirectory) Lookup(context.Context, uint64) ([]session.Entry, error) {
	return []session.Entry{{Account: 1, Resource: "far", Node: session.Node{ID: 2}, Available: true}}, nil
}

func (d *elsewhereDirectory) Send(_ uint32, f session.Frame) bool {
	d.sent = append(d.sent, f.Packet)
	return true
}

// TestDeliveryElsewhere: what a device at another node is to get is given to that node, and is not kept for want of one
// here.
func TestDeliveryElsewhere(t *testing.T) {
	far := &elsewhereDirectory{}
	w := newWorld(t, func(c *Config) { c.Sessions = session.New(session.Config{Directory: far, Peers: far}) })
	for _, tc := range []struct {
		to, kind string
		sent     int
	}{
		{"juliet@capulet.lit", "chat", 1}, {"juliet@capulet.lit/far", "chat", 1},
		{"juliet@capulet.lit/gone", "chat", 1},
	} {
		require.Nil(t, w.domain.Deliver(t.Context(),
			w.resolved("<message from='romeo@montague.lit/x' to='"+tc.to+"' type='"+tc.kind+
				"'><body>hi</body></message>", 7)))
		require.Len(t, far.sent, tc.sent, tc)
		require.Empty(t, w.log.takeKept(), tc)
		far.sent = nil
	}
}
