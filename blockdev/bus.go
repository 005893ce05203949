package blockdev

import (
	"slices"
	"strings"
)

// Bus is what a drive is attached to, in libvirt's words.
type Bus string

// The buses that a guest of QEMU has. Nova knows those of other hypervisors too, to refuse them.
const (
	Virtio Bus = "virtio"
	SCSI   Bus = "scsi"
	SATA   Bus = "sata"
	IDE    Bus = "ide"
	USB    Bus = "usb"
	FDC    Bus = "fdc"
)

// The image properties that choose a bus or a device.
const (
	PropDiskBus      = "hw_disk_bus"
	PropCDROMBus     = "hw_cdrom_bus"
	PropFloppyBus    = "hw_floppy_bus"
	PropRescueBus    = "hw_rescue_bus"
	PropRescueDevice = "hw_rescue_device"
)

const keyBus = "disk_bus" // of a block device mapping

var qemuBuses = []Bus{Virtio, SCSI, IDE, USB, FDC, SATA}

// supported is the buses of each hypervisor that Nova's libvirt driver knows; of the last two only so much that
// they can be told apart from a misspelling.
var supported = map[string][]Bus{
	"kvm": qemuBuses, "qemu": qemuBuses, "lxc": {"lxc"}, "parallels": {IDE, SCSI}, "xen": {"xen", IDE}, "uml": {"uml"},
}

// platform is what decides which buses there are.
type platform struct {
	virtType, arch, machine string
	asNova                  bool
}

func (r Request) platform() platform {
	p := platform{virtType: r.VirtType, arch: r.Arch, machine: r.Machine, asNova: r.AsNova}
	if p.virtType == "" {
		p.virtType = "kvm"
	}
	if p.arch == "" {
		p.arch = "x86_64"
	}
	return p
}

// has says whether the hypervisor knows a bus.
func (p platform) has(bus Bus) (bool, error) {
	buses, known := supported[p.virtType]
	if !known {
		return false, p.unknown()
	}
	return slices.Contains(buses, bus), nil
}

func (p platform) unknown() error {
	return failed(UnsupportedVirtType, "virt_type", p.virtType, "the hypervisor's drives are not known")
}

// busFor is the bus for devices of a type: the one that the image's properties name, else the machine's usual. No
// property names one for LUNs, and Nova fails for want of it.
func (p platform) busFor(t Type, properties map[string]string) (Bus, error) {
	key := propOf(t)
	if t == LUN {
		if p.asNova {
			return "", failed(AttributeError, keyBus, "", "a LUN needs one")
		}
		return SCSI, nil
	}
	if value := properties[key]; value != "" {
		has, err := p.has(Bus(value))
		if err == nil && !has {
			err = failed(UnsupportedHardware, key, value, "%s has no such bus; there are %s", p.virtType, words(supported[p.virtType]))
		}
		return Bus(value), err
	}
	return p.usualBus(t)
}

func propOf(t Type) string { return "hw_" + string(t) + "_bus" }

// usualBus is where devices of a type go that nobody chose a bus for; empty if the hypervisor has none for them.
func (p platform) usualBus(t Type) (Bus, error) {
	switch p.virtType {
	case "kvm", "qemu":
		return map[Type]Bus{Disk: Virtio, CDROM: p.cdromBus(), Floppy: FDC}[t], nil
	case "lxc":
		return "lxc", nil
	case "parallels":
		return map[Type]Bus{Disk: SCSI, CDROM: IDE}[t], nil
	}
	return "", p.unknown()
}

// noCDROMOnIDE are the architectures, besides those without a PC's chipset, whose CD-ROM drives Nova puts on SCSI.
var noCDROMOnIDE = []string{"ppc", "ppc64", "ppcle", "ppc64le", "s390", "s390x", "aarch64"}

func (p platform) cdromBus() Bus {
	switch {
	case slices.Contains(noCDROMOnIDE, p.arch):
		return SCSI
	case strings.Contains(p.machine, "q35"):
		return SATA
	}
	return IDE
}

// fault says why a drive cannot be attached as it is to the machine; empty if it can. libvirt refuses such a guest, or
// QEMU does not start it.
func (p platform) fault(d Drive) string {
	switch {
	case d.Bus == IDE && !p.hasIDE():
		return "machine " + p.describe() + " has no IDE"
	case d.Bus == FDC && !p.isX86():
		return "machine " + p.describe() + " has no floppy controller"
	case d.Type == CDROM && d.Bus == Virtio:
		return "virtio has no CD-ROM drives"
	case (d.Type == Floppy) != (d.Bus == FDC):
		return "floppy drives are on the bus fdc, and nothing else is"
	case d.Type == LUN && d.Bus != SCSI && d.Bus != Virtio:
		return "only scsi and virtio pass SCSI commands through"
	}
	return ""
}

func (p platform) describe() string {
	if p.machine == "" {
		return "of " + p.arch
	}
	return p.machine
}

func (p platform) isX86() bool { return p.arch == "x86_64" || p.arch == "i686" }

func (p platform) hasIDE() bool {
	return p.isX86() && !strings.Contains(p.machine, "q35") && p.machine != "microvm"
}

func words(buses []Bus) string {
	text := make([]string, len(buses))
	for i, b := range buses {
		text[i] = string(b)
	}
	return strings.Join(text, ", ")
}
