package pebble

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

func wholeMessage() store.Message {
	return store.Message{
		ID: 1 << 60, Conversation: 1 << 59, Seq: 300, Flags: 7, OriginID: "o", StanzaID: "s", Author: alice(),
		Stanza: []byte("<message/>"),
	}
}

// FuzzRecord: whatever the bytes, decoding ends, and what it accepts encodes to what it was.
func FuzzRecord(f *testing.F) {
	m := wholeMessage()
	b := make([]byte, recordSize(&m))
	putRecord(b, &m)
	f.Add(uint64(m.ID), b)
	f.Add(uint64(m.ID), b[:len(b)-1])
	m.StanzaID = m.OriginID
	b = make([]byte, recordSize(&m))
	putRecord(b, &m)
	f.Add(uint64(m.ID), b)
	f.Add(uint64(0), []byte{recordVersion, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, id uint64, b []byte) {
		// Get past the checksum, which no fuzzer does by itself.
		if len(b) >= recordHeader {
			sum := checksum(store.MessageID(id), b[5:])
			b[1], b[2], b[3], b[4] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		}
		m, err := new(decoder).decode(store.MessageID(id), b)
		if err != nil {
			return
		}
		again := make([]byte, recordSize(&m))
		putRecord(again, &m)
		got, err := new(decoder).decode(store.MessageID(id), again)
		require.NoError(t, err)
		require.Equal(t, m, got)
	})
}

// TestEachBitOfARecordCounts: no single change of a bit is accepted.
func TestEachBitOfARecordCounts(t *testing.T) {
	m := wholeMessage()
	b := make([]byte, recordSize(&m))
	putRecord(b, &m)
	got, err := new(decoder).decode(m.ID, b)
	require.NoError(t, err)
	require.Equal(t, m, got)
	_, err = new(decoder).decode(m.ID+1, b)
	require.ErrorIs(t, err, errChecksum, "a record under another key is not that key's")
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		_, err := new(decoder).decode(m.ID, b)
		require.Error(t, err, "bit %d", bit)
		b[bit/8] ^= 1 << (bit % 8)
	}
}

// FuzzJournal: whatever the bytes, decoding ends, and what it accepts encodes to what it was.
func FuzzJournal(f *testing.F) {
	m := wholeMessage()
	romeo := store.Party{JID: jid.MustParse("romeo@montague.example")}
	key, room := store.DirectKey(m.Author, romeo), store.RoomKey(romeo.JID, 7)
	j := &journal{number: 300, positions: []position{
		newPosition(
			&m, &key,
		),
		newPosition(&m, &room),
		{id: m.ID + 5, conversation: 3, seq: 1, from: 8, to: 9, views: viewSent | viewArchive},
	}}
	j.origins = []*origin{{key: originKey(m.Author, "o"), entry: originEntry{id: m.ID, conversation: 7, seq: 4}}}
	for _, k := range []*store.ConversationKey{&key, &room} {
		c := newChange(marker{m.Conversation, 1, store.MarkRead}, k)
		c.id, c.through = m.ID+store.MessageID(len(j.changes)), 12
		j.changes = append(j.changes, c)
	}
	f.Add(appendJournal(nil, j))
	f.Add([]byte{journalVersion, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 5 {
			sum := journalSum(b[5:])
			b[1], b[2], b[3], b[4] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		}
		j, err := decodeJournal(b)
		if err != nil {
			return
		}
		got, err := decodeJournal(appendJournal(nil, &j))
		require.NoError(t, err)
		require.Equal(t, j, got)
	})
}

// FuzzValues: the small values.
func FuzzValues(f *testing.F) {
	romeo := store.Party{JID: jid.MustParse("romeo@montague.example")}
	key, room := store.DirectKey(alice(), romeo), store.RoomKey(romeo.JID, 300)
	c := newChange(marker{5, 1, store.MarkReadPrivate}, &key)
	c.id, c.through = 1<<60, 300
	f.Add(uint64(7), appendBlock(nil, []entry{{id: 5, bits: 1}, {id: 9, bits: 2}, {id: 1 << 60, bits: 3}}))
	f.Add(
		uint64(7),
		appendBlock(nil, []entry{{id: 5, bits: inRoom, author: 300}, {id: 9, bits: inRoom}, {id: 10, bits: 1}}),
	)
	f.Add(uint64(0), appendCursor(nil, &store.DeliveryCursor{Through: 6, Missed: []store.MessageID{1, 2}}))
	f.Add(uint64(0), appendOrigin(nil, &originEntry{id: 3, conversation: 2, seq: 300}))
	f.Add(uint64(7), appendNamed(appendNamed(nil, 7, 300), 9, 301))
	f.Add(uint64(0), appendMarker(nil, &c))
	f.Add(uint64(0), appendChange(nil, &c))
	f.Add(uint64(0), appendIndexed(nil, &indexedEnd{1 << 60, 1 << 59, 7}))
	f.Add(
		uint64(0),
		appendMember(
			nil, &store.Member{Role: store.RoleOwner, Access: []store.Interval{{From: 1, Through: 300}, {From: 500}}},
		),
	)
	f.Add(uint64(0), appendOpened(nil, &key))
	f.Add(uint64(0), appendOpened(nil, &room))
	f.Fuzz(func(t *testing.T, first uint64, b []byte) {
		if entries, err := decodeBlock(nil, first, b); err == nil {
			again, err := decodeBlock(nil, first, appendBlock(nil, entries))
			require.NoError(t, err)
			require.Equal(t, entries, again)
		}
		if c, err := decodeCursor(1, b); err == nil {
			again, err := decodeCursor(1, appendCursor(nil, &c))
			require.NoError(t, err)
			require.Equal(t, c, again)
		}
		if e, err := decodeOrigin(b); err == nil {
			again, err := decodeOrigin(appendOrigin(nil, &e))
			require.NoError(t, err)
			require.Equal(t, e, again)
		}
		if seq, err := findNamed(b, name(first)); err == nil && seq != 0 {
			again, err := findNamed(appendNamed(nil, name(first), seq), name(first))
			require.NoError(t, err)
			require.Equal(t, seq, again)
		}
		if id, through, err := decodeMarker(b); err == nil {
			c := change{id: id, through: through}
			againID, againThrough, err := decodeMarker(appendMarker(nil, &c))
			require.NoError(t, err)
			require.Equal(t, c, change{id: againID, through: againThrough})
		}
		r := reader{b: b}
		if c := r.change(); r.end() == nil {
			r = reader{b: appendChange(nil, &c)}
			require.Equal(t, c, r.change())
			require.NoError(t, r.end())
		}
		if e, err := decodeIndexed(b); err == nil {
			again, err := decodeIndexed(appendIndexed(nil, &e))
			require.NoError(t, err)
			require.Equal(t, e, again)
		}
		if m, err := decodeMember(1, b); err == nil {
			again, err := decodeMember(1, appendMember(nil, &m))
			require.NoError(t, err)
			require.Equal(t, m, again)
		}
		if k, err := decodeOpened(b); err == nil {
			again, err := decodeOpened(appendOpened(nil, &k))
			require.NoError(t, err)
			require.Equal(t, k, again)
		}
	})
}
