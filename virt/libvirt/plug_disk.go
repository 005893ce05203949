package libvirt

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// PlugDisk implements virt.DiskPlugger.
func (d *Driver) PlugDisk(ctx context.Context, id string, disk virt.Disk) error {
	const op = "plug disk into guest"
	if err := disk.Validate(); err != nil {
		return failure(op, id, err)
	}
	if !disk.Pluggable() {
		return failure(op, id, fmt.Errorf("%w: a drive of kind %q on bus %s cannot be plugged in", virt.ErrUnsupported, disk.Kind, disk.Bus))
	}
	if err := checkFiles(&virt.Spec{Disks: []virt.Disk{disk}}); err != nil {
		return failure(op, id, err)
	}
	rendered := renderDisk(&disk)
	element, err := rendered.Marshal()
	if err != nil {
		return failure(op, id, err)
	}
	return d.changeGuest(ctx, op, id, d.opt.CallTimeout, func(ctx context.Context, c *call) (virt.EventKind, error) {
		if _, err := c.find(ctx, id, unlessUsed(disk)); err != nil {
			return noEvent, err
		}
		return noEvent, c.plugDevice(ctx, id, element, byTarget(disk.Target))
	})
}

// UnplugDisk implements virt.DiskPlugger.
func (d *Driver) UnplugDisk(ctx context.Context, id, target string, opt virt.UnplugOptions) error {
	limit := d.opt.CallTimeout + opt.Patience
	return d.changeGuest(ctx, "unplug disk from guest", id, limit, func(ctx context.Context, c *call) (virt.EventKind, error) {
		return c.unplugDevice(ctx, id, opt, byTarget(target))
	})
}

// byTarget finds a disk.
func byTarget(target string) finder {
	return func(domain *libvirtxml.Domain) (alias, element string, err error) {
		d := diskAt(domain, target)
		if d == nil {
			return "", "", nil
		}
		if d.Alias != nil {
			alias = d.Alias.Name
		}
		element, err = d.Marshal()
		return alias, element, err
	}
}

// unlessUsed finds nothing, and fails when another disk of the guest has the source. Two in one process would lock each other out
// only when both are open: a stopped guest would not start any more.
func unlessUsed(disk virt.Disk) finder {
	return func(domain *libvirtxml.Domain) (alias, element string, err error) {
		for _, d := range disksOf(domain) {
			if t := targetOfDisk(&d); t != disk.Target && sameSource(sourceOf(&d), disk.Source) {
				return "", "", fmt.Errorf("%w: the guest has the source as its disk %s", virt.ErrBusy, t)
			}
		}
		return "", "", nil
	}
}

func disksOf(domain *libvirtxml.Domain) []libvirtxml.DomainDisk {
	if domain.Devices == nil {
		return nil
	}
	return domain.Devices.Disks
}

// diskAt is the disk of a target; nil for none.
func diskAt(domain *libvirtxml.Domain, target string) *libvirtxml.DomainDisk {
	disks := disksOf(domain)
	for i := range disks {
		if targetOfDisk(&disks[i]) == target && target != "" {
			return &disks[i]
		}
	}
	return nil
}

func targetOfDisk(d *libvirtxml.DomainDisk) string {
	if d.Target == nil {
		return ""
	}
	return d.Target.Dev
}

// sourceOf is a disk's source as a Spec has it; empty for one that no Spec has.
func sourceOf(d *libvirtxml.DomainDisk) virt.Source {
	s := readSource(d.Source)
	if s.Network != nil && d.Auth != nil {
		s.Network.Auth = readAuth(d.Auth)
	}
	return s
}

func readSource(s *libvirtxml.DomainDiskSource) virt.Source {
	switch {
	case s == nil:
	case s.File != nil:
		return virt.Source{File: s.File.File}
	case s.Block != nil:
		return virt.Source{Device: s.Block.Dev}
	case s.Network != nil:
		return virt.Source{Network: readNetwork(s.Network)}
	}
	return virt.Source{}
}

func readNetwork(n *libvirtxml.DomainDiskSourceNetwork) *virt.NetworkSource {
	out := &virt.NetworkSource{Protocol: n.Protocol, Name: n.Name, Auth: readAuth(n.Auth)}
	for _, h := range n.Hosts {
		port, err := strconv.Atoi(h.Port)
		if err != nil {
			port = 0
		}
		out.Hosts = append(out.Hosts, virt.HostPort{Host: h.Name, Port: port})
	}
	if n.Initiator != nil && n.Initiator.IQN != nil {
		out.Initiator = n.Initiator.IQN.Name
	}
	return out
}

// readTune is what diskTune rendered.
func readTune(t *libvirtxml.DomainDiskIOTune) virt.DiskTune {
	if t == nil {
		return virt.DiskTune{}
	}
	return virt.DiskTune{
		TotalBytes: t.TotalBytesSec, ReadBytes: t.ReadBytesSec, WriteBytes: t.WriteBytesSec,
		TotalIOPS: t.TotalIopsSec, ReadIOPS: t.ReadIopsSec, WriteIOPS: t.WriteIopsSec,
		TotalBytesMax: t.TotalBytesSecMax, ReadBytesMax: t.ReadBytesSecMax, WriteBytesMax: t.WriteBytesSecMax,
		TotalIOPSMax: t.TotalIopsSecMax, ReadIOPSMax: t.ReadIopsSecMax, WriteIOPSMax: t.WriteIopsSecMax,
		SizeIOPS: t.SizeIopsSec,
	}
}

func readAuth(a *libvirtxml.DomainDiskAuth) *virt.SecretRef {
	if a == nil || a.Secret == nil {
		return nil
	}
	return &virt.SecretRef{User: a.Username, Type: a.Secret.Type, UUID: a.Secret.UUID}
}

// sameSource says whether two sources are one. libvirt writes a protocol's own port where none was named.
func sameSource(a, b virt.Source) bool {
	if a.Empty() || a.Network == nil || b.Network == nil {
		return !a.Empty() && a.Network == nil && b.Network == nil && a == b
	}
	return a.Network.Protocol == b.Network.Protocol && a.Network.Name == b.Network.Name &&
		slices.EqualFunc(a.Network.Hosts, b.Network.Hosts, func(a, b virt.HostPort) bool {
			return a.Host == b.Host && (a.Port == b.Port || a.Port == 0 || b.Port == 0)
		})
}

// Disks implements virt.DiskPlugger.
func (d *Driver) Disks(ctx context.Context, id string) ([]virt.PluggedDisk, error) {
	result := make(chan []virt.PluggedDisk, 1)
	err := d.run(ctx, "list disks of guest", id, d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		return c.rpc(ctx, func(conn *lv.Connect) error {
			list, err := listDisks(conn, id)
			result <- list
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return <-result, nil
}

func listDisks(conn *lv.Connect, id string) (list []virt.PluggedDisk, err error) {
	dom, err := lookup(conn, id)
	if err != nil {
		return nil, err
	}
	defer free(dom)
	state, _, err := dom.GetState()
	if err != nil {
		return nil, err
	}
	if hasProcess(state) {
		if list, err = listLiveDisks(conn, dom); err != nil {
			return nil, err
		}
	}
	persistent, err := dom.IsPersistent()
	if err != nil || !persistent {
		return list, err
	}
	defined, err := parseDomain(dom, lv.DOMAIN_XML_INACTIVE)
	if err != nil {
		return nil, err
	}
	for _, d := range disksOf(defined) {
		target := targetOfDisk(&d)
		if at := slices.IndexFunc(list, func(p virt.PluggedDisk) bool { return p.Target == target }); at >= 0 {
			list[at].Defined = true
			continue
		}
		list = append(list, pluggedDisk(&d))
		list[len(list)-1].Defined = true
	}
	return list, nil
}

func pluggedDisk(d *libvirtxml.DomainDisk) virt.PluggedDisk {
	p := virt.PluggedDisk{Target: targetOfDisk(d), Serial: d.Serial, Source: sourceOf(d), Tune: readTune(d.IOTune)}
	if d.BlockIO != nil {
		p.BlockIO = virt.BlockIO{Logical: int(d.BlockIO.LogicalBlockSize), Physical: int(d.BlockIO.PhysicalBlockSize)}
	}
	if d.Driver != nil {
		p.Discard = d.Driver.Discard
	}
	return p
}

func listLiveDisks(conn *lv.Connect, dom *lv.Domain) (list []virt.PluggedDisk, err error) {
	live, err := parseDomain(dom, 0)
	if err != nil {
		return nil, err
	}
	sizes := map[string]uint64{}
	stats, err := conn.GetAllDomainStats([]*lv.Domain{dom}, lv.DOMAIN_STATS_BLOCK, 0)
	if err != nil {
		return nil, err
	}
	for i := range stats {
		for _, b := range stats[i].Block {
			sizes[b.Name] = b.Capacity
		}
		free(stats[i].Domain)
	}
	for _, d := range disksOf(live) {
		p := pluggedDisk(&d)
		p.Live, p.Bytes = true, sizes[p.Target]
		list = append(list, p)
	}
	return list, nil
}

// ResizeDisk implements virt.DiskResizer.
func (d *Driver) ResizeDisk(ctx context.Context, id, target string, bytes uint64) error {
	const op = "resize disk of guest"
	if bytes%512 != 0 {
		return failure(op, id, fmt.Errorf("%w: disk %s: %d bytes are not sectors of 512", virt.ErrInvalid, target, bytes))
	}
	return d.changeGuest(ctx, op, id, d.opt.CallTimeout, func(ctx context.Context, c *call) (virt.EventKind, error) {
		return noEvent, c.domain(ctx, id, func(dom *lv.Domain) error { return resizeDisk(dom, target, bytes) })
	})
}

func resizeDisk(dom *lv.Domain, target string, bytes uint64) error {
	_, live, err := lookUpDisk(dom, target)
	if err != nil || !live {
		return err
	}
	info, err := dom.GetBlockInfo(target, 0)
	if err != nil {
		return err
	}
	if bytes < info.Capacity {
		return fmt.Errorf("%w: disk %s would shrink from %d to %d bytes", virt.ErrInvalid, target, info.Capacity, bytes)
	}
	return dom.BlockResize(target, bytes, lv.DOMAIN_BLOCK_RESIZE_BYTES)
}

// lookUpDisk is a guest's disk: the live one of a guest that has a process, else that of its definition.
func lookUpDisk(dom *lv.Domain, target string) (disk *libvirtxml.DomainDisk, live bool, err error) {
	state, _, err := dom.GetState()
	if err != nil {
		return nil, false, err
	}
	for _, flags := range []lv.DomainXMLFlags{0, lv.DOMAIN_XML_INACTIVE} {
		domain, err := parseDomain(dom, flags)
		if err != nil {
			return nil, false, err
		}
		if disk := diskAt(domain, target); disk != nil {
			return disk, flags == 0 && hasProcess(state), nil
		}
	}
	return nil, false, fmt.Errorf("%w: no disk %s", virt.ErrNotFound, target)
}
