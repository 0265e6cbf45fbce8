package local

import (
	"context"
	"maps"
	"slices"

	"github.com/posthouse-im/posthouse/domain/router"
	"github.com/posthouse-im/posthouse/domain/session"
	"github.com/posthouse-im/posthouse/wire/jid"
	"github.com/posthouse-im/posthouse/wire/stanza"
)

const (
	nsDiscoInfo  = "http://jabber.org/protocol/disco#info"
	nsDiscoItems = "http://jabber.org/protocol/disco#items"
	nsData       = "jabber:x:data"
)

// Item is a service of the domain, shown in service discovery.
type Item struct {
	JID  jid.JID
	Name string
}

// discovery holds the answers that do not change after Answer.
type discovery struct {
	server, account []stanza.Element // children of <query/> of disco#info
	ver             string           // XEP-0115 verification string of the server
}

// DiscoRoutes answers service discovery (XEP-0030) for the domain and its accounts. Accounts answer only to themselves
// and to those who are subscribed to their presence; others get what a missing account answers (XEP-0030 §8).
func (d *Domain) DiscoRoutes() []router.IQRoute {
	return []router.IQRoute{
		{Target: router.ToServer, Type: stanza.TypeGet, Space: nsDiscoInfo, Local: "query", Handle: d.serverInfo},
		{Target: router.ToServer, Type: stanza.TypeGet, Space: nsDiscoItems, Local: "query", Handle: d.serverItems},
		{Target: router.ToOwnAccount | router.ToOtherAccount, Type: stanza.TypeGet, Space: nsDiscoInfo, Local: "query", Handle: d.accountInfo},
		{Target: router.ToOwnAccount | router.ToOtherAccount, Type: stanza.TypeGet, Space: nsDiscoItems, Local: "query", Handle: d.accountItems},
	}
}

// soughtAtServer lists features of accounts that are announced by the server too: carbons, because XEP-0280 §3 says so, and the
// archive, because many clients (profanity among them) ask only the server, although XEP-0313 (Determining support) has it announced by the account.
var soughtAtServer = map[string]bool{nsCarbons: true, "urn:xmpp:mam:2": true, "urn:xmpp:mam:2#extended": true}

// discover makes the answers from the IQ table and what the configuration adds.
func (d *Domain) discover(lists [][]router.IQRoute) discovery {
	server := map[string]bool{nsCaps: true}
	account := map[string]bool{}
	for _, list := range lists {
		for _, r := range list {
			feature := r.Feature
			if feature == "" {
				feature = r.Space
			}
			if feature == "-" {
				continue
			}
			if r.Target&router.ToServer != 0 || soughtAtServer[feature] {
				server[feature] = true
			}
			if r.Target&(router.ToOwnAccount|router.ToOtherAccount) != 0 {
				account[feature] = true
			}
		}
	}
	for _, f := range d.config.Features {
		server[f] = true
	}
	if d.offline != nil {
		server["msgoffline"] = true // XEP-0160 §4
	}
	for _, f := range d.config.AccountFeatures {
		account[f] = true
	}
	out := discovery{
		server:  infoOf(stanza.New(nsDiscoInfo, "identity", "category", "server", "type", "im", "name", "Posthouse"), server),
		account: infoOf(stanza.New(nsDiscoInfo, "identity", "category", "account", "type", "registered"), account),
	}
	if form, ok := d.contactForm(); ok {
		out.server = append(out.server, form)
	}
	out.ver = capsVersion(out.server)
	return out
}

func infoOf(identity stanza.Element, features map[string]bool) []stanza.Element {
	out := []stanza.Element{identity}
	for _, f := range slices.Sorted(maps.Keys(features)) {
		out = append(out, stanza.New(nsDiscoInfo, "feature", "var", f))
	}
	return out
}

// contactForm returns the addresses of those who run the domain (XEP-0157 §3, XEP-0128).
func (d *Domain) contactForm() (stanza.Element, bool) {
	if len(d.config.Contact) == 0 {
		return stanza.Element{}, false
	}
	form := stanza.New(nsData, "x", "type", "result").With(field("FORM_TYPE", "hidden", "http://jabber.org/network/serverinfo"))
	for _, name := range slices.Sorted(maps.Keys(d.config.Contact)) {
		form = form.With(field(name, "list-multi", d.config.Contact[name]...))
	}
	return form, true
}

func field(name, kind string, values ...string) stanza.Element {
	f := stanza.New(nsData, "field", "var", name, "type", kind)
	for _, v := range values {
		f = f.With(stanza.New(nsData, "value").WithText(v))
	}
	return f
}

// query returns the answer's element, with the node of the question (XEP-0030 §3.2).
func query(space, node string, children ...stanza.Element) []stanza.Element {
	q := stanza.New(space, "query")
	if node != "" {
		q = stanza.New(space, "query", "node", node)
	}
	return []stanza.Element{q.With(children...)}
}

var noSuchNode = stanza.Refuse(stanza.ItemNotFound, "")

func (d *Domain) serverInfo(_ context.Context, _ uint64, iq *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
	node := iq.Payload[0].Attr("node")
	if node != "" && node != capsNode+"#"+d.disco.ver { // XEP-0115 §6.2: who has seen our caps asks by them
		return nil, noSuchNode
	}
	return query(nsDiscoInfo, node, d.disco.server...), nil
}

func (d *Domain) serverItems(_ context.Context, _ uint64, iq *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
	if iq.Payload[0].HasAttr("node") {
		return nil, noSuchNode
	}
	var items []stanza.Element
	for _, it := range d.config.Items {
		e := stanza.New(nsDiscoItems, "item", "jid", it.JID.String())
		if it.Name != "" {
			e.Attrs = append(e.Attrs, stanza.Attr{Local: "name", Value: it.Name})
		}
		items = append(items, e)
	}
	return query(nsDiscoItems, "", items...), nil
}

func (d *Domain) accountInfo(ctx context.Context, _ uint64, iq *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
	if _, refusal := d.shown(ctx, iq); refusal != nil {
		return nil, refusal
	}
	if iq.Payload[0].HasAttr("node") {
		return nil, noSuchNode
	}
	return query(nsDiscoInfo, "", d.disco.account...), nil
}

// accountItems shows the available resources (XEP-0030 §8).
func (d *Domain) accountItems(ctx context.Context, _ uint64, iq *stanza.Stanza) ([]stanza.Element, *stanza.Error) {
	if _, refusal := d.shown(ctx, iq); refusal != nil {
		return nil, refusal
	}
	if iq.Payload[0].HasAttr("node") {
		return nil, noSuchNode
	}
	var items []stanza.Element
	d.sessions.Visit(iq.To, func(u *session.User) {
		for s := range u.All {
			if u.Presence(s) != nil {
				items = append(items, stanza.New(nsDiscoItems, "item", "jid", s.JID().String()))
			}
		}
	})
	return query(nsDiscoItems, "", items...), nil
}
