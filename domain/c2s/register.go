package c2s

import (
	"context"
	"errors"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
	"github.com/posthouse-im/posthouse/wire/stream"
)

// registrationOpen reports whether anybody may make themselves an account, on links that are good enough for a
// password.
func (c *conn) registrationOpen() bool {
	return c.srv.config.Registration == "open" && c.mayLogIn()
}

// registerUnauthenticated handles in-band registration before authentication (XEP-0077 §3.1). It reports whether the
// stanza was such a request.
func (c *conn) registerUnauthenticated(item *stream.Item) bool {
	s := item.Stanza
	if !s.IsRequest() || s.CheckIQ() != nil || item.Malformed != nil ||
		!s.To.IsZero() && s.To.String() != c.srv.config.Domain {
		return false
	}
	query := &s.Payload[0]
	if query.Space != nsRegister || query.Local != "query" {
		return false
	}
	s.From = jid.JID{}
	if s.Type == stanza.TypeGet {
		reply := s.Reply(registrationForm(""))
		reply.To, reply.From = jid.JID{}, jid.JID{}
		c.send(c.codec.AppendStanza(nil, reply))
		return true
	}
	reply := s.Reply()
	if refusal := c.register(query); refusal != nil {
		if c.failure() {
			return true
		}
		reply = s.ErrorReply(refusal)
	}
	reply.To, reply.From = jid.JID{}, jid.JID{}
	c.send(c.codec.AppendStanza(nil, reply))
	return true
}

func (c *conn) register(query *stanza.Element) *stanza.Error {
	name, password := query.ChildText(nsRegister, "username"), query.ChildText(nsRegister, "password")
	if name == "" || password == "" { // §3.1: not-acceptable where something is missing
		return stanza.Refuse(stanza.NotAcceptable, "A registration needs a username and a password.")
	}
	if !c.srv.config.Auth.AllowRegistration(c.neg.channel.Remote) {
		return &stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint,
			Text: "Too many registrations from your address; try again later."}
	}
	_, err := c.srv.config.Auth.Register(c.neg.ctx, name, password)
	return c.srv.refusal(err)
}

// refusal puts a refusal of the accounts into the words of XEP-0077 §3.
func (s *Server) refusal(err error) *stanza.Error {
	if err == nil {
		return nil
	}
	var r auth.Refusal
	if !errors.As(err, &r) {
		s.config.Log.Error("the account store failed", "error", err.Error())
		return &stanza.Error{Type: stanza.Wait, Condition: stanza.InternalServerError}
	}
	switch r {
	case auth.RefusedNameTaken:
		return stanza.Refuse(stanza.Conflict, r.Error())
	case auth.RefusedNameMalformed:
		return stanza.Refuse(stanza.JIDMalformed, r.Error())
	case auth.RefusedNoAccount:
		return stanza.Refuse(stanza.RegistrationRequired, r.Error())
	case auth.RefusedBusy:
		return stanza.Refuse(stanza.ResourceConstraint, r.Error())
	}
	return stanza.Refuse(stanza.NotAcceptable, r.Error())
}

// registrationForm is the answer to a request for the fields (XEP-0077 §3.1); name is the account of who is registered.
func registrationForm(name string) stanza.Element {
	query := stanza.New(nsRegister, "query")
	if name != "" {
		query = query.With(stanza.New(nsRegister, "registered"), stanza.New(nsRegister, "username").WithText(name))
	} else {
		query = query.With(
			stanza.New(nsRegister, "instructions").WithText("Choose a username and a password."),
			stanza.New(nsRegister, "username"))
	}
	return query.With(stanza.New(nsRegister, "password"))
}

// registerOwn handles what a logged-in client wants of its account: its registration, a new password (XEP-0077 §3.3),
// or to leave (§3.2).
func (c *conn) registerOwn(ctx context.Context, s *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
	name := c.bound.session.JID().Local()
	query := &s.Payload[0]
	if s.Type == stanza.TypeGet {
		return []stanza.Element{registrationForm(name)}, nil
	}
	if query.Child(nsRegister, "remove") != nil {
		if len(query.Nodes) > 1 && hasSiblings(query) { // §3.2: it stands alone
			return nil, stanza.Refuse(stanza.BadRequest, "")
		}
		return nil, c.srv.refusal(c.srv.config.Auth.Delete(ctx, name))
	}
	user, password := query.ChildText(nsRegister, "username"), query.ChildText(nsRegister, "password")
	if user == "" || password == "" { // §3.3, table 4
		return nil, stanza.Refuse(stanza.BadRequest, "A change of password needs the username and the password.")
	}
	if prepared, err := jid.PrepareLocal(user); err != nil || prepared != name {
		return nil, stanza.Refuse(stanza.NotAllowed, "This is not your account.")
	}
	return nil, c.srv.refusal(c.srv.config.Auth.SetPassword(ctx, name, password))
}

func hasSiblings(query *stanza.Element) bool {
	n := 0
	for range query.Elements {
		n++
	}
	return n > 1
}

// registrationChanged ends the sessions that a change has made void, after it was answered: all of a removed account,
// and all others after a change of password.
func (c *conn) registrationChanged(query *stanza.Element) {
	own, but := c.bound.session, c.bound.session
	e := stream.Fail(stream.Reset, "The password was changed.")
	if query.Child(nsRegister, "remove") != nil {
		but, e = nil, stream.Fail(stream.NotAuthorized, "The account was removed.")
	}
	if f := c.srv.config.Revoked; f != nil {
		f(own.Account(), but, e)
		return
	}
	c.srv.Disconnect(own.Account(), but, e)
}
