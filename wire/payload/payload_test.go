package payload

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

const page = "../../docs/payloads.md"

var update = flag.Bool("update", false, "write the table of docs/payloads.md anew")

// markdown returns the table as docs/payloads.md shows it.
func markdown() []string {
	lines := []string{
		"| element | stored | unread | carbons | who may say it | the message that it names | by |",
		"|---|---|---|---|---|---|---|",
	}
	line := func(name string, r *Row) {
		cells := fmt.Sprintf("| %s | %v | %v | %v | %v | %v | %s |", name, r.Storage, r.Unread, r.Carbon, r.Sender,
			r.Relation, r.By)
		lines = append(lines, strings.ReplaceAll(cells, "  ", " "))
	}
	for i := range table {
		line("`{"+table[i].Space+"}"+table[i].Local+"`", &table[i])
	}
	line("all others in a namespace that begins with `"+NSOwn+"`", &own)
	line("all others", &unknown)
	return lines
}

// TestPage compares the table with docs/payloads.md, line by line.
func TestPage(t *testing.T) {
	const begin, end = "<!-- table -->\n", "<!-- end of table -->"
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok)
	have, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := strings.Join(markdown(), "\n") + "\n"
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(before+begin+want+end+after), 0o644))
		return
	}
	require.Equal(t, want, have, "go test ./wire/payload -update")
}

func TestTable(t *testing.T) {
	require.Equal(t, [2]string{stanza.NSClient, "body"}, [2]string{table[0].Space, table[0].Local},
		"what Of begins with")
	seen := map[[2]string]bool{}
	for i := range table {
		r := &table[i]
		require.False(t, seen[[2]string{r.Space, r.Local}], "{%s}%s is there twice", r.Space, r.Local)
		require.False(t, seen[[2]string{r.Space, ""}], "{%s}%s comes after the rest of its namespace", r.Space, r.Local)
		seen[[2]string{r.Space, r.Local}] = true
		require.Regexp(t, `^(RFC \d{4}|XEP-\d{4}|messages\.md)`, r.By)

		local := r.Local
		if local == "" {
			local = "anything"
		}
		e := stanza.New(r.Space, local)
		require.Equal(t, r, Of(&e))
	}
	for space, want := range map[string]*Row{
		"urn:example:unknown": &unknown, "": &unknown, "urn": &unknown, stanza.NSClient: &unknown, NSCorrect: &unknown,
		"urn:posthouse:position:1": &own, NSContent: &own,
	} {
		e := stanza.New(space, "anything")
		require.Same(t, want, Of(&e), space)
	}
}

var elementName = regexp.MustCompile("`\\{([^}]*)\\}([^`]*)`")

// TestExamples holds the examples of docs/payloads.md to the code.
func TestExamples(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 8 || !strings.Contains("error headline groupchat chat normal", strings.TrimSpace(cells[1])) {
			continue
		}
		rows++
		types := []string{strings.TrimSpace(cells[1])}
		if types[0] == stanza.TypeNormal {
			types = append(types, "", "unknown") // RFC 6121 §5.2.2
		}
		for _, kind := range types {
			s := &stanza.Stanza{Kind: stanza.Message, Type: kind}
			for _, found := range elementName.FindAllStringSubmatch(cells[2], -1) {
				s.Payload = append(s.Payload, stanza.New(found[1], found[2], "id", "x").WithText("x"))
			}
			m := MeaningOf(s)
			require.Equal(t, strings.TrimSpace(cells[3]), m.Storage.String(), "%s as type %q", line, kind)
			require.Equal(t, strings.TrimSpace(cells[4]) == "yes", m.Unread, "%s as type %q", line, kind)
			require.Equal(t, strings.TrimSpace(cells[5]) == "yes", Eligible(s), "%s as type %q", line, kind)
		}
	}
	require.Greater(t, rows, 20)
}

// Nothing but a hint makes less of a message with a body, before it or after it.
func TestOtherElementsDoNotWeakenABody(t *testing.T) {
	for i := range table {
		r := &table[i]
		s := &stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat}
		s.Payload = []stanza.Element{stanza.New(r.Space, r.Local), stanza.New(stanza.NSClient, "body"),
			stanza.New(r.Space, r.Local)}
		m := MeaningOf(s)
		if r.Storage == AskNoStore {
			require.Equal(t, Transient, m.Storage, "%v", r)
			continue
		}
		require.Equal(t, Archived, m.Storage, "%v", r)
		require.Equal(t, r.Unread != Cancels, m.Unread, "%v", r)
	}
}

func TestMeaningNamesEarlierMessages(t *testing.T) {
	named := func(space, local, id string) stanza.Element { return stanza.New(space, local, "id", id) }
	body := stanza.New(stanza.NSClient, "body").WithText("hi")
	store := stanza.New(NSHints, "store")
	for _, test := range []struct {
		payload []stanza.Element
		want    Meaning
	}{
		{nil, Meaning{}},
		{[]stanza.Element{body}, Meaning{Storage: Archived, Unread: true, Says: true}},
		{[]stanza.Element{store}, Meaning{Storage: Archived}},
		{[]stanza.Element{named(NSReceipts, "received", "a"), store},
			Meaning{Storage: Archived, Marks: true, Delivered: "a"}},
		{[]stanza.Element{named(NSMarkers, "received", "a"), named(NSMarkers, "displayed", "b")},
			Meaning{Storage: Archived, Marks: true, Delivered: "a", Read: "b"}},
		{[]stanza.Element{named(NSMarkers, "acknowledged", "b"), body},
			Meaning{Storage: Archived, Unread: true, Marks: true, Says: true, Read: "b"}},
		{[]stanza.Element{named(NSMarkers, "displayed", "b"), stanza.New("urn:example", "x")},
			Meaning{Storage: Archived, Marks: true, Says: true, Read: "b"}},
		{[]stanza.Element{named(NSMarkers, "displayed", "")}, Meaning{Storage: Archived, Marks: true}},
		{[]stanza.Element{stanza.New(NSMarker, "read", "number", "7")},
			Meaning{Storage: Archived, Marks: true, ReadNumber: 7}},
		{[]stanza.Element{stanza.New(NSMarker, "delivered", "number", "7", "id", "a")},
			Meaning{Storage: Archived, Marks: true, DeliveredNumber: 7}},
		{[]stanza.Element{stanza.New(NSMarker, "delivered", "number", "-1", "id", "a")},
			Meaning{Storage: Archived, Marks: true, Delivered: "a"}},
		{[]stanza.Element{named(NSMarker, "read", "b")}, Meaning{Storage: Archived, Marks: true, Read: "b"}},
		{[]stanza.Element{named(NSCorrect, "replace", "a"), body}, Meaning{Storage: Archived, Says: true, Edits: "a"}},
		{[]stanza.Element{named(NSRetract, "retract", "a"), named(NSCorrect, "replace", "b"), body},
			Meaning{Storage: Archived, Says: true, Retracts: "a"}},
		{[]stanza.Element{named(NSReactions, "reactions", "a")}, Meaning{Storage: Archived, Says: true}},
		{[]stanza.Element{named(NSReply, "reply", "a")}, Meaning{}},
	} {
		s := &stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat, Payload: test.payload}
		require.Equal(t, test.want, MeaningOf(s), "%v", test.payload)
	}
}

func TestAbout(t *testing.T) {
	elements := []stanza.Element{
		stanza.New(NSMarkers, "displayed"), stanza.New(NSMarkers, "displayed", "id", "1"),
		stanza.New(NSMarkers, "acknowledged", "id", "2"),
	}
	e, id := About(elements, Read)
	require.Same(t, &elements[1], e)
	require.Equal(t, "1", id)
	e, id = About(elements, Edits)
	require.Nil(t, e)
	require.Empty(t, id)
}

func TestEligible(t *testing.T) {
	invite := stanza.New(NSMUCUser, "x").With(stanza.New(NSMUCUser, "invite"))
	body := stanza.New(stanza.NSClient, "body").WithText("hi")
	message := func(payload ...stanza.Element) *stanza.Stanza {
		return &stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat, Payload: payload}
	}
	require.True(t, Eligible(message(invite)))
	require.False(t, Eligible(message(body, stanza.New(NSMUCUser, "x"))), "from a room's occupant")
	require.False(t, Eligible(message(body, invite, stanza.New(NSCarbons, "private"))))
	require.False(t, Eligible(&stanza.Stanza{Kind: stanza.Presence}))
	require.False(t, Eligible(&stanza.Stanza{Kind: stanza.IQ, Type: stanza.TypeGet}))
}

func TestMaySay(t *testing.T) {
	const domain = "capulet.lit"
	toRoom := &stanza.Stanza{From: jid.MustParse("romeo@capulet.lit/x"), To: jid.MustParse("room@montague.lit")}
	toOurs := &stanza.Stanza{From: toRoom.From, To: jid.MustParse("juliet@capulet.lit")}
	x := stanza.New(NSMUCUser, "x")
	moderated := stanza.New(NSModerate, "moderated")
	for _, test := range []struct {
		s    *stanza.Stanza
		e    stanza.Element
		want bool
	}{
		{toOurs, stanza.New("urn:example", "x"), true},
		{toOurs, stanza.New(NSMAM, "result"), false},
		{toOurs, stanza.New(NSContent, "code"), true},
		{toOurs, stanza.New(NSContent, "position"), false},
		{toOurs, stanza.New("urn:posthouse:position:1", "code"), false},
		{toOurs, stanza.New(NSStanzaID, "stanza-id", "by", "Romeo@capulet.lit"), false},
		{toOurs, stanza.New(NSStanzaID, "stanza-id", "by", "montague.lit"), true},
		{toOurs, stanza.New(NSStanzaID, "stanza-id", "by", "no address@"), true},
		{toOurs, stanza.New(NSStanzaID, "stanza-id"), true},
		{toOurs, stanza.New(NSStanzaID, "origin-id", "by", "capulet.lit"), true},
		{toOurs, stanza.New(NSDelay, "delay", "from", "capulet.lit"), false},
		{toOurs, stanza.New(NSDelay, "delay", "from", "romeo@capulet.lit"), true},
		{toOurs, stanza.New(NSRetract, "retract", "id", "1"), true},
		{toOurs, stanza.New(NSRetract, "retract", "id", "1").With(moderated), false},
		{toOurs, stanza.New(NSRetract, "anything").With(moderated), false},
		{toOurs, x, false},
		{toRoom, x, true},
		{toRoom, x.With(stanza.New(NSMUCUser, "invite"), stanza.New(NSMUCUser, "password")), true},
		{toRoom, x.With(stanza.New(NSMUCUser, "item")), false},
	} {
		require.Equal(t, test.want, MaySay(test.s, &test.e, domain), "%v", test.e)
	}
}

// chat is a message as clients send it, with what they add to a body.
func chat() *stanza.Stanza {
	return &stanza.Stanza{Kind: stanza.Message, Type: stanza.TypeChat, Payload: []stanza.Element{
		stanza.New(stanza.NSClient, "body").WithText("It is the east, and Juliet is the sun."),
		stanza.New(NSStanzaID, "origin-id", "id", "1"),
		stanza.New(NSReceipts, "request"), stanza.New(NSMarkers, "markable"), stanza.New(NSChatStates, "active"),
	}}
}

func BenchmarkMeaning(b *testing.B) {
	s := chat()
	for _, n := range []int{1, 3, 5} {
		short := *s
		short.Payload = s.Payload[:n]
		b.Run(string(rune('0'+n)), func(b *testing.B) {
			for b.Loop() {
				if MeaningOf(&short).Storage != Archived {
					b.Fatal("not archived")
				}
			}
		})
	}
}

func BenchmarkEligible(b *testing.B) {
	s := chat()
	for b.Loop() {
		Eligible(s)
	}
}

func BenchmarkMaySay(b *testing.B) {
	s := chat()
	for b.Loop() {
		for i := range s.Payload {
			MaySay(s, &s.Payload[i], "capulet.lit")
		}
	}
}
