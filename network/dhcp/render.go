package dhcp

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrInvalid is in the chain of every error about servers that make no sense. The message names network, subnet or port, field and rule.
var ErrInvalid = errors.New("invalid DHCP server")

// Place is where a server's files are, and who reads them.
type Place struct {
	Dir  string // the server's own
	User string // that dnsmasq becomes
	// Device is the kernel's number of the server's device: a dnsmasq is bound to that, and not to its name.
	Device int
}

// Files are those of one dnsmasq. It starts anew with another Conf; the rest it reads again when it is told to.
type Files struct {
	Conf    string
	Hosts   string // --dhcp-hostsfile
	Options string // --dhcp-optsfile
	Names   string // --addn-hosts
}

// The names of the files below Place.Dir. That of Conf has a hash of what is in it.
const (
	hostsFile   = "hosts"
	optionsFile = "options"
	namesFile   = "names"
	leasesFile  = "leases"
	confPrefix  = "conf-"
)

const (
	leaseSeconds  = 86400 // Neutron's dhcp_lease_duration
	advertiseEach = 600   // seconds; dnsmasq's own
	routerSeconds = 1800  // the lifetime of a router that is one; dnsmasq's own
	minMTU        = 68
	minMTU6       = 1280
)

// Metadata is where guests ask for their metadata: they are told a route to it through the server.
var Metadata = netip.MustParsePrefix("169.254.169.254/32")

// Render makes the files of a server. What is wrong with a subnet or host is in the error, and the files are without it; of a server that
// makes no sense as a whole there are no files. The order of subnets and hosts means nothing.
func Render(at Place, s Server) (Files, error) {
	if err := s.validate(); err != nil {
		return Files{}, fmt.Errorf("%w: network %.40q: %w", ErrInvalid, s.Network, err)
	}
	var errs []error
	try := func(what, id string, err error) bool {
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: network %s: %s %.40q: %w", ErrInvalid, s.Network, what, id, err))
		}
		return err == nil
	}
	var subnets []Subnet
	for _, n := range slices.SortedFunc(slices.Values(s.Subnets), func(a, b Subnet) int { return cmp.Compare(a.ID, b.ID) }) {
		if n.served() && try("subnet", n.ID, n.validate()) {
			subnets = append(subnets, n)
		}
	}
	var hosts []Host
	for _, h := range slices.SortedFunc(slices.Values(s.Hosts), func(a, b Host) int { return cmp.Compare(a.Port, b.Port) }) {
		if try("port", h.Port, h.validate()) {
			hosts = append(hosts, h)
		}
	}
	return Files{
		Conf: s.conf(at, subnets, hosts), Hosts: hostLines(subnets, hosts), Options: s.options(subnets, hosts), Names: s.names(hosts),
	}, errors.Join(errs...)
}

// served says whether guests get anything of a subnet.
func (n *Subnet) served() bool {
	return n.Server.IsValid() && (n.Addresses || n.CIDR.Addr().Is6())
}

// text is lines in the making.
type text struct{ strings.Builder }

func (t *text) line(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) }

func (s *Server) conf(at Place, subnets []Subnet, hosts []Host) string {
	var t text
	t.line("# DHCP of network %s, made by compute-agent", s.Network)
	t.line("user=%s", at.User)
	t.line("group=nogroup")
	t.line("pid-file=")
	for _, word := range []string{"no-hosts", "no-resolv", "bind-interfaces", "dhcp-authoritative", "dhcp-ignore-names", "quiet-dhcp", "quiet-dhcp6", "quiet-ra"} {
		t.line("%s", word)
	}
	t.line("# number %d", at.Device)
	t.line("interface=%s", s.Device)
	t.line("except-interface=lo")
	t.line("dhcp-ignore=tag:!known")
	t.line("dhcp-lease-max=16777216")
	t.line("dhcp-hostsfile=%s", filepath.Join(at.Dir, hostsFile))
	t.line("dhcp-optsfile=%s", filepath.Join(at.Dir, optionsFile))
	t.line("addn-hosts=%s", filepath.Join(at.Dir, namesFile))
	t.line("dhcp-leasefile=%s", filepath.Join(at.Dir, leasesFile))
	if s.Domain != "" {
		t.line("domain=%s", s.Domain)
		t.line("local=/%s/", s.Domain)
	}
	if s.MTU != 0 {
		t.line("dhcp-option-force=option:mtu,%d", s.MTU)
	}
	for _, n := range subnets {
		t.line("dhcp-range=set:subnet-%s,%s,%s,%ds", n.ID, n.CIDR.Masked().Addr(), n.mode(), leaseSeconds)
	}
	s.advertise(&t, subnets)
	// A tag in the hosts file is what dnsmasq 2.90 (Debian 12) dies of when it reads the file again after it used the host.
	for _, h := range hosts {
		if len(h.Options) > 0 {
			t.line("dhcp-mac=set:port-%s,%s", h.Port, h.MAC)
		}
	}
	return t.String()
}

// mode is that of a range, with its mask. All are without addresses but those of hosts.
func (n *Subnet) mode() string {
	if n.CIDR.Addr().Is4() {
		mask := netip.AddrFrom4([4]byte(netmask(n.CIDR.Bits())))
		return "static," + mask.String()
	}
	mode := "static"
	switch {
	case n.Advertise && n.SLAAC && n.Addresses:
		mode = "static,slaac"
	case n.Advertise && n.SLAAC:
		mode = "ra-stateless"
	}
	return fmt.Sprintf("%s,%d", mode, n.CIDR.Bits())
}

func netmask(bits int) []byte {
	mask := ^uint32(0) << (32 - bits)
	return []byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)}
}

// advertise turns router advertisements on. They are of the device: when one subnet has a router behind it, all have.
func (s *Server) advertise(t *text, subnets []Subnet) {
	advertise, router := false, 0
	for _, n := range subnets {
		if n.CIDR.Addr().Is6() && n.Advertise {
			advertise = true
			if n.Router {
				router = routerSeconds
			}
		}
	}
	if !advertise {
		return
	}
	mtu := ""
	if s.MTU >= minMTU6 {
		mtu = fmt.Sprintf("mtu:%d,", s.MTU)
	}
	t.line("enable-ra")
	t.line("ra-param=%s,%s%d,%d", s.Device, mtu, advertiseEach, router)
}

// hostLines are who gets what: for a host a line with its first IPv4 address and all IPv6 addresses, and one for its IPv4 address in each
// further subnet. One that gets no address is there too: it is known.
func hostLines(subnets []Subnet, hosts []Host) string {
	var t text
	for _, h := range hosts {
		first := []string{h.MAC.String()}
		var more []string
		for _, n := range subnets {
			for _, a := range h.Addresses {
				switch {
				case !n.Addresses || !n.CIDR.Contains(a):
				case a.Is6():
					first = append(first, "["+a.String()+"]")
				default:
					more = append(more, a.String())
				}
				if n.Addresses && n.CIDR.Contains(a) && a.Is4() {
					break // DHCP gives one of each subnet
				}
			}
		}
		if len(more) > 0 {
			first, more = append(first, more[0]), more[1:]
		}
		if h.Name != "" {
			first = append(first, h.Name)
		}
		t.line("%s", strings.Join(first, ","))
		for _, a := range more {
			t.line("%s,%s", h.MAC, a)
		}
	}
	return t.String()
}

func (s *Server) options(subnets []Subnet, hosts []Host) string {
	var t text
	for _, h := range hosts {
		for _, o := range h.Options {
			t.line("tag:port-%s,%s,%s", h.Port, o.dnsmasq(), o.Value)
		}
	}
	for _, n := range subnets {
		tag := "tag:subnet-" + n.ID
		if n.CIDR.Addr().Is6() {
			t.line("%s,option6:dns-server,%s", tag, joined(n.dns(), "[%s]"))
			if s.Domain != "" {
				t.line("%s,option6:domain-search,%s", tag, s.Domain)
			}
			continue
		}
		t.line("%s,option:dns-server,%s", tag, joined(n.dns(), "%s"))
		routes := n.routes()
		t.line("%s,option:classless-static-route,%s", tag, routes)
		t.line("%s,249,%s", tag, routes) // Microsoft's number of the same
		if n.Gateway.IsValid() {
			t.line("%s,option:router,%s", tag, n.Gateway)
		} else {
			t.line("%s,option:router", tag) // or dnsmasq says itself
		}
	}
	return t.String()
}

// dns are the subnet's servers of its family; without any the server itself answers, which knows the network's own names.
func (n *Subnet) dns() []netip.Addr {
	var out []netip.Addr
	for _, a := range n.DNS {
		if a.Is4() == n.CIDR.Addr().Is4() {
			out = append(out, a)
		}
	}
	if out == nil {
		return []netip.Addr{n.Server}
	}
	return out
}

func joined(list []netip.Addr, format string) string {
	var out []string
	for _, a := range list {
		out = append(out, fmt.Sprintf(format, a))
	}
	return strings.Join(out, ",")
}

// routes are what option 121 says. A guest that reads it does not read the router's option (RFC 3442), so the default route is
// in it too.
func (n *Subnet) routes() string {
	out := []string{Metadata.String(), n.Server.String()}
	for _, r := range n.Routes {
		if r.To.Addr().Is4() && r.Via.Is4() {
			out = append(out, r.To.Masked().String(), r.Via.String())
		}
	}
	if n.Gateway.IsValid() {
		out = append(out, "0.0.0.0/0", n.Gateway.String())
	}
	return strings.Join(out, ",")
}

// names are the hosts' own, which the server answers for.
func (s *Server) names(hosts []Host) string {
	var t text
	for _, h := range hosts {
		for _, a := range h.Addresses {
			switch {
			case h.Name == "":
			case s.Domain != "":
				t.line("%s\t%s.%s %s", a, h.Name, s.Domain, h.Name)
			default:
				t.line("%s\t%s", a, h.Name)
			}
		}
	}
	return t.String()
}

// dnsmasq is the option's name as a line of options has it.
func (o *Option) dnsmasq() string {
	number, err := strconv.Atoi(o.Name)
	switch {
	case err == nil && o.IPv6:
		return fmt.Sprintf("option6:%d", number)
	case err == nil:
		return strconv.Itoa(number)
	case o.IPv6:
		return "option6:" + o.Name
	default:
		return "option:" + o.Name
	}
}
