package pebble

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/posthouse-im/posthouse/store"
)

// The default reserve: a twentieth of the disk, but never more than maxReserve bytes.
const (
	reserveShare = 20
	maxReserve   = 1 << 30
)

// checkInterval is how old a look at the free space may be.
const checkInterval = time.Second

// space keeps the reserve of free disk. Owned by Append.
type space struct {
	files   vfs.FS
	path    string
	reserve int64
	events  *events

	checked time.Time
	// written since checked, in bytes.
	written uint64
	// after how many bytes written to look again before the interval has passed.
	recheck uint64
	full    bool
}

// room returns store.ErrFull when the free space is below the reserve or the engine has met a full disk. It looks at
// the disk at most once a second, or when an eighth of the reserve may have been used since.
func (s *space) room(now time.Time, bytes int) error {
	if s.events.full.Load() {
		return fmt.Errorf("message log: no table can be written: %w", store.ErrFull)
	}
	if s.reserve < 0 {
		return nil
	}
	s.written += uint64(bytes)
	// A clock that was set back must not put the next look off.
	if age := now.Sub(s.checked); age < 0 || age >= checkInterval || s.written > s.recheck {
		if err := s.look(now); err != nil {
			return err
		}
	}
	if s.full {
		return fmt.Errorf("message log: free space is below the reserve: %w", store.ErrFull)
	}
	return nil
}

func (s *space) look(now time.Time) error {
	short, reserve, err := s.short()
	if err != nil {
		return err
	}
	s.checked, s.written, s.recheck, s.full = now, 0, reserve/8, short
	return nil
}

// short reports whether there is less free space than the reserve, and how large that is. It only reads what is fixed.
func (s *space) short() (short bool, reserve uint64, err error) {
	usage, err := s.files.GetDiskUsage(s.path)
	if errors.Is(err, vfs.ErrUnsupported) {
		return false, math.MaxUint64, nil // nothing is known of the space; the engine will meet the end of it
	}
	if err != nil {
		return false, 0, fmt.Errorf("message log: look at free space: %w", err)
	}
	reserve = uint64(s.reserve)
	if s.reserve == 0 {
		reserve = min(usage.TotalBytes/reserveShare, maxReserve)
	}
	return usage.AvailBytes < reserve, reserve, nil
}

// Full reports whether Append would return store.ErrFull now. It looks at the disk, and any goroutine may call it.
func (l *Log) Full() (bool, error) {
	if l.events.full.Load() || l.space.reserve < 0 {
		return l.events.full.Load(), nil
	}
	short, _, err := l.space.short()
	return short, err
}
