// Package metadata answers guests that ask who they are: OpenStack's and EC2's documents on 169.254.169.254 and fe80::a9fe:a9fe.
//
// It listens in the namespaces of networks and routers, so that the same address in two networks is two guests. Who asks is the port
// that has the source address and, in the kernel's neighbour table, the MAC of it; nothing that a request says counts.
package metadata

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// The addresses of the service. Devices of a Place have them: Address4 with 32 bits, Address6 with 64.
var (
	Address4 = netip.MustParseAddr("169.254.169.254")
	Address6 = netip.MustParseAddr("fe80::a9fe:a9fe")
)

// port is HTTP's.
const port = 80

// Place is a namespace in which the service answers.
type Place struct {
	Namespace string
	// Devices are those on which guests ask, by their name in the namespace.
	Devices []string
	// Ports are who may ask there: who has the address that the kernel says, and the MAC that its neighbour table has of it.
	Ports []Port
}

// Port is a port with the addresses from which its guest asks; the IPv6 link-local one of its MAC is one of them without being listed.
type Port struct {
	ID string
	// Device is the one of the place on which its guest asks; empty for any. Of two ports with the same MAC and address
	// on different networks of a router, one that does not say gets nothing.
	Device    string
	MAC       net.HardwareAddr
	Addresses []netip.Addr
}

// Asker is who asks, as the kernel has it.
type Asker struct {
	Namespace string
	Addr      netip.Addr
	Port      string // ID
}

// Documents are what one guest is told.
type Documents struct {
	// Files are its documents by their path on a config drive: openstack/latest/meta_data.json, ec2/latest/user-data.... They are
	// not changed.
	Files map[string][]byte
	// Password is what the guest has posted; empty for nothing.
	Password string
}

// Source tells what guests are told. Its methods may be called concurrently.
type Source interface {
	// Documents are those of the server that has the asker's port; ErrNotFound if none has.
	Documents(ctx context.Context, who Asker) (Documents, error)
	// KeepPassword keeps the password that the asker's guest has made, encrypted by the server's key, for the server's user. There is
	// one: ErrPasswordSet if it is there already. ErrNotFound as of Documents.
	KeepPassword(ctx context.Context, who Asker, password string) error
}

// What a Source may say.
var (
	ErrNotFound    = errors.New("no server has the port")
	ErrPasswordSet = errors.New("the server has a password already")
)

// MaxPassword is the most bytes that a password may have (nova.api.metadata.password).
const MaxPassword = 4 * 255
