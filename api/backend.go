package api

import (
	"context"
	"io"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
	"compute-agent/compute"
	"compute-agent/neutron"
	"compute-agent/virt"
)

// Backend is what the front door asks of the core; *compute.Manager is it. Errors wrap the kinds
// of package compute.
type Backend interface {
	Servers
	Attachments
	Flavors
	Images
	Keypairs
	Nodes
	Networks
	Routers
	VolumeAttachments
	Volumes
	Consoles
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
	// RebuildServer makes a server anew of an image and returns it as it will be. RescueServer has it boot from another disk until it is unrescued.
	RebuildServer(ctx context.Context, id string, req compute.RebuildRequest) (compute.Server, error)
	RescueServer(ctx context.Context, id string, req compute.RescueRequest) error
	UnrescueServer(ctx context.Context, id string) error
	UpdateServer(ctx context.Context, id string, change compute.ServerChange) (compute.Server, error)
	Server(ctx context.Context, id string) (compute.Server, error)
	Servers(ctx context.Context) ([]compute.Server, error)
	// ConsoleOutput returns the last lines of the server's serial console; all that is kept if lines < 0.
	ConsoleOutput(ctx context.Context, id string, lines int) (string, error)
	// Diagnostics tells how a running server does, with a picture of its screen if asked.
	Diagnostics(ctx context.Context, id string, p compute.Picture) (compute.Diagnostics, error)
}

// Consoles gives access to the screens and serial ports of servers; *compute.ConsoleService has them.
type Consoles interface {
	// CreateConsole makes a URL that opens a console of a running server for a while; port is of serial consoles.
	CreateConsole(ctx context.Context, serverID string, t virt.ConsoleType, port int) (compute.ConsoleAccess, error)
	// RevokeConsoles makes all of a server's URLs worthless and ends what was opened with them.
	RevokeConsoles(ctx context.Context, serverID string) error
	// ConsoleTarget says where a token leads.
	ConsoleTarget(ctx context.Context, token string) (compute.ConsoleTarget, error)
}

// Attachments are the interfaces of servers.
type Attachments interface {
	// Interfaces lists a server's ports in the order of its interfaces.
	Interfaces(ctx context.Context, serverID string) ([]neutron.Port, error)
	// AttachInterface gives a server one more interface, and returns when its guest has it. A request that names nothing means
	// the only network of the project. It is compute.ErrAttach when that failed and everything was taken back.
	AttachInterface(ctx context.Context, serverID string, want compute.RequestedNetwork) (neutron.Port, error)
	// DetachInterface returns as soon as the request is stored.
	DetachInterface(ctx context.Context, serverID, portID string) error
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

// Networks is the network service; *compute.NetworkService is it. What a caller may see and change is the front door's to say;
// what is possible, the service's. An update applies change to the user's part of a record; its error is returned as it is.
type Networks interface {
	// Quotas are how many of each record a project may have.
	Quotas() neutron.Quotas

	CreateNetwork(ctx context.Context, n neutron.Network) (neutron.Network, error)
	Network(ctx context.Context, id string) (neutron.Network, error)
	Networks(ctx context.Context) ([]neutron.Network, error)
	UpdateNetwork(ctx context.Context, id string, change func(*neutron.Network) error) (neutron.Network, error)
	DeleteNetwork(ctx context.Context, id string) error

	CreateSubnet(ctx context.Context, r neutron.SubnetRequest) (neutron.Subnet, error)
	Subnet(ctx context.Context, id string) (neutron.Subnet, error)
	Subnets(ctx context.Context) ([]neutron.Subnet, error)
	UpdateSubnet(ctx context.Context, id string, change func(*neutron.Subnet) error) (neutron.Subnet, error)
	DeleteSubnet(ctx context.Context, id string) error

	CreatePort(ctx context.Context, r neutron.PortRequest) (neutron.Port, error)
	Port(ctx context.Context, id string) (neutron.Port, error)
	Ports(ctx context.Context) ([]neutron.Port, error)
	UpdatePort(ctx context.Context, id string, change func(*neutron.Port) error) (neutron.Port, error)
	DeletePort(ctx context.Context, id string) error

	CreateSecurityGroup(ctx context.Context, g neutron.SecurityGroup) (neutron.SecurityGroup, error)
	SecurityGroup(ctx context.Context, id string) (neutron.SecurityGroup, error)
	// SecurityGroups lists all; the project's default one is made if it is not there.
	SecurityGroups(ctx context.Context, projectID string) ([]neutron.SecurityGroup, error)
	UpdateSecurityGroup(ctx context.Context, id string, change func(*neutron.SecurityGroup) error) (neutron.SecurityGroup, error)
	DeleteSecurityGroup(ctx context.Context, id string) error
	// AddRule adds a rule to a group, RemoveRule removes it.
	AddRule(ctx context.Context, groupID string, r neutron.Rule) (neutron.Rule, error)
	RemoveRule(ctx context.Context, ruleID string) error
}

// Routers is the part of the network service that leads from network to network.
type Routers interface {
	CreateRouter(ctx context.Context, r neutron.RouterRequest) (neutron.Router, error)
	Router(ctx context.Context, id string) (neutron.Router, error)
	Routers(ctx context.Context) ([]neutron.Router, error)
	UpdateRouter(ctx context.Context, id string, change func(*neutron.RouterRequest) error) (neutron.Router, error)
	DeleteRouter(ctx context.Context, id string) error
	// AddInterface connects a router to a subnet, by a port that is made or by one that is there; one of the two is named. It returns
	// the port. RemoveInterface takes it away, and the port with it.
	AddInterface(ctx context.Context, routerID, subnetID, portID string) (neutron.Port, error)
	RemoveInterface(ctx context.Context, routerID, subnetID, portID string) (neutron.Port, error)

	CreateFloatingIP(ctx context.Context, f neutron.FloatingIPRequest) (neutron.FloatingIP, error)
	FloatingIP(ctx context.Context, id string) (neutron.FloatingIP, error)
	FloatingIPs(ctx context.Context) ([]neutron.FloatingIP, error)
	UpdateFloatingIP(ctx context.Context, id string, change func(*neutron.FloatingIP) error) (neutron.FloatingIP, error)
	DeleteFloatingIP(ctx context.Context, id string) error
}

// VolumeAttachments are the volumes of servers; *compute.Manager has them.
type VolumeAttachments interface {
	// BlockDevices lists a server's volumes in the order in which it got them.
	BlockDevices(ctx context.Context, serverID string) ([]compute.BlockDevice, error)
	// AllBlockDevices lists those of all servers.
	AllBlockDevices(ctx context.Context) ([]compute.BlockDevice, error)
	// UsesAttachment says whether a server has, or gets, a volume by an attachment, or is being copied to it.
	UsesAttachment(ctx context.Context, attachmentID string) (bool, error)
	// AttachVolume reserves a volume for a server and stores the intent; it returns with the name that the guest will have it by. What is then done
	// shows in the volume's status.
	AttachVolume(ctx context.Context, serverID string, want compute.BlockDeviceRequest) (compute.BlockDevice, error)
	// DetachVolume returns as soon as the request is stored.
	DetachVolume(ctx context.Context, serverID, volumeID string) error
	// SwapVolume copies what is on one volume of a server to another one and gives the server that in its place. It returns as soon as the
	// request is stored.
	SwapVolume(ctx context.Context, serverID, oldID, newID string) error
	// KeepVolume says whether a server's volume is deleted with it.
	KeepVolume(ctx context.Context, serverID, volumeID string, deleteOnTermination bool) (compute.BlockDevice, error)
}

// Volumes is the volume service; *compute.VolumeService is it. What a caller may see and change is the front door's to say; what is possible, the
// service's: a *cinder.Refusal. What takes time goes on after the answer, and shows in the status.
type Volumes interface {
	VolumeQuotas() cinder.Quotas
	// VolumeUsage is what a project has of them.
	VolumeUsage(ctx context.Context, projectID string) (cinder.Usage, error)

	// UsedLUNs are the LUNs that hold what deleted volumes had, CleanLUN the operator's word that one holds nothing any more.
	UsedLUNs(ctx context.Context) ([]cinder.UsedLUN, error)
	CleanLUN(ctx context.Context, backend, lun string) error

	CreateVolume(ctx context.Context, v cinder.VolumeRequest) (cinder.Volume, error)
	Volume(ctx context.Context, id string) (cinder.Volume, error)
	Volumes(ctx context.Context) ([]cinder.Volume, error)
	// UpdateVolume applies change to the user's words of a volume: name, description, metadata, bootable, read-only; for admins also its status.
	UpdateVolume(ctx context.Context, id string, change func(*cinder.Volume) error) (cinder.Volume, error)
	DeleteVolume(ctx context.Context, id string, force bool) error
	// ExtendVolume makes a volume larger, also one that a running server has.
	ExtendVolume(ctx context.Context, id string, gib int) error

	CreateSnapshot(ctx context.Context, s cinder.SnapshotRequest) (cinder.Snapshot, error)
	Snapshot(ctx context.Context, id string) (cinder.Snapshot, error)
	Snapshots(ctx context.Context) ([]cinder.Snapshot, error)
	UpdateSnapshot(ctx context.Context, id string, change func(*cinder.Snapshot) error) (cinder.Snapshot, error)
	DeleteSnapshot(ctx context.Context, id string) error

	VolumeAttachment(ctx context.Context, id string) (cinder.Attachment, error)
	VolumeAttachments(ctx context.Context) ([]cinder.Attachment, error)
	// Attach, Connect, Complete and Remove are those of compute.Volumes, for administrators.
	Attach(ctx context.Context, attachmentID, volumeID, serverID string) error
	Connect(ctx context.Context, attachmentID string, host connector.Properties, device string) (connector.Raw, error)
	Complete(ctx context.Context, attachmentID string) error
	Remove(ctx context.Context, attachmentID string) error

	CreateVolumeType(ctx context.Context, t cinder.Type) (cinder.Type, error)
	VolumeType(ctx context.Context, id string) (cinder.Type, error)
	// VolumeTypes lists all; without any of the operator's there is one, of the name that Cinder's default has.
	VolumeTypes(ctx context.Context) ([]cinder.Type, error)
	// DefaultVolumeType is the name of the type of volumes that are made without one.
	DefaultVolumeType() string
	UpdateVolumeType(ctx context.Context, id string, change func(*cinder.Type) error) (cinder.Type, error)
	DeleteVolumeType(ctx context.Context, id string) error

	CreateQoS(ctx context.Context, q cinder.QoS) (cinder.QoS, error)
	QoS(ctx context.Context, id string) (cinder.QoS, error)
	QoSSpecs(ctx context.Context) ([]cinder.QoS, error)
	UpdateQoS(ctx context.Context, id string, change func(*cinder.QoS) error) (cinder.QoS, error)
	DeleteQoS(ctx context.Context, id string) error

	// Pools are the places where volumes can be, with what is free there.
	Pools(ctx context.Context) ([]cinder.Pool, error)
}
