package pci

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Device is a function of a PCI device of the host.
type Device struct {
	Address   Address
	VendorID  string // four hexadecimal digits, lower case
	ProductID string
	Class     int    // class, subclass and programming interface: 0x020000 is an Ethernet controller
	Type      string // TypePCI, TypePF, TypeVF or TypeVDPA
	Node      *int   // NUMA node; nil when the kernel does not say
	Parent    *Address
	Driver    string // of the host's kernel; empty for none
	Netdev    string // network interface that the host's kernel has for it; empty for none
}

const devicesDir = "bus/pci/devices"

// Discover reads all PCI devices from a sysfs tree, os.DirFS("/sys") on a live host, in the order of their
// addresses, but for those that are Beyond. The file system must be able to read symbolic links (fs.ReadLinkFS). Every error names
// the file.
//
// The files are those of Documentation/ABI/testing/sysfs-bus-pci of the kernel. A device that goes while it
// is read is left out.
func Discover(sys fs.FS) ([]Device, error) {
	entries, err := fs.ReadDir(sys, devicesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a host without PCI
	}
	if err != nil {
		return nil, err
	}
	var devices []Device
	for _, e := range entries {
		if Beyond(e.Name()) {
			continue
		}
		d, err := readDevice(sys, e.Name())
		if errors.Is(err, fs.ErrNotExist) && gone(sys, e.Name()) {
			continue
		}
		if err != nil {
			return nil, err
		}
		devices = append(devices, d)
	}
	slices.SortFunc(devices, func(a, b Device) int { return a.Address.Compare(b.Address) })
	return devices, Check(devices)
}

func gone(sys fs.FS, name string) bool {
	_, err := fs.Stat(sys, path.Join(devicesDir, name))
	return errors.Is(err, fs.ErrNotExist)
}

// Check wants the physical function of every virtual one to be there and to be one.
func Check(devices []Device) error {
	types := map[Address]string{}
	for _, d := range devices {
		types[d.Address] = d.Type
	}
	for _, d := range devices {
		if d.Parent != nil && types[*d.Parent] != TypePF {
			return fmt.Errorf("%s/%v/physfn: %v is no physical function", devicesDir, d.Address, *d.Parent)
		}
	}
	return nil
}

func readDevice(sys fs.FS, name string) (d Device, err error) {
	dir := path.Join(devicesDir, name)
	if d.Address, err = ParseAddress(name); err != nil {
		return d, fmt.Errorf("%s: %w", dir, err)
	}
	vendor, err := readHex(sys, path.Join(dir, "vendor"), 16)
	if err != nil {
		return d, err
	}
	product, err := readHex(sys, path.Join(dir, "device"), 16)
	if err != nil {
		return d, err
	}
	d.VendorID, d.ProductID = fmt.Sprintf("%04x", vendor), fmt.Sprintf("%04x", product)
	if d.Class, err = readHex(sys, path.Join(dir, "class"), 24); err != nil {
		return d, err
	}
	if d.Node, err = readNode(sys, path.Join(dir, "numa_node")); err != nil {
		return d, err
	}
	if d.Driver, err = linkBase(sys, path.Join(dir, "driver")); err != nil {
		return d, err
	}
	if d.Netdev, err = netdev(sys, dir); err != nil {
		return d, err
	}
	return d, d.readType(sys, dir)
}

// readType tells physical functions by their sriov_totalvfs and virtual ones by their link to them.
func (d *Device) readType(sys fs.FS, dir string) error {
	parent, err := linkBase(sys, path.Join(dir, "physfn"))
	if err != nil {
		return err
	}
	if parent == "" {
		d.Type = TypePCI
		if vfs, err := readText(sys, path.Join(dir, "sriov_totalvfs")); err == nil && vfs != "0" {
			d.Type = TypePF
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	address, err := ParseAddress(parent)
	if err != nil {
		return fmt.Errorf("%s/physfn: %w", dir, err)
	}
	d.Type, d.Parent = TypeVF, &address
	entries, err := fs.ReadDir(sys, dir)
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), "vdpa") }) {
		d.Type = TypeVDPA
	}
	return err
}

func readHex(sys fs.FS, file string, bits int) (int, error) {
	text, err := readText(sys, file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, bits)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a hexadecimal number of %d bits", file, text, bits)
	}
	return int(n), nil
}

// readNode reads a NUMA node; the kernel writes -1 where it does not know it.
func readNode(sys fs.FS, file string) (*int, error) {
	text, err := readText(sys, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without NUMA
	}
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < -1 {
		return nil, fmt.Errorf("%s: %q is not a NUMA node", file, text)
	}
	if n == -1 {
		return nil, nil
	}
	return &n, nil
}

func readText(sys fs.FS, file string) (string, error) {
	data, err := fs.ReadFile(sys, file)
	return strings.TrimSpace(string(data)), err
}

// linkBase is the last part of what a link points to; empty when there is no link.
func linkBase(sys fs.FS, link string) (string, error) {
	target, err := fs.ReadLink(sys, link)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return path.Base(target), err
}

// netdev is the network interface of a device. That of a virtio device hangs on what its driver made of it.
func netdev(sys fs.FS, dir string) (string, error) {
	name, err := firstEntry(sys, path.Join(dir, "net"))
	if err != nil || name != "" {
		return name, err
	}
	entries, err := fs.ReadDir(sys, dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "virtio") && name == "" && err == nil {
			name, err = firstEntry(sys, path.Join(dir, e.Name(), "net"))
		}
	}
	return name, err
}

func firstEntry(sys fs.FS, dir string) (string, error) {
	entries, err := fs.ReadDir(sys, dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return entries[0].Name(), nil
}
