package content

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

const page = "../../docs/messages.md"

// example is how the page shows a message and what it means.
var example = regexp.MustCompile("(?s)(?:```|~~~)xml\n(.*?)\n(?:```|~~~)\n+```json\n(.*?)\n```\n")

// TestExamples turns the XML of each example into its JSON, and back.
func TestExamples(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	kinds := make(map[Kind]bool)
	found := example.FindAllStringSubmatch(string(text), -1)
	require.Equal(t, strings.Count(string(text), "```json\n"), len(found), "every example has both forms")
	for _, m := range found {
		s, err := xmlstream.Unmarshal([]byte(strings.Replace(m[1], "<message", "<message xmlns='jabber:client'", 1)))
		require.NoError(t, err, m[1])
		for i := range s.Payload {
			unindent(&s.Payload[i])
		}
		var want Content
		decoder := json.NewDecoder(strings.NewReader(m[2]))
		decoder.DisallowUnknownFields()
		require.NoError(t, decoder.Decode(&want), m[2])
		require.Equal(t, want, Parse(s), m[1])
		again, err := json.Marshal(want)
		require.NoError(t, err)
		require.JSONEq(t, m[2], string(again))
		kinds[want.Kind] = true
		if want.Kind == Retracted {
			continue
		}
		built, err := Build(want)
		require.NoError(t, err, m[2])
		require.True(t, s.Equal(&stanza.Stanza{Kind: stanza.Message, Payload: built}),
			"%s\n%s", m[1], xmlstream.Marshal(nil, &stanza.Stanza{Kind: stanza.Message, Payload: built}))
	}
	for _, k := range []Kind{Text, Image, Voice, Location, Code, Card, Forward, Notice, Custom, Edit, Retract, Reaction,
		Delivered, Read, Typing, Retracted} {
		require.True(t, kinds[k], "%s has no example", k)
	}
}

// unindent takes out what is there for people to read.
func unindent(e *stanza.Element) {
	elements := false
	for c := range e.Elements {
		unindent(c)
		elements = true
	}
	if !elements {
		return
	}
	kept := e.Nodes[:0]
	for _, n := range e.Nodes {
		if n.Element != nil || strings.TrimSpace(n.Text) != "" {
			kept = append(kept, n)
		}
	}
	e.Nodes = kept
}

// TestLimits holds the page's table to the code.
func TestLimits(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), "<!-- limits -->\n")
	have, _, _ := strings.Cut(rest, "<!-- end of limits -->")
	want := "| what | at most |\n|---|---|\n"
	for _, row := range [...]struct {
		what, most string
	}{
		{"text, the text of a card", fmt.Sprint(MaxText, " bytes")},
		{"the whole message, as XML", fmt.Sprint(MaxMessage, " bytes")},
		{"data of custom content", fmt.Sprint(MaxData, " bytes")},
		{"URL, address of a location", fmt.Sprint(MaxURL, " bytes")},
		{"name, title, type, language", fmt.Sprint(MaxName, " bytes")},
		{"id of another message", fmt.Sprint(MaxID, " bytes")}, {"mentions", fmt.Sprint(MaxMentions)},
		{"reactions", fmt.Sprint(MaxReactions, " of ", MaxReaction, " bytes")},
		{"messages inside each other", fmt.Sprint(MaxForwards)},
	} {
		want += "| " + row.what + " | " + row.most + " |\n"
	}
	require.Equal(t, want, have)
}
