package transports

import (
	"fmt"
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/test/clients"
)

// slix is somebody on slixmpp.
type slix struct {
	*clients.Person
	t *testing.T
}

func newSlix(t *testing.T, user, resource, address string) *slix {
	t.Helper()
	host, text, err := net.SplitHostPort(address)
	require.NoError(t, err)
	port, err := strconv.Atoi(text)
	require.NoError(t, err)
	p := &slix{clients.Slixmpp(t, user), t}
	p.Do("connect", "jid", user+"@localhost/"+resource, "password", password, "host", host, "port", port)
	p.Tells("online")
	p.Do("carbons")
	p.Tells("carbons")
	return p
}

// placed waits for a message that has a place in its conversation.
func (p *slix) placed() entry { p.t.Helper(); return slixEntry(p.Tells("placed")) }

func slixEntry(e map[string]any) entry {
	number, _ := e["number"].(float64)
	text := func(name string) string {
		if e[name] == nil {
			return ""
		}
		return fmt.Sprint(e[name])
	}
	return entry{uint64(number), text("id"), text("stanza_id"), text("kind"), text("target"), text("text")}
}
