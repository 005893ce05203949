package compute_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"compute-agent/compute"
	"compute-agent/neutron"
)

// refuses checks that a command is refused with the kind, Neutron's name for it and the words.
func (n *networks) refuses(what string, err, kind error, class, words string) {
	n.t.Helper()
	var why *neutron.Error
	if !errors.Is(err, kind) || !errors.As(err, &why) || why.Class != class || !strings.Contains(err.Error(), words) {
		n.t.Errorf("%s: %v, want %v, %s, %q", what, err, kind, class, words)
	}
}

func (n *networks) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// network makes a network, with a subnet of each CIDR; those of IPv6 are of SLAAC.
func (n *networks) network(name string, cidrs ...string) (net neutron.Network, subnets []neutron.Subnet) {
	n.t.Helper()
	net, err := n.CreateNetwork(n.t.Context(), neutron.Network{ProjectID: "p", Name: name, AdminUp: true, PortSecurity: true})
	n.must(err)
	for _, cidr := range cidrs {
		s, err := n.subnet(net.ID, cidr)
		n.must(err)
		subnets = append(subnets, s)
	}
	return net, subnets
}

func (n *networks) subnet(network, cidr string) (neutron.Subnet, error) {
	r := neutron.SubnetRequest{Subnet: neutron.Subnet{ProjectID: "p", NetworkID: network, CIDR: netip.MustParsePrefix(cidr), DHCP: true}}
	if r.CIDR.Addr().Is6() {
		r.RAMode, r.AddressMode = neutron.SLAAC, neutron.SLAAC
	}
	return n.CreateSubnet(n.t.Context(), r)
}

func (n *networks) port(r neutron.Port) neutron.Port {
	n.t.Helper()
	r.ProjectID = "p"
	p, err := n.CreatePort(n.t.Context(), neutron.PortRequest{Port: r})
	n.must(err)
	return p
}

func addresses(p neutron.Port) (list []string) {
	for _, ip := range p.FixedIPs {
		list = append(list, ip.Address.String())
	}
	return list
}

func TestNetworkLife(t *testing.T) {
	n, ctx := newNetworks(t), context.Background()
	net, _ := n.network("web")
	if net.ID == "" || net.Revision != 1 || net.MTU != 1500 || net.Type != "local" || net.Zone != 1 || !net.Created.Equal(n.now) || n.changes != 1 {
		t.Errorf("%+v after %d changes", net, n.changes)
	}
	other, _ := n.network("other")
	if other.Zone != 2 {
		t.Errorf("the second network has zone %d", other.Zone)
	}
	got, err := n.UpdateNetwork(ctx, net.ID, func(c *neutron.Network) error {
		c.Name, c.MTU, c.ID, c.Zone, c.ProjectID = "new", 1400, "x", 9, "q"
		return nil
	})
	n.must(err)
	if got.Name != "new" || got.MTU != 1400 || got.ID != net.ID || got.Zone != 1 || got.ProjectID != "p" || got.Revision != 2 {
		t.Errorf("%+v", got)
	}
	again, err := n.Network(ctx, net.ID)
	n.must(err)
	if again.Name != "new" {
		t.Errorf("%+v", again)
	}
	_, err = n.UpdateNetwork(ctx, net.ID, func(c *neutron.Network) error { c.Segment = 7; return nil })
	n.refuses("another segment", err, compute.ErrInvalid, "InvalidInput", "provider:network_type")
	mine := errors.New("mine")
	if _, err := n.UpdateNetwork(ctx, net.ID, func(*neutron.Network) error { return mine }); !errors.Is(err, mine) {
		t.Error(err)
	}
	_, err = n.UpdateNetwork(ctx, "none", func(*neutron.Network) error { return nil })
	n.refuses("no network", err, compute.ErrNotFound, "NetworkNotFound", "network none could not be found")
	n.must(n.DeleteNetwork(ctx, net.ID))
	n.refuses("deleted again", n.DeleteNetwork(ctx, net.ID), compute.ErrNotFound, "NetworkNotFound", net.ID)
	if again, _ := n.network("again"); again.Zone != 1 {
		t.Errorf("the zone of a network that went is free, and the next got %d", again.Zone)
	}
}

func TestNetworkQuotas(t *testing.T) {
	n, ctx := newNetworks(t, neutron.Quotas{Networks: 1, Subnets: 1, Ports: 1, SecurityGroups: 2, Rules: 7}), context.Background()
	net, _ := n.network("web", "10.0.0.0/24")
	_, err := n.CreateNetwork(ctx, neutron.Network{ProjectID: "p"})
	n.refuses("networks", err, compute.ErrConflict, "OverQuota", "['network']: the project has 1 of 1")
	_, err = n.CreateNetwork(ctx, neutron.Network{ProjectID: "q"})
	n.must(err)
	_, err = n.subnet(net.ID, "10.0.1.0/24")
	n.refuses("subnets", err, compute.ErrConflict, "OverQuota", "['subnet']")
	n.must(n.DeleteNetwork(ctx, net.ID))
	net, _ = n.network("web", "10.0.0.0/24") // its DHCP port is not the user's
	n.update(func(tx compute.Writer) error { return nil })
	_, err = n.CreateSecurityGroup(ctx, neutron.SecurityGroup{ProjectID: "p", Name: "web"})
	n.must(err)
	_, err = n.CreateSecurityGroup(ctx, neutron.SecurityGroup{ProjectID: "p", Name: "more"})
	n.refuses("groups", err, compute.ErrConflict, "OverQuota", "['security_group']: the project has 2 of 2")
	groups, err := n.SecurityGroups(ctx, "p")
	n.must(err)
	_, err = n.AddRule(ctx, groups[0].ID, neutron.Rule{Direction: "ingress", Ethertype: "IPv4", Protocol: "tcp"})
	n.must(err)
	_, err = n.AddRule(ctx, groups[0].ID, neutron.Rule{Direction: "ingress", Ethertype: "IPv4", Protocol: "udp"})
	n.refuses("rules", err, compute.ErrConflict, "OverQuota", "['security_group_rule']: the project has 7 of 7")
	if before := n.portsOf("dhcp-" + net.ID); len(before) != 1 {
		t.Fatalf("%+v", before)
	}
	_, err = n.CreatePort(ctx, neutron.PortRequest{Port: neutron.Port{ProjectID: "p", NetworkID: net.ID}})
	n.refuses("ports", err, compute.ErrConflict, "OverQuota", "['port']: the project has 1 of 1")
}

// A network has a DHCP server for as long as one of its subnets has DHCP, with an address of each that has.
func TestDHCPPort(t *testing.T) {
	n, ctx := newNetworks(t), context.Background()
	net, subnets := n.network("web", "10.0.0.0/24")
	ports := func() []neutron.Port { return n.portsOf("dhcp-" + net.ID) }
	dhcp := func() string {
		if list := ports(); len(list) == 1 {
			return strings.Join(addresses(list[0]), " ")
		}
		return ""
	}
	if p := ports()[0]; dhcp() != "10.0.0.2" || p.DeviceOwner != "network:dhcp" || p.Status != neutron.StatusActive || p.PortSecurity || p.SecurityGroups != nil {
		t.Errorf("%+v", p)
	}
	// Somebody's port that says to be its DHCP server's is not.
	mine := n.port(neutron.Port{NetworkID: net.ID, DeviceID: "dhcp-" + net.ID})
	n.must(func() error {
		_, err := n.UpdateSubnet(ctx, subnets[0].ID, func(s *neutron.Subnet) error { s.DHCP = false; return nil })
		return err
	}())
	if _, err := n.Port(ctx, mine.ID); err != nil || len(ports()) != 1 {
		t.Errorf("a user's port went with the DHCP server: %v", err)
	}
	n.must(n.DeletePort(ctx, mine.ID))
	n.must(func() error {
		_, err := n.UpdateSubnet(ctx, subnets[0].ID, func(s *neutron.Subnet) error { s.DHCP = true; return nil })
		return err
	}())
	mac := ports()[0].MAC
	second, err := n.subnet(net.ID, "10.0.1.0/24")
	n.must(err)
	auto, err := n.subnet(net.ID, "2001:db8::/64")
	n.must(err)
	if got := dhcp(); !strings.HasPrefix(got, "10.0.0.2 10.0.1.2 2001:db8::f816:3eff:fe") || ports()[0].MAC != mac {
		t.Errorf("with three subnets: %s", got)
	}
	_, err = n.UpdateSubnet(ctx, subnets[0].ID, func(s *neutron.Subnet) error { s.DHCP = false; return nil })
	n.must(err)
	if got := dhcp(); !strings.HasPrefix(got, "10.0.1.2 2001:db8::") {
		t.Errorf("with DHCP of two: %s", got)
	}
	n.must(n.DeleteSubnet(ctx, auto.ID))
	n.must(n.DeleteSubnet(ctx, second.ID))
	if len(ports()) != 0 {
		t.Errorf("without DHCP: %+v", ports())
	}
	_, err = n.UpdateSubnet(ctx, subnets[0].ID, func(s *neutron.Subnet) error { s.DHCP = true; return nil })
	n.must(err)
	if dhcp() != "10.0.0.2" {
		t.Errorf("with DHCP again: %s", dhcp())
	}
	n.refuses("its port", n.DeletePort(ctx, ports()[0].ID), compute.ErrConflict, "ServicePortInUse", "network:dhcp")
	_, err = n.UpdatePort(ctx, ports()[0].ID, func(p *neutron.Port) error { p.MAC = "fa:16:3e:00:00:01"; return nil })
	n.refuses("its MAC", err, compute.ErrConflict, "UnsupportedPortDeviceOwner", "network:dhcp")
	n.must(n.DeleteNetwork(ctx, net.ID))
}

func TestNetworksInUse(t *testing.T) {
	n, ctx := newNetworks(t), context.Background()
	net, subnets := n.network("web", "10.0.0.0/24", "2001:db8::/64")
	p := n.port(neutron.Port{NetworkID: net.ID})
	n.refuses("network", n.DeleteNetwork(ctx, net.ID), compute.ErrConflict, "NetworkInUse", p.ID)
	n.refuses("subnet", n.DeleteSubnet(ctx, subnets[0].ID), compute.ErrConflict, "SubnetInUse", p.ID)
	n.must(n.DeleteSubnet(ctx, subnets[1].ID)) // the guests' own addresses go with it
	p, err := n.Port(ctx, p.ID)
	n.must(err)
	if len(p.FixedIPs) != 1 || p.Revision != 2 {
		t.Errorf("%+v", p)
	}
	// and come with it
	_, err = n.subnet(net.ID, "2001:db8:1::/64")
	n.must(err)
	if p, err = n.Port(ctx, p.ID); err != nil || len(p.FixedIPs) != 2 || !strings.HasPrefix(addresses(p)[1], "2001:db8:1:0:f816:3eff:") {
		t.Errorf("%+v, %v", p, err)
	}
	n.must(n.DeletePort(ctx, p.ID))

	// A port that is to have no addresses gets none of other subnets with it.
	bare := n.port(neutron.Port{NetworkID: net.ID, FixedIPs: []neutron.FixedIP{}})
	_, err = n.subnet(net.ID, "2001:db8:2::/64")
	n.must(err)
	if bare, err = n.Port(ctx, bare.ID); err != nil || len(bare.FixedIPs) != 2 || bare.FixedIPs[0].Address.Is4() || bare.FixedIPs[1].Address.Is4() {
		t.Errorf("%+v, %v", bare, err)
	}
	n.must(n.DeletePort(ctx, bare.ID))
	n.must(n.DeleteNetwork(ctx, net.ID))
	left, err := n.Subnets(ctx)
	n.must(err)
	if len(left) > 0 {
		t.Errorf("subnets are left: %+v", left)
	}
}

func TestNetworksThatOthersUse(t *testing.T) {
	n, ctx := newNetworks(t), context.Background()
	net, err := n.CreateNetwork(ctx, neutron.Network{ProjectID: "p", Shared: true, External: true, Default: true})
	n.must(err)
	p, err := n.CreatePort(ctx, neutron.PortRequest{Port: neutron.Port{ProjectID: "q", NetworkID: net.ID}})
	n.must(err)
	_, err = n.UpdateNetwork(ctx, net.ID, func(c *neutron.Network) error { c.Shared = false; return nil })
	n.refuses("not shared", err, compute.ErrConflict, "InvalidSharedSetting", p.ID)
	_, err = n.CreateNetwork(ctx, neutron.Network{ProjectID: "p", External: true, Default: true})
	n.refuses("a second default", err, compute.ErrConflict, "DefaultExternalNetworkExists", net.ID)
	_, err = n.CreateSubnet(ctx, neutron.SubnetRequest{Subnet: neutron.Subnet{NetworkID: net.ID, CIDR: netip.MustParsePrefix("2001:db8::/64")}})
	n.must(err)
	_, err = n.UpdateNetwork(ctx, net.ID, func(c *neutron.Network) error { c.MTU = 1279; return nil })
	n.refuses("MTU", err, compute.ErrConflict, "NetworkMTUSubnetConflict", "1280")
	_, err = n.subnet("none", "10.0.0.0/24")
	n.refuses("a subnet of none", err, compute.ErrNotFound, "NetworkNotFound", "none")
}

func TestSubnetUpdates(t *testing.T) {
	n, ctx := newNetworks(t), context.Background()
	net, subnets := n.network("web", "10.0.0.0/24")
	id := subnets[0].ID
	update := func(change func(*neutron.Subnet)) (neutron.Subnet, error) {
		return n.UpdateSubnet(ctx, id, func(s *neutron.Subnet) error { change(s); return nil })
	}
	r := neutron.Range{First: netip.MustParseAddr("10.0.0.100"), Last: netip.MustParseAddr("10.0.0.101")}
	got, err := update(func(s *neutron.Subnet) { s.Pools, s.Name, s.ID = []neutron.Range{r}, "new", "x" })
	n.must(err)
	if got.ID != id || got.Name != "new" || got.Revision != 2 || !slices.Equal(got.Pools, []neutron.Range{r}) {
		t.Errorf("%+v", got)
	}
	_, err = update(func(s *neutron.Subnet) { s.CIDR = netip.MustParsePrefix("10.0.0.0/25") })
	n.refuses("another CIDR", err, compute.ErrInvalid, "InvalidInput", "cidr")
	_, err = update(func(s *neutron.Subnet) { s.Gateway = r.First })
	n.refuses("a gateway of the pool", err, compute.ErrConflict, "GatewayConflictWithAllocationPools", "10.0.0.100")
	n.update(func(tx compute.Writer) error {
		return tx.PutPort(neutron.Port{ID: "if", NetworkID: net.ID, MAC: "fa:16:3e:00:00:01", DeviceOwner: neutron.OwnerInterface,
			FixedIPs: []neutron.FixedIP{{SubnetID: id, Address: netip.MustParseAddr("10.0.0.1")}}})
	})
	_, err = update(func(s *neutron.Subnet) { s.Gateway = netip.MustParseAddr("10.0.0.9") })
	n.refuses("a router's gateway", err, compute.ErrConflict, "GatewayIpInUse", "port if")
	n.refuses("a router's subnet", n.DeleteSubnet(ctx, id), compute.ErrConflict, "SubnetInUse", "if")
}

func TestPortLife(t *testing.T) {
	n, ctx := newNetworks(t), context.Background()
	net, subnets := n.network("web", "10.0.0.0/24")
	p := n.port(neutron.Port{NetworkID: net.ID, Name: "a", MAC: "FA:16:3E:00:00:0A", Made: true, VIFType: "tap", Status: neutron.StatusActive})
	if p.MAC != "fa:16:3e:00:00:0a" || p.Made || p.VIFType != "" || p.Status != neutron.StatusDown || len(p.FixedIPs) != 1 || len(p.SecurityGroups) != 1 || !p.PortSecurity {
		t.Errorf("%+v", p)
	}
	_, err := n.CreatePort(ctx, neutron.PortRequest{Port: neutron.Port{ProjectID: "p", NetworkID: net.ID, MAC: p.MAC}})
	n.refuses("a MAC again", err, compute.ErrConflict, "MacAddressInUse", p.MAC)
	_, err = n.CreatePort(ctx, neutron.PortRequest{Port: neutron.Port{ProjectID: "p", NetworkID: net.ID, FixedIPs: p.FixedIPs}})
	n.refuses("an address again", err, compute.ErrConflict, "IpAddressAlreadyAllocated", addresses(p)[0])
	_, err = n.CreatePort(ctx, neutron.PortRequest{Port: neutron.Port{ProjectID: "p", NetworkID: net.ID, SecurityGroups: []string{"none"}}})
	n.refuses("no group", err, compute.ErrNotFound, "SecurityGroupNotFound", "none")
	_, err = n.CreatePort(ctx, neutron.PortRequest{Port: neutron.Port{ProjectID: "p", NetworkID: net.ID, DeviceOwner: "network:dhcp"}})
	n.refuses("the cloud's own", err, compute.ErrConflict, "UnsupportedPortDeviceOwner", "network:dhcp")
	n.update(func(tx compute.Writer) error { _, err := tx.InsertServer(compute.Server{ID: "vm"}); return err })
	_, err = n.CreatePort(ctx, neutron.PortRequest{Port: neutron.Port{ProjectID: "p", NetworkID: net.ID, DeviceID: "vm"}})
	n.refuses("a server's", err, compute.ErrConflict, "DeviceIDNotOwnedByTenant", "vm")

	off := false
	open, err := n.CreatePort(ctx, neutron.PortRequest{Port: neutron.Port{ProjectID: "p", NetworkID: net.ID, FixedIPs: []neutron.FixedIP{}}, Secured: &off})
	n.must(err)
	if open.PortSecurity || open.SecurityGroups != nil || len(open.FixedIPs) != 0 {
		t.Errorf("%+v", open)
	}

	change := func(change func(*neutron.Port)) error {
		got, err := n.UpdatePort(ctx, p.ID, func(p *neutron.Port) error { change(p); return nil })
		if err == nil {
			p = got
		}
		return err
	}
	n.must(change(func(p *neutron.Port) {
		p.FixedIPs = append(p.FixedIPs, neutron.FixedIP{Address: netip.MustParseAddr("10.0.0.77")})
	}))
	if len(p.FixedIPs) != 2 || p.FixedIPs[1] != (neutron.FixedIP{SubnetID: subnets[0].ID, Address: netip.MustParseAddr("10.0.0.77")}) || p.Revision != 2 {
		t.Errorf("%+v", p)
	}
	n.must(change(func(p *neutron.Port) { p.FixedIPs = p.FixedIPs[1:] }))
	n.must(change(func(p *neutron.Port) { p.PortSecurity = false }))
	if p.SecurityGroups != nil {
		t.Errorf("the groups that nobody asked for are left: %+v", p)
	}
	n.refuses("groups of an open port", change(func(p *neutron.Port) { p.SecurityGroups = []string{"x"} }), compute.ErrNotFound, "SecurityGroupNotFound", "x")
	n.must(change(func(p *neutron.Port) { p.PortSecurity = true }))

	taken, err := n.allocate(taking(p.ID))
	n.must(err)
	n.refuses("a server's MAC", change(func(p *neutron.Port) { p.MAC = "fa:16:3e:00:00:0b" }), compute.ErrConflict, "PortBound", "server vm")
	n.refuses("a server's device", change(func(p *neutron.Port) { p.DeviceID = "" }), compute.ErrConflict, "PortBound", "server vm")
	n.refuses("a server's port", n.DeletePort(ctx, p.ID), compute.ErrConflict, "PortInUse", "server vm")
	n.must(change(func(p *neutron.Port) { p.Name, p.AdminUp, p.VIFType, p.Status = "new", false, "", "" }))
	if p.VIFType != taken.VIFType || p.Status != neutron.StatusBuild {
		t.Errorf("%+v", p)
	}
	n.update(func(tx compute.Writer) error { return n.Release(tx, "vm") })
	n.must(n.DeletePort(ctx, p.ID))
	n.refuses("deleted again", n.DeletePort(ctx, p.ID), compute.ErrNotFound, "PortNotFound", p.ID)
}

// Another MAC is another address where guests make themselves one.
func TestPortWithAnotherMAC(t *testing.T) {
	n := newNetworks(t)
	net, _ := n.network("web", "10.0.0.0/24", "2001:db8::/64")
	p := n.port(neutron.Port{NetworkID: net.ID})
	got, err := n.UpdatePort(t.Context(), p.ID, func(p *neutron.Port) error { p.MAC = "02:00:00:00:00:01"; return nil })
	n.must(err)
	if got.FixedIPs[0] != p.FixedIPs[0] || addresses(got)[1] != "2001:db8::ff:fe00:1" || len(got.FixedIPs) != 2 {
		t.Errorf("%v, before %v", addresses(got), addresses(p))
	}
}

func TestSecurityGroupLife(t *testing.T) {
	n, ctx := newNetworks(t), context.Background()
	all, err := n.SecurityGroups(ctx, "p")
	n.must(err)
	if len(all) != 1 || all[0].Name != "default" || len(all[0].Rules) != 4 {
		t.Fatalf("%+v", all)
	}
	standard := all[0]
	web, err := n.CreateSecurityGroup(ctx, neutron.SecurityGroup{ProjectID: "p", Name: "web"})
	n.must(err)
	if len(web.Rules) != 2 || web.Revision != 1 {
		t.Errorf("%+v", web)
	}
	_, err = n.CreateSecurityGroup(ctx, neutron.SecurityGroup{ProjectID: "p", Name: "default"})
	n.refuses("a second default", err, compute.ErrConflict, "SecurityGroupDefaultAlreadyExists", "already exists")

	r, err := n.AddRule(ctx, standard.ID, neutron.Rule{Direction: "ingress", Ethertype: "IPv4", Protocol: "tcp", RemoteGroup: web.ID})
	n.must(err)
	_, err = n.AddRule(ctx, standard.ID, neutron.Rule{Direction: "ingress", Ethertype: "IPv4", Protocol: "6", RemoteGroup: web.ID})
	n.refuses("the rule again", err, compute.ErrConflict, "SecurityGroupRuleExists", r.ID)
	_, err = n.AddRule(ctx, standard.ID, neutron.Rule{Direction: "ingress", Ethertype: "IPv4", RemoteGroup: "none"})
	n.refuses("of no group", err, compute.ErrNotFound, "SecurityGroupNotFound", "none")
	_, err = n.AddRule(ctx, "none", r)
	n.refuses("in no group", err, compute.ErrNotFound, "SecurityGroupNotFound", "none")
	_, err = n.AddRule(ctx, web.ID, neutron.Rule{Direction: "up", Ethertype: "IPv4"})
	n.refuses("no direction", err, compute.ErrInvalid, "InvalidInput", "direction")

	update := func(id string, change func(*neutron.SecurityGroup)) (neutron.SecurityGroup, error) {
		return n.UpdateSecurityGroup(ctx, id, func(g *neutron.SecurityGroup) error { change(g); return nil })
	}
	_, err = update(standard.ID, func(g *neutron.SecurityGroup) { g.Name = "mine" })
	n.refuses("rename default", err, compute.ErrConflict, "SecurityGroupCannotUpdateDefault", "default")
	_, err = update(web.ID, func(g *neutron.SecurityGroup) { g.Name = "default" })
	n.refuses("rename to default", err, compute.ErrConflict, "SecurityGroupCannotUpdateDefault", "default")
	got, err := update(web.ID, func(g *neutron.SecurityGroup) { g.Name, g.Rules = "www", nil })
	n.must(err)
	if got.Name != "www" || len(got.Rules) != 2 || got.Revision != 2 {
		t.Errorf("%+v", got)
	}

	net, _ := n.network("web", "10.0.0.0/24")
	p := n.port(neutron.Port{NetworkID: net.ID, SecurityGroups: []string{web.ID}})
	n.refuses("delete in use", n.DeleteSecurityGroup(ctx, web.ID), compute.ErrConflict, "SecurityGroupInUse", p.ID)
	_, err = update(web.ID, func(g *neutron.SecurityGroup) { g.Stateless = true })
	n.refuses("change in use", err, compute.ErrConflict, "SecurityGroupInUse", p.ID)
	n.must(n.DeletePort(ctx, p.ID))
	n.refuses("delete default", n.DeleteSecurityGroup(ctx, standard.ID), compute.ErrConflict, "SecurityGroupCannotRemoveDefault", "default")
	n.must(n.DeleteSecurityGroup(ctx, web.ID))
	if standard, err = n.SecurityGroup(ctx, standard.ID); err != nil || len(standard.Rules) != 4 {
		t.Errorf("the rule that named the group is left: %+v, %v", standard, err)
	}
	n.must(n.RemoveRule(ctx, standard.Rules[3].ID))
	n.refuses("removed again", n.RemoveRule(ctx, standard.Rules[3].ID), compute.ErrNotFound, "SecurityGroupRuleNotFound", standard.Rules[3].ID)
	if standard, err = n.SecurityGroup(ctx, standard.ID); err != nil || len(standard.Rules) != 3 {
		t.Errorf("%+v, %v", standard, err)
	}
}
