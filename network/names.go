package network

import (
	"crypto/sha1"
	"encoding/hex"
	"strconv"
)

const (
	maxName = 15 // IFNAMSIZ without its zero
	idPart  = 11 // what Neutron takes of an ID
)

// TapName is the name of a port's tap or macvtap.
func TapName(port string) string { return "tap" + first(port, idPart) }

// BridgeName is the name of a network's bridge, unless the network says another.
func BridgeName(network string) string { return "brq" + first(network, idPart) }

// HybridBridgeName is the name of the Linux bridge of a port that is plugged into Open vSwitch by one.
func HybridBridgeName(port string) string { return "qbr" + first(port, idPart) }

// VHostUserName is the name of a vhost-user port in Open vSwitch.
func VHostUserName(port string) string { return "vhu" + first(port, idPart) }

// VXLANName is the name of a VXLAN's device.
func VXLANName(vni int) string { return "vxlan-" + strconv.Itoa(vni) }

// VLANName is the name that Neutron's Linux bridge agent gives to the device of a tag: eth0.100. Of a physical interface
// whose name is too long for that, a hash stands for the end.
func VLANName(physical string, tag int) string {
	suffix := "." + strconv.Itoa(tag)
	if len(physical)+len(suffix) > maxName {
		physical = hashed(physical, maxName-len(".4094"))
	}
	return physical + suffix
}

// FilteringName is the name of the VLAN-filtering bridge of a physical interface, shortened as that of a VLAN is.
func FilteringName(physical string) string {
	const prefix = "brv-"
	if len(prefix)+len(physical) > maxName {
		physical = hashed(physical, maxName-len(prefix))
	}
	return prefix + physical
}

// hashed is a name in so many characters, the last of which are of its hash.
func hashed(name string, room int) string {
	const digits = 6
	sum := sha1.Sum([]byte(name))
	return first(name, room-digits) + hex.EncodeToString(sum[:])[:digits]
}

func first(s string, n int) string { return s[:min(n, len(s))] }

// halfMade is the name of a link that has no mark yet: whatever is found under it was left by a crash.
const halfMade = "cagent-new"

// halfPeer is that of the other end of a veth that is half made, with which it goes.
const halfPeer = "cagent-peer"

// validName says whether the kernel takes it as an interface's name, and nobody can be confused by it.
func validName(s string) bool {
	if s == "" || len(s) > maxName || s == "." || s == ".." || s == halfMade || s == halfPeer || s == "all" || s == "default" {
		return false
	}
	for _, r := range []byte(s) {
		if !letter(r) && r != '.' {
			return false
		}
	}
	return true
}

// validID says whether it can be in a link's name and in its alias.
func validID(s string) bool {
	for _, r := range []byte(s) {
		if !letter(r) {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

func letter(r byte) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}
