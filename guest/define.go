package guest

import (
	"cmp"
	"fmt"
	"strings"

	"compute-agent/hwprops"
	"compute-agent/internal/pattern"
	"compute-agent/virt"
)

// Define says what the hypervisor is to make of a server. Its errors are *Error, *numa.Error and *hwprops.Error for
// a setting that cannot be honoured, *LostPlace for a place that is gone, and of kind virt.ErrInvalid for a
// definition that contradicts itself.
func Define(r Request) (virt.Spec, error) {
	d, err := begin(&r)
	if err != nil {
		return virt.Spec{}, err
	}
	d.identity()
	parts := []func() error{
		d.processor, d.memory, d.placement, d.encryption, d.firmware, d.disks, d.nics, d.serial, d.mediated, d.iommu, d.limits,
	}
	for _, part := range parts {
		if err := part(); err != nil {
			return virt.Spec{}, err
		}
	}
	d.boot()
	d.features()
	d.channels()
	d.screen()
	d.tpm()
	d.devices()
	d.usb() // of all other devices
	if err := d.spec.Validate(); err != nil {
		return virt.Spec{}, fmt.Errorf("define server %s: %w", r.Server.ID, err)
	}
	return d.spec, nil
}

// definition is a guest that is being defined.
type definition struct {
	r       *Request
	hw      hwprops.Hardware
	arch    string
	machine string
	caps    virt.Capabilities // of the host for such guests; nothing where the host does not tell
	spec    virt.Spec
}

// begin reads what flavor and image say, and settles on the machine.
func begin(r *Request) (*definition, error) {
	hw, err := hwprops.Source{ExtraSpecs: r.Flavor.ExtraSpecs, Properties: r.Properties()}.Hardware()
	if err != nil {
		return nil, err
	}
	d := &definition{r: r, hw: hw, arch: cmp.Or(hw.Architecture, r.Host.Arch)}
	if d.machine, err = machineType(d.arch, hw.MachineType, r.Options.Machines); err != nil {
		return nil, err
	}
	if caps := r.Host.CapabilitiesOf(d.arch, d.virtType(), d.machine); caps != nil {
		d.caps = *caps
	}
	return d, nil
}

// Machine is the architecture and the machine type that the guest gets; its drives are placed by them.
func (r *Request) Machine() (arch, machine string, err error) {
	d, err := begin(r)
	if err != nil {
		return "", "", err
	}
	return d.arch, d.machine, nil
}

// defaultMachines are Nova's machine types where neither image nor operator names one.
var defaultMachines = map[string]string{
	"x86_64": "pc", "i686": "pc", "aarch64": "virt", "armv7l": "virt", "ppc64le": "pseries",
	"s390": "s390-ccw-virtio", "s390x": "s390-ccw-virtio",
}

var machineForm = pattern.New(`^[A-Za-z0-9._-]{1,64}$`)

func machineType(arch, fromImage string, byOperator map[string]string) (string, error) {
	machine := cmp.Or(fromImage, byOperator[arch], defaultMachines[arch])
	switch {
	case machine == "":
		return "", failed("InvalidMachineType", propMachineType, "", "architecture %s has no machine type of its own, one must be named", arch)
	case !machineForm.MatchString(machine):
		return "", failed("InvalidMachineType", propMachineType, machine, "is no machine type")
	}
	return machine, nil
}

func (d *definition) identity() {
	r := d.r
	s := &d.spec
	s.ID, s.Name, s.Title = r.Server.ID, r.Server.GuestName, r.Server.Title
	s.VirtType, s.Arch, s.Emulator, s.Machine = d.virtType(), d.arch, r.Host.Emulator, d.machine
	if d.foreign() {
		s.Emulator = d.caps.Emulator
	}
	if d.caps.IOThreads != virt.No {
		s.IOThreads = 1
	}
	s.SMBIOS.Serial = r.serialNumber()
	s.Metadata = r.metadata()
}

// foreign says whether the guest is of another architecture than the host.
func (d *definition) foreign() bool { return d.arch != d.r.Host.Arch }

// virtType is the host's, but guests of other architectures can only be emulated.
func (d *definition) virtType() string {
	if d.foreign() {
		return "qemu"
	}
	return d.r.Host.VirtType
}

func (d *definition) isX86() bool   { return d.arch == "x86_64" || d.arch == "i686" }
func (d *definition) isPower() bool { return strings.HasPrefix(d.arch, "ppc") }
func (d *definition) isQ35() bool   { return d.isX86() && strings.Contains(d.machine, "q35") }

func (r *Request) serialNumber() string {
	switch r.Options.Serial {
	case "", "unique":
		return r.Server.ID
	case "none":
		return ""
	}
	return r.HostSerial
}
