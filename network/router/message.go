package router

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"time"
)

// What advertisements say of time. A router lives long enough for an agent that is being replaced; prefixes as with radvd, which
// Neutron runs.
const (
	routerLifetime    = 9000 * time.Second // RFC 4861's largest AdvDefaultLifetime
	validLifetime     = 24 * time.Hour
	preferredLifetime = 4 * time.Hour
	dnsLifetime       = routerLifetime
)

// ICMPv6 types, options and flags of RFC 4861 and RFC 8106.
const (
	typeSolicitation  = 133
	typeAdvertisement = 134

	optionSource = 1
	optionPrefix = 3
	optionMTU    = 5
	optionDNS    = 25

	flagManaged    = 0x80
	flagOther      = 0x40
	flagOnLink     = 0x80
	flagAutonomous = 0x40

	minMTU      = 1280 // of IPv6
	hopLimit    = 64   // that guests are told to begin with
	messageHops = 255  // who is further away cannot have sent it
)

// advertisement is what a router says on a device.
type advertisement struct {
	MAC      net.HardwareAddr
	MTU      int
	Prefixes []Advertisement
}

// message is a router advertisement; the kernel puts in its checksum. Prefixes that went are withdrawn in it.
func (a *advertisement) message(went []netip.Prefix) []byte {
	b := a.head(routerLifetime)
	if a.MTU >= minMTU {
		b = append(b, optionMTU, 1, 0, 0)
		b = binary.BigEndian.AppendUint32(b, uint32(a.MTU))
	}
	for _, p := range a.Prefixes {
		b = appendPrefix(b, p.Prefix, p.SLAAC, validLifetime, preferredLifetime)
	}
	for _, p := range went {
		b = appendPrefix(b, p, true, 0, 0)
	}
	return appendDNS(b, a.dns())
}

// farewell says that the router is none any more. The prefixes are still there.
func (a *advertisement) farewell() []byte { return a.head(0) }

func (a *advertisement) head(lifetime time.Duration) []byte {
	flags := byte(0)
	for _, p := range a.Prefixes {
		if p.Managed {
			flags |= flagManaged
		}
		if p.Other {
			flags |= flagOther
		}
	}
	b := []byte{typeAdvertisement, 0, 0, 0, hopLimit, flags}
	b = binary.BigEndian.AppendUint16(b, uint16(lifetime/time.Second))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // reachable time and retransmission: the guest's own
	return append(append(b, optionSource, 1), a.MAC...)
}

func appendPrefix(b []byte, p netip.Prefix, slaac bool, valid, preferred time.Duration) []byte {
	flags := byte(flagOnLink)
	if slaac {
		flags |= flagAutonomous
	}
	b = append(b, optionPrefix, 4, byte(p.Bits()), flags)
	b = binary.BigEndian.AppendUint32(b, uint32(valid/time.Second))
	b = binary.BigEndian.AppendUint32(b, uint32(preferred/time.Second))
	b = append(b, 0, 0, 0, 0)
	return append(b, p.Masked().Addr().AsSlice()...)
}

// maxDNS is how many servers an option holds whose length is one byte.
const maxDNS = 127

func (a *advertisement) dns() []netip.Addr {
	var out []netip.Addr
	for _, p := range a.Prefixes {
		for _, s := range p.DNS {
			if s.Is6() && !slices.Contains(out, s) && len(out) < maxDNS {
				out = append(out, s)
			}
		}
	}
	return out
}

func appendDNS(b []byte, servers []netip.Addr) []byte {
	if len(servers) == 0 {
		return b
	}
	b = append(b, optionDNS, byte(1+2*len(servers)), 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(dnsLifetime/time.Second))
	for _, s := range servers {
		b = append(b, s.AsSlice()...)
	}
	return b
}
