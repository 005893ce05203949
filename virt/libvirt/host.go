package libvirt

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"compute-agent/internal/cpuset"
	"compute-agent/virt"
)

// kvmDevice is what QEMU opens to use the processor's virtualisation.
const kvmDevice = "/dev/kvm"

// Host implements virt.Driver.
func (d *Driver) Host(ctx context.Context) (virt.Host, error) {
	result := make(chan virt.Host, 1)
	err := d.run(ctx, "describe host", "", d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		return c.rpc(ctx, func(conn *lv.Connect) error {
			h, err := describe(conn)
			if err != nil {
				return err
			}
			h.VirtType, h.Emulator = d.virtType, d.emulator
			h.Capabilities, err = c.in.guests.read(&h, time.Now(), func() ([]virt.Capabilities, error) {
				return askGuestCapabilities(conn, &h)
			})
			if err == nil {
				result <- h
			}
			return err
		})
	})
	if err != nil {
		return virt.Host{}, err
	}
	return <-result, nil
}

func describe(conn *lv.Connect) (virt.Host, error) {
	h := virt.Host{}
	for _, read := range []func(*lv.Connect, *virt.Host) error{readVersions, readNode, readMemory, readCapabilities} {
		if err := read(conn, &h); err != nil {
			return virt.Host{}, err
		}
	}
	return h, nil
}

func readVersions(conn *lv.Connect, h *virt.Host) (err error) {
	if h.Hostname, err = conn.GetHostname(); err != nil {
		return err
	}
	if h.Hypervisor, err = conn.GetType(); err != nil {
		return err
	}
	version, err := conn.GetVersion()
	if err != nil {
		return err
	}
	library, err := conn.GetLibVersion()
	h.HypervisorVersion, h.LibraryVersion = int(version), int(library)
	return err
}

func readNode(conn *lv.Connect, h *virt.Host) error {
	node, err := conn.GetNodeInfo()
	if err != nil {
		return err
	}
	h.Arch = node.Model
	h.CPUs = int(node.Cpus)
	h.CPU.Sockets = int(node.Sockets * node.Nodes)
	h.CPU.Cores, h.CPU.Threads = int(node.Cores), int(node.Threads)
	return nil
}

// readMemory counts as free what the kernel gives back when it is asked: buffers and caches. The total is
// the kernel's too; NodeInfo leaves out memory that is not initialised yet.
func readMemory(conn *lv.Connect, h *virt.Host) error {
	stats, err := conn.GetMemoryStats(lv.NODE_MEMORY_STATS_ALL_CELLS, 0)
	if err != nil {
		return err
	}
	h.MemoryMiB = stats.Total / 1024
	h.FreeMemoryMiB = (stats.Free + stats.Buffers + stats.Cached) / 1024
	return nil
}

func readCapabilities(conn *lv.Connect, h *virt.Host) error {
	text, err := conn.GetCapabilities()
	if err != nil {
		return err
	}
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(text); err != nil {
		return fmt.Errorf("parse capabilities: %w", err)
	}
	h.Arch = caps.Host.CPU.Arch
	h.CPU.Model, h.CPU.Vendor = caps.Host.CPU.Model, caps.Host.CPU.Vendor
	if h.CPU.Features, err = readFeatures(conn, caps.Host.CPU); err != nil {
		return err
	}
	h.Supported, h.Machines = GuestKinds(&caps), Machines(&caps)
	cpus, _, err := conn.GetCPUMap(0)
	if err != nil {
		return err
	}
	var online cpuset.Set
	for id, isOnline := range cpus {
		if isOnline {
			online.Add(id)
		}
	}
	h.Cells, err = Cells(&caps, &online)
	return err
}

// readFeatures lists the processor's features. The capabilities name those that its model lacks; libvirt adds the
// model's own where it knows the processor.
func readFeatures(conn *lv.Connect, cpu *libvirtxml.CapsHostCPU) ([]string, error) {
	var names []string
	for _, f := range cpu.FeatureFlags {
		names = append(names, f.Name)
	}
	if cpu.Model == "" {
		return names, nil
	}
	text, err := cpu.Marshal()
	if err != nil {
		return nil, err
	}
	whole, err := conn.BaselineCPU([]string{text}, lv.CONNECT_BASELINE_CPU_EXPAND_FEATURES)
	switch {
	case isCode(err, lv.ERR_NO_SUPPORT), isCode(err, lv.ERR_CONFIG_UNSUPPORTED): // not for this architecture
	case err != nil:
		return nil, err
	default:
		var expanded libvirtxml.DomainCPU
		if err := expanded.Unmarshal(whole); err != nil {
			return nil, fmt.Errorf("parse the processor's features: %w", err)
		}
		for _, f := range expanded.Features {
			if f.Policy == "require" {
				names = append(names, f.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// GuestKinds lists the kinds of guests, each once, in libvirt's order.
func GuestKinds(caps *libvirtxml.Caps) (kinds []virt.GuestKind) {
	for _, g := range caps.Guests {
		for _, d := range g.Arch.Domains {
			kind := virt.GuestKind{Arch: g.Arch.Name, VirtType: d.Type, OSType: g.OSType}
			if !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
	}
	return kinds
}

// chooseVirtType decides, once, which domain type new guests get on this host.
func (d *Driver) chooseVirtType(ctx context.Context) error {
	return d.run(ctx, "choose the virtualization type on", d.opt.URI, d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		return c.rpc(ctx, func(conn *lv.Connect) (err error) {
			d.virtType, d.emulator, err = virtType(conn, d.opt.VirtType, kvmDevice)
			return err
		})
	})
}

// virtType returns the domain type and its emulator: what was asked for, or, for "auto", kvm when this
// process may open the device and libvirt offers it.
func virtType(conn *lv.Connect, asked, device string) (virtType, emulator string, err error) {
	if asked != "auto" {
		emulator, err = emulatorFor(conn, asked)
		return asked, emulator, err
	}
	if opens(device) {
		if emulator, err = emulatorFor(conn, "kvm"); err == nil {
			return "kvm", emulator, nil
		}
	}
	emulator, err = emulatorFor(conn, "qemu")
	return "qemu", emulator, err
}

func opens(device string) bool {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	_ = f.Close() // nothing was written
	return true
}

// emulatorFor returns the emulator that libvirt would run guests of the type with; ErrUnsupported when it
// has none.
func emulatorFor(conn *lv.Connect, virtType string) (string, error) {
	text, err := conn.GetDomainCapabilities("", "", "", virtType, 0)
	if isCode(err, lv.ERR_INVALID_ARG) {
		return "", fmt.Errorf("%w: libvirt offers no guests of type %q here", virt.ErrUnsupported, virtType)
	}
	if err != nil {
		return "", err
	}
	c, err := GuestCapabilities(text)
	return c.Emulator, err
}
