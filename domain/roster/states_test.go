package roster

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// appendixA is RFC 6121 Appendix A, written down from there for this test alone: for each stanza and each state,
// whether the server routes (outbound) or delivers (inbound) it, and the new state, "=" for none. A state is two parts:
// the subscription, and who waits ("o" for pending out, "i" for pending in).
const appendixA = `
out subscribe     none/-: yes none/o   none/o: yes =       none/i: yes none/oi  none/oi: yes =      to/-: yes =       to/i: yes =       from/-: yes from/o  from/o: yes =        both/-: yes =
out unsubscribe   none/-: yes =        none/o: yes none/-  none/i: yes =        none/oi: yes none/i to/-: yes none/-  to/i: yes none/i  from/-: yes =       from/o: yes from/-   both/-: yes from/-
out subscribed    none/-: no =         none/o: no =        none/i: yes from/-   none/oi: yes from/o to/-: no =        to/i: yes both/-  from/-: no =        from/o: no =         both/-: no =
out unsubscribed  none/-: no =         none/o: no =        none/i: yes none/-   none/oi: yes none/o to/-: no =        to/i: yes to/-    from/-: yes none/-  from/o: yes none/o   both/-: yes to/-
in  subscribe     none/-: yes none/i   none/o: yes none/oi none/i: no =         none/oi: no =       to/-: yes to/i    to/i: no =        from/-: no =        from/o: no =         both/-: no =
in  unsubscribe   none/-: no =         none/o: no =        none/i: yes none/-   none/oi: yes none/o to/-: no =        to/i: yes to/-    from/-: yes none/-  from/o: yes none/o   both/-: yes to/-
in  subscribed    none/-: no =         none/o: yes to/-    none/i: no =         none/oi: yes to/i   to/-: no =        to/i: no =        from/-: no =        from/o: yes both/-   both/-: no =
in  unsubscribed  none/-: no =         none/o: yes none/-  none/i: no =         none/oi: yes none/i to/-: yes none/-  to/i: yes none/i  from/-: no =        from/o: yes from/-   both/-: yes from/-
`

func describe(it *store.RosterItem) string {
	if it == nil {
		return "none/-"
	}
	out := map[[2]bool]string{{false, false}: "none", {true, false}: "to", {false, true}: "from",
		{true, true}: "both"}[[2]bool{it.To, it.From}] + "/"
	if it.PendingOut {
		out += "o"
	}
	if it.PendingIn {
		out += "i"
	}
	if strings.HasSuffix(out, "/") {
		out += "-"
	}
	return out
}

func parseState(text string) store.RosterItem {
	sub, waiting, _ := strings.Cut(text, "/")
	return store.RosterItem{
		To: sub == "to" || sub == "both", From: sub == "from" || sub == "both",
		PendingOut: strings.Contains(waiting, "o"), PendingIn: strings.Contains(waiting, "i"), Listed: true,
	}
}

// TestAppendixA sends every subscription stanza both ways in every state, through the whole of the package.
func TestAppendixA(t *testing.T) {
	cases := 0
	for _, line := range strings.Split(strings.TrimSpace(appendixA), "\n") {
		fields := strings.Fields(line)
		direction, kind, cells := fields[0], fields[1], fields[2:]
		require.Len(t, cells, 9*3, line)
		for i := 0; i < len(cells); i += 3 {
			before, pass, after := strings.TrimSuffix(cells[i], ":"), cells[i+1] == "yes", cells[i+2]
			if after == "=" {
				after = before
			}
			cases++
			t.Run(fmt.Sprint(direction, " ", kind, " ", before), func(t *testing.T) {
				w := newWorld(t)
				if before != "none/-" {
					w.give(1, "benvolio@montague.lit", func(it *store.RosterItem) {
						listed := it.JID
						*it = parseState(before)
						it.JID = listed
					})
				}
				w.appear("juliet@capulet.lit/balcony")
				versionBefore := w.store.of(1).version
				if direction == "out" {
					require.Nil(t, w.say("juliet@capulet.lit/balcony", "<presence type='"+kind+
						"' to='benvolio@montague.lit/x' id='p'/>"))
				} else {
					w.contacts.Receive(context.Background(), 1,
						parse(t, "<presence type='"+kind+
							"' from='benvolio@montague.lit/x' to='juliet@capulet.lit' id='p'/>"))
				}
				require.Equal(t, after, describe(w.item(1, "benvolio@montague.lit")))

				routed, delivered := false, false
				var away []string
				for _, text := range w.texts("away") {
					if strings.Contains(text, "type='"+kind+"'") && direction == "out" {
						require.Equal(t, "<presence from='juliet@capulet.lit' to='benvolio@montague.lit' type='"+kind+
							"' id='p'/>", text)
						routed = true
					} else {
						away = append(away, text)
					}
				}
				pushes := 0
				for _, text := range w.texts("juliet@capulet.lit/balcony") {
					switch {
					case strings.Contains(text, "jabber:iq:roster"):
						pushes++
					case strings.Contains(text, "type='"+kind+"'"):
						require.Equal(t, "<presence from='benvolio@montague.lit' to='juliet@capulet.lit' type='"+kind+
							"' id='p'/>", text)
						delivered = true
					default:
						t.Error("unexpected ", text)
					}
				}
				require.Equal(t, pass, routed || delivered)
				require.Equal(t, direction == "out" && pass, routed)

				// Notes to the tables: who is subscribed already is told so again; whose subscription ends sees the
				// account go; who is approved sees it come.
				var want []string
				const gone,
					here = "<presence from='juliet@capulet.lit/balcony' to='benvolio@montague.lit' " +
					"type='unavailable'/>", "<presence from='juliet@capulet.lit/balcony' to='benvolio@montague.lit'/>"
				from := strings.HasPrefix(before, "from") || before == "both/-"
				switch direction + " " + kind {
				case "in subscribe":
					if from {
						want = append(
							want, "<presence from='juliet@capulet.lit' to='benvolio@montague.lit' type='subscribed'/>",
							here)
					}
				case "in unsubscribe":
					if from {
						want = append(want, gone)
					}
				case "out unsubscribed":
					if from {
						want = append(want, gone)
					}
				case "out subscribed":
					if pass {
						want = append(want, here)
					}
				}
				require.Equal(t, want, away)

				// noted in advance
				changed := after != before || kind == "subscribed" && direction == "out" && !pass && !from
				switch {
				case direction == "in" && kind == "subscribe" && before == "none/-":
					require.Zero(t, pushes, "a request without a subscription is not in the roster")
					require.False(t, w.item(1, "benvolio@montague.lit").Listed)
				case changed && shown(before) == shown(after) && after != before:
					require.Zero(t, pushes, "nothing that is shown")
				case changed:
					require.Equal(t, 1, pushes)
				default:
					require.Zero(t, pushes)
					require.Equal(t, versionBefore, w.store.of(1).version, "nothing changed")
				}
			})
		}
	}
	require.Equal(t, 2*4*9, cases)
}

func TestStateOf(t *testing.T) {
	for s := None; s < stateCount; s++ {
		var it store.RosterItem
		s.set(&it)
		require.Equal(t, s, stateOf(&it), s.String())
	}
	require.Equal(t, Both, stateOf(&store.RosterItem{To: true, From: true, PendingIn: true, PendingOut: true}))
	require.Equal(t, -1, kindOf(stanza.TypeProbe))
}

// shown returns of a state what a device is shown: not that a request waits.
func shown(state string) string {
	subscription, pending, _ := strings.Cut(state, "/")
	return subscription + "/" + strings.Trim(pending, "i-")
}
