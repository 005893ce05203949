package virttest

import (
	"strings"
	"time"

	"compute-agent/internal/cpuset"
	"compute-agent/virt"
)

// contradiction makes a Spec one that can be right on no host.
type contradiction struct {
	name  string
	field string // that the refusal names
	spoil func(*virt.Spec)
}

// contradictions are all that drivers are held to, by what they are about.
var contradictions = [][]contradiction{
	identityContradictions, machineContradictions, placementContradictions, diskContradictions, sourceContradictions, nicContradictions,
	consoleContradictions, deviceContradictions,
}

var identityContradictions = []contradiction{
	{"an ID that is no UUID", "ID", func(s *virt.Spec) { s.ID = "instance-1" }},
	{"an ID in upper case", "ID", func(s *virt.Spec) { s.ID = strings.ToUpper("a" + s.ID[1:]) }},
	{"no ID", "ID", func(s *virt.Spec) { s.ID = "" }},
	{"no name", "name", func(s *virt.Spec) { s.Name = "" }},
	{"a name with a slash", "name", func(s *virt.Spec) { s.Name = "../" + s.Name }},
	{"a name with markup", "name", func(s *virt.Spec) { s.Name = "<b>" }},
	{"a name with a line end", "name", func(s *virt.Spec) { s.Name += "\n" }},
	{"a name of 65", "name", func(s *virt.Spec) { s.Name = strings.Repeat("n", 65) }},
	{"an unknown virt type", "virt type", func(s *virt.Spec) { s.VirtType = "xen" }},
	{"no machine type", "machine", func(s *virt.Spec) { s.Machine = "" }},
	{"a machine type with markup", "machine", func(s *virt.Spec) { s.Machine = "pc'/>" }},
	{"a relative emulator", "emulator", func(s *virt.Spec) { s.Emulator = "qemu" }},
	{"an unknown root type", "root type", func(s *virt.Spec) { s.Metadata.RootType = "tape" }},
}

var machineContradictions = []contradiction{
	{"no vCPUs", "vCPUs", func(s *virt.Spec) { s.VCPUs = 0 }},
	{"vCPUs below zero", "vCPUs", func(s *virt.Spec) { s.VCPUs, s.CPU.Sockets = -1, -1 }},
	{"no memory", "memory", func(s *virt.Spec) { s.MemoryMiB = 0 }},
	{"memory that cannot be counted", "memory", func(s *virt.Spec) { s.MemoryMiB = 1 << 54 }},
	{"a topology that is not its CPUs", "topology", func(s *virt.Spec) { s.CPU.Cores *= 3 }},
	{"a topology with a zero", "topology", func(s *virt.Spec) { s.CPU.Threads = 0 }},
	{"an unknown CPU mode", "CPU mode", func(s *virt.Spec) { s.CPU.Mode = "best" }},
	{"CPU mode custom without model", "CPU mode", func(s *virt.Spec) { s.CPU.Mode, s.CPU.Model = "custom", "" }},
	{"a CPU model in another mode", "CPU model", func(s *virt.Spec) { s.CPU.Mode, s.CPU.Model = "maximum", "qemu64" }},
	{"a CPU feature with markup", "CPU feature", func(s *virt.Spec) {
		s.CPU.Mode, s.CPU.Features = "maximum", []virt.CPUFeature{{Name: "<vmx"}}
	}},
	{"a CPU feature twice", "CPU feature vmx", func(s *virt.Spec) {
		s.CPU.Mode, s.CPU.Features = "maximum", []virt.CPUFeature{{Name: "vmx"}, {Name: "vmx", Policy: "disable"}}
	}},
	{"an unknown policy of a CPU feature", "policy", func(s *virt.Spec) {
		s.CPU.Mode, s.CPU.Features = "maximum", []virt.CPUFeature{{Name: "vmx", Policy: "maybe"}}
	}},
	{"a CPU feature of no CPU", "CPU feature", func(s *virt.Spec) { s.CPU.Mode, s.CPU.Features = "none", []virt.CPUFeature{{Name: "vmx"}} }},
	{"address bits without their number", "address bits", func(s *virt.Spec) { s.CPU.PhysAddr = &virt.PhysAddr{Mode: "emulate"} }},
	{"too many address bits", "address bits", func(s *virt.Spec) { s.CPU.PhysAddr = &virt.PhysAddr{Mode: "emulate", Bits: 65} }},
	{"one CPU share", "shares", func(s *virt.Spec) { s.CPUTime.Shares = 1 }},
	{"a CPU period of a minute", "period", func(s *virt.Spec) { s.CPUTime.Period = 60000000 }},
	{"a CPU quota of a microsecond", "quota", func(s *virt.Spec) { s.CPUTime.Quota = 1 }},
	{"I/O threads below zero", "I/O threads", func(s *virt.Spec) { s.IOThreads = -1 }},
	{"memory in files and in none", "memory", func(s *virt.Spec) { s.Memory = virt.Memory{FileBacked: true, Memfd: true} }},
	{"secure boot without UEFI", "secure boot", func(s *virt.Spec) { s.Firmware.SecureBoot = true }},
	{"secure boot without SMM", "secure boot", func(s *virt.Spec) { s.Machine, s.Firmware = "pc", virt.Firmware{UEFI: true, SecureBoot: true} }},
	{"a BIOS without state", "stateless", func(s *virt.Spec) { s.Firmware.Stateless = true }},
	{"an unknown boot device", "boot device", func(s *virt.Spec) { s.Disks[0].Boot, s.Boot.Devices = 0, []string{"tape"} }},
	{"a boot device twice", "boot device", func(s *virt.Spec) { s.Disks[0].Boot, s.Boot.Devices = 0, []string{"hd", "hd"} }},
	{"two boot orders", "boot position", func(s *virt.Spec) { s.Disks[0].Boot, s.Boot.Devices = 1, []string{"hd"} }},
	{"an initrd without a kernel", "initrd", func(s *virt.Spec) { s.Boot.Initrd = "/initrd" }},
	{"a command line without a kernel", "command line", func(s *virt.Spec) { s.Boot.CommandLine = "quiet" }},
	{"a command line that no kernel takes", "command line", func(s *virt.Spec) {
		s.Boot = virt.Boot{Kernel: "/kernel", CommandLine: strings.Repeat("quiet ", 1000)}
	}},
	{"a relative kernel", "kernel", func(s *virt.Spec) { s.Boot.Kernel = "vmlinuz" }},
	{"Hyper-V's vendor without Hyper-V", "Hyper-V", func(s *virt.Spec) { s.Features.HyperVVendor = "KVM" }},
	{"a vendor that is too long", "vendor", func(s *virt.Spec) { s.Features.HyperV, s.Features.HyperVVendor = true, "1234567890abc" }},
	{"a translation cache where nothing is translated", "translation cache", func(s *virt.Spec) { s.VirtType, s.Features.TCGCacheMiB = "kvm", 32 }},
	{"an unknown IOAPIC", "IOAPIC", func(s *virt.Spec) { s.Features.IOAPIC = "split" }},
	{"an SMBIOS serial with a line end", "SMBIOS", func(s *virt.Spec) { s.SMBIOS.Serial = "1\n2" }},
	{"encrypted memory under a BIOS", "memory encryption", func(s *virt.Spec) { s.Encryption = &virt.MemoryEncryption{Model: "amd-sev"} }},
	{"unknown memory encryption", "memory encryption", func(s *virt.Spec) {
		s.Machine, s.Firmware.UEFI, s.Encryption = "q35", true, &virt.MemoryEncryption{Model: "rot13"}
	}},
}

// oneCell is a place with one guest cell for all of the guest.
func oneCell(s *virt.Spec) virt.GuestCell {
	return virt.GuestCell{VCPUs: cpuset.Range(0, s.VCPUs-1), MemoryMiB: s.MemoryMiB}
}

var placementContradictions = []contradiction{
	{"a place for more vCPUs than there are", "placement", func(s *virt.Spec) {
		s.Placement = &virt.Placement{VCPUs: make([]cpuset.Set, s.VCPUs+1)}
	}},
	{"a real-time vCPU that is not there", "real-time", func(s *virt.Spec) { s.Placement = &virt.Placement{Realtime: cpuset.Of(s.VCPUs)} }},
	{"a real-time priority of 100", "real-time priority", func(s *virt.Spec) {
		s.Placement = &virt.Placement{Realtime: cpuset.Of(0), RealtimePriority: 100}
	}},
	{"cells with too little memory", "cells", func(s *virt.Spec) {
		c := oneCell(s)
		c.MemoryMiB--
		s.Placement = &virt.Placement{Cells: []virt.GuestCell{c}}
	}},
	{"memory in files on huge pages", "huge pages", func(s *virt.Spec) {
		c := oneCell(s)
		c.PageKiB = 2048
		s.Memory.FileBacked, s.Placement = true, &virt.Placement{Cells: []virt.GuestCell{c}}
	}},
	{"a distance of none to itself", "distance", func(s *virt.Spec) {
		c := oneCell(s)
		c.Distances = []int{11}
		s.Placement = &virt.Placement{Cells: []virt.GuestCell{c}}
	}},
	{"persistent memory in no cell", "persistent memory", func(s *virt.Spec) { s.NVDIMMs = []virt.NVDIMM{{Path: "/dev/dax0.0", SizeKiB: 1 << 20}} }},
	{"persistent memory for its labels alone", "persistent memory", func(s *virt.Spec) {
		s.Placement = &virt.Placement{Cells: []virt.GuestCell{oneCell(s)}}
		s.NVDIMMs = []virt.NVDIMM{{Path: "/dev/dax0.0", SizeKiB: 2048}}
	}},
	{"a share of memory that is not shared", "share", func(s *virt.Spec) { s.Shares = []virt.Share{{Path: "/srv", Tag: "t"}} }},
	{"a share with a tag of 37", "tag", func(s *virt.Spec) {
		s.Memory.Shared, s.Shares = true, []virt.Share{{Path: "/srv", Tag: strings.Repeat("t", 37)}}
	}},
	{"two shares with one tag", "tag", func(s *virt.Spec) {
		s.Memory.Shared, s.Shares = true, []virt.Share{{Path: "/srv", Tag: "t"}, {Path: "/var", Tag: "t"}}
	}},
}

// next is the target after another: vdb for vda.
func next(target string) string { return target[:len(target)-1] + string(target[len(target)-1]+1) }

// diskOn moves the first disk to a bus.
func diskOn(s *virt.Spec, bus, target string) *virt.Disk {
	s.Disks[0].Bus, s.Disks[0].Target = bus, target
	return &s.Disks[0]
}

var diskContradictions = []contradiction{
	{"an unknown bus", "bus", func(s *virt.Spec) { s.Disks[0].Bus = "isa" }},
	{"no bus", "bus", func(s *virt.Spec) { s.Disks[0].Bus = "" }},
	{"a target of another bus", "targets", func(s *virt.Spec) { diskOn(s, "virtio", "sda") }},
	{"a target with markup", "target", func(s *virt.Spec) { s.Disks[0].Target = "vd<a" }},
	{"a CD-ROM on virtio", "CD-ROM", func(s *virt.Spec) { diskOn(s, "virtio", "vda").Kind = "cdrom" }},
	{"a floppy on virtio", "floppies", func(s *virt.Spec) { diskOn(s, "virtio", "vda").Kind = "floppy" }},
	{"a disk on the bus of floppies", "floppies", func(s *virt.Spec) { diskOn(s, "fdc", "fda") }},
	{"a disk on USB without USB", "USB", func(s *virt.Spec) { diskOn(s, "usb", "sda"); s.USB.Controller = "none" }},
	{"an unknown kind of disk", "kind", func(s *virt.Spec) { s.Disks[0].Kind = "tape" }},
	{"a LUN that is a file", "LUN", func(s *virt.Spec) { d := diskOn(s, "scsi", "sda"); d.Kind, d.Format = "lun", "raw" }},
	{"two disks with one target", "target", func(s *virt.Spec) { s.Disks = append(s.Disks, s.Disks[0]); s.Disks[1].Source.File += "2" }},
	{"two disks with one file", "file", func(s *virt.Spec) { s.Disks = append(s.Disks, s.Disks[0]); s.Disks[1].Target = next(s.Disks[0].Target) }},
	{"a unit on a bus without", "unit", func(s *virt.Spec) { diskOn(s, "virtio", "vda").Unit = new(1) }},
	{"a unit below zero", "unit", func(s *virt.Spec) { diskOn(s, "scsi", "sda").Unit = new(-1) }},
	{"an unknown cache mode", "cache mode", func(s *virt.Spec) { s.Disks[0].Cache = "yes" }},
	{"an unknown I/O mode", "I/O mode", func(s *virt.Spec) { s.Disks[0].IO = "fast" }},
	{"native I/O with a cache", "I/O mode", func(s *virt.Spec) { s.Disks[0].IO, s.Disks[0].Cache = "native", "writeback" }},
	{"an unknown way to discard", "discard", func(s *virt.Spec) { s.Disks[0].Discard = "yes" }},
	{"an unknown way to detect zeroes", "zeroes", func(s *virt.Spec) { s.Disks[0].DetectZeroes = "maybe" }},
	{"a packed ring without a ring", "packed", func(s *virt.Spec) { diskOn(s, "scsi", "sda").Packed = true }},
	{"a shared qcow2", "shared", func(s *virt.Spec) { s.Disks[0].Format, s.Disks[0].Shared = "qcow2", true }},
	{"a boot position below zero", "boot position", func(s *virt.Spec) { s.Disks[0].Boot = -1 }},
	{"a serial with markup", "serial", func(s *virt.Spec) { s.Disks[0].Serial = "'\"><" }},
	{"a WWN with a prefix", "WWN", func(s *virt.Spec) { diskOn(s, "scsi", "sda").WWN = "0x5000c50015ea71" }},
	{"a WWN on virtio", "WWN", func(s *virt.Spec) { diskOn(s, "virtio", "vda").WWN = "5000c50015ea71ad" }},
	{"limits of all bytes and of those read", "limit", func(s *virt.Spec) { s.Disks[0].Tune = virt.DiskTune{TotalBytes: 1, ReadBytes: 1} }},
	{"limits of all I/Os and of writes", "limit", func(s *virt.Spec) { s.Disks[0].Tune = virt.DiskTune{TotalIOPS: 1, WriteIOPS: 1} }},
	{"a limit of bursts alone", "bursts", func(s *virt.Spec) { s.Disks[0].Tune = virt.DiskTune{ReadIOPSMax: 1} }},
	{"a limit of bursts below the rate", "bursts", func(s *virt.Spec) { s.Disks[0].Tune = virt.DiskTune{ReadIOPS: 2, ReadIOPSMax: 1} }},
	{"a limit that cannot be counted", "limit", func(s *virt.Spec) { s.Disks[0].Tune = virt.DiskTune{WriteBytes: 1 << 60} }},
	{"a block size of 1000", "block size", func(s *virt.Spec) { s.Disks[0].BlockIO.Physical = 1000 }},
	{"an unknown SCSI controller", "SCSI controller", func(s *virt.Spec) { s.SCSI = "fast" }},
	{"an alias that is not the user's", "alias", func(s *virt.Spec) { s.Disks[0].Alias = "virtio-disk0" }},
	{"an alias with markup", "alias", func(s *virt.Spec) { s.Disks[0].Alias = "ua-'/>" }},
}

// fromNetwork makes the first disk one that the hypervisor reaches over the network.
func fromNetwork(s *virt.Spec, change func(*virt.NetworkSource)) {
	n := &virt.NetworkSource{Protocol: "rbd", Name: "pool/image", Hosts: []virt.HostPort{{Host: "192.0.2.1"}}}
	change(n)
	s.Disks[0].Source, s.Disks[0].Format, s.Disks[0].Backing = virt.Source{Network: n}, "raw", nil
}

var sourceContradictions = []contradiction{
	{"no disk path", "source", func(s *virt.Spec) { s.Disks[0].Source.File = "" }},
	{"a relative disk path", "path", func(s *virt.Spec) { s.Disks[0].Source.File = "disk" }},
	{"a disk path with a zero byte", "path", func(s *virt.Spec) { s.Disks[0].Source.File += "\x00" }},
	{"a disk path that is too long", "path", func(s *virt.Spec) { s.Disks[0].Source.File += strings.Repeat("/d", 3000) }},
	{"a file and a device", "source", func(s *virt.Spec) { s.Disks[0].Source.Device = "/dev/null" }},
	{"an unknown disk format", "format", func(s *virt.Spec) { s.Disks[0].Format = "vmdk" }},
	{"no disk format", "format", func(s *virt.Spec) { s.Disks[0].Format = "" }},
	{"an empty drive of a format", "empty drive", func(s *virt.Spec) {
		d := diskOn(s, "sata", "sda")
		d.Kind, d.Source.File, d.Format, d.Backing = "cdrom", "", "raw", nil
	}},
	{"a raw disk on a backing file", "backing file", func(s *virt.Spec) {
		d := &s.Disks[0]
		d.Format, d.Backing = "raw", []virt.Backing{{Path: d.Source.File, Format: "raw"}}
	}},
	{"a backing file without format", "backing file", func(s *virt.Spec) {
		d := &s.Disks[0]
		d.Format, d.Backing = "qcow2", []virt.Backing{{Path: d.Source.File}}
	}},
	{"a chain that is not stated", "chain", func(s *virt.Spec) { s.Disks[0].Unstated, s.Disks[0].Backing = true, nil }},
	{"an unknown protocol", "protocol", func(s *virt.Spec) { fromNetwork(s, func(n *virt.NetworkSource) { n.Protocol = "ftp" }) }},
	{"an image without a name", "name", func(s *virt.Spec) { fromNetwork(s, func(n *virt.NetworkSource) { n.Name = "" }) }},
	{"a storage server with markup", "host", func(s *virt.Spec) { fromNetwork(s, func(n *virt.NetworkSource) { n.Hosts[0].Host = "<a" }) }},
	{"a storage server's port of 65536", "port", func(s *virt.Spec) { fromNetwork(s, func(n *virt.NetworkSource) { n.Hosts[0].Port = 65536 }) }},
	{"iSCSI of no host", "hosts", func(s *virt.Spec) { fromNetwork(s, func(n *virt.NetworkSource) { n.Protocol, n.Hosts = "iscsi", nil }) }},
	{"an initiator without iSCSI", "initiator", func(s *virt.Spec) { fromNetwork(s, func(n *virt.NetworkSource) { n.Initiator = "iqn.2000-01.a:b" }) }},
	{"a secret of another protocol", "secret", func(s *virt.Spec) {
		fromNetwork(s, func(n *virt.NetworkSource) { n.Auth = &virt.SecretRef{User: "u", Type: "iscsi", UUID: s.ID} })
	}},
	{"a secret without UUID", "secret", func(s *virt.Spec) {
		fromNetwork(s, func(n *virt.NetworkSource) { n.Auth = &virt.SecretRef{User: "u", Type: "ceph"} })
	}},
	{"an unknown encryption of a disk", "encryption", func(s *virt.Spec) { s.Disks[0].Key = &virt.DiskKey{Format: "rot13", Secret: s.ID} }},
	{"an encrypted disk without secret", "secret", func(s *virt.Spec) { s.Disks[0].Key = &virt.DiskKey{Format: "luks"} }},
}

// withNIC gives the guest an interface on a bridge, changed.
func withNIC(s *virt.Spec, change func(*virt.NIC)) {
	n := virt.NIC{MAC: "fa:16:3e:00:00:01", Model: "virtio", Attach: virt.Attachment{Type: "bridge", Bridge: "br0"}}
	change(&n)
	s.NICs = append(s.NICs, n)
}

// attached gives the guest an interface with another attachment.
func attached(s *virt.Spec, a virt.Attachment) { withNIC(s, func(n *virt.NIC) { n.Attach = a }) }

var nicContradictions = []contradiction{
	{"a MAC of five", "MAC", func(s *virt.Spec) { withNIC(s, func(n *virt.NIC) { n.MAC = "fa:16:3e:00:00" }) }},
	{"a MAC of a group", "MAC", func(s *virt.Spec) { withNIC(s, func(n *virt.NIC) { n.MAC = "01:00:5e:00:00:01" }) }},
	{"a model with markup", "model", func(s *virt.Spec) { withNIC(s, func(n *virt.NIC) { n.Model = "<virtio>" }) }},
	{"an attachment to nothing", "attachment", func(s *virt.Spec) { attached(s, virt.Attachment{}) }},
	{"no bridge", "bridge", func(s *virt.Spec) { attached(s, virt.Attachment{Type: "bridge"}) }},
	{"a bridge with a slash", "bridge", func(s *virt.Spec) { attached(s, virt.Attachment{Type: "bridge", Bridge: "../br0"}) }},
	{"a bridge of 16", "bridge", func(s *virt.Spec) { attached(s, virt.Attachment{Type: "bridge", Bridge: strings.Repeat("b", 16)}) }},
	{"a port that is no UUID", "port", func(s *virt.Spec) { attached(s, virt.Attachment{Type: "bridge", Bridge: "br0", Port: "1"}) }},
	{"a bridge for a tap", "bridge", func(s *virt.Spec) { attached(s, virt.Attachment{Type: "ethernet", Bridge: "br0"}) }},
	{"a tap that is there without a name", "tap", func(s *virt.Spec) { attached(s, virt.Attachment{Type: "ethernet", Existing: true}) }},
	{"macvtap of no mode", "mode", func(s *virt.Spec) { attached(s, virt.Attachment{Type: "direct", Device: "eth0"}) }},
	{"macvtap of an unknown mode", "mode", func(s *virt.Spec) { attached(s, virt.Attachment{Type: "direct", Device: "eth0", Mode: "fast"}) }},
	{"a function that is no address", "PCI address", func(s *virt.Spec) { attached(s, virt.Attachment{Type: "hostdev", Address: "81:10.1"}) }},
	{"a VLAN of 4095", "VLAN", func(s *virt.Spec) { attached(s, virt.Attachment{Type: "hostdev", Address: "0000:81:10.1", VLAN: 4095}) }},
	{"a relative vhost-user socket", "socket", func(s *virt.Spec) { attached(s, virt.Attachment{Type: "vhostuser", Mode: "client", Socket: "vhu"}) }},
	{"a relative vDPA device", "path", func(s *virt.Spec) { attached(s, virt.Attachment{Type: "vdpa", Device: "vhost-vdpa-0"}) }},
	{"a tap's name of 16", "target", func(s *virt.Spec) { withNIC(s, func(n *virt.NIC) { n.Target = strings.Repeat("t", 16) }) }},
	{"two taps of one name", "target", func(s *virt.Spec) {
		for range 2 {
			withNIC(s, func(n *virt.NIC) { n.Target = "tap0" })
		}
	}},
	{"an MTU of 67", "MTU", func(s *virt.Spec) { withNIC(s, func(n *virt.NIC) { n.MTU = 67 }) }},
	{"an MTU of a function", "MTU", func(s *virt.Spec) {
		withNIC(s, func(n *virt.NIC) { n.Attach, n.MTU = virt.Attachment{Type: "hostdev", Address: "0000:81:10.1"}, 1500 })
	}},
	{"an unknown driver", "driver", func(s *virt.Spec) { withNIC(s, func(n *virt.NIC) { n.Driver = "fast" }) }},
	{"a driver of an e1000", "driver", func(s *virt.Spec) { withNIC(s, func(n *virt.NIC) { n.Model, n.Driver = "e1000", "vhost" }) }},
	{"queues of an e1000", "queues", func(s *virt.Spec) { withNIC(s, func(n *virt.NIC) { n.Model, n.Queues = "e1000", 2 }) }},
	{"257 queues", "queues", func(s *virt.Spec) { withNIC(s, func(n *virt.NIC) { n.Queues = 257 }) }},
	{"a ring of 300", "ring", func(s *virt.Spec) { withNIC(s, func(n *virt.NIC) { n.RxRing = 300 }) }},
	{"a ring of 2048", "ring", func(s *virt.Spec) { withNIC(s, func(n *virt.NIC) { n.TxRing = 2048 }) }},
	{"a burst without an average", "bandwidth", func(s *virt.Spec) {
		withNIC(s, func(n *virt.NIC) { n.Bandwidth = &virt.Bandwidth{Inbound: virt.Rate{Burst: 1}} })
	}},
	{"bandwidth below zero", "bandwidth", func(s *virt.Spec) {
		withNIC(s, func(n *virt.NIC) { n.Bandwidth = &virt.Bandwidth{Outbound: virt.Rate{Average: -1}} })
	}},
	{"an alias that is a disk's too", "alias", func(s *virt.Spec) {
		s.Disks[0].Alias = "ua-1"
		withNIC(s, func(n *virt.NIC) { n.Alias = "ua-1" })
	}},
	{"a boot position that is a disk's too", "boot position", func(s *virt.Spec) {
		s.Disks[0].Boot = 1
		withNIC(s, func(n *virt.NIC) { n.Boot = 1 })
	}},
}

// onScreen gives the guest a screen, and no other.
func onScreen(s *virt.Spec, kind string) {
	s.Graphics = []virt.Graphics{{Type: kind, Listen: "127.0.0.1"}}
}

var consoleContradictions = []contradiction{
	{"a relative console log", "console log", func(s *virt.Spec) { s.Serial[0].Log = "console.log" }},
	{"five serial ports", "serial ports", func(s *virt.Spec) { s.Serial = append(s.Serial, make([]virt.SerialPort, 4)...) }},
	{"two serial ports with one log", "console log", func(s *virt.Spec) { s.Serial = append(s.Serial, s.Serial[0]) }},
	{"an unknown serial port", "serial port", func(s *virt.Spec) { s.Serial[0].Type = "pipe" }},
	{"a serial port on no TCP port", "TCP port", func(s *virt.Spec) { s.Serial = []virt.SerialPort{{Type: "tcp", Host: "127.0.0.1"}} }},
	{"a serial port on no host", "host", func(s *virt.Spec) { s.Serial = []virt.SerialPort{{Type: "tcp", Host: "a b", Port: 1}} }},
	{"a serial port on a relative socket", "socket", func(s *virt.Spec) { s.Serial = []virt.SerialPort{{Type: "unix", Path: "s"}} }},
	{"a serial port of two types", "serial port", func(s *virt.Spec) { s.Serial[0].Port = 1 }},
	{"a VNC address that is none", "vnc listen address", func(s *virt.Spec) { s.Graphics = []virt.Graphics{{Type: "vnc", Listen: "localhost; reboot"}} }},
	{"unknown graphics", "graphics", func(s *virt.Spec) { onScreen(s, "rdp") }},
	{"SPICE's settings of VNC", "graphics", func(s *virt.Spec) { onScreen(s, "vnc"); s.Graphics[0].SPICE.Secure = true }},
	{"an unknown image compression", "image compression", func(s *virt.Spec) { onScreen(s, "spice"); s.Graphics[0].SPICE.ImageCompression = "zip" }},
	{"an unknown JPEG compression", "JPEG compression", func(s *virt.Spec) { onScreen(s, "spice"); s.Graphics[0].SPICE.JPEGCompression = "on" }},
	{"an unknown streaming mode", "streaming mode", func(s *virt.Spec) { onScreen(s, "spice"); s.Graphics[0].SPICE.StreamingMode = "on" }},
	{"two VNC servers", "two graphics", func(s *virt.Spec) { onScreen(s, "vnc"); s.Graphics = append(s.Graphics, s.Graphics[0]) }},
	{"a keymap with markup", "keymap", func(s *virt.Spec) { onScreen(s, "vnc"); s.Graphics[0].Keymap = "<de>" }},
	{"an unknown video model", "video", func(s *virt.Spec) { s.Video = &virt.Video{Model: "cga"} }},
	{"video RAM below zero", "video", func(s *virt.Spec) { s.Video = &virt.Video{Model: "vga", RAMMiB: -1} }},
	{"an unknown input", "input", func(s *virt.Spec) { s.Inputs = []virt.Input{{Type: "voice", Bus: "usb"}} }},
	{"an input on no bus", "bus", func(s *virt.Spec) { s.Inputs = []virt.Input{{Type: "mouse"}} }},
	{"a tablet on PS/2", "tablet", func(s *virt.Spec) { s.Inputs = []virt.Input{{Type: "tablet", Bus: "ps2"}} }},
	{"a tablet on USB without USB", "USB", func(s *virt.Spec) { s.USB.Controller, s.Inputs = "none", []virt.Input{{Type: "tablet", Bus: "usb"}} }},
	{"an unknown sound device", "sound", func(s *virt.Spec) { s.Sound = "adlib" }},
	{"an unknown USB controller", "USB controller", func(s *virt.Spec) { s.USB.Controller = "usb9" }},
	{"redirected ports without SPICE", "SPICE", func(s *virt.Spec) { onScreen(s, "vnc"); s.USB.RedirectedPorts = 1 }},
	{"redirected ports without USB", "USB", func(s *virt.Spec) { onScreen(s, "spice"); s.USB = virt.USB{Controller: "none", RedirectedPorts: 1} }},
	{"16 redirected ports", "redirected", func(s *virt.Spec) { onScreen(s, "spice"); s.USB.RedirectedPorts = 16 }},
	{"SPICE's agent without SPICE", "SPICE", func(s *virt.Spec) { s.Graphics, s.Channels.SPICE = nil, true }},
	{"a socket of no guest agent", "guest agent", func(s *virt.Spec) { s.Channels = virt.Channels{GuestAgentSocket: "/run/agent"} }},
	{"a relative socket of the guest agent", "guest agent", func(s *virt.Spec) { s.Channels = virt.Channels{GuestAgent: true, GuestAgentSocket: "agent"} }},
}

var deviceContradictions = []contradiction{
	{"a relative randomness source", "random number", func(s *virt.Spec) { s.RNG = &virt.RNG{Source: "urandom"} }},
	{"randomness in no bytes", "random number", func(s *virt.Spec) { s.RNG = &virt.RNG{Source: "/dev/urandom", Period: 1000} }},
	{"a balloon period below zero", "balloon", func(s *virt.Spec) { s.Balloon.Period = -time.Second }},
	{"settings of no balloon", "balloon", func(s *virt.Spec) { s.Balloon = virt.Balloon{None: true, AutoDeflate: true} }},
	{"an unknown watchdog action", "watchdog", func(s *virt.Spec) { s.Watchdog = "bark" }},
	{"TPM 1.2 on CRB", "TPM", func(s *virt.Spec) { s.TPM = &virt.TPM{Version: "1.2", Model: "tpm-crb"} }},
	{"TPM 3.0", "TPM version", func(s *virt.Spec) { s.TPM = &virt.TPM{Version: "3.0", Model: "tpm-tis"} }},
	{"an unknown TPM model", "TPM model", func(s *virt.Spec) { s.TPM = &virt.TPM{Version: "2.0", Model: "tpm"} }},
	{"a TPM's secret that is no UUID", "TPM secret", func(s *virt.Spec) { s.TPM = &virt.TPM{Version: "2.0", Model: "tpm-tis", Secret: "s3cret"} }},
	{"a PCI device that is no address", "PCI device", func(s *virt.Spec) { s.PCI = []virt.PCIDevice{{Address: "81:00.0"}} }},
	{"a PCI device twice", "PCI device", func(s *virt.Spec) { s.PCI = []virt.PCIDevice{{Address: "0000:81:00.0"}, {Address: "0000:81:00.0"}} }},
	{"a mediated device without UUID", "mediated device", func(s *virt.Spec) { s.Mediated = make([]virt.MediatedDevice, 1) }},
	{"an IOMMU on the wrong board", "IOMMU", func(s *virt.Spec) { s.Machine, s.IOMMU = "pc", &virt.IOMMU{Model: "intel"} }},
	{"an unknown IOMMU", "IOMMU", func(s *virt.Spec) { s.Machine, s.IOMMU = "q35", &virt.IOMMU{Model: "amd"} }},
	{"Intel's settings of another IOMMU", "IOMMU", func(s *virt.Spec) { s.Machine, s.IOMMU = "q35", &virt.IOMMU{Model: "virtio", EIM: true} }},
	{"remapping without the right IOAPIC", "IOAPIC", func(s *virt.Spec) { s.Machine, s.IOMMU = "q35", &virt.IOMMU{Model: "intel", InterruptRemapping: true} }},
	{"EIM without remapping", "EIM", func(s *virt.Spec) { s.Machine, s.IOMMU = "q35", &virt.IOMMU{Model: "intel", EIM: true} }},
	{"an IOMMU of 40 bits", "address bits", func(s *virt.Spec) { s.Machine, s.IOMMU = "q35", &virt.IOMMU{Model: "intel", AddressBits: 40} }},
	{"root ports without PCI Express", "root ports", func(s *virt.Spec) { s.Machine, s.RootPorts = "pc", 4 }},
	{"an unknown perf event", "perf event", func(s *virt.Spec) { s.PerfEvents = []string{"cmt"} }},
	{"a perf event twice", "perf event", func(s *virt.Spec) { s.PerfEvents = []string{"cpu_clock", "cpu_clock"} }},
	{"29 root ports", "root ports", func(s *virt.Spec) { s.Machine, s.RootPorts = "q35", 29 }},
}
