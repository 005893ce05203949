// Package eval answers what a rule set of iptables would do to a packet. It reads what iptables-save and ipset save print
// and iptables-restore and ipset restore take, of the tables raw and filter, and knows the matches that firewalls of
// OpenStack use. What it does not know is an error when the rules are read: it never guesses.
package eval

import (
	"net"
	"net/netip"
)

// Packet is a packet where a rule sees it, with what the kernel has found out about it.
type Packet struct {
	// In and Out are the devices of -i and -o; for what is bridged, the bridge.
	In, Out string
	// PhysIn and PhysOut are the devices in a bridge. PhysOut is known only of a packet that stays in its bridge.
	PhysIn, PhysOut string
	SrcMAC          net.HardwareAddr
	Src, Dst        netip.Addr
	Protocol        uint8
	SrcPort         uint16
	DstPort         uint16
	ICMPType        uint8
	ICMPCode        uint8
	Mark            uint32 // that the host gave it
	// State is what connection tracking says of it.
	State State
}

// State is a packet's state in connection tracking.
type State string

// The states, spelled as iptables does.
const (
	New         State = "NEW"
	Established State = "ESTABLISHED"
	Related     State = "RELATED"
	Invalid     State = "INVALID"
	Untracked   State = "UNTRACKED"
)

// Step is a rule that matched.
type Step struct {
	Table  string `json:"table"`
	Chain  string `json:"chain"`
	Number int    `json:"number"` // in its chain, from 1; 0 for the policy of a built-in chain
	Rule   string `json:"rule"`   // as in the text that was read, after the chain's name
}

// Verdict is what becomes of a packet.
type Verdict struct {
	Accept bool
	// Path are the rules that matched, in order; the last decided.
	Path []Step
	// Zone is the conntrack zone that the packet was given.
	Zone string
}

// Decider is the rule or the policy that decided.
func (v Verdict) Decider() Step { return v.Path[len(v.Path)-1] }
