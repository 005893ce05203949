package numa

import "fmt"

// Resource is what a guest cell can lack in a host cell.
type Resource string

// The resources of a host cell.
const (
	ResourceMemory  Resource = "memory"
	ResourcePages   Resource = "memory pages" // of the size asked for
	ResourceVCPU    Resource = "vCPUs"        // that float over the shared CPUs
	ResourcePCPU    Resource = "pCPUs"        // that vCPUs are pinned to
	ResourceThreads Resource = "hardware threads"
)

// Obstacle is what keeps a guest cell out of a host cell. The zero value is no obstacle.
type Obstacle struct {
	Resource    Resource
	Asked, Free int
	Unit        string // MiB, cores, threads; empty for CPUs
	Rule        string // why no more is to be had
}

func (o Obstacle) none() bool { return o.Resource == "" }

// String says what was asked and what is free: "pCPUs: 8 asked, 2 free (the other dedicated CPUs are pinned)".
func (o Obstacle) String() string {
	if o.none() {
		return "fits"
	}
	unit := ""
	if o.Unit != "" {
		unit = " " + o.Unit
	}
	return fmt.Sprintf("%s: %d%s asked, %d free (%s)", o.Resource, o.Asked, unit, o.Free, o.Rule)
}
