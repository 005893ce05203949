package plan

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"

	"compute-agent/guest"
	"compute-agent/virt"
)

// diskInfoForm is Nova's disk_info: where each drive is attached, by the name that it has there: disk, disk.local,
// disk.eph0, disk.swap, disk.config, disk.rescue, and a volume's device.
type diskInfoForm struct {
	Mapping map[string]placeForm `json:"mapping"`
}

// placeForm is a drive's place in the guest.
type placeForm struct {
	Bus       string `json:"bus"`
	Dev       string `json:"dev"`
	Type      string `json:"type"`
	Boot      scalar `json:"boot_index"`
	Encrypted scalar `json:"encrypted"`
	Format    string `json:"encryption_format"`
	Secret    string `json:"encryption_secret_uuid"`
}

func (p placeForm) same(o placeForm) bool {
	return p.Bus == o.Bus && p.Dev == o.Dev && p.Type == o.Type
}

// bdmForm is a block device mapping.
type bdmForm struct {
	Source      string          `json:"source_type"`
	Destination string          `json:"destination_type"`
	BootIndex   *count          `json:"boot_index"`
	DeviceName  string          `json:"device_name"`
	MountDevice string          `json:"mount_device"`
	DeviceType  string          `json:"device_type"`
	DiskBus     string          `json:"disk_bus"`
	GuestFormat string          `json:"guest_format"`
	VolumeID    string          `json:"volume_id"`
	Size        count           `json:"volume_size"`
	Connection  *connectionForm `json:"connection_info"`
	Tag         string          `json:"tag"`
	Secret      string          `json:"encryption_secret_uuid"`
}

// connectionForm says how a volume is reached. Data differs by the driver.
type connectionForm struct {
	Driver      string       `json:"driver_volume_type"`
	Serial      string       `json:"serial"`
	Multiattach scalar       `json:"multiattach"`
	Data        volumeFields `json:"data"`
}

type volumeFields struct {
	Path         string          `json:"device_path"`
	Access       string          `json:"access_mode"`
	Discard      scalar          `json:"discard"`
	QoS          json.RawMessage `json:"qos_specs"`
	Logical      scalar          `json:"logical_block_size"`
	Physical     scalar          `json:"physical_block_size"`
	Name         string          `json:"name"`
	Hosts        []string        `json:"hosts"`
	Ports        []scalar        `json:"ports"`
	AuthEnabled  scalar          `json:"auth_enabled"`
	AuthUser     string          `json:"auth_username"`
	SecretType   string          `json:"secret_type"`
	SecretUUID   string          `json:"secret_uuid"`
	VolumeID     string          `json:"volume_id"`
	Format       string          `json:"format"`
	Export       string          `json:"export"`
	SecretLibvir string          `json:"encryption_secret_uuid"`
}

// storage is what the configuration says of where drives are.
type storage struct {
	instance string // the server's folder
	uuid     string
	images   string // images_type
	io       string // of the server's own files
	group    string // images_volume_group
	lvmIO    string
	asyncIO  string // of volumes that are devices
	pool     string // images_rbd_pool
	secret   *virt.SecretRef
	rbdUser  string
	rbdUUID  string
}

func (r *reader) storage(uuid string) storage {
	s := storage{
		instance: path.Join(r.text("DEFAULT.instances_path", path.Join(r.text("DEFAULT.state_path", "/var/lib/nova"), "instances")), uuid),
		uuid:     uuid, images: r.text("libvirt.images_type", "default"), group: r.text("libvirt.images_volume_group", ""),
		pool:    r.text("libvirt.images_rbd_pool", "rbd"),
		rbdUser: r.text("libvirt.rbd_user", ""), rbdUUID: r.text("libvirt.rbd_secret_uuid", ""),
	}
	if s.images == "default" {
		s.images = "qcow2"
		if !r.yes("DEFAULT.use_cow_images", true) {
			s.images = "raw"
		}
	}
	if r.text("DEFAULT.preallocate_images", "none") == "space" {
		s.io = "native"
	}
	if !r.yes("libvirt.sparse_logical_volumes", false) {
		s.lvmIO = "native"
	}
	if !r.yes("libvirt.use_default_aio_mode_for_volumes", false) {
		s.asyncIO = "native"
	}
	if s.rbdUser != "" || s.rbdUUID != "" {
		s.secret = &virt.SecretRef{User: s.rbdUser, Type: "ceph", UUID: s.rbdUUID}
	}
	return s
}

// own is a drive of the server's own, on the storage that images is of.
func (s *storage) own(name string, role guest.Role, p placeForm, images string) guest.Drive {
	d := guest.Drive{Role: role, Target: p.Dev, Bus: p.Bus, Kind: p.Type, Boot: p.Boot.number(), Format: "raw", IO: s.io, Unstated: true}
	switch images {
	case "rbd":
		d.Source.Network = &virt.NetworkSource{Protocol: "rbd", Name: s.pool + "/" + s.uuid + "_" + name, Auth: s.secret}
		d.IO = ""
	case "lvm":
		d.IO = s.lvmIO
		d.Source.Device = path.Join("/dev", s.group, s.uuid+"_"+strings.ReplaceAll(name, "_", "__"))
	default:
		d.Source.File = path.Join(s.instance, name)
	}
	if images == "qcow2" {
		d.Format = "qcow2"
	}
	if p.Encrypted.yes() && p.Format == "luks" {
		d.Key = &virt.DiskKey{Format: p.Format, Secret: p.Secret}
	}
	return d
}

// drives are all drives in Nova's order: the server's own, then the volumes, then a rescue disk that leaves the others in
// their places.
func (s *storage) drives(m map[string]placeForm, volumes []bdmForm) ([]guest.Drive, error) {
	rescue, rescued := m["disk.rescue"]
	instead := rescued && rescue.same(m["root"])
	var list []guest.Drive
	add := func(name string, role guest.Role, images string) {
		if p, there := m[name]; there {
			list = append(list, s.own(name, role, p, images))
		}
	}
	config := "disk.config"
	if instead {
		add("disk.rescue", guest.RoleRescue, s.images)
		add("disk", guest.RoleRoot, s.images)
		config = "disk.config.rescue"
	} else {
		add("disk", guest.RoleRoot, s.images)
		add("disk.local", guest.RoleEphemeral, s.images)
		for i := 0; i < len(m); i++ {
			add("disk.eph"+strconv.Itoa(i), guest.RoleEphemeral, s.images)
		}
		add("disk.swap", guest.RoleSwap, s.images)
	}
	add(config, guest.RoleConfigDrive, s.configImages())
	for i := range volumes {
		if !volumes[i].isVolume() {
			continue
		}
		d, err := s.volume(&volumes[i], m)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	if rescued && !instead {
		add("disk.rescue", guest.RoleRescue, s.images)
		list[len(list)-1].Boot = 1
	}
	return list, nil
}

// configImages is what a config drive is on: rbd as the others, else a raw file.
func (s *storage) configImages() string {
	if s.images == "rbd" {
		return "rbd"
	}
	return "raw"
}

func (b *bdmForm) isVolume() bool { return b.Connection != nil || b.Destination == "volume" }

func (b *bdmForm) device() string {
	name := b.MountDevice
	if name == "" {
		name = b.DeviceName
	}
	return "/dev/" + strings.TrimPrefix(name, "/dev/")
}

// volume is a volume as its driver defines it.
func (s *storage) volume(b *bdmForm, m map[string]placeForm) (guest.Drive, error) {
	p, there := m[b.device()]
	if !there {
		return guest.Drive{}, &guest.Error{Class: "InvalidBDM", Key: "block_device_mapping", Value: b.device(), Rule: "the drive has no place in disk_info"}
	}
	c := b.Connection
	if c == nil {
		c = &connectionForm{}
	}
	d := guest.Drive{Role: guest.RoleVolume, Target: p.Dev, Bus: p.Bus, Kind: p.Type, Boot: p.Boot.number(), Format: "raw",
		VolumeID: c.volumeID(), Serial: c.Serial, Shared: c.Multiattach.yes(), Unstated: true,
		BlockIO: virt.BlockIO{Logical: c.Data.Logical.number(), Physical: c.Data.Physical.number()}}
	if c.Data.Discard.yes() {
		d.Discard = "unmap"
	}
	if secret := firstOf(b.Secret, c.Data.SecretLibvir); secret != "" {
		d.Key = &virt.DiskKey{Format: "luks", Secret: secret}
	}
	switch c.Data.Access {
	case "", "rw":
	case "ro":
		d.ReadOnly = true
	default:
		return d, &guest.Error{Class: "InvalidVolumeAccessMode", Key: "access_mode", Value: c.Data.Access, Rule: "must be ro or rw"}
	}
	var err error
	if d.Tune, err = tuneOf(c.Data.QoS); err != nil {
		return d, err
	}
	return d, s.reach(&d, c)
}

// volumeID is what Nova takes for it.
func (c *connectionForm) volumeID() string { return firstOf(c.Data.VolumeID, c.Serial) }

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// drivers of Nova by how the hypervisor reaches their volumes.
var (
	nativeDevices = []string{"scaleio", "storpool"}
	asyncDevices  = []string{"iscsi", "iser", "fibre_channel"}
	plainDevices  = []string{"local", "nvmeof", "lightos"}
	fileDrivers   = []string{"nfs", "smbfs", "gpfs", "quobyte", "vzstorage"}
)

// reach says where a volume's contents are.
func (s *storage) reach(d *guest.Drive, c *connectionForm) error {
	data := &c.Data
	switch name := c.Driver; {
	case slices.Contains(nativeDevices, name):
		d.Source.Device, d.IO = data.Path, "native"
	case slices.Contains(asyncDevices, name):
		d.Source.Device, d.IO = data.Path, s.asyncIO
	case slices.Contains(plainDevices, name):
		d.Source.Device = data.Path
	case slices.Contains(fileDrivers, name):
		d.Source.File = data.Path
		if data.Format != "" {
			d.Format = data.Format
		}
		switch name {
		case "nfs":
			d.IO = s.asyncIO
		case "quobyte":
			d.IO = "native"
		case "smbfs", "vzstorage":
			d.Cache = "writeback"
		}
	case name == "rbd":
		d.Source.Network = s.network(c)
	case name == "fake":
		d.Source.Network = &virt.NetworkSource{Protocol: "fake", Name: "fake"}
	default:
		return &guest.Error{Class: "VolumeDriverNotFound", Key: "driver_volume_type", Value: name, Rule: "is none that Nova's libvirt driver knows"}
	}
	return nil
}

// network is a volume that the hypervisor reaches itself. What the volume says of logging in is taken before what the
// host's configuration says.
func (s *storage) network(c *connectionForm) *virt.NetworkSource {
	data := &c.Data
	n := &virt.NetworkSource{Protocol: c.Driver, Name: data.Name}
	for i, host := range data.Hosts {
		if i < len(data.Ports) {
			n.Hosts = append(n.Hosts, virt.HostPort{Host: strings.Trim(host, "[]"), Port: data.Ports[i].number()})
		}
	}
	secretType := firstOf(data.SecretType, "ceph")
	switch {
	case data.AuthEnabled.yes() && data.SecretUUID != "":
		n.Auth = &virt.SecretRef{User: data.AuthUser, Type: secretType, UUID: data.SecretUUID}
	case data.AuthEnabled.yes() || s.rbdUUID != "":
		n.Auth = &virt.SecretRef{User: s.rbdUser, Type: secretType, UUID: s.rbdUUID}
	}
	return n
}

// tuneOf reads a volume's qos_specs; what is no object of them says nothing.
func tuneOf(raw json.RawMessage) (t virt.DiskTune, err error) {
	var specs map[string]scalar
	if len(raw) == 0 || json.Unmarshal(raw, &specs) != nil {
		return t, nil
	}
	for key, to := range map[string]*uint64{
		"total_bytes_sec": &t.TotalBytes, "read_bytes_sec": &t.ReadBytes, "write_bytes_sec": &t.WriteBytes,
		"total_iops_sec": &t.TotalIOPS, "read_iops_sec": &t.ReadIOPS, "write_iops_sec": &t.WriteIOPS,
		"total_bytes_sec_max": &t.TotalBytesMax, "read_bytes_sec_max": &t.ReadBytesMax, "write_bytes_sec_max": &t.WriteBytesMax,
		"total_iops_sec_max": &t.TotalIOPSMax, "read_iops_sec_max": &t.ReadIOPSMax, "write_iops_sec_max": &t.WriteIOPSMax,
		"size_iops_sec": &t.SizeIOPS,
	} {
		if value, set := specs[key]; set {
			if *to, err = strconv.ParseUint(string(value), 10, 64); err != nil {
				return t, &guest.Error{Class: "InvalidInput", Key: "qos_specs." + key, Value: string(value), Rule: "must be a count number"}
			}
		}
	}
	return t, nil
}
