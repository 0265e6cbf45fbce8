package abuse

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/posthouse-im/posthouse/test/script"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream/pb"
)

const compactName = "posthouse-compact-1"

// compactEverywhere are all transports of the compact stream.
var compactEverywhere = []script.Transport{script.CompactTCP, script.CompactTLS, script.CompactWebSocket}

// box is a raw connection for the compact stream: it sends whatever bytes a test gives it, and reads with the generated
// types.
type box struct {
	t      *testing.T
	conn   net.Conn
	framed bool
	in     *bufio.Reader
	code   ws.StatusCode // of the WebSocket's close frame
}

// box connects; no stream is opened.
func (s *fixture) box(how script.Transport) *box {
	s.t.Helper()
	b := &box{t: s.t, framed: how == script.CompactWebSocket}
	switch how {
	case script.CompactWebSocket:
		conn, rest, _, err := ws.Dialer{Protocols: []string{compactName}, Timeout: patience}.Dial(s.t.Context(),
			"ws://"+s.Endpoints().HTTP+"/xmpp-websocket")
		require.NoError(s.t, err)
		b.conn, b.in = conn, bufio.NewReader(conn)
		if rest != nil {
			b.in = bufio.NewReader(io.MultiReader(rest, conn))
		}
	case script.CompactTLS:
		c := tls.Client(dial(s.t, "", s.Endpoints().XMPPTLS),
			&tls.Config{ServerName: "localhost", InsecureSkipVerify: true, NextProtos: []string{compactName}})
		require.NoError(s.t, c.Handshake())
		b.conn, b.in = c, bufio.NewReader(c)
	default:
		conn := dial(s.t, "", s.Endpoints().Compact)
		b.conn, b.in = conn, bufio.NewReader(conn)
	}
	s.t.Cleanup(func() { b.conn.Close() })
	return b
}

// send writes bytes, on a WebSocket as one message. It ignores that the server has closed the connection meanwhile.
func (b *box) send(p []byte) {
	b.conn.SetWriteDeadline(time.Now().Add(patience))
	if b.framed {
		_ = wsutil.WriteClientBinary(b.conn, p)
		return
	}
	_, _ = b.conn.Write(p)
}

// withLength puts the length in front.
func withLength(body []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(body))), body...)
}

func (b *box) frame(f *pb.Frame) {
	b.t.Helper()
	body, err := proto.Marshal(f)
	require.NoError(b.t, err)
	b.send(withLength(body))
}

// next returns the next frame, nil when the server has closed the connection.
func (b *box) next() *pb.Frame {
	b.t.Helper()
	b.conn.SetReadDeadline(time.Now().Add(patience))
	body, err := b.read()
	var late net.Error
	require.False(b.t, errors.As(err, &late) && late.Timeout(), "nothing comes")
	if err != nil {
		return nil
	}
	f := &pb.Frame{}
	require.NoError(b.t, proto.Unmarshal(body, f))
	return f
}

func (b *box) read() ([]byte, error) {
	from := b.in
	if b.framed {
		f, err := ws.ReadFrame(b.in)
		if err != nil {
			return nil, err
		}
		if f.Header.OpCode == ws.OpClose {
			b.code, _ = ws.ParseCloseFrameData(f.Payload)
			return nil, io.EOF
		}
		require.Equal(b.t, ws.OpBinary, f.Header.OpCode)
		n, size := binary.Uvarint(f.Payload)
		require.EqualValues(b.t, n, len(f.Payload)-size, "a message is one frame")
		return f.Payload[size:], nil
	}
	n, err := binary.ReadUvarint(from)
	if err != nil {
		return nil, err
	}
	body := make([]byte, n)
	_, err = io.ReadFull(from, body)
	return body, err
}

// fails requires that the stream ends with a stream error of that condition and is closed in order. It returns the
// error.
func (b *box) fails(about string, condition pb.StreamCondition) *pb.StreamError {
	b.t.Helper()
	for {
		f := b.next()
		require.NotNil(b.t, f, "%s: the connection ended without an error", about)
		e := f.GetError()
		if e == nil {
			continue
		}
		require.Equal(b.t, condition, e.Condition, "%s: %v", about, e)
		require.NotNil(b.t, b.next().GetClose(), about)
		require.Nil(b.t, b.next(), about)
		if b.framed {
			require.Equal(b.t, ws.StatusPolicyViolation, b.code)
		}
		b.conn.Close()
		return e
	}
}

func header1() *pb.Frame {
	return &pb.Frame{Kind: &pb.Frame_Open{Open: &pb.Open{To: proto.String("localhost"), Version: proto.String("1.0"),
		Schema: 1}}}
}

// open opens a stream and waits for its features.
func (b *box) open() *box {
	b.t.Helper()
	b.frame(header1())
	require.NotNil(b.t, b.next().GetOpen())
	require.NotNil(b.t, b.next().GetElement())
	return b
}

func pbElement(space, local, text string, attrs ...string) *pb.Element {
	e := &pb.Element{SpaceName: space, LocalName: local}
	if text != "" {
		e.Only = &pb.Element_Text{Text: text}
	}
	for i := 0; i < len(attrs); i += 2 {
		e.Attrs = append(e.Attrs, &pb.Attr{LocalName: attrs[i], Form: &pb.Attr_Value{Value: attrs[i+1]}})
	}
	return e
}

func (b *box) element(e *pb.Element) {
	b.t.Helper()
	b.frame(&pb.Frame{Kind: &pb.Frame_Element{Element: e}})
}

// login opens a stream, logs in, and opens the next one.
func (b *box) login(name string) *box {
	b.t.Helper()
	b.open()
	b.element(pbElement(nsSASL, "auth", plain("", name, password(name)), "mechanism", "PLAIN"))
	require.NotNil(b.t, b.next().GetElement())
	return b.open()
}

// bind binds a resource.
func (b *box) bind(resource string) *box {
	b.t.Helper()
	const ns = "urn:ietf:params:xml:ns:xmpp-bind"
	e := pbElement(ns, "bind", "")
	e.Children = []*pb.Element{{LocalName: "resource", Only: &pb.Element_Text{Text: resource}}}
	b.frame(&pb.Frame{Kind: &pb.Frame_Iq{Iq: &pb.Stanza{
		Identity: &pb.Stanza_Id{Id: "bind"}, Type: pb.Type_TYPE_SET,
		Payload: []*pb.Payload{{Kind: &pb.Payload_Element{Element: e}}},
	}}})
	require.Equal(b.t, pb.Type_TYPE_RESULT, b.next().GetIq().GetType())
	return b
}

// boxes returns functions that make a stream before its header, before the login, and with a resource.
func (s *fixture) boxes(how script.Transport) map[string]func() *box {
	return map[string]func() *box{
		"before the header": func() *box { return s.box(how) },
		"unauthenticated":   func() *box { return s.box(how).open() },
		"bound":             func() *box { return s.box(how).login("romeo").bind("box") },
	}
}

func message(to, body string) *pb.Frame {
	return &pb.Frame{Kind: &pb.Frame_Message{Message: &pb.Stanza{To: to, Type: pb.Type_TYPE_CHAT, Body: body,
		Identity: &pb.Stanza_Id{Id: "m"}}}}
}
