package node

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Health knows whether the node is ready to serve. It is safe for use by many goroutines.
type Health struct {
	mu       sync.Mutex // guards what follows
	phase    string     // "starting", "ready", "stopping"
	troubles map[string]trouble
	notes    map[string]string
	gauge    *prometheus.GaugeVec
}

type trouble struct {
	text  string
	fatal bool
}

// NewHealth returns the health of a node that is starting. registry may be nil.
func NewHealth(registry prometheus.Registerer) *Health {
	h := &Health{phase: "starting", troubles: make(map[string]trouble), notes: make(map[string]string)}
	h.gauge = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "posthouse_node_trouble",
		Help: "1 for each check that is not well, such as certificate or storage.",
	}, []string{"check"})
	if registry != nil {
		registry.MustRegister(h.gauge)
	}
	return h
}

// Degrade reports trouble that does not keep the node from serving, such as a certificate that ends soon; "" means that
// it is over.
func (h *Health) Degrade(check, text string) { h.set(check, text, false) }

// Fail reports trouble that keeps the node from serving; "" means that it is over.
func (h *Health) Fail(check, text string) { h.set(check, text, true) }

func (h *Health) set(check, text string, fatal bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if text == "" {
		delete(h.troubles, check)
		h.gauge.WithLabelValues(check).Set(0)
		return
	}
	h.troubles[check] = trouble{text: text, fatal: fatal}
	h.gauge.WithLabelValues(check).Set(1)
}

// Note adds a fact that whoever looks at the health should see, such as durability: relaxed.
func (h *Health) Note(name, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes[name] = value
}

// Phase changes what the node is doing: "starting", "ready" or "stopping".
func (h *Health) Phase(phase string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phase = phase
}

// report is the answer of both health addresses.
type report struct {
	// Status is ready, degraded (serving, with trouble), failing, starting or stopping.
	Status   string            `json:"status"`
	Troubles map[string]string `json:"troubles,omitempty"`
	Notes    map[string]string `json:"notes,omitempty"`
}

func (h *Health) report() (r report, ready bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r = report{Status: h.phase, Notes: maps.Clone(h.notes), Troubles: make(map[string]string)}
	ready = h.phase == "ready"
	for _, check := range slices.Sorted(maps.Keys(h.troubles)) {
		t := h.troubles[check]
		r.Troubles[check] = t.text
		switch {
		case h.phase != "ready":
		case t.fatal:
			r.Status, ready = "failing", false
		case r.Status == "ready":
			r.Status = "degraded"
		}
	}
	return r, ready
}

// Ready serves /health/ready: 200 when the node serves, 503 while it starts, stops or cannot.
func (h *Health) Ready(w http.ResponseWriter, _ *http.Request) {
	r, ready := h.report()
	code := http.StatusOK
	if !ready {
		code = http.StatusServiceUnavailable
	}
	writeReport(w, code, r)
}

// Live serves /health/live: 200 for as long as the process answers at all. Who restarts a node should ask this one.
func (h *Health) Live(w http.ResponseWriter, _ *http.Request) {
	r, _ := h.report()
	writeReport(w, http.StatusOK, r)
}

func writeReport(w http.ResponseWriter, code int, r report) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(r) // the caller has gone when this fails
}
