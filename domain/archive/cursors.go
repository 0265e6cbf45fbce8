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
	cursorShards = 64
	// pendingBound is how many undelivered messages of one account are tracked one by one.
	pendingBound = 256
	// missedBound is how many exceptions a written cursor lists. Beyond it the cursor stays further behind, and a crash
	// repeats more.
	missedBound = 64
	// cursorReadTimeout bounds the reads of the log that a report of delivery may need.
	cursorReadTimeout = 10 * time.Second
)

// cursors knows how far each account's messages were delivered to at least one of its devices.
//
// An account has an entry from its first report of delivery or its first replay on; the entry is made from what the log
// says is undelivered. From then on the committer notes what is stored for the account and reports of delivery remove
// it, and the cursor that follows from the rest is written with a later batch. An account without an entry costs
// nothing: what is stored for it comes after its written cursor, and so is undelivered.
//
// A written cursor never covers a message that was not reported as delivered. Where memory has a bound, what is
// forgotten is that something was delivered, so that it comes again after a crash rather than never.
//
// Bounds: pendingBound identities for each account, twice; the configured number of accounts, beyond which entries
// whose cursor is written are forgotten. Entries with an unwritten cursor are kept whatever their number, for as long as
// the cursor interval.
type cursors struct {
	log     store.MessageReader
	metrics *metrics
	logger  *slog.Logger
	bound   int           // accounts in one shard
	wake    chan struct{} // of one: some cursor is due

	shards [cursorShards]cursorShard

	mu  sync.Mutex // guards due; may be taken while a shard's mu is held, never the other way round
	due []*account
}

type cursorShard struct {
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
	// deliveredBeyond lists what was reported beyond known, or while loading: at most pendingBound, the newest ones.
	deliveredBeyond []store.MessageID

	// pending are the undelivered messages up to known.
	pending []store.MessageID
	// known is the newest message of which it is known whether it was delivered.
	known store.MessageID
	// truncated: there are undelivered messages beyond known that are not in pending. Otherwise every new message moves known.
	truncated bool

	through store.MessageID // of the cursor as it was written or is to be written
	highest store.MessageID // newest message that was delivered, not beyond known
	dirty   bool            // the entry is in due
}

func newCursors(log store.MessageReader, accounts int, m *metrics, logger *slog.Logger) *cursors {
	return &cursors{log: log, metrics: m, logger: logger, bound: max(1, accounts/cursorShards), wake: make(chan struct{}, 1)}
}

func (c *cursors) shard(id store.AccountID) *cursorShard { return &c.shards[id%cursorShards] }

// note is told by the committer of every message for delivery to the account, after it was stored and before it goes on.
func (c *cursors) note(owner store.AccountID, id store.MessageID) {
	shard := c.shard(owner)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	switch acc := shard.accounts[owner]; {
	case acc == nil:
	case acc.loading != nil:
		acc.noted = append(acc.noted, id)
	default:
		c.noteLocked(acc, id)
	}
}

// noteLocked is note with the shard's mutex held and the entry loaded.
func (c *cursors) noteLocked(acc *account, id store.MessageID) {
	if acc.truncated || id <= acc.known {
		return // beyond what is tracked, or read from the log before the committer came to tell
	}
	if len(acc.pending) >= pendingBound {
		acc.truncated = true
		return
	}
	acc.pending = append(acc.pending, id)
	acc.known = id
	if len(acc.deliveredBeyond) > 0 { // a replay may have read and delivered it before the committer came to tell
		c.applyBeyond(acc)
	}
}

// applyBeyond removes from pending what was delivered beyond known and is known by now. The shard's mutex is held.
func (c *cursors) applyBeyond(acc *account) {
	known, _ := slices.BinarySearch(acc.deliveredBeyond, acc.known+1)
	for _, id := range acc.deliveredBeyond[:known] {
		c.removePending(acc, id)
	}
	if acc.deliveredBeyond = slices.Delete(acc.deliveredBeyond, 0, known); len(acc.deliveredBeyond) == 0 {
		acc.deliveredBeyond = nil
	}
}

// delivered is told that a message reached a device of the account.
func (c *cursors) delivered(owner store.AccountID, id store.MessageID) {
	shard := c.shard(owner)
	shard.mu.Lock()
	acc := shard.accounts[owner]
	if acc == nil {
		acc = c.add(shard, owner)
		acc.deliveredBeyond = append(acc.deliveredBeyond, id)
		shard.mu.Unlock()
		_ = c.load(acc, true) // it is logged, and what was delivered comes again at worst
		return
	}
	if acc.loading != nil || id > acc.known {
		acc.noteBeyond(id)
		shard.mu.Unlock()
		return
	}
	if c.removePending(acc, id); acc.truncated && len(acc.pending) == 0 {
		acc.loading = make(chan struct{})
		shard.mu.Unlock()
		_ = c.load(acc, false) // as above
		return
	}
	shard.mu.Unlock()
}

// noteBeyond remembers a delivery beyond what is known. What is forgotten here is delivered once more.
func (acc *account) noteBeyond(id store.MessageID) {
	if len(acc.deliveredBeyond) >= pendingBound {
		acc.deliveredBeyond = slices.Delete(acc.deliveredBeyond, 0, 1)
	}
	if at, found := slices.BinarySearch(acc.deliveredBeyond, id); !found {
		acc.deliveredBeyond = slices.Insert(acc.deliveredBeyond, at, id)
	}
}

// removePending takes a message off the list of the undelivered. The shard's mutex is held.
func (c *cursors) removePending(acc *account, id store.MessageID) {
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
	c.mu.Lock()
	c.due = append(c.due, acc)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default: // somebody else woke the committer
	}
}

// add makes an entry that is being loaded. The shard's mutex is held.
func (c *cursors) add(shard *cursorShard, owner store.AccountID) *account {
	if shard.accounts == nil {
		shard.accounts = make(map[store.AccountID]*account)
	}
	if len(shard.accounts) >= c.bound {
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
func (c *cursors) load(acc *account, first bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), cursorReadTimeout)
	defer cancel()
	for {
		found, cursor, err := c.read(ctx, acc, first)
		shard := c.shard(acc.id)
		shard.mu.Lock()
		if err != nil {
			delete(shard.accounts, acc.id)
			acc.loaded()
			shard.mu.Unlock()
			c.logger.Error("the cursor of an account could not be read; what was delivered may be delivered again", "account", uint64(acc.id), "error", err)
			return err
		}
		if first {
			acc.through, acc.known = cursor.Through, cursor.Through
		}
		c.merge(acc, found)
		if acc.truncated && len(acc.pending) == 0 { // all that was read had been delivered already
			shard.mu.Unlock()
			first = false
			continue
		}
		acc.loaded()
		shard.mu.Unlock()
		return nil
	}
}

func (c *cursors) read(ctx context.Context, acc *account, first bool) (found []store.Message, cursor store.DeliveryCursor, err error) {
	after := acc.known // not changed by anyone else while loading
	if first {
		after = 0
		if cursor, err = c.log.DeliveryCursor(ctx, acc.id); err != nil {
			return nil, cursor, err
		}
	}
	found, err = c.log.Undelivered(ctx, acc.id, after, pendingBound)
	found, err = salvage(found, err, func(*store.Message, error) {}) // told by the replay
	return found, cursor, err
}

// merge makes what was read, and what happened meanwhile, the state of the entry. The shard's mutex is held.
func (c *cursors) merge(acc *account, found []store.Message) {
	acc.truncated = len(found) == pendingBound
	for i := range found {
		if found[i].Stanza != nil { // a damaged one can never be delivered, and holds nothing up
			acc.pending = append(acc.pending, found[i].ID)
		}
		acc.known = max(acc.known, found[i].ID)
	}
	for _, id := range acc.noted {
		c.noteLocked(acc, id)
	}
	acc.noted = nil
	c.applyBeyond(acc)
}

// loaded ends loading. The shard's mutex is held.
func (acc *account) loaded() {
	close(acc.loading)
	acc.loading = nil
}

// collect returns the cursors that are due, and counts them as written.
func (c *cursors) collect() []store.DeliveryCursor {
	c.mu.Lock()
	due := c.due
	c.due = nil
	c.mu.Unlock()
	if len(due) == 0 {
		return nil
	}
	out := make([]store.DeliveryCursor, 0, len(due))
	for _, acc := range due {
		shard := c.shard(acc.id)
		shard.mu.Lock()
		out = append(out, acc.cursor())
		acc.dirty = false
		shard.mu.Unlock()
	}
	return out
}

// cursor is the furthest cursor that covers nothing undelivered but the messages it lists. The shard's mutex is held.
func (acc *account) cursor() store.DeliveryCursor {
	switch {
	case len(acc.pending) == 0:
		acc.through = max(acc.through, acc.known)
		return store.DeliveryCursor{Account: acc.id, Through: acc.through}
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
	return store.DeliveryCursor{Account: acc.id, Through: reach, Missed: slices.Clone(acc.pending[:missed])}
}

// restore makes cursors due again that could not be written.
func (c *cursors) restore(cursors []store.DeliveryCursor) {
	for i := range cursors {
		shard := c.shard(cursors[i].Account)
		shard.mu.Lock()
		if acc := shard.accounts[cursors[i].Account]; acc != nil && !acc.dirty {
			acc.dirty = true
			c.mu.Lock()
			c.due = append(c.due, acc)
			c.mu.Unlock()
		}
		shard.mu.Unlock()
	}
}

// snapshot is which messages of an account are known to be delivered.
type snapshot struct {
	known                    store.MessageID
	truncated                bool
	pending, deliveredBeyond []store.MessageID
}

// nothing reports that no message waits, so that the log need not be asked. One that was committed and not noted yet is
// still on its way to the sessions that are there.
func (s *snapshot) nothing() bool { return !s.truncated && len(s.pending) == 0 }

func (s *snapshot) delivered(id store.MessageID) bool {
	if id > s.known {
		_, found := slices.BinarySearch(s.deliveredBeyond, id)
		return found
	}
	_, found := slices.BinarySearch(s.pending, id)
	return !found
}

// snapshot returns what is known of the account now, after reading it from the log when it has no entry.
func (c *cursors) snapshot(ctx context.Context, owner store.AccountID) (snapshot, error) {
	shard := c.shard(owner)
	for {
		shard.mu.Lock()
		acc := shard.accounts[owner]
		if acc == nil {
			acc = c.add(shard, owner)
			shard.mu.Unlock()
			if err := c.load(acc, true); err != nil {
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
		s := snapshot{acc.known, acc.truncated, slices.Clone(acc.pending), slices.Clone(acc.deliveredBeyond)}
		shard.mu.Unlock()
		return s, nil
	}
}
