package auth

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/scram"
)

// iterationsTTL is how long it is believed which counts of iterations are in use.
const iterationsTTL = 10 * time.Minute

// fakeCredential makes up what a name without an account answers. It depends on the name, a secret, and the counts of
// iterations that accounts have: asking twice, on any node with that secret, does not tell it from an account. As many
// names answer a count as accounts have it. When accounts move on to another count, so do as many names, each with
// another salt, as an account gets.
func (a *Authenticator) fakeCredential(ctx context.Context, h *scram.Hash, name string) store.Credential {
	iterations := a.iterationsOf(ctx, h, scram.SHA256.HMAC(a.secret, []byte("iterations\x00"+name)))
	made := binary.BigEndian.AppendUint64([]byte(h.Name+"\x00"), uint64(iterations))
	made = append(append(made, 0), name...)
	make := func(what string, size int) []byte {
		return scram.SHA256.HMAC(a.secret, append([]byte(what+"\x00"), made...))[:size]
	}
	return store.Credential{
		Hash: h.Name, Salt: make("salt", saltSize), Iterations: iterations,
		StoredKey: make("stored key", h.Size), ServerKey: make("server key", h.Size),
	}
}

// iterationsOf returns one of the counts that accounts have with a hash, each as often as it is in use. lot decides.
func (a *Authenticator) iterationsOf(ctx context.Context, h *scram.Hash, lot []byte) int {
	counts, ok := a.iterations.Get(struct{}{})
	if !ok {
		var err error
		if counts, err = a.iterations.Load(ctx, struct{}{}, a.readIterations); err != nil {
			a.log.LogAttrs(ctx, slog.LevelError, "cannot read which iterations are in use",
				slog.String("event", "auth.store_failed"), slog.Any("err", err))
		}
	}
	total := 0
	for _, c := range counts {
		if c.Hash == h.Name {
			total += c.Credentials
		}
	}
	if total == 0 {
		return a.config.Iterations
	}
	// A position among all, in the order of the counts. It stays where it is while accounts move up.
	at := int(float64(binary.BigEndian.Uint32(lot)) / (1 << 32) * float64(total))
	for _, c := range counts {
		if c.Hash != h.Name {
			continue
		}
		if at -= c.Credentials; at < 0 {
			return c.Iterations
		}
	}
	return a.config.Iterations
}

func (a *Authenticator) readIterations(ctx context.Context) ([]store.IterationCount, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	counts, err := a.accounts.IterationCounts(ctx)
	return counts, iterationsTTL, err
}

// renewKeys makes the keys of a password anew that was just right, when they have fewer iterations than those that are
// made now, or are not all there. When that cannot be, the next login tries again.
func (a *Authenticator) renewKeys(ctx context.Context, account store.Account, password string) {
	old := account.Credentials
	fewer := func(c store.Credential) bool { return c.Iterations < a.config.Iterations }
	if len(old) >= len(scramHashes) && !slices.ContainsFunc(old, fewer) {
		return
	}
	if a.hashing.Enter(ctx) != nil {
		return
	}
	defer a.hashing.Leave()
	renewed, err := MakeCredentials(password, a.config.Iterations)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		err = a.accounts.RenewCredentials(ctx, account.Name, account.Basis, old, renewed)
	}
	a.directory.Invalidate(account.Name)
	switch {
	case err == nil:
		_, key := strongest(renewed)
		a.memo.learn(account.ID, key, password)
		a.log.LogAttrs(ctx, slog.LevelInfo, "keys of a password were made anew with more iterations",
			slog.String("event", "auth.renewed"), slog.String("account", clip(account.Name)))
	case errors.Is(err, store.ErrOvertaken), errors.Is(err, store.ErrNotFound), ctx.Err() != nil:
	default:
		a.log.LogAttrs(ctx, slog.LevelError, "cannot renew the keys of a password; the next login tries again",
			slog.String("event", "auth.store_failed"), slog.Any("err", err))
	}
}
