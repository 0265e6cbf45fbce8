package archive

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/store"
)

const (
	markShards = 64
	// pendingBound is how many undelivered messages of one account are tracked one by one.
	pendingBound = 256
	// missedBound is how many exceptions a written mark lists. Beyond it the mark stays further behind, and a crash
	// repeats more.
	missedBound = 64
	// markReadTimeout bounds the reads of the log that a report of delivery may need.
	markReadTimeout = 10 * time.Second
)

// marks knows how far each account's messages were delivered to at least one of its devices.
//
// An account has an entry from its first report of delivery or its first replay on; the entry is made from what the log
// says is undelivered. From then on the committer notes what is stored for the account and reports of delivery strike
// it off, and the mark that follows from the rest is written with a later batch. An account without an entry costs
// nothing: what is stored for it comes after its written mark, and so is undelivered.
//
// A written mark never covers a message that was not reported as delivered. Where memory has a bound, what is
// forgotten is that something was delivered, so that it comes again after a crash rather than never.
//
// Bounds: pendingBound identities for each account, twice; the configured number of accounts, beyond which entries
// whose mark is written are forgotten. Entries with an unwritten mark are kept whatever their number, for as long as
// the mark interval.
type marks struct {
	log     store.MessageReader
	metrics *metrics
	logger  *slog.Logger
	bound   int           // accounts in one shard
	wake    chan struct{} // of one: some mark is due

	shards [markShards]markShard

	mu  sync.Mutex // guards due; may be taken while a shard's mu is held, never the other way round
	due []*account
}

type markShard struct {
	mu       sync.Mutex // guards accounts and what is in them
	accounts map[store.AccountID]*account
}

// account is what is known of one account's messages for delivery. Identities in its lists rise.
type account struct {
	id store.AccountID
	// loading is not nil while the log is read for this entry, and closed when that is over. Until then note and
	// delivered only collect what happens.
	loading chan struct{}
	noted   []store.MessageID
	// ahead lists what was reported beyond the horizon, or while loading: at most pendingBound, the newest ones.
	ahead []store.MessageID

	// pending are the undelivered messages up to the horizon.
	pending []store.MessageID
	// horizon is the newest message of which it is known whether it was delivered.
	horizon store.MessageID
	// deep: there are undelivered messages beyond the horizon. Otherwise every new message moves it.
	deep bool

	through store.MessageID // of the mark as it was written or is to be written
	highest store.MessageID // newest message that was delivered, not beyond the horizon
	dirty   bool            // the entry is in due
}

func newMarks(log store.MessageReader, accounts int, m *metrics, logger *slog.Logger) *marks {
	return &marks{log: log, metrics: m, logger: logger, bound: max(1, accounts/markShards), wake: make(chan struct{}, 1)}
}

func (m *marks) shard(id store.AccountID) *markShard { return &m.shards[id%markShards] }

// note is told by the committer of every message for delivery to the account, after it was stored and before it goes on.
func (m *marks) note(owner store.AccountID, id store.MessageID) {
	shard := m.shard(owner)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	switch acc := shard.accounts[owner]; {
	case acc == nil:
	case acc.loading != nil:
		acc.noted = append(acc.noted, id)
	default:
		m.noteLocked(acc, id)
	}
}

// noteLocked is note with the shard's mutex held and the entry loaded.
func (m *marks) noteLocked(acc *account, id store.MessageID) {
	if acc.deep || id <= acc.horizon {
		return // beyond what is tracked, or read from the log before the committer came to tell
	}
	if len(acc.pending) >= pendingBound {
		acc.deep = true
		return
	}
	acc.pending = append(acc.pending, id)
	acc.horizon = id
	if len(acc.ahead) > 0 { // a replay may have read and delivered it before the committer came to tell
		m.settle(acc)
	}
}

// settle strikes off what was delivered ahead and is known by now. The shard's mutex is held.
func (m *marks) settle(acc *account) {
	known, _ := slices.BinarySearch(acc.ahead, acc.horizon+1)
	for _, id := range acc.ahead[:known] {
		m.strike(acc, id)
	}
	if acc.ahead = slices.Delete(acc.ahead, 0, known); len(acc.ahead) == 0 {
		acc.ahead = nil
	}
}

// delivered is told that a message reached a device of the account.
func (m *marks) delivered(owner store.AccountID, id store.MessageID) {
	shard := m.shard(owner)
	shard.mu.Lock()
	acc := shard.accounts[owner]
	if acc == nil {
		acc = m.add(shard, owner)
		acc.ahead = append(acc.ahead, id)
		shard.mu.Unlock()
		_ = m.load(acc, true) // it is logged, and what was delivered comes again at worst
		return
	}
	if acc.loading != nil || id > acc.horizon {
		acc.skip(id)
		shard.mu.Unlock()
		return
	}
	if m.strike(acc, id); acc.deep && len(acc.pending) == 0 {
		acc.loading = make(chan struct{})
		shard.mu.Unlock()
		_ = m.load(acc, false) // as above
		return
	}
	shard.mu.Unlock()
}

// skip remembers a delivery beyond what is known. What is forgotten here is delivered once more.
func (acc *account) skip(id store.MessageID) {
	if len(acc.ahead) >= pendingBound {
		acc.ahead = slices.Delete(acc.ahead, 0, 1)
	}
	if at, found := slices.BinarySearch(acc.ahead, id); !found {
		acc.ahead = slices.Insert(acc.ahead, at, id)
	}
}

// strike takes a message off the list of the undelivered. The shard's mutex is held.
func (m *marks) strike(acc *account, id store.MessageID) {
	at, found := slices.BinarySearch(acc.pending, id)
	if !found {
		return // delivered before, or no message for delivery to this account
	}
	acc.pending = slices.Delete(acc.pending, at, at+1)
	acc.highest = max(acc.highest, id)
	if acc.dirty {
		return
	}
	acc.dirty = true
	m.mu.Lock()
	m.due = append(m.due, acc)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default: // somebody else woke the committer
	}
}

// add makes an entry that is being loaded. The shard's mutex is held.
func (m *marks) add(shard *markShard, owner store.AccountID) *account {
	if shard.accounts == nil {
		shard.accounts = make(map[store.AccountID]*account)
	}
	if len(shard.accounts) >= m.bound {
		tries := 16
		for id, old := range shard.accounts {
			if !old.dirty && old.loading == nil {
				delete(shard.accounts, id)
				break
			}
			if tries--; tries == 0 {
				break
			}
		}
	}
	acc := &account{id: owner, loading: make(chan struct{})}
	shard.accounts[owner] = acc
	return acc
}

// load reads what is undelivered into an entry whose loading was set by the caller. first says that nothing is known yet.
// An entry that cannot be read is forgotten.
func (m *marks) load(acc *account, first bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), markReadTimeout)
	defer cancel()
	for {
		found, mark, err := m.read(ctx, acc, first)
		shard := m.shard(acc.id)
		shard.mu.Lock()
		if err != nil {
			delete(shard.accounts, acc.id)
			acc.loaded()
			shard.mu.Unlock()
			m.logger.Error("the mark of an account could not be read; what was delivered may be delivered again", "account", uint64(acc.id), "error", err)
			return err
		}
		if first {
			acc.through, acc.horizon = mark.Through, mark.Through
		}
		m.known(acc, found)
		if acc.deep && len(acc.pending) == 0 { // all that was read had been delivered ahead
			shard.mu.Unlock()
			first = false
			continue
		}
		acc.loaded()
		shard.mu.Unlock()
		return nil
	}
}

func (m *marks) read(ctx context.Context, acc *account, first bool) (found []store.Message, mark store.Mark, err error) {
	after := acc.horizon // not changed by anyone else while loading
	if first {
		after = 0
		if mark, err = m.log.Mark(ctx, acc.id); err != nil {
			return nil, mark, err
		}
	}
	found, err = m.log.Undelivered(ctx, acc.id, after, pendingBound)
	found, err = salvage(found, err, func(*store.Message, error) {}) // told by the replay
	return found, mark, err
}

// known makes what was read, and what happened meanwhile, the state of the entry. The shard's mutex is held.
func (m *marks) known(acc *account, found []store.Message) {
	acc.deep = len(found) == pendingBound
	for i := range found {
		if found[i].Stanza != nil { // a damaged one can never be delivered, and holds nothing up
			acc.pending = append(acc.pending, found[i].ID)
		}
		acc.horizon = max(acc.horizon, found[i].ID)
	}
	for _, id := range acc.noted {
		m.noteLocked(acc, id)
	}
	acc.noted = nil
	m.settle(acc)
}

// loaded ends loading. The shard's mutex is held.
func (acc *account) loaded() {
	close(acc.loading)
	acc.loading = nil
}

// collect returns the marks that are due, and counts them as written.
func (m *marks) collect() []store.Mark {
	m.mu.Lock()
	due := m.due
	m.due = nil
	m.mu.Unlock()
	if len(due) == 0 {
		return nil
	}
	out := make([]store.Mark, 0, len(due))
	for _, acc := range due {
		shard := m.shard(acc.id)
		shard.mu.Lock()
		out = append(out, acc.mark())
		acc.dirty = false
		shard.mu.Unlock()
	}
	return out
}

// mark is the furthest mark that covers nothing undelivered but the messages it lists. The shard's mutex is held.
func (acc *account) mark() store.Mark {
	switch {
	case len(acc.pending) == 0:
		acc.through = max(acc.through, acc.horizon)
		return store.Mark{Account: acc.id, Through: acc.through}
	case acc.pending[0] > acc.through:
		acc.through = acc.pending[0] - 1
	}
	reach := max(acc.through, acc.highest)
	missed, _ := slices.BinarySearch(acc.pending, reach+1) // how many of the pending are within reach
	if missed > missedBound {
		// Never back behind what was written: the exceptions of that have only become fewer.
		reach = max(acc.through, acc.pending[missedBound]-1)
		missed, _ = slices.BinarySearch(acc.pending, reach+1)
	}
	acc.through = reach
	return store.Mark{Account: acc.id, Through: reach, Missed: slices.Clone(acc.pending[:missed])}
}

// restore makes marks due again that could not be written.
func (m *marks) restore(marks []store.Mark) {
	for i := range marks {
		shard := m.shard(marks[i].Account)
		shard.mu.Lock()
		if acc := shard.accounts[marks[i].Account]; acc != nil && !acc.dirty {
			acc.dirty = true
			m.mu.Lock()
			m.due = append(m.due, acc)
			m.mu.Unlock()
		}
		shard.mu.Unlock()
	}
}

// snapshot is which messages of an account are known to be delivered.
type snapshot struct {
	horizon        store.MessageID
	deep           bool
	pending, ahead []store.MessageID
}

// nothing reports that no message waits, so that the log need not be asked. One that was committed and not noted yet is
// still on its way to the sessions that are there.
func (s *snapshot) nothing() bool { return !s.deep && len(s.pending) == 0 }

func (s *snapshot) delivered(id store.MessageID) bool {
	if id > s.horizon {
		_, found := slices.BinarySearch(s.ahead, id)
		return found
	}
	_, found := slices.BinarySearch(s.pending, id)
	return !found
}

// snapshot returns what is known of the account now, after reading it from the log when it has no entry.
func (m *marks) snapshot(ctx context.Context, owner store.AccountID) (snapshot, error) {
	shard := m.shard(owner)
	for {
		shard.mu.Lock()
		acc := shard.accounts[owner]
		if acc == nil {
			acc = m.add(shard, owner)
			shard.mu.Unlock()
			if err := m.load(acc, true); err != nil {
				return snapshot{}, err
			}
			continue
		}
		if loading := acc.loading; loading != nil {
			shard.mu.Unlock()
			select {
			case <-loading:
			case <-ctx.Done():
				return snapshot{}, ctx.Err()
			}
			continue
		}
		s := snapshot{acc.horizon, acc.deep, slices.Clone(acc.pending), slices.Clone(acc.ahead)}
		shard.mu.Unlock()
		return s, nil
	}
}
