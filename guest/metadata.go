package guest

import "compute-agent/virt"

// metadata is what Nova tells other programs of the server in its domain.
func (r *Request) metadata() virt.Metadata {
	f, s := &r.Flavor, &r.Server
	m := virt.Metadata{
		Package: r.Package, Name: s.Name, Created: s.Created,
		Flavor: virt.FlavorMetadata{
			ID: f.ID, Name: f.Name, MemoryMiB: uint64(max(0, f.MemoryMiB)), DiskGiB: f.DiskGiB, EphemeralGiB: f.EphemeralGiB,
			SwapMiB: f.SwapMiB, VCPUs: f.VCPUs,
		},
		UserID: s.UserID, UserName: s.UserName, ProjectID: s.ProjectID, Project: s.ProjectName,
		RootType: s.RootType, RootID: s.RootID,
	}
	for i := range r.Ports {
		port := virt.PortMetadata{ID: r.Ports[i].ID}
		for _, a := range r.Ports[i].Addresses {
			version := 6
			if a.Is4() {
				version = 4
			}
			port.IPs = append(port.IPs, virt.PortAddress{Address: a.String(), Version: version})
		}
		m.Ports = append(m.Ports, port)
	}
	return m
}
