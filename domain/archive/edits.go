package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stream/xmlstream"
)

const (
	// editReach is how many messages after one that is retracted are looked through for its edits, and editStep how
	// many are read at once.
	editReach = 5000
	editStep  = 50
	// editCount and editBytes bound the edits that go with one retraction, since all of it is one transaction.
	editCount = 200
	editBytes = 8 << 20
)

// editsOf returns the edits of a message that is to be retracted, each with what remain makes of it.
func (a *Archive) editsOf(ctx context.Context, target *store.Message,
	remain func(*store.Message) ([]byte, error)) (edited []store.Retraction, err error) {
	original, err := xmlstream.Unmarshal(target.Stanza)
	if err != nil {
		return nil, fmt.Errorf("read a message that is retracted: %w", err)
	}
	seen, said := target.Seq, 0
	for end := target.Seq + editReach; seen < end && len(edited) < editCount && said < editBytes; {
		found, err := a.log.Numbered(ctx, target.Conversation, seen+1, editStep)
		n := len(found)
		var damage *store.DamagedError
		if errors.As(err, &damage) {
			n += len(damage.IDs)
			found, err = salvage(found, err, a.unreadable)
		}
		if err != nil {
			return nil, fmt.Errorf("look for edits: %w", err)
		}
		for i := range found {
			m := &found[i]
			seen = max(seen, m.Seq)
			if !m.Author.Is(target.Author) || !edits(m, original.ID, target.OriginID) {
				continue
			}
			left, err := remain(m)
			if err != nil {
				return nil, err
			}
			edited = append(edited, store.Retraction{ID: m.ID, Remains: left})
			said += len(m.Stanza)
		}
		if n < editStep {
			break
		}
	}
	return edited, nil
}

// edits reports whether a stored message replaces the one of that id or origin-id (XEP-0308 §3).
func edits(m *store.Message, id, originID string) bool {
	if m.Flags&store.Retracted != 0 || !bytes.Contains(m.Stanza, []byte(nsCorrect)) {
		return false
	}
	s, err := xmlstream.Unmarshal(m.Stanza)
	if err != nil {
		return false
	}
	replace := s.Child(nsCorrect, "replace")
	if replace == nil {
		return false
	}
	named := replace.Attr("id")
	return named != "" && (named == id || originKey(named) == originID)
}
