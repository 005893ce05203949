// Package guest makes the definition of a guest: what a flavor, an image, an operator, a server's place, its drives
// and its ports ask for goes in, the virt.Spec that a driver makes the guest of comes out. It is pure.
// The rules are those of Nova's libvirt driver.
package guest

import (
	"time"

	"compute-agent/numa"
	"compute-agent/virt"
)

// Request is everything that a guest's definition depends on.
type Request struct {
	Server Server
	Flavor Flavor
	Image  Image
	// Settled are the properties that Settle returned when the server was created; nil for one that is new.
	Settled map[string]string

	// Placed is where the server's claim has it; nil for anywhere. Cells are the host's as they are configured
	// now, NUMA is that configuration.
	Placed *numa.Guest
	Cells  numa.Host
	NUMA   numa.Config

	Drives []Drive // in the order of the guest's bus
	// DirectIO says that files on the host's file system can be opened around its page cache.
	DirectIO bool
	Ports    []Port
	PCI      []virt.PCIDevice
	Mediated []virt.MediatedDevice // parts of the host's devices (resources:VGPU)
	PMEM     []virt.NVDIMM         // what hw:pmem got, in its order
	Shares   []virt.Share

	ConsoleLog string // file that gets what the guest writes to its first serial port; empty for none
	// SerialPorts are the TCP ports that the guest's serial ports listen on when Options.SerialConsole is
	// set: at least as many as the guest has. 0 is one that is chosen later.
	SerialPorts []int
	// SerialSocket is the path of the sockets that they listen on with Options.SerialSockets, but for the last
	// character, which is the port's number.
	SerialSocket string
	// HostSerial is the host's own number, which its guests get as theirs where Options.Serial says so.
	HostSerial string
	// TPMSecret is the UUID of the hypervisor's secret that encrypts the TPM's state; empty for none.
	TPMSecret string
	// Rescue is what is booted instead of the server's own system; nil when it is not rescued.
	Rescue *Rescue

	Host    virt.Host
	Options Options
	Package string // version of the agent, for the metadata
}

// Server is the server itself.
type Server struct {
	ID        string // UUID
	GuestName string // at the hypervisor
	Title     string // of the domain: any text, hostile; empty for none
	Name      string // the user's, for the metadata; hostile
	Created   time.Time

	UserID, UserName       string
	ProjectID, ProjectName string

	RootType string // image or volume; empty for none
	RootID   string // UUID of the image or the volume

	// Kernel and Initrd are paths of what is booted directly (kernel_id, ramdisk_id of the image); empty for
	// none.
	Kernel, Initrd string
}

// Flavor is the size that the server has, in Nova's units.
type Flavor struct {
	ID, Name                       string
	VCPUs                          int
	MemoryMiB                      int
	DiskGiB, EphemeralGiB, SwapMiB int
	ExtraSpecs                     map[string]string
}

// Image is what the server was made from; none for a server that boots from a volume whose image is not
// known.
type Image struct {
	Format     string // raw, qcow2, iso...
	Properties map[string]string
}

// Rescue says what a rescued guest boots beside its rescue disk.
type Rescue struct {
	Kernel, Initrd string // paths; empty for none
	// Stable says that the server's own drives keep their places, and the rescue disk comes after them
	// (hw_rescue_device, hw_rescue_bus). Else it is the first.
	Stable bool
}

// numa is what the server asks of CPUs and memory.
func (r *Request) numa() numa.Request {
	return numa.Request{VCPUs: r.Flavor.VCPUs, MemoryMiB: r.Flavor.MemoryMiB, ExtraSpecs: r.Flavor.ExtraSpecs, Properties: r.Image.Properties}
}
