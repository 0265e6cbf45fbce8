package service

import (
	"context"
	"maps"
	"slices"

	"github.com/posthouse-im/posthouse/wire/payload"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

const (
	nsDiscoInfo  = "http://jabber.org/protocol/disco#info"
	nsDiscoItems = "http://jabber.org/protocol/disco#items"
	nsForm       = payload.NSForms
)

// discovery is what every service answers (XEP-0030). Who is not subscribed to an account's presence gets what a
// missing account answers (§8).
var discovery = [...]Handler{
	{Type: stanza.TypeGet, Space: nsDiscoInfo, Local: "query", Handle: answerInfo},
	{Type: stanza.TypeGet, Space: nsDiscoItems, Local: "query", Handle: answerItems},
}

var noSuchNode = stanza.Refuse(stanza.ItemNotFound, "")

// hidden reports whether an account is addressed that does not show itself to the requester.
func (r *Request) hidden(ctx context.Context) (bool, *stanza.Error) {
	if r.service != r.hub.accounts {
		return false, nil
	}
	relation, refusal := r.Relation(ctx)
	return relation < Subscriber, refusal
}

func answerInfo(ctx context.Context, r *Request) ([]stanza.Element, *stanza.Error) {
	if hidden, refusal := r.hidden(ctx); hidden || refusal != nil {
		return nil, orUnavailable(refusal) // §8, rule 1
	}
	node := r.Payload().Attr("node")
	// XEP-0115 §6.2: who has seen the domain's capabilities asks by them.
	if node != "" && (r.service != r.hub.domain || node != capsNode+"#"+r.hub.ver) {
		return nil, noSuchNode
	}
	return query(nsDiscoInfo, node, r.service.info), nil
}

func answerItems(ctx context.Context, r *Request) ([]stanza.Element, *stanza.Error) {
	node := r.Payload().Attr("node")
	if hidden, refusal := r.hidden(ctx); hidden || refusal != nil {
		if refusal != nil {
			return nil, refusal
		}
		return query(nsDiscoItems, node, nil), nil // §8, rule 2
	}
	if node != "" {
		return nil, noSuchNode
	}
	var items []Item
	if r.service.Items != nil {
		var refusal *stanza.Error
		if items, refusal = r.service.Items(ctx, r); refusal != nil {
			return nil, refusal
		}
	}
	list := make([]stanza.Element, len(items))
	for i := range items {
		list[i] = element(nsDiscoItems, "item", "jid", items[i].JID.String(), "name", items[i].Name, "node",
			items[i].Node)
	}
	return query(nsDiscoItems, "", list), nil
}

// accountItems shows the available resources of an account (§8).
func (h *Hub) accountItems(_ context.Context, r *Request) (items []Item, _ *stanza.Error) {
	if h.config.Available == nil {
		return nil, nil
	}
	for _, full := range h.config.Available(r.IQ.To) {
		items = append(items, Item{JID: full})
	}
	return items, nil
}

// query returns the answer's element, with the node of the question (§3.2).
func query(space, node string, children []stanza.Element) []stanza.Element {
	return []stanza.Element{element(space, "query", "node", node).With(children...)}
}

// element returns an element with those attributes that have a value.
func element(space, local string, attrs ...string) stanza.Element {
	e := stanza.Element{Space: space, Local: local}
	for i := 0; i < len(attrs); i += 2 {
		if attrs[i+1] != "" {
			e.Attrs = append(e.Attrs, stanza.Attr{Local: attrs[i], Value: attrs[i+1]})
		}
	}
	return e
}

// info returns what a service says of itself.
func info(identities []Identity, features []string, forms []stanza.Element) (list []stanza.Element) {
	for _, id := range identities {
		e := element(nsDiscoInfo, "identity", "category", id.Category, "type", id.Type, "name", id.Name)
		if id.Lang != "" {
			e.Attrs = append(e.Attrs, stanza.Attr{Space: stanza.NSXML, Local: "lang", Value: id.Lang})
		}
		list = append(list, e)
	}
	for _, f := range features {
		list = append(list, stanza.New(nsDiscoInfo, "feature", "var", f))
	}
	return append(list, forms...)
}

// contactForm returns the addresses of those who run the domain (XEP-0157 §3, XEP-0128).
func contactForm(contact map[string][]string) (form stanza.Element, ok bool) {
	form = stanza.New(nsForm, "x", "type",
		"result").With(field("FORM_TYPE", "hidden", "http://jabber.org/network/serverinfo"))
	for _, name := range slices.Sorted(maps.Keys(contact)) {
		form = form.With(field(name, "list-multi", contact[name]...))
	}
	return form, len(contact) > 0
}

func field(name, kind string, values ...string) stanza.Element {
	f := stanza.New(nsForm, "field", "var", name, "type", kind)
	for _, v := range values {
		f = f.With(stanza.New(nsForm, "value").WithText(v))
	}
	return f
}
