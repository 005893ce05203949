package router_test

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"compute-agent/internal/command"
	"compute-agent/network/firewall"
	"compute-agent/network/router"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// cloud6 is an external network with who is outside, and a router with a network that it advertises.
func cloud6(t *testing.T) (*lab, *node, *node, router.Router) {
	t.Helper()
	l := newLab(t, "br-ext", "br-a")
	outside := l.node()
	outside.plug("eth0", "br-ext", "2001:db8:ffff::1/64")
	outside.route("2001:db8:a::/48", "2001:db8:ffff::2")
	ns := l.router("6")
	ns.plug(qg, "br-ext", "2001:db8:ffff::2/64")
	ns.plug(qrA, "br-a", "2001:db8:a::1/64", "2001:db8:a:1::1/64")
	ns.route("::/0", "2001:db8:ffff::1")
	return l, outside, ns, router.Router{ID: "r6", Namespace: ns.name, Outside: qg, Inside: []router.Inside{{
		Device: qrA, MTU: 1400, Prefixes: []netip.Prefix{prefix("2001:db8:a::/64")},
		Advertise: []router.Advertisement{{Prefix: prefix("2001:db8:a::/64"), SLAAC: true}},
	}}}
}

// guest6 is a guest that knows nothing and waits for what a router says.
func (l *lab) guest6() *node {
	l.t.Helper()
	n := l.node()
	n.do(func() { set(l.t, "ipv6/conf/default/router_solicitation_delay", "0") })
	n.plug("eth0", "br-a")
	return n
}

// await waits for an address of a prefix that is as it should be.
func (n *node) await(within string, is func(netlink.AddrUpdate) bool) netip.Addr {
	t := n.lab.t
	t.Helper()
	updates, done := make(chan netlink.AddrUpdate, 100), make(chan struct{})
	defer close(done)
	n.lab.must(netlink.AddrSubscribeWithOptions(updates, done, netlink.AddrSubscribeOptions{Namespace: &n.ns, ListExisting: true}))
	late := time.After(patience)
	for {
		select {
		case u := <-updates:
			ip, _ := netip.AddrFromSlice(u.LinkAddress.IP)
			if u.NewAddr && prefix(within).Contains(ip) && is(u) {
				return ip
			}
		case <-late:
			t.Fatalf("no address of %s comes", within)
		}
	}
}

func usable(u netlink.AddrUpdate) bool     { return u.Flags&unix.IFA_F_TENTATIVE == 0 }
func deprecated(u netlink.AddrUpdate) bool { return u.PreferedLft == 0 }

// defaultRoute is the gateway of the guest's; invalid for none.
func (n *node) defaultRoute() (via netip.Addr) {
	n.do(func() {
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{}, netlink.RT_FILTER_DST)
		n.lab.must(err)
		for _, r := range routes {
			via, _ = netip.AddrFromSlice(r.Gw)
		}
	})
	return via
}

func (n *node) mac(device string) (mac net.HardwareAddr) {
	n.do(func() {
		link, err := netlink.LinkByName(device)
		n.lab.must(err)
		mac = link.Attrs().HardwareAddr
	})
	return mac
}

// TestAdvertisements: guests' kernels make themselves addresses and routes of what the router says, when it begins and when they ask, and
// IPv6 is routed both ways.
func TestAdvertisements(t *testing.T) {
	l, outside, ns, r := cloud6(t)
	early := l.guest6()
	rs := routers(t, command.Exec{}, firewall.VariantNFT)
	apply(t, rs, r)
	address := early.await("2001:db8:a::/64", usable)
	if address.As16()[11] != 0xff || address.As16()[12] != 0xfe {
		t.Errorf("the guest's address %s is not of its MAC", address)
	}
	mac := ns.mac(qrA)
	if via := early.defaultRoute(); !via.IsLinkLocalUnicast() || via.As16()[15] != mac[5] || via.As16()[8] != mac[0]^2 {
		t.Errorf("the guest routes by %s, and the router is %s", via, mac)
	}
	early.do(func() {
		if mtu, err := os.ReadFile("/proc/sys/net/ipv6/conf/eth0/mtu"); strings.TrimSpace(string(mtu)) != "1400" {
			t.Errorf("the guest's MTU is %s, %v", mtu, err)
		}
	})
	remote, guest := outside.udp("[2001:db8:ffff::1]:1000"), early.udp("["+address.String()+"]:1000")
	if seen := l.ask(guest, "[2001:db8:ffff::1]:1000", remote); seen != address {
		t.Errorf("seen from %s, want %s", seen, address)
	}
	l.ask(remote, "["+address.String()+"]:1000", guest)

	early.address("lo", "2001:db8:bad::1/128")
	liar := early.udp("[2001:db8:bad::1]:1000")
	_, err := liar.WriteToUDPAddrPort([]byte("intruder"), netip.MustParseAddrPort("[2001:db8:ffff::1]:1000"))
	l.must(err)
	l.ask(guest, "[2001:db8:ffff::1]:1000", remote)
	if n := ns.counted(firewall.VariantNFT, "false source"); n != 1 {
		t.Errorf("%d packets with false sources were dropped, want 1", n)
	}
	l.dropped++

	l.guest6().await("2001:db8:a::/64", usable) // which asked
	r.Inside[0].Advertise = []router.Advertisement{{Prefix: prefix("2001:db8:a:1::/64"), SLAAC: true}}
	apply(t, rs, r)
	early.await("2001:db8:a:1::/64", usable)
	early.await("2001:db8:a::/64", deprecated)
}

// TestFarewell: a router that goes, or does not advertise any more, is no guest's any more; one whose agent ends is.
func TestFarewell(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(rs *router.Routers, r router.Router)
		want bool // to be a router afterwards
	}{
		"released": {func(rs *router.Routers, _ router.Router) { rs.Release(nil) }, false},
		"silenced": {func(rs *router.Routers, r router.Router) { r.Inside = nil; rs.Release([]router.Router{r}) }, false},
		"gone":     {func(rs *router.Routers, _ router.Router) { apply(t, rs) }, false},
		"closed":   {func(rs *router.Routers, _ router.Router) { rs.Close() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			l, _, _, r := cloud6(t)
			guest := l.guest6()
			rs := routers(t, command.Exec{}, firewall.VariantNFT)
			apply(t, rs, r)
			guest.await("2001:db8:a::/64", usable)
			if !guest.defaultRoute().IsValid() {
				t.Fatal("the guest has no router")
			}
			c.end(rs, r)
			// What is sent has arrived when the call returns.
			if via := guest.defaultRoute(); via.IsValid() != c.want {
				t.Errorf("the guest's router is %s afterwards", via)
			}
		})
	}
}

// TestAddressComesLater: a device has no address to send from until the kernel has found that nobody else has it.
func TestAddressComesLater(t *testing.T) {
	l, _, ns, r := cloud6(t)
	guest := l.guest6()
	var own netlink.Addr
	ns.do(func() {
		link, err := netlink.LinkByName(qrA)
		l.must(err)
		list, err := netlink.AddrList(link, netlink.FAMILY_V6)
		l.must(err)
		for _, a := range list {
			if a.IP.IsLinkLocalUnicast() {
				own = netlink.Addr{IPNet: a.IPNet}
				l.must(netlink.AddrDel(link, &a))
			}
		}
	})
	apply(t, routers(t, command.Exec{}, firewall.VariantNFT), r)
	ns.address(qrA, own.String())
	guest.await("2001:db8:a::/64", usable)
}
