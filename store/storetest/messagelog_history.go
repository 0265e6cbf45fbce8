package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

func testSince(t *testing.T, logs Logs) {
	l := open(t, logs)
	var batch []*store.Append
	for i := 1; i <= 7; i++ {
		batch = append(batch, message(t, l, alice(), bob(), fmt.Sprint(i), []store.MessageFlags{stored, forsaken}[i%2]))
	}
	mustAppend(t, l, noon(), batch...)
	for _, test := range []struct {
		after store.MessageID
		limit int
		want  []string
	}{
		{0, 3, numbered("", 1, 3)},
		{batch[2].ID, 3, numbered("", 4, 6)},
		{batch[5].ID, 3, numbered("", 7, 7)},
		{batch[6].ID, 3, []string{}},
		{0, 100, numbered("", 1, 7)},
	} {
		found, err := l.Since(context.Background(), test.after, test.limit)
		require.NoError(t, err)
		require.Equal(t, test.want, texts(found))
	}
}

func testNumbered(t *testing.T, logs Logs) {
	l := open(t, logs)
	var batch []*store.Append
	for i := 1; i <= 7; i++ {
		batch = append(batch, message(t, l, alice(), bob(), fmt.Sprint(i), []store.MessageFlags{stored, forsaken}[i%2]),
			message(t, l, carol(), bob(), "noise", stored))
	}
	mustAppend(t, l, noon(), batch...)
	for _, test := range []struct {
		first uint64
		limit int
		want  []string
	}{
		{0, 3, numbered("", 1, 3)},
		{1, 3, numbered("", 1, 3)},
		{6, 3, numbered("", 6, 7)},
		{8, 3, []string{}},
	} {
		found, err := l.Numbered(context.Background(), batch[0].Conversation, test.first, test.limit)
		require.NoError(t, err)
		require.Equal(t, test.want, texts(found))
	}
}

// testHistoryPages walks through a history in both directions with pages of several sizes.
func testHistoryPages(t *testing.T, logs Logs) {
	l := open(t, logs)
	const total = 23
	for i := 1; i <= total; i++ {
		from, to := alice(), bob()
		if i%3 == 0 {
			from, to = to, from
		}
		mustAppend(
			t, l, noon().Add(time.Duration(i/4)*time.Millisecond), message(t, l, from, to, fmt.Sprint(i), stored),
		)
	}
	for _, in := range []store.ConversationID{0, direct(t, l, alice(), bob())} {
		for _, size := range []int{1, 2, 7, total - 1, total, total + 1} {
			for _, backward := range []bool{false, true} {
				q := store.HistoryQuery{Owner: 1, Conversation: in, Limit: size, Backward: backward}
				require.Equal(t, numbered("", 1, total), texts(paged(t, l, q, nil)))
			}
		}
	}
}

// paged returns what a query selects, in rising order, page by page in its direction. look is called with each page.
func paged(
	t testing.TB, l store.MessageReader, q store.HistoryQuery, look func([]store.Message),
) (all []store.Message) {
	t.Helper()
	for more := true; more; {
		var page []store.Message
		var err error
		page, more, err = l.History(context.Background(), q)
		require.NoError(t, err)
		require.NotEmpty(t, page)
		if look != nil {
			look(page)
		}
		if q.Backward {
			all, q.Before = append(page, all...), page[0].ID
		} else {
			all, q.After = append(all, page...), page[len(page)-1].ID
		}
	}
	return all
}

// testHistoryRanges tries every pair of bounds, in both directions.
func testHistoryRanges(t *testing.T, logs Logs) {
	l := open(t, logs)
	var place []store.MessageID
	for i := 1; i <= 6; i++ {
		place = append(
			place,
			mustAppend(t, l, noon().Add(time.Duration(i)*time.Second),
				message(t, l, bob(), alice(), fmt.Sprint(i), stored))[0].ID,
		)
	}
	// A bound need not be a message's identity: it may be a point in time.
	edges := []store.MessageID{
		0,
		1,
		place[0] - 1,
		store.FirstMessageID(noon().Add(3500 * time.Millisecond)),
		place[5] + 1,
		1 << 62,
	}
	edges = append(edges, place...)
	for _, in := range []store.ConversationID{0, direct(t, l, alice(), bob())} {
		for _, after := range edges {
			for _, before := range edges {
				for _, backward := range []bool{false, true} {
					want := []store.MessageID{}
					for _, id := range place {
						if id > after && (before == 0 || id < before) {
							want = append(want, id)
						}
					}
					more := len(want) > 2
					if more && backward {
						want = want[len(want)-2:]
					} else if more {
						want = want[:2]
					}
					q := store.HistoryQuery{
						Owner:        1,
						Conversation: in,
						After:        after,
						Before:       before,
						Backward:     backward,
						Limit:        2,
					}
					found, gotMore, err := l.History(context.Background(), q)
					require.NoError(t, err)
					require.Equal(t, want, ids(found), "%+v", q)
					require.Equal(t, more, gotMore, "%+v", q)
				}
			}
		}
	}
}

// testHistoryBytes: an answer ends when enough was read, from either end, and the next goes on where it ended.
func testHistoryBytes(t *testing.T, logs Logs) {
	l := open(t, logs)
	in, room := direct(t, l, alice(), bob()), roomOf(t, l, "hall", alice(), bob())
	var batch []*store.Append
	for i := range 30 {
		batch = append(batch, said(in, bob(), fmt.Sprint(i, strings.Repeat("x", i%3*500)), stored),
			said(room, alice(), strings.Repeat("y", i*20), 0))
	}
	mustAppend(t, l, noon(), append(batch, marker(in, 2, store.MarkRead, 20))...)
	for _, q := range []store.HistoryQuery{
		{Owner: 1, Limit: 100, Markers: true}, {Owner: 1, Conversation: in, Limit: 100, Markers: true},
		{Owner: 2, Conversation: room, Limit: 7}, {Owner: 2, Limit: 1},
	} {
		all := q
		all.Limit = 1000
		want, more, err := l.History(context.Background(), all)
		require.NoError(t, err)
		require.False(t, more)
		for _, size := range []int{1, 700, 3000, 1 << 20} {
			for _, backward := range []bool{false, true} {
				q.Bytes, q.Backward = size, backward
				got := paged(t, l, q, func(page []store.Message) {
					last := page[len(page)-1]
					if backward {
						last = page[0]
					}
					read := -len(last.Stanza)
					for _, m := range page {
						read += len(m.Stanza)
					}
					require.LessOrEqual(t, read, size, "without the last that was read")
				})
				require.Equal(t, ids(want), ids(got), "%+v", q)
			}
		}
	}
}

// testHistoryOfConversations: one conversation's history is seen by those who are in it, and by nobody else.
func testHistoryOfConversations(t *testing.T, logs Logs) {
	l := open(t, logs)
	mustAppend(t, l, noon(),
		message(t, l, alice(), bob(), "ab", stored), message(t, l, carol(), alice(), "ca", stored),
		message(t, l, bob(), carol(), "bc", stored), message(t, l, bob(), alice(), "ba", stored),
		said(roomOf(t, l, "hall", alice(), carol()), alice(), "room", 0))
	ab, ca, bc := direct(t, l, alice(), bob()), direct(t, l, carol(), alice()), direct(t, l, bob(), carol())
	for _, test := range []struct {
		owner store.AccountID
		in    store.ConversationID
		kind  store.ConversationKind
		want  []string
	}{
		{1, ab, 0, []string{"ab", "ba"}},
		{2, ab, 0, []string{"ab", "ba"}},
		{1, ca, 0, []string{"ca"}},
		{3, bc, 0, []string{"bc"}},
		{1, bc, 0, []string{}},
		{4, ab, 0, []string{}},
		{1, direct(t, l, alice(), alice()), 0, []string{}},
		// The account counts, not how its address is given.
		{1, direct(t, l, store.Party{Account: 2}, alice()), 0, []string{"ab", "ba"}},
		// An address of this domain without an account is nobody that messages were exchanged with.
		{1, direct(t, l, store.Party{JID: bob().JID}, alice()), 0, []string{}},
		{1, 0, 0, []string{"ab", "ca", "ba", "room"}},
		{1, 0, store.Direct, []string{"ab", "ca", "ba"}},
		{1, 0, store.Room, []string{"room"}},
		{2, 0, store.Room, []string{}},
	} {
		for _, backward := range []bool{false, true} {
			found, _, err := l.History(context.Background(), store.HistoryQuery{
				Owner: test.owner, Conversation: test.in, Kind: test.kind, Backward: backward, Limit: 10,
			})
			require.NoError(t, err)
			require.Equal(t, test.want, texts(found), "%+v", test)
		}
	}
}

// testHistoryOfOneSide: flags decide in whose history a message is; it has its number all the same.
func testHistoryOfOneSide(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	batch := mustAppend(t, l, noon(),
		message(t, l, alice(), bob(), "sender's", store.InAuthorArchive),
		message(t, l, alice(), bob(), "recipient's", store.InRecipientArchive),
		message(t, l, alice(), bob(), "nobody's", offline),
		message(t, l, bob(), alice(), "sender's too", store.InAuthorArchive),
		message(t, l, bob(), alice(), "both's", inBoth))
	want := map[store.AccountID][]string{
		1: {"sender's", "both's"},
		2: {"recipient's", "sender's too", "both's"},
	}
	for owner, said := range want {
		for _, in := range []store.ConversationID{0, direct(t, l, alice(), bob())} {
			for _, backward := range []bool{false, true} {
				found, more, err := l.History(
					ctx, store.HistoryQuery{Owner: owner, Conversation: in, Limit: len(said), Backward: backward},
				)
				require.NoError(t, err)
				require.False(t, more)
				require.Equal(t, said, texts(found))
			}
		}
		for i, a := range batch {
			in, err := l.InHistory(ctx, owner, a.ID)
			require.NoError(t, err)
			text := texts([]store.Message{a.Message})[0]
			require.Equal(t, slices.Contains(said, text), in, "%d %d", owner, i)
		}
	}
	require.Equal(t, uint64(5), batch[4].Seq)
}

// testHistoryLong looks for every place in a conversation that is long enough for the search to have work.
func testHistoryLong(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	const total = 300
	place := make([]store.MessageID, 0, total)
	for i := range total / 10 {
		var batch []*store.Append
		for j := range 10 {
			batch = append(
				batch, message(t, l, alice(), bob(), fmt.Sprint(i*10+j), stored),
				message(t, l, alice(), carol(), "noise", stored),
			)
		}
		mustAppend(t, l, noon().Add(time.Duration(i)*time.Second), batch...)
		for j := 0; j < len(batch); j += 2 {
			place = append(place, batch[j].ID)
		}
	}
	for i, id := range place {
		found, more, err := l.History(
			ctx, store.HistoryQuery{Owner: 2, Conversation: direct(t, l, alice(), bob()), After: id, Limit: 1},
		)
		require.NoError(t, err)
		if i+1 < total {
			require.Equal(t, place[i+1:i+2], ids(found))
			require.Equal(t, i+2 < total, more)
		} else {
			require.Empty(t, found)
		}
		found, more, err = l.History(
			ctx,
			store.HistoryQuery{
				Owner:        2,
				Conversation: direct(t, l, alice(), bob()),
				Before:       id,
				Limit:        1,
				Backward:     true,
			},
		)
		require.NoError(t, err)
		if i > 0 {
			require.Equal(t, place[i-1:i], ids(found))
			require.Equal(t, i > 1, more)
		} else {
			require.Empty(t, found)
		}
	}
}

func testBounds(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	batch := mustAppend(t, l, noon(),
		message(t, l, bob(), alice(), "not kept", offline),
		message(t, l, carol(), alice(), "first", inBoth),
		message(t, l, alice(), bob(), "middle", inBoth),
		message(t, l, alice(), carol(), "last", inBoth),
		message(t, l, bob(), alice(), "not kept", offline))
	for owner, want := range map[store.AccountID][2]int{1: {1, 3}, 2: {2, 2}, 3: {1, 3}} {
		first, last, err := l.Bounds(ctx, owner)
		require.NoError(t, err)
		require.Equal(t, batch[want[0]].ID, first)
		require.Equal(t, batch[want[1]].ID, last)
	}
}

// testReadersDuringAppend reads while messages are written: every answer must be a piece of the one order, without
// holes.
func testReadersDuringAppend(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx, stop := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	failed := make(chan error, 4)
	read := func(check func() error) {
		readers.Go(func() {
			for ctx.Err() == nil {
				if err := check(); err != nil && ctx.Err() == nil {
					failed <- err
					return
				}
			}
		})
	}
	var after store.MessageID
	var seq uint64
	read(func() error { // a follower of the feed never misses one
		found, err := l.Since(ctx, after, 50)
		for _, m := range found {
			if seq++; m.Seq != seq {
				return fmt.Errorf("number %d follows %d", m.Seq, seq-1)
			}
			after = m.ID
		}
		return err
	})
	var newest uint64
	in := direct(t, l, alice(), bob())
	read(func() error { // what was seen once is there ever after
		o, err := l.ConversationByID(ctx, in)
		if o.Last < newest {
			return fmt.Errorf("last number went from %d to %d", newest, o.Last)
		}
		newest = o.Last
		return err
	})
	for _, in := range []store.ConversationID{0, in} {
		read(func() error {
			found, _, err := l.History(ctx, store.HistoryQuery{Owner: 2, Conversation: in, Backward: true, Limit: 20})
			for i := 1; i < len(found); i++ {
				if found[i].Seq != found[i-1].Seq+1 {
					return fmt.Errorf("number %d follows %d", found[i].Seq, found[i-1].Seq)
				}
			}
			return err
		})
	}
	for i := range 100 {
		var batch []*store.Append
		for range 20 {
			batch = append(batch, message(t, l, alice(), bob(), "x", stored))
		}
		mustAppend(t, l, noon().Add(time.Duration(i)*time.Millisecond), batch...)
	}
	stop()
	readers.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
}

// testDamage: a record that has changed is named and not served; all others are.
func testDamage(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	var batch []*store.Append
	for i := 1; i <= 5; i++ {
		batch = append(batch, withOrigin(message(t, l, alice(), bob(), fmt.Sprint(i), stored), fmt.Sprint("o", i)))
	}
	mustAppend(t, l, noon(), batch...)
	require.NoError(t, l.Close())
	bad := batch[2].ID
	logs.Damage(t, folder, bad)

	l = logs.Open(t, folder)
	defer func() { require.NoError(t, l.Close()) }()
	_, err := l.Message(ctx, bad)
	requireDamaged(t, err, bad)
	rest := []string{"1", "2", "4", "5"}
	for _, in := range []store.ConversationID{0, direct(t, l, alice(), bob())} {
		found, _, err := l.History(ctx, store.HistoryQuery{Owner: 2, Conversation: in, Limit: 10})
		requireDamaged(t, err, bad)
		require.Equal(t, rest, texts(found))
	}
	found, err := l.Since(ctx, 0, 10)
	requireDamaged(t, err, bad)
	require.Equal(t, rest, texts(found))
	found, err = l.Undelivered(ctx, 2, 0, 10)
	requireDamaged(t, err, bad)
	require.Equal(t, rest, texts(found))
	found, err = l.Numbered(ctx, batch[0].Conversation, 1, 10)
	requireDamaged(t, err, bad)
	require.Equal(t, rest, texts(found))
	found, _, err = l.History(ctx, store.HistoryQuery{Owner: 2, After: bad, Limit: 10})
	require.NoError(t, err, "a page without the damaged record is whole")
	require.Equal(t, []string{"4", "5"}, texts(found))

	// Writing goes on, and a repetition of the damaged message is still known as one.
	again := withOrigin(message(t, l, alice(), bob(), "3", stored), "o3")
	next := message(t, l, alice(), bob(), "6", stored)
	mustAppend(t, l, noon(), again, next)
	require.True(t, again.Duplicate)
	require.Equal(t, bad, again.ID)
	require.Equal(t, uint64(6), next.Seq)
}
