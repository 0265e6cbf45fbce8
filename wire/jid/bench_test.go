package jid_test

import (
	"testing"

	"github.com/posthouse-im/posthouse/wire/jid"
)

func BenchmarkParse(b *testing.B) {
	for _, bm := range []struct{ name, in string }{
		{"domain", "example.com"},
		{"bare", "juliet@example.com"},
		{"full", "juliet@example.com/balcony"},
		{"upper", "Juliet@Example.com/balcony"},
		{"cyrillic", "\u043f\u0451\u0442\u0440@example.com/balcony"},
		{"idn", "juliet@b\u00fccher.example/balcony"},
		{"ipv6", "juliet@[2001:db8::1]/balcony"},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := jid.Parse(bm.in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWithResource(b *testing.B) {
	j := jid.MustParse("juliet@example.com")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := j.WithResource("balcony"); err != nil {
			b.Fatal(err)
		}
	}
}
