// Package script runs tests of a whole server that are written as text: scripts in which clients connect, send and
// receive (see Script). It has a small XMPP client of its own, built on encoding/xml and on none of the server's code.
// So the server's output is checked independently of the server's own parser.
//
// Each client has one goroutine, which reads. It ends when the client leaves or the script has ended.
package script

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Element is an element as encoding/xml sees it.
type Element struct {
	Name     xml.Name
	Attrs    []xml.Attr // sorted, without namespace declarations
	Children []*Element
	Text     string // own character data, trimmed when there are children
}

// readNode reads the element whose start tag was just read.
func readElement(d *xml.Decoder, start xml.StartElement) (*Element, error) {
	n := &Element{Name: start.Name}
	for _, a := range start.Attr {
		if a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns" {
			continue
		}
		n.Attrs = append(n.Attrs, a)
	}
	slices.SortFunc(n.Attrs, compareAttrs)
	for {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			child, err := readElement(d, t)
			if err != nil {
				return nil, err
			}
			n.Children = append(n.Children, child)
		case xml.CharData:
			n.Text += string(t)
		case xml.EndElement:
			if len(n.Children) > 0 {
				n.Text = strings.TrimSpace(n.Text)
			}
			return n, nil
		}
	}
}

func compareAttrs(a, b xml.Attr) int {
	return strings.Compare(a.Name.Space+" "+a.Name.Local, b.Name.Space+" "+b.Name.Local)
}

// parse reads one element from text; elements without namespace are jabber:client.
func parse(text string) (*Element, error) {
	all, err := parseAll(text)
	if err == nil && len(all) == 0 {
		err = errors.New("no element")
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// parseAll reads all elements from text.
func parseAll(text string) (all []*Element, err error) {
	d := xml.NewDecoder(strings.NewReader(text))
	d.DefaultSpace = "jabber:client"
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if start, ok := token.(xml.StartElement); ok {
			n, err := readElement(d, start)
			if err != nil {
				return nil, err
			}
			all = append(all, n)
		}
	}
}

// Attr returns an attribute without namespace, "" when absent.
func (n *Element) Attr(local string) string {
	for _, a := range n.Attrs {
		if a.Name.Local == local && a.Name.Space == "" {
			return a.Value
		}
	}
	return ""
}

// Child returns the first child of that name, or nil.
func (n *Element) Child(space, local string) *Element {
	for _, c := range n.Children {
		if c.Name.Local == local && c.Name.Space == space {
			return c
		}
	}
	return nil
}

// Find returns the first descendant of that name, or nil.
func (n *Element) Find(space, local string) *Element {
	for _, c := range n.Children {
		if c.Name.Local == local && c.Name.Space == space {
			return c
		}
		if found := c.Find(space, local); found != nil {
			return found
		}
	}
	return nil
}

// String writes the element for people to read in a failure.
func (n *Element) String() string {
	var b strings.Builder
	n.write(&b, "", "jabber:client")
	return b.String()
}

func (n *Element) write(b *strings.Builder, indent, space string) {
	fmt.Fprintf(b, "%s<%s", indent, n.Name.Local)
	if n.Name.Space != space {
		fmt.Fprintf(b, " xmlns='%s'", n.Name.Space)
	}
	for _, a := range n.Attrs {
		name := a.Name.Local
		if a.Name.Space != "" {
			name = "{" + a.Name.Space + "}" + name
		}
		fmt.Fprintf(b, " %s='%s'", name, a.Value)
	}
	if len(n.Children) == 0 {
		fmt.Fprintf(b, ">%s</%s>\n", n.Text, n.Name.Local)
		return
	}
	fmt.Fprintf(b, ">%s\n", n.Text)
	for _, c := range n.Children {
		c.write(b, indent+"  ", n.Name.Space)
	}
	fmt.Fprintf(b, "%s</%s>\n", indent, n.Name.Local)
}

// placeholder is {name} in an expected value: it stands for anything, and for the same thing everywhere in the script.
var placeholder = regexp.MustCompile(`\{([a-z][a-z0-9-]*)\}`)

// match compares what was received with what the script expects. Values may hold placeholders: {any} matches anything,
// any other {name} is bound on first use. A child <etc/> allows further children; an attribute value {absent} must not
// be there.
func match(want, got *Element, bound map[string]string) error {
	if want.Name != got.Name {
		return fmt.Errorf("expected <%s xmlns='%s'>, got <%s xmlns='%s'>", want.Name.Local, want.Name.Space,
			got.Name.Local, got.Name.Space)
	}
	where := "<" + want.Name.Local + ">"
	children, open := want.Children, false
	if i := slices.IndexFunc(children, func(c *Element) bool { return c.Name.Local == "etc" }); i >= 0 {
		open = true
		children = slices.Delete(slices.Clone(children), i, i+1)
	}
	for _, a := range want.Attrs {
		value, ok := "", false
		for _, b := range got.Attrs {
			if a.Name == b.Name {
				value, ok = b.Value, true
			}
		}
		if !ok {
			return fmt.Errorf("%s: attribute %s is missing", where, a.Name.Local)
		}
		if err := matchText(a.Value, value, bound); err != nil {
			return fmt.Errorf("%s: attribute %s: %w", where, a.Name.Local, err)
		}
	}
	if !open {
		for _, b := range got.Attrs {
			if !slices.ContainsFunc(want.Attrs, func(a xml.Attr) bool { return a.Name == b.Name }) {
				return fmt.Errorf("%s: unexpected attribute %s='%s'", where, b.Name.Local, b.Value)
			}
		}
	}
	if len(want.Children) == 0 || strings.TrimSpace(want.Text) != "" {
		if err := matchText(want.Text, got.Text, bound); err != nil {
			return fmt.Errorf("%s: text: %w", where, err)
		}
	}
	return matchChildren(where, children, got.Children, open, bound)
}

// matchChildren looks for each expected child in order. Without <etc/>, nothing may be left over.
func matchChildren(where string, want, got []*Element, open bool, bound map[string]string) error {
	i := 0
	for _, w := range want {
		var last error
		found := false
		for ; i < len(got); i++ {
			trial := map[string]string{}
			for k, v := range bound {
				trial[k] = v
			}
			if last = match(w, got[i], trial); last == nil {
				for k, v := range trial {
					bound[k] = v
				}
				found = true
				i++
				break
			}
			if !open {
				break
			}
		}
		if !found {
			if last == nil {
				last = errors.New("it is not there")
			}
			return fmt.Errorf("%s: child <%s>: %w", where, w.Name.Local, last)
		}
	}
	if !open && i < len(got) {
		return fmt.Errorf("%s: unexpected child <%s xmlns='%s'>", where, got[i].Name.Local, got[i].Name.Space)
	}
	return nil
}

func matchText(want, got string, bound map[string]string) error {
	names := placeholder.FindAllStringSubmatchIndex(want, -1)
	if names == nil {
		if want != got {
			return fmt.Errorf("expected %q, got %q", want, got)
		}
		return nil
	}
	var pattern strings.Builder
	pattern.WriteString(`(?s)\A`)
	var free []string
	last := 0
	for _, m := range names {
		pattern.WriteString(regexp.QuoteMeta(want[last:m[0]]))
		name := want[m[2]:m[3]]
		if value, ok := bound[name]; ok && name != "any" {
			pattern.WriteString(regexp.QuoteMeta(value))
		} else {
			pattern.WriteString(`(.+)`)
			free = append(free, name)
		}
		last = m[1]
	}
	pattern.WriteString(regexp.QuoteMeta(want[last:]) + `\z`)
	found := regexp.MustCompile(pattern.String()).FindStringSubmatch(got)
	if found == nil {
		return fmt.Errorf("expected %q (with %v), got %q", want, bound, got)
	}
	for i, name := range free {
		if name != "any" {
			bound[name] = found[i+1]
		}
	}
	return nil
}
