package connector

import (
	"fmt"
	"slices"
)

// Place names the place of a volume, whichever way leads there and however it is written.
func (info Info) Place() string {
	var names []string
	switch {
	case info.ISCSI != nil:
		for _, t := range info.ISCSI.Targets {
			names = append(names, fmt.Sprintf("target %s LUN %d", t.IQN, t.LUN))
		}
	case info.FC != nil:
		for _, t := range info.FC.Targets {
			names = append(names, fmt.Sprintf("port %s LUN %d", t.WWPN, t.LUN))
		}
	case info.NVMe != nil:
		n := info.NVMe
		return fmt.Sprintf("subsystem %s namespace %s%s %d", n.NQN, n.UUID, n.NGUID, n.NSID)
	case info.NFS != nil:
		return fmt.Sprintf("export %s file %s", info.NFS.Export, info.NFS.Name)
	case info.RBD != nil:
		return fmt.Sprintf("image %s/%s of cluster %q", info.RBD.Pool, info.RBD.Image, info.RBD.Cluster)
	case info.NBD != nil:
		return fmt.Sprintf("export %q of %s port %d", info.NBD.Export, info.NBD.Server.Host, info.NBD.Server.Port)
	default:
		return "path " + info.Path
	}
	if len(names) == 0 {
		return ""
	}
	return slices.Min(names)
}
