package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/posthouse-im/posthouse/store"
)

// endFile names a file beside the engine's. It says up to which message the log was known to be durable: an id of 8 bytes and their
// CRC-32C. The engine's own files can be cut off in a way that looks like a log that simply ends earlier; a log that ends before what
// this file says has lost messages, and is not opened.
const endFile = "END"

// writeEnd replaces the file.
func writeEnd(files vfs.FS, folder string, last store.MessageID) error {
	content := binary.BigEndian.AppendUint64(nil, uint64(last))
	content = binary.BigEndian.AppendUint32(content, crc32.Checksum(content, castagnoli))
	name := files.PathJoin(folder, endFile)
	f, err := files.Create(name+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := files.Rename(name+".new", name); err != nil {
		return err
	}
	dir, err := files.OpenDir(folder)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// readEnd returns what the file says, 0 when there is none yet.
func readEnd(files vfs.FS, folder string) (store.MessageID, error) {
	name := files.PathJoin(folder, endFile)
	f, err := files.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	content, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	if len(content) != 12 || crc32.Checksum(content[:8], castagnoli) != binary.BigEndian.Uint32(content[8:]) {
		return 0, fmt.Errorf("%s is damaged: %w", name, store.ErrDamaged)
	}
	return store.MessageID(binary.BigEndian.Uint64(content)), nil
}
