package pebble

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/posthouse-im/posthouse/store"
)

// maxDevices is how many devices are remembered for each account in each conversation, see store.ReadMarkers.
const maxDevices = 16

// markers is how far an account has come in a conversation: by all its devices, and by each, the one that said something last first.
// all is not the greatest of devices, since devices are forgotten.
type markers struct {
	all     store.ReadMarkers
	devices []store.ReadMarkers
}

// advance takes what a device has said, and reports whether anything has moved. Of a device that is not remembered, among as
// many as can be, it is assumed that it said before what any has said: else more devices than that would store the same markers for ever.
func (p *markers) advance(said store.ReadMarkers) bool {
	said.Delivered = max(said.Delivered, said.Read)
	at := slices.IndexFunc(p.devices, func(d store.ReadMarkers) bool { return d.Device == said.Device })
	var known store.ReadMarkers
	switch {
	case at >= 0:
		known = p.devices[at]
	case len(p.devices) >= maxDevices:
		known = p.all
	}
	if said.Delivered <= known.Delivered && said.Read <= known.Read {
		return false
	}
	said.Delivered, said.Read = max(said.Delivered, known.Delivered), max(said.Read, known.Read)
	if at < 0 {
		// Copied, since it is a piece of the stanza that brought it.
		said.Device = strings.Clone(said.Device)
		if p.devices = append(p.devices, said); len(p.devices) > maxDevices {
			p.devices = p.devices[:maxDevices]
		}
		at = len(p.devices) - 1
	}
	copy(p.devices[1:at+1], p.devices[:at])
	p.devices[0] = said
	p.all.Delivered, p.all.Read = max(p.all.Delivered, said.Delivered), max(p.all.Read, said.Read)
	return true
}

// The read markers of an account in a conversation:
//
//	version   1 byte, progressVersion
//	delivered uvarint, by any device
//	read      uvarint
//	then for each device, the one that said something last first:
//	  name      length uvarint, text
//	  delivered uvarint
//	  read      uvarint
const markersVersion = 1

func appendMarkers(dst []byte, p *markers) []byte {
	dst = binary.AppendUvarint(append(dst, markersVersion), p.all.Delivered)
	dst = binary.AppendUvarint(dst, p.all.Read)
	for i := range p.devices {
		d := &p.devices[i]
		dst = append(binary.AppendUvarint(dst, uint64(len(d.Device))), d.Device...)
		dst = binary.AppendUvarint(dst, d.Delivered)
		dst = binary.AppendUvarint(dst, d.Read)
	}
	return dst
}

func decodeMarkers(account store.AccountID, b []byte) (*markers, error) {
	if len(b) == 0 {
		return nil, errShort
	}
	if b[0] != markersVersion {
		return nil, fmt.Errorf("read markers have version %d, this program knows %d", b[0], markersVersion)
	}
	r := reader{b: b[1:]}
	p := &markers{all: store.ReadMarkers{Account: account, Delivered: r.uvarint(), Read: r.uvarint()}}
	for len(r.b) > 0 && r.err == nil {
		p.devices = append(p.devices, store.ReadMarkers{
			Account: account, Device: string(r.text()), Delivered: r.uvarint(), Read: r.uvarint(),
		})
	}
	return p, r.err
}

// markersOf names the markers of one account in one conversation.
type markersOf struct {
	conversation store.ConversationID
	account      store.AccountID
}

func (o markersOf) key(dst []byte) []byte {
	return pairKey(dst, keyMarkers, uint64(o.conversation), uint64(o.account))
}

// cachedMarkers is an entry of markersCache.
type cachedMarkers struct {
	markers
	// stored is the value in the engine, nil for none, and fresh that it is not what markers says.
	stored []byte
	fresh  bool
}

// markersCache remembers the markers that were moved lately, so that those of a live conversation cost no read. It holds two
// generations, as tails does, of at most so many bytes each. Owned by Append.
type markersCache struct {
	young, old map[markersOf]*cachedMarkers
	bytes      int
	changed    []markersOf
}

// reachedBytes is about how much one generation may hold.
const markersCacheBytes = 4 << 20

// age begins a batch.
func (r *markersCache) age() {
	r.changed = r.changed[:0]
	if r.bytes >= markersCacheBytes || r.young == nil {
		r.old, r.young, r.bytes = r.young, make(map[markersOf]*cachedMarkers), 0
	}
}

func (r *markersCache) get(o markersOf) *cachedMarkers {
	if m := r.young[o]; m != nil {
		return m
	}
	m := r.old[o]
	if m != nil {
		r.put(o, m)
	}
	return m
}

func (r *markersCache) put(o markersOf, m *cachedMarkers) {
	r.young[o] = m
	// A guess: what the map, the entry and two devices take.
	r.bytes += 300 + 3*len(m.stored)
}

// decodeMarkers decodes a value, nil for none. Damaged markers are as if they had never been set: they will be again.
func (l *Log) decodeMarkers(o markersOf, value []byte) *markers {
	none := &markers{all: store.ReadMarkers{Account: o.account}}
	if value == nil {
		return none
	}
	p, err := decodeMarkers(o.account, value)
	if err != nil {
		l.events.damaged.Inc()
		l.log.Error("stored read markers are damaged", "account", o.account, "conversation", o.conversation, "err", err)
		return none
	}
	return p
}

// stale moves markers forward, or reports that there is nothing to move. t is the end of the conversation, nil when it has not begun.
func (l *Log) stale(said store.ReadMarkers, t *tail) (bool, error) {
	if t == nil {
		return true, nil
	}
	said.Delivered, said.Read = min(said.Delivered, t.last), min(said.Read, t.last)
	o := markersOf{t.conversation, said.Account}
	r := &l.writer.markers
	m := r.get(o)
	if m == nil {
		var key [pairKeySize]byte
		value, err := l.get(o.key(key[:0]))
		if err != nil {
			return false, fmt.Errorf("read the markers of a conversation: %w", err)
		}
		m = &cachedMarkers{markers: *l.decodeMarkers(o, value), stored: value}
		r.put(o, m)
	}
	if !m.advance(said) {
		return true, nil
	}
	if !m.fresh {
		m.fresh = true
		r.changed = append(r.changed, o)
	}
	return false, nil
}
