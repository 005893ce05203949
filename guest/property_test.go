package guest

import (
	"errors"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"compute-agent/hwprops"
	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/virt"
)

// TestDefineProperty: whatever a user and an operator say, there is a Spec that does not contradict itself, or an
// error of a kind that is known; what is refused because flavor and image do not go together is named.
func TestDefineProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		spec, err := Define(r)
		if err == nil {
			if err := spec.Validate(); err != nil {
				t.Fatalf("%v\n%v", err, words(r))
			}
			return
		}
		if errors.Is(err, virt.ErrInvalid) {
			t.Fatalf("refused without a name: %v\n%v", err, words(r))
		}
		named := []any{new(*Error), new(*LostPlace), new(*hwprops.Error), new(*numa.Error)}
		for _, kind := range named {
			if errors.As(err, kind) {
				return
			}
		}
		t.Fatalf("an error of no kind: %v", err)
	})
}

// TestDefineOfAnything: no service's answer and no user's word makes Define panic or return a Spec that contradicts
// itself.
func TestDefineOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		text := func(label string) string {
			return rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "<x/>", "vda", "sda", "virtio", "scsi", "cdrom", "/a", "ovs", "../..", "\x00"})).Draw(t, label)
		}
		r.Server.Title, r.Server.Name, r.Server.GuestName, r.Server.ID = text("title"), text("name"), text("guest name"), text("ID")
		r.ConsoleLog, r.TPMSecret, r.Server.Kernel, r.Server.Initrd = text("log"), text("secret"), text("kernel"), text("initrd")
		r.Drives = append(r.Drives, Drive{
			Role: Role(text("role")), Target: text("target"), Bus: text("bus"), Kind: text("kind"), Boot: rapid.Int().Draw(t, "boot"),
			Source: virt.Source{File: text("file"), Device: text("device")}, Format: text("format"), VolumeID: text("volume"), Serial: text("serial"),
			IO: text("I/O"), Discard: text("discard"), SourceType: text("source type"),
		})
		r.Ports = append(r.Ports, Port{
			ID: text("port"), MAC: text("MAC"), VNICType: text("VNIC type"), VIFType: text("VIF type"), Bridge: text("bridge"), Device: text("tap"),
			MTU: rapid.Int().Draw(t, "MTU"), PCISlot: text("slot"), Details: PortDetails{Socket: text("socket"), VLAN: rapid.Int().Draw(t, "VLAN")},
		})
		r.Flavor.VCPUs, r.Flavor.MemoryMiB = rapid.IntRange(-1, 600).Draw(t, "any vCPUs"), rapid.Int().Draw(t, "any memory")
		if spec, err := Define(r); err == nil {
			if err := spec.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// drawRequest draws extra specs and properties out of the table of all of them, with right words and wrong ones.
func drawRequest(t *rapid.T) Request {
	r := plain()
	r.Flavor.ExtraSpecs, r.Image.Properties = map[string]string{}, map[string]string{}
	r.Flavor.VCPUs = rapid.SampledFrom([]int{1, 2, 3, 4, 8, 512, -1, 0}).Draw(t, "vCPUs")
	if r.Flavor.VCPUs < 1 {
		r.Flavor.VCPUs = 1 // a flavor has one at least
	}
	var settings []*hwprops.Setting
	for _, g := range hwprops.Settings() {
		settings = append(settings, g.Settings...)
	}
	for range rapid.IntRange(0, 6).Draw(t, "settings") {
		s := rapid.SampledFrom(settings).Draw(t, "setting")
		value := drawValue(t, s)
		if s.Spec != "" && (s.Property == "" || rapid.Bool().Draw(t, "flavor")) {
			r.Flavor.ExtraSpecs[s.Spec] = value
		} else {
			r.Image.Properties[s.Property] = value
		}
	}
	drawOptions(t, &r)
	drawHost(t, &r)
	drawDevices(t, &r)
	return r
}

func drawValue(t *rapid.T, s *hwprops.Setting) string {
	if len(s.Words) > 0 && rapid.IntRange(0, 9).Draw(t, "right") > 0 {
		return rapid.SampledFrom(s.Words).Draw(t, "word")
	}
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", "yes", "no", "0", "1", "2", "5", "64", "1000000", "-1", "9223372036854775807", "99999999999999999999", "^0", "0-1",
			"large", "any", "q35", "uefi", "</domain>", "\x00", "\xff", "virt", "pc"}),
		rapid.String(),
	).Draw(t, "value")
}

func drawOptions(t *rapid.T, r *Request) {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	o := &r.Options
	o.CPUMode = pick("mode", "", "host-model", "host-passthrough", "maximum", "none")
	o.VNC, o.SPICE = pick("VNC", "", "127.0.0.1"), pick("SPICE", "", "::1")
	o.FileBacked, o.NativeIO, o.NoSPICEAgent = rapid.Bool().Draw(t, "files"), rapid.Bool().Draw(t, "native"), rapid.Bool().Draw(t, "agent")
	o.RXQueueSize, o.TXQueueSize, o.RootPorts = rapid.SampledFrom([]int{0, 512}).Draw(t, "rx"), rapid.SampledFrom([]int{0, 256}).Draw(t, "tx"), rapid.IntRange(0, 28).Draw(t, "ports")
	o.TCGCacheMiB = rapid.SampledFrom([]int{0, 32}).Draw(t, "cache")
	o.CPUFlags = rapid.SampledFrom([][]string{nil, {"pcid", "-PCID", "vmx"}}).Draw(t, "flags")
	if rapid.Bool().Draw(t, "machine") {
		o.Machines = map[string]string{"x86_64": "q35"}
	}
	if rapid.Bool().Draw(t, "serial sockets") {
		o.SerialSockets, r.SerialSocket = true, "/state/serial"
	}
	if rapid.Bool().Draw(t, "serial console") {
		o.SerialConsole, r.SerialPorts = "10.0.0.1", []int{1, 2, 3, 4}
	}
	r.DirectIO = rapid.Bool().Draw(t, "direct")
}

func drawHost(t *rapid.T, r *Request) {
	r.Host.VirtType = rapid.SampledFrom([]string{"kvm", "qemu"}).Draw(t, "virt type")
	r.Host.Arch = rapid.SampledFrom([]string{"x86_64", "aarch64", "ppc64le"}).Draw(t, "arch")
	r.Host.LibraryVersion = rapid.SampledFrom([]int{0, 8_002_000, 9_000_000}).Draw(t, "libvirt")
	shared, dedicated := cpuset.Range(0, 15), cpuset.Range(16, 31)
	r.NUMA = numa.Config{SharedSet: &shared, DedicatedSet: &dedicated}
	r.Cells = numa.Host{Cells: []numa.HostCell{{
		ID: 0, Shared: shared, Dedicated: dedicated, MemoryMiB: 1 << 20, Pages: []numa.Pages{{SizeKiB: 4, Total: 1 << 28}, {SizeKiB: 2048, Total: 1 << 20}},
	}}}
	for cpu := range 32 {
		r.Cells.Cells[0].Siblings = append(r.Cells.Cells[0].Siblings, cpuset.Of(cpu))
	}
	asks, err := r.numa().Constraints()
	if err != nil || asks == nil {
		return
	}
	if placed, fits := numa.Fit(r.Cells, *asks, numa.Options{}); fits {
		r.Placed = &placed
	}
}

func drawDevices(t *rapid.T, r *Request) {
	if rapid.Bool().Draw(t, "volume") {
		r.Drives = append(r.Drives, volume("vdb", "virtio", "1"), volume("sda", "scsi", "2"))
	}
	if rapid.Bool().Draw(t, "shares") {
		r.Shares = []virt.Share{{Path: "/mnt/a", Tag: "a"}}
	}
	if rapid.Bool().Draw(t, "kernel") {
		r.Server.Kernel = "/k"
	}
	for _, vifType := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{
		"bridge", "ovs", "vhostuser", "hw_veb", "hostdev_physical", "802.1qbh", "tap", "macvtap", "unbound", "vrouter", "agilio_ovs",
	}), 0, 1, rapid.ID).Draw(t, "ports") {
		p := port(vifType)
		p.VNICType = rapid.SampledFrom([]string{"", "normal", "direct", "macvtap", "virtio-forwarder"}).Draw(t, "vnic type")
		p.PCISlot, p.PhysDev = "0000:81:10.1", "enp1"
		p.Details = PortDetails{Socket: "/run/vhu", MacvtapSource: "eth1", MacvtapMode: "bridge", PhysicalDevice: "eth1", VLAN: 7}
		p.Addresses = []netip.Addr{{}}
		r.Ports = append(r.Ports, p)
	}
	for range len(hwprops.Source{ExtraSpecs: r.Flavor.ExtraSpecs}.PersistentMemory()) {
		if r.Placed == nil {
			break // it lies in a cell
		}
		r.PMEM = append(r.PMEM, virt.NVDIMM{Path: "/dev/dax0.0", SizeKiB: 4 << 20})
	}
}
