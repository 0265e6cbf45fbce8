package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// writers is how many goroutines write to one log at once.
const writers = 3

// atOnce runs a function for each of n writers and waits for them all.
func atOnce(t testing.TB, n int, write func(writer int) error) {
	t.Helper()
	var all sync.WaitGroup
	failed := make(chan error, n)
	for i := range n {
		all.Go(func() { failed <- write(i) })
	}
	all.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
}

// testSharedConversations: numbers are dense and identities rise, whoever writes, and each writer is told its own.
func testSharedConversations(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	in := []store.ConversationID{
		direct(t, l, alice(), bob()),
		roomOf(t, l, "hall", alice(), bob()),
		direct(t, l, alice(), carol()),
	}
	const rounds, size = 40, 4
	var mu sync.Mutex
	told := map[store.MessageID]store.Message{}
	var numbers []uint64
	atOnce(t, writers, func(writer int) error {
		last := store.MessageID(0)
		for round := range rounds {
			b := &store.Batch{Now: noon()}
			for i := range size {
				b.Entries = append(
					b.Entries, said(in[(round+i+writer)%3], alice(), fmt.Sprint(writer, round, i), inBoth),
				)
			}
			if err := l.Append(ctx, b); err != nil {
				return err
			}
			mu.Lock()
			numbers = append(numbers, b.Number)
			for _, a := range b.Entries {
				if a.ID <= last || a.Duplicate || a.Overtaken {
					mu.Unlock()
					return fmt.Errorf("%+v after %d", a, last)
				}
				last = a.ID
				told[a.ID] = a.Message
			}
			mu.Unlock()
		}
		return nil
	})
	all, err := l.Since(ctx, 0, writers*rounds*size+1)
	require.NoError(t, err)
	require.Len(t, all, writers*rounds*size)
	next := map[store.ConversationID]uint64{}
	for _, m := range all {
		next[m.Conversation]++
		require.Equal(t, next[m.Conversation], m.Seq)
		require.Equal(t, told[m.ID], m)
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		require.Equal(t, uint64(i+1), n, "batches are numbered without holes")
	}
}

// testConcurrentDuplicates: of the same message sent by several at once one is stored, and all get its number.
func testConcurrentDuplicates(t *testing.T, logs Logs) {
	l := open(t, logs)
	in := direct(t, l, alice(), bob())
	const total = 60
	var got [writers][total]*store.Append
	atOnce(t, writers, func(writer int) error {
		for i := 0; i < total; i += 3 {
			b := &store.Batch{Now: noon()}
			for j := i; j < i+3; j++ {
				got[writer][j] = withOrigin(said(in, alice(), fmt.Sprint(j), stored), fmt.Sprint("o", j))
				b.Entries = append(b.Entries, got[writer][j])
			}
			if err := l.Append(context.Background(), b); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range total {
		first := 0
		for writer := range writers {
			a := got[writer][i]
			require.False(t, a.Conflict)
			require.Equal(t, got[0][i].ID, a.ID)
			require.Equal(t, got[0][i].Seq, a.Seq)
			if !a.Duplicate {
				first++
			}
		}
		require.Equal(t, 1, first)
	}
	o, err := l.ConversationByID(context.Background(), in)
	require.NoError(t, err)
	require.Equal(t, uint64(total), o.Last)
}

// testBasis: an entry is overtaken when its conversation is beyond what it rests on, and by nothing else.
func testBasis(t *testing.T, logs Logs) {
	l := open(t, logs)
	in, other := direct(t, l, alice(), bob()), direct(t, l, alice(), carol())
	resting := func(basis uint64) *store.Append {
		a := said(in, alice(), "resting", stored)
		a.Basis = basis
		return a
	}
	batch := mustAppend(
		t,
		l,
		noon(),
		said(in, bob(), "1", stored),
		said(in, bob(), "2", stored),
		resting(1),
		resting(2),
		resting(2),
		said(
			other, alice(), "noise", stored,
		),
		resting(3),
		marker(in, 1, store.MarkRead, 2),
		resting(9),
		withOrigin(resting(5), "o1"),
	)
	var overtaken []bool
	for _, a := range batch {
		overtaken = append(overtaken, a.Overtaken)
	}
	require.Equal(t, []bool{false, false, true, false, true, false, false, false, false, false}, overtaken)
	require.Zero(t, batch[2].ID)
	require.Zero(t, batch[2].Seq)
	undo := resting(5)
	undo.Retract, undo.Remains = batch[0].ID, []byte("<gone/>")
	again := withOrigin(resting(1), "o1")
	mustAppend(t, l, noon(), undo, again)
	require.True(t, undo.Overtaken)
	require.True(t, again.Duplicate, "a repetition is found first")
	require.False(t, again.Overtaken)
	kept, err := l.Message(context.Background(), batch[0].ID)
	require.NoError(t, err)
	require.Zero(t, kept.Flags&store.Retracted, "an entry that was overtaken retracts nothing")
}

func testRetractionRacesEdit(t *testing.T, logs Logs) {
	require.NoError(t, raceRetractions(open(t, logs)))
}

// raceRetractions lets messages be retracted, with their edits, while others edit them. Whoever edits or retracts has
// looked at the conversation before, and says with Basis what it has seen. The first time that a retraction has
// looked, it waits for an edit. It returns an error when content of a retracted message is left.
func raceRetractions(l Log) error {
	ctx := context.Background()
	o, err := l.OpenConversation(ctx, noon(), store.DirectKey(alice(), bob()), nil)
	if err != nil {
		return err
	}
	send := func(a *store.Append) error {
		return l.Append(ctx, &store.Batch{Now: noon(), Entries: []*store.Append{a}})
	}
	// look returns what there is of a message: itself and its edits, which begin with the same text.
	look := func(text string) (found []store.Message, last uint64, err error) {
		all, err := l.Numbered(ctx, o.ID, 1, 10_000)
		for _, m := range all {
			last = m.Seq
			if m.Flags&store.Retracted == 0 && texts([]store.Message{m})[0] == text {
				found = append(found, m)
			}
		}
		return found, last, err
	}
	edit := func(text string) error {
		for {
			found, last, err := look(text)
			if err != nil || len(found) == 0 {
				return err // it is retracted
			}
			a := said(o.ID, alice(), text, inBoth)
			a.Basis = last
			if err := send(a); err != nil || !a.Overtaken {
				return err
			}
		}
	}
	retract := func(text string, looked func()) error {
		for {
			found, last, err := look(text)
			if err != nil {
				return err
			}
			looked()
			looked = func() {}
			a := said(o.ID, alice(), "retract", inBoth)
			a.Basis, a.Retract, a.Remains = last, found[0].ID, []byte("<gone/>")
			for _, m := range found[1:] {
				a.AlsoRetract = append(a.AlsoRetract, store.Retraction{ID: m.ID, Remains: []byte("<gone/>")})
			}
			if err := send(a); err != nil || !a.Overtaken {
				return err
			}
		}
	}
	for round := range 15 {
		text := fmt.Sprint("m", round)
		if err := send(said(o.ID, alice(), text, inBoth)); err != nil {
			return err
		}
		var all sync.WaitGroup
		failed := make(chan error, writers)
		looked, edited := make(chan struct{}), make(chan struct{})
		all.Go(func() {
			failed <- retract(text, func() {
				close(looked)
				<-edited
			})
		})
		for i := range writers - 1 {
			all.Go(func() {
				<-looked
				failed <- edit(text)
				if i == 0 {
					close(edited)
				}
			})
		}
		all.Wait()
		close(failed)
		for err := range failed {
			if err != nil {
				return err
			}
		}
		if found, _, err := look(text); err != nil || len(found) > 0 {
			return fmt.Errorf(
				"after %q was retracted, %d messages have its text: %w", text, len(found), errors.Join(err),
			)
		}
	}
	return nil
}

// testRoomSenders: fifty members speak at once, and none of them is in another's way.
func testRoomSenders(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	const senders, each = 50, 8
	var members []store.Party
	for i := range senders {
		members = append(members, party(fmt.Sprintf("m%d@example.org", i), store.AccountID(i+1)))
	}
	in := roomOf(t, l, "plaza", append(members, party("silent@example.org", senders+1))...)
	mustAppend(t, l, noon(), said(in, members[0], "settings", store.Rights))
	atOnce(t, senders, func(i int) error {
		for range each {
			o, err := l.ConversationByID(ctx, in)
			if err != nil {
				return err
			}
			a := said(in, members[i], "x", store.Unread)
			a.RightsBasis, a.Judged = o.Rights, true
			if err := l.Append(ctx, &store.Batch{Now: noon(), Entries: []*store.Append{a}}); err != nil {
				return err
			}
			if a.Overtaken {
				return errors.New("a message was overtaken, although nobody's rights have changed")
			}
		}
		return nil
	})
	o, err := l.ConversationByID(ctx, in)
	require.NoError(t, err)
	require.Equal(t, store.Opened{ID: in, Key: roomKey("plaza"), Last: senders*each + 1, Rights: 1}, o)
	require.Equal(t, senders*each, viewOf(t, l, senders+1, in).Unread)
}

// testDeliver: a cursor moves through what was reported and misses what was not, but never so much that it had to
// forget.
func testDeliver(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	in := direct(t, l, alice(), bob())
	var ids []store.MessageID
	for i := range 100 {
		flags := stored
		if i%10 == 9 {
			flags = inBoth // not for delivery
		}
		a := mustAppend(t, l, noon(), said(in, bob(), "x", flags), said(in, alice(), "her own", stored))[0]
		ids = append(ids, a.ID)
	}
	check := func(through store.MessageID, missed int, undelivered int) {
		t.Helper()
		c, err := l.Cursor(ctx, 1)
		require.NoError(t, err)
		require.Equal(t, store.AccountID(1), c.Account)
		require.Equal(t, through, c.Through)
		require.Len(t, c.Missed, missed)
		found, err := l.Undelivered(ctx, 1, 0, 1000)
		require.NoError(t, err)
		require.Len(t, found, undelivered)
	}
	report := func(ids ...store.MessageID) {
		t.Helper()
		require.NoError(t, l.Deliver(ctx, []store.Delivered{{Account: 1, IDs: ids}}))
	}
	check(0, 0, 90)
	report(ids[0])
	check(ids[0], 0, 89)
	report(ids[0], 5) // a report that comes late
	check(ids[0], 0, 89)
	report(ids[9] + 1) // hers, which was sent from another device
	check(ids[9]+1, 8, 89)
	report(ids[99]) // 80 are missed before it: it stays behind, and all of them come again
	c, err := l.Cursor(ctx, 1)
	require.NoError(t, err)
	require.Len(t, c.Missed, store.MaxMissed)
	require.Less(t, c.Through, ids[99])
	require.Greater(t, c.Through, ids[70])
	check(c.Through, store.MaxMissed, 89)
	report(ids[1:50]...)
	c, err = l.Cursor(ctx, 1)
	require.NoError(t, err)
	require.Less(t, c.Through, ids[75], "a report does not move it back, nor further than it says")
	report(ids[99] + 1<<40)
	check(c.Through, len(c.Missed), 45)
	report(ids...)
	check(ids[99], 0, 0)
	report(ids[3])
	check(ids[99], 0, 0)
	require.NoError(
		t, l.Deliver(ctx, []store.Delivered{{Account: 2, IDs: []store.MessageID{ids[99] + 1}}, {Account: 3}}),
	)
	other, err := l.Cursor(ctx, 2)
	require.NoError(t, err)
	require.Len(t, other.Missed, store.MaxMissed)
}

// testReportsByUnion: what several report of one account adds up, in whichever order.
func testReportsByUnion(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	in := direct(t, l, alice(), bob())
	const total = 180 // the reports of two are less than MaxMissed ahead of the third one's
	var ids []store.MessageID
	for range total {
		ids = append(ids, mustAppend(t, l, noon(), said(in, bob(), "x", stored))[0].ID)
	}
	for round := range 3 {
		part := ids[round*60 : round*60+60]
		atOnce(t, writers+1, func(writer int) error {
			if writer == writers { // beside commits
				return l.Append(
					ctx, &store.Batch{Now: noon(), Entries: []*store.Append{said(in, alice(), "x", stored)}},
				)
			}
			for i := writer; i < len(part); i += writers {
				if err := l.Deliver(ctx, []store.Delivered{{Account: 1, IDs: part[i : i+1]}}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	c, err := l.Cursor(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, store.DeliveryCursor{Account: 1, Through: ids[total-1]}, c)
}

// testFollower: who follows the log, or an account's part of it, beside several writers, misses nothing and sees
// nothing twice.
func testFollower(t *testing.T, logs Logs) {
	l := open(t, logs)
	ctx := context.Background()
	ab, ac, room := direct(t, l, alice(), bob()), direct(t, l, alice(), carol()), roomOf(t, l, "hall", alice(), bob())
	const rounds = 60
	done := make(chan struct{})
	var followers sync.WaitGroup
	failed := make(chan error, 3)
	follow := func(read func(after store.MessageID) ([]store.Message, error)) {
		followers.Go(func() {
			var after store.MessageID
			next := map[store.ConversationID]uint64{}
			markers := map[store.AccountID]uint64{}
			for last := false; ; {
				found, err := read(after)
				for _, m := range found {
					if m.ID <= after {
						err = fmt.Errorf("%d comes after %d", m.ID, after)
					}
					after = m.ID
					if mk := m.Marker; mk != nil {
						markers[mk.Account] = mk.Through
						continue
					}
					if next[m.Conversation]++; m.Seq != next[m.Conversation] {
						err = fmt.Errorf(
							"in conversation %d number %d follows %d", m.Conversation, m.Seq, next[m.Conversation]-1,
						)
					}
				}
				if err == nil && last && len(found) == 0 {
					if next[ab] != 2*rounds || next[ac] != rounds || next[room] != 2*rounds || markers[1] != 2*rounds {
						err = fmt.Errorf("the end is %v, %v", next, markers)
					}
				}
				if err != nil || last && len(found) == 0 {
					failed <- err
					return
				}
				select {
				case <-done:
					last = true
				default:
				}
			}
		})
	}
	follow(func(after store.MessageID) ([]store.Message, error) { return l.Since(ctx, after, 7) })
	for _, limit := range []int{5, 50} {
		follow(func(after store.MessageID) ([]store.Message, error) {
			found, _, err := l.History(ctx, store.HistoryQuery{Owner: 1, After: after, Limit: limit, Markers: true})
			return found, err
		})
	}
	atOnce(t, writers, func(writer int) error {
		for round := range rounds {
			b := &store.Batch{Now: noon().Add(time.Duration(round) * time.Millisecond)}
			switch writer {
			case 0:
				b.Entries = []*store.Append{said(ab, alice(), "x", inBoth), said(room, bob(), "x", 0)}
			case 1:
				b.Entries = []*store.Append{
					said(ab, bob(), "x", inBoth),
					said(room, alice(), "x", 0),
					marker(ab, 1, store.MarkRead, 1000),
				}
			case 2:
				b.Entries = []*store.Append{
					said(ac, carol(), "x", inBoth),
					marker(room, 1, store.MarkRead, uint64(round)),
				}
			}
			if err := l.Append(ctx, b); err != nil {
				return err
			}
		}
		return nil
	})
	mustAppend(t, l, noon(), marker(ab, 1, store.MarkRead, 2*rounds), marker(room, 1, store.MarkRead, 2*rounds))
	close(done)
	followers.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
}
