package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
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
		c, err := connect(ctx, o, o.user(i))
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
}

// runLogin logs every user in once, so that keys are derived and caches are warm, and then measures.
func runLogin(ctx context.Context, o *options) (any, error) {
	if err := o.prepare(ctx, o.users); err != nil {
		return nil, err
	}
	keys := &keyCache{}
	var latency histogram
	one := func(ctx context.Context, i int) error {
		begin := time.Now()
		c, err := connect(ctx, o, o.user(i))
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
		return nil
	}
	if err := o.each(ctx, "warming up", o.users, one); err != nil {
		return nil, err
	}
	latency = histogram{}
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
	return r, err
}

type idleResult struct {
	Sessions   int     `json:"sessions"`
	Bytes      float64 `json:"server_bytes_per_session"`
	Before     float64 `json:"server_mib_before"`
	After      float64 `json:"server_mib_after"`
	Seconds    float64 `json:"seconds_to_connect"`
	IdleCPU    float64 `json:"server_cpu_percent_while_idle"`
	StillAlive int     `json:"answered_a_ping_at_the_end"`
}

// runIdle holds sessions with available presence. Memory is read when nothing has happened for the settling time.
func runIdle(ctx context.Context, o *options) (any, error) {
	if err := o.prepare(ctx, o.sessions); err != nil {
		return nil, err
	}
	before, err := o.serverUsage()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	clients := make([]*client, o.sessions)
	defer func() {
		for _, c := range clients {
			if c != nil {
				c.close()
			}
		}
	}()
	keys := &keyCache{}
	err = o.each(ctx, "connecting", o.sessions, func(ctx context.Context, i int) error {
		c, err := connect(ctx, o, o.user(i))
		if err != nil {
			return err
		}
		clients[i] = c
		if err := c.login(ctx, keys); err != nil {
			return err
		}
		return c.presence()
	})
	if err != nil {
		return nil, err
	}
	r := idleResult{Sessions: o.sessions, Seconds: time.Since(begin).Seconds()}
	start, err := o.serverUsage()
	if err != nil {
		return nil, err
	}
	o.progressf("%d sessions are open; waiting %v", o.sessions, o.settle)
	select {
	case <-time.After(o.settle):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	o.clearProgress()
	after, err := o.serverUsage()
	if err != nil {
		return nil, err
	}
	r.Bytes = float64(after.rss-before.rss) / float64(o.sessions)
	r.Before, r.After = float64(before.rss)/(1<<20), float64(after.rss)/(1<<20)
	r.IdleCPU = (after.cpu - start.cpu).Seconds() / o.settle.Seconds() * 100
	var alive atomic.Int64
	err = o.each(ctx, "pinging", o.sessions, func(_ context.Context, i int) error {
		if err := clients[i].write("<iq type='get' id='ping'><ping xmlns='urn:xmpp:ping'/></iq>"); err != nil {
			return err
		}
		_, err := clients[i].reply("ping")
		alive.Add(1)
		return err
	})
	r.StillAlive = int(alive.Load())
	return r, err
}

// drainUntil reads and drops what the server says until the connection ends; used where only the peer's liveness matters.
func (c *client) drainUntil(wait *sync.WaitGroup, handle func(element []byte)) {
	defer wait.Done()
	c.conn.SetReadDeadline(time.Time{})
	for {
		e, err := c.next()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
				handle(nil)
			}
			return
		}
		handle(e)
	}
}
