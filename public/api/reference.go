package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// style is the only one that the page has.
const style = `body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;color:#1a2330;background:#fff}
h1,h2,h3{line-height:1.2}h2{margin-top:3rem;border-bottom:1px solid #cdd5df}section{margin:2rem 0}
code{font:.9em ui-monospace,monospace;background:#eef2f6;padding:.1em .3em;border-radius:3px}
.m{display:inline-block;min-width:4rem;font-weight:600}table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;border-top:1px solid #e3e8ee;padding:.3rem .6rem .3rem 0}nav a{display:block}
@media(prefers-color-scheme:dark){body{color:#dbe3ec;background:#12181f}code{background:#222c37}a{color:#8ab8ff}td,th{border-color:#2c3743}}`

// styleHash is what the page's Content-Security-Policy allows, and nothing else.
var styleHash = func() string {
	sum := sha256.Sum256([]byte(style))
	return base64.StdEncoding.EncodeToString(sum[:])
}()

// The page for people, made of the document.
type (
	page struct {
		Title, Version, Text string
		Style                template.CSS
		Chapters             []chapter
		Schemas              []schema
		Problems             []row
	}
	chapter struct {
		Name, Text string
		Operations []operation
	}
	operation struct {
		ID, Method, Path, Summary string
		Text                      []string
		Parameters                []row
		Body, Answer, Status      string
	}
	schema struct {
		Name string
		Rows []row
	}
	row struct{ Name, Where, Type, Text string }
)

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{{.Title}} API</title><style>{{.Style}}</style></head>
<body><h1>{{.Title}} API</h1><p>Version {{.Version}}. The same as a document for programs: <a href="/v1/openapi.json">OpenAPI 3.1</a>.</p><p>{{.Text}}</p>
<nav>{{range .Chapters}}<h3>{{.Name}}</h3>{{range .Operations}}<a href="#{{.ID}}"><code>{{.Method}} {{.Path}}</code> {{.Summary}}</a>{{end}}{{end}}</nav>
{{range .Chapters}}<h2>{{.Name}}</h2><p>{{.Text}}</p>{{range .Operations}}<section id="{{.ID}}"><h3>{{.Summary}}</h3><p><code><span class="m">{{.Method}}</span>{{.Path}}</code></p>
{{range .Text}}<p>{{.}}</p>{{end}}{{if .Parameters}}<table><tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>{{range .Parameters}}<tr><td><code>{{.Name}}</code></td><td>{{.Where}}</td><td>{{.Type}}</td><td>{{.Text}}</td></tr>{{end}}</table>{{end}}
{{if .Body}}<p>Body: <a href="#schema-{{.Body}}"><code>{{.Body}}</code></a></p>{{end}}<p>Answer: {{.Status}}{{if .Answer}} with <a href="#schema-{{.Answer}}"><code>{{.Answer}}</code></a>{{end}}</p></section>{{end}}{{end}}
<h2>Problems</h2><table><tr><th>code</th><th>status</th><th>meaning</th></tr>{{range .Problems}}<tr><td><code>{{.Name}}</code></td><td>{{.Type}}</td><td>{{.Text}}</td></tr>{{end}}</table>
<h2>Forms</h2>{{range .Schemas}}<section id="schema-{{.Name}}"><h3>{{.Name}}</h3><table>{{range .Rows}}<tr><td><code>{{.Name}}</code></td><td>{{.Type}}</td><td>{{.Text}}</td></tr>{{end}}</table></section>{{end}}
</body></html>
`))

// reference writes the page.
func reference(doc *huma.OpenAPI) ([]byte, error) {
	p := page{Title: doc.Info.Title, Version: doc.Info.Version, Text: doc.Info.Description, Style: style}
	for _, tag := range doc.Tags {
		c := chapter{Name: tag.Name, Text: tag.Description}
		for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
			item := doc.Paths[path]
			for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Delete} {
				if op != nil && slices.Contains(op.Tags, tag.Name) {
					c.Operations = append(c.Operations, describe(op))
				}
			}
		}
		p.Chapters = append(p.Chapters, c)
	}
	schemas := doc.Components.Schemas.Map()
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		p.Schemas = append(p.Schemas, schema{name, properties(schemas[name])})
	}
	for _, m := range meanings {
		p.Problems = append(p.Problems, row{Name: string(m.code), Type: strconv.Itoa(m.status), Text: m.text})
	}
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, p); err != nil {
		return nil, fmt.Errorf("api: write the reference page: %w", err)
	}
	return out.Bytes(), nil
}

func describe(op *huma.Operation) operation {
	o := operation{ID: op.OperationID, Method: op.Method, Path: op.Path, Summary: op.Summary}
	for text := range strings.SplitSeq(op.Description, "\n\n") {
		if text != "" {
			o.Text = append(o.Text, strings.ReplaceAll(text, "`", ""))
		}
	}
	for _, p := range op.Parameters {
		o.Parameters = append(o.Parameters, row{p.Name, p.In, typeName(p.Schema), p.Description})
	}
	if op.RequestBody != nil {
		for _, m := range op.RequestBody.Content {
			o.Body = typeName(m.Schema)
		}
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		if r := op.Responses[status]; status < "3" {
			o.Status = status
			for _, m := range r.Content {
				o.Answer = typeName(m.Schema)
			}
		}
	}
	return o
}

func properties(s *huma.Schema) (rows []row) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		kind := typeName(p)
		if !slices.Contains(s.Required, name) {
			kind += ", optional"
		}
		rows = append(rows, row{Name: name, Type: kind, Text: p.Description})
	}
	return rows
}

// typeName says for people what a schema asks for.
func typeName(s *huma.Schema) string {
	switch {
	case s == nil:
		return ""
	case s.Ref != "":
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	case s.Type == huma.TypeArray:
		return "list of " + typeName(s.Items)
	case len(s.Enum) > 0:
		var words []string
		for _, v := range s.Enum {
			words = append(words, fmt.Sprint(v))
		}
		return strings.Join(words, " | ")
	case s.Format != "":
		return s.Type + " (" + s.Format + ")"
	}
	return s.Type
}
