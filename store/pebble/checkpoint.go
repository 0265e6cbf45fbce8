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

// checkpointFile names a file beside the engine's. Damage to the engine's log or list of tables can look like a log
// that simply ended earlier, or never had some of its tables. The file has one message of each table that was written,
// and the last one of each run: an id of 8 bytes and its CRC-32C. A log in which one of them is missing has lost
// messages, and is not opened.
const (
	checkpointFile = "CHECKPOINTS"
	checkpointSize = 8 + 4
)

// checkpoints appends to the file. Owned by Append and Close.
type checkpoints struct {
	file vfs.File
	size int64
	last store.MessageID
}

// openCheckpoints reads the file, or creates it, and returns the messages that the log must have. An entry that a crash
// left unfinished is overwritten.
func openCheckpoints(files vfs.FS, folder string) (*checkpoints, []store.MessageID, error) {
	name := files.PathJoin(folder, checkpointFile)
	content, err := readFile(files, name)
	if err != nil {
		return nil, nil, err
	}
	c := &checkpoints{}
	var ids []store.MessageID
	for ; len(content) >= checkpointSize; content = content[checkpointSize:] {
		if crc32.Checksum(content[:8], castagnoli) != binary.BigEndian.Uint32(content[8:]) {
			return nil, nil, fmt.Errorf(
				"%s is %w at byte %d: without that file the log is opened unchecked", name, store.ErrDamaged, c.size,
			)
		}
		c.last = store.MessageID(binary.BigEndian.Uint64(content))
		c.size += checkpointSize
		ids = append(ids, c.last)
	}
	if c.file, err = files.OpenReadWrite(name, vfs.WriteCategoryUnspecified); err != nil {
		return nil, nil, err
	}
	return c, ids, nil
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

// add notes that a message is durable. It needs no flush: a missing checkpoint is only a missing check.
func (c *checkpoints) add(id store.MessageID) error {
	if id == c.last {
		return nil
	}
	entry := binary.BigEndian.AppendUint64(nil, uint64(id))
	entry = binary.BigEndian.AppendUint32(entry, crc32.Checksum(entry, castagnoli))
	n, err := c.file.WriteAt(entry, c.size)
	if err != nil || n != len(entry) {
		return errors.Join(err, fmt.Errorf("%d of %d bytes are written", n, len(entry)))
	}
	c.size += checkpointSize
	c.last = id
	return nil
}

// close flushes the file and its name.
func (c *checkpoints) close(files vfs.FS, folder string) error {
	if err := errors.Join(c.file.Sync(), c.file.Close()); err != nil {
		return err
	}
	dir, err := files.OpenDir(folder)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// verifyCheckpoints opens the file and looks for each message that it names.
func (l *Log) verifyCheckpoints() error {
	c, ids, err := openCheckpoints(l.opts.files, l.path)
	if err != nil {
		return err
	}
	for _, id := range ids {
		_, closer, err := l.db.Get(idKey(nil, keyMessage, uint64(id)))
		switch {
		case errors.Is(err, engine.ErrNotFound):
			return errors.Join(
				fmt.Errorf("message %d was stored and is not there, nor are those beside it: %w", id, store.ErrDamaged),
				c.file.Close(),
			)
		case err == nil:
			err = closer.Close()
		case engine.IsCorruptionError(err):
			err = nil // it is there, and will be named when somebody reads it
		}
		if err != nil {
			return errors.Join(err, c.file.Close())
		}
	}
	l.checkpoints = c
	return nil
}

// checkpoint notes the last message of a memtable that is full: it will be in a table soon, and the engine's log of it
// gone.
func (l *Log) checkpoint(id store.MessageID) {
	if id == 0 || l.opts.Durability == DurabilityRelaxed || !l.events.rotated.Swap(false) {
		return
	}
	if err := l.checkpoints.add(id); err != nil {
		l.log.Warn("cannot write to the list of checkpoints", "err", err)
	}
}
