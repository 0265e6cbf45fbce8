package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/posthouse-im/posthouse/store"
)

// witnessFile names a file beside the engine's. Damage to the engine's log or list of tables can look like a log that
// simply ended earlier, or never had some of its tables. The file has one message of each table that was written, and the last one of each
// run: an id of 8 bytes and its CRC-32C. A log in which one of them is missing has lost messages, and is not opened.
const (
	witnessFile = "WITNESSES"
	witnessSize = 8 + 4
)

// witnesses appends to the file. Owned by Append and Close.
type witnesses struct {
	file vfs.File
	size int64
	last store.MessageID
}

// openWitnesses reads the file, or creates it, and returns whose presence it asks for. What a crash has left of an
// unfinished entry is overwritten.
func openWitnesses(files vfs.FS, folder string) (*witnesses, []store.MessageID, error) {
	name := files.PathJoin(folder, witnessFile)
	content, err := readFile(files, name)
	if err != nil {
		return nil, nil, err
	}
	w := &witnesses{}
	var ids []store.MessageID
	for ; len(content) >= witnessSize; content = content[witnessSize:] {
		if crc32.Checksum(content[:8], castagnoli) != binary.BigEndian.Uint32(content[8:]) {
			return nil, nil, fmt.Errorf("%s is %w at byte %d: without that file the log is opened unchecked", name, store.ErrDamaged, w.size)
		}
		w.last = store.MessageID(binary.BigEndian.Uint64(content))
		w.size += witnessSize
		ids = append(ids, w.last)
	}
	if w.file, err = files.OpenReadWrite(name, vfs.WriteCategoryUnspecified); err != nil {
		return nil, nil, err
	}
	return w, ids, nil
}

// readFile returns a file's content, nil when there is no file.
func readFile(files vfs.FS, name string) ([]byte, error) {
	f, err := files.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(f)
	return content, errors.Join(err, f.Close())
}

// add notes that a message is durable. It needs no flush: a witness less is a check less.
func (w *witnesses) add(id store.MessageID) error {
	if id == w.last {
		return nil
	}
	entry := binary.BigEndian.AppendUint64(nil, uint64(id))
	entry = binary.BigEndian.AppendUint32(entry, crc32.Checksum(entry, castagnoli))
	n, err := w.file.WriteAt(entry, w.size)
	if err != nil || n != len(entry) {
		return errors.Join(err, fmt.Errorf("%d of %d bytes are written", n, len(entry)))
	}
	w.size += witnessSize
	w.last = id
	return nil
}

// close flushes the file and its name.
func (w *witnesses) close(files vfs.FS, folder string) error {
	if err := errors.Join(w.file.Sync(), w.file.Close()); err != nil {
		return err
	}
	dir, err := files.OpenDir(folder)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// hearWitnesses opens the file and looks for each message that it names.
func (l *Log) hearWitnesses() error {
	w, ids, err := openWitnesses(l.opts.files, l.path)
	if err != nil {
		return err
	}
	for _, id := range ids {
		_, closer, err := l.db.Get(idKey(nil, keyMessage, uint64(id)))
		switch {
		case errors.Is(err, engine.ErrNotFound):
			return errors.Join(fmt.Errorf("message %d was stored and is not there, nor are those beside it: %w", id, store.ErrDamaged), w.file.Close())
		case err == nil:
			err = closer.Close()
		case engine.IsCorruptionError(err):
			err = nil // it is there, and will be named when somebody reads it
		}
		if err != nil {
			return errors.Join(err, w.file.Close())
		}
	}
	l.witnesses = w
	return nil
}

// witness notes the last message of a memtable that is full: it will be in a table soon, and the engine's log of it gone.
func (l *Log) witness(id store.MessageID) {
	if id == 0 || l.opts.Durability == DurabilityRelaxed || !l.events.rotated.Swap(false) {
		return
	}
	if err := l.witnesses.add(id); err != nil {
		l.log.Warn("cannot write to the list of witnesses", "err", err)
	}
}
