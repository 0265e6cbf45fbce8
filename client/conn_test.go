package client

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/wire/scram"
	"github.com/posthouse-im/posthouse/wire/stream"
	"github.com/posthouse-im/posthouse/wire/stream/pbstream"
)

// TestKeyCache: the same keys come again, and neither those of another password nor of another hash.
func TestKeyCache(t *testing.T) {
	cached := &KeyCache{}
	seen := map[string]bool{}
	for range 2 { // the second time from the cache
		for _, h := range []*scram.Hash{scram.SHA1, scram.SHA256} {
			for _, password := range []string{"pencil", "pen"} {
				got, err := cached.Derive(h, "user", password, []byte("salt"), 2)
				require.NoError(t, err)
				want, err := (*KeyCache)(nil).Derive(h, "user", password, []byte("salt"), 2)
				require.NoError(t, err)
				require.Equal(t, want, got)
				seen[string(got.Client)] = true
			}
		}
	}
	require.Len(t, seen, 4)
	require.Len(t, cached.keys, 4)
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
