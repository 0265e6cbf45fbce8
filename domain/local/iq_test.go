package local

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// ask sends a request from a session and returns the one answer.
func (w *world) ask(full, text string) string {
	w.t.Helper()
	w.boxes[full].take()
	w.say(full, text)
	got := w.boxes[full].texts()
	require.Len(w.t, got, 1, text)
	return got[0]
}

func TestIQToServerAndAccount(t *testing.T) {
	w := newWorld(t)
	w.appear(phone, 0)
	unavailable := func(from string) string {
		return "<iq from='" + from + "' to='" + phone + "' type='error' id='1'><error type='cancel'>" +
			"<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
	}
	// A61: nobody understands it, wherever it is sent.
	for _, to := range []string{"capulet.lit", "juliet@capulet.lit", "romeo@capulet.lit", "nobody@capulet.lit",
		"nobody@capulet.lit/x", "capulet.lit/x"} {
		require.Equal(t, unavailable(to),
			w.ask(phone, "<iq type='get' id='1' to='"+to+"'><query xmlns='urn:example:unknown'/></iq>"))
	}
	// Known, but not of this type, not for this target.
	require.Equal(t, unavailable("capulet.lit"),
		w.ask(phone, "<iq type='set' id='1' to='capulet.lit'><ping xmlns='urn:xmpp:ping'/></iq>"))
	for _, to := range []string{"romeo@capulet.lit", "nobody@capulet.lit"} {
		for _, what := range []string{"'get' id='1' to='" + to + "'><ping xmlns='urn:xmpp:ping'/>",
			"'set' id='1' to='" + to + "'><enable xmlns='urn:xmpp:carbons:2'/>"} {
			require.Contains(t, w.ask(phone, "<iq type="+what+"</iq>"), "<forbidden")
		}
	}
	// From another domain.
	require.Equal(t, stanza.BadRequest,
		condition(w.route("<iq type='get' id='1' from='a@montague.lit/x' to='capulet.lit'/>", 0)))
	require.Nil(
		t, w.route("<iq type='get' id='1' from='a@montague.lit/x' to='capulet.lit'><ping xmlns='urn:xmpp:ping'/></iq>",
			0))
	require.Equal(t, []string{"<iq from='capulet.lit' to='a@montague.lit/x' type='result' id='1'/>"}, w.away.texts())
}

// What a handler wants sent after its answer comes after it, and not when it refuses.
func TestIQAnswerComesFirst(t *testing.T) {
	w := newWorld(t)
	w.appear(phone, 0)
	require.NoError(t, w.services.Serve([]service.Handler{{
		At: service.AtDomain, Space: "urn:example", Local: "query",
		Handle: func(ctx context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
			session.AfterReply(ctx, func() {
				w.sessions.Send(r.From, packet(parse(t, "<message to='"+phone+"'/>"), 0))
			})
			if r.IQ.Type == stanza.TypeSet {
				return nil, stanza.Refuse(stanza.Forbidden, "")
			}
			return []stanza.Element{stanza.New("urn:example", "answer")}, nil
		},
	}}))
	w.say(phone, "<iq type='get' id='1' to='capulet.lit'><query xmlns='urn:example'/></iq>")
	w.got(phone, "<iq from='capulet.lit' to='"+phone+"' type='result' id='1'><answer xmlns='urn:example'/></iq>",
		"<message to='"+phone+"'/>")
	require.Contains(t, w.ask(phone, "<iq type='set' id='1' to='capulet.lit'><query xmlns='urn:example'/></iq>"),
		"<forbidden")
}

// TestNameTakenAnew: when the account of a request was deleted, and somebody else has registered its name, the one is
// not taken for the other, and gets neither the answer nor a refusal.
func TestNameTakenAnew(t *testing.T) {
	for _, tc := range []struct {
		what  string
		early bool
		calls int
	}{
		{"before the handler", true, 0},
		{"in the handler", false, 1},
	} {
		for _, refuse := range []bool{false, true} {
			t.Run(fmt.Sprint(tc.what, ", refused=", refuse), func(t *testing.T) {
				w := newWorld(t)
				w.appear(phone, 0)
				origin := originOf(w.sess[phone])
				take := func() {
					w.sessions.Unbind(w.sess[phone])
					w.domain.accounts.(people)["juliet"] = 9
					w.connect(phone)
				}
				var asked []uint64
				require.NoError(t, w.services.Serve([]service.Handler{{
					At: service.AtAccount, Space: "urn:example", Local: "whose", From: service.Self,
					Handle: func(_ context.Context, r *service.Request) ([]stanza.Element, *stanza.Error) {
						asked = append(asked, r.Account)
						if !tc.early {
							take()
						}
						w.domain.Reply(r.Account, r.From, &stream.Packet{Stanza: &stanza.Stanza{Kind: stanza.Message,
							From: r.From.Bare(), To: r.From}}) // as the pages of a history come
						if refuse {
							return nil, stanza.Refuse(stanza.Forbidden, "")
						}
						return []stanza.Element{stanza.New("urn:example", "secret")}, nil
					},
				}}))
				if tc.early {
					take()
				}
				e := &router.Envelope{Origin: origin,
					Stanza: parse(t, "<iq type='get' id='1'><whose xmlns='urn:example'/></iq>")}
				w.router.Accept(t.Context(), e)
				require.Empty(t, w.boxes[phone].texts(), "the other account has asked for nothing")
				require.Len(t, asked, tc.calls)
				require.NotContains(t, asked, uint64(9))
			})
		}
	}
}

// activity is a store.LastActivity of one account.
type activity map[store.AccountID]int64

func (a activity) LastActivity(_ context.Context, owner store.AccountID) (int64, string, error) {
	if at, ok := a[owner]; ok {
		return at, "Heading home", nil
	}
	return 0, "", store.ErrNotFound
}

func (a activity) SetLastActivity(context.Context, store.AccountID, int64, string) error { return nil }

// TestLastActivityAndPrivacy is XEP-0012, and with disco A104: who is not subscribed learns nothing, not even that the
// account exists.
func TestLastActivityAndPrivacy(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Now = func() time.Time { return time.Unix(1903, 0) }
		c.Activity = activity{1: 1000}
	})
	const last, info = "<query xmlns='jabber:iq:last'/>", "<query xmlns='http://jabber.org/protocol/disco#info'/>"
	w.appear(romeo, 0)
	get := func(to, payload string) string {
		got := w.ask(romeo, "<iq type='get' id='1' to='"+to+"'>"+payload+"</iq>")
		return strings.ReplaceAll(got, to, "X")
	}
	for _, payload := range []string{last, info} {
		missing := get("nobody@capulet.lit", payload)
		require.Contains(t, missing, "service-unavailable")
		require.Equal(t, missing, get("juliet@capulet.lit", payload),
			"an account without a subscription learns nothing of one that is away")
		require.Equal(t, missing, get("nurse@capulet.lit", payload))
	}
	w.appear(phone, 0)
	for _, payload := range []string{last, info} {
		require.Equal(t, get("nobody@capulet.lit", payload), get("juliet@capulet.lit", payload),
			"nor of one that is there")
	}
	w.friends.sees["1 romeo@capulet.lit"] = true
	w.friends.sees["3 romeo@capulet.lit"] = true
	require.Contains(t, get("juliet@capulet.lit", last), "seconds='0'/>")
	require.Contains(t, get("juliet@capulet.lit", info), "<identity category='account' type='registered'/>")
	w.sessions.Unbind(w.sess[phone])
	require.Contains(t, get("juliet@capulet.lit", last),
		"<query xmlns='jabber:iq:last' seconds='903'>Heading home</query>")
	require.Contains(t, get("nurse@capulet.lit", last), "service-unavailable", "she was never there")
	require.Contains(t, w.ask(romeo, "<iq type='get' id='1'><query xmlns='jabber:iq:last'/></iq>"), "seconds='0'",
		"about oneself")
}
