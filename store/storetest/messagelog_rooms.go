package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// testEmptyRoom: a room may have no members and no messages, and messages without members.
func testEmptyRoom(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	empty, lonely := roomOf(t, l, "empty"), roomOf(t, l, "lonely", alice())
	check := func() {
		t.Helper()
		for in, want := range map[store.ConversationID]int{empty: 0, lonely: 1} {
			members, more, err := l.Members(ctx, in, 0, 10)
			require.NoError(t, err)
			require.False(t, more)
			require.Len(t, members, want)
		}
		_, err := l.Member(ctx, empty, 1)
		require.ErrorIs(t, err, store.ErrNotFound)
		_, err = l.ConversationOf(ctx, 1, empty)
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	check()
	listed, _, err := l.Conversations(ctx, 1, 0, 10)
	require.NoError(t, err)
	require.Empty(t, listed)
	member := store.Member{Account: 1, Role: store.RoleMember, Access: []store.Interval{{From: 1}}}
	require.Equal(
		t, store.Conversation{ID: lonely, Kind: store.Room, Room: roomKey("lonely").Room, Member: member},
		viewOf(t, l, 1, lonely),
	)
	// The server may say something there, and people from elsewhere.
	batch := mustAppend(
		t, l, noon(), said(empty, romeo(), "hello", store.Unread), said(lonely, romeo(), "hello", store.Unread),
		said(empty, store.Party{}, "by nobody", store.Unread),
	)
	require.Equal(t, uint64(2), batch[2].Seq)
	require.NoError(t, l.Close())
	l = logs.Open(t, folder)
	check()
	all, err := l.Numbered(ctx, empty, 1, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"hello", "by nobody"}, texts(all))
	found, _, err := l.History(ctx, store.HistoryQuery{Owner: 1, Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []store.MessageID{batch[1].ID}, ids(found))
	found, err = l.Undelivered(ctx, 1, 0, 10)
	require.NoError(t, err)
	require.Empty(t, found, "offline messages are of direct conversations")
	_, _, err = l.Bounds(ctx, 1)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, l.Close())
}

// testLargeRoom: what is said once is seen by all 500, and by nobody else.
func testLargeRoom(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	var members []store.Member
	for i := range 500 {
		role := store.RoleMember
		if i == 0 {
			role = store.RoleOwner
		}
		members = append(
			members,
			store.Member{Account: store.AccountID(1000 + 3*i), Role: role, Access: []store.Interval{{From: 1}}},
		)
	}
	o, err := l.OpenConversation(ctx, noon(), roomKey("plaza"), members)
	require.NoError(t, err)
	author := party("m7@example.org", members[7].Account)
	batch := mustAppend(
		t, l, noon(), said(o.ID, author, "1", store.Unread), said(o.ID, romeo(), "2", store.Unread),
		said(o.ID, author, "3", 0),
	)
	for range 2 {
		var got []store.Member
		after := store.AccountID(0)
		for more := true; more; {
			var page []store.Member
			page, more, err = l.Members(ctx, o.ID, after, 77)
			require.NoError(t, err)
			got = append(got, page...)
			after = page[len(page)-1].Account
		}
		require.Equal(t, members, got)
		for i, member := range members {
			if i%50 > 1 && i != 7 {
				continue
			}
			found, more, err := l.History(ctx, store.HistoryQuery{Owner: member.Account, Limit: 3})
			require.NoError(t, err)
			require.False(t, more)
			require.Equal(t, []string{"1", "2", "3"}, texts(found))
			listed, _, err := l.Conversations(ctx, member.Account, 0, 10)
			require.NoError(t, err)
			require.Len(t, listed, 1)
			require.Equal(t, batch[2].ID, listed[0].Last)
			require.Equal(t, uint64(3), listed[0].LastSeq)
			want := 2
			if i == 7 {
				want = 1
			}
			require.Equal(t, want, listed[0].Unread)
			require.Equal(t, member, listed[0].Member)
			in, err := l.InHistory(ctx, member.Account, batch[1].ID)
			require.NoError(t, err)
			require.True(t, in)
		}
		for _, outsider := range []store.AccountID{1, 1001} {
			found, _, err := l.History(ctx, store.HistoryQuery{Owner: outsider, Conversation: o.ID, Limit: 3})
			require.NoError(t, err)
			require.Empty(t, found)
			in, err := l.InHistory(ctx, outsider, batch[1].ID)
			require.NoError(t, err)
			require.False(t, in)
		}
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
	}
	require.NoError(t, l.Close())
}

// joining makes an entry that changes a member.
func joining(in store.ConversationID, text string, member store.Member) *store.Append {
	a := said(in, alice(), text, 0)
	a.Members = []store.Member{member}
	return a
}

// testRoomAccess: a member sees what lies in its intervals, wherever one asks, also after it has left.
func testRoomAccess(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	in := roomOf(t, l, "hall", alice())
	var all []store.MessageID
	say := func(a *store.Append) {
		t.Helper()
		all = append(all, mustAppend(t, l, noon().Add(time.Duration(len(all))*time.Second), a)[0].ID)
	}
	for range 3 {
		say(said(in, alice(), "x", store.Unread))
	}
	say(
		joining(
			in, "x", store.Member{Account: 2, Role: store.RoleMember, Access: []store.Interval{{From: store.ThisSeq}}},
		),
	) // 4
	say(said(in, alice(), "x", store.Unread))
	say(
		said(in, alice(), "x", store.Unread),
	) // 6
	say(
		joining(
			in, "x",
			store.Member{Account: 2, Role: store.RoleNone, Access: []store.Interval{{From: 4, Through: store.ThisSeq}}},
		),
	) // 7
	for range 40 {
		say(said(in, alice(), "x", store.Unread))
	}
	mustAppend(t, l, noon(), message(t, l, carol(), bob(), "between", inBoth))
	left := viewOf(t, l, 2, in)
	require.Equal(t, all[6], left.Last)
	require.Equal(t, uint64(7), left.LastSeq)
	require.Equal(t, 2, left.Unread)
	say(
		joining(
			in,
			"x",
			store.Member{
				Account: 2,
				Role:    store.RoleAdmin,
				Access:  []store.Interval{{From: 4, Through: 7}, {From: store.ThisSeq}},
			},
		),
	) // 48
	say(said(in, alice(), "x", store.Unread))
	want := append(append([]store.MessageID{}, all[3:7]...), all[47:]...)
	for range 2 {
		for _, conversation := range []store.ConversationID{in, 0} {
			for _, backward := range []bool{false, true} {
				for size := 1; size < 8; size++ {
					q := store.HistoryQuery{
						Owner:        2,
						Conversation: conversation,
						Kind:         store.Room,
						Limit:        size,
						Backward:     backward,
					}
					require.Equal(t, want, ids(paged(t, l, q, nil)))
				}
			}
		}
		for i, id := range all {
			seen, err := l.InHistory(ctx, 2, id)
			require.NoError(t, err)
			require.Equal(t, i >= 3 && i < 7 || i >= 47, seen, "%d", i+1)
		}
		c := viewOf(t, l, 2, in)
		require.Equal(t, all[48], c.Last)
		require.Equal(t, store.Member{
			Account: 2, Role: store.RoleAdmin, Access: []store.Interval{{From: 4, Through: 7}, {From: 48}},
		}, c.Member)
		require.Equal(t, 3, c.Unread, "what lies between does not count")
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
	}
	require.NoError(t, l.Close())
}

// testRoomRights: who was judged by rights that have changed since is overtaken; nothing else is.
func testRoomRights(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	in := roomOf(t, l, "hall", alice(), bob())
	judged := func(basis uint64) *store.Append {
		a := said(in, bob(), "judged", store.Unread)
		a.RightsBasis, a.Judged = basis, true
		return a
	}
	rights := func() uint64 {
		t.Helper()
		o, err := l.ConversationByID(ctx, in)
		require.NoError(t, err)
		return o.Rights
	}
	mustAppend(t, l, noon(), judged(0), said(in, alice(), "2", store.Unread), judged(0))
	require.Zero(t, rights())
	outcast := store.Member{
		Account: 2,
		Role:    store.RoleOutcast,
		Access:  []store.Interval{{From: 1, Through: store.ThisSeq}},
	}
	batch := mustAppend(
		t, l, noon(), judged(0), joining(in, "5", outcast), judged(0), said(in, bob(), "not judged", 0), judged(5),
	)
	require.Equal(t, []bool{false, false, true, false, false}, []bool{
		batch[0].Overtaken, batch[1].Overtaken, batch[2].Overtaken, batch[3].Overtaken, batch[4].Overtaken,
	})
	require.Equal(
		t, []uint64{4, 5, 0, 6, 7}, []uint64{batch[0].Seq, batch[1].Seq, batch[2].Seq, batch[3].Seq, batch[4].Seq},
	)
	require.Zero(t, batch[2].ID)
	require.Equal(t, store.Rights, batch[1].Flags, "it is set by the store")
	require.Equal(t, uint64(5), rights())
	for range 2 {
		require.Equal(t, uint64(5), rights())
		member, err := l.Member(ctx, in, 2)
		require.NoError(t, err)
		require.Equal(
			t, store.Member{Account: 2, Role: store.RoleOutcast, Access: []store.Interval{{From: 1, Through: 5}}},
			member,
		)
		again := judged(4)
		mustAppend(t, l, noon(), again)
		require.True(t, again.Overtaken)
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
	}
	// A change of what the room allows is one too. Whoever sends the entry that was overtaken again gets a new answer.
	mustAppend(t, l, noon(), said(in, alice(), "settings", store.Rights))
	require.Equal(t, uint64(8), rights())
	entry := judged(5)
	mustAppend(t, l, noon(), entry)
	require.True(t, entry.Overtaken)
	entry.RightsBasis = 8
	mustAppend(t, l, noon(), entry)
	require.False(t, entry.Overtaken)
	require.Equal(t, uint64(9), entry.Seq)
	// A repetition is found before rights are looked at.
	first := withOrigin(judged(8), "o1")
	mustAppend(t, l, noon(), first, joining(in, "11", outcast))
	again := withOrigin(judged(8), "o1")
	mustAppend(t, l, noon(), again)
	require.True(t, again.Duplicate)
	require.False(t, again.Overtaken)
	require.Equal(t, first.ID, again.ID)
	require.NoError(t, l.Close())
}

// testRoomUnread: what others have said counts, after the marker and after what the member has said, and within its
// access.
func testRoomUnread(t *testing.T, logs Logs) {
	l := open(t, logs)
	in := roomOf(t, l, "hall", alice(), bob())
	check := func(a, b int) {
		t.Helper()
		require.Equal(t, [2]int{a, b}, [2]int{viewOf(t, l, 1, in).Unread, viewOf(t, l, 2, in).Unread})
	}
	batch := mustAppend(
		t, l, noon(), said(in, alice(), "1", store.Unread), said(in, romeo(), "2", store.Unread),
		said(in, bob(), "3", 0), said(in, romeo(), "4", store.Unread),
		said(in, store.Party{Account: 77}, "5", store.Unread),
	)
	check(3, 4)
	mustAppend(t, l, noon(), marker(in, 2, store.MarkReadPrivate, 2))
	check(3, 3-1)
	mustAppend(t, l, noon(), said(in, bob(), "6", store.Unread))
	check(4, 0)
	undo := said(in, romeo(), "7", 0)
	undo.Retract, undo.Remains = batch[3].ID, []byte("<gone/>")
	mustAppend(t, l, noon(), undo)
	check(3, 0)
	mustAppend(t, l, noon(), marker(in, 1, store.MarkRead, 5))
	check(1, 0)
}
