// Package pebble is the message log on an embedded ordered key-value engine (github.com/cockroachdb/pebble).
//
// It owns one folder, which only one process at a time may have open. Any goroutine may read and write; writes are done
// one after the other. The engine's own goroutines flush and compact; Close stops them. Append starts one goroutine
// around each flush to disk, and waits for it. From time to time it starts one that writes index entries; Close waits
// for that.
//
// The package never retries a failed write and never ends the process. After the first failure Failed is closed and
// every Append returns an error; reads continue as far as possible. The owner must then stop the process.
//
// The layout of keys is described in keys.go, that of values in record.go, and the reasons for this engine in
// docs/design/message-log.md.
package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/store"
)

// Values of Options.Durability.
const (
	// DurabilityFull: Append returns after the batch was flushed to disk. The default.
	DurabilityFull = "full"
	// DurabilityRelaxed: Append returns when the engine has the batch; a crash may lose the last moments.
	DurabilityRelaxed = "relaxed"
)

// Options are the settings of a log. The zero value is what production uses.
type Options struct {
	// Durability is "full" or "relaxed"; "" means full.
	Durability string `yaml:"durability"`
	// CacheBytes is the memory for blocks read from disk.
	CacheBytes int64 `yaml:"cache_bytes" default:"67108864" min:"1048576"`
	// MemTableBytes is how much is gathered in memory before a table is written. Up to four may
	// exist at a time. A restart after a crash reads back as much.
	MemTableBytes uint64 `yaml:"memtable_bytes" default:"33554432" min:"1048576" max:"1073741824"`
	// ReserveBytes of free disk are not touched: below, Append returns store.ErrFull. 0 means 5 % of the disk but
	// at most 1 GiB; negative means no reserve.
	ReserveBytes int64 `yaml:"reserve_bytes"`
	// ConversationBytes bounds the memory for conversations that were used lately, with their last number and where
	// their markers stand, some 400 bytes each. Beyond half of it, those not used for the longest time may have to be
	// read again.
	ConversationBytes int `yaml:"conversation_bytes" default:"33554432" min:"65536"`

	// Existing: a log is there, and one that is missing is not begun.
	Existing bool `yaml:"-"`
	// Identity is what a new log belongs to, and Mark its first mark, see Log.SetMark.
	Identity store.Identity `yaml:"-"`
	Mark     uint64         `yaml:"-"`
	// Logger receives what the engine has to say; nil means slog.Default().
	Logger *slog.Logger `yaml:"-"`
	// Metrics receives posthouse_pebble_*; nil means none.
	Metrics prometheus.Registerer `yaml:"-"`

	// packMessages replaces the constant in tests.
	packMessages int
	// files replaces the disk in tests; nil means the real one.
	files vfs.FS
}

func (o Options) withDefaults() (Options, error) {
	switch o.Durability {
	case "":
		o.Durability = DurabilityFull
	case DurabilityFull, DurabilityRelaxed:
	default:
		return o, fmt.Errorf("durability is %q: it must be %q or %q", o.Durability, DurabilityFull, DurabilityRelaxed)
	}
	defaults.Fill(&o)
	if o.packMessages == 0 {
		o.packMessages = packMessages
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, nil
}

// Log is an open message log. It implements store.MessageLog.
type Log struct {
	// Fixed after Open.
	db     *engine.DB
	path   string
	opts   Options
	log    *slog.Logger
	events *events
	space  *space

	// visible is the last message that is as durable as was asked for. Reads stop there, because the
	// engine shows a write before it is flushed. recents only has what is visible.
	visible atomic.Uint64
	recents recents
	// large are the accounts whose lists of conversations are long.
	large large
	// passed are entries of lists of conversations that readers have found to be overtaken.
	passed passed
	// conversations are those that were used lately.
	conversations conversations
	// pending is what the batch that is being flushed writes anew, nil for nothing. Set by Append.
	pending atomic.Pointer[pending]

	// closing is closed when Close begins.
	closing chan struct{}

	// cursors are delivery cursors that were used lately.
	cursors cursors

	// delivering is held by Deliver, for one at a time. It is taken before using.
	delivering sync.Mutex

	// writing is held by Append, and while conversations are written without it: it guards writer, packing,
	// checkpoints, pairing and space. It is taken before using.
	writing     sync.Mutex
	pairing     pairing
	writer      writer
	packing     packing
	checkpoints *checkpoints

	// using is read-locked by every use of db, and locked by Close: it guards closed.
	using  sync.RWMutex
	closed bool
}

var _ store.MessageLog = (*Log)(nil)

var (
	errClosed = errors.New("message log is closed")
	// errNoLog is what a folder without a log is refused with, see Options.Existing.
	errNoLog = errors.New("there is no message log in the folder, and there has to be one")
	// errNewer is what a log of a later program is refused with.
	errNewer = errors.New("the message log was written by a newer program")
	// errOlder is what a log of a program that was never released is refused with.
	errOlder = errors.New("the message log was written by an older program, from before the first release")
)

// Open opens or creates the log in the folder path, which is created with mode 0700. It fails when another process has
// it open, when a newer program wrote it, or when the engine finds its files damaged.
func Open(path string, o Options) (*Log, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("message log: %w", err)
	}
	if o.files == nil {
		o.files = private{vfs.Default}
		if err := privateFolder(path); err != nil {
			return nil, fmt.Errorf("message log: %w", err)
		}
	}
	l := &Log{path: path, opts: o, closing: make(chan struct{}), log: o.Logger.With("part", "message log")}
	l.events = newEvents(l.log, o.Metrics)
	l.space = &space{files: o.files, path: path, reserve: o.ReserveBytes, events: l.events}
	l.writer = newWriter(&o)
	l.large.accounts = make(map[store.AccountID]bool)
	l.conversations.unwritten = make(map[store.ConversationID]*conversation)
	l.conversations.keys = make(map[string]*conversation)
	l.conversations.byID = newGenerations[store.ConversationID](o.ConversationBytes/8, (*conversation).size)
	l.conversations.byKey = newGenerations[string](o.ConversationBytes/8, (*conversation).size)
	l.cursors = newCursors()
	l.recents.young = newRecent(nil)
	if err := l.unlessFailed(l.open); err != nil {
		l.events.unregister()
		return nil, fmt.Errorf("message log: open %s: %w", path, err)
	}
	l.events.registerDisk(l.diskBytes)
	return l, nil
}

func (l *Log) open() (err error) {
	if l.opts.Existing {
		found, err := engine.Peek(l.path, l.opts.files)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !found.Exists {
			err = errNoLog
		}
		if err != nil {
			return err
		}
	}
	if l.db, err = engine.Open(l.path, engineOptions(l.path, l.opts, l.events)); err != nil {
		return err
	}
	if err := l.recover(); err != nil {
		l.events.closing.Store(true)
		return errors.Join(err, l.db.Close())
	}
	l.events.backlog.reset()
	return nil
}

// unlessFailed runs something that works with the engine on a goroutine of its own, which is left behind when the log
// fails meanwhile: then the engine may never return, and neither its result nor what it holds is to be relied on.
func (l *Log) unlessFailed(f func() error) error {
	result := make(chan error, 1)
	go func() { result <- f() }()
	select {
	case err := <-result:
		return errors.Join(l.Err(), err)
	case <-l.Failed():
		return l.Err()
	}
}

// privateFolder makes sure that the folder exists and is nobody else's to read.
func privateFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return os.Chmod(path, 0o700)
	}
	return nil
}

// recover checks the schema version, or sets it in a new log, and finds where the log and its indexes end.
func (l *Log) recover() error {
	if err := l.checkVersion(); err != nil {
		return err
	}
	if err := l.readPairing(); err != nil {
		return fmt.Errorf("read what the log belongs to: %w", err)
	}
	value, err := l.get([]byte{keyIndexed})
	var end indexedEnd
	if err == nil && value != nil {
		end, err = decodeIndexed(value)
	}
	if err != nil {
		return fmt.Errorf("read where the index ends: %w", err)
	}
	l.recents.indexed = end.last
	young := l.recents.young
	young.last, young.lastMessage, young.batch = end.last, end.lastMessage, end.batch
	if err := l.readJournal(); err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	lastMessage, err := l.lastMessage()
	if err != nil {
		return fmt.Errorf("find the last message: %w", err)
	}
	if lastMessage != young.lastMessage {
		return fmt.Errorf(
			"the last message is %d, but its journal ends at %d: %w", lastMessage, young.lastMessage, store.ErrDamaged,
		)
	}
	if err := l.verifyCheckpoints(); err != nil {
		return err
	}
	if err := l.readEpochs(); err != nil {
		return fmt.Errorf("read the epochs: %w", err)
	}
	if err := l.readLarge(); err != nil {
		return fmt.Errorf("read which lists are long: %w", err)
	}
	if l.conversations.last, err = l.lastOpened(); err != nil {
		return fmt.Errorf("find the last conversation: %w", err)
	}
	w := &l.writer
	w.last, w.lastMessage, w.journal.number = young.last, lastMessage, young.batch
	w.epoch = newEpoch(young.last)
	l.visible.Store(uint64(young.last))
	return nil
}

// get returns a copy of a value, nil when there is none.
func (l *Log) get(key []byte) ([]byte, error) {
	value, closer, err := l.db.Get(key)
	if errors.Is(err, engine.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	value = append([]byte{}, value...)
	return value, closer.Close()
}

// readJournal restores what the indexes on disk do not have yet.
func (l *Log) readJournal() error {
	it, err := l.db.NewIter(&engine.IterOptions{
		LowerBound: idKey(nil, keyJournal, uint64(l.recents.indexed)+1), UpperBound: []byte{keyJournal + 1},
	})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		id := store.MessageID(firstNumber(it.Key()))
		j, err := decodeJournal(it.Value())
		if err != nil {
			return fmt.Errorf("batch that ends with %d: %w: %w", id, store.ErrDamaged, err)
		}
		l.recents.young.add(&j, id)
	}
	return it.Error()
}

// checkVersion refuses a log of another schema. A new log gets ours.
func (l *Log) checkVersion() error {
	value, err := l.get([]byte{keyVersion})
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if value == nil {
		return l.beginSchema()
	}
	version, n := binary.Uvarint(value)
	switch {
	case n <= 0:
		return fmt.Errorf("read schema version: %w", errShort)
	case version > schemaVersion:
		return fmt.Errorf("%w: its schema is %d, this one knows %d", errNewer, version, schemaVersion)
	case version < schemaVersion:
		return fmt.Errorf(
			"%w: its schema is %d, this program needs %d: move the folder away and start with a new one", errOlder,
			version, schemaVersion,
		)
	}
	return nil
}

// beginSchema writes the schema version into an empty store, and refuses any other.
func (l *Log) beginSchema() error {
	it, err := l.db.NewIter(nil)
	if err != nil {
		return err
	}
	foreign := it.First()
	if err := it.Close(); err != nil {
		return err
	}
	if foreign {
		return errors.New("there is data without a schema version: it is no message log")
	}
	b := l.db.NewBatch()
	set(b, []byte{keyVersion}, binary.AppendUvarint(nil, schemaVersion))
	p := pairing{l.opts.Identity, l.opts.Mark}
	set(b, []byte{keyPairing}, p.encode())
	if err := l.db.Apply(b, engine.Sync); err != nil {
		return err
	}
	return errors.Join(l.Err(), b.Close())
}

func (l *Log) lastMessage() (store.MessageID, error) {
	it, err := l.db.NewIter(&engine.IterOptions{LowerBound: []byte{keyMessage}, UpperBound: []byte{keyMessage + 1}})
	if err != nil {
		return 0, err
	}
	var last store.MessageID
	if it.Last() {
		last = store.MessageID(binary.BigEndian.Uint64(it.Key()[1:]))
	}
	return last, it.Close()
}

// Failed is closed when the log has failed and takes no more messages: the process must be stopped.
func (l *Log) Failed() <-chan struct{} { return l.events.failed }

// Err returns why the log failed, nil while it has not.
func (l *Log) Err() error { return l.events.err() }

// Durability returns "full" or "relaxed": what Append promises.
func (l *Log) Durability() string { return l.opts.Durability }

// Close waits for running calls and closes the files. What Append has returned stays. After a failure the engine is
// left as it is: it may hold locks for ever, and its files are what the next start recovers from.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.using.Lock()
	defer l.using.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.closing)
	l.events.unregister()
	if err := l.Err(); err != nil {
		return err
	}
	if l.packing.done != nil {
		select {
		case <-l.packing.done:
		case <-l.Failed():
			return l.Err()
		}
	}
	if err := l.keepUnwritten(); err != nil {
		return err
	}
	l.events.closing.Store(true)
	err := l.unlessFailed(l.db.Close)
	if err != nil {
		return fmt.Errorf("close message log: %w", err)
	}
	if last := l.writer.lastMessage; last != 0 {
		err = l.checkpoints.add(last)
	}
	if err := errors.Join(err, l.checkpoints.close(l.opts.files, l.path)); err != nil {
		return fmt.Errorf("close message log: write where it ends: %w", err)
	}
	return nil
}

// use begins a use of the engine; done must be called at its end.
func (l *Log) use(ctx context.Context) (done func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.using.RLock()
	if l.closed {
		l.using.RUnlock()
		return nil, errClosed
	}
	return l.using.RUnlock, nil
}

// useOf begins a use of the engine for a conversation, or returns store.ErrNotFound when nobody has opened it.
func (l *Log) useOf(ctx context.Context, id store.ConversationID) (known *conversation, done func(), err error) {
	if done, err = l.use(ctx); err != nil {
		return nil, nil, err
	}
	if known, err = l.conversation(id); err != nil {
		done()
		return nil, nil, err
	}
	return known, done, nil
}

// diskBytes is the space that the log's files take.
func (l *Log) diskBytes() float64 {
	done, err := l.use(context.Background())
	if err != nil {
		return 0
	}
	defer done()
	// After a failure the engine's locks may never be released.
	if l.Err() != nil {
		return 0
	}
	return float64(l.db.Metrics().DiskSpaceUsage())
}

// isFull reports whether err says that the disk, or its owner's share of it, is full.
func isFull(err error) bool {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return isNoSpace(err)
}
