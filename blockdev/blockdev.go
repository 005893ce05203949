// Package blockdev decides where a guest's drives are attached: on which bus, and under which
// name the hypervisor knows them. It is pure: what an image and a machine ask for goes in, names
// come out. A name is the hypervisor's target name; no guest promises to use the same.
package blockdev

import (
	"fmt"
	"strings"
)

// Bus is what a drive is attached to, in libvirt's words.
type Bus string

// The buses.
const (
	Virtio Bus = "virtio"
	IDE    Bus = "ide"
	SATA   Bus = "sata"
	SCSI   Bus = "scsi"
)

// The image properties that choose a bus.
const (
	PropDiskBus  = "hw_disk_bus"
	PropCDROMBus = "hw_cdrom_bus"
)

// Request is what a guest needs drives for.
type Request struct {
	Arch        string            // x86_64, aarch64...; empty means x86_64
	Machine     string            // pc, q35, or a versioned machine type; empty means pc
	Properties  map[string]string // the image's
	ConfigDrive bool
}

// Device is a drive's place in the guest.
type Device struct {
	Name  string // vda
	Bus   Bus
	CDROM bool
}

// Layout is the places of a guest's drives.
type Layout struct {
	Root        Device
	ConfigDrive *Device // nil if there is none
}

// PropertyError is an image property that asks for what the guest cannot have.
type PropertyError struct {
	Property, Value string
	Reason          string
}

// Error names the property, its value and the reason.
func (e *PropertyError) Error() string {
	return fmt.Sprintf("image property %s=%q: %s", e.Property, e.Value, e.Reason)
}

// Plan places the drives as Nova's libvirt driver does: the root disk first, the config drive
// last. Its error is a *PropertyError.
func Plan(r Request) (Layout, error) {
	diskBus, err := r.bus(PropDiskBus, Virtio)
	if err != nil {
		return Layout{}, err
	}
	var names names
	root, err := names.next(PropDiskBus, diskBus)
	if err != nil {
		return Layout{}, err
	}
	layout := Layout{Root: Device{Name: root, Bus: diskBus}}
	if !r.ConfigDrive {
		return layout, nil
	}
	cdromBus, err := r.bus(PropCDROMBus, r.defaultCDROMBus())
	if err != nil {
		return Layout{}, err
	}
	config, err := names.next(PropCDROMBus, cdromBus)
	if err != nil {
		return Layout{}, err
	}
	layout.ConfigDrive = &Device{Name: config, Bus: cdromBus, CDROM: true}
	return layout, nil
}

// bus is what a property chooses, or the default for a missing or empty one.
func (r Request) bus(property string, byDefault Bus) (Bus, error) {
	value := r.Properties[property]
	if value == "" {
		return byDefault, nil
	}
	bus := Bus(value)
	refuse := func(reason string) (Bus, error) { return "", &PropertyError{property, value, reason} }
	switch {
	case kinds[bus].prefix == "":
		return refuse("the bus is not one of virtio, ide, sata, scsi")
	case bus == Virtio && property == PropCDROMBus:
		return refuse("virtio has no CD-ROM drives")
	case bus == IDE && !r.hasIDE():
		return refuse("machine " + r.Machine + " has no IDE")
	}
	return bus, nil
}

// defaultCDROMBus is Nova's choice for a CD-ROM drive.
func (r Request) defaultCDROMBus() Bus {
	switch {
	case !isX86(r.Arch):
		return SCSI
	case isQ35(r.Machine):
		return SATA
	}
	return IDE
}

func (r Request) hasIDE() bool { return isX86(r.Arch) && !isQ35(r.Machine) }

func isX86(arch string) bool { return arch == "" || arch == "x86_64" || arch == "i686" }

func isQ35(machine string) bool { return strings.Contains(machine, "q35") }
