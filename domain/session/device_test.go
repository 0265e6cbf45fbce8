package session

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSupersede: a device that binds anew ends its earlier sessions, and those of nobody else.
func TestSupersede(t *testing.T) {
	m := New(Config{})
	on := func(device, resource string) (*Session, *outbox) {
		o := &outbox{}
		s, refusal := m.Bind(Binding{Account: 1, Bare: juliet, Resource: resource, Outbox: o, Device: device})
		require.Nil(t, refusal)
		require.Equal(t, device, s.Device())
		m.Visit(juliet, func(u *User) { require.Equal(t, device, u.Device(s)) })
		return s, o
	}
	_, nobody := on("", "a")
	_, phone := on("phone", "b")
	_, tablet := on("tablet", "c")
	newer, newerBox := on("phone", "d")
	later, laterBox := on("phone", "e")
	require.Equal(t, 1, m.Supersede(newer), "what was bound later stays")
	require.Equal(t, []string{"conflict"}, phone.conditions())
	require.Equal(t, 2, m.Supersede(later), "both, since neither has gone yet")
	require.Equal(t, []string{"conflict"}, newerBox.conditions())
	without, withoutBox := on("", "f")
	require.Zero(t, m.Supersede(without))
	for _, o := range []*outbox{nobody, tablet, laterBox, withoutBox} {
		require.Empty(t, o.conditions())
	}
	devices := map[string]string{}
	for info := range m.Sessions {
		devices[info.JID.Resource()] = info.Device
	}
	require.Equal(t, map[string]string{"a": "", "b": "phone", "c": "tablet", "d": "phone", "e": "phone", "f": ""},
		devices)
}
