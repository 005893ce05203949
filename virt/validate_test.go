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
