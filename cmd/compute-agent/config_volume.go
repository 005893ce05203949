package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"compute-agent/blockdev/connector"
	"compute-agent/compute"
	"compute-agent/internal/pattern"
)

// volumeOptions is what an operator can choose about volumes.
type volumeOptions struct {
	Dir         string
	Format      string
	Preallocate bool
	Group       string
	GroupWipe   string
	LUNs        string
	LUNsWipe    string
	Volumes     int
	Snapshots   int
	Gigabytes   int

	Initiator     string
	InitiatorName string
	Interface     string
	Multipath     bool
	Enforce       bool
	DeviceTimeout time.Duration
	Scans         int
	Wildcard      bool
	IP            string

	NFSBase    string
	NFSOptions string
	RBDUser    string
	RBDSecret  string
	FileDirs   []string
}

func (v *volumeOptions) keys() []key {
	return []key{
		{name: "volume_dir", initial: "", value: text(&v.Dir, orEmpty(absolutePath)),
			doc: "Directory of volumes that are files. Empty: volumes in the state directory."},
		{name: "volume_format", initial: "raw", value: choice(&v.Format, "raw", "qcow2"),
			doc: "Format of new volumes that are files."},
		{name: "volume_preallocate", initial: "false", value: truth(&v.Preallocate),
			doc: "Whether volumes that are files take all of their space at once."},
		{name: "volume_group", initial: "", value: text(&v.Group, orEmpty(volumeGroup)),
			doc: "LVM volume group, for volumes that are logical volumes. Empty: none."},
		{name: "volume_group_wipe", initial: "zero", value: choice(&v.GroupWipe, "zero", "discard", "none"),
			doc: "What is done to a logical volume before it is removed, so that no later one shows what it held: zero, discard (only for storage that\n" +
				"then reads as zeroes) or none."},
		{name: "volume_luns_file", initial: "", value: text(&v.LUNs, orEmpty(absolutePath)),
			doc: "JSON file, readable by root only, with the LUNs that the administrator of an array hands over: a list of objects with name,\n" +
				"size_gib and connection_info, in the shape that Cinder has for it. Empty: none."},
		{name: "volume_luns_wipe", initial: "keep", value: choice(&v.LUNsWipe, "keep", "zero", "none"),
			doc: "What is done to a LUN whose volume is deleted: keep it for the project that had it, zero it (the host must reach it), or none, where the\n" +
				"array cleans it."},
		{name: "quota_volumes", initial: "10", value: whole(&v.Volumes, -1, 1e6), doc: "Volumes of a project; -1 for no limit."},
		{name: "quota_snapshots", initial: "10", value: whole(&v.Snapshots, -1, 1e6), doc: "Snapshots of a project; -1 for no limit."},
		{name: "quota_gigabytes", initial: "1000", value: whole(&v.Gigabytes, -1, 1e9), doc: "GiB of a project's volumes and snapshots; -1 for no limit."},

		{name: "iscsi_initiator", initial: "host", value: choice(&v.Initiator, "host", "qemu"),
			doc: "Who reaches LUNs by iSCSI: the host's own initiator (open-iscsi), or QEMU, for hosts without one."},
		{name: "iscsi_initiator_name", initial: "", value: text(&v.InitiatorName, orEmpty(initiatorName)),
			doc: "IQN of this host. Empty: that of /etc/iscsi/initiatorname.iscsi."},
		{name: "iscsi_iface", initial: "default", value: text(&v.Interface, plainWord),
			doc: "Interface of open-iscsi that sessions use (iscsiadm -m iface)."},
		{name: "volume_use_multipath", initial: "false", value: truth(&v.Multipath),
			doc: "Whether volumes by iSCSI and Fibre Channel are reached by all of their paths, through multipathd."},
		{name: "volume_enforce_multipath", initial: "false", value: truth(&v.Enforce),
			doc: "Whether the agent does not start, and no volume is attached, without multipathd."},
		{name: "volume_device_timeout", initial: "30", value: seconds(&v.DeviceTimeout, time.Second, 10*time.Minute),
			doc: "Seconds that a login, or the device of a volume, may take."},
		{name: "num_volume_scan_tries", initial: "5", value: whole(&v.Scans, 1, 20),
			doc: "How often an iSCSI target is asked for a LUN that it does not show yet, with pauses of 1, 2, 4... seconds."},
		{name: "fc_wildcard_scan", initial: "true", value: truth(&v.Wildcard),
			doc: "Whether a port of this host that sees no target of a volume looks at all of its targets (enable_wildcard_scan)."},
		{name: "my_block_storage_ip", initial: "", value: text(&v.IP, orEmpty(ipAddress)),
			doc: "Address of this host in the storage network, which a volume service is told. Empty: none."},
		{name: "nfs_mount_point_base", initial: "", value: text(&v.NFSBase, orEmpty(absolutePath)),
			doc: "Directory below which NFS exports are mounted. Empty: mnt in the state directory."},
		{name: "nfs_mount_options", initial: "", value: text(&v.NFSOptions),
			doc: "Options of mount for NFS exports, with commas between them."},
		{name: "rbd_user", initial: "", value: text(&v.RBDUser, orEmpty(plainWord)),
			doc: "Ceph user of RBD volumes whose connection_info names none."},
		{name: "rbd_secret_uuid", initial: "", value: text(&v.RBDSecret, orEmpty(isUUID)),
			doc: "UUID of libvirt's secret with that user's key."},
		{name: "volume_file_dirs", initial: "", value: list(&v.FileDirs, absolutePath),
			doc: "Directories, besides volume_dir, that hold volumes of connection type file, with commas between them."},
	}
}

var vgName = pattern.New(`^[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]{0,126}$`)

func volumeGroup(s string) error {
	if !vgName.MatchString(s) || s == "." || s == ".." {
		return errors.New("must be the name of a volume group")
	}
	return nil
}

func initiatorName(s string) error {
	if len(s) > 223 || !strings.HasPrefix(s, "iqn.") && !strings.HasPrefix(s, "eui.") && !strings.HasPrefix(s, "naa.") || strings.ContainsAny(s, " \t\n,'\"") {
		return errors.New("must be a name such as iqn.2004-10.org.example:host1")
	}
	return nil
}

func isUUID(s string) error {
	if _, err := uuid.Parse(s); err != nil {
		return errors.New("must be a UUID")
	}
	return nil
}

// volumeDir is where volumes that are files lie.
func (c *Config) volumeDir() string {
	if c.Volume.Dir != "" {
		return c.Volume.Dir
	}
	return filepath.Join(c.StateDir, "volumes")
}

// nfsBase is where exports are mounted.
func (c *Config) nfsBase() string {
	if c.Volume.NFSBase != "" {
		return c.Volume.NFSBase
	}
	return filepath.Join(c.StateDir, "mnt")
}

// handedLUN is an entry of volume_luns_file.
type handedLUN struct {
	Name       string        `json:"name"`
	SizeGiB    int           `json:"size_gib"`
	Connection connector.Raw `json:"connection_info"`
}

// readLUNs reads the file of LUNs. It holds passwords, so nobody but its owner may read it.
func (c *Config) readLUNs() ([]compute.FixedLUN, error) {
	if c.Volume.LUNs == "" {
		return nil, nil
	}
	info, err := os.Stat(c.Volume.LUNs)
	if err != nil {
		return nil, fmt.Errorf("volume_luns_file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("volume_luns_file: %s has mode %04o, and must be readable by its owner only: it holds passwords", c.Volume.LUNs, info.Mode().Perm())
	}
	file, err := os.Open(c.Volume.LUNs)
	if err != nil {
		return nil, fmt.Errorf("volume_luns_file: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	in := json.NewDecoder(file)
	in.DisallowUnknownFields()
	var handed []handedLUN
	if err := in.Decode(&handed); err != nil {
		return nil, fmt.Errorf("volume_luns_file: %s: must be a list of objects with name, size_gib and connection_info: %w", c.Volume.LUNs, err)
	}
	luns := make([]compute.FixedLUN, len(handed))
	for i, h := range handed {
		luns[i] = compute.FixedLUN(h)
	}
	return luns, nil
}
