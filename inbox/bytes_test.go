package inbox

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// TestAnswersAreBounded: whatever limit is asked for, no answer has much more than PageBytes of messages, each tells
// that there is more, and nothing is hidden.
func TestAnswersAreBounded(t *testing.T) {
	h := newHouse(t)
	alice, bob := h.account("alice"), h.account("bob")
	others := h.accounts("other", 15)
	const size = 200_000
	large := func(name string) string { return name + strings.Repeat("x", size) }
	_, begun := h.follow(alice, "", 100)
	var want []string
	for i := range 15 {
		h.say(bob, alice, large(fmt.Sprint("bob", i, " ")))
		want = append(want, fmt.Sprint("bob", i))
		h.say(others[i], alice, large(fmt.Sprint("other", i, " ")))
		want = append(want, fmt.Sprint("other", i))
	}
	short := func(messages []store.Message) (all []string) {
		bytes := 0
		for _, m := range messages {
			name, _, _ := strings.Cut(string(m.Stanza), " ")
			all = append(all, name)
			bytes += len(m.Stanza)
		}
		require.LessOrEqual(t, bytes, PageBytes+2*size)
		return all
	}

	var got []string
	for cursor, more := begun, true; more; {
		p := h.sync(alice, cursor, 500)
		got = append(got, short(p.Messages)...)
		cursor, more = p.Cursor, p.More
	}
	require.Equal(t, want, got, "sync")

	pages, _ := h.follow(alice, "", 500)
	got = nil
	for _, p := range pages {
		got = append(got, short(p.Messages)...)
	}
	require.Greater(t, len(pages), 1)
	require.Subset(t, want, got, "first sync")
	require.Subset(t, got, []string{"bob14", "other0", "other14"}, "the newest of each conversation")

	p, err := h.view.Sync(t.Context(), owner(alice), begun, 500, 1)
	require.NoError(t, err)
	require.True(t, p.More)
	require.Equal(t, want[:1], short(p.Messages), "one in any case")

	for _, backward := range []bool{false, true} {
		q := HistoryQuery{Limit: 250, Backward: backward}
		seen := 0
		for more := true; more; {
			var found []store.Message
			_, found, more, err = h.view.History(t.Context(), owner(alice), bob.JID, q)
			require.NoError(t, err)
			require.NotEmpty(t, found)
			short(found)
			seen += len(found)
			q.After, q.Before = found[len(found)-1].Seq, 0
			if backward {
				q.After, q.Before = 0, found[0].Seq
			}
		}
		require.Equal(t, 15, seen)
	}

	list, next, err := h.view.Conversations(t.Context(), owner(alice), Position{}, 200)
	require.NoError(t, err)
	require.Zero(t, next)
	require.Len(t, list, 16)
	list, next, err = h.view.AddNewest(t.Context(), list, next)
	require.NoError(t, err)
	require.NotZero(t, next)
	require.Less(t, len(list), 8)
	require.Len(t, h.list(alice, 200), 16, "the list")
}
