package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// MessageLog runs the whole suite on one implementation of store.MessageLog.
func MessageLog(t *testing.T, logs Logs) {
	tests := []struct {
		name string
		run  func(*testing.T, Logs)
	}{
		{"GivesNumbers", testNumbers},
		{"KeepsWholeMessages", testWholeMessages},
		{"NumbersGoOnAfterReopening", testReopen},
		{"ClockGoesBack", testClockGoesBack},
		{"Repetition", testRepetition},
		{"RepetitionInsideOneBatch", testRepetitionInBatch},
		{"RepetitionOfAnotherAuthor", testRepetitionOfOther},
		{"RecreatedAccount", testRecreatedAccount},
		{"NoteToSelf", testNoteToSelf},
		{"RemoteParties", testRemoteParties},
		{"NotOpened", testNotOpened},
		{"BatchNumbers", testBatchNumbers},
		{"Undelivered", testUndelivered},
		{"Deliver", testDeliver},
		{"EmptyAnswers", testEmpty},
		{"EmptyBatch", testEmptyBatch},
		{"Since", testSince},
		{"Numbered", testNumbered},
		{"HistoryPages", testHistoryPages},
		{"HistoryRanges", testHistoryRanges},
		{"HistoryBytes", testHistoryBytes},
		{"HistoryOfConversations", testHistoryOfConversations},
		{"HistoryOfOneSide", testHistoryOfOneSide},
		{"HistoryLongConversation", testHistoryLong},
		{"Bounds", testBounds},
		{"Behind", testBehind},
		{"Epochs", testEpochs},
		{"ReadersDuringAppend", testReadersDuringAppend},
		{"ReadersDuringRetraction", testReadersDuringRetraction},
		{"OpenConversation", testOpenConversation},
		{"OpenedAndEmpty", testOpenedAndEmpty},
		{"OpenConversationRaces", testOpenRaces},
		{"Conversations", testConversations},
		{"ConversationsOfOneSide", testConversationsOfOneSide},
		{"ManyConversations", testManyConversations},
		{"Unread", testUnread},
		{"UnreadIsBounded", testUnreadIsBounded},
		{"EmptyRoom", testEmptyRoom},
		{"LargeRoom", testLargeRoom},
		{"RoomAccess", testRoomAccess},
		{"RoomRights", testRoomRights},
		{"RoomUnread", testRoomUnread},
		{"Markers", testMarkers},
		{"MarkersInsideOneBatch", testMarkersInBatch},
		{"MarkersAreReplaced", testMarkersReplaced},
		{"MarkersInPrivate", testMarkersPrivate},
		{"MarkersOfOthers", testMarkersOfOthers},
		{"MarkersTold", testMarkersTold},
		{"MarkersOfMessages", testMarkersOfMessages},
		{"MarkersOfRooms", testMarkersOfRooms},
		{"Retraction", testRetraction},
		{"RetractionInsideOneBatch", testRetractionInBatch},
		{"Basis", testBasis},
		{"Origin", testOrigin},
		{"Named", testNamed},
		{"Last", testLast},
		{"CancelledContext", testCancelled},
		{"SharedConversations", testSharedConversations},
		{"ConcurrentDuplicates", testConcurrentDuplicates},
		{"RetractionRacesEdit", testRetractionRacesEdit},
		{"RoomSenders", testRoomSenders},
		{"ReportsByUnion", testReportsByUnion},
		{"FollowerBesideCommits", testFollower},
		{"Damage", testDamage},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "Damage" && logs.Damage == nil {
				return
			}
			test.run(t, logs)
		})
	}
}

// open opens a log in a new folder and closes it at the end of the test.
func open(t testing.TB, logs Logs) Log {
	t.Helper()
	l := logs.Open(t, t.TempDir())
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// testNumbers: identities rise, numbers are dense in each conversation whoever writes, and a conversation has one
// identity.
func testNumbers(t *testing.T, logs Logs) {
	l := open(t, logs)
	batch := mustAppend(t, l, noon(),
		message(t, l, alice(), bob(), "a", stored), message(t, l, bob(), alice(), "b", stored),
		message(t, l, alice(), carol(), "c", stored), message(t, l, alice(), bob(), "d", stored))
	batch = append(batch, mustAppend(t, l, noon().Add(time.Second), message(t, l, bob(), alice(), "e", stored))...)
	var numbers []uint64
	for i, a := range batch {
		numbers = append(numbers, a.Seq)
		require.False(t, a.Duplicate || a.Conflict)
		if i > 0 {
			require.Greater(t, a.ID, batch[i-1].ID)
		}
	}
	require.Equal(t, []uint64{1, 2, 1, 3, 4}, numbers)
	require.Equal(t, batch[0].Conversation, batch[1].Conversation)
	require.Equal(t, batch[0].Conversation, batch[4].Conversation)
	require.NotEqual(t, batch[0].Conversation, batch[2].Conversation)
	require.NotZero(t, batch[0].Conversation)
	require.Equal(t, noon(), batch[0].ID.Time())
	require.Equal(t, noon().Add(time.Second), batch[4].ID.Time())

	o, err := l.FindConversation(context.Background(), store.DirectKey(bob(), alice()))
	require.NoError(t, err)
	require.Equal(t, batch[0].Conversation, o.ID)
	require.Equal(t, uint64(4), o.Last)
}

// testWholeMessages: what is read is what was written, all fields of it.
func testWholeMessages(t *testing.T, logs Logs) {
	l := open(t, logs)
	full := withOrigin(message(t, l, alice(), bob(), "whole", inBoth), "0b5e0c3c-1")
	full.StanzaID = "s1"
	same := withOrigin(message(t, l, alice(), bob(), "same", inBoth), "0b5e0c3c-2")
	same.StanzaID = same.OriginID
	empty := &store.Append{
		Message: store.Message{Conversation: direct(t, l, romeo(), bob()), Author: romeo(), Stanza: []byte{}},
	}
	large := message(t, l, bob(), alice(), string(make([]byte, 300_000)), stored)
	room := said(roomOf(t, l, "whole", alice()), romeo(), "from abroad", store.Unread)
	mustAppend(t, l, noon(), full, same, empty, large, room)
	for _, want := range []*store.Append{full, same, empty, large, room} {
		got, err := l.Message(context.Background(), want.ID)
		require.NoError(t, err)
		require.Equal(t, want.Message, got)
	}
	// What the caller does with its buffer afterwards is its own business.
	full.Stanza[0] = '!'
	got, err := l.Message(context.Background(), full.ID)
	require.NoError(t, err)
	require.Equal(t, byte('<'), got.Stanza[0])
}

func testReopen(t *testing.T, logs Logs) {
	folder := t.TempDir()
	var written []store.Message
	var missed []store.MessageID
	for round := range 4 {
		l := logs.Open(t, folder)
		batch := mustAppend(t, l, noon().Add(time.Duration(round)*time.Millisecond),
			message(t, l, alice(), bob(), fmt.Sprint("ab", round), stored),
			message(t, l, romeo(), bob(), fmt.Sprint("rb", round), stored))
		for _, a := range batch {
			require.Equal(t, uint64(round+1), a.Seq)
			written = append(written, a.Message)
		}
		require.NoError(
			t, l.Deliver(context.Background(), []store.Delivered{{Account: 2, IDs: []store.MessageID{batch[1].ID}}}),
		)
		mustAppend(t, l, noon()) // an empty one makes nothing durable
		missed = append(missed, batch[0].ID)
		require.NoError(t, l.Close())

		l = logs.Open(t, folder)
		got, err := l.Since(context.Background(), 0, 100)
		require.NoError(t, err)
		require.Equal(t, written, got)
		cursor, err := l.Cursor(context.Background(), 2)
		require.NoError(t, err)
		require.Equal(t, store.DeliveryCursor{Account: 2, Through: batch[1].ID, Missed: missed}, cursor)
		require.NoError(t, l.Close())
	}
}

// testClockGoesBack: identities rise although the clock does not, in one process and over a restart.
func testClockGoesBack(t *testing.T, logs Logs) {
	folder := t.TempDir()
	l := logs.Open(t, folder)
	last := mustAppend(t, l, noon(), message(t, l, alice(), bob(), "1", stored))[0].ID
	for n, now := range []time.Time{noon().Add(-24 * time.Hour), noon().Add(-time.Nanosecond),
		noon().Add(24 * time.Hour), noon()} {
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
		a := mustAppend(t, l, now, message(t, l, bob(), alice(), "next", stored))[0]
		require.Greater(t, a.ID, last)
		require.Equal(t, uint64(n+2), a.Seq)
		last = a.ID
	}
	require.NoError(t, l.Close())
}

// testRepetition: a known origin-id gets the first answer, also after reopening; with another content it is a conflict.
func testRepetition(t *testing.T, logs Logs) {
	folder := t.TempDir()
	l := logs.Open(t, folder)
	first := withOrigin(message(t, l, alice(), bob(), "once", stored), "o1")
	mustAppend(t, l, noon(), first, message(t, l, alice(), bob(), "other", stored))
	for range 2 {
		again := withOrigin(message(t, l, alice(), bob(), "once", stored), "o1")
		changed := withOrigin(message(t, l, alice(), bob(), "twice", stored), "o1")
		elsewhere := withOrigin(message(t, l, alice(), carol(), "elsewhere", stored), "o1")
		mustAppend(t, l, noon().Add(time.Hour), again, changed, elsewhere)
		require.True(t, again.Duplicate)
		require.False(t, again.Conflict)
		require.Equal(t, first.ID, again.ID)
		require.Equal(t, first.Conversation, again.Conversation)
		require.Equal(t, first.Seq, again.Seq)
		for _, a := range []*store.Append{changed, elsewhere} {
			require.True(t, a.Conflict)
			require.False(t, a.Duplicate)
			require.Zero(t, a.ID)
		}
		all, err := l.Since(context.Background(), 0, 10)
		require.NoError(t, err)
		require.Equal(t, []string{"once", "other"}, texts(all))
		require.NoError(t, l.Close())
		l = logs.Open(t, folder)
	}
	// Nothing that was refused has used up a number.
	require.Equal(t, uint64(3), mustAppend(t, l, noon(), message(t, l, bob(), alice(), "third", stored))[0].Seq)
	require.NoError(t, l.Close())
}

func testRepetitionInBatch(t *testing.T, logs Logs) {
	l := open(t, logs)
	batch := mustAppend(t, l, noon(),
		withOrigin(message(t, l, alice(), bob(), "x", stored), "o1"),
		message(t, l, bob(), alice(), "between", stored),
		withOrigin(message(t, l, alice(), bob(), "x", stored), "o1"),
		withOrigin(message(t, l, alice(), bob(), "y", stored), "o1"),
		message(t, l, alice(), bob(), "after", stored))
	require.True(t, batch[2].Duplicate)
	require.Equal(t, batch[0].ID, batch[2].ID)
	require.Equal(t, batch[0].Conversation, batch[2].Conversation)
	require.Equal(t, batch[0].Seq, batch[2].Seq)
	require.True(t, batch[3].Conflict)
	require.Equal(t, uint64(3), batch[4].Seq)
}

// testRepetitionOfOther: an origin-id belongs to its sender, be it an account or a remote address.
func testRepetitionOfOther(t *testing.T, logs Logs) {
	l := open(t, logs)
	for round := range 2 {
		batch := mustAppend(t, l, noon())
		for _, sender := range []store.Party{alice(), newAlice(), carol(), romeo(), juliet()} {
			batch = append(batch, withOrigin(message(t, l, sender, bob(), "same", stored), "o1"))
		}
		mustAppend(t, l, noon(), batch...)
		for _, a := range batch {
			require.Equal(t, round == 1, a.Duplicate, "%v", a.Author)
			require.False(t, a.Conflict)
		}
	}
	// Two texts that would be equal if the address and the identity were simply put together.
	for _, sender := range []string{"a@x.example", "a@x.example2"} {
		a := message(t, l, party(sender, 0), bob(), "t", stored)
		a.OriginID = "2o"[len(sender)-len("a@x.example"):]
		require.False(t, mustAppend(t, l, noon(), a)[0].Duplicate)
	}
}

// testRecreatedAccount: the same address with another account behind it is somebody else.
func testRecreatedAccount(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	old := mustAppend(t, l, noon(), message(t, l, bob(), alice(), "to the old one", stored))[0]
	young := mustAppend(t, l, noon(), message(t, l, bob(), newAlice(), "to the new one", stored))[0]
	require.Equal(t, uint64(1), young.Seq)
	require.NotEqual(t, old.Conversation, young.Conversation)

	found, _, err := l.History(ctx, store.HistoryQuery{Owner: newAlice().Account, Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []string{"to the new one"}, texts(found))
	found, _, err = l.History(
		ctx, store.HistoryQuery{Owner: bob().Account, Conversation: young.Conversation, Limit: 10},
	)
	require.NoError(t, err)
	require.Equal(t, []string{"to the new one"}, texts(found))
	found, err = l.Undelivered(ctx, newAlice().Account, 0, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"to the new one"}, texts(found))
}

// testNoteToSelf: a note is once in the history, in whichever archive its flags put it.
func testNoteToSelf(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	notes := mustAppend(t, l, noon(),
		message(t, l, alice(), alice(), "both", stored),
		message(t, l, alice(), alice(), "sender", store.InAuthorArchive),
		message(t, l, alice(), alice(), "recipient", store.InRecipientArchive),
		message(t, l, alice(), alice(), "offline", offline),
		message(t, l, alice(), bob(), "to bob", stored))
	require.Equal(
		t, []uint64{1, 2, 3, 4, 1}, []uint64{notes[0].Seq, notes[1].Seq, notes[2].Seq, notes[3].Seq, notes[4].Seq},
	)

	found, more, err := l.History(ctx, store.HistoryQuery{Owner: 1, Limit: 10})
	require.NoError(t, err)
	require.False(t, more)
	require.Equal(t, []string{"both", "sender", "recipient", "to bob"}, texts(found))
	found, _, err = l.History(ctx, store.HistoryQuery{Owner: 1, Conversation: notes[0].Conversation, Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []string{"both", "sender", "recipient"}, texts(found))
	found, err = l.Undelivered(ctx, 1, 0, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"both", "offline"}, texts(found))
	o, err := l.FindConversation(ctx, store.DirectKey(alice(), alice()))
	require.NoError(t, err)
	require.Equal(t, notes[0].Conversation, o.ID)
	require.Equal(t, uint64(4), o.Last)
	members, more, err := l.Members(ctx, o.ID, 0, 10)
	require.NoError(t, err)
	require.False(t, more)
	require.Len(t, members, 1)
}

// testRemoteParties: addresses of other domains have no account, and nothing of them is mixed up.
func testRemoteParties(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	mustAppend(t, l, noon(),
		message(t, l, romeo(), alice(), "from romeo", stored), message(t, l, alice(), romeo(), "to romeo", stored),
		message(t, l, juliet(), alice(), "from juliet", stored))
	for _, test := range []struct {
		in   store.ConversationID
		want []string
	}{
		{direct(t, l, alice(), romeo()), []string{"from romeo", "to romeo"}},
		{direct(t, l, alice(), juliet()), []string{"from juliet"}},
		{direct(t, l, alice(), party("nurse@capulet.example", 0)), []string{}},
		{0, []string{"from romeo", "to romeo", "from juliet"}},
	} {
		found, _, err := l.History(ctx, store.HistoryQuery{Owner: 1, Conversation: test.in, Limit: 10})
		require.NoError(t, err)
		require.Equal(t, test.want, texts(found), "%v", test.in)
	}
	members, _, err := l.Members(ctx, direct(t, l, alice(), romeo()), 0, 10)
	require.NoError(t, err)
	require.Len(t, members, 1)
	// No account is nobody's account.
	found, _, err := l.History(ctx, store.HistoryQuery{Owner: 0, Limit: 10})
	require.NoError(t, err)
	require.Empty(t, found)
	found, err = l.Undelivered(ctx, 0, 0, 10)
	require.NoError(t, err)
	require.Empty(t, found)
	_, _, err = l.Bounds(ctx, 0)
	require.ErrorIs(t, err, store.ErrNotFound)
}

func testUndelivered(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	var batch []*store.Append
	for i := 1; i <= 10; i++ {
		batch = append(batch, message(t, l, bob(), alice(), fmt.Sprint(i), stored))
	}
	batch[3].Flags = inBoth // 4 is not for replaying
	batch = append(
		batch, message(t, l, alice(), bob(), "her own", stored), message(t, l, carol(), bob(), "not hers", stored),
	)
	mustAppend(t, l, noon(), batch...)
	id := func(n int) store.MessageID { return batch[n-1].ID }
	check := func(after store.MessageID, limit int, want ...string) {
		t.Helper()
		found, err := l.Undelivered(ctx, 1, after, limit)
		require.NoError(t, err)
		require.Equal(t, append([]string{}, want...), texts(found))
	}
	deliver := func(ids ...store.MessageID) {
		t.Helper()
		require.NoError(t, l.Deliver(ctx, []store.Delivered{{Account: 1, IDs: ids}}))
	}
	check(0, 100, "1", "2", "3", "5", "6", "7", "8", "9", "10")
	check(id(5), 100, "6", "7", "8", "9", "10")
	check(0, 2, "1", "2")
	deliver(id(7))
	check(0, 100, "1", "2", "3", "5", "6", "8", "9", "10")
	deliver(id(1), id(3), id(5))
	check(0, 100, "2", "6", "8", "9", "10")
	check(id(2), 100, "6", "8", "9", "10")
	check(0, 1, "2")
	check(0, 3, "2", "6", "8")
	deliver(id(9), id(8), id(6), id(2))
	check(0, 100, "10")
	check(id(10), 100)
	deliver(id(10), id(10), id(4))
	check(0, 100)
	mustAppend(t, l, noon(), message(t, l, bob(), alice(), "new", offline))
	check(0, 100, "new")
}

func testEmpty(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	check := func() {
		t.Helper()
		_, err := l.Message(ctx, 12345)
		require.ErrorIs(t, err, store.ErrNotFound)
		found, more, err := l.History(ctx, store.HistoryQuery{Owner: 9, Limit: 5})
		require.NoError(t, err)
		require.False(t, more)
		require.Empty(t, found)
		found, more, err = l.History(ctx, store.HistoryQuery{Owner: 9, Conversation: 12345, Limit: 5, Backward: true})
		require.NoError(t, err)
		require.False(t, more)
		require.Empty(t, found)
		in, err := l.InHistory(ctx, 9, 12345)
		require.NoError(t, err)
		require.False(t, in)
		found, err = l.Undelivered(ctx, 9, 0, 5)
		require.NoError(t, err)
		require.Empty(t, found)
		_, err = l.FindConversation(ctx, store.DirectKey(alice(), party("nobody@example.org", 9)))
		require.ErrorIs(t, err, store.ErrNotFound)
		_, err = l.ConversationByID(ctx, 12345)
		require.ErrorIs(t, err, store.ErrNotFound)
		_, _, err = l.Members(ctx, 12345, 0, 5)
		require.ErrorIs(t, err, store.ErrNotFound)
		_, _, err = l.Markers(ctx, 12345, 0, 5)
		require.ErrorIs(t, err, store.ErrNotFound)
		_, err = l.Member(ctx, 12345, 1)
		require.ErrorIs(t, err, store.ErrNotFound)
		_, err = l.ConversationOf(ctx, 1, 12345)
		require.ErrorIs(t, err, store.ErrNotFound)
		_, _, err = l.Named(ctx, 12345, alice(), "x")
		require.ErrorIs(t, err, store.ErrNotFound)
		cursor, err := l.Cursor(ctx, 9)
		require.NoError(t, err)
		require.Equal(t, store.DeliveryCursor{Account: 9}, cursor)
		behind, err := l.Behind(ctx, []store.Reached{{Account: 9}, {Account: 0}})
		require.NoError(t, err)
		require.Empty(t, behind)
		found, err = l.Numbered(ctx, 12345, 1, 5)
		require.NoError(t, err)
		require.Empty(t, found)
		_, _, err = l.Bounds(ctx, 9)
		require.ErrorIs(t, err, store.ErrNotFound)
		found, err = l.Since(ctx, 1<<62, 5)
		require.NoError(t, err)
		require.Empty(t, found)
	}
	check()
	mustAppend(t, l, noon(), message(t, l, alice(), bob(), "not theirs", stored))
	check()
	_, _, err := l.History(ctx, store.HistoryQuery{Owner: 1})
	require.Error(t, err, "a limit of nothing is a mistake of the caller")
}

func testEmptyBatch(t *testing.T, logs Logs) {
	l := open(t, logs)
	b := &store.Batch{Now: noon()}
	require.NoError(t, l.Append(context.Background(), b))
	require.Zero(t, b.Number)
	require.NoError(t, l.Deliver(context.Background(), nil))
	require.Equal(t, uint64(1), mustAppend(t, l, noon(), message(t, l, alice(), bob(), "x", forsaken))[0].Seq)
}

func testCancelled(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	late := message(t, l, alice(), bob(), "late", stored)
	err := l.Append(ctx, &store.Batch{Now: noon(), Entries: []*store.Append{late}})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, store.ErrNotStored)
	err = l.Deliver(ctx, []store.Delivered{{Account: 1, IDs: []store.MessageID{1}}})
	require.ErrorIs(t, err, store.ErrNotStored)
	found, err := l.Since(context.Background(), 0, 10)
	require.NoError(t, err)
	require.Empty(t, found)
}
