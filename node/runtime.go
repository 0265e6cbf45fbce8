package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Names of what lies in the data folder.
const (
	// Database is the SQLite file with accounts, rosters and preferences.
	Database = "posthouse.db"
	// MessageLog is the folder of the message log.
	MessageLog = "messages"
)

// Runtime is what every node has around the parts that speak XMPP. [Run] makes it and hands it to Assemble,
// which adds those parts to Group.
type Runtime struct {
	// Config is validated.
	Config Config
	// Log, Registry, Health and Folder are never nil.
	Log      *slog.Logger
	Registry *prometheus.Registry
	Health   *Health
	Folder   *Folder
	// Certificates is never nil: without a configured certificate it is the development one.
	Certificates *Certificates
	// Group starts and stops the parts.
	Group *Group
	// Version of the program.
	Version string

	mu        sync.Mutex // guards what follows
	listening []Listening
	reloads   []func() error
	swapped   []func()
	selfMade  bool
}

// Listening is an address where the node can be reached.
type Listening struct {
	// Kind is "xmpp", "xmpp_tls", "compact", "http", "https" or "metrics".
	Kind string
	// Address is host:port, with the port that was taken when 0 was asked for.
	Address string
}

// Announce adds an address to those that are shown at the start.
func (r *Runtime) Announce(l Listening) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listening = append(r.listening, l)
	r.Log.Info("listening", "kind", l.Kind, "address", l.Address)
}

// Listening returns the addresses announced so far.
func (r *Runtime) Listening() []Listening {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.listening)
}

// OnReload adds what SIGHUP does beside reading the certificate again.
func (r *Runtime) OnReload(f func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reloads = append(r.reloads, f)
}

// OnCertificate adds what to do after a new certificate is in use, such as making new keys for session tickets.
func (r *Runtime) OnCertificate(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.swapped = append(r.swapped, f)
}

// Options say how a node runs, beside its configuration.
type Options struct {
	Config  Config
	Version string
	// Log receives log lines; nil means standard error.
	Log io.Writer
	// Banner receives the screen that greets whoever started the node; nil means none.
	Banner io.Writer
	// Command is how the user calls the program, for the hints in the banner, such as "bin/posthouse --data x".
	Command string
	// Language is the value of LANG, for the banner.
	Language string
	// Assemble makes the parts of the node and adds them to s.Group. nil is a node that only tells its health.
	Assemble func(ctx context.Context, r *Runtime) error
	// Started, when not nil, is called when everything runs.
	Started func(r *Runtime)
	// Signals, when not nil, replaces the signals of the process, for tests and for several nodes in one process.
	Signals *Signals
}

// Run runs a node until ctx ends, it is told to stop, or a part fails. It returns nil after an orderly end.
func Run(ctx context.Context, o Options) error {
	if o.Log == nil {
		o.Log = os.Stderr
	}
	log := NewLog(o.Config.Log, o.Log)
	signals := o.Signals
	if signals == nil {
		ctx, signals = WatchSignals(ctx, log)
		defer signals.Close()
	}
	r, err := newRuntime(o, log)
	if err != nil {
		return err
	}
	defer r.Folder.Close()
	r.Group.Add(privatePart(o.Config.Listen.Metrics, r))
	r.Group.Add(Loop("certificate", r.Certificates.Run))
	r.Group.Add(Loop("reload", func(ctx context.Context) error { return r.reloadLoop(ctx, signals.Reload) }))
	if o.Assemble != nil {
		if err := o.Assemble(ctx, r); err != nil {
			return fmt.Errorf("assemble the node: %w", err)
		}
	}
	r.Group.Started = func() {
		r.Health.Phase("ready")
		log.Info("ready", "domain", o.Config.Domain, "data", r.Folder.Path, "version", o.Version)
		if o.Banner != nil {
			writeBanner(o.Banner, r, o.Command, o.Language)
		}
		if o.Started != nil {
			o.Started(r)
		}
	}
	r.Group.Stopping = func() { r.Health.Phase("stopping") }
	began := time.Now()
	err = r.Group.Run(ctx, signals.Hurry)
	log.Info("stopped", "ran", time.Since(began).Round(time.Millisecond).String(), "in_order", err == nil)
	return err
}

func newRuntime(o Options, log *slog.Logger) (*Runtime, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "posthouse_node_build_info", Help: "Always 1; the labels say what runs.",
	}, []string{"version", "go"})
	build.WithLabelValues(o.Version, runtime.Version()).Set(1)
	registry.MustRegister(build)

	r := &Runtime{
		Config: o.Config, Log: log, Registry: registry, Health: NewHealth(registry), Version: o.Version,
		Group: &Group{Log: log, Timeout: o.Config.Shutdown.Timeout},
	}
	r.Health.Note("durability", o.Config.Durability)
	if o.Config.Durability == "relaxed" {
		log.Warn("durability is relaxed: a power cut may lose messages that were acknowledged")
	}
	checkDescriptors(log, r.Health)
	folder, err := OpenFolder(o.Config.Data)
	if err != nil {
		return nil, err
	}
	r.Folder = folder
	if r.Certificates, err = r.openCertificates(); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return r, nil
}

// openCertificates takes the configured certificate, or the development one where that is allowed.
func (r *Runtime) openCertificates() (*Certificates, error) {
	c := r.Config
	certificate, key := c.TLS.Certificate, c.TLS.Key
	if certificate == "" {
		if err := c.validateTLS(); err != nil {
			return nil, err
		}
		var made bool
		var err error
		certificate, key, made, err = SelfSigned(r.Folder.Path, c.Domain, time.Now())
		if err != nil {
			return nil, err
		}
		r.selfMade = true
		if made {
			r.Log.Info("made a self-signed certificate for development", "file", certificate)
		}
		if c.TLS.SelfSigned {
			r.Log.Warn("the certificate is self-signed: clients will warn, and cannot tell this node from another")
			r.Health.Note("certificate", "self-signed")
		}
	}
	return NewCertificates(CertificateOptions{
		Certificate: certificate, Key: key, Domain: c.Domain,
		Log: r.Log, Health: r.Health, Registry: r.Registry, Swapped: r.certificateSwapped,
	})
}

func (r *Runtime) certificateSwapped() {
	r.mu.Lock()
	all := slices.Clone(r.swapped)
	r.mu.Unlock()
	for _, f := range all {
		f()
	}
}

// reloadLoop reads files again when asked, one request after the other.
func (r *Runtime) reloadLoop(ctx context.Context, requests <-chan struct{}) error {
	for {
		select {
		case <-requests:
			r.reload()
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *Runtime) reload() {
	r.Log.Info("reloading: certificate files; settings are read at the start only")
	_ = r.Certificates.Reload() // logs by itself
	r.mu.Lock()
	all := slices.Clone(r.reloads)
	r.mu.Unlock()
	for _, f := range all {
		if err := f(); err != nil {
			r.Log.Error("reload", "error", err)
		}
	}
}

// Loop returns a part that runs a function in a goroutine of its own until the part is stopped. The function returns
// when its context ends; when it returns before, the part has failed.
func Loop(name string, run func(ctx context.Context) error) Part {
	var cancel context.CancelFunc
	done := make(chan error, 1)
	return Part{
		Name: name,
		Start: func(_ context.Context, fail func(error)) error {
			ctx, stop := context.WithCancel(context.Background())
			cancel = stop
			go func() {
				err := run(ctx)
				if ctx.Err() == nil {
					fail(errors.Join(errors.New("ended by itself"), err))
				}
				done <- err
			}()
			return nil
		},
		Stop: func(context.Context) error {
			cancel()
			return <-done // the group leaves it behind when it hangs
		},
	}
}
