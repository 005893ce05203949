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
	ConsoleLog  string // written by the hypervisor
}

// Secrets reach the guest on its config drive and are kept nowhere else.
type Secrets struct {
	AdminPassword string
}
