package c2s_test

import (
	"encoding/base64"
	"io"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"github.com/xdg-go/scram"

	"github.com/posthouse-im/posthouse/link"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

func scramClient(t testing.TB) *scram.Client {
	s, err := scram.SHA256.NewClient("romeo", "secret of romeo", "")
	require.NoError(t, err)
	return s
}

// usualLogin is how clients log in with XML: SCRAM-SHA-256, a restart, a resource, stream management and carbons.
func usualLogin(t testing.TB, s *scram.Client, p *peer) {
	const nsBind = "urn:ietf:params:xml:ns:xmpp-bind"
	b64 := base64.StdEncoding
	talk := s.NewConversation()
	first, err := talk.Step("")
	require.NoError(t, err)
	p.open("romeo@localhost").send()
	p.opened().hears(stanza.NSStream, "features")
	p.say(elem(nsSASL, "auth", "mechanism", "SCRAM-SHA-256").WithText(b64.EncodeToString([]byte(first)))).send()
	challenge, err := b64.DecodeString(p.hears(nsSASL, "challenge").Text())
	require.NoError(t, err)
	final, err := talk.Step(string(challenge))
	require.NoError(t, err)
	p.say(elem(nsSASL, "response").WithText(b64.EncodeToString([]byte(final)))).send()
	p.hears(nsSASL, "success")
	p.dec.Restart()
	p.open("romeo@localhost").send()
	p.opened().hears(stanza.NSStream, "features")
	p.sayStanza(&stanza.Stanza{Kind: stanza.IQ, Type: stanza.TypeSet, ID: "b1", Payload: []stanza.Element{
		elem(nsBind, "bind").With(elem(nsBind, "resource").WithText("App.x7Fq2K")),
	}}).send()
	p.next()
	p.say(elem(nsSM, "enable", "resume", "true")).send()
	p.hears(nsSM, "enabled")
	p.sayStanza(&stanza.Stanza{Kind: stanza.IQ, Type: stanza.TypeSet, ID: "c1",
		Payload: []stanza.Element{elem("urn:xmpp:carbons:2", "enable")}}).send()
	p.next()
}

// TestLoginSize: what a whole login takes on the wire, both ways and without TLS. docs/protocol/login.md has the
// figures.
func TestLoginSize(t *testing.T) {
	run(t, nil, func(t *testing.T, e *env) {
		xml := e.peer("")
		usualLogin(t, scramClient(t), xml)
		lost, _, id, token := e.firstLogin(link.ProtocolCompact, deviceID)
		lost.conn.Close()
		synctest.Wait()
		resume := elem(nsSM, "resume", "previd", id, "h", "0")
		sizes := map[string]int{"XML, as usual": xml.sent + xml.got}
		for _, way := range []struct {
			name, protocol string
			wish           []stanza.Element
		}{
			{"compact, one round trip, resumed", link.ProtocolCompact, []stanza.Element{resume, binding()}},
			{"compact, one round trip", link.ProtocolCompact, []stanza.Element{binding()}},
			{"XML, one round trip", "", []stanza.Element{binding()}},
		} {
			p := e.peer(way.protocol)
			p.open("romeo@localhost").say(withToken("romeo", token, deviceID, way.wish...)).send()
			p.opened()
			if way.protocol == "" {
				p.hears(stanza.NSStream, "features")
			}
			p.success()
			sizes[way.name] = p.sent + p.got
			t.Logf("%s: %d up, %d down", way.name, p.sent, p.got)
		}
		t.Logf("XML, as usual: %d up, %d down", xml.sent, xml.got)
		usual := sizes["XML, as usual"]
		for name, n := range sizes {
			t.Logf("%-34s %5d bytes %5.1f %%", name, n, 100*float64(n)/float64(usual))
		}
		require.LessOrEqual(t, 4*sizes["compact, one round trip"], usual, "a quarter")
	})
}

// BenchmarkReturning is a whole login and the end of its stream, both ends together: the client's part is a few HMACs,
// since it keeps what it has derived from the password.
func BenchmarkReturning(b *testing.B) {
	e := newEnv(b, nil)
	defer e.close()
	leave := func(p *peer) {
		_, _ = p.conn.Write(p.codec.AppendClose(nil))
		_, _ = io.Copy(io.Discard, p.conn)
		p.conn.Close()
	}
	b.Run("XML", func(b *testing.B) {
		s := scramClient(b)
		b.ReportAllocs()
		for b.Loop() {
			p := e.peerOf(b, "")
			usualLogin(b, s, p)
			leave(p)
		}
	})
	p := e.peerOf(b, "")
	p.open("").send()
	p.opened().hears(stanza.NSStream, "features")
	p.say(withPassword("romeo", deviceID, askToken)).send()
	token := p.success().Child(nsFAST, "token").Attr("token")
	for name, protocol := range map[string]string{"XMLOneRoundTrip": "", "Compact": link.ProtocolCompact} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p := e.peerOf(b, protocol)
				p.open("").say(withToken("romeo", token, deviceID, binding())).send()
				p.opened()
				if protocol == "" {
					p.hears(stanza.NSStream, "features")
				}
				p.success()
				leave(p)
			}
		})
	}
}
