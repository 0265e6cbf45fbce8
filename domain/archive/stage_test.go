package archive

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

const (
	sender    = store.InAuthorArchive
	recipient = store.InRecipientArchive
	away      = store.ForOffline
)

// What is stored, and for whom.
func TestWhatIsStored(t *testing.T) {
	never := func(addresses ...string) store.ArchivePreference {
		p := store.ArchivePreference{Default: keepAlways}
		for _, a := range addresses {
			p.Never = append(p.Never, jid.MustParse(a))
		}
		return p
	}
	nothing := store.ArchivePreference{Default: keepNever}
	but := func(address string) store.ArchivePreference {
		return store.ArchivePreference{Default: keepNever, Always: []jid.JID{jid.MustParse(address)}}
	}
	roster := store.ArchivePreference{Default: keepRoster}
	unknown := stanza.New("urn:example:unknown", "thing")
	for _, c := range []struct {
		what  string
		from  string
		s     *stanza.Stanza
		prefs map[store.AccountID]store.ArchivePreference
		flags store.MessageFlags // 0: not stored
	}{
		{what: "between accounts", s: chat("juliet@verona.example", "x"), flags: sender | recipient | away},
		{what: "to a device", s: chat("juliet@verona.example/b", "x"), flags: sender | recipient | away},
		{what: "to oneself", s: chat("romeo@verona.example", "x"), flags: sender | recipient | away},
		{what: "without to", s: &stanza.Stanza{Kind: stanza.Message, Payload: chat("a@b", "x").Payload},
			flags: sender | recipient | away},
		{what: "to nobody", s: chat("paris@verona.example", "x")},
		{what: "to the server", s: chat("verona.example", "x")},
		{what: "to another domain", s: chat("balthasar@mantua.example", "x"), flags: sender},
		{what: "from another domain", from: "balthasar@mantua.example/m", s: chat("juliet@verona.example", "x"),
			flags: recipient | away},
		{what: "unknown payload", s: chat("juliet@verona.example", "", unknown), flags: away},
		{what: "unknown payload to another domain", s: chat("balthasar@mantua.example", "", unknown)},
		{what: "chat state", s: chat("juliet@verona.example", "", active())},
		{what: "A64: an error with a body",
			s: &stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeError, To: jid.MustParse("juliet@verona.example"),
				Payload: chat("a@b", "x").Payload}},
		{what: "sender never", s: chat("juliet@verona.example", "x"),
			prefs: map[store.AccountID]store.ArchivePreference{romeo: nothing}, flags: recipient | away},
		{what: "recipient never", s: chat("juliet@verona.example", "x"),
			prefs: map[store.AccountID]store.ArchivePreference{juliet: nothing}, flags: sender | away},
		{what: "both never", s: chat("juliet@verona.example", "x"),
			prefs: map[store.AccountID]store.ArchivePreference{romeo: nothing, juliet: nothing}, flags: away},
		{what: "sender never, to another domain", s: chat("balthasar@mantua.example", "x"),
			prefs: map[store.AccountID]store.ArchivePreference{romeo: nothing}},
		{what: "never but this one", s: chat("juliet@verona.example/b", "x"),
			prefs: map[store.AccountID]store.ArchivePreference{romeo: but("juliet@verona.example")},
			flags: sender | recipient | away},
		{what: "never but another device", s: chat("juliet@verona.example/b", "x"),
			prefs: map[store.AccountID]store.ArchivePreference{romeo: but("juliet@verona.example/c")},
			flags: recipient | away},
		{what: "never this device", s: chat("juliet@verona.example", "x"),
			prefs: map[store.AccountID]store.ArchivePreference{juliet: never("romeo@verona.example/orchard")},
			flags: sender | away},
		{what: "never another device", s: chat("juliet@verona.example", "x"),
			prefs: map[store.AccountID]store.ArchivePreference{juliet: never("romeo@verona.example/street")},
			flags: sender | recipient | away},
		{what: "on both lists", s: chat("juliet@verona.example", "x"), flags: recipient | away,
			prefs: map[store.AccountID]store.ArchivePreference{romeo: {Default: keepAlways,
				Always: []jid.JID{jid.MustParse("juliet@verona.example")},
				Never:  []jid.JID{jid.MustParse("juliet@verona.example")}}}},
		{what: "contacts, and one", s: chat("juliet@verona.example/b", "x"),
			prefs: map[store.AccountID]store.ArchivePreference{romeo: roster}, flags: sender | recipient | away},
		{what: "contacts, and none", s: chat("nurse@verona.example", "x"),
			prefs: map[store.AccountID]store.ArchivePreference{romeo: roster}, flags: recipient | away},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := newHouse(
				t, memory(), func(conf *Config) { conf.Contacts = contacts{romeo: {"juliet@verona.example"}} })
			h.prefs.kept = c.prefs
			stop := h.run(t)
			who := c.from
			if who == "" {
				who = "romeo@verona.example/orchard"
			}
			r := h.say(t, who, c.s)
			require.NoError(t, stop())
			found, err := h.log.Since(t.Context(), 0, 10)
			require.NoError(t, err)
			if c.flags == 0 {
				require.Empty(t, found)
				require.Zero(t, r.ID)
				return
			}
			require.Len(t, found, 1)
			m := found[0]
			require.Equal(t, c.flags, m.Flags&^store.Unread)
			require.Equal(t, c.s.Body() != "", m.Flags&store.Unread != 0)
			require.Equal(t, m.ID, store.MessageID(r.ID))
			require.Equal(t, from(who).Address.Bare(), m.Author.JID)
			require.Equal(t, store.AccountID(from(who).Account), m.Author.Account)
			back, err := xmlstream.Unmarshal(m.Stanza)
			require.NoError(t, err)
			require.Equal(t, c.s, back, "the whole stanza is kept as it was accepted")
		})
	}
}

func TestPreferencesAreReadOnce(t *testing.T) {
	h := newHouse(t, memory())
	h.run(t)
	for range 5 {
		require.Nil(t, h.say(t, "romeo@verona.example/orchard", chat("juliet@verona.example", "x")).Err)
	}
	require.EqualValues(t, 2, h.prefs.reads.Load())
}

func TestContentHash(t *testing.T) {
	base := func() *stanza.Stanza {
		s := chat("juliet@verona.example", "x", origin("1"))
		s.From = jid.MustParse("romeo@verona.example/a")
		return s
	}
	same := map[string]func(*stanza.Stanza){
		"id":            func(s *stanza.Stanza) { s.ID = "other" },
		"from resource": func(s *stanza.Stanza) { s.From = jid.MustParse("romeo@verona.example/b") },
		"to resource":   func(s *stanza.Stanza) { s.To = jid.MustParse("juliet@verona.example/b") },
		"delay": func(s *stanza.Stanza) {
			s.Payload = append(s.Payload,
				stanza.New(nsDelay, "delay", "stamp", "now"))
		},
	}
	other := map[string]func(*stanza.Stanza){
		"type":    func(s *stanza.Stanza) { s.Type = stanza.TypeNormal },
		"to":      func(s *stanza.Stanza) { s.To = jid.MustParse("nurse@verona.example") },
		"body":    func(s *stanza.Stanza) { s.Payload[0] = chat("a@b", "y").Payload[0] },
		"element": func(s *stanza.Stanza) { s.Payload = append(s.Payload, active()) },
		"lang":    func(s *stanza.Stanza) { s.Lang = "it" },
	}
	for what, change := range same {
		s := base()
		change(s)
		require.Equal(t, contentHash(base()), contentHash(s), what)
	}
	for what, change := range other {
		s := base()
		change(s)
		require.NotEqual(t, contentHash(base()), contentHash(s), what)
	}
}
