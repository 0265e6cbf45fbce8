package local

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

var badRequest = stanza.Refuse(stanza.BadRequest, "")

const nsDelay = payload.NSDelay

// Address is the stage that gives a stanza its addresses and refuses what is malformed.
func (d *Domain) Address() router.Stage {
	return router.Stage{
		Name: "address",
		Why:  "first: every later stage relies on a true sender, on an address to send to and on a known type",
		Run:  d.address,
	}
}

func (d *Domain) address(_ context.Context, e *router.Envelope) (router.Verdict, *stanza.Error) {
	s := e.Stanza
	s.From = e.Origin.Address
	if typeOf(s) < 0 {
		return router.Finish, stanza.Refuse(stanza.BadRequest, "The type is missing or unknown.")
	}
	if s.To.IsZero() && s.Kind != stanza.Presence {
		s.To = s.From.Bare() // RFC 6120 §10.3.1, §10.3.3
	}
	var refusal *stanza.Error
	switch s.Kind {
	case stanza.IQ:
		refusal = s.CheckIQ()
	case stanza.Presence:
		if s.Type == "" {
			_, refusal = priorityOf(s)
		}
		if refusal == nil {
			refusal = checkDelay(s)
		}
	default:
		refusal = checkDelay(s)
	}
	return router.Continue, refusal
}

// priorityOf returns the priority of available presence, 0 when it names none (RFC 6121 §4.7.2.3).
func priorityOf(s *stanza.Stanza) (int8, *stanza.Error) {
	var found *stanza.Element
	for i := range s.Payload {
		if e := &s.Payload[i]; e.Local == "priority" && e.Space == stanza.NSClient {
			if found != nil {
				return 0, stanza.Refuse(stanza.BadRequest, "A presence has at most one priority.")
			}
			found = e
		}
	}
	if found == nil {
		return 0, nil
	}
	n, err := strconv.ParseInt(strings.Trim(found.Text(), " \t\r\n"), 10, 8)
	if err != nil {
		return 0, stanza.Refuse(stanza.BadRequest, "A priority is a number from -128 to 127.")
	}
	return int8(n), nil
}

// checkDelay refuses times that no clock shows (XEP-0203 §4, XEP-0082 §3.2), because clients sort and show them.
func checkDelay(s *stanza.Stanza) *stanza.Error {
	for i := range s.Payload {
		if e := &s.Payload[i]; e.Local == "delay" && e.Space == nsDelay && !plausible(e.Attr("stamp")) {
			return stanza.Refuse(stanza.BadRequest, "A delay has the time of a plausible year as its stamp.")
		}
	}
	return nil
}

func plausible(stamp string) bool {
	if len(stamp) > len("2006-01-02T15:04:05.000000000+00:00") {
		return false
	}
	t, err := time.Parse(time.RFC3339Nano, stamp)
	return err == nil && t.Year() >= 1970 && t.Year() < 2200
}
