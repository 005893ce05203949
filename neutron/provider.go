package neutron

import (
	"maps"
	"slices"
	"strings"

	"compute-agent/network"
)

// Provider is what an operator offers networks on.
type Provider struct {
	// Default is the type of a network that says none; empty is local.
	Default network.Type
	// Physical are the operator's names of the networks that the host is plugged into, with their MTU; 0 is 1500.
	Physical map[string]int
	// VLANs are the tags, by physical network, and VNIs the numbers that are given to networks that say none.
	VLANs map[string]Numbers
	VNIs  Numbers
	// MTU is that of the network that carries VXLANs; 0 is 1500. Overhead is what a VXLAN takes of it; 0 is 50, that of IPv4.
	MTU, Overhead int
}

// Numbers are from First to Last, both included. The zero Numbers are none.
type Numbers struct{ First, Last int }

// The least MTUs.
const (
	minMTU  = 68 // of IPv4
	minMTU6 = 1280
)

// What tells networks apart.
const (
	maxVLAN = 4094
	maxVNI  = 1<<24 - 1
	maxZone = 1<<16 - 1
)

// Complete checks a new network and fills in what it does not say: type, segment, MTU, conntrack zone. others are all that there are.
func (p Provider) Complete(n *Network, others []Network) error {
	if n.Type == "" && n.Physical == "" && n.Segment == 0 {
		n.Type = p.Default
		if n.Type == "" {
			n.Type = network.Local
		}
	}
	var err error
	switch n.Type {
	case network.Flat:
		err = p.flat(n, others)
	case network.VLAN:
		err = p.vlan(n, others)
	case network.VXLAN:
		err = p.vxlan(n, others)
	case network.Local:
		err = p.local(n)
	case "":
		err = invalid("provider:network_type", "", "it is needed where physical_network or segmentation_id is given")
	default:
		err = invalid("provider:network_type", string(n.Type), "it must be one of flat, vlan, vxlan, local")
	}
	if err != nil {
		return err
	}
	if err := n.giveZone(others); err != nil {
		return err
	}
	return p.Check(n)
}

// Check says what is wrong with what a user may change of a network. An MTU of 0 becomes the largest.
func (p Provider) Check(n *Network) error {
	if err := checkWords(n.Name, n.Description, n.Tags); err != nil {
		return err
	}
	if err := checkDomain("dns_domain", n.DNSDomain); err != nil {
		return err
	}
	if n.Default && !n.External {
		return invalid("is_default", "true", "only an external network can be the default one")
	}
	largest := p.largestMTU(n)
	if n.MTU == 0 {
		n.MTU = largest
	}
	if n.MTU < minMTU || n.MTU > largest {
		return invalid("mtu", number(n.MTU), "it is not from %d to %d, the largest of a %s network", minMTU, largest, n.Type)
	}
	return nil
}

func (p Provider) largestMTU(n *Network) int {
	const ethernet, overhead = 1500, 50
	or := func(n, otherwise int) int {
		if n == 0 {
			return otherwise
		}
		return n
	}
	switch n.Type {
	case network.Flat, network.VLAN:
		return or(p.Physical[n.Physical], ethernet)
	case network.VXLAN:
		return or(p.MTU, ethernet) - or(p.Overhead, overhead)
	}
	return ethernet
}

func (p Provider) flat(n *Network, others []Network) error {
	if err := p.onPhysical(n); err != nil {
		return err
	}
	if n.Segment != 0 {
		return invalid("provider:segmentation_id", number(n.Segment), "a flat network has none")
	}
	for _, o := range others {
		if o.Type == network.Flat && o.Physical == n.Physical {
			return failed("FlatNetworkInUse", Conflict, "provider:physical_network", n.Physical, "it has a flat network already")
		}
	}
	return nil
}

func (p Provider) vlan(n *Network, others []Network) error {
	if n.Physical == "" && n.Segment == 0 {
		return p.chooseVLAN(n, others)
	}
	if err := p.onPhysical(n); err != nil {
		return err
	}
	if n.Segment == 0 {
		if !p.VLANs[n.Physical].choose(n, others) {
			return noneAvailable("no VLAN of physical network " + n.Physical + " is left")
		}
		return nil
	}
	if n.Segment < 1 || n.Segment > maxVLAN {
		return invalid("provider:segmentation_id", number(n.Segment), "a VLAN's is from 1 to %d", maxVLAN)
	}
	if n.taken(others, n.Segment) {
		return failed("VlanIdInUse", Conflict, "provider:segmentation_id", number(n.Segment), "the VLAN on physical network %s is in use", n.Physical)
	}
	return nil
}

// chooseVLAN takes a VLAN of whatever physical network has one left.
func (p Provider) chooseVLAN(n *Network, others []Network) error {
	for _, name := range slices.Sorted(maps.Keys(p.VLANs)) {
		n.Physical = name
		if p.VLANs[name].choose(n, others) {
			return nil
		}
	}
	return noneAvailable("no VLAN is left")
}

func (p Provider) vxlan(n *Network, others []Network) error {
	if n.Physical != "" {
		return invalid("provider:physical_network", n.Physical, "a vxlan network has none")
	}
	if n.Segment == 0 {
		if !p.VNIs.choose(n, others) {
			return noneAvailable("no VNI is left")
		}
		return nil
	}
	if n.Segment < 1 || n.Segment > maxVNI {
		return invalid("provider:segmentation_id", number(n.Segment), "a VNI is from 1 to %d", maxVNI)
	}
	if n.taken(others, n.Segment) {
		return failed("TunnelIdInUse", Conflict, "provider:segmentation_id", number(n.Segment), "the VNI is in use")
	}
	return nil
}

func (p Provider) local(n *Network) error {
	switch {
	case n.Physical != "":
		return invalid("provider:physical_network", n.Physical, "a local network has none")
	case n.Segment != 0:
		return invalid("provider:segmentation_id", number(n.Segment), "a local network has none")
	}
	return nil
}

func (p Provider) onPhysical(n *Network) error {
	if _, known := p.Physical[n.Physical]; !known {
		return invalid("provider:physical_network", n.Physical, "a %s network is on one of: %s", n.Type, strings.Join(slices.Sorted(maps.Keys(p.Physical)), ", "))
	}
	return nil
}

// choose gives a network the first number that is free.
func (r Numbers) choose(n *Network, others []Network) bool {
	used := map[int]bool{}
	for _, o := range others {
		if o.Type == n.Type && o.Physical == n.Physical {
			used[o.Segment] = true
		}
	}
	for number := max(r.First, 1); number <= r.Last; number++ {
		if !used[number] {
			n.Segment = number
			return true
		}
	}
	return false
}

func (n *Network) taken(others []Network, segment int) bool {
	return slices.ContainsFunc(others, func(o Network) bool {
		return o.Type == n.Type && o.Physical == n.Physical && o.Segment == segment
	})
}

func noneAvailable(why string) error {
	return failed("NoNetworkAvailable", Conflict, "", "", "unable to create the network: %s", why)
}

// giveZone gives a network the first conntrack zone that none has.
func (n *Network) giveZone(others []Network) error {
	used := map[uint16]bool{}
	for _, o := range others {
		used[o.Zone] = true
	}
	for zone := 1; zone <= maxZone; zone++ {
		if !used[uint16(zone)] {
			n.Zone = uint16(zone)
			return nil
		}
	}
	return failed("CTZoneExhaustedError", Conflict, "", "", "no conntrack zone is left: %d networks are the most that a host can have", maxZone)
}
