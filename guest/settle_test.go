package guest

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"compute-agent/blockdev"
	"compute-agent/virt"
)

// hostOf is a host whose QEMU has a version: its aliases stand for that version's machine types.
func hostOf(version string) virt.Host {
	h := virt.Host{VirtType: "kvm", Arch: "x86_64", LibraryVersion: 9_000_000}
	for _, family := range []struct{ alias, prefix string }{{"pc", "pc-i440fx-"}, {"q35", "pc-q35-"}} {
		for _, v := range []string{"7.2", "9.2"} {
			m := virt.MachineType{Arch: "x86_64", Name: family.prefix + v, MaxVCPUs: 255}
			if v == version {
				m.Aliases = []string{family.alias}
			}
			h.Machines = append(h.Machines, m)
		}
	}
	return h
}

// server is a request for a server of an image, with a NIC.
func server(h virt.Host, opt Options, properties map[string]string) Request {
	return Request{
		Server: Server{ID: "11111111-1111-4111-8111-111111111111", GuestName: "g"}, Flavor: Flavor{VCPUs: 1, MemoryMiB: 64},
		Image: Image{Properties: properties}, Host: h, Options: opt,
		Ports: []Port{{ID: "22222222-2222-4222-8222-222222222222", MAC: "fa:16:3e:00:00:01", VNICType: "normal", VIFType: "bridge", Bridge: "br0"}},
	}
}

// defineAll places the drives of a server with a root disk and a config drive, and defines its guest.
func defineAll(r Request) (virt.Spec, blockdev.Mapping, error) {
	arch, machine, err := r.Machine()
	if err != nil {
		return virt.Spec{}, blockdev.Mapping{}, err
	}
	places, err := blockdev.Plan(blockdev.Request{
		VirtType: r.Host.VirtType, Arch: arch, Machine: machine, Properties: r.Properties(), ConfigDrive: blockdev.ISO9660,
	})
	if err != nil {
		return virt.Spec{}, places, err
	}
	r.Drives = nil
	for _, p := range places.Drives {
		d := Drive{Role: Role(p.Role), Target: p.Name, Bus: string(p.Bus), Boot: p.BootIndex, Source: virt.Source{File: "/d/" + string(p.Role)}, Format: "raw"}
		if p.Type != blockdev.Disk {
			d.Kind = string(p.Type)
		}
		r.Drives = append(r.Drives, d)
	}
	spec, err := Define(r)
	return spec, places, err
}

// settledFor settles the hardware of a server, and defines its guest with and without.
func settledFor(t interface{ Fatalf(string, ...any) }, r Request) (before, after virt.Spec, settled map[string]string) {
	before, places, err := defineAll(r)
	if err != nil {
		t.Fatalf("define: %v", err)
	}
	if settled, err = r.Settle(places); err != nil {
		t.Fatalf("settle: %v", err)
	}
	r.Settled = settled
	if after, _, err = defineAll(r); err != nil {
		t.Fatalf("define with %v: %v", settled, err)
	}
	return before, after, settled
}

func TestSettle(t *testing.T) {
	plain := map[string]string{
		"hw_machine_type": "pc-i440fx-7.2", "hw_disk_bus": "virtio", "hw_cdrom_bus": "ide", "hw_video_model": "virtio",
		"hw_vif_model": "virtio", "hw_pointer_model": "usbtablet", "hw_input_bus": "usb",
	}
	with := func(changes map[string]string) map[string]string {
		settled := maps.Clone(plain)
		maps.Copy(settled, changes)
		return settled
	}
	for _, c := range []struct {
		name       string
		host       virt.Host
		opt        Options
		properties map[string]string
		want       map[string]string
	}{
		{"nothing said", hostOf("7.2"), Options{}, nil, plain},
		{"a newer QEMU", hostOf("9.2"), Options{}, nil, with(map[string]string{"hw_machine_type": "pc-i440fx-9.2"})},
		{"a host that does not tell", virt.Host{VirtType: "qemu", Arch: "x86_64"}, Options{}, nil, with(map[string]string{"hw_machine_type": "pc"})},
		{"the operator's machine", hostOf("7.2"), Options{Machines: map[string]string{"x86_64": "q35"}}, nil,
			with(map[string]string{"hw_machine_type": "pc-q35-7.2", "hw_cdrom_bus": "sata"})},
		{"the image's machine", hostOf("9.2"), Options{Machines: map[string]string{"x86_64": "q35"}}, map[string]string{"hw_machine_type": "pc-i440fx-7.2"}, plain},
		{"the image's devices", hostOf("7.2"), Options{}, map[string]string{"hw_disk_bus": "scsi", "hw_cdrom_bus": "sata", "hw_video_model": "qxl", "hw_vif_model": "e1000", "hw_input_bus": "virtio"},
			with(map[string]string{"hw_disk_bus": "scsi", "hw_cdrom_bus": "sata", "hw_video_model": "qxl", "hw_vif_model": "e1000", "hw_input_bus": "virtio"})},
		{"no pointer", hostOf("7.2"), Options{PointerModel: "ps2mouse"}, nil, with(map[string]string{"hw_pointer_model": "", "hw_input_bus": ""})},
		{"NICs left to the hypervisor", hostOf("7.2"), Options{HypervisorNICs: true}, nil, with(map[string]string{"hw_vif_model": ""})},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, settled := settledFor(t, server(c.host, c.opt, c.properties))
			if diff := cmp.Diff(c.want, settled); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestSettleRefuses(t *testing.T) {
	r := server(hostOf("7.2"), Options{}, map[string]string{"hw_machine_type": "pc'/>"})
	if settled, err := r.Settle(blockdev.Mapping{}); err == nil {
		t.Errorf("settled as %v", settled)
	}
}

// To settle a server's hardware changes nothing of its guest but the name of its machine type; and once it is settled
// neither another hypervisor nor other options do.
func TestSettledHardwareStays(t *testing.T) {
	images := map[string][]string{
		"hw_machine_type": {"", "pc", "q35", "pc-i440fx-7.2", "pc-q35-9.2"}, "hw_disk_bus": {"", "virtio", "scsi", "sata", "usb"},
		"hw_cdrom_bus": {"", "sata", "scsi", "usb"}, "hw_video_model": {"", "vga", "qxl"}, "hw_vif_model": {"", "virtio", "e1000"},
		"hw_pointer_model": {"", "usbtablet"}, "hw_input_bus": {"", "usb", "virtio"},
	}
	rapid.Check(t, func(t *rapid.T) {
		options := func(label string) Options {
			return Options{
				Machines:     map[string]string{"x86_64": rapid.SampledFrom([]string{"pc", "q35", "pc-q35-7.2"}).Draw(t, label+" machine")},
				PointerModel: rapid.SampledFrom([]string{"", "usbtablet", "ps2mouse"}).Draw(t, label+" pointer"), HypervisorNICs: rapid.Bool().Draw(t, label+" NICs"),
				VNC: "127.0.0.1", SPICE: rapid.SampledFrom([]string{"", "127.0.0.1"}).Draw(t, label+" SPICE"),
			}
		}
		properties := map[string]string{}
		for _, key := range slices.Sorted(maps.Keys(images)) {
			if value := rapid.SampledFrom(images[key]).Draw(t, key); value != "" {
				properties[key] = value
			}
		}
		old := server(hostOf("7.2"), options("old"), properties)
		before, after, settled := settledFor(t, old)
		before.Machine = old.Host.CanonicalMachine("x86_64", before.Machine)
		if diff := cmp.Diff(before, after); diff != "" {
			t.Fatalf("settling as %v changed the guest (-before +after)\n%s", settled, diff)
		}
		upgraded := server(hostOf("9.2"), options("new"), properties)
		upgraded.Settled, upgraded.Options.SPICE = settled, old.Options.SPICE
		now, _, err := defineAll(upgraded)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if changes := Changes(after, now); len(changes) > 0 {
			t.Fatalf("settled as %v, and yet %v", settled, changes)
		}
	})
}
