package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/store/pebble"
	"github.com/posthouse-im/posthouse/store/sqlite"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// A backup is a folder with the files of a data folder, as they were at one moment, and a manifest. It is made in three
// steps: the stores are frozen, which is to say copied into a folder beside them, by the node when one is running
// (control.go) and else by the command; the command copies that into the folder of the backup, whose name it has only
// when it is complete; and the frozen copy is removed.
const (
	// frozen is the folder in the data folder in which the stores are frozen.
	frozen = "backup"
	// manifestName is the file that says what a backup has, and manifestFormat the version of its format.
	manifestName   = "manifest.json"
	manifestFormat = 1
)

// alsoKept are files of the data folder that a backup has beside the stores, when there are any.
func alsoKept() []string { return []string{"development.crt", "development.key"} }

// manifest is what a backup says of itself. Numbers that need more than 53 bits are strings.
type manifest struct {
	Format  int       `json:"format"`
	Store   string    `json:"store"`
	Epoch   string    `json:"epoch"`
	Domain  string    `json:"domain"`
	Created time.Time `json:"created"`
	Version string    `json:"version"`
	Schema  schemas   `json:"schema"`
	Files   []fileSum `json:"files"`
}

// schemas are the versions of what is in the stores.
type schemas struct {
	Database int `json:"database"`
	Messages int `json:"messages"`
}

// fileSum is a file of a backup.
type fileSum struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Copied is what a backup or a restore has done.
type Copied struct {
	// Folder is the absolute path of the backup, or of the data folder that was restored.
	Folder string
	Bytes  int64
	Files  int
	// Created is when the backup was begun.
	Created time.Time
}

// Progress is told how many bytes are copied, of how many.
type Progress func(done, all int64)

// freeze copies the stores, as they are at one moment, into a new folder.
func (s *stores) freeze(ctx context.Context, into string, progress Progress) error {
	if err := os.Mkdir(into, 0o700); err != nil {
		return fmt.Errorf("freeze the stores: %w", err)
	}
	database, log := paths(into)
	// Nobody changes the database while the log is copied: so the copies fit.
	err := s.database.Snapshot(ctx, database, func() error { return s.log.Checkpoint(ctx, log) }, progress)
	if err != nil {
		return err
	}
	for _, name := range alsoKept() {
		content, err := os.ReadFile(filepath.Join(s.folder, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(into, name), content, 0o600)
		}
		if err != nil {
			return fmt.Errorf("freeze %s: %w", name, err)
		}
	}
	return nil
}

// Backup copies what is in the configured data folder, as it is at one moment, into a new folder. A node may be running
// on it, and all that it has acknowledged before the call is in the copy.
func Backup(ctx context.Context, c Config, version, target string, progress Progress) (done Copied, err error) {
	began := time.Now()
	if done.Folder, err = filepath.Abs(target); err != nil {
		return done, fmt.Errorf("find the folder of the backup: %w", err)
	}
	done.Created = began.UTC().Truncate(time.Second)
	if err := vacant(done.Folder); err != nil {
		return done, err
	}
	data, err := filepath.Abs(c.Data)
	if err != nil {
		return done, fmt.Errorf("find the data folder: %w", err)
	}
	if _, err := os.Stat(filepath.Join(data, Database)); err != nil {
		return done, fmt.Errorf("there is nothing to back up: %w", err)
	}
	partial, err := beginPartial(done.Folder)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, partial.end()) }()
	m, err := described(ctx, c, done.Folder)
	if err != nil {
		return done, err
	}
	m.Created, m.Version = done.Created, version
	from, thaw, err := freezeFolder(ctx, c, data, progress)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, thaw()) }()
	if m.Files, err = listFiles(from); err != nil {
		return done, err
	}
	if err := copyFiles(ctx, from, partial.path, m.Files, progress, sum); err != nil {
		return done, err
	}
	if err := writeManifest(partial.path, &m); err != nil {
		return done, err
	}
	for _, f := range m.Files {
		done.Bytes += f.Size
	}
	done.Files = len(m.Files)
	return done, partial.publish(done.Folder)
}

// vacant refuses a folder that has something in it.
func vacant(folder string) error {
	entries, err := os.ReadDir(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the folder of the backup: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("the folder %s is not empty: give the backup a folder of its own", folder)
	}
	return nil
}

// described begins a manifest, and writes to the audit log that a backup is made.
func described(ctx context.Context, c Config, target string) (m manifest, err error) {
	accounts, err := OpenAccounts(ctx, c)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, accounts.Close()) }()
	if err := accounts.Record(ctx, "backup", target); err != nil {
		return m, err
	}
	st, err := accounts.database.State(ctx)
	return manifest{
		Format: manifestFormat,
		Store:  hex.EncodeToString(st.Store[:]),
		Epoch:  strconv.FormatUint(st.Epoch, 10),
		Domain: st.Domain,
		Schema: schemas{sqlite.SchemaVersion(), pebble.SchemaVersion},
	}, err
}

// freezeFolder has the stores of a data folder frozen, by the node that runs on it or, when there is none, here. It
// returns where, and what ends it.
func freezeFolder(ctx context.Context, c Config, data string, progress Progress) (from string, thaw func() error,
	err error) {
	held, err := OpenFolder(data)
	var inUse *folderInUse
	if errors.As(err, &inUse) {
		thaw, err = askToFreeze(ctx, data, inUse, progress)
		return filepath.Join(data, frozen), thaw, err
	}
	if err != nil {
		return "", nil, err
	}
	from = filepath.Join(data, frozen)
	thaw = func() error { return errors.Join(os.RemoveAll(from), held.Close()) }
	if err := freezeHeld(ctx, c, data, from, progress); err != nil {
		return "", nil, errors.Join(err, thaw())
	}
	return from, thaw, nil
}

func freezeHeld(ctx context.Context, c Config, data, into string, progress Progress) error {
	domain, err := jid.Parse(c.Domain)
	if err != nil {
		return fmt.Errorf("domain %q is not a domain: %w", c.Domain, err)
	}
	if err := os.RemoveAll(into); err != nil { // of a backup that was interrupted
		return err
	}
	s, err := openStores(ctx, data, domain.Domain(), sqlite.Options{}, c.Messages)
	if err != nil {
		return err
	}
	return errors.Join(s.freeze(ctx, into, progress), s.close())
}

// partial is the folder of a backup that is not complete yet. It is locked, so that what was left behind by a process
// that was killed can be told from what another one is making.
type partial struct {
	path string
	held *os.File
}

func beginPartial(target string) (*partial, error) {
	path := target + ".partial"
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of the backup: %w", err)
	}
	for {
		err := os.Mkdir(path, 0o700)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make the folder of the backup: %w", err)
		}
		held, openErr := os.Open(path)
		if openErr != nil {
			return nil, fmt.Errorf("make the folder of the backup: %w", openErr)
		}
		if syscall.Flock(int(held.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			held.Close()
			return nil, fmt.Errorf("another backup into %s is running", target)
		}
		if err == nil {
			return &partial{path, held}, nil
		}
		if err := errors.Join(os.RemoveAll(path), held.Close()); err != nil {
			return nil, fmt.Errorf("remove an unfinished backup: %w", err)
		}
	}
}

// publish gives the folder its name, after all in it is on disk.
func (p *partial) publish(target string) error {
	if err := os.Rename(p.path, target); err != nil {
		return fmt.Errorf("name the backup: %w", err)
	}
	p.path = "" // it is none any more
	return syncFolder(filepath.Dir(target))
}

// end removes what is not complete.
func (p *partial) end() error { return errors.Join(os.RemoveAll(p.path), p.held.Close()) }

// listFiles returns the files in a folder, with their sizes, by path.
func listFiles(folder string) (files []fileSum, err error) {
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a file", path)
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		files = append(files, fileSum{Path: filepath.ToSlash(name), Size: info.Size()})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the files: %w", err)
	}
	return files, nil
}

// sum takes the checksum of what was copied into the list.
func sum(f *fileSum, got fileSum) error {
	*f = got
	return nil
}

// compare refuses what is not as the list says.
func compare(f *fileSum, got fileSum) error {
	if *f != got {
		return fmt.Errorf("%s is not what it was when the backup was made: its checksum or size is another one", f.Path)
	}
	return nil
}

// copyFiles copies files from one folder to another, readable by their owner only, and flushes them. check gets what
// was copied of each.
func copyFiles(ctx context.Context, from, to string, files []fileSum, progress Progress,
	check func(f *fileSum, got fileSum) error) error {
	var done, all int64
	for _, f := range files {
		all += f.Size
	}
	folders := map[string]bool{to: true}
	for i := range files {
		f := &files[i]
		path := filepath.Join(to, filepath.FromSlash(f.Path))
		for folder := filepath.Dir(path); !folders[folder]; folder = filepath.Dir(folder) {
			folders[folder] = true
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("copy %s: %w", f.Path, err)
		}
		got, err := copyFile(ctx, filepath.Join(from, filepath.FromSlash(f.Path)), path, func(n int) {
			if done += int64(n); progress != nil {
				progress(done, all)
			}
		})
		got.Path = f.Path
		if err != nil {
			return fmt.Errorf("copy %s: %w", f.Path, err)
		}
		if err := check(f, got); err != nil {
			return err
		}
	}
	for folder := range folders {
		if err := syncFolder(folder); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(ctx context.Context, from, to string, copied func(n int)) (got fileSum, err error) {
	in, err := os.Open(from)
	if err != nil {
		return got, err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return got, err
		}
		n, err := in.Read(buf)
		h.Write(buf[:n])
		if _, err := out.Write(buf[:n]); err != nil {
			return got, err
		}
		got.Size += int64(n)
		copied(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return got, err
		}
	}
	got.SHA256 = hex.EncodeToString(h.Sum(nil))
	return got, out.Sync()
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("flush the folder %s: %w", path, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("flush the folder %s: %w", path, err)
	}
	return nil
}

// writeFlushed makes a file that its owner only can read, and flushes it and its name.
func writeFlushed(folder, name string, content []byte) error {
	f, err := os.OpenFile(filepath.Join(folder, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncFolder(folder)
}

func writeManifest(folder string, m *manifest) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = writeFlushed(folder, manifestName, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	return nil
}

// readManifest reads what a backup says of itself, and checks that its files are those that it names.
func readManifest(folder string) (m manifest, err error) {
	text, err := os.ReadFile(filepath.Join(folder, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%s is no backup: it has no %s; give the folder that posthouse backup has made", folder,
			manifestName)
	}
	if err != nil {
		return m, fmt.Errorf("read the manifest: %w", err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("read the manifest: %w", err)
	}
	if m.Format != manifestFormat {
		return m, fmt.Errorf(
			"the backup %s has format %d, and this program knows %d: use the program that made it (%s)", folder,
			m.Format, manifestFormat, m.Version)
	}
	there, err := listFiles(folder)
	if err != nil {
		return m, err
	}
	sizes := map[string]bool{}
	for _, f := range there {
		if f.Path != manifestName {
			sizes[f.Path] = true
		}
	}
	for _, f := range m.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) || !sizes[f.Path] {
			return m, fmt.Errorf("the backup %s is not complete: %s is missing", folder, f.Path)
		}
		delete(sizes, f.Path)
	}
	for path := range sizes {
		return m, fmt.Errorf("the backup %s has a file that was not there when it was made: %s", folder, path)
	}
	return m, nil
}

// Restore copies a backup into the configured data folder, which must be empty, and begins an epoch: what clients
// remember, such as sync cursors, is of another one, so that they start over.
func Restore(ctx context.Context, c Config, source string, progress Progress) (done Copied, err error) {
	domain, err := jid.Parse(c.Domain)
	if err != nil {
		return done, fmt.Errorf("domain %q is not a domain: %w", c.Domain, err)
	}
	m, err := readManifest(source)
	if err != nil {
		return done, err
	}
	if m.Domain != domain.Domain() {
		return done, fmt.Errorf("the backup %s is of the domain %s, and the configuration says %s: set domain to %s "+
			"(--domain)", source, m.Domain, domain.Domain(), m.Domain)
	}
	held, err := OpenFolder(c.Data)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	if err := clearUnfinished(held.Path); err != nil {
		return done, err
	}
	if err := writeFlushed(held.Path, restoring, []byte("posthouse restore is not complete\n")); err != nil {
		return done, fmt.Errorf("begin to restore: %w", err)
	}
	if err := restoreInto(ctx, c, held.Path, domain.Domain(), source, &m, progress); err != nil {
		return done, errors.Join(err, clearUnfinished(held.Path))
	}
	if err := os.Remove(held.File(restoring)); err != nil {
		return done, fmt.Errorf("finish to restore: %w", err)
	}
	done = Copied{Folder: held.Path, Files: len(m.Files), Created: m.Created}
	for _, f := range m.Files {
		done.Bytes += f.Size
	}
	return done, syncFolder(held.Path)
}

// clearUnfinished empties a folder in which a restore was begun, and refuses any other that is not empty.
func clearUnfinished(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("look at the data folder: %w", err)
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == lockName })
	if len(entries) == 0 {
		return nil
	}
	if unfinished(folder) == nil {
		return fmt.Errorf("the data folder %s is not empty: move what is in it away, or give another one (--data)",
			folder)
	}
	for _, e := range entries {
		if e.Name() == restoring { // the last, so that a folder that is cleared by half is known for one
			continue
		}
		if err := os.RemoveAll(filepath.Join(folder, e.Name())); err != nil {
			return fmt.Errorf("clear the data folder: %w", err)
		}
	}
	if err := syncFolder(folder); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(folder, restoring)); err != nil {
		return fmt.Errorf("clear the data folder: %w", err)
	}
	return nil
}

func restoreInto(ctx context.Context, c Config, folder, domain, source string, m *manifest,
	progress Progress) (err error) {
	if err := copyFiles(ctx, source, folder, m.Files, progress, compare); err != nil {
		return err
	}
	s, err := openBoth(ctx, folder, domain, sqlite.Options{}, c.Messages)
	if err != nil {
		return fmt.Errorf("open what was restored: %w", err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	id := s.log.Identity()
	if hex.EncodeToString(id.Store[:]) != strings.ToLower(m.Store) {
		return fmt.Errorf("the manifest of %s is of another backup", source)
	}
	if id.Epoch, err = newEpoch(); err != nil {
		return err
	}
	if err := s.log.SetIdentity(ctx, id); err != nil {
		return err
	}
	if err := s.database.SetEpoch(ctx, id.Epoch); err != nil {
		return err
	}
	if _, err := s.database.AppendAudit(ctx, store.AuditEntry{
		Actor: commandLine(), Action: "restore", Target: source, Detail: "{}",
	}); err != nil {
		return err
	}
	return s.step(ctx)
}

// newEpoch returns a number that is not 0 and below 2^63.
func newEpoch() (uint64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("begin an epoch: %w", err)
	}
	return binary.BigEndian.Uint64(b[:])>>1 | 1, nil
}
