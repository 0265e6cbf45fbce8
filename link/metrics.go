package link

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the counters of one listener. Their label "listener" is its name.
type metrics struct {
	open          prometheus.Gauge
	accepted      prometheus.Counter
	refusals      *prometheus.CounterVec // by reason: see refused
	exhausted     prometheus.Counter
	backoff       prometheus.Gauge
	handshakes    prometheus.Counter
	shakeFailures *prometheus.CounterVec // by reason: see handshakeFailed
	writeTimeouts prometheus.Counter
	frameErrors   *prometheus.CounterVec // by close code
	panics        prometheus.Counter
}

// newMetrics makes them and registers them at reg, unless that is nil. Two listeners of one name cannot share a
// registerer.
func newMetrics(reg prometheus.Registerer, name string) (*metrics, error) {
	labels := prometheus.Labels{"listener": name}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "posthouse_link_" + name, Help: help,
			ConstLabels: labels})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "posthouse_link_" + name, Help: help,
			ConstLabels: labels}, []string{label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "posthouse_link_" + name, Help: help,
			ConstLabels: labels})
	}
	m := &metrics{
		open:          gauge("connections", "Open connections."),
		accepted:      counter("accepted_total", "Connections accepted."),
		refusals:      vec("refused_total", "Connections refused, by reason.", "reason"),
		exhausted:     counter("files_exhausted_total", "Times that accepting met the limit on file descriptors."),
		backoff:       gauge("backoff", "1 while accepting waits for file descriptors."),
		handshakes:    counter("tls_handshakes_total", "TLS handshakes completed."),
		shakeFailures: vec("tls_handshake_failures_total", "TLS handshakes failed, by reason.", "reason"),
		writeTimeouts: counter("write_timeouts_total", "Connections broken because the peer did not read."),
		frameErrors: vec("frame_errors_total", "WebSocket connections ended for a broken rule, by close code.",
			"code"),
		panics: counter("panics_total", "Connection handlers that panicked."),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.open, m.accepted, m.refusals, m.exhausted, m.backoff, m.handshakes,
		m.shakeFailures,
		m.writeTimeouts, m.frameErrors, m.panics} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of listener %q: %w", name, err)
		}
	}
	return m, nil
}

// refused counts a connection refused. reason is one of: throttle, files, proxy_header, origin, protocol, tls_overhead,
// stopping.
func (m *metrics) refused(reason string) { m.refusals.WithLabelValues(reason).Inc() }

func (m *metrics) handshakeFailed(err error) {
	var alert tls.AlertError
	var record tls.RecordHeaderError
	reason := "other"
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = "timeout"
	case errors.Is(err, errBusy):
		reason = "busy"
	case errors.As(err, &record):
		reason = "not_tls"
	case errors.As(err, &alert):
		reason = "alert"
	}
	m.shakeFailures.WithLabelValues(reason).Inc()
}

// frameError counts a rule broken. code is one of the few that this package answers with.
func (m *metrics) frameError(code int) { m.frameErrors.WithLabelValues(strconv.Itoa(code)).Inc() }
