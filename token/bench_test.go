package token_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/token"
)

// BenchmarkVerify: a token that was seen before, as with nearly every request.
func BenchmarkVerify(b *testing.B) {
	p := newWorld(b).open()
	pair := p.issue(b, "romeo", "phone")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Verify(b.Context(), pair.Access); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerifyKey: the same of a service key.
func BenchmarkVerifyKey(b *testing.B) {
	w := newWorld(b)
	p := w.open()
	secret, _, err := p.NewServiceKey(b.Context(), "desk", []token.Scope{token.ScopeSend},
		w.clock.Now().AddDate(1, 0, 0))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.VerifyKey(b.Context(), secret); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefresh: one transaction and two signatures.
func BenchmarkRefresh(b *testing.B) {
	p := newWorld(b).open()
	pair := p.issue(b, "romeo", "phone")
	b.ReportAllocs()
	for b.Loop() {
		next, _, err := p.Refresh(b.Context(), pair.Refresh)
		if err != nil {
			b.Fatal(err)
		}
		pair = next
	}
}
