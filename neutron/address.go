package neutron

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// farthest is how far from its first address a range is looked at; IPv6 ranges may have more addresses than that.
const farthest = 1 << 62

// span is how many addresses after the first the last is, at most farthest.
func (r Range) span() uint64 {
	first, last := r.First.As16(), r.Last.As16()
	high := binary.BigEndian.Uint64(last[:8]) - binary.BigEndian.Uint64(first[:8])
	low := binary.BigEndian.Uint64(last[8:]) - binary.BigEndian.Uint64(first[8:])
	if binary.BigEndian.Uint64(last[8:]) < binary.BigEndian.Uint64(first[8:]) {
		high--
	}
	if high > 0 {
		return farthest
	}
	return min(low, farthest)
}

// Contains says whether an address is in the range.
func (r Range) Contains(a netip.Addr) bool {
	return a.BitLen() == r.First.BitLen() && r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
}

func (r Range) overlaps(o Range) bool { return r.Contains(o.First) || o.Contains(r.First) }

// String is how users read it.
func (r Range) String() string { return r.First.String() + "-" + r.Last.String() }

// plus is the address n after a.
func plus(a netip.Addr, n uint64) netip.Addr {
	bytes := a.As16()
	low := binary.BigEndian.Uint64(bytes[8:])
	binary.BigEndian.PutUint64(bytes[8:], low+n)
	if low+n < low {
		binary.BigEndian.PutUint64(bytes[:8], binary.BigEndian.Uint64(bytes[:8])+1)
	}
	if a.Is4() {
		return netip.AddrFrom16(bytes).Unmap()
	}
	return netip.AddrFrom16(bytes)
}

// lastOf is the last address of a prefix: of IPv4 the broadcast address.
func lastOf(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for i := range bytes {
		if host := (i+1)*8 - p.Bits(); host >= 8 {
			bytes[i] = 0xff
		} else if host > 0 {
			bytes[i] |= 1<<host - 1
		}
	}
	a, _ := netip.AddrFromSlice(bytes)
	return a
}

// EUI64 is the address that a guest makes itself of a /64 prefix and its MAC (RFC 4291).
func EUI64(prefix netip.Prefix, mac net.HardwareAddr) netip.Addr {
	a := prefix.Masked().Addr().As16()
	copy(a[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.AddrFrom16(a)
}

// BaseMAC begins every MAC that is made up: Neutron's base_mac, of which OpenStack's guests are known.
const BaseMAC = "fa:16:3e"

// RandomMAC makes up a MAC; random is any 24 bits.
func RandomMAC(random uint32) string {
	return fmt.Sprintf("%s:%02x:%02x:%02x", BaseMAC, byte(random>>16), byte(random>>8), byte(random))
}
