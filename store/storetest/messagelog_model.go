package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		m := &model{t: t, logs: logs, folder: fmt.Sprintf("%s/%d", parent, runs), now: noon(), want: NewMemory()}
		m.got = logs.Open(t, m.folder)
		defer func() {
			require.NoError(t, m.got.Close())
			require.NoError(t, os.RemoveAll(m.folder))
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"append": m.append,
			"cursor": m.cursor,
			"reopen": m.reopen,
			"clock":  m.clock,
			"":       m.ask,
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
}

func (m *model) parties() []store.Party {
	return []store.Party{alice(), bob(), carol(), newAlice(), romeo(), juliet()}
}

func (m *model) party(t *rapid.T, label string) store.Party {
	return rapid.SampledFrom(m.parties()).Draw(t, label)
}

func (m *model) append(t *rapid.T) {
	size := rapid.IntRange(1, 6).Draw(t, "size")
	var got, want []*store.Append
	for range size {
		from, to := m.party(t, "from"), m.party(t, "to")
		text := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "text")
		flags := store.MessageFlags(rapid.IntRange(0, 15).Draw(t, "flags"))
		a := withOrigin(message(from, to, text, flags), rapid.SampledFrom([]string{"", "", "o1", "o2"}).Draw(t, "origin"))
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			a.Retract, a.Remains = m.id(t, "retracts"), []byte("<gone/>")
		case 1:
			a.ReadMarkers = &store.ReadMarkers{
				Account: from.Account, Device: rapid.SampledFrom([]string{"", "phone", "laptop"}).Draw(t, "device"),
				Delivered: uint64(rapid.IntRange(0, 20).Draw(t, "delivered")), Read: uint64(rapid.IntRange(0, 20).Draw(t, "read")),
			}
		}
		same := *a
		got, want = append(got, a), append(want, &same)
	}
	require.NoError(t, m.got.Append(context.Background(), m.now, got, nil))
	require.NoError(t, m.want.Append(context.Background(), m.now, want, nil))
	for i := range got {
		m.known = append(m.known, want[i].ID, want[i].ID+1)
		require.Equal(t, want[i].ID, got[i].ID)
		require.Equal(t, want[i].Seq, got[i].Seq)
		require.Equal(t, want[i].Duplicate, got[i].Duplicate)
		require.Equal(t, want[i].Conflict, got[i].Conflict)
		require.Equal(t, want[i].Stale, got[i].Stale)
		require.Equal(t, want[i].Stanza, got[i].Stanza, "what the caller has is left alone")
	}
}

func (m *model) id(t *rapid.T, label string) store.MessageID {
	return rapid.SampledFrom(append([]store.MessageID{0}, m.known...)).Draw(t, label)
}

func (m *model) account(t *rapid.T) store.AccountID {
	return store.AccountID(rapid.IntRange(0, 5).Draw(t, "account"))
}

func (m *model) cursor(t *rapid.T) {
	cursor := store.DeliveryCursor{Account: m.account(t), Through: m.id(t, "through")}
	for _, id := range rapid.SliceOfNDistinct(rapid.SampledFrom(append([]store.MessageID{0}, m.known...)), 0, 3, rapid.ID).Draw(t, "missed") {
		if id != 0 && id <= cursor.Through {
			cursor.Missed = append(cursor.Missed, id)
		}
	}
	for _, l := range []store.MessageLog{m.got, m.want} {
		require.NoError(t, l.Append(context.Background(), m.now, nil, []store.DeliveryCursor{cursor}))
	}
}

func (m *model) reopen(*rapid.T) {
	require.NoError(m.t, m.got.Close())
	m.got = m.logs.Open(m.t, m.folder)
}

func (m *model) clock(t *rapid.T) {
	step := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, -time.Hour, 24 * time.Hour}).Draw(t, "step")
	m.now = m.now.Add(step)
}

// ask puts one random question of each kind to both.
func (m *model) ask(t *rapid.T) {
	ctx := context.Background()
	owner, limit := m.account(t), rapid.IntRange(1, 5).Draw(t, "limit")
	q := store.HistoryQuery{
		Owner: owner, Limit: limit, After: m.id(t, "after"), Before: m.id(t, "before"),
		Backward: rapid.Bool().Draw(t, "backward"),
		With:     rapid.SampledFrom(append(m.parties(), store.Party{})).Draw(t, "with"),
	}
	a, b := m.party(t, "a"), m.party(t, "b")
	first := uint64(rapid.IntRange(0, 10).Draw(t, "first"))
	part := rapid.IntRange(0, 2).Draw(t, "part") // a third of the questions at a time: asking is what takes the time
	answers := func(l store.MessageLog) []any {
		var all []any
		add := func(err error, values ...any) {
			if err != nil {
				// Only the kind of a refusal is part of the contract.
				require.True(t, errors.Is(err, store.ErrNotFound), "%v", err)
				values = []any{store.ErrNotFound}
			}
			all = append(all, values...)
		}
		switch part {
		case 0:
			m.askConversations(l, add, owner, q.Before, limit, a, b)
			return all
		case 1:
			found, more, err := l.History(ctx, q)
			add(err, ids(found), more)
			found, err = l.Undelivered(ctx, owner, q.After, limit)
			add(err, ids(found))
			return all
		}
		found, err := l.Since(ctx, q.After, limit)
		add(err, ids(found))
		one, err := l.Message(ctx, q.After)
		one.Conversation = 0
		add(err, one)
		in, err := l.InHistory(ctx, owner, q.After)
		add(err, in)
		from, to, err := l.Bounds(ctx, owner)
		add(err, from, to)
		cursor, err := l.DeliveryCursor(ctx, owner)
		add(err, cursor)
		conversation, last, err := l.Conversation(ctx, a, b)
		add(err, last)
		found, err = l.Numbered(ctx, conversation, first, limit)
		add(err, ids(found))
		return all
	}
	require.Equal(t, answers(m.want), answers(m.got), "%+v", q)
}

// askConversations puts the questions of store.ConversationReader. Conversations have other identities in other logs.
func (m *model) askConversations(l store.MessageLog, add func(error, ...any), owner store.AccountID, before store.MessageID, limit int, a, b store.Party) {
	ctx := context.Background()
	listed, more, err := l.Conversations(ctx, owner, before, limit)
	for i := range listed {
		listed[i].ID = 0
	}
	add(err, append([]store.Conversation{}, listed...), more)
	with, err := l.ConversationWith(ctx, a.Account, b)
	with.ID = 0
	add(err, with)
	conversation, _, err := l.Conversation(ctx, a, b)
	add(ignoreNotFound(err))
	devices, err := l.ReadMarkersOf(ctx, conversation, a.Account)
	add(err, append([]store.ReadMarkers{}, devices...))
	origin, _, seq, err := l.Origin(ctx, a, "o1")
	add(err, origin, seq)
	newest, err := l.Last(ctx)
	add(err, newest)
}
