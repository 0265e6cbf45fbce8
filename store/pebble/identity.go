package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	engine "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/posthouse-im/posthouse/store"
)

// pairing is which database the log belongs to, and how far it was in step with it: Mark is the last mark that was set.
type pairing struct {
	store.Identity
	Mark uint64
}

// pairingSize is the length of a pairing: identity, epoch, mark.
const pairingSize = 16 + 8 + 8

func (p *pairing) encode() []byte {
	dst := append(make([]byte, 0, pairingSize), p.Store[:]...)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, p.Epoch), p.Mark)
}

func decodePairing(b []byte) (p pairing, err error) {
	if len(b) != pairingSize {
		return p, errShort
	}
	p.Store = [16]byte(b)
	p.Epoch, p.Mark = binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[24:])
	return p, nil
}

// readPairing reads what the log belongs to; a log of before there was such a thing belongs to nothing.
func (l *Log) readPairing() error {
	value, err := l.get([]byte{keyPairing})
	if err != nil || value == nil {
		return err
	}
	if l.pairing, err = decodePairing(value); err != nil {
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	return nil
}

// Identity returns which database the log belongs to, zero for none.
func (l *Log) Identity() store.Identity {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.pairing.Identity
}

// Mark returns the mark that was set last.
func (l *Log) Mark() uint64 {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.pairing.Mark
}

// SetMark stores that the log has been in step with its database up to there, together with all that was written
// before. It is on disk when it returns, whatever the durability. store.ErrFull and store.ErrNotStored are as for
// Append.
func (l *Log) SetMark(ctx context.Context, mark uint64) error {
	return l.pair(ctx, func(p *pairing) { p.Mark = mark })
}

// SetIdentity makes the log belong to a database.
func (l *Log) SetIdentity(ctx context.Context, id store.Identity) error {
	return l.pair(ctx, func(p *pairing) { p.Identity = id })
}

func (l *Log) pair(ctx context.Context, change func(*pairing)) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	done, err := l.use(ctx)
	if err != nil {
		return fmt.Errorf("mark the message log: %w", notStored(ctx, err))
	}
	defer done()
	if err := l.room(ctx, time.Now(), 100); err != nil {
		return err
	}
	next := l.pairing
	change(&next)
	b := l.db.NewBatch()
	set(b, []byte{keyPairing}, next.encode())
	if err := l.commit(context.WithoutCancel(ctx), b, engine.Sync); err != nil {
		l.events.fail(err)
		return l.Err()
	}
	l.pairing = next
	return nil
}

// KnowsAccount reports whether the account is or was in a conversation.
func (l *Log) KnowsAccount(ctx context.Context, id store.AccountID) (known bool, err error) {
	done, err := l.use(ctx)
	if err != nil {
		return false, fmt.Errorf("look for an account: %w", err)
	}
	defer done()
	for _, prefix := range []byte{keyIn, keyCursor} {
		lower, upper := bounds(prefix, uint64(id))
		it, err := l.db.NewIter(&engine.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return false, fmt.Errorf("look for an account: %w", err)
		}
		known = it.First()
		if err := it.Close(); err != nil {
			return false, fmt.Errorf("look for an account: %w", err)
		}
		if known {
			break
		}
	}
	return known, nil
}

// Checkpoint makes a copy of the log, as it is at a moment during the call, in a folder that must not exist yet and is
// on the same disk, as a rule. All that Append has returned before is in it. Tables are shared with the log and not
// copied, as long as neither has removed them. The log goes on meanwhile, and does not suffer when the copy fails.
func (l *Log) Checkpoint(ctx context.Context, folder string) error {
	done, err := l.use(ctx)
	if err != nil {
		return fmt.Errorf("copy the message log: %w", err)
	}
	defer done()
	if err := l.Err(); err != nil {
		return err
	}
	l.writing.Lock()
	// What the list names is in the log already, and so in the copy.
	list, err := readFile(l.opts.files, l.opts.files.PathJoin(l.path, checkpointFile))
	l.writing.Unlock()
	if err != nil {
		return fmt.Errorf("copy the message log: %w", err)
	}
	if err := l.unlessFailed(func() error { return l.copyTo(folder) }); err != nil {
		return fmt.Errorf("copy the message log: %w", err)
	}
	list = list[:len(list)/checkpointSize*checkpointSize]
	if err := writeFile(l.opts.files, l.opts.files.PathJoin(folder, checkpointFile), list); err != nil {
		return fmt.Errorf("copy the message log: %w", errors.Join(err, l.opts.files.RemoveAll(folder)))
	}
	return nil
}

// copyTo makes the engine's copy. The engine panics when the names in the new folder cannot be flushed.
func (l *Log) copyTo(folder string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(fmt.Errorf("%v", p), l.opts.files.RemoveAll(folder))
		}
	}()
	return l.db.Checkpoint(folder, engine.WithFlushedWAL())
}

// writeFile makes a file, and flushes it.
func writeFile(files vfs.FS, name string, content []byte) error {
	f, err := files.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = bytes.NewReader(content).WriteTo(f)
	return errors.Join(err, f.Sync(), f.Close())
}

// Exists reports whether there is a log in the folder, or what is left of one.
func Exists(folder string) (bool, error) {
	found, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(found) > 0, err
}
