package inbox

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
)

// BenchmarkSync measures what clients ask for, on a log on disk: an account with 200 conversations and 100,000
// messages. It is the source of the figures in docs/design/sync.md.
func BenchmarkSync(b *testing.B) {
	h := newHouse(b)
	log := openLog(b, b.TempDir())
	defer func() { require.NoError(b, log.Close()) }()
	h.use(log)
	alice := h.account("alice")
	peers := h.accounts("peer", 200)
	body := string(make([]byte, 300))
	var cursors []string // at every thousandth message
	for n := range 1000 {
		if n%10 == 0 {
			_, cursor := h.follow(alice, "", 1000)
			cursors = append(cursors, cursor)
		}
		var batch []*store.Append
		for i := range 100 {
			batch = append(batch, text(peers[(n*100+i)%len(peers)], alice, body))
		}
		h.append(batch...)
	}
	_, newest := h.follow(alice, "", 1000)
	h.say(peers[0], alice, "new")
	_, settled := h.follow(alice, newest, 1000)
	for _, bench := range []struct {
		name string
		do   func()
	}{
		{"nothing new", func() { h.sync(alice, settled, 100) }},
		{"one new message", func() { h.sync(alice, newest, 100) }},
		{"a page of 100, ten thousand behind", func() { h.sync(alice, cursors[90], 100) }},
		{"catching up with ten thousand, pages of 500", func() { h.follow(alice, cursors[90], 500) }},
		{"a first sync, 50 conversations of 20 messages", func() { h.follow(alice, "", 1000) }},
		{"the list of the newest 50 conversations", func() {
			_, _, err := h.view.Conversations(b.Context(), owner(alice), 0, 50)
			require.NoError(b, err)
		}},
		{"one conversation", func() {
			_, err := h.view.Conversation(b.Context(), owner(alice), peers[7].JID)
			require.NoError(b, err)
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				bench.do()
			}
		})
	}
}
