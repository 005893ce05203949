package router

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ErrInvalid is in the chain of every error about a Router that makes no sense. The message names router, field and rule.
var ErrInvalid = errors.New("invalid router")

const (
	maxDevice    = 15 // IFNAMSIZ without its zero
	maxNamespace = 64
)

// Validate says what is wrong with a Router, the first thing that is. Whatever passes can be loaded: no text of it can be anything but what
// it is in a rule.
func (r *Router) Validate() error {
	if err := r.validate(); err != nil {
		return fmt.Errorf("%w %.64q: %w", ErrInvalid, r.ID, err)
	}
	return nil
}

func (r *Router) validate() error {
	if !validName(r.Namespace, maxNamespace) {
		return fmt.Errorf("namespace: %.80q is no name of one", r.Namespace)
	}
	devices := map[string]bool{r.Outside: true}
	if r.Outside != "" && !validName(r.Outside, maxDevice) {
		return fmt.Errorf("outside: %.40q is no name of a device", r.Outside)
	}
	for i := range r.Inside {
		in := &r.Inside[i]
		if !validName(in.Device, maxDevice) {
			return fmt.Errorf("inside: %.40q is no name of a device", in.Device)
		}
		if devices[in.Device] {
			return fmt.Errorf("inside: device %s is there twice", in.Device)
		}
		devices[in.Device] = true
		if err := in.validate(); err != nil {
			return fmt.Errorf("inside %s: %w", in.Device, err)
		}
	}
	return r.validateAddresses()
}

func (in *Inside) validate() error {
	for _, p := range in.Prefixes {
		if !p.IsValid() || p.Bits() == 0 || p.Addr().Is4In6() {
			return fmt.Errorf("prefixes: %s is no subnet", p)
		}
	}
	for _, a := range in.Advertise {
		if !a.Prefix.IsValid() || !a.Prefix.Addr().Is6() || a.Prefix.Addr().Is4In6() || a.Prefix.Bits() == 0 {
			return fmt.Errorf("advertise: %s is no IPv6 subnet", a.Prefix)
		}
		if a.SLAAC && a.Prefix.Bits() != 64 {
			return fmt.Errorf("advertise: %s: guests make themselves addresses only of a /64", a.Prefix)
		}
	}
	if in.MTU < 0 || in.MTU > 65535 {
		return fmt.Errorf("mtu: %d is not from 0 to 65535", in.MTU)
	}
	return nil
}

func (r *Router) validateAddresses() error {
	if r.Outside == "" && (r.SNAT.IsValid() || len(r.FloatingIPs) > 0) {
		return errors.New("outside: none, but there are addresses of it")
	}
	if r.SNAT.IsValid() && !host(r.SNAT) {
		return fmt.Errorf("snat: %s is no IPv4 address of a host", r.SNAT)
	}
	seen := []netip.Addr{r.SNAT}
	for _, f := range r.FloatingIPs {
		if !host(f.Address) {
			return fmt.Errorf("floating ip: %s is no IPv4 address of a host", f.Address)
		}
		if !host(f.Fixed) {
			return fmt.Errorf("floating ip %s: fixed: %s is no IPv4 address of a host", f.Address, f.Fixed)
		}
		if slices.Contains(seen, f.Address) {
			return fmt.Errorf("floating ip %s: is there twice", f.Address)
		}
		seen = append(seen, f.Address)
	}
	return nil
}

func host(a netip.Addr) bool {
	return a.Is4() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func validName(s string, longest int) bool {
	if s == "" || len(s) > longest || s == "." || s == ".." || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
	})
}
