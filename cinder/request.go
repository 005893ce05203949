package cinder

// VolumeRequest asks for a new volume. At most one of the sources is named.
type VolumeRequest struct {
	ProjectID, UserID string
	Name, Description string
	SizeGiB           int    // 0 for as large as the source
	Type              string // name or ID of a volume type; empty for the default
	ImageID           string
	SnapshotID        string
	SourceID          string // of a volume
	Multiattach       bool
	Metadata          map[string]string
}

// SnapshotRequest asks for a snapshot.
type SnapshotRequest struct {
	ProjectID, UserID string
	VolumeID          string
	Name, Description string
	Force             bool // also of a volume in use
	Metadata          map[string]string
}

// Quotas are how much a project may have; negative for no limit. Cinder's names: volumes, snapshots, gigabytes.
type Quotas struct {
	Volumes, Snapshots, Gigabytes int
}

// DefaultQuotas are Cinder's.
var DefaultQuotas = Quotas{Volumes: 10, Snapshots: 10, Gigabytes: 1000}

// Usage is what a project has.
type Usage struct {
	Volumes, Snapshots, Gigabytes int
}

// Pool is a place where volumes can be.
type Pool struct {
	Backend           string // the operator's name
	Kind              string // local, lvm or fixed
	TotalGiB, FreeGiB float64
	AllocatedGiB      int
	LargestGiB        int // that a volume can have; 0 for what is free
	Multiattach       bool
	// Copies says whether it can make snapshots, and volumes of snapshots and of volumes; LiveCopies, also of one that a server writes to.
	Copies, LiveCopies bool
	LiveExtend         bool     // whether volumes can grow while a server has them
	Encryption         []string // the providers that it can make encrypted volumes of
	Up                 bool
	Problem            string // why it is not up
}
