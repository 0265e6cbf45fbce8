package pebble

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/prometheus/client_golang/prometheus"
)

// engineOptions are the engine's settings. They were chosen by measurement, see docs/design/message-log.md.
func engineOptions(folder string, o Options, e *events) *engine.Options {
	e.backlog.configure(o.MemTableBytes)
	opts := &engine.Options{
		FS: guard{o.files, e, folder},
		// The engine takes what its memtables hold out of the cache.
		CacheSize: o.CacheBytes + 2*int64(o.MemTableBytes),
		// A fixed format: a newer engine must not raise it by itself. It has checksums that tell a damaged
		// write-ahead log from one that simply ends.
		FormatMajorVersion:          engine.FormatValueSeparation,
		MemTableSize:                o.MemTableBytes,
		MemTableStopWritesThreshold: engineBacklog,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       40,
		LBaseMaxBytes:               256 << 20,
		MaxOpenFiles:                1000,
		CompactionConcurrencyRange:  func() (int, int) { return 1, max(1, runtime.GOMAXPROCS(0)/2) },
		Logger:                      e,
		Cleaner:                     remover{},
		EventListener:               e.listener(),
	}
	for i := range opts.Levels {
		// Most lookups of an origin-id find nothing; a filter answers them without reading a block.
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		opts.Levels[i].BlockSize = 8 << 10
		opts.Levels[i].IndexBlockSize = 64 << 10
	}
	// A flush writes its messages as one table, larger than what a compaction may take in beyond what it was begun for,
	// which is 25 times the target size of the level it writes to: so messages stay out of compactions of the indexes.
	opts.TargetFileSizes[0] = int64(o.MemTableBytes)
	for i := 1; i < len(opts.TargetFileSizes); i++ {
		opts.TargetFileSizes[i] = 256 << 10 << min(2*(i-1), 6)
	}
	opts.FlushSplitBytes = 4 * int64(o.MemTableBytes)
	opts.L0CompactionFileThreshold = 64
	opts.Experimental.SpanPolicyFunc = splitByKind
	// Reports operations that hang.
	opts.WithFSDefaults()
	return opts
}

// remover removes files that are not needed any more, logs too. The engine would keep some of its logs, to write them
// anew, with what was said and retracted in them for as long as nobody says more; but not from a cleaner that says, as
// the embedded one does, that it wants the files' content. What they are cleaned by is the method that is nearer.
type remover struct {
	engine.DeleteCleaner
	wantsContent
}

type wantsContent struct{ engine.ArchiveCleaner }

// splitByKind keeps keys of different kinds in different tables. Messages are written in the order of their keys, so
// that a table of messages alone overlaps no other, and compactions move it instead of copying it.
func splitByKind(start []byte) (policy engine.SpanPolicy, end []byte, err error) {
	if len(start) == 0 {
		return engine.SpanPolicy{}, nil, nil
	}
	return engine.SpanPolicy{}, []byte{start[0] + 1}, nil
}

// events is what the engine tells: its log, its failures and its faults in the background.
type events struct {
	log *slog.Logger

	// closing: background work that ends with an error was cut off.
	closing atomic.Bool
	// full: the last try to write a table failed for want of space.
	full    atomic.Bool
	backlog *backlog
	// rotated: a memtable has become full since the last message was stored, or with it.
	rotated atomic.Bool
	// lastWarned is when a repeated fault was last logged, in Unix nanoseconds.
	lastWarned atomic.Int64

	failed chan struct{}
	// mu guards failure, which is set before failed is closed.
	mu      sync.Mutex
	failure error

	registerer prometheus.Registerer
	collectors []prometheus.Collector
	damaged    prometheus.Counter
	faults     prometheus.Counter
	stalls     prometheus.Counter
}

func newEvents(log *slog.Logger, r prometheus.Registerer) *events {
	e := &events{log: log, failed: make(chan struct{}), backlog: newBacklog(), registerer: r}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "posthouse_pebble_" + name, Help: help})
		e.register(c)
		return c
	}
	e.damaged = counter("damaged_total", "Stored records and blocks found damaged when read.")
	e.faults = counter("background_errors_total", "Errors of background work on the message log.")
	e.stalls = counter("write_stalls_total", "Times that a write had to wait for background work.")
	return e
}

func (e *events) register(c prometheus.Collector) {
	if e.registerer == nil {
		return
	}
	if err := e.registerer.Register(c); err != nil {
		e.log.Warn("metric is not registered", "err", err)
		return
	}
	e.collectors = append(e.collectors, c)
}

func (e *events) registerDisk(bytes func() float64) {
	e.register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "posthouse_pebble_disk_bytes", Help: "Disk space taken by the message log.",
	}, bytes))
}

func (e *events) unregister() {
	for _, c := range e.collectors {
		e.registerer.Unregister(c)
	}
	e.collectors = nil
}

// fail records the first failure and tells everybody who waits for it.
func (e *events) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failure != nil {
		return
	}
	e.failure = fmt.Errorf("message log failed: %w", err)
	e.log.Error("the message log failed and takes no more messages", "err", err)
	close(e.failed)
}

func (e *events) err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failure
}

// fatal is what the engine passed to Fatalf.
type fatal struct {
	text string
	args []any
}

func (f *fatal) Error() string { return f.text }

// Unwrap returns the errors among the arguments.
func (f *fatal) Unwrap() (errs []error) {
	for _, a := range f.args {
		if err, ok := a.(error); ok {
			errs = append(errs, err)
		}
	}
	return errs
}

// Infof takes the engine's informational log lines.
func (e *events) Infof(format string, args ...any) { e.log.Debug(fmt.Sprintf(format, args...)) }

// Errorf takes the engine's reports of errors.
func (e *events) Errorf(format string, args ...any) { e.log.Error(fmt.Sprintf(format, args...)) }

// Fatalf is where the engine expects the process to end. A failed commit is reported here by the goroutine that
// commits, after which the engine would report success: Append looks at the failure afterwards. Anything else comes
// from inside the engine, which must not go on with what it holds; its goroutine stays here, with its locks, until the
// process ends. That goes for opening and closing too: an engine that goes on after its list of tables was not written
// removes tables that the list has.
func (e *events) Fatalf(format string, args ...any) {
	e.fail(&fatal{fmt.Sprintf(format, args...), args})
	if strings.HasPrefix(format, "pebble: fatal commit error") {
		return
	}
	select {}
}

func (e *events) listener() *engine.EventListener {
	return &engine.EventListener{
		BackgroundError: e.backgroundError,
		DataCorruption: func(info engine.DataCorruptionInfo) {
			e.damaged.Inc()
			e.warn("a file of the message log is damaged", info.Details, "file", info.Path)
		},
		DiskSlow: func(info engine.DiskSlowInfo) {
			e.warn("the disk is slow", nil, "file", info.Path, "op", info.OpType.String(), "duration", info.Duration)
		},
		WriteStallBegin: func(info engine.WriteStallBeginInfo) {
			e.stalls.Inc()
			e.warn("writing waits for background work", nil, "reason", info.Reason)
		},
		WALCreated: func(engine.WALCreateInfo) {
			e.rotated.Store(true)
			e.backlog.rotated()
		},
		FlushEnd: func(info engine.FlushInfo) {
			if info.Err == nil {
				e.full.Store(false)
				e.backlog.flushed(info.Input)
			}
		},
		CompactionEnd: func(info engine.CompactionInfo) {
			if info.Err == nil {
				e.full.Store(false)
				e.backlog.flushed(0)
			}
		},
	}
}

// retryPause is how long background work rests after an error. The engine tries again at once, for ever.
const retryPause = 50 * time.Millisecond

// backgroundError classifies an error of a flush or compaction. The write-ahead log still has what a flush could not
// write, so a full disk is waited for, and Append refuses meanwhile. A damaged table cannot be compacted and is left
// for reads, which name what they miss. After any other error it is unknown what the disk still keeps of what was
// written to it: that is a failure.
func (e *events) backgroundError(err error) {
	e.faults.Inc()
	switch {
	case isFull(err):
		e.full.Store(true)
		e.backlog.flushed(0)
		e.warn("the disk is full: the message log takes no messages until there is space", err)
	case engine.IsCorruptionError(err):
		e.warn("background work met damaged data", err)
	case e.closing.Load():
		e.warn("background work was cut off", err)
	default:
		e.fail(fmt.Errorf("background work: %w", err))
	}
	time.Sleep(retryPause)
}

// warn logs at most once a second, since what it is for repeats.
func (e *events) warn(msg string, err error, args ...any) {
	now := time.Now().UnixNano()
	last := e.lastWarned.Load()
	if now-last < int64(time.Second) || !e.lastWarned.CompareAndSwap(last, now) {
		return
	}
	if err != nil {
		args = append(args, "err", err)
	}
	e.log.Warn(msg, args...)
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
