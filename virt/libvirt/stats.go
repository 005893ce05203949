package libvirt

import (
	"context"
	"time"

	lv "libvirt.org/go/libvirt"

	"compute-agent/virt"
)

const (
	// guestStats is what a listing asks for.
	guestStats = lv.DOMAIN_STATS_STATE | lv.DOMAIN_STATS_CPU_TOTAL | lv.DOMAIN_STATS_BALLOON |
		lv.DOMAIN_STATS_VCPU | lv.DOMAIN_STATS_INTERFACE | lv.DOMAIN_STATS_BLOCK
	// statsFlags let libvirt leave out what it would have to wait for: a guest that another call holds
	// is listed without the numbers that only its QEMU knows.
	statsFlags = lv.CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
	// defaultStatsPatience is how long a listing may take before it is asked for once more. The first
	// one hangs in a guest whose QEMU does not answer; that guest then counts as held, and the second
	// passes it by.
	defaultStatsPatience = 10 * time.Second
)

// Guests implements virt.Driver.
func (d *Driver) Guests(ctx context.Context) ([]virt.Guest, error) {
	return readStats(ctx, d, "list guests", "", guestsOf, func(conn *lv.Connect) ([]lv.DomainStats, error) {
		return conn.GetAllDomainStats(nil, guestStats, statsFlags)
	})
}

// Guest implements virt.Driver.
func (d *Driver) Guest(ctx context.Context, id string) (virt.Guest, error) {
	guests, err := readStats(ctx, d, "look at guest", id, guestsOf, func(conn *lv.Connect) ([]lv.DomainStats, error) {
		return statsOf(conn, id, guestStats, statsFlags)
	})
	if err != nil {
		return virt.Guest{}, err
	}
	if len(guests) == 0 { // it went away between the two calls
		return virt.Guest{}, failure("look at guest", id, virt.ErrNotFound)
	}
	return guests[0], nil
}

// DiskUse implements virt.DiskMeter.
func (d *Driver) DiskUse(ctx context.Context) ([]virt.DiskUse, error) {
	return readStats(ctx, d, "list use of disks", "", useOf, func(conn *lv.Connect) ([]lv.DomainStats, error) {
		return conn.GetAllDomainStats(nil, lv.DOMAIN_STATS_BLOCK, statsFlags|lv.CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE)
	})
}

// statsOf asks for the statistics of one guest.
func statsOf(conn *lv.Connect, id string, what lv.DomainStatsTypes, flags lv.ConnectGetAllDomainStatsFlags) ([]lv.DomainStats, error) {
	dom, err := lookup(conn, id)
	if err != nil {
		return nil, err
	}
	defer free(dom)
	return conn.GetAllDomainStats([]*lv.Domain{dom}, what, flags)
}

// readStats runs read, and once more when it takes too long, and returns what translate makes of the statistics.
func readStats[T any](ctx context.Context, d *Driver, op, id string, translate func([]lv.DomainStats) []T, read func(*lv.Connect) ([]lv.DomainStats, error)) ([]T, error) {
	try := func(limit time.Duration) ([]T, error) {
		result := make(chan []T, 1)
		err := d.run(ctx, op, id, limit, func(ctx context.Context, c *call) error {
			return c.rpc(ctx, func(conn *lv.Connect) error {
				stats, err := read(conn)
				if err != nil {
					return err
				}
				result <- translate(stats)
				return nil
			})
		})
		if err != nil {
			return nil, err
		}
		return <-result, nil
	}
	list, err := try(d.statsPatience)
	if err == nil || ctx.Err() != nil || !isTimeout(err) {
		return list, err
	}
	return try(d.opt.CallTimeout)
}

// guestsOf translates the statistics and frees the domains that came with them.
func guestsOf(stats []lv.DomainStats) []virt.Guest {
	guests := make([]virt.Guest, 0, len(stats))
	for i := range stats {
		s := &stats[i]
		g := guestOf(s)
		g.ID = uuidOf(s.Domain)
		g.Name, _ = s.Domain.GetName() // read from the handle; cannot fail on a valid one
		free(s.Domain)
		guests = append(guests, g)
	}
	return guests
}

// useOf translates the statistics of disks and frees the domains that came with them. Of a guest that did not answer there
// are no counters.
func useOf(stats []lv.DomainStats) (list []virt.DiskUse) {
	for i := range stats {
		id := uuidOf(stats[i].Domain)
		for _, b := range stats[i].Block {
			if b.RdReqsSet {
				list = append(list, virt.DiskUse{
					ID: id, Target: b.Name, ReadBytes: b.RdBytes, WrittenBytes: b.WrBytes, Reads: b.RdReqs, Writes: b.WrReqs, Flushes: b.FlReqs,
				})
			}
		}
		free(stats[i].Domain)
	}
	return list
}

// guestOf translates what libvirt knows of one guest. What it did not say is zero.
func guestOf(s *lv.DomainStats) virt.Guest {
	g := virt.Guest{VCPUs: countVCPUs(s.Vcpu)}
	if s.State != nil {
		g.State = powerState(s.State.State)
		g.Reason = stateReason(s.State.State, s.State.Reason)
	}
	running := g.State != virt.PowerShutdown
	if s.Cpu != nil && running { // of a stopped guest, libvirt tells the time that it used once
		g.CPUTime = time.Duration(s.Cpu.Time)
	}
	if b := s.Balloon; b != nil {
		g.MemoryMiB = b.Maximum / 1024
		g.ResidentKiB = b.Rss
		g.UnusedKiB = b.Unused
		if running {
			g.BalloonKiB = b.Current
		}
	}
	for i := range s.Block {
		g.Disks = append(g.Disks, diskStats(&s.Block[i]))
	}
	for i := range s.Net {
		g.NICs = append(g.NICs, nicStats(&s.Net[i]))
	}
	return g
}

// countVCPUs counts the vCPUs that are there. libvirt lists as many as there can be, and says nothing but
// their number for a stopped guest.
func countVCPUs(vcpus []lv.DomainStatsVcpu) int {
	online := 0
	for i := range vcpus {
		if vcpus[i].StateSet {
			online++
		}
	}
	if online == 0 {
		return len(vcpus)
	}
	return online
}

func diskStats(b *lv.DomainStatsBlock) virt.DiskStats {
	return virt.DiskStats{
		Target: b.Name, Path: b.Path,
		ReadRequests: b.RdReqs, ReadBytes: b.RdBytes,
		WriteRequests: b.WrReqs, WriteBytes: b.WrBytes,
		CapacityBytes: b.Capacity, AllocatedBytes: b.Allocation,
	}
}

func nicStats(n *lv.DomainStatsNet) virt.NICStats {
	return virt.NICStats{
		Target:  n.Name,
		RxBytes: n.RxBytes, RxPackets: n.RxPkts, RxErrors: n.RxErrs, RxDrops: n.RxDrop,
		TxBytes: n.TxBytes, TxPackets: n.TxPkts, TxErrors: n.TxErrs, TxDrops: n.TxDrop,
	}
}
