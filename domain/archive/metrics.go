package archive

import "github.com/prometheus/client_golang/prometheus"

// What became of a message that entered the stage: a closed set of label values.
const (
	wasStored    = "stored"
	wasTransient = "transient"
	wasDuplicate = "duplicate"
	wasConflict  = "conflict"
	wasMarker    = "marker" // moved a marker, and was no message
	wasStale     = "stale"  // a read marker that moved nothing forward
	wasFull      = "full"   // refused because the storage is full
	// refused because something that had to be asked did not answer, or because it was not to be edited or retracted
	wasRefused = "refused"
	wasStopped = "stopped" // neither acknowledged nor refused: the committer had ended, or the sender was gone
)

type metrics struct {
	stored, transient, duplicate, conflict, marked, stale, full, refused, stopped prometheus.Counter

	commits        prometheus.Counter
	batchMessages  prometheus.Histogram
	commitSeconds  prometheus.Histogram
	durable        prometheus.Histogram
	cursors        prometheus.Counter
	reportsDropped prometheus.Counter
	kept           prometheus.Counter
	queries        *prometheus.CounterVec
	queryMessages  prometheus.Counter
	damaged        prometheus.Counter
}

// latencies are the buckets of everything that ends in a sync of the disk: 50 µs to 13 s.
var latencies = prometheus.ExponentialBuckets(50e-6, 2, 19)

func newMetrics(r prometheus.Registerer, depth func() (messages, bytes int)) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthouse_archive_messages_total",
		Help: "Messages that entered the archive stage, by what became of them.",
	}, []string{"result"})
	m := &metrics{
		stored: messages.WithLabelValues(wasStored), transient: messages.WithLabelValues(wasTransient),
		duplicate: messages.WithLabelValues(wasDuplicate), conflict: messages.WithLabelValues(wasConflict),
		marked: messages.WithLabelValues(wasMarker),
		stale:  messages.WithLabelValues(wasStale),
		full:   messages.WithLabelValues(wasFull), refused: messages.WithLabelValues(wasRefused),
		stopped: messages.WithLabelValues(wasStopped),
		commits: counter("posthouse_archive_commits_total", "Transactions of the message log that were synced."),
		batchMessages: histogram("posthouse_archive_batch_messages", "Stored messages in one transaction.",
			prometheus.ExponentialBuckets(1, 2, 14)),
		commitSeconds: histogram("posthouse_archive_commit_seconds",
			"Time that one transaction of the message log took.", latencies),
		durable: histogram("posthouse_archive_durable_seconds",
			"Time from the acceptance of a message until it was durable.", latencies),
		cursors: counter("posthouse_archive_delivery_cursors_total",
			"Delivery cursors that reports were written to."),
		reportsDropped: counter("posthouse_archive_reports_dropped_total",
			"Reports of delivery that were dropped because too many waited."),
		kept: counter("posthouse_archive_kept_total", "Messages that no device took and that wait for one."),
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "posthouse_archive_queries_total", Help: "History queries, by result.",
		}, []string{"result"}),
		queryMessages: counter("posthouse_archive_query_messages_total", "Messages read for history queries."),
		damaged:       counter("posthouse_archive_damaged_total", "Stored messages that could not be read back."),
	}
	if r == nil {
		return m
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	r.MustRegister(messages, m.commits, m.batchMessages, m.commitSeconds, m.durable, m.cursors, m.reportsDropped,
		m.kept, m.queries, m.queryMessages, m.damaged,
		gauge("posthouse_archive_queue_messages", "Messages that wait for the committer.",
			func() float64 { n, _ := depth(); return float64(n) }),
		gauge("posthouse_archive_queue_bytes", "Stored text that waits for the committer.",
			func() float64 { _, n := depth(); return float64(n) }))
	return m
}
