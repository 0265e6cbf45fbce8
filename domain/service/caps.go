package service

import (
	"crypto/sha1"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/posthouse-im/posthouse/wire/stanza"
)

const (
	nsCaps   = "http://jabber.org/protocol/caps"
	capsNode = "https://github.com/posthouse-im/posthouse"
)

// Caps returns the domain's own entity capabilities, for the features of every stream (XEP-0115 §6.3). It is complete
// after Serve.
func (h *Hub) Caps() stanza.Element {
	return stanza.New(nsCaps, "c", "hash", "sha-1", "node", capsNode, "ver", h.ver)
}

// capsVersion returns the verification string of XEP-0115 §5.1 over the children of a disco#info answer. All that is
// sorted is sorted by its parts, byte by byte, before anything is put between them. SHA-1 is what the specification
// demands to be understood; nothing here relies on its strength.
func capsVersion(info []stanza.Element) string {
	var identities [][]string // category, type, language, name
	var features []string
	var forms [][]string // the form's type, and what comes after it
	for i := range info {
		switch e := &info[i]; e.Local {
		case "identity":
			identities = append(identities, []string{e.Attr("category"), e.Attr("type"), lang(e), e.Attr("name")})
		case "feature":
			features = append(features, e.Attr("var"))
		case "x":
			forms = append(forms, formParts(e))
		}
	}
	slices.SortFunc(identities, slices.Compare[[]string])
	slices.Sort(features)
	slices.SortFunc(forms, slices.Compare[[]string])
	var all []string
	for _, id := range identities {
		all = append(all, strings.Join(id, "/"))
	}
	all = append(all, features...)
	for _, form := range forms {
		all = append(all, form...)
	}
	sum := sha1.Sum([]byte(strings.Join(append(all, ""), "<")))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func lang(e *stanza.Element) string {
	for _, a := range e.Attrs {
		if a.Space == stanza.NSXML && a.Local == "lang" {
			return a.Value
		}
	}
	return ""
}

// formParts is step 7 of XEP-0115 §5.1: the form's type, then its fields by name, each with its sorted values.
func formParts(form *stanza.Element) []string {
	var parts []string
	var fields [][]string // each a name and its values
	for f := range form.Elements {
		var values []string
		for v := range f.Elements {
			values = append(values, v.Text())
		}
		slices.Sort(values)
		if f.Attr("var") == "FORM_TYPE" {
			parts = values
			continue
		}
		fields = append(fields, append([]string{f.Attr("var")}, values...))
	}
	slices.SortFunc(fields, slices.Compare[[]string])
	return append(parts, slices.Concat(fields...)...)
}
