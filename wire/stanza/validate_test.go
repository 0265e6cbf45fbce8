package stanza

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValidName(t *testing.T) {
	for _, good := range []string{"a", "_", "a-b.c_1", "é", "日本", "a·", "x\u0301"} {
		require.True(t, ValidName(good), good)
	}
	for _, bad := range []string{"", "1", "-a", ".a", "·a", "\u0301x", "a:b", ":", "a b", "a'", "a<", "a\x00", "a\xff",
		"\ufffd", "\U00010000", "a×"} {
		require.False(t, ValidName(bad), "%q", bad)
	}
}

func TestValidText(t *testing.T) {
	for _, good := range []string{"", "\t\r\n a<&>'\"\x7f\u0085\ufffd\ufeff\U0010ffff"} {
		require.True(t, ValidText(good), good)
	}
	for _, bad := range []string{"\x00", "a\x01", "\x1f", "\x0b", "\xff", "\xc0\x80", "\xed\xa0\x80", "\uFFFE",
		"\uFFFF", "a\xe2\x82"} {
		require.False(t, ValidText(bad), "%q", bad)
	}
}

// TestValidate has the ways in which another transport could bring in what XML cannot say (A146).
func TestValidate(t *testing.T) {
	good := New("u", "x", "a", "1").With(New("", "y").WithText("t"))
	good.Attrs = append(good.Attrs, Attr{Space: "u", Local: "a", Value: "2"})
	require.NoError(t, good.Validate())
	require.NoError(t, (&Stanza{Kind: IQ, Payload: []Element{good}}).Validate())

	deep := New("u", "x")
	for range maxNesting {
		deep = New("u", "x").With(deep)
	}
	for name, bad := range map[string]Element{
		"name":                   New("u", "x y"),
		"namespace":              New("u\n", "x"),
		"declarations":           New(NSXMLNS, "x"),
		"attribute name":         New("u", "x", "a=''", "1"),
		"declaration":            New("u", "x", "xmlns", "v"),
		"attribute value":        New("u", "x", "a", "\x00"),
		"attribute namespace":    {Space: "u", Local: "x", Attrs: []Attr{{Space: NSXMLNS, Local: "p", Value: "v"}}},
		"attribute twice":        New("u", "x", "a", "1", "a", "2"),
		"text":                   New("u", "x").WithText("\uFFFE"),
		"child":                  New("u", "x").With(New("u", "")),
		"nesting":                deep,
		"text beside an element": New("u", "x").With(New("u", "y")).WithText("\xff"),
	} {
		require.Error(t, bad.Validate(), name)
		require.Error(t, (&Stanza{Kind: Message, Payload: []Element{good, bad}}).Validate(), name)
	}
	for name, bad := range map[string]*Stanza{
		"kind": {}, "type": {Kind: IQ, Type: "\x00"}, "id": {Kind: IQ, ID: "\xff"}, "lang": {Kind: IQ, Lang: "\uFFFF"},
	} {
		require.Error(t, bad.Validate(), name)
	}
}

func TestEqual(t *testing.T) {
	e := func() *Element {
		e := New("u", "x", "a", "1", "b", "2").WithText("s").With(New("v", "y")).WithText("t")
		return &e
	}
	same := e()
	same.Attrs[0], same.Attrs[1] = same.Attrs[1], same.Attrs[0]
	same.Nodes = []Node{{}, {Text: "s"}, {}, same.Nodes[1], {Text: ""}, {Text: "t"}, {}}
	require.True(t, e().Equal(same))
	require.True(t, (*Element)(nil).Equal(nil))
	for name, change := range map[string]func(*Element){
		"namespace":       func(e *Element) { e.Space = "w" },
		"name":            func(e *Element) { e.Local = "z" },
		"value":           func(e *Element) { e.Attrs[0].Value = "3" },
		"fewer":           func(e *Element) { e.Attrs = e.Attrs[:1] },
		"text":            func(e *Element) { e.Nodes[0].Text = "S" },
		"text after":      func(e *Element) { e.Nodes = append(e.Nodes, Node{Text: "u"}) },
		"child":           func(e *Element) { e.Nodes[1].Element = &Element{Space: "v", Local: "z"} },
		"no child":        func(e *Element) { e.Nodes = []Node{{Text: "st"}} },
		"order":           func(e *Element) { e.Nodes[0], e.Nodes[1] = e.Nodes[1], e.Nodes[0] },
		"attribute space": func(e *Element) { e.Attrs[0].Space = "u" },
	} {
		other := e()
		change(other)
		require.False(t, e().Equal(other), name)
		require.False(t, other.Equal(e()), name)
		require.False(t, (&Stanza{Payload: []Element{*e()}}).Equal(&Stanza{Payload: []Element{*other}}), name)
	}
	require.False(t, e().Equal(nil))
	require.False(t, (&Stanza{ID: "1"}).Equal(&Stanza{ID: "2"}))
	require.False(t, (&Stanza{}).Equal(nil))
	require.True(t, (&Stanza{Type: "chat"}).Equal(&Stanza{Type: "chat"}))
}
