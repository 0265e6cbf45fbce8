package api

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/posthouse-im/posthouse/token"
	"github.com/posthouse-im/posthouse/wire/content"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
)

var userScopes = []token.Scope{token.ScopeUser}

// register is the one list of what can be asked for.
func (a *API) register() error {
	a.routes = routes{}
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[content.Time](), reflect.TypeFor[time.Time]())
	registry.Schema(reflect.TypeFor[Problem](), true, "Problem")
	format := huma.Format{Marshal: encode, Unmarshal: decode}
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Posthouse", Version: a.config.Version, Description: introduction,
			License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
		},
		Servers: []*huma.Server{{URL: "/", Description: "Where the document came from."}},
		Tags:    chapters,
		Components: &huma.Components{
			Schemas: registry,
			SecuritySchemes: map[string]*huma.SecurityScheme{"bearer": {
				Type: "http", Scheme: "bearer",
				Description: "An access token of a person, or a service key, in the Authorization header.",
			}},
		},
	}
	h := huma.NewAPI(huma.Config{
		OpenAPI: doc, Formats: map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat: "application/json", RejectUnknownQueryParameters: true,
	}, &adapter{ServeMux: a.mux, api: a})
	a.talkRoutes(h)
	a.peopleRoutes(h)
	a.tokenRoutes(h)
	a.adminRoutes(h)
	describeForms(doc)
	describeKeySet(doc)
	for _, name := range []string{"ErrorModel", "ErrorDetail"} { // huma's own, in the place of which problems are told
		delete(registry.Map(), name)
	}
	var err error
	if a.document, err = published(doc); err != nil {
		return fmt.Errorf("api: write the OpenAPI document: %w", err)
	}
	if a.reference, err = reference(doc); err != nil {
		return err
	}
	a.page("GET /v1/openapi.json", "openapi", "application/json", a.document)
	a.page("GET /v1/docs", "docs", "text/html; charset=utf-8", a.reference)
	a.page("GET /v1/compact/dictionary.json", "compactDictionary", "application/json", []byte(pbstream.Dictionary()))
	a.page("GET /v1/compact/vectors.json", "compactVectors", "application/json", []byte(pbstream.Vectors()))
	return nil
}

// page serves a document that is ready. It changes only with the program, so clients keep it, and ask whether it is
// still the same.
func (a *API) page(pattern, id, mediaType string, text []byte) {
	a.routes[pattern[len("GET "):]] = []string{http.MethodGet, http.MethodHead}
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		out := w.(*responder)
		out.route = id
		h := out.Header()
		h.Set("Content-Type", mediaType)
		h.Set("Cache-Control", "no-cache")
		if id == "docs" {
			h.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+styleHash+
				"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		}
		out.body = new(bytes.Buffer) // for the ETag
		out.WriteHeader(http.StatusOK)
		_, _ = out.Write(text) // a client that has gone is nobody's problem
	})
}

// The chapters' names.
const (
	inMessages       = "Messages"
	inConversations  = "Conversations"
	inSync           = "Sync"
	inPeople         = "People"
	inDevices        = "Tokens and devices"
	inAdministration = "Administration"
)

// chapters of the reference, in order.
var chapters = []*huma.Tag{
	{Name: inMessages,
		Description: "A message that is answered for is on disk. Repeating a request with the same client_id has one " +
			"effect."},
	{Name: inConversations,
		Description: "Everything that two people, or the members of a room, say to each other, numbered 1, 2, 3, … " +
			"without holes."},
	{Name: inSync, Description: "All that changes for the caller, in order and without gaps."},
	{Name: inPeople, Description: "Contacts, profiles and who is online."},
	{Name: inDevices, Description: "How to get in, and how to sign out."},
	{Name: inAdministration,
		Description: "For administrators, and service keys with the scope admin. Every change is in the audit log " +
			"before it takes effect."},
}

const introduction = `What phones, web pages and other systems ask of a Posthouse domain. Requests and answers are JSON; errors are problems as RFC 9457 has them,
with a code for programs. Requests carry a token in the Authorization header. The same messages, numbers and read markers are seen by XMPP clients.`

func (a *API) talkRoutes(h huma.API) {
	add(a, h, route{id: "sendMessage", method: "POST", path: "/v1/messages", tag: inMessages, scopes: sayScopes,
		most:    messageBody,
		summary: "Send a message",
		about: "The answer comes when the message is durable. The same client_id with the same content repeats the " +
			"first answer; with another content it is a conflict."}, a.sendMessage)
	add(a, h, route{id: "getMessage", method: "GET", path: "/v1/messages/{id}", tag: inMessages, scopes: userScopes,
		tagged: true, summary: "Read a message"}, a.getMessage)
	add(a, h, route{id: "editMessage", method: "PUT", path: "/v1/messages/{id}", tag: inMessages, scopes: userScopes,
		most:    messageBody,
		summary: "Edit one's own message",
		about:   "The edit is a message with a number of its own (XEP-0308)."}, a.editMessage)
	add(a, h, route{id: "retractMessage", method: "DELETE", path: "/v1/messages/{id}", tag: inMessages,
		scopes: userScopes, status: http.StatusOK, summary: "Retract one's own message",
		about: "Its content is taken out of the store. The retraction is a message with a number of its own " +
			"(XEP-0424). It is refused when it comes too late."}, a.retractMessage)
	add(a, h, route{id: "listConversations", method: "GET", path: "/v1/conversations", tag: inConversations,
		scopes: userScopes, tagged: true, heavy: true, summary: "List conversations",
		about: "The one with the newest message first. Those without a message, for which something was chosen, " +
			"come last."}, a.listConversations)
	add(a, h, route{id: "getConversation", method: "GET", path: "/v1/conversations/{jid}", tag: inConversations,
		scopes: userScopes, tagged: true, summary: "Read a conversation's state",
		about: "It is there, empty, also when nothing was said yet to an account of this domain."}, a.getConversation)
	add(a, h, route{id: "getHistory", method: "GET", path: "/v1/conversations/{jid}/messages", tag: inConversations,
		scopes: userScopes, heavy: true, summary: "Read a conversation's messages",
		about: "By number or by time, in both directions."}, a.history)
	add(a, h, route{id: "getConversationSettings", method: "GET", path: "/v1/conversations/{jid}/settings",
		tag: inConversations, scopes: userScopes, tagged: true,
		summary: "Read what was chosen for a conversation"}, a.getSettings)
	add(a, h, route{id: "setConversationSettings", method: "PUT", path: "/v1/conversations/{jid}/settings",
		tag: inConversations, scopes: userScopes, status: 204, summary: "Mute or pin a conversation"}, a.setSettings)
	add(a, h, route{id: "markRead", method: "PUT", path: "/v1/conversations/{jid}/read", tag: inConversations,
		scopes: userScopes, status: 204, summary: "Mark as read",
		about: "Sets the marker to that number, unless it is further already; what is read is delivered, too. Others " +
			"are told as XEP-0333 has it. It is no message."}, a.markRead)
	add(a, h, route{id: "markDelivered", method: "PUT", path: "/v1/conversations/{jid}/delivered", tag: inConversations,
		scopes: userScopes, status: 204, summary: "Mark as delivered",
		about: "As for read. Others are told as XEP-0184 has it."}, a.markDelivered)
	add(a, h, route{id: "setTyping", method: "POST", path: "/v1/conversations/{jid}/typing", tag: inConversations,
		scopes: userScopes, status: 204, summary: "Tell that typing began or ended",
		about: "It is never stored."}, a.typing)
	add(a, h, route{id: "sync", method: "GET", path: "/v1/sync", tag: inSync, scopes: userScopes,
		summary: "Read what has changed",
		about: "Without a cursor a first sync begins, which is bounded: recent conversations with their newest " +
			"messages. Go on with the cursor of each page."}, a.sync)
}

func (a *API) peopleRoutes(h huma.API) {
	add(a, h, route{id: "getProfile", method: "GET", path: "/v1/profile", tag: inPeople, scopes: userScopes,
		tagged: true, summary: "Read one's own profile"}, a.getProfile)
	add(a, h, route{id: "setProfile", method: "PUT", path: "/v1/profile", tag: inPeople, scopes: userScopes,
		status: 204, summary: "Change one's own profile"}, a.setProfile)
	add(a, h, route{id: "getPreferences", method: "GET", path: "/v1/preferences", tag: inPeople, scopes: userScopes,
		tagged: true, summary: "Read one's own preferences"}, a.getPreferences)
	add(a, h, route{id: "setPreferences", method: "PUT", path: "/v1/preferences", tag: inPeople, scopes: userScopes,
		status: 204, summary: "Change one's own preferences"}, a.setPreferences)
	add(a, h, route{id: "getProfiles", method: "GET", path: "/v1/profiles", tag: inPeople, scopes: readScopes,
		tagged: true, summary: "Read profiles"}, a.getProfiles)
	add(a, h, route{id: "searchDirectory", method: "GET", path: "/v1/directory", tag: inPeople, scopes: readScopes,
		summary: "Search for people"}, a.searchDirectory)
	add(a, h, route{id: "getPresence", method: "GET", path: "/v1/presence", tag: inPeople, scopes: readScopes,
		heavy:   true,
		summary: "See who is online"}, a.getPresence)
	add(a, h, route{id: "getRoster", method: "GET", path: "/v1/roster", tag: inPeople, scopes: userScopes,
		tagged: true, heavy: true,
		summary: "List contacts"}, a.getRoster)
	add(a, h, route{id: "getContact", method: "GET", path: "/v1/roster/{jid}", tag: inPeople, scopes: userScopes,
		tagged: true, summary: "Read a contact"}, a.getContact)
	add(a, h, route{id: "setContact", method: "PUT", path: "/v1/roster/{jid}", tag: inPeople, scopes: userScopes,
		most:   contactBody,
		status: 204, summary: "Add or change a contact"}, a.setContact)
	add(a, h, route{id: "removeContact", method: "DELETE", path: "/v1/roster/{jid}", tag: inPeople, scopes: userScopes,
		status: 204, summary: "Remove a contact",
		about: "Subscriptions end with it. Somebody who only asks is sent away."}, a.removeContact)
	add(a, h, route{id: "acceptContact", method: "POST", path: "/v1/roster/{jid}/accept", tag: inPeople,
		scopes: userScopes, status: 204, summary: "Accept a contact's request",
		about: "They see one's presence from now on. Nothing else changes."}, a.acceptContact)
	add(a, h, route{id: "declineContact", method: "POST", path: "/v1/roster/{jid}/decline", tag: inPeople,
		scopes: userScopes, status: 204, summary: "Decline a contact's request",
		about: "Nothing else changes."}, a.declineContact)
	add(a, h, route{id: "cancelContact", method: "POST", path: "/v1/roster/{jid}/cancel", tag: inPeople,
		scopes: userScopes, status: 204, summary: "Withdraw one's own request",
		about: "Nothing else changes; the contact stays in the roster."}, a.cancelContact)
}

func (a *API) tokenRoutes(h huma.API) {
	add(a, h, route{id: "getToken", method: "POST", path: "/v1/token", tag: inDevices, login: true,
		summary: "Get tokens",
		about:   "With a password, over TLS only, or with the refresh token of the pair before."}, a.getToken)
	add(a, h, route{id: "introspectToken", method: "POST", path: "/v1/token/introspect", tag: inDevices,
		scopes: []token.Scope{token.ScopeIntrospect}, body: formType,
		summary: "Ask what a token is good for", about: "As RFC 7662 has it."}, a.introspect)
	add(a, h, route{id: "revokeToken", method: "POST", path: "/v1/token/revoke", tag: inDevices, body: formType,
		login: true, status: 204, summary: "Sign out by a token",
		about: "As RFC 7009 has it: the device that the token belongs to is signed out."}, a.revoke)
	add(a, h, route{id: "getKeySet", method: "GET", path: keySetPath, tag: inDevices,
		summary: "Read the keys that tokens are signed with", about: "As RFC 7517 has it."}, a.keys)
	add(a, h, route{id: "listDevices", method: "GET", path: "/v1/devices", tag: inDevices, scopes: userScopes,
		summary: "List one's own devices"}, a.listDevices)
	add(a, h, route{id: "removeDevices", method: "DELETE", path: "/v1/devices", tag: inDevices, scopes: userScopes,
		status: 204, summary: "Sign out all devices",
		about: "Their sessions end, and their tokens."}, a.removeDevices)
	add(a, h, route{id: "removeDevice", method: "DELETE", path: "/v1/devices/{id}", tag: inDevices, scopes: userScopes,
		status: 204, summary: "Sign out a device"}, a.removeDevice)
	add(a, h, route{id: "listSessions", method: "GET", path: "/v1/sessions", tag: inDevices, scopes: userScopes,
		summary: "List one's own connections"}, a.mySessions)
}

func (a *API) adminRoutes(h huma.API) {
	for _, r := range []struct {
		route
		add func(route)
	}{
		{route{id: "listUsers", method: "GET", path: "/v1/admin/users", summary: "List accounts"},
			func(r route) { add(a, h, r, a.listUsers) }},
		{route{id: "createUser", method: "POST", path: "/v1/admin/users", status: 201, summary: "Make an account"},
			func(r route) { add(a, h, r, a.createUser) }},
		{route{id: "getUser", method: "GET", path: "/v1/admin/users/{name}", tagged: true, summary: "Read an account"},
			func(r route) { add(a, h, r, a.getUser) }},
		{route{id: "setUser", method: "PUT", path: "/v1/admin/users/{name}", status: 204,
			summary: "Disable or enable an account"}, func(r route) { add(a, h, r, a.setUser) }},
		{route{id: "deleteUser", method: "DELETE", path: "/v1/admin/users/{name}", status: 204,
			summary: "Delete an account",
			about:   "Its name stays taken for a year."}, func(r route) { add(a, h, r, a.deleteUser) }},
		{route{id: "setPassword", method: "PUT", path: "/v1/admin/users/{name}/password", status: 204,
			summary: "Set a password",
			about:   "Sessions and tokens of the account end."}, func(r route) { add(a, h, r, a.setPassword) }},
		{route{id: "userSessions", method: "GET", path: "/v1/admin/users/{name}/sessions",
			summary: "List an account's connections"}, func(r route) { add(a, h, r, a.userSessions) }},
		{route{id: "kickUser", method: "DELETE", path: "/v1/admin/users/{name}/sessions", status: 204,
			summary: "End an account's connections"}, func(r route) { add(a, h, r, a.kickUser) }},
		{route{id: "adminModerate", method: "DELETE", path: "/v1/admin/messages/{id}", status: 204,
			summary: "Moderate anybody's message"}, func(r route) { add(a, h, r, a.adminModerate) }},
		{route{id: "listKeys", method: "GET", path: "/v1/admin/keys", summary: "List service keys"},
			func(r route) { add(a, h, r, a.listKeys) }},
		{route{id: "createKey", method: "POST", path: "/v1/admin/keys", status: 201, summary: "Make a service key"},
			func(r route) { add(a, h, r, a.createKey) }},
		{route{id: "getKey", method: "GET", path: "/v1/admin/keys/{id}", tagged: true, summary: "Read a service key"},
			func(r route) { add(a, h, r, a.getKey) }},
		{route{id: "revokeKey", method: "DELETE", path: "/v1/admin/keys/{id}", status: 204,
			summary: "Revoke a service key"}, func(r route) { add(a, h, r, a.revokeKey) }},
		{route{id: "auditLog", method: "GET", path: "/v1/admin/audit", summary: "Read the audit log"},
			func(r route) { add(a, h, r, a.auditLog) }},
		{route{id: "status", method: "GET", path: "/v1/admin/status", summary: "See the state of the node"},
			func(r route) { add(a, h, r, a.status) }},
	} {
		r.tag, r.scopes = inAdministration, adminScopes
		r.add(r.route)
	}
}

// formType is that of RFC 7662 and RFC 7009.
const formType = "application/x-www-form-urlencoded"

// describeForms says what is in bodies that are read as bytes.
func describeForms(doc *huma.OpenAPI) {
	for _, path := range []string{"/v1/token/introspect", "/v1/token/revoke"} {
		doc.Paths[path].Post.RequestBody.Content[formType] = &huma.MediaType{Schema: &huma.Schema{
			Type: huma.TypeObject, Required: []string{"token"}, Properties: map[string]*huma.Schema{
				"token": {Type: huma.TypeString}, "token_type_hint": {Type: huma.TypeString},
			},
		}}
	}
}
