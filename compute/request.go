package compute

import (
	"context"
	"net/netip"
	"time"

	"compute-agent/virt"
)

// CreateRequest asks for a new server. The front door has decoded it; the manager validates it.
type CreateRequest struct {
	UserID      string
	ProjectID   string
	UserName    string // for the domain's metadata, as Nova has it; may be empty
	ProjectName string
	Name        string
	Description string
	AccessIPv4  netip.Addr // see Server
	AccessIPv6  netip.Addr
	FlavorID    string
	ImageID     string // empty for a server that boots from a volume
	KeyName     string // of UserID's keypairs; empty for none
	UserData    []byte // decoded; at most 65535 bytes in base64, as in Nova
	Metadata    map[string]string
	ConfigDrive bool
	// AdminPassword reaches the guest on its config drive, and nothing else. It is in the journal
	// until the server is built and nowhere afterwards.
	AdminPassword string

	// BlockDevices are the volumes that the server gets, existing ones and such as are made for it. It boots from the one whose BootIndex is 0, and
	// has no image then.
	BlockDevices []BlockDeviceRequest

	// Networking and Networks say which interfaces the server gets; SecurityGroups, names or IDs, are those of the ports that are made
	// for it, none for the project's default.
	Networking     Networking
	Networks       []RequestedNetwork
	SecurityGroups []string
}

// ServerChange is a change of a server's own words; nil leaves one as it is.
type ServerChange struct {
	Name        *string
	Description *string
	AccessIPv4  *netip.Addr
	AccessIPv6  *netip.Addr
	// Metadata turns a copy of the server's metadata into what it shall be; nil leaves it. Its error
	// is returned as it is.
	Metadata func(map[string]string) error
}

// Node is the host as the resource tracker sees it: what it has, what servers claim of it, and
// what is left after ratios and reserves.
type Node struct {
	ID      string // UUID, kept in the state directory
	Host    virt.Host
	Started time.Time // of the agent
	Up      bool      // the hypervisor answers

	// What is kept back for the host counts as used, as Nova has it.
	CPUs, CPUsUsed           int // CPUs that vCPUs float on; all vCPUs, pinned ones too
	MemoryMiB, MemoryMiBUsed int
	DiskGiB, DiskGiBUsed     int // of the file system that holds the instances
	DiskGiBFree              int // that would be free on it now if all disks had grown to their full size
	RunningServers           int // guests that run, also unknown ones
	Servers                  int
	CPUAllocationRatio       float64
	RAMAllocationRatio       float64
	DiskAllocationRatio      float64
}

type requestIDKey struct{}

// WithRequestID gives ctx the ID of the API request that work is done for; it is in every log
// line and journal record of that work.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the request ID of ctx, empty if it has none.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
