package compute

import (
	"context"

	"compute-agent/virt"
)

// Store keeps what must survive. It has one writer, the agent.
type Store interface {
	// View runs fn on one consistent snapshot. The Reader is valid only inside fn.
	View(ctx context.Context, fn func(Reader) error) error
	// Update runs fn in one transaction: everything that it wrote is on stable storage when Update
	// returns nil, nothing of it when it returns an error. Updates run one after the other, so fn
	// sees the newest state and must not block on anything else.
	Update(ctx context.Context, fn func(Writer) error) error
	// Close flushes and closes; later calls fail.
	Close() error
}

// Reader reads the store. A single record that is not there is ErrNotFound. Lists come in the
// order of creation, oldest first, flavors in the order of ID.
type Reader interface {
	Server(id string) (Server, error)
	Servers() ([]Server, error)
	// ServerStates lists the servers with nothing but ID, Number, VM, Task and Power, at a small part of the
	// cost.
	ServerStates() ([]Server, error)
	Claims() ([]Claim, error)
	// Definition is what the server's guest was last made of, or was about to be made of. ErrNotFound for a server
	// that no guest was made for, or by an agent that did not keep it.
	Definition(serverID string) (virt.Spec, error)
	Operations() ([]Operation, error) // oldest first
	Flavor(id string) (Flavor, error)
	Flavors() ([]Flavor, error)
	Image(id string) (Image, error)
	Images() ([]Image, error)
	Keypair(userID, name string) (Keypair, error)
	Keypairs(userID string) ([]Keypair, error)
	NetworkReader
	VolumeReader
	ConsoleReader
}

// Writer changes the store. Put replaces the record with the same key or adds it; Delete of
// what is not there succeeds.
type Writer interface {
	Reader
	// InsertServer adds a server and returns it with its Number. ErrExists if the ID is taken.
	InsertServer(Server) (Server, error)
	// UpdateServer replaces a server's record. ErrNotFound if there is none.
	UpdateServer(Server) error
	// DeleteServer removes a server with its claims and its definition. Its operation must be gone before.
	DeleteServer(id string) error
	PutClaim(Claim) error
	DeleteClaim(ClaimKey) error
	// MoveClaim makes a server's claim one of another kind, in the place of what it has of that. A claim that
	// is not there moves nothing.
	MoveClaim(from ClaimKey, to ClaimKind) error
	// PutDefinition keeps what the server's guest is about to be made of. ErrNotFound if there is no such server.
	PutDefinition(serverID string, spec virt.Spec) error
	// PutOperation fails with ErrConflict when another operation is under way on the server.
	PutOperation(Operation) error
	DeleteOperation(id string) error
	PutFlavor(Flavor) error
	DeleteFlavor(id string) error
	PutImage(Image) error
	DeleteImage(id string) error
	PutKeypair(Keypair) error
	DeleteKeypair(userID, name string) error
	NetworkWriter
	VolumeWriter
	ConsoleWriter
}
