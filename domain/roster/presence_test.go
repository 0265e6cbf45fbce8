package roster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// TestSubscribing follows RFC 6121 §3.1 with both parties on this server, then §3.2 and §3.3.
func TestSubscribing(t *testing.T) {
	w := newWorld(t)
	w.appear(orchard)
	w.appear(balcony)
	w.connect(chamber) // not available

	require.Nil(t, w.say(orchard, "<presence type='subscribe' to='"+balcony+
		"' id='s1'><status>O speak again</status></presence>"))
	w.got(orchard, push(orchard, 1, "<item jid='juliet@capulet.lit' subscription='none' ask='subscribe'/>"))
	const request = "<presence from='romeo@capulet.lit' to='juliet@capulet.lit' type='subscribe' id='s1'><status>O " +
		"speak again</status></presence>"
	w.got(balcony, request)
	w.got(chamber)
	require.Equal(t, query(""), w.iq(balcony, "get", query("")),
		"a request without a subscription is not a contact (§3.1.3)")

	require.Nil(t, w.say(orchard, "<presence type='subscribe' to='juliet@capulet.lit'/>"))
	w.got(balcony) // known already
	require.Nil(t, w.say(chamber, "<presence/>"))
	require.Contains(t, w.texts(chamber), request, "it waits for whoever becomes available (§3.1.3)")
	w.hush()

	require.Nil(t, w.say(balcony, "<presence type='subscribed' to='romeo@capulet.lit'/>"))
	w.got(balcony, push(balcony, 2, "<item jid='romeo@capulet.lit' subscription='from'/>"))
	got := w.texts(orchard)
	require.Equal(t, []string{
		"<presence from='juliet@capulet.lit' to='romeo@capulet.lit' type='subscribed'/>", // §3.1.6
		push(orchard, 2, "<item jid='juliet@capulet.lit' subscription='to'/>"),
		"<presence from='" + balcony + "' to='romeo@capulet.lit'/>",
		"<presence from='" + chamber + "' to='romeo@capulet.lit'/>",
	}, got)

	require.Nil(t, w.say(balcony, "<presence type='subscribe' to='romeo@capulet.lit'/>"))
	require.Nil(t, w.say(orchard, "<presence type='subscribed' to='juliet@capulet.lit'/>"))
	require.Equal(t, "both/-", describe(w.item(1, "romeo@capulet.lit")))
	require.Equal(t, "both/-", describe(w.item(2, "juliet@capulet.lit")))
	w.hush()

	require.Nil(t, w.say(balcony, "<presence type='unsubscribed' to='romeo@capulet.lit'/>")) // §3.2
	w.got(orchard,
		"<presence from='"+balcony+"' to='romeo@capulet.lit' type='unavailable'/>",
		"<presence from='"+chamber+"' to='romeo@capulet.lit' type='unavailable'/>",
		"<presence from='juliet@capulet.lit' to='romeo@capulet.lit' type='unsubscribed'/>",
		push(orchard, 5, "<item jid='juliet@capulet.lit' subscription='from'/>"))
	w.got(balcony, push(balcony, 5, "<item jid='romeo@capulet.lit' subscription='to'/>"))

	require.Nil(t, w.say(balcony, "<presence type='unsubscribe' to='romeo@capulet.lit'/>")) // §3.3
	w.got(orchard,
		"<presence from='juliet@capulet.lit' to='romeo@capulet.lit' type='unsubscribe'/>",
		push(orchard, 6, "<item jid='juliet@capulet.lit' subscription='none'/>"))
	require.Equal(t, []string{
		push(balcony, 6, "<item jid='romeo@capulet.lit' subscription='none'/>"),
		"<presence from='" + orchard + "' to='juliet@capulet.lit' type='unavailable'/>",
	}, w.texts(balcony))
}

func TestPreApproval(t *testing.T) { // RFC 6121 §3.4
	w := newWorld(t)
	w.appear(balcony)
	require.Nil(t, w.say(balcony, "<presence type='subscribed' to='romeo@montague.lit'/>"))
	w.got(balcony, push(balcony, 1, "<item jid='romeo@montague.lit' subscription='none' approved='true'/>"))
	require.Empty(t, w.texts("away"), "it is not sent")
	w.contacts.Receive(context.Background(), 1,
		parse(t, "<presence type='subscribe' from='romeo@montague.lit' to='juliet@capulet.lit'/>"))
	w.got(balcony, push(balcony, 2, "<item jid='romeo@montague.lit' subscription='from' approved='true'/>"))
	require.Equal(t, []string{
		"<presence from='juliet@capulet.lit' to='romeo@montague.lit' type='subscribed'/>",
		"<presence from='" + balcony + "' to='romeo@montague.lit'/>",
	}, w.texts("away"))

	require.Nil(t, w.say(balcony, "<presence type='subscribed' to='paris@montague.lit'/>"))
	require.Nil(t, w.say(balcony, "<presence type='unsubscribed' to='paris@montague.lit'/>"))
	require.Empty(t, w.texts("away"))
	w.got(balcony, push(balcony, 3, "<item jid='paris@montague.lit' subscription='none' approved='true'/>"),
		push(balcony, 4, "<item jid='paris@montague.lit' subscription='none'/>"))
	for before, after := range map[string]string{"none/o": "from/o", "to/-": "both/-"} {
		w.give(1, "x@montague.lit", func(it *store.RosterItem) {
			at := it.JID
			*it = parseState(before)
			it.JID, it.Approved = at, true
		})
		w.contacts.Receive(context.Background(), 1,
			parse(t, "<presence type='subscribe' from='x@montague.lit' to='juliet@capulet.lit'/>"))
		require.Equal(t, after, describe(w.item(1, "x@montague.lit")))
	}
}

func TestDecliningARequest(t *testing.T) {
	w := newWorld(t)
	w.appear(balcony)
	ask := func(kind string) {
		w.contacts.Receive(context.Background(), 1,
			parse(t, "<presence type='"+kind+"' from='paris@montague.lit' to='juliet@capulet.lit'/>"))
	}
	ask("subscribe")
	require.NotNil(t, w.item(1, "paris@montague.lit"))
	require.Nil(t, w.say(balcony, "<presence type='unsubscribed' to='paris@montague.lit'/>"))
	require.Nil(t, w.item(1, "paris@montague.lit"), "nothing is left of it")
	require.Equal(t, []string{"<presence from='juliet@capulet.lit' to='paris@montague.lit' type='unsubscribed'/>"},
		w.texts("away"))
	ask("subscribe")
	w.hush()
	ask("unsubscribe")
	require.Nil(t, w.item(1, "paris@montague.lit"))
	w.got(balcony)
	ask("subscribe")
	require.Equal(t, "", w.iq(balcony, "set", query("<item jid='paris@montague.lit' name='Count'/>")))
	require.Equal(t, "none/i", describe(w.item(1, "paris@montague.lit")))
	require.Equal(t, "item-not-found",
		w.iq(balcony, "set", query("<item jid='x@montague.lit' subscription='remove'/>")))
}

func TestSubscriptionSpam(t *testing.T) { // A67
	now := time.Unix(1e9, 0)
	w := newWorld(t, func(c *Config) {
		c.RequestsPerDay, c.MaxRequests = 3, 4
		c.Now = func() time.Time { return now }
	})
	w.appear(balcony)
	for i := range 3 {
		require.Nil(t, w.say(balcony, fmt.Sprintf("<presence type='subscribe' to='v%d@montague.lit'/>", i)))
	}
	refusal := w.say(balcony, "<presence type='subscribe' to='v3@montague.lit'/>")
	require.NotNil(t, refusal)
	require.Equal(t, stanza.PolicyViolation, refusal.Condition)
	require.Len(t, w.texts("away"), 3)
	now = now.Add(7 * time.Hour)
	require.NotNil(t, w.say(balcony, "<presence type='subscribe' to='v3@montague.lit'/>"))
	now = now.Add(time.Hour)
	require.Nil(t, w.say(balcony, "<presence type='subscribe' to='v3@montague.lit'/>"), "three a day")
	require.NotNil(t, w.say(balcony, "<presence type='subscribe' to='v4@montague.lit'/>"))

	w.hush()
	for i := range 10 {
		w.contacts.Receive(context.Background(), 1,
			parse(t, fmt.Sprintf("<presence type='subscribe' from='spam%d@montague.lit' to='juliet@capulet.lit'/>", i)))
	}
	require.Len(t, w.texts(balcony), 4, "the queue of requests is bounded")
	huge := "<presence type='subscribe' from='nurse@capulet.lit' to='juliet@capulet.lit' id='" +
		strings.Repeat("i", 5000) + "'><status>" + strings.Repeat("x", 100_000) + "</status></presence>"
	w2 := newWorld(t)
	w2.contacts.Receive(context.Background(), 1, parse(t, huge))
	require.Less(t, len(w2.item(1, "nurse@capulet.lit").Request), maxRequest)
	w2.connect(balcony)
	require.Nil(t, w2.say(balcony, "<presence/>"))
	require.Contains(t, w2.texts(balcony),
		"<presence from='nurse@capulet.lit' to='juliet@capulet.lit' type='subscribe'/>")
}

// TestPresenceLife follows RFC 6121 §4: initial presence, probes, change, directed presence, unavailability.
func TestPresenceLife(t *testing.T) {
	w := newWorld(t)
	w.both("juliet", "romeo")
	w.give(1, "benvolio@montague.lit", func(it *store.RosterItem) { it.To, it.From = true, true })
	w.give(1, "tybalt@montague.lit", func(it *store.RosterItem) { it.From = true })
	w.give(1, "paris@montague.lit", func(it *store.RosterItem) { it.To = true })
	w.give(1, "lawrence@montague.lit", func(it *store.RosterItem) { it.PendingOut = true })
	w.appear(orchard)
	w.appear(chamber)

	w.connect(balcony)
	require.Nil(t, w.say(balcony, "<presence id='p'><show>dnd</show></presence>"))
	p := func(to string) string {
		return "<presence from='" + balcony + "' to='" + to + "' id='p'><show>dnd</show></presence>"
	}
	w.got(orchard, p("romeo@capulet.lit"))
	w.got(chamber, p("juliet@capulet.lit"))
	w.got(balcony, p("juliet@capulet.lit"),
		"<presence from='"+chamber+"' to='juliet@capulet.lit'/>",
		"<presence from='"+orchard+"' to='juliet@capulet.lit'/>")
	require.Equal(t, []string{
		p("benvolio@montague.lit"), p("tybalt@montague.lit"),
		"<presence from='" + balcony + "' to='benvolio@montague.lit' type='probe'/>",
		"<presence from='" + balcony + "' to='paris@montague.lit' type='probe'/>",
	}, w.texts("away"))

	require.Nil(t, w.say(balcony, "<presence><show>xa</show></presence>"))
	require.Len(t, w.texts("away"), 2, "no probes any more (§4.4)")
	w.hush()

	require.Nil(t, w.say(balcony, "<presence to='room@muc.montague.lit/j'/>"))
	require.Nil(t, w.say(balcony, "<presence to='tybalt@montague.lit/x'/>"))
	require.Nil(t, w.say(balcony, "<presence to='gone@montague.lit'/>"))
	require.Nil(t, w.say(balcony, "<presence to='gone@montague.lit' type='unavailable'/>"))
	w.hush()
	require.Nil(t, w.say(balcony, "<presence type='unavailable'><status>night</status></presence>"))
	end := func(to string) string {
		return "<presence from='" + balcony + "' to='" + to + "' type='unavailable'><status>night</status></presence>"
	}
	require.Equal(t, []string{end("benvolio@montague.lit"), end("tybalt@montague.lit"), end("room@muc.montague.lit/j")},
		w.texts("away"),
		"each once (§4.6.3)")
	w.got(orchard, end("romeo@capulet.lit"))
	w.got(chamber, end("juliet@capulet.lit"))
	w.got(balcony)
	require.Nil(t, w.say(balcony, "<presence type='unavailable'/>"))
	require.Empty(t, w.texts("away"), "it was unavailable already")

	require.Nil(t, w.say(balcony, "<presence to='room@muc.montague.lit/j'/>"))
	w.hush()
	w.sessions.Unbind(w.sess[balcony])
	require.Equal(t, []string{"<presence from='" + balcony + "' to='room@muc.montague.lit/j' type='unavailable'/>"},
		w.texts("away"))
	w.got(orchard)

	w.sessions.Unbind(w.sess[chamber]) // without a goodbye (§4.5.1)
	w.got(orchard, "<presence from='"+chamber+"' to='romeo@capulet.lit' type='unavailable'/>")
	require.Len(t, w.texts("away"), 2)
}

// TestPresenceNeedsBothRosters: a name may belong to another account than the one that was subscribed.
func TestPresenceNeedsBothRosters(t *testing.T) {
	w := newWorld(t)
	w.give(1, "romeo@capulet.lit", func(it *store.RosterItem) { it.To, it.From = true, true })
	w.appear(orchard)
	w.connect(balcony)
	require.Nil(t, w.say(balcony, "<presence/>"))
	w.got(orchard)
	require.Equal(t, []string{"<presence from='" + balcony + "' to='juliet@capulet.lit'/>"}, w.texts(balcony))
}

func TestProbes(t *testing.T) { // RFC 6121 §4.3.2; A69
	w := newWorld(t)
	w.give(1, "benvolio@montague.lit", func(it *store.RosterItem) { it.From = true })
	probe := func(from, to string) []string {
		w.contacts.Receive(context.Background(), 1, parse(t, "<presence type='probe' from='"+from+"' to='"+to+"'/>"))
		return w.texts("away")
	}
	denied := []string{"<presence from='juliet@capulet.lit' to='tybalt@montague.lit' type='unsubscribed'/>"}
	require.Equal(t, denied, probe("tybalt@montague.lit/x", "juliet@capulet.lit"))
	require.Equal(t, []string{"<presence from='juliet@capulet.lit' to='benvolio@montague.lit/x' type='unavailable'/>"},
		probe("benvolio@montague.lit/x", "juliet@capulet.lit"))
	w.appear(balcony)
	w.appear(chamber)
	w.connect("juliet@capulet.lit/watch")
	require.Equal(t, denied, probe("tybalt@montague.lit/x", "juliet@capulet.lit"),
		"the same whether she is there or not")
	require.Equal(t, denied, probe("tybalt@montague.lit/x", balcony))
	require.Equal(t, []string{"<presence from='" + balcony + "' to='benvolio@montague.lit/x'/>", "<presence from='" +
		chamber + "' to='benvolio@montague.lit/x'/>"},
		probe("benvolio@montague.lit/x", "juliet@capulet.lit"))
	require.Equal(t, []string{"<presence from='" + chamber + "' to='benvolio@montague.lit/x'/>"},
		probe("benvolio@montague.lit/x", chamber))

	// A local account without a subscription gets no stanza at all, and one whose roster is wrong has it put right.
	w.appear(orchard)
	w.contacts.Receive(context.Background(), 1,
		parse(t, "<presence type='probe' from='"+orchard+"' to='juliet@capulet.lit'/>"))
	w.got(orchard)
	w.give(2, "juliet@capulet.lit", func(it *store.RosterItem) { it.To = true })
	w.contacts.Receive(context.Background(), 1,
		parse(t, "<presence type='probe' from='"+orchard+"' to='juliet@capulet.lit'/>"))
	require.Equal(t, "none/-", describe(w.item(2, "juliet@capulet.lit")))
	w.contacts.Receive(context.Background(), 1,
		parse(t, "<presence type='probe' from='"+chamber+"' to='juliet@capulet.lit'/>"))
	require.Len(t, w.texts(chamber), 2, "one's own account")
}

func TestSubscriptionsToOneself(t *testing.T) {
	w := newWorld(t)
	w.appear(balcony)
	require.Nil(t, w.say(balcony, "<presence type='subscribe' to='juliet@capulet.lit'/>"))
	w.contacts.Receive(context.Background(), 1,
		parse(t, "<presence type='subscribe' from='"+chamber+"' to='juliet@capulet.lit'/>"))
	w.got(balcony)
	require.Nil(t, w.item(1, "juliet@capulet.lit"))
}

// diary is a store.LastActivity.
type diary map[store.AccountID]string

func (d diary) LastActivity(context.Context, store.AccountID) (int64, string, error) {
	return 0, "", nil
}

func (d diary) SetLastActivity(_ context.Context, owner store.AccountID, seconds int64, status string) error {
	d[owner] = fmt.Sprint(seconds, " ", status)
	return nil
}

func TestLastActivityIsNoted(t *testing.T) {
	d := diary{}
	w := newWorld(t, func(c *Config) {
		c.Activity = d
		c.Now = func() time.Time { return time.Unix(77, 0) }
	})
	w.appear(balcony)
	w.appear(chamber)
	require.Nil(t, w.say(balcony, "<presence type='unavailable'><status>bye</status></presence>"))
	require.Empty(t, d, "another device is there")
	w.sessions.Unbind(w.sess[chamber])
	require.Equal(t, diary{1: "77 "}, d)
	require.Nil(t, w.say(balcony, "<presence/>"))
	require.Nil(t, w.say(balcony, "<presence type='unavailable'><status>bye</status></presence>"))
	require.Equal(t, diary{1: "77 bye"}, d)
}

// TestManyAtOnce has accounts change each other's rosters, appear and vanish at once, for the race detector and for
// deadlocks; in the end both sides of every subscription agree.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.CacheBytes, c.RequestsPerDay = 1200, 1<<30 })
	names := []string{}
	for i := range 6 {
		name := fmt.Sprint("u", i)
		w.accounts[name] = uint64(1 + i)
		names = append(names, name)
	}
	for _, name := range names {
		w.appear(name + "@capulet.lit/x")
	}
	var wg sync.WaitGroup
	for i, name := range names {
		full := name + "@capulet.lit/x"
		wg.Add(1)
		go func() {
			defer wg.Done()
			for round := range 40 {
				other := names[(i+1+round%5)%len(names)] + "@capulet.lit"
				for _, text := range []string{
					"<presence type='subscribe' to='" + other + "'/>", "<presence type='subscribed' to='" + other +
						"'/>",
					"<presence/>", "<presence type='unavailable'/>", "<presence/>",
				} {
					if refusal := w.say(full, text); refusal != nil {
						t.Error(refusal)
					}
				}
			}
		}()
	}
	wg.Wait()
	for _, a := range names { // everybody approves once more what crossed on its way
		for _, b := range names {
			if a != b {
				require.Nil(t, w.say(a+"@capulet.lit/x", "<presence type='subscribe' to='"+b+"@capulet.lit'/>"))
				require.Nil(t, w.say(b+"@capulet.lit/x", "<presence type='subscribed' to='"+a+"@capulet.lit'/>"))
			}
		}
	}
	for _, a := range names {
		for _, b := range names {
			if a != b {
				require.Equal(t, "both/-", describe(w.item(store.AccountID(w.accounts[a]), b+"@capulet.lit")), "%s %s",
					a, b)
			}
		}
	}
}

func BenchmarkInitialPresence(b *testing.B) {
	for _, n := range []int{5, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld(b)
			for i := range n {
				name := fmt.Sprint("c", i)
				w.accounts[name] = uint64(100 + i)
				w.both("juliet", name)
				w.appear(name + "@capulet.lit/x")
			}
			s := w.connect(balcony)
			here, gone := parse(b, "<presence/>"), parse(b, "<presence type='unavailable'/>")
			here.From, gone.From = s.JID(), s.JID()
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				for _, p := range []*stanza.Stanza{here, gone} {
					c := w.sessions.SetPresence(s, p, 0)
					w.contacts.Announce(ctx, s, &c)
					if c.Replay != nil {
						c.Replay.Finish(ctx)
					}
				}
				w.hushFast()
			}
		})
	}
}

func (w *world) hushFast() {
	for _, o := range w.boxes {
		o.sent = slices.Delete(o.sent, 0, len(o.sent))
	}
}
