package api

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// published returns the document as it is served. What is in answers may grow, so it does not say that there are no
// other fields; where the same form is in a request, the request is checked for them all the same. No list is null.
func published(doc *huma.OpenAPI) ([]byte, error) {
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	var all struct {
		Paths      map[string]map[string]map[string]any
		Components struct{ Schemas map[string]any }
	}
	var whole map[string]any
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	inAnswers := map[string]bool{}
	for _, operations := range all.Paths {
		for _, operation := range operations {
			namedIn(operation["responses"], all.Components.Schemas, inAnswers)
		}
	}
	visit(whole, func(s map[string]any) {
		if kinds, ok := s["type"].([]any); ok && slices.Contains(kinds, any("array")) {
			s["type"] = "array"
		}
	})
	schemas := whole["components"].(map[string]any)["schemas"].(map[string]any) // they were written above
	for name := range inAnswers {
		visit(schemas[name], func(s map[string]any) { delete(s, "additionalProperties") })
	}
	return json.MarshalIndent(whole, "", "  ")
}

// visit calls do for each object of a document.
func visit(v any, do func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		do(v)
		for _, inside := range v {
			visit(inside, do)
		}
	case []any:
		for _, inside := range v {
			visit(inside, do)
		}
	}
}

// namedIn adds the names of the schemas that a part of the document refers to, also by way of others.
func namedIn(part any, schemas map[string]any, names map[string]bool) {
	visit(part, func(s map[string]any) {
		ref, _ := s["$ref"].(string)
		name := ref[strings.LastIndexByte(ref, '/')+1:]
		if name != "" && !names[name] {
			names[name] = true
			namedIn(schemas[name], schemas, names)
		}
	})
}

// describeKeySet says what is in the answer that is made elsewhere (RFC 7517, RFC 8037).
func describeKeySet(doc *huma.OpenAPI) {
	text := func(about string) *huma.Schema { return &huma.Schema{Type: huma.TypeString, Description: about} }
	key := &huma.Schema{Type: huma.TypeObject, Required: []string{"kty", "kid"}, Properties: map[string]*huma.Schema{
		"kty": text("The kind of key: OKP."), "crv": text("The curve: Ed25519."),
		"x":   text("The public key, base64url."),
		"kid": text("The name of the key, as in the header of tokens."), "alg": text("The algorithm: EdDSA."),
		"use": text("What it is for: sig."),
	}}
	doc.Paths[keySetPath].Get.Responses["200"].Content = map[string]*huma.MediaType{"application/json": {
		Schema: &huma.Schema{Type: huma.TypeObject, Required: []string{"keys"}, Properties: map[string]*huma.Schema{
			"keys": {Type: huma.TypeArray, Items: key},
		}},
	}}
}
