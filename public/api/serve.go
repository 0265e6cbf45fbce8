package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strings"
)

// Owns reports whether a request is the API's to answer, for whoever shares the listener with it.
func Owns(r *http.Request) bool {
	p := r.URL.Path
	return p == "/v1" || strings.HasPrefix(p, "/v1/") || p == keySetPath
}

// keySetPath is where the keys are published that access tokens are signed with (RFC 8615).
const keySetPath = "/.well-known/jwks.json"

type requestKey struct{}

// requestID returns the identity of the request that the context belongs to.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// Refuse answers a request that came no further than to whoever shares the listener: 400 when it cannot be told who
// sent it, 429 when its sender has too many.
func (a *API) Refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	p := problem(CodeBadRequest, text)
	if status == http.StatusTooManyRequests {
		p = problem(CodeRateLimited, "")
		p.Retry = 1
	}
	a.answer(w, r, func(out *responder, r *http.Request) {
		_ = a.crossOrigin(out, r) // for the headers that let a page read the answer
		a.refuse(out, p)
	})
}

// ServeHTTP answers a request. Whatever happens, the answer is one of the API's own: an answer of a route or a problem.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.answer(w, r, a.serve) }

func (a *API) answer(w http.ResponseWriter, r *http.Request, serve func(*responder, *http.Request)) {
	out := &responder{ResponseWriter: w, id: rand.Text()}
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, out.id))
	h := w.Header()
	h.Set("X-Request-Id", out.id)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	defer func() {
		if v := recover(); v != nil {
			a.log.Error("a handler of the API panicked", "request", out.id, "route", out.route, "panic",
				fmt.Sprintf("%.200v", v), "stack", string(debug.Stack()))
			if out.status == 0 {
				out.body = nil
				a.refuse(out, problem(CodeInternal, ""))
			}
		}
		out.endTurn()
		a.metrics.count(out)
	}()
	serve(out, r)
	out.finish(r)
}

func (a *API) serve(w *responder, r *http.Request) {
	refused := a.crossOrigin(w, r)
	if p := a.limitAddress(a.config.Client(r)); p != nil { // whatever else is asked, and however wrong it is
		refused = p
	}
	if refused != nil {
		a.refuse(w, refused)
		return
	}
	if !canonical(r) {
		a.refuse(w, notFound)
		return
	}
	if allowed := a.routes.methods(r.URL.Path); len(allowed) == 0 {
		a.refuse(w, notFound)
		return
	} else if r.Method == http.MethodOptions {
		w.Header().Set("Allow", strings.Join(append(allowed, http.MethodOptions), ", "))
		w.WriteHeader(http.StatusNoContent)
		return
	} else if !slices.Contains(allowed, r.Method) {
		w.Header().Set("Allow", strings.Join(append(allowed, http.MethodOptions), ", "))
		a.refuse(w, problem(CodeMethod, ""))
		return
	}
	a.mux.ServeHTTP(w, r)
}

// canonical reports whether the path is written in the one way that the routes know: no empty or dotted segments, no
// slash, zero byte or the like behind an escape.
func canonical(r *http.Request) bool {
	p := r.URL.Path
	if p != path.Clean(p) || strings.ContainsAny(p, "\\\x00") {
		return false
	}
	raw := strings.ToLower(r.URL.EscapedPath())
	for _, hidden := range []string{"%2f", "%5c", "%00", "%2e"} {
		if strings.Contains(raw, hidden) {
			return false
		}
	}
	return true
}

// originSetting is where an operator allows origins.
const originSetting = "listen.http.origins"

// crossOrigin lets web pages of the allowed origins use the API (Fetch Standard, CORS protocol). Requests that no page
// made have no origin.
func (a *API) crossOrigin(w http.ResponseWriter, r *http.Request) *Problem {
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	if !a.config.Origin(r.Header) {
		if a.originLog.Take(struct{}{}, 1) <= 0 {
			a.log.Info("a web page was refused; the setting allows origins", "origin", fmt.Sprintf("%.200s", origin),
				"setting", originSetting)
		}
		return problem(CodeOrigin, "Web pages of this origin may not use the API. The setting "+originSetting+
			" of the server allows origins.")
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "ETag, Location, Retry-After, WWW-Authenticate, X-Request-Id")
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match, If-None-Match")
		h.Set("Access-Control-Max-Age", "600")
	}
	return nil
}

// refuse answers with a problem.
func (a *API) refuse(w *responder, p *Problem) {
	h := w.Header()
	for name, values := range p.GetHeaders() {
		h[name] = values
	}
	h.Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	if err := encode(w, p); err != nil {
		a.log.Debug("a problem could not be told", "request", w.id, "error", err)
	}
}

// responder is the answer to one request. It belongs to the request's goroutine.
type responder struct {
	http.ResponseWriter
	id     string
	route  string // the operation's id, "" until one was found
	status int
	// body gathers an answer that gets an ETag; nil passes everything on.
	body *bytes.Buffer
	// leave ends the turn that the request has taken; nil when it has none.
	leave func()
}

// endTurn lets the account's next large answer begin.
func (w *responder) endTurn() {
	if w.leave != nil {
		w.leave()
		w.leave = nil
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (w *responder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader notes the status. huma's 422 is 400 here: a body that is JSON of a wrong form is a bad request like any
// other.
func (w *responder) WriteHeader(status int) {
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	w.status = status
	if w.body == nil {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *responder) Write(p []byte) (int, error) {
	if w.body != nil {
		return w.body.Write(p)
	}
	return w.ResponseWriter.Write(p)
}

// finish sends what was gathered, or 304 when the client has it already (RFC 9110 §13.1.2).
func (w *responder) finish(r *http.Request) {
	if w.body == nil {
		return
	}
	body := w.body.Bytes()
	if w.status == http.StatusOK {
		tag := tagOf(body)
		h := w.Header()
		h.Set("ETag", tag)
		if h.Get("Cache-Control") == "no-store" { // it may be kept, by who has asked, as long as they ask again
			h.Set("Cache-Control", "private, no-cache")
			h.Add("Vary", "Authorization")
		}
		if matches(r.Header["If-None-Match"], tag, true) {
			w.Header().Del("Content-Type")
			w.status = http.StatusNotModified
			w.ResponseWriter.WriteHeader(w.status)
			return
		}
	}
	if w.status != 0 {
		w.ResponseWriter.WriteHeader(w.status)
	}
	_, _ = w.ResponseWriter.Write(body) // a client that has gone is nobody's problem
}

// tagOf is the entity tag of an answer.
func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}

// matches reports whether a list has the tag (RFC 9110 §8.8.3.2). The weak comparison also takes tags that say of
// themselves that they are weak.
func matches(lines []string, tag string, weak bool) bool {
	for _, line := range lines {
		for one := range strings.SplitSeq(line, ",") {
			one = strings.TrimSpace(one)
			if weak {
				one = strings.TrimPrefix(one, "W/")
			}
			if one == tag || one == "*" {
				return true
			}
		}
	}
	return false
}
