// Package archive stores messages and numbers them. It is the stage of the acceptance chain after which an
// acknowledgement means durable. It also serves stored messages as history (XEP-0313), and replays them to accounts
// that were away (XEP-0160).
//
// What it owns: the committer's queue, the reports of delivery that wait to be written, the key and text form of
// stanza-ids (XEP-0359), archive preferences (XEP-0441) and the rate limit of history queries.
//
// Goroutines: two, which run as long as Run. The committer is the caller of Run: it stores messages and markers, and
// reads nothing. The reporter writes reports of delivery. Everything else runs on the caller's goroutine: the stage on
// a connection's reader, IQ handlers on the requester's, Delivered on a connection's writer, and Replay on that of a
// session that became available.
//
// What it never does: acknowledge, deliver or refuse anything after the log has failed once; deliver a message before
// it is durable; append to the log from any goroutine but the committer's; change a stanza that was passed on.
package archive

import (
	"context"
	"crypto/cipher"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/posthouse-im/posthouse/cache"
	"github.com/posthouse-im/posthouse/defaults"
	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Directory knows the accounts of this domain. It is asked once for every message, so it answers from memory
// where it can.
type Directory interface {
	// Lookup returns the identity of the account with that prepared localpart, ok false when there is none.
	Lookup(ctx context.Context, name string) (account store.AccountID, ok bool, err error)
}

// Contacts knows rosters, for accounts that keep only the messages of their contacts.
type Contacts interface {
	// Contact reports whether the bare address is in the account's roster.
	Contact(ctx context.Context, account store.AccountID, contact jid.JID) (bool, error)
}

// Router is what becomes of an envelope, and how results and replies are sent: *router.Router.
type Router interface {
	Resolve(ctx context.Context, e *router.Envelope) (router.Verdict, *stanza.Error)
	Reserve(ctx context.Context, e *router.Envelope, size int) bool
	Release(e *router.Envelope)
	Resume(ctx context.Context, e *router.Envelope)
	Refuse(ctx context.Context, e *router.Envelope, refusal *stanza.Error)
	Finish(e *router.Envelope)
}

// Config is what an archive is made of. Log, Preferences, Directory, Reply, Domain and Key are required; the rest may
// be zero, which means the defaults named. The fields with a yaml name are the operator's.
type Config struct {
	Log         store.MessageLog         `yaml:"-"`
	Preferences store.ArchivePreferences `yaml:"-"`
	Directory   Directory                `yaml:"-"`
	// Reply gives a packet to the resource of an account that has asked, and reports whether it is still there.
	Reply func(account uint64, to jid.JID, p *stream.Packet) bool `yaml:"-"`
	// Contacts is asked for accounts whose preference is "roster"; nil counts nobody as a contact.
	Contacts Contacts `yaml:"-"`
	// Domain is the domain of this node's accounts.
	Domain jid.JID `yaml:"-"`
	// Key is the store's secret for stanza-ids: 16 or 32 bytes that never change while the archive lives.
	Key []byte `yaml:"-"`
	// Now is the clock; nil means time.Now.
	Now func() time.Time `yaml:"-" default:"now"`
	// Metrics receives the package's metrics; nil leaves them unregistered.
	Metrics prometheus.Registerer `yaml:"-"`
	// Logger receives what an operator can act on; nil discards it.
	Logger *slog.Logger `yaml:"-" default:"discard"`

	// QueueMessages bounds the messages that wait for the disk. A full queue makes those who send wait:
	// nothing is dropped, and the wait reaches the sender as back pressure on its connection.
	QueueMessages int `yaml:"queue_messages" default:"16384" min:"1"`
	// QueueBytes bounds the same in bytes of stored text.
	QueueBytes int `yaml:"queue_bytes" default:"67108864" min:"1"`
	// BatchMessages bounds one transaction.
	BatchMessages int `yaml:"batch_messages" default:"2048" min:"1"`
	// BatchBytes bounds the same in bytes of stored text. One message always fits.
	BatchBytes int `yaml:"batch_bytes" default:"4194304" min:"1"`
	// BatchDelay is how long the committer waits for more messages when they come by the thousand and the disk is
	// quick, so that several share a transaction; twice as long below 5,000 a second; negative: it does not. It never
	// waits when little is going on.
	BatchDelay time.Duration `yaml:"batch_delay" default:"500us"`
	// CommitTimeout is how long one transaction may take before the log counts as failed.
	CommitTimeout time.Duration `yaml:"commit_timeout" default:"60s" min:"1ms"`
	// CursorInterval is how long a report of delivery may stay unwritten, and so how much a crash may repeat.
	CursorInterval time.Duration `yaml:"cursor_interval" default:"200ms" min:"1ms"`
	// EditWindow is how long a message may be edited (XEP-0308) after it was sent; 0: for ever. Beyond it:
	// <policy-violation/>.
	EditWindow time.Duration `yaml:"edit_window" default:"0s"`
	// RetractWindow is how long a message may be retracted (XEP-0424) after it was sent; negative: for ever. Beyond it:
	// <policy-violation/>. Administrators may retract at any time.
	RetractWindow time.Duration `yaml:"retract_window" default:"2m"`
	// QueryRate and QueryBurst are each account's budget for history queries: tokens a second, and the most that is
	// saved up. A query costs one token and one more for every 100 messages read.
	QueryRate  float64 `yaml:"query_rate" default:"10" min:"0"`
	QueryBurst float64 `yaml:"query_burst" default:"100" min:"0"`
	// PageBytes bounds the stored text of one page of history, so that a page fits into half of what may
	// wait for one client. A page ends early rather than pass it.
	PageBytes int `yaml:"page_bytes" default:"262144" min:"1"`
}

// Archive is the archive of a domain's accounts. All methods may be called from any goroutine, but for Connect and Run.
type Archive struct {
	// Fixed after construction, and Connect.
	config      Config
	log         store.MessageLog
	preferences *preferences
	directory   Directory
	domain      jid.JID
	block       cipher.Block
	now         func() time.Time
	router      Router
	logger      *slog.Logger
	metrics     *metrics
	newPause    func(context.Context) pause

	queue         *queue
	conversations *conversations
	markers       *cache.Cache[markerOf, uint64] // how far they have come, at least
	reports       *reports
	budget        *limit.Table[uint64] // of queries, by account
	ended         chan struct{}        // closed when Run has returned

	// Owned by the committer.
	batch    store.Batch
	rate     commitRate
	pause    pause
	receipts *cache.Cache[receiver, *receipts]
}

// New returns an archive. It fails when a required part is missing or the key has the wrong length.
func New(c Config) (*Archive, error) {
	defaults.Fill(&c)
	if c.Log == nil || c.Preferences == nil || c.Directory == nil || c.Reply == nil || c.Domain.IsZero() {
		return nil, errors.New("archive: Log, Preferences, Directory, Reply and Domain are required")
	}
	block, err := newBlock(c.Key)
	if err != nil {
		return nil, err
	}
	a := &Archive{
		config: c, log: c.Log, directory: c.Directory, domain: c.Domain, block: block, now: c.Now, logger: c.Logger,
		preferences:   newPreferences(c.Preferences, c.Contacts),
		queue:         newQueue(c.QueueMessages, c.QueueBytes),
		conversations: newConversations(c.Log),
		markers:       cache.New(cache.Config[markerOf, uint64]{Limit: maxMarkersKnown}),
		budget:        newBudget(c.QueryRate, c.QueryBurst, c.Now),
		newPause:      newPause,
		receipts:      cache.New(cache.Config[receiver, *receipts]{Limit: maxReceivers}),
		ended:         make(chan struct{}),
	}
	a.metrics = newMetrics(c.Metrics, a.queue.depth)
	a.reports = newReports(c.Log, a.metrics)
	return a, nil
}

// Connect gives the archive the router that its stage is part of. It must be called once, before Run and before the
// stage or an IQ handler is used: the two are made of each other, so one of them has to come second.
func (a *Archive) Connect(r Router) { a.router = r }
