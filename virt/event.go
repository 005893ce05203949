package virt

import "time"

// EventKind says what happened.
type EventKind int

// The events. The first group is about one guest, the second about the driver itself.
const (
	EventStarted        EventKind = iota + 1 // its process began; its vCPUs run unless EventPaused follows
	EventStopped                             // the guest's execution ended, sent once for it; Reason "shutdown" when it ended itself, "destroyed" when it was forced
	EventPaused                              // vCPUs stopped, memory kept; see Reason (an I/O error, say)
	EventResumed                             // vCPUs run again, from paused
	EventSuspended                           // the guest's operating system went to sleep (ACPI S3)
	EventCrashed                             // the guest or its process crashed and runs no more; in the place of EventStopped
	EventPanicked                            // the guest's kernel says that it panicked; it may still run
	EventMigrated                            // the guest left for or arrived from another host
	EventDeviceRemoved                       // the guest let go of the device named in Device
	EventDeviceKept                          // the guest was asked to let go of the device named in Device, and refused
	EventUndefined                           // the definition is gone, by Destroy or by somebody's hand
	EventConnectionLost                      // the hypervisor does not answer; nothing is known until it is back
	EventConnectionBack                      // it answers again, or events were lost: list the guests, changes may have been missed
	EventHostDevices                         // PCI devices of the host came or went: list them; only from a driver that is a PCILister
)

var eventNames = [...]string{"", "started", "stopped", "paused", "resumed", "suspended", "crashed",
	"panicked", "migrated", "device-removed", "device-kept", "undefined", "connection-lost", "connection-back", "host-devices"}

// String returns the event's name in lower case: "device-removed".
func (k EventKind) String() string {
	if k <= 0 || int(k) >= len(eventNames) {
		return "unknown"
	}
	return eventNames[k]
}

// Event is one thing that happened.
type Event struct {
	Kind   EventKind
	ID     string // the guest; empty for events about the connection
	Device string // for EventDeviceRemoved and EventDeviceKept: the device's alias; for EventHostDevices the device, in the hypervisor's words
	Reason string // the hypervisor's word on why: "shutdown", "destroyed", "crashed", "I/O error"
	Time   time.Time
}
