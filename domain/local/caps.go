package local

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

// Caps returns the server's own entity capabilities, for the features of every stream (XEP-0115 §6.3). It is complete
// after Answer.
func (d *Domain) Caps() stanza.Element {
	return stanza.New(nsCaps, "c", "hash", "sha-1", "node", capsNode, "ver", d.disco.ver)
}

// capsVersion returns the verification string of XEP-0115 §5.1 over the children of a disco#info answer.
// SHA-1 is what the specification demands to be understood; nothing here relies on its strength.
func capsVersion(info []stanza.Element) string {
	var identities, features, forms []string
	for i := range info {
		switch e := &info[i]; e.Local {
		case "identity":
			lang := ""
			for _, a := range e.Attrs {
				if a.Space == stanza.NSXML && a.Local == "lang" {
					lang = a.Value
				}
			}
			identities = append(identities, e.Attr("category")+"/"+e.Attr("type")+"/"+lang+"/"+e.Attr("name")+"<")
		case "feature":
			features = append(features, e.Attr("var")+"<")
		case "x":
			forms = append(forms, formString(e))
		}
	}
	var all strings.Builder
	for _, part := range [][]string{identities, features, forms} {
		slices.Sort(part)
		for _, s := range part {
			all.WriteString(s)
		}
	}
	sum := sha1.Sum([]byte(all.String()))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// formString is step 7 of XEP-0115 §5.1: the form's type, then its fields by name, each with its sorted values.
func formString(form *stanza.Element) string {
	formType := ""
	var fields []string
	for f := range form.Elements {
		var values []string
		for v := range f.Elements {
			values = append(values, v.Text()+"<")
		}
		slices.Sort(values)
		if f.Attr("var") == "FORM_TYPE" {
			formType = strings.Join(values, "")
			continue
		}
		fields = append(fields, f.Attr("var")+"<"+strings.Join(values, ""))
	}
	slices.Sort(fields)
	return formType + strings.Join(fields, "")
}
