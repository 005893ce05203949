package blockdev

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func first(n int) *int { return &n }

func TestPlan(t *testing.T) {
	root := func(name string, bus Bus) Drive {
		return Drive{Role: Root, Name: name, Bus: bus, Type: Disk, BootIndex: 1}
	}
	config := func(name string, bus Bus) Drive { return Drive{Role: ConfigDrive, Name: name, Bus: bus, Type: CDROM} }
	volume := func(i int, name string, bus Bus, t Type, boot int) Drive {
		return Drive{Role: Volume, Index: i, Name: name, Bus: bus, Type: t, BootIndex: boot}
	}
	props := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	for _, c := range []struct {
		name string
		req  Request
		want []Drive
	}{
		{"root only", Request{Arch: "x86_64", Machine: "pc"}, []Drive{root("vda", Virtio)}},
		{"pc", Request{Arch: "x86_64", Machine: "pc-i440fx-7.2", ConfigDrive: ISO9660}, []Drive{root("vda", Virtio), config("hda", IDE)}},
		{"i686", Request{Arch: "i686", Machine: "pc", ConfigDrive: ISO9660}, []Drive{root("vda", Virtio), config("hda", IDE)}},
		{"q35", Request{Arch: "x86_64", Machine: "q35", ConfigDrive: ISO9660}, []Drive{root("vda", Virtio), config("sda", SATA)}},
		{"versioned q35", Request{Machine: "pc-q35-7.2", ConfigDrive: ISO9660}, []Drive{root("vda", Virtio), config("sda", SATA)}},
		{"aarch64", Request{Arch: "aarch64", Machine: "virt", ConfigDrive: ISO9660}, []Drive{root("vda", Virtio), config("sda", SCSI)}},
		{"sata disk, ide cdrom", Request{ConfigDrive: ISO9660, Properties: props("hw_disk_bus", "sata")}, []Drive{root("sda", SATA), config("hda", IDE)}},
		{"usb disk", Request{Properties: props("hw_disk_bus", "usb")}, []Drive{root("sda", USB)}},
		{"both on one bus", Request{ConfigDrive: ISO9660, Properties: props("hw_disk_bus", "ide")}, []Drive{root("hda", IDE), config("hdb", IDE)}},
		{"two buses with the same names", Request{Machine: "q35", ConfigDrive: ISO9660, Properties: props("hw_disk_bus", "scsi")},
			[]Drive{root("sda", SCSI), config("sdb", SATA)}},
		{"cdrom bus", Request{ConfigDrive: ISO9660, Properties: props("hw_cdrom_bus", "sata")}, []Drive{root("vda", Virtio), config("sda", SATA)}},
		{"empty property", Request{Properties: props("hw_disk_bus", "")}, []Drive{root("vda", Virtio)}},
		{"config drive that is a disk", Request{ConfigDrive: VFAT}, []Drive{root("vda", Virtio), {Role: ConfigDrive, Name: "vdb", Bus: Virtio, Type: Disk}}},
		{"ISO image", Request{ISO: true, ConfigDrive: ISO9660},
			[]Drive{{Role: Root, Name: "hda", Bus: IDE, Type: CDROM, BootIndex: 1}, config("hdb", IDE)}},
		{"everything", Request{Ephemerals: []Wanted{{}, {}}, Swap: &Wanted{}, Volumes: []Wanted{{}, {Bus: SCSI}, {Type: Floppy}}, ConfigDrive: ISO9660},
			[]Drive{root("vda", Virtio), {Role: Ephemeral, Name: "vdb", Bus: Virtio, Type: Disk}, {Role: Ephemeral, Index: 1, Name: "vdc", Bus: Virtio, Type: Disk},
				{Role: Swap, Name: "vdd", Bus: Virtio, Type: Disk}, volume(0, "vde", Virtio, Disk, 0), volume(1, "sda", SCSI, Disk, 0),
				volume(2, "fda", FDC, Floppy, 0), config("hda", IDE)}},
		{"a volume is the root", Request{Volumes: []Wanted{{BootIndex: first(1)}, {BootIndex: first(0)}, {Type: CDROM, BootIndex: first(2)}}},
			[]Drive{volume(1, "vda", Virtio, Disk, 1), volume(0, "vdb", Virtio, Disk, 2), volume(2, "hda", IDE, CDROM, 3)}},
		{"the bus comes from the name", Request{Volumes: []Wanted{{Name: "/dev/sdc"}, {Name: "hdb"}}},
			[]Drive{root("vda", Virtio), volume(0, "sdc", SCSI, Disk, 0), volume(1, "hdb", IDE, Disk, 0)}},
		{"a LUN", Request{Volumes: []Wanted{{Type: LUN}}}, []Drive{root("vda", Virtio), volume(0, "sda", SCSI, LUN, 0)}},
		{"names that drives have had are kept", Request{RootName: "/dev/vdb", Volumes: []Wanted{{}, {Name: "/dev/vda"}}},
			[]Drive{root("vdb", Virtio), volume(0, "vdc", Virtio, Disk, 0), volume(1, "vda", Virtio, Disk, 0)}},
		{"rescue", Request{Rescue: &RescueImage{}, Ephemerals: []Wanted{{}}, ConfigDrive: ISO9660},
			[]Drive{{Role: Rescue, Name: "vda", Bus: Virtio, Type: Disk, BootIndex: 1}, {Role: Root, Name: "vdb", Bus: Virtio, Type: Disk}, config("hda", IDE)}},
		{"stable rescue", Request{Volumes: []Wanted{{BootIndex: first(1)}}, Rescue: &RescueImage{Stable: true, Properties: props("hw_rescue_device", "cdrom")}},
			[]Drive{{Role: Root, Name: "vda", Bus: Virtio, Type: Disk}, volume(0, "vdb", Virtio, Disk, 0), {Role: Rescue, Name: "hda", Bus: IDE, Type: CDROM, BootIndex: 1}}},
		{"stable rescue on a bus", Request{Rescue: &RescueImage{Stable: true, Properties: props("hw_rescue_bus", "usb")}},
			[]Drive{{Role: Root, Name: "vda", Bus: Virtio, Type: Disk}, {Role: Rescue, Name: "sda", Bus: USB, Type: Disk, BootIndex: 1}}},
		// Where Nova would give two drives one name or leave a drive out.
		{"a name to come is not swap's", Request{Swap: &Wanted{}, Volumes: []Wanted{{Name: "/dev/vdb"}}},
			[]Drive{root("vda", Virtio), {Role: Swap, Name: "vdc", Bus: Virtio, Type: Disk}, volume(0, "vdb", Virtio, Disk, 0)}},
		{"a name to come is not root's", Request{Volumes: []Wanted{{Name: "vda"}}}, []Drive{root("vdb", Virtio), volume(0, "vda", Virtio, Disk, 0)}},
		{"a name to come does not cost the ephemeral disk", Request{Ephemerals: []Wanted{{Implied: true}}, Volumes: []Wanted{{Name: "vdb"}}},
			[]Drive{root("vda", Virtio), {Role: Ephemeral, Name: "vdc", Bus: Virtio, Type: Disk}, volume(0, "vdb", Virtio, Disk, 0)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Plan(c.req)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Drives); diff != "" {
				t.Error(diff)
			}
			if got.Root != got.Drives[0] {
				t.Errorf("the root device is %v, not the first drive", got.Root)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	on := func(machine, property, value string) Request {
		return Request{Machine: machine, ConfigDrive: ISO9660, Properties: map[string]string{property: value}}
	}
	with := func(volumes ...Wanted) Request { return Request{Volumes: volumes} }
	two := 2
	for _, c := range []struct {
		name              string
		req               Request
		class, key, value string
		rule              string
	}{
		{"another hypervisor's bus", on("pc", "hw_disk_bus", "xen"), UnsupportedHardware, "hw_disk_bus", "xen", "virtio, scsi, ide, usb, fdc, sata"},
		{"case", on("pc", "hw_disk_bus", "VIRTIO"), UnsupportedHardware, "hw_disk_bus", "VIRTIO", "no such bus"},
		{"markup", on("pc", "hw_disk_bus", "virtio'/>"), UnsupportedHardware, "hw_disk_bus", "virtio'/>", "no such bus"},
		{"cdrom", on("pc", "hw_cdrom_bus", "bogus"), UnsupportedHardware, "hw_cdrom_bus", "bogus", "no such bus"},
		{"virtio cdrom", on("pc", "hw_cdrom_bus", "virtio"), UnsupportedHardware, "hw_cdrom_bus", "virtio", "no CD-ROM"},
		{"ide on q35", on("q35", "hw_cdrom_bus", "ide"), UnsupportedHardware, "hw_cdrom_bus", "ide", "machine q35 has no IDE"},
		{"ide disk on q35", on("pc-q35-7.2", "hw_disk_bus", "ide"), UnsupportedHardware, "hw_disk_bus", "ide", "has no IDE"},
		{"a disk on the floppy bus", on("pc", "hw_disk_bus", "fdc"), UnsupportedHardware, "hw_disk_bus", "fdc", "floppy drives are on"},
		{"a floppy elsewhere", with(Wanted{Type: Floppy, Bus: Virtio}), UnsupportedHardware, "disk_bus", "virtio", "floppy drives are on"},
		{"a LUN on IDE", with(Wanted{Type: LUN, Bus: IDE}), UnsupportedHardware, "disk_bus", "ide", "pass SCSI commands"},
		{"a volume's bus", with(Wanted{Bus: "xen"}), UnsupportedHardware, "disk_bus", "xen", "no such bus"},
		{"a name twice", with(Wanted{Name: "vdb"}, Wanted{Name: "/dev/vdb"}), DevicePathInUse, "device_name", "/dev/vdb", "two drives"},
		{"a name of another bus", with(Wanted{Name: "vdb", Bus: SCSI}), InvalidDevicePath, "device_name", "/dev/vdb", "begin with sd"},
		{"no name", with(Wanted{Name: "vd../x", Bus: Virtio}), InvalidDevicePath, "device_name", "/dev/vd../x", "letters"},
		{"a fifth IDE name", with(Wanted{Name: "hde"}), InvalidDevicePath, "device_name", "/dev/hde", "no such place"},
		{"a fifth IDE drive", with(Wanted{Bus: IDE}, Wanted{Bus: IDE}, Wanted{Bus: IDE}, Wanted{Bus: IDE}, Wanted{Bus: IDE}),
			TooManyDiskDevices, "disk_bus", "ide", "all 4 places"},
		{"a third floppy", with(Wanted{Type: Floppy}, Wanted{Type: Floppy}, Wanted{Type: Floppy}), TooManyDiskDevices, "disk_bus", "fdc", "all 2 places"},
		{"the operator's limit", Request{MaxDrives: &two, Volumes: []Wanted{{}, {Bus: SCSI}}}, TooManyDiskDevices, "max_disk_devices_to_attach", "3", "at most 2"},
		{"two first to boot", with(Wanted{BootIndex: first(0)}, Wanted{BootIndex: first(0)}), InvalidBDMBootSequence, "boot_index", "0", "two drives"},
		{"config drive", Request{ConfigDrive: "ext4"}, ConfigDriveUnknownFormat, "config_drive_format", "ext4", "iso9660 or vfat"},
		{"rescue device", Request{Rescue: &RescueImage{Stable: true, Properties: map[string]string{"hw_rescue_device": "fs"}}},
			UnsupportedRescueDevice, "hw_rescue_device", "fs", "not disk, cdrom"},
		{"rescue bus", Request{Rescue: &RescueImage{Stable: true, Properties: map[string]string{"hw_rescue_bus": "xen"}}},
			UnsupportedRescueBus, "hw_rescue_bus", "xen", "no such bus"},
		{"a rescue CD-ROM on virtio", Request{Rescue: &RescueImage{Stable: true, Properties: map[string]string{"hw_rescue_bus": "virtio", "hw_rescue_device": "cdrom"}}},
			UnsupportedHardware, "hw_rescue_bus", "virtio", "no CD-ROM"},
		{"a container", Request{VirtType: "lxc"}, UnsupportedVirtType, "virt_type", "lxc", "not known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Plan(c.req)
			var refused *Error
			if !errors.As(err, &refused) {
				t.Fatalf("got %v, %v; want an *Error", got, err)
			}
			if refused.Class != c.class || refused.Key != c.key || refused.Value != c.value || !strings.Contains(refused.Rule, c.rule) {
				t.Errorf("got %s, %v; want %s of %s=%q: ...%s...", refused.Class, err, c.class, c.key, c.value, c.rule)
			}
		})
	}
}

func TestAttach(t *testing.T) {
	r := Request{Properties: map[string]string{"hw_disk_bus": "scsi"}, Volumes: []Wanted{{Name: "sdb"}, {Name: "sdd"}}, ConfigDrive: ISO9660}
	got, err := Attach(r, Wanted{Name: "/dev/vdx", BootIndex: first(0)})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Drive{Role: Volume, Index: 2, Name: "sdc", Bus: SCSI, Type: Disk}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := Attach(Request{Machine: "q35"}, Wanted{Bus: IDE}); err == nil {
		t.Error("an IDE drive was attached to a machine without IDE")
	}
}

func TestBootOrder(t *testing.T) {
	m, err := Plan(Request{Volumes: []Wanted{{BootIndex: first(12)}, {Type: CDROM, BootIndex: first(2)}, {}, {Type: Floppy, BootIndex: first(3)}}})
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, d := range m.BootOrder() {
		names = append(names, d.Name)
	}
	if diff := cmp.Diff([]string{"vda", "hda", "fda", "vdb"}, names); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"hd", "cdrom", "fd"}, m.BootClasses()); diff != "" {
		t.Error(diff)
	}
}

func TestLetters(t *testing.T) {
	for index, want := range map[int]string{0: "a", 25: "z", 26: "aa", 27: "ab", 51: "az", 52: "ba", 701: "zz", 702: "aaa"} {
		if got := Letters(index); got != want {
			t.Errorf("Letters(%d) = %q, want %q", index, got, want)
		}
		if got := indexOf(want); got != index {
			t.Errorf("indexOf(%q) = %d, want %d", want, got, index)
		}
	}
}
