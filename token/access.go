package token

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// maxAccess is how long an access token may be that is looked at. Ours have some 600 bytes.
const maxAccess = 8 << 10

// claims are what an access token says, by RFC 9068 §2.2 with three of our own.
type claims struct {
	jwt.Claims
	// Client is the device as other systems expect it (RFC 8693 §4.3).
	Client string `json:"client_id"`
	// Scope lists scopes with spaces between them (RFC 8693 §4.2).
	Scope   string          `json:"scope"`
	Account store.AccountID `json:"account,string"`
	Device  string          `json:"device"`
	// Since is when the device was first seen, in Unix milliseconds: a device that comes back after it was signed out
	// has the same ID, and its old tokens stay dead.
	Since int64 `json:"device_since"`
}

// grant is what a token with a good signature says.
type grant struct {
	Principal
	begins time.Time
	since  int64
}

// holder is whom a token belongs to.
type holder struct {
	account      store.AccountID
	name, device string
}

// standing is what the store says of a holder.
type standing struct {
	good  bool
	admin bool
	since int64
	basis store.Basis
}

// access makes an access token for a device that was first seen at since.
func (s *Service) access(account store.Account, device string, since, now time.Time) (Pair, error) {
	name, err := jid.New(account.Name, s.config.Domain.Domain(), "")
	if err != nil {
		return Pair{}, fmt.Errorf("issue a token: %w", err)
	}
	id, err := s.random(16)
	if err != nil {
		return Pair{}, err
	}
	expires := now.Add(s.config.Lifetime)
	issuer := s.config.Domain.String()
	scope := string(ScopeUser)
	if account.Admin {
		scope += " " + string(ScopeAdmin)
	}
	text, err := s.sign(&claims{
		Claims: jwt.Claims{
			Issuer: issuer, Subject: name.String(), Audience: jwt.Audience{issuer},
			ID:     base64.RawURLEncoding.EncodeToString(id),
			Expiry: jwt.NewNumericDate(expires), NotBefore: jwt.NewNumericDate(now), IssuedAt: jwt.NewNumericDate(now),
		},
		Client: device, Scope: scope, Account: account.ID, Device: device, Since: since.UnixMilli(),
	})
	return Pair{Access: text, Expires: expires.UTC().Truncate(time.Second), Device: device}, err
}

// Verify checks an access token: its signature, its times, and that neither its device was signed out nor its account
// changed. The error is ErrInvalid, ErrExpired or ErrRevoked, or the store's, which could not tell. The principal is
// the caller's.
func (s *Service) Verify(ctx context.Context, access string) (*Principal, error) {
	p, err := s.verify(ctx, access)
	s.metrics.count(kindAccess, err)
	return p, err
}

func (s *Service) verify(ctx context.Context, access string) (*Principal, error) {
	if len(access) > maxAccess {
		return nil, ErrInvalid
	}
	now := s.config.Now()
	hash := sha256.Sum256([]byte(access))
	g, err := s.verified.Load(ctx, hash, func(ctx context.Context) (*grant, time.Duration, error) {
		g, err := s.open(ctx, access)
		if err != nil {
			return nil, 0, err
		}
		return g, g.Expires.Add(skew).Sub(now), nil
	})
	if err != nil {
		return nil, err
	}
	if !now.Before(g.Expires.Add(skew)) {
		return nil, ErrExpired
	}
	if now.Add(skew).Before(g.begins) || now.Add(skew).Before(g.Issued) {
		return nil, ErrInvalid
	}
	is, err := s.standing(ctx, holder{g.Account, g.JID.Local(), g.Device})
	if err != nil {
		return nil, err
	}
	if !is.good || is.since != g.since {
		return nil, ErrRevoked
	}
	p := g.Principal
	p.Basis = is.basis
	p.Scopes = scopesOf(g, is.admin)
	return &p, nil
}

// scopesOf returns what the holder of a token may do: what it says of the person's own account, and to administer when
// the account may now, whatever it could when the token was made.
func scopesOf(g *grant, admin bool) []Scope {
	scopes := make([]Scope, 0, 2)
	if slices.Contains(g.Scopes, ScopeUser) {
		scopes = append(scopes, ScopeUser)
		if admin {
			scopes = append(scopes, ScopeAdmin)
		}
	}
	return scopes
}

// open checks the signature of a token and reads it.
func (s *Service) open(ctx context.Context, access string) (*grant, error) {
	if !canonical(access) {
		return nil, ErrInvalid
	}
	signed, err := jose.ParseSignedCompact(access, []jose.SignatureAlgorithm{signedWith})
	if err != nil || len(signed.Signatures) != 1 {
		return nil, ErrInvalid
	}
	header := &signed.Signatures[0].Protected
	if kind, _ := header.ExtraHeaders[jose.HeaderType].(string); kind != tokenType { // RFC 9068 §4
		return nil, ErrInvalid
	}
	key, err := s.publicKey(ctx, header.KeyID)
	if err != nil {
		return nil, fmt.Errorf("check a token: %w", err)
	}
	if key == nil {
		return nil, ErrInvalid
	}
	s.metrics.signatures.Inc()
	payload, err := signed.Verify(key)
	if err != nil {
		return nil, ErrInvalid
	}
	var c claims
	if json.Unmarshal(payload, &c) != nil {
		return nil, ErrInvalid
	}
	return s.read(&c)
}

// canonical reports whether a token is written in the one way in which it can be: decoders of base64 skip line ends,
// and the last character of a signature has bits that they do not look at. Header and payload are signed as they are
// written.
func canonical(access string) bool {
	dots := 0
	for i := range len(access) {
		switch c := access[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.':
			dots++
		default:
			return false
		}
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(access[strings.LastIndexByte(access, '.')+1:])
	return dots == 2 && err == nil
}

// read checks what a token of ours says whatever the time is. What another domain signed with the same key, or this one
// for something else, is refused.
func (s *Service) read(c *claims) (*grant, error) {
	domain := s.config.Domain.String()
	name, err := jid.Parse(c.Subject)
	if err != nil || c.Issuer != domain || !c.Audience.Contains(domain) || c.Expiry == nil || c.NotBefore == nil ||
		c.IssuedAt == nil ||
		!name.IsBare() || name.Local() == "" || name.Domain() != s.config.Domain.Domain() || c.Account == 0 ||
		c.Device == "" {
		return nil, ErrInvalid
	}
	g := &grant{
		Principal: Principal{
			Account: c.Account, JID: name.Clone(), Device: strings.Clone(c.Device), TokenID: strings.Clone(c.ID),
			Issued: c.IssuedAt.Time().UTC(), Expires: c.Expiry.Time().UTC(),
		},
		begins: c.NotBefore.Time(), since: c.Since,
	}
	for scope := range strings.FieldsSeq(c.Scope) {
		g.Scopes = append(g.Scopes, Scope(strings.Clone(scope)))
	}
	return g, nil
}

// standing asks, at most once in a while, whether account and device are as they were.
func (s *Service) standing(ctx context.Context, h holder) (standing, error) {
	return s.holders.Load(ctx, h, func(ctx context.Context) (is standing, ttl time.Duration, err error) {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		account, err := s.config.Accounts.Account(ctx, h.name)
		if err == nil && account.ID == h.account && !account.Disabled {
			var device store.Device
			if device, err = s.config.Devices.Device(ctx, h.account, h.device); err == nil {
				is = standing{
					good: true, admin: account.Admin,
					since: device.Created.UnixMilli(), basis: min(account.Basis, device.Basis),
				}
			}
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return is, 0, fmt.Errorf("check a token: %w", err)
		}
		return is, fresh, nil
	})
}
