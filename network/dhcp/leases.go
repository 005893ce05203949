package dhcp

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Lease is an address that a guest was given.
type Lease struct {
	Address netip.Addr
	// MAC is the guest's; nil for an IPv6 address, of which the lease does not say it.
	MAC     net.HardwareAddr
	Name    string // empty for none
	Expires time.Time
}

// parseLease reads a line of dnsmasq's leases: the time, the MAC or, of DHCPv6, the IAID, the address, the name and the client's ID.
func parseLease(line string) (Lease, bool) {
	fields := strings.Fields(line)
	if len(fields) != 5 {
		return Lease{}, false
	}
	seconds, err := strconv.ParseInt(fields[0], 10, 64)
	address, err2 := netip.ParseAddr(fields[2])
	if err != nil || err2 != nil {
		return Lease{}, false
	}
	l := Lease{Address: address, Expires: time.Unix(seconds, 0)}
	if fields[3] != "*" {
		l.Name = fields[3]
	}
	if address.Is4() {
		l.MAC, err = net.ParseMAC(fields[1])
	}
	return l, err == nil
}

func parseLeases(text string) []Lease {
	var out []Lease
	for line := range strings.Lines(text) {
		if l, ok := parseLease(line); ok {
			out = append(out, l)
		}
	}
	return out
}

// owners are the MACs of a hosts file's addresses.
func owners(hosts string) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for line := range strings.Lines(hosts) {
		fields := strings.Split(strings.TrimSpace(line), ",")
		for _, f := range fields[1:] {
			if a, err := netip.ParseAddr(strings.Trim(f, "[]")); err == nil {
				out[a] = fields[0]
			}
		}
	}
	return out
}

// prune takes out of the leases those whose address is no longer the guest's: dnsmasq would keep it from whose it is. An IPv6 lease does not
// say its guest's MAC, but whose the address was does.
func prune(leases, before, hosts string) (kept string, pruned bool) {
	was, is := owners(before), owners(hosts)
	var b strings.Builder
	for line := range strings.Lines(leases) {
		l, ok := parseLease(line)
		owner := is[l.Address]
		stale := owner == "" || l.Address.Is4() && owner != l.MAC.String() || l.Address.Is6() && was[l.Address] != "" && was[l.Address] != owner
		if ok && stale {
			pruned = true
			continue
		}
		b.WriteString(line)
	}
	return b.String(), pruned
}
