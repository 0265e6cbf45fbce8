package c2s_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/jid"
)

// Clients that do not read, more of them than there are writers, hold up nobody else.
func TestClientsThatDoNotReadHoldUpNobody(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2)) // as many writers
	run(t, nil, func(t *testing.T, e *env) {
		pad := strings.Repeat("x", 100_000) // more than the link holds
		for i := range 6 {
			name := fmt.Sprint("deaf", i)
			e.bind("romeo", name)
			require.True(t, e.sessions.Send(jid.MustParse("romeo@localhost/"+name), packet(pad, 1)))
		}
		synctest.Wait() // all writes wait now
		began := time.Now()
		juliet := e.bind("juliet", "balcony")
		for i := range 3 {
			text := fmt.Sprint("message ", i)
			require.True(t, e.sessions.Send(balcony, packet(text, uint64(2+i))))
			juliet.expect(text)
		}
		require.Zero(t, time.Since(began), "it waited for somebody's write to time out")
	})
}
