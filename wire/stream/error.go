package stream

import (
	"strconv"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

// NSErrors qualifies the conditions of stream errors (RFC 6120 §4.9.2).
const NSErrors = "urn:ietf:params:xml:ns:xmpp-streams"

// Condition is a defined stream error condition of RFC 6120 §4.9.3.
type Condition string

// The defined conditions.
const (
	BadFormat              Condition = "bad-format"
	BadNamespacePrefix     Condition = "bad-namespace-prefix"
	Conflict               Condition = "conflict"
	ConnectionTimeout      Condition = "connection-timeout"
	HostGone               Condition = "host-gone"
	HostUnknown            Condition = "host-unknown"
	ImproperAddressing     Condition = "improper-addressing"
	InternalServerError    Condition = "internal-server-error"
	InvalidFrom            Condition = "invalid-from"
	InvalidNamespace       Condition = "invalid-namespace"
	InvalidXML             Condition = "invalid-xml"
	NotAuthorized          Condition = "not-authorized"
	NotWellFormed          Condition = "not-well-formed"
	PolicyViolation        Condition = "policy-violation"
	RemoteConnectionFailed Condition = "remote-connection-failed"
	Reset                  Condition = "reset"
	ResourceConstraint     Condition = "resource-constraint"
	RestrictedXML          Condition = "restricted-xml"
	SeeOtherHost           Condition = "see-other-host"
	SystemShutdown         Condition = "system-shutdown"
	UndefinedCondition     Condition = "undefined-condition"
	UnsupportedEncoding    Condition = "unsupported-encoding"
	UnsupportedFeature     Condition = "unsupported-feature"
	UnsupportedStanzaType  Condition = "unsupported-stanza-type"
	UnsupportedVersion     Condition = "unsupported-version"
)

// Error is a stream error: it always ends the stream (RFC 6120 §4.9.1.1).
type Error struct {
	Condition Condition
	// Text is for people, in English; "" for none.
	Text string
	// App is an application-specific condition; nil for none.
	App *stanza.Element
}

// Fail returns a stream error.
func Fail(c Condition, text string) *Error { return &Error{Condition: c, Text: text} }

// Error implements error.
func (e *Error) Error() string {
	if e.Text == "" {
		return "stream error " + string(e.Condition)
	}
	return "stream error " + string(e.Condition) + ": " + strconv.Quote(e.Text)
}

// Element returns the stream error element.
func (e *Error) Element() stanza.Element {
	out := stanza.New(stanza.NSStream, "error").With(stanza.New(NSErrors, string(e.Condition)))
	if e.Text != "" {
		text := stanza.New(NSErrors, "text").WithText(e.Text)
		text.Attrs = append(text.Attrs, stanza.Attr{Space: stanza.NSXML, Local: "lang", Value: "en"})
		out = out.With(text)
	}
	if e.App != nil {
		out = out.With(*e.App)
	}
	return out
}
