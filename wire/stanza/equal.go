package stanza

// Equal reports whether s and t say the same: attributes may differ in order, and text in how it is cut into nodes.
// It is what a round trip through a codec must keep. Two nil stanzas are equal.
func (s *Stanza) Equal(t *Stanza) bool {
	if s == nil || t == nil {
		return s == t
	}
	if s.Kind != t.Kind || s.Type != t.Type || s.ID != t.ID || s.From != t.From || s.To != t.To ||
		s.Lang != t.Lang || len(s.Payload) != len(t.Payload) {
		return false
	}
	for i := range s.Payload {
		if !s.Payload[i].Equal(&t.Payload[i]) {
			return false
		}
	}
	return true
}

// Equal reports whether e and f say the same; see Stanza.Equal.
func (e *Element) Equal(f *Element) bool {
	if e == nil || f == nil {
		return e == f
	}
	if e.Space != f.Space || e.Local != f.Local || !equalAttrs(e.Attrs, f.Attrs) {
		return false
	}
	a, b := cursor{nodes: e.Nodes}, cursor{nodes: f.Nodes}
	for {
		textA, textB := a.text(), b.text()
		if textA != textB {
			return false
		}
		childA, childB := a.element(), b.element()
		if childA == nil || childB == nil {
			return childA == childB
		}
		if !childA.Equal(childB) {
			return false
		}
	}
}

func equalAttrs(a, b []Attr) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		found := false
		for _, y := range b {
			if x == y {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// cursor walks nodes, taking text that was cut into several nodes as one.
type cursor struct{ nodes []Node }

func (c *cursor) text() string {
	var out string
	for len(c.nodes) > 0 && c.nodes[0].Element == nil {
		out += c.nodes[0].Text
		c.nodes = c.nodes[1:]
	}
	return out
}

func (c *cursor) element() *Element {
	if len(c.nodes) == 0 {
		return nil
	}
	e := c.nodes[0].Element
	c.nodes = c.nodes[1:]
	return e
}
