package stanza

import (
	"strconv"
	"strings"
)

// Condition is a defined condition of RFC 6120 §8.3.3. It is the closed set of ways in which a stanza is refused.
type Condition string

// The defined conditions.
const (
	BadRequest            Condition = "bad-request"
	Conflict              Condition = "conflict"
	FeatureNotImplemented Condition = "feature-not-implemented"
	Forbidden             Condition = "forbidden"
	Gone                  Condition = "gone"
	InternalServerError   Condition = "internal-server-error"
	ItemNotFound          Condition = "item-not-found"
	JIDMalformed          Condition = "jid-malformed"
	NotAcceptable         Condition = "not-acceptable"
	NotAllowed            Condition = "not-allowed"
	NotAuthorized         Condition = "not-authorized"
	PolicyViolation       Condition = "policy-violation"
	RecipientUnavailable  Condition = "recipient-unavailable"
	Redirect              Condition = "redirect"
	RegistrationRequired  Condition = "registration-required"
	RemoteServerNotFound  Condition = "remote-server-not-found"
	RemoteServerTimeout   Condition = "remote-server-timeout"
	ResourceConstraint    Condition = "resource-constraint"
	ServiceUnavailable    Condition = "service-unavailable"
	SubscriptionRequired  Condition = "subscription-required"
	UndefinedCondition    Condition = "undefined-condition"
	UnexpectedRequest     Condition = "unexpected-request"
)

// Error types of RFC 6120 §8.3.2.
const (
	Auth     = "auth"
	Cancel   = "cancel"
	Continue = "continue"
	Modify   = "modify"
	Wait     = "wait"
)

// kindOf is the type that RFC 6120 §8.3.3 associates with each condition.
func kindOf(c Condition) string {
	switch c {
	case BadRequest, JIDMalformed, NotAcceptable, PolicyViolation, Redirect:
		return Modify
	case Forbidden, NotAuthorized, RegistrationRequired, SubscriptionRequired:
		return Auth
	case RecipientUnavailable, RemoteServerTimeout, ResourceConstraint, UnexpectedRequest:
		return Wait
	}
	return Cancel
}

// Error is a stanza error: a refusal that leaves the session alive.
type Error struct {
	// Type is one of auth, cancel, continue, modify, wait; "" means the one usual for the condition.
	Type      string
	Condition Condition
	// Text is for people, in English; "" for none. It never repeats what another user wrote.
	Text string
	// App is an application-specific condition (RFC 6120 §8.3.4); nil for none.
	App *Element
}

// Refuse returns an error of the given condition with its usual type.
func Refuse(c Condition, text string) *Error { return &Error{Condition: c, Text: text} }

// Error implements error.
func (e *Error) Error() string {
	if e.Text == "" {
		return string(e.Condition)
	}
	return string(e.Condition) + ": " + strconv.Quote(e.Text)
}

// Element returns the error element, with its defined condition first (RFC 6120 §8.3.2).
func (e *Error) Element() Element {
	kind := e.Type
	if kind == "" {
		kind = kindOf(e.Condition)
	}
	out := New(NSClient, "error", "type", kind).With(New(NSStanzas, string(e.Condition)))
	if e.Text != "" {
		text := New(NSStanzas, "text").WithText(e.Text)
		text.Attrs = append(text.Attrs, Attr{Space: NSXML, Local: "lang", Value: "en"})
		out = out.With(text)
	}
	if e.App != nil {
		out = out.With(*e.App)
	}
	return out
}

// Reply returns the IQ result that answers s, with the given payload. It does not keep the rest of s alive, however
// long it waits.
func (s *Stanza) Reply(payload ...Element) *Stanza {
	return &Stanza{Kind: IQ, Type: TypeResult, ID: strings.Clone(s.ID), From: s.To.Clone(), To: s.From.Clone(),
		Payload: payload}
}

// ErrorReply returns the stanza that tells s's sender of its refusal, or nil when s must not be answered: an error is
// never answered with an error (RFC 6120 §8.3.1), nor is an IQ result. It does not keep the rest of s alive.
func (s *Stanza) ErrorReply(e *Error) *Stanza {
	if s.Type == TypeError || s.Kind == IQ && s.Type == TypeResult {
		return nil
	}
	return &Stanza{Kind: s.Kind, Type: TypeError, ID: strings.Clone(s.ID), From: s.To.Clone(), To: s.From.Clone(),
		Payload: []Element{e.Element()}}
}

// Refusal reads the error that a stanza of type error carries (RFC 6120 §8.3.2); undefined-condition when it carries
// none.
func (s *Stanza) Refusal() *Error {
	out := &Error{Condition: UndefinedCondition}
	e := s.Child(NSClient, "error")
	if e == nil {
		return out
	}
	out.Type = e.Attr("type")
	for child := range e.Elements {
		switch {
		case child.Space != NSStanzas:
			out.App = child
		case child.Local == "text":
			out.Text = child.Text()
		default:
			out.Condition = Condition(child.Local)
		}
	}
	return out
}
