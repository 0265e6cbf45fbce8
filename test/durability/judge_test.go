package durability

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// found is a history with the given bodies; the stanza-id of "x" is "id-x".
func found(bodies ...string) (all []entry) {
	for _, body := range bodies {
		all = append(all, entry{"id-" + body, body})
	}
	return all
}

func collect(judge func(bad func(format string, args ...any))) string {
	var all []string
	judge(func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) })
	return strings.Join(all, "; ")
}

// TestHistoryIsJudged: judge finds every kind of error that the crash tests look for.
func TestHistoryIsJudged(t *testing.T) {
	sent := []string{"2.1", "2.2", "2.3", "4.1", "4.2"}
	for name, c := range map[string]struct {
		again   bool
		acked   []string
		history []entry
		receipt *receipt // of 2.2
		want    string   // "" for nothing wrong
	}{
		"all":                      {acked: sent, history: found(sent...)},
		"unacknowledged end":       {acked: []string{"2.1", "4.1"}, history: found("2.1", "4.1")},
		"stored, not acknowledged": {acked: []string{"2.1"}, history: found("2.1", "2.2", "4.1")},
		"lost": {acked: []string{"2.1", "2.2", "4.1"}, history: found("2.1", "4.1"),
			want: "1 of 3 acknowledged messages are lost"},
		"lost all": {acked: []string{"2.1"}, want: "1 of 1 acknowledged messages are lost"},
		"twice":    {acked: []string{"2.1"}, history: found("2.1", "2.1"), want: "2.1 is there twice"},
		"out of order": {acked: sent, history: found("2.1", "2.3", "2.2", "4.1", "4.2"),
			want: "2.3 comes after 2.1"},
		"hole in a round":   {acked: []string{"2.1"}, history: found("2.1", "2.3"), want: "2.3 comes after 2.1"},
		"hole at the start": {acked: []string{"2.1"}, history: found("2.1", "4.2"), want: "4.2 comes after 2.1"},
		"invented": {acked: []string{"2.1"}, history: found("2.1", "2.9"),
			want: `"2.9" is there, and nobody sent it`},
		"sent again": {again: true, acked: []string{"2.1"}, history: found("2.1", "2.2")},
		"sent again, hole": {again: true, acked: []string{"2.1"}, history: found("2.1", "2.2", "4.1"),
			want: "4.1 is in place 3"},
		"sent again, twice": {again: true, history: found("2.1", "2.2", "2.1"), want: "2.1 is there twice"},
		"sent again, lost":  {again: true, acked: []string{"2.1", "2.2"}, history: found("2.1"), want: "1 of 2"},
		"confirmed":         {history: found("2.1", "2.2"), receipt: &receipt{id: "id-2.2", number: 2}},
		"confirmed, lost": {history: found("2.1"), receipt: &receipt{id: "id-2.2", number: 2},
			want: "1 of 1 acknowledged messages are lost"},
		"confirmed, other number": {history: found("2.1", "2.2"), receipt: &receipt{id: "id-2.2", number: 3},
			want: "confirmed in another way"},
		"confirmed, other id": {history: found("2.1", "2.2"), receipt: &receipt{id: "id-2.9", number: 2},
			want: "confirmed in another way"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pair{again: c.again, sent: sent, acked: c.acked, known: c.history, receipts: map[string]receipt{}}
			if c.receipt != nil {
				p.receipts["2.2"] = *c.receipt
			}
			got := collect(p.judge)
			if c.want == "" {
				require.Empty(t, got)
			}
			require.Contains(t, got, c.want)
		})
	}
}

// TestInboxIsJudged is the same for what is received.
func TestInboxIsJudged(t *testing.T) {
	p := &pair{acked: []string{"1", "2", "3"}, known: found("1", "2", "3", "4")}
	for name, c := range map[string]struct {
		streams []received
		want    string
	}{
		"all":         {streams: []received{{entries: found("1", "2", "3")}}},
		"more":        {streams: []received{{entries: found("1", "2", "3", "4")}}},
		"two streams": {streams: []received{{entries: found("1")}, {entries: found("2", "3")}}},
		"again, crash": {streams: []received{{entries: found("1", "2")},
			{entries: found("1", "2", "3"), crashes: 1}}},
		"again, no crash": {streams: []received{{entries: found("1", "2")}, {entries: found("2", "3")}},
			want: "2 came twice without a crash between"},
		"again, one stream": {streams: []received{{entries: found("1", "1", "2", "3")}},
			want: "1 came after the message at place 1"},
		"out of order": {streams: []received{{entries: found("2", "1", "3")}},
			want: "1 came after the message at place 2"},
		"never": {streams: []received{{entries: found("1", "3")}},
			want: "1 of 3 acknowledged messages never came"},
		"another stanza-id": {streams: []received{{entries: found("1", "2", "3")},
			{entries: []entry{{"id-9", "1"}}, crashes: 1}}, want: `1 came with the stanza-id "id-9"`},
		"without stanza-id": {streams: []received{{entries: []entry{{"", "1"}}},
			{entries: found("1", "2", "3"), crashes: 1}}, want: `1 came with the stanza-id ""`},
		"after two crashes": {streams: []received{{entries: found("1")}, {entries: found("1"), crashes: 1},
			{entries: found("1", "2", "3"), crashes: 2}}},
		"twice after crash": {streams: []received{{entries: found("1"), crashes: 1},
			{entries: found("1", "2", "3"), crashes: 1}}, want: "1 came twice without a crash between"},
		"nothing, never was": {want: "3 of 3 acknowledged messages never came"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &inbox{streams: c.streams}
			got := collect(func(bad func(format string, args ...any)) { b.judge(p, bad) })
			if c.want == "" {
				require.Empty(t, got)
			}
			require.Contains(t, got, c.want)
		})
	}
}
