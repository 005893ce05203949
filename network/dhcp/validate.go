package dhcp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

func (s *Server) validate() error {
	switch {
	case !validID(s.Network):
		return errors.New("id: letters, digits, dashes and underscores, at most 64")
	case !validID(s.Device) || len(s.Device) > 15:
		return fmt.Errorf("device: %.40q is no name of an interface", s.Device)
	case s.Domain != "" && !validDomain(s.Domain):
		return fmt.Errorf("domain: %.40q is no name of a domain", s.Domain)
	case s.MTU != 0 && (s.MTU < minMTU || s.MTU > 65535):
		return fmt.Errorf("mtu: %d is not from %d to 65535", s.MTU, minMTU)
	}
	return nil
}

func (n *Subnet) validate() error {
	if !validID(n.ID) {
		return errors.New("id: letters, digits, dashes and underscores, at most 64")
	}
	if !n.CIDR.IsValid() || n.CIDR.Addr().Is4In6() || n.CIDR.Addr().Is6() && n.CIDR.Bits() < 64 {
		return fmt.Errorf("cidr: %s is no prefix, or an IPv6 one of less than 64 bits, which dnsmasq does not serve", n.CIDR)
	}
	if n.Advertise && n.CIDR.Addr().Is6() && n.CIDR.Bits() != 64 {
		return fmt.Errorf("cidr: %s cannot be advertised: 64 bits can", n.CIDR)
	}
	if !n.CIDR.Contains(n.Server) {
		return fmt.Errorf("server: %.60q is not in %s", n.Server, n.CIDR)
	}
	if n.Gateway.IsValid() && (n.Gateway.Is4() != n.CIDR.Addr().Is4() || n.Gateway.Zone() != "") {
		return fmt.Errorf("gateway: %.60q is of the other family than %s", n.Gateway, n.CIDR)
	}
	for _, a := range n.DNS {
		if !plain(a) {
			return fmt.Errorf("dns: %.60q is no host's address", a)
		}
	}
	for _, r := range n.Routes {
		if !r.To.IsValid() || !plain(r.Via) {
			return fmt.Errorf("routes: to %s by %.60q is no route", r.To, r.Via)
		}
	}
	return nil
}

func plain(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified()
}

func (h *Host) validate() error {
	if !validID(h.Port) {
		return errors.New("id: letters, digits, dashes and underscores, at most 64")
	}
	if len(h.MAC) != 6 || h.MAC[0]&1 != 0 {
		return fmt.Errorf("mac: %.40q is no interface's address", h.MAC.String())
	}
	if h.Name != "" && !validLabel(h.Name) {
		return fmt.Errorf("name: %.80q is no name of a host", h.Name)
	}
	for _, a := range h.Addresses {
		if !plain(a) {
			return fmt.Errorf("addresses: %.60q is no host's address", a)
		}
	}
	for _, o := range h.Options {
		if err := o.Validate(); err != nil {
			return fmt.Errorf("options: %w", err)
		}
	}
	return nil
}

// The options that dnsmasq has a name for, but for those that are of the protocol itself.
var (
	optionNames = strings.Fields(`netmask time-offset router dns-server log-server lpr-server boot-file-size domain-name swap-server root-path
		extension-path ip-forward-enable non-local-source-routing policy-filter max-datagram-reassembly default-ttl mtu all-subnets-local
		router-discovery router-solicitation static-route trailer-encapsulation arp-timeout ethernet-encap tcp-ttl tcp-keepalive nis-domain
		nis-server ntp-server netbios-ns netbios-dd netbios-nodetype netbios-scope x-windows-fs x-windows-dm T1 T2 vendor-class nis+-domain
		nis+-server tftp-server bootfile-name mobile-ip-home smtp-server pop3-server nntp-server irc-server user-class posix-timezone
		tzdb-timezone ipv6-only domain-search sip-server classless-static-route vendor-id-encap tftp-server-address server-ip-address`)
	optionNames6 = strings.Fields(`sip-server-domain sip-server dns-server domain-search nis-server nis+-server nis-domain nis+-domain
		sntp-server information-refresh-time posix-timezone tzdb-timezone ntp-server bootfile-url bootfile-param`)
	// ofProtocol are what a server says of itself and of the lease: RFC 2132, RFC 3046.
	ofProtocol = []int{50, 51, 52, 53, 54, 55, 57, 61, 82}
)

// firstFree6 is the first DHCPv6 option after those of the protocol itself: RFC 8415.
const firstFree6 = 21

const maxValue = 255 // what an option of DHCPv4 can hold

// Validate says what keeps dnsmasq from telling a guest the option: a name that it does not have, or a value, which a user chose, that would
// be more than one.
func (o *Option) Validate() error {
	if err := o.validateName(); err != nil {
		return err
	}
	if len(o.Value) > maxValue {
		return fmt.Errorf("%s: its value has %d bytes, of which %d can be", o.Name, len(o.Value), maxValue)
	}
	for i, r := range []byte(o.Value) {
		if r < ' ' || r > '~' || r == '"' || r == '\\' || r == '#' && (i == 0 || o.Value[i-1] == ' ') {
			return fmt.Errorf("%s: %.80q: printable ASCII without quotes, backslashes and comments", o.Name, o.Value)
		}
	}
	return nil
}

func (o *Option) validateName() error {
	names := optionNames
	if o.IPv6 {
		names = optionNames6
	}
	number, err := strconv.Atoi(o.Name)
	switch {
	case err != nil && !slices.Contains(names, o.Name):
		return fmt.Errorf("%.40q is neither a number nor a name that dnsmasq has", o.Name)
	case err != nil:
		return nil
	case number < 1 || number > 254 || strconv.Itoa(number) != o.Name:
		return fmt.Errorf("%.40q is not from 1 to 254", o.Name)
	case o.IPv6 && number < firstFree6, !o.IPv6 && slices.Contains(ofProtocol, number):
		return fmt.Errorf("%d is the server's own", number)
	}
	return nil
}

// validID says whether it can be a tag and a file's name.
func validID(s string) bool {
	for _, r := range []byte(s) {
		if !letter(r) && r != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func validDomain(s string) bool {
	for _, label := range strings.Split(strings.TrimSuffix(s, "."), ".") {
		if !validLabel(label) {
			return false
		}
	}
	return len(s) <= 253
}

func validLabel(s string) bool {
	for _, r := range []byte(s) {
		if !letter(r) {
			return false
		}
	}
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-'
}

func letter(r byte) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-'
}
