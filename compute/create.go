package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
)

// createArgs are in the journal until the server is built.
type createArgs struct {
	AdminPassword string `json:"admin_password,omitempty"`
}

// CreateServer accepts a new server. When it returns, the server, what it claims of the host and the
// intent to build it are stored. The errors: ErrInvalid with the field at fault, ErrForbidden for a
// quota, ErrNoCapacity with the resource that is short.
func (m *Manager) CreateServer(ctx context.Context, req CreateRequest) (Server, error) {
	if err := req.validate(); err != nil {
		return Server{}, err
	}
	if err := m.open(); err != nil {
		return Server{}, err
	}
	// A host that could not be asked yet has no capacity.
	on, err := m.machine()
	if err != nil {
		return Server{}, &Failure{Kind: ErrUnavailable, Reason: "the hypervisor does not answer", Err: err}
	}
	s := m.newServer(req)
	args, err := json.Marshal(createArgs{AdminPassword: req.AdminPassword})
	if err != nil {
		return Server{}, fmt.Errorf("create server: %w", err)
	}
	op := m.newOperation(ctx, OpCreate, s.ID, args)
	s.Created, s.Updated = op.Started, op.Started
	err = m.store.Update(context.WithoutCancel(ctx), func(tx Writer) (err error) {
		s, err = m.insert(tx, s, req, on, op)
		return err
	})
	if err != nil {
		m.ledger.release(s.ID)
		if errors.Is(err, ErrNoCapacity) {
			m.logger("", op.RequestID).Info("no room for a server", "flavor_id", req.FlavorID, "error", err)
		}
		return Server{}, err
	}
	m.logger(s.ID, op.RequestID).Info("server accepted", "guest", s.GuestName(), "flavor", s.Flavor.Name, "image_id", s.ImageID)
	m.launch(op)
	return s, nil
}

func (m *Manager) newServer(req CreateRequest) Server { return newServer(req, m.opt.Guests) }

// newServer is the server that a request asks for, without what has to be looked up.
func newServer(req CreateRequest, guests GuestOptions) Server {
	s := Server{
		ID: uuid.NewString(), Name: req.Name, Description: req.Description, AccessIPv4: req.AccessIPv4, AccessIPv6: req.AccessIPv6,
		UserID: req.UserID, ProjectID: req.ProjectID, UserName: req.UserName, ProjectName: req.ProjectName,
		GuestNames: guests.Names,
		Task:       TaskScheduling, ImageID: req.ImageID, UserData: slices.Clone(req.UserData), Metadata: maps.Clone(req.Metadata),
		// An admin password has no other way into the guest.
		ConfigDrive: req.ConfigDrive || guests.ForceConfigDrive || req.AdminPassword != "",
	}
	if s.ConfigDrive {
		s.ConfigDriveFormat = guests.ConfigDriveFormat
	}
	_ = become(&s, Building) // a new server may
	return s
}

// insert looks up what a request names, claims what it takes, and stores server, claim and operation.
func (m *Manager) insert(tx Writer, s Server, req CreateRequest, on machine, op Operation) (Server, error) {
	on = on.limited()
	flavor, err := tx.Flavor(req.FlavorID)
	if err != nil {
		return s, named("flavorRef", "flavor", req.FlavorID, err)
	}
	img, volumes, err := m.requestDisks(tx, s, req)
	if err != nil {
		return s, err
	}
	if req.KeyName != "" {
		key, err := tx.Keypair(req.UserID, req.KeyName)
		if err != nil {
			return s, named("key_name", "keypair", req.KeyName, err)
		}
		s.Keypair = &key
	}
	s.Flavor = flavor
	if err := validateSize(s.claimedFlavor(), img); err != nil {
		return s, err
	}
	s.Image, on.volumes = imageRef(img), volumes
	hardware, err := hardwareOf(s)
	if err != nil {
		return s, refused(err)
	}
	s.ConfigDrive = s.ConfigDrive || hardware.ConfigDrive // whoever made the image cannot do without
	if s.Hardware, err = on.settle(s); err != nil {
		return s, err
	}
	if err := m.requestPorts(tx, s, req); err != nil {
		return s, err
	}
	if on.ports, err = guestPorts(tx, s.ID); err != nil {
		return s, err
	}
	if on.volumes, err = on.placeVolumes(s); err != nil {
		return s, err
	}
	spec, err := on.check(s, m.disks.Files(s))
	if err != nil {
		return s, err
	}
	if err := keepQueues(tx, spec); err != nil {
		return s, err
	}
	asked := claimOf(s.ID, s.claimedFlavor(), img)
	asked.Operation = op.ID
	claim, err := m.ledger.take(asked, numaRequest(s))
	if err != nil {
		return s, err
	}
	if s, err = tx.InsertServer(s); err != nil {
		return s, err
	}
	for _, d := range on.volumes {
		if err := tx.PutBlockDevice(d); err != nil {
			return s, alreadyHas(err)
		}
	}
	return s, errors.Join(tx.PutClaim(claim), tx.PutOperation(op))
}

func imageRef(img Image) ImageRef {
	return ImageRef{Name: img.Name, Checksum: img.SHA256, Format: img.DiskFormat, Properties: img.Properties}
}

// named says that a request names something that is not there: the request is wrong, not the URL.
func named(field, what, id string, err error) error {
	if errors.Is(err, ErrNotFound) {
		return invalid(field, "there is no %s %q", what, id)
	}
	return err
}

func (m *Manager) createProcedure() procedure {
	return procedure{
		steps: []step{
			{name: "network", task: TaskNetworking, do: doWire, undo: doUnwire},
			{name: "volumes", task: TaskBlockDevices, do: doMakeVolumes, undo: doUnmakeVolumes},
			{name: "files", task: TaskBlockDevices, do: doMakeFiles, undo: doRemoveFiles},
			{name: "guest", task: TaskSpawning, do: doCreateGuest, undo: doDestroy},
			{name: "start", task: TaskSpawning, do: doStart},
		},
		target: Active, freesClaim: true, patience: m.opt.BuildTimeout,
	}
}

func doMakeFiles(ctx context.Context, w *work) error {
	var args createArgs
	if err := json.Unmarshal(w.op.Args, &args); err != nil {
		return fmt.Errorf("read the operation's arguments: %w", err)
	}
	on, err := w.m.attachedTo(ctx, w.server)
	if err != nil {
		return err
	}
	return w.m.disks.Make(ctx, w.server, on, Secrets(args))
}
