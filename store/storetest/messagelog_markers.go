package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// testMarkers: they only move forward, each kind by itself, and not beyond what was said, also over a restart (P21).
func testMarkers(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	in := direct(t, l, alice(), bob())
	early := mustAppend(t, l, noon(), marker(in, 1, store.MarkRead, 1))[0]
	require.True(t, early.Stale, "nothing was said yet that could be read")
	require.Zero(t, early.ID)
	var last store.MessageID
	for range 9 {
		last = mustAppend(t, l, noon(), said(in, bob(), "x", counts))[0].ID
	}
	for i, test := range []struct {
		kind    store.MarkerKind
		through uint64
		stale   bool
		own     store.ReadMarkers
		peer    store.ReadMarkers // as bob sees them
	}{
		{store.MarkDelivered, 3, false, store.ReadMarkers{Delivered: 3}, store.ReadMarkers{Delivered: 3}},
		{store.MarkDelivered, 3, true, store.ReadMarkers{Delivered: 3}, store.ReadMarkers{Delivered: 3}},
		{store.MarkRead, 2, false, store.ReadMarkers{Delivered: 3, Read: 2}, store.ReadMarkers{Delivered: 3, Read: 2}},
		{store.MarkRead, 0, true, store.ReadMarkers{Delivered: 3, Read: 2}, store.ReadMarkers{Delivered: 3, Read: 2}},
		{store.MarkReadPrivate, 5, false, store.ReadMarkers{Delivered: 5, Read: 5},
			store.ReadMarkers{Delivered: 3, Read: 2}},
		{store.MarkReadPrivate, 4, true, store.ReadMarkers{Delivered: 5, Read: 5},
			store.ReadMarkers{Delivered: 3, Read: 2}},
		{store.MarkRead, 4, false, store.ReadMarkers{Delivered: 5, Read: 5}, store.ReadMarkers{Delivered: 4, Read: 4}},
		{store.MarkDelivered, 4, false, store.ReadMarkers{Delivered: 5, Read: 5},
			store.ReadMarkers{Delivered: 4, Read: 4}},
		{store.MarkRead, 99, false, store.ReadMarkers{Delivered: 9, Read: 9}, store.ReadMarkers{Delivered: 9, Read: 9}},
		{store.MarkRead, 9, true, store.ReadMarkers{Delivered: 9, Read: 9}, store.ReadMarkers{Delivered: 9, Read: 9}},
	} {
		a := mustAppend(t, l, noon(), marker(in, 1, test.kind, test.through))[0]
		require.Equal(t, test.stale, a.Stale, "step %d", i)
		require.Zero(t, a.Seq)
		require.Equal(t, test.through, a.Marker.Through, "what the caller has is left alone")
		if test.stale {
			require.Zero(t, a.ID)
		} else {
			require.Greater(t, a.ID, last)
			last = a.ID
		}
		for _, reopened := range []bool{false, true} {
			if reopened {
				require.NoError(t, l.Close())
				l = logs.Open(t, folder)
			}
			newest, err := l.Last(ctx)
			require.NoError(t, err)
			require.Equal(t, last, newest)
			c := viewOf(t, l, 1, in)
			require.Equal(t, test.own, c.Own, "step %d", i)
			require.Zero(t, c.Peer)
			require.Equal(t, uint64(9), c.LastSeq, "a marker is no message")
			require.Less(t, c.Last, last)
			require.Equal(t, test.peer, viewOf(t, l, 2, in).Peer, "step %d", i)
			o, err := l.ConversationByID(ctx, in)
			require.NoError(t, err)
			require.Equal(t, uint64(9), o.Last, "a marker has no number")
		}
	}
	all, more, err := l.Markers(ctx, in, 0, 10)
	require.NoError(t, err)
	require.False(t, more)
	for i := range all {
		require.NotZero(t, all[i].ID)
		all[i].ID = 0
	}
	require.Equal(t, []store.Marker{
		{
			Account: 1,
			Kind:    store.MarkDelivered,
			Through: 4,
		},
		{Account: 1, Kind: store.MarkRead, Through: 9},
		{Account: 1, Kind: store.MarkReadPrivate, Through: 5},
	}, all)
	_, err = l.Message(ctx, last)
	require.ErrorIs(t, err, store.ErrNotFound)
	in1, err := l.InHistory(ctx, 1, last)
	require.NoError(t, err)
	require.False(t, in1)
	require.NoError(t, l.Close())
}

// testMarkersInBatch: later entries see earlier ones, and those of one marker are merged.
func testMarkersInBatch(t *testing.T, logs Logs) {
	l := open(t, logs)
	in := direct(t, l, alice(), bob())
	batch := mustAppend(t, l, noon(),
		marker(in, 1, store.MarkRead, 1),      // 0: too early
		said(in, bob(), "1", counts),          // 1
		marker(in, 1, store.MarkRead, 5),      // 2: through 1
		marker(in, 1, store.MarkDelivered, 1), // 3
		said(in, bob(), "2", counts),          // 4
		marker(in, 1, store.MarkRead, 1),      // 5: stale
		marker(in, 1, store.MarkRead, 2),      // 6
		marker(in, 2, store.MarkRead, 1),      // 7
		said(in, bob(), "3", counts),          // 8
		marker(in, 1, store.MarkRead, 3),      // 9
		said(in, bob(), "4", counts))          // 10
	for i, a := range batch {
		require.Equal(t, i == 0 || i == 5, a.Stale, "%d", i)
		require.Equal(t, i == 2 || i == 6, a.Merged, "%d", i)
		if a.Merged {
			require.Equal(t, batch[9].ID, a.ID)
		}
	}
	require.Equal(t, uint64(4), batch[10].Seq)
	require.Less(t, batch[8].ID, batch[9].ID)
	require.Less(t, batch[9].ID, batch[10].ID)
	found, err := l.Since(context.Background(), 0, 20)
	require.NoError(t, err)
	require.Equal(t, []store.MessageID{
		batch[1].ID, batch[3].ID, batch[4].ID, batch[7].ID, batch[8].ID, batch[9].ID, batch[10].ID,
	}, ids(found))
	require.Equal(t, &store.Marker{Account: 1, Kind: store.MarkRead, Through: 3, ID: batch[9].ID}, found[5].Marker)
	require.Equal(
		t, store.Message{ID: batch[9].ID, Conversation: in, Author: alice(), Marker: found[5].Marker}, found[5],
	)
	require.Equal(t, store.ReadMarkers{Delivered: 3, Read: 3}, viewOf(t, l, 1, in).Own)
	require.Equal(t, 1, viewOf(t, l, 1, in).Unread)
}

// testMarkersReplaced: a marker is at the identity of its last change and nowhere else, and any former one is a
// position.
func testMarkersReplaced(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	in, other := direct(t, l, alice(), bob()), direct(t, l, alice(), carol())
	var messages, moved []store.MessageID
	for i := 1; i <= 8; i++ {
		messages = append(messages, mustAppend(t, l, noon(), said(in, bob(), fmt.Sprint(i), counts))[0].ID)
		if i%2 == 0 {
			moved = append(moved, mustAppend(t, l, noon(), marker(in, 1, store.MarkRead, uint64(i-1)))[0].ID)
		}
		mustAppend(t, l, noon(), said(other, carol(), "noise", stored))
	}
	current := moved[3]
	check := func(owner store.AccountID) {
		t.Helper()
		want := append(append([]store.MessageID{}, messages...), current)
		for _, backward := range []bool{false, true} {
			found, _, err := l.History(
				ctx, store.HistoryQuery{Owner: owner, Conversation: in, Limit: 20, Markers: true, Backward: backward},
			)
			require.NoError(t, err)
			require.Equal(t, want, ids(found))
			found, _, err = l.History(
				ctx, store.HistoryQuery{Owner: owner, Conversation: in, Limit: 20, Backward: backward},
			)
			require.NoError(t, err)
			require.Equal(t, messages, ids(found))
		}
		for i, at := range moved {
			after := messages[2*i+2:]
			if i == len(moved)-1 {
				after = []store.MessageID{}
			} else {
				after = append(append([]store.MessageID{}, after...), current)
			}
			found, _, err := l.History(
				ctx, store.HistoryQuery{Owner: owner, Conversation: in, After: at, Limit: 20, Markers: true},
			)
			require.NoError(t, err)
			require.Equal(t, after, ids(found), "%d", i)
			found, more, err := l.History(
				ctx,
				store.HistoryQuery{Owner: owner, Conversation: in, Before: at, Limit: 2, Markers: true, Backward: true},
			)
			require.NoError(t, err)
			require.Equal(t, messages[2*i:2*i+2], ids(found))
			require.Equal(t, i > 0, more)
		}
		pages := []store.MessageID{}
		q := store.HistoryQuery{Owner: owner, Conversation: in, Limit: 2, Markers: true}
		for more := true; more; {
			var found []store.Message
			var err error
			found, more, err = l.History(ctx, q)
			require.NoError(t, err)
			pages = append(pages, ids(found)...)
			q.After = found[len(found)-1].ID
		}
		require.Equal(t, want, pages)
	}
	for range 2 {
		check(1)
		check(2)
		found, err := l.Since(ctx, messages[7], 20)
		require.NoError(t, err)
		require.Equal(t, current, found[0].ID)
		require.Equal(t, uint64(7), found[0].Marker.Through)
		found, err = l.Since(ctx, moved[0], 2)
		require.NoError(t, err)
		require.Len(t, found, 2)
		require.Nil(t, found[0].Marker)
		all, err := l.Since(ctx, 0, 100)
		require.NoError(t, err)
		require.Len(t, all, 17)
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
	}
	// It moves on, and who has seen it before sees it once more.
	current = mustAppend(t, l, noon(), marker(in, 1, store.MarkRead, 8))[0].ID
	check2, _, err := l.History(ctx, store.HistoryQuery{Owner: 2, After: moved[3], Limit: 20, Markers: true})
	require.NoError(t, err)
	require.Equal(t, []store.MessageID{current}, ids(check2))
	require.NoError(t, l.Close())
}

// testMarkersPrivate: who does not tell others is synced all the same.
func testMarkersPrivate(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	in := direct(t, l, alice(), bob())
	id := mustAppend(t, l, noon(), said(in, bob(), "1", counts), marker(in, 1, store.MarkReadPrivate, 1))[1].ID
	for range 2 {
		for owner, want := range map[store.AccountID]int{1: 2, 2: 1} {
			for _, q := range []store.HistoryQuery{{Owner: owner, Conversation: in}, {Owner: owner},
				{Owner: owner, Backward: true}} {
				q.Markers, q.Limit = true, 10
				found, _, err := l.History(ctx, q)
				require.NoError(t, err)
				require.Len(t, found, want)
			}
		}
		found, err := l.Undelivered(ctx, 2, 0, 10)
		require.NoError(t, err)
		require.Empty(t, found)
		found, err = l.Since(ctx, 0, 10)
		require.NoError(t, err)
		require.Len(t, found, 2, "the feed's source has all of them")
		behind, err := l.Behind(
			ctx,
			[]store.Reached{{Account: 1, Through: id - 1}, {Account: 2, Through: id - 1}, {Account: 1, Through: id}},
		)
		require.NoError(t, err)
		require.Equal(t, []store.AccountID{1}, behind)
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
	}
	require.NoError(t, l.Close())
}

// testMarkersOfOthers: those of the other party are undelivered until they are reported; the owner's never are. A
// foreign party has markers too.
func testMarkersOfOthers(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	ab, ar, note := direct(t, l, alice(), bob()), direct(t, l, alice(), romeo()), direct(t, l, alice(), alice())
	mustAppend(
		t, l, noon(), said(ab, alice(), "1", counts), said(ar, alice(), "1", counts), said(note, alice(), "1", inBoth),
	)
	batch := mustAppend(
		t, l, noon(), marker(ab, 2, store.MarkDelivered, 1), marker(ar, 0, store.MarkRead, 1),
		marker(note, 1, store.MarkRead, 1), marker(ab, 1, store.MarkRead, 1), marker(ab, 2, store.MarkRead, 1),
	)
	undelivered := func(want ...int) {
		t.Helper()
		found, err := l.Undelivered(ctx, 1, 0, 10)
		require.NoError(t, err)
		expected := []store.MessageID{}
		for _, i := range want {
			expected = append(expected, batch[i].ID)
		}
		require.Equal(t, expected, ids(found))
	}
	undelivered(0, 1, 4)
	require.Equal(t, store.ReadMarkers{Delivered: 1, Read: 1}, viewOf(t, l, 1, ar).Peer)
	require.Equal(t, store.ReadMarkers{Delivered: 1, Read: 1}, viewOf(t, l, 1, note).Own)
	require.Equal(t, viewOf(t, l, 1, note).Own, viewOf(t, l, 1, note).Peer)
	require.NoError(t, l.Deliver(ctx, []store.Delivered{{Account: 1, IDs: []store.MessageID{batch[1].ID}}}))
	undelivered(0, 4)
	mustAppend(t, l, noon(), said(ab, bob(), "2", inBoth))
	batch[0] = mustAppend(t, l, noon(), marker(ab, 2, store.MarkDelivered, 2))[0]
	require.NoError(t, l.Close())
	l = logs.Open(t, folder)
	undelivered(4, 0)
	require.NoError(t, l.Deliver(ctx, []store.Delivered{{Account: 1, IDs: []store.MessageID{batch[0].ID}}}))
	undelivered(4)
	cursor, err := l.Cursor(ctx, 1)
	require.NoError(t, err)
	require.Equal(
		t, store.DeliveryCursor{Account: 1, Through: batch[0].ID, Missed: []store.MessageID{batch[4].ID}}, cursor,
		"one that was replaced is missed no more",
	)
	found, _, err := l.History(ctx, store.HistoryQuery{Owner: 1, Conversation: ar, Markers: true, Limit: 10})
	require.NoError(t, err)
	require.Equal(t, romeo(), found[1].Author)
	require.NoError(t, l.Close())
}

// testMarkersTold: it is known through which number the other party was told of a receipt.
func testMarkersTold(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	in := direct(t, l, alice(), bob())
	mustAppend(
		t, l, noon(), said(in, alice(), "1", counts), said(in, alice(), "2", counts), said(in, alice(), "3", counts),
	)
	report := func(account store.AccountID, id store.MessageID) {
		t.Helper()
		require.NoError(t, l.Deliver(ctx, []store.Delivered{{Account: account, IDs: []store.MessageID{id}}}))
	}
	told := func(want uint64) {
		t.Helper()
		all, _, err := l.Markers(ctx, in, 2, 1)
		require.NoError(t, err)
		require.Equal(t, want, all[0].Told)
		found, _, err := l.History(
			ctx, store.HistoryQuery{Owner: 1, Conversation: in, Markers: true, Backward: true, Limit: 1},
		)
		require.NoError(t, err)
		require.Equal(t, want, found[0].Marker.Told)
	}
	first := mustAppend(t, l, noon(), marker(in, 2, store.MarkDelivered, 1))[0].ID
	told(0)
	report(2, first) // it is his own
	told(0)
	report(1, first)
	told(1)
	second := mustAppend(t, l, noon(), marker(in, 2, store.MarkDelivered, 2))[0].ID
	told(1)
	report(1, first)
	told(1)
	report(1, second)
	told(2)
	mustAppend(t, l, noon(), marker(in, 2, store.MarkDelivered, 3))
	require.NoError(t, l.Close())
	l = logs.Open(t, folder)
	told(2)
	require.NoError(t, l.Close())
}

// testMarkersOfMessages: a message moves markers together with itself, at lower identities, or not at all.
func testMarkersOfMessages(t *testing.T, logs Logs) {
	l := open(t, logs)
	in, other := direct(t, l, alice(), bob()), direct(t, l, alice(), carol())
	mustAppend(t, l, noon(), said(in, alice(), "1", counts), said(in, alice(), "2", counts))
	with := func(a *store.Append, through uint64) *store.Append {
		a.Markers = []*store.Append{marker(in, 2, store.MarkDelivered, through), marker(in, 2, store.MarkRead, through)}
		return a
	}
	peer := func() store.ReadMarkers { return viewOf(t, l, 1, in).Peer }
	first := mustAppend(t, l, noon(), with(withOrigin(said(in, bob(), "3", counts), "o"), 1))[0]
	require.Less(t, first.Markers[0].ID, first.Markers[1].ID)
	require.Less(t, first.Markers[1].ID, first.ID)
	require.EqualValues(t, 3, first.Seq)
	require.Equal(t, store.ReadMarkers{Delivered: 1, Read: 1}, peer())

	refused := func(a *store.Append) {
		t.Helper()
		before, err := l.Last(context.Background())
		require.NoError(t, err)
		mustAppend(t, l, noon(), with(a, 2))
		for _, change := range a.Markers {
			require.True(t, change.Stale)
			require.Zero(t, change.ID)
		}
		require.Equal(t, store.ReadMarkers{Delivered: 1, Read: 1}, peer())
		after, err := l.Last(context.Background())
		require.NoError(t, err)
		require.Equal(t, before, after)
	}
	overtaken, again, conflict := said(in, bob(), "x", counts), withOrigin(said(in, bob(), "3", counts), "o"),
		withOrigin(said(in, bob(), "4", counts), "o")
	overtaken.Basis, conflict.ContentHash = 1, [16]byte{1}
	refused(overtaken)
	require.True(t, overtaken.Overtaken)
	refused(again)
	require.True(t, again.Duplicate)
	refused(conflict)
	require.True(t, conflict.Conflict)

	// What was refused can be appended again; what moves nothing does not hold the message up.
	overtaken.Basis = 3
	mustAppend(t, l, noon(), overtaken)
	require.False(t, overtaken.Markers[0].Stale || overtaken.Markers[1].Stale)
	require.Equal(t, store.ReadMarkers{Delivered: 2, Read: 2}, peer())
	stale := mustAppend(t, l, noon(), with(said(in, bob(), "5", counts), 2))[0]
	require.True(t, stale.Markers[0].Stale && stale.Markers[1].Stale)
	require.EqualValues(t, 5, stale.Seq)
	elsewhere := with(said(other, carol(), "x", counts), 1)
	require.ErrorIs(t, l.Append(context.Background(), &store.Batch{Now: noon(), Entries: []*store.Append{elsewhere}}),
		store.ErrNotFound)
}

// testMarkersOfRooms: each member has its own, and sees those of others that name what it may read.
func testMarkersOfRooms(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	in := roomOf(t, l, "hall", alice(), bob())
	mustAppend(
		t,
		l,
		noon(),
		said(in, alice(), "1", store.Unread),
		said(in, bob(), "2", store.Unread),
		joining(
			in, "3", store.Member{Account: 3, Role: store.RoleMember, Access: []store.Interval{{From: store.ThisSeq}}},
		),
		said(in, alice(), "4", store.Unread),
	)
	batch := mustAppend(
		t, l, noon(), marker(in, 1, store.MarkRead, 2), marker(in, 2, store.MarkRead, 4),
		marker(in, 3, store.MarkRead, 4), marker(in, 3, store.MarkReadPrivate, 3),
		marker(in, 3, store.MarkDelivered, 4),
	)
	for range 2 {
		for owner, want := range map[store.AccountID][]int{1: {0, 1, 2, 4}, 2: {0, 1, 2, 4}, 3: {1, 2, 3, 4}, 4: nil} {
			expected := []store.MessageID{}
			for _, i := range want {
				expected = append(expected, batch[i].ID)
			}
			for _, conversation := range []store.ConversationID{in, 0} {
				found, _, err := l.History(ctx, store.HistoryQuery{
					Owner: owner, Conversation: conversation, After: batch[0].ID - 1, Markers: true, Limit: 10,
				})
				require.NoError(t, err)
				require.Equal(t, expected, ids(found), "%d", owner)
			}
			found, err := l.Undelivered(ctx, owner, 0, 10)
			require.NoError(t, err)
			require.Empty(t, found)
		}
		require.Equal(t, store.ReadMarkers{Delivered: 4, Read: 4}, viewOf(t, l, 2, in).Own)
		require.Zero(t, viewOf(t, l, 2, in).Peer)
		all, more, err := l.Markers(ctx, in, 2, 1)
		require.NoError(t, err)
		require.True(t, more)
		require.Equal(t, []store.Marker{{Account: 2, Kind: store.MarkRead, Through: 4, ID: batch[1].ID}}, all)
		all, more, err = l.Markers(ctx, in, 3, 1)
		require.NoError(t, err)
		require.False(t, more)
		require.Len(t, all, 3)
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
	}
	require.NoError(t, l.Close())
}
