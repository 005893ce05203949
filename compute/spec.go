package compute

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"compute-agent/blockdev"
	"compute-agent/numa"
	"compute-agent/virt"
)

// GuestOptions are the operator's choices for all guests. The names are Nova's.
type GuestOptions struct {
	// Names is how new guests are called at the hypervisor (instance_name_template): a format of one
	// integer, the server's number. Default DefaultGuestNames. Agents that share a hypervisor need
	// different ones.
	Names    string
	CPUMode  string // cpu_mode; default host-model on kvm, else custom with DefaultEmulatedCPU
	CPUModel string // cpu_models; for CPUMode custom
	Machine  string // hw_machine_type; default pc
	VNC      string // address that guests' screens listen on ([vnc]server_listen); empty: no screen
	RNG      string // rng_dev_path; default /dev/urandom
	// StatsPeriod is how often a guest tells of its memory (mem_stats_period_seconds); default 10 s,
	// negative for never.
	StatsPeriod time.Duration
	// ForceConfigDrive gives every server a config drive (force_config_drive): without a metadata
	// service it is the only way for keys and user data into a guest.
	ForceConfigDrive bool
}

// DefaultEmulatedCPU is the processor of guests that are emulated, where none is chosen: the newest
// of QEMU's models that its emulator has all of with nothing to spare, and enough for distributions that
// ask for x86-64-v2. "maximum" has more and boots slower.
const DefaultEmulatedCPU = "Nehalem"

// machine is what a Spec depends on beside its server.
type machine struct {
	host    virt.Host
	storage Storage
	guests  GuestOptions
	version string
	numa    numa.Config
	cells   numa.Host   // the host's, as they are configured
	placed  *numa.Guest // where the server was placed; nil for anywhere
}

// The image properties that a Spec honours, beside those of package blockdev.
const propMachineType = "hw_machine_type"

var machineType = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// checkProperties says whether a server's image properties can be honoured, before anything is done.
func (m machine) checkProperties(s Server) error {
	if v := s.Image.Properties[propMachineType]; v != "" && !machineType.MatchString(v) {
		return invalid("imageRef", "image property %s=%q is no machine type", propMachineType, v)
	}
	_, err := layout(s, m)
	return err
}

// buildSpec says what the hypervisor is to make of a server. It is pure.
func buildSpec(s Server, files Files, m machine) (virt.Spec, error) {
	disks, err := specDisks(s, files, m)
	if err != nil {
		return virt.Spec{}, err
	}
	cpu, err := m.cpu(s)
	if err != nil {
		return virt.Spec{}, err
	}
	place, memory, err := placementOf(m.placed, m.cells, numaRequest(s), m.numa)
	if err != nil {
		return virt.Spec{}, err
	}
	spec := virt.Spec{
		ID: s.ID, Name: s.GuestName(), Title: s.Name,
		VirtType: m.host.VirtType, Arch: m.host.Arch, Emulator: m.host.Emulator, Machine: m.machineType(s),
		VCPUs: s.Flavor.VCPUs, MemoryMiB: uint64(s.Flavor.MemoryMiB), CPU: cpu, Placement: place,
		Disks: disks, Serial: []virt.SerialPort{{Type: "pty", Log: files.ConsoleLog, AppendLog: true}}, Memory: memory,
		RNG: &virt.RNG{Source: orDefault(m.guests.RNG, "/dev/urandom")}, Channels: virt.Channels{GuestAgent: true},
		Balloon:  virt.Balloon{Period: max(0, orDefault(m.guests.StatsPeriod, 10*time.Second))},
		Metadata: metadata(s, m.version),
	}
	if m.guests.VNC != "" {
		spec.Graphics = []virt.Graphics{{Type: "vnc", Listen: m.guests.VNC}}
	}
	return spec, nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (m machine) machineType(s Server) string {
	return orDefault(s.Image.Properties[propMachineType], orDefault(m.guests.Machine, "pc"))
}

// cpu is the guest's processor with the best topology within the limits of flavor and image: one socket per
// vCPU where neither says anything, as in Nova.
func (m machine) cpu(s Server) (virt.CPU, error) {
	topologies, err := numaRequest(s).Topologies(true)
	if err != nil {
		return virt.CPU{}, refused(err)
	}
	best := topologies[0]
	cpu := virt.CPU{Mode: m.guests.CPUMode, Model: m.guests.CPUModel, Sockets: best.Sockets, Cores: best.Cores, Threads: best.Threads}
	switch {
	case cpu.Mode != "":
	case m.host.VirtType == "kvm":
		cpu.Mode = "host-model"
	case m.host.Arch == "x86_64":
		cpu.Mode, cpu.Model = "custom", DefaultEmulatedCPU
	default:
		cpu.Mode = "maximum"
	}
	if cpu.Mode != "custom" {
		cpu.Model = ""
	}
	return cpu, nil
}

func layout(s Server, m machine) (blockdev.Layout, error) {
	l, err := blockdev.Plan(blockdev.Request{
		Arch: m.host.Arch, Machine: m.machineType(s), Properties: s.Image.Properties, ConfigDrive: s.ConfigDrive,
	})
	var bad *blockdev.PropertyError
	if errors.As(err, &bad) {
		return l, &Failure{Kind: ErrInvalid, Field: "imageRef", Reason: bad.Error()}
	}
	return l, err
}

// specDisks are the root disk and, last, the config drive.
func specDisks(s Server, files Files, m machine) ([]virt.Disk, error) {
	places, err := layout(s, m)
	if err != nil {
		return nil, fmt.Errorf("place the drives of server %s: %w", s.ID, err)
	}
	root := virt.Disk{
		Source: virt.Source{File: files.Root}, Format: "qcow2", Backing: []virt.Backing{{Path: files.Base, Format: s.Image.Format}},
		Target: places.Root.Name, Bus: string(places.Root.Bus), Boot: 1,
	}
	disks := []virt.Disk{cached(root, m.storage)}
	if places.ConfigDrive != nil {
		disks = append(disks, cached(virt.Disk{
			Source: virt.Source{File: files.ConfigDrive}, Format: "raw", Kind: "cdrom",
			Target: places.ConfigDrive.Name, Bus: string(places.ConfigDrive.Bus),
		}, m.storage))
	}
	return disks, nil
}

// cached chooses how the host handles a drive's I/O: around the page cache where the file system
// can, else through it, as Nova does.
func cached(d virt.Disk, st Storage) virt.Disk {
	if st.DirectIO {
		d.Cache, d.IO = "none", "native"
	} else {
		d.Cache = "writeback"
	}
	return d
}

func metadata(s Server, version string) virt.Metadata {
	f := s.Flavor
	return virt.Metadata{
		Package: version, Name: s.Name, Created: s.Created,
		Flavor: virt.FlavorMetadata{
			ID: f.ID, Name: f.Name, MemoryMiB: uint64(f.MemoryMiB), DiskGiB: f.DiskGiB, EphemeralGiB: f.EphemeralGiB,
			SwapMiB: f.SwapMiB, VCPUs: f.VCPUs,
		},
		UserID: s.UserID, UserName: s.UserName, ProjectID: s.ProjectID, Project: s.ProjectName,
		RootType: "image", RootID: s.ImageID,
	}
}
