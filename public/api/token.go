package api

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// TokenRequest is a login, or the renewal of one.
type TokenRequest struct {
	Grant        string `json:"grant_type" enum:"password,refresh_token"`
	Username     string `json:"username,omitempty" maxLength:"2047" doc:"With password: the account's name or bare address."`
	Password     string `json:"password,omitempty" maxLength:"1024"`
	Device       string `json:"device,omitempty" maxLength:"64" pattern:"^[A-Za-z0-9._:-]*$" doc:"The device's id, to log in again on the same one; without it a new one is made."`
	DeviceName   string `json:"device_name,omitempty" maxLength:"128" doc:"What people call the device."`
	Software     string `json:"software,omitempty" maxLength:"128"`
	RefreshToken string `json:"refresh_token,omitempty" maxLength:"4096" doc:"With refresh_token: the newest one. It is good once."`
}

// TokenPair is what a device gets (RFC 6749 §5.1).
type TokenPair struct {
	AccessToken      string `json:"access_token" doc:"Shown with every request, in the Authorization header."`
	TokenType        string `json:"token_type" enum:"Bearer"`
	ExpiresIn        int    `json:"expires_in" doc:"Seconds."`
	RefreshToken     string `json:"refresh_token" doc:"Shown once, to get the next pair."`
	RefreshExpiresIn int    `json:"refresh_expires_in" doc:"Seconds."`
	Device           string `json:"device"`
}

func (a *API) getToken(ctx context.Context, in *struct{ Body TokenRequest }) (*body[TokenPair], error) {
	q, r := requestFrom(ctx), &in.Body
	var pair token.Pair
	var err error
	switch {
	case r.Grant == "refresh_token" && r.RefreshToken == "":
		return nil, wrongField("body.refresh_token", "it is missing")
	case r.Grant == "refresh_token":
		pair, _, err = a.config.Tokens.Refresh(ctx, r.RefreshToken)
		if errors.Is(err, token.ErrInvalid) || errors.Is(err, token.ErrExpired) || errors.Is(err, token.ErrRevoked) {
			return nil, problem(CodeLoginFailed, "The refresh token is not good any more: log in again.")
		}
	case r.Username == "" || r.Password == "":
		return nil, wrongField("body.username", "a login needs username and password")
	default:
		loopback := q.client.Addr().IsLoopback()
		if !q.secure && !loopback {
			return nil, problem(CodeInsecure, "")
		}
		pair, err = a.config.Login(ctx, Login{
			Name: r.Username, Password: r.Password, Device: r.Device, DeviceName: r.DeviceName, Software: r.Software,
			Remote: q.client.Addr(), Secure: q.secure, Loopback: loopback,
		})
	}
	switch {
	case errors.Is(err, ErrLogin):
		return nil, problem(CodeLoginFailed, "")
	case errors.Is(err, ErrThrottled):
		return nil, limited(30 * time.Second)
	case err != nil:
		return nil, err
	}
	now := a.now()
	return answer(TokenPair{
		AccessToken: pair.Access, TokenType: "Bearer", ExpiresIn: seconds(pair.Expires, now),
		RefreshToken: pair.Refresh, RefreshExpiresIn: seconds(pair.RefreshExpires, now), Device: pair.Device,
	})
}

func seconds(t, now time.Time) int { return max(0, int(t.Sub(now).Seconds())) }

// form is a body of application/x-www-form-urlencoded, as RFC 7662 and RFC 7009 have it.
type form struct {
	RawBody []byte `contentType:"application/x-www-form-urlencoded"`
}

// shown returns the token of a form.
func (f *form) shown() (string, error) {
	values, err := url.ParseQuery(string(f.RawBody))
	if err != nil || len(values["token"]) != 1 || values.Get("token") == "" {
		return "", wrongField("body.token", "it is missing")
	}
	for name := range values {
		if name != "token" && name != "token_type_hint" {
			return "", wrongField("body", "only token and token_type_hint are known")
		}
	}
	return values.Get("token"), nil
}

// Introspection says what a token is good for (RFC 7662 §2.2).
type Introspection struct {
	Active    bool   `json:"active"`
	Scope     string `json:"scope,omitempty"`
	Username  string `json:"username,omitempty"`
	Subject   string `json:"sub,omitempty" doc:"The bare address, or key:NAME for a service key."`
	Device    string `json:"device,omitempty"`
	TokenType string `json:"token_type,omitempty"`
	Issued    int64  `json:"iat,omitempty"`
	Expires   int64  `json:"exp,omitempty"`
	ID        string `json:"jti,omitempty"`
}

func (a *API) introspect(ctx context.Context, in *form) (*body[Introspection], error) {
	shown, err := in.shown()
	if err != nil {
		return nil, err
	}
	p, err := a.config.Tokens.Check(ctx, shown)
	if errors.Is(err, token.ErrInvalid) || errors.Is(err, token.ErrExpired) || errors.Is(err, token.ErrRevoked) {
		return answer(Introspection{}) // RFC 7662 §2.2: nothing more is told
	}
	if err != nil {
		return nil, err
	}
	out := Introspection{Active: true, Device: p.Device, TokenType: "Bearer", ID: p.TokenID, Username: p.JID.Local(),
		Subject: p.JID.String()}
	if p.Key != "" {
		out.Subject, out.Username = "key:"+p.KeyName, ""
	}
	var scopes []string
	for _, s := range p.Scopes {
		scopes = append(scopes, string(s))
	}
	out.Scope = strings.Join(scopes, " ")
	if !p.Issued.IsZero() {
		out.Issued = p.Issued.Unix()
	}
	if !p.Expires.IsZero() {
		out.Expires = p.Expires.Unix()
	}
	return answer(out)
}

// revoke signs the device out that a token belongs to (RFC 7009): all its tokens end. Whoever holds a token may do
// that. A token that is not good any more is revoked already.
func (a *API) revoke(ctx context.Context, in *form) (*none, error) {
	shown, err := in.shown()
	if err != nil {
		return nil, err
	}
	p, err := a.config.Tokens.Check(ctx, shown)
	if err != nil {
		var renewed token.Principal
		if _, renewed, err = a.config.Tokens.Refresh(ctx, shown); err == nil {
			p = &renewed
		}
	}
	switch {
	case errors.Is(err, token.ErrInvalid), errors.Is(err, token.ErrExpired), errors.Is(err, token.ErrRevoked):
		return &none{}, nil // RFC 7009 §2.2
	case err != nil:
		return nil, err
	case p.Key != "":
		return nil, problem(CodeForbidden, "Service keys are revoked by administrators.")
	}
	requestFrom(ctx).Principal = p
	return a.signOut(ctx, p.Device)
}

// keySet is a document that is ready.
type keySet struct {
	ContentType  string `header:"Content-Type"`
	CacheControl string `header:"Cache-Control"`
	Body         []byte
}

func (a *API) keys(context.Context, *none) (*keySet, error) {
	age := fmt.Sprintf("public, max-age=%d", int(token.KeySetAge.Seconds()))
	return &keySet{"application/json", age, a.config.Tokens.KeySet()}, nil
}

// nsDevice qualifies devices (docs/tokens.md).
const nsDevice = "urn:posthouse:device:1"

// Device is something that the account logs in with.
type Device struct {
	ID       string       `json:"id"`
	Name     string       `json:"name"`
	Software string       `json:"software"`
	Created  content.Time `json:"created" doc:"When it was first seen."`
	Seen     content.Time `json:"seen" doc:"When it last logged in or renewed a token."`
	Current  bool         `json:"current" doc:"The request was made by it."`
}

// Devices is a list of them, the one seen last first.
type Devices struct {
	Devices []Device `json:"devices"`
}

func (a *API) listDevices(ctx context.Context, _ *none) (*body[Devices], error) {
	found, err := a.config.Devices.ListDevices(ctx, requestFrom(ctx).Account)
	if err != nil {
		return nil, err
	}
	out := Devices{Devices: make([]Device, 0, len(found))}
	for _, d := range found {
		out.Devices = append(out.Devices,
			Device{d.ID, d.Name, d.Software, stamp(d.Created), stamp(d.Seen), d.ID == requestFrom(ctx).Device})
	}
	return answer(out)
}

func (a *API) removeDevice(ctx context.Context, in *struct {
	ID string `path:"id" maxLength:"64" doc:"The device's id."`
}) (*none, error) {
	if _, err := a.config.Devices.Device(ctx, requestFrom(ctx).Account, in.ID); err != nil {
		return nil, err
	}
	return a.signOut(ctx, in.ID)
}

func (a *API) signOut(ctx context.Context, device string) (*none, error) {
	return a.ask(ctx, requestFrom(ctx).JID, stanza.New(nsDevice, "remove", "id", device))
}

func (a *API) removeDevices(ctx context.Context, in *struct {
	Keep bool `query:"keep_current" doc:"All but the one that the request is made by."`
}) (*none, error) {
	if out, err := a.ask(ctx, requestFrom(ctx).JID, stanza.New(nsDevice, "remove-others")); err != nil || in.Keep {
		return out, err
	}
	return a.signOut(ctx, requestFrom(ctx).Device)
}
