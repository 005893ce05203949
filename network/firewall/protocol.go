package firewall

import (
	"fmt"
	"strconv"
)

const (
	protoAny     = 0 // iptables' number for "all"
	protoICMP    = 1
	protoTCP     = 6
	protoUDP     = 17
	protoDCCP    = 33
	protoICMPv6  = 58
	protoSCTP    = 132
	protoUDPLite = 136
)

// apiProtocols are the names that Neutron's API takes (neutron_lib, IP_PROTOCOL_MAP), and icmp6.
var apiProtocols = map[string]uint8{
	"any": 0, "ip": 0, "hopopt": 0, "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33,
	"ipv6-encap": 41, "ipv6-route": 43, "ipv6-frag": 44, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58,
	"icmpv6": 58, "icmp6": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "ospf": 89, "vrrp": 112, "pgm": 113, "sctp": 132,
	"udplite": 136,
}

// savedProtocols are names that iptables-save prints: those of its own, and those of /etc/protocols.
var savedProtocols = map[string]uint8{
	"ggp": 3, "ipencap": 4, "st": 5, "igp": 9, "pup": 12, "hmp": 20, "xns-idp": 22, "rdp": 27, "iso-tp4": 29, "xtp": 36,
	"ddp": 37, "idpr-cmtp": 38, "ipv6": 41, "idrp": 45, "skip": 57, "rspf": 73, "vmtp": 81, "eigrp": 88, "ax.25": 93,
	"ipip": 94, "etherip": 97, "encap": 98, "pim": 103, "ipcomp": 108, "l2tp": 115, "isis": 124, "fc": 133,
	"mobility-header": 135, "mh": 135, "ipv6-mh": 135, "mpls-in-ip": 137, "manet": 138, "hip": 139, "shim6": 140,
	"wesp": 141, "rohc": 142, "ethernet": 143,
}

// protocolOf is a rule's protocol as a number. For IPv6 "icmp" is ICMPv6, as in Neutron.
func protocolOf(name string, e Ethertype) (uint8, error) {
	if name == "" {
		return protoAny, nil
	}
	n, known := apiProtocols[name]
	if !known {
		parsed, err := strconv.ParseUint(name, 10, 8)
		if err != nil {
			return 0, fmt.Errorf("%.40q is neither a protocol's name nor a number from 0 to 255", name)
		}
		return uint8(parsed), nil
	}
	if e == IPv6 && n == protoICMP {
		n = protoICMPv6
	}
	return n, nil
}

func hasPorts(protocol uint8) bool {
	switch protocol {
	case protoTCP, protoUDP, protoDCCP, protoSCTP, protoUDPLite:
		return true
	}
	return false
}

func isICMP(protocol uint8) bool { return protocol == protoICMP || protocol == protoICMPv6 }

// protocolName is how rules say a protocol: by the names that iptables has itself, else by number, so that no
// /etc/protocols is needed.
func protocolName(n uint8) string {
	switch n {
	case protoICMP:
		return "icmp"
	case protoTCP:
		return "tcp"
	case protoUDP:
		return "udp"
	case protoICMPv6:
		return "ipv6-icmp"
	case protoSCTP:
		return "sctp"
	case protoUDPLite:
		return "udplite"
	case 50:
		return "esp"
	case 51:
		return "ah"
	}
	return strconv.Itoa(int(n))
}

// savedName is protocolName of a protocol as iptables-save says it.
func savedName(saved string) string {
	if n, ok := savedProtocols[saved]; ok {
		return protocolName(n)
	}
	if n, ok := apiProtocols[saved]; ok {
		return protocolName(n)
	}
	return saved
}
