package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/big"
	"strconv"
	"sync"
	"time"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// Config says whose client it is and how it behaves. Address, Domain, Username and a Password or Token are needed.
type Config struct {
	// Address is where the server listens: tls://host:port, wss://host:port/path, and, where the network can be
	// trusted, tcp://host:port or ws://host:port/path.
	Address string
	// TLS is the configuration for tls and wss, nil for that of crypto/tls. The server's name is that of the address
	// unless given here.
	TLS *tls.Config
	// Domain and Username are the account's.
	Domain, Username string
	// Password is needed for a first login, and when there is no good Token.
	Password string
	// Device is what the client runs on. Without an ID no token is asked for.
	Device Device
	// Token is what Keep was given last, zero at the first start.
	Token Token
	// Keep is called with each new token, on the goroutine of the connection, before the session goes on. Nil keeps
	// tokens in memory only.
	Keep func(Token)
	// Resource is a wish for the last part of the full address; default "client".
	Resource string

	// Since is the StanzaID of the last message that the app has dealt with: everything that came after it, in all
	// conversations, is handed to Message first. "" begins with what comes from now on.
	Since string

	// Message is called with each message, in the order of its conversation. Presence, Roster and State are called with
	// news of others, of the contact list, and of the connection. All are called by one goroutine; nil ignores. They
	// may wait, and may use the client, but must not call Close.
	Message  func(Message)
	Presence func(Presence)
	Roster   func(RosterChange)
	State    func(State)

	// Outbox bounds how many messages and requests wait to be written or confirmed; default 1024. Who finds it full
	// waits.
	Outbox int
	// Inbox bounds how many arrivals wait for the handlers; default 4096. See the package's comment for what happens
	// when it is full.
	Inbox int
	// KeepAlive is how long the connection may be silent before the client looks whether it is still there; default 4
	// minutes. The server may ask for less.
	KeepAlive time.Duration
	// BackOff is the longest wait before another attempt to connect; default 1 minute. The first is at most 200 ms, and
	// each twice the one before.
	BackOff time.Duration
	// Log gets what goes wrong and heals by itself; nil for nothing.
	Log *slog.Logger
}

// State tells of the connection.
type State struct {
	Online bool
	// Resumed: the stream goes on as if nothing had happened. Otherwise a session is new: presence was sent again and
	// what was missed is fetched.
	Resumed bool
	// Err is why the connection ended; nil while online.
	Err error
}

// ErrClosed: the client was closed.
var ErrClosed = errors.New("the client is closed")

// ErrInterrupted: the session ended while a request was on its way, and it is not known whether it was carried out.
var ErrInterrupted = errors.New("the session ended before the answer came")

// Stats counts what has happened since Dial.
type Stats struct {
	// Sessions and Resumptions are how often a session was begun and how often one was resumed.
	Sessions, Resumptions uint64
	// Refetched are messages that were fetched because they had not come, or found the inbox full; Lost are transient
	// signals and presence that found it full.
	Refetched, Lost uint64
}

// Client is a session that outlives its connections. All methods may be called by many goroutines.
type Client struct {
	config Config
	log    *slog.Logger
	bare   jid.JID
	keys   KeyCache
	ctx    context.Context
	stop   context.CancelFunc
	all    sync.WaitGroup // the goroutines
	gone   chan struct{}  // closed when no further connection is made
	inbox  chan arrival
	repair chan struct{} // capacity 1: something must be fetched again
	wake   chan struct{} // capacity 1: the writer has something to do

	mu  sync.Mutex // guards what follows
	err error      // why the client ended
	outbox
	token      Token
	full       jid.JID // bound address
	conn       *Conn   // nil while offline
	stream     string  // to resume, "" when there is nothing to
	handled    uint32  // stanzas taken on the stream
	managed    bool
	interval   time.Duration // of keep-alive, as agreed with the server
	pongs      int           // owed
	ackDue     bool          // an acknowledgement is owed
	presence   *stanza.Stanza
	closing    bool
	lastQueued string // StanzaID of the last message that was put in the inbox or confirmed
	based      bool   // lastQueued holds, though it may be "": the archive was empty
	missed     string // StanzaID before the first message that found the inbox full
	missing    bool   // one has
	stats      Stats
	delay      time.Duration // that the server asks for before the next connection
}

// Dial connects, logs in, and returns when the client is online. It makes one attempt: an error is that of the
// connection, or an *AuthError. The context bounds the attempt and not the client, which lives until Close or until the
// server refuses it for good.
func Dial(ctx context.Context, config Config) (*Client, error) {
	config.Resource = cmp.Or(config.Resource, "client")
	config.Outbox, config.Inbox = cmp.Or(config.Outbox, 1024), cmp.Or(config.Inbox, 4096)
	config.KeepAlive, config.BackOff = cmp.Or(config.KeepAlive, 4*time.Minute), cmp.Or(config.BackOff, time.Minute)
	bare, err := jid.New(config.Username, config.Domain, "")
	if err != nil {
		return nil, err
	}
	c := &Client{
		config: config, bare: bare, token: config.Token, log: config.Log,
		gone: make(chan struct{}), inbox: make(chan arrival, config.Inbox), repair: make(chan struct{}, 1),
		wake:     make(chan struct{}, 1),
		interval: config.KeepAlive, presence: &stanza.Stanza{Kind: stanza.Presence}, lastQueued: config.Since,
	}
	c.outbox.init(config.Outbox)
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	conn, err := c.connect(ctx)
	if err != nil {
		c.stop()
		return nil, err
	}
	c.all.Go(func() { c.run(conn) })
	c.all.Go(c.deliverAll)
	return c, nil
}

// JID returns the full address that is bound now.
func (c *Client) JID() jid.JID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.full
}

// Stats returns what has happened so far.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Done is closed when the client has ended: it was closed, or the server refuses it for good. Err tells which.
func (c *Client) Done() <-chan struct{} { return c.gone }

// Err returns why the client has ended, nil while it has not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// closeTimeout bounds how long Close waits for what is still to be written, and for the server's last word.
const closeTimeout = 5 * time.Second

// Close ends the session in order: what was sent and not confirmed yet is given a few seconds, then the stream is
// closed, and everything that still waits gets ErrClosed. It returns when no goroutine of the client is left.
func (c *Client) Close() error {
	c.mu.Lock()
	limit := time.NewTimer(closeTimeout)
	defer limit.Stop()
	var settled <-chan struct{}
	if !c.closing && c.conn != nil {
		settled = c.outbox.whenSettled()
	}
	first := !c.closing
	c.closing = true
	c.mu.Unlock()
	if settled != nil {
		select {
		case <-settled:
		case <-limit.C:
		case <-c.gone:
		}
	}
	c.mu.Lock()
	conn := c.conn
	var last []byte
	if conn != nil {
		if c.managed { // so that nothing that was handled is sent again
			e := stanza.New(nsSM, "a", "h", strconv.FormatUint(uint64(c.handled), 10))
			last = conn.codec.AppendElement(last, &e)
		}
		last = conn.codec.AppendClose(last)
	}
	c.mu.Unlock()
	if first && conn != nil {
		if _, err := conn.Write(last); err == nil {
			select { // the reader ends with the server's close
			case <-c.gone:
			case <-limit.C:
			}
		}
		conn.Close()
	}
	c.end(ErrClosed)
	c.all.Wait()
	return nil
}

// end notes why the client ends and releases whoever waits.
func (c *Client) end(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	err = c.err
	c.outbox.endAll(err)
	conn := c.conn
	c.mu.Unlock()
	c.stop()
	if conn != nil {
		conn.Close()
	}
}

// run owns the connection: it serves one after the other until the client ends.
func (c *Client) run(conn *Conn) {
	defer close(c.gone)
	wait := time.Duration(0)
	for {
		began := time.Now()
		err := c.serve(conn)
		conn.Close()
		if c.lost(err) {
			return
		}
		if time.Since(began) > time.Minute {
			wait = 0
		}
		for {
			wait = min(max(2*wait, firstWait), c.config.BackOff)
			if !c.pause(wait) {
				return
			}
			ctx, cancel := context.WithTimeout(c.ctx, connectTimeout)
			conn, err = c.connect(ctx)
			cancel()
			if err == nil {
				break
			}
			c.log.Info("cannot connect", "event", "connect", "error", err.Error())
			if final(err) {
				c.end(err)
				c.notify(State{Err: err})
				return
			}
		}
	}
}

// firstWait is the longest wait before the first attempt to come back.
const firstWait = 200 * time.Millisecond

// connectTimeout bounds an attempt to connect and log in.
const connectTimeout = 30 * time.Second

// lost takes note of the end of a connection. It reports whether it was the last one.
func (c *Client) lost(err error) bool {
	c.mu.Lock()
	c.conn = nil
	last := c.closing || c.ctx.Err() != nil
	var said *stream.Error
	if errors.As(err, &said) && said.App != nil && said.App.Space == nsStream {
		c.delay = after(said.App)
	}
	c.mu.Unlock()
	switch {
	case last:
		return true
	case errors.As(err, &said) && said.Condition == stream.Conflict:
		// another client has taken the address: coming back would be a fight
		c.end(err)
		c.notify(State{Err: err})
		return true
	}
	c.log.Info("the connection ended", "event", "disconnected", "error", err.Error())
	c.notify(State{Err: err})
	return false
}

// final reports whether another attempt would be refused as well.
func final(err error) bool {
	var refused *AuthError
	return errors.As(err, &refused) && !refused.temporary()
}

// pause waits before the next attempt: for what the server asked for, or else up to that time, at random, so that many
// clients do not come at once. It reports false when the client has ended.
func (c *Client) pause(most time.Duration) bool {
	c.mu.Lock()
	d := c.delay
	c.delay = 0
	c.mu.Unlock()
	if d == 0 {
		d = most/2 + randomly(most/2)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// randomly returns a duration below most.
func randomly(most time.Duration) time.Duration {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(most)+1))
	if err != nil {
		return most
	}
	return time.Duration(n.Int64())
}
