package script

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"google.golang.org/protobuf/proto"

	"github.com/posthouse-im/posthouse/wire/stream/pbstream/pb"
)

// compactName is the compact stream's name in ALPN and as a WebSocket sub-protocol.
const compactName = "posthouse-compact-1"

// Elements that stand for frames which have no element: what Next returns for a pong, and what Write takes for a ping.
const (
	nsFrames = "script:frames"
	// Ping is written to ask for a pong.
	Ping = "<ping xmlns='" + nsFrames + "'/>"
)

// compact speaks docs/protocol/compact.md with the types that were generated from the schema, and with the published
// dictionary. Nothing of the server's own codec is in it.
type compact struct {
	conn  net.Conn
	words *dictionary
	read  *bufio.Reader // of a stream of bytes
	ws    *wsStream     // of a WebSocket; one of the two is nil
}

func newCompact(conn net.Conn, over *wsStream) (*compact, error) {
	words, err := readDictionary()
	if err != nil {
		return nil, err
	}
	c := &compact{conn: conn, words: words, ws: over}
	if over == nil {
		c.read = bufio.NewReader(conn)
	}
	return c, nil
}

// open sends the header.
func (c *compact) open(domain string) error {
	return c.send(&pb.Frame{Kind: &pb.Frame_Open{Open: &pb.Open{To: &domain, Version: proto.String("1.0"),
		Schema: c.words.Schema}}})
}

func (c *compact) close() error { return c.send(&pb.Frame{Kind: &pb.Frame_Close{Close: &pb.Close{}}}) }

// write sends each element of a text as a frame.
func (c *compact) write(text string) error {
	nodes, err := parseAll(text)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		f, err := c.words.frame(n)
		if err != nil {
			return err
		}
		if err := c.send(f); err != nil {
			return err
		}
	}
	return nil
}

func (c *compact) send(f *pb.Frame) error {
	body, err := proto.Marshal(f)
	if err != nil {
		return err
	}
	data := append(binary.AppendUvarint(nil, uint64(len(body))), body...)
	if c.ws != nil {
		return wsutil.WriteClientBinary(c.conn, data)
	}
	_, err = c.conn.Write(data)
	return err
}

// maxFrame is more than a server sends.
const maxFrame = 1 << 20

// receive reads one frame.
func (c *compact) receive() (*pb.Frame, error) {
	var body []byte
	if c.ws != nil {
		message, err := c.ws.message(ws.OpBinary)
		if err != nil {
			return nil, err
		}
		size, n := binary.Uvarint(message)
		if n <= 0 || size != uint64(len(message)-n) {
			return nil, fmt.Errorf("a message that is not one frame: %x", message)
		}
		body = message[n:]
	} else {
		size, err := binary.ReadUvarint(c.read)
		if err != nil {
			return nil, err
		}
		if size == 0 || size > maxFrame {
			return nil, fmt.Errorf("a frame of %d bytes", size)
		}
		body = make([]byte, size)
		if _, err := io.ReadFull(c.read, body); err != nil {
			return nil, err
		}
	}
	f := &pb.Frame{}
	if err := proto.Unmarshal(body, f); err != nil {
		return nil, err
	}
	if unknown := f.ProtoReflect().GetUnknown(); len(unknown) > 0 {
		return nil, fmt.Errorf("a frame with unknown fields: %x", body)
	}
	return f, nil
}

// node reads one frame and returns the element that it stands for.
func (c *compact) element() (*Element, error) {
	f, err := c.receive()
	if err != nil {
		return nil, err
	}
	switch k := f.Kind.(type) {
	case *pb.Frame_Message:
		return c.words.stanza("message", k.Message)
	case *pb.Frame_Presence:
		return c.words.stanza("presence", k.Presence)
	case *pb.Frame_Iq:
		return c.words.stanza("iq", k.Iq)
	case *pb.Frame_Ack:
		return element(nsSM, "a", "h", fmt.Sprint(k.Ack.H)), nil
	case *pb.Frame_AckRequest:
		return element(nsSM, "r"), nil
	case *pb.Frame_Ping:
		return element(nsFrames, "ping"), nil
	case *pb.Frame_Pong:
		return element(nsFrames, "pong"), nil
	case *pb.Frame_Element:
		return c.words.element("", k.Element)
	case *pb.Frame_Open:
		if k.Open.Schema == 0 || k.Open.GetVersion() != "1.0" || k.Open.Id == "" {
			return nil, fmt.Errorf("a header that lacks something: %v", k.Open)
		}
		return element(nsStreams, "open", "from", k.Open.From, "id", k.Open.Id), nil
	case *pb.Frame_Error:
		return c.words.failure(k.Error)
	case *pb.Frame_Close:
		return nil, io.EOF
	}
	return nil, fmt.Errorf("a frame of no known kind: %v", f)
}

const (
	nsXML     = "http://www.w3.org/XML/1998/namespace"
	nsStreams = "http://etherx.jabber.org/streams"
	nsErrors  = "urn:ietf:params:xml:ns:xmpp-streams"
	nsClient  = "jabber:client"
)

// failure is the element of a stream error.
func (d *dictionary) failure(e *pb.StreamError) (*Element, error) {
	condition := "undefined-condition"
	if e.Condition != 0 {
		name, err := lookUp(d.StreamConditions, uint32(e.Condition), "")
		if err != nil {
			return nil, err
		}
		condition = name
	}
	n := element(nsStreams, "error")
	n.Children = append(n.Children, element(nsErrors, condition))
	if e.Text != "" {
		text := element(nsErrors, "text")
		text.Text = e.Text
		text.set(nsXML, "lang", "en")
		n.Children = append(n.Children, text)
	}
	if e.App != nil {
		app, err := d.element("", e.App)
		if err != nil {
			return nil, err
		}
		n.Children = append(n.Children, app)
	}
	return n, nil
}
