package durability

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// addListeners adds a compact listener and one for HTTP to the configuration, and returns their addresses.
func addListeners(t *testing.T, s *server) (compact, web string) {
	t.Helper()
	compact, web = freePort(t), freePort(t)
	text, err := os.ReadFile(s.config)
	require.NoError(t, err)
	changed := strings.NewReplacer("  http: {address: []}", "  http: {address: [\""+web+"\"]}",
		"  compact: {address: []}", "  compact: {address: [\""+compact+"\"]}").
		Replace(string(text)) + "\napi: {rate: -1, address_rate: -1, login_rate: -1}\n"
	require.Contains(t, changed, compact)
	require.Contains(t, changed, web)
	require.NoError(t, os.WriteFile(s.config, []byte(changed), 0o600))
	return compact, web
}

// through sends one message and returns when it is answered, over as many connections and nodes as that takes.
type through func(ctx context.Context, to jid.JID, id, body string) (receipt, error)

// writer is somebody who writes one message after the other to somebody else, and keeps what was answered.
type writer struct {
	pair     *pair
	send     through
	receipts []receipt
}

// write sends until it is told to stop, or until the context ends.
func (w *writer) write(ctx context.Context, stop <-chan struct{}, count *atomic.Int64) error {
	to := jid.MustParse(user(w.pair.recipient()) + "@localhost")
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		body := fmt.Sprintf("1.%d", len(w.receipts)+1)
		r, err := w.send(ctx, to, "id-"+body, body)
		if err != nil {
			return fmt.Errorf("%s writes %s: %w", user(w.pair.sender()), body, err)
		}
		w.receipts = append(w.receipts, r)
		count.Add(1)
	}
}

// TestKillUnderClients ends the process with SIGKILL, again and again, while apps on the compact stream and programs on
// the HTTP API write. They come back by themselves and send again what was not answered: each message is stored once,
// in order, as its sender was told, and their recipients, who come back too, are handed each once.
func TestKillUnderClients(t *testing.T) {
	const each = 4
	rounds := scaled(t, 8)
	s := newServer(t, t.TempDir(), "full")
	compact, web := addListeners(t, s)
	s.addUsers(t, 4*each)
	p := s.startWell(t)

	var writers []*writer
	heard := make([][]string, each) // by compact recipients; each slice belongs to its client's handler
	came := make([]atomic.Int64, each)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rounds)*30*time.Second)
	defer cancel()
	dial := func(i int, handle func(client.Message)) *client.Client {
		c, err := client.Dial(ctx, client.Config{
			Address: "tcp://" + compact, Domain: "localhost", Username: user(i), Password: password,
			BackOff: 300 * time.Millisecond, Message: handle,
			Device: client.Device{ID: fmt.Sprintf("%08x-0000-4000-8000-000000000000", i)},
		})
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	var clients []*client.Client
	for i := range each {
		pair := &pair{number: i}
		c := dial(pair.sender(), nil)
		clients = append(clients, c, dial(pair.recipient(), func(m client.Message) {
			if m.Number > 0 {
				heard[i] = append(heard[i], m.Content.Text)
				came[i].Add(1)
			}
		}))
		writers = append(writers, &writer{pair: pair,
			send: func(ctx context.Context, to jid.JID, id, body string) (receipt, error) {
				r, err := c.SendAs(ctx, to, id, content.Content{Kind: content.Text, Text: body})
				return receipt{r.StanzaID, int(r.Number), r.Duplicate}, err
			}})
	}
	for i := range each {
		pair := &pair{number: each + i}
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		api := &client.API{Base: "http://" + web, HTTP: &http.Client{Transport: transport}}
		require.NoError(t, api.Login(ctx, user(pair.sender()), password, client.Device{}))
		writers = append(writers, &writer{pair: pair,
			send: func(ctx context.Context, to jid.JID, id, body string) (receipt, error) {
				r, err := api.Send(ctx, client.APINewMessage{ClientID: id, To: to.String(),
					Content: content.Content{Kind: content.Text, Text: body}})
				return receipt{r.ID, int(r.Number), r.Duplicate}, err
			}})
	}

	stop := make(chan struct{})
	var count atomic.Int64
	var all sync.WaitGroup
	errs := make(chan error, len(writers))
	for _, w := range writers {
		all.Go(func() { errs <- w.write(ctx, stop, &count) })
	}
	for range rounds {
		reach(t, &count, count.Load()+int64(100+rand.IntN(300)))
		p.kill()
		p.killed(t)
		p = s.startWell(t)
	}
	reach(t, &count, count.Load()+100)
	close(stop)
	all.Wait()
	for range writers {
		require.NoError(t, <-errs, "%s", p.log)
	}
	requireAnswers(t, s, writers)
	for i := range came {
		reach(t, &came[i], int64(len(writers[i].receipts)))
	}
	for _, c := range clients {
		require.NoError(t, c.Close()) // when it returns, the handlers have had everything that came
	}
	for i, bodies := range heard {
		w := writers[i]
		require.Len(t, bodies, len(w.receipts))
		for n, body := range bodies {
			require.Equal(t, fmt.Sprintf("1.%d", n+1), body, "what %s was handed", user(w.pair.recipient()))
		}
	}
	p.kill()
	p.killed(t)
	t.Logf("%d kills, %d messages answered", rounds, count.Load())
}

// reach waits until so many messages were answered.
func reach(t *testing.T, count *atomic.Int64, enough int64) {
	t.Helper()
	require.Eventually(t, func() bool { return count.Load() >= enough }, patience, time.Millisecond,
		"the clients do not come back")
}

// requireAnswers compares the histories of both parties with what the writers were told.
func requireAnswers(t *testing.T, s *server, writers []*writer) {
	t.Helper()
	repeated := map[bool]int{}
	for i, w := range writers {
		for _, one := range []struct{ who, with int }{{w.pair.sender(), w.pair.recipient()},
			{w.pair.recipient(), w.pair.sender()}} {
			a, err := s.connect(t.Context(), one.who)
			require.NoError(t, err)
			found, err := history(a, user(one.with), "")
			a.Cut()
			require.NoError(t, err)
			require.Len(t, found, len(w.receipts), "the history of %s", user(one.who))
			for n, r := range w.receipts {
				require.Equal(t, entry{r.id, fmt.Sprintf("1.%d", n+1)}, found[n])
				require.Equal(t, n+1, r.number)
			}
		}
		for _, r := range w.receipts {
			if r.duplicate {
				repeated[i < len(writers)/2]++
			}
		}
	}
	t.Logf("sent again after they had been stored: %d on the compact stream, %d by HTTP", repeated[true],
		repeated[false])
}
