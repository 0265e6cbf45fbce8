package node

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/link"
)

// TestDevelopmentHandshake: with the development certificate, people have time to look at it, unless the setting says
// something else.
func TestDevelopmentHandshake(t *testing.T) {
	for _, row := range []struct {
		selfMade         bool
		configured, want time.Duration
	}{
		{true, 10 * time.Second, time.Minute},
		{true, 0, time.Minute},
		{true, 3 * time.Second, 3 * time.Second},
		{false, 10 * time.Second, 10 * time.Second},
	} {
		a := &assembly{Runtime: &Runtime{selfMade: row.selfMade}}
		a.Config.Link.HandshakeTimeout = row.configured
		require.Equal(t, row.want, a.linkConfig("xmpp_tls", "", link.ModeTLS, nil).HandshakeTimeout)
	}
}
