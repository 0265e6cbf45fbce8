package limit

import "net/netip"

// Address is an IP address as it is counted, a key for a Table: IPv6 by its /64, which is what one customer gets, and
// IPv4 in IPv6 as IPv4.
type Address [16]byte

// AddressOf returns the address that an IP address counts for: the zero Address when it is not valid.
func AddressOf(ip netip.Addr) Address {
	ip = ip.Unmap()
	if !ip.IsValid() {
		return Address{}
	}
	a := Address(ip.As16())
	if ip.Is6() {
		clear(a[8:])
	}
	return a
}
