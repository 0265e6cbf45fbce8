package script

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/posthouse-im/posthouse/wire/stream/pbstream/pb"
)

// What is sent, as docs/protocol/compact.md says it. Text between child elements is not sent; no script relies on any.

// frame is the frame that says n.
func (d *dictionary) frame(n *Element) (*pb.Frame, error) {
	switch n.Name.Space + " " + n.Name.Local {
	case nsClient + " message":
		s, err := d.pbStanza(n)
		return &pb.Frame{Kind: &pb.Frame_Message{Message: s}}, err
	case nsClient + " presence":
		s, err := d.pbStanza(n)
		return &pb.Frame{Kind: &pb.Frame_Presence{Presence: s}}, err
	case nsClient + " iq":
		s, err := d.pbStanza(n)
		return &pb.Frame{Kind: &pb.Frame_Iq{Iq: s}}, err
	case nsSM + " a":
		h, err := strconv.ParseUint(n.Attr("h"), 10, 32)
		return &pb.Frame{Kind: &pb.Frame_Ack{Ack: &pb.Ack{H: uint32(h)}}}, err
	case nsSM + " r":
		return &pb.Frame{Kind: &pb.Frame_AckRequest{AckRequest: &pb.AckRequest{}}}, nil
	case nsFrames + " ping":
		return &pb.Frame{Kind: &pb.Frame_Ping{Ping: &pb.Ping{}}}, nil
	}
	return &pb.Frame{Kind: &pb.Frame_Element{Element: d.pbElement(n, "")}}, nil
}

func (d *dictionary) pbStanza(n *Element) (*pb.Stanza, error) {
	s := &pb.Stanza{To: n.Attr("to"), From: n.Attr("from")}
	for _, a := range n.Attrs {
		switch a.Name.Space + " " + a.Name.Local {
		case " to", " from":
		case " id":
			s.Identity = &pb.Stanza_Id{Id: a.Value}
			if b, ok := uuidBytes(a.Value); ok {
				s.Identity = &pb.Stanza_IdUuid{IdUuid: b}
			}
		case " type":
			if s.Type = pb.Type(d.numberOfType[a.Value]); s.Type == 0 {
				s.TypeName = a.Value
			}
		case nsXML + " lang":
			s.Lang = a.Value
		default:
			return nil, fmt.Errorf("a stanza cannot have the attribute %s", a.Name.Local)
		}
	}
	for i, c := range n.Children {
		if i == 0 && c.is(nsClient, "body") && len(c.Attrs) == 0 && c.Text != "" {
			s.Body = c.Text
			continue
		}
		s.Payload = append(s.Payload, d.pbPayload(c))
	}
	return s, nil
}

func (n *Element) is(space, local string) bool {
	return n.Name.Space == space && n.Name.Local == local && len(n.Children) == 0
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func uuidBytes(text string) ([]byte, bool) {
	if !uuidForm.MatchString(text) {
		return nil, false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	return b, err == nil
}

// pbPayload takes a typed form for signals, origin-ids and markers, and the generic form otherwise.
func (d *dictionary) pbPayload(n *Element) *pb.Payload {
	signal := d.numberOfSignal[published{n.Name.Space, n.Name.Local, n.Text}]
	if signal != 0 && len(n.Attrs) == 0 && len(n.Children) == 0 {
		return &pb.Payload{Kind: &pb.Payload_Signal{Signal: pb.Signal(signal)}}
	}
	alone := len(n.Attrs) == 1 && n.Text == "" && len(n.Children) == 0
	number, err := strconv.ParseUint(n.Attr("number"), 10, 64)
	marker := &pb.Marker{Number: &number}
	switch {
	case alone && n.is("urn:xmpp:sid:0", "origin-id") && n.Attr("id") != "":
		id := &pb.Id{Form: &pb.Id_Id{Id: n.Attr("id")}}
		if b, ok := uuidBytes(n.Attr("id")); ok {
			id.Form = &pb.Id_Uuid{Uuid: b}
		}
		return &pb.Payload{Kind: &pb.Payload_OriginId{OriginId: id}}
	case alone && err == nil && n.is("urn:posthouse:marker:1", "read"):
		return &pb.Payload{Kind: &pb.Payload_Read{Read: marker}}
	case alone && err == nil && n.is("urn:posthouse:marker:1", "delivered"):
		return &pb.Payload{Kind: &pb.Payload_Delivered{Delivered: marker}}
	}
	return &pb.Payload{Kind: &pb.Payload_Element{Element: d.pbElement(n, nsClient)}}
}

// pbElement is the generic form; around is the namespace of the element around it.
func (d *dictionary) pbElement(n *Element, around string) *pb.Element {
	e := &pb.Element{}
	if n.Name.Space != around {
		e.Space, e.SpaceName = numberOrName(d.numberOfSpace, n.Name.Space)
	}
	e.Local, e.LocalName = numberOrName(d.numberOfWord, n.Name.Local)
	for _, a := range n.Attrs {
		attr := &pb.Attr{}
		if a.Name.Space != "" {
			attr.Space, attr.SpaceName = numberOrName(d.numberOfSpace, a.Name.Space)
		}
		attr.Local, attr.LocalName = numberOrName(d.numberOfWord, a.Name.Local)
		switch word, space := d.numberOfWord[a.Value], d.numberOfSpace[a.Value]; {
		case a.Value == "":
		case word != 0:
			attr.Form = &pb.Attr_Word{Word: word}
		case space != 0:
			attr.Form = &pb.Attr_Uri{Uri: space}
		default:
			attr.Form = &pb.Attr_Value{Value: a.Value}
		}
		e.Attrs = append(e.Attrs, attr)
	}
	for _, c := range n.Children {
		e.Children = append(e.Children, d.pbElement(c, n.Name.Space))
	}
	if len(e.Children) > 0 && n.Text != "" {
		e.Nodes = []*pb.Node{{Kind: &pb.Node_Text{Text: n.Text}}}
		for _, c := range e.Children {
			e.Nodes = append(e.Nodes, &pb.Node{Kind: &pb.Node_Element{Element: c}})
		}
		e.Children = nil
	} else if n.Text != "" {
		e.Only = &pb.Element_Text{Text: n.Text}
	}
	return e
}

// numberOrName is a number where the dictionary has one.
func numberOrName(table map[string]uint32, text string) (uint32, string) {
	if n, ok := table[text]; ok {
		return n, ""
	}
	return 0, text
}
