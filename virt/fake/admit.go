package fake

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"compute-agent/virt"
)

// diskSize is what a disk's file says of itself.
type diskSize struct{ capacity, allocated uint64 }

// inspectFiles looks for the files of a Spec, as QEMU does when it opens them, and returns the
// sizes of its disks by their targets.
func inspectFiles(spec virt.Spec) (map[string]diskSize, error) {
	for _, p := range spec.Paths() {
		if _, err := os.Stat(p.Path); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", virt.ErrInvalid, p.Field, err)
		}
	}
	sizes := map[string]diskSize{}
	for _, d := range spec.Disks {
		size, err := inspectDisk(d)
		if err != nil {
			return nil, err
		}
		sizes[d.Target] = size
	}
	return sizes, nil
}

// remoteSize is that of every disk which the hypervisor reaches over the network.
const remoteSize = 1 << 30

// inspectDisk looks for what a disk is made of.
func inspectDisk(d virt.Disk) (diskSize, error) {
	if d.Path() == "" {
		if d.Source.Empty() {
			return diskSize{}, nil
		}
		return diskSize{capacity: remoteSize}, nil
	}
	size, err := inspectImage(d.Path(), d.Format)
	if err != nil {
		return diskSize{}, fmt.Errorf("%w: disk %s: %w", virt.ErrInvalid, d.Target, err)
	}
	for _, b := range d.Backing {
		if _, err := inspectImage(b.Path, b.Format); err != nil {
			return diskSize{}, fmt.Errorf("%w: backing file of disk %s: %w", virt.ErrInvalid, d.Target, err)
		}
	}
	return size, nil
}

var qcow2Magic = []byte{'Q', 'F', 'I', 0xfb}

// inspectImage reads the sizes of an image file, and refuses one that is not of the format.
func inspectImage(path, format string) (diskSize, error) {
	f, err := os.Open(path)
	if err != nil {
		return diskSize{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return diskSize{}, err
	}
	if info.IsDir() {
		return diskSize{}, fmt.Errorf("%s is a directory", path)
	}
	size := diskSize{capacity: uint64(info.Size())}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		size.allocated = uint64(st.Blocks) * 512
	}
	if format != "qcow2" {
		return size, nil
	}
	header := make([]byte, 32) // magic, version, backing file, cluster bits, virtual size at 24
	if _, err := io.ReadFull(f, header); err != nil || string(header[:4]) != string(qcow2Magic) {
		return diskSize{}, fmt.Errorf("%s is not in qcow2 format", path)
	}
	size.capacity = binary.BigEndian.Uint64(header[24:])
	return size, nil
}

// MakeDisk writes the smallest file that this hypervisor takes for a qcow2 image of a virtual size
// in bytes. QEMU would not.
func MakeDisk(path string, virtualSize uint64) error {
	header := make([]byte, 104)
	copy(header, qcow2Magic)
	binary.BigEndian.PutUint32(header[4:], 3)
	binary.BigEndian.PutUint32(header[20:], 16)
	binary.BigEndian.PutUint64(header[24:], virtualSize)
	return os.WriteFile(path, header, 0o600)
}

// support refuses what an x86 QEMU under libvirt cannot do.
func (o Options) support(s virt.Spec) error {
	unsupported := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{virt.ErrUnsupported}, args...)...)
	}
	host := o.host()
	machine, guests := host.MachineType(s.Arch, s.Machine), host.CapabilitiesOf(s.Arch, s.VirtType, s.Machine)
	switch {
	case s.Arch != "x86_64":
		return unsupported("no emulator for %s", s.Arch)
	case machine == nil:
		return unsupported("machine type %s", s.Machine)
	case guests == nil:
		return unsupported("virt type %s on this host", s.VirtType)
	case s.VCPUs > machine.MaxVCPUs:
		return unsupported("%d vCPUs; machine type %s takes %d", s.VCPUs, s.Machine, machine.MaxVCPUs)
	case s.MemoryMiB > o.MemoryMiB:
		return fmt.Errorf("%w: %d MiB of memory on a host of %d MiB", virt.ErrNoCapacity, s.MemoryMiB, o.MemoryMiB)
	}
	if what := lacking(s, guests); what != "" {
		return unsupported("%s with virt type %s and machine type %s", what, s.VirtType, s.Machine)
	}
	for _, g := range s.Graphics {
		if !isLocal(g.Listen) {
			return unsupported("%s on %s: not an address of this host", g.Type, g.Listen)
		}
	}
	return nil
}

// isLocal says whether a socket can be bound to an address.
func isLocal(listen string) bool {
	addr, err := netip.ParseAddr(listen)
	if err != nil || addr.IsLoopback() || addr.IsUnspecified() {
		return err == nil
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == addr {
			return true
		}
	}
	return false
}

// admit refuses a Spec that collides with a guest that is there; h.mu is held.
func (h *Hypervisor) admit(s virt.Spec) error {
	if g := h.guests[s.ID]; g != nil {
		return fmt.Errorf("%w: a guest with this ID, named %s", virt.ErrExists, g.spec.Name)
	}
	if id, taken := h.names[s.Name]; taken {
		return fmt.Errorf("%w: a guest named %s, with ID %s", virt.ErrExists, s.Name, id)
	}
	return nil
}

// openDisks refuses to begin a guest's process when it cannot open one of its disks; h.mu is held.
func (h *Hypervisor) openDisks(s virt.Spec) error {
	for _, d := range s.Disks {
		if err := h.openDisk(s.ID, d); err != nil {
			return err
		}
	}
	return nil
}

// openDisk refuses a disk whose file another living guest has open, when one of them writes it: QEMU locks its images. It refuses
// one whose secrets are not kept, too.
func (h *Hypervisor) openDisk(id string, d virt.Disk) error {
	for _, other := range h.guests {
		if other.alive() && other.spec.ID != id && other.locks(d) {
			return fmt.Errorf("%w: disk %s: guest %s has its file open", virt.ErrBusy, d.Target, other.spec.ID)
		}
	}
	for _, uuid := range d.Secrets() {
		if _, kept := h.secrets[uuid]; !kept {
			return fmt.Errorf("%w: disk %s: no secret %s", virt.ErrInvalid, d.Target, uuid)
		}
	}
	return nil
}
