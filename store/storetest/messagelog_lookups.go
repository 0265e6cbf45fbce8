package storetest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// testNamed: an id that a device gave is found in its author's messages of the conversation, the newest first, and the
// one that was made to be unique before any other.
func testNamed(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	in, other, room := direct(
		t, l, alice(), bob(),
	), direct(
		t, l, alice(), carol(),
	), roomOf(
		t, l, "hall", alice(), bob(),
	)
	named := func(in store.ConversationID, author store.Party, stanza, origin string) *store.Append {
		a := withOrigin(said(in, author, "x", stored), origin)
		a.StanzaID = stanza
		return a
	}
	batch := mustAppend(t, l, noon(),
		named(in, alice(), "same", ""), named(in, alice(), "same", "o1"), // 0, 1
		named(in, bob(), "same", "o1"), named(in, alice(), "o1", ""), // 2, 3
		named(in, alice(), "equal", "equal"), named(other, alice(), "same", ""), // 4, 5
		named(other, alice(), "", "elsewhere"), named(in, alice(), "elsewhere", ""), // 6, 7
		named(room, romeo(), "r", ""), named(room, juliet(), "r", ""), named(room, alice(), "r", ""), // 8, 9, 10
		named(in, alice(), "same", ""), named(in, alice(), "", "")) // 11, 12
	check := func(in store.ConversationID, author store.Party, name string, want int) {
		t.Helper()
		seq, id, err := l.Named(ctx, in, author, name)
		if want < 0 {
			require.ErrorIs(t, err, store.ErrNotFound)
			return
		}
		require.NoError(t, err)
		require.Equal(t, batch[want].Seq, seq)
		require.Equal(t, batch[want].ID, id)
	}
	for range 2 {
		check(in, alice(), "same", 11)
		check(in, bob(), "same", 2)
		check(in, alice(), "o1", 1)
		check(in, bob(), "o1", 2)
		check(in, alice(), "equal", 4)
		check(other, alice(), "same", 5)
		check(in, alice(), "elsewhere", 7)
		check(other, alice(), "elsewhere", 6)
		check(room, romeo(), "r", 8)
		check(room, juliet(), "r", 9)
		check(room, alice(), "r", 10)
		check(room, bob(), "r", -1)
		check(in, alice(), "unknown", -1)
		check(in, alice(), "", -1)
		check(in, newAlice(), "same", -1)
		undo := said(in, alice(), "retract", inBoth)
		undo.Retract, undo.Remains = batch[11].ID, []byte("<gone/>")
		mustAppend(t, l, noon(), undo)
		check(in, alice(), "same", 11)
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
	}
	require.NoError(t, l.Close())
}

// testBehind: there is something for an account when its history, or what is undelivered, goes on.
func testBehind(t *testing.T, logs Logs) {
	l := open(t, logs)
	room := roomOf(t, l, "hall", alice())
	batch := mustAppend(
		t,
		l,
		noon(),
		message(
			t, l, alice(), bob(), "1", inBoth,
		),
		message(t, l, alice(), carol(), "2", offline),
		message(t, l, alice(), bob(), "3", forsaken),
		said(room, romeo(), "4", 0),
		marker(direct(t, l, alice(), bob()), 2, store.MarkRead, 1),
	)
	for owner, last := range map[store.AccountID]int{1: 4, 2: 4, 3: 1} {
		for i, a := range batch {
			behind, err := l.Behind(
				context.Background(), []store.Reached{{Account: 9}, {Account: owner, Through: a.ID}},
			)
			require.NoError(t, err)
			require.Equal(t, i < last, len(behind) == 1, "%d after %d", owner, i)
		}
	}
	behind, err := l.Behind(context.Background(), []store.Reached{{Account: 3}, {Account: 2}, {Account: 1}})
	require.NoError(t, err)
	require.Equal(t, []store.AccountID{3, 2, 1}, behind)
}

// testEpochs: a position is held with the epoch in which it was given out.
func testEpochs(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	in := direct(t, l, alice(), bob())
	type position struct {
		id    store.MessageID
		epoch uint64
	}
	known := []position{{}}
	for round := range 4 {
		if round != 2 { // nothing is given out in one of them
			mustAppend(t, l, noon(), said(in, alice(), "x", stored))
			last := mustAppend(t, l, noon(), marker(in, 2, store.MarkRead, 99))[0].ID
			mustAppend(t, l, noon(), said(in, alice(), "x", stored), marker(in, 2, store.MarkRead, 99)) // replaced
			epoch, err := l.Epoch(ctx, last)
			require.NoError(t, err)
			require.NotZero(t, epoch)
			require.NotEqual(t, known[len(known)-1].epoch, epoch)
			known = append(known, position{last, epoch})
		}
		for _, p := range known {
			epoch, err := l.Epoch(ctx, p.id)
			require.NoError(t, err)
			require.Equal(t, p.epoch, epoch)
			held, err := l.Holds(ctx, p.id, p.epoch)
			require.NoError(t, err)
			require.True(t, held)
			held, err = l.Holds(ctx, p.id, p.epoch+1)
			require.NoError(t, err)
			require.Equal(t, p.id == 0, held)
		}
		last, err := l.Last(ctx)
		require.NoError(t, err)
		_, err = l.Epoch(ctx, last+1)
		require.ErrorIs(t, err, store.ErrNotFound)
		held, err := l.Holds(ctx, last+1, known[len(known)-1].epoch)
		require.NoError(t, err)
		require.False(t, held)
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
	}
	require.NoError(t, l.Close())
}
