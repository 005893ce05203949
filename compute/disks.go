package compute

import "context"

// Disks makes and removes the files of servers.
type Disks interface {
	// Storage describes the file system that the files are on, as it is now.
	Storage(ctx context.Context) (Storage, error)
	// Files says where a server's files are. It looks at nothing.
	Files(s Server) Files
	// Make makes the server's directory with its disks. What is there already, from an earlier
	// attempt, stays. An error that the user can do something about is a *Failure.
	Make(ctx context.Context, s Server, on Attached, secret Secrets) error
	// Remove removes all files of a server; none is fine. It must not need the server's record.
	Remove(ctx context.Context, serverID string) error
	// Prepare makes the disks of a server that is rebuilt beside those that it has, and nothing else: anew, whatever an earlier attempt left.
	Prepare(ctx context.Context, s Server, on Attached, secret Secrets) error
	// Replace puts what Prepare made in the place of what was there: the root disk first, at once. It may be called again, also after it failed.
	Replace(ctx context.Context, s Server) error
	// Replaced says, of a server that was prepared, whether Replace has given its old disk up.
	Replaced(ctx context.Context, s Server) (bool, error)
	// Discard removes what Prepare made and Replace did not use; nothing is fine.
	Discard(ctx context.Context, serverID string) error
	// MakeRescue makes the disks of Server.Rescue, anew.
	MakeRescue(ctx context.Context, s Server, on Attached, secret Secrets) error
	// RemoveRescue removes them; none is fine.
	RemoveRescue(ctx context.Context, serverID string) error
	// List returns the IDs of all servers that have files.
	List(ctx context.Context) ([]string, error)
}

// Storage is a file system that holds guests' disks.
type Storage struct {
	TotalBytes, FreeBytes uint64
	DirectIO              bool // files can be opened with O_DIRECT
}

// Files are the paths of one server's files, absolute.
type Files struct {
	Root        string // qcow2, an overlay on Base
	Base        string // the image's bytes, in the format of Server.Image.Format
	Ephemeral   string // raw, a file system; there only if the flavor has an ephemeral disk
	Swap        string // raw, swap space; there only if the flavor has swap
	ConfigDrive string // raw, in the server's format; there only if Server.ConfigDrive
	// Rescue, RescueBase and RescueConfig are Root, Base and ConfigDrive of a server that is rescued.
	Rescue, RescueBase, RescueConfig string
	ConsoleLog                       string // written by the hypervisor
	// SerialSocket is where serial ports listen, but for the last character, which is the port's number; made by the hypervisor.
	SerialSocket string
}

// Secrets reach the guest on its config drive and are kept nowhere else.
type Secrets struct {
	AdminPassword string
}
