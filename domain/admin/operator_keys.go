package admin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
)

// maxDeviceName is the store's bound, in bytes.
const maxDeviceName = 128

// IssueToken issues tokens to a device of that name which belongs to the command line. The same name is the same device
// the next time: access tokens that it has got before stay good, its refresh token does not. It returns the account's
// address, too.
func (o *Operator) IssueToken(ctx context.Context, address, device string) (pair token.Pair, owner string, err error) {
	if device == "" || len(device) > maxDeviceName ||
		strings.ContainsFunc(device, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return pair, "", fmt.Errorf(
			"%q cannot be the name of a device: it has 1 to %d bytes, and no control characters", device, maxDeviceName)
	}
	name, err := o.name(address)
	if err != nil {
		return pair, "", err
	}
	if name, err = jid.PrepareLocal(name); err != nil {
		return pair, "", fmt.Errorf("%s: it is not a name that an account can have", address)
	}
	account, err := o.Database.Account(ctx, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return pair, "", fmt.Errorf("%s: there is no such account", address)
	case err != nil:
		return pair, "", err
	case account.Disabled:
		return pair, "", fmt.Errorf("%s: the account is disabled", address)
	}
	tokens, err := o.Tokens(ctx)
	if err != nil {
		return pair, "", err
	}
	owner = o.target(name)
	err = o.recorded(ctx, "token.issue", owner, map[string]any{"device": device}, func() error {
		sum := sha256.Sum256([]byte(device))
		d := store.Device{
			Account: account.ID, ID: "command-line." + base64.RawURLEncoding.EncodeToString(sum[:15]), Name: device,
			Software: "posthouse token issue",
			Created:  time.Now(), Seen: time.Now(),
		}
		if _, err := o.Database.Device(ctx, account.ID, d.ID); errors.Is(err, store.ErrNotFound) {
			if err := o.Database.PutDevice(ctx, d, account.Basis, o.MaxDevices); err != nil {
				return err
			}
		}
		pair, err = tokens.Issue(ctx, account, d)
		return err
	})
	return pair, owner, err
}

// RotateTokens makes a new key that signs access tokens. With forget, all that were signed before are dead: in a node
// that runs within two seconds, elsewhere when the published keys are fetched anew.
func (o *Operator) RotateTokens(ctx context.Context, forget bool) error {
	tokens, err := o.Tokens(ctx)
	if err != nil {
		return err
	}
	return o.recorded(ctx, "token.rotate", "", map[string]any{"forget": forget},
		func() error { return tokens.Replace(ctx, forget) })
}

// AddKey makes a service key. Its secret is shown once, here.
func (o *Operator) AddKey(ctx context.Context, name string, scopes []token.Scope, expires time.Time) (secret string,
	key store.ServiceKey, err error) {
	tokens, err := o.Tokens(ctx)
	if err != nil {
		return "", key, err
	}
	detail := map[string]any{"scopes": scopes}
	if !expires.IsZero() {
		detail["expires"] = expires.UTC().Format(time.RFC3339)
	}
	err = o.recorded(ctx, "key.add", name, detail, func() error {
		secret, key, err = tokens.NewServiceKey(ctx, name, scopes, expires)
		if errors.Is(err, store.ErrExists) {
			return fmt.Errorf("there is a key with the name %q already; revoke it first, or choose another name", name)
		}
		return err
	})
	return secret, key, err
}

// Keys returns all service keys, revoked ones included, by name.
func (o *Operator) Keys(ctx context.Context) ([]store.ServiceKey, error) {
	return o.Database.ListServiceKeys(ctx)
}

// RevokeKey revokes the key with that ID or that name. A node that runs refuses it from two seconds later on.
func (o *Operator) RevokeKey(ctx context.Context, idOrName string) (key store.ServiceKey, err error) {
	err = o.recorded(ctx, "key.revoke", idOrName, nil, func() error {
		key, err = o.Database.RevokeServiceKey(ctx, idOrName, time.Now())
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("%s: there is no such key, or it was revoked before", idOrName)
		}
		return err
	})
	return key, err
}

// Audit returns up to limit entries of the audit log with lower numbers than before, newest first; 0 means from the
// newest on.
func (o *Operator) Audit(ctx context.Context, before uint64, limit int) ([]store.AuditEntry, error) {
	return o.Database.AuditEntries(ctx, before, limit)
}

// VerifyAudit checks that no entry of the audit log was changed, removed or put between others, and returns the last.
// When number is not 0, the entry of that number must have the hash, in hexadecimal, that was noted somewhere else:
// then none up to it was written anew.
func (o *Operator) VerifyAudit(ctx context.Context, number uint64, hash string) (last store.AuditEntry, err error) {
	if last, err = o.Database.VerifyAudit(ctx); err != nil || number == 0 {
		return last, err
	}
	found, err := o.Database.AuditEntries(ctx, number+1, 1)
	if err != nil {
		return last, err
	}
	if len(found) == 0 || found[0].Number != number {
		return last, fmt.Errorf("entry %d is missing: %w", number, store.ErrDamaged)
	}
	if hex.EncodeToString(found[0].Hash) != strings.ToLower(hash) {
		return last, fmt.Errorf("entry %d has another hash than it had: %w", number, store.ErrDamaged)
	}
	return last, nil
}
