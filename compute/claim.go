package compute

import (
	"errors"
	"fmt"

	"compute-agent/numa"
)

// claimOf is what a server of the flavor takes, its place still open. A flavor without a disk size gets
// the image's.
func claimOf(serverID string, f Flavor, img Image) Claim {
	disk := f.DiskGiB
	if disk == 0 {
		disk = gibibytes(img.VirtualSize)
	}
	return Claim{ServerID: serverID, VCPUs: f.VCPUs, MemoryMiB: f.MemoryMiB, DiskGiB: disk + f.EphemeralGiB + (f.SwapMiB+1023)/1024}
}

// claimedFlavor is the flavor as far as it takes of this host: a server that boots from a volume has no root disk here.
func (s Server) claimedFlavor() Flavor {
	f := s.Flavor
	if s.BootsFromVolume() {
		f.DiskGiB = 0
	}
	return f
}

// gibibytes rounds up.
func gibibytes(bytes int64) int { return int((bytes + 1<<30 - 1) >> 30) }

// numaRequest is what a server asks of the host's NUMA cells, by its flavor and its image.
func numaRequest(s Server) numa.Request {
	return numa.Request{VCPUs: s.Flavor.VCPUs, MemoryMiB: s.Flavor.MemoryMiB, ExtraSpecs: s.Flavor.ExtraSpecs, Properties: s.Image.Properties}
}

// noRoom says why a guest does not fit into the host's cells, in one line; for the operator also which of the
// others could be moved.
func noRoom(host numa.Host, r numa.Request, opt numa.Options, others []numa.Placed) error {
	why, err := numa.Explain(host, r, opt, others)
	if err != nil {
		return refused(err)
	}
	if why == nil { // others have left meanwhile
		return &Failure{Kind: ErrNoCapacity, Field: "NUMA", Reason: "no room at that moment; try again"}
	}
	f := &Failure{Kind: ErrNoCapacity, Field: "NUMA"}
	for i, c := range why.Changes {
		if c.Move != "" { // whose server it is that could be moved is nothing for other users
			f.Err = errors.Join(f.Err, fmt.Errorf("server %s is in the way", c.Move))
			why.Changes[i].Move = "of this host"
		}
	}
	f.Reason = fmt.Sprintf("the guest's cells do not fit: %v", why)
	return f
}
