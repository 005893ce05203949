package libvirt

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"compute-agent/internal/cpuset"
	"compute-agent/virt"
)

// goldenSpec is a Spec with a golden file.
type goldenSpec struct {
	virt.Spec
	// lack is what libvirt 9.0 with QEMU 7.2 on the machine of the tests says when it refuses the domain; empty when it takes it.
	// A test asserts that it says so, so that what is written here cannot go stale.
	lack string
}

const (
	hostileText = "</nova:name></title> & <b a='\"'>]]> \x00\x01\x1b[31m\r\n\t\u0085\u2028 \xff\xc0\xaf \ufffe \u202e \U0001f600 <!-- -- -->"

	instances = "/var/lib/compute-agent/instances/6f4c2a1e-0d5b-4b8e-9c57-3a2f1e0d9b8c/"
	images    = "/var/lib/compute-agent/images/"
	secret    = "5b2f0f0e-7a52-4f0b-8d52-2d5a5f0c9e11"
)

// typical is a guest as most are; the other Specs differ from it in what they are named after.
func typical() virt.Spec {
	return virt.Spec{
		ID: "6f4c2a1e-0d5b-4b8e-9c57-3a2f1e0d9b8c", Name: "instance-0000002a", Title: "web 1",
		VirtType: "kvm", Arch: "x86_64", Emulator: "/usr/bin/qemu-system-x86_64", Machine: "pc",
		VCPUs: 4, MemoryMiB: 2048, CPU: virt.CPU{Mode: "host-model", Sockets: 4, Cores: 1, Threads: 1},
		Boot: virt.Boot{Devices: []string{"hd"}}, Features: virt.Features{VMCoreInfo: true},
		SMBIOS: virt.SMBIOS{Serial: "6f4c2a1e-0d5b-4b8e-9c57-3a2f1e0d9b8c"},
		Disks: []virt.Disk{
			{Source: virt.Source{File: instances + "disk"}, Format: "qcow2", Backing: []virt.Backing{{Path: images + "ab12", Format: "qcow2"}},
				Target: "vda", Bus: "virtio", Cache: "none", IO: "native", Serial: "6f4c2a1e"},
			{Source: virt.Source{File: instances + "disk.config"}, Format: "raw", Target: "hda", Bus: "ide", Kind: "cdrom"},
		},
		NICs: []virt.NIC{{
			MAC: "fa:16:3e:00:00:01", Model: "virtio", Attach: virt.Attachment{Type: "bridge", Bridge: "br0"}, Target: "tapd3c1d3f0-50", MTU: 1450,
		}},
		Serial:   []virt.SerialPort{{Type: "pty", Log: instances + "console.log"}},
		Graphics: []virt.Graphics{{Type: "vnc", Listen: "127.0.0.1"}}, Video: &virt.Video{Model: "virtio"},
		Inputs: []virt.Input{{Type: "tablet", Bus: "usb"}},
		RNG:    &virt.RNG{Source: "/dev/urandom"}, Channels: virt.Channels{GuestAgent: true},
		Balloon: virt.Balloon{Period: 10 * time.Second, AutoDeflate: true, FreePageReporting: true},
		Metadata: virt.Metadata{
			Package: "0.1.0", Name: "web 1", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			Flavor: virt.FlavorMetadata{ID: "42", Name: "m1.small", MemoryMiB: 2048, DiskGiB: 20, EphemeralGiB: 5, SwapMiB: 512, VCPUs: 4},
			UserID: "u-1", UserName: "admin", ProjectID: "p-1", Project: "demo", RootType: "image", RootID: "i-1",
			Ports: []virt.PortMetadata{{ID: "d3c1d3f0-5a8b-4a53-b54e-4f3b8c6a7e10", IPs: []virt.PortAddress{
				{Address: "192.0.2.10", Version: 4}, {Address: "2001:db8::10", Version: 6},
			}}},
		},
	}
}

// goldenSpecs are the Specs of the golden files, by name.
func goldenSpecs() map[string]goldenSpec {
	all := map[string]goldenSpec{}
	for _, group := range []map[string]change{machineChanges, placementChanges, diskChanges, nicChanges, deviceChanges} {
		for name, c := range group {
			s := typical()
			c.to(&s)
			all[name] = goldenSpec{s, c.lack}
		}
	}
	for name, c := range bootCases {
		s := virt.Spec{
			ID: "6f4c2a1e-0d5b-4b8e-9c57-3a2f1e0d9b8c", Name: "instance-0000002b", VirtType: "qemu", Arch: "x86_64", Machine: "pc",
			VCPUs: 1, MemoryMiB: 192, CPU: virt.CPU{Mode: "custom", Model: "Nehalem", Sockets: 1, Cores: 1, Threads: 1},
			Disks: []virt.Disk{{Source: virt.Source{File: instances + "disk"}, Format: "qcow2", Backing: []virt.Backing{{Path: images + "ab12", Format: "qcow2"}},
				Target: "vda", Bus: "virtio", Cache: "unsafe", Boot: 1}},
			Serial: []virt.SerialPort{{Type: "pty", Log: instances + "console.log", AppendLog: true}},
		}
		c.change(&s)
		all["boot-"+name] = goldenSpec{s, ""}
	}
	return all
}

// change makes another Spec of the typical one.
type change struct {
	to   func(*virt.Spec)
	lack string
}

// board makes a guest with PCI Express, which has no IDE.
func board(s *virt.Spec) {
	s.Machine = "q35"
	s.Disks[1].Bus, s.Disks[1].Target = "sata", "sda"
}

func uefi(s *virt.Spec) {
	board(s)
	s.Firmware.UEFI = true
}

var machineChanges = map[string]change{
	"typical": {to: func(*virt.Spec) {}},
	"minimal": {to: func(s *virt.Spec) {
		*s = virt.Spec{
			ID: "00000000-0000-4000-8000-000000000001", Name: "instance-00000001", VirtType: "qemu", Arch: "x86_64", Machine: "pc",
			VCPUs: 1, MemoryMiB: 64, CPU: virt.CPU{Mode: "none", Sockets: 1, Cores: 1, Threads: 1},
		}
	}},
	"hostile": {to: func(s *virt.Spec) {
		s.Title = hostileText
		s.Metadata = virt.Metadata{
			Package: hostileText, Name: hostileText, UserID: hostileText, UserName: hostileText, ProjectID: hostileText, Project: hostileText,
			RootType: "volume", RootID: hostileText, Flavor: virt.FlavorMetadata{ID: hostileText, Name: hostileText},
			Ports: []virt.PortMetadata{{ID: hostileText, IPs: []virt.PortAddress{{Address: hostileText}}}},
		}
		s.Boot = virt.Boot{Kernel: "/k'<&>\"", Initrd: "/i e", CommandLine: hostileText}
	}},
	"q35":       {to: board},
	"boot-menu": {to: func(s *virt.Spec) { s.Firmware.BootMenu, s.Boot.Devices = true, []string{"network", "cdrom", "hd"} }},
	"boot-order": {to: func(s *virt.Spec) {
		s.Boot.Devices, s.Disks[1].Boot, s.Disks[0].Boot, s.NICs[0].Boot = nil, 1, 2, 3
	}},
	"kernel-boot": {to: func(s *virt.Spec) {
		s.Boot = virt.Boot{Kernel: instances + "kernel", Initrd: instances + "ramdisk", CommandLine: "root=/dev/vda console=ttyS0"}
	}},
	"uefi":        {to: uefi},
	"uefi-pc":     {to: func(s *virt.Spec) { s.Firmware.UEFI = true }},
	"secure-boot": {to: func(s *virt.Spec) { uefi(s); s.Firmware.SecureBoot = true }},
	"stateless":   {to: func(s *virt.Spec) { uefi(s); s.Firmware.Stateless = true }},
	"windows": {to: func(s *virt.Spec) {
		s.Features.HyperV, s.Features.HyperVVendor, s.Features.HideHypervisor = true, "1234567890ab", true
		s.Clock = virt.Clock{LocalTime: true, HyperV: true, HPET: true}
	}},
	"pmu-off": {to: func(s *virt.Spec) { s.Features.PMU = new(false) }},
	"emulated": {to: func(s *virt.Spec) {
		s.VirtType, s.Features.TCGCacheMiB = "qemu", 32
		s.CPU = virt.CPU{Mode: "maximum", Sockets: 1, Cores: 4, Threads: 1}
	}},
	"cpu-features": {to: func(s *virt.Spec) {
		s.CPU = virt.CPU{
			Mode: "custom", Model: "Nehalem", Sockets: 1, Cores: 2, Threads: 2, PhysAddr: &virt.PhysAddr{Mode: "emulate", Bits: 42},
			Features: []virt.CPUFeature{{Name: "pcid"}, {Name: "vmx", Policy: "disable"}},
		}
	}},
	"cpu-passthrough": {to: func(s *virt.Spec) {
		s.CPU.Mode, s.CPU.PhysAddr = "host-passthrough", &virt.PhysAddr{Mode: "passthrough"}
	}},
	"sev": {to: func(s *virt.Spec) {
		uefi(s)
		s.Features.VMCoreInfo, s.Memory.Locked = false, true
		s.Encryption = &virt.MemoryEncryption{Model: "amd-sev", Policy: 0x33, CBitPos: 51, ReducedPhysBits: 1}
	}, lack: "SEV launch security is not supported with this QEMU binary"}, // on a processor without SEV
	"sev-es": {to: func(s *virt.Spec) {
		uefi(s)
		s.Features.VMCoreInfo = false
		s.Encryption = &virt.MemoryEncryption{Model: "amd-sev-es", Policy: 0x37}
	}, lack: "SEV launch security is not supported with this QEMU binary"},
	"sev-snp": {to: func(s *virt.Spec) {
		uefi(s)
		s.Firmware.Stateless, s.Features.VMCoreInfo = true, false
		s.Encryption = &virt.MemoryEncryption{Model: "amd-sev-snp", Policy: 0x30000}
	}, lack: "Extra element launchSecurity in interleave"}, // later than libvirt 9.0
	"aarch64": {to: func(s *virt.Spec) {
		s.Clock.CatchUp = true
		s.VirtType, s.Arch, s.Emulator, s.Machine = "qemu", "aarch64", "", "virt"
		s.CPU = virt.CPU{Mode: "maximum", Sockets: 4, Cores: 1, Threads: 1}
		s.Firmware.UEFI, s.IOMMU = true, &virt.IOMMU{Model: "smmuv3"}
		s.Disks, s.Inputs = s.Disks[:1], []virt.Input{{Type: "keyboard", Bus: "usb"}}
	}, lack: "No emulator found for arch 'aarch64'"},
}

var placementChanges = map[string]change{
	"pinned": {to: func(s *virt.Spec) {
		s.IOThreads = 2
		s.Placement = &virt.Placement{
			VCPUs:    []cpuset.Set{cpuset.Of(2), cpuset.Of(3), cpuset.Of(10), cpuset.Of(11)},
			Emulator: cpuset.Of(0, 1, 8), Realtime: cpuset.Range(1, 3), RealtimePriority: 7,
			Cells: []virt.GuestCell{
				{VCPUs: cpuset.Of(0, 1), MemoryMiB: 1024, HostCell: 0, PageKiB: 2048, Distances: []int{10, 21}},
				{VCPUs: cpuset.Of(2, 3), MemoryMiB: 1024, HostCell: 1, PageKiB: 1048576, Distances: []int{21, 10}},
			},
		}
		s.Memory = virt.Memory{Locked: true, Unshared: true}
	}},
	"floating": {to: func(s *virt.Spec) { s.Placement = &virt.Placement{Floating: cpuset.Of(0, 1, 2, 3, 8)} }},
	"file-backed": {to: func(s *virt.Spec) {
		s.Memory = virt.Memory{FileBacked: true, Shared: true, Discard: true}
	}},
	"nvdimm": {to: func(s *virt.Spec) {
		s.Placement = &virt.Placement{Cells: []virt.GuestCell{{VCPUs: cpuset.Range(0, 3), MemoryMiB: 2048}}}
		s.NVDIMMs = []virt.NVDIMM{
			{Path: "/dev/dax0.0", SizeKiB: 4 << 20, AlignKiB: 2048},
			{Path: "/dev/dax0.1", SizeKiB: 2 << 20, AlignKiB: 2048},
		}
	}},
	"virtiofs": {to: func(s *virt.Spec) {
		s.Memory = virt.Memory{Memfd: true, Shared: true}
		s.Shares = []virt.Share{{Path: "/srv/share", Tag: "share-1"}, {Path: "/srv/a b&c", Tag: "<&>'\""}}
	}},
	"cpu-quota":     {to: func(s *virt.Spec) { s.CPUTime = virt.CPUTime{Shares: 2048, Period: 100000, Quota: 50000} }},
	"cpu-unlimited": {to: func(s *virt.Spec) { s.CPUTime = virt.CPUTime{Quota: -1} }},
}

// volume is a drive with a second one's place.
func volume(source virt.Source) virt.Disk {
	return virt.Disk{
		Source: source, Format: "raw", Target: "vdb", Bus: "virtio", Cache: "none", IO: "native",
		Serial: "44444444-4444-4444-4444-000000000001", Alias: "ua-44444444-4444-4444-4444-000000000001",
	}
}

func addVolume(s *virt.Spec, d virt.Disk) { s.Disks = append(s.Disks, d) }

var diskChanges = map[string]change{
	"chain": {to: func(s *virt.Spec) {
		s.Disks[0].Backing = []virt.Backing{{Path: instances + "disk.mid", Format: "qcow2"}, {Path: images + "cd34", Format: "raw"}}
	}},
	"unstated": {to: func(s *virt.Spec) { s.Disks[0].Backing, s.Disks[0].Unstated = nil, true }},
	"drives": {to: func(s *virt.Spec) {
		s.Disks[0] = virt.Disk{
			Source: virt.Source{File: instances + "disk"}, Format: "raw", Target: "vda", Bus: "virtio", Cache: "writeback", IO: "io_uring",
			Discard: "unmap", DetectZeroes: "unmap", BlockIO: virt.BlockIO{Logical: 4096, Physical: 4096}, Packed: true,
		}
		s.Disks[1].Source.File, s.Disks[1].Format = "", "" // no medium
		addVolume(s, virt.Disk{Source: virt.Source{File: instances + "disk.rescue"}, Format: "raw", Target: "fda", Bus: "fdc", Kind: "floppy"})
		addVolume(s, virt.Disk{Source: virt.Source{File: instances + "stick"}, Format: "raw", Target: "sdb", Bus: "usb", ReadOnly: true})
		addVolume(s, virt.Disk{Source: virt.Source{Device: "/dev/vg/cluster"}, Format: "raw", Target: "vdb", Bus: "virtio", Cache: "none", Shared: true})
		addVolume(s, virt.Disk{Source: virt.Source{File: instances + "wide"}, Format: "raw", Target: "sdc", Bus: "scsi", WWN: "5000c50015ea71ad"})
	}},
	"rescue": {to: func(s *virt.Spec) { // by the first disk
		rescue := virt.Disk{Source: virt.Source{File: instances + "disk.rescue"}, Format: "qcow2", Target: "vda", Bus: "virtio", Cache: "none",
			Backing: []virt.Backing{{Path: "/state/images/def", Format: "raw"}}}
		s.Disks[0].Target, s.Boot.Devices = "vdb", nil
		s.Disks[1].Source.File = instances + "disk.config.rescue"
		s.Disks = append([]virt.Disk{rescue}, s.Disks...)
	}},
	"rescue-stable": {to: func(s *virt.Spec) { // by the last
		s.Boot.Devices = nil
		addVolume(s, volume(virt.Source{Device: "/dev/vg/data"}))
		addVolume(s, virt.Disk{Source: virt.Source{File: instances + "disk.rescue"}, Format: "qcow2", Target: "sda", Bus: "usb", Cache: "none", Boot: 1,
			Backing: []virt.Backing{{Path: "/state/images/def", Format: "raw"}}})
	}},
	"scsi": {to: func(s *virt.Spec) {
		s.SCSI = "virtio-scsi"
		s.Disks[0].Bus, s.Disks[0].Target, s.Disks[0].Unit = "scsi", "sda", new(0)
		d := volume(virt.Source{Device: "/dev/disk/by-path/ip-192.0.2.5:3260-iscsi-iqn.2010-10.org.openstack:volume-1-lun-1"})
		d.Bus, d.Target, d.Unit = "scsi", "sdb", new(1)
		addVolume(s, d)
	}},
	"lun": {to: func(s *virt.Spec) {
		d := volume(virt.Source{Device: "/dev/disk/by-id/wwn-0x5000c50015ea71ad"})
		d.Bus, d.Target, d.Kind, d.Serial = "scsi", "sda", "lun", ""
		addVolume(s, d)
	}},
	"rbd": {to: func(s *virt.Spec) {
		d := volume(virt.Source{Network: &virt.NetworkSource{
			Protocol: "rbd", Name: "volumes/volume-1", Hosts: []virt.HostPort{{Host: "192.0.2.10", Port: 6789}, {Host: "ceph.example"}},
			Auth: &virt.SecretRef{User: "cinder", Type: "ceph", UUID: secret},
		}})
		d.Cache, d.IO = "writeback", ""
		addVolume(s, d)
	}},
	"iscsi": {to: func(s *virt.Spec) {
		addVolume(s, volume(virt.Source{Network: &virt.NetworkSource{
			Protocol: "iscsi", Name: "iqn.2010-10.org.openstack:volume-1/1", Hosts: []virt.HostPort{{Host: "192.0.2.5", Port: 3260}},
			Auth: &virt.SecretRef{User: "chap", Type: "iscsi", UUID: secret}, Initiator: "iqn.1994-05.com.example:host",
		}}))
	}},
	"nbd": {to: func(s *virt.Spec) {
		addVolume(s, volume(virt.Source{Network: &virt.NetworkSource{Protocol: "nbd", Hosts: []virt.HostPort{{Host: "2001:db8::1", Port: 10809}}}}))
	}},
	"luks": {to: func(s *virt.Spec) {
		d := volume(virt.Source{Device: "/dev/vg/secret"})
		d.Key = &virt.DiskKey{Format: "luks", Secret: secret}
		addVolume(s, d)
	}},
	"disk-total": {to: func(s *virt.Spec) {
		s.Disks[0].Tune = virt.DiskTune{TotalBytes: 1 << 20, TotalIOPS: 100, TotalBytesMax: 2 << 20, TotalIOPSMax: 200, SizeIOPS: 4096}
	}},
	"disk-each-way": {to: func(s *virt.Spec) {
		s.Disks[0].Tune = virt.DiskTune{
			ReadBytes: 1, WriteBytes: 2, ReadIOPS: 3, WriteIOPS: 4, ReadBytesMax: 5, WriteBytesMax: 6, ReadIOPSMax: 7, WriteIOPSMax: 8,
		}
	}},
}

var nicChanges = map[string]change{
	"tap": {to: func(s *virt.Spec) {
		n := &s.NICs[0]
		n.Attach = virt.Attachment{Type: "ethernet", Existing: true}
		n.Packed, n.DisableROM, n.Alias = true, true, "ua-port-1"
		n.Bandwidth = &virt.Bandwidth{Inbound: virt.Rate{Average: 100, Peak: 200, Burst: 300}, Outbound: virt.Rate{Average: 10, Peak: 20, Burst: 30}}
	}},
	"multiqueue": {to: func(s *virt.Spec) {
		n := &s.NICs[0]
		n.Driver, n.Queues, n.RxRing, n.TxRing = "vhost", 4, 512, 256
	}},
	"ovs": {to: func(s *virt.Spec) {
		s.NICs[0].Attach = virt.Attachment{Type: "bridge", Bridge: "br-int", Port: "d3c1d3f0-5a8b-4a53-b54e-4f3b8c6a7e10"}
	}},
	"vhostuser": {to: func(s *virt.Spec) {
		n := &s.NICs[0]
		n.Attach = virt.Attachment{Type: "vhostuser", Mode: "server", Socket: "/run/openvswitch/vhu-1"}
		n.Driver, n.Queues, n.RxRing, n.TxRing, n.MTU = "vhost", 4, 512, 512, 0
		n.Target = ""
		s.Memory = virt.Memory{Memfd: true, Shared: true}
	}},
	"vdpa": {to: func(s *virt.Spec) {
		s.NICs[0].Attach, s.NICs[0].MTU, s.NICs[0].Target = virt.Attachment{Type: "vdpa", Device: "/dev/vhost-vdpa-0"}, 0, ""
	}},
	"macvtap": {to: func(s *virt.Spec) {
		n := &s.NICs[0]
		n.Attach, n.MTU, n.Target = virt.Attachment{Type: "direct", Device: "eth1", Mode: "bridge"}, 0, ""
		s.NICs = append(s.NICs, virt.NIC{
			MAC: "fa:16:3e:00:00:02", Model: "virtio", Driver: "vhost",
			Attach: virt.Attachment{Type: "direct", Device: "ens1f0v3", Mode: "passthrough", VLAN: 100},
		})
	}},
	"802.1Qbh": {to: func(s *virt.Spec) {
		n := &s.NICs[0]
		n.Attach, n.MTU, n.Target = virt.Attachment{Type: "direct", Device: "eth1", Mode: "passthrough", Profile: "finance"}, 0, ""
	}},
	"sriov": {to: func(s *virt.Spec) {
		s.NICs[0] = virt.NIC{MAC: "fa:16:3e:00:00:01", Attach: virt.Attachment{Type: "hostdev", Address: "0000:81:10.1", VLAN: 100, Managed: true}}
	}},
	"e1000": {to: func(s *virt.Spec) { s.NICs[0].Model = "e1000" }},
}

var deviceChanges = map[string]change{
	"serial-tcp": {to: func(s *virt.Spec) {
		s.Serial = []virt.SerialPort{
			{Type: "tcp", Host: "127.0.0.1", Port: 10000, Log: instances + "console.log", AppendLog: true},
			{Type: "tcp", Host: "127.0.0.1", Port: 10001},
		}
	}},
	"serial-unix": {to: func(s *virt.Spec) {
		s.Serial = []virt.SerialPort{{Type: "unix", Path: instances + "serial.sock"}}
		s.Channels.GuestAgentSocket = instances + "agent.sock"
	}},
	"spice-and-vnc": {to: func(s *virt.Spec) {
		s.Graphics = append(s.Graphics, virt.Graphics{Type: "spice", Listen: "::1", Keymap: "de"})
		s.Video = &virt.Video{Model: "qxl", RAMMiB: 64}
		s.Channels.SPICE, s.Sound = true, "ich6"
		s.USB = virt.USB{Controller: "qemu-xhci", RedirectedPorts: 2}
	}},
	"spice-tls": {to: func(s *virt.Spec) {
		s.Graphics = []virt.Graphics{{Type: "spice", Listen: "0.0.0.0", SPICE: virt.SPICE{
			Secure: true, ImageCompression: "auto_glz", JPEGCompression: "auto", ZlibCompression: "never", PlaybackCompression: new(false), StreamingMode: "filter",
		}}}
	}},
	"perf": {to: func(s *virt.Spec) { s.PerfEvents = []string{"cpu_cycles", "cache_misses"} }},
	"virtio-input": {to: func(s *virt.Spec) {
		s.Inputs = []virt.Input{{Type: "tablet", Bus: "virtio"}, {Type: "keyboard", Bus: "virtio"}}
		s.USB.Controller = "none"
	}},
	"headless": {to: func(s *virt.Spec) {
		s.Graphics, s.Video, s.Inputs, s.RNG, s.Channels, s.Balloon = nil, nil, nil, nil, virt.Channels{}, virt.Balloon{None: true}
	}},
	"tpm-crb":  {to: func(s *virt.Spec) { board(s); s.TPM = &virt.TPM{Version: "2.0", Model: "tpm-crb", Secret: secret} }},
	"tpm-tis":  {to: func(s *virt.Spec) { s.TPM = &virt.TPM{Version: "1.2", Model: "tpm-tis"} }},
	"rng-rate": {to: func(s *virt.Spec) { s.RNG.Bytes, s.RNG.Period = 1024, 2000 }},
	"watchdog": {to: func(s *virt.Spec) { s.Watchdog = "poweroff" }},
	"pci": {to: func(s *virt.Spec) {
		s.PCI = []virt.PCIDevice{{Address: "0000:81:00.0", Managed: true, Alias: "ua-gpu"}, {Address: "0000:82:00.1"}}
	}},
	"mdev": {to: func(s *virt.Spec) { s.Mediated = []virt.MediatedDevice{{UUID: "77777777-7777-7777-7777-777777777777"}} }},
	"iommu-intel": {to: func(s *virt.Spec) {
		board(s)
		s.Features.IOAPIC = "qemu"
		s.IOMMU = &virt.IOMMU{Model: "intel", CachingMode: true, EIM: true, InterruptRemapping: true, IOTLB: true, AddressBits: 48}
	}},
	"iommu-virtio": {to: func(s *virt.Spec) { board(s); s.IOMMU = &virt.IOMMU{Model: "virtio"} }},
	"root-ports":   {to: func(s *virt.Spec) { board(s); s.RootPorts = 4 }},
}

// TestGoldensHaveEveryField fails for a field of virt.Spec that no golden file shows.
func TestGoldensHaveEveryField(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range goldenSpecs() {
		fields(reflect.ValueOf(g.Spec), "Spec", seen)
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		if !seen[name] {
			t.Errorf("no golden Spec has a %s", name)
		}
	}
}

// fields notes for every field, by its path, whether it is set.
func fields(v reflect.Value, path string, seen map[string]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v = reflect.New(v.Type().Elem())
		}
		fields(v.Elem(), path, seen)
	case reflect.Slice:
		for i := range v.Len() {
			fields(v.Index(i), path, seen)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() {
				continue
			}
			name := path + "." + field.Name
			seen[name] = seen[name] || !v.Field(i).IsZero()
			fields(v.Field(i), name, seen)
		}
	}
}

// mustSpec is the golden Spec of a name.
func mustSpec(t testing.TB, name string) virt.Spec {
	t.Helper()
	g, known := goldenSpecs()[name]
	if !known {
		t.Fatalf("no golden Spec %s among %s", name, strings.Join(slices.Sorted(maps.Keys(goldenSpecs())), ", "))
	}
	return g.Spec
}
