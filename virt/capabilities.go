package virt

import (
	"slices"
	"strings"
)

// Capabilities are what guests of one architecture, virt type and machine type can have on a host, as its
// hypervisor tells (libvirt: the domain capabilities). What it does not tell is nil or Untold: that
// refuses nothing.
type Capabilities struct {
	Arch     string // x86_64
	VirtType string // kvm or qemu
	Machine  string // the machine type's canonical name
	Emulator string // path
	MaxVCPUs int    // 0 when not told

	CPUModes  Offer      // host-model, host-passthrough, maximum, custom
	CPUModels []CPUModel // for mode custom; nil when not told

	Firmware   Offer  // kinds that the hypervisor can choose by itself: bios, efi
	SecureBoot Answer // whether some of it can run only what is signed
	// EnrolledKeys is whether some of that knows the usual vendors' keys.
	EnrolledKeys Answer
	Stateless    Answer // whether some of it keeps no variables

	MemorySources Offer // file, anonymous, memfd
	DiskBuses     Offer // virtio, scsi, sata, ide, usb, fdc
	DiskDevices   Offer // disk, cdrom, floppy, lun
	Graphics      Offer // vnc, spice...
	VideoModels   Offer // vga, virtio, none...
	HostDevices   Offer // usb, pci, scsi
	RNGModels     Offer // virtio...
	RNGBackends   Offer // random, egd, builtin
	FileSystems   Offer // drivers: path, virtiofs...
	TPMModels     Offer // tpm-tis, tpm-crb
	TPMBackends   Offer // emulator, passthrough...
	TPMVersions   Offer // of the emulator: 1.2, 2.0
	Redirection   Offer // buses of redirected devices: usb
	Channels      Offer // pty, unix, spicevmc...
	HyperV        Offer // enlightenments for Windows

	// VFIO is whether the host's kernel can give its PCI devices, and parts of them, to guests.
	VFIO       Answer
	IOThreads  Answer
	VMCoreInfo Answer
	GenID      Answer

	// LaunchSecurity are the kinds of encrypted memory: sev, sev-snp. Hypervisors older than it tell of SEV alone.
	LaunchSecurity Offer
	SEV            *SEV // nil for none
}

// CPUModel is a processor that a guest can be given by name.
type CPUModel struct {
	Name string
	// Usable says whether this host's processor can run it.
	Usable Answer
	// Features are what the model has, in libvirt's words; nil when not told.
	Features []string
}

// SEV is what AMD's encryption of guests' memory takes and has room for on a host.
type SEV struct {
	CBitPos         int // the bit of a page's address that says it is encrypted
	ReducedPhysBits int // address bits that are lost
	MaxGuests       int // with SEV; 0 when not told
	MaxESGuests     int // with SEV-ES or SEV-SNP; 0 for none
}

// Answer is yes, no or nothing.
type Answer string

// The answers.
const (
	Untold Answer = ""
	Yes    Answer = "yes"
	No     Answer = "no"
)

// Offer is a list of what there is. Nil says nothing; one that is empty says that there is nothing.
type Offer []string

// Refuses says whether a word is known not to be on offer.
func (o Offer) Refuses(word string) bool { return o != nil && !slices.Contains(o, word) }

// CPUModel finds a model by its name; nil when it is not there.
func (c *Capabilities) CPUModel(name string) *CPUModel {
	for i := range c.CPUModels {
		if c.CPUModels[i].Name == name {
			return &c.CPUModels[i]
		}
	}
	return nil
}

// CapabilitiesOf are what guests of a machine type can have, by its canonical name or an alias. Hypervisors are asked
// about the newest of each kind of machine, which stands for the older ones. Nil: the host does not tell.
func (h Host) CapabilitiesOf(arch, virtType, machine string) *Capabilities {
	machine = h.CanonicalMachine(arch, machine)
	var kin *Capabilities
	for i := range h.Capabilities {
		c := &h.Capabilities[i]
		switch {
		case c.Arch != arch || c.VirtType != virtType:
		case c.Machine == machine:
			return c
		case machineKind(c.Machine) == machineKind(machine):
			kin = c
		}
	}
	return kin
}

// machineKind is a machine type's name without its version: pc-q35 of pc-q35-7.2 and of a distribution's pc-q35-jammy.
func machineKind(name string) string {
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		return name[:i]
	}
	return name
}
