package virt

import "context"

// ConsoleType is a protocol in which a guest's screen or serial port is reached. The words are the API's (remote-consoles, "protocol").
type ConsoleType string

// The protocols of consoles.
const (
	ConsoleVNC    ConsoleType = "vnc"
	ConsoleSPICE  ConsoleType = "spice"
	ConsoleSerial ConsoleType = "serial"
)

// Console is where a running guest's screen or serial port is reached on this host, as the hypervisor says now: never what its definition asked for, and never
// what a client says.
type Console struct {
	Type ConsoleType
	Port int // serial: which of the guest's serial ports that take a client, from 0

	// Network and Address are what net.Dial takes: tcp and host:port, or unix and a path.
	Network, Address string
	// TLSAddress is host:port where SPICE speaks TLS; empty for none.
	TLSAddress string
}

// ConsoleFinder is the ability to say where a guest's consoles are.
type ConsoleFinder interface {
	// Consoles returns the ways in to a running guest, in the order vnc, spice, serial ports. None for a guest that has none. ErrNotFound if there is no such
	// guest, ErrInvalidState if it is stopped.
	Consoles(ctx context.Context, id string) ([]Console, error)
}

// Screenshotter is the ability to picture a guest's screen.
type Screenshotter interface {
	// Screenshot returns what the first screen of a running guest shows, as a PNG. The pixels come from the guest and are hostile; their number is bounded.
	// ErrNotFound if there is no such guest, ErrInvalidState if it is stopped, ErrUnsupported if it has no screen.
	Screenshot(ctx context.Context, id string) ([]byte, error)
}
