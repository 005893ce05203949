package compute

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"compute-agent/blockdev"
	"compute-agent/blockdev/connector"
	"compute-agent/guest"
	"compute-agent/virt"
)

// BlockDevices lists a server's volumes in the order in which it got them.
func (m *Manager) BlockDevices(ctx context.Context, serverID string) (list []BlockDevice, err error) {
	err = m.store.View(ctx, func(tx Reader) error {
		if _, err := tx.Server(serverID); err != nil {
			return err
		}
		list, err = tx.BlockDevices(serverID)
		return err
	})
	return slices.DeleteFunc(list, BlockDevice.spare), err
}

// AllBlockDevices lists those of all servers.
func (m *Manager) AllBlockDevices(ctx context.Context) (list []BlockDevice, err error) {
	err = m.store.View(ctx, func(tx Reader) error {
		list, err = tx.AllBlockDevices()
		return err
	})
	return slices.DeleteFunc(list, BlockDevice.spare), err
}

// UsesAttachment says whether a server has, or gets, a volume by an attachment, or is being copied to it: then only the operations on servers may end it.
func (m *Manager) UsesAttachment(ctx context.Context, attachmentID string) (used bool, err error) {
	err = m.store.View(ctx, func(tx Reader) error {
		all, err := tx.AllBlockDevices()
		used = slices.ContainsFunc(all, func(d BlockDevice) bool { return d.AttachmentID == attachmentID })
		return err
	})
	return used, err
}

// spare says that the volume is none of the guest's: what a swap copies to, and afterwards what it has copied.
func (d BlockDevice) spare() bool { return d.Name == "" }

// root says that the server boots from the volume.
func (d BlockDevice) root() bool { return d.BootIndex != nil && *d.BootIndex == 0 }

// connected says that the host may have the volume: the service was asked for the way to it.
func (d BlockDevice) connected() bool { return d.Connection != nil }

// guestVolumes are the block devices that a guest which is made now gets.
func guestVolumes(tx VolumeReader, serverID string) ([]BlockDevice, error) {
	list, err := tx.BlockDevices(serverID)
	return ofGuest(list), err
}

// wanted is what is asked of a volume's place.
func (d BlockDevice) wanted() blockdev.Wanted {
	return blockdev.Wanted{Name: d.Name, Bus: blockdev.Bus(d.Bus), Type: blockdev.Type(d.Kind), BootIndex: d.BootIndex}
}

// at is the volume at its place.
func (d BlockDevice) at(p blockdev.Drive) BlockDevice {
	d.Name, d.Bus = p.Name, string(p.Bus)
	return d
}

func wantedOf(devices []BlockDevice) []blockdev.Wanted {
	var list []blockdev.Wanted
	for _, d := range devices {
		list = append(list, d.wanted())
	}
	return list
}

// behind says where a drive's contents are that is a volume. Of one that is not on the host yet that is not known, and no guest
// can be made with it.
func (d BlockDevice) behind(drive *guest.Drive) error {
	drive.VolumeID, drive.Serial = d.VolumeID, d.VolumeID
	drive.Shared, drive.ReadOnly = d.Multiattach, d.ReadOnly
	if !d.onHost() {
		drive.Source.Device, drive.Format, drive.Unstated = "/dev/volume/"+d.ID, "raw", true
		return nil
	}
	info, err := connector.Parse(d.Connection)
	if err != nil {
		return volumeFailure(d.VolumeID, err)
	}
	drive.Source, drive.Format = d.source(info), d.format(info)
	drive.ReadOnly = d.ReadOnly || info.ReadOnly
	drive.Tune = virt.DiskTune(info.Limits)
	drive.BlockIO = virt.BlockIO{Logical: info.Logical, Physical: info.Physical}
	if info.Discard {
		drive.Discard = "unmap"
	}
	if info.Type == connector.NFS {
		drive.SourceType = "mount"
	}
	if d.hypervisorDeciphers() {
		drive.Key = &virt.DiskKey{Format: "luks", Secret: SecretUUID(d.VolumeID, usageVolume)}
	}
	return nil
}

// onHost says that the volume's device is known.
func (d BlockDevice) onHost() bool {
	return d.connected() && (d.Device.Path != "" || d.Device.Network != nil)
}

func (d BlockDevice) format(info connector.Info) string {
	for _, f := range []string{d.Device.Format, info.Format} {
		if f != "" {
			return f
		}
	}
	return "raw"
}

// source is what the hypervisor opens.
func (d BlockDevice) source(info connector.Info) virt.Source {
	switch {
	case d.Device.Network != nil:
		return virt.Source{Network: d.network()}
	case d.Device.Crypt == "" && (info.Type == connector.File || info.Type == connector.NFS):
		return virt.Source{File: d.Device.Path}
	}
	return virt.Source{Device: d.Device.Path}
}

func (d BlockDevice) network() *virt.NetworkSource {
	n := d.Device.Network
	source := &virt.NetworkSource{Protocol: n.Protocol, Name: n.Name, Initiator: n.Initiator}
	for _, h := range n.Hosts {
		source.Hosts = append(source.Hosts, virt.HostPort(h))
	}
	if n.User != "" {
		source.Auth = &virt.SecretRef{User: n.User, Type: n.Usage, UUID: n.Secret}
		if n.Secret == "" {
			source.Auth.UUID = SecretUUID(d.VolumeID, n.Usage)
		}
	}
	return source
}

// What the hypervisor's secrets are for, in libvirt's words.
const (
	usageVolume = "volume"
	usageISCSI  = "iscsi"
	usageCeph   = "ceph"
)

// SecretUUID names the hypervisor's secret of a volume, for a use: iscsi, ceph or volume. It is always the same, so that a guest's definition
// depends on nothing but records.
func SecretUUID(volumeID, usage string) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte("compute-agent "+usage+" "+volumeID)).String()
}

// hypervisorDeciphers says that the hypervisor decrypts the volume: QEMU knows LUKS in its first version. What else is encrypted
// the host decrypts.
func (d BlockDevice) hypervisorDeciphers() bool {
	return d.Encryption != nil && d.Encryption.Provider == "luks" && d.Device.Crypt == ""
}

// keepUnits leaves disks at the places on their controller that they have in the guest that was made: those of disks that come or go
// beside them must not move them.
func keepUnits(made virt.Spec, spec *virt.Spec) {
	taken, next := map[int]bool{}, 0
	kept := make([]bool, len(spec.Disks))
	for i := range spec.Disks {
		d := &spec.Disks[i]
		at := slices.IndexFunc(made.Disks, func(o virt.Disk) bool { return o.Target == d.Target && o.Bus == d.Bus && o.Unit != nil })
		if d.Unit != nil && at >= 0 {
			unit := *made.Disks[at].Unit
			d.Unit, kept[i] = &unit, true
			taken[unit], next = true, max(next, unit+1)
		}
	}
	for i := range spec.Disks {
		if d := &spec.Disks[i]; d.Unit != nil && !kept[i] {
			if taken[*d.Unit] {
				unit := next
				d.Unit = &unit
			}
			taken[*d.Unit], next = true, max(next, *d.Unit+1)
		}
	}
}

// volumeFailure says why a volume cannot be had, or given back, in words that are fit for its user: who is asked to connect volumes
// knows no more than the reason.
func volumeFailure(volumeID string, err error) error {
	var refused *connector.Error
	if err == nil || !errors.As(err, &refused) {
		return err
	}
	if known, is := errors.AsType[*Failure](err); is {
		return known
	}
	f := &Failure{Kind: errVolume, Subject: "volume " + volumeID, Reason: reasons[refused.Reason], Err: err}
	if f.Reason == "" { // of a mismatch the user is told both identities
		f.Reason, f.Err = refused.Error(), nil
	}
	return f
}

// errVolume is that this host cannot have a volume, or give it back.
var errVolume = fmt.Errorf("volume not available on the host: %w", ErrConflict)

// reasons are what a user is told; portals and devices are the operator's business.
var reasons = map[connector.Reason]string{
	connector.InvalidInfo: "the volume service described it in a way that cannot be followed",
	connector.Unsupported: "the host has no means to connect it",
	connector.Unreachable: "its storage did not answer",
	connector.AuthFailed:  "its storage refused the host",
	connector.NoDevice:    "its storage has no such disk",
	connector.NoMultipath: "multipath is asked for, and cannot be had",
	connector.BadSize:     "its disk has no size that can be used",
	connector.InUse:       "something on the host still holds its disk",
}
