package virt

import (
	"context"
	"time"
)

// # Plugging
//
// A guest whose process is there has its devices twice: those that it runs with, and those of its definition, with
// which it starts the next time. What is plugged in is so in both, and while the guest is stopped in its definition
// only. Where the two differ, because somebody else changed one or a guest let go too late, the guest has half a device:
// the same call again makes it whole, or takes away what is left of it.
//
// Taking a device out of a running guest needs that guest's operating system, which is asked and may not answer: while
// it boots, or because it has no driver for it.

// UnplugOptions say how much time a guest gets to let go of a device.
type UnplugOptions struct {
	// Patience is how long the guest's operating system may take in all.
	Patience time.Duration
	// Retry is the interval at which it is asked again; operating systems that are booting miss the first request.
	// Zero asks once. Nova: [libvirt]device_detach_timeout.
	Retry time.Duration
}

// NICPlugger is the ability to plug network interfaces into guests, and out of them, after they were made. A NIC is
// known by its MAC, whose case does not matter.
type NICPlugger interface {
	// PlugNIC gives the guest one more NIC, after those that it has. A paused or just created guest finds it when it
	// runs. ErrInvalid when the NIC contradicts itself (see NIC.Validate); ErrNotFound without the guest; ErrExists when
	// it has a NIC of this MAC, live and in its definition, which stays as it is; ErrUnsupported when this hypervisor
	// cannot do what the NIC asks; ErrNoCapacity when the guest's machine has no free slot. After these the
	// guest has of the NIC what it had before. Of concurrent calls for one MAC exactly one succeeds.
	PlugNIC(ctx context.Context, id string, nic NIC) error

	// UnplugNIC takes the NIC of a MAC away from the guest, and returns when its operating system has let go of it:
	// EventDeviceRemoved is sent then. It is asked, and asked again every Retry. When Patience is over the error is
	// ErrBusy. ErrInvalidState when the guest is paused, or suspended to memory, and cannot hear. After
	// these, and when ctx ends, the guest has the NIC still, live and in its definition; one that was asked may yet let
	// go, and the same call again sees that. A guest that ends meanwhile has let go. Without such a NIC it succeeds and
	// changes nothing. ErrNotFound without the guest.
	UnplugNIC(ctx context.Context, id, mac string, opt UnplugOptions) error

	// NICs returns the guest's network interfaces: those that it runs with in the order in which it got them, and
	// then those of its definition alone. ErrNotFound without the guest.
	NICs(ctx context.Context, id string) ([]PluggedNIC, error)
}

// PluggedNIC is a network interface as a guest has it.
type PluggedNIC struct {
	MAC     string // lower case
	Target  string // host side: tap...; empty while the hypervisor has not chosen one
	Live    bool   // the guest runs with it
	Defined bool   // it is in the guest's definition
}
