package api

import (
	"context"
	"io"

	"compute-agent/compute"
)

// Backend is what the front door asks of the core; *compute.Manager is it. Errors wrap the kinds
// of package compute.
type Backend interface {
	Servers
	Flavors
	Images
	Keypairs
	Nodes
}

// Servers creates, shows and changes servers. Methods that change a guest return as soon as the
// request is stored; the task state of the server then says what is under way.
type Servers interface {
	CreateServer(ctx context.Context, req compute.CreateRequest) (compute.Server, error)
	DeleteServer(ctx context.Context, id string) error
	StartServer(ctx context.Context, id string) error
	StopServer(ctx context.Context, id string) error
	RebootServer(ctx context.Context, id string, how compute.Reboot) error
	PauseServer(ctx context.Context, id string) error
	UnpauseServer(ctx context.Context, id string) error
	UpdateServer(ctx context.Context, id string, change compute.ServerChange) (compute.Server, error)
	Server(ctx context.Context, id string) (compute.Server, error)
	Servers(ctx context.Context) ([]compute.Server, error)
	// ConsoleOutput returns the last lines of the server's serial console; all that is kept if lines < 0.
	ConsoleOutput(ctx context.Context, id string, lines int) (string, error)
}

// Flavors keeps the sizes.
type Flavors interface {
	CreateFlavor(ctx context.Context, f compute.Flavor) (compute.Flavor, error)
	Flavor(ctx context.Context, id string) (compute.Flavor, error)
	Flavors(ctx context.Context) ([]compute.Flavor, error)
	UpdateFlavor(ctx context.Context, id string, change func(*compute.Flavor) error) (compute.Flavor, error)
	DeleteFlavor(ctx context.Context, id string) error
}

// Images keeps the image service's records and bytes.
type Images interface {
	CreateImage(ctx context.Context, img compute.Image) (compute.Image, error)
	// UploadImage reads body to its end, inspects what came and makes the image active. When it
	// returns an error nothing of the bytes is kept.
	UploadImage(ctx context.Context, id string, body io.Reader) error
	// DownloadImage opens an active image's bytes.
	DownloadImage(ctx context.Context, id string) (io.ReadCloser, compute.Image, error)
	Image(ctx context.Context, id string) (compute.Image, error)
	Images(ctx context.Context) ([]compute.Image, error)
	UpdateImage(ctx context.Context, id string, change func(*compute.Image) error) (compute.Image, error)
	DeleteImage(ctx context.Context, id string) error
}

// Keypairs keeps the users' public keys.
type Keypairs interface {
	CreateKeypair(ctx context.Context, k compute.Keypair) (compute.Keypair, error)
	Keypair(ctx context.Context, userID, name string) (compute.Keypair, error)
	Keypairs(ctx context.Context, userID string) ([]compute.Keypair, error)
	DeleteKeypair(ctx context.Context, userID, name string) error
}

// Nodes tells of the host.
type Nodes interface {
	// Node is the host with what it has and what is claimed of it.
	Node(ctx context.Context) (compute.Node, error)
	// Up tells whether the hypervisor answered when it was last spoken to. It is quick.
	Up() bool
}
