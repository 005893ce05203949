package guest

import (
	"slices"

	"compute-agent/virt"
)

// nics are the guest's network interfaces. A port that is a whole device is a PCI device of the guest.
func (d *definition) nics() error {
	for i := range d.r.Ports {
		port := &d.r.Ports[i]
		if port.VIFType == "hostdev_physical" || port.VIFType == "ib_hostdev" {
			d.spec.PCI = append(d.spec.PCI, virt.PCIDevice{Address: port.PCISlot, Managed: true, Alias: port.Alias})
			continue
		}
		nic, err := d.nic(port)
		if err != nil {
			return err
		}
		d.spec.NICs = append(d.spec.NICs, nic)
	}
	return nil
}

func (d *definition) nic(port *Port) (virt.NIC, error) {
	plug, err := plugOf(port)
	if err != nil {
		return virt.NIC{}, err
	}
	nic := virt.NIC{MAC: port.MAC, Attach: plug.Attachment, Target: plug.target, Alias: port.Alias}
	if !passthrough(port.VNICType) {
		if err := d.frontend(&nic); err != nil {
			return virt.NIC{}, err
		}
	}
	d.backend(&nic, port)
	if plug.limited {
		nic.Bandwidth = d.bandwidth()
	}
	return nic, nil
}

// passthrough says whether the guest gets a function of a device, so that no NIC is made up for it.
func passthrough(vnicType string) bool {
	return slices.Contains([]string{"direct", "direct-physical", "accelerator-direct", "accelerator-direct-physical", "remote-managed"}, vnicType)
}

// maxTapQueues is how many queues Linux gives a tap.
const maxTapQueues = 256

var nicModels = []string{"virtio", "ne2k_pci", "pcnet", "rtl8139", "e1000", "e1000e", "spapr-vlan", "vmxnet3", "igb"}

// nicModel is the model of NICs that are made up for the guest; empty for the hypervisor's choice.
func (d *definition) nicModel() string {
	settled, is := d.r.Settled[propVIFModel]
	switch {
	case is:
		return settled
	case d.hw.VIFModel == "" && !d.r.Options.HypervisorNICs:
		return "virtio"
	}
	return d.hw.VIFModel
}

// frontend is the device that the guest sees.
func (d *definition) frontend(nic *virt.NIC) error {
	nic.Model = d.nicModel()
	known := nic.Model == "" || slices.Contains(nicModels, nic.Model) || nic.Model == "lan9118" && d.r.Host.VirtType == "qemu"
	if !known {
		return failed("UnsupportedHardware", propVIFModel, nic.Model, "%s has no such interface", d.r.Host.VirtType)
	}
	if nic.Model != "virtio" {
		return nil
	}
	nic.Packed = d.hw.PackedRing
	nic.RxRing = d.r.Options.RXQueueSize
	if d.r.Host.VirtType == "qemu" { // where libvirt would turn vhost on
		nic.Driver = "qemu"
		return nil
	}
	if d.hw.Multiqueue && d.r.Flavor.VCPUs > 1 {
		nic.Driver, nic.Queues = "vhost", min(d.r.Flavor.VCPUs, maxTapQueues)
		if most := d.r.Options.MaxQueues; most > 0 {
			nic.Queues = min(nic.Queues, most)
		}
	}
	if nic.RxRing > 0 {
		nic.Driver = "vhost"
	}
	return nil
}

// backend is what the host's side of the interface asks of the guest's.
func (d *definition) backend(nic *virt.NIC, port *Port) {
	switch nic.Attach.Type {
	case "ethernet", "bridge":
		if !slices.Contains([]string{"midonet", "iovisor"}, port.VIFType) { // whose agents set it
			nic.MTU = port.MTU
		}
	case "vhostuser": // whose other side is a program that brings its own driver
		nic.Driver = ""
		nic.TxRing = d.transmitRing(nic)
	case "vdpa":
		nic.TxRing = d.transmitRing(nic)
	case "direct":
		switch {
		case port.VIFType == "macvtap":
			nic.Model = "virtio"
		case nic.Model == "virtio": // on a function of its own
			nic.Driver = "vhost"
		}
	case "hostdev":
		nic.Model, nic.Driver, nic.Queues, nic.RxRing, nic.Packed = "", "", 0, 0, false
	}
}

func (d *definition) transmitRing(nic *virt.NIC) int {
	if nic.Model != "virtio" {
		return 0
	}
	return d.r.Options.TXQueueSize
}

// bandwidth is quota:vif_*; nil for no limit.
func (d *definition) bandwidth() *virt.Bandwidth {
	q := &d.hw.VIFQuota
	if deref(q.InboundAverage) == 0 && deref(q.OutboundAverage) == 0 {
		return nil // a peak or a burst alone is no limit
	}
	b := &virt.Bandwidth{}
	if deref(q.InboundAverage) != 0 {
		b.Inbound = virt.Rate{Average: *q.InboundAverage, Peak: deref(q.InboundPeak), Burst: deref(q.InboundBurst)}
	}
	if deref(q.OutboundAverage) != 0 {
		b.Outbound = virt.Rate{Average: *q.OutboundAverage, Peak: deref(q.OutboundPeak), Burst: deref(q.OutboundBurst)}
	}
	return b
}
