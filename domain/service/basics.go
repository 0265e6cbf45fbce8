package service

import (
	"context"
	"time"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

const (
	nsPing    = "urn:xmpp:ping"
	nsVersion = "jabber:iq:version"
	nsTime    = "urn:xmpp:time"

	// softwareName is what this software calls itself.
	softwareName = "Posthouse"
)

// Basics returns the handlers that tell of this software: ping, version and time.
func (h *Hub) Basics() []Handler {
	version := h.config.Version
	if h.config.HideVersion {
		version = ""
	}
	return []Handler{Ping(AtDomain | AtAccount), Version(AtDomain, version), Time(AtDomain, h.config.Now)}
}

// Ping answers pings (XEP-0199 §4.1, §4.2): where an account is addressed, those of the account itself, on its behalf.
func Ping(where At) Handler {
	return Handler{
		At: where, Type: stanza.TypeGet, Space: nsPing, Local: "ping", From: Self,
		Handle: func(context.Context, *Request) ([]stanza.Element, *stanza.Error) { return nil, nil },
	}
}

// Version says what software this is (XEP-0092). The operating system is nobody's business (§5). version "" says none.
func Version(where At, version string) Handler {
	if version == "" {
		version = "unstated" // the element is required (§3)
	}
	answer := []stanza.Element{stanza.New(nsVersion, "query").With(
		stanza.New(nsVersion, "name").WithText(softwareName), stanza.New(nsVersion, "version").WithText(version),
	)}
	return Handler{
		At: where, Type: stanza.TypeGet, Space: nsVersion, Local: "query",
		Handle: func(context.Context, *Request) ([]stanza.Element, *stanza.Error) { return answer, nil },
	}
}

// Time tells the server's time (XEP-0202) by a clock.
func Time(where At, now func() time.Time) Handler {
	return Handler{
		At: where, Type: stanza.TypeGet, Space: nsTime, Local: "time",
		Handle: func(context.Context, *Request) ([]stanza.Element, *stanza.Error) {
			at := now()
			return []stanza.Element{stanza.New(nsTime, "time").With(
				stanza.New(nsTime, "tzo").WithText(at.Format("-07:00")),
				stanza.New(nsTime, "utc").WithText(stanza.FormatSeconds(at)),
			)}, nil
		},
	}
}
