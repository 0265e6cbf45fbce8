package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOpenAPI: clients that are made from the document take answers that grow, and no list for null.
func TestOpenAPI(t *testing.T) {
	w := open(t, []string{"romeo"}, "listen.http.origins=https://chat.example.org")
	doc, _ := w.document()
	var walk func(v any, follow bool, seen map[string]bool, do func(map[string]any))
	walk = func(v any, follow bool, seen map[string]bool, do func(map[string]any)) {
		switch v := v.(type) {
		case map[string]any:
			do(v)
			if ref, ok := v["$ref"].(string); ok && follow && !seen[ref] {
				seen[ref] = true
				walk(resolve(doc, v), follow, seen, do)
			}
			for _, inside := range v {
				walk(inside, follow, seen, do)
			}
		case []any:
			for _, inside := range v {
				walk(inside, follow, seen, do)
			}
		}
	}
	lists := 0
	walk(doc, false, nil, func(s map[string]any) {
		if s["items"] != nil {
			lists++
			require.Equal(t, "array", s["type"])
		}
	})
	require.Greater(t, lists, 10)
	seen := map[string]bool{}
	for _, item := range doc["paths"].(map[string]any) {
		for _, op := range item.(map[string]any) {
			walk(op.(map[string]any)["responses"], true, seen, func(s map[string]any) {
				require.NotContains(t, s, "additionalProperties", s)
			})
		}
	}
	require.True(t, seen["#/components/schemas/Changes"])
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	require.Equal(t, false, schemas["NewMessage"].(map[string]any)["additionalProperties"], "requests are strict")

	get := doc["paths"].(map[string]any)["/.well-known/jwks.json"].(map[string]any)["get"].(map[string]any)
	answer := get["responses"].(map[string]any)["200"].(map[string]any)["content"].(map[string]any)
	keys := answer["application/json"].(map[string]any)["schema"].(map[string]any)
	require.Equal(t, "object", keys["type"])
	one := keys["properties"].(map[string]any)["keys"].(map[string]any)["items"].(map[string]any)
	for name := range w.ask("", "GET", "/.well-known/jwks.json", nil).at("keys", 0).(map[string]any) {
		require.Contains(t, one["properties"], name)
	}

	r := w.request("romeo", "GET", "/v1/profile", nil)
	r.Header.Set("Origin", "https://other.example.org")
	refused := w.do(r)
	refused.refused(403, "origin_not_allowed")
	require.True(t, strings.Contains(refused.at("detail").(string), "listen.http.origins"), refused.text)
}
