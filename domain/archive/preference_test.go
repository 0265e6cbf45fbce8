package archive

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

// The examples of XEP-0441.
func TestPreferences(t *testing.T) {
	h := newHouse(t, memory())
	prefs := func(kind, inner string) ([]stanza.Element, *stanza.Error) {
		return h.own(t, "<iq xmlns='jabber:client' type='"+kind+"' id='juliet2'>"+inner+"</iq>")
	}
	text := func(payload []stanza.Element) string {
		return strings.ReplaceAll(string(xmlstream.MarshalElement(nil, &payload[0])), "'", `"`)
	}
	payload, refusal := prefs("get", "<prefs xmlns='urn:xmpp:mam:2'/>")
	require.Nil(t, refusal)
	require.Equal(t, `<prefs xmlns="urn:xmpp:mam:2" default="always"><always/><never/></prefs>`, text(payload))

	h.run(t)
	require.NotZero(t, h.say(t, "romeo@verona.example/o", chat("balthasar@mantua.example", "x")).ID)

	set := `<prefs xmlns="urn:xmpp:mam:2" default="never"><always><jid>juliet@verona.example</jid><jid>nurse@verona.example/home</jid></always><never><jid>montague@verona.example</jid></never></prefs>`
	payload, refusal = prefs("set", set)
	require.Nil(t, refusal)
	require.Equal(t, set, text(payload))
	payload, refusal = prefs("get", "<prefs xmlns='urn:xmpp:mam:2'/>")
	require.Nil(t, refusal)
	require.Equal(t, set, text(payload))
	require.Zero(t, h.say(t, "romeo@verona.example/o", chat("balthasar@mantua.example", "x")).ID, "it counts at once")

	payload, refusal = prefs("set", `<prefs xmlns="urn:xmpp:mam:2" default="roster"/>`)
	require.Nil(t, refusal)
	require.Equal(t, `<prefs xmlns="urn:xmpp:mam:2" default="roster"><always/><never/></prefs>`, text(payload))

	long := strings.Repeat("<jid>a@b</jid>", maxPreferences+1)
	for inner, want := range map[string]stanza.Condition{
		`<prefs xmlns="urn:xmpp:mam:2"/>`:                                                     stanza.BadRequest,
		`<prefs xmlns="urn:xmpp:mam:2" default="sometimes"/>`:                                 stanza.BadRequest,
		`<prefs xmlns="urn:xmpp:mam:2" default="never"><never><jid>@</jid></never></prefs>`:   stanza.JIDMalformed,
		`<prefs xmlns="urn:xmpp:mam:2" default="never"><always>` + long + `</always></prefs>`: stanza.NotAcceptable,
	} {
		_, refusal := prefs("set", inner)
		require.NotNil(t, refusal, inner)
		require.Equal(t, want, refusal.Condition, inner)
	}
	payload, _ = prefs("get", "<prefs xmlns='urn:xmpp:mam:2'/>")
	require.Contains(t, text(payload), "roster", "a refused change changes nothing")

	h.prefs.err = errDisk
	for _, kind := range []string{"get", "set"} {
		_, refusal = prefs(kind, set)
		require.Equal(t, stanza.InternalServerError, refusal.Condition)
	}
}

// What is not known of preferences is read, and not guessed when it cannot be.
func TestPreferencesAreRead(t *testing.T) {
	kept := &memoryPreferences{kept: map[store.AccountID]store.ArchivePreference{7: {Default: keepNever}}}
	p := newPreferences(kept, nil)
	keep, err := p.keeps(t.Context(), 7, jid.MustParse("a@b"))
	require.NoError(t, err)
	require.False(t, keep)
	kept.kept[7] = store.ArchivePreference{}
	keep, err = p.keeps(t.Context(), 7, jid.MustParse("a@b"))
	require.NoError(t, err)
	require.False(t, keep)
	p.known.Invalidate(7)
	keep, err = p.keeps(t.Context(), 7, jid.MustParse("a@b"))
	require.NoError(t, err)
	require.True(t, keep, "somebody else has set it")
	kept.err = errDisk
	_, err = p.keeps(t.Context(), 9, jid.MustParse("a@b"))
	require.ErrorIs(t, err, errDisk)
}

// Whether others are told how far an account has read is asked and set by itself.
func TestShareRead(t *testing.T) {
	h := newHouse(t, memory())
	ask := func(kind, attrs string) string {
		t.Helper()
		answer, refusal := h.own(t, "<iq xmlns='jabber:client' type='"+kind+
			"' id='1'><preferences xmlns='urn:posthouse:preferences:1' "+attrs+"/></iq>")
		if refusal != nil {
			return string(refusal.Condition)
		}
		return answer[0].Attr("share-read")
	}
	require.Equal(t, "true", ask("get", ""))
	require.Equal(t, "false", ask("set", "share-read='false'"))
	require.Equal(t, "false", ask("get", ""))
	require.Equal(t, "bad-request", ask("set", ""))
	require.Equal(t, "true", ask("set", "share-read='true'"))
	h.prefs.err = errDisk
	require.Equal(t, "internal-server-error", ask("set", "share-read='false'"))
}
