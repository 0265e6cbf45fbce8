package api

import (
	"bytes"
	"hash/maphash"
	"net/http"
	"slices"
	"strconv"

	"github.com/posthouse-im/posthouse/token"
)

// changeAlone waits until no other request changes what this one does, so that the state that If-Match names is still
// that when it is changed. What has no tag need not wait.
func (a *API) changeAlone(r *http.Request, rt *route, q *request) (done func()) {
	if a.states[rt.path] == nil {
		return func() {}
	}
	whose := r.URL.Path
	if slices.Contains(rt.scopes, token.ScopeUser) {
		whose += " " + strconv.FormatUint(uint64(q.Account), 16)
	}
	mu := &a.changing[maphash.String(a.seed, whose)%uint64(len(a.changing))]
	mu.Lock()
	return mu.Unlock
}

// checkState refuses a change that was made for another state than the current one (RFC 9110 §13.1.1). What cannot be
// read, or not by this caller, has none.
func (a *API) checkState(r *http.Request, rt *route, q *request) *Problem {
	tags, given := r.Header["If-Match"]
	if !given {
		return nil
	}
	read := a.states[rt.path]
	if read == nil {
		return problem(CodePrecondition, "It has no state that could be named.")
	}
	get := r.Clone(r.Context())
	get.Method, get.Body, get.ContentLength, get.URL.RawQuery = http.MethodGet, http.NoBody, 0, ""
	now := &responder{ResponseWriter: nowhere{}, id: q.w.id, body: new(bytes.Buffer)}
	read(get, q, now)
	switch {
	case now.status >= http.StatusInternalServerError:
		return problem(CodeInternal, "")
	case now.status != http.StatusOK || !matches(tags, tagOf(now.body.Bytes()), false):
		return problem(CodePrecondition, "")
	}
	return nil
}

// nowhere is where an answer goes that is made for its tag only.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}
