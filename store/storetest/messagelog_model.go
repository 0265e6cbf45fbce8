package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/posthouse-im/posthouse/store"
)

// MessageLogModel compares an implementation with Memory under random batches, clocks, restarts and questions.
func MessageLogModel(t *testing.T, logs Logs) {
	parent := t.TempDir()
	runs := 0
	Checks(t, 25)
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		m := &model{t: t, logs: logs, folder: fmt.Sprintf("%s/%d", parent, runs), now: noon(), want: NewMemory()}
		m.got = logs.Open(t, m.folder)
		defer func() {
			require.NoError(t, m.got.Close())
			require.NoError(t, os.RemoveAll(m.folder))
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"append":  m.append,
			"deliver": m.deliver,
			"reopen":  m.reopen,
			"clock":   m.clock,
			"":        m.ask,
		})
	})
}

// model is a log and what it should be.
type model struct {
	t      testing.TB
	logs   Logs
	folder string
	now    time.Time
	got    Log
	want   *Memory
	// known are identities to ask about: those given out, and their neighbours.
	known []store.MessageID
	// opened are the conversations by the order in which they were opened, as each of the two logs calls them: a
	// conversation has other identities in other logs.
	opened []openedTwice
}

type openedTwice struct {
	key       store.ConversationKey
	got, want store.ConversationID
}

func (m *model) parties() []store.Party {
	return []store.Party{alice(), bob(), carol(), newAlice(), romeo(), juliet()}
}

func (m *model) party(t *rapid.T, label string) store.Party {
	return rapid.SampledFrom(m.parties()).Draw(t, label)
}

func (m *model) key(t *rapid.T) store.ConversationKey {
	if rapid.IntRange(0, 2).Draw(t, "room") == 0 {
		return roomKey(rapid.SampledFrom([]string{"hall", "yard"}).Draw(t, "name"))
	}
	return store.DirectKey(m.party(t, "a"), m.party(t, "b"))
}

// open opens a conversation in both logs.
func (m *model) open(t *rapid.T) openedTwice {
	key := m.key(t)
	members := []store.Member{
		{Account: 1, Role: store.RoleOwner, Access: []store.Interval{{From: 1}}},
		{Account: 3, Role: store.RoleOutcast},
	}
	got, err := m.got.OpenConversation(context.Background(), m.now, key, members)
	require.NoError(t, err)
	want, err := m.want.OpenConversation(context.Background(), m.now, key, members)
	require.NoError(t, err)
	known := slices.IndexFunc(m.opened, func(o openedTwice) bool { return o.want == want.ID })
	if known < 0 {
		m.opened = append(m.opened, openedTwice{key: key, got: got.ID, want: want.ID})
		known = len(m.opened) - 1
	}
	require.Equal(t, m.opened[known].got, got.ID)
	got.ID = want.ID
	require.Equal(t, want, got)
	return m.opened[known]
}

// common returns what the model calls a conversation of the log.
func (m *model) common(l store.MessageLog, id store.ConversationID) store.ConversationID {
	for _, o := range m.opened {
		if l == store.MessageLog(m.got) && o.got == id {
			return o.want
		}
	}
	return id
}

// access makes up to three intervals.
func access(t *rapid.T) (made []store.Interval) {
	from := uint64(rapid.IntRange(1, 4).Draw(t, "from"))
	for range rapid.IntRange(0, 2).Draw(t, "intervals") {
		through := from + uint64(rapid.IntRange(0, 5).Draw(t, "length"))
		made = append(made, store.Interval{From: from, Through: through})
		from = through + uint64(rapid.IntRange(1, 3).Draw(t, "gap"))
	}
	if rapid.Bool().Draw(t, "open") {
		made = append(made, store.Interval{From: rapid.SampledFrom([]uint64{from, store.ThisSeq}).Draw(t, "again")})
	}
	return made
}

// entry makes one that is the same for both logs but for the conversation.
func (m *model) entry(t *rapid.T) (got, want *store.Append) {
	o := m.open(t)
	author := m.party(t, "author")
	if o.key.Kind == store.Direct {
		author = rapid.SampledFrom([]store.Party{o.key.A, o.key.B}).Draw(t, "side")
	}
	var a *store.Append
	var others []*store.Append // the markers of the other log's
	if rapid.IntRange(0, 2).Draw(t, "marker") == 0 {
		kind := store.MarkerKind(rapid.IntRange(1, 3).Draw(t, "kind"))
		a = marker(0, author.Account, kind, uint64(rapid.IntRange(0, 20).Draw(t, "through")))
	} else {
		a = said(
			0, author, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "text"),
			store.MessageFlags(rapid.IntRange(0, 15).Draw(t, "flags")),
		)
		ids := []string{"", "", "o1", "o2", "o3"}
		a.OriginID, a.StanzaID = rapid.SampledFrom(ids).Draw(t, "origin"), rapid.SampledFrom(ids).Draw(t, "stanza")
		switch rapid.IntRange(0, 5).Draw(t, "extra") {
		case 0:
			a.Retract, a.Remains = m.id(t, "retract"), []byte("<gone/>")
		case 1:
			a.Basis = uint64(rapid.IntRange(0, 10).Draw(t, "basis"))
		case 2:
			a.Judged, a.RightsBasis = true, uint64(rapid.IntRange(0, 10).Draw(t, "rights"))
		case 3:
			if o.key.Kind == store.Room {
				a.Members = []store.Member{{Account: max(1, m.account(t)), Role: store.RoleMember, Access: access(t)}}
			}
		case 4:
			for kind := store.MarkDelivered; kind <= store.MarkRead; kind++ {
				through := uint64(rapid.IntRange(0, 20).Draw(t, "through"))
				a.Markers = append(a.Markers, marker(o.got, author.Account, kind, through))
				others = append(others, marker(o.want, author.Account, kind, through))
			}
		}
	}
	same := *a
	a.Conversation, same.Conversation, same.Markers = o.got, o.want, others
	return a, &same
}

func (m *model) append(t *rapid.T) {
	var got, want store.Batch
	for range rapid.IntRange(1, 6).Draw(t, "size") {
		a, b := m.entry(t)
		got.Entries, want.Entries = append(got.Entries, a), append(want.Entries, b)
	}
	got.Now, want.Now = m.now, m.now
	gotErr, wantErr := m.got.Append(context.Background(), &got), m.want.Append(context.Background(), &want)
	require.Equal(t, wantErr == nil, gotErr == nil, "%v, %v", gotErr, wantErr)
	require.Equal(t, want.Number, got.Number)
	if wantErr != nil {
		return // intervals that overlap
	}
	for i, a := range want.Entries {
		m.known = append(m.known, a.ID, a.ID+1)
		same := *got.Entries[i]
		same.Conversation = a.Conversation
		for _, change := range same.Markers {
			m.known = append(m.known, change.ID)
			change.Conversation = a.Conversation
		}
		require.Equal(t, *a, same, "%d", i)
	}
}

func (m *model) id(t *rapid.T, label string) store.MessageID {
	return rapid.SampledFrom(append([]store.MessageID{0}, m.known...)).Draw(t, label)
}

func (m *model) account(t *rapid.T) store.AccountID {
	return store.AccountID(rapid.IntRange(0, 5).Draw(t, "account"))
}

func (m *model) deliver(t *rapid.T) {
	r := store.Delivered{Account: store.AccountID(rapid.IntRange(1, 5).Draw(t, "account"))}
	for range rapid.IntRange(0, 3).Draw(t, "reported") {
		r.IDs = append(r.IDs, m.id(t, "reports"))
	}
	for _, l := range []store.MessageLog{m.got, m.want} {
		require.NoError(t, l.Deliver(context.Background(), []store.Delivered{r}))
	}
}

func (m *model) reopen(*rapid.T) {
	require.NoError(m.t, m.got.Close())
	m.got = m.logs.Open(m.t, m.folder)
}

func (m *model) clock(t *rapid.T) {
	step := rapid.SampledFrom(
		[]time.Duration{time.Millisecond, time.Second, -time.Hour, 24 * time.Hour},
	).Draw(
		t, "step",
	)
	m.now = m.now.Add(step)
}

// question is what is asked of both logs.
type question struct {
	owner         store.AccountID
	in            int // which of the opened conversations, one beyond them for none
	after, before store.MessageID
	backward      bool
	markers       bool
	kind          store.ConversationKind
	limit         int
	first         uint64
	author        store.Party
	name          string
}

// ask puts random questions to both; a third of the kinds at a time, since asking is what takes the time.
func (m *model) ask(t *rapid.T) {
	q := question{
		owner: m.account(
			t,
		),
		in:       rapid.IntRange(0, len(m.opened)).Draw(t, "in"),
		after:    m.id(t, "after"),
		before:   m.id(t, "before"),
		backward: rapid.Bool().Draw(t, "backward"),
		markers:  rapid.Bool().Draw(t, "markers"),
		kind: store.ConversationKind(
			rapid.IntRange(0, 2).Draw(t, "kind"),
		),
		limit:  rapid.IntRange(1, 5).Draw(t, "limit"),
		first:  uint64(rapid.IntRange(0, 10).Draw(t, "first")),
		author: m.party(t, "author"),
		name:   rapid.SampledFrom([]string{"", "o1", "o2", "o3"}).Draw(t, "name"),
	}
	part := rapid.IntRange(0, 2).Draw(t, "part")
	require.Equal(t, m.answers(t, m.want, part, &q), m.answers(t, m.got, part, &q), "%+v", q)
}

// conversation returns what a log calls the conversation that is asked about.
func (m *model) conversation(l store.MessageLog, q *question) store.ConversationID {
	switch {
	case q.in == len(m.opened):
		return 0
	case l == store.MessageLog(m.got):
		return m.opened[q.in].got
	}
	return m.opened[q.in].want
}

func (m *model) answers(t *rapid.T, l store.MessageLog, part int, q *question) (all []any) {
	ctx := context.Background()
	in := m.conversation(l, q)
	add := func(err error, values ...any) {
		if err != nil {
			// Only the kind of a refusal is part of the contract.
			require.True(t, errors.Is(err, store.ErrNotFound), "%v", err)
			values = []any{store.ErrNotFound}
		}
		all = append(all, values...)
	}
	messages := func(found []store.Message) []store.Message {
		for i := range found {
			found[i].Conversation = m.common(l, found[i].Conversation)
			if mk := found[i].Marker; mk != nil {
				m.checkTold(found[i].Conversation, mk)
			}
		}
		return append([]store.Message{}, found...)
	}
	switch part {
	case 0:
		m.askConversations(l, add, in, q)
	case 1:
		found, more, err := l.History(ctx, store.HistoryQuery{
			Owner:        q.owner,
			Conversation: in,
			Kind:         q.kind,
			After:        q.after,
			Before:       q.before,
			Backward:     q.backward,
			Limit:        q.limit,
			Markers:      q.markers,
		})
		add(err, messages(found), more)
		found, err = l.Undelivered(ctx, q.owner, q.after, q.limit)
		add(err, messages(found))
		cursor, err := l.Cursor(ctx, q.owner)
		cursor.Missed = append([]store.MessageID{}, cursor.Missed...)
		add(err, cursor)
	default:
		found, err := l.Since(ctx, q.after, q.limit)
		add(err, messages(found))
		one, err := l.Message(ctx, q.after)
		one.Conversation = 0
		add(err, one)
		seen, err := l.InHistory(ctx, q.owner, q.after)
		add(err, seen)
		from, to, err := l.Bounds(ctx, q.owner)
		add(err, from, to)
		found, err = l.Numbered(ctx, in, q.first, q.limit)
		add(err, messages(found))
		behind, err := l.Behind(ctx, []store.Reached{{Account: q.owner, Through: q.after}})
		add(err, append([]store.AccountID{}, behind...))
		newest, err := l.Last(ctx)
		add(err, newest)
	}
	return all
}

// checkTold takes out of a marker, after a look at it, what logs may differ in: they may not know former ones any more.
func (m *model) checkTold(in store.ConversationID, mk *store.Marker) {
	if want := m.want.markers[markerKey{in, mk.Account, mk.Kind}]; want != nil {
		require.LessOrEqual(m.t, mk.Told, want.Told)
	}
	mk.Told = 0
}

// askConversations puts the questions of store.ConversationReader.
func (m *model) askConversations(l store.MessageLog, add func(error, ...any), in store.ConversationID, q *question) {
	ctx := context.Background()
	normal := func(c *store.Conversation) {
		c.ID = m.common(l, c.ID)
		c.Member.Access = append([]store.Interval{}, c.Member.Access...)
	}
	listed, more, err := l.Conversations(ctx, q.owner, q.before, q.limit)
	for i := range listed {
		normal(&listed[i])
	}
	add(err, append([]store.Conversation{}, listed...), more)
	c, err := l.ConversationOf(ctx, q.owner, in)
	normal(&c)
	add(err, c)
	o, err := l.ConversationByID(ctx, in)
	o.ID = m.common(l, o.ID)
	add(err, o)
	members, more, err := l.Members(ctx, in, q.owner, q.limit)
	for i := range members {
		members[i].Access = append([]store.Interval{}, members[i].Access...)
	}
	add(err, append([]store.Member{}, members...), more)
	markers, more, err := l.Markers(ctx, in, q.owner, q.limit)
	for i := range markers {
		m.checkTold(m.common(l, in), &markers[i])
	}
	add(err, append([]store.Marker{}, markers...), more)
	sent, err := l.Origin(ctx, q.author, q.name)
	sent.Conversation = m.common(l, sent.Conversation)
	add(err, sent)
	seq, id, err := l.Named(ctx, in, q.author, q.name)
	add(err, seq, id)
}
