package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// testOpenConversation: a key has one conversation, however its parties are given, and over a restart.
func testOpenConversation(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	keys := []store.ConversationKey{
		store.DirectKey(alice(), bob()), store.DirectKey(alice(), alice()), store.DirectKey(newAlice(), bob()),
		store.DirectKey(alice(), romeo()), store.DirectKey(juliet(), alice()), store.DirectKey(romeo(), juliet()),
		roomKey("hall"), store.RoomKey(roomKey("hall").Room, 2), roomKey("yard"),
	}
	for _, key := range keys {
		_, err := l.FindConversation(ctx, key)
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	made := map[store.ConversationID]store.ConversationKey{}
	for _, key := range keys {
		o, err := l.OpenConversation(ctx, noon(), key, nil)
		require.NoError(t, err)
		require.Equal(t, store.Opened{ID: o.ID, Key: key}, o)
		require.NotZero(t, o.ID)
		made[o.ID] = key
	}
	require.Len(t, made, len(keys))
	for id, key := range made {
		o, err := l.OpenConversation(ctx, noon().Add(time.Hour), key, nil)
		require.NoError(t, err)
		require.Equal(t, id, o.ID)
	}
	swapped, err := l.OpenConversation(
		ctx, noon(), store.DirectKey(store.Party{Account: 2}, store.Party{Account: 1}), nil,
	)
	require.NoError(t, err)
	require.Equal(t, keys[0], swapped.Key, "the addresses are those of the beginning")
	for id, key := range made { // what was appended to is durable, and all before it
		author := key.A
		if key.Kind == store.Room {
			author = alice()
		}
		mustAppend(t, l, noon(), said(id, author, "x", inBoth))
	}
	for range 2 {
		for id, key := range made {
			want := store.Opened{ID: id, Key: key, Last: 1}
			for _, ask := range []func() (store.Opened, error){
				func() (store.Opened, error) { return l.FindConversation(ctx, key) },
				func() (store.Opened, error) { return l.ConversationByID(ctx, id) },
				func() (store.Opened, error) { return l.OpenConversation(ctx, noon(), key, nil) },
			} {
				o, err := ask()
				require.NoError(t, err)
				require.Equal(t, want, o)
			}
		}
		require.NotContains(t, made, direct(t, l, carol(), bob()))
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
	}
	require.NoError(t, l.Close())
}

// testOpenedAndEmpty: a conversation is there from the moment it is opened, whatever is asked; a batch that stores
// nothing leaves it as it is, and it stays with the first entry, whichever that is.
func testOpenedAndEmpty(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	keys := []store.ConversationKey{store.DirectKey(alice(), bob()), store.DirectKey(alice(), romeo()),
		store.DirectKey(alice(), alice()), store.DirectKey(carol(), bob())}
	check := func(in store.ConversationID, key *store.ConversationKey, last uint64) {
		t.Helper()
		for _, ask := range []func() (store.Opened, error){
			func() (store.Opened, error) { return l.FindConversation(ctx, *key) },
			func() (store.Opened, error) { return l.ConversationByID(ctx, in) },
			func() (store.Opened, error) { return l.OpenConversation(ctx, noon(), *key, nil) },
		} {
			o, err := ask()
			require.NoError(t, err)
			require.Equal(t, store.Opened{ID: in, Key: *key, Last: last}, o)
		}
		owner := key.B.Account
		view := viewOf(t, l, owner, in)
		require.Equal(t, last, view.LastSeq)
		members, _, err := l.Members(ctx, in, 0, 10)
		require.NoError(t, err)
		require.NotEmpty(t, members)
		member, err := l.Member(ctx, in, owner)
		require.NoError(t, err)
		require.Equal(t, view.Member, member)
		found, err := l.Numbered(ctx, in, 1, 10)
		require.NoError(t, err)
		require.Len(t, found, int(last))
		found, _, err = l.History(ctx, store.HistoryQuery{Owner: owner, Conversation: in, Limit: 10, Markers: true})
		require.NoError(t, err)
		require.Len(t, found, int(last))
		markers, _, err := l.Markers(ctx, in, 0, 10)
		require.NoError(t, err)
		require.Empty(t, markers)
		_, _, err = l.Named(ctx, in, key.A, "x")
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	in := make([]store.ConversationID, len(keys))
	for i := range keys {
		in[i] = direct(t, l, keys[i].A, keys[i].B)
		check(in[i], &keys[i], 0)
	}
	b := &store.Batch{Now: noon()}
	for i := range keys {
		b.Entries = append(b.Entries, marker(in[i], keys[i].B.Account, store.MarkRead, 7)) // of nothing
	}
	require.NoError(t, l.Append(ctx, b))
	require.Zero(t, b.Number)
	for i := range keys {
		check(in[i], &keys[i], 0)
	}
	b.Entries = append(b.Entries, said(in[0], keys[0].A, "a", stored), said(in[1], keys[1].A, "b", stored),
		said(in[0], carol(), "refused with all others", stored))
	require.ErrorIs(t, l.Append(ctx, b), store.ErrNotFound)
	check(in[0], &keys[0], 0)
	b.Entries = b.Entries[:len(b.Entries)-1]
	require.NoError(t, l.Append(ctx, b))
	mustAppend(t, l, noon(), said(in[2], alice(), "c", stored))
	for range 2 {
		for i := range 3 {
			check(in[i], &keys[i], 1)
		}
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
	}
	require.NotContains(t, in[:3], direct(t, l, carol(), bob()))
	require.NoError(t, l.Close())
}

// testOpenRaces: of many who open a conversation at once, all get the same, and members are those of one of them.
func testOpenRaces(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	const racers = 8
	for round := range 20 {
		keys := []store.ConversationKey{
			store.DirectKey(
				alice(), party("x@example.org", store.AccountID(100+round)),
			),
			roomKey(fmt.Sprint("room", round)),
		}
		var got [racers][2]store.ConversationID
		var all sync.WaitGroup
		for i := range racers {
			all.Go(func() {
				for k := range keys {
					o, err := l.OpenConversation(ctx, noon(), keys[(k+i)%2], []store.Member{
						{Account: store.AccountID(2*i + 1), Role: store.RoleOwner, Access: []store.Interval{{From: 1}}},
						{
							Account: store.AccountID(2*i + 2),
							Role:    store.RoleMember,
							Access:  []store.Interval{{From: 1}},
						},
					})
					if err == nil {
						got[i][(k+i)%2] = o.ID
						err = l.Append(
							ctx, &store.Batch{Now: noon(), Entries: []*store.Append{said(o.ID, alice(), "x", inBoth)}},
						)
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		for i := range got {
			require.Equal(t, got[0], got[i])
		}
		for _, id := range got[0] {
			o, err := l.ConversationByID(ctx, id)
			require.NoError(t, err)
			require.Equal(t, uint64(racers), o.Last)
		}
		members, _, err := l.Members(ctx, got[0][1], 0, 100)
		require.NoError(t, err)
		require.Len(t, members, 2)
		require.Equal(t, members[0].Account+1, members[1].Account)
	}
}

// testNotOpened: what belongs nowhere is refused with the whole batch, and the log goes on.
func testNotOpened(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	good := message(t, l, alice(), bob(), "good", stored)
	in, room := good.Conversation, roomOf(t, l, "hall", alice())
	withMembers := func(a *store.Append, access ...store.Interval) *store.Append {
		a.Members = []store.Member{{Account: 5, Role: store.RoleMember, Access: access}}
		return a
	}
	many := make([]store.Interval, store.MaxIntervals+1)
	for i := range many {
		many[i] = store.Interval{From: uint64(2*i + 1), Through: uint64(2*i + 1)}
	}
	for name, test := range map[string]struct {
		bad  *store.Append
		want error
	}{
		"no conversation":            {said(0, alice(), "x", stored), store.ErrNotFound},
		"one that nobody has opened": {said(in+12345, alice(), "x", stored), store.ErrNotFound},
		"somebody else's":            {said(in, carol(), "x", stored), store.ErrNotFound},
		"by address only":            {said(in, store.Party{JID: alice().JID}, "x", stored), store.ErrNotFound},
		"marker in none":             {marker(in+12345, 1, store.MarkRead, 1), store.ErrNotFound},
		"marker of somebody else":    {marker(in, 3, store.MarkRead, 1), store.ErrNotFound},
		"marker of a foreign party":  {marker(in, 0, store.MarkRead, 1), store.ErrNotFound},
		"a member without account": {func() *store.Append {
			a := withMembers(said(room, alice(), "x", 0))
			a.Members[0].Account = 0
			return a
		}(), store.ErrNotFound},
		"marker of nobody": {marker(room, 0, store.MarkRead, 1), store.ErrNotFound},
		"members of a direct one": {withMembers(said(in, alice(), "x", stored), store.Interval{From: 1}),
			store.ErrNotFound},
		"too many intervals": {withMembers(said(room, alice(), "x", 0), many...), store.ErrLimit},
		"intervals that fall": {withMembers(said(room, alice(), "x", 0), store.Interval{From: 5, Through: 6},
			store.Interval{From: 6}), store.ErrLimit},
		"an interval that is reversed": {withMembers(said(room, alice(), "x", 0), store.Interval{From: 5, Through: 4}),
			store.ErrLimit},
		"an interval from nothing": {withMembers(said(room, alice(), "x", 0), store.Interval{Through: 4}),
			store.ErrLimit},
	} {
		err := l.Append(ctx, &store.Batch{Now: noon(), Entries: []*store.Append{good, test.bad}})
		require.ErrorIs(t, err, test.want, name)
	}
	_, err := l.OpenConversation(ctx, noon(), roomKey("yard"), []store.Member{{Account: 1, Access: many}})
	require.ErrorIs(t, err, store.ErrLimit)
	all, err := l.Since(ctx, 0, 10)
	require.NoError(t, err)
	require.Empty(t, all)
	require.Equal(t, uint64(1), mustAppend(t, l, noon(), good)[0].Seq, "nothing that was refused has used up a number")
}

// testBatchNumbers: batches are numbered without holes, over restarts too; what stored nothing has no number.
func testBatchNumbers(t *testing.T, logs Logs) {
	folder := t.TempDir()
	l := logs.Open(t, folder)
	in := direct(t, l, alice(), bob())
	number := uint64(0)
	check := func(stored bool, entries ...*store.Append) {
		t.Helper()
		b := &store.Batch{Now: noon(), Entries: entries, Number: 77}
		require.NoError(t, l.Append(context.Background(), b))
		want := uint64(0)
		if stored {
			number++
			want = number
		}
		require.Equal(t, want, b.Number)
	}
	for round := range 5 {
		check(true, said(in, alice(), "x", stored), said(in, alice(), "x", stored))
		check(false)
		check(true, withOrigin(said(in, alice(), "x", stored), fmt.Sprint(round)))
		check(
			false, withOrigin(said(in, alice(), "x", stored), fmt.Sprint(round)),
			withOrigin(said(in, alice(), "y", stored), "0"),
		)
		overtaken := said(in, alice(), "x", stored)
		overtaken.Basis = 1
		check(false, overtaken)
		check(true, marker(in, 2, store.MarkRead, uint64(3*round+3)))
		check(false, marker(in, 2, store.MarkRead, uint64(round)))
		check(true, withOrigin(said(in, alice(), "x", stored), fmt.Sprint(round)), said(in, bob(), "x", stored))
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
	}
	require.NoError(t, l.Close())
}

// testManyConversations pages through a long list that messages keep reordering.
func testManyConversations(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	const total = 100
	with := func(i int) store.Party { return party(fmt.Sprintf("c%d@example.org", i), store.AccountID(100+i)) }
	last := map[store.AccountID]store.MessageID{}
	say := func(i, round int) {
		a, flags := alice(), []store.MessageFlags{stored, inBoth, store.InRecipientArchive,
			store.InAuthorArchive}[(i+round)%4]
		if round%2 == 0 {
			a = with(i)
		}
		m := mustAppend(t, l, noon().Add(time.Duration(round)*time.Minute),
			said(direct(t, l, alice(), with(i)), a, "x", flags))[0]
		if flags&store.InRecipientArchive != 0 && round%2 == 0 || flags&store.InAuthorArchive != 0 && round%2 == 1 {
			last[with(i).Account] = m.ID
		}
	}
	check := func() {
		t.Helper()
		var want, got []store.MessageID
		for _, id := range last {
			want = append(want, id)
		}
		slices.Sort(want)
		slices.Reverse(want)
		for _, size := range []int{15, total + 1} {
			got = nil
			before := store.MessageID(0)
			for more := true; more; {
				var found []store.Conversation
				var err error
				found, more, err = l.Conversations(ctx, 1, before, size)
				require.NoError(t, err)
				for _, c := range found {
					require.Equal(t, last[c.With.Account], c.Last)
					got = append(got, c.Last)
					before = c.Last
				}
			}
			require.Equal(t, want, got)
		}
	}
	for i := range total {
		say(i, 0)
	}
	check()
	for round := 1; round < 6; round++ {
		for i := 0; i < total; i += round * 7 {
			say(i, round)
		}
		for i := range 5 { // some talk all the time
			say(i, round)
			say(i, round+1)
		}
		check()
		if round%2 == 0 {
			require.NoError(t, l.Close())
			l = logs.Open(t, folder)
			check()
		}
	}
	require.NoError(t, l.Close())
}
