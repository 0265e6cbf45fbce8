package token

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// What is checked, as a label.
const (
	kindAccess  = "access"
	kindRefresh = "refresh"
	kindKey     = "service_key"
)

type metrics struct {
	checked    *prometheus.CounterVec
	issued     *prometheus.CounterVec
	signatures prometheus.Counter
	reused     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "posthouse_token_" + name, Help: help})
	}
	m := &metrics{
		checked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "posthouse_token_checked_total", Help: "Tokens and service keys that were shown, by kind and result.",
		}, []string{"kind", "result"}),
		issued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "posthouse_token_issued_total",
			Help: "Pairs of tokens that were issued, by what for: login or refresh.",
		}, []string{"grant"}),
		signatures: counter("signatures_total",
			"Signatures of access tokens that were computed, the result being in no cache."),
		reused: counter("reused_total",
			"Devices that were signed out because a replaced refresh token was used again."),
	}
	for _, kind := range []string{kindAccess, kindRefresh, kindKey} {
		for _, result := range []string{"good", "invalid", "expired", "revoked", "failed"} {
			m.checked.WithLabelValues(kind, result)
		}
	}
	m.issued.WithLabelValues("login")
	m.issued.WithLabelValues("refresh")
	if reg != nil {
		reg.MustRegister(m.checked, m.issued, m.signatures, m.reused)
	}
	return m
}

// count counts what came of a check.
func (m *metrics) count(kind string, err error) {
	result := "failed"
	switch {
	case err == nil:
		result = "good"
	case errors.Is(err, ErrInvalid):
		result = "invalid"
	case errors.Is(err, ErrExpired):
		result = "expired"
	case errors.Is(err, ErrRevoked):
		result = "revoked"
	}
	m.checked.WithLabelValues(kind, result).Inc()
}
