package iscsi

import (
	"fmt"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
)

// Login is a session with the disks that are there by it.
type Login struct {
	Session
	Disks []scsi.Device // in the order of LUNs
}

// Sessions returns all iSCSI sessions of the host, whoever made them.
func (c *Connector) Sessions() ([]Login, error) {
	all, err := sessions(c.SCSI.Sys, "")
	if err != nil {
		return nil, err
	}
	var found []Login
	for _, s := range all {
		disks, err := c.Disks(s)
		if err != nil {
			return nil, err
		}
		found = append(found, Login{Session: s, Disks: disks})
	}
	return found, nil
}

// Disks returns the disks of a session.
func (c *Connector) Disks(s Session) ([]scsi.Device, error) {
	addresses, err := c.disks(s)
	if err != nil {
		return nil, err
	}
	var found []scsi.Device
	for _, a := range addresses {
		d, is, err := c.SCSI.Find(a)
		if err != nil {
			return nil, err
		}
		if is {
			found = append(found, d)
		}
	}
	return found, nil
}

// Owns says whether a disk at the address, in the session, is the volume of an Info.
func (c *Connector) Owns(info connector.Info, s Session, a scsi.Address) (bool, error) {
	v, err := c.parse(info)
	if err != nil {
		return false, fmt.Errorf("whose is SCSI device %v: %w", a, err)
	}
	for _, w := range v.ways {
		if s.IQN == w.iqn && s.Interface == w.iface && a == address(s, w.lun) {
			return true, nil
		}
	}
	return false, nil
}
