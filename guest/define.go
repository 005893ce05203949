package guest

import (
	"cmp"
	"regexp"
	"time"

	"compute-agent/virt"
)

// Define says what the hypervisor is to make of a server. Its errors are *Error, *numa.Error, *hwprops.Error and
// *blockdev.Error for a setting that cannot be honoured, and *LostPlace for a place that is gone.
func Define(r Request) (virt.Spec, error) {
	machine, err := r.machine()
	if err != nil {
		return virt.Spec{}, err
	}
	cpu, err := r.cpu()
	if err != nil {
		return virt.Spec{}, err
	}
	place, memory, err := placementOf(r.Placed, r.Cells, r.numa(), r.NUMA)
	if err != nil {
		return virt.Spec{}, err
	}
	opt := r.Options
	spec := virt.Spec{
		ID: r.Server.ID, Name: r.Server.GuestName, Title: r.Server.Title,
		VirtType: r.Host.VirtType, Arch: r.Host.Arch, Emulator: r.Host.Emulator, Machine: machine,
		VCPUs: r.Flavor.VCPUs, MemoryMiB: uint64(max(0, r.Flavor.MemoryMiB)), CPU: cpu, Placement: place, Memory: memory,
		Disks:    r.disks(),
		Serial:   []virt.SerialPort{{Type: "pty", Log: r.ConsoleLog, AppendLog: opt.AppendConsoleLog}},
		RNG:      &virt.RNG{Source: cmp.Or(opt.RNG, "/dev/urandom")},
		Channels: virt.Channels{GuestAgent: true},
		Balloon:  virt.Balloon{Period: max(0, cmp.Or(opt.StatsPeriod, 10*time.Second))},
		Metadata: r.metadata(),
	}
	if opt.VNC != "" {
		spec.Graphics = []virt.Graphics{{Type: "vnc", Listen: opt.VNC}}
	}
	return spec, nil
}

const propMachineType = "hw_machine_type"

var machineForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Machine is the machine type of a server with the image's properties: drives are placed by it.
func Machine(properties map[string]string, opt Options) (string, error) {
	machine := properties[propMachineType]
	if machine == "" {
		return cmp.Or(opt.Machine, "pc"), nil
	}
	if !machineForm.MatchString(machine) {
		return "", failed("InvalidMachineType", propMachineType, machine, "it is no machine type")
	}
	return machine, nil
}

func (r *Request) machine() (string, error) { return Machine(r.Image.Properties, r.Options) }

// cpu is the guest's processor with the best topology within the limits of flavor and image: one socket per
// vCPU where neither says anything, as in Nova.
func (r *Request) cpu() (virt.CPU, error) {
	topologies, err := r.numa().Topologies(true)
	if err != nil {
		return virt.CPU{}, err
	}
	best, opt := topologies[0], r.Options
	cpu := virt.CPU{Mode: opt.CPUMode, Model: opt.CPUModel, Sockets: best.Sockets, Cores: best.Cores, Threads: best.Threads}
	switch {
	case cpu.Mode != "":
	case r.Host.VirtType == "kvm" || opt.EmulatedCPU == "":
		cpu.Mode = "host-model"
	case r.Host.Arch == "x86_64":
		cpu.Mode, cpu.Model = "custom", opt.EmulatedCPU
	default:
		cpu.Mode = "maximum"
	}
	if cpu.Mode != "custom" {
		cpu.Model = ""
	}
	return cpu, nil
}
