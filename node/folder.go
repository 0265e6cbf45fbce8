package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// lockName is the file in the data folder that the running process holds locked. It stays when the process ends; the
// lock does not.
const lockName = "lock"

// Folder is the data folder, held by this process alone.
type Folder struct {
	// Path is absolute.
	Path string
	lock *os.File
}

// OpenFolder makes the data folder when it is missing and takes hold of it. It fails when another process has it,
// and tells which; and when other people on the machine can write to it.
func OpenFolder(path string) (*Folder, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the data folder: %w", err)
	}
	if err := MakeFolder(abs); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(abs, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data folder: %w", err)
	}
	// The kernel lets go of the lock when the process ends, however it ends: a stale one cannot exist.
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer lock.Close()
		holder, _ := io.ReadAll(io.LimitReader(lock, 512))
		return nil, &folderInUse{abs, describeHolder(string(holder))}
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock the data folder %s: %w", abs, err)
	}
	f := &Folder{Path: abs, lock: lock}
	if err := f.sign(time.Now()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// folderInUse is the refusal of a data folder that another process has.
type folderInUse struct{ path, holder string }

func (e *folderInUse) Error() string {
	return fmt.Sprintf(
		"the data folder %s is in use by %s: stop that node, or give this one a folder of its own (--data)", e.path,
		e.holder)
}

// MakeFolder makes a folder that only its owner can enter, with its parents. One that exists is kept, and made private
// when it is empty.
func MakeFolder(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	err := os.Mkdir(path, 0o700)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the data folder: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("open the data folder: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("the data folder %s is not a folder: give another one (--data)", path)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if entries, err := os.ReadDir(path); err == nil && len(entries) == 0 {
		if err := os.Chmod(path, 0o700); err == nil {
			return nil
		}
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("the data folder %s can be written by others than its owner (mode %04o): chmod 700 %s", path,
			info.Mode().Perm(), path)
	}
	return nil // others can list it; the files in it are made readable by the owner only
}

// sign writes who holds the lock, for the message that a second process gives.
func (f *Folder) sign(now time.Time) error {
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	text := fmt.Sprintf("%d %s %s\n", os.Getpid(), now.UTC().Format(time.RFC3339), host)
	if err := f.lock.Truncate(0); err != nil {
		return fmt.Errorf("write the lock of the data folder: %w", err)
	}
	if _, err := f.lock.WriteAt([]byte(text), 0); err != nil {
		return fmt.Errorf("write the lock of the data folder: %w", err)
	}
	return nil
}

func describeHolder(text string) string {
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return "another process"
	}
	return fmt.Sprintf("process %s on %s since %s", fields[0], fields[2], fields[1])
}

// File returns the path of something in the folder.
func (f *Folder) File(name string) string { return filepath.Join(f.Path, name) }

// Close lets go of the folder.
func (f *Folder) Close() error { return f.lock.Close() }
