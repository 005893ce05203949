package guest

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"compute-agent/virt"
)

// maxSerialPorts is how many serial ports a proxy can reach over TCP: QEMU's machines have one more, which Nova keeps for a
// pseudo terminal. On sockets it can reach them all.
const maxSerialPorts, maxSerialSockets = 3, 4

// serial are the guest's serial ports: a pseudo terminal, or as many as flavor and image ask for that
// listen for a proxy. The first one's output is kept.
func (d *definition) serial() error {
	ports, err := d.serialPorts()
	if err == nil && len(ports) > 0 {
		ports[0].Log, ports[0].AppendLog = d.r.ConsoleLog, d.r.Options.AppendConsoleLog
	}
	d.spec.Serial = ports
	return err
}

func (d *definition) serialPorts() (ports []virt.SerialPort, err error) {
	opt, n := &d.r.Options, d.hw.SerialPorts
	switch {
	case opt.SerialSockets:
		if n > maxSerialSockets {
			return nil, tooManySerialPorts(n, maxSerialSockets)
		}
		for i := range n {
			ports = append(ports, virt.SerialPort{Type: "unix", Path: d.r.SerialSocket + strconv.Itoa(i)})
		}
	case opt.SerialConsole != "":
		switch {
		case n > maxSerialPorts:
			return nil, tooManySerialPorts(n, maxSerialPorts)
		case len(d.r.SerialPorts) < n:
			return nil, failed("SocketPortRangeExhaustedException", "hw:serial_port_count", strconv.Itoa(n), "the host has %d TCP ports for them", len(d.r.SerialPorts))
		}
		for _, port := range d.r.SerialPorts[:n] {
			ports = append(ports, virt.SerialPort{Type: "tcp", Host: opt.SerialConsole, Port: port})
		}
	default:
		ports = []virt.SerialPort{{Type: "pty"}}
	}
	return ports, nil
}

func tooManySerialPorts(n, most int) error {
	return failed("SerialPortNumberLimitExceeded", "hw:serial_port_count", strconv.Itoa(n), "a guest has at most %d serial ports", most)
}

// channels connect programs in the guest with the host's.
func (d *definition) channels() {
	opt := &d.r.Options
	d.spec.Channels = virt.Channels{
		GuestAgent: d.hw.GuestAgent || opt.GuestAgent,
		SPICE:      opt.SPICE != "" && !opt.NoSPICEAgent,
	}
}

// screen is what the guest shows and what is typed and pointed with. A guest whose screen nobody can see has
// none of it.
func (d *definition) screen() {
	s, opt := &d.spec, &d.r.Options
	if opt.VNC != "" {
		s.Graphics = append(s.Graphics, virt.Graphics{Type: "vnc", Listen: opt.VNC})
	}
	if opt.SPICE != "" {
		s.Graphics = append(s.Graphics, virt.Graphics{Type: "spice", Listen: opt.SPICE, SPICE: opt.SPICEServer})
	}
	if len(s.Graphics) == 0 {
		return
	}
	s.Video = &virt.Video{Model: d.videoModel(), RAMMiB: d.hw.VideoRAMMiB}
	if bus := d.pointerBus(); bus != "" {
		s.Inputs = append(s.Inputs, virt.Input{Type: "tablet", Bus: bus})
	}
	if bus := d.keyboardBus(); bus != "" {
		s.Inputs = append(s.Inputs, virt.Input{Type: "keyboard", Bus: bus})
	}
}

// videoModel is virtio, which falls back to VGA for a guest without a driver; POWER has plain VGA.
func (d *definition) videoModel() string {
	byDefault := "virtio"
	if d.isPower() {
		byDefault = "vga"
	}
	return cmp.Or(d.hw.VideoModel, byDefault)
}

// pointerBus is the bus of the tablet, whose pointer does not drift apart from the viewer's; empty for none. SPICE's
// agent brings its own.
func (d *definition) pointerBus() string {
	if settled, is := d.r.Settled[propInputBus]; is {
		return settled
	}
	opt := &d.r.Options
	bus := d.hw.InputBus
	if bus == "" && (d.hw.PointerModel != "" || cmp.Or(opt.PointerModel, "usbtablet") == "usbtablet") {
		bus = "usb"
	}
	hvm := d.hw.VMMode == "" || d.hw.VMMode == "hvm"
	ownPointer := opt.SPICE != "" && !opt.NoSPICEAgent && opt.VNC == ""
	if !hvm || ownPointer {
		return ""
	}
	return bus
}

// keyboardBus is the bus of a keyboard beside the machine's own, which aarch64 lacks; empty for none.
func (d *definition) keyboardBus() string {
	if d.hw.InputBus == "" && d.arch == "aarch64" {
		return "usb"
	}
	return d.hw.InputBus
}

// usb turns the USB controller off that machines have by default where nothing is on it.
func (d *definition) usb() {
	u := &d.spec.USB
	u.RedirectedPorts = d.hw.RedirectedPorts
	if d.needsUSB() || d.isPower() { // Nova passes over a model that is asked for, where a device needs the controller
		return
	}
	u.Controller = cmp.Or(d.hw.USBModel, "none")
}

func (d *definition) needsUSB() bool {
	return d.spec.Sound == "usb" || d.spec.USB.RedirectedPorts > 0 ||
		slices.ContainsFunc(d.spec.Disks, func(disk virt.Disk) bool { return disk.Bus == "usb" }) ||
		slices.ContainsFunc(d.spec.Inputs, func(in virt.Input) bool { return in.Bus == "usb" })
}

// devices are those that depend on nothing but what is asked for.
func (d *definition) devices() {
	s, r := &d.spec, d.r
	s.Sound, s.Watchdog = d.hw.SoundModel, d.hw.Watchdog
	s.PCI = append(s.PCI, r.PCI...)
	s.RootPorts = d.rootPorts()
	for _, event := range virt.PerfEvents() {
		if slices.Contains(r.Options.PerfEvents, event) {
			s.PerfEvents = append(s.PerfEvents, event)
		}
	}
	if d.hw.RNG.Allowed {
		s.RNG = &virt.RNG{Source: cmp.Or(r.Options.RNG, "/dev/urandom")}
		if d.hw.RNG.Bytes > 0 && d.hw.RNG.Period > 0 { // Nova takes one without the other for no limit
			s.RNG.Bytes, s.RNG.Period = d.hw.RNG.Bytes, d.hw.RNG.Period
		}
	}
	if period := cmp.Or(r.Options.StatsPeriod, 10*time.Second); period > 0 {
		s.Balloon = virt.Balloon{Period: period, AutoDeflate: true, FreePageReporting: true}
	} else {
		s.Balloon = virt.Balloon{None: true}
	}
}

// rootPorts are for machines with PCI Express alone.
func (d *definition) rootPorts() int {
	pcie := d.arch == "aarch64" && strings.HasPrefix(d.machine, "virt") || d.arch == "x86_64" && d.isQ35()
	if !pcie || d.foreign() {
		return 0
	}
	return d.r.Options.RootPorts
}

func (d *definition) tpm() {
	if t := d.hw.TPM; t != nil {
		d.spec.TPM = &virt.TPM{Version: t.Version, Model: t.Model, Secret: d.r.TPMSecret}
	}
}

// mediated are the parts of the host's devices that the flavor asks for.
func (d *definition) mediated() error {
	d.spec.Mediated = d.r.Mediated
	if n := d.hw.VGPUs; len(d.r.Mediated) < n {
		return failed("ComputeResourcesUnavailable", "resources:VGPU", strconv.Itoa(n), "the host has no virtual GPUs for the guest")
	}
	return nil
}

// viommuVirtio is the first libvirt that has an IOMMU of model virtio.
const viommuVirtio = 8_003_000

// iommu is the guest's own, with which it can give devices to guests of its own.
func (d *definition) iommu() error {
	model := d.hw.VIOMMU
	if model == "" {
		return nil
	}
	const key = "hw:viommu_model"
	switch {
	case d.isX86() && !d.isQ35(), d.arch == "aarch64" && !strings.HasPrefix(d.machine, "virt"):
		return failed("InvalidVIOMMUMachineType", key, model, "machine type %s of architecture %s cannot have one", d.machine, d.arch)
	case !d.isX86() && d.arch != "aarch64":
		return failed("InvalidVIOMMUArchitecture", key, model, "architecture %s cannot have one", d.arch)
	}
	if model == "auto" {
		model = d.iommuModel()
	}
	if !d.iommuFits(model) {
		return failed("Invalid", key, model, "there is none for architecture %s", d.arch)
	}
	d.spec.IOMMU = &virt.IOMMU{Model: model}
	if model == "intel" {
		// Extended interrupt mode needs KVM: QEMU's own emulation refuses it.
		d.spec.IOMMU = &virt.IOMMU{Model: model, CachingMode: true, EIM: d.spec.VirtType == "kvm", InterruptRemapping: true, IOTLB: true, AddressBits: 48}
	}
	return nil
}

func (d *definition) iommuModel() string {
	switch library := d.r.Host.LibraryVersion; {
	case library == 0 || library >= viommuVirtio:
		return "virtio"
	case d.isX86():
		return "intel"
	}
	return "smmuv3"
}
