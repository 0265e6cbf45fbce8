package roster

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

const (
	balcony = "juliet@capulet.lit/balcony"
	chamber = "juliet@capulet.lit/chamber"
	orchard = "romeo@capulet.lit/orchard"
)

func query(children string) string {
	if children == "" {
		return "<query xmlns='jabber:iq:roster'/>"
	}
	return "<query xmlns='jabber:iq:roster'>" + children + "</query>"
}

func versioned(ver, children string) string {
	return strings.Replace(query(children), "roster'", "roster' ver='"+ver+"'", 1)
}

// TestRosterSet follows RFC 6121 §2.1.5, §2.3, §2.4 and §2.5.
func TestRosterSet(t *testing.T) {
	w := newWorld(t)
	w.connect(balcony)
	w.connect(chamber)
	require.Equal(t, query(""), w.iq(balcony, "get", query("")))
	require.Equal(t, "", w.iq(chamber, "set",
		query("<item jid='nurse@example.com' name='Nurse'><group>Servants</group></item>")))
	const nurse = "<item jid='nurse@example.com' subscription='none' name='Nurse'><group>Servants</group></item>"
	w.got(balcony, push(balcony, 1, nurse))
	w.got(chamber) // it has not asked for the roster: it is not interested

	require.Equal(t, versioned("1", nurse), w.iq(chamber, "get", versioned("", "")))
	w.give(1, "nurse@example.com", func(it *store.RosterItem) { it.Name, it.To, it.PendingIn = "Nurse", true, true })
	require.Equal(t, "", w.iq(balcony, "set",
		query(
			"<item jid='NURSE@example.com' subscription='both' ask='subscribe' approved='true' "+
				"name='Angelica'><group>a</group><group>b</group></item>")))
	const angelica = "<item jid='nurse@example.com' subscription='to' name='Angelica'><group>a</group><group>" +
		"b</group></item>"
	w.got(balcony, push(balcony, 3, angelica))
	w.got(chamber, push(chamber, 3, angelica))
	require.True(t, w.item(1, "nurse@example.com").PendingIn, "subscriptions are not set that way")

	require.Equal(t, "", w.iq(balcony, "set", query("<item jid='nurse@example.com' subscription='remove'/>")))
	w.got(balcony, push(balcony, 4, "<item jid='nurse@example.com' subscription='remove'/>"))
	require.Equal(t, []string{
		"<presence from='juliet@capulet.lit' to='nurse@example.com' type='unsubscribe'/>",
		"<presence from='juliet@capulet.lit' to='nurse@example.com' type='unsubscribed'/>",
	}, w.texts("away"))
	require.Equal(t, "item-not-found",
		w.iq(balcony, "set", query("<item jid='nurse@example.com' subscription='remove'/>")))
	require.Equal(t, versioned("4", ""), w.iq(balcony, "get", versioned("", "")))
}

// TestRemoveFollowsSubscription: what is sent to the contact follows from what there was (RFC 6121 §2.5.2).
func TestRemoveFollowsSubscription(t *testing.T) {
	for state, want := range map[string]string{
		"none/-": "", "none/o": "unsubscribe", "none/i": "unsubscribed", "none/oi": "unsubscribe unsubscribed",
		"to/-": "unsubscribe",
		"to/i": "unsubscribe unsubscribed", "from/-": "unavailable unsubscribed",
		"from/o": "unavailable unsubscribe unsubscribed",
		"both/-": "unavailable unsubscribe unsubscribed",
	} {
		w := newWorld(t)
		w.appear(balcony)
		w.give(1, "nurse@example.com", func(it *store.RosterItem) {
			at := it.JID
			*it = parseState(state)
			it.JID = at
		})
		require.Equal(t, "", w.iq(balcony, "set", query("<item jid='nurse@example.com' subscription='remove'/>")))
		var got []string
		for _, text := range w.texts("away") {
			got = append(got, parse(t, text).Type)
		}
		require.Equal(t, want, strings.Join(got, " "), state)
		require.Nil(t, w.item(1, "nurse@example.com"))
	}
}

func TestRosterSetRefusals(t *testing.T) {
	groups := func(n int) string {
		var out strings.Builder
		for i := range n {
			fmt.Fprintf(&out, "<group>g%d</group>", i)
		}
		return out.String()
	}
	w := newWorld(t)
	w.connect(balcony)
	for text, want := range map[string]string{
		"": "bad-request",
		"<item jid='a@b.lit'/><item jid='c@b.lit'/>": "bad-request",
		"<other/>":                         "bad-request",
		"<item/>":                          "bad-request",
		"<item jid='@'/>":                  "bad-request",
		"<item jid='a@b.lit/c'/>":          "bad-request",
		"<item jid='juliet@capulet.lit'/>": "not-allowed",
		"<item jid='a@b.lit'><group>x</group><group>x</group></item>": "bad-request",
		"<item jid='a@b.lit'><group/></item>":                         "not-acceptable",
		// A66
		"<item jid='a@b.lit' name='" + strings.Repeat("n", 1025) + "'/>":                         "not-acceptable",
		"<item jid='a@b.lit' name='" + strings.Repeat("n", 64<<10) + "'/>":                       "not-acceptable",
		"<item jid='a@b.lit'><group>" + strings.Repeat("g", 1025) + "</group></item>":            "not-acceptable",
		"<item jid='a@b.lit'>" + groups(51) + "</item>":                                          "not-acceptable",
		"<item jid='a@b.lit'>" + groups(10_000) + "</item>":                                      "not-acceptable",
		"<item jid='a@b.lit' name='" + strings.Repeat("n", 1024) + "'>" + groups(50) + "</item>": "",
		"<item jid='b.lit'/>": "",
	} {
		require.Equal(t, want, w.iq(balcony, "set", query(text)), text[:min(len(text), 80)])
	}
	require.Equal(t, "bad-request", w.iq(balcony, "get", query("<item jid='a@b.lit'/>")))
}

func TestRosterLimit(t *testing.T) { // A66
	w := newWorld(t, func(c *Config) { c.MaxItems = 3 })
	w.appear(balcony)
	w.contacts.Receive(context.Background(), 1,
		parse(t, "<presence type='subscribe' from='tybalt@montague.lit' to='juliet@capulet.lit'/>"))
	for i := range 3 {
		require.Equal(t, "", w.iq(balcony, "set", query(fmt.Sprintf("<item jid='c%d@b.lit'/>", i))))
	}
	require.Equal(t, "resource-constraint", w.iq(balcony, "set", query("<item jid='c3@b.lit'/>")))
	require.Equal(t, "", w.iq(balcony, "set", query("<item jid='c1@b.lit' name='still'/>")))
	refusal := w.say(balcony, "<presence type='subscribe' to='c4@b.lit'/>")
	require.NotNil(t, refusal)
	require.Equal(t, stanza.ResourceConstraint, refusal.Condition)
	require.Empty(t, w.texts("away"), "what cannot be noted is not sent")
}

// TestRosterBytes: a few contacts with long names and many groups are as much as many contacts.
func TestRosterBytes(t *testing.T) { // A66
	w := newWorld(t, func(c *Config) { c.MaxBytes = 5000 })
	w.appear(balcony)
	groups := func(n, size int) (text string) {
		for i := range n {
			text += fmt.Sprintf("<group>%d%s</group>", i, strings.Repeat("g", size-1))
		}
		return text
	}
	set := func(i int, inside string) string {
		return w.iq(balcony, "set", query(fmt.Sprintf("<item jid='c%d@b.lit'>%s</item>", i, inside)))
	}
	require.Equal(t, "", set(0, groups(4, 1000)))
	require.Equal(t, "resource-constraint", set(1, groups(1, 1000)))
	require.Equal(t, "", set(1, groups(1, 900)))
	require.Equal(t, "", set(0, groups(4, 1000)), "as it was")
	require.Equal(t, "resource-constraint", set(0, groups(5, 1000)))
	require.Equal(t, "", set(0, groups(1, 1000)), "what becomes smaller is taken")
	long := strings.Repeat("l", 900) + "@b.lit"
	for i := range 10 {
		refusal := w.say(balcony, fmt.Sprintf("<presence type='subscribed' to='%d%s'/>", i, long))
		require.Equal(t, i > 2, refusal != nil, i)
	}
}

func TestRosterVersions(t *testing.T) { // RFC 6121 §2.6
	w := newWorld(t)
	w.connect(balcony)
	for i := range 5 {
		w.iq(balcony, "set", query(fmt.Sprintf("<item jid='c%d@b.lit'/>", i)))
	}
	w.iq(balcony, "set", query("<item jid='c0@b.lit' subscription='remove'/>"))
	w.iq(balcony, "set", query("<item jid='c1@b.lit' name='One'/>"))
	item := func(i int, more string) string {
		return fmt.Sprintf("<item jid='c%d@b.lit' subscription='none'%s/>", i, more)
	}
	full := versioned("7", item(1, " name='One'")+item(2, "")+item(3, "")+item(4, ""))
	for _, ver := range []string{"", "nonsense", "8", "-1", "99999999999999999999"} {
		require.Equal(t, full, w.iq(balcony, "get", versioned(ver, "")), ver)
		w.hush()
	}
	require.Equal(t, "", w.iq(balcony, "get", versioned("7", "")))
	w.got(balcony)

	w.connect(chamber)
	require.Equal(t, "", w.iq(chamber, "get", versioned("4", "")))
	w.got(chamber,
		push(chamber, 5, item(4, "")), // each with its version, in order (§2.6.3)
		push(chamber, 6, "<item jid='c0@b.lit' subscription='remove'/>"),
		push(chamber, 7, item(1, " name='One'")))
	w.iq(balcony, "set", query("<item jid='c9@b.lit'/>"))
	require.Len(t, w.texts(chamber), 1, "it is interested from now on")

	w.store.forgets = true
	require.Contains(t, w.iq(chamber, "get", versioned("4", "")), "ver='8'", "the store cannot tell: the whole roster")
	w.store.forgets = false
	for i := range 150 {
		w.iq(balcony, "set", query(fmt.Sprintf("<item jid='d%d@b.lit'/>", i)))
	}
	require.Contains(t, w.iq(chamber, "get", versioned("4", "")), "d149@b.lit", "too many to tell one by one")
	require.Equal(t, "", w.iq(chamber, "get", versioned("150", "")))
}

// TestRosterVersionAgainstChange: what changes between an empty answer and the pushes that follow it is told once, in
// its last state.
func TestRosterVersionAgainstChange(t *testing.T) {
	w := newWorld(t)
	w.connect(balcony)
	w.iq(balcony, "set", query("<item jid='a@b.lit'/>"))
	w.iq(balcony, "set", query("<item jid='a@b.lit' name='1'/>"))
	s := w.connect(chamber)
	iq := parse(t, "<iq type='get' id='1'>"+versioned("1", "")+"</iq>")
	iq.From, iq.To = s.JID(), s.JID().Bare()
	r := w.contacts.Handlers()[0]
	ctx, queued := session.WithReply(context.Background())
	result, refusal := r.Handle(ctx, &service.Request{From: iq.From, IQ: iq,
		Origin: service.Origin{Account: 1, Session: s}})
	require.Nil(t, refusal)
	require.Empty(t, result)
	w.iq(balcony, "set", query("<item jid='a@b.lit' name='2'/>"))
	queued()
	w.got(chamber, push(chamber, 3, "<item jid='a@b.lit' subscription='none' name='2'/>"))
}

// TestRosterChangedElsewhere: what another process changed is told to the devices that are interested, and to each
// once.
func TestRosterChangedElsewhere(t *testing.T) {
	w := newWorld(t)
	w.appear(balcony)
	w.connect(chamber)
	w.iq(balcony, "set", query("<item jid='a@b.lit'/>"))
	w.hush()
	for _, name := range []string{"a", "b", "c"} {
		w.give(1, name+"@b.lit", func(it *store.RosterItem) { it.Name = "new" })
	}
	w.give(1, "c@b.lit", func(it *store.RosterItem) { *it = store.RosterItem{JID: it.JID} })
	w.contacts.Changed(t.Context(), 1, "juliet")
	w.contacts.Changed(t.Context(), 1, "juliet")
	w.contacts.Changed(t.Context(), 2, "romeo") // who is not there
	w.got(balcony,
		push(balcony, 2, "<item jid='a@b.lit' subscription='none' name='new'/>"),
		push(balcony, 3, "<item jid='b@b.lit' subscription='none' name='new'/>"),
		push(balcony, 5, "<item jid='c@b.lit' subscription='remove'/>"))
	w.got(chamber)
	w.give(1, "d@b.lit", func(*store.RosterItem) {})
	w.iq(balcony, "set", query("<item jid='e@b.lit'/>"))
	require.Len(t, w.texts(balcony), 2, "with the next change at the latest")

	w.store.forgets = true
	w.give(1, "f@b.lit", func(*store.RosterItem) {})
	w.contacts.Changed(t.Context(), 1, "juliet")
	require.Len(t, w.texts(balcony), 5, "all that there is, when the store cannot tell what has changed")
}

// TestRosterPushesInOrder: devices that change the roster at once are all told of all changes, in the order of
// versions.
func TestRosterPushesInOrder(t *testing.T) {
	w := newWorld(t)
	w.appear(balcony)
	const devices, each = 4, 50
	var all sync.WaitGroup
	for d := range devices {
		full := fmt.Sprint("juliet@capulet.lit/", d)
		w.appear(full)
		iqs := []*stanza.Stanza{}
		for n := range each {
			iq := parse(t, "<iq type='set' id='1'>"+query(fmt.Sprintf("<item jid='shared@b.lit' name='%d-%d'/>", d, n))+
				"</iq>")
			iq.From, iq.To = jid.MustParse(full), jid.MustParse("juliet@capulet.lit")
			iqs = append(iqs, iq)
		}
		all.Go(func() {
			for _, iq := range iqs {
				if _, refusal := w.contacts.set(context.Background(),
					&service.Request{From: iq.From, Origin: service.Origin{Account: 1}, IQ: iq}); refusal != nil {
					t.Error(refusal)
				}
			}
		})
	}
	all.Wait()
	require.EqualValues(t, devices*each, w.version("juliet"))
	for _, full := range []string{balcony, "juliet@capulet.lit/0"} {
		last, name := uint64(0), ""
		for _, text := range w.texts(full) {
			q := parse(t, text).Child(stanza.NSRoster, "query")
			if q == nil {
				continue // presence
			}
			ver, ok := w.contacts.parseVersion(q)
			require.True(t, ok)
			require.GreaterOrEqual(t, ver, last)
			last, name = ver, q.Child(stanza.NSRoster, "item").Attr("name")
		}
		require.EqualValues(t, devices*each, last, full)
		require.Equal(t, w.item(1, "shared@b.lit").Name, name, full)
	}
}

func TestRosterWhileTheStoreIsBroken(t *testing.T) {
	w := newWorld(t)
	w.appear(balcony)
	w.iq(balcony, "set", query("<item jid='a@b.lit'/>"))
	w.hush()
	w.store.fail = errDisk
	require.Equal(t, "internal-server-error", w.iq(balcony, "set", query("<item jid='b@b.lit'/>")))
	require.Equal(t, "internal-server-error", w.iq(balcony, "get", query("")),
		"nothing is served from memory after that")
	require.Equal(t, "internal-server-error",
		w.iq(balcony, "set", query("<item jid='a@b.lit' subscription='remove'/>")))
	refusal := w.say(balcony, "<presence type='subscribe' to='c@b.lit'/>")
	require.Equal(t, stanza.InternalServerError, refusal.Condition)
	w.contacts.Receive(context.Background(), 1,
		parse(t, "<presence type='subscribe' from='d@b.lit' to='juliet@capulet.lit'/>"))
	require.Nil(t, w.say(balcony, "<presence><show>away</show></presence>"))
	require.Equal(t, []string{"<presence from='" + balcony + "' to='juliet@capulet.lit'><show>away</show></presence>"},
		w.texts(balcony))
	require.Empty(t, w.texts("away"))
	_, err := w.contacts.Sees(context.Background(), 1, jid.MustParse("a@b.lit"))
	require.ErrorIs(t, err, errDisk)
	_, err = w.contacts.Contact(context.Background(), 1, jid.MustParse("a@b.lit"))
	require.ErrorIs(t, err, errDisk)
	w.store.fail = nil
	require.Contains(t, w.iq(balcony, "get", query("")), "a@b.lit")
}

func TestContact(t *testing.T) {
	w := newWorld(t)
	w.give(1, "a@b.lit", func(*store.RosterItem) {})
	w.give(1, "s@b.lit", func(it *store.RosterItem) { it.Listed, it.PendingIn = false, true })
	for text, want := range map[string]bool{"a@b.lit": true, "a@b.lit/x": true, "s@b.lit": false, "n@b.lit": false} {
		got, err := w.contacts.Contact(context.Background(), 1, jid.MustParse(text))
		require.NoError(t, err)
		require.Equal(t, want, got, text)
	}
}

// What is cached counts for its contacts with their names and groups, for something of its own, and for requests.
func TestCacheIsBounded(t *testing.T) {
	const most = 100_000
	c := newCache(most)
	item := func(i int) store.RosterItem {
		return store.RosterItem{JID: jid.MustParse(fmt.Sprintf("c%d@b.lit", i)), Name: strings.Repeat("n", 100),
			Groups: []string{strings.Repeat("g", 200)}}
	}
	for account := range uint64(1000) {
		c.Set(account, newRoster([]store.RosterItem{item(1), item(2), item(3)}, 1), cache.Forever)
		require.LessOrEqual(t, c.Size(), most)
	}
	require.Greater(t, c.Size(), most/2, "some sixty rosters")
	large := newRoster([]store.RosterItem{{Request: make([]byte, 1<<20)}}, 1)
	c.Set(5, large, cache.Forever)
	_, ok := c.Get(5)
	require.True(t, ok, "one always fits")
	require.GreaterOrEqual(t, large.weight, 1<<20)
	require.Less(t, c.Size(), large.weight+most)
}

func TestNewChecksItsConfig(t *testing.T) {
	_, err := New(Config{})
	require.Error(t, err)
}
