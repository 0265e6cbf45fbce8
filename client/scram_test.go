package client

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
)

// TestScramVector is the exchange of RFC 7677 §3.
func TestScramVector(t *testing.T) {
	for range 2 { // the second time from the cache
		keys := &KeyCache{}
		s := newScram("user", "pencil", keys, nil, false)
		s.nonce = "rOprNGfwEbeRWgbNEkqO"
		require.Equal(t, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO", string(s.first()))
		final, err := s.final([]byte("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"))
		require.NoError(t, err)
		require.Equal(t, "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", string(final))
		require.NoError(t, s.verify([]byte("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")))
		require.Error(t, s.verify([]byte("v=AAAA")))
		require.Error(t, s.verify(nil))
	}
}

// TestScramRefuses what a server must not ask for.
func TestScramRefuses(t *testing.T) {
	for _, challenge := range []string{
		"", "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "r=nonce,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"r=nonceX,s=?,i=4096", "r=nonceX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1", "r=nonceX,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=99999999",
	} {
		s := newScram("user", "pencil", nil, nil, false)
		s.nonce = "nonce"
		s.first()
		_, err := s.final([]byte(challenge))
		require.Error(t, err, challenge)
	}
}

// silent is a connection that says what it is given.
type silent struct {
	net.Conn
	in *bytes.Reader
}

func (s silent) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s silent) Write(p []byte) (int, error)      { return len(p), nil }
func (s silent) SetWriteDeadline(time.Time) error { return nil }

// FuzzConn: whatever a server sends, reading ends with an error and nothing grows beyond its bounds.
func FuzzConn(f *testing.F) {
	c := pbstream.Codec{}
	opened := c.AppendOpen(nil, stream.Header{From: "example.org", Version: "1.0", HasVersion: true})
	f.Add(opened, false)
	f.Add(c.AppendClose(c.AppendPing(opened)), false)
	f.Add([]byte{0x82, 3, 2, 0x32, 0, 0x89, 0}, true)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff}, false)
	f.Fuzz(func(t *testing.T, data []byte, framed bool) {
		conn := &Conn{raw: silent{in: bytes.NewReader(data)}, decoder: pbstream.NewDecoder(answers)}
		if framed {
			conn.framed = &frames{in: conn.raw}
		}
		for range len(data) + 1 {
			if _, err := conn.Next(); err != nil {
				require.LessOrEqual(t, cap(conn.buf), maxFrame+2*readSize)
				return
			}
		}
		t.Fatal("more was read than there was")
	})
}
