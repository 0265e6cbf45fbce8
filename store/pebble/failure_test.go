package pebble

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/storetest"
	"github.com/posthouse-im/posthouse/wire/jid"
)

func someTime() time.Time { return time.Unix(1_700_000_000, 0) }

func alice() store.Party { return store.Party{JID: jid.MustParse("alice@example.org"), Account: 1} }
func bob() store.Party   { return store.Party{JID: jid.MustParse("bob@example.org"), Account: 2} }

// opened opens the conversation of alice and bob.
func opened(t testing.TB, l *Log) store.ConversationID {
	t.Helper()
	o, err := l.OpenConversation(context.Background(), someTime(), store.DirectKey(alice(), bob()), nil)
	require.NoError(t, err)
	return o.ID
}

// batch makes n messages of alice to bob.
func batch(t testing.TB, l *Log, n int) []*store.Append {
	t.Helper()
	in := opened(t, l)
	made := make([]*store.Append, n)
	for i := range made {
		made[i] = &store.Append{Message: store.Message{
			Conversation: in,
			Flags:        store.InAuthorArchive | store.InRecipientArchive | store.ForOffline,
			Author:       alice(),
			Stanza:       []byte(strings.Repeat("x", 300)),
		}}
	}
	return made
}

// marking makes a change of a marker.
func marking(t testing.TB, l *Log, account store.AccountID, kind store.MarkerKind, through uint64) *store.Append {
	t.Helper()
	return &store.Append{
		Message: store.Message{
			Conversation: opened(t, l),
			Marker:       &store.Marker{Account: account, Kind: kind, Through: through},
		},
	}
}

// put appends a batch.
func put(ctx context.Context, l *Log, now time.Time, entries ...*store.Append) error {
	return l.Append(ctx, &store.Batch{Now: now, Entries: entries})
}

func ids(messages []store.Message) []store.MessageID {
	all := []store.MessageID{}
	for _, m := range messages {
		all = append(all, m.ID)
	}
	return all
}

// fault makes operations on some files fail from the moment it is switched on.
type fault struct {
	mu   sync.Mutex
	err  error
	kind errorfs.OpKind
	file string
	hits int
}

func (f *fault) set(kind errorfs.OpKind, file string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kind, f.file, f.err = kind, file, err
}

func (f *fault) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits
}

func (f *fault) String() string { return "fault" }

// MaybeError implements errorfs.Injector.
func (f *fault) MaybeError(op errorfs.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil || op.Kind != f.kind || !strings.Contains(op.Path, f.file) {
		return nil
	}
	f.hits++
	return &os.PathError{Op: "test", Path: op.Path, Err: f.err}
}

// TestFailedFlushIsFatal: after an error of the write-ahead log nothing is acknowledged any more, what was
// acknowledged can still be read, and a restart has it.
func TestFailedFlushIsFatal(t *testing.T) {
	for _, test := range []struct {
		name string
		kind errorfs.OpKind
		err  error
	}{
		{"sync EIO", errorfs.OpFileSync, syscall.EIO},
		{"sync data EIO", errorfs.OpFileSyncData, syscall.EIO},
		{"write EIO", errorfs.OpFileWrite, syscall.EIO},
		{"write ENOSPC", errorfs.OpFileWrite, syscall.ENOSPC},
	} {
		t.Run(test.name, func(t *testing.T) {
			disk, broken := vfs.NewCrashableMem(), &fault{}
			l := mustOpen(t, "log", Options{files: errorfs.Wrap(disk, broken), Logger: silent()})
			ctx := t.Context()
			first := batch(t, l, 3)
			require.NoError(t, put(ctx, l, someTime(), first...))
			broken.set(test.kind, ".log", test.err)

			for broken.count() == 0 {
				err := put(ctx, l, someTime(), batch(t, l, 2)...)
				if broken.count() == 0 {
					require.NoError(t, err) // this kind of sync is not what the engine uses for this write
					t.Logf("%s is not used", test.name)
					return
				}
				require.ErrorIs(t, err, test.err)
				require.NotErrorIs(t, err, store.ErrFull, "nobody knows what a failed write has left behind")
			}
			<-l.Failed()
			require.ErrorIs(t, l.Err(), test.err)
			broken.set(0, "", nil) // as if the next flush worked, which it does on Linux
			require.Error(t, put(ctx, l, someTime(), batch(t, l, 1)...))
			found, _, err := l.History(ctx, store.HistoryQuery{Owner: 2, Limit: 10})
			require.NoError(t, err)
			require.Len(t, found, 3, "what was not acknowledged is not shown")
			require.Error(t, l.Close())

			again := mustOpen(t, "log", Options{files: disk.CrashClone(vfs.CrashCloneCfg{}), Logger: silent()})
			found, err = again.Since(ctx, 0, 10)
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(found), 3)
			require.Equal(t, first[2].ID, found[2].ID)
			require.NoError(t, put(ctx, again, someTime(), batch(t, again, 1)...))
			require.NoError(t, again.Close())
		})
	}
}

// TestPanicOfTheEngineIsAFailure: the engine panics when it cannot begin a new log file.
func TestPanicOfTheEngineIsAFailure(t *testing.T) {
	broken := &fault{}
	l := mustOpen(
		t, "log", Options{files: errorfs.Wrap(vfs.NewMem(), broken), MemTableBytes: 256 << 10, Logger: silent()},
	)
	broken.set(errorfs.OpCreate, ".log", syscall.EIO)
	var err error
	for range 100 { // until the first memtable is full
		if err = put(t.Context(), l, someTime(), batch(t, l, 100)...); err != nil {
			break
		}
	}
	require.ErrorContains(t, err, "input/output error")
	<-l.Failed()
	require.Error(t, put(t.Context(), l, someTime(), batch(t, l, 1)...))
	require.Error(t, l.Close())
}

// TestBackgroundFailure: an I/O error while a table is written stops the log, although the write-ahead log still works.
func TestBackgroundFailure(t *testing.T) {
	broken := &fault{}
	l := mustOpen(
		t, "log", Options{files: errorfs.Wrap(vfs.NewMem(), broken), MemTableBytes: 256 << 10, Logger: silent()},
	)
	broken.set(errorfs.OpFileWrite, ".sst", syscall.EIO)
	for l.Err() == nil {
		if err := put(t.Context(), l, someTime(), batch(t, l, 100)...); err != nil {
			require.ErrorIs(t, err, syscall.EIO)
		}
	}
	<-l.Failed()
	require.ErrorIs(t, l.Err(), syscall.EIO)
	require.Error(t, l.Close())
}

// TestManifestFailure: an error that the engine calls fatal in the background stops the log and not the process.
func TestManifestFailure(t *testing.T) {
	broken := &fault{}
	l := mustOpen(
		t, "log", Options{files: errorfs.Wrap(vfs.NewMem(), broken), MemTableBytes: 256 << 10, Logger: silent()},
	)
	broken.set(errorfs.OpFileSync, "MANIFEST", syscall.EIO)
	for {
		if err := put(t.Context(), l, someTime(), batch(t, l, 100)...); err != nil {
			require.ErrorContains(t, err, "MANIFEST")
			break
		}
	}
	<-l.Failed()
	require.Error(t, l.Close())
}

// disk is a file system that says how much space it has.
type disk struct {
	vfs.FS
	mu    sync.Mutex
	usage vfs.DiskUsage
}

func (d *disk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.usage, nil
}

func (d *disk) set(usage vfs.DiskUsage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.usage = usage
}

// counted counts the looks that go through it.
type counted struct {
	*disk
	looks int
}

func (c *counted) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	c.looks++
	return c.disk.GetDiskUsage(path)
}

// TestReserve: below the reserve nothing is written, everything is read, and no restart is needed (P17).
func TestReserve(t *testing.T) {
	d := &disk{FS: vfs.NewMem(), usage: vfs.DiskUsage{TotalBytes: 100 << 30, AvailBytes: 50 << 30}}
	l := mustOpen(t, "log", Options{files: d, Logger: silent()})
	c := &counted{disk: d} // the engine looks too, from goroutines of its own
	l.space.files = c
	ctx, now := t.Context(), someTime()
	require.NoError(t, put(ctx, l, now, batch(t, l, 1)...))
	require.NoError(t, put(ctx, l, now.Add(time.Millisecond), batch(t, l, 1)...))
	require.Equal(t, 1, c.looks, "at most one look a second")

	d.set(vfs.DiskUsage{TotalBytes: 100 << 30, AvailBytes: 1<<30 - 1}) // a twentieth would be five times as much
	require.NoError(t, put(ctx, l, now.Add(999*time.Millisecond), batch(t, l, 1)...))
	now = now.Add(time.Second)
	refused := batch(t, l, 1)
	require.ErrorIs(t, put(ctx, l, now, refused...), store.ErrFull)
	require.Zero(t, refused[0].ID)
	require.ErrorIs(t, put(ctx, l, now.Add(time.Millisecond), batch(t, l, 1)...), store.ErrFull)
	full, err := l.Full()
	require.NoError(t, err)
	require.True(t, full)
	found, err := l.Since(ctx, 0, 10)
	require.NoError(t, err)
	require.Len(t, found, 3)

	d.set(vfs.DiskUsage{TotalBytes: 100 << 30, AvailBytes: 1 << 30})
	full, err = l.Full()
	require.NoError(t, err)
	require.False(t, full)
	next := batch(t, l, 1)
	now = now.Add(-time.Hour)
	require.NoError(t, put(ctx, l, now, next...), "a clock set back does not put the look off")
	require.Equal(t, uint64(4), next[0].Seq)

	d.set(vfs.DiskUsage{TotalBytes: 1000 << 10, AvailBytes: 60 << 10}) // an eighth of a twentieth is 6 KiB
	require.NoError(t, put(ctx, l, now.Add(time.Second), batch(t, l, 1)...))
	looks := c.looks
	require.NoError(t, put(ctx, l, now.Add(time.Second), batch(t, l, 30)...), "13 KB in one moment")
	require.Equal(t, looks+1, c.looks)
	require.NoError(t, l.Err())
	require.NoError(t, l.Close())
}

// TestHangingDisk: a flush that does not return within the context's time is a failure, since nobody knows how it will
// end.
func TestHangingDisk(t *testing.T) {
	release := make(chan struct{})
	hang := make(chan struct{})
	var on bool
	var mu sync.Mutex
	files := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		stop := on && op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".log")
		mu.Unlock()
		if stop {
			close(hang)
			<-release
		}
		return nil
	}))
	l := mustOpen(t, "log", Options{files: files, Logger: silent()})
	require.NoError(t, put(t.Context(), l, someTime(), batch(t, l, 1)...))
	mu.Lock()
	on = true
	mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-hang
		cancel()
	}()
	err := put(ctx, l, someTime(), batch(t, l, 1)...)
	require.ErrorIs(t, err, context.Canceled)
	<-l.Failed()
	require.Error(t, put(t.Context(), l, someTime(), batch(t, l, 1)...))
	mu.Lock()
	on = false
	mu.Unlock()
	close(release)
}

// TestPowerCuts cuts the power at many moments, keeping none, some or all of what was not flushed: every acknowledged
// message is there, once, in its place (P2).
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 8))
	disk := vfs.NewCrashableMem()
	o := Options{MemTableBytes: 256 << 10, packMessages: 20, Logger: silent()}
	var acknowledged []store.Message
	cuts := storetest.Scaled(t, 20)
	for cut := range cuts {
		o.files = disk
		l := mustOpen(t, "log", o)
		found, err := l.Since(t.Context(), 0, len(acknowledged)+1000)
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(found), len(acknowledged), "cut %d", cut)
		require.Equal(t, ids(acknowledged), ids(found[:len(acknowledged)]))
		for i, m := range found {
			require.Equal(t, uint64(i+1), m.Seq)
		}
		history, _, err := l.History(t.Context(), store.HistoryQuery{Owner: 2, Limit: len(found) + 1})
		require.NoError(t, err)
		require.Equal(t, ids(found), ids(history))
		acknowledged = found

		clone := make(chan *vfs.MemFS, 1)
		after := r.IntN(10)
		for n := range 10 {
			if n == after { // at some moment of the next writes
				go func() {
					clone <- disk.CrashClone(vfs.CrashCloneCfg{
						UnsyncedDataPercent: []int{0, 50, 100}[cut%3], RNG: rand.New(rand.NewPCG(uint64(cut), 1)),
					})
				}()
			}
			b := batch(t, l, 1+r.IntN(6))
			require.NoError(t, put(t.Context(), l, someTime().Add(time.Duration(cut)*time.Second), b...))
			if n < after {
				for _, a := range b {
					acknowledged = append(acknowledged, a.Message)
				}
			}
		}
		disk = <-clone
		require.NoError(t, l.Close())
	}
	require.Greater(t, len(acknowledged), 10*cuts)
}

// TestPowerCutBites shows that the test above can fail: with relaxed durability, messages are lost.
func TestPowerCutBites(t *testing.T) {
	disk := vfs.NewCrashableMem()
	o := Options{files: disk, Durability: DurabilityRelaxed, Logger: silent()}
	l := mustOpen(t, "log", o)
	require.NoError(t, put(t.Context(), l, someTime(), batch(t, l, 10)...))
	o.files = disk.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(t, l.Close())
	l = mustOpen(t, "log", o)
	found, err := l.Since(t.Context(), 0, 100)
	require.NoError(t, err)
	require.Empty(t, found)
	require.NoError(t, l.Close())
}

// TestRefusals: a log of a newer or an older program, another kind of store, and a folder in use are not touched.
// TestNumbersAfterALostBatch: what was not stored has taken no number, nor a position.
func TestNumbersAfterALostBatch(t *testing.T) {
	l := mustOpen(t, "log", Options{files: vfs.NewMem(), Logger: silent()})
	defer l.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for seq := uint64(1); seq <= 3; seq++ {
		lost := batch(t, l, 5)
		require.ErrorIs(t, put(ended, l, time.Now(), lost...), store.ErrNotStored)
		stored := batch(t, l, 1)
		require.NoError(t, put(t.Context(), l, time.Now(), stored...))
		require.Equal(t, seq, stored[0].Seq)
	}
}

func TestRefusals(t *testing.T) {
	folder := t.TempDir()
	l := mustOpen(t, folder, Options{Logger: silent()})
	_, err := Open(folder, Options{Logger: silent()})
	require.Error(t, err, "a folder has one process")
	require.NoError(t, l.Close())
	for _, other := range []struct {
		schema  uint64
		refusal error
		advice  string
	}{{schemaVersion + 1, errNewer, ""},
		{schemaVersion - 1, errOlder, "move the folder away and start with a new one"}} {
		files := vfs.NewMem()
		l = mustOpen(t, "log", Options{files: files, Logger: silent()})
		require.NoError(t, l.db.Set([]byte{keyVersion}, binary.AppendUvarint(nil, other.schema), engine.Sync))
		require.NoError(t, l.Close())
		_, err = Open("log", Options{files: files, Logger: silent()})
		require.ErrorIs(t, err, other.refusal)
		require.ErrorContains(t, err, fmt.Sprintf("its schema is %d", other.schema))
		require.ErrorContains(t, err, other.advice)
	}

	o, err := Options{files: vfs.NewMem()}.withDefaults()
	require.NoError(t, err)
	db, err := engine.Open("log", engineOptions("log", o, newEvents(silent(), nil)))
	require.NoError(t, err)
	require.NoError(t, db.Set([]byte("x"), []byte("y"), engine.Sync))
	require.NoError(t, db.Close())
	_, err = Open("log", Options{files: o.files, Logger: silent()})
	require.ErrorContains(t, err, "no message log")

	_, err = Open(t.TempDir(), Options{Durability: "some"})
	require.ErrorContains(t, err, "durability")
}

func TestFolderIsPrivate(t *testing.T) {
	folder := t.TempDir() + "/a/b"
	require.NoError(t, os.MkdirAll(folder, 0o755))
	require.NoError(t, mustOpen(t, folder, Options{Logger: silent()}).Close())
	info, err := os.Stat(folder)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

// TestClosed: calls after Close get an error, and a second Close nothing.
func TestClosed(t *testing.T) {
	l := mustOpen(t, "log", Options{files: vfs.NewMem(), Logger: silent()})
	require.Equal(t, DurabilityFull, l.Durability())
	late := batch(t, l, 1)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	require.ErrorIs(t, put(t.Context(), l, someTime(), late...), errClosed)
	require.ErrorIs(t, l.Deliver(t.Context(), nil), errClosed)
	_, err := l.OpenConversation(t.Context(), someTime(), store.DirectKey(alice(), alice()), nil)
	require.ErrorIs(t, err, errClosed)
	_, err = l.Since(t.Context(), 0, 1)
	require.ErrorIs(t, err, errClosed)
	_, _, err = l.History(t.Context(), store.HistoryQuery{Owner: 1, Limit: 1})
	require.ErrorIs(t, err, errClosed)
}

// TestMetrics: metrics are there while the log is open, and two logs after each other do not clash.
func TestMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	for range 2 {
		l := mustOpen(t, "log", Options{files: vfs.NewMem(), Metrics: r, Logger: silent()})
		require.NoError(t, put(t.Context(), l, someTime(), batch(t, l, 1)...))
		families, err := r.Gather()
		require.NoError(t, err)
		require.Len(t, families, 4)
		require.NoError(t, l.Close())
		families, err = r.Gather()
		require.NoError(t, err)
		require.Empty(t, families)
	}
}
