package transports

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/test/nodetest"
	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// entry is what every transport must show of a message.
type entry struct {
	number                              uint64
	id, stanzaID, kind, target, content string
}

func streamEntry(m client.Message) entry {
	return entry{m.Number, m.ID, m.StanzaID, string(m.Content.Kind), m.Content.Target, m.Content.Text}
}

func apiEntry(m client.APIMessage) entry {
	return entry{m.Number, m.ClientID, m.ID, string(m.Content.Kind), m.Content.Target, m.Content.Text}
}

// open starts a node with the given accounts, whose API has no rate limits.
func open(t *testing.T, people ...string) *nodetest.Node {
	node := nodetest.New(t, "api.rate=-1", "api.address_rate=-1", "api.login_rate=-1", "archive.query_rate=1000000000",
		"archive.query_burst=1000000000")
	for _, name := range people {
		require.NoError(t, node.AddUser(name, password))
	}
	return node
}

// transport is one connection of one account, over one of the transports.
type transport interface {
	// say sends a message and returns what the sender was told, with number 0 when it is not told the number.
	say(to jid.JID, id string, what content.Content, original entry) entry
	// hears waits for the next message of the conversation, whoever sent it. own tells that it was sent over this
	// connection.
	hears(own bool) entry
	// marks waits until the other party, or with own the account itself, has marked the message. It was not sent over
	// this connection.
	marks(with jid.JID, own bool, kind content.Kind, marked entry)
	name() string
}

// compactTransport is package client, on the compact stream.
type compactTransport struct {
	t *testing.T
	*app
	last entry
}

func (d *compactTransport) name() string { return "compact" }

func (d *compactTransport) say(to jid.JID, id string, what content.Content, _ entry) entry {
	d.t.Helper()
	r, err := d.SendAs(wait(d.t), to, id, what)
	require.NoError(d.t, err)
	d.last = entry{r.Number, id, r.StanzaID, string(what.Kind), what.Target, what.Text}
	return d.last
}

func (d *compactTransport) hears(own bool) entry {
	d.t.Helper()
	if own {
		return d.last
	}
	return streamEntry(next(d.t, d.messages, numbered))
}

func (d *compactTransport) marks(_ jid.JID, _ bool, kind content.Kind, marked entry) {
	d.t.Helper()
	next(d.t, d.messages, func(m client.Message) bool {
		require.False(d.t, numbered(m), "a marker has no number")
		return m.Content.Kind == kind && m.Content.Target == marked.id && m.StanzaID != ""
	})
}

// xmlTransport is slixmpp, on an XML stream.
type xmlTransport struct{ *slix }

func (d *xmlTransport) name() string { return "XML" }

func (d *xmlTransport) say(to jid.JID, id string, what content.Content, _ entry) entry {
	d.t.Helper()
	var children []string
	switch what.Kind {
	case content.Edit:
		children = append(children, "<replace xmlns='urn:xmpp:message-correct:0' id='"+what.Target+"'/>")
	case content.Retract:
		children = append(children, "<retract xmlns='urn:xmpp:message-retract:1' id='"+what.Target+"'/>")
	case content.Read:
		children = append(children, "<displayed xmlns='urn:xmpp:chat-markers:0' id='"+what.Target+"'/>")
	case content.Delivered:
		children = append(children, "<received xmlns='urn:xmpp:receipts' id='"+what.Target+"'/>")
	}
	if what.Text != "" {
		body := "<body xmlns='jabber:client'>" + what.Text + "</body>"
		children = append([]string{body, "<request xmlns='urn:xmpp:receipts'/>"}, children...)
	}
	d.Do("say", "to", to.String(), "id", id, "children", children)
	return entry{}
}

func (d *xmlTransport) hears(own bool) entry {
	d.t.Helper()
	if own {
		return entry{}
	}
	return d.placed()
}

func (d *xmlTransport) marks(_ jid.JID, _ bool, kind content.Kind, marked entry) {
	d.t.Helper()
	e := d.Tells("marked")
	require.Equal(d.t, string(kind)+" "+marked.id, fmt.Sprint(e["kind"], " ", e["id"]))
}

// httpTransport is a program that uses the API only: it waits for changes by long poll.
type httpTransport struct {
	t      *testing.T
	api    *client.API
	cursor string
	inbox  []client.APIMessage
}

func newHTTP(t *testing.T, node *nodetest.Node, user string) *httpTransport {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	d := &httpTransport{t: t, api: &client.API{Base: "http://" + node.Endpoints().HTTP,
		HTTP: &http.Client{Transport: transport}}}
	require.NoError(t, d.api.Login(wait(t), user, password, client.Device{ID: "http-" + user, Name: "browser"}))
	for more := true; more; {
		page, err := d.api.Sync(wait(t), d.cursor, 0, 0)
		require.NoError(t, err)
		d.cursor, more = page.Cursor, page.More
	}
	return d
}

func (d *httpTransport) name() string { return "HTTP" }

func (d *httpTransport) say(to jid.JID, id string, what content.Content, original entry) entry {
	d.t.Helper()
	var r client.APISent
	var err error
	switch what.Kind {
	case content.Edit:
		r, err = d.api.Edit(wait(d.t), original.stanzaID, id, content.Content{Kind: content.Text, Text: what.Text})
	case content.Retract:
		r, err = d.api.Retract(wait(d.t), original.stanzaID)
		id = r.ClientID
	case content.Read:
		err = d.api.MarkRead(wait(d.t), to.String(), original.number)
		id = ""
	case content.Delivered:
		err = d.api.MarkDelivered(wait(d.t), to.String(), original.number)
		id = ""
	default:
		r, err = d.api.Send(wait(d.t), client.APINewMessage{ClientID: id, To: to.String(), Content: what})
	}
	require.NoError(d.t, err)
	return entry{r.Number, id, r.ID, string(what.Kind), what.Target, what.Text}
}

func (d *httpTransport) hears(bool) entry {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for len(d.inbox) == 0 {
		page, err := d.api.Sync(ctx, d.cursor, 0, 10*time.Second)
		require.NoError(d.t, err)
		d.cursor, d.inbox = page.Cursor, page.Messages
	}
	m := d.inbox[0]
	d.inbox = d.inbox[1:]
	return apiEntry(m)
}

func (d *httpTransport) marks(with jid.JID, own bool, kind content.Kind, marked entry) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		c, err := d.api.Conversation(ctx, with.String())
		require.NoError(d.t, err)
		markers := c.Peer
		if own {
			markers = c.Own
		}
		if kind == content.Read && markers.Read >= marked.number || kind == content.Delivered &&
			markers.Delivered >= marked.number {
			return
		}
		page, err := d.api.Sync(ctx, d.cursor, 0, 10*time.Second)
		require.NoError(d.t, err)
		require.Empty(d.t, page.Messages, "a marker is no message")
		d.cursor = page.Cursor
	}
}

// TestThreeTransports: two accounts, each connected over all three transports at once, send a message of every kind
// over each of them. All connections of both see the same id, stanza-id, number, kind, target and text, in the same
// order, and so do their histories in the end; and all see how far the other has received and read.
func TestThreeTransports(t *testing.T) {
	t.Parallel()
	node := open(t, "romeo", "juliet")
	transports := map[jid.JID][]transport{}
	for _, who := range []jid.JID{romeo, juliet} {
		transports[who] = []transport{
			&compactTransport{t: t, app: connect(t, "tcp://"+node.Endpoints().Compact, who.Local())},
			&xmlTransport{newSlix(t, who.Local(), "desk", node.Endpoints().XMPP)},
			newHTTP(t, node, who.Local()),
		}
	}
	var all []entry
	// said sends a message over one connection, and requires that all connections see it.
	said := func(from, to jid.JID, over transport, what content.Content, original entry) entry {
		id := client.NewID()
		if over.name() == "HTTP" {
			id = "http-" + id
		}
		told := over.say(to, id, what, original)
		at := fmt.Sprintf("%s says %s by %s", from.Local(), what.Kind, over.name())
		want := entry{number: uint64(len(all) + 1), kind: string(what.Kind), target: what.Target, content: what.Text}
		if told.number > 0 {
			require.Equal(t, want.number, told.number, at)
		}
		for _, who := range []jid.JID{romeo, juliet} {
			for _, d := range transports[who] {
				heard := d.hears(d == over)
				if heard == (entry{}) { // its own message, which does not come back
					continue
				}
				if want.id == "" {
					want.id, want.stanzaID = heard.id, heard.stanzaID
				}
				require.Equal(t, want, heard, "%s: %s on %s", at, who.Local(), d.name())
			}
		}
		if told.id != "" {
			require.Equal(t, told.id, want.id, at)
		}
		all = append(all, want)
		return want
	}
	// marked says over one connection that a message has come or was read, and requires that all others see it.
	marked := func(from, to jid.JID, over transport, kind content.Kind, kept entry) {
		told := over.say(to, client.NewID(), content.Content{Kind: kind, Target: kept.id}, kept)
		require.Zero(t, told.number)
		for _, who := range []jid.JID{romeo, juliet} {
			with := from
			if who == from {
				with = to
			}
			for _, d := range transports[who] {
				if d != over {
					d.marks(with, who == from, kind, kept)
				}
			}
		}
	}
	for _, pair := range [][2]jid.JID{{romeo, juliet}, {juliet, romeo}} {
		me, you := pair[0], pair[1]
		for i, d := range transports[me] {
			answering := transports[you][(i+1)%len(transports[you])]
			kept := said(me, you, d, text("kept by "+d.name()), entry{})
			marked(you, me, answering, content.Delivered, kept)
			marked(you, me, answering, content.Read, kept)
			said(me, you, d, content.Content{Kind: content.Edit, Target: kept.id, Text: "edited by " + d.name()}, kept)
			gone := said(me, you, d, text("taken back by "+d.name()), entry{})
			said(me, you, d, content.Content{Kind: content.Retract, Target: gone.id}, gone)
			said(you, me, answering, text("answered by "+answering.name()), entry{})
		}
	}
	requireHistories(t, transports, all)
}

// requireHistories requires that the history is the same over every transport.
func requireHistories(t *testing.T, transports map[jid.JID][]transport, all []entry) {
	t.Helper()
	want := slices.Clone(all)
	for _, e := range all { // of a retracted message, a tombstone with its number is left
		if i := slices.IndexFunc(want, func(o entry) bool { return e.kind == "retract" && o.id == e.target }); i >= 0 {
			want[i].kind, want[i].target, want[i].content = "retracted", e.id, ""
		}
	}
	for who, mine := range transports {
		with := juliet
		if who == juliet {
			with = romeo
		}
		page, err := mine[0].(*compactTransport).History(wait(t), client.Query{With: with})
		require.NoError(t, err)
		var compact, xml, api []entry
		for _, m := range page.Messages {
			if numbered(m) { // the current markers are results, too
				compact = append(compact, streamEntry(m))
			}
		}
		require.Equal(t, want, compact, "the history of %s on the compact stream", who)

		s := mine[1].(*xmlTransport)
		s.Do("archive", "with", with.String())
		for range want {
			xml = append(xml, s.placed())
		}
		require.Equal(t, want, xml, "the history of %s in XML", who)

		messages, more, err := mine[2].(*httpTransport).api.History(wait(t), with.String(),
			client.APIRange{Oldest: true, Limit: 250})
		require.NoError(t, err)
		require.False(t, more)
		for _, m := range messages {
			api = append(api, apiEntry(m))
		}
		require.Equal(t, want, api, "the history of %s by HTTP", who)
	}
}
