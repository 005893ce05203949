package dhcp

import (
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/sys/unix"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// server is one with an IPv4 and an IPv6 subnet, and two hosts.
func server() Server {
	return Server{
		Network: netA, Namespace: space, Device: "ns-server", Domain: "cloud.example", MTU: 1450,
		Subnets: []Subnet{
			{
				ID: "four", CIDR: netip.MustParsePrefix("10.0.0.0/24"), Gateway: addr("10.0.0.1"), Server: addr("10.0.0.2"), Addresses: true,
				DNS: []netip.Addr{addr("192.0.2.53"), addr("192.0.2.54")}, Routes: []Route{{netip.MustParsePrefix("198.51.100.0/24"), addr("10.0.0.9")}},
			},
			{ID: "six", CIDR: netip.MustParsePrefix("2001:db8:1::/64"), Server: addr("2001:db8:1::2"), Addresses: true, Advertise: true},
		},
		Hosts: []Host{
			{
				Port: "port-1", MAC: mac(1), Name: "vm-1", Addresses: []netip.Addr{addr("10.0.0.11"), addr("2001:db8:1::11")},
				Options: []Option{{Name: "bootfile-name", Value: "pxelinux.0"}, {Name: "42", Value: "192.0.2.123"}, {Name: "bootfile-url", Value: "http://192.0.2.1/x#y", IPv6: true}},
			},
			{Port: "port-2", MAC: mac(2), Name: "vm-2", Addresses: []netip.Addr{addr("10.0.0.12"), addr("2001:db8:1::12")}},
		},
	}
}

var both = []string{"10.0.0.2/24", "169.254.169.254/32", "2001:db8:1::2/64"}

// TestLease4: a real client gets its address and all options from a real dnsmasq; one that is not known gets nothing.
func TestLease4(t *testing.T) {
	l := newLab(t, both...)
	l.apply(l.supervisor(), server())
	ack := l.gets4(1, "10.0.0.11")
	routes := "20a9fea9fe0a000002" + "18c633640a000009" + "000a000001"
	for _, c := range []struct {
		what      string
		got, want string
	}{
		{"router", net.IP(ack.Options.Get(dhcpv4.OptionRouter)).String(), "10.0.0.1"},
		{"mask", net.IP(ack.SubnetMask()).String(), "255.255.255.0"},
		{"dns", hex.EncodeToString(ack.Options.Get(dhcpv4.OptionDomainNameServer)), "c0000235" + "c0000236"},
		{"mtu", hex.EncodeToString(ack.Options.Get(dhcpv4.OptionInterfaceMTU)), "05aa"},
		{"name", ack.HostName(), "vm-1"},
		{"domain", ack.DomainName(), "cloud.example"},
		{"routes", hex.EncodeToString(ack.Options.Get(dhcpv4.OptionClasslessStaticRoute)), routes},
		{"routes of Microsoft", hex.EncodeToString(ack.Options.Get(dhcpv4.GenericOptionCode(249))), routes},
		{"boot file", strings.TrimRight(ack.BootFileName+string(ack.Options.Get(dhcpv4.OptionBootfileName)), "\x00"), "pxelinux.0"},
		{"ntp", net.IP(ack.Options.Get(dhcpv4.OptionNTPServers)).String(), "192.0.2.123"},
		{"lease", ack.IPAddressLeaseTime(0).String(), "24h0m0s"},
	} {
		if c.got != c.want {
			t.Errorf("%s is %s, not %s", c.what, c.got, c.want)
		}
	}
	if other := l.gets4(2, "10.0.0.12"); other.BootFileName != "" || other.Options.Get(dhcpv4.OptionNTPServers) != nil {
		t.Errorf("it gets another port's options: %s", other.Summary())
	}
	l.nothing4(3, 2, "10.0.0.12")
}

// TestPortOptions: what a port is to be told comes before what its subnet and its network say, and it is known without anything else of it.
func TestPortOptions(t *testing.T) {
	l := newLab(t, both...)
	want := server()
	want.Hosts[0].Options = []Option{
		{Name: "dns-server", Value: "192.0.2.99"}, {Name: "router", Value: "10.0.0.77"}, {Name: "mtu", Value: "1300"}, {Name: "121", Value: "0.0.0.0/0,10.0.0.77"},
	}
	want.Hosts[0].Name = ""
	want.Hosts[1].Addresses, want.Hosts[1].Name = nil, ""
	l.apply(l.supervisor(), want)
	ack := l.gets4(1, "10.0.0.11")
	for code, want := range map[dhcpv4.OptionCode]string{
		dhcpv4.OptionDomainNameServer: "c0000263", dhcpv4.OptionRouter: "0a00004d", dhcpv4.OptionInterfaceMTU: "0514", dhcpv4.OptionClasslessStaticRoute: "000a00004d",
	} {
		if got := hex.EncodeToString(ack.Options.Get(code)); got != want {
			t.Errorf("%s is %s, not %s", code, got, want)
		}
	}
	l.nothing4(2, 1, "10.0.0.11")
}

// TestLease6: stateful DHCPv6, by MAC.
func TestLease6(t *testing.T) {
	l := newLab(t, both...)
	l.apply(l.supervisor(), server())
	reply := l.gets6(1, "2001:db8:1::11")
	if got := reply.Options.DNS(); len(got) != 1 || got[0].String() != "2001:db8:1::2" {
		t.Errorf("its DNS is %v", got)
	}
	if got := reply.Options.DomainSearchList(); got == nil || strings.Join(got.Labels, " ") != "cloud.example" {
		t.Errorf("its domain is %v", got)
	}
	if got := reply.Options.BootFileURL(); got != "http://192.0.2.1/x#y" {
		t.Errorf("its boot file is %q", got)
	}
	if got := l.gets6(2, "2001:db8:1::12").Options.BootFileURL(); got != "" {
		t.Errorf("another port's boot file is %q", got)
	}
}

// TestStateless: the kernel of a guest makes itself an address, and DHCPv6 tells it the rest.
func TestStateless(t *testing.T) {
	l := newLab(t, "2001:db8:1::2/64")
	want := server()
	want.Subnets = []Subnet{{
		ID: "six", CIDR: netip.MustParsePrefix("2001:db8:1::/64"), Server: addr("2001:db8:1::2"), Advertise: true, SLAAC: true, DNS: []netip.Addr{addr("2001:db8::53")},
	}}
	l.apply(l.supervisor(), want)
	l.slaac(1, "2001:db8:1:0:f816:3eff:fe00:1")
	if routes := l.inside(guest(1), "ip", "-6", "route"); strings.Contains(routes, "default") {
		t.Errorf("it routes through who is no router:\n%s", routes)
	}
	client := l.client6(1)
	defer func() { _ = client.Close() }()
	ask, err := dhcpv6.NewMessage(dhcpv6.WithClientID(&dhcpv6.DUIDLL{HWType: 1, LinkLayerAddr: mac(1)}), dhcpv6.WithRequestedOptions(dhcpv6.OptionDNSRecursiveNameServer))
	if err != nil {
		t.Fatal(err)
	}
	ask.MessageType = dhcpv6.MessageTypeInformationRequest
	reply, err := client.SendAndRead(t.Context(), client.RemoteAddr(), ask, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := reply.Options.DNS(); len(got) != 1 || got[0].String() != "2001:db8::53" {
		t.Errorf("its DNS is %v", got)
	}
}

// TestRouter: of a subnet with Router, guests route through who advertises.
func TestRouter(t *testing.T) {
	l := newLab(t, "2001:db8:1::2/64")
	want := server()
	want.Subnets = []Subnet{{
		ID: "six", CIDR: netip.MustParsePrefix("2001:db8:1::/64"), Server: addr("2001:db8:1::2"), Advertise: true, SLAAC: true, Router: true,
	}}
	l.apply(l.supervisor(), want)
	l.slaac(2, "2001:db8:1:0:f816:3eff:fe00:2")
	if routes := l.inside(guest(2), "ip", "-6", "route"); !strings.Contains(routes, "default via fe80::f816:3eff:fe00:64") {
		t.Errorf("it has no default route:\n%s", routes)
	}
}

// TestNames: a subnet without DNS asks the server, which knows its own hosts.
func TestNames(t *testing.T) {
	l := newLab(t, both...)
	want := server()
	want.Subnets[0].DNS, want.Subnets[0].Gateway = nil, netip.Addr{}
	l.apply(l.supervisor(), want)
	ack := l.gets4(1, "10.0.0.11")
	if got := net.IP(ack.Options.Get(dhcpv4.OptionDomainNameServer)).String(); got != "10.0.0.2" {
		t.Errorf("its DNS is %s", got)
	}
	if got := ack.Options.Get(dhcpv4.OptionRouter); got != nil {
		t.Errorf("its router is %v, and the subnet has none", got)
	}
	for name, want := range map[string]string{"vm-2": "10.0.0.12", "vm-2.cloud.example": "10.0.0.12", "vm-9.cloud.example": "no such host"} {
		var got []string
		err := l.host.InNamespace(space, func() (err error) {
			got, err = lookup(t, name)
			return err
		})
		if text := strings.Join(got, " "); !strings.Contains(text, want) && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s is %s, %v", name, text, err)
		}
	}
}

// TestSupervised: the server ends by itself, is killed, its supervisor ends, and hosts and subnets change: guests get what they should.
func TestSupervised(t *testing.T) {
	l := newLab(t, both...)
	first := l.supervisor()
	want := server()
	l.apply(first, want)
	l.gets4(1, "10.0.0.11")
	l.gets6(1, "2001:db8:1::11")
	pid := l.pid()

	l.apply(first, want)
	if again := l.pid(); again != pid {
		t.Errorf("applying twice starts it anew: %d, %d", pid, again)
	}
	want.Hosts = append(want.Hosts, Host{Port: "port-3", MAC: mac(3), Addresses: []netip.Addr{addr("10.0.0.13")}})
	l.apply(first, want)
	l.gets4(3, "10.0.0.13")
	if again := l.pid(); again != pid {
		t.Errorf("a new host starts it anew: %d, %d", pid, again)
	}

	// The agent dies and comes back.
	first.Close()
	if err := first.Apply(t.Context(), nil); err == nil {
		t.Error("it works after it was closed")
	}
	if running, err := first.Running(); err != nil || len(running) != 1 || running[0] != netA {
		t.Errorf("running: %v, %v", running, err)
	}
	l.gets4(1, "10.0.0.11")
	second := l.supervisor()
	l.apply(second, want)
	if again := l.pid(); again != pid {
		t.Errorf("another supervisor starts it anew: %d, %d", pid, again)
	}
	leases, err := second.Leases(netA)
	if err != nil || len(leases) != 3 {
		t.Errorf("leases: %v, %v", leases, err)
	}

	// The server dies.
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-l.told; err != nil {
		t.Fatal(err)
	}
	if again := l.pid(); again == pid || second.Restarts() != 1 {
		t.Errorf("it is still %d, with %d restarts", pid, second.Restarts())
	}
	l.gets4(1, "10.0.0.11")

	// Another agent comes back with another configuration, after a crash that left files half-written.
	second.Close()
	for _, name := range []string{"hosts.new", "conf-0000", "conf-0000.new"} {
		if err := os.WriteFile(filepath.Join(l.dir, netA, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(l.dir, netA, hostsFile), []byte("fa:16:3e:00:00:01,10.0"), 0o600); err != nil {
		t.Fatal(err)
	}
	third := l.supervisor()
	want.MTU = 1400
	pid = l.pid()
	l.apply(third, want)
	if again := l.pid(); again == pid {
		t.Error("another configuration does not start it anew")
	}
	if got := hex.EncodeToString(l.gets4(1, "10.0.0.11").Options.Get(dhcpv4.OptionInterfaceMTU)); got != "0578" {
		t.Errorf("the MTU is %s", got)
	}
	files, err := os.ReadDir(filepath.Join(l.dir, netA))
	if err != nil || len(files) != 5 {
		t.Errorf("files: %v, %v", files, err)
	}

	l.apply(third)
	if files, err := os.ReadDir(l.dir); err != nil || len(files) != 0 {
		t.Errorf("left are %v, %v", files, err)
	}
}

// TestCrashes: an agent that is killed between any two of its steps leaves what the next one completes.
func TestCrashes(t *testing.T) {
	l := newLab(t, both...)
	more := server()
	more.Hosts = append(more.Hosts, Host{Port: "port-3", MAC: mac(3), Addresses: []netip.Addr{addr("10.0.0.13")}})
	moved := server()
	moved.Hosts[0].MAC = mac(3)
	for _, c := range []struct {
		name  string
		crash func(t *testing.T, s *Supervisor, files Files)
		next  Server
		guest byte
		gets  string
	}{
		{"files written, server not told", func(t *testing.T, s *Supervisor, files Files) {
			if err := files.write(s.place(netA).Dir); err != nil {
				t.Fatal(err)
			}
		}, more, 3, "10.0.0.13"},
		{"server ended, leases as they were", func(t *testing.T, s *Supervisor, _ Files) { l.kill() }, moved, 3, "10.0.0.11"},
		{"leases pruned, files as they were", func(t *testing.T, s *Supervisor, files Files) {
			l.kill()
			if err := os.Remove(filepath.Join(s.place(netA).Dir, leasesFile)); err != nil {
				t.Fatal(err)
			}
		}, moved, 3, "10.0.0.11"},
		{"server ended, files written, none started", func(t *testing.T, s *Supervisor, files Files) {
			l.kill()
			if err := files.write(s.place(netA).Dir); err != nil {
				t.Fatal(err)
			}
		}, more, 3, "10.0.0.13"},
		{"directory gone", func(t *testing.T, s *Supervisor, _ Files) {
			if err := os.RemoveAll(s.place(netA).Dir); err != nil {
				t.Fatal(err)
			}
		}, more, 3, "10.0.0.13"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.t = t
			first := l.supervisor()
			l.apply(first, server())
			l.gets4(1, "10.0.0.11")
			first.Close()
			files, err := Render(first.place(netA), c.next)
			if err != nil {
				t.Fatal(err)
			}
			c.crash(t, first, files)
			second := l.supervisor()
			l.apply(second, c.next)
			l.gets4(c.guest, c.gets)
			if leases, err := second.Leases(netA); err != nil || len(leases) == 0 {
				t.Errorf("leases: %v, %v", leases, err)
			}
		})
	}
}

// TestLeaseGivenBack: the address of a deleted port is the next port's at once, IPv4 and IPv6.
func TestLeaseGivenBack(t *testing.T) {
	l := newLab(t, both...)
	s := l.supervisor()
	want := server()
	l.apply(s, want)
	l.gets4(1, "10.0.0.11")
	l.gets6(1, "2001:db8:1::11")
	l.gets4(2, "10.0.0.12")
	want.Hosts[0] = Host{Port: "port-3", MAC: mac(3), Addresses: want.Hosts[0].Addresses}
	l.apply(s, want)
	leases, err := s.Leases(netA)
	if err != nil || len(leases) != 1 || leases[0].Address != addr("10.0.0.12") || leases[0].MAC.String() != mac(2).String() || leases[0].Name != "vm-2" {
		t.Errorf("leases: %v, %v", leases, err)
	}
	l.gets4(3, "10.0.0.11")
	l.gets6(3, "2001:db8:1::11")
	l.nothing4(1, 2, "10.0.0.12")
}

// TestNewSubnet: a subnet that comes is served, with another address of the same guest.
func TestNewSubnet(t *testing.T) {
	l := newLab(t, "10.0.0.2/24")
	s := l.supervisor()
	want := server()
	want.Subnets = want.Subnets[:1]
	l.apply(s, want)
	l.gets4(1, "10.0.0.11")
	l.plug("10.0.0.2/24", "10.1.0.2/24")
	want.Subnets = append(want.Subnets, Subnet{ID: "more", CIDR: netip.MustParsePrefix("10.1.0.0/24"), Server: addr("10.1.0.2"), Addresses: true})
	want.Hosts[1].Addresses = []netip.Addr{addr("10.1.0.12")}
	l.apply(s, want)
	l.gets4(2, "10.1.0.12")
	l.gets4(1, "10.0.0.11")
}

// TestNamespaceMadeAnew: a server is started anew when the namespace is another under the same name.
func TestNamespaceMadeAnew(t *testing.T) {
	l := newLab(t, both...)
	s := l.supervisor()
	l.apply(s, server())
	pid := l.pid()
	if err := unix.Unmount(filepath.Join(l.host.Netns, space), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	l.plug(both...)
	l.apply(s, server())
	if again := l.pid(); again == pid {
		t.Error("it is in the old namespace still")
	}
	l.gets4(1, "10.0.0.11")
}

// TestDeviceMadeAnew: a server is started anew when its device is another under the same name.
func TestDeviceMadeAnew(t *testing.T) {
	l := newLab(t, both...)
	s := l.supervisor()
	l.apply(s, server())
	l.inside(space, "ip", "link", "del", "ns-server")
	if err := s.Apply(t.Context(), []Server{server()}); err == nil || !strings.Contains(err.Error(), `device "ns-server" in `+space) {
		t.Errorf("it says %v", err)
	}
	l.plug(both...)
	l.apply(s, server())
	l.gets4(1, "10.0.0.11")
	l.gets6(1, "2001:db8:1::11")
}

// TestCannotStart: a port that is taken is told with the network and dnsmasq's own words, and when it is free again the server runs.
func TestCannotStart(t *testing.T) {
	l := newLab(t, both...)
	var taken net.PacketConn
	err := l.host.InNamespace(space, func() (err error) {
		taken, err = net.ListenPacket("udp4", "10.0.0.2:53")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s := l.supervisor()
	err = s.Apply(t.Context(), []Server{server()})
	for _, part := range []string{"dhcp of network \"" + netA + "\": dnsmasq: exit status 2", "failed to create listening socket for 10.0.0.2: Address already in use"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in: %v", part, err)
		}
	}
	if err := <-l.told; err == nil {
		t.Error("it runs with its port taken")
	}
	_ = taken.Close()
	for err := errors.New("not yet"); err != nil; {
		err = <-l.told
	}
	l.gets4(1, "10.0.0.11")
}

// TestUnreadable: a directory that dnsmasq could not read from is told before anything is started.
func TestUnreadable(t *testing.T) {
	l := newLab(t, both...)
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	err := l.supervisor().Apply(t.Context(), []Server{server()})
	if err == nil || !strings.Contains(err.Error(), l.dir+" has mode 0700: dnsmasq, which is not root, cannot read its files") {
		t.Errorf("it says %v", err)
	}
}
