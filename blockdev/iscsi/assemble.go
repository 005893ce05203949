package iscsi

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/multipath"
	"compute-agent/blockdev/scsi"
)

// assemble makes one device of the disks, when all are the volume.
func (c *Connector) assemble(ctx context.Context, v volume, disks []disk, many bool, known connector.Identity) (connector.Device, error) {
	if err := check(disks, v.info, known); err != nil {
		return connector.Device{}, err
	}
	if err := c.unique(v, disks[0].Device); err != nil {
		return connector.Device{}, err
	}
	m, mapped, err := c.mapOf(ctx, v.info, disks, many)
	if err != nil {
		return connector.Device{}, err
	}
	if mapped {
		return c.mapDevice(m, disks[0].Identity), nil
	}
	return c.diskDevice(disks), nil
}

// check refuses disks that are not the volume, or not all the same.
func check(disks []disk, info connector.Info, known connector.Identity) error {
	first := disks[0]
	for _, d := range disks {
		switch {
		case d.Identity != first.Identity:
			return &connector.Error{
				Reason: connector.IdentityMismatch, Field: d.portal(), Value: named(d.Identity),
				Rule: fmt.Sprintf("the portals of one volume have different disks: at %s it is %s", first.portal(), named(first.Identity)),
			}
		case d.Bytes == 0:
			return &connector.Error{Reason: connector.BadSize, Field: d.Name, Value: "0", Rule: "the disk is empty: its target has none behind it, or is not ready"}
		case d.Bytes != first.Bytes:
			return &connector.Error{
				Reason: connector.BadSize, Field: d.portal(), Value: fmt.Sprint(d.Bytes),
				Rule: fmt.Sprintf("the paths of one volume have different sizes in bytes: at %s it is %d", first.portal(), first.Bytes),
			}
		}
	}
	if info.WWID != "" && !scsi.SameWWID(first.Identity, info.WWID) {
		return connector.CheckIdentity(first.Name, first.Identity, connector.Identity(info.WWID))
	}
	return connector.CheckIdentity(first.Name, first.Identity, known)
}

func named(id connector.Identity) string {
	if id == "" {
		return "without a name"
	}
	return string(id)
}

// unique refuses a disk whose name another disk of the host has too, another volume's or the host's own: multipath would make one map of both, and
// udev's links would lead now to one and now to the other.
func (c *Connector) unique(v volume, d scsi.Device) error {
	if d.Identity == "" {
		return nil
	}
	others := c.namesakes(d)
	if len(others) == 0 {
		return nil
	}
	logins, err := c.Sessions()
	if err != nil {
		return err
	}
	for _, other := range others {
		if where, ours := whose(v, other, logins); !ours {
			return &connector.Error{
				Reason: connector.IdentityMismatch, Field: d.Name, Value: named(d.Identity),
				Rule: fmt.Sprintf("%s (%s) says the same of itself and is not this volume's", where, other.Name),
			}
		}
	}
	return nil
}

// whose says where a disk is, and whether that is a way to the volume.
func whose(v volume, d scsi.Device, logins []Login) (where string, ours bool) {
	for _, l := range logins {
		if address(l.Session, d.Address.LUN) == d.Address {
			return fmt.Sprintf("LUN %s of %s", scsi.LUNInPath(d.Address.LUN), l.IQN),
				slices.ContainsFunc(v.ways, func(w way) bool { return w.iqn == l.IQN && w.lun == d.Address.LUN })
		}
	}
	return fmt.Sprintf("SCSI device %v", d.Address), false
}

// namesakes are the other disks of the host with the same identity, that work. They are looked for by one file each: there may be hundreds of disks.
func (c *Connector) namesakes(d scsi.Device) []scsi.Device {
	files, err := filepath.Glob(filepath.Join(c.SCSI.Sys, "bus/scsi/devices/*/wwid"))
	if err != nil {
		return nil
	}
	var found []scsi.Device
	for _, file := range files {
		a, err := scsi.ParseAddress(filepath.Base(filepath.Dir(file)))
		text, unread := os.ReadFile(file)
		if err != nil || unread != nil || a == d.Address || strings.Join(strings.Fields(string(text)), " ") != string(d.Identity) {
			continue
		}
		if other, is, err := c.SCSI.Find(a); err == nil && is && other.State == scsi.Running {
			found = append(found, other)
		}
	}
	return found
}

// mapOf returns the multipath map of the disks. Where several paths are not wanted it is one that multipathd made unasked: nobody may then use what is below it.
func (c *Connector) mapOf(ctx context.Context, info connector.Info, disks []disk, many bool) (multipath.Map, bool, error) {
	identity := disks[0].Identity
	if !many {
		m, found, err := c.maps.Of(disks[0].Name)
		if err == nil && found {
			err = c.maps.CheckMap(m.WWID, identity)
		}
		return m, found, err
	}
	wwid := c.SCSI.WWID(disks[0].Device)
	if err := c.maps.CheckMap(wwid, identity); err != nil {
		return multipath.Map{}, false, err
	}
	var names []string
	for _, d := range disks {
		names = append(names, d.Name)
	}
	m, err := c.maps.Make(ctx, wwid, names)
	if err == nil {
		return m, true, c.maps.CheckMap(wwid, identity)
	}
	if info.EnforceMultipath || ctx.Err() != nil {
		return multipath.Map{}, false, err
	}
	c.Log.WarnContext(ctx, "A volume gets one path: multipathd makes no map of it", "disk", disks[0].Name, "cause", err)
	return multipath.Map{}, false, nil
}

func (c *Connector) mapDevice(m multipath.Map, identity connector.Identity) connector.Device {
	paths := slices.Clone(m.Paths)
	slices.Sort(paths)
	return connector.Device{Path: c.SCSI.Path(m.Device), Format: "raw", Identity: identity, Bytes: m.Bytes, Map: m.Name, Paths: paths}
}

// diskDevice is the first disk. The others stay: they are taken away with it.
func (c *Connector) diskDevice(disks []disk) connector.Device {
	d := connector.Device{Path: c.SCSI.Path(disks[0].Name), Format: "raw", Identity: disks[0].Identity, Bytes: disks[0].Bytes}
	for _, other := range disks {
		d.Paths = append(d.Paths, other.Name)
	}
	return d
}
