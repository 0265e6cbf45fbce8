package archive

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

var elementName = regexp.MustCompile("`\\{([^}]*)\\}([^`]*)`")

// The decisions of the documentation are those of the code, all of them.
func TestClassifyAsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/design/acknowledgement.md")
	require.NoError(t, err)
	documented := map[name]bool{}
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 6 {
			continue
		}
		kind, payload, want := strings.TrimSpace(cells[1]), cells[2], strings.TrimSpace(cells[3])
		if want != transient.String() && want != offline.String() && want != archived.String() {
			continue
		}
		rows++
		s := &stanza.Stanza{Kind: stanza.Message, Type: kind}
		if kind == stanza.TypeNormal {
			s.Type = "" // absent means normal
		}
		names := elementName.FindAllStringSubmatch(payload, -1)
		for _, found := range names {
			local := found[2]
			if local == "" {
				local = "whatever"
			}
			s.Payload = append(s.Payload, stanza.New(found[1], local).WithText("x"))
			if len(names) == 1 {
				documented[name{found[1], found[2]}] = true
			}
		}
		require.Equal(t, want, classify(s).String(), line)
		if kind == stanza.TypeNormal {
			for _, other := range []string{stanza.TypeNormal, "unknown"} {
				s.Type = other
				require.Equal(t, want, classify(s).String(), "%s as type %s", line, other)
			}
		}
	}
	require.Greater(t, rows, 50)
	for n := range meaning {
		require.True(t, documented[n], "%v is not in the documentation", n)
	}
}

func TestOtherElementsDoNotWeakenABody(t *testing.T) {
	for n := range meaning {
		if n.space == nsHints {
			continue
		}
		s := &stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat}
		s.Payload = []stanza.Element{stanza.New(n.space, n.local), stanza.New(stanza.NSClient, "body"), stanza.New(n.space, n.local)}
		require.Equal(t, archived, classify(s), "%v", n)
	}
}
