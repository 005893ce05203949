package guest

import "strconv"

// limits refuses what flavor and image may say by Nova's rules and the kernel or QEMU cannot hold. Nova finds out
// when it starts the guest.
func (d *definition) limits() error {
	checks := []func() error{d.cpuLimits, d.diskLimits, d.nicLimits, d.usbLimits}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// The kernel's limits of its control groups.
const (
	minShares, maxShares = 2, 262144
	maxQuota             = 17592186044415 // microseconds
)

func (d *definition) cpuLimits() error {
	t, bits := d.spec.CPUTime, d.hw.PhysAddrBits
	switch {
	case t.Shares != 0 && (t.Shares < minShares || t.Shares > maxShares):
		return failed("Invalid", "quota:cpu_shares", strconv.Itoa(t.Shares), "must be from %d to %d", minShares, maxShares)
	case t.Quota > maxQuota:
		return failed("Invalid", "quota:cpu_quota", strconv.Itoa(t.Quota), "must be at most %d", maxQuota)
	case bits != 0 && (bits < 32 || bits > 64):
		return failed("Invalid", "hw:maxphysaddr_bits", strconv.Itoa(bits), "must be from 32 to 64")
	}
	return nil
}

// maxTune is the most that QEMU takes for a limit of a drive.
const maxTune = 1_000_000_000_000_000

func (d *definition) diskLimits() error {
	q := &d.hw.DiskQuota
	for _, l := range []struct {
		key        string
		rate, most *uint64
	}{
		{"read_bytes_sec", q.ReadBytes, q.ReadBytesMax}, {"write_bytes_sec", q.WriteBytes, q.WriteBytesMax}, {"total_bytes_sec", q.TotalBytes, q.TotalBytesMax},
		{"read_iops_sec", q.ReadIOPS, q.ReadIOPSMax}, {"write_iops_sec", q.WriteIOPS, q.WriteIOPSMax}, {"total_iops_sec", q.TotalIOPS, q.TotalIOPSMax},
		{"size_iops_sec", q.SizeIOPS, nil},
	} {
		rate, burst, key := deref(l.rate), deref(l.most), "quota:disk_"+l.key
		switch {
		case rate > maxTune:
			return failed("Invalid", key, strconv.FormatUint(rate, 10), "must be at most %d", uint64(maxTune))
		case burst > maxTune:
			return failed("Invalid", key+"_max", strconv.FormatUint(burst, 10), "must be at most %d", uint64(maxTune))
		case burst > 0 && burst < rate, burst > 0 && rate == 0:
			return failed("Invalid", key+"_max", strconv.FormatUint(burst, 10), "needs a smaller %s", key)
		}
	}
	return nil
}

// maxRate is the most that the kernel's traffic control takes, in KiB.
const maxRate = 1<<32 - 1

func (d *definition) nicLimits() error {
	q := &d.hw.VIFQuota
	for key, n := range map[string]*int{
		"inbound_average": q.InboundAverage, "inbound_peak": q.InboundPeak, "inbound_burst": q.InboundBurst,
		"outbound_average": q.OutboundAverage, "outbound_peak": q.OutboundPeak, "outbound_burst": q.OutboundBurst,
	} {
		if deref(n) > maxRate {
			return failed("Invalid", "quota:vif_"+key, strconv.Itoa(*n), "must be at most %d", int64(maxRate))
		}
	}
	return nil
}

// usbLimits looks at what viewers bring: SPICE alone can carry their devices.
func (d *definition) usbLimits() error {
	if n := d.hw.RedirectedPorts; n > 0 && d.r.Options.SPICE == "" {
		return failed("Invalid", "hw:redirected_usb_ports", strconv.Itoa(n), "needs SPICE, which guests of this host do not have")
	}
	return nil
}

// iommuFits says whether a machine can have an IOMMU of this model.
func (d *definition) iommuFits(model string) bool {
	return model == "virtio" || model == "intel" && d.isX86() || model == "smmuv3" && d.arch == "aarch64"
}

// bounded is a quota of CPU time as the hypervisor has it: all that is no limit is one number.
func bounded(quota int) int {
	if quota < 0 {
		return -1
	}
	return quota
}
