package pebble

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"sync"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/posthouse-im/posthouse/store"
)

// The direct conversations of an account that has few are listed by looking at each. An account that has many is called
// large: whenever a part of the indexes is written, it gets an activity entry for each conversation that it has a
// message of in the part, so that a page of its list is read from the newest entry on. To write them for every account
// would cost a quarter more where most accounts have few conversations.

// fewConversations is how many an account may have that is not large. One has a few more until that is noticed.
const fewConversations = 64

// counts tells for which new conversations those of the parties are counted: for one in sixteen, since counting costs a
// read. Which ones follows no pattern that openings could have.
func counts(id store.ConversationID) bool { return uint64(id)*0x9e3779b97f4a7c15>>60 == 0 }

// large are the accounts that are. Some 20 bytes each.
type large struct {
	// mu guards accounts. It is a leaf.
	mu sync.RWMutex
	// accounts have activity entries written for them from now on. What they have from before is complete when the
	// value is true.
	accounts map[store.AccountID]bool
}

func (l *large) has(account store.AccountID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.accounts[account]
}

// listed reports whether activity entries are written for an account.
func (l *large) listed(account store.AccountID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	_, listed := l.accounts[account]
	return listed
}

// none reports whether no account is large.
func (l *large) none() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.accounts) == 0
}

func (l *large) add(account store.AccountID, complete bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accounts[account] = complete || l.accounts[account]
}

// readLarge reads which accounts are.
func (l *Log) readLarge() error {
	it, err := l.db.NewIter(&engine.IterOptions{LowerBound: []byte{keyLarge}, UpperBound: []byte{keyLarge + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		l.large.add(store.AccountID(firstNumber(it.Key())), true)
	}
	return it.Error()
}

// enlargeIfDue looks now and then whether the parties of a conversation that was opened are large by now. No lock is
// held meanwhile.
func (l *Log) enlargeIfDue(ctx context.Context, known *conversation) error {
	if !counts(known.id) {
		return nil
	}
	done, err := l.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	for _, account := range known.accounts() {
		if account == 0 || l.large.has(account) {
			continue
		}
		many, err := l.many(account)
		if err == nil && many {
			err = l.enlarge(ctx, account)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// many reports whether an account is in as many direct conversations as make it large.
func (l *Log) many(account store.AccountID) (bool, error) {
	it, err := l.db.NewIter(&engine.IterOptions{
		LowerBound: inKey(nil, account, store.Direct, 0), UpperBound: inKey(nil, account, store.Direct+1, 0),
	})
	if err != nil {
		return false, err
	}
	n := 0
	for ok := it.First(); ok && n < fewConversations; ok = it.Next() {
		n++
	}
	return n == fewConversations, it.Close()
}

// enlarge gives an account the entries of the conversations that it has. Those of what is stored meanwhile are written
// with the indexes of that, since the account is among the large ones before it is looked at.
func (l *Log) enlarge(ctx context.Context, account store.AccountID) error {
	l.large.add(account, false)
	in, err := l.memberships(ctx, account, store.Direct)
	if err != nil {
		return err
	}
	b := l.db.NewBatch()
	var key [pairKeySize]byte
	set(b, idKey(key[:0], keyLarge, uint64(account)), nil)
	for i := range in {
		last, err := l.newest(ctx, &in[i], newest)
		if err != nil {
			return err
		}
		if last.id != 0 {
			set(b, activityKey(key[:0], account, last.id), binary.BigEndian.AppendUint64(nil, uint64(in[i].id)))
		}
	}
	if err := l.roomInMemory(ctx); err != nil {
		return err
	}
	if err := l.commitUnflushed(ctx, b); err != nil {
		return err
	}
	l.large.add(account, true)
	return nil
}

func activityKey(dst []byte, account store.AccountID, id store.MessageID) []byte {
	return pairKey(dst, keyActivity, uint64(account), ^uint64(id))
}

// active is a message that was the last of a direct conversation in somebody's archive when a part was written.
type active struct {
	account      store.AccountID
	id           store.MessageID
	conversation store.ConversationID
}

// activity writes the entries of a part. What they replace is left to the readers of lists, who come across it: they
// hand it over to be deleted.
func (w *packer) activity(r *recent) {
	if w.log.large.none() {
		return
	}
	var all []active
	for conversation, at := range r.conversations {
		var seen [2]store.AccountID // a party has one entry
		for i := len(at) - 1; i >= 0 && (seen[0] == 0 || seen[1] == 0); i-- {
			p := &r.positions[at[i]]
			if p.flags&inRoom != 0 {
				break
			}
			for _, account := range [2]store.AccountID{p.seenByAuthor(), p.seenByOther()} {
				switch {
				case account == 0 || account == seen[0] || account == seen[1]:
					continue
				case seen[0] == 0:
					seen[0] = account
				default:
					seen[1] = account
				}
				if w.log.large.listed(account) {
					all = append(all, active{account, p.id, conversation})
				}
			}
		}
	}
	slices.SortFunc(
		all, func(a, b active) int { return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(b.id, a.id)) },
	)
	var key [pairKeySize]byte
	for i := range all {
		a := &all[i]
		w.buf = binary.BigEndian.AppendUint64(w.buf[:0], uint64(a.conversation))
		w.set(activityKey(key[:0], a.account, a.id), w.buf)
	}
	for _, key := range w.log.passed.take() {
		w.delete(key)
	}
}

// byActivity goes through the messages of the owner that are in memory, and then through the activity of earlier parts,
// newest first. The first that is met of a conversation is its newest message, unless that lies beyond the page's
// beginning.
func (p *page) byActivity() error {
	p.last = make(map[store.ConversationID]store.MessageID)
	met := 0
	indexed, err := p.inMemory(func(at *position) error { return p.meet(at.conversation, at.id, &met) }, &met)
	if err != nil || met >= p.limit || indexed == 0 {
		return err
	}
	lower, upper := bounds(keyActivity, uint64(p.owner))
	if p.before <= indexed {
		lower = activityKey(nil, p.owner, p.before-1)
	}
	it, err := p.db.NewIter(&engine.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok && met < p.limit; ok = it.Next() {
		id := store.MessageID(^secondNumber(it.Key()))
		if id > indexed || len(it.Value()) != 8 {
			continue // it is in memory too
		}
		conversation := store.ConversationID(binary.BigEndian.Uint64(it.Value()))
		if err := p.meet(conversation, id, &met); err != nil {
			return err
		}
		if p.last[conversation] > id {
			p.passed.add(it.Key())
		}
	}
	return it.Error()
}

// inMemory visits the owner's messages in memory, newest first, until the page is full, and returns where the indexes
// on disk end.
func (p *page) inMemory(visit func(*position) error, met *int) (indexed store.MessageID, err error) {
	indexed, parts := p.recents.both(p.owner)
	for _, part := range parts {
		var ends [2]int
		for i := range part {
			ends[i] = part[i].after(p.before - 1)
		}
		for passed := 1; ends[0]+ends[1] > 0 && *met < p.limit; passed++ {
			if passed%checkEvery == 0 && p.ctx.Err() != nil {
				return 0, p.ctx.Err()
			}
			next := 0
			if ends[0] == 0 || ends[1] > 0 && part[1].position(ends[1]-1).id > part[0].position(ends[0]-1).id {
				next = 1
			}
			ends[next]--
			if part[next].entry(ends[next]).bits&viewArchive == 0 {
				continue
			}
			if err := visit(part[next].position(ends[next])); err != nil {
				return 0, err
			}
		}
	}
	return indexed, nil
}

// meet takes a direct conversation that has a message at id, the first time.
func (p *page) meet(id store.ConversationID, at store.MessageID, met *int) error {
	if _, known := p.last[id]; known {
		return nil
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	known, err := p.conversation(id)
	if err != nil {
		return err
	}
	m := membership{known, partyMember(p.owner)}
	last, err := p.newest(p.ctx, &m, p.upto)
	if err != nil {
		return err
	}
	p.last[id] = last.id
	if last.id != 0 && last.id < p.before {
		p.found = append(p.found, listed{m, last})
		*met++
	}
	return nil
}

// passed are keys of activity entries that are not those of a newest message any more. Readers find them, and the
// writer of indexes deletes them. What does not fit is found again.
type passed struct {
	// mu guards keys. It is a leaf.
	mu   sync.Mutex
	keys [][]byte
}

// maxPassed bounds them.
const maxPassed = 4096

func (p *passed) add(key []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.keys) < maxPassed {
		p.keys = append(p.keys, slices.Clone(key))
	}
}

func (p *passed) take() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	keys := p.keys
	p.keys = nil
	return keys
}
