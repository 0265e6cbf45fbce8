package pebble

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

func wholeMessage() store.Message {
	return store.Message{
		ID: 1 << 60, Conversation: 1 << 59, Seq: 300, Flags: 7, OriginID: "o",
		Sender:    store.Party{JID: jid.MustParse("alice@example.org"), Account: 1},
		Recipient: store.Party{JID: jid.MustParse("romeo@montague.example")},
		Stanza:    []byte("<message/>"),
	}
}

// FuzzRecord: whatever the bytes, decoding ends, and what it accepts encodes to what it was.
func FuzzRecord(f *testing.F) {
	m := wholeMessage()
	b := make([]byte, recordSize(&m))
	putRecord(b, &m)
	f.Add(uint64(m.ID), b)
	f.Add(uint64(m.ID), b[:len(b)-1])
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
	positions := []position{newPosition(&m, true, false), {id: m.ID + 5, conversation: 3, seq: 1, from: 8, to: 9, sent: 1, received: 3}}
	o := &origin{key: originKey(m.Sender, "o"), entry: originEntry{id: m.ID, conversation: 7, seq: 4}}
	f.Add(appendJournal(nil, positions, []*origin{o}))
	f.Add([]byte{journalVersion, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 5 {
			sum := journalSum(b[5:])
			b[1], b[2], b[3], b[4] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		}
		positions, origins, err := decodeJournal(b)
		if err != nil {
			return
		}
		var pointers []*origin
		for i := range origins {
			pointers = append(pointers, &origins[i])
		}
		gotPositions, gotOrigins, err := decodeJournal(appendJournal(nil, positions, pointers))
		require.NoError(t, err)
		require.Equal(t, positions, gotPositions)
		require.Equal(t, origins, gotOrigins)
	})
}

// FuzzValues: the small values.
func FuzzValues(f *testing.F) {
	f.Add(uint64(7), appendBlock(nil, []entry{{id: 5, bits: 1}, {id: 9, bits: 2}, {id: 1 << 60, bits: 3}}))
	f.Add(uint64(0), appendCursor(nil, &store.DeliveryCursor{Through: 6, Missed: []store.MessageID{1, 2}}))
	f.Add(uint64(0), appendOrigin(nil, &originEntry{id: 3, conversation: 2, seq: 300}))
	f.Add(uint64(0), appendMarkers(nil, &markers{
		all: store.ReadMarkers{Account: 1, Delivered: 300, Read: 2}, devices: []store.ReadMarkers{{Account: 1, Device: "phone", Delivered: 300, Read: 2}},
	}))
	f.Add(uint64(0), appendMember(nil, &member{second: true, with: wholeMessage().Recipient}))
	p, _ := pairOf(sideOf(wholeMessage().Sender), sideOf(wholeMessage().Recipient))
	f.Add(uint64(0), partiesKey(nil, p))
	f.Fuzz(func(t *testing.T, first uint64, b []byte) {
		if p, err := decodeMarkers(1, b); err == nil {
			again, err := decodeMarkers(1, appendMarkers(nil, p))
			require.NoError(t, err)
			require.Equal(t, p, again)
		}
		if m, err := decodeMember(store.ConversationID(first), b); err == nil {
			again, err := decodeMember(store.ConversationID(first), appendMember(nil, &m))
			require.NoError(t, err)
			require.Equal(t, m, again)
		}
		if p, err := decodeParties(b); err == nil {
			again, err := decodeParties(partiesKey(nil, p))
			require.NoError(t, err)
			require.Equal(t, p, again)
		}
		if entries, err := decodeBlock(nil, first, b); err == nil {
			again, err := decodeBlock(nil, first, appendBlock(nil, entries))
			require.NoError(t, err)
			require.Equal(t, entries, again)
		}
		if m, err := decodeCursor(1, b); err == nil {
			again, err := decodeCursor(1, appendCursor(nil, &m))
			require.NoError(t, err)
			require.Equal(t, m, again)
		}
		if e, err := decodeOrigin(b); err == nil {
			again, err := decodeOrigin(appendOrigin(nil, &e))
			require.NoError(t, err)
			require.Equal(t, e, again)
		}
	})
}
