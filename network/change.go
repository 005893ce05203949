package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Op is what a Change does.
type Op string

// The changes of a host's links. Each may be done again after it was done.
const (
	OpAdd          Op = "add"               // New, with its mark, MTU and MAC, down
	OpRemove       Op = "remove"            // Link, which is the agent's
	OpMark         Op = "mark"              // Link with New.Mark
	OpMTU          Op = "mtu"               // of Link is New.MTU
	OpMAC          Op = "mac"               // of Link is New.MAC
	OpUp           Op = "up"                // Link
	OpMaster       Op = "master"            // of Link is To; empty for none
	OpFiltering    Op = "filtering"         // of Link, a bridge, is on
	OpAddVLAN      Op = "add vlan"          // VLAN to Link, native or not
	OpDropVLAN     Op = "remove vlan"       // VLAN of Link
	OpHub          Op = "hub"               // is Link, a bridge
	OpSwitchIn     Op = "into Open vSwitch" // Link as Port
	OpSwitchOut    Op = "out of Open vSwitch"
	OpFunction     Op = "virtual function" // Link is as Function
	OpFunctionBack Op = "virtual function as it was"
	OpIPv6Off      Op = "ipv6 off"       // of Link is New.IPv6Off
	OpARPFilter    Op = "arp filter"     // of Link is New.ARPFilter
	OpToGuest      Op = "limit to guest" // of Link is that of New.QoS, as are the next two
	OpFromGuest    Op = "limit from guest"
	OpDSCP         Op = "dscp"
	OpAddAddress   Op = "add address"       // Address to Link
	OpCopyAddress  Op = "copy address"      // Address of Link to To, with its lifetime and flags
	OpDropAddress  Op = "remove address"    // Address of Link
	OpMoveRoute    Op = "move route"        // Route from Link to To, with all its attributes
	OpAddPeer      Op = "add peer"          // Peer to Link
	OpDropPeer     Op = "remove peer"       // Peer of Link
	OpAddRoute     Op = "add route"         // Route through Link, a device of a namespace
	OpDropRoute    Op = "remove route"      // Route through Link
	OpAddSpace     Op = "add namespace"     // Space, which may be half-made
	OpRemoveSpace  Op = "remove namespace"  // Space, which is the agent's or half-made, with all that is in it
	OpTune         Op = "tune"              // Space is to forward as Forward says, and has the sysctls that each has
	opRemoveUnmade Op = "remove half-made " // Link, which a crash left
)

// Change is one thing to do to one link, or to a namespace.
type Change struct {
	Op Op
	// Space is the namespace; then Link is a device in it, or empty for the namespace itself.
	Space    string
	Forward  bool
	Link     string
	To       string // another link
	New      Link
	Address  netip.Prefix
	Route    Route
	Peer     netip.Addr
	Port     SwitchPort
	Function Function
	VLAN     int
	Native   bool // frames of VLAN have no tag
}

// String says the change in words.
func (c Change) String() string {
	if c.Space != "" {
		return c.insideString()
	}
	switch c.Op {
	case OpAdd:
		return "add " + c.New.String()
	case OpRemove:
		return "remove " + c.Link
	case opRemoveUnmade:
		return string(c.Op) + c.Link
	case OpMaster:
		if c.To == "" {
			return c.Link + ": no master"
		}
		return fmt.Sprintf("%s: master %s", c.Link, c.To)
	case OpCopyAddress:
		return fmt.Sprintf("%s: copy address %s to %s", c.Link, c.Address, c.To)
	case OpMoveRoute:
		return fmt.Sprintf("%s: move route %s to %s", c.Link, c.Route, c.To)
	default:
		return strings.TrimSpace(fmt.Sprintf("%s: %s %s", c.Link, c.Op, c.value()))
	}
}

// value is what the link gets or loses.
func (c Change) value() string {
	switch c.Op {
	case OpMark:
		return fmt.Sprintf("[%s]", c.New.Mark)
	case OpMTU:
		return strconv.Itoa(c.New.MTU)
	case OpMAC:
		return c.New.MAC
	case OpAddVLAN, OpDropVLAN:
		if c.Native {
			return strconv.Itoa(c.VLAN) + " native"
		}
		return strconv.Itoa(c.VLAN)
	case OpSwitchIn, OpSwitchOut:
		return "[" + c.Port.String() + "]"
	case OpFunction:
		return c.Function.FunctionSettings.String()
	case OpFunctionBack:
		return c.Function.Before.String()
	case OpIPv6Off:
		return strconv.FormatBool(c.New.IPv6Off)
	case OpARPFilter:
		return strconv.FormatBool(c.New.ARPFilter)
	case OpToGuest:
		return c.New.QoS.ToGuest.String()
	case OpFromGuest:
		return c.New.QoS.FromGuest.String()
	case OpDSCP:
		return fmt.Sprintf("%d set %v", c.New.QoS.DSCP, c.New.QoS.SetDSCP)
	case OpAddAddress, OpDropAddress:
		return c.Address.String()
	case OpAddPeer, OpDropPeer:
		return c.Peer.String()
	default:
		return ""
	}
}

// insideString says a namespace's change in words.
func (c Change) insideString() string {
	switch c.Op {
	case OpAddRoute, OpDropRoute:
		return fmt.Sprintf("%s: %s %s", c.subject(), c.Op, c.Route)
	case OpAddSpace, OpRemoveSpace:
		return string(c.Op) + " " + c.Space
	case OpTune:
		return fmt.Sprintf("%s: forwarding %v and the rest of its sysctls", c.Space, c.Forward)
	default:
		outside := c
		outside.Space, outside.Link = "", c.subject()
		return outside.String()
	}
}

// subject is what is changed: a link, a namespace, or "namespace/device".
func (c Change) subject() string {
	switch {
	case c.Space == "":
		return c.Link
	case c.Link == "":
		return c.Space
	default:
		return c.Space + "/" + c.Link
	}
}

// needs are the links and namespaces without which the change cannot be.
func (c Change) needs() []string {
	var out []string
	for _, name := range []string{c.subject(), c.Space, c.New.Space, c.To, c.New.Parent} {
		if name != "" {
			out = append(out, name)
		}
	}
	return out
}

// do makes the change in the state, as the kernel would.
func (s State) do(c Change) {
	if c.Space != "" {
		s.doInside(c)
		return
	}
	l := s.Links[c.Link]
	switch c.Op {
	case OpAdd:
		l = Link{Name: c.Link, Shape: c.New.Shape, Mark: c.New.Mark, MTU: c.New.MTU, MAC: c.New.MAC, Filtering: c.New.Filtering, Hub: c.New.Hub}
		if l.Kind == KindVeth && l.Space == "" && c.Link != halfMade {
			s.Links[l.Peer] = Link{Name: l.Peer, Shape: Shape{Kind: KindVeth, Peer: c.Link}, Mark: l.Mark}
		}
		if l.Kind == KindVeth && l.Space != "" {
			s.Spaces[l.Space].Links[l.Peer] = Link{Name: l.Peer, Shape: Shape{Kind: KindVeth, Parent: c.Link}}
		}
	case OpRemove, opRemoveUnmade:
		s.remove(c.Link)
		return
	case OpFunction, OpFunctionBack:
		s.doFunction(c)
		return
	case OpSwitchIn:
		s.Switched[c.Link] = c.Port
		return
	case OpSwitchOut:
		delete(s.Switched, c.Link)
		return
	case OpCopyAddress:
		to := s.Links[c.To]
		to.Addresses = append(to.Addresses, c.Address)
		s.Links[c.To] = to
	case OpMoveRoute:
		to := s.Links[c.To]
		to.Routes = append(without(to.Routes, c.Route), c.Route)
		s.Links[c.To] = to
		l.Routes = without(l.Routes, c.Route)
	default:
		l.set(c)
		l.list(c)
	}
	s.Links[c.Link] = l
}

// set changes what a link has one of.
func (l *Link) set(c Change) {
	switch c.Op {
	case OpMark:
		l.Mark = c.New.Mark
	case OpMTU:
		l.MTU = c.New.MTU
	case OpMAC:
		l.MAC = c.New.MAC
	case OpUp:
		l.Up = true
	case OpMaster:
		l.Master, l.Native, l.Tagged = c.To, 0, nil
	case OpFiltering:
		l.Filtering = true
	case OpHub:
		l.Hub = true
	case OpIPv6Off:
		l.IPv6Off = c.New.IPv6Off
	case OpARPFilter:
		l.ARPFilter = c.New.ARPFilter
	case OpToGuest:
		l.QoS.ToGuest = c.New.QoS.ToGuest
	case OpFromGuest:
		l.QoS.FromGuest = c.New.QoS.FromGuest
	case OpDSCP:
		l.QoS.SetDSCP, l.QoS.DSCP = c.New.QoS.SetDSCP, c.New.QoS.DSCP
	}
}

// list changes what a link has many of.
func (l *Link) list(c Change) {
	switch c.Op {
	case OpAddVLAN:
		l.addVLAN(c)
	case OpDropVLAN:
		l.dropVLAN(c.VLAN)
	case OpAddAddress:
		l.Addresses = append(l.Addresses, c.Address)
	case OpDropAddress:
		l.Addresses = without(l.Addresses, c.Address)
	case OpAddPeer:
		l.Peers = append(l.Peers, c.Peer)
	case OpDropPeer:
		l.Peers = without(l.Peers, c.Peer)
	case OpAddRoute:
		l.Routes = append(l.Routes, c.Route)
	case OpDropRoute:
		l.Routes = without(l.Routes, c.Route)
	}
}

func (l *Link) addVLAN(c Change) {
	l.dropVLAN(c.VLAN)
	if c.Native {
		l.Native = c.VLAN
		return
	}
	l.Tagged = slices.Sorted(slices.Values(append(l.Tagged, c.VLAN)))
}

func (l *Link) dropVLAN(id int) {
	l.Tagged = without(l.Tagged, id)
	if l.Native == id {
		l.Native = 0
	}
}

// doInside makes the change of a namespace or of a device in it.
func (s State) doInside(c Change) {
	space := s.Spaces[c.Space]
	switch c.Op {
	case OpAddSpace:
		s.Spaces[c.Space] = Space{Name: c.Space, Links: map[string]Link{}}
	case OpRemoveSpace:
		for name, l := range s.Links {
			if l.Space == c.Space {
				s.remove(name)
			}
		}
		delete(s.Spaces, c.Space)
	case OpTune:
		space.Forwarding, space.Tuned = c.Forward, true
		s.Spaces[c.Space] = space
	default:
		inside := c
		inside.Space = ""
		State{Links: space.Links}.do(inside)
	}
}

// remove takes a link away with its other end, and lets go of what was in it.
func (s State) remove(name string) {
	if l := s.Links[name]; l.Space != "" {
		delete(s.Spaces[l.Space].Links, l.Peer)
	}
	if l := s.Links[name]; l.Kind == KindVeth && l.Space == "" {
		delete(s.Links, l.Peer)
	}
	delete(s.Links, name)
	for other, l := range s.Links {
		if l.Master == name {
			l.Master, l.Native, l.Tagged = "", 0, nil
			s.Links[other] = l
		}
	}
}

func without[T comparable](list []T, what T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(t T) bool { return t == what })
}
