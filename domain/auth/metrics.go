package auth

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are resolved once; no label comes from a client.
type metrics struct {
	logins    map[string]prometheus.Counter // by mechanism
	failures  map[reason]prometheus.Counter
	throttled prometheus.Counter
	rounds    prometheus.Counter
	changes   map[string]prometheus.Counter // by kind
}

const metricPrefix = "posthouse_auth_"

func newMetrics(r prometheus.Registerer, a *Authenticator) (*metrics, error) {
	counters := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricPrefix + name, Help: help}, []string{label})
	}
	logins := counters("logins_total", "Logins that succeeded.", "mechanism")
	failures := counters("login_failures_total", "Logins that failed.", "reason")
	changes := counters("account_changes_total", "Accounts created, deleted and changed.", "kind")
	refused := counters("connections_refused_total", "Connections that were not admitted.", "reason")
	throttled := prometheus.NewCounter(prometheus.CounterOpts{
		Name: metricPrefix + "throttled_total", Help: "How often an address used up its failed logins.",
	})
	rounds := prometheus.NewCounter(prometheus.CounterOpts{
		Name: metricPrefix + "rounds_total", Help: "Rounds of PBKDF2 that were spent on checking passwords.",
	})
	m := &metrics{
		rounds: rounds, logins: make(map[string]prometheus.Counter), failures: make(map[reason]prometheus.Counter),
		throttled: throttled, changes: make(map[string]prometheus.Counter),
	}
	for _, mechanism := range mechanisms {
		m.logins[mechanism.name] = logins.WithLabelValues(mechanism.name)
	}
	for _, mechanism := range tokenMechanisms {
		m.logins[mechanism.name] = logins.WithLabelValues(mechanism.name)
	}
	m.logins["password"] = logins.WithLabelValues("password")
	for _, reason := range reasons {
		m.failures[reason] = failures.WithLabelValues(string(reason))
	}
	for _, kind := range []string{changeCreated, changeDeleted, changePassword, changeDisabled, changeEnabled} {
		m.changes[kind] = changes.WithLabelValues(kind)
	}
	refusals := make(map[ConnectionRefusal]prometheus.Counter)
	for _, refusal := range []ConnectionRefusal{ConnectionRate, ConnectionsOpen, ConnectionUnauthenticated} {
		refusals[refusal] = refused.WithLabelValues(string(refusal))
	}
	a.connections.refused = func(r ConnectionRefusal) { refusals[r].Inc() }
	if r == nil {
		return m, nil
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: metricPrefix + name, Help: help}, value)
	}
	for _, c := range []prometheus.Collector{
		logins, failures, changes, refused, throttled, rounds,
		gauge("connections_open", "Connections that were admitted and are open.", func() float64 {
			open, _ := a.connections.Count()
			return float64(open)
		}),
		gauge("connections_unauthenticated", "Open connections that have not logged in.", func() float64 {
			_, strange := a.connections.Count()
			return float64(strange)
		}),
		gauge("hashes_waiting", "Logins that wait for a processor to check a password on.", func() float64 {
			return float64(a.hashing.Waiting())
		}),
		gauge("directory_names", "Names of accounts held in memory.",
			func() float64 { return float64(a.directory.known.Size()) }),
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics of authentication: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) succeeded(mechanism string) {
	if c := m.logins[mechanism]; c != nil {
		c.Inc()
	}
}

func (m *metrics) failed(r reason) { m.failures[r].Inc() }
