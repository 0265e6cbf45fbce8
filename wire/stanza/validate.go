package stanza

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// NSXMLNS is the namespace of namespace declarations; nothing else may be in it.
const NSXMLNS = "http://www.w3.org/2000/xmlns/"

// maxNesting bounds Validate's recursion; codecs refuse far less (stream.Limits.Depth).
const maxNesting = 1 << 10

// Validate reports why XML could not carry s, or nil. What the XML decoder made is always valid; what came in any
// other way (a compact codec, an HTTP interface) must pass here before it is handed on, so that no transport lets
// in what another one cannot say.
func (s *Stanza) Validate() error {
	for _, attr := range [...]struct{ name, value string }{{"type", s.Type}, {"id", s.ID}, {"lang", s.Lang}} {
		if !ValidText(attr.value) {
			return fmt.Errorf("%s attribute %q has a character that XML cannot carry", attr.name, attr.value)
		}
	}
	if s.Kind < Message || s.Kind > IQ {
		return errors.New("no kind of stanza")
	}
	for i := range s.Payload {
		if err := s.Payload[i].validate(0); err != nil {
			return err
		}
	}
	return nil
}

// Validate reports why XML could not carry e, or nil; see Stanza.Validate.
func (e *Element) Validate() error { return e.validate(0) }

func (e *Element) validate(depth int) error {
	if depth == maxNesting {
		return errors.New("elements are nested too deep")
	}
	if !ValidName(e.Local) {
		return fmt.Errorf("%q is no element name", e.Local)
	}
	if !ValidSpace(e.Space) {
		return fmt.Errorf("%q is no namespace for an element", e.Space)
	}
	for i := range e.Attrs {
		a := &e.Attrs[i]
		switch {
		case !ValidName(a.Local) || a.Space == "" && a.Local == "xmlns":
			return fmt.Errorf("%q is no attribute name", a.Local)
		case !ValidSpace(a.Space):
			return fmt.Errorf("%q is no namespace for an attribute", a.Space)
		case !ValidText(a.Value):
			return fmt.Errorf("attribute %s of %s has a character that XML cannot carry", a.Local, e.Local)
		}
		for j := range i {
			if e.Attrs[j].Local == a.Local && e.Attrs[j].Space == a.Space {
				return fmt.Errorf("attribute %s of %s is there twice", a.Local, e.Local)
			}
		}
	}
	for i := range e.Nodes {
		n := &e.Nodes[i]
		if n.Element != nil {
			if err := n.Element.validate(depth + 1); err != nil {
				return err
			}
		} else if !ValidText(n.Text) {
			return fmt.Errorf("text of %s has a character that XML cannot carry", e.Local)
		}
	}
	return nil
}

// ValidSpace reports whether s may be a namespace name, "" standing for none. Control characters are refused, although
// XML can carry them by reference: parsers that glue namespace and name together have been fooled by them.
func ValidSpace(s string) bool {
	return s != NSXMLNS && ValidText(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}
