package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/posthouse-im/posthouse/limit"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/uplink"
)

// route is one line of the table of what can be asked for.
type route struct {
	id, method, path string
	// tag is the chapter of the reference, summary and about say what it does.
	tag, summary, about string
	// scopes: one of them is needed; none: anybody may.
	scopes []token.Scope
	// body is the type of the request's body, "" for application/json.
	body string
	// most is how large the body of a request may be, in bytes; 0 means usualBody.
	most int64
	// tagged answers get an ETag.
	tagged bool
	// login counts against the limit for logins.
	login bool
	// heavy: the answer may be large, so that it waits for one of the account's turns.
	heavy bool
	// status of success; 0 means 200, or 204 when there is no body.
	status int
}

// request is what is known of a request beside its parameters.
type request struct {
	*token.Principal // nil when anybody may ask
	bearer           string
	client           netip.AddrPort
	secure           bool
	w                *responder
}

type requestFromKey struct{}

// requestFrom returns what is known of the request that ctx belongs to.
func requestFrom(ctx context.Context) *request { return ctx.Value(requestFromKey{}).(*request) }

// caller is the principal in the domain: the account itself, or the domain for a service key.
func (a *API) caller(ctx context.Context, admin bool) uplink.Caller {
	q := requestFrom(ctx)
	if q.Key != "" {
		return uplink.Caller{Bare: a.config.Domain, Device: "key/" + q.Key, Admin: admin, Actor: "key:" + q.KeyName}
	}
	return uplink.Caller{Account: uint64(q.Account), Bare: q.JID, Device: q.Device, Basis: int64(q.Basis), Admin: admin}
}

// routes are the patterns of the mux, to tell a wrong method from a wrong path.
type routes map[string][]string // methods, by path pattern

// methods returns those that the path knows, sorted.
func (r routes) methods(path string) (found []string) {
	for pattern, methods := range r {
		if fits(pattern, path) {
			found = append(found, methods...)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// fits reports whether a path is one of a pattern, in which {name} stands for one segment that is not empty.
func fits(pattern, path string) bool {
	for {
		p, morePattern, okPattern := strings.Cut(pattern, "/")
		s, morePath, okPath := strings.Cut(path, "/")
		if p != s && (!strings.HasPrefix(p, "{") || s == "") || okPattern != okPath {
			return false
		}
		if !okPattern {
			return true
		}
		pattern, path = morePattern, morePath
	}
}

// adapter puts the checks that come before a request is read between the mux and huma.
type adapter struct {
	*http.ServeMux
	api *API
	at  route // the route that is being registered
}

// Handle registers an operation. It implements huma.Adapter.
func (d *adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	rt := d.at
	a := d.api
	hasBody := op.RequestBody != nil
	lists := map[string]bool{}
	for _, p := range op.Parameters {
		lists[p.Name] = p.Schema != nil && p.Schema.Type == huma.TypeArray
	}
	a.routes[op.Path] = append(a.routes[op.Path], op.Method)
	handle := func(r *http.Request, q *request, w *responder) {
		handler(humago.NewContext(op, r.WithContext(context.WithValue(r.Context(), requestFromKey{}, q)), w))
	}
	if op.Method == http.MethodGet {
		a.routes[op.Path] = append(a.routes[op.Path], http.MethodHead)
		if rt.tagged {
			a.states[op.Path] = handle
		}
	}
	d.HandleFunc(op.Method+" "+op.Path, func(w http.ResponseWriter, r *http.Request) {
		out := w.(*responder)
		out.route = rt.id
		q := &request{client: a.config.Client(r), secure: a.config.Secure(r), w: out}
		if p := a.admit(r, &rt, q); p != nil {
			a.refuse(out, p)
			return
		}
		if p := checkQuery(r, lists); p != nil {
			a.refuse(out, p)
			return
		}
		if hasBody {
			if p := readBody(out, r, &rt, a.config.BodyTime); p != nil {
				a.refuse(out, p)
				return
			}
		} else if r.ContentLength != 0 {
			a.refuse(out, problem(CodeBadRequest, "The operation takes no body."))
			return
		}
		if rt.heavy {
			if p := a.takeTurn(r.Context(), q); p != nil {
				a.refuse(out, p)
				return
			}
		}
		if rt.tagged {
			out.body = new(bytes.Buffer)
		}
		if r.Method == http.MethodPut || r.Method == http.MethodDelete {
			defer a.changeAlone(r, &rt, q)()
			if p := a.checkState(r, &rt, q); p != nil {
				a.refuse(out, p)
				return
			}
		}
		handle(r, q, out)
	})
}

// checkQuery refuses a query that cannot be read, and parameters that come twice and are no lists: who reads them
// elsewhere might take another one.
func checkQuery(r *http.Request, lists map[string]bool) *Problem {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return problem(CodeBadRequest, "The query cannot be read.")
	}
	for name, all := range values {
		if len(all) > 1 && !lists[name] {
			return wrongField("query."+name, "it stands there more than once")
		}
		for _, v := range all {
			if !stanza.ValidText(v) {
				return wrongField("query."+name, "it has characters that XML cannot carry")
			}
		}
	}
	return nil
}

func (rt *route) mediaType() string {
	if rt.body != "" {
		return rt.body
	}
	return "application/json"
}

func (rt *route) mostBody() int64 { return cmp.Or(rt.most, usualBody) }

// admit checks who asks, and how often they have.
func (a *API) admit(r *http.Request, rt *route, q *request) *Problem {
	if rt.login {
		if p := limited(a.byLogin.Take(limit.AddressOf(q.client.Addr()), 1)); p != nil {
			return p
		}
	}
	if len(rt.scopes) == 0 {
		return nil
	}
	lines := r.Header["Authorization"]
	if len(lines) == 0 {
		return problem(CodeTokenMissing, "")
	}
	scheme, bearer, ok := strings.Cut(lines[0], " ")
	bearer = strings.TrimLeft(bearer, " ")
	if !ok || len(lines) > 1 || !strings.EqualFold(scheme, "Bearer") || bearer == "" {
		return problem(CodeTokenInvalid, "The Authorization header has to be Bearer and a token.")
	}
	p, err := a.config.Tokens.Check(r.Context(), bearer)
	if err != nil {
		return a.problemOf(r.Context(), err)
	}
	if a.config.Authenticated != nil {
		a.config.Authenticated(r)
	}
	if p := limited(a.byToken.Take(caller{p.Key, p.Account, p.Device}, 1)); p != nil {
		return p
	}
	if !slices.ContainsFunc(rt.scopes, p.May) {
		refused := problem(CodeScope, "")
		for _, s := range rt.scopes {
			refused.Scope = strings.TrimSpace(refused.Scope + " " + string(s))
		}
		return refused
	}
	q.Principal, q.bearer = p, bearer
	return nil
}

// add registers a route with its handler, which knows nothing of huma. What it returns as an error becomes a problem in
// one place.
func add[I, O any](a *API, h huma.API, rt route, handle func(ctx context.Context, in *I) (*O, error)) {
	h.Adapter().(*adapter).at = rt
	op := huma.Operation{
		OperationID: rt.id, Method: rt.method, Path: rt.path, Tags: []string{rt.tag}, Summary: rt.summary,
		Description:   rt.about,
		DefaultStatus: rt.status, MaxBodyBytes: rt.mostBody() + 1,
		Responses: map[string]*huma.Response{"default": {
			Description: "A problem (RFC 9457).",
			Content: map[string]*huma.MediaType{
				"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}},
		}},
	}
	if len(rt.scopes) > 0 {
		var names []string
		for _, s := range rt.scopes {
			names = append(names, "`"+string(s)+"`")
		}
		op.Security = []map[string][]string{{"bearer": {}}}
		op.Description = strings.TrimSpace(op.Description + "\n\nNeeds a token with the scope " +
			strings.Join(names, " or ") + ".")
	}
	if rt.most != 0 {
		op.Description = strings.TrimSpace(op.Description +
			fmt.Sprintf("\n\nThe body has at most %d KiB.", rt.most>>10))
	}
	huma.Register(h, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, a.problemOf(ctx, err)
		}
		return out, nil
	})
}

// made says where something new is (RFC 9110 §15.3.2).
type made struct {
	Location string `header:"Location" doc:"Where it is."`
}

// none is for requests without parameters and answers without a body.
type none struct{}

// body is an answer with a body.
type body[T any] struct{ Body T }

func answer[T any](v T) (*body[T], error) { return &body[T]{v}, nil }

// decode is what huma reads bodies with; checkJSON has looked at them.
func decode(data []byte, v any) error { return json.Unmarshal(data, v) }

// bare reads a bare address from a request.
func bare(location, text string) (jid.JID, error) {
	j, err := jid.Parse(text)
	if err != nil || j.IsFull() || j.IsZero() {
		return jid.JID{}, wrongField(location, "it is not a bare address, such as romeo@example.org")
	}
	return j, nil
}

// party finds the account behind an address, when it is one of this domain.
func (a *API) party(ctx context.Context, j jid.JID) (store.Party, error) {
	p := store.Party{JID: j}
	if j.Domain() == a.config.Domain.Domain() && j.Local() != "" {
		account, ok, err := a.config.Accounts.Lookup(ctx, j.Local())
		if err != nil {
			return p, fmt.Errorf("look an account up: %w", err)
		}
		if ok {
			p.Account = account
		}
	}
	return p, nil
}
