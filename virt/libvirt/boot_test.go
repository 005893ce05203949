package libvirt

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"compute-agent/internal/cpuset"
	"compute-agent/virt"
)

// bootCases are guests that are booted: what their Spec has beyond the least, and what the guest's own
// system must say of it. Each has a golden file too.
var bootCases = map[string]struct {
	change func(*virt.Spec)
	sees   []string // patterns, each of a whole line that the guest says
	misses []string // patterns of which no line may be
}{
	"bios": {
		change: func(s *virt.Spec) {
			s.Disks[0].Serial = "root-0001"
			s.SMBIOS.Serial = s.ID
			s.RNG = &virt.RNG{Source: "/dev/urandom", Bytes: 4096, Period: 1000}
			s.Disks[0].Boot, s.Boot.Devices = 0, []string{"hd"}
		},
		sees: []string{
			`system uuid=ID serial=ID product=OpenStack Nova`,
			`disks vda:sectors=\d+:serial=root-0001`,
			`rng virtio_rng\.0`,
			`cpu n=1 model=.*`,
			`pci.* 0601:8086:7000.*`, // the PIIX3 of machine type pc
			`acpi.*`,
		},
		misses: []string{`efi .*`, `tpm .*`, `nic .*`},
	},
	"q35": {
		change: func(s *virt.Spec) {
			s.Machine, s.RootPorts = "q35", 4
			s.USB.Controller = "qemu-xhci"
			s.Watchdog = "poweroff"
			s.Video, s.Graphics = &virt.Video{Model: "bochs"}, []virt.Graphics{{Type: "vnc", Listen: "127.0.0.1"}}
		},
		sees: []string{
			`pci.* 0601:8086:2918.*`,          // ICH9
			`pci(?:.* 0604:1b36:000c){4}.*`,   // root ports
			`pci.* 0c03:1b36:000d.*`,          // xHCI
			`pci.* 0880:8086:25ab.*`,          // i6300ESB
			`pci.* (?:0300|0380):1234:1111.*`, // bochs
			`acpi.* HPET.*`,
		},
	},
	"scsi": {
		change: func(s *virt.Spec) {
			d := &s.Disks[0]
			d.Bus, d.Target, d.Serial, d.Unit = "scsi", "sda", "scsi-root", new(int)
			d.Discard, d.DetectZeroes = "unmap", "unmap"
			s.SCSI = "virtio-scsi"
			addDisk(s, "data", virt.Disk{Format: "raw", Bus: "virtio", Target: "vda", Serial: "data-7", BlockIO: virt.BlockIO{Logical: 4096, Physical: 4096}})
		},
		sees: []string{
			`pci.* 0100:1af4:100[48].*`,
			`disks vda:sectors=16384:serial=data-7 sda:sectors=\d+:serial=.*`,
			`root dev=/dev/sda boots=1`,
		},
	},
	"cells": {
		change: func(s *virt.Spec) {
			s.VCPUs, s.MemoryMiB, s.CPU.Sockets = 2, 256, 2
			s.Placement = &virt.Placement{Cells: []virt.GuestCell{
				{VCPUs: cpuset.Of(0), MemoryMiB: 160, Distances: []int{10, 33}},
				{VCPUs: cpuset.Of(1), MemoryMiB: 96, Distances: []int{33, 10}},
			}}
		},
		sees: []string{
			`cpu n=2 .*`,
			`numa node0 cpus=0 kib=1[0-9]{5} distances=10 33`,
			`numa node1 cpus=1 kib=[0-9]{5} distances=33 10`,
		},
	},
	"threads": {
		change: func(s *virt.Spec) {
			s.VCPUs = 2
			s.CPU = virt.CPU{Mode: "custom", Model: "Nehalem", Sockets: 1, Cores: 1, Threads: 2,
				Features: []virt.CPUFeature{{Name: "aes", Policy: "require"}, {Name: "popcnt", Policy: "disable"}}}
			s.IOThreads = 1
		},
		sees:   []string{`cpu n=2 model=.*Nehalem.*`, `flags (?:.* )?aes(?: .*)?`},
		misses: []string{`flags (?:.* )?popcnt(?: .*)?`},
	},
	"nics": {
		change: func(s *virt.Spec) {
			s.VCPUs, s.CPU.Sockets = 2, 2
			tap := func(n int) string { return "ct" + s.ID[:8] + fmt.Sprint(n) }
			s.NICs = []virt.NIC{
				{MAC: "fa:16:3e:00:00:01", Model: "virtio", Attach: virt.Attachment{Type: "ethernet"}, Target: tap(0), MTU: 1400, Driver: "qemu", Queues: 2},
				{MAC: "fa:16:3e:00:00:02", Model: "e1000", Attach: virt.Attachment{Type: "ethernet"}, Target: tap(1)},
			}
		},
		sees: []string{
			`nic eth0 mac=fa:16:3e:00:00:01 mtu=1400 queues=2`,
			`pci.* 0200:1af4:1000.* 0200:8086:100e.*`,
		},
	},
	"packed": {
		change: func(s *virt.Spec) {
			s.Machine = "q35"
			s.Disks[0].Packed = true
			s.NICs = []virt.NIC{{MAC: "fa:16:3e:00:00:03", Model: "virtio", Attach: virt.Attachment{Type: "ethernet"}, Target: "ct" + s.ID[:8], Packed: true}}
		},
		sees: []string{`virtio virtio\d device=0x0001 packed=1`, `virtio virtio\d device=0x0002 packed=1`},
	},
	"tpm": {
		change: func(s *virt.Spec) {
			s.Machine = "q35"
			s.TPM = &virt.TPM{Version: "2.0", Model: "tpm-crb"}
		},
		sees: []string{`tpm version=2`, `acpi.* TPM2.*`},
	},
	"tpm12": {
		change: func(s *virt.Spec) { s.TPM = &virt.TPM{Version: "1.2", Model: "tpm-tis"} },
		sees:   []string{`tpm version=1`, `acpi.* TCPA.*`},
	},
	"uefi": {
		change: func(s *virt.Spec) { s.Machine, s.MemoryMiB, s.Firmware = "q35", 256, virt.Firmware{UEFI: true} },
		sees:   []string{`efi variables=\d\d secureboot=0`},
	},
	"secureboot": {
		change: func(s *virt.Spec) {
			s.Machine, s.MemoryMiB, s.Firmware = "q35", 256, virt.Firmware{UEFI: true, SecureBoot: true}
		},
		sees: []string{`efi variables=\d\d secureboot=1`},
	},
	"kernel": {
		change: func(s *virt.Spec) {
			dir := filepath.Dir(s.Disks[0].Source.File)
			s.Boot = virt.Boot{Kernel: filepath.Join(dir, "vmlinuz"), Initrd: filepath.Join(dir, "initrd"),
				CommandLine: `console=ttyS0 quiet tsc=unstable clocksource=acpi_pm odd=<a&b>,c"d`}
		},
		sees: []string{`cmdline .* odd=<a&b>,c"d`},
	},
	"ports": {
		change: func(s *virt.Spec) {
			dir := filepath.Dir(s.Disks[0].Source.File)
			s.Serial = append(s.Serial, virt.SerialPort{Type: "unix", Path: filepath.Join(dir, "serial1.sock")},
				virt.SerialPort{Type: "pty"})
			s.Inputs = []virt.Input{{Type: "tablet", Bus: "virtio"}, {Type: "keyboard", Bus: "virtio"}}
			s.Video, s.Graphics = &virt.Video{Model: "virtio"}, []virt.Graphics{{Type: "vnc", Listen: "127.0.0.1"}}
			s.Channels = virt.Channels{GuestAgent: true}
			s.Sound = "ich6"
		},
		sees: []string{
			`serial 0 1 2`,
			`inputs.*\|QEMU Virtio Keyboard.*`,
			`inputs.*\|QEMU Virtio Tablet.*`,
			`pci.* 0300:1af4:1050.*`,
			`pci.* 0403:8086:2668.*`,
		},
	},
	"iommu": {
		change: func(s *virt.Spec) {
			s.Machine, s.Features.IOAPIC = "q35", "qemu"
			s.IOMMU = &virt.IOMMU{Model: "intel", InterruptRemapping: true, CachingMode: true, IOTLB: true, AddressBits: 48}
		},
		sees: []string{`acpi.* DMAR.*`},
	},
	"memfd": {
		change: func(s *virt.Spec) {
			s.Memory = virt.Memory{Memfd: true, Shared: true}
			s.Balloon = virt.Balloon{Period: 10 * time.Second, AutoDeflate: true, FreePageReporting: true}
			s.CPUTime = virt.CPUTime{Shares: 512, Period: 100000, Quota: 80000}
			s.Disks[0].Tune = virt.DiskTune{ReadBytes: 100 << 20, WriteIOPS: 1000}
		},
		sees: []string{`virtio virtio\d device=0x0005 packed=0`},
	},
}

// addDisk gives a Spec one more disk of 8 MiB beside its first.
func addDisk(s *virt.Spec, name string, d virt.Disk) {
	d.Source.File = filepath.Join(filepath.Dir(s.Disks[0].Source.File), name)
	s.Disks = append(s.Disks, d)
}

// TestBoot boots each guest and compares what its own system sees.
func TestBoot(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	for name, c := range bootCases {
		t.Run(name, func(t *testing.T) {
			s := bootableSpec(t)
			s.CPU.Mode, s.CPU.Model = "custom", "Nehalem" // what the agent gives emulated guests
			c.change(&s)
			lines := bootLines(t, d, s)
			for _, pattern := range c.sees {
				if !sees(lines, pattern, s) {
					t.Errorf("the guest does not say %q", pattern)
				}
			}
			for _, pattern := range c.misses {
				if sees(lines, pattern, s) {
					t.Errorf("the guest says %q", pattern)
				}
			}
			if t.Failed() {
				t.Logf("the guest says\n%s", strings.Join(lines, "\n"))
			}
		})
	}
}

func sees(lines []string, pattern string, s virt.Spec) bool {
	form := regexp.MustCompile("^(?:" + strings.ReplaceAll(pattern, "ID", s.ID) + ")$")
	return slices.ContainsFunc(lines, form.MatchString)
}

// bootLines makes and starts a guest and returns what it has said when it is ready.
func bootLines(t *testing.T, d *Driver, s virt.Spec) []string {
	t.Helper()
	makeDisks(t, s)
	destroyAtEnd(t, d, s.ID)
	must(t, d.Create(within(t), s))
	must(t, d.Start(within(t), s.ID))
	text := waitForText(t, s.ConsoleLog(), "TINY: ready", 2*time.Minute)
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(text, "\r", "")) {
		if _, said, found := strings.Cut(line, "TINY: "); found {
			lines = append(lines, strings.TrimRight(said, "\n"))
		}
	}
	return lines
}

// makeDisks makes the files that a Spec names beyond those of bootableSpec.
func makeDisks(t *testing.T, s virt.Spec) {
	t.Helper()
	dir := filepath.Dir(s.Disks[0].Source.File)
	for _, disk := range s.Disks[1:] {
		run(t, "qemu-img", "create", "-q", "-f", disk.Format, disk.Source.File, "8M")
	}
	if s.Boot.Kernel != "" {
		for _, name := range []string{"vmlinuz", "initrd"} {
			run(t, "cp", filepath.Join(filepath.Dir(tinyImage(t)), name), dir)
		}
	}
}

// waitForText returns what is in a file as soon as a text is in it. It waits for the kernel to tell of
// changes in the file's directory.
func waitForText(t *testing.T, path, want string, patience time.Duration) string {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	must(t, err)
	changes := os.NewFile(uintptr(fd), "inotify")
	defer func() { _ = changes.Close() }()
	_, err = unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_CREATE|unix.IN_MODIFY|unix.IN_MOVED_TO)
	must(t, err)
	must(t, changes.SetReadDeadline(time.Now().Add(patience)))
	events := make([]byte, 4096)
	for {
		text, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(text), want) {
			return string(text)
		}
		if _, err := changes.Read(events); err != nil {
			t.Fatalf("no %q in %v; %s has\n%s", want, patience, path, text)
		}
	}
}
