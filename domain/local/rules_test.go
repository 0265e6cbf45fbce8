package local

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// TestDocumentMatchesTable compares docs/delivery.md with the table line by line.
func TestDocumentMatchesTable(t *testing.T) {
	data, err := os.ReadFile("../../docs/delivery.md")
	require.NoError(t, err)
	var lines []string
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "| stanza |") || len(lines) > 0 && strings.HasPrefix(line, "|") {
			lines = append(lines, strings.TrimRight(line, "\n"))
		} else if len(lines) > 0 {
			break
		}
	}
	require.Equal(t, DeliveryTable(), lines)
}

func TestTableIsComplete(t *testing.T) {
	for kind := stanza.Message; kind <= stanza.IQ; kind++ {
		for typ, name := range types[kind] {
			for form := ToDomain; form <= ToFull; form++ {
				for state := NoAccount; state <= Match; state++ {
					for _, stored := range []bool{false, true} {
						if form == ToBare && state == Match {
							continue // a bare address names no resource
						}
						require.NotEqual(t, Undecided, decide(kind, typ, form, state, stored), "%v %s %v %v", kind,
							name, form, state)
					}
				}
			}
		}
	}
	require.Equal(t, Refuse, decide(stanza.IQ, -1, ToBare, Absent, false), "an unknown type")
}

// TestTableOfRFC6121 holds the table to Table 1 of RFC 6121 §8.5.4, written down once more from there. S: silently
// ignore, E: error, O: store offline, D: deliver, A: deliver to all. Where it leaves a choice, any of it will do.
func TestTableOfRFC6121(t *testing.T) {
	letters := map[Action]string{Drop: "S", Refuse: "E", Keep: "O", Deliver: "D", DeliverLive: "A"}
	for _, row := range []struct {
		form  Form
		state State
		// normal, chat, groupchat, headline
		want [4]string
	}{
		{ToBare, NoAccount, [4]string{"SE", "SE", "E", "S"}},
		{ToFull, NoAccount, [4]string{"SE", "SE", "SE", "SE"}},
		{ToBare, Absent, [4]string{"OE", "OE", "E", "S"}},
		{ToFull, Absent, [4]string{"SE", "OE", "SE", "SE"}},
		{ToFull, Match, [4]string{"D", "D", "D", "D"}},
		{ToBare, Live, [4]string{"DA", "DA", "E", "DA"}},
		{ToFull, Live, [4]string{"SE", "DA", "SE", "SE"}},
	} {
		for typ, want := range row.want {
			name := types[stanza.Message][typ]
			for _, stored := range []bool{false, true} {
				got := letters[decide(stanza.Message, typ, row.form, row.state, stored)]
				switch {
				case got == "S" && !stored && row.state == Absent && strings.Contains(want, "O"):
					// Not for keeping (XEP-0160 §3): neither stored nor told, docs/delivery.md, note 2.
				default:
					require.Contains(t, want, got, "%s to %v, %v, stored %v", name, row.form, row.state, stored)
				}
			}
		}
	}
}

// TestNobodyLearnsWhoExists: whatever an account without a subscription sends to find out (A104), the table says the
// same of an account that exists and is not there as of one that does not.
func TestNobodyLearnsWhoExists(t *testing.T) {
	silent := map[Action]bool{Drop: true, DeliverAvailable: true, Subscriptions: true}
	for _, form := range []Form{ToBare, ToFull} {
		for typ, name := range types[stanza.Presence] {
			if name == "probe" {
				continue // Deny is what package roster answers without a subscription; tested there
			}
			for state := NoAccount; state <= Live; state++ {
				require.True(t, silent[decide(stanza.Presence, typ, form, state, false)], "%s %v %v", name, form, state)
			}
		}
		for typ, name := range types[stanza.Message] {
			if form == ToFull && name != "chat" {
				require.Equal(t, decide(stanza.Message, typ, form, NoAccount, false),
					decide(stanza.Message, typ, form, Absent, false), name)
			}
		}
	}
	for typ := range types[stanza.IQ] {
		for _, form := range []Form{ToBare, ToFull} {
			require.Equal(t, decide(stanza.IQ, typ, form, NoAccount, false),
				decide(stanza.IQ, typ, form, Absent, false))
		}
	}
}

func TestOverlappingRulesPanic(t *testing.T) {
	require.PanicsWithValue(t, "local: two delivery rules for message chat to bare, live", func() {
		compile([]rule{
			{stanza.Message, "chat", ToBare, live, Either, Drop, ""},
			{stanza.Message, "chat", ToBare, live, InArchive, Keep, ""},
		})
	})
}

func TestFormOf(t *testing.T) {
	for text, want := range map[string]Form{
		"capulet.lit": ToDomain, "capulet.lit/x": ToDomainResource, "juliet@capulet.lit": ToBare,
		"juliet@capulet.lit/x": ToFull,
	} {
		require.Equal(t, want, formOf(jid.MustParse(text)), text)
	}
	require.Equal(t, "domain domain/… bare full", fmt.Sprint(ToDomain, ToDomainResource, ToBare, ToFull))
}
