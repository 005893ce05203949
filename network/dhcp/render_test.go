package dhcp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"compute-agent/internal/golden"
)

var at = Place{Dir: "/var/lib/compute-agent/dhcp/" + netA, User: "dnsmasq", Device: 7}

func (f *Files) text() string {
	return fmt.Sprintf("-- %s --\n%s-- hosts --\n%s-- options --\n%s-- names --\n%s", f.confName(), f.Conf, f.Hosts, f.Options, f.Names)
}

// TestRender holds the files of servers of each kind.
func TestRender(t *testing.T) {
	p, six := netip.MustParsePrefix, server().Subnets[1]
	for _, c := range []struct {
		name   string
		change func(*Server)
	}{
		{"both", func(*Server) {}},
		{"no gateway, no dns, no domain, no mtu", func(s *Server) {
			s.Domain, s.MTU = "", 0
			s.Subnets[0].Gateway, s.Subnets[0].DNS, s.Subnets[0].Routes = netip.Addr{}, nil, nil
		}},
		{"several subnets and addresses", func(s *Server) {
			s.Subnets = append(s.Subnets,
				Subnet{ID: "more", CIDR: p("10.1.0.0/16"), Server: addr("10.1.0.2"), Addresses: true, DNS: []netip.Addr{addr("192.0.2.53"), addr("2001:db8::53")}},
				Subnet{ID: "off", CIDR: p("10.2.0.0/16"), Server: addr("10.2.0.2")},
				Subnet{ID: "unserved", CIDR: p("10.3.0.0/16"), Addresses: true},
				Subnet{ID: "six2", CIDR: p("2001:db8:2::/96"), Server: addr("2001:db8:2::2"), Addresses: true})
			s.Hosts[0].Addresses = []netip.Addr{
				addr("10.1.0.11"), addr("10.0.0.12"), addr("10.0.0.11"), addr("2001:db8:1::11"), addr("2001:db8:1::12"), addr("2001:db8:2::11"), addr("10.2.0.11"),
			}
			s.Hosts[1].Addresses, s.Hosts[1].Name = nil, ""
		}},
		{"stateless", func(s *Server) {
			six.Addresses, six.SLAAC, six.Gateway = false, true, addr("fe80::1")
			s.Subnets = []Subnet{six}
		}},
		{"stateless, advertised by another", func(s *Server) {
			six.Addresses, six.SLAAC, six.Advertise = false, true, false
			s.Subnets = []Subnet{six}
		}},
		{"router that gives addresses and lets guests make them", func(s *Server) {
			six.Addresses, six.SLAAC, six.Advertise, six.Router = true, true, true, true
			s.MTU, s.Subnets = 1200, []Subnet{six}
		}},
		{"nothing", func(s *Server) { s.Subnets, s.Hosts = nil, nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := server()
			c.change(&s)
			files, err := Render(at, s)
			if err != nil {
				t.Fatal(err)
			}
			golden.Assert(t, "testdata/render/"+strings.NewReplacer(" ", "-", ",", "").Replace(c.name)+".txt", files.text())
		})
	}
}

// TestRenderOrder: the order of subnets and hosts changes nothing, so that no server is told or started anew for it.
func TestRenderOrder(t *testing.T) {
	s, other := server(), server()
	for a, b := 0, 1; a < b; a, b = a+1, b-1 {
		other.Subnets[a], other.Subnets[b] = other.Subnets[b], other.Subnets[a]
		other.Hosts[a], other.Hosts[b] = other.Hosts[b], other.Hosts[a]
	}
	one, err := Render(at, s)
	two, err2 := Render(at, other)
	if one != two || err != nil || err2 != nil {
		t.Errorf("%v, %v\n%s\n%s", err, err2, one.text(), two.text())
	}
}

// TestRenderInvalid: what makes no sense is told with its place and is in no file; a host that makes none takes no other with it.
func TestRenderInvalid(t *testing.T) {
	option := func(name, value string, six bool) func(*Server) {
		return func(s *Server) { s.Hosts[0].Options = []Option{{name, value, six}} }
	}
	for _, c := range []struct {
		change func(*Server)
		says   string
		whole  bool // nothing is left
	}{
		{func(s *Server) { s.Network = "../../etc" }, `network "../../etc": id: letters`, true},
		{func(s *Server) { s.Device = "eth0\nx" }, `device: "eth0\nx" is no name of an interface`, true},
		{func(s *Server) { s.Domain = "a/b" }, `domain: "a/b" is no name of a domain`, true},
		{func(s *Server) { s.Domain = "a,b" }, `domain: "a,b" is no name of a domain`, true},
		{func(s *Server) { s.MTU = 70000 }, "mtu: 70000 is not from 68 to 65535", true},
		{func(s *Server) { s.Subnets[0].ID = "a,b" }, `subnet "a,b": id: letters`, false},
		{func(s *Server) { s.Subnets[0].Server = addr("10.9.0.2") }, `server: "10.9.0.2" is not in 10.0.0.0/24`, false},
		{func(s *Server) { s.Subnets[0].Gateway = addr("fe80::1") }, `gateway: "fe80::1" is of the other family than 10.0.0.0/24`, false},
		{func(s *Server) { s.Subnets[0].DNS = []netip.Addr{addr("fe80::1%a\nb")} }, "is no host's address", false},
		{func(s *Server) { s.Subnets[0].Routes = []Route{{}} }, "is no route", false},
		{func(s *Server) {
			s.Subnets[1].CIDR = netip.MustParsePrefix("2001:db8::/48")
			s.Subnets[1].Server = addr("2001:db8::2")
		}, "an IPv6 one of less than 64 bits", false},
		{func(s *Server) { s.Subnets[1].CIDR = netip.MustParsePrefix("2001:db8:1::/80") }, "cannot be advertised: 64 bits can", false},
		{func(s *Server) { s.Hosts[0].Port = "a b" }, `port "a b": id: letters`, false},
		{func(s *Server) { s.Hosts[0].MAC = net.HardwareAddr{1} }, `port "port-1": mac: "01" is no interface's address`, false},
		{func(s *Server) { s.Hosts[0].Name = "vm,10.0.0.99" }, `port "port-1": name: "vm,10.0.0.99" is no name of a host`, false},
		{func(s *Server) { s.Hosts[0].Name = "vm\ndhcp-script=/bin/sh" }, "is no name of a host", false},
		{func(s *Server) { s.Hosts[0].Addresses = []netip.Addr{{}} }, `addresses: "invalid IP" is no host's address`, false},
		{option("no-such", "x", false), `options: "no-such" is neither a number nor a name that dnsmasq has`, false},
		{option("bootfile-url", "x", false), "is neither a number nor a name", false},
		{option("bootfile-url,6", "x", true), "is neither a number nor a name", false},
		{option("0", "x", false), `"0" is not from 1 to 254`, false},
		{option("+67", "x", false), `"+67" is not from 1 to 254`, false},
		{option("53", "x", false), "53 is the server's own", false},
		{option("1", "x", true), "1 is the server's own", false},
		{option("67", "a\ndhcp-script=/bin/sh", false), "printable ASCII without quotes, backslashes and comments", false},
		{option("67", `a\nb`, false), "printable ASCII", false},
		{option("67", `"a`, false), "printable ASCII", false},
		{option("67", `a #b`, false), "printable ASCII", false},
		{option("67", strings.Repeat("a", 256), false), "67: its value has 256 bytes, of which 255 can be", false},
	} {
		s := server()
		c.change(&s)
		files, err := Render(at, s)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("no %q in: %v", c.says, err)
		}
		if (files == Files{}) != c.whole {
			t.Errorf("%s: the files are:\n%s", c.says, files.text())
		}
		if !c.whole && !strings.Contains(files.Hosts, mac(2).String()) {
			t.Errorf("%s: another host is left out:\n%s", c.says, files.text())
		}
	}
}

// TestHostileNames: whatever a user calls things, no line of the files is one that the server was not to have.
func TestHostileNames(t *testing.T) {
	plain := server()
	plain.Hosts[0].Options = nil
	before, err := Render(at, plain)
	if err != nil {
		t.Fatal(err)
	}
	lines := func(f Files) int { return strings.Count(f.text(), "\n") }
	rapid.Check(t, func(rt *rapid.T) {
		s := server()
		s.Hosts[0].Name = rapid.String().Draw(rt, "name")
		s.Hosts[0].Options = []Option{{rapid.OneOf(rapid.String(), rapid.Just("67")).Draw(rt, "option"), rapid.String().Draw(rt, "value"), false}}
		files, err := Render(at, s)
		if err != nil && strings.Contains(files.text(), "port-1") || err == nil && lines(files) > lines(before)+2 {
			rt.Fatalf("%v\n%s", err, files.text())
		}
	})
}

// TestPrune: a lease goes when its address is another's now, and no other does.
func TestPrune(t *testing.T) {
	const (
		before = "fa:16:3e:00:00:01,[2001:db8::1],10.0.0.1,vm-1\nfa:16:3e:00:00:02,[2001:db8::2],10.0.0.2,vm-2\nfa:16:3e:00:00:03,10.0.0.3\n"
		after  = "fa:16:3e:00:00:01,[2001:db8::1],10.0.0.1,vm-1\nfa:16:3e:00:00:09,[2001:db8::2],10.0.0.2,vm-2\nfa:16:3e:00:00:03,10.0.0.4\n"
		leases = `1795643755 fa:16:3e:00:00:01 10.0.0.1 vm-1 01:fa:16:3e:00:00:01
1795643755 fa:16:3e:00:00:02 10.0.0.2 vm-2 *
1795643755 fa:16:3e:00:00:03 10.0.0.3 * *
duid 00:01:00:01:30:9b:51:9d:fa:16:3e:00:00:64
1795643755 1048577 2001:db8::1 vm-1 00:03:00:01:fa:16:3e:00:00:01
1795643755 1048577 2001:db8::2 vm-2 00:03:00:01:fa:16:3e:00:00:02
`
		left = `1795643755 fa:16:3e:00:00:01 10.0.0.1 vm-1 01:fa:16:3e:00:00:01
duid 00:01:00:01:30:9b:51:9d:fa:16:3e:00:00:64
1795643755 1048577 2001:db8::1 vm-1 00:03:00:01:fa:16:3e:00:00:01
`
	)
	if kept, pruned := prune(leases, before, after); kept != left || !pruned {
		t.Errorf("%v, kept:\n%s", pruned, kept)
	}
	if kept, pruned := prune(leases, before, before); kept != leases || pruned {
		t.Errorf("%v, kept:\n%s", pruned, kept)
	}
	if kept, pruned := prune("", "", after); kept != "" || pruned {
		t.Errorf("%v, kept:\n%s", pruned, kept)
	}
	all := parseLeases(leases + "\nhalf a line 10.0.0")
	if len(all) != 5 || all[2].Name != "" || all[3].MAC != nil || all[0].Expires.Unix() != 1795643755 || all[0].MAC.String() != mac(1).String() {
		t.Errorf("%+v", all)
	}
}
