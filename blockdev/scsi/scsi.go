// Package scsi knows the SCSI disks of a host: where they are, who they say that they are, who holds them; and it scans for one, removes one
// and reads one anew. It does nothing to a disk that it was not asked for by its address.
//
// What it reads is sysfs as Documentation/ABI/testing/sysfs-block, sysfs-bus-scsi and drivers/scsi/scsi_sysfs.c of Linux describe it, and udev's
// records of devices.
package scsi

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/shared"
)

// System is a host's devices: the directories to look into, and the kernel to ask. All methods may be called concurrently.
type System struct {
	Sys, Dev, Proc string
	RunUdev        string // of udev's records
	Kernel         Kernel
	open           *shared.Look[openDevices] // shared by those who ask who holds a disk; nil for each by himself
}

// Host is this host.
func Host() System {
	return System{Sys: "/sys", Dev: "/dev", Proc: "/proc", RunUdev: "/run/udev", Kernel: linux{}, open: &shared.Look[openDevices]{}}
}

// States of a device in which it can be read.
const (
	Running          = "running"
	Offline          = "offline"           // the kernel has given it up
	TransportOffline = "transport-offline" // its port or session is gone
)

// Device is a disk as sysfs shows it.
type Device struct {
	Address       Address
	Name          string // of the block device: sda; empty while there is none
	Number        string // of the block device: major:minor
	Vendor, Model string
	State         string
	Identity      connector.Identity
	Bytes         int64 // zero while it is not known
}

// typeDisk is the peripheral device type of disks.
const typeDisk = "0"

// Devices returns the disks in the order of their addresses. One that goes while it is read is left out.
func (s System) Devices() ([]Device, error) {
	entries, err := os.ReadDir(s.sys("bus/scsi/devices"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the kernel has no SCSI, or not yet
	}
	if err != nil {
		return nil, fmt.Errorf("SCSI devices: %w", err)
	}
	var devices []Device
	for _, e := range entries {
		a, err := ParseAddress(e.Name())
		if err != nil {
			continue // a host or a target
		}
		d, found, err := s.Find(a)
		if err != nil {
			return nil, err
		}
		if found {
			devices = append(devices, d)
		}
	}
	slices.SortFunc(devices, func(a, b Device) int { return a.Address.compare(b.Address) })
	return devices, nil
}

func (a Address) compare(b Address) int {
	return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.Target, b.Target), cmp.Compare(a.LUN, b.LUN))
}

// Find returns the disk at the address. What is there and is no disk is not found.
func (s System) Find(a Address) (Device, bool, error) {
	dir := s.device(a)
	kind, err := readText(dir, "type")
	d := Device{Address: a}
	if err == nil && kind == typeDisk {
		err = s.fill(&d, dir)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) || err != nil && !exists(dir): // it comes or goes while it is read
		return Device{}, false, nil
	case err != nil:
		return Device{}, false, fmt.Errorf("SCSI device %v: %w", a, err)
	}
	return d, kind == typeDisk, nil
}

func (s System) fill(d *Device, dir string) (err error) {
	for file, field := range map[string]*string{"vendor": &d.Vendor, "model": &d.Model, "state": &d.State} {
		if *field, err = readText(dir, file); err != nil {
			return err
		}
	}
	d.Identity = identify(dir)
	names, err := os.ReadDir(filepath.Join(dir, "block"))
	if err != nil || len(names) == 0 {
		return nil // the disk's driver has not come to it
	}
	name := names[0].Name()
	number, err := readText(dir, "block", name, "dev")
	if err == nil {
		d.Bytes, err = readSize(filepath.Join(dir, "block", name))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is still being made
	}
	d.Name, d.Number = name, number
	return err
}

// Namesakes returns the disks that say that identity of themselves, in no particular order; none for an empty one. Of all others it reads no more than that:
// there may be hundreds.
func (s System) Namesakes(identity connector.Identity) ([]Device, error) {
	entries, err := os.ReadDir(s.sys("bus/scsi/devices"))
	if errors.Is(err, fs.ErrNotExist) || identity == "" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("SCSI devices: %w", err)
	}
	var same []Device
	for _, e := range entries {
		a, err := ParseAddress(e.Name())
		if err != nil || identify(s.device(a)) != identity {
			continue
		}
		if d, found, err := s.Find(a); err == nil && found {
			same = append(same, d)
		}
	}
	return same, nil
}

// Block returns the disk that has the name of a block device (sda).
func (s System) Block(name string) (Device, bool, error) {
	if !plain(name) {
		return Device{}, false, nil
	}
	target, err := os.Readlink(s.sys("block", name, "device"))
	if errors.Is(err, fs.ErrNotExist) {
		return Device{}, false, nil
	}
	if err != nil {
		return Device{}, false, err
	}
	a, err := ParseAddress(filepath.Base(target))
	if err != nil {
		return Device{}, false, nil // a block device of another kind
	}
	d, found, err := s.Find(a)
	return d, found && d.Name == name, err
}

// Exists says whether there is a block device of that name.
func (s System) Exists(name string) bool { return plain(name) && exists(s.sys("block", name, "dev")) }

// Bytes is the size of a block device.
func (s System) Bytes(name string) (int64, error) {
	if !plain(name) {
		return 0, fmt.Errorf("block device %q: %w", name, fs.ErrNotExist)
	}
	return readSize(s.sys("block", name))
}

// Duplicate is a disk that is there more than once and has no map that stands for all of them: a guest that had one of the devices could not
// know that another has the rest.
type Duplicate struct {
	Identity connector.Identity
	Devices  []Device
}

// Duplicates returns them in the order of identities.
func (s System) Duplicates() ([]Duplicate, error) {
	devices, err := s.Devices()
	if err != nil {
		return nil, err
	}
	same := map[connector.Identity][]Device{}
	for _, d := range devices {
		if d.Identity != "" {
			same[d.Identity] = append(same[d.Identity], d)
		}
	}
	var found []Duplicate
	for identity, list := range same {
		if len(list) > 1 && !s.oneMap(list) {
			found = append(found, Duplicate{identity, list})
		}
	}
	slices.SortFunc(found, func(a, b Duplicate) int { return cmp.Compare(a.Identity, b.Identity) })
	return found, nil
}

// oneMap says whether one device-mapper map holds all of the devices.
func (s System) oneMap(devices []Device) bool {
	first := s.heldBy(devices[0].Name)
	if len(first) != 1 {
		return false
	}
	return !slices.ContainsFunc(devices, func(d Device) bool { return !slices.Equal(s.heldBy(d.Name), first) })
}

// heldBy returns the block devices that are made of one.
func (s System) heldBy(name string) []string {
	if name == "" {
		return nil
	}
	entries, err := os.ReadDir(s.sys("block", name, "holders"))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (s System) sys(parts ...string) string {
	return filepath.Join(append([]string{s.Sys}, parts...)...)
}

func (s System) device(a Address) string { return s.sys("bus/scsi/devices", a.String()) }

// Node is the file of a block device.
func (s System) Node(name string) string { return filepath.Join(s.Dev, name) }

// plain says whether a name is one file name, as those of block devices are.
func plain(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func readText(parts ...string) (string, error) {
	data, err := os.ReadFile(filepath.Join(parts...))
	return strings.TrimSpace(strings.ToValidUTF8(string(data), "?")), err
}

// sectorSize is the unit of sizes in sysfs, whatever the disk's own blocks are.
const sectorSize = 512

func readSize(dir string) (int64, error) {
	text, err := readText(dir, "size")
	if err != nil {
		return 0, err
	}
	sectors, err := strconv.ParseInt(text, 10, 64)
	if err != nil || sectors < 0 || sectors > (1<<63-1)/sectorSize {
		return 0, fmt.Errorf("%s/size: %q is not a number of sectors", dir, text)
	}
	return sectors * sectorSize, nil
}
