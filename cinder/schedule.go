package cinder

import (
	"fmt"
	"strings"
)

// Schedule chooses the pool for a new volume of a type: the one that its type or its source names, else the one with the most room. The error says of each
// pool why it is not it.
func Schedule(v Volume, t Type, pools []Pool) (Pool, error) {
	var best *Pool
	var why []string
	for i := range pools {
		p := &pools[i]
		if reason := p.lacks(v, t); reason != "" {
			why = append(why, p.Backend+": "+reason)
			continue
		}
		if best == nil || p.FreeGiB > best.FreeGiB {
			best = p
		}
	}
	if best != nil {
		return *best, nil
	}
	if len(pools) == 0 {
		why = []string{"there is none"}
	}
	return Pool{}, Refuse("NoValidBackend", Conflict, "", "", "no valid backend was found for a volume of %d GiB of type %s: %s", v.SizeGiB, t.Name, strings.Join(why, "; "))
}

// lacks says why a volume cannot be in a pool; empty if it can.
func (p Pool) lacks(v Volume, t Type) string {
	switch name := t.BackendName(); {
	case v.Backend != "" && v.Backend != p.Backend:
		return "what the volume is made of is on " + v.Backend
	case name != "" && name != p.Backend:
		return "the volume type asks for " + name
	case !p.Up:
		return "it is down" // why is for the operator to know: it may name paths of the host
	case v.Multiattach && !p.Multiattach:
		return "several servers cannot have a volume of it"
	case v.Encryption != nil && !p.Encrypts(v.Encryption.Provider):
		return "it cannot make volumes with encryption " + v.Encryption.Provider
	case (v.SnapshotID != "" || v.SourceID != "") && !p.Copies:
		return "it cannot copy volumes"
	case p.LargestGiB > 0 && v.SizeGiB > p.LargestGiB:
		return fmt.Sprintf("the largest that is free has %d GiB", p.LargestGiB)
	case float64(v.SizeGiB) > p.FreeGiB:
		return fmt.Sprintf("%.4g GiB are free", max(0, p.FreeGiB))
	}
	return ""
}

// Encrypts says whether the pool can make encrypted volumes of a provider.
func (p Pool) Encrypts(provider string) bool {
	for _, e := range p.Encryption {
		if e == provider {
			return true
		}
	}
	return false
}

// CheckRoom says whether a pool has that many GiB more for a volume that is there.
func (p Pool) CheckRoom(v Volume, more int) error {
	switch {
	case !p.Up:
		return Refuse("NoValidBackend", Conflict, "", "", "volume %s: backend %s is down", v.ID, p.Backend)
	case v.Status == InUse && !p.LiveExtend:
		return invalidVolume(v.ID, "backend %s (%s) cannot extend a volume that a server has; detach it first", p.Backend, p.Kind)
	case float64(more) > p.FreeGiB:
		return Refuse("NoValidBackend", Conflict, "", "", "volume %s needs %d GiB more, and backend %s has %.4g GiB", v.ID, more, p.Backend, max(0, p.FreeGiB))
	}
	return nil
}
