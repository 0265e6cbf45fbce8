package pebble

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard stands between the engine and its files. When writing to the write-ahead log or to the list of tables fails,
// the engine would retry, panic with locks that it does not hold, or go on, depending on the place. None of this may
// happen: after a failed flush the kernel has dropped what was not written, and the next flush succeeds without it. So
// the failure is recorded, and the goroutine that met it stays in the guard until the process ends. Open, Append and
// Close do not wait for it. Copies of the log in other folders are not guarded: nothing relies on them yet.
type guard struct {
	vfs.FS
	events *events
	folder string
}

// stop records err, when it is an error, and does not return then.
func (e *events) stop(err error, doing, name string) error {
	if err == nil {
		return nil
	}
	e.fail(fmt.Errorf("%s %s: %w", doing, name, err))
	select {}
}

// guarded tells the files of which no write may fail.
func (g guard) guarded(path string) bool {
	name := g.PathBase(path)
	return g.PathDir(path) == filepath.Clean(g.folder) &&
		(strings.HasSuffix(name, ".log") || strings.HasPrefix(name, "MANIFEST-"))
}

func (g guard) file(f vfs.File, err error, doing, name string) (vfs.File, error) {
	if !g.guarded(name) {
		return f, err
	}
	if err := g.events.stop(err, doing, name); err != nil {
		return nil, err
	}
	return guardedFile{f, g.events, name}, nil
}

// Create implements vfs.FS.
func (g guard) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, category)
	return g.file(f, err, "create", name)
}

// ReuseForWrite implements vfs.FS.
func (g guard) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(oldname, newname, category)
	return g.file(f, err, "reuse", newname)
}

// OpenDir implements vfs.FS. A folder is opened to flush the names in it.
func (g guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil || filepath.Clean(name) != filepath.Clean(g.folder) {
		return f, err
	}
	return guardedFile{f, g.events, name}, nil
}

// Unwrap implements vfs.FS.
func (g guard) Unwrap() vfs.FS { return g.FS }

// guardedFile is a file of which no write may fail.
type guardedFile struct {
	vfs.File
	events *events
	name   string
}

// Write implements io.Writer.
func (f guardedFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	return n, f.events.stop(err, "write", f.name)
}

// WriteAt implements io.WriterAt.
func (f guardedFile) WriteAt(b []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(b, at)
	return n, f.events.stop(err, "write", f.name)
}

// Sync implements vfs.File.
func (f guardedFile) Sync() error { return f.events.stop(f.File.Sync(), "flush", f.name) }

// SyncData implements vfs.File.
func (f guardedFile) SyncData() error { return f.events.stop(f.File.SyncData(), "flush", f.name) }

// SyncTo implements vfs.File.
func (f guardedFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.events.stop(err, "flush", f.name)
}

// Close implements io.Closer.
func (f guardedFile) Close() error { return f.events.stop(f.File.Close(), "close", f.name) }
