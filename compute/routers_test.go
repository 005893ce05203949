package compute_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"compute-agent/compute"
	"compute-agent/neutron"
)

// outside makes an external network with 192.0.2.0/28 and an IPv6 subnet.
func (n *networks) outside() neutron.Network {
	n.t.Helper()
	net, err := n.CreateNetwork(n.t.Context(), neutron.Network{ProjectID: "admin", Name: "public", AdminUp: true, External: true})
	n.must(err)
	for _, cidr := range []string{"192.0.2.0/28", "2001:db8:ffff::/64"} {
		_, err = n.CreateSubnet(n.t.Context(), neutron.SubnetRequest{Subnet: neutron.Subnet{ProjectID: "admin", NetworkID: net.ID, CIDR: netip.MustParsePrefix(cidr)}})
		n.must(err)
	}
	return net
}

func (n *networks) router(gateway string) neutron.Router {
	n.t.Helper()
	r, err := n.CreateRouter(n.t.Context(), neutron.RouterRequest{Router: neutron.Router{ProjectID: "p", Name: "r", AdminUp: true, Gateway: gateway}})
	n.must(err)
	return r
}

func TestRouterLife(t *testing.T) {
	n, ctx := newNetworks(t), context.Background()
	public := n.outside()
	r := n.router(public.ID)
	gateway, err := n.Port(ctx, r.GatewayPort)
	n.must(err)
	if !r.SNAT || r.Revision != 1 || gateway.DeviceID != r.ID || gateway.DeviceOwner != neutron.OwnerGateway || gateway.ProjectID != "" || len(gateway.FixedIPs) != 2 || gateway.PortSecurity {
		t.Errorf("%+v\n%+v", r, gateway)
	}
	n.refuses("its gateway port", n.DeletePort(ctx, gateway.ID), compute.ErrConflict, "ServicePortInUse", "router_gateway")
	_, err = n.UpdatePort(ctx, gateway.ID, func(p *neutron.Port) error { p.FixedIPs = nil; return nil })
	n.refuses("its gateway port's addresses", err, compute.ErrConflict, "IPAddressChangeNotAllowed", "router_gateway")
	n.refuses("its network", n.DeleteNetwork(ctx, public.ID), compute.ErrConflict, "NetworkInUse", "network:router_gateway "+r.ID)
	_, err = n.UpdateNetwork(ctx, public.ID, func(c *neutron.Network) error { c.External = false; return nil })
	n.refuses("inside", err, compute.ErrConflict, "ExternalNetworkInUse", gateway.ID)

	update := func(change func(*neutron.RouterRequest)) error {
		got, err := n.UpdateRouter(ctx, r.ID, func(q *neutron.RouterRequest) error { change(q); return nil })
		if err == nil {
			r = got
		}
		return err
	}
	off := false
	n.must(update(func(q *neutron.RouterRequest) { q.Name, q.Translate, q.ID = "new", &off, "x" }))
	if r.Name != "new" || r.SNAT || r.GatewayPort != gateway.ID || r.Revision != 2 {
		t.Errorf("%+v", r)
	}
	n.must(update(func(q *neutron.RouterRequest) {
		q.GatewayIPs = []neutron.FixedIP{{Address: netip.MustParseAddr("192.0.2.9")}}
	}))
	if gateway, err = n.Port(ctx, r.GatewayPort); err != nil || !slices.Equal(addresses(gateway), []string{"192.0.2.9"}) || r.SNAT {
		t.Errorf("%+v, %v", gateway, err)
	}
	n.must(update(func(q *neutron.RouterRequest) { q.Gateway = "" }))
	if _, err := n.Port(ctx, gateway.ID); err == nil || r.GatewayPort != "" {
		t.Errorf("%+v", r)
	}
	inside, _ := n.network("inside", "10.0.0.0/24")
	n.refuses("an inside network", update(func(q *neutron.RouterRequest) { q.Gateway = inside.ID }), compute.ErrInvalid, "BadRequest", "is not an external network")
	n.refuses("no network", update(func(q *neutron.RouterRequest) { q.Gateway = "none" }), compute.ErrNotFound, "NetworkNotFound", "none")
	n.must(update(func(q *neutron.RouterRequest) { q.Gateway, q.Translate = public.ID, nil }))
	if !r.SNAT || r.GatewayPort == "" {
		t.Errorf("%+v", r)
	}
	n.must(n.DeleteRouter(ctx, r.ID))
	n.refuses("deleted again", n.DeleteRouter(ctx, r.ID), compute.ErrNotFound, "RouterNotFound", r.ID)
	n.must(n.DeleteNetwork(ctx, public.ID))
}

func TestRouterInterfaces(t *testing.T) {
	n, ctx := newNetworks(t), context.Background()
	r := n.router(n.outside().ID)
	web, s := n.network("web", "10.0.0.0/24", "2001:db8::/64", "2001:db8:1::/64")
	four, err := n.AddInterface(ctx, r.ID, s[0].ID, "")
	n.must(err)
	if four.DeviceID != r.ID || four.DeviceOwner != neutron.OwnerInterface || !slices.Equal(addresses(four), []string{"10.0.0.1"}) || four.ProjectID != "p" {
		t.Errorf("%+v", four)
	}
	six, err := n.AddInterface(ctx, r.ID, s[1].ID, "")
	n.must(err)
	both, err := n.AddInterface(ctx, r.ID, s[2].ID, "")
	n.must(err)
	if six.ID == four.ID || both.ID != six.ID || !slices.Equal(addresses(both), []string{"2001:db8::1", "2001:db8:1::1"}) {
		t.Errorf("%v and %v", six, both)
	}
	if r, err = n.Router(ctx, r.ID); err != nil || r.Revision != 4 {
		t.Errorf("%+v, %v", r, err)
	}

	_, err = n.AddInterface(ctx, r.ID, s[0].ID, "")
	n.refuses("a subnet again", err, compute.ErrInvalid, "BadRequest", "router already has a port on subnet")
	_, same := n.network("same", "10.0.0.0/16")
	_, err = n.AddInterface(ctx, r.ID, same[0].ID, "")
	n.refuses("an overlap", err, compute.ErrInvalid, "BadRequest", "overlaps with cidr 10.0.0.0/24")
	_, err = n.AddInterface(ctx, r.ID, "", "")
	n.refuses("nothing", err, compute.ErrInvalid, "BadRequest", "either")
	_, err = n.AddInterface(ctx, r.ID, s[0].ID, four.ID)
	n.refuses("both", err, compute.ErrInvalid, "BadRequest", "either")
	_, err = n.AddInterface(ctx, r.ID, "none", "")
	n.refuses("no subnet", err, compute.ErrNotFound, "SubnetNotFound", "none")
	_, err = n.AddInterface(ctx, "none", s[0].ID, "")
	n.refuses("no router", err, compute.ErrNotFound, "RouterNotFound", "none")
	_, err = n.AddInterface(ctx, n.router("").ID, s[0].ID, "")
	n.refuses("a gateway that is taken", err, compute.ErrConflict, "IpAddressAlreadyAllocated", "10.0.0.1")

	second := n.router("")
	p := n.port(neutron.Port{NetworkID: web.ID, FixedIPs: []neutron.FixedIP{{Address: netip.MustParseAddr("10.0.0.99")}}})
	got, err := n.AddInterface(ctx, second.ID, "", p.ID)
	n.must(err)
	if got.DeviceID != second.ID || got.PortSecurity || got.SecurityGroups != nil {
		t.Errorf("%+v", got)
	}
	_, err = n.AddInterface(ctx, r.ID, "", p.ID)
	n.refuses("another's port", err, compute.ErrConflict, "PortInUse", second.ID)
	n.refuses("a router with interfaces", n.DeleteRouter(ctx, second.ID), compute.ErrConflict, "RouterInUse", p.ID)
	n.refuses("an interface's port", n.DeletePort(ctx, p.ID), compute.ErrConflict, "ServicePortInUse", "router_interface")
	n.refuses("an interface's subnet", n.DeleteSubnet(ctx, s[1].ID), compute.ErrConflict, "SubnetInUse", six.ID)

	_, err = n.RemoveInterface(ctx, r.ID, s[0].ID, six.ID)
	n.refuses("subnet of another port", err, compute.ErrInvalid, "SubnetMismatchForPort", six.ID)
	_, err = n.RemoveInterface(ctx, r.ID, same[0].ID, "")
	n.refuses("not connected", err, compute.ErrNotFound, "RouterInterfaceNotFoundForSubnet", same[0].ID)
	_, err = n.RemoveInterface(ctx, r.ID, "", p.ID)
	n.refuses("another router's", err, compute.ErrNotFound, "RouterInterfaceNotFound", p.ID)
	_, err = n.RemoveInterface(ctx, r.ID, s[1].ID, "")
	n.must(err)
	if six, err = n.Port(ctx, six.ID); err != nil || !slices.Equal(addresses(six), []string{"2001:db8:1::1"}) {
		t.Errorf("%+v, %v", six, err)
	}
	for _, port := range []string{six.ID, four.ID} {
		_, err = n.RemoveInterface(ctx, r.ID, "", port)
		n.must(err)
	}
	_, err = n.RemoveInterface(ctx, second.ID, s[0].ID, p.ID)
	n.must(err)
	if _, err = n.Port(ctx, p.ID); err == nil {
		t.Error("the port that was an interface is left")
	}
	n.must(n.DeleteRouter(ctx, r.ID))
	n.must(n.DeleteNetwork(ctx, web.ID))
}

func TestRouterRoutes(t *testing.T) {
	n, ctx := newNetworks(t), context.Background()
	r := n.router("")
	_, s := n.network("web", "10.0.0.0/24")
	_, err := n.AddInterface(ctx, r.ID, s[0].ID, "")
	n.must(err)
	route := func(to, via string) error {
		_, err := n.UpdateRouter(ctx, r.ID, func(q *neutron.RouterRequest) error {
			q.Routes = []neutron.Route{{To: netip.MustParsePrefix(to), Via: netip.MustParseAddr(via)}}
			return nil
		})
		return err
	}
	n.refuses("nowhere", route("10.9.0.0/16", "10.1.0.1"), compute.ErrInvalid, "InvalidRoutes", "not connected")
	n.refuses("itself", route("10.9.0.0/16", "10.0.0.1"), compute.ErrInvalid, "InvalidRoutes", "used by router")
	n.refuses("two families", route("2001:db8::/64", "10.0.0.9"), compute.ErrInvalid, "InvalidInput", "one IP version")
	n.must(route("10.9.0.0/16", "10.0.0.9"))
	_, err = n.RemoveInterface(ctx, r.ID, s[0].ID, "")
	n.refuses("a route's interface", err, compute.ErrConflict, "RouterInterfaceInUseByRoute", "10.9.0.0/16")
}

func TestFloatingIPLife(t *testing.T) {
	n, ctx := newNetworks(t), context.Background()
	public := n.outside()
	web, s := n.network("web", "10.0.0.0/24")
	p := n.port(neutron.Port{NetworkID: web.ID})
	create := func(f neutron.FloatingIP) (neutron.FloatingIP, error) {
		f.ProjectID, f.NetworkID = "p", public.ID
		return n.CreateFloatingIP(ctx, neutron.FloatingIPRequest{FloatingIP: f})
	}
	_, err := create(neutron.FloatingIP{PortID: p.ID})
	n.refuses("no router", err, compute.ErrNotFound, "ExternalGatewayForFloatingIPNotFound", public.ID)
	r := n.router(public.ID)
	_, err = n.AddInterface(ctx, r.ID, s[0].ID, "")
	n.must(err)

	f, err := create(neutron.FloatingIP{PortID: p.ID, Address: netip.MustParseAddr("192.0.2.9")})
	n.must(err)
	own, err := n.Port(ctx, f.OwnPort)
	n.must(err)
	if f.Address.String() != "192.0.2.9" || f.Fixed != p.FixedIPs[0].Address || f.RouterID != r.ID || own.DeviceID != f.ID || own.DeviceOwner != neutron.OwnerFloatingIP ||
		!slices.Equal(addresses(own), []string{"192.0.2.9"}) {
		t.Errorf("%+v\n%+v", f, own)
	}
	_, err = create(neutron.FloatingIP{PortID: p.ID})
	n.refuses("a second one", err, compute.ErrConflict, "FloatingIPPortAlreadyAssociated", "192.0.2.9")
	_, err = create(neutron.FloatingIP{Address: netip.MustParseAddr("192.0.2.9")})
	n.refuses("its address", err, compute.ErrConflict, "IpAddressAlreadyAllocated", "192.0.2.9")
	_, err = n.CreateFloatingIP(ctx, neutron.FloatingIPRequest{FloatingIP: neutron.FloatingIP{ProjectID: "p", NetworkID: web.ID}})
	n.refuses("of an inside network", err, compute.ErrInvalid, "BadRequest", "external")
	_, err = create(neutron.FloatingIP{PortID: "none"})
	n.refuses("to no port", err, compute.ErrNotFound, "PortNotFound", "none")
	_, err = create(neutron.FloatingIP{PortID: p.ID, Fixed: netip.MustParseAddr("10.0.0.250")})
	n.refuses("to another address", err, compute.ErrInvalid, "BadRequest", "10.0.0.250")

	_, err = n.RemoveInterface(ctx, r.ID, s[0].ID, "")
	n.refuses("its interface", err, compute.ErrConflict, "RouterInterfaceInUseByFloatingIP", "192.0.2.9")
	_, err = n.UpdateRouter(ctx, r.ID, func(q *neutron.RouterRequest) error { q.Gateway = ""; return nil })
	n.refuses("its gateway", err, compute.ErrConflict, "RouterExternalGatewayInUseByFloatingIp", "192.0.2.9")
	_, err = n.UpdatePort(ctx, p.ID, func(p *neutron.Port) error {
		p.FixedIPs = []neutron.FixedIP{{Address: netip.MustParseAddr("10.0.0.222")}}
		return nil
	})
	n.refuses("its port's address", err, compute.ErrConflict, "FipAssociated", "192.0.2.9")

	lead := func(port string) error {
		got, err := n.UpdateFloatingIP(ctx, f.ID, func(f *neutron.FloatingIP) error { f.PortID = port; return nil })
		if err == nil {
			f = got
		}
		return err
	}
	n.must(lead(""))
	if f.Fixed.IsValid() || f.RouterID != "" || f.Revision != 2 {
		t.Errorf("%+v", f)
	}
	other := n.port(neutron.Port{NetworkID: web.ID})
	n.must(lead(p.ID))
	n.must(lead(other.ID))
	if f.Fixed != other.FixedIPs[0].Address {
		t.Errorf("%+v", f)
	}
	n.must(n.DeletePort(ctx, other.ID))
	if f, err = n.FloatingIP(ctx, f.ID); err != nil || f.PortID != "" || f.RouterID != "" {
		t.Errorf("%+v, %v", f, err)
	}
	n.must(n.DeleteFloatingIP(ctx, f.ID))
	if _, err := n.Port(ctx, f.OwnPort); err == nil {
		t.Error("its port is left")
	}
	n.refuses("deleted again", n.DeleteFloatingIP(ctx, f.ID), compute.ErrNotFound, "FloatingIPNotFound", f.ID)
}

// The external network has 13 addresses, of which the router has one.
func TestFloatingIPsUntilThereAreNone(t *testing.T) {
	n, ctx := newNetworks(t), context.Background()
	public := n.outside()
	n.router(public.ID)
	seen := map[string]bool{}
	for i := range 13 {
		f, err := n.CreateFloatingIP(ctx, neutron.FloatingIPRequest{FloatingIP: neutron.FloatingIP{ProjectID: "p", NetworkID: public.ID}})
		if i == 12 {
			n.refuses("the last", err, compute.ErrConflict, "IpAddressGenerationFailure", public.ID)
			break
		}
		n.must(err)
		seen[f.Address.String()] = true
	}
	if len(seen) != 12 || !strings.HasPrefix(fmt.Sprint(seen), "map[192.0.2.") {
		t.Error(seen)
	}
}
