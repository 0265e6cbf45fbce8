package node

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/test/script"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// tarpit is the route of a domain to which nothing is ever delivered.
type tarpit struct{ entered chan struct{} }

func (tarpit) Resolve(_ context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
	e.Target = router.Target{Kind: router.Remote}
	return router.Continue, nil
}

func (p tarpit) Deliver(ctx context.Context, _ *router.Envelope) *stanza.Error {
	p.entered <- struct{}{}
	<-ctx.Done()
	return nil
}

func (tarpit) Route(context.Context, *stream.Packet) *stanza.Error { return nil }

// TestStuckDelivery: a whole node with one delivery that never ends. The same sender's next message elsewhere is
// stored, confirmed, counted in h and delivered, and others' messages take no longer than before.
func TestStuckDelivery(t *testing.T) {
	pit := tarpit{entered: make(chan struct{}, 10)}
	c := testConfig(t, "listen.xmpp.address=127.0.0.1:0", "listen.xmpp_tls.address=127.0.0.1:0",
		"listen.compact.address=127.0.0.1:0",
		"listen.http.address=127.0.0.1:0", "auth.plain_without_tls=true", "auth.iterations=4096", "shutdown.timeout=3s")
	ctx, cancel := context.WithCancel(t.Context())
	started, ended := make(chan script.Endpoints, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{
			Config: c, Log: io.Discard, Signals: newSignals(),
			Assemble: func(ctx context.Context, r *Runtime) error {
				a, err := assemble(ctx, r)
				if err != nil {
					return err
				}
				a.router.Handle("stuck.example", pit)
				for _, name := range []string{"romeo", "juliet", "nurse"} {
					if _, err := a.auth.Create(ctx, name, "wherefore-art-thou"); err != nil {
						return err
					}
				}
				return nil
			},
			Started: func(r *Runtime) {
				at := script.Endpoints{Domain: "localhost"}
				for _, l := range r.Listening() {
					if l.Kind == "xmpp" {
						at.XMPP = l.Address
					}
				}
				started <- at
			},
		})
	}()
	at := <-started
	connect := func(name string) *script.Client {
		client, err := script.Connect(t.Context(), at, script.TCP, name, "wherefore-art-thou")
		require.NoError(t, err)
		require.NoError(t, client.Bind("r"))
		return client
	}
	send := func(from *script.Client, to, id string) {
		require.NoError(t, from.Write("<message xmlns='jabber:client' type='chat' to='"+to+"' id='"+id+
			"'><body>x</body></message>"))
	}
	arrives := func(at *script.Client, id string) {
		_, _, err := at.Until(func(e *script.Element) bool { return e.Attr("id") == id })
		require.NoError(t, err, id)
	}
	romeo, juliet, nurse := connect("romeo"), connect("juliet"), connect("nurse")
	// worst returns the 99th of 100 times that a message of nurse's takes.
	worst := func(prefix string) time.Duration {
		var took []time.Duration
		for i := range 100 {
			began, id := time.Now(), fmt.Sprint(prefix, i)
			send(nurse, "juliet@localhost/r", id)
			arrives(juliet, id)
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		return took[98]
	}
	before := worst("before")
	for _, element := range []string{
		"<enable xmlns='urn:xmpp:sm:3'/>",
		"<iq xmlns='jabber:client' type='set' id='c'><enable xmlns='urn:posthouse:confirm:1'/></iq>",
	} {
		require.NoError(t, romeo.Write(element))
	}
	arrives(romeo, "c")
	send(romeo, "somebody@stuck.example", "stuck")
	<-pit.entered
	send(romeo, "somebody@stuck.example", "behind")
	send(romeo, "juliet@localhost/r", "next")
	arrives(juliet, "next")
	require.NoError(t, romeo.Write("<r xmlns='urn:xmpp:sm:3'/>"))
	confirmed := 0
	_, got, err := romeo.Until(func(e *script.Element) bool { return e.Name.Local == "a" && e.Attr("h") == "4" })
	require.NoError(t, err)
	for _, e := range got {
		if strings.Contains(e.String(), "<confirmed") {
			confirmed++
		}
	}
	require.Equal(t, 3, confirmed)
	// A busy machine is slow before and after: what must not be seen is a wait for what is stuck.
	require.Less(t, worst("after"), 10*before+50*time.Millisecond)
	for _, client := range []*script.Client{romeo, juliet, nurse} {
		client.Cut()
	}
	cancel()
	require.ErrorContains(t, <-ended, "deliver what was stored", "what is stuck is given up")
}
