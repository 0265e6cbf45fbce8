package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// counts are the flags of what people say.
const counts = stored | store.Unread

// roomOf makes a room that the given parties have been in from the beginning, or finds it.
func roomOf(t testing.TB, l store.ConversationOpener, name string, members ...store.Party) store.ConversationID {
	t.Helper()
	var in []store.Member
	for _, p := range members {
		in = append(in, store.Member{Account: p.Account, Role: store.RoleMember, Access: []store.Interval{{From: 1}}})
	}
	o, err := l.OpenConversation(context.Background(), noon(), roomKey(name), in)
	require.NoError(t, err)
	return o.ID
}

func roomKey(name string) store.ConversationKey {
	return store.RoomKey(party(name+"@rooms.example.org", 0).JID, 1)
}

// viewOf returns an owner's conversation.
func viewOf(
	t testing.TB, l store.ConversationReader, owner store.AccountID, in store.ConversationID,
) store.Conversation {
	t.Helper()
	c, err := l.ConversationOf(context.Background(), owner, in)
	require.NoError(t, err)
	return c
}

// retracting makes a message that takes another's content out.
func retracting(t testing.TB, l store.ConversationOpener, from, to store.Party, id store.MessageID) *store.Append {
	t.Helper()
	a := message(t, l, from, to, "retract", inBoth)
	a.Retract, a.Remains = id, []byte("<message xmlns='jabber:client' type='chat'><body>gone</body></message>")
	return a
}

// withs shows conversations by the other party's address.
func withs(found []store.Conversation) []string {
	said := []string{}
	for _, c := range found {
		said = append(said, c.With.JID.String())
	}
	return said
}

// testConversations: newest first, page by page, each with the other party as its first message has it.
func testConversations(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	batch := mustAppend(
		t,
		l,
		noon(),
		message(
			t, l, alice(), bob(), "ab", counts,
		),
		message(t, l, carol(), alice(), "ca", counts),
		message(t, l, alice(), romeo(), "ar", counts),
		message(
			t, l, alice(), alice(), "note", counts,
		),
		message(t, l, bob(), carol(), "bc", counts),
		message(t, l, bob(), alice(), "ba", counts),
		message(t, l, newAlice(), bob(), "later", counts),
	)
	direct(t, l, alice(), juliet()) // nothing was said yet
	check := func() {
		t.Helper()
		found, more, err := l.Conversations(ctx, 1, 0, 10)
		require.NoError(t, err)
		require.False(t, more)
		require.Equal(
			t, []string{"bob@example.org", "alice@example.org", "romeo@montague.example", "carol@example.org"},
			withs(found),
		)
		require.Equal(t, store.Conversation{
			ID: batch[0].Conversation, Kind: store.Direct, With: bob(), Last: batch[5].ID, LastSeq: 2, Unread: 1,
			Member: store.Member{Account: 1, Role: store.RoleMember, Access: []store.Interval{{From: 1}}},
		}, found[0])
		require.Equal(t, alice(), found[1].With)
		require.Equal(t, romeo(), found[2].With)
		var seen []string
		before := store.MessageID(0)
		for more = true; more; {
			found, more, err = l.Conversations(ctx, 1, before, 3)
			require.NoError(t, err)
			seen = append(seen, withs(found)...)
			before = found[len(found)-1].Last
		}
		require.Equal(
			t, []string{"bob@example.org", "alice@example.org", "romeo@montague.example", "carol@example.org"}, seen,
		)
		found, _, err = l.Conversations(ctx, 4, 0, 10)
		require.NoError(t, err)
		require.Equal(t, []string{"bob@example.org"}, withs(found), "who has the name later has other conversations")
		for _, nobody := range []store.AccountID{0, 77} {
			found, more, err = l.Conversations(ctx, nobody, 0, 10)
			require.NoError(t, err)
			require.False(t, more)
			require.Empty(t, found)
		}
		_, _, err = l.Conversations(ctx, 1, 0, 0)
		require.Error(t, err)
	}
	check()
	require.NoError(t, l.Close())
	l = logs.Open(t, folder)
	check()
	mustAppend(t, l, noon(), message(t, l, carol(), alice(), "again", counts))
	found, _, err := l.Conversations(ctx, 1, 0, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"carol@example.org"}, withs(found))
	require.NoError(t, l.Close())
}

// testConversationsOfOneSide: a conversation is there for those who have something of it in their archive.
func testConversationsOfOneSide(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	batch := mustAppend(
		t,
		l,
		noon(),
		message(
			t, l, alice(), bob(), "1", store.InAuthorArchive,
		),
		message(t, l, bob(), alice(), "2", store.InAuthorArchive),
		message(t, l, alice(), carol(), "3", offline),
		message(t, l, alice(), bob(), "4", forsaken),
	)
	for _, test := range []struct {
		owner store.AccountID
		want  []store.MessageID
	}{{1, []store.MessageID{batch[0].ID}}, {2, []store.MessageID{batch[1].ID}}, {3, nil}} {
		found, _, err := l.Conversations(ctx, test.owner, 0, 10)
		require.NoError(t, err)
		var last []store.MessageID
		for _, c := range found {
			last = append(last, c.Last)
		}
		require.Equal(t, test.want, last)
	}
	require.Zero(t, viewOf(t, l, 3, batch[2].Conversation).Last)
}

// testUnread: what the other has said counts, after the marker and after what the owner has said.
func testUnread(t *testing.T, logs Logs) {
	l := open(t, logs)
	in := direct(t, l, alice(), bob())
	unread := func(owner store.AccountID, want int) {
		t.Helper()
		require.Equal(t, want, viewOf(t, l, owner, in).Unread)
	}
	var last *store.Append
	say := func(a *store.Append) {
		t.Helper()
		last = mustAppend(t, l, noon(), a)[0]
	}
	for range 20 {
		say(said(in, bob(), "said", counts))
	}
	say(said(in, bob(), "not counted", stored))
	unread(1, 20)
	unread(2, 0)
	say(marker(in, 1, store.MarkDelivered, 21))
	unread(1, 20)
	say(marker(in, 1, store.MarkRead, 5))
	unread(1, 15)
	say(said(in, alice(), "an edit does not mean that it was read", stored))
	unread(1, 15)
	say(said(in, alice(), "an answer does", counts))
	answer := last
	unread(1, 0)
	unread(2, 1)
	say(said(in, bob(), "more", counts))
	unread(1, 1)
	say(retracting(t, l, alice(), bob(), answer.ID))
	unread(1, 16)
	unread(2, 0)
	say(marker(in, 1, store.MarkRead, 1000))
	unread(1, 0)
}

func testUnreadIsBounded(t *testing.T, logs Logs) {
	l := open(t, logs)
	for i := range 11 {
		var batch []*store.Append
		for range 100 {
			batch = append(batch, message(t, l, bob(), alice(), fmt.Sprint(i), counts))
		}
		mustAppend(t, l, noon().Add(time.Duration(i)*time.Millisecond), batch...)
	}
	require.Equal(t, store.MaxUnread, viewOf(t, l, 1, direct(t, l, alice(), bob())).Unread)
}

// testRetraction: the content is gone for every reader, and all else stays, also over a restart (P22).
func testRetraction(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	batch := mustAppend(t, l, noon(), message(t, l, alice(), bob(), "1", counts),
		withOrigin(message(t, l, alice(), bob(), "2", counts), "o2"), message(t, l, alice(), bob(), "3", counts))
	target := batch[1].Message
	undone := mustAppend(t, l, noon(), retracting(t, l, alice(), bob(), target.ID))[0]
	require.Equal(t, uint64(4), undone.Seq)
	target.Stanza, target.Flags = undone.Remains, target.Flags&^store.Unread|store.Retracted
	// Once more, with other remains, and what is not there: nothing happens to any message.
	again := retracting(t, l, alice(), bob(), target.ID)
	again.Remains = []byte("<other/>")
	mustAppend(
		t, l, noon(), again, retracting(t, l, alice(), bob(), target.ID+12345), retracting(t, l, alice(), bob(), 1),
	)
	for range 2 {
		got, err := l.Message(ctx, target.ID)
		require.NoError(t, err)
		require.Equal(t, target, got)
		want := []string{"1", "gone", "3", "retract", "retract", "retract", "retract"}
		found, err := l.Since(ctx, 0, 10)
		require.NoError(t, err)
		require.Equal(t, want, texts(found))
		found, _, err = l.History(ctx, store.HistoryQuery{Owner: 2, Conversation: target.Conversation, Limit: 10})
		require.NoError(t, err)
		require.Equal(t, want, texts(found))
		found, err = l.Undelivered(ctx, 2, 0, 10)
		require.NoError(t, err)
		require.Equal(t, want[:3], texts(found))
		require.Equal(t, 2, viewOf(t, l, 2, target.Conversation).Unread)
		repeated := withOrigin(message(t, l, alice(), bob(), "2", counts), "o2")
		mustAppend(t, l, noon(), repeated)
		require.True(t, repeated.Duplicate, "what was retracted is not stored again")
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
	}
	require.NoError(t, l.Close())
}

func testRetractionInBatch(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	old := mustAppend(t, l, noon(), message(t, l, alice(), bob(), "old", counts))[0]
	first := message(t, l, alice(), bob(), "new", counts)
	// The identity that the batch will give to its first message.
	undo := retracting(t, l, alice(), bob(), store.NextMessageID(old.ID, noon()))
	twice := retracting(t, l, alice(), bob(), old.ID)
	twice.Remains = []byte("<other/>")
	refused := withOrigin(retracting(t, l, alice(), bob(), 0), "o1")
	conflict := withOrigin(retracting(t, l, alice(), bob(), first.ID), "o1")
	conflict.ContentHash[0] ^= 1
	kept := message(t, l, alice(), bob(), "kept", counts)
	conflict.Retract = store.NextMessageID(old.ID, noon()) + 4
	mustAppend(t, l, noon(), first, undo, retracting(t, l, alice(), bob(), old.ID), twice, kept, refused, conflict)
	require.Equal(t, undo.Retract, first.ID)
	require.True(t, conflict.Conflict)
	require.Equal(t, conflict.Retract, kept.ID, "what is refused retracts nothing")
	require.Equal(t, []string{"new"}, texts([]store.Message{first.Message}), "what the caller has is left alone")
	found, err := l.Since(ctx, 0, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"gone", "gone", "retract", "retract", "retract", "kept", "retract"}, texts(found))
	require.Equal(t, store.Retracted, found[1].Flags&(store.Retracted|store.Unread))
	require.Equal(t, 1, viewOf(t, l, 2, old.Conversation).Unread)
}

// testReadersDuringRetraction: whoever has seen what is left of a message never sees its content again.
func testReadersDuringRetraction(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx, stop := context.WithCancel(context.Background())
	batch := make([]*store.Append, 60)
	for i := range batch {
		batch[i] = message(t, l, alice(), bob(), "said", counts)
	}
	mustAppend(t, l, noon(), batch...)
	in := batch[0].Conversation
	var readers sync.WaitGroup
	failed := make(chan error, 1)
	readers.Go(func() {
		gone, unread := 0, len(batch)
		for ctx.Err() == nil {
			found, err := l.Since(ctx, 0, len(batch))
			now := 0
			for _, m := range found {
				if m.Flags&store.Retracted != 0 {
					now++
				}
			}
			c, e := l.ConversationOf(ctx, 2, in)
			if ctx.Err() == nil && (err != nil || e != nil || now < gone || c.Unread > unread) {
				failed <- fmt.Errorf("%d are gone after %d, %d unread after %d: %w, %w", now, gone, c.Unread, unread,
					err, e)
				return
			}
			gone, unread = now, c.Unread
		}
	})
	for _, a := range batch {
		mustAppend(t, l, noon(), retracting(t, l, alice(), bob(), a.ID))
	}
	stop()
	readers.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
}

func testOrigin(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	want := map[store.Party]*store.Append{}
	for _, sender := range []store.Party{alice(), newAlice(), romeo()} {
		first := withOrigin(message(t, l, sender, bob(), "x", stored), "o1")
		first.ContentHash = [16]byte{1, 15: 2}
		want[sender] = mustAppend(t, l, noon(), first, message(t, l, sender, bob(), "y", stored))[0]
	}
	for range 2 {
		for sender, a := range want {
			sent, err := l.Origin(ctx, sender, "o1")
			require.NoError(t, err)
			require.Equal(t, store.Sent{ID: a.ID, Conversation: a.Conversation, Seq: a.Seq, ContentHash: a.ContentHash},
				sent)
		}
		for _, sender := range []store.Party{bob(), juliet(), party("romeo@montague.example2", 0)} {
			_, err := l.Origin(ctx, sender, "o1")
			require.ErrorIs(t, err, store.ErrNotFound)
		}
		for _, id := range []string{"", "o2"} {
			_, err := l.Origin(ctx, alice(), id)
			require.ErrorIs(t, err, store.ErrNotFound)
		}
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
	}
	require.NoError(t, l.Close())
}

func testLast(t *testing.T, logs Logs) {
	folder := t.TempDir()
	l := logs.Open(t, folder)
	last, err := l.Last(context.Background())
	require.NoError(t, err)
	require.Zero(t, last)
	for range 2 {
		batch := mustAppend(
			t, l, noon(), message(t, l, alice(), bob(), "1", forsaken), message(t, l, bob(), carol(), "2", stored),
		)
		for range 2 {
			last, err = l.Last(context.Background())
			require.NoError(t, err)
			require.Equal(t, batch[1].ID, last)
			require.NoError(t, l.Close())
			l = logs.Open(t, folder)
		}
	}
	require.NoError(t, l.Close())
}
