package local

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

const (
	phone  = "juliet@capulet.lit/phone"
	laptop = "juliet@capulet.lit/laptop"
	tablet = "juliet@capulet.lit/tablet"
	romeo  = "romeo@capulet.lit/orchard"
)

// TestMessageDelivery goes through RFC 6121 §8 with juliet's phone (priority 1), laptop (priority 0), tablet (-1) and a
// watch that has not sent presence.
func TestMessageDelivery(t *testing.T) {
	const all = "phone=1 laptop=1 tablet=0 watch=0"
	const none = "phone=0 laptop=0 tablet=0 watch=0"
	for _, tc := range []struct {
		name, kind, to string
		stored         uint64
		want           string
		refusal        stanza.Condition
	}{
		{"chat to the account", "chat", "juliet@capulet.lit", 1, all, ""},
		{"normal to the account", "", "juliet@capulet.lit", 1, all, ""},
		{"unknown type is normal", "telepathy", "juliet@capulet.lit", 1, all, ""},
		{"headline to the account", "headline", "juliet@capulet.lit", 0, all, ""},
		{"groupchat to the account", "groupchat", "juliet@capulet.lit", 0, none, stanza.ServiceUnavailable},
		{"error to the account", "error", "juliet@capulet.lit", 0, none, ""},
		{"chat to a resource", "chat", phone, 1, "phone=1 laptop=0 tablet=0 watch=0", ""},
		{"to a resource of negative priority", "chat", tablet, 1, "phone=0 laptop=0 tablet=1 watch=0", ""},
		{"to a resource without presence", "chat", "juliet@capulet.lit/watch", 1, "phone=0 laptop=0 tablet=0 watch=1",
			""},
		{"groupchat to a resource", "groupchat", phone, 0, "phone=1 laptop=0 tablet=0 watch=0", ""},
		{"error to a resource", "error", phone, 0, "phone=1 laptop=0 tablet=0 watch=0", ""},
		{"chat to a resource that left", "chat", "juliet@capulet.lit/gone", 1, all, ""},
		{"normal to a resource that left", "", "juliet@capulet.lit/gone", 1, none, stanza.ServiceUnavailable},
		{"groupchat to a resource that left", "groupchat", "juliet@capulet.lit/gone", 0, none,
			stanza.ServiceUnavailable},
		{"error to a resource that left", "error", "juliet@capulet.lit/gone", 0, none, ""},
		{"to nobody", "chat", "nobody@capulet.lit", 0, none, stanza.ServiceUnavailable},
		{"headline to nobody", "headline", "nobody@capulet.lit", 0, none, ""},
		{"to the domain", "chat", "capulet.lit", 0, none, stanza.ServiceUnavailable},
		{"to a resource of the domain", "chat", "capulet.lit/x", 0, none, stanza.ServiceUnavailable},
		{"error to the domain", "error", "capulet.lit", 0, none, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.appear(phone, 1)
			w.appear(laptop, 0)
			w.appear(tablet, -1)
			w.connect("juliet@capulet.lit/watch")
			kind := ""
			if tc.kind != "" {
				kind = " type='" + tc.kind + "'"
			}
			refusal := w.route("<message from='romeo@montague.lit/x' to='"+tc.to+"'"+kind+"><body>hi</body></message>",
				tc.stored)
			require.Equal(t, tc.refusal, condition(refusal))
			require.Equal(t, tc.want, w.count(phone, laptop, tablet, "juliet@capulet.lit/watch"))
			require.Empty(t, w.log.takeKept())
		})
	}
}

func TestMessageToWhoIsAway(t *testing.T) {
	for _, tc := range []struct {
		name, kind, to string
		stored         uint64
		kept           bool
		refusal        stanza.Condition
	}{
		{"chat", "chat", "juliet@capulet.lit", 7, true, ""},
		{"normal", "normal", "juliet@capulet.lit", 7, true, ""},
		{"chat to a resource", "chat", phone, 7, true, ""},
		{"chat state", "chat", "juliet@capulet.lit", 0, false, ""},
		{"chat state to a resource", "chat", phone, 0, false, ""},
		{"normal to a resource", "normal", phone, 7, false, stanza.ServiceUnavailable},
		{"headline", "headline", "juliet@capulet.lit", 0, false, ""},
		{"groupchat", "groupchat", "juliet@capulet.lit", 0, false, stanza.ServiceUnavailable},
		{"error", "error", "juliet@capulet.lit", 0, false, ""},
	} {
		for _, there := range []string{"", "only a negative priority", "only connected"} {
			t.Run(tc.name+" "+there, func(t *testing.T) {
				w := newWorld(t)
				switch there {
				case "only a negative priority":
					w.appear(tablet, -1)
				case "only connected":
					w.connect(laptop)
				}
				refusal := w.route("<message from='romeo@montague.lit/x' to='"+tc.to+"' type='"+tc.kind+
					"'><body>hi</body></message>", tc.stored)
				require.Equal(t, tc.refusal, condition(refusal))
				require.Equal(t, tc.kept, len(w.log.takeKept()) == 1)
				for _, b := range w.boxes {
					require.Empty(t, b.take())
				}
			})
		}
	}
}

func TestMessageWithoutAnArchive(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Offline = nil })
	require.Nil(t, w.route("<message from='romeo@montague.lit/x' to='juliet@capulet.lit'><body/></message>", 0))
	w.appear(phone, 0)
	require.Nil(t, w.route("<message from='romeo@montague.lit/x' to='juliet@capulet.lit'><body/></message>", 8))
	require.Equal(t, []uint64{8}, w.boxes[phone].ids())
}

func TestMessageWhileTheStoreIsBroken(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, stanza.InternalServerError,
		condition(w.route("<message from='a@montague.lit/x' to='broken@capulet.lit'><body/></message>", 0)))
	require.Equal(t, stanza.InternalServerError,
		condition(
			w.route(
				"<iq type='get' id='1' from='a@montague.lit/x' to='broken@capulet.lit'><query "+
					"xmlns='jabber:iq:last'/></iq>", 0)))
	require.Equal(t, stanza.InternalServerError,
		condition(w.route("<presence type='subscribe' from='a@montague.lit/x' to='broken@capulet.lit'/>", 0)))
}

func TestPresenceDelivery(t *testing.T) {
	w := newWorld(t)
	w.appear(phone, 1)
	w.appear(tablet, -1)
	w.connect(laptop)
	count := func() string { return w.count(phone, tablet, laptop) }
	for _, tc := range []struct{ kind, to, want, call string }{
		{"", "juliet@capulet.lit", "phone=1 tablet=1 laptop=0", ""},
		{"unavailable", "juliet@capulet.lit", "phone=1 tablet=1 laptop=0", ""},
		{"", phone, "phone=1 tablet=0 laptop=0", ""},
		{"", laptop, "phone=0 tablet=0 laptop=1", ""},
		{"", "juliet@capulet.lit/gone", "phone=0 tablet=0 laptop=0", ""},
		{"", "romeo@capulet.lit", "phone=0 tablet=0 laptop=0", ""},
		{"", "nobody@capulet.lit", "phone=0 tablet=0 laptop=0", ""},
		{"", "capulet.lit", "phone=0 tablet=0 laptop=0", ""},
		{"error", phone, "phone=1 tablet=0 laptop=0", ""},
		{"error", "juliet@capulet.lit", "phone=0 tablet=0 laptop=0", ""},
		{"subscribe", "juliet@capulet.lit", "phone=0 tablet=0 laptop=0",
			"receive 1 subscribe from paris@montague.lit/x"},
		{"subscribed", phone, "phone=0 tablet=0 laptop=0", "receive 1 subscribed from paris@montague.lit/x"},
		{"unsubscribe", "juliet@capulet.lit/gone", "phone=0 tablet=0 laptop=0",
			"receive 1 unsubscribe from paris@montague.lit/x"},
		{"unsubscribed", "romeo@capulet.lit", "phone=0 tablet=0 laptop=0",
			"receive 2 unsubscribed from paris@montague.lit/x"},
		{"subscribe", "nobody@capulet.lit", "phone=0 tablet=0 laptop=0", ""},
		{"probe", "juliet@capulet.lit", "phone=0 tablet=0 laptop=0", "receive 1 probe from paris@montague.lit/x"},
		{"probe", "romeo@capulet.lit", "phone=0 tablet=0 laptop=0", "receive 2 probe from paris@montague.lit/x"},
	} {
		kind := ""
		if tc.kind != "" {
			kind = " type='" + tc.kind + "'"
		}
		require.Nil(t, w.route("<presence from='paris@montague.lit/x' to='"+tc.to+"'"+kind+"/>", 0), tc)
		require.Equal(t, tc.want, count(), tc)
		calls := w.friends.take()
		if tc.call == "" {
			require.Empty(t, calls, tc)
		} else {
			require.Equal(t, []string{tc.call}, calls)
		}
		require.Empty(t, w.away.take())
	}
	require.Nil(t, w.route("<presence type='probe' id='p' from='paris@montague.lit/x' to='nobody@capulet.lit'/>", 0))
	require.Equal(
		t, []string{"<presence from='nobody@capulet.lit' to='paris@montague.lit' type='unsubscribed' id='p'/>"},
		w.away.texts(),
		"as an account answers that shares nothing")
}

func TestIQToResource(t *testing.T) {
	w := newWorld(t)
	w.appear(phone, 1)
	w.appear(laptop, 1)
	request := func(from, to, payload string) *stanza.Error {
		return w.route("<iq type='set' id='1' from='"+from+"' to='"+to+"'>"+payload+"</iq>", 0)
	}
	const question = "<query xmlns='urn:example'/>"
	require.Equal(t, stanza.ServiceUnavailable, condition(request("romeo@montague.lit/x", phone, question)),
		"not subscribed")
	require.Equal(t, stanza.ServiceUnavailable,
		condition(request("romeo@montague.lit/x", "juliet@capulet.lit/gone", question)), "the same answer")
	require.Equal(t, stanza.ServiceUnavailable,
		condition(request("romeo@montague.lit/x", "nobody@capulet.lit/gone", question)), "the same answer")
	require.Nil(t, request(laptop, phone, question), "her own device")
	require.Len(t, w.boxes[phone].take(), 1)
	w.friends.sees["1 romeo@montague.lit"] = true
	require.Nil(t, request("romeo@montague.lit/x", phone, question), "a subscriber")
	require.Len(t, w.boxes[phone].take(), 1)
	require.True(t, w.sessions.Direct(w.sess[laptop], jid.MustParse("paris@montague.lit/x"), true))
	require.Nil(t, request("paris@montague.lit/x", phone, question), "who got directed presence")
	require.Len(t, w.boxes[phone].take(), 1)
	require.Nil(t, w.route("<iq type='result' id='1' from='nobody@montague.lit/x' to='"+phone+"'/>", 0), "an answer")
	require.Len(t, w.boxes[phone].take(), 1)
	require.Nil(t, w.route("<iq type='result' id='1' from='nobody@montague.lit/x' to='juliet@capulet.lit/gone'/>", 0))
	require.Nil(t, w.route("<iq type='error' id='1' from='nobody@montague.lit/x' to='juliet@capulet.lit'/>", 0))
	require.Empty(t, w.boxes[phone].take())

	open := newWorld(t, func(c *Config) { c.OpenRequests = true })
	open.appear(phone, 0)
	require.Nil(t, open.route("<iq type='get' id='1' from='romeo@montague.lit/x' to='"+phone+"'>"+question+"</iq>", 0))
	require.Len(t, open.boxes[phone].take(), 1)
}

// TestForgedRosterPush is A65.
func TestForgedRosterPush(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.OpenRequests = true })
	w.appear(phone, 1)
	w.appear(laptop, 1)
	w.appear(romeo, 0)
	w.friends.sees["1 romeo@capulet.lit"] = true
	const push = "<iq type='set' id='1' to='" + phone +
		"'><query xmlns='jabber:iq:roster'><item jid='evil@montague.lit' subscription='both'/></query></iq>"
	for _, who := range []string{romeo, laptop} {
		w.boxes[who].take()
		w.say(who, push)
		require.Contains(t, w.boxes[who].texts()[0], "<service-unavailable")
		w.got(phone)
	}
	require.Equal(t, stanza.ServiceUnavailable, condition(w.route(
		"<iq type='set' id='1' from='tybalt@montague.lit/x' to='juliet@capulet.lit'><query "+
			"xmlns='jabber:iq:roster'><item jid='evil@montague.lit'/></query></iq>", 0)))
}

func TestErrorsAreNeverAnswered(t *testing.T) { // A62, A63
	w := newWorld(t)
	w.appear(romeo, 0)
	for _, text := range []string{
		"<message type='error' to='nobody@capulet.lit'><error type='cancel'><gone " +
			"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
		"<message type='error' to='juliet@capulet.lit/gone'/>",
		"<iq type='result' id='1' to='juliet@capulet.lit/gone'/>",
		"<iq type='result' id='1' to='capulet.lit'/>",
		"<iq type='result' id='1'/>",
		"<iq type='error' id='1' to='nobody@capulet.lit'><error type='cancel'><gone " +
			"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
		"<presence type='error' to='nobody@capulet.lit'/>",
		"<presence type='error' to='nobody@capulet.lit/x'/>",
		"<presence type='error'/>",
		"<iq type='error' id='1' to='capulet.lit'/>", // malformed as well
		"<iq type='result' id='1' to='capulet.lit'><a/><b/></iq>",
	} {
		w.say(romeo, text)
		require.Empty(t, w.boxes[romeo].texts(), text)
	}
}

func TestRouteOfAnUnknownType(t *testing.T) {
	w := newWorld(t)
	require.Equal(t, stanza.ServiceUnavailable,
		condition(w.route("<presence type='dancing' from='a@montague.lit/x' to='juliet@capulet.lit'/>", 0)))
	require.Equal(t, stanza.ServiceUnavailable,
		condition(w.route("<iq type='dancing' id='1' from='a@montague.lit/x' to='juliet@capulet.lit'/>", 0)))
}

func TestNewChecksItsConfig(t *testing.T) {
	_, err := New(Config{})
	require.Error(t, err)
	_, err = New(Config{Domain: jid.MustParse("a@capulet.lit")})
	require.Error(t, err)
	_, err = New(Config{Domain: jid.MustParse("capulet.lit")})
	require.Error(t, err)
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	w := newWorld(t)
	stuck := make(chan struct{})
	w.domain.replays.Add(1)
	go func() {
		<-stuck
		w.domain.replays.Done()
	}()
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("enough"))
	require.ErrorIs(t, w.domain.Close(ctx), context.Canceled)
	close(stuck)
}

func BenchmarkRoute(b *testing.B) {
	w := newWorld(b)
	w.appear(phone, 0)
	w.sessions.Unbind(w.sess[phone])
	s, _ := w.sessions.Bind(bindTo(phone, nowhere{}))
	w.sess[phone] = s
	if refusal := w.say(phone, "<presence/>"); refusal != nil {
		b.Fatal(refusal)
	}
	w.domain.replays.Wait()
	p := &stream.Packet{ArchiveID: 9,
		Stanza: parse(b, "<message from='romeo@montague.lit/x' to='juliet@capulet.lit' type='chat' id='a'>"+
			"<body>Wherefore art thou</body><active xmlns='http://jabber.org/protocol/chatstates'/><stanza-id "+
			"xmlns='urn:xmpp:sid:0' id='x' by='juliet@capulet.lit'/></message>")}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if e := w.domain.Route(ctx, p); e != nil {
			b.Fatal(e)
		}
	}
}
