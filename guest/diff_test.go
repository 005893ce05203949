package guest

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"compute-agent/internal/cpuset"
	"compute-agent/virt"
)

// noticed are the fields of a Spec that a guest's operating system notices, with the part and the property that a
// change of one is told by. A field of a slice or a struct is named by its path.
var noticed = map[string]string{
	"ID":        "system: UUID",
	"VirtType":  "machine: virtualization",
	"Arch":      "machine: architecture",
	"Machine":   "machine: type",
	"RootPorts": "machine: root ports",
	"VCPUs":     "CPU: vCPUs",
	"MemoryMiB": "memory: size",

	"CPU.Mode":            "CPU: mode",
	"CPU.Model":           "CPU: model",
	"CPU.Features.Name":   "CPU: features",
	"CPU.Features.Policy": "CPU: features",
	"CPU.Sockets":         "CPU: sockets",
	"CPU.Cores":           "CPU: cores",
	"CPU.Threads":         "CPU: threads",
	"CPU.PhysAddr.Mode":   "CPU: address mode",
	"CPU.PhysAddr.Bits":   "CPU: address bits",

	"Placement.Cells.VCPUs":     "NUMA cell 0: vCPUs",
	"Placement.Cells.MemoryMiB": "NUMA cell 0: size",
	"Placement.Cells.Distances": "NUMA cell 0: distances",

	"Encryption.Model":           "memory encryption: model",
	"Encryption.Policy":          "memory encryption: policy",
	"Encryption.CBitPos":         "memory encryption: C-bit position",
	"Encryption.ReducedPhysBits": "memory encryption: reduced address bits",

	"Firmware.UEFI":           "firmware: UEFI",
	"Firmware.SecureBoot":     "firmware: secure boot",
	"Firmware.Stateless":      "firmware: stateless",
	"Boot.Devices":            "boot: devices",
	"Boot.CommandLine":        "boot: command line",
	"Features.HideHypervisor": "features: hidden hypervisor",
	"Features.HyperV":         "features: Hyper-V",
	"Features.HyperVVendor":   "features: Hyper-V vendor",
	"Features.PMU":            "features: PMU",
	"Features.VMCoreInfo":     "features: vmcoreinfo",
	"Features.IOAPIC":         "features: IOAPIC",
	"Clock.LocalTime":         "clock: local time",
	"Clock.HPET":              "clock: HPET",
	"Clock.HyperV":            "clock: Hyper-V time source",
	"SMBIOS.Serial":           "system: serial",

	"Disks.Target":           "disk sTarget: target",
	"Disks.Bus":              "disk sTarget: bus",
	"Disks.Kind":             "disk sTarget: kind",
	"Disks.ReadOnly":         "disk sTarget: read only",
	"Disks.Serial":           "disk sTarget: serial",
	"Disks.WWN":              "disk sTarget: WWN",
	"Disks.Boot":             "disk sTarget: boot position",
	"Disks.BlockIO.Logical":  "disk sTarget: logical block size",
	"Disks.BlockIO.Physical": "disk sTarget: physical block size",
	"Disks.Unit":             "disk sTarget: unit",
	"Disks.Packed":           "disk sTarget: packed ring",

	"NICs.MAC":        "NIC 1: MAC",
	"NICs.Model":      "NIC 1: model",
	"NICs.MTU":        "NIC 1: MTU",
	"NICs.Queues":     "NIC 1: queues",
	"NICs.RxRing":     "NIC 1: receive ring",
	"NICs.TxRing":     "NIC 1: transmit ring",
	"NICs.Packed":     "NIC 1: packed ring",
	"NICs.Boot":       "NIC 1: boot position",
	"NICs.DisableROM": "NIC 1: boot ROM",

	"Shares.Tag":                "share sTag: tag",
	"Channels.GuestAgent":       "channels: guest agent",
	"Channels.SPICE":            "channels: SPICE agent",
	"Video.Model":               "video: model",
	"Video.RAMMiB":              "video: memory",
	"Inputs.Type":               "input 1: type",
	"Inputs.Bus":                "input 1: bus",
	"SCSI":                      "SCSI controller: model",
	"Sound":                     "sound: model",
	"USB.Controller":            "USB: controller",
	"USB.RedirectedPorts":       "USB: redirected ports",
	"TPM.Version":               "TPM: version",
	"TPM.Model":                 "TPM: model",
	"Watchdog":                  "watchdog: action",
	"NVDIMMs.SizeKiB":           "NVDIMM 1: size",
	"IOMMU.Model":               "IOMMU: model",
	"IOMMU.CachingMode":         "IOMMU: caching mode",
	"IOMMU.EIM":                 "IOMMU: EIM",
	"IOMMU.InterruptRemapping":  "IOMMU: interrupt remapping",
	"IOMMU.IOTLB":               "IOMMU: IOTLB",
	"IOMMU.AddressBits":         "IOMMU: address bits",
	"Balloon.None":              "balloon: ",
	"Balloon.AutoDeflate":       "balloon: deflates by itself",
	"Balloon.FreePageReporting": "balloon: free page reporting",
}

// unnoticed are those that it does not notice, by why.
var unnoticed = map[string][]string{
	"the host's files": {"Emulator", "Boot.Kernel", "Boot.Initrd", "Disks.Source.File", "Disks.Source.Device", "Disks.Format",
		"Disks.Backing.Path", "Disks.Backing.Format", "Disks.Unstated", "Disks.Shared", "Shares.Path", "RNG.Source", "NVDIMMs.Path", "NVDIMMs.AlignKiB"},
	"how the host reaches a drive": {"Disks.Source.Network.Protocol", "Disks.Source.Network.Name", "Disks.Source.Network.Hosts.Host",
		"Disks.Source.Network.Hosts.Port", "Disks.Source.Network.Auth.User", "Disks.Source.Network.Auth.Type", "Disks.Source.Network.Auth.UUID",
		"Disks.Source.Network.Initiator", "Disks.Key.Format", "Disks.Key.Secret", "TPM.Secret"},
	"how lost ticks reach it":         {"Clock.CatchUp"},
	"how the host does a drive's I/O": {"IOThreads", "Disks.Cache", "Disks.IO", "Disks.Discard", "Disks.DetectZeroes"},
	"limits": {"CPUTime.Shares", "CPUTime.Period", "CPUTime.Quota", "RNG.Bytes", "RNG.Period",
		"Disks.Tune.TotalBytes", "Disks.Tune.ReadBytes", "Disks.Tune.WriteBytes", "Disks.Tune.TotalIOPS", "Disks.Tune.ReadIOPS", "Disks.Tune.WriteIOPS",
		"Disks.Tune.TotalBytesMax", "Disks.Tune.ReadBytesMax", "Disks.Tune.WriteBytesMax", "Disks.Tune.TotalIOPSMax", "Disks.Tune.ReadIOPSMax",
		"Disks.Tune.WriteIOPSMax", "Disks.Tune.SizeIOPS",
		"NICs.Bandwidth.Inbound.Average", "NICs.Bandwidth.Inbound.Peak", "NICs.Bandwidth.Inbound.Burst",
		"NICs.Bandwidth.Outbound.Average", "NICs.Bandwidth.Outbound.Peak", "NICs.Bandwidth.Outbound.Burst"},
	"where on the host it runs": {"Placement.VCPUs", "Placement.Floating", "Placement.Emulator", "Placement.Realtime", "Placement.RealtimePriority",
		"Placement.Cells.HostCell", "Placement.Cells.PageKiB"},
	"what the host makes its memory of": {"Memory.FileBacked", "Memory.Shared", "Memory.Discard", "Memory.Memfd", "Memory.Locked", "Memory.Unshared",
		"Features.TCGCacheMiB"},
	"the host's end of a NIC; only a device of the host's own is another one": {"NICs.Attach.Type", "NICs.Attach.Bridge", "NICs.Attach.Port",
		"NICs.Attach.Device", "NICs.Attach.Mode", "NICs.Attach.Socket", "NICs.Attach.Address", "NICs.Attach.VLAN", "NICs.Attach.Profile",
		"NICs.Attach.Managed", "NICs.Attach.Existing", "NICs.Target", "NICs.Driver"},
	"the host's end of a console or channel": {"Serial.Type", "Serial.Host", "Serial.Port", "Serial.Path", "Serial.Log", "Serial.AppendLog",
		"Channels.GuestAgentSocket", "Graphics.Type", "Graphics.Listen", "Graphics.Keymap",
		"Graphics.SPICE.Secure", "Graphics.SPICE.ImageCompression", "Graphics.SPICE.JPEGCompression", "Graphics.SPICE.ZlibCompression",
		"Graphics.SPICE.PlaybackCompression", "Graphics.SPICE.StreamingMode"},
	"which of the host's devices it is":                 {"PCI.Address", "PCI.Managed", "Mediated.UUID"},
	"names of the host's":                               {"Name", "Title", "Disks.Alias", "NICs.Alias", "PCI.Alias"},
	"it is gone when the guest's operating system runs": {"Firmware.BootMenu"},
	"how often the host asks, and what it counts":       {"Balloon.Period", "PerfEvents"},
	"what other tools read": {"Metadata.Package", "Metadata.Name", "Metadata.Created", "Metadata.Flavor.ID", "Metadata.Flavor.Name",
		"Metadata.Flavor.MemoryMiB", "Metadata.Flavor.DiskGiB", "Metadata.Flavor.EphemeralGiB", "Metadata.Flavor.SwapMiB", "Metadata.Flavor.VCPUs",
		"Metadata.UserID", "Metadata.UserName", "Metadata.ProjectID", "Metadata.Project", "Metadata.RootType", "Metadata.RootID",
		"Metadata.Ports.ID", "Metadata.Ports.IPs.Address", "Metadata.Ports.IPs.Version"},
}

// leaf is a field of a value that has no fields of its own.
type leaf struct {
	path  string
	value reflect.Value
}

var whole = []reflect.Type{reflect.TypeFor[cpuset.Set](), reflect.TypeFor[time.Time](), reflect.TypeFor[[]string](), reflect.TypeFor[[]int](),
	reflect.TypeFor[[]cpuset.Set]()}

// leaves are all fields of v, pointers followed and slices by their elements. fill makes what is not there.
func leaves(path string, v reflect.Value, fill func(reflect.Value)) []leaf {
	if slices.Contains(whole, v.Type()) {
		return []leaf{{path, v}}
	}
	switch v.Kind() {
	case reflect.Pointer:
		fill(v)
		if v.IsNil() {
			return nil
		}
		return leaves(path, v.Elem(), fill)
	case reflect.Slice:
		fill(v)
		var all []leaf
		for i := range v.Len() {
			all = append(all, leaves(path, v.Index(i), fill)...)
		}
		return all
	case reflect.Struct:
		var all []leaf
		for i := range v.NumField() {
			all = append(all, leaves(strings.TrimPrefix(path+"."+v.Type().Field(i).Name, "."), v.Field(i), fill)...)
		}
		return all
	}
	return []leaf{{path, v}}
}

// one makes one of what there may be none of.
func one(v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), 1, 1))
}

// everything is a Spec that has one of all there is, every field set to something of its own but the yes-or-nos,
// which are no. It makes no sense as a guest.
func everything(t fataler) (*virt.Spec, []leaf) {
	spec := new(virt.Spec)
	all := leaves("", reflect.ValueOf(spec).Elem(), one)
	for i, l := range all {
		set(t, l, i+1)
	}
	return spec, all
}

type fataler interface{ Fatalf(string, ...any) }

func set(t fataler, l leaf, n int) {
	name := "s" + l.path[strings.LastIndexByte(l.path, '.')+1:]
	switch v := l.value; v.Interface().(type) {
	case cpuset.Set:
		v.Set(reflect.ValueOf(cpuset.Of(n)))
	case []cpuset.Set:
		v.Set(reflect.ValueOf([]cpuset.Set{cpuset.Of(n)}))
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(int64(n), 0)))
	case []string:
		v.Set(reflect.ValueOf([]string{name}))
	case []int:
		v.Set(reflect.ValueOf([]int{n}))
	case bool:
	default:
		switch v.Kind() {
		case reflect.String:
			v.SetString(name)
		case reflect.Int, reflect.Int64:
			v.SetInt(int64(n))
		case reflect.Uint32, reflect.Uint64:
			v.SetUint(uint64(n))
		default:
			t.Fatalf("%s: a field of kind %s; say in this test how it is set and changed", l.path, v.Kind())
		}
	}
}

// flip gives a field another value.
func flip(t fataler, l leaf) {
	if l.value.Kind() == reflect.Bool {
		l.value.SetBool(!l.value.Bool())
		return
	}
	if l.value.Kind() == reflect.String {
		l.value.SetString(l.value.String() + "x")
		return
	}
	set(t, l, 1000)
	if list, ok := l.value.Interface().([]string); ok {
		list[0] += "x"
	}
}

// Every field of a Spec is one that the guest notices, and then a change of it is told, in one line that names it, or one
// that it does not notice, and then nothing is said. A new field is neither until somebody says which.
func TestEveryFieldIsClassified(t *testing.T) {
	why := map[string]string{}
	for reason, paths := range unnoticed {
		for _, path := range paths {
			why[path] = reason
		}
	}
	was, fields := everything(t)
	for i, field := range fields {
		is, copies := everything(t)
		flip(t, copies[i])
		changes := Changes(*was, *is)
		want, seen := noticed[field.path]
		reason, unseen := why[field.path]
		switch {
		case seen == unseen:
			t.Errorf("virt.Spec's field %s: say in noticed or in unnoticed, and not in both, whether a guest's operating system notices it", field.path)
		case seen && (len(changes) != 1 || changes[0].Part+": "+changes[0].Property != want):
			t.Errorf("%s changed: got %v, want one change of %q", field.path, changes, want)
		case unseen && len(changes) > 0:
			t.Errorf("%s changed, which is %s: got %v", field.path, reason, changes)
		}
	}
	if classified := len(noticed) + len(why); classified != len(fields) {
		t.Errorf("%d fields are classified, virt.Spec has %d: one is twice among them or has gone", classified, len(fields))
	}
	t.Logf("%d fields of virt.Spec, %d of them noticed by the guest", len(fields), len(noticed))
}

// What was changed is told, all of it and nothing else, whatever has changed at once beside it.
func TestChangesAreThoseMade(t *testing.T) {
	_, fields := everything(t)
	rapid.Check(t, func(r *rapid.T) {
		was, _ := everything(r)
		is, copies := everything(r)
		want := map[string]bool{}
		for _, i := range rapid.SliceOfDistinct(rapid.IntRange(0, len(fields)-1), rapid.ID[int]).Draw(r, "fields") {
			path := fields[i].path
			if path == "Balloon.None" || path == "Shares.Path" || noticed[path] == "" && strings.HasPrefix(path, "Disks.Source.") {
				continue // takes others away; makes another share, another disk of it
			}
			flip(r, copies[i])
			if told := noticed[path]; told != "" {
				want[told] = true
			}
		}
		got := map[string]bool{}
		for _, c := range Changes(*was, *is) {
			got[c.Part+": "+c.Property] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			r.Fatalf("(-made +told)\n%s", diff)
		}
		for _, c := range Changes(*is, *is) {
			r.Errorf("a Spec differs from itself: %v", c)
		}
	})
}

func TestChangesInWords(t *testing.T) {
	disk := func(file, target, bus string) virt.Disk {
		return virt.Disk{Source: virt.Source{File: file}, Format: "qcow2", Target: target, Bus: bus}
	}
	nic := func(mac string) virt.NIC {
		return virt.NIC{MAC: mac, Model: "virtio", Attach: virt.Attachment{Type: "ethernet"}}
	}
	for _, c := range []struct {
		name    string
		was, is virt.Spec
		want    []string
	}{
		{"nothing", virt.Spec{}, virt.Spec{}, nil},
		{"another board", virt.Spec{Machine: "pc-i440fx-7.2"}, virt.Spec{Machine: "pc-q35-9.2"}, []string{"machine: type pc-i440fx-7.2 -> pc-q35-9.2"}},
		{"a disk on another bus is the same disk",
			virt.Spec{Disks: []virt.Disk{disk("/d/root", "vda", "virtio"), disk("/d/more", "vdb", "virtio")}},
			virt.Spec{Disks: []virt.Disk{disk("/d/more", "vda", "virtio"), disk("/d/root", "sda", "scsi")}},
			[]string{"disk vda: target vda -> sda", "disk vda: bus virtio -> scsi", "disk vdb: target vdb -> vda"}},
		{"a disk whose file has moved", virt.Spec{Disks: []virt.Disk{disk("/d/root", "vda", "virtio")}},
			virt.Spec{Disks: []virt.Disk{disk("/e/root", "vda", "virtio")}}, nil},
		{"disks come and go", virt.Spec{Disks: []virt.Disk{disk("/d/root", "vda", "virtio")}}, virt.Spec{Disks: []virt.Disk{disk("/d/x", "sda", "sata")}},
			[]string{"gone: disk vda: target vda, bus virtio, kind disk", "new: disk sda: target sda, bus sata, kind disk"}},
		{"a CD-ROM is read-only without saying so", virt.Spec{Disks: []virt.Disk{{Target: "hda", Bus: "ide", Kind: "cdrom"}}},
			virt.Spec{Disks: []virt.Disk{{Target: "hda", Bus: "ide", Kind: "cdrom", ReadOnly: true}}}, nil},
		{"NICs in another order", virt.Spec{NICs: []virt.NIC{nic("fa:16:3e:00:00:01"), nic("fa:16:3e:00:00:02")}},
			virt.Spec{NICs: []virt.NIC{nic("FA:16:3E:00:00:02"), nic("fa:16:3e:00:00:01")}},
			[]string{"NIC 1: place 1 -> 2", "NIC 2: place 2 -> 1", "NIC 2: MAC fa:16:3e:00:00:02 -> FA:16:3E:00:00:02"}},
		{"a device of the host's own", virt.Spec{NICs: []virt.NIC{nic("fa:16:3e:00:00:01")}},
			virt.Spec{NICs: []virt.NIC{{MAC: "fa:16:3e:00:00:01", Model: "virtio", Attach: virt.Attachment{Type: "hostdev", Address: "0000:81:10.1"}}}},
			[]string{"NIC 1: host device no -> yes"}},
		{"devices come and go", virt.Spec{TPM: &virt.TPM{Version: "2.0", Model: "tpm-crb"}, Watchdog: "reset"}, virt.Spec{RNG: &virt.RNG{}, PCI: make([]virt.PCIDevice, 1)},
			[]string{"gone: TPM: version 2.0, model tpm-crb", "gone: watchdog: action reset", "new: random number generator", "new: PCI device 1"}},
		{"a number that was left to the hypervisor", virt.Spec{RootPorts: 0}, virt.Spec{RootPorts: 8}, []string{"machine: root ports unset -> 8"}},
		{"flags in another order", virt.Spec{CPU: virt.CPU{Features: []virt.CPUFeature{{Name: "vmx", Policy: "disable"}, {Name: "avx"}}}},
			virt.Spec{CPU: virt.CPU{Features: []virt.CPUFeature{{Name: "avx", Policy: "require"}, {Name: "vmx", Policy: "disable"}}}}, nil},
		{"address bits", virt.Spec{}, virt.Spec{CPU: virt.CPU{PhysAddr: &virt.PhysAddr{Mode: "emulate", Bits: 42}}},
			[]string{"CPU: address mode unset -> emulate", "CPU: address bits unset -> 42"}},
		{"a kernel from the host", virt.Spec{}, virt.Spec{Boot: virt.Boot{Kernel: "/k", CommandLine: "quiet\x1b[2J"}},
			[]string{"boot: kernel from the host no -> yes", `boot: command line unset -> "quiet\x1b[2J"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, change := range Changes(c.was, c.is) {
				got = append(got, change.String())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
