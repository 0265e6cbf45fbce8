package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/posthouse-im/posthouse/store"
)

// TokenConfig bounds login tokens (XEP-0484, FAST). The zero value works.
type TokenConfig struct {
	// Off turns login tokens off: devices get none, and none is accepted.
	Off bool `yaml:"off"`
	// Life is how long a token is valid. The first login after half of it returns the next token.
	Life time.Duration `yaml:"life" default:"720h" min:"1m"`
	// MaxDevices is how many devices of an account are stored; a new one replaces the one that was seen longest ago.
	MaxDevices int `yaml:"max_devices" default:"50" min:"1"`
	// Cached is how many devices are held in memory, some 150 bytes each.
	Cached int `yaml:"cached" default:"20000" min:"64"`

	// Devices keeps the devices, and Key, 32 bytes that are kept with the data, makes their tokens. Without both there
	// are no tokens.
	Devices store.Devices `yaml:"-"`
	Key     []byte        `yaml:"-"`
}

// A token is made from the key of the domain, and stored nowhere: HMAC-SHA-256 over the account's identity, the device,
// the number of the token's generation and the mechanism that it is bound to. What is stored of a device lets nobody
// log in, and a device that is removed, as all are by a new password, takes its tokens with it: another one of the same
// name begins at another number.

// Agent is the software that logs in, as it calls itself (XEP-0388 §2.3, <user-agent/>).
type Agent struct {
	// ID is the device's, 1 to 64 bytes; "" for none.
	ID string
	// Name of the device, and Software: for people. What is not text, or beyond 128 bytes, is left out.
	Name, Software string
}

// maxDeviceName bounds what people are shown of a device, in bytes.
const maxDeviceName = 128

// MaxDeviceID bounds a device's identifier, in bytes.
const MaxDeviceID = 64

// LoginToken is what a device logs in with the next time, instead of a password.
type LoginToken struct {
	Text    string
	Expires time.Time
}

// token makes the token of a generation.
func (a *Authenticator) token(key deviceKey, generation uint64, mechanism string) string {
	h := hmac.New(sha256.New, a.config.Tokens.Key)
	b := make([]byte, 0, 128)
	b = binary.BigEndian.AppendUint64(b, uint64(key.account)) // fixed lengths first, so that no two inputs run together
	b = binary.BigEndian.AppendUint64(b, generation)
	b = append(b, byte(len(mechanism)))
	b = append(append(b, mechanism...), key.id...)
	h.Write(b)
	return base64.RawURLEncoding.EncodeToString(h.Sum(b[:0]))
}

// TokenMechanisms returns the mechanisms to log in with a token by on a channel, the best first: none on a channel that
// others may listen to. The list is shared and must not be changed.
func (a *Authenticator) TokenMechanisms(ch *Channel) []string {
	if a.devices == nil || a.config.Tokens.Off || !ch.Secure && !ch.Loopback {
		return nil
	}
	return a.offer(ch).tokens
}

// IssueToken returns what a device that has just logged in is to log in with the next time; ok is false when it is to
// go on with what it has. mechanism is the one that the client asks a token for, "" when it asks for none: then it gets
// one when its own is due (XEP-0484 §3.5). An error is of the store; the login stands.
func (a *Authenticator) IssueToken(ctx context.Context, x *Exchange, agent Agent, mechanism string) (t LoginToken,
	ok bool, err error) {
	if a.devices == nil || a.config.Tokens.Off || agent.ID == "" || len(agent.ID) > MaxDeviceID || !x.Done() ||
		mechanism != "" && findTokenMechanism(mechanism) == nil {
		return t, false, nil
	}
	key := deviceKey{x.account.ID, agent.ID}
	switch {
	case mechanism != "":
		t, ok, err = a.issue(ctx, key, x, agent, mechanism)
	case x.token != nil:
		t, ok, err = a.renew(ctx, x)
	default:
		return t, false, a.devices.note(ctx, key, deviceState{}, store.DeviceLogin{Seen: a.now()})
	}
	// it was signed out, or renewed elsewhere, in this moment
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, errSuperseded) || errors.Is(err, store.ErrOvertaken) {
		return t, false, nil
	}
	if err != nil {
		return t, false, fmt.Errorf("making a login token: %w", err)
	}
	return t, ok, nil
}

// errSuperseded: the device or its account is not any more what it was when the login began.
var errSuperseded = errors.New("the device was changed meanwhile")

// issue makes a token because the client asks for one, and the device when there is none.
func (a *Authenticator) issue(ctx context.Context, key deviceKey, x *Exchange, agent Agent,
	mechanism string) (LoginToken, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var made store.Device
	change := func(d *store.Device) error {
		if err := a.advance(d); err != nil {
			return err
		}
		if d.Used == 0 { // there is none that its first use would end, and so nothing to write then
			d.Used, d.UsedExpires, d.Counter = d.Generation, d.LoginExpires, 0
		}
		agent.describe(d)
		made = *d
		return nil
	}
	err := a.Devices().ChangeDevice(ctx, key.account, key.id, x.basis, change)
	if errors.Is(err, store.ErrNotFound) && x.token == nil {
		fresh := store.Device{Account: key.account, ID: strings.Clone(key.id), Created: a.now()}
		if err = change(&fresh); err == nil {
			err = a.Devices().PutDevice(ctx, fresh, x.basis, a.config.Tokens.MaxDevices)
		}
	}
	if err != nil {
		return LoginToken{}, false, err
	}
	return LoginToken{a.token(key, made.Generation, mechanism), made.LoginExpires}, true, nil
}

// renew returns the next token when the one that was used is past half of its life. One that was made and never used is
// given again.
func (a *Authenticator) renew(ctx context.Context, x *Exchange) (t LoginToken, ok bool, err error) {
	s, due := x.token.state, a.now().Add(a.config.Tokens.Life/2)
	if x.token.invalidated || due.Before(x.token.expires) {
		return t, false, nil
	}
	generation, expires := s.generation, time.UnixMilli(s.expires).UTC()
	if generation == x.token.generation || !due.Before(expires) {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		err = a.Devices().ChangeDevice(ctx, x.token.key.account, x.token.key.id, x.basis, func(d *store.Device) error {
			if d.Generation != s.generation {
				return errSuperseded
			}
			err := a.advance(d)
			generation, expires = d.Generation, d.LoginExpires
			return err
		})
	}
	return LoginToken{a.token(x.token.key, generation, x.mechanism.name), expires}, err == nil, err
}

// advance begins the next generation of a device's tokens.
func (a *Authenticator) advance(d *store.Device) error {
	if d.Generation == 0 {
		var b [8]byte
		if _, err := io.ReadFull(a.random, b[:]); err != nil {
			return fmt.Errorf("reading random bytes: %w", err)
		}
		d.Generation = binary.BigEndian.Uint64(b[:]) >> 2 // room to rise, and it fits a signed column
	}
	d.Generation++
	d.Seen = a.now()
	d.LoginExpires = d.Seen.Add(a.config.Tokens.Life).Truncate(time.Second)
	return nil
}

// describe gives a device the names that the client has for it.
func (g Agent) describe(d *store.Device) {
	if text := forPeople(g.Name); text != "" {
		d.Name = text
	}
	if text := forPeople(g.Software); text != "" {
		d.Software = text
	}
}

// forPeople shortens what a client calls itself, and leaves out what is not to be seen.
func forPeople(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(text, ""))
	for len(text) > maxDeviceName {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return strings.Clone(strings.TrimSpace(text))
}

// now is the time of the records.
func (a *Authenticator) now() time.Time {
	if a.config.Now != nil {
		return a.config.Now().UTC()
	}
	return time.Now().UTC()
}
