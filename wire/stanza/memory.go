package stanza

// The shapes that most stanzas have: one element with a text, and a message with a body and small companions, with and
// without what a server adds to it.
type (
	small struct {
		stanza   Stanza
		elements [1]Element
		nodes    [1]Node
	}
	sent struct {
		stanza   Stanza
		elements [4]Element
		attrs    [2]Attr
		nodes    [2]Node
	}
	delivered struct {
		stanza   Stanza
		elements [6]Element
		attrs    [3]Attr
		nodes    [1]Node
	}
)

// Allocate returns a stanza, and memory for so many elements, attributes and nodes in it. Of the usual shapes all of it
// is one allocation.
func Allocate(elements, attrs, nodes int) (*Stanza, []Element, []Attr, []Node) {
	switch {
	case elements == 0 && attrs == 0 && nodes == 0:
		return new(Stanza), nil, nil, nil
	case elements <= 1 && attrs == 0 && nodes <= 1:
		m := new(small)
		return &m.stanza, m.elements[:elements], nil, m.nodes[:nodes]
	case elements <= 4 && attrs <= 2 && nodes <= 2:
		m := new(sent)
		return &m.stanza, m.elements[:elements], m.attrs[:attrs], m.nodes[:nodes]
	case elements <= 6 && attrs <= 3 && nodes <= 1:
		m := new(delivered)
		return &m.stanza, m.elements[:elements], m.attrs[:attrs], m.nodes[:nodes]
	}
	e, a, n := Slabs(elements, attrs, nodes)
	return new(Stanza), e, a, n
}

// Slabs returns memory for so many elements, attributes and nodes.
func Slabs(elements, attrs, nodes int) (e []Element, a []Attr, n []Node) {
	if elements > 0 {
		e = make([]Element, elements)
	}
	if attrs > 0 {
		a = make([]Attr, attrs)
	}
	if nodes > 0 {
		n = make([]Node, nodes)
	}
	return e, a, n
}
