package virt

import "time"

// PowerState is what a hypervisor says of a guest, with the numbers that Nova stores and its API
// shows as OS-EXT-STS:power_state (nova.compute.power_state).
type PowerState int

// The power states. 2 and 5 were dropped from Nova and are not used again.
const (
	PowerNoState   PowerState = 0 // unknown or no such guest
	PowerRunning   PowerState = 1
	PowerPaused    PowerState = 3
	PowerShutdown  PowerState = 4
	PowerCrashed   PowerState = 6
	PowerSuspended PowerState = 7 // the guest's own operating system sleeps (ACPI S3)
)

// String returns Nova's name of the state.
func (s PowerState) String() string {
	switch s {
	case PowerRunning:
		return "RUNNING"
	case PowerPaused:
		return "PAUSED"
	case PowerShutdown:
		return "SHUTDOWN"
	case PowerCrashed:
		return "CRASHED"
	case PowerSuspended:
		return "SUSPENDED"
	default:
		return "NOSTATE"
	}
}

// Guest is a guest as the hypervisor sees it at one moment. Counters start at zero when its
// process starts. Figures that only its process knows are zero while another call holds the guest: a listing waits for nobody.
type Guest struct {
	ID    string // UUID, lower case with dashes
	Name  string // the hypervisor's name for it: instance-0000002a
	State PowerState
	// Reason is the hypervisor's word on how it came to this state ("migration", "I/O error",
	// "crashed"), for people; empty when it has none. A guest whose process was killed is
	// PowerShutdown or PowerCrashed, as the hypervisor counts it, with Reason "crashed".
	Reason string

	VCPUs       int
	CPUTime     time.Duration // of the whole guest, all vCPUs
	MemoryMiB   uint64        // given at definition
	BalloonKiB  uint64        // what the guest has now
	ResidentKiB uint64        // resident on the host
	UnusedKiB   uint64        // free in the guest's own eyes, if its balloon driver says; else 0
	Disks       []DiskStats
	NICs        []NICStats
}

// DiskStats counts the I/O of one disk since the guest started.
type DiskStats struct {
	Target                  string // vda
	Path                    string // file or device on the host; empty for an empty drive
	ReadRequests, ReadBytes uint64
	WriteRequests           uint64
	WriteBytes              uint64
	CapacityBytes           uint64 // what the guest sees
	AllocatedBytes          uint64 // what the host has given
}

// NICStats counts the traffic of one interface since the guest started, as seen from the guest.
type NICStats struct {
	Target             string // host side: tap...
	RxBytes, RxPackets uint64
	RxErrors, RxDrops  uint64
	TxBytes, TxPackets uint64
	TxErrors, TxDrops  uint64
}
