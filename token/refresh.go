package token

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

const (
	// refreshPrefix lets scanners for leaked secrets find them.
	refreshPrefix = "phr_"
	// maxRefresh is how long a refresh token may be that is looked at: a localpart of 1023 bytes fits.
	maxRefresh = 2 << 10
	// grace is for how long a refresh token may be used again after it was replaced: the answer may have been lost, or
	// two parts of a program have used it at once. Each time it gives the same next one and changes nothing, so that
	// the time is over when it is over.
	grace = 2 * time.Minute
	proof = 16
)

// errReplaced says that a refresh token was used whose successor was used, too, or had been there for longer than an
// answer may be lost: one of the two uses is a thief's.
var errReplaced = errors.New("the refresh token was replaced before")

// refreshToken is what stands in a refresh token. Its secret is 256 random bits in the first of a device, and is made
// of the one before and our own secret in those that follow, so that two who use one at the same time get the same next
// one, and so that an old one is known for what it is. In text: phr_ and, in base64url, account (8 bytes), since (8),
// secret (32), length of name (2), name, device, proof (16).
type refreshToken struct {
	account store.AccountID
	since   int64 // the device's creation, as in claims
	secret  [32]byte
	name    string
	device  string
}

func (s *Service) mac(purpose string, message []byte) []byte {
	m := hmac.New(sha256.New, s.config.Secret)
	m.Write([]byte(purpose))
	m.Write(message)
	return m.Sum(nil)
}

// text writes the token, with a proof that we have made it.
func (s *Service) text(t *refreshToken) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(t.account))
	b = binary.BigEndian.AppendUint64(b, uint64(t.since))
	b = append(b, t.secret[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.name)))
	b = append(b, t.name...)
	b = append(b, t.device...)
	b = append(b, s.mac("refresh token", b)[:proof]...)
	return refreshPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// parse reads a token that we have made; ErrInvalid when we have not.
func (s *Service) parse(text string) (*refreshToken, error) {
	encoded, ok := strings.CutPrefix(text, refreshPrefix)
	if !ok || len(text) > maxRefresh {
		return nil, ErrInvalid
	}
	const fixed = 8 + 8 + 32 + 2
	b, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || len(b) < fixed+proof || base64.RawURLEncoding.EncodeToString(b) != encoded {
		return nil, ErrInvalid
	}
	b, tag := b[:len(b)-proof], b[len(b)-proof:]
	if !hmac.Equal(tag, s.mac("refresh token", b)[:proof]) {
		return nil, ErrInvalid
	}
	t := &refreshToken{account: store.AccountID(binary.BigEndian.Uint64(b)),
		since: int64(binary.BigEndian.Uint64(b[8:]))}
	copy(t.secret[:], b[16:])
	n := int(binary.BigEndian.Uint16(b[48:]))
	if b = b[fixed:]; n > len(b) {
		return nil, ErrInvalid
	}
	t.name, t.device = string(b[:n]), string(b[n:])
	return t, nil
}

// next returns the token that follows.
func (s *Service) next(t *refreshToken) *refreshToken {
	following := *t
	copy(following.secret[:], s.mac("next refresh token", t.secret[:]))
	return &following
}

// hash is what is stored of a token.
func (s *Service) hash(t *refreshToken) []byte {
	sum := sha256.Sum256([]byte(s.text(t)))
	return sum[:]
}

// Issue makes tokens for a device that is in the store. An earlier refresh token of the device is not good any more.
// The error is ErrRevoked when the account is disabled, or was changed or the device signed out after the account's
// Basis, or the store's.
func (s *Service) Issue(ctx context.Context, account store.Account, device store.Device) (Pair, error) {
	if account.Disabled {
		return Pair{}, ErrRevoked
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	secret, err := s.random(32)
	if err != nil {
		return Pair{}, err
	}
	now := s.config.Now()
	t := &refreshToken{account: account.ID, secret: [32]byte(secret), name: account.Name, device: device.ID}
	var created time.Time
	err = s.config.Devices.ChangeDevice(ctx, account.ID, device.ID, account.Basis, func(d *store.Device) error {
		created = d.Created
		t.since = created.UnixMilli()
		d.Refresh, d.RefreshBefore, d.RefreshReplaced = s.hash(t), nil, time.Time{}
		d.RefreshExpires, d.Seen = now.Add(s.config.RefreshLifetime), now
		return nil
	})
	if err != nil {
		return Pair{}, refused(err, "issue a token")
	}
	s.metrics.issued.WithLabelValues("login").Inc()
	return s.pair(account, t, created, now, now.Add(s.config.RefreshLifetime))
}

// pair is the access token that goes with a refresh token, which is good until expires.
func (s *Service) pair(account store.Account, t *refreshToken, created, now, expires time.Time) (Pair, error) {
	p, err := s.access(account, t.device, created, now)
	if err != nil {
		return Pair{}, err
	}
	p.Refresh, p.RefreshExpires = s.text(t), expires.UTC().Truncate(time.Second)
	return p, nil
}

// Refresh takes a refresh token for a new pair. The token is not good any more two minutes later, or when its successor
// was used; whoever uses it then ends the device: it was stolen, or the device that uses it was (RFC 9700 §4.14.2). The
// errors are those of Verify.
func (s *Service) Refresh(ctx context.Context, refresh string) (Pair, Principal, error) {
	pair, p, err := s.refresh(ctx, refresh)
	s.metrics.count(kindRefresh, err)
	return pair, p, err
}

func (s *Service) refresh(ctx context.Context, refresh string) (Pair, Principal, error) {
	shown, err := s.parse(refresh)
	if err != nil {
		return Pair{}, Principal{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	account, err := s.config.Accounts.Account(ctx, shown.name)
	if err != nil {
		return Pair{}, Principal{}, refused(err, "renew a token")
	}
	if account.ID != shown.account || account.Disabled {
		return Pair{}, Principal{}, ErrRevoked
	}
	now, following := s.config.Now(), s.next(shown)
	var created, expires time.Time
	err = s.config.Devices.ChangeDevice(ctx, account.ID, shown.device, account.Basis, func(d *store.Device) error {
		created = d.Created
		err := s.renew(d, shown, following, now)
		expires = d.RefreshExpires
		return err
	})
	switch {
	case errors.Is(err, errReplaced):
		s.end(ctx, shown)
		return Pair{}, Principal{}, ErrRevoked
	case err != nil:
		return Pair{}, Principal{}, refused(err, "renew a token")
	}
	pair, err := s.pair(account, following, created, now, expires)
	if err != nil {
		return Pair{}, Principal{}, err
	}
	s.metrics.issued.WithLabelValues("refresh").Inc()
	p, err := s.open(ctx, pair.Access)
	if err != nil {
		return Pair{}, Principal{}, err
	}
	p.Principal.Scopes = scopesOf(p, account.Admin)
	return pair, p.Principal, nil
}

// renew puts the following token into the place of the one that is shown, when that is the newest. When that was done
// already, a moment ago, it changes nothing.
func (s *Service) renew(d *store.Device, shown, following *refreshToken, now time.Time) error {
	old, fresh := s.hash(shown), s.hash(following)
	switch {
	case d.Created.UnixMilli() != shown.since || len(d.Refresh) == 0:
		return ErrRevoked
	case subtle.ConstantTimeCompare(d.Refresh, old) == 1:
		if !now.Before(d.RefreshExpires) {
			return ErrExpired
		}
		d.Refresh, d.RefreshBefore, d.RefreshReplaced = fresh, old, now
		d.RefreshExpires, d.Seen = now.Add(s.config.RefreshLifetime), now
	case subtle.ConstantTimeCompare(d.Refresh, fresh) == 1:
		if now.Sub(d.RefreshReplaced) > grace {
			return errReplaced
		}
	case s.precedes(following, d.Refresh):
		return errReplaced
	default: // of an earlier login of the device
		return ErrRevoked
	}
	return nil
}

// precedes reports whether the token with that hash was made from t by renewing it, as often as can be in the time that
// a refresh token lasts.
func (s *Service) precedes(t *refreshToken, hash []byte) bool {
	for range min(s.config.RefreshLifetime/s.config.Lifetime, 5000) {
		t = s.next(t)
		if bytes.Equal(s.hash(t), hash) {
			return true
		}
	}
	return false
}

// end signs a device out whose refresh token somebody else has, too.
func (s *Service) end(ctx context.Context, t *refreshToken) {
	s.metrics.reused.Inc()
	name, _ := jid.New(t.name, s.config.Domain.Domain(), "")
	s.config.Log.Warn("a refresh token was used again long after it was replaced; its device was signed out",
		"event", "token.reused", "account", name.String(), "device", t.device)
	err := s.config.Devices.RemoveDevice(ctx, t.account, t.device)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		s.config.Log.Error("cannot sign a device out", "account", name.String(), "device", t.device, "error", err)
	}
	s.Forget(t.account, t.device)
	if s.config.Ended != nil {
		s.config.Ended(ctx, t.account, t.device)
	}
}

// refused turns what the store does not have into ErrRevoked, and names anything else that it says.
func refused(err error, doing string) error {
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrOvertaken), errors.Is(err, ErrRevoked):
		return ErrRevoked
	case errors.Is(err, ErrExpired):
		return ErrExpired
	}
	return fmt.Errorf("%s: %w", doing, err)
}
