package plan

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"libvirt.org/go/libvirtxml"

	"compute-agent/guest"
	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/virt"
	"compute-agent/virt/libvirt"
)

func (r *reader) numa() numa.Config {
	return numa.Config{SharedSet: r.cpus("compute.cpu_shared_set"), DedicatedSet: r.cpus("compute.cpu_dedicated_set"), PinSet: r.cpus("DEFAULT.vcpu_pin_set")}
}

// guests are the operator's choices for all guests, with Nova's defaults.
func (r *reader) guests() guest.Options {
	o := guest.Options{
		CPUMode: r.text("libvirt.cpu_mode", ""), CPUModels: r.list("libvirt.cpu_models"), CPUFlags: r.list("libvirt.cpu_model_extra_flags"),
		Machines: r.pairs("libvirt.hw_machine_type"), RealtimePriority: r.number("libvirt.realtime_scheduler_priority", 1),
		FileBacked: r.number("libvirt.file_backed_memory", 0) > 0, TCGCacheMiB: r.number("libvirt.tb_cache_size", 0),
		CacheModes: r.pairs("libvirt.disk_cachemodes"), Discard: r.text("libvirt.hw_disk_discard", ""),
		DefaultVolumeIO: true, // each drive says its own
		RXQueueSize:     r.number("libvirt.rx_queue_size", 0), TXQueueSize: r.number("libvirt.tx_queue_size", 0),
		MaxQueues: r.number("libvirt.max_queues", 0), HypervisorNICs: !r.yes("libvirt.use_virtio_for_bridges", true),
		NoSPICEAgent: !r.yes("spice.agent_enabled", true), PointerModel: r.pointer(),
		RNG: r.text("libvirt.rng_dev_path", "/dev/urandom"), RootPorts: r.number("libvirt.num_pcie_ports", 0),
		Serial: r.text("libvirt.sysinfo_serial", "unique"), PerfEvents: r.list("libvirt.enabled_perf_events"),
	}
	if o.StatsPeriod = time.Duration(r.number("libvirt.mem_stats_period_seconds", 10)) * time.Second; o.StatsPeriod <= 0 {
		o.StatsPeriod = -1
	}
	if r.yes("vnc.enabled", true) {
		o.VNC = r.text("vnc.server_listen", "127.0.0.1")
	}
	if r.yes("spice.enabled", false) {
		o.SPICE = r.text("spice.server_listen", "127.0.0.1")
		o.SPICEServer = r.spice()
	}
	if r.yes("serial_console.enabled", false) {
		o.SerialConsole = r.text("serial_console.proxyclient_address", "127.0.0.1")
	}
	return o
}

func (r *reader) spice() virt.SPICE {
	s := virt.SPICE{
		Secure: r.yes("spice.require_secure", false), ImageCompression: r.text("spice.image_compression", ""),
		JPEGCompression: r.text("spice.jpeg_compression", ""), ZlibCompression: r.text("spice.zlib_compression", ""),
		StreamingMode: r.text("spice.streaming_mode", ""),
	}
	if r.text("spice.playback_compression", "") != "" {
		s.PlaybackCompression = new(r.yes("spice.playback_compression", false))
	}
	return s
}

// pointer is the pointer_model, which can be null: no tablet then.
func (r *reader) pointer() string {
	if raw, there := r.options["DEFAULT"]["pointer_model"]; there && string(raw) == "null" {
		return "ps2mouse"
	}
	return r.text("DEFAULT.pointer_model", "usbtablet")
}

// serialPorts are the TCP ports that serial ports are given when no guest has any yet ([serial_console]port_range).
func (r *reader) serialPorts() []int {
	from, to, _ := strings.Cut(r.text("serial_console.port_range", "10000:20000"), ":")
	first, err := strconv.Atoi(from)
	r.keep(err)
	last, err := strconv.Atoi(to)
	r.keep(err)
	var ports []int
	for p := first; p < last && len(ports) < 64; p++ {
		ports = append(ports, p)
	}
	return ports
}

// pairs reads an option whose entries are NAME=VALUE.
func (r *reader) pairs(key string) map[string]string {
	m := map[string]string{}
	for _, entry := range r.list(key) {
		if name, value, ok := strings.Cut(entry, "="); ok {
			m[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return m
}

func (h *hardwareForm) host(conf *reader) virt.Host {
	arch := h.Arch
	if arch == "" {
		arch = "x86_64"
	}
	return virt.Host{
		Hypervisor: "QEMU", HypervisorVersion: versionNumber(string(h.QEMU)), LibraryVersion: versionNumber(string(h.Libvirt)),
		VirtType: conf.text("libvirt.virt_type", "kvm"), Arch: arch,
	}
}

// recordedSEV is the processor of Nova's own fixtures.
var recordedSEV = virt.SEV{CBitPos: 47, ReducedPhysBits: 1, MaxGuests: 100, MaxESGuests: 15}

// versionNumber is a dotted version, or a number already, as libvirt counts them.
func versionNumber(version string) int {
	if n, err := strconv.Atoi(version); err == nil {
		return n
	}
	n := 0
	for i, part := range strings.SplitN(version, ".", 3) {
		v, err := strconv.Atoi(part)
		if err != nil {
			return 0
		}
		n += v * []int{1000000, 1000, 1}[i]
	}
	return n
}

// cells are the host's as they were recorded, or else those of a machine of the size that the question tells.
func (f *domainForm) cells(c numa.Config) (numa.Host, error) {
	if f.Derived.Host != nil {
		return f.Derived.Host.host(), nil
	}
	if f.Input.Host.Nodes == 0 {
		return numa.Host{}, nil
	}
	return f.Input.Host.machine().Host(c)
}

// machine numbers the CPUs of a node one after the other, threads of a core next to each other, as Nova's fixtures do.
func (h *hardwareForm) machine() numa.Machine {
	m := numa.Machine{Nodes: make([]numa.Node, h.Nodes)}
	threads, id := max(1, h.Threads), 0
	for n := range m.Nodes {
		node := numa.Node{ID: n, MemoryKiB: h.MemoryKiB / h.Nodes}
		for socket := range max(1, h.Sockets) {
			for range max(1, h.Cores) {
				core := cpuset.Range(id, id+threads-1)
				for range threads {
					node.CPUs = append(node.CPUs, numa.CPU{ID: id, Socket: socket, Siblings: core})
					id++
				}
			}
		}
		node.Pages = []numa.Pages{{SizeKiB: 4, Total: node.MemoryKiB / 4}}
		if n < len(h.Pages) {
			node.Pages = nil
			for _, p := range h.Pages[n] {
				if len(p) == 2 {
					node.Pages = append(node.Pages, numa.Pages{SizeKiB: p[0], Total: p[1]})
				}
			}
		}
		m.Nodes[n] = node
	}
	return m
}

// setMachines reads a host's machine types out of libvirt's capabilities.
func setMachines(h *virt.Host, capabilities string) error {
	if capabilities == "" {
		return nil
	}
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(capabilities); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	h.Machines = libvirt.Machines(&caps)
	return nil
}

// machineNames are how QEMU names the machine types of x86 and Arm. A question may lack the host's capabilities, which
// list them; a name of no such form is refused all the same.
var machineNames = regexp.MustCompile(`^(pc|q35|isapc|microvm|none|xenfv|xenpv|virt|sbsa-ref|raspi\w+|versatile\w+|vexpress-a\d+|` +
	`(pc|pc-i440fx|pc-q35|virt|microvm)-(rhel)?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?|(pc-i440fx|pc-q35|virt|ubuntu)-(trusty|xenial|bionic|focal|jammy|noble|wily|zesty)(-v\d+)?(-hpb)?)$`)

// checkMachine refuses machine types that the host does not have, or QEMU if the question does not tell of the host.
func checkMachine(r *guest.Request, sev bool) error {
	arch, machine, err := r.Machine()
	if err != nil {
		return err
	}
	if sev {
		r.Host.Capabilities = []virt.Capabilities{{Arch: arch, VirtType: r.Host.VirtType, Machine: machine, SEV: &recordedSEV}}
	}
	known := machineNames.MatchString(machine)
	if len(r.Host.Machines) > 0 {
		known = r.Host.MachineType(arch, machine) != nil
	}
	if !known {
		return &guest.Error{Class: "InvalidMachineType", Key: "hw_machine_type", Value: machine, Rule: "is no machine type of the host's"}
	}
	return nil
}

// check refuses what the question says that the host has not.
func (h *hardwareForm) check(s *virt.Spec) error {
	no := func(has *bool) bool { return has != nil && !*has }
	switch {
	case s.Firmware.UEFI && no(h.UEFI):
		return &guest.Error{Class: "UEFINotSupported", Key: "hw_firmware_type", Value: "uefi", Rule: "the host has no UEFI firmware"}
	case s.Firmware.SecureBoot && no(h.SecureBoot):
		return &guest.Error{Class: "SecureBootNotSupported", Key: "os_secure_boot", Value: "required", Rule: "the host has no firmware for it"}
	}
	return nil
}
