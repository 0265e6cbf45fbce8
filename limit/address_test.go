package limit_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/posthouse-im/posthouse/limit"
)

func TestAddress(t *testing.T) {
	of := func(text string) limit.Address { return limit.AddressOf(netip.MustParseAddr(text)) }
	require.Equal(t, of("192.0.2.1"), of("::ffff:192.0.2.1"), "IPv4 in IPv6")
	require.NotEqual(t, of("192.0.2.1"), of("192.0.2.2"))
	require.Equal(t, of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2%eth0"), "one network")
	require.NotEqual(t, of("2001:db8:0:1::1"), of("2001:db8:0:2::1"))
	require.NotEqual(t, of("::1"), of("127.0.0.1"))
	require.Zero(t, limit.AddressOf(netip.Addr{}))
}
