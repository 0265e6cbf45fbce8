package conversation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/service"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

const romeo = 1

// stage is everything that is needed, as a test wants it.
type stage struct {
	*Conversations
	page     func(cursor string, limit int) (inbox.Page, error)
	asked    []int
	bytes    int
	next     inbox.Position
	err      error
	allowed  int
	spent    int
	settings []store.ConversationSettings
	profiles map[store.AccountID]store.Profile
	changed  []uint64
}

func (s *stage) Sync(_ context.Context, o inbox.Owner, cursor string, limit, bytes int) (inbox.Page, error) {
	s.asked, s.bytes = append(s.asked, limit), bytes
	return s.page(cursor, limit)
}

type view struct{ *stage }

func (v view) Conversations(_ context.Context, _ inbox.Owner, from inbox.Position, limit int) ([]inbox.Conversation,
	inbox.Position, error) {
	v.asked = append(v.asked, int(from.Before), int(from.Chosen), limit)
	return []inbox.Conversation{
		{Conversation: store.Conversation{Kind: store.Direct,
			With: store.Party{JID: jid.MustParse("juliet@verona.example")}, Last: 7, LastSeq: 3}},
		{Conversation: store.Conversation{Kind: store.Room, Room: jid.MustParse("hall@rooms.example")},
			Settings: store.ConversationSettings{Pinned: true}},
	}, v.next, v.err
}

func (s *stage) Forwarded(m *store.Message, _ jid.JID) (stanza.Element, bool) {
	return stanza.New("urn:xmpp:forward:0", "forwarded"), len(m.Stanza) > 1
}
func (s *stage) StanzaID(id uint64) string { return fmt.Sprint("id-", id) }
func (s *stage) ParseStanzaID(text string) (id uint64, ok bool) {
	_, err := fmt.Sscanf(text, "id-%d", &id)
	return id, err == nil
}
func (s *stage) Allow(uint64) bool     { s.allowed--; return s.allowed >= 0 }
func (s *stage) Spend(_ uint64, n int) { s.spent += n }

func (s *stage) Lookup(_ context.Context, name string) (store.AccountID, bool, error) {
	return romeo, name == "romeo", s.err
}

func (s *stage) ConversationSettings(context.Context, store.AccountID, []string) ([]store.ConversationSettings, error) {
	return s.settings, s.err
}

func (s *stage) ChosenConversationSettings(context.Context, store.AccountID, uint64, int) ([]store.ConversationSettings,
	error) {
	return s.settings, s.err
}

func (s *stage) ChangedConversationSettings(context.Context, store.AccountID, uint64,
	int) ([]store.ConversationSettings, uint64, error) {
	return s.settings, 0, s.err
}

func (s *stage) SetConversationSettings(_ context.Context, _ store.AccountID, c store.ConversationSettings,
	max int) (store.ConversationSettings, error) {
	if len(s.settings) >= max {
		return c, store.ErrLimit
	}
	s.settings = append(s.settings, c)
	return c, s.err
}

func (s *stage) Profiles(_ context.Context, accounts []store.AccountID) (found []store.Profile, err error) {
	for _, a := range accounts {
		if p, ok := s.profiles[a]; ok {
			found = append(found, p)
		}
	}
	return found, s.err
}

func (s *stage) SetProfile(_ context.Context, p store.Profile) (store.Profile, error) {
	p.Username = "romeo"
	s.profiles[p.Account] = p
	return p, s.err
}

func (s *stage) ChangedProfiles(context.Context, uint64, int) ([]store.Profile, uint64, error) {
	return nil, 0, s.err
}

func (s *stage) SearchProfiles(context.Context, []string, string, int) ([]store.Profile, error) {
	return nil, s.err
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{allowed: 1000, profiles: map[store.AccountID]store.Profile{romeo: {Account: romeo, Username: "romeo"}}}
	var err error
	s.Conversations, err = New(Config{
		Domain: jid.MustParse("verona.example"), Sessions: session.New(session.Config{}), Inbox: view{s}, Archive: s,
		Settings: s, Profiles: s, Accounts: s,
		Changed: func(account uint64) { s.changed = append(s.changed, account) }, MaxSettings: 3, PageBytes: 1000,
	})
	require.NoError(t, err)
	return s
}

// ask asks as romeo, and returns the answer or the condition of the refusal.
func (s *stage) ask(t *testing.T, kind, payload string) (answer, condition string) {
	t.Helper()
	return s.askAs(t, romeo, kind, payload)
}

func (s *stage) askAs(t *testing.T, account uint64, kind, payload string) (answer, condition string) {
	t.Helper()
	iq, err := xmlstream.Unmarshal([]byte("<iq xmlns='jabber:client' id='1' type='" + kind +
		"' from='romeo@verona.example/orchard'>" + payload + "</iq>"))
	require.NoError(t, err)
	iq.To = iq.From.Bare()
	hub, err := service.New(service.Config{Domain: jid.MustParse("verona.example")})
	require.NoError(t, err)
	require.NoError(t, hub.Serve(s.Handlers()))
	origin := service.Origin{Account: account}
	if from := s.config.Sessions.Lookup(iq.From); from != nil {
		origin.Session = from
	}
	result, refusal := hub.Answer(t.Context(), origin, iq)
	if refusal != nil {
		condition = string(refusal.Condition)
		if refusal.App != nil {
			condition += " " + refusal.App.Local
		}
		return "", condition
	}
	text := string(xmlstream.Marshal(nil, iq.Reply(result...)))
	return strings.TrimPrefix(text,
		"<iq xmlns='jabber:client' from='romeo@verona.example' to='romeo@verona.example/orchard' type='result' "+
			"id='1'>"), ""
}

func TestSyncRefusals(t *testing.T) {
	s := newStage(t)
	for _, c := range []struct {
		payload, want string
		err           error
	}{
		{"<sync xmlns='urn:posthouse:sync:1' cursor='x'/>", "bad-request", fmt.Errorf("sync: %w", inbox.ErrCursor)},
		{"<sync xmlns='urn:posthouse:sync:1' cursor='x'/>", "item-not-found start-over",
			fmt.Errorf("sync: %w", inbox.ErrStartOver)},
		{"<sync xmlns='urn:posthouse:sync:1' cursor='x'/>", "internal-server-error", errors.New("disk")},
		{"<sync xmlns='urn:posthouse:sync:1' cursor='" + strings.Repeat("x", 1025) + "'/>", "bad-request", nil},
		{"<sync xmlns='urn:posthouse:sync:1' max='0'/>", "bad-request", nil},
		{"<sync xmlns='urn:posthouse:sync:1' max='-1'/>", "bad-request", nil},
		{"<sync xmlns='urn:posthouse:sync:1' max='99999999999999999999'/>", "bad-request", nil},
		{"<sync xmlns='urn:posthouse:sync:1' max='1000'/>", "", nil},
	} {
		s.page = func(string, int) (inbox.Page, error) { return inbox.Page{Cursor: "next"}, c.err }
		_, got := s.ask(t, "get", c.payload)
		require.Equal(t, c.want, got, c.payload)
	}
	require.Equal(t, 500, s.asked[len(s.asked)-1], "a page has at most so many")
	s.allowed = 0
	_, got := s.ask(t, "get", "<sync xmlns='urn:posthouse:sync:1'/>")
	require.Equal(t, "resource-constraint", got)
	_, got = s.askAs(t, 0, "get", "<sync xmlns='urn:posthouse:sync:1'/>")
	require.Equal(t, "service-unavailable", got)
}

// The inbox is told how much fits into a stanza, and what was read is paid for.
func TestSyncPagesAreBounded(t *testing.T) {
	s := newStage(t)
	s.page = func(_ string, limit int) (inbox.Page, error) {
		return inbox.Page{Cursor: "c", Messages: make([]store.Message, limit)}, nil
	}
	_, refused := s.ask(t, "get", "<sync xmlns='urn:posthouse:sync:1'/>")
	require.Empty(t, refused)
	require.Equal(t, 1000, s.bytes)
	require.Equal(t, 50, s.spent)
}

func TestSyncAnswer(t *testing.T) {
	s := newStage(t)
	s.page = func(string, int) (inbox.Page, error) {
		juliet := jid.MustParse("juliet@verona.example")
		return inbox.Page{
			Cursor: "c", More: true, First: true, RosterAll: true,
			Messages: []store.Message{{Stanza: []byte("ok")}, {Stanza: []byte("x")}},
			Conversations: []inbox.Conversation{{
				Conversation: store.Conversation{
					With: store.Party{JID: juliet}, Last: 9, LastSeq: 42, Unread: 1,
					Own: store.ReadMarkers{Read: 41, Delivered: 42}, Peer: store.ReadMarkers{Read: 7, Delivered: 8},
				},
				Settings: store.ConversationSettings{Pinned: true,
					MutedUntil: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)},
			}},
			Roster: []store.RosterItem{
				{JID: juliet, Name: "J", To: true, From: true, Groups: []string{"G"}, Listed: true},
				{JID: juliet, PendingOut: true, Approved: true, Listed: true}, {JID: juliet, PendingIn: true},
				{JID: juliet, From: true, Listed: true}, {JID: juliet, To: true, Listed: true},
			},
			Removed:  []jid.JID{juliet},
			Profiles: []store.Profile{{Username: "juliet", Name: "Juliet", Title: "Daughter"}},
		}, nil
	}
	answer, refused := s.ask(t, "get", "<sync xmlns='urn:posthouse:sync:1' cursor=''/>")
	require.Empty(t, refused)
	require.Equal(
		t,
		`<sync xmlns='urn:posthouse:sync:1' cursor='c' more='true' first='true'><forwarded xmlns='urn:xmpp:forward:0'/>`+
			`<conversation with='juliet@verona.example' number='42' read='41' delivered='42' peer-read='7' peer-delivered='8' unread='1' last='id-9' muted-until='9999-12-31T23:59:59Z' pinned='true'/>`+
			`<roster all='true'><item xmlns='jabber:iq:roster' jid='juliet@verona.example' subscription='both' name='J'><group>G</group></item>`+
			`<item xmlns='jabber:iq:roster' jid='juliet@verona.example' subscription='none' ask='subscribe' approved='true'/>`+
			`<item xmlns='jabber:iq:roster' jid='juliet@verona.example' subscription='from'/><item xmlns='jabber:iq:roster' jid='juliet@verona.example' subscription='to'/>`+
			`<item xmlns='jabber:iq:roster' jid='juliet@verona.example' subscription='remove'/></roster>`+
			`<profile xmlns='urn:posthouse:profile:1' jid='juliet@verona.example' name='Juliet' title='Daughter'/></sync></iq>`, answer)
}

func TestList(t *testing.T) {
	s := newStage(t)
	const list = "<conversation with='juliet@verona.example' number='3' last='id-7'/><conversation " +
		"with='hall@rooms.example' kind='room' pinned='true'/></conversations></iq>"
	for _, c := range []struct {
		next          inbox.Position
		attrs, answer string
		asked         []int
	}{
		{inbox.Position{Before: 8}, "before='id-12' max='5'", " next='id-8'", []int{12, 0, 5}},
		{inbox.Position{Chosen: 8}, "before='.9'", " next='.8'", []int{0, 9, 50}},
		{inbox.Position{}, "", "", []int{0, 0, 50}},
	} {
		s.next, s.asked = c.next, nil
		answer, refused := s.ask(t, "get", "<conversations xmlns='urn:posthouse:conversations:1' "+c.attrs+"/>")
		require.Empty(t, refused)
		require.Equal(t, "<conversations xmlns='urn:posthouse:conversations:1'"+c.answer+">"+list, answer)
		require.Equal(t, c.asked, s.asked)
	}
	for payload, want := range map[string]string{"before='nonsense'": "item-not-found", "before='.x'": "item-not-found",
		"max='x'": "bad-request"} {
		_, refused := s.ask(t, "get", "<conversations xmlns='urn:posthouse:conversations:1' "+payload+"/>")
		require.Equal(t, want, refused, payload)
	}
	s.err = errors.New("disk")
	_, refused := s.ask(t, "get", "<conversations xmlns='urn:posthouse:conversations:1'/>")
	require.Equal(t, "internal-server-error", refused)
}

func TestSettings(t *testing.T) {
	s := newStage(t)
	set := func(attrs string) string {
		answer, refused := s.ask(t, "set", "<settings xmlns='urn:posthouse:conversations:1' "+attrs+"/>")
		return strings.TrimSuffix(strings.TrimPrefix(answer, "<settings xmlns='urn:posthouse:conversations:1' "),
			"/></iq>") + refused
	}
	for attrs, want := range map[string]string{
		"": "jid-malformed", "with='juliet@verona.example/x'": "jid-malformed", "with='@'": "jid-malformed",
		"with='a@b' pinned='yes'": "bad-request", "with='a@b' muted-until='tomorrow'": "bad-request",
		"with='a@b' muted-until='0001-01-01T00:00:00Z'":   "bad-request",
		"with='a@b' muted-until='2026-01-01T00:00:00,5Z'": "bad-request",
		"with='a@b' muted-until='10000-01-01T00:00:00Z'":  "bad-request",
	} {
		require.Equal(t, want, set(attrs), attrs)
	}
	require.Empty(t, s.changed)
	require.Equal(t, "with='a@b' muted-until='2026-01-01T00:00:00.500Z' pinned='true'",
		set("with='A@B' muted-until='2026-01-01T02:00:00.5009+02:00' pinned='1'"))
	require.Equal(t, "with='a@b'", set("with='a@b' pinned='false'"))
	require.Equal(t, "with='room.example'", set("with='room.example'"))
	require.Equal(t, "resource-constraint", set("with='c@b'"))
	require.Equal(t, []uint64{romeo, romeo, romeo}, s.changed)
	s.settings, s.err = nil, store.ErrNotFound
	require.Equal(t, "forbidden", set("with='c@b'"))
	s.allowed = 0
	require.Equal(t, "resource-constraint", set("with='c@b'"))
}

func TestProfile(t *testing.T) {
	s := newStage(t)
	ask := func(kind, attrs string) string {
		answer, refused := s.ask(t, kind, "<profile xmlns='urn:posthouse:profile:1' "+attrs+"/>")
		return strings.TrimSuffix(strings.TrimPrefix(answer, "<profile xmlns='urn:posthouse:profile:1' "), "/></iq>") +
			refused
	}
	require.Equal(t, "jid='romeo@verona.example'", ask("get", ""))
	for attrs, want := range map[string]string{
		"jid='nobody@verona.example'": "item-not-found", "jid='romeo@mantua.example'": "item-not-found",
		"jid='verona.example'": "item-not-found", "jid='@'": "jid-malformed",
	} {
		require.Equal(t, want, ask("get", attrs), attrs)
	}
	require.Equal(t, "not-acceptable", ask("set", "name='"+strings.Repeat("x", 129)+"'"))
	require.Equal(t, "not-acceptable", ask("set", "title='"+strings.Repeat("ä", 65)+"'"))
	require.Equal(t, "jid='romeo@verona.example' name='Ro meo' title='"+strings.Repeat("x", 128)+"'",
		ask("set", "name=' Ro &#10; &#x202E;me&#xFEFF;o&#x85; ' title='"+strings.Repeat("x", 128)+"'"))
	require.Equal(t, "jid='romeo@verona.example' name='Ro meo' title='"+strings.Repeat("x", 128)+"'",
		ask("get", "jid='romeo@verona.example/any'"))
	require.Equal(t, "jid='romeo@verona.example' title='T'", ask("set", "title='T'"), "what is not said is empty")
	require.Equal(t, []uint64{romeo, romeo}, s.changed)
	s.err = errors.New("disk")
	require.Equal(t, "internal-server-error", ask("get", ""))
	require.Equal(t, "internal-server-error", ask("set", ""))
	s.err = store.ErrNotFound
	require.Equal(t, "forbidden", ask("set", ""))
}

// outbox remembers.
type outbox struct{ sent []*stream.Packet }

func (o *outbox) Send(p *stream.Packet)        { o.sent = append(o.sent, p) }
func (o *outbox) Close(*stream.Error)          {}
func (*outbox) WaitRoom(context.Context) error { return nil }
func (*outbox) Detached() bool                 { return false }

// Only other sessions of the account that asked for it are told, also those that are not available.
func TestPushes(t *testing.T) {
	s := newStage(t)
	bind := func(account uint64, bare, resource string) (*session.Session, *outbox) {
		o := &outbox{}
		bound, refusal := s.config.Sessions.Bind(session.Binding{Account: account, Bare: jid.MustParse(bare),
			Resource: resource, Outbox: o})
		require.Nil(t, refusal)
		return bound, o
	}
	_, self := bind(romeo, "romeo@verona.example", "orchard")
	told, home := bind(romeo, "romeo@verona.example", "home")
	_, quiet := bind(romeo, "romeo@verona.example", "street")
	other, juliet := bind(2, "juliet@verona.example", "balcony")
	_, refused := s.ask(t, "set", "<enable xmlns='urn:posthouse:sync:1'/>")
	require.Empty(t, refused)
	require.True(t, s.config.Sessions.SetSynced(told, true))
	require.True(t, s.config.Sessions.SetSynced(other, true))
	s.ask(t, "set", "<settings xmlns='urn:posthouse:conversations:1' with='a@b' pinned='true'/>")
	s.ask(t, "set", "<profile xmlns='urn:posthouse:profile:1' name='R'/>")
	require.Empty(t, self.sent)
	require.Empty(t, quiet.sent)
	require.Empty(t, juliet.sent)
	require.Len(t, home.sent, 2)
	for i, local := range []string{"settings", "profile"} {
		m := home.sent[i].Stanza
		require.Equal(t, "headline romeo@verona.example romeo@verona.example/home "+local, m.Type+" "+m.From.String()+
			" "+m.To.String()+" "+m.Payload[0].Local)
	}
	require.True(t, s.config.Sessions.SetSynced(told, false))
	s.ask(t, "set", "<profile xmlns='urn:posthouse:profile:1' name='R2'/>")
	require.Len(t, home.sent, 2)
	s.config.Sessions.Unbind(told)
	require.False(t, s.config.Sessions.SetSynced(told, true))
}

func FuzzParseStamp(f *testing.F) {
	for _, seed := range []string{"9999-12-31T23:59:59Z", "2026-01-01T00:00:00.123456789+14:00", "", "x",
		"2026-01-01T00:00:00,5Z"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, err := parseStamp(text)
		if err != nil {
			return
		}
		again, err := parseStamp(stamp(at))
		if err != nil || !again.Equal(at) {
			t.Fatalf("%q is %v, which is written %q and read %v, %v", text, at, stamp(at), again, err)
		}
	})
}
