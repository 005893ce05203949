package network

import (
	"net"
	"net/netip"
)

// Namespace is a network namespace of the host in which a service of networks runs: a DHCP server with the metadata service
// (qdhcp-...), or a router (qrouter-...), as Neutron has them. What is in it reaches nothing of the host but through its devices.
type Namespace struct {
	Name string // below /run/netns
	// Forwarding routes packets between the devices.
	Forwarding bool
	Devices    []Device
}

// Device is an interface in a namespace: one end of a veth, the other end of which is in a network's bridge, called TapName.
type Device struct {
	Port    string // ID of Neutron
	Network string // ID of the network whose bridge it is plugged into
	Name    string // in the namespace: ns-..., qr-... or qg-... with the first 11 characters of the port's ID
	MAC     net.HardwareAddr
	MTU     int // 0 for the network's
	// Addresses are its own. Beside them the IPv6 link-local address of its MAC is there, and IPv4 addresses with a prefix of 32 bits are
	// left alone: package router puts floating IPs there and takes them away. Any other is taken away.
	Addresses []netip.Prefix
	// Routes are those through it: To, Via and Metric. Any other is taken away, but the kernel's own.
	Routes []Route
}
