package router_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"compute-agent/internal/golden"
	"compute-agent/network/firewall"
	"compute-agent/network/router"
)

func example() router.Router {
	r := wanted(&node{name: "qrouter-r1"})
	r.FloatingIPs = []router.FloatingIP{floating("203.0.113.11", "10.0.1.5"), floating("203.0.113.10", "10.0.0.6")}
	r.Inside[1].Prefixes = append(r.Inside[1].Prefixes, prefix("2001:db8:1::/64"))
	r.Inside[1].Advertise = []router.Advertisement{{Prefix: prefix("2001:db8:1::/64"), SLAAC: true}}
	return r
}

// TestGolden has whole rule sets, as a person can read them.
func TestGolden(t *testing.T) {
	bare := example()
	bare.FloatingIPs = nil
	routed := example()
	routed.SNAT = netip.Addr{}
	inside := example()
	inside.Outside, inside.SNAT, inside.FloatingIPs = "", netip.Addr{}, nil
	for name, r := range map[string]router.Router{"full": example(), "bare": bare, "routed": routed, "inside": inside} {
		t.Run(name, func(t *testing.T) {
			rules, err := router.Generate(r)
			if err != nil {
				t.Fatal(err)
			}
			golden.Assert(t, "testdata/"+name+".golden", "# iptables\n"+firewall.Text(rules.IPv4)+"# ip6tables\n"+firewall.Text(rules.IPv6))
		})
	}
}

// TestOrderDoesNotMatter: a Router in another order has the same rules.
func TestOrderDoesNotMatter(t *testing.T) {
	other := example()
	slices.Reverse(other.FloatingIPs)
	slices.Reverse(other.Inside)
	if a, b := textOf(t, example()), textOf(t, other); a != b {
		t.Errorf("%s\nand\n%s", a, b)
	}
}

// TestRefused: what makes no sense is told by field.
func TestRefused(t *testing.T) {
	for want, change := range map[string]func(*router.Router){
		`namespace: "../x" is no name`:                        func(r *router.Router) { r.Namespace = "../x" },
		`namespace: "" is no name`:                            func(r *router.Router) { r.Namespace = "" },
		`outside: "qg -j ACCEPT" is no name of a device`:      func(r *router.Router) { r.Outside = "qg -j ACCEPT" },
		`outside: "qg-0123456789abc" is no name`:              func(r *router.Router) { r.Outside = "qg-0123456789abc" },
		`inside: "" is no name of a device`:                   func(r *router.Router) { r.Inside[0].Device = "" },
		`inside: device qr-bbbbbbbbbbb is there twice`:        func(r *router.Router) { r.Inside[0].Device = qrB },
		`inside qr-aaaaaaaaaaa: prefixes: 0.0.0.0/0`:          func(r *router.Router) { r.Inside[0].Prefixes[0] = prefix("0.0.0.0/0") },
		`prefixes: ::ffff:10.0.0.0/120 is no`:                 func(r *router.Router) { r.Inside[0].Prefixes[0] = netip.PrefixFrom(addr("::ffff:10.0.0.0"), 120) },
		`prefixes: invalid Prefix`:                            func(r *router.Router) { r.Inside[0].Prefixes[0] = netip.Prefix{} },
		`advertise: 10.0.0.0/24 is no IPv6 subnet`:            func(r *router.Router) { r.Inside[1].Advertise[0].Prefix = prefix("10.0.0.0/24") },
		`advertise: 2001:db8::/63: guests`:                    func(r *router.Router) { r.Inside[1].Advertise[0].Prefix = prefix("2001:db8::/63") },
		`mtu: -1 is not from 0`:                               func(r *router.Router) { r.Inside[0].MTU = -1 },
		`outside: none, but there are addresses`:              func(r *router.Router) { r.Outside = "" },
		`snat: 2001:db8::1 is no IPv4`:                        func(r *router.Router) { r.SNAT = addr("2001:db8::1") },
		`snat: 0.0.0.0 is no IPv4`:                            func(r *router.Router) { r.SNAT = addr("0.0.0.0") },
		`floating ip: 224.0.0.1 is no IPv4`:                   func(r *router.Router) { r.FloatingIPs[0].Address = addr("224.0.0.1") },
		`floating ip: invalid IP is no IPv4`:                  func(r *router.Router) { r.FloatingIPs[0].Address = netip.Addr{} },
		`floating ip 203.0.113.11: fixed: 127.0.0.1 is no`:    func(r *router.Router) { r.FloatingIPs[0].Fixed = addr("127.0.0.1") },
		`floating ip 203.0.113.10: is there twice`:            func(r *router.Router) { r.FloatingIPs[0].Address = addr("203.0.113.10") },
		`floating ip 203.0.113.2: is there twice`:             func(r *router.Router) { r.FloatingIPs[0].Address = addr(gatewayIP) },
		`fixed: 255.255.255.255 is no IPv4 address of a host`: func(r *router.Router) { r.FloatingIPs[0].Fixed = addr("255.255.255.255") },
	} {
		r := example()
		change(&r)
		if _, err := router.Generate(r); !errors.Is(err, router.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %s", err, want)
		}
	}
}
