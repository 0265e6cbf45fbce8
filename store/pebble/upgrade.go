package pebble

import (
	"encoding/binary"
	"time"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// upgrade makes a log of schema 1 one of schema 2: it lists the conversations of each account, from the pairs of parties and the message that
// each conversation began with. It reads one message for each conversation. When it is interrupted it is begun anew.
func (l *Log) upgrade() error {
	begun := time.Now()
	it, err := l.db.NewIter(&engine.IterOptions{LowerBound: []byte{keyParties}, UpperBound: []byte{keyParties + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	b := l.db.NewBatch()
	conversations := 0
	for ok := it.First(); ok; ok = it.Next() {
		p, err := decodeParties(it.Key())
		if err != nil {
			return err
		}
		conversation := store.ConversationID(firstID(it.Value()))
		sender, recipient, found, err := l.begun(conversation)
		if err != nil {
			return err
		}
		if !found { // all its messages are damaged
			sender, recipient = partyOf(p.first), partyOf(p.second)
		}
		membersOf(p, conversation, sender, recipient, func(account store.AccountID, m *member) {
			set(b, pairKey(nil, keyMember, uint64(account), uint64(conversation)), appendMember(nil, m))
		})
		conversations++
		if b.Len() >= packBatchBytes {
			if err := l.db.Apply(b, engine.NoSync); err != nil {
				return err
			}
			b = l.db.NewBatch()
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	set(b, []byte{keyVersion}, binary.AppendUvarint(nil, schemaVersion))
	if err := l.db.Apply(b, engine.Sync); err != nil {
		return err
	}
	l.log.Info("upgraded the message log", "conversations", conversations, "duration", time.Since(begun))
	return l.Err()
}

// partyOf is what can be told of a party without a message.
func partyOf(s side) store.Party {
	p := store.Party{Account: s.account}
	if s.address != "" {
		p.JID, _ = jid.Parse(s.address)
	}
	return p
}

// decodeParties is the reverse of partiesKey.
func decodeParties(key []byte) (p pair, err error) {
	if len(key) == 0 {
		return p, errShort
	}
	r := reader{b: key[1:]}
	for _, s := range [2]*side{&p.first, &p.second} {
		s.account = store.AccountID(r.number())
		if n := r.bytes(2); n != nil {
			s.address = string(r.bytes(int(binary.BigEndian.Uint16(n))))
		}
	}
	return p, r.err
}
