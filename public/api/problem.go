package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/posthouse-im/posthouse/inbox"
	"github.com/posthouse-im/posthouse/public/uplink"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/stanza"
	calls "github.com/posthouse-im/posthouse/wire/uplink"
)

// Problem is how every error is told (RFC 9457).
type Problem struct {
	// Type is urn:posthouse:problem: with Code behind it.
	Type   string `json:"type" doc:"A URI that names the kind of problem: urn:posthouse:problem: and the code."`
	Title  string `json:"title" doc:"What the status means, for people."`
	Status int    `json:"status" doc:"The HTTP status."`
	Code   Code   `json:"code" doc:"Which problem it is, for programs. It never changes."`
	Detail string `json:"detail,omitempty" doc:"What went wrong this time, for people."`
	// Fields are those of the request that are wrong.
	Fields    []Field `json:"fields,omitempty" doc:"What is wrong with which field."`
	RequestID string  `json:"request_id" doc:"Names the request in the server's log; also in the header X-Request-Id."`
	// Retry is how many seconds to wait, for the header; 0 for none.
	Retry int `json:"-"`
	// Scope is what the token would need one of, for the header; "" when it is not about that.
	Scope string `json:"-"`
}

// Field is a field of a request that is wrong.
type Field struct {
	Location string `json:"location" doc:"Where it stands, such as body.content.text."`
	Message  string `json:"message" doc:"What is wrong with it, for people."`
}

// Code names a problem for programs. The set is closed.
type Code string

// The codes, with what they mean.
const (
	CodeBadRequest     Code = "bad_request"
	CodeInvalidJSON    Code = "invalid_json"
	CodeInvalidField   Code = "invalid_field"
	CodeInvalidCursor  Code = "invalid_cursor"
	CodeMediaType      Code = "unsupported_media_type"
	CodeTooLarge       Code = "too_large"
	CodeTimeout        Code = "request_timeout"
	CodeTokenMissing   Code = "token_missing"
	CodeTokenInvalid   Code = "token_invalid"
	CodeTokenExpired   Code = "token_expired"
	CodeTokenRevoked   Code = "token_revoked"
	CodeLoginFailed    Code = "login_failed"
	CodeScope          Code = "insufficient_scope"
	CodeForbidden      Code = "forbidden"
	CodeOrigin         Code = "origin_not_allowed"
	CodeNotFound       Code = "not_found"
	CodeNoAddress      Code = "no_such_address"
	CodeMethod         Code = "method_not_allowed"
	CodeNotAcceptable  Code = "not_acceptable"
	CodeConflict       Code = "conflict"
	CodePrecondition   Code = "precondition_failed"
	CodeStartOver      Code = "start_over"
	CodeRateLimited    Code = "rate_limited"
	CodeInsecure       Code = "tls_required"
	CodeBusy           Code = "busy"
	CodeUnknownOutcome Code = "unknown_outcome"
	CodeInternal       Code = "internal"
)

// meanings is the one table of codes, which the reference page shows too.
var meanings = []struct {
	code   Code
	status int
	text   string
}{
	{CodeBadRequest, 400, "The request cannot be understood."},
	{CodeInvalidJSON, 400,
		"The body is not JSON as RFC 8259 has it: it is malformed, too deep, has a name twice, or goes on after " +
			"its end."},
	{CodeInvalidField, 400,
		"A parameter or a field of the body is missing, unknown, of the wrong type or beyond its bounds; fields " +
			"says which."},
	{CodeInvalidCursor, 400, "The cursor is not one that this account was given."},
	{CodeTokenMissing, 401, "The request needs a token in the Authorization header."},
	{CodeTokenInvalid, 401, "The token is none of this server."},
	{CodeTokenExpired, 401, "The token has expired: get a new one with the refresh token."},
	{CodeTokenRevoked, 401, "The device was signed out, the account disabled, or the key revoked."},
	{CodeLoginFailed, 401, "The name or the password is wrong, or the refresh token is not good any more."},
	{CodeInsecure, 403, "Passwords are taken over TLS only."},
	{CodeScope, 403, "The token may not do this."},
	{CodeForbidden, 403, "The server's rules do not allow it, such as a retraction that comes too late."},
	{CodeOrigin, 403, "Web pages of that origin may not use the API."},
	{CodeNotFound, 404, "There is no such thing, or it is not for you to see."},
	{CodeNoAddress, 404, "Nobody can be reached at that address."},
	{CodeMethod, 405, "The path does not know the method; Allow says which it knows."},
	{CodeNotAcceptable, 406, "Answers are JSON."},
	{CodeTimeout, 408, "The body did not come in time."},
	{CodeConflict, 409, "It contradicts what is there: another message has that client_id, or the name is taken."},
	{CodeStartOver, 410, "What the cursor points at is gone: throw away what you hold, and sync without a cursor."},
	{CodePrecondition, 412, "It is not in the state that If-Match names: read it again."},
	{CodeTooLarge, 413, "The body is larger than the operation takes: 8 KiB, unless it says otherwise."},
	{CodeMediaType, 415, "The body is not of the type that the operation takes, or is compressed."},
	{CodeRateLimited, 429, "Too many requests: wait as long as Retry-After says."},
	{CodeInternal, 500, "The server failed. Its log has more under the request id."},
	{CodeBusy, 503, "The server has too much to do: try again after Retry-After."},
	{CodeUnknownOutcome, 504, "It is not known what became of the request: repeat it with the same client_id."},
}

// problem returns a problem of the kind, with a text for people; "" takes that of the kind.
func problem(code Code, detail string) *Problem {
	for _, m := range meanings {
		if m.code == code {
			if detail == "" {
				detail = m.text
			}
			return &Problem{Type: "urn:posthouse:problem:" + string(code), Title: http.StatusText(m.status),
				Status: m.status, Code: code, Detail: detail}
		}
	}
	return problem(CodeInternal, "")
}

// wrongField is the problem of one field.
func wrongField(location, message string) *Problem {
	p := problem(CodeInvalidField, "")
	p.Fields = []Field{{location, message}}
	return p
}

var notFound = problem(CodeNotFound, "")

// Error returns the detail.
func (p *Problem) Error() string { return string(p.Code) + ": " + p.Detail }

// GetStatus makes it an error that huma answers with.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457 §3.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders are sent with it.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.Retry > 0 {
		h.Set("Retry-After", strconv.Itoa(p.Retry))
	}
	switch p.Code { // RFC 6750 §3
	case CodeTokenMissing, CodeLoginFailed:
		h.Set("WWW-Authenticate", "Bearer")
	case CodeTokenInvalid, CodeTokenExpired, CodeTokenRevoked:
		h.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	case CodeScope:
		challenge := `Bearer error="insufficient_scope"`
		if p.Scope != "" {
			challenge += `, scope="` + p.Scope + `"`
		}
		h.Set("WWW-Authenticate", challenge)
	}
	return h
}

// encode writes any answer. Problems get the request's id on the way, and those that huma makes become ours.
func encode(w io.Writer, v any) error {
	if e, ok := v.(*huma.ErrorModel); ok {
		v = fromHuma(e)
	}
	if p, ok := v.(*Problem); ok {
		c := *p
		if r, ok := w.(*responder); ok {
			c.RequestID = r.id
		}
		v = &c
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, _ = w.Write(text.Bytes()) // a client that has gone is nobody's problem, and huma would make it one
	return nil
}

// fromHuma turns what huma found into a problem of ours: its statuses are those of responder.WriteHeader.
func fromHuma(e *huma.ErrorModel) *Problem {
	code := CodeInternal
	switch e.Status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		code = CodeInvalidField
	case http.StatusRequestEntityTooLarge:
		code = CodeTooLarge
	case http.StatusUnsupportedMediaType:
		code = CodeMediaType
	case http.StatusNotAcceptable:
		code = CodeNotAcceptable
	case http.StatusRequestTimeout:
		code = CodeTimeout
	}
	p := problem(code, "")
	if code == CodeInvalidField {
		for _, d := range e.Errors {
			p.Fields = append(p.Fields, Field{d.Location, d.Message}) // not the value: it is whatever somebody sent
		}
	}
	return p
}

// problemOf is the one table that turns errors into problems.
func (a *API) problemOf(ctx context.Context, err error) *Problem {
	var p *Problem
	var refusal *stanza.Error
	var field *content.Error
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &refusal):
		return fromRefusal(refusal)
	case errors.As(err, &field):
		return wrongField("body.content."+field.Field, field.Reason)
	case errors.Is(err, token.ErrExpired):
		return problem(CodeTokenExpired, "")
	case errors.Is(err, token.ErrRevoked), errors.Is(err, calls.ErrRevoked):
		return problem(CodeTokenRevoked, "")
	case errors.Is(err, token.ErrInvalid):
		return problem(CodeTokenInvalid, "")
	case errors.Is(err, inbox.ErrCursor):
		return problem(CodeInvalidCursor, "")
	case errors.Is(err, inbox.ErrStartOver):
		return problem(CodeStartOver, "")
	case errors.Is(err, store.ErrNotFound):
		return notFound
	case errors.Is(err, uplink.ErrBusy):
		return busy()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return problem(CodeUnknownOutcome, "")
	}
	a.log.ErrorContext(ctx, "a request failed", "request", requestID(ctx), "error", err)
	return problem(CodeInternal, "")
}

func busy() *Problem {
	p := problem(CodeBusy, "")
	p.Retry = 1
	return p
}

// fromRefusal says in HTTP what the domain has refused in the words of RFC 6120 §8.3.3.
func fromRefusal(e *stanza.Error) *Problem {
	switch e.Condition {
	case stanza.BadRequest, stanza.JIDMalformed, stanza.NotAcceptable, stanza.FeatureNotImplemented:
		return problem(CodeBadRequest, e.Text)
	case stanza.Conflict:
		return problem(CodeConflict, e.Text)
	case stanza.Forbidden, stanza.NotAllowed, stanza.PolicyViolation, stanza.NotAuthorized, stanza.SubscriptionRequired:
		return problem(CodeForbidden, e.Text)
	case stanza.ItemNotFound:
		return problem(CodeNotFound, e.Text)
	case stanza.ServiceUnavailable, stanza.RecipientUnavailable, stanza.RemoteServerNotFound, stanza.Gone:
		return problem(CodeNoAddress, e.Text)
	case stanza.ResourceConstraint:
		if e.Type != stanza.Wait && e.Type != "" {
			return problem(CodeForbidden, e.Text)
		}
		return busy()
	case stanza.RemoteServerTimeout:
		return problem(CodeUnknownOutcome, e.Text)
	}
	p := problem(CodeInternal, "")
	if e.Type == stanza.Wait {
		p = busy()
	}
	return p
}
