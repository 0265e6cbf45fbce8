package device

import (
	"context"
	"errors"

	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

// ownSession is a session of the account that asks, and the device that it belongs to.
type ownSession struct {
	*session.Session
	device string
}

// sessions returns the sessions of the account that have a stream, in the order of binding.
func (k *Keeper) sessions(r request) (all []ownSession) {
	k.config.Sessions.Visit(r.iq.From, func(u *session.User) {
		for s := range u.All {
			if !s.Hidden() && u.Account() == uint64(r.account) {
				all = append(all, ownSession{s, of(s.JID().Resource(), u.Device(s))})
			}
		}
	})
	return all
}

// current returns the device of the session that asks; "" for one through which another system acts.
func current(r request) string {
	if device := r.from.Device(); device != "" || r.from.Hidden() {
		return device
	}
	return of(r.from.JID().Resource(), "")
}

// list answers with the devices of the account, the one seen last first, and its sessions.
func (k *Keeper) list(ctx context.Context, r request) ([]stanza.Element, *stanza.Error) {
	devices, err := k.config.Devices.ListDevices(ctx, r.account)
	if err != nil {
		return nil, k.broken(r, err)
	}
	here := current(r)
	answer := stanza.New(NSDevice, "devices")
	for i := range devices {
		d := &devices[i]
		e := stanza.New(NSDevice, "device", "id", d.ID)
		for _, a := range []stanza.Attr{{Local: "name", Value: d.Name}, {Local: "software", Value: d.Software}} {
			if a.Value != "" {
				e.Attrs = append(e.Attrs, a)
			}
		}
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "created", Value: stanza.FormatSeconds(d.Created)},
			stanza.Attr{Local: "seen", Value: stanza.FormatSeconds(d.Seen)})
		answer = answer.With(mark(e, d.ID == here))
	}
	for _, s := range k.sessions(r) {
		e := stanza.New(NSDevice, "session", "resource", s.JID().Resource(), "device", s.device, "since",
			stanza.FormatSeconds(s.Bound()))
		answer = answer.With(mark(e, s.Session == r.from))
	}
	return []stanza.Element{answer}, nil
}

// mark says of a device or session that it is the one that asks.
func mark(e stanza.Element, here bool) stanza.Element {
	if here {
		e.Attrs = append(e.Attrs, stanza.Attr{Local: "current", Value: "true"})
	}
	return e
}

// remove signs one device out: its tokens are dead and its sessions end. When it is the one that asks, it gets the
// answer first.
func (k *Keeper) remove(ctx context.Context, r request) ([]stanza.Element, *stanza.Error) {
	id := r.iq.Payload[0].Attr("id")
	if id == "" {
		return nil, stanza.Refuse(stanza.BadRequest, "Which device is to be signed out?")
	}
	var concerned []ownSession
	for _, s := range k.sessions(r) {
		if s.device == id {
			concerned = append(concerned, s)
		}
	}
	err := k.config.Devices.RemoveDevice(ctx, r.account, id)
	if errors.Is(err, store.ErrNotFound) && len(concerned) > 0 {
		err = k.note(ctx, r, id)
	}
	k.config.Tokens.Forget(r.account, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, stanza.Refuse(stanza.ItemNotFound, "There is no such device.")
	case err != nil:
		return nil, k.broken(r, err)
	}
	k.end(ctx, r, []string{id}, concerned)
	return nil, nil
}

// removeOthers signs all devices out but the one that asks, and ends their sessions.
func (k *Keeper) removeOthers(ctx context.Context, r request) ([]stanza.Element, *stanza.Error) {
	here := current(r)
	gone, err := k.config.Devices.RemoveDevices(ctx, r.account, here)
	if err != nil {
		return nil, k.broken(r, err)
	}
	known := make(map[string]bool, len(gone))
	for _, id := range gone {
		known[id] = true
		k.config.Tokens.Forget(r.account, id)
	}
	var concerned []ownSession
	for _, s := range k.sessions(r) { // after that, so that it has those whose devices were removed
		if s.device == here || s.Session == r.from {
			continue
		}
		concerned = append(concerned, s)
		if known[s.device] {
			continue
		}
		known[s.device] = true
		gone = append(gone, s.device)
		if err := k.note(ctx, r, s.device); err != nil {
			return nil, k.broken(r, err)
		}
	}
	k.end(ctx, r, gone, concerned)
	return nil, nil
}

// note leaves a trace of the signing out of a device that was not in the store, so that a session of it cannot make it
// there in its last moment.
func (k *Keeper) note(ctx context.Context, r request, id string) error {
	now := k.config.Now()
	const all = 1 << 30 // no other device is removed
	d := store.Device{Account: r.account, ID: id, Created: now, Seen: now}
	if err := k.config.Devices.PutDevice(ctx, d, store.AnyBasis, all); err != nil {
		return err
	}
	err := k.config.Devices.RemoveDevice(ctx, r.account, id)
	if errors.Is(err, store.ErrNotFound) { // by somebody else, at the same time
		return nil
	}
	return err
}

// end ends the sessions of devices that were signed out.
func (k *Keeper) end(ctx context.Context, r request, gone []string, concerned []ownSession) {
	for _, s := range concerned {
		if s.Session == r.from {
			session.AfterReply(ctx, func() { s.End(ended()) })
			continue
		}
		s.End(ended())
	}
	if k.config.Ended != nil {
		session.AfterReply(ctx, func() {
			for _, id := range gone {
				k.config.Ended(r.account, id)
			}
		})
	}
	for _, id := range gone {
		k.log.Info("a device was signed out", "event", "device.removed", "account", r.iq.From.Bare().String(), "device",
			id, "by", r.from.Actor())
	}
	k.removed.Add(float64(len(gone)))
}
