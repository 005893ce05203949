// Package fabric joins what a host's networks consist of: links, filters, namespaces, DHCP servers, routers and the metadata
// service. State says what is wanted of all of them, Fabric makes it so, in an order in which no port is ever open without its filter.
package fabric

import (
	"errors"

	"compute-agent/network"
	"compute-agent/network/dhcp"
	"compute-agent/network/firewall"
	"compute-agent/network/metadata"
	"compute-agent/network/router"
)

// State is all that a host has to have so that its ports work. The zero State is nothing.
type State struct {
	Networks   []network.Network
	Ports      []network.Port
	Firewall   firewall.State
	Namespaces []network.Namespace
	DHCP       []dhcp.Server
	Routers    []router.Router
	// Metadata are the namespaces in which guests ask for their metadata, with the ports that may.
	Metadata []metadata.Place
}

// PortErrors are the errors of ports in an error of Apply.
func PortErrors(err error) []*PortError { return each[*PortError](err) }

// each finds all errors of a type among those that were joined.
func each[T error](err error) []T {
	one, is := errors.AsType[T](err)
	if !is {
		return nil
	}
	var out []T
	if several, are := errors.AsType[joined](err); are {
		for _, e := range several.Unwrap() {
			out = append(out, each[T](e)...)
		}
	}
	if out == nil { // what was joined is its cause
		out = []T{one}
	}
	return out
}

// joined is an error of errors.Join.
type joined interface {
	error
	Unwrap() []error
}

// PortError says that a port does not work, and why. Its filter lets nothing pass, or it is not plugged in.
type PortError struct {
	Port string // ID
	Err  error
}

// Error names the port and the cause.
func (e *PortError) Error() string { return "port " + e.Port + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *PortError) Unwrap() error { return e.Err }
