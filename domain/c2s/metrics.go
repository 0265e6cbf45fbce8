package c2s

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// transport is a label value: how a session is connected, or that it is not at present.
type transport uint8

const (
	overTCP transport = iota
	overTLS
	overWebSocket
	hibernating
	transports
)

var transportNames = [transports]string{"tcp", "tls", "websocket", "hibernating"}

// endReason says why a session or connection ended: the closed set of label values of posthouse_c2s_ended_total.
type endReason uint8

const (
	endedByClient   endReason = iota // the client closed its stream
	endedByLink                      // the connection broke
	endedByError                     // the client broke a rule and was told so
	endedByTimeout                   // login, idle or acknowledgement took too long
	endedByOverflow                  // the client did not read or acknowledge what waited for it
	endedByConflict                  // another connection took its place
	endedByShutdown                  // the node stops
	endedByExpiry                    // nobody resumed it in time
	endedByPanic                     // a fault of ours
	endedByAdmin                     // Disconnect
	endReasons
)

var endNames = [endReasons]string{
	"client", "link", "error", "timeout", "overflow", "conflict", "shutdown", "expiry", "panic", "admin",
}

// metrics holds the collectors, resolved to their fixed label values.
type metrics struct {
	sessions  [transports]prometheus.Gauge
	open      prometheus.Gauge
	loginOK   prometheus.Counter
	loginFail prometheus.Counter
	in, out   [stanza.IQ + 1]prometheus.Counter
	ended     [endReasons]prometheus.Counter
	returned  prometheus.Counter
	resumed   prometheus.Counter
	refused   prometheus.Counter // resumptions
	throttled prometheus.Counter
	writes    prometheus.Counter
	ack       prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{}
	sessions := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "posthouse_c2s_sessions", Help: "Bound sessions, by how they are connected.",
	}, []string{"transport"})
	for t := range m.sessions {
		m.sessions[t] = sessions.WithLabelValues(transportNames[t])
	}
	logins := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthouse_c2s_logins_total", Help: "Login attempts that came to an end, by outcome.",
	}, []string{"outcome"})
	m.loginOK, m.loginFail = logins.WithLabelValues("ok"), logins.WithLabelValues("failed")
	stanzas := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthouse_c2s_stanzas_total", Help: "Stanzas received from and written to clients.",
	}, []string{"direction", "kind"})
	for k := stanza.Message; k <= stanza.IQ; k++ {
		m.in[k] = stanzas.WithLabelValues("in", k.String())
		m.out[k] = stanzas.WithLabelValues("out", k.String())
	}
	ended := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthouse_c2s_ended_total", Help: "Connections and hibernating sessions that ended, by reason.",
	}, []string{"reason"})
	for r := range m.ended {
		m.ended[r] = ended.WithLabelValues(endNames[r])
	}
	resumes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthouse_c2s_resumes_total", Help: "Requests to resume a stream, by outcome.",
	}, []string{"outcome"})
	m.resumed, m.refused = resumes.WithLabelValues("resumed"), resumes.WithLabelValues("refused")
	m.open = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "posthouse_c2s_connections", Help: "Open connections, logged in or not.",
	})
	m.returned = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "posthouse_c2s_returned_total",
		Help: "Packets given back because the session ended before it received them.",
	})
	m.throttled = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "posthouse_c2s_throttled_total",
		Help: "Times that a client was read from more slowly because it sent too much.",
	})
	m.writes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "posthouse_c2s_writes_total", Help: "Writes to clients' links; many stanzas share one.",
	})
	m.ack = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "posthouse_c2s_ack_seconds",
		Help:    "Time from the receipt of a message to its durable acceptance or refusal.",
		Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
	})
	if reg != nil {
		reg.MustRegister(sessions, logins, stanzas, ended, resumes, m.open, m.returned, m.throttled, m.writes, m.ack)
	}
	return m
}
