package blockdev

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlan(t *testing.T) {
	config := func(name string, bus Bus) *Device { return &Device{Name: name, Bus: bus, CDROM: true} }
	for _, c := range []struct {
		name string
		req  Request
		want Layout
	}{
		{"root only", Request{Arch: "x86_64", Machine: "pc"},
			Layout{Root: Device{Name: "vda", Bus: Virtio}}},
		{"pc", Request{Arch: "x86_64", Machine: "pc-i440fx-7.2", ConfigDrive: true},
			Layout{Device{Name: "vda", Bus: Virtio}, config("hda", IDE)}},
		{"i686", Request{Arch: "i686", Machine: "pc", ConfigDrive: true},
			Layout{Device{Name: "vda", Bus: Virtio}, config("hda", IDE)}},
		{"q35", Request{Arch: "x86_64", Machine: "q35", ConfigDrive: true},
			Layout{Device{Name: "vda", Bus: Virtio}, config("sda", SATA)}},
		{"versioned q35", Request{Arch: "x86_64", Machine: "pc-q35-7.2", ConfigDrive: true},
			Layout{Device{Name: "vda", Bus: Virtio}, config("sda", SATA)}},
		{"aarch64", Request{Arch: "aarch64", Machine: "virt", ConfigDrive: true},
			Layout{Device{Name: "vda", Bus: Virtio}, config("sda", SCSI)}},
		{"sata disk, ide cdrom", Request{Arch: "x86_64", Machine: "pc", ConfigDrive: true, Properties: map[string]string{"hw_disk_bus": "sata"}},
			Layout{Device{Name: "sda", Bus: SATA}, config("hda", IDE)}},
		{"nothing known of the machine", Request{ConfigDrive: true, Properties: map[string]string{"hw_disk_bus": "ide"}},
			Layout{Device{Name: "hda", Bus: IDE}, config("hdb", IDE)}},
		{"both on one bus", Request{Arch: "x86_64", Machine: "pc", ConfigDrive: true, Properties: map[string]string{"hw_disk_bus": "ide"}},
			Layout{Device{Name: "hda", Bus: IDE}, config("hdb", IDE)}},
		{"two buses with the same names", Request{Arch: "x86_64", Machine: "q35", ConfigDrive: true, Properties: map[string]string{"hw_disk_bus": "scsi"}},
			Layout{Device{Name: "sda", Bus: SCSI}, config("sdb", SATA)}},
		{"cdrom bus", Request{Arch: "x86_64", Machine: "pc", ConfigDrive: true, Properties: map[string]string{"hw_cdrom_bus": "sata"}},
			Layout{Device{Name: "vda", Bus: Virtio}, config("sda", SATA)}},
		{"empty property", Request{Arch: "x86_64", Machine: "pc", Properties: map[string]string{"hw_disk_bus": ""}},
			Layout{Root: Device{Name: "vda", Bus: Virtio}}},
		{"cdrom property without a cdrom", Request{Arch: "x86_64", Machine: "pc", Properties: map[string]string{"hw_cdrom_bus": "bogus"}},
			Layout{Root: Device{Name: "vda", Bus: Virtio}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Plan(c.req)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, c := range []struct {
		machine, property, value, want string
	}{
		{"pc", "hw_disk_bus", "xen", "virtio, ide, sata, scsi"},
		{"pc", "hw_disk_bus", "VIRTIO", "virtio, ide, sata, scsi"},
		{"pc", "hw_disk_bus", "virtio'/>", "virtio, ide, sata, scsi"},
		{"pc", "hw_cdrom_bus", "bogus", "virtio, ide, sata, scsi"},
		{"pc", "hw_cdrom_bus", "virtio", "no CD-ROM"},
		{"q35", "hw_cdrom_bus", "ide", "machine q35 has no IDE"},
		{"pc-q35-7.2", "hw_disk_bus", "ide", "has no IDE"},
	} {
		_, err := Plan(Request{Arch: "x86_64", Machine: c.machine, ConfigDrive: true, Properties: map[string]string{c.property: c.value}})
		var refused *PropertyError
		if !errors.As(err, &refused) || refused.Property != c.property || refused.Value != c.value || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s=%s: got %v, want a refusal with %q", c.machine, c.property, c.value, err, c.want)
		}
	}
}

func TestLetters(t *testing.T) {
	for index, want := range map[int]string{0: "a", 25: "z", 26: "aa", 27: "ab", 51: "az", 52: "ba", 701: "zz", 702: "aaa"} {
		if got := letters(index); got != want {
			t.Errorf("letters(%d) = %q, want %q", index, got, want)
		}
	}
}

func TestNamesRunOut(t *testing.T) {
	for bus, kind := range kinds {
		var n names
		var last string
		for i := range kind.limit {
			name, err := n.next(PropDiskBus, bus)
			if err != nil {
				t.Fatalf("%s: name %d of %d: %v", bus, i, kind.limit, err)
			}
			last = name
		}
		if want := kind.prefix + letters(kind.limit-1); last != want {
			t.Errorf("%s: the last name is %s, want %s", bus, last, want)
		}
		if name, err := n.next(PropDiskBus, bus); err == nil {
			t.Errorf("%s: %s is beyond the limit", bus, name)
		}
	}
}
