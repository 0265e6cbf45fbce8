package link

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHTTPWriteDeadline: an answer that nobody reads ends at the deadline of net/http, of the server or of the request,
// however long the listener would wait for one write. A client that reads a little now and then does not prolong it.
func TestHTTPWriteDeadline(t *testing.T) {
	cert := newCertificate(t)
	for name, cfg := range map[string]Config{
		"plain": {WriteTimeout: time.Hour},
		"TLS":   {WriteTimeout: time.Hour, Mode: ModeTLS, TLS: testTLS(serverTLS(cert))},
	} {
		for _, whose := range []string{"server", "request"} {
			t.Run(name+", "+whose, func(t *testing.T) {
				ended := make(chan error, 1)
				server := &http.Server{
					ReadHeaderTimeout: 10 * time.Second,
					Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
						if whose == "request" {
							require.NoError(t, http.NewResponseController(w).SetWriteDeadline(
								time.Now().Add(200*time.Millisecond)))
						}
						_, err := w.Write(make([]byte, 64<<20))
						ended <- err
					}),
				}
				if whose == "server" {
					server.WriteTimeout = 200 * time.Millisecond
				}
				cfg.Address = "127.0.0.1:0"
				l, err := Listen(context.Background(), cfg)
				require.NoError(t, err)
				served := make(chan error, 1)
				go func() { served <- server.Serve(l) }()
				t.Cleanup(func() {
					require.NoError(t, server.Close())
					require.ErrorIs(t, <-served, http.ErrServerClosed)
					require.NoError(t, l.Shutdown(context.Background()))
				})
				c := dial(t, l)
				var rw io.ReadWriter = c
				if cfg.Mode == ModeTLS {
					rw = tlsClient(t, c, clientTLS(cert))
				}
				_, err = io.WriteString(rw, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
				require.NoError(t, err)
				if whose == "request" {
					go sip(rw)
				}
				select {
				case err := <-ended:
					require.True(t, errors.Is(err, os.ErrDeadlineExceeded), err)
				case <-time.After(20 * time.Second):
					require.Fail(t, "nobody ends it")
				}
			})
		}
	}
}

// sip reads a little at a time, until the connection ends.
func sip(r io.Reader) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := io.ReadFull(r, make([]byte, 4096)); err != nil {
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				return
			}
		}
	}
}
