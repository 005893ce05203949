package blockdev

import (
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// requests draws what guests may ask for, some of it impossible.
func requests() *rapid.Generator[Request] {
	name := func(t *rapid.T, label string) string {
		if rapid.IntRange(0, 3).Draw(t, label+" named") > 0 {
			return ""
		}
		prefix := rapid.SampledFrom([]string{"vd", "sd", "hd", "/dev/vd", "fd", "nvme", ""}).Draw(t, label)
		return prefix + rapid.StringMatching(`[a-d]|zz|[a-z]{3}|1`).Draw(t, label)
	}
	wanted := func(t *rapid.T) Wanted {
		w := Wanted{
			Name:    name(t, "name"),
			Bus:     rapid.SampledFrom([]Bus{"", "", "", Virtio, SCSI, SATA, IDE, USB, FDC, "xen"}).Draw(t, "bus"),
			Type:    rapid.SampledFrom([]Type{"", "", Disk, CDROM, Floppy, LUN}).Draw(t, "type"),
			Implied: rapid.Bool().Draw(t, "implied"),
		}
		if rapid.Bool().Draw(t, "boots") {
			n := rapid.IntRange(-1, 12).Draw(t, "boot index")
			w.BootIndex = &n
		}
		return w
	}
	return rapid.Custom(func(t *rapid.T) Request {
		some := func(label string, most int) []Wanted {
			return rapid.SliceOfN(rapid.Custom(wanted), 0, most).Draw(t, label)
		}
		r := Request{
			Arch:       rapid.SampledFrom([]string{"x86_64", "i686", "aarch64", ""}).Draw(t, "arch"),
			Machine:    rapid.SampledFrom([]string{"", "pc", "q35", "virt", "pc-q35-9.0"}).Draw(t, "machine"),
			ISO:        rapid.Bool().Draw(t, "iso"),
			RootName:   name(t, "root"),
			Ephemerals: some("ephemerals", 3), Volumes: some("volumes", 8),
			ConfigDrive: rapid.SampledFrom([]string{"", ISO9660, VFAT}).Draw(t, "config drive"),
			Properties:  map[string]string{},
		}
		for _, key := range []string{PropDiskBus, PropCDROMBus, PropFloppyBus} {
			if v := rapid.SampledFrom([]string{"", "", "", "scsi", "sata", "ide", "virtio", "usb", "fdc"}).Draw(t, key); v != "" {
				r.Properties[key] = v
			}
		}
		if swap := some("swap", 1); len(swap) > 0 {
			r.Swap = &swap[0]
		}
		if rapid.Bool().Draw(t, "rescue") {
			r.Rescue = &RescueImage{Stable: rapid.Bool().Draw(t, "stable"), Properties: r.Properties}
		}
		if rapid.Bool().Draw(t, "limited") {
			n := rapid.IntRange(1, 12).Draw(t, "limit")
			r.MaxDrives = &n
		}
		return r
	})
}

// TestEveryDriveIsPlacedOnce holds what Plan promises for every request that it grants.
func TestEveryDriveIsPlacedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := requests().Draw(t, "request")
		m, err := Plan(r)
		var refused *Error
		if err != nil {
			if !errors.As(err, &refused) || refused.Class == "" || refused.Key == "" || refused.Rule == "" {
				t.Fatalf("refused without class, key or rule: %#v", err)
			}
			return
		}
		again, err := Plan(r)
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("the same request got %v and %v, %v", m, again, err)
		}
		checkRoles(t, r, m)
		checkNames(t, r, m)
		checkBoot(t, m)
	})
}

func checkRoles(t *rapid.T, r Request, m Mapping) {
	want := map[Role]int{Root: 1, Ephemeral: len(r.Ephemerals), Volume: len(r.Volumes)}
	if m.Root.Role == Volume {
		want[Root] = 0
	}
	if r.Swap != nil {
		want[Swap] = 1
	}
	if r.Rescue != nil {
		if !r.Rescue.Stable {
			want = map[Role]int{Root: 1}
		}
		want[Rescue] = 1
	}
	if r.ConfigDrive != "" {
		want[ConfigDrive] = 1
	}
	type key struct {
		role  Role
		index int
	}
	seen := map[key]bool{}
	for _, d := range m.Drives {
		if seen[key{d.Role, d.Index}] {
			t.Fatalf("%s %d is placed twice", d.Role, d.Index)
		}
		seen[key{d.Role, d.Index}] = true
		want[d.Role]--
	}
	for role, left := range want {
		if left != 0 {
			t.Fatalf("%d too few drives are %s: %v", left, role, m.Drives)
		}
	}
	if m.Root != m.Drives[0] {
		t.Fatalf("the root device %v is not first", m.Root)
	}
}

func checkNames(t *rapid.T, r Request, m Mapping) {
	names, buses := map[string]bool{}, map[Bus]int{}
	for _, d := range m.Drives {
		if names[d.Name] {
			t.Fatalf("%s is the name of two drives", d.Name)
		}
		names[d.Name] = true
		buses[d.Bus]++
		if fault := r.platform().fault(d); fault != "" {
			t.Fatalf("%v: %s", d, fault)
		}
		if d.Role == Volume && r.Volumes[d.Index].Name != "" && Strip(r.Volumes[d.Index].Name) != d.Name {
			t.Fatalf("volume %s became %s", r.Volumes[d.Index].Name, d.Name)
		}
	}
	if buses[IDE] > 4 || buses[FDC] > 2 || r.MaxDrives != nil && len(m.Drives) > *r.MaxDrives {
		t.Fatalf("more drives than there are places: %v", m.Drives)
	}
}

func checkBoot(t *rapid.T, m Mapping) {
	order := m.BootOrder()
	if len(order) == 0 {
		t.Fatal("the guest boots from nothing")
	}
	last := 0
	for _, d := range order {
		if d.BootIndex <= last {
			t.Fatalf("boot order %v", order)
		}
		last = d.BootIndex
	}
	if order[0] != m.Root && order[0].Role != Rescue {
		t.Fatalf("the guest boots %v first, not its root device", order[0])
	}
}
