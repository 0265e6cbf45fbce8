package pebble

import (
	"errors"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// private makes files that only their owner can read and write, whatever the umask is. The engine would give them to
// all whom the umask allows.
type private struct{ vfs.FS }

func (p private) file(f vfs.File, name string, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(name, 0o600); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Create implements vfs.FS.
func (p private) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := p.FS.Create(name, category)
	return p.file(f, name, err)
}

// OpenReadWrite implements vfs.FS.
func (p private) OpenReadWrite(
	name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption,
) (vfs.File, error) {
	f, err := p.FS.OpenReadWrite(name, category, opts...)
	return p.file(f, name, err)
}

// Lock implements vfs.FS.
func (p private) Lock(name string) (io.Closer, error) {
	lock, err := p.FS.Lock(name)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(name, 0o600); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// MkdirAll implements vfs.FS.
func (p private) MkdirAll(name string, _ os.FileMode) error { return p.FS.MkdirAll(name, 0o700) }

// Unwrap implements vfs.FS.
func (p private) Unwrap() vfs.FS { return p.FS }
