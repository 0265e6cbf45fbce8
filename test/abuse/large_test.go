package abuse

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/script"
)

// objects returns the bytes of live and dead objects on the heap.
func objects() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// What answers take in memory is bounded in bytes. Fifteen readers of the largest pages of one account take 32 MiB at
// most, and get everything.
func TestLargePages(t *testing.T) {
	const (
		messages, size = 100, 250_000
		readers        = 15
		bound          = 32 << 20
	)
	s := open(t, "api.rate=-1", "api.address_rate=-1", "messages.memtable_bytes=1048576", "archive.query_rate=1000",
		"archive.query_burst=1000")
	romeo := s.available(script.TCP, "romeo", "phone")
	body := strings.Repeat("x", size)
	for n := range messages {
		tell(t, romeo, "<message type='chat' to='juliet@localhost' id='m%d'><body>%d %s</body></message>", n, n, body)
		if n%10 == 9 {
			_, err := romeo.Barrier(fmt.Sprint("sent", n))
			require.NoError(t, err)
		}
	}
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: readers}, Timeout: 4 * patience}
	t.Cleanup(client.CloseIdleConnections)
	base := "http://" + s.Endpoints().HTTP
	answer, err := client.Post(base+"/v1/token", "application/json", strings.NewReader(
		`{"grant_type":"password","username":"juliet","password":"`+password("juliet")+`"}`))
	require.NoError(t, err)
	var pair struct {
		Access string `json:"access_token"`
	}
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&pair))
	answer.Body.Close()

	defer debug.SetGCPercent(debug.SetGCPercent(20)) // so that what is measured is little more than what is held
	before := heap()
	var most atomic.Uint64
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			most.Store(max(most.Load(), objects()))
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	// get reads a page without holding it, and tells how many bodies it has.
	get := func(path string) (bodies int, text string) {
		for {
			r, err := http.NewRequestWithContext(t.Context(), "GET", base+path, nil)
			if err != nil {
				t.Error(err)
				return 0, ""
			}
			r.Header.Set("Authorization", "Bearer "+pair.Access)
			answer, err := client.Do(r)
			if err != nil {
				t.Error(err)
				return 0, ""
			}
			if answer.StatusCode == http.StatusTooManyRequests {
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				continue
			}
			bodies, text = count(answer.Body)
			answer.Body.Close()
			if answer.StatusCode != 200 || bodies == 0 {
				t.Error(path, answer.Status, bodies, "bodies")
			}
			return bodies, text
		}
	}
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			const history = "/v1/conversations/romeo@localhost/messages?limit=250"
			bodies, text := get(history)
			if bodies > 10 || !strings.Contains(text, `"more":true`) {
				t.Error("a page of", bodies, "bodies")
			}
			get("/v1/sync?limit=500")
			get("/v1/conversations?limit=200")
		})
	}
	wg.Wait()
	close(stop)
	<-watched
	require.Less(t, most.Load()-min(before, most.Load()), uint64(bound))
	t.Logf("%d MiB above the %d before", (most.Load()-min(before, most.Load()))>>20, before>>20)

	seen := 0
	for after := 0; seen < messages; {
		bodies, _ := get(fmt.Sprintf("/v1/conversations/romeo@localhost/messages?limit=250&after=%d", after))
		if bodies == 0 {
			break
		}
		seen, after = seen+bodies, after+bodies
	}
	require.Equal(t, messages, seen)
}

// count reads an answer and returns how many long bodies are in it, and the answer without them.
func count(r io.Reader) (bodies int, rest string) {
	var short strings.Builder
	run, p := 0, make([]byte, 32<<10)
	for {
		n, err := r.Read(p)
		for _, c := range p[:n] {
			if c == 'x' {
				if run++; run == 1000 {
					bodies++
				}
				continue
			}
			run = 0
			short.WriteByte(c)
		}
		if err != nil {
			return bodies, short.String()
		}
	}
}
