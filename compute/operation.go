package compute

import (
	"encoding/json"
	"time"

	"compute-agent/numa"
)

// OperationKind names what is done to a server.
type OperationKind string

// The kinds of operation.
const (
	OpCreate     OperationKind = "create"
	OpDelete     OperationKind = "delete"
	OpStart      OperationKind = "start"
	OpStop       OperationKind = "stop"
	OpRebootSoft OperationKind = "reboot"
	OpRebootHard OperationKind = "reboot-hard"
	OpPause      OperationKind = "pause"
	OpUnpause    OperationKind = "unpause"
)

// Operation is the journal's record of something under way. It is stored in the same transaction
// as the server's task state, before the host is touched, and removed in the transaction that
// stores the outcome. What is in the store at start is what the agent was doing when it died.
type Operation struct {
	ID        string // UUID
	ServerID  string // at most one operation per server is under way
	Kind      OperationKind
	RequestID string // of the API request that asked for it
	Args      json.RawMessage

	// Step is the step that is being done or undone; the ones before it in the operation's list
	// are done. Empty: none has begun. Written before the step touches anything, so a step may
	// have happened wholly, in part or not at all when it is found here after a crash.
	Step    string
	Undoing bool   // going backwards, because of Cause
	Cause   string // why it is being undone

	Started time.Time
}

// Claim is what a server takes of the host. It is stored with the server's record and lasts until
// the guest is gone.
type Claim struct {
	ServerID  string
	VCPUs     int // all of the server's, those that are pinned too
	MemoryMiB int
	DiskGiB   int
	// NUMA is where its vCPUs and memory were placed when it was created: until the server is gone it
	// runs there and nowhere else. nil for a server that may run anywhere.
	NUMA *numa.Guest
}
