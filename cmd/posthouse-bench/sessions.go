package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// each calls do for the users from 0 to n-1, some at a time, with a progress line.
func (o *options) each(ctx context.Context, what string, n int, do func(ctx context.Context, i int) error) error {
	var done atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	next := atomic.Int64{}
	for range min(o.workers, n) {
		group.Go(func() error {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := do(ctx, i); err != nil {
					return fmt.Errorf("user %s: %w", o.user(i), err)
				}
				done.Add(1)
			}
			return ctx.Err()
		})
	}
	stop := o.tick(func() { o.progressf("%s: %d of %d", what, done.Load(), n) })
	defer stop()
	return group.Wait()
}

// tick calls show every half second until stop is called.
func (o *options) tick(show func()) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(500 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				show()
			case <-end:
				o.clearProgress()
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

type registerResult struct {
	Registered int64   `json:"registered"`
	Existed    int64   `json:"existed_already"`
	Seconds    float64 `json:"seconds"`
	CPU        float64 `json:"server_cpu_ms_per_user"`
}

func runRegister(ctx context.Context, o *options) (any, error) {
	return o.registerUsers(ctx, o.users)
}

func (o *options) registerUsers(ctx context.Context, n int) (registerResult, error) {
	var r registerResult
	var made, existed atomic.Int64
	before, err := o.serverUsage()
	if err != nil {
		return r, err
	}
	begin := time.Now()
	err = o.each(ctx, "registering", n, func(ctx context.Context, i int) error {
		c, err := dial(ctx, o, o.user(i))
		if err != nil {
			return err
		}
		defer c.close()
		switch err := c.register(ctx); {
		case errors.Is(err, errExists):
			existed.Add(1)
		case err != nil:
			return err
		default:
			made.Add(1)
		}
		return nil
	})
	r = registerResult{Registered: made.Load(), Existed: existed.Load(), Seconds: time.Since(begin).Seconds()}
	if err != nil {
		return r, err
	}
	after, err := o.serverUsage()
	r.CPU = (after.cpu - before.cpu).Seconds() * 1e3 / float64(max(1, n))
	return r, err
}

// prepare registers missing users when asked to.
func (o *options) prepare(ctx context.Context, n int) error {
	if !o.register {
		return nil
	}
	_, err := o.registerUsers(ctx, n)
	return err
}

type loginResult struct {
	Logins    int64       `json:"logins"`
	Seconds   float64     `json:"seconds"`
	PerSecond float64     `json:"per_second"`
	CPU       float64     `json:"server_cpu_ms_per_login"`
	Latency   percentiles `json:"latency"`
	// What a whole login takes on the wire, without what TLS adds.
	BytesToServer   float64 `json:"wire_bytes_to_server_per_login"`
	BytesFromServer float64 `json:"wire_bytes_from_server_per_login"`
}

// runLogin logs every user in once, so that keys are derived and caches are warm, and then measures.
func runLogin(ctx context.Context, o *options) (any, error) {
	if err := o.prepare(ctx, o.users); err != nil {
		return nil, err
	}
	keys := newKeys()
	var latency histogram
	var bytesIn, bytesOut atomic.Int64
	one := func(ctx context.Context, i int) error {
		begin := time.Now()
		c, err := dial(ctx, o, o.user(i))
		if err != nil {
			return err
		}
		defer c.close()
		if err := c.login(ctx, keys); err != nil {
			return err
		}
		if err := c.presence(); err != nil {
			return err
		}
		latency.add(time.Since(begin))
		c.bye()
		in, out := c.wire()
		bytesIn.Add(in)
		bytesOut.Add(out)
		return nil
	}
	if err := o.each(ctx, "warming up", o.users, one); err != nil {
		return nil, err
	}
	latency = histogram{}
	bytesIn.Store(0)
	bytesOut.Store(0)
	before, err := o.serverUsage()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	deadline := begin.Add(o.duration)
	var logins atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	workers := min(o.workers, o.users)
	for w := range workers {
		group.Go(func() error {
			for i := w; time.Now().Before(deadline) && ctx.Err() == nil; i += workers {
				if i >= o.users {
					i = w // nobody else's users, so that no session is ended by a conflict
				}
				if err := one(ctx, i); err != nil {
					return err
				}
				logins.Add(1)
			}
			return ctx.Err()
		})
	}
	stop := o.tick(func() {
		o.progressf("logging in: %d, %.0f a second", logins.Load(), float64(logins.Load())/time.Since(begin).Seconds())
	})
	err = group.Wait()
	stop()
	if err != nil {
		return nil, err
	}
	r := loginResult{Logins: logins.Load(), Seconds: time.Since(begin).Seconds(), Latency: latency.percentiles()}
	after, err := o.serverUsage()
	r.PerSecond = float64(r.Logins) / r.Seconds
	r.CPU = (after.cpu - before.cpu).Seconds() * 1e3 / float64(max(1, r.Logins))
	r.BytesToServer, r.BytesFromServer = float64(bytesOut.Load())/float64(max(1, r.Logins)),
		float64(bytesIn.Load())/float64(max(1, r.Logins))
	return r, err
}

type idleResult struct {
	Sessions   int     `json:"sessions"`
	Bytes      float64 `json:"server_bytes_per_session"`
	FromEmpty  float64 `json:"server_bytes_per_session_from_empty"`
	Empty      float64 `json:"server_mib_empty"`
	First      float64 `json:"server_mib_with_first_fifth"`
	All        float64 `json:"server_mib_with_all"`
	Seconds    float64 `json:"seconds_to_connect"`
	IdleCPU    float64 `json:"server_cpu_percent_while_idle"`
	StillAlive int     `json:"answered_a_ping_at_the_end"`
}

// idle holds sessions with available presence. Memory is read when nothing has happened for the settling time.
type idle struct {
	o       *options
	keys    *loginKeys
	clients []connection
}

// runIdle opens a fifth of the sessions, reads the server's memory, opens the rest and reads it again: the difference
// is what sessions take, without what the server needs once for whoever comes first. The figure from an empty server is
// given beside it.
func runIdle(ctx context.Context, o *options) (any, error) {
	if err := o.prepare(ctx, o.sessions); err != nil {
		return nil, err
	}
	run := &idle{o: o, keys: newKeys(), clients: make([]connection, o.sessions)}
	defer run.close()
	empty, err := o.serverUsage()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	fifth := max(1, o.sessions/5)
	if err := run.open(ctx, 0, fifth); err != nil {
		return nil, err
	}
	r := idleResult{Sessions: o.sessions, Seconds: time.Since(begin).Seconds()}
	first, _, err := run.settled(ctx)
	if err != nil {
		return nil, err
	}
	begin = time.Now()
	if err := run.open(ctx, fifth, o.sessions); err != nil {
		return nil, err
	}
	r.Seconds += time.Since(begin).Seconds()
	all, cpu, err := run.settled(ctx)
	if err != nil {
		return nil, err
	}
	r.Bytes = float64(all.rss-first.rss) / float64(max(1, o.sessions-fifth))
	r.FromEmpty = float64(all.rss-empty.rss) / float64(o.sessions)
	r.Empty, r.First, r.All = float64(empty.rss)/(1<<20), float64(first.rss)/(1<<20), float64(all.rss)/(1<<20)
	r.IdleCPU = cpu.Seconds() / o.settle.Seconds() * 100
	r.StillAlive, err = run.ping(ctx)
	return r, err
}

// open opens the sessions from one number to another.
func (run *idle) open(ctx context.Context, from, to int) error {
	return run.o.each(ctx, "connecting", to-from, func(ctx context.Context, i int) error {
		c, err := dial(ctx, run.o, run.o.user(from+i))
		if err != nil {
			return err
		}
		run.clients[from+i] = c
		if err := c.login(ctx, run.keys); err != nil {
			return err
		}
		return c.presence()
	})
}

// settled waits and returns the server's memory, and the time that it used meanwhile.
func (run *idle) settled(ctx context.Context) (u usage, cpu time.Duration, err error) {
	before, err := run.o.serverUsage()
	if err != nil {
		return u, 0, err
	}
	run.o.progressf("sessions are open; waiting %v", run.o.settle)
	select {
	case <-time.After(run.o.settle):
	case <-ctx.Done():
		return u, 0, ctx.Err()
	}
	run.o.clearProgress()
	u, err = run.o.serverUsage()
	return u, u.cpu - before.cpu, err
}

// ping asks every session whether it is still there.
func (run *idle) ping(ctx context.Context) (int, error) {
	var alive atomic.Int64
	err := run.o.each(ctx, "pinging", len(run.clients), func(_ context.Context, i int) error {
		err := run.clients[i].ping()
		if err == nil {
			alive.Add(1)
		}
		return err
	})
	return int(alive.Load()), err
}

func (run *idle) close() {
	for _, c := range run.clients {
		if c != nil {
			c.close()
		}
	}
}
