package inbox

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
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
			batch = append(batch, h.text(peers[(n*100+i)%len(peers)], alice, body))
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
			_, _, err := h.view.Conversations(b.Context(), owner(alice), Position{}, 50)
			require.NoError(b, err)
		}},
		{"one conversation", func() {
			_, err := h.view.Conversation(b.Context(), owner(alice), peers[7].JID)
			require.NoError(b, err)
		}},
	} {
		b.Run(bench.name, func(b *testing.B) { measure(b, bench.do) })
	}
}

// BenchmarkPage measures pages of an account with few and with many conversations, on a log on disk.
func BenchmarkPage(b *testing.B) {
	h := newHouse(b)
	log := openLog(b, b.TempDir())
	defer func() { require.NoError(b, log.Close()) }()
	h.use(log)
	for _, conversations := range []int{200, 20_000} {
		o := h.crowd(fmt.Sprint("crowd", conversations), conversations)
		_, cursor := h.follow(o, "", 1000)
		h.mark(h.with(o, store.Party{JID: jid.MustParse("peer5@elsewhere.example")}), o, store.MarkRead, 1)
		for name, do := range map[string]func(){
			"list of 50": func() {
				_, _, err := h.view.Conversations(b.Context(), owner(o), Position{}, 50)
				require.NoError(b, err)
			},
			"first page of a first sync, 100 messages": func() { h.sync(o, "", 100) },
			"a marker has changed":                     func() { h.sync(o, cursor, 100) },
		} {
			b.Run(fmt.Sprint(name, ", ", conversations, " conversations"), func(b *testing.B) { measure(b, do) })
		}
	}
}

// measure runs it, and reports the CPU time of the process beside the time, which a busy machine makes longer.
func measure(b *testing.B, do func()) {
	cpu := func() time.Duration {
		var u syscall.Rusage
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	begun := cpu()
	for b.Loop() {
		do()
	}
	b.ReportMetric(float64((cpu()-begun).Microseconds())/float64(b.N), "cpu-µs/op")
}
