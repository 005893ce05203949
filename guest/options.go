package guest

import (
	"time"

	"compute-agent/virt"
)

// Options are the operator's choices for all guests. The names in comments are Nova's, [libvirt] where no other
// group is named; a zero value is Nova's default unless the comment says otherwise.
type Options struct {
	// Processor
	CPUMode   string   // cpu_mode; default host-model, on aarch64 host-passthrough; see EmulatedCPU
	CPUModels []string // cpu_models; for CPUMode custom
	CPUFlags  []string // cpu_model_extra_flags: pcid, +pdpe1gb, -mtrr
	// EmulatedCPU is the model of guests on x86 that are emulated, where CPUMode is empty; on other
	// architectures such guests get all that the emulator has. Empty: as for others.
	EmulatedCPU string
	// Machines are the machine types by architecture (hw_machine_type); default pc, virt, pseries or
	// s390-ccw-virtio.
	Machines map[string]string
	// RealtimePriority is that of vCPUs in real time (realtime_scheduler_priority); default 1.
	RealtimePriority int

	// Memory
	FileBacked  bool // file_backed_memory is more than 0: all guests' memory is in files
	TCGCacheMiB int  // tb_cache_size; 0 leaves it to the emulator

	// Drives
	CacheModes map[string]string // disk_cachemodes: by file, block, network or mount
	Discard    string            // hw_disk_discard: ignore or unmap, for the server's own drives; empty leaves it to the hypervisor
	// NativeIO makes the server's own drives use Linux' native I/O where they go around the page cache. Nova does
	// so with preallocate_images=space.
	NativeIO bool
	// DefaultVolumeIO leaves the I/O of volumes to the hypervisor (use_default_aio_mode_for_volumes); else it
	// is native.
	DefaultVolumeIO bool

	// NICs
	RXQueueSize int // rx_queue_size: 256, 512, 1024; 0 for the hypervisor's own
	TXQueueSize int // tx_queue_size; for vhost-user and vDPA
	MaxQueues   int // max_queues: at most so many queues a NIC; 0 for as many as vCPUs
	// HypervisorNICs leaves the model of NICs to the hypervisor where the image names none: use_virtio_for_bridges
	// is false.
	HypervisorNICs bool

	// Screen
	VNC          string     // address that guests' screens listen on ([vnc]server_listen); empty: none, as with [vnc]enabled=false
	SPICE        string     // [spice]server_listen; empty: none, as with [spice]enabled=false
	NoSPICEAgent bool       // [spice]agent_enabled is false
	SPICEServer  virt.SPICE // [spice]require_secure, image_compression, jpeg_compression, zlib_compression, playback_compression, streaming_mode
	PointerModel string     // [DEFAULT]pointer_model: usbtablet, ps2mouse; default usbtablet

	// Other devices
	// SerialConsole is the address that guests' serial ports listen on for TCP connections
	// ([serial_console]proxyclient_address). With SerialSockets they listen on sockets instead, which Nova has not. With
	// neither: one port, which is a pseudo terminal, as with [serial_console]enabled=false.
	SerialConsole string
	SerialSockets bool
	// AppendConsoleLog keeps what is in the console log when a guest starts. Nova starts it anew.
	AppendConsoleLog bool
	// PerfEvents are counted of every guest (enabled_perf_events); those that no host can count are left out.
	PerfEvents []string
	RNG        string // rng_dev_path; default /dev/urandom
	// StatsPeriod is how often a guest tells of its memory (mem_stats_period_seconds); default 10 s,
	// negative for never: then there is no balloon.
	StatsPeriod time.Duration
	RootPorts   int // num_pcie_ports: PCIe ports of q35 and virt machines; 0 leaves it to the hypervisor
	// GuestAgent gives every guest the channel for the QEMU guest agent. Nova: those whose image says
	// hw_qemu_guest_agent.
	GuestAgent bool
	// Serial is the machine's serial number (sysinfo_serial): none, os, hardware, auto or unique; default
	// unique. os, hardware and auto are Request.HostSerial.
	Serial string
}
