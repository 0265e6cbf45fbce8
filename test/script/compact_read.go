package script

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/posthouse-im/posthouse/wire/stream/pbstream/pb"
)

// What frames mean, as docs/protocol/compact.md says it.

// element makes an element with attributes, given as names and values.
func element(space, local string, attrs ...string) *Element {
	n := &Element{Name: xml.Name{Space: space, Local: local}}
	for i := 0; i < len(attrs); i += 2 {
		n.set("", attrs[i], attrs[i+1])
	}
	return n
}

// with is element with text.
func (n *Element) with(text string) *Element {
	n.Text = text
	return n
}

// set sets an attribute.
func (n *Element) set(space, local, value string) {
	n.Attrs = slices.DeleteFunc(n.Attrs,
		func(a xml.Attr) bool { return a.Name.Space == space && a.Name.Local == local })
	n.Attrs = append(n.Attrs, xml.Attr{Name: xml.Name{Space: space, Local: local}, Value: value})
	slices.SortFunc(n.Attrs, compareAttrs)
}

// lookUp finds a number in a table, or takes the name.
func lookUp(table []string, number uint32, name string) (string, error) {
	switch {
	case number == 0:
		return name, nil
	case int(number) >= len(table) || name != "":
		return "", fmt.Errorf("number %d with name %q", number, name)
	}
	return table[number], nil
}

func uuidText(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func keyText(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

const millis = "2006-01-02T15:04:05.000Z"

// around is what is known around an element.
type around struct {
	space   string // of the element that it is in
	stanza  string // the id of the stanza that it is in
	account string // the bare form of the outermost stanza's to
}

// stanza is the element of a stanza at the top level.
func (d *dictionary) stanza(local string, p *pb.Stanza) (*Element, error) {
	if p.OwnTo != nil {
		p.To, p.OwnTo = own(bare(p.From), *p.OwnTo), nil
	}
	f := d.Forms["Stanza"]
	f.Element = local
	return d.typed(&f, p.ProtoReflect(), around{account: bare(p.To)})
}

// own is an address of the account, with a resource unless that is empty.
func own(account, resource string) string { return strings.TrimSuffix(account+"/"+resource, "/") }

func bare(jid string) string {
	b, _, _ := strings.Cut(jid, "/")
	return b
}

// payload is the element of one child of a stanza.
func (d *dictionary) payload(p protoreflect.Message, at around) (*Element, error) {
	kind := p.WhichOneof(p.Descriptor().Oneofs().ByName("kind"))
	if kind == nil || int(kind.Number()) >= len(d.Payloads) {
		return nil, fmt.Errorf("a payload of no known kind: %v", p)
	}
	f := &d.Payloads[kind.Number()]
	switch kind.Name() {
	case "element":
		return d.element(at.space, p.Interface().(*pb.Payload).GetElement())
	case "signal":
		n := int(p.Get(kind).Enum())
		if n <= 0 || n >= len(d.Signals) {
			return nil, fmt.Errorf("signal %d", n)
		}
		return element(d.Signals[n].Namespace, d.Signals[n].Element).with(d.Signals[n].Text), nil
	case "position":
		return element(f.Namespace, f.Element, "number", p.Get(kind).String()), nil
	}
	return d.typed(f, p.Get(kind).Message(), at)
}

// typed is the element of a message that has a form.
func (d *dictionary) typed(f *form, m protoreflect.Message, at around) (*Element, error) {
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		return nil, fmt.Errorf("unknown fields in %v", m)
	}
	n := element(f.Namespace, f.Element)
	inside := n
	if f.Within != "" {
		inside = element("urn:xmpp:forward:0", f.Within)
		n.Children = []*Element{inside}
	}
	within := around{space: f.Namespace, account: at.account}
	for i := range f.Fields {
		x := &f.Fields[i]
		d := m.Descriptor().Fields().ByNumber(protoreflect.FieldNumber(x.Number))
		if x.Attribute == "" || !m.Has(d) {
			continue
		}
		text, err := x.text(m.Get(d), at)
		if err != nil {
			return nil, err
		}
		if x.Attribute == "id" && x.Namespace == "" && f.Namespace == nsClient {
			within.stanza = text
		}
		n.set(x.Namespace, x.Attribute, text)
	}
	what := map[string]string{"stanza-id": at.stanza, "account": at.account, "sha-1": "sha-1"}[f.Implied.Is]
	if what != "" && n.Attr(f.Implied.Attribute) == "" {
		n.set("", f.Implied.Attribute, what)
	}
	for i := range f.Fields {
		if err := d.children(n, inside, &f.Fields[i], m, within); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// text is the value of an attribute.
func (x *field) text(v protoreflect.Value, at around) (string, error) {
	switch x.As {
	case "text":
		return v.String(), nil
	case "own":
		return own(at.account, v.String()), nil
	case "uuid":
		b := v.Bytes()
		return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
	case "key":
		return base64.RawURLEncoding.EncodeToString(v.Bytes()), nil
	case "data":
		return base64.StdEncoding.EncodeToString(v.Bytes()), nil
	case "number":
		return v.String(), nil
	case "millis":
		return time.UnixMilli(int64(v.Uint())).UTC().Format(millis), nil
	case "seconds":
		return time.Unix(int64(v.Uint()), 0).UTC().Format(time.RFC3339), nil
	case "name":
		i := 1
		if number, ok := v.Interface().(protoreflect.EnumNumber); ok {
			i = int(number)
		}
		return lookUp(x.Names, uint32(i), "")
	}
	return "", fmt.Errorf("a field that stands for %q", x.As)
}

// children adds what a field that is no attribute stands for: to n its text, and children to what is inside.
func (d *dictionary) children(n, inside *Element, x *field, m protoreflect.Message, at around) error {
	fd := m.Descriptor().Fields().ByNumber(protoreflect.FieldNumber(x.Number))
	if x.Attribute != "" || !m.Has(fd) {
		return nil
	}
	values := []protoreflect.Value{}
	if fd.IsList() {
		for i := range m.Get(fd).List().Len() {
			values = append(values, m.Get(fd).List().Get(i))
		}
	} else {
		values = append(values, m.Get(fd))
	}
	for _, v := range values {
		var c *Element
		var err error
		switch x.As {
		case "content":
			n.Text = v.String()
			continue
		case "child":
			c = element(at.space, x.Child).with(v.String())
		case "payload":
			c, err = d.payload(v.Message(), at)
		case "form":
			f := d.Forms[x.Form]
			c, err = d.typed(&f, v.Message(), at)
		}
		if err != nil {
			return err
		}
		inside.Children = append(inside.Children, c)
	}
	return nil
}

// element is any element; around is the namespace of the one around it.
func (d *dictionary) element(around string, p *pb.Element) (*Element, error) {
	space, err := lookUp(d.Namespaces, p.Space, p.SpaceName)
	if err != nil {
		return nil, err
	}
	if p.Space == 0 && p.SpaceName == "" {
		space = around
	}
	local, err := lookUp(d.Words, p.Local, p.LocalName)
	if err != nil {
		return nil, err
	}
	text, err := lookUp(d.Words, p.GetTextWord(), p.GetText())
	if err != nil {
		return nil, err
	}
	n := element(space, local).with(text + base64.StdEncoding.EncodeToString(p.GetData()))
	for _, a := range p.Attrs {
		if err := d.attribute(n, a); err != nil {
			return nil, err
		}
	}
	for _, c := range p.Children {
		if err := d.child(n, c); err != nil {
			return nil, err
		}
	}
	for _, c := range p.Nodes {
		n.Text += c.GetText()
		if e := c.GetElement(); e != nil {
			if err := d.child(n, e); err != nil {
				return nil, err
			}
		}
	}
	if len(n.Children) > 0 {
		n.Text = strings.TrimSpace(n.Text)
	}
	return n, nil
}

func (d *dictionary) child(n *Element, p *pb.Element) error {
	c, err := d.element(n.Name.Space, p)
	n.Children = append(n.Children, c)
	return err
}

func (d *dictionary) attribute(n *Element, a *pb.Attr) error {
	space, err := lookUp(d.Namespaces, a.Space, a.SpaceName)
	if err != nil {
		return err
	}
	local, err := lookUp(d.Words, a.Local, a.LocalName)
	if err != nil {
		return err
	}
	value := a.GetValue()
	switch k := a.Form.(type) {
	case *pb.Attr_Uuid:
		value, err = (&field{As: "uuid"}).text(protoreflect.ValueOfBytes(k.Uuid), around{})
	case *pb.Attr_Key:
		value = base64.RawURLEncoding.EncodeToString(k.Key)
	case *pb.Attr_Word:
		value, err = lookUp(d.Words, k.Word, "")
	case *pb.Attr_Uri:
		value, err = lookUp(d.Namespaces, k.Uri, "")
	case *pb.Attr_Data:
		value = base64.StdEncoding.EncodeToString(k.Data)
	case *pb.Attr_UrlData:
		value = base64.RawURLEncoding.EncodeToString(k.UrlData)
	case *pb.Attr_Seconds:
		value = time.Unix(int64(k.Seconds), 0).UTC().Format(time.RFC3339)
	case *pb.Attr_Millis:
		value = time.UnixMilli(int64(k.Millis)).UTC().Format(millis)
	}
	n.set(space, local, value)
	return err
}
