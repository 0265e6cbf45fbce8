package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// API calls the HTTP API (docs/api.md) for one account, or for another system with a service key. It may be used by
// many goroutines; a call that finds the access token over renews it first, and a call that the server limits waits for
// as long as it says, and is then made again.
//
// The types of its answers are the JSON forms of the API.
type API struct {
	// Base is where the API is, such as https://chat.example.org.
	Base string
	// HTTP makes the requests; nil is http.DefaultClient.
	HTTP *http.Client
	// Key is a service key. It is used instead of Tokens.
	Key string
	// Tokens are what Login got. Whoever keeps them over restarts sets them before the first call, and is given new
	// ones by Keep.
	Tokens Tokens
	// Keep is called with each new pair; nil keeps them in memory only.
	Keep func(Tokens)

	mu sync.Mutex // guards Tokens once calls are made, and makes one renewal serve all who wait
}

// Tokens is what a device calls the API with.
type Tokens struct {
	// Access is shown with each request, until Expires.
	Access  string
	Expires time.Time
	// Refresh is shown once, to get the next pair.
	Refresh string
	Device  string
}

// Problem is an error of the API (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Code says which problem it is, for programs.
	Code      string `json:"code"`
	Detail    string `json:"detail"`
	RequestID string `json:"request_id"`
	// RetryAfter is when to try again; 0 when the server does not say.
	RetryAfter time.Duration `json:"-"`
}

func (p *Problem) Error() string {
	return fmt.Sprintf("%d %s: %s %s (request %s)", p.Status, p.Code, p.Title, p.Detail, p.RequestID)
}

// Limits of answers and patience.
const (
	maxAnswer = 16 << 20
	// maxWait is the longest that a call waits because the server is busy.
	maxWait = 30 * time.Second
	// early is how long before its end an access token is renewed.
	early = 10 * time.Second
)

// Login gets tokens for a password.
func (a *API) Login(ctx context.Context, username, password string, d Device) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.obtain(ctx, map[string]string{
		"grant_type": "password", "username": username, "password": password, "device": d.ID, "device_name": d.Name,
		"software": d.Software,
	})
}

// obtain asks for a pair of tokens. a.mu is held.
func (a *API) obtain(ctx context.Context, what map[string]string) error {
	for name, value := range what {
		if value == "" {
			delete(what, name)
		}
	}
	var pair struct {
		Access  string `json:"access_token"`
		Expires int    `json:"expires_in"`
		Refresh string `json:"refresh_token"`
		Device  string `json:"device"`
	}
	if err := a.call(ctx, http.MethodPost, "/v1/token", nil, what, &pair, ""); err != nil {
		return err
	}
	a.Tokens = Tokens{Access: pair.Access, Expires: time.Now().Add(time.Duration(pair.Expires) * time.Second),
		Refresh: pair.Refresh, Device: pair.Device}
	if a.Keep != nil {
		a.Keep(a.Tokens)
	}
	return nil
}

// bearer returns what a request is made with, renewed when it is over, or when it is the one that the server did not
// take.
func (a *API) bearer(ctx context.Context, refused string) (string, error) {
	if a.Key != "" {
		return a.Key, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	over := a.Tokens.Access == refused || !a.Tokens.Expires.IsZero() && time.Until(a.Tokens.Expires) < early
	if over && a.Tokens.Refresh != "" {
		if err := a.obtain(ctx, map[string]string{"grant_type": "refresh_token",
			"refresh_token": a.Tokens.Refresh}); err != nil {
			return "", fmt.Errorf("renewing the access token: %w", err)
		}
	}
	return a.Tokens.Access, nil
}

// do makes a call with a token, again when the token was over or the server is busy.
func (a *API) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	token, err := a.bearer(ctx, "")
	if err != nil {
		return err
	}
	renewed := a.Key != ""
	for begin := time.Now(); ; {
		err := a.call(ctx, method, path, query, in, out, token)
		var p *Problem
		if !errors.As(err, &p) {
			return err
		}
		switch {
		case p.Status == http.StatusUnauthorized && !renewed:
			renewed = true
			if token, err = a.bearer(ctx, token); err != nil {
				return err
			}
		case (p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable) &&
			p.RetryAfter > 0 && time.Since(begin)+p.RetryAfter < maxWait:
			timer := time.NewTimer(p.RetryAfter)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			}
		default:
			return err
		}
	}
}

// call makes one request.
func (a *API) call(ctx context.Context, method, path string, query url.Values, in, out any, token string) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	where := strings.TrimSuffix(a.Base, "/") + path
	if len(query) > 0 {
		where += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, where, body)
	if err != nil {
		return err
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := cmp.Or(a.HTTP, http.DefaultClient).Do(r)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if answer.StatusCode >= 400 {
		p := &Problem{Status: answer.StatusCode, Title: answer.Status}
		_ = json.Unmarshal(text, p) // an answer of something in between may be no JSON
		if s, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil {
			p.RetryAfter = time.Duration(s) * time.Second
		}
		return fmt.Errorf("%s %s: %w", method, path, p)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// uncertain reports whether it is not known what became of a request, or it will do later.
func uncertain(err error) bool {
	var p *Problem
	return !errors.As(err, &p) || p.Status >= 500 || p.Status == http.StatusTooManyRequests ||
		p.Status == http.StatusRequestTimeout
}
