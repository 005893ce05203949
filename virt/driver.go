// Package virt is the contract between the compute manager and a hypervisor.
//
// # Life of a guest
//
// Create makes a guest from a complete Spec and leaves it in being, its vCPUs stopped: the
// hypervisor holds every device and the guest costs memory, but no instruction of it has run.
// Start runs it. Stop shuts it down and keeps its definition; Start runs it again. Destroy ends
// it in whatever state it is and removes the definition; the guest is then unknown to the
// driver, and Create may use the same ID again. Remake is a Destroy and a Create that lose nothing which the hypervisor
// keeps for the guest. Pause and Unpause, where a driver has them, stop
// and run the vCPUs of a running guest.
//
//	          Create            Start             Stop
//	(absent) -------> CREATED --------> RUNNING --------> SHUTDOWN
//	    ^               |                  |  \              |
//	    |               |           Pause  |   \ (Start)     |
//	    |               |                PAUSED  <-----------+
//	    +---------------+------------------+-----------------+
//	                         Destroy
//
// A driver never owns files: it opens the disks and logs that the Spec names and leaves them
// where they are. Making and removing them is the caller's business. So is the order of things:
// rebuild, rescue, resize and reboot are compositions of these methods in package compute, not
// methods here.
//
// Everything here is bound by the suite in virt/virttest: each sentence of a method's comment
// is a test there, and every driver passes the same suite.
package virt

import (
	"context"
	"time"
)

// Driver runs guests on one host. All methods may be called concurrently, also for the same
// guest; calls for one guest take effect one after the other in some order.
//
// A method returns no later than its context ends, give or take a second. When the hypervisor does
// not answer by then the error is ErrUnavailable and wraps the context's error; the call may still
// take effect later, and repeating it is safe. A call whose context has ended before it begins fails
// likewise and does nothing.
//
// Errors are of type *Error and wrap one of the kinds of this package where one fits; see ErrNotFound
// and the following. An ID that is not a UUID names no guest.
type Driver interface {
	// Host describes the host and its hypervisor as they are now. It names machine types that guests can be, and
	// says what guests can have: that Create makes, and the rest is ErrUnsupported to it. What guests can have may
	// be told as it was some minutes ago, and of some things a hypervisor does not tell.
	Host(ctx context.Context) (Host, error)

	// Create makes the guest and leaves it with its vCPUs stopped, in state PowerPaused. The Spec
	// is not changed and not kept. It fails with ErrInvalid when the Spec contradicts itself (see
	// Spec.Validate) or names a missing file or directory, then with ErrExists when a guest with the
	// same ID or name is there, and with ErrUnsupported when this hypervisor cannot do what it asks.
	// A PCI device that the host does not have, or that a living guest has, is ErrNoCapacity.
	// After any error no guest with this ID is left behind that was not there before. Of concurrent
	// calls for one ID exactly one succeeds, and the others do it no harm.
	Create(ctx context.Context, spec Spec) error

	// Remake ends the guest in whatever state it is and makes it again of another Spec, and leaves it as Create
	// does. What the hypervisor itself keeps for a guest stays, which Destroy would remove: the variables of its UEFI
	// firmware, the state of its TPM. Without a guest of that ID it is Create. The errors are those of Create, also
	// ErrExists when another guest has the name; after one, what there was is still there: as it was, or stopped.
	Remake(ctx context.Context, spec Spec) error

	// Start runs the guest's vCPUs, whether it was just created, stopped, paused or crashed.
	// Starting a running guest succeeds and changes nothing. ErrNotFound if there is none;
	// ErrInvalidState if it is suspended to memory by its own operating system.
	Start(ctx context.Context, id string) error

	// Stop ends the guest's execution and keeps its definition; its state is PowerShutdown
	// afterwards. With a Grace it first asks the guest's operating system to shut down, asks again
	// every Retry, and forces it when Grace is over, or at once when the guest cannot hear (paused,
	// crashed). When ctx ends during Grace the guest is not forced. Stopping a stopped guest
	// succeeds. ErrNotFound if there is none.
	Stop(ctx context.Context, id string, opt StopOptions) error

	// Destroy ends the guest at once and removes its definition, and what the hypervisor keeps for it: firmware
	// variables, TPM state. Destroying a guest that is not there succeeds. Files that its Spec named stay.
	Destroy(ctx context.Context, id string) error

	// Guest returns one guest as it is now, with its use of resources. ErrNotFound if there is none.
	Guest(ctx context.Context, id string) (Guest, error)

	// Guests returns every guest of the hypervisor, also those that this agent did not make, in
	// one call to it, with their use of resources. The order is not defined.
	Guests(ctx context.Context) ([]Guest, error)

	// Events returns what happens to guests from now on, in order. Each call gets a stream of its
	// own, that is closed when ctx ends or the driver is closed; it has every event from the return
	// of Events on, also of what others did to guests, and may begin with some from just before.
	// Who reads an event and then the guest sees the state that the event told of, or a later one.
	// A reader that falls behind by more than a few thousand events gets EventConnectionBack in
	// their place: it must list the guests again.
	//
	// What the methods above send for a guest: Create sends started, paused (its process runs, its
	// vCPUs do not); Remake sends stopped, if it was not, and then what Create sends; Start sends resumed for a created or paused guest, and for a stopped one
	// started, which a resumed may precede; Stop sends stopped; Destroy sends stopped, if it was
	// not, and undefined; Pause sends paused and Unpause resumed. What changes nothing sends nothing.
	Events(ctx context.Context) <-chan Event

	// Close gives back what the driver holds and closes all event streams. Guests run on. Calls
	// after Close, and calls that wait for a guest at that moment, fail with ErrUnavailable, and
	// Events gives a closed stream; closing twice is allowed.
	Close() error
}

// StopOptions says how much time a guest gets to shut itself down.
type StopOptions struct {
	// Grace is how long the guest's operating system may take. Zero forces at once.
	Grace time.Duration
	// Retry is the interval at which the request is sent again; operating systems that are
	// booting miss the first one. Zero sends it once. Nova: shutdown_retry_interval.
	Retry time.Duration
}

// Pauser is the ability to stop and run the vCPUs of a running guest, its memory kept.
type Pauser interface {
	// Pause stops the vCPUs of a running guest: PowerPaused. Pausing a paused guest succeeds.
	// ErrNotFound if there is none, ErrInvalidState if it is not running.
	Pause(ctx context.Context, id string) error
	// Unpause runs the vCPUs of a paused or just created guest. On a running guest it succeeds.
	// ErrNotFound if there is none, ErrInvalidState if it is stopped.
	Unpause(ctx context.Context, id string) error
}

// ConsoleLogger is the ability to read what a guest wrote to its first serial console.
type ConsoleLogger interface {
	// ConsoleLog returns at most limit bytes from the end of the guest's console output, across
	// rotated files: for a log FILE these are FILE.0, then FILE.1 and so on, newest first, as
	// virtlogd names them. A guest that has written nothing yet, or whose log was removed, has an
	// empty log. A stopped guest's log can be read. ErrNotFound if there is no such guest,
	// ErrUnsupported if it was made without a console log. The bytes come from the guest and are
	// hostile.
	ConsoleLog(ctx context.Context, id string, limit int) ([]byte, error)
}

// MetadataSetter is the ability to change what a guest tells tools of its server.
type MetadataSetter interface {
	// SetMetadata replaces the guest's metadata, live and in its definition; the guest does not notice. ErrNotFound if there is
	// none, ErrInvalid when they contradict themselves.
	SetMetadata(ctx context.Context, id string, m Metadata) error
}

// MachineTeller is the ability to tell which machine a guest was made as.
type MachineTeller interface {
	// Machine returns the guest's machine type by its canonical name, which an upgrade of the hypervisor does not
	// change: pc-i440fx-7.2 of a guest that was made as pc. ErrNotFound if there is none.
	Machine(ctx context.Context, id string) (string, error)
}
