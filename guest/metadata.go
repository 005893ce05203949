package guest

import "compute-agent/virt"

func (r *Request) metadata() virt.Metadata {
	f, s := &r.Flavor, &r.Server
	return virt.Metadata{
		Package: r.Package, Name: s.Name, Created: s.Created,
		Flavor: virt.FlavorMetadata{
			ID: f.ID, Name: f.Name, MemoryMiB: uint64(max(0, f.MemoryMiB)), DiskGiB: f.DiskGiB, EphemeralGiB: f.EphemeralGiB,
			SwapMiB: f.SwapMiB, VCPUs: f.VCPUs,
		},
		UserID: s.UserID, UserName: s.UserName, ProjectID: s.ProjectID, Project: s.ProjectName,
		RootType: s.RootType, RootID: s.RootID,
	}
}
