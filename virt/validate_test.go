package virt

import (
	"errors"
	"strings"
	"testing"
	"time"

	"compute-agent/internal/cpuset"
)

// full is a Spec with everything in it.
func full() Spec {
	return Spec{
		ID: "0a1b2c3d-0000-4000-8000-0123456789ab", Name: "instance-0000002a", Title: "any <text>\x00",
		VirtType: "kvm", Arch: "x86_64", Emulator: "/usr/bin/qemu-system-x86_64", Machine: "pc-q35-7.2",
		VCPUs: 8, MemoryMiB: 4096, CPU: CPU{Mode: "custom", Model: "Skylake-Server-IBRS", Sockets: 2, Cores: 2, Threads: 2},
		Disks: []Disk{
			{Source: Source{File: "/d/disk & co"}, Format: "qcow2", Backing: []Backing{{"/d/base", "qcow2"}, {"/d/base.raw", "raw"}},
				Target: "vda", Bus: "virtio", Cache: "none", IO: "native", Serial: "root-1.0+a_b", Boot: 1},
			{Source: Source{File: "/d/disk.config"}, Format: "raw", Target: "sda", Bus: "sata", Kind: "cdrom"},
			{Source: Source{File: "/d/é"}, Format: "raw", Target: "vdaa", Bus: "virtio", Cache: "writeback", IO: "io_uring", Boot: 2},
		},
		Serial: []SerialPort{{Type: "pty", Log: "/d/console.log", AppendLog: true}}, Graphics: []Graphics{{Type: "vnc", Listen: "::1"}}, RNG: &RNG{Source: "/dev/urandom"}, Channels: Channels{GuestAgent: true},
		Balloon:  Balloon{Period: 10 * time.Second},
		Metadata: Metadata{Name: "\xff\n", RootType: "image"},
	}
}

func TestValidateTakes(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		"everything": func(*Spec) {},
		"the least": func(s *Spec) {
			*s = Spec{ID: s.ID, Name: "a", VirtType: "qemu", Arch: "x86_64", Machine: "pc", VCPUs: 1, MemoryMiB: 1,
				CPU: CPU{Mode: "none", Sockets: 1, Cores: 1, Threads: 1}}
		},
		"a name of 64":    func(s *Spec) { s.Name = strings.Repeat("n", 64) },
		"IPv4 on all":     func(s *Spec) { s.Graphics[0].Listen = "0.0.0.0" },
		"a CD-ROM on IDE": func(s *Spec) { s.Disks[1].Bus, s.Disks[1].Target = "ide", "hda" },
		"two cells": func(s *Spec) {
			s.Placement = &Placement{VCPUs: make([]cpuset.Set, 8), Cells: []GuestCell{
				{VCPUs: cpuset.Range(0, 3), MemoryMiB: 2048, PageKiB: 2048, Distances: []int{10, 20}}, {VCPUs: cpuset.Range(4, 7), MemoryMiB: 2048, HostCell: 3},
			}}
		},
		"a chain that is not stated": func(s *Spec) { s.Disks[0].Backing, s.Disks[0].Unstated = nil, true },
		"drives of every bus": func(s *Spec) {
			s.Disks = nil
			for bus, target := range map[string]string{"virtio": "vda", "ide": "hda", "sata": "sda", "scsi": "sdb", "usb": "sdc", "fdc": "fda"} {
				d := Disk{Source: Source{File: "/d/" + bus}, Format: "raw", Target: target, Bus: bus}
				if bus == "fdc" {
					d.Kind = "floppy"
				}
				s.Disks = append(s.Disks, d)
			}
		},
		"empty drives": func(s *Spec) {
			s.Disks[1].Source, s.Disks[1].Format = Source{}, ""
			s.Disks = append(s.Disks, Disk{Target: "fda", Bus: "fdc", Kind: "floppy"}, Disk{Target: "sdb", Bus: "usb", Kind: "cdrom"})
		},
		"iSCSI as a LUN": func(s *Spec) {
			s.Disks[2] = Disk{Target: "sdb", Bus: "scsi", Kind: "lun", Format: "raw", Unit: new(16383), Boot: 2, Source: Source{Network: &NetworkSource{
				Protocol: "iscsi", Name: "iqn.2010-10.org.openstack:v/1", Hosts: []HostPort{{"2001:db8::1", 65535}}}}}
		},
		"rbd without hosts": func(s *Spec) {
			s.Disks[2] = Disk{Target: "vdb", Bus: "virtio", Format: "raw", Source: Source{Network: &NetworkSource{Protocol: "rbd", Name: "p/i"}}}
		},
		"limits at their ends": func(s *Spec) {
			s.CPUTime = CPUTime{Shares: 262144, Period: 1000, Quota: 17592186044415}
			s.Disks[0].Tune, s.Disks[0].BlockIO = DiskTune{ReadBytes: 1, WriteBytesMax: maxTune, WriteBytes: maxTune, TotalIOPS: 1}, BlockIO{512, 2 << 20}
			s.RootPorts, s.USB.RedirectedPorts, s.Graphics[0].Type = 28, 15, "spice"
			s.Boot = Boot{Kernel: "/k", CommandLine: strings.Repeat("c", maxCommandLine)}
			s.Features.HyperV, s.Features.HyperVVendor = true, "12_4.6-8 0ab"
		},
		"NICs at their ends": func(s *Spec) {
			n := NIC{MAC: "FE:ff:FF:ff:FF:ff", Model: "virtio", Queues: 256, RxRing: 256, TxRing: 1024, MTU: 68, Target: "fifteen.letter_", Boot: 3,
				Attach: Attachment{Type: "bridge", Bridge: "eth1.100"}}
			other := n
			other.Target, other.MTU, other.Boot, other.Attach = "", 0, 0, Attachment{Type: "direct", Device: "eth1.100", Mode: "vepa", VLAN: 4094}
			s.NICs = []NIC{n, other} // of one MAC, on two networks
		},
		"shares on huge pages": func(s *Spec) {
			s.Placement = &Placement{Cells: []GuestCell{{VCPUs: cpuset.Range(0, 7), MemoryMiB: 4096, PageKiB: 2048}}}
			s.Shares = []Share{{Path: "/srv", Tag: strings.Repeat("t", maxTag)}}
		},
		"a boot order and a kernel": func(s *Spec) { s.Boot = Boot{Kernel: "/k", Devices: []string{"hd"}} },
		"far cells": func(s *Spec) {
			s.Placement = &Placement{Cells: []GuestCell{
				{VCPUs: cpuset.Range(0, 7), MemoryMiB: 4095, Distances: []int{10, 255}}, {MemoryMiB: 1, Distances: []int{10, 10}},
			}}
		},
		"two without a boot": func(s *Spec) { s.Disks[0].Boot, s.Disks[2].Boot = 0, 0 },
	} {
		s := full()
		change(&s)
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What Validate refuses is in package virttest, where every driver is held to it; here is that a
// message names the field.
func TestValidateNamesTheField(t *testing.T) {
	for want, change := range map[string]func(*Spec){
		`ID "x"`:          func(s *Spec) { s.ID = "x" },
		"disk vda":        func(s *Spec) { s.Disks[0].Source.File = "relative" },
		"target vda":      func(s *Spec) { s.Disks[2].Target = "vda" },
		"boot position 1": func(s *Spec) { s.Disks[2].Boot = 1 },
		"console log":     func(s *Spec) { s.Serial[0].Log = "/a\nb" },
		"emulator":        func(s *Spec) { s.Emulator = "/\xff" },
		"9 vCPUs":         func(s *Spec) { s.VCPUs = 9 },
		"random number":   func(s *Spec) { s.RNG.Source = "" },

		"placement of 2 vCPUs": func(s *Spec) { s.Placement = &Placement{VCPUs: make([]cpuset.Set, 2)} },
		"real-time vCPUs 8":    func(s *Spec) { s.Placement = &Placement{Realtime: cpuset.Of(8)} },
		"cells have the vCPUs": func(s *Spec) { s.Placement = &Placement{Cells: []GuestCell{{VCPUs: cpuset.Of(1), MemoryMiB: 4096}}} },
		"cells have 4095 MiB": func(s *Spec) {
			s.Placement = &Placement{Cells: []GuestCell{{VCPUs: cpuset.Range(0, 7), MemoryMiB: 4095}}}
		},
		"pages of 2048 KiB": func(s *Spec) {
			s.Placement = &Placement{Cells: []GuestCell{{VCPUs: cpuset.Range(0, 7), MemoryMiB: 4095, PageKiB: 2048}}}
		},
		"vCPU 3 is in another": func(s *Spec) {
			s.Placement = &Placement{Cells: []GuestCell{{VCPUs: cpuset.Range(0, 3), MemoryMiB: 2048}, {VCPUs: cpuset.Range(3, 7), MemoryMiB: 2048}}}
		},
	} {
		s := full()
		change(&s)
		err := s.Validate()
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want ErrInvalid with %q", err, want)
		}
	}
}
