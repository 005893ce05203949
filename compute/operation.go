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
	OpRebuild    OperationKind = "rebuild"
	OpRescue     OperationKind = "rescue"
	OpUnrescue   OperationKind = "unrescue"

	OpAttachInterface OperationKind = "attach-interface"
	OpDetachInterface OperationKind = "detach-interface"

	OpAttachVolume OperationKind = "attach-volume"
	OpDetachVolume OperationKind = "detach-volume"
	OpSwapVolume   OperationKind = "swap-volume"
	OpExtendVolume OperationKind = "extend-volume"
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

// Claim is what a server takes of the host, for a purpose. It is stored, and lasts until it is given back or becomes
// a claim of another kind; see ClaimKind.
type Claim struct {
	ServerID  string
	Kind      ClaimKind
	Operation string // that took it: its step is in the journal for as long as it is under way
	VCPUs     int    // all of the server's, those that are pinned too
	MemoryMiB int
	DiskGiB   int
	// NUMA is where its vCPUs and memory were placed when it was taken: until it is given back they are there and
	// nowhere else. nil for a server that may run anywhere.
	NUMA *numa.Guest
	PCI  []ClaimedDevice
}

// ClaimKind is what a claim is for. A server has at most one of each kind, and they are held together. In the end of
// an operation its claim becomes the server's own, or goes.
type ClaimKind string

// The kinds of claims.
const (
	// ClaimOwn is what the server's guest is made of: taken by its create.
	ClaimOwn ClaimKind = ""
	// ClaimResize is the new size on the same host, beside the old one, until the user confirms it or goes back.
	ClaimResize ClaimKind = "resize"
	// ClaimRebuild is for the new image. The guest is never there twice: what the server has already is not counted
	// again, and it keeps what it has until the new guest is made.
	ClaimRebuild ClaimKind = "rebuild"
	// ClaimIncoming is for a guest that arrives from another host.
	ClaimIncoming ClaimKind = "incoming"
	// ClaimOutgoing is what a guest that leaves, or has left, keeps until it cannot come back.
	ClaimOutgoing ClaimKind = "outgoing"
)

var claimKinds = []ClaimKind{ClaimOwn, ClaimResize, ClaimRebuild, ClaimIncoming, ClaimOutgoing}

// ClaimKey says which of a server's claims.
type ClaimKey struct {
	ServerID string
	Kind     ClaimKind
}

// Key is the claim's.
func (c Claim) Key() ClaimKey { return ClaimKey{c.ServerID, c.Kind} }
