package service

import (
	"context"

	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// Relation is what a requester is to the account that it addresses.
type Relation uint8

// The relations, each of which may what those before it may.
const (
	// NotSubscribed: it has no subscription with the account, or there is no such account, or none is addressed.
	NotSubscribed Relation = iota
	// Subscriber: it is subscribed to the account's presence.
	Subscriber
	// Self: the account itself.
	Self
)

// Session is the bound session that asks. What a handler does with it, it asks of package session.
type Session interface {
	// JID returns the bound full address.
	JID() jid.JID
	// Account returns the identity of the account, as in store.AccountID.
	Account() uint64
}

// Origin is who asks, as it was when the request was accepted. Nobody looks it up again by its address, which may
// belong to somebody else by now. The zero value is nobody of this domain.
type Origin struct {
	// Account is the identity of the account that asks, as in store.AccountID; 0 when it is none of this domain.
	Account uint64
	// Session is the session that asks; nil for none.
	Session Session
	// Admin: it may do what only administrators may.
	Admin bool
	// Actor is who acts, for the audit log; "" for the account itself.
	Actor string
}

// Request is an IQ request that a handler answers. It belongs to the goroutine of the requester.
type Request struct {
	// From is the requester's address.
	From jid.JID
	Origin
	// IQ is the whole request: IQ.To is the address asked.
	IQ *stanza.Stanza

	hub     *Hub
	service *service
	// What a look-up has found.
	known    bool
	target   uint64
	relation Relation
	refusal  *stanza.Error
}

// Payload returns the one child of the request.
func (r *Request) Payload() *stanza.Element { return &r.IQ.Payload[0] }

// Self reports whether the requester addresses its own account, which takes no look-up.
func (r *Request) Self() bool { return r.service == r.hub.accounts && r.From.Bare() == r.IQ.To }

// Target returns the identity of the account addressed, 0 when there is none. The refusal says that it could not be
// looked up.
func (r *Request) Target(ctx context.Context) (uint64, *stanza.Error) {
	if r.Self() {
		return r.Account, nil
	}
	r.lookUp(ctx)
	return r.target, r.refusal
}

// Relation returns what the requester is to the account addressed. The refusal says that it could not be looked up.
func (r *Request) Relation(ctx context.Context) (Relation, *stanza.Error) {
	if r.Self() {
		return Self, nil
	}
	r.lookUp(ctx)
	return r.relation, r.refusal
}

// lookUp finds another account and what the requester is to it, once.
func (r *Request) lookUp(ctx context.Context) {
	c := &r.hub.config
	if r.known || r.service != r.hub.accounts || c.Accounts == nil {
		return
	}
	r.known = true
	account, ok, err := c.Accounts.Lookup(ctx, r.IQ.To.Local())
	if err != nil {
		r.hub.log.Warn("an account could not be looked up", "err", err)
		r.refusal = broken
		return
	}
	if !ok {
		return
	}
	if r.target = uint64(account); c.Contacts == nil {
		return
	}
	sees, err := c.Contacts.Sees(ctx, r.target, r.From.Bare())
	switch {
	case err != nil:
		r.hub.log.Warn("a roster could not be read", "err", err)
		r.refusal = broken
	case sees:
		r.relation = Subscriber
	}
}
