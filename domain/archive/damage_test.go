package archive

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

func TestDamagedMessagesKeepTheirPlace(t *testing.T) {
	h := newHouse(t, memory())
	m := fill(t, h.log, noon, 6, withEverybody)
	h.Archive.log = &damagedLog{h.Archive.log, map[store.MessageID]bool{m[2].ID: true, m[4].ID: true}}
	got := h.query(t, form(""))
	require.Equal(t, []string{"message 0", "message 1", "(damaged)", "message 3", "(damaged)", "message 5"}, got.bodies)
	got = h.query(t, form("<max>2</max><after>"+h.StanzaID(uint64(m[1].ID))+"</after>"))
	require.Equal(t, []string{"(damaged)", "message 3"}, got.bodies)
	require.Equal(t, []string{"(damaged)"}, h.query(t, form("", "ids", h.StanzaID(uint64(m[4].ID)))).bodies)
}

// damagedLog answers as a log in which some messages do not match their checksums.
type damagedLog struct {
	store.MessageLog
	damaged map[store.MessageID]bool
}

func (d *damagedLog) without(found []store.Message, err error) ([]store.Message, error) {
	if err != nil {
		return nil, err
	}
	var out []store.Message
	e := &store.DamagedError{Cause: store.ErrDamaged}
	for _, m := range found {
		if d.damaged[m.ID] {
			e.IDs = append(e.IDs, m.ID)
		} else {
			out = append(out, m)
		}
	}
	if len(e.IDs) > 0 {
		return out, e
	}
	return out, nil
}

func (d *damagedLog) History(ctx context.Context, q store.HistoryQuery) ([]store.Message, bool, error) {
	found, more, err := d.MessageLog.History(ctx, q)
	found, err = d.without(found, err)
	return found, more, err
}

func (d *damagedLog) Undelivered(ctx context.Context, owner store.AccountID, after store.MessageID,
	limit int) ([]store.Message, error) {
	return d.without(d.MessageLog.Undelivered(ctx, owner, after, limit))
}

func (d *damagedLog) Message(ctx context.Context, id store.MessageID) (store.Message, error) {
	if d.damaged[id] {
		return store.Message{}, &store.DamagedError{IDs: []store.MessageID{id}, Cause: store.ErrDamaged}
	}
	return d.MessageLog.Message(ctx, id)
}

func TestArchiveThatCannotBeRead(t *testing.T) {
	h := newHouse(t, memory())
	h.Archive.log = &deadLog{MessageLog: h.Archive.log}
	for _, q := range []string{form(""), form("", "ids", h.StanzaID(1)),
		`<iq xmlns='jabber:client' type='get' id='m'><metadata xmlns='urn:xmpp:mam:2'/></iq>`} {
		_, refusal := h.own(t, q)
		require.NotNil(t, refusal)
		require.Equal(t, stanza.InternalServerError, refusal.Condition)
	}
}

// deadLog fails every read.
type deadLog struct{ store.MessageLog }

func (deadLog) History(context.Context, store.HistoryQuery) ([]store.Message, bool, error) {
	return nil, false, errDisk
}
func (deadLog) InHistory(context.Context, store.AccountID, store.MessageID) (bool, error) {
	return false, errDisk
}
func (deadLog) Bounds(context.Context, store.AccountID) (first, last store.MessageID, err error) {
	return 0, 0, errDisk
}
