package xmlstream

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// expatPeer is a Python process that asks libexpat. It ends when its standard input is closed, at the latest with the
// test binary.
type expatPeer struct {
	mu  sync.Mutex // guards the pipes for one question and its answer
	in  io.Writer
	out io.Reader
}

var startExpat = sync.OnceValues(func() (*expatPeer, error) {
	python := "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		if python, err = exec.LookPath("python3"); err != nil {
			return nil, fmt.Errorf("libexpat is asked through Python: install it (Debian: apt-get install python3): %w",
				err)
		}
	}
	if out, err := exec.Command(python, "-c", "import pyexpat").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s has no pyexpat: install a complete one (Debian: apt-get install python3): %w: %s",
			python, err, out)
	}
	cmd := exec.Command(python, "testdata/expat.py")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &expatPeer{in: in, out: out}, cmd.Start()
})

// ask sends a document. Modes are described in testdata/expat.py.
func (p *expatPeer) ask(t testing.TB, mode byte, doc []byte) []byte {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	head := binary.BigEndian.AppendUint32([]byte{mode}, uint32(len(doc)))
	_, err := p.in.Write(append(head, doc...))
	require.NoError(t, err)
	var size [4]byte
	_, err = io.ReadFull(p.out, size[:])
	require.NoError(t, err)
	answer := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err = io.ReadFull(p.out, answer)
	require.NoError(t, err)
	return answer
}

func expat(t testing.TB) *expatPeer {
	t.Helper()
	p, err := startExpat()
	require.NoError(t, err)
	return p
}

// events writes a tree in the form of testdata/expat.py.
func events(out *bytes.Buffer, e *stanza.Element) {
	name := func(space, local string) string {
		if space == "" {
			return local
		}
		return space + "\n" + local
	}
	var pairs [][2]string
	for _, a := range e.Attrs {
		pairs = append(pairs, [2]string{name(a.Space, a.Local), a.Value})
	}
	// Python sorts by code point, which is the order of UTF-8.
	slices.SortFunc(pairs, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	out.WriteString("S" + name(e.Space, e.Local))
	for _, p := range pairs {
		out.WriteString("\x00" + p[0] + "\x00" + p[1])
	}
	out.WriteString("\x00\x00")
	for _, n := range e.Nodes {
		if n.Element != nil {
			events(out, n.Element)
		} else {
			out.WriteString("T" + n.Text + "\x00")
		}
	}
	out.WriteString("E\x00")
}

// checkExpat asks that what libexpat refuses is refused, and that what is accepted means the same to both.
func checkExpat(t testing.TB, doc []byte) {
	t.Helper()
	peer := expat(t)
	e, err := UnmarshalElement(doc)
	if err == nil {
		answer := peer.ask(t, 'D', doc)
		require.Equal(t, "+", string(answer[:1]), "libexpat refuses %q: %s", doc, answer)
		var ours bytes.Buffer
		events(&ours, e)
		require.Equal(t, ours.String(), string(answer[1:]), "%q", doc)
		// What is written means the same to libexpat, too.
		for name, out := range map[string][]byte{"stored": MarshalElement(nil, e),
			"framed": Framed{}.AppendElement(nil, e)} {
			require.Equal(t, string(answer), string(peer.ask(t, 'D', out)), "%s: %q", name, out)
		}
	}
	// As content of a stream, which libexpat gets unfinished.
	_, failed := drain(openedDecoder(t, stream.Limits{}), doc, whole)
	if failed == nil {
		answer := peer.ask(t, 'S', append([]byte(openTCP), doc...))
		require.Equal(t, "+", string(answer[:1]), "libexpat refuses %q in a stream: %s", doc, answer)
	}
	_, failed = drain(NewDecoder(stream.Limits{}), doc, whole)
	if failed == nil {
		answer := peer.ask(t, 'S', doc)
		require.Equal(t, "+", string(answer[:1]), "libexpat refuses %q at the start: %s", doc, answer)
	}
}

// checkStandard asks the same of encoding/xml, which is laxer than libexpat in most points, and does not normalize
// white space in attributes.
func checkStandard(t testing.TB, doc []byte) {
	t.Helper()
	e, err := UnmarshalElement(doc)
	if err != nil {
		return
	}
	theirs, err := standardTree(doc)
	require.NoError(t, err, "encoding/xml refuses %q", doc)
	blankAttributes(e)
	blankAttributes(theirs)
	require.True(t, e.Equal(theirs), "%q: %+v, encoding/xml says %+v", doc, e, theirs)
}

func standardTree(doc []byte) (*stanza.Element, error) {
	d := xml.NewDecoder(bytes.NewReader(doc))
	stack := []*stanza.Element{{}}
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		top := stack[len(stack)-1]
		switch token := token.(type) {
		case xml.StartElement:
			e := &stanza.Element{Space: token.Name.Space, Local: token.Name.Local}
			for _, a := range token.Attr {
				if a.Name.Space != "xmlns" && a.Name != (xml.Name{Local: "xmlns"}) {
					e.Attrs = append(e.Attrs, stanza.Attr{Space: a.Name.Space, Local: a.Name.Local, Value: a.Value})
				}
			}
			top.Nodes = append(top.Nodes, stanza.Node{Element: e})
			stack = append(stack, e)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			top.Nodes = append(top.Nodes, stanza.Node{Text: string(token)})
		}
	}
	return stack[0].Nodes[0].Element, nil
}

// blankAttributes makes white space in attributes and namespaces blanks, and sets line ends in them aside.
func blankAttributes(e *stanza.Element) {
	blank := strings.NewReplacer("\t", " ", "\n", " ", "\r", " ").Replace
	e.Space = blank(e.Space)
	for i := range e.Attrs {
		e.Attrs[i].Space, e.Attrs[i].Value = blank(e.Attrs[i].Space), blank(e.Attrs[i].Value)
	}
	for i := range e.Nodes {
		if e.Nodes[i].Element != nil {
			blankAttributes(e.Nodes[i].Element)
		}
	}
}

// TestExpatTables puts every entry of the abuse tables before libexpat and encoding/xml.
func TestExpatTables(t *testing.T) {
	for _, seed := range seeds() {
		checkExpat(t, seed)
		checkStandard(t, seed)
	}
}

// TestExpatNames compares the characters of names, all of them.
func TestExpatNames(t *testing.T) {
	answer := expat(t).ask(t, 'N', nil)
	require.Len(t, answer, 1<<16)
	for c := rune(1); c < 1<<16; c++ {
		if c >= 0xD800 && c < 0xE000 || strings.ContainsRune(" \t\r\n/>", c) {
			continue
		}
		require.Equal(t, answer[c]&1 != 0, stanza.IsNameStart(c), "start %U", c)
		if c != ':' { // <a:/> is refused by both
			require.Equal(t, answer[c]&2 != 0, stanza.IsNameChar(c), "part %U", c)
		}
	}
}
