package auth_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	xdg "github.com/xdg-go/scram"

	"github.com/posthouse-im/posthouse/domain/auth"
	"github.com/posthouse-im/posthouse/store"
	"github.com/posthouse-im/posthouse/wire/scram"
)

func encode(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// benchClient is a SCRAM-SHA-256 client that has derived its keys before.
type benchClient struct{ keys scram.Keys }

func newBenchClient(b *testing.B, c store.Credential) *benchClient {
	b.Helper()
	keys, err := scram.SHA256.Derive(password, c.Salt, c.Iterations)
	if err != nil {
		b.Fatal(err)
	}
	return &benchClient{keys}
}

const benchFirst = "n=juliet,r=fyko+d2lbbFgONRv9qkxdawL"

func (c *benchClient) final(challenge string) []byte {
	nonce, _, _ := strings.Cut(challenge[2:], ",")
	final := "c=biws,r=" + nonce
	proof := scram.SHA256.Proof(c.keys, []byte(benchFirst+","+challenge+","+final))
	return []byte(final + ",p=" + encode(proof))
}

// BenchmarkSCRAM is a whole login on the server's side; the client's part of it is shown by /client.
func BenchmarkSCRAM(b *testing.B) {
	s := newServer(b, func(c *auth.Config) { c.Log, c.Now = nil, nil })
	a, err := s.Directory().Account(context.Background(), "juliet")
	if err != nil {
		b.Fatal(err)
	}
	client := newBenchClient(b, a.Credentials[0])
	b.Run("both", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e, challenge, f := s.Begin(context.Background(), plainChannel(), auth.ScramSHA256, []byte("n,,"+benchFirst),
				true)
			if f != nil {
				b.Fatal(f)
			}
			if _, _, f = e.Step(context.Background(), client.final(string(challenge))); f != nil {
				b.Fatal(f)
			}
		}
	})
	b.Run("client", func(b *testing.B) {
		b.ReportAllocs()
		challenge := "r=fyko+d2lbbFgONRv9qkxdawLAAAAAAAAAAAAAAAAAAAAAAAA,s=AAAAAAAAAAAAAAAAAAAAAA==,i=512"
		for b.Loop() {
			client.final(challenge)
		}
	})
}

// BenchmarkSCRAMOfLibrary is the server of xdg-go/scram with the same client.
func BenchmarkSCRAMOfLibrary(b *testing.B) {
	c, err := auth.MakeCredentials(password, iterations)
	if err != nil {
		b.Fatal(err)
	}
	server, err := xdg.SHA256.NewServer(func(string) (xdg.StoredCredentials, error) {
		return xdg.StoredCredentials{
			KeyFactors: xdg.KeyFactors{Salt: string(c[0].Salt), Iters: c[0].Iterations}, StoredKey: c[0].StoredKey,
			ServerKey: c[0].ServerKey,
		}, nil
	})
	if err != nil {
		b.Fatal(err)
	}
	client := newBenchClient(b, c[0])
	b.ReportAllocs()
	for b.Loop() {
		conversation := server.NewConversation()
		challenge, err := conversation.Step("n,," + benchFirst)
		if err != nil {
			b.Fatal(err)
		}
		if _, err = conversation.Step(string(client.final(challenge))); err != nil || !conversation.Valid() {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlain(b *testing.B) {
	for _, bm := range []struct {
		name string
		off  bool
	}{{"remembered", false}, {"derived", true}} {
		b.Run(bm.name, func(b *testing.B) {
			s := newServer(b, func(c *auth.Config) {
				c.Log, c.Now, c.PlainCacheOff, c.Iterations = nil, nil, bm.off,
					4096
			})
			b.ReportAllocs()
			for b.Loop() {
				if _, f := s.plain(proxied(), "", "juliet", password); f != nil {
					b.Fatal(f)
				}
			}
		})
	}
}

func BenchmarkDirectory(b *testing.B) {
	m := newMemory()
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprintf("user%d", i)
		if _, err := m.CreateAccount(context.Background(), store.Account{Name: names[i]}); err != nil {
			b.Fatal(err)
		}
	}
	d := auth.NewDirectory(m, auth.DirectoryConfig{}, nil)
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = d.Lookup(context.Background(), "user1")
		}
	})
	b.Run("many", func(b *testing.B) {
		i := 0
		for b.Loop() {
			_, _, _ = d.Lookup(context.Background(), names[i%len(names)])
			i += 7919
		}
	})
	b.Run("unknown", func(b *testing.B) {
		for b.Loop() {
			_, _, _ = d.Lookup(context.Background(), "nobody")
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_, _, _ = d.Lookup(context.Background(), "user1")
			}
		})
	})
}

func BenchmarkOffers(b *testing.B) {
	s := newServer(b)
	ch := tlsLink(b, tls.VersionTLS13, "ecdsa").server
	for b.Loop() {
		_, _ = s.Mechanisms(ch), s.ChannelBindings(ch)
	}
}

func BenchmarkAdmit(b *testing.B) {
	c := auth.NewConnections(auth.ConnectionConfig{Rate: -1}, nil)
	ip := netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		a, ok := c.Admit(ip)
		if !ok {
			b.Fatal("refused")
		}
		a.Release()
	}
}
