package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewHTTPServer returns a server with the limits that every listener here has: a header in 5 s and 16 KiB, a request in
// 30 s, an answer in 60 s. What streams for longer takes the connection over, or sets deadlines of its own for each
// write.
func NewHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what clients send is no error of ours
	}
}

// HTTPPart returns a part that serves handler on the addresses. listening, when not nil, is told each address that it
// got.
func HTTPPart(name string, addresses []string, handler http.Handler, log *slog.Logger, listening func(net.Addr)) Part {
	server := NewHTTPServer(handler, log)
	return Part{
		Name: name,
		Start: func(ctx context.Context, fail func(error)) error {
			var open []net.Listener
			for _, address := range addresses {
				l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
				if err != nil {
					for _, l := range open {
						l.Close()
					}
					return ListenError(address, err)
				}
				open = append(open, l)
			}
			for _, l := range open {
				if listening != nil {
					listening(l.Addr())
				}
				go serve(server, l, fail) // ends with stopServer
			}
			return nil
		},
		Stop:   func(ctx context.Context) error { return stopServer(ctx, server) },
		Within: 5 * time.Second,
	}
}

// ListenError adds to a listener's failure what to do about it.
func ListenError(address string, err error) error {
	switch {
	case isErrno(err, errAddressInUse):
		return fmt.Errorf(
			"listen on %s: another program listens there: stop it, or choose another address in the configuration",
			address)
	case isErrno(err, errPermission):
		return fmt.Errorf(
			"listen on %s: not permitted: ports below 1024 need CAP_NET_BIND_SERVICE (see deploy/posthouse.service)",
			address)
	}
	return fmt.Errorf("listen on %s: %w", address, err)
}

// privateHandler serves what is for operators only.
func privateHandler(c MetricsListener, health *Health, gatherer prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health/live", health.Live)
	mux.HandleFunc("GET /health/ready", health.Ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	if c.Profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// privatePart serves the private listener. It is the first to start and the last to stop, so that an operator can
// watch both. A profile may take longer than an ordinary answer.
func privatePart(c MetricsListener, s *Runtime) Part {
	return HTTPPart("private listener", c.Address, privateHandler(c, s.Health, s.Registry), s.Log, func(a net.Addr) {
		s.Announce(Listening{Kind: "metrics", Address: a.String()})
	})
}

// serve serves until the server is stopped, and tells when it ends by itself.
func serve(server *http.Server, l net.Listener, fail func(error)) {
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		fail(err)
	}
}

// stopServer waits for the requests that are being served, and cuts them when ctx ends.
func stopServer(ctx context.Context, server *http.Server) error {
	if err := server.Shutdown(ctx); err != nil {
		return errors.Join(err, server.Close())
	}
	return nil
}
