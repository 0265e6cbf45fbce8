package stanza

// What the brackets and quotes of a stanza, an element and an attribute take in XML, about.
const (
	stanzaCost  = 96
	elementCost = 16
	attrCost    = 6
)

// Size is about how many bytes s takes as XML, characters that have to be escaped counted once. It is cheap, and never
// far below the truth for what can be large: text. Queues are bounded and buffers are made by it.
func (s *Stanza) Size() int {
	n := s.HeadSize()
	for i := range s.Payload {
		n += s.Payload[i].Size()
	}
	return n
}

// HeadSize is what s takes without its payload; see Size.
func (s *Stanza) HeadSize() int {
	return stanzaCost + len(s.ID) + len(s.Type) + len(s.From.String()) + len(s.To.String()) + len(s.Lang)
}

// Size is about how many bytes e takes as XML; see Stanza.Size.
func (e *Element) Size() int {
	n := elementCost + 2*len(e.Local) + len(e.Space)
	for i := range e.Attrs {
		n += attrCost + len(e.Attrs[i].Local) + len(e.Attrs[i].Value)
	}
	for i := range e.Nodes {
		if c := e.Nodes[i].Element; c != nil {
			n += c.Size()
		} else {
			n += len(e.Nodes[i].Text)
		}
	}
	return n
}
