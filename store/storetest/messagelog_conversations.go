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

// storedUnread are the flags of what people say.
const storedUnread = stored | store.Unread

// marked makes a message that carries read markers.
func marked(from, to store.Party, p store.ReadMarkers) *store.Append {
	a := message(from, to, "mark", inBoth)
	p.Account = from.Account
	a.ReadMarkers = &p
	return a
}

// retracting makes a message that takes another's content out.
func retracting(from, to store.Party, id store.MessageID) *store.Append {
	a := message(from, to, "retract", inBoth)
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
	batch := mustAppend(t, l, noon(),
		message(alice(), bob(), "ab", storedUnread), message(carol(), alice(), "ca", storedUnread), message(alice(), romeo(), "ar", storedUnread),
		message(alice(), alice(), "note", storedUnread), message(bob(), carol(), "bc", storedUnread), message(bob(), alice(), "ba", storedUnread),
		message(newAlice(), bob(), "later", storedUnread))
	check := func() {
		t.Helper()
		found, more, err := l.Conversations(ctx, 1, 0, 10)
		require.NoError(t, err)
		require.False(t, more)
		require.Equal(t, []string{"bob@example.org", "alice@example.org", "romeo@montague.example", "carol@example.org"}, withs(found))
		require.Equal(t, store.Conversation{
			ID: batch[0].Conversation, With: bob(), Last: batch[5].ID, LastSeq: 2, Unread: 1,
			Own: store.ReadMarkers{Account: 1}, Peer: store.ReadMarkers{Account: 2},
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
		require.Equal(t, []string{"bob@example.org", "alice@example.org", "romeo@montague.example", "carol@example.org"}, seen)
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
	mustAppend(t, l, noon(), message(carol(), alice(), "again", storedUnread))
	found, _, err := l.Conversations(ctx, 1, 0, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"carol@example.org"}, withs(found))
	require.NoError(t, l.Close())
}

// testConversationsOfOneSide: a conversation is there for those who have something of it in their archive.
func testConversationsOfOneSide(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	batch := mustAppend(t, l, noon(),
		message(alice(), bob(), "1", store.InSenderArchive), message(bob(), alice(), "2", store.InSenderArchive),
		message(alice(), carol(), "3", offline), message(alice(), bob(), "4", forsaken))
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
	_, err := l.ConversationWith(ctx, 3, alice())
	require.ErrorIs(t, err, store.ErrNotFound)
}

func testConversationWith(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	mustAppend(t, l, noon(), message(alice(), bob(), "ab", storedUnread), message(alice(), alice(), "note", storedUnread),
		message(romeo(), bob(), "rb", storedUnread))
	listed, _, err := l.Conversations(ctx, 2, 0, 10)
	require.NoError(t, err)
	require.Len(t, listed, 2)
	for _, want := range listed {
		got, err := l.ConversationWith(ctx, 2, want.With)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	note, err := l.ConversationWith(ctx, 1, store.Party{Account: 1})
	require.NoError(t, err)
	require.Equal(t, alice(), note.With)
	require.Zero(t, note.Unread)
	for _, test := range []struct {
		owner store.AccountID
		with  store.Party
	}{{1, carol()}, {1, romeo()}, {3, bob()}, {0, bob()}, {1, store.Party{JID: bob().JID}}} {
		_, err = l.ConversationWith(ctx, test.owner, test.with)
		require.ErrorIs(t, err, store.ErrNotFound, "%+v", test)
	}
}

// testUnread: what the other has said counts, after the read marker and after what the owner has said.
func testUnread(t *testing.T, logs Logs) {
	l := open(t, logs)
	unread := func(owner store.AccountID, with store.Party, want int) {
		t.Helper()
		c, err := l.ConversationWith(context.Background(), owner, with)
		require.NoError(t, err)
		require.Equal(t, want, c.Unread)
	}
	var last *store.Append
	say := func(a *store.Append) {
		t.Helper()
		last = mustAppend(t, l, noon(), a)[0]
	}
	for range 20 {
		say(message(bob(), alice(), "said", storedUnread))
	}
	say(message(bob(), alice(), "not counted", stored))
	unread(1, bob(), 20)
	unread(2, alice(), 0)
	say(marked(alice(), bob(), store.ReadMarkers{Delivered: 21, Read: 5}))
	unread(1, bob(), 15)
	say(message(alice(), bob(), "an edit does not mean that it was read", stored))
	unread(1, bob(), 15)
	say(message(alice(), bob(), "an answer does", storedUnread))
	answer := last
	unread(1, bob(), 0)
	unread(2, alice(), 1)
	say(message(bob(), alice(), "more", storedUnread))
	unread(1, bob(), 1)
	say(retracting(alice(), bob(), answer.ID))
	unread(1, bob(), 16)
	unread(2, alice(), 0)
	say(marked(alice(), bob(), store.ReadMarkers{Read: 1000}))
	unread(1, bob(), 0)
}

func testUnreadIsBounded(t *testing.T, logs Logs) {
	l := open(t, logs)
	for i := range 11 {
		var batch []*store.Append
		for range 100 {
			batch = append(batch, message(bob(), alice(), fmt.Sprint(i), storedUnread))
		}
		mustAppend(t, l, noon().Add(time.Duration(i)*time.Millisecond), batch...)
	}
	c, err := l.ConversationWith(context.Background(), 1, bob())
	require.NoError(t, err)
	require.Equal(t, store.MaxUnread, c.Unread)
}

// testReadMarkers: they only move forward, for each device and for all together, also over a restart (P21).
func testReadMarkers(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	for range 9 {
		mustAppend(t, l, noon(), message(bob(), alice(), "x", storedUnread))
	}
	early := mustAppend(t, l, noon(), marked(carol(), alice(), store.ReadMarkers{Read: 1}))[0]
	require.True(t, early.Stale, "nothing was said yet that could be read")
	require.Zero(t, early.ID)
	_, _, err := l.Conversation(ctx, carol(), alice())
	require.ErrorIs(t, err, store.ErrNotFound)

	seq := uint64(9)
	conversation, _, err := l.Conversation(ctx, alice(), bob())
	require.NoError(t, err)
	for i, test := range []struct {
		device          string
		delivered, read uint64
		stale           bool
		own             store.ReadMarkers
		devices         []store.ReadMarkers
	}{
		{"phone", 3, 0, false, store.ReadMarkers{Account: 1, Delivered: 3},
			[]store.ReadMarkers{{Account: 1, Device: "phone", Delivered: 3}}},
		{"phone", 3, 0, true, store.ReadMarkers{Account: 1, Delivered: 3},
			[]store.ReadMarkers{{Account: 1, Device: "phone", Delivered: 3}}},
		{"laptop", 5, 4, false, store.ReadMarkers{Account: 1, Delivered: 5, Read: 4},
			[]store.ReadMarkers{{Account: 1, Device: "laptop", Delivered: 5, Read: 4}, {Account: 1, Device: "phone", Delivered: 3}}},
		{"phone", 0, 2, false, store.ReadMarkers{Account: 1, Delivered: 5, Read: 4},
			[]store.ReadMarkers{{Account: 1, Device: "phone", Delivered: 3, Read: 2}, {Account: 1, Device: "laptop", Delivered: 5, Read: 4}}},
		{"laptop", 4, 4, true, store.ReadMarkers{Account: 1, Delivered: 5, Read: 4},
			[]store.ReadMarkers{{Account: 1, Device: "phone", Delivered: 3, Read: 2}, {Account: 1, Device: "laptop", Delivered: 5, Read: 4}}},
		{"laptop", 0, 7, false, store.ReadMarkers{Account: 1, Delivered: 7, Read: 7},
			[]store.ReadMarkers{{Account: 1, Device: "laptop", Delivered: 7, Read: 7}, {Account: 1, Device: "phone", Delivered: 3, Read: 2}}},
		{"laptop", 0, 99, false, store.ReadMarkers{Account: 1, Delivered: 13, Read: 13},
			[]store.ReadMarkers{{Account: 1, Device: "laptop", Delivered: 13, Read: 13}, {Account: 1, Device: "phone", Delivered: 3, Read: 2}}},
	} {
		a := mustAppend(t, l, noon(), marked(alice(), bob(), store.ReadMarkers{Device: test.device, Delivered: test.delivered, Read: test.read}))[0]
		require.Equal(t, test.stale, a.Stale, "step %d", i)
		if !test.stale {
			seq++
			require.Equal(t, seq, a.Seq, "what is stale has no number")
		}
		for _, reopened := range []bool{false, true} {
			if reopened {
				require.NoError(t, l.Close())
				l = logs.Open(t, folder)
			}
			c, err := l.ConversationWith(ctx, 1, bob())
			require.NoError(t, err)
			require.Equal(t, test.own, c.Own, "step %d", i)
			require.Equal(t, store.ReadMarkers{Account: 2}, c.Peer)
			c, err = l.ConversationWith(ctx, 2, alice())
			require.NoError(t, err)
			require.Equal(t, test.own, c.Peer, "step %d", i)
			devices, err := l.ReadMarkersOf(ctx, conversation, 1)
			require.NoError(t, err)
			require.Equal(t, test.devices, devices, "step %d", i)
		}
	}
	devices, err := l.ReadMarkersOf(ctx, conversation, 2)
	require.NoError(t, err)
	require.Empty(t, devices)
	require.NoError(t, l.Close())
}

// testReadMarkersInBatch: later entries see earlier ones.
func testReadMarkersInBatch(t *testing.T, logs Logs) {
	l := open(t, logs)
	batch := mustAppend(t, l, noon(),
		message(bob(), alice(), "1", storedUnread), message(bob(), alice(), "2", storedUnread),
		marked(alice(), bob(), store.ReadMarkers{Device: "a", Delivered: 2}),
		marked(alice(), bob(), store.ReadMarkers{Device: "a", Delivered: 2}),
		withOrigin(marked(alice(), bob(), store.ReadMarkers{Device: "a", Read: 1}), "o1"),
		withOrigin(marked(alice(), bob(), store.ReadMarkers{Device: "a", Read: 1}), "o1"),
		withOrigin(marked(alice(), bob(), store.ReadMarkers{Device: "a", Read: 1}), "o2"),
		withOrigin(message(alice(), bob(), "what was stale has not used up its identity", storedUnread), "o2"),
		message(bob(), alice(), "3", storedUnread))
	require.Equal(t, []bool{false, false, false, true, false, false, true, false, false}, func() (stale []bool) {
		for _, a := range batch {
			stale = append(stale, a.Stale)
		}
		return stale
	}())
	require.True(t, batch[5].Duplicate)
	require.False(t, batch[7].Conflict || batch[7].Duplicate)
	require.Equal(t, uint64(6), batch[8].Seq)
	c, err := l.ConversationWith(context.Background(), 1, bob())
	require.NoError(t, err)
	require.Equal(t, store.ReadMarkers{Account: 1, Delivered: 2, Read: 1}, c.Own)
	require.Equal(t, 1, c.Unread)
}

// testReadMarkersOfManyDevices: only so many are remembered; the account's markers stay where they were.
func testReadMarkersOfManyDevices(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	conversation := mustAppend(t, l, noon(), message(bob(), alice(), "1", storedUnread), message(bob(), alice(), "2", storedUnread))[0].Conversation
	mustAppend(t, l, noon(), marked(alice(), bob(), store.ReadMarkers{Device: "first", Read: 2}))
	for i := range 16 {
		a := mustAppend(t, l, noon(), marked(alice(), bob(), store.ReadMarkers{Device: fmt.Sprint(i), Read: 1}))[0]
		require.Equal(t, i == 15, a.Stale, "of the seventeenth it is taken for known")
	}
	devices, err := l.ReadMarkersOf(ctx, conversation, 1)
	require.NoError(t, err)
	require.Len(t, devices, 16)
	require.Equal(t, "14", devices[0].Device)
	require.Equal(t, "first", devices[15].Device)
	a := mustAppend(t, l, noon(), marked(alice(), bob(), store.ReadMarkers{Device: "new", Read: 3}))[0]
	require.False(t, a.Stale)
	devices, err = l.ReadMarkersOf(ctx, conversation, 1)
	require.NoError(t, err)
	require.Len(t, devices, 16)
	require.Equal(t, "0", devices[15].Device)
	c, err := l.ConversationWith(ctx, 1, bob())
	require.NoError(t, err)
	require.Equal(t, uint64(3), c.Own.Read)
}

// testRetraction: the content is gone for every reader, and all else stays, also over a restart (P22).
func testRetraction(t *testing.T, logs Logs) {
	folder := t.TempDir()
	ctx := context.Background()
	l := logs.Open(t, folder)
	batch := mustAppend(t, l, noon(), message(alice(), bob(), "1", storedUnread),
		withOrigin(message(alice(), bob(), "2", storedUnread), "o2"), message(alice(), bob(), "3", storedUnread))
	target := batch[1].Message
	undone := mustAppend(t, l, noon(), retracting(alice(), bob(), target.ID))[0]
	require.Equal(t, uint64(4), undone.Seq)
	target.Stanza, target.Flags = undone.Remains, target.Flags&^store.Unread|store.Retracted
	// Once more, with other remains, and what is not there: nothing happens to any message.
	again := retracting(alice(), bob(), target.ID)
	again.Remains = []byte("<other/>")
	mustAppend(t, l, noon(), again, retracting(alice(), bob(), target.ID+12345), retracting(alice(), bob(), 1))
	for range 2 {
		got, err := l.Message(ctx, target.ID)
		require.NoError(t, err)
		require.Equal(t, target, got)
		want := []string{"1", "gone", "3", "retract", "retract", "retract", "retract"}
		found, err := l.Since(ctx, 0, 10)
		require.NoError(t, err)
		require.Equal(t, want, texts(found))
		found, _, err = l.History(ctx, store.HistoryQuery{Owner: 2, With: alice(), Limit: 10})
		require.NoError(t, err)
		require.Equal(t, want, texts(found))
		found, err = l.Undelivered(ctx, 2, 0, 10)
		require.NoError(t, err)
		require.Equal(t, want[:3], texts(found))
		c, err := l.ConversationWith(ctx, 2, alice())
		require.NoError(t, err)
		require.Equal(t, 2, c.Unread)
		repeated := withOrigin(message(alice(), bob(), "2", storedUnread), "o2")
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
	old := mustAppend(t, l, noon(), message(alice(), bob(), "old", storedUnread))[0]
	first := message(alice(), bob(), "new", storedUnread)
	// The identity that the batch will give to its first message.
	undo := retracting(alice(), bob(), store.NextMessageID(old.ID, noon()))
	twice := retracting(alice(), bob(), old.ID)
	twice.Remains = []byte("<other/>")
	refused := withOrigin(retracting(alice(), bob(), 0), "o1")
	conflict := withOrigin(retracting(alice(), bob(), first.ID), "o1")
	conflict.ContentHash[0] ^= 1
	kept := message(alice(), bob(), "kept", storedUnread)
	conflict.Retract = store.NextMessageID(old.ID, noon()) + 4
	mustAppend(t, l, noon(), first, undo, retracting(alice(), bob(), old.ID), twice, kept, refused, conflict)
	require.Equal(t, undo.Retract, first.ID)
	require.True(t, conflict.Conflict)
	require.Equal(t, conflict.Retract, kept.ID, "what is refused retracts nothing")
	require.Equal(t, []string{"new"}, texts([]store.Message{first.Message}), "what the caller has is left alone")
	found, err := l.Since(ctx, 0, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"gone", "gone", "retract", "retract", "retract", "kept", "retract"}, texts(found))
	require.Equal(t, store.Retracted, found[1].Flags&(store.Retracted|store.Unread))
	c, err := l.ConversationWith(ctx, 2, alice())
	require.NoError(t, err)
	require.Equal(t, 1, c.Unread)
}

// testReadersDuringRetraction: whoever has seen what is left of a message never sees its content again.
func testReadersDuringRetraction(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx, stop := context.WithCancel(context.Background())
	batch := make([]*store.Append, 60)
	for i := range batch {
		batch[i] = message(alice(), bob(), "said", storedUnread)
	}
	mustAppend(t, l, noon(), batch...)
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
			c, e := l.ConversationWith(ctx, 2, alice())
			if ctx.Err() == nil && (err != nil || e != nil || now < gone || c.Unread > unread) {
				failed <- fmt.Errorf("%d are gone after %d, %d unread after %d: %w, %w", now, gone, c.Unread, unread, err, e)
				return
			}
			gone, unread = now, c.Unread
		}
	})
	for _, a := range batch {
		mustAppend(t, l, noon(), retracting(alice(), bob(), a.ID))
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
		want[sender] = mustAppend(t, l, noon(), withOrigin(message(sender, bob(), "x", stored), "o1"), message(sender, bob(), "y", stored))[0]
	}
	for range 2 {
		for sender, a := range want {
			id, conversation, seq, err := l.Origin(ctx, sender, "o1")
			require.NoError(t, err)
			require.Equal(t, a.ID, id)
			require.Equal(t, a.Conversation, conversation)
			require.Equal(t, a.Seq, seq)
		}
		for _, sender := range []store.Party{bob(), juliet(), party("romeo@montague.example2", 0)} {
			_, _, _, err := l.Origin(ctx, sender, "o1")
			require.ErrorIs(t, err, store.ErrNotFound)
		}
		for _, id := range []string{"", "o2"} {
			_, _, _, err := l.Origin(ctx, alice(), id)
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
		batch := mustAppend(t, l, noon(), message(alice(), bob(), "1", forsaken), message(bob(), carol(), "2", stored))
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
