package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
)

// Each client's goroutines end with Close.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

func dial(t *testing.T, f *fake, change func(*client.Config)) (*client.Client, chan client.Message) {
	t.Helper()
	messages := make(chan client.Message, 1000)
	config := f.config()
	config.Message = func(m client.Message) { messages <- m }
	if change != nil {
		change(&config)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, config)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c, messages
}

func texts(t *testing.T, messages chan client.Message, n int) (all []string, fetched int) {
	t.Helper()
	for range n {
		select {
		case m := <-messages:
			all = append(all, m.Content.Text)
			if m.Fetched {
				fetched++
			}
		case <-time.After(patience):
			require.FailNow(t, "nothing came", "after %v", all)
		}
	}
	return all, fetched
}

// TestGap: what is missing between two numbers is fetched, in pages, and handed on before what comes after it.
func TestGap(t *testing.T) {
	f := newFake()
	t.Cleanup(f.close)
	_, messages := dial(t, f, nil)
	f.juliet("1", true)
	for _, lost := range []string{"2", "3", "4", "5", "6", "7", "8"} {
		f.juliet(lost, false)
	}
	f.juliet("9", true)
	f.juliet("10", true)
	all, fetched := texts(t, messages, 10)
	require.Equal(t, []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}, all)
	require.Equal(t, 7, fetched)
}

// TestTwice: what comes twice is handed on once.
func TestTwice(t *testing.T) {
	f := newFake()
	t.Cleanup(f.close)
	_, messages := dial(t, f, nil)
	f.juliet("1", true)
	f.mu.Lock()
	f.hear(f.archive[0])
	f.mu.Unlock()
	f.juliet("2", true)
	all, _ := texts(t, messages, 2)
	require.Equal(t, []string{"1", "2"}, all)
}

// TestMissedWhileAway: a session that cannot be resumed begins with what came meanwhile; what was sent and not
// confirmed is sent again under its id.
func TestMissedWhileAway(t *testing.T) {
	f := newFake()
	t.Cleanup(f.close)
	_, messages := dial(t, f, nil)
	<-f.came
	f.juliet("1", true)
	texts(t, messages, 1)
	f.mu.Lock()
	f.conn.Close()
	f.mu.Unlock()
	for _, body := range []string{"2", "3", "4", "5"} {
		f.juliet(body, false)
	}
	<-f.came
	all, fetched := texts(t, messages, 4)
	require.Equal(t, []string{"2", "3", "4", "5"}, all)
	require.Equal(t, 4, fetched)
}

// TestReconnectDelay: a server that stops says when to come back, and the client does not come sooner.
func TestReconnectDelay(t *testing.T) {
	f := newFake()
	t.Cleanup(f.close)
	dial(t, f, nil)
	<-f.came
	app := stanza.New("urn:posthouse:stream:1", "reconnect", "after", "2")
	f.mu.Lock()
	began := time.Now()
	f.write(pbstream.Codec{}.AppendError(nil, &stream.Error{Condition: stream.SystemShutdown, App: &app}))
	f.conn.Close()
	f.mu.Unlock()
	<-f.came
	require.GreaterOrEqual(t, time.Since(began), 2*time.Second)
}

// TestConflict: a client whose resource was taken does not come back.
func TestConflict(t *testing.T) {
	f := newFake()
	t.Cleanup(f.close)
	c, _ := dial(t, f, nil)
	<-f.came
	f.mu.Lock()
	f.write(pbstream.Codec{}.AppendError(nil, stream.Fail(stream.Conflict, "Replaced")))
	f.mu.Unlock()
	<-c.Done()
	var said *stream.Error
	require.ErrorAs(t, c.Err(), &said)
	require.Equal(t, stream.Conflict, said.Condition)
	_, err := c.Send(t.Context(), jid.MustParse("juliet@example.org"), content.Content{Kind: content.Text, Text: "x"})
	require.ErrorAs(t, err, &said)
}

// TestServerMustProve: a server that does not know the token is not spoken to.
func TestServerMustProve(t *testing.T) {
	f := newFake()
	t.Cleanup(f.close)
	config := f.config()
	config.Token.Secret = "another one"
	_, err := client.Dial(t.Context(), config)
	require.ErrorContains(t, err, "did not prove")
}

// TestContextEnds: who does not want to wait any longer does not.
func TestContextEnds(t *testing.T) {
	f := newFake()
	t.Cleanup(f.close)
	c, _ := dial(t, f, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Send(ctx, jid.MustParse("juliet@example.org"), content.Content{Kind: content.Text, Text: "x"})
	require.ErrorIs(t, err, context.Canceled)
	_, err = client.Dial(ctx, f.config())
	require.ErrorIs(t, err, context.Canceled)
	for _, address := range []string{"", "example.org:5223", "http://example.org"} {
		config := f.config()
		config.Address = address
		_, err = client.Dial(t.Context(), config)
		require.Error(t, err, address)
	}
}
