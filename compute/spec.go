package compute

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"compute-agent/blockdev"
	"compute-agent/guest"
	"compute-agent/hwprops"
	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/pci"
	"compute-agent/virt"
)

// GuestOptions are the operator's choices for all guests.
type GuestOptions struct {
	guest.Options
	// Names is how new guests are called at the hypervisor (instance_name_template): a format of one
	// integer, the server's number. Default DefaultGuestNames. Agents that share a hypervisor need
	// different ones.
	Names string
	// ForceConfigDrive gives every server a config drive (force_config_drive): without a metadata
	// service it is the only way for keys and user data into a guest.
	ForceConfigDrive bool
	// SerialPorts are what serial ports listen on when SerialConsole is set ([serial_console]port_range).
	SerialPorts PortRange
	// HostSerial is the host's own number, for sysinfo_serial os, hardware and auto.
	HostSerial string
	// ConfigDriveFormat is iso9660 or vfat (config_drive_format), for servers to come; empty for iso9660.
	ConfigDriveFormat string
	// MaxDrives is how many drives a server may get ([compute]max_disk_devices_to_attach), all of its own and its volumes; 0 for no limit. Servers that
	// have more keep them.
	MaxDrives int
}

// DefaultEmulatedCPU is the processor of guests that are emulated, where none is chosen: the newest
// of QEMU's models that its emulator has all of with nothing to spare, and enough for distributions that
// ask for x86-64-v2. "maximum" has more and boots slower.
const DefaultEmulatedCPU = "Nehalem"

// machine is what a guest depends on beside its server.
type machine struct {
	host    virt.Host
	storage Storage
	guests  GuestOptions
	version string
	numa    numa.Config
	cells   numa.Host   // the host's, as they are configured
	placed  *numa.Guest // where the server was placed; nil for anywhere
	ports   []guest.Port
	devices []virt.PCIDevice
	volumes []BlockDevice // in their order; their drives' places are chosen
	most    *int          // how many drives the guest may have; nil for no limit
}

// limited is the machine for a server that is asked for, or is to get more: the operator's limits are for those, as in Nova, and not for guests that are
// made again.
func (m machine) limited() machine {
	if m.guests.MaxDrives > 0 {
		m.most = &m.guests.MaxDrives
	}
	return m
}

// settle decides what the guests of a new server keep; see guest.Request.Settle.
func (m machine) settle(s Server) (map[string]string, error) {
	r := m.request(s, Files{})
	places, err := m.places(s, &r)
	if err != nil {
		return nil, refused(err)
	}
	settled, err := r.Settle(places)
	return settled, refused(err)
}

// check defines a server's guest, and says whether this host can make it, before anything is done.
func (m machine) check(s Server, files Files) (virt.Spec, error) {
	spec, err := buildSpec(s, files, m)
	if err != nil {
		return virt.Spec{}, err
	}
	return spec, refused(guest.Supported(spec, m.host, s.asked()))
}

// asked is what the server's flavor and image ask for.
func (s Server) asked() hwprops.Source {
	return hwprops.Source{ExtraSpecs: s.Flavor.ExtraSpecs, Properties: s.Image.Properties}
}

// askedOf is what a server's flavor and image say, hardwareOf what they ask for by it.
func askedOf(s Server) hwprops.Source {
	return hwprops.Source{ExtraSpecs: s.Flavor.ExtraSpecs, Properties: s.Image.Properties}
}

func hardwareOf(s Server) (hwprops.Hardware, error) { return askedOf(s).Hardware() }

// buildSpec says what the hypervisor is to make of a server. It is pure.
func buildSpec(s Server, files Files, m machine) (virt.Spec, error) {
	r := m.request(s, files)
	places, err := m.places(s, &r)
	if err != nil {
		return virt.Spec{}, refused(err)
	}
	if r.Drives, err = m.drives(s, files, places); err != nil {
		return virt.Spec{}, err
	}
	spec, err := guest.Define(r)
	return spec, refused(err)
}

// request is what a server's guest is defined by, but for its drives.
func (m machine) request(s Server, files Files) guest.Request {
	rootType, rootID := "image", s.ImageID
	if i := slices.IndexFunc(m.volumes, BlockDevice.root); i >= 0 {
		rootType, rootID = "volume", m.volumes[i].VolumeID
	}
	image, settled := s.guestProperties()
	r := guest.Request{
		Server: guest.Server{
			ID: s.ID, GuestName: s.GuestName(), Title: s.Name, Name: s.Name, Created: s.Created,
			UserID: s.UserID, UserName: s.UserName, ProjectID: s.ProjectID, ProjectName: s.ProjectName,
			RootType: rootType, RootID: rootID,
		},
		Flavor: guestFlavor(s.Flavor), Image: guest.Image{Format: s.Image.Format, Properties: image}, Settled: settled,
		Placed: m.placed, Cells: m.cells, NUMA: m.numa, Ports: m.ports, PCI: m.devices, DirectIO: m.storage.DirectIO, ConsoleLog: files.ConsoleLog,
		SerialPorts: m.guests.SerialPorts.unchosen(), SerialSocket: files.SerialSocket, HostSerial: m.guests.HostSerial,
		Host: m.host, Options: m.guests.Options, Package: m.version,
	}
	if s.Rescue != nil {
		r.Rescue = &guest.Rescue{Stable: s.Rescue.Stable}
	}
	return r
}

func guestFlavor(f Flavor) guest.Flavor {
	return guest.Flavor{
		ID: f.ID, Name: f.Name, VCPUs: f.VCPUs, MemoryMiB: f.MemoryMiB, DiskGiB: f.DiskGiB, EphemeralGiB: f.EphemeralGiB,
		SwapMiB: f.SwapMiB, ExtraSpecs: f.ExtraSpecs,
	}
}

// places says where a server's drives go, by the machine that its guest is.
func (m machine) places(s Server, r *guest.Request) (blockdev.Mapping, error) {
	wanted, err := m.wanted(s, r)
	if err != nil {
		return blockdev.Mapping{}, err
	}
	return blockdev.Plan(wanted)
}

func (m machine) wanted(s Server, r *guest.Request) (blockdev.Request, error) {
	arch, machineType, err := r.Machine()
	if err != nil {
		return blockdev.Request{}, err
	}
	request := driveRequest(s, m.volumes, r.Host.VirtType, arch, machineType)
	request.MaxDrives = m.most
	return request, nil
}

// placeFor says where one more volume goes, beside the drives that the server has.
func (m machine) placeFor(s Server, d BlockDevice) (blockdev.Drive, error) {
	r := m.request(s, Files{})
	wanted, err := m.wanted(s, &r)
	if err != nil {
		return blockdev.Drive{}, refused(err)
	}
	place, err := blockdev.Attach(wanted, d.wanted())
	return place, refused(err)
}

// drives are the server's with what is behind each, in the order in which they are attached.
func (m machine) drives(s Server, files Files, places blockdev.Mapping) ([]guest.Drive, error) {
	drives := make([]guest.Drive, len(places.Drives))
	for i, p := range places.Drives {
		drives[i] = guest.Drive{Role: guest.Role(p.Role), Target: p.Name, Bus: string(p.Bus), Boot: p.BootIndex}
		if p.Type != blockdev.Disk {
			drives[i].Kind = string(p.Type)
		}
		if p.Role != blockdev.Volume {
			files.behind(&drives[i], p, s)
			continue
		}
		if err := m.volumes[p.Index].behind(&drives[i]); err != nil {
			return nil, err
		}
		if drives[i].Source.File != "" && !m.storage.DirectIO { // files of the agent's own service are beside the servers'
			drives[i].Cache = "writeback"
		}
	}
	return drives, nil
}

// driveRequest is what a server needs drives for.
func driveRequest(s Server, volumes []BlockDevice, virtType, arch, machineType string) blockdev.Request {
	r := blockdev.Request{VirtType: virtType, Arch: arch, Machine: machineType, Properties: s.properties(), Volumes: wantedOf(volumes)}
	if s.Flavor.EphemeralGiB > 0 {
		r.Ephemerals = []blockdev.Wanted{{}}
	}
	if s.Flavor.SwapMiB > 0 {
		r.Swap = &blockdev.Wanted{}
	}
	drive := s.ConfigDrive
	if s.Rescue != nil {
		r.Rescue = &blockdev.RescueImage{Stable: s.Rescue.Stable, Properties: s.Rescue.Image.Properties}
		drive = s.Rescue.ConfigDrive
	}
	if drive {
		r.ConfigDrive = string(s.driveFormat())
	}
	return r
}

// behind says what file a drive has its contents in.
func (f Files) behind(d *guest.Drive, p blockdev.Drive, s Server) {
	switch p.Role {
	case blockdev.Root:
		d.Source.File, d.Format = f.Root, "qcow2"
		d.Backing = []virt.Backing{{Path: f.Base, Format: s.Image.Format}}
	case blockdev.Ephemeral:
		d.Source.File, d.Format = f.Ephemeral, "raw"
	case blockdev.Swap:
		d.Source.File, d.Format = f.Swap, "raw"
	case blockdev.ConfigDrive:
		d.Source.File, d.Format = f.ConfigDrive, "raw"
		if s.Rescue != nil {
			d.Source.File = f.RescueConfig
		}
	case blockdev.Rescue:
		d.Source.File, d.Format = f.Rescue, "qcow2"
		d.Backing = []virt.Backing{{Path: f.RescueBase, Format: s.Rescue.Image.Format}}
	}
}

// refused turns an error of a package that decides into one that names the flavor or the image. The cause, which
// has Nova's name for it, stays within reach of errors.As.
func refused(err error) error {
	key, known := settingAtFault(err)
	if lost, is := errors.AsType[*guest.LostPlace](err); is {
		return &Failure{Kind: errors.Join(ErrNoCapacity, lost), Field: "NUMA", Reason: lost.Error()}
	}
	if key == blockdev.KeyMaxDrives {
		return &Failure{Kind: errors.Join(ErrForbidden, err), Reason: err.Error()}
	}
	if errors.Is(err, virt.ErrInvalid) { // flavor and image are right each by itself
		return &Failure{Kind: ErrInvalid, Field: "flavorRef", Reason: err.Error()}
	}
	if !known {
		return err
	}
	field := "flavorRef"
	for _, prefix := range []string{"hw_", "os_", "img_"} {
		if strings.HasPrefix(key, prefix) {
			field = "imageRef"
		}
	}
	return &Failure{Kind: errors.Join(ErrInvalid, err), Field: field, Reason: err.Error()}
}

// settingAtFault is the extra spec or image property that an error is about.
func settingAtFault(err error) (key string, known bool) {
	if e, is := errors.AsType[*numa.Error](err); is {
		return e.Key, true
	}
	if e, is := errors.AsType[*hwprops.Error](err); is {
		return e.Key, true
	}
	if e, is := errors.AsType[*guest.Error](err); is {
		return e.Key, true
	}
	if e, is := errors.AsType[*pci.Error](err); is {
		return e.Key, true
	}
	if e, is := errors.AsType[*blockdev.Error](err); is {
		return e.Key, true
	}
	return "", false
}

// lostPlace says why a server cannot run where it was placed: for its operator to put right.
func lostPlace(cause error, format string, args ...any) error {
	place := guest.LostPlace{Reason: fmt.Sprintf(format, args...)}
	return &Failure{Kind: ErrNoCapacity, Field: "NUMA", Reason: place.Error(), Err: cause}
}

// pinnedTo is the pCPUs that a guest has for itself.
func pinnedTo(placed numa.Guest) cpuset.Set {
	var s cpuset.Set
	for i := range placed.Cells {
		s = s.Union(placed.Cells[i].PinnedPCPUs()).Union(placed.Cells[i].Reserved)
	}
	return s
}
