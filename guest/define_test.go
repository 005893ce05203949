package guest

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"compute-agent/hwprops"
	"compute-agent/internal/cpuset"
	"compute-agent/internal/golden"
	"compute-agent/numa"
	"compute-agent/virt"
)

// plain is a server that asks for nothing, on a host of Nova's defaults.
func plain() Request {
	return Request{
		Server: Server{
			ID: "cb6d28b6-2f1a-4d2c-a2b3-1f0c6ae6a3f4", GuestName: "instance-00000001", Name: "Acme <web> & co",
			Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), UserID: "u", UserName: "demo", ProjectID: "p", ProjectName: "acme",
			RootType: "image", RootID: "155d900f-4e14-4e4c-a73d-069cbf4541e6",
		},
		Flavor:     Flavor{ID: "2", Name: "m1.small", VCPUs: 2, MemoryMiB: 2048, DiskGiB: 10},
		Image:      Image{Format: "qcow2"},
		Drives:     []Drive{rootDisk()},
		DirectIO:   true,
		ConsoleLog: "/state/1/console.log",
		Host:       virt.Host{VirtType: "kvm", Arch: "x86_64", Emulator: "/usr/bin/qemu-system-x86_64"},
		Options:    Options{VNC: "127.0.0.1"},
		Package:    "1.2.3",
	}
}

func rootDisk() Drive {
	return Drive{
		Role: RoleRoot, Target: "vda", Bus: "virtio", Boot: 1, Source: virt.Source{File: "/state/1/disk"}, Format: "qcow2",
		Backing: []virt.Backing{{Path: "/state/base", Format: "raw"}},
	}
}

func volume(target, bus string, n string) Drive {
	id := "44444444-4444-4444-4444-00000000000" + n
	return Drive{
		Role: RoleVolume, Target: target, Bus: bus, VolumeID: id, Serial: id, Source: virt.Source{Device: "/dev/disk/by-path/lun-" + n}, Format: "raw",
	}
}

func port(vifType string) Port {
	return Port{
		ID: "d3c1d3f0-5a8b-4a53-b54e-4f3b8c6a7e10", MAC: "fa:16:3e:00:00:01", VNICType: "normal", VIFType: vifType, Bridge: "br-int",
		Device: "tapd3c1d3f0-50", MTU: 1450, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("2001:db8::3")},
	}
}

// change makes another request of plain. Words are extra specs (with a colon) and image properties, key=value.
func change(words string, more ...func(*Request)) Request {
	r := plain()
	r.Flavor.ExtraSpecs, r.Image.Properties = map[string]string{}, map[string]string{}
	for word := range strings.FieldsSeq(words) {
		key, value, _ := strings.Cut(word, "=")
		if strings.Contains(key, ":") {
			r.Flavor.ExtraSpecs[key] = value
		} else {
			r.Image.Properties[key] = value
		}
	}
	for _, f := range more {
		f(&r)
	}
	return r
}

func with(f func(*Options)) func(*Request) { return func(r *Request) { f(&r.Options) } }

// twoCells is a host of two cells, and the server placed on it.
func twoCells(r *Request) {
	shared, dedicated := cpuset.Of(0, 1, 4, 5), cpuset.Of(2, 3, 6, 7)
	r.NUMA = numa.Config{SharedSet: &shared, DedicatedSet: &dedicated}
	for i := range 2 {
		r.Cells.Cells = append(r.Cells.Cells, numa.HostCell{
			ID: i, Shared: cpuset.Of(4*i, 4*i+1), Dedicated: cpuset.Of(4*i+2, 4*i+3), MemoryMiB: 8192,
			Siblings: []cpuset.Set{cpuset.Of(4 * i), cpuset.Of(4*i + 1), cpuset.Of(4*i + 2), cpuset.Of(4*i + 3)},
			Pages:    []numa.Pages{{SizeKiB: 4, Total: 1 << 20}, {SizeKiB: 2048, Total: 2048}}, Distances: [][]int{{10, 21}, {21, 10}}[i],
		})
	}
	asks, err := r.numa().Constraints()
	if err != nil || asks == nil {
		panic(err)
	}
	placed, fits := numa.Fit(r.Cells, *asks, numa.Options{})
	if !fits {
		panic("it does not fit")
	}
	r.Placed = &placed
}

func define(t *testing.T, r Request) virt.Spec {
	t.Helper()
	spec, err := Define(r)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestDefineGolden(t *testing.T) {
	for name, r := range map[string]Request{
		"plain": plain(),
		"emulated": change("", func(r *Request) { r.Host.VirtType = "qemu" }, with(func(o *Options) {
			o.EmulatedCPU, o.TCGCacheMiB, o.AppendConsoleLog, o.NativeIO = "Nehalem", 32, true, true
		})),
		"windows-hidden": change("os_type=windows hw:hide_hypervisor_id=true hw_time_hpet=true"),
		"secure": change("hw_machine_type=q35 hw_firmware_type=uefi os:secure_boot=required hw:tpm_version=2.0 hw:tpm_model=tpm-crb hw_firmware_stateless=no",
			func(r *Request) { r.TPMSecret = "11111111-1111-1111-1111-111111111111" }),
		"encrypted": change("hw_machine_type=q35 hw_firmware_type=uefi hw_firmware_stateless=yes hw:mem_encryption=yes hw:mem_encryption_model=amd-sev-snp"),
		"pinned-realtime-pages": change("hw:cpu_policy=mixed hw:cpu_realtime=yes hw:cpu_realtime_mask=^0-1 hw:numa_nodes=2 hw:mem_page_size=2MB "+
			"hw:emulator_threads_policy=share", func(r *Request) { r.Flavor.VCPUs = 4 }, twoCells, with(func(o *Options) { o.RealtimePriority = 3 })),
		"everything": change("hw_machine_type=q35 hw:viommu_model=intel hw:pmu=false hw_qemu_guest_agent=yes hw:watchdog_action=reset hw_rng:rate_bytes=1024 "+
			"hw_rng:rate_period=1000 hw:sound_model=ich9 hw_input_bus=virtio hw_video_model=qxl hw_video_ram=64 hw_video:ram_max_mb=128 hw_boot_menu=yes "+
			"hw:vif_multiqueue_enabled=yes hw:virtio_packed_ring=yes quota:cpu_shares=512 quota:cpu_period=100000 quota:cpu_quota=50000 "+
			"quota:disk_read_bytes_sec=1000000 quota:vif_inbound_average=100 quota:vif_inbound_peak=200 quota:vif_inbound_burst=300 hw:redirected_usb_ports=2",
			func(r *Request) {
				r.Drives = append(r.Drives, volume("vdb", "virtio", "1"), Drive{
					Role: RoleConfigDrive, Target: "sda", Bus: "sata", Kind: "cdrom", Source: virt.Source{File: "/state/1/disk.config"}, Format: "raw",
				})
				r.Ports = []Port{port("ovs")}
				r.PCI = []virt.PCIDevice{{Address: "0000:81:00.0", Managed: true}}
				r.Mediated = []virt.MediatedDevice{{UUID: "22222222-2222-2222-2222-222222222222"}}
				r.Shares = []virt.Share{{Path: "/mnt/share", Tag: "share"}}
			}, with(func(o *Options) {
				o.SPICE, o.RootPorts, o.RXQueueSize, o.Discard, o.CPUFlags = "127.0.0.1", 8, 512, "unmap", []string{"pcid", "-mtrr"}
			})),
		"aarch64-on-x86_64": change("hw_emulation_architecture=aarch64"),
		"rescued": change("", func(r *Request) {
			r.Rescue = &Rescue{Kernel: "/state/1/kernel.rescue", Initrd: "/state/1/ramdisk.rescue"}
		}),
	} {
		t.Run(name, func(t *testing.T) { golden.Assert(t, "testdata/define/"+name+".golden", golden.JSON(t, define(t, r))) })
	}
}

func TestMachine(t *testing.T) {
	operator := map[string]string{"x86_64": "q35", "aarch64": "virt-7.2"}
	for _, c := range []struct {
		words, host   string
		operator      map[string]string
		arch, machine string
	}{
		{"", "x86_64", nil, "x86_64", "pc"},
		{"", "aarch64", nil, "aarch64", "virt"},
		{"", "ppc64le", nil, "ppc64le", "pseries"},
		{"", "s390x", nil, "s390x", "s390-ccw-virtio"},
		{"", "x86_64", operator, "x86_64", "q35"},
		{"hw_machine_type=pc-i440fx-7.2", "x86_64", operator, "x86_64", "pc-i440fx-7.2"},
		{"hw_architecture=i686", "x86_64", operator, "i686", "pc"},
		{"hw_emulation_architecture=aarch64 hw_architecture=x86_64", "x86_64", operator, "aarch64", "virt-7.2"},
		{"hw_emulation_architecture=mipsel hw_machine_type=virt", "x86_64", nil, "mipsel", "virt"},
	} {
		r := change(c.words)
		r.Host.Arch, r.Options.Machines = c.host, c.operator
		arch, machine, err := r.Machine()
		if err != nil || arch != c.arch || machine != c.machine {
			t.Errorf("%s on %s: %s %s, %v, want %s %s", c.words, c.host, arch, machine, err, c.arch, c.machine)
		}
	}
}

func TestProcessor(t *testing.T) {
	on := func(virtType, arch string) func(*Request) {
		return func(r *Request) { r.Host.VirtType, r.Host.Arch = virtType, arch }
	}
	named := func(model string) func(*Request) { return with(func(o *Options) { o.EmulatedCPU = model }) }
	custom := func(models ...string) func(*Request) {
		return with(func(o *Options) { o.CPUMode, o.CPUModels = "custom", models })
	}
	for name, c := range map[string]struct {
		r    Request
		want virt.CPU
	}{
		"kvm":                     {change("", named("Nehalem")), virt.CPU{Mode: "host-model"}},
		"qemu as Nova":            {change("", on("qemu", "x86_64")), virt.CPU{Mode: "host-model"}},
		"qemu":                    {change("", on("qemu", "x86_64"), named("Nehalem")), virt.CPU{Mode: "custom", Model: "Nehalem"}},
		"qemu on aarch64":         {change("", on("qemu", "aarch64"), named("Nehalem")), virt.CPU{Mode: "maximum"}},
		"aarch64":                 {change("", on("kvm", "aarch64")), virt.CPU{Mode: "host-passthrough"}},
		"custom":                  {change("", custom("IvyBridge", "Haswell")), virt.CPU{Mode: "custom", Model: "IvyBridge"}},
		"custom on aarch64":       {change("", on("kvm", "aarch64"), custom()), virt.CPU{Mode: "custom", Model: "max"}},
		"chosen beats emulated":   {change("", on("qemu", "x86_64"), named("Nehalem"), custom("IvyBridge")), virt.CPU{Mode: "custom", Model: "IvyBridge"}},
		"mode takes no model":     {change("", with(func(o *Options) { o.CPUMode, o.CPUModels = "host-passthrough", []string{"x"} })), virt.CPU{Mode: "host-passthrough"}},
		"none has no flags":       {change("", with(func(o *Options) { o.CPUMode, o.CPUFlags = "none", []string{"pcid"} })), virt.CPU{Mode: "none"}},
		"another architecture":    {change("hw_emulation_architecture=ppc64le"), virt.CPU{Mode: "custom", Model: "POWER8"}},
		"one without a model":     {change("hw_emulation_architecture=s390x"), virt.CPU{Mode: "none"}},
		"spelled by the host":     {change("", custom("ivybridge"), knows("IvyBridge")), virt.CPU{Mode: "custom", Model: "IvyBridge"}},
		"not known to the host":   {change("", custom("other"), knows("IvyBridge")), virt.CPU{Mode: "custom", Model: "other"}},
		"address bits":            {change("hw:maxphysaddr_mode=emulate hw:maxphysaddr_bits=42"), virt.CPU{Mode: "host-model", PhysAddr: &virt.PhysAddr{Mode: "emulate", Bits: 42}}},
		"the host's address bits": {change("hw:maxphysaddr_mode=passthrough"), virt.CPU{Mode: "host-model", PhysAddr: &virt.PhysAddr{Mode: "passthrough"}}},
		"the last word on a flag": {change("", with(func(o *Options) { o.CPUFlags = []string{"+PCID", "vmx", "-pcid", " "} })), virt.CPU{
			Mode: "host-model", Features: []virt.CPUFeature{{Name: "pcid", Policy: "disable"}, {Name: "vmx", Policy: "require"}},
		}},
	} {
		c.want.Sockets, c.want.Cores, c.want.Threads = 2, 1, 1
		if diff := cmp.Diff(c.want, define(t, c.r).CPU); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
	spec := define(t, change("hw:cpu_max_sockets=1 quota:cpu_quota=-5 quota:cpu_shares=2"))
	if spec.CPU.Cores != 2 || spec.CPUTime != (virt.CPUTime{Shares: 2, Quota: -1}) {
		t.Errorf("topology %+v, time %+v", spec.CPU, spec.CPUTime)
	}
}

// knows makes the host tell which processors guests can have.
func knows(models ...string) func(*Request) {
	return func(r *Request) {
		c := virt.Capabilities{Arch: "x86_64", VirtType: "kvm", Machine: "pc"}
		for _, m := range models {
			c.CPUModels = append(c.CPUModels, virt.CPUModel{Name: m})
		}
		r.Host.Capabilities = append(r.Host.Capabilities, c)
	}
}

func TestVirtType(t *testing.T) {
	for _, c := range []struct{ words, virtType, emulator string }{
		{"", "kvm", "/usr/bin/qemu-system-x86_64"},
		{"hw_architecture=x86_64", "kvm", "/usr/bin/qemu-system-x86_64"},
		{"hw_emulation_architecture=aarch64", "qemu", "/usr/bin/qemu-system-aarch64"},
		{"hw_emulation_architecture=s390x", "qemu", ""},
	} {
		r := change(c.words)
		r.Host.Capabilities = []virt.Capabilities{{Arch: "aarch64", VirtType: "qemu", Machine: "virt", Emulator: "/usr/bin/qemu-system-aarch64"}}
		if s := define(t, r); s.VirtType != c.virtType || s.Emulator != c.emulator {
			t.Errorf("%s: %s by %q, want %s by %q", c.words, s.VirtType, s.Emulator, c.virtType, c.emulator)
		}
	}
}

func TestMemory(t *testing.T) {
	share := func(r *Request) { r.Shares = []virt.Share{{Path: "/mnt/a", Tag: "a"}} }
	files := with(func(o *Options) { o.FileBacked = true })
	sev := "hw_machine_type=q35 hw_firmware_type=uefi hw_firmware_stateless=yes hw:mem_encryption=yes"
	for name, c := range map[string]struct {
		r    Request
		want virt.Memory
	}{
		"plain":             {plain(), virt.Memory{}},
		"locked":            {change("hw:locked_memory=yes hw:mem_page_size=small", twoCells), virt.Memory{Locked: true}},
		"files":             {change("", files), virt.Memory{FileBacked: true, Shared: true, Discard: true}},
		"share":             {change("", share), virt.Memory{Shared: true, Memfd: true}},
		"share in files":    {change("", share, files), virt.Memory{FileBacked: true, Shared: true, Discard: true}},
		"share, huge pages": {change("hw:mem_page_size=large", twoCells, share), virt.Memory{Shared: true}},
		"SEV":               {change(sev), virt.Memory{Locked: true}},
		"SEV-ES":            {change(sev + " hw:mem_encryption_model=amd-sev-es"), virt.Memory{Locked: true}},
		"SEV-SNP":           {change(sev + " hw:mem_encryption_model=amd-sev-snp"), virt.Memory{}},
	} {
		if got := define(t, c.r).Memory; got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	for model, policy := range map[string]uint32{"amd-sev": 0x33, "amd-sev-es": 0x37, "amd-sev-snp": 0x30000} {
		r := change(sev + " hw:mem_encryption_model=" + model)
		r.Host.Capabilities = []virt.Capabilities{{Arch: "x86_64", VirtType: "kvm", Machine: "q35", SEV: &virt.SEV{CBitPos: 51, ReducedPhysBits: 1}}}
		spec := define(t, r)
		if want := (virt.MemoryEncryption{Model: model, Policy: policy, CBitPos: 51, ReducedPhysBits: 1}); *spec.Encryption != want || spec.Features.VMCoreInfo {
			t.Errorf("%s: %+v, vmcoreinfo %v", model, *spec.Encryption, spec.Features.VMCoreInfo)
		}
	}
}

func TestFirmware(t *testing.T) {
	says := func(secure virt.Answer) func(*Request) {
		return func(r *Request) {
			r.Host.Capabilities = []virt.Capabilities{{Arch: "x86_64", VirtType: "kvm", Machine: "q35", SecureBoot: secure}}
		}
	}
	uefi := "hw_machine_type=q35 hw_firmware_type=uefi"
	for name, c := range map[string]struct {
		r    Request
		want virt.Firmware
	}{
		"bios":                     {change("hw_firmware_type=bios"), virt.Firmware{}},
		"uefi":                     {change(uefi), virt.Firmware{UEFI: true}},
		"uefi on pc":               {change("hw_firmware_type=uefi"), virt.Firmware{UEFI: true}},
		"disabled":                 {change(uefi + " os_secure_boot=disabled"), virt.Firmware{UEFI: true}},
		"required":                 {change(uefi + " os_secure_boot=required"), virt.Firmware{UEFI: true, SecureBoot: true}},
		"optional":                 {change(uefi+" os_secure_boot=optional", says(virt.Yes)), virt.Firmware{UEFI: true, SecureBoot: true}},
		"optional, not there":      {change(uefi+" os_secure_boot=optional", says(virt.No)), virt.Firmware{UEFI: true}},
		"optional, on pc":          {change("hw_firmware_type=uefi os_secure_boot=optional"), virt.Firmware{UEFI: true}},
		"optional, on bios":        {change("os_secure_boot=optional"), virt.Firmware{}},
		"stateless":                {change(uefi + " hw_firmware_stateless=yes"), virt.Firmware{UEFI: true, Stateless: true}},
		"stateless without uefi":   {change("hw_firmware_stateless=yes"), virt.Firmware{}},
		"menu of the image":        {change("hw_boot_menu=no hw:boot_menu=yes"), virt.Firmware{}},
		"menu of the flavor":       {change("hw:boot_menu=yes"), virt.Firmware{BootMenu: true}},
		"aarch64 has nothing else": {change("hw_emulation_architecture=aarch64"), virt.Firmware{UEFI: true}},
	} {
		if got := define(t, c.r).Firmware; got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestBoot(t *testing.T) {
	kernel := func(r *Request) { r.Server.Kernel, r.Server.Initrd = "/k", "/i" }
	rescue := func(kernel string, stable bool) func(*Request) {
		return func(r *Request) {
			r.Rescue = &Rescue{Kernel: kernel, Stable: stable}
			r.Drives = append(r.Drives, Drive{Role: RoleRescue, Target: "vdb", Bus: "virtio", Source: virt.Source{File: "/r"}, Format: "raw"})
		}
	}
	const console = "console=tty0 console=ttyS0 console=hvc0"
	for name, c := range map[string]struct {
		r    Request
		want virt.Boot
	}{
		"disk": {plain(), virt.Boot{Devices: []string{"hd"}}},
		"kinds in their order, each once": {change("", func(r *Request) {
			second, third := volume("vdb", "virtio", "1"), volume("vdc", "virtio", "2")
			second.Boot, third.Boot = 12, 3
			r.Drives = append(r.Drives, second, third, Drive{Role: RoleVolume, Target: "hda", Bus: "ide", Kind: "cdrom", Boot: 2, Source: virt.Source{Device: "/dev/x"}, Format: "raw"},
				Drive{Role: RoleVolume, Target: "fda", Bus: "fdc", Kind: "floppy", Boot: 9, Source: virt.Source{Device: "/dev/y"}, Format: "raw"})
		}), virt.Boot{Devices: []string{"hd", "cdrom", "fd"}}},
		"nothing":            {change("", func(r *Request) { r.Drives[0].Boot = 0 }), virt.Boot{}},
		"kernel":             {change("", kernel), virt.Boot{Kernel: "/k", Initrd: "/i", CommandLine: "root=/dev/vda " + console}},
		"kernel, emulated":   {change("", kernel, func(r *Request) { r.Host.VirtType = "qemu" }), virt.Boot{Kernel: "/k", Initrd: "/i", CommandLine: "root=/dev/vda " + console + " no_timer_check"}},
		"kernel, diskless":   {change("", kernel, func(r *Request) { r.Drives = nil }), virt.Boot{Kernel: "/k", Initrd: "/i", CommandLine: console}},
		"command line":       {change("os_command_line=root=/dev/sda1", kernel), virt.Boot{Kernel: "/k", Initrd: "/i", CommandLine: "root=/dev/sda1"}},
		"no kernel, no line": {change("os_command_line=root=/dev/sda1"), virt.Boot{Devices: []string{"hd"}}},
		"rescue kernel":      {change("os_command_line=x", kernel, rescue("/rk", false)), virt.Boot{Kernel: "/rk", CommandLine: "root=/dev/vda " + console}},
		"rescue":             {change("", kernel, rescue("", false)), virt.Boot{}},
		"stable rescue":      {change("", rescue("", true)), virt.Boot{}},
	} {
		if diff := cmp.Diff(c.want, define(t, c.r).Boot); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
	disks := define(t, change("", rescue("", true))).Disks
	if disks[0].Boot != 0 || disks[1].Boot != 1 {
		t.Errorf("a stable rescue boots %+v", disks)
	}
}

func TestFeaturesAndClock(t *testing.T) {
	yes, no := true, false
	for name, c := range map[string]struct {
		r        Request
		features virt.Features
		clock    virt.Clock
	}{
		"linux":           {change("os_type=linux"), virt.Features{VMCoreInfo: true}, virt.Clock{}},
		"windows":         {change("os_type=windows"), virt.Features{VMCoreInfo: true, HyperV: true}, virt.Clock{LocalTime: true, HyperV: true}},
		"windows, qemu":   {change("os_type=windows hw_time_hpet=yes", func(r *Request) { r.Host.VirtType = "qemu" }), virt.Features{VMCoreInfo: true, HyperV: true}, virt.Clock{LocalTime: true}},
		"hidden":          {change("img_hide_hypervisor_id=yes"), virt.Features{VMCoreInfo: true, HideHypervisor: true}, virt.Clock{}},
		"hidden, windows": {change("hw:hide_hypervisor_id=yes os_type=windows"), virt.Features{VMCoreInfo: true, HideHypervisor: true, HyperV: true, HyperVVendor: "1234567890ab"}, virt.Clock{LocalTime: true, HyperV: true}},
		"PMU":             {change("hw_pmu=yes"), virt.Features{VMCoreInfo: true, PMU: &yes}, virt.Clock{}},
		"no PMU":          {change("hw:pmu=no"), virt.Features{VMCoreInfo: true, PMU: &no}, virt.Clock{}},
		"HPET":            {change("hw_time_hpet=yes"), virt.Features{VMCoreInfo: true}, virt.Clock{HPET: true}},
		"power":           {change("hw_emulation_architecture=ppc64le hw_time_hpet=yes"), virt.Features{}, virt.Clock{CatchUp: true}},
		"no cache on kvm": {change("", with(func(o *Options) { o.TCGCacheMiB = 32 })), virt.Features{VMCoreInfo: true}, virt.Clock{}},
		"IOMMU":           {change("hw_machine_type=q35 hw_viommu_model=virtio"), virt.Features{VMCoreInfo: true, IOAPIC: "qemu"}, virt.Clock{}},
	} {
		spec := define(t, c.r)
		if diff := cmp.Diff(c.features, spec.Features); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
		if spec.Clock != c.clock {
			t.Errorf("%s: clock %+v, want %+v", name, spec.Clock, c.clock)
		}
	}
}

// TestRefuses has each rule with the name of Nova's exception, the key at fault and a word of the rule.
func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		r                Request
		class, key, rule string
	}{
		{change("hw_machine_type=pc'/>"), "InvalidMachineType", "hw_machine_type", "name of a machine type"},
		{change("hw_emulation_architecture=mips"), "InvalidMachineType", "hw_machine_type", "must be named"},
		{change("hw:cpu_max_sockets=1 hw_cpu_max_sockets=2"), "ImageVCPULimitsRangeExceeded", "", ""},
		{change("hw:cpu_realtime=yes"), "RealtimeMaskNotFoundOrInvalid", "", "must leave at least one"},
		{change("hw:cpu_realtime=yes hw:emulator_threads_policy=share"), "RealtimeMaskNotFoundOrInvalid", "hw:emulator_threads_policy", "cpu_shared_set"},
		{change("hw:locked_memory=yes"), "LockMemoryForbidden", "hw:locked_memory", "hw:mem_page_size"},
		{change("hw:mem_page_size=large", twoCells, with(func(o *Options) { o.FileBacked = true })), "MemoryPagesUnsupported", "hw:mem_page_size", "file_backed_memory"},
		{change("hw:mem_encryption=yes hw_firmware_type=uefi"), "InvalidMachineType", "hw_machine_type", "q35"},
		{change("hw:mem_encryption=yes"), "FlavorImageConflict", "hw_firmware_type", "uefi"},
		{change("os_secure_boot=required"), "SecureBootNotSupported", "os_secure_boot", "uefi"},
		{change("os_secure_boot=required hw_firmware_type=uefi"), "SecureBootNotSupported", "os_secure_boot", "q35"},
		{change("hw:pmem=4GB"), "PMEMNamespaceConfigInvalid", "hw:pmem", "persistent memory"},
		{change("resources:VGPU=1"), "ComputeResourcesUnavailable", "resources:VGPU", "virtual GPUs"},
		{change("hw:ephemeral_encryption=yes"), "EphemeralEncryptionSecretNotFound", "hw:ephemeral_encryption", "vda"},
		{change("hw:viommu_model=intel"), "InvalidVIOMMUMachineType", "hw:viommu_model", "machine type pc"},
		{change("hw:viommu_model=virtio hw_emulation_architecture=s390x"), "InvalidVIOMMUArchitecture", "hw:viommu_model", "s390x"},
		{change("hw:viommu_model=smmuv3 hw_machine_type=q35"), "Invalid", "hw:viommu_model", "x86_64"},
		{change("hw:viommu_model=intel hw_emulation_architecture=aarch64"), "Invalid", "hw:viommu_model", "aarch64"},
		{change("hw:serial_port_count=4", with(func(o *Options) { o.SerialConsole = "10.0.0.1" })), "SerialPortNumberLimitExceeded", "hw:serial_port_count", "3"},
		{change("hw:serial_port_count=2", with(func(o *Options) { o.SerialConsole = "10.0.0.1" }), func(r *Request) { r.SerialPorts = []int{10000} }), "SocketPortRangeExhaustedException", "hw:serial_port_count", "1 TCP ports"},
		{change("hw_vif_model=lan9118", func(r *Request) { r.Ports = []Port{port("ovs")} }), "UnsupportedHardware", "hw_vif_model", "kvm"},
		{change("hw_vif_model=netfront", func(r *Request) { r.Ports = []Port{port("ovs")} }), "UnsupportedHardware", "hw_vif_model", "kvm"},
		{change("hw:redirected_usb_ports=1"), "Invalid", "hw:redirected_usb_ports", "SPICE"},
		{change("quota:cpu_shares=1"), "Invalid", "quota:cpu_shares", "262144"},
		{change("quota:cpu_quota=17592186044416"), "Invalid", "quota:cpu_quota", "at most"},
		{change("quota:disk_read_iops_sec=1000000000000001"), "Invalid", "quota:disk_read_iops_sec", "at most"},
		{change("quota:disk_read_iops_sec=10 quota:disk_read_iops_sec_max=9"), "Invalid", "quota:disk_read_iops_sec_max", "smaller"},
		{change("quota:disk_write_bytes_sec_max=9"), "Invalid", "quota:disk_write_bytes_sec_max", "needs"},
		{change("quota:vif_inbound_average=4294967296"), "Invalid", "quota:vif_inbound_average", "at most"},
		{change("hw:maxphysaddr_mode=emulate hw:maxphysaddr_bits=128"), "Invalid", "hw:maxphysaddr_bits", "64"},
		{change("hw_video_ram=1"), "RequestedVRamTooHigh", "hw_video_ram", ""},
		{change("hw:tpm_version=3"), "Invalid", "hw:tpm_version", ""},
	} {
		_, err := Define(c.r)
		class, key := "", ""
		if e, is := errors.AsType[*Error](err); is {
			class, key = e.Class, e.Key
		} else if e, is := errors.AsType[*hwprops.Error](err); is {
			class, key = e.Class, e.Key
		} else if e, is := errors.AsType[*numa.Error](err); is {
			class, key = e.Class, e.Key
		}
		if class != c.class || c.key != "" && key != c.key || err == nil || !strings.Contains(err.Error(), c.rule) {
			t.Errorf("%v: %s of %s: %v, want %s of %s with %q", words(c.r), class, key, err, c.class, c.key, c.rule)
		}
	}
	gone := change("hw:numa_nodes=2", twoCells)
	gone.Cells.Cells = gone.Cells.Cells[:1]
	var lost *LostPlace
	if _, err := Define(gone); !errors.As(err, &lost) || !strings.Contains(err.Error(), "host cell 1 is gone") {
		t.Errorf("a server whose cell is gone: %v", err)
	}
}

func words(r Request) []string {
	var list []string
	for k, v := range r.Flavor.ExtraSpecs {
		list = append(list, k+"="+v)
	}
	for k, v := range r.Image.Properties {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}
