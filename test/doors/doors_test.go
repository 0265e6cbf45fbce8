package doors

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

// entry is what every door must tell of a message.
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

// open is a node with an API that lets tests ask as often as they want.
func open(t *testing.T, people ...string) *nodetest.Node {
	node := nodetest.New(t, "api.rate=-1", "api.address_rate=-1", "api.login_rate=-1", "archive.query_rate=1000000000", "archive.query_burst=1000000000")
	for _, name := range people {
		require.NoError(t, node.AddUser(name, password))
	}
	return node
}

// door is one way in which somebody is there.
type door interface {
	// say sends something and returns what the sender was told, with number 0 when it is not told the number.
	say(to jid.JID, id string, what content.Content, original entry) entry
	// hears waits for the next message of the conversation, of whoever's.
	hears(own bool) entry
	name() string
}

// compactDoor is an app on the compact stream.
type compactDoor struct {
	t *testing.T
	*app
	last entry
}

func (d *compactDoor) name() string { return "compact" }

func (d *compactDoor) say(to jid.JID, id string, what content.Content, _ entry) entry {
	d.t.Helper()
	r, err := d.SendAs(wait(d.t), to, id, what)
	require.NoError(d.t, err)
	d.last = entry{r.Number, id, r.StanzaID, string(what.Kind), what.Target, what.Text}
	return d.last
}

func (d *compactDoor) hears(own bool) entry {
	d.t.Helper()
	if own && d.last.number > 0 {
		return d.last
	}
	if own { // a mark, of which nobody tells the sender the number
		return entry{}
	}
	return streamEntry(next(d.t, d.messages, numbered))
}

// xmlDoor is slixmpp.
type xmlDoor struct{ *slix }

func (d *xmlDoor) name() string { return "XML" }

func (d *xmlDoor) say(to jid.JID, id string, what content.Content, _ entry) entry {
	d.t.Helper()
	var children []string
	switch what.Kind {
	case content.Edit:
		children = append(children, "<replace xmlns='urn:xmpp:message-correct:0' id='"+what.Target+"'/>")
	case content.Recall:
		children = append(children, "<retract xmlns='urn:xmpp:message-retract:1' id='"+what.Target+"'/>")
	case content.Read:
		children = append(children, "<displayed xmlns='urn:xmpp:chat-markers:0' id='"+what.Target+"'/>")
	case content.Delivered:
		children = append(children, "<received xmlns='urn:xmpp:receipts' id='"+what.Target+"'/>")
	}
	if what.Text != "" {
		children = append([]string{"<body xmlns='jabber:client'>" + what.Text + "</body>"}, children...)
	}
	d.do("say", "to", to.String(), "id", id, "children", children)
	return entry{}
}

func (d *xmlDoor) hears(own bool) entry {
	d.t.Helper()
	if own {
		return entry{}
	}
	return d.placed()
}

// httpDoor is a program that only knows the API: it waits for changes by long poll.
type httpDoor struct {
	t      *testing.T
	api    *client.API
	cursor string
	inbox  []client.APIMessage
}

func newHTTP(t *testing.T, node *nodetest.Node, user string) *httpDoor {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	d := &httpDoor{t: t, api: &client.API{Base: "http://" + node.Place().HTTP, HTTP: &http.Client{Transport: transport}}}
	require.NoError(t, d.api.Login(wait(t), user, password, client.Device{ID: "http-" + user, Name: "browser"}))
	for more := true; more; {
		page, err := d.api.Sync(wait(t), d.cursor, 0, 0)
		require.NoError(t, err)
		d.cursor, more = page.Cursor, page.More
	}
	return d
}

func (d *httpDoor) name() string { return "HTTP" }

func (d *httpDoor) say(to jid.JID, id string, what content.Content, original entry) entry {
	d.t.Helper()
	var r client.APISent
	var err error
	switch what.Kind {
	case content.Edit:
		r, err = d.api.Edit(wait(d.t), original.stanzaID, id, content.Content{Kind: content.Text, Text: what.Text})
	case content.Recall:
		r, err = d.api.Recall(wait(d.t), original.stanzaID)
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

func (d *httpDoor) hears(bool) entry {
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

// TestThreeDoors: two people, each there through all three doors at once, say something of every kind through each of them. Every door of both is told the
// same: id, stanza-id, number, kind, target and text, in the same order; and so say the histories in the end.
func TestThreeDoors(t *testing.T) {
	t.Parallel()
	node := open(t, "romeo", "juliet")
	doors := map[jid.JID][]door{}
	for _, who := range []jid.JID{romeo, juliet} {
		doors[who] = []door{
			&compactDoor{t: t, app: connect(t, "tcp://"+node.Place().Compact, who.Local())},
			&xmlDoor{newSlix(t, who.Local(), "desk", node.Place().XMPP)},
			newHTTP(t, node, who.Local()),
		}
	}
	var all []entry
	// said lets somebody say something, and everybody hear it.
	said := func(from, to jid.JID, through door, what content.Content, original entry) entry {
		id := client.NewID()
		if through.name() == "HTTP" {
			id = "http-" + id
		}
		told := through.say(to, id, what, original)
		at := fmt.Sprintf("%s says %s by %s", from.Local(), what.Kind, through.name())
		want := entry{number: uint64(len(all) + 1), kind: string(what.Kind), target: what.Target, content: what.Text}
		if told.number > 0 {
			require.Equal(t, want.number, told.number, at)
		}
		for _, who := range []jid.JID{romeo, juliet} {
			for _, d := range doors[who] {
				heard := d.hears(d == through)
				if heard == (entry{}) { // its own word, of which it is told nothing
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
	for _, pair := range [][2]jid.JID{{romeo, juliet}, {juliet, romeo}} {
		me, you := pair[0], pair[1]
		for i, d := range doors[me] {
			answering := doors[you][(i+1)%len(doors[you])]
			kept := said(me, you, d, text("kept by "+d.name()), entry{})
			said(you, me, answering, content.Content{Kind: content.Delivered, Target: kept.id}, kept)
			said(you, me, answering, content.Content{Kind: content.Read, Target: kept.id}, kept)
			said(me, you, d, content.Content{Kind: content.Edit, Target: kept.id, Text: "edited by " + d.name()}, kept)
			gone := said(me, you, d, text("taken back by "+d.name()), entry{})
			said(me, you, d, content.Content{Kind: content.Recall, Target: gone.id}, gone)
			said(you, me, answering, text("answered by "+answering.name()), entry{})
		}
	}
	requireHistories(t, doors, all)
}

// requireHistories asks every door for the history: all of them have the same.
func requireHistories(t *testing.T, doors map[jid.JID][]door, all []entry) {
	t.Helper()
	want := slices.Clone(all)
	for _, e := range all { // of what was taken back, the place is left
		if i := slices.IndexFunc(want, func(o entry) bool { return e.kind == "recall" && o.id == e.target }); i >= 0 {
			want[i].kind, want[i].target, want[i].content = "retracted", e.id, ""
		}
	}
	for who, mine := range doors {
		with := juliet
		if who == juliet {
			with = romeo
		}
		page, err := mine[0].(*compactDoor).History(wait(t), client.Query{With: with})
		require.NoError(t, err)
		var compact, xml, api []entry
		for _, m := range page.Messages {
			compact = append(compact, streamEntry(m))
		}
		require.Equal(t, want, compact, "the history of %s on the compact stream", who)

		s := mine[1].(*xmlDoor)
		s.do("archive", "with", with.String())
		for range want {
			xml = append(xml, s.placed())
		}
		require.Equal(t, want, xml, "the history of %s in XML", who)

		messages, more, err := mine[2].(*httpDoor).api.History(wait(t), with.String(), client.APIRange{Oldest: true, Limit: 250})
		require.NoError(t, err)
		require.False(t, more)
		for _, m := range messages {
			api = append(api, apiEntry(m))
		}
		require.Equal(t, want, api, "the history of %s by HTTP", who)
	}
}
