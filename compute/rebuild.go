package compute

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"compute-agent/virt"
)

// RebuildRequest asks for a server to be made anew of an image, with its ports and volumes. What is nil stays as it is.
type RebuildRequest struct {
	ImageID                string
	Name, Description      *string
	AccessIPv4, AccessIPv6 *netip.Addr
	Metadata               map[string]string // takes the place of all that there was
	// KeyName is one of UserID's keypairs; an empty one takes the server's key away.
	KeyName  *string
	UserID   string
	UserData *[]byte // decoded; nothing takes it away
	// AdminPassword reaches the guest as that of a CreateRequest does.
	AdminPassword string
}

// otherArgs are in the journal while a server gets another system: what is needed to go on, and to go back.
type otherArgs struct {
	AdminPassword string     `json:"admin_password,omitempty"`
	Before        Server     `json:"before"`         // the server as it was
	Made          *virt.Spec `json:"made,omitempty"` // what its own guest was made of; nil where that is not known
	// Blobs are the images' bytes that are needed on the way there and back.
	Blobs []string `json:"blobs"`
	// GivenUp says that a rebuild that failed cannot be undone: the old disk is gone.
	GivenUp bool `json:"given_up,omitempty"`
}

// blobs are the image bytes that an operation needs beside those of its server.
func (op Operation) blobs() []string {
	var args otherArgs
	switch op.Kind {
	case OpRebuild, OpRescue, OpUnrescue:
		if json.Unmarshal(op.Args, &args) == nil {
			return args.Blobs
		}
	}
	return nil
}

func (w *work) otherArgs() (args otherArgs, err error) {
	if err := json.Unmarshal(w.op.Args, &args); err != nil {
		return args, fmt.Errorf("read the operation's arguments: %w", err)
	}
	return args, nil
}

func (r RebuildRequest) validate() error {
	if r.Name != nil {
		if err := validateName(*r.Name); err != nil {
			return err
		}
	}
	if r.Description != nil {
		if err := validateDescription(*r.Description); err != nil {
			return err
		}
	}
	if r.UserData != nil && base64.StdEncoding.EncodedLen(len(*r.UserData)) > maxUserData {
		return invalid("user_data", "it is more than %d bytes in base64", maxUserData)
	}
	if err := validatePassword(r.AdminPassword); err != nil {
		return err
	}
	return validateMetadata(r.Metadata)
}

// RebuildServer makes a server anew of an image, that which it has or another: its root disk, its other disks and its config drive. It keeps its
// ID, its ports and its volumes, and is stopped afterwards if it was. Until the new disks are in the place of the old ones a failure leaves the server as it
// was; after that it is in Error, and can be rebuilt again. The errors are those of CreateServer, and ErrConflict when it is in no state for it.
func (m *Manager) RebuildServer(ctx context.Context, id string, req RebuildRequest) (s Server, err error) {
	if err := req.validate(); err != nil {
		return s, err
	}
	on, err := m.machine()
	if err != nil {
		return s, &Failure{Kind: ErrUnavailable, Reason: "the hypervisor does not answer", Err: err}
	}
	op := m.newOperation(ctx, OpRebuild, id, nil)
	taken := false
	_, err = m.beginAs(ctx, op, func(tx Writer, was Server) (json.RawMessage, error) {
		if err := admit(CmdRebuild, was); err != nil {
			return nil, err
		}
		next, img, err := m.rebuilt(tx, was, req)
		if err != nil {
			return nil, err
		}
		if s, err = m.checkRebuilt(tx, next, on); err != nil {
			return nil, err
		}
		asked := claimOf(s.ID, s.claimedFlavor(), img)
		asked.Kind, asked.Operation = ClaimRebuild, op.ID
		claim, err := m.ledger.take(asked, numaRequest(s))
		if err != nil {
			return nil, err
		}
		taken = true
		if err := tx.PutClaim(claim); err != nil {
			return nil, err
		}
		return m.storeOther(tx, s, was, req.AdminPassword)
	})
	if err != nil {
		if taken {
			m.ledger.abort(ClaimKey{id, ClaimRebuild})
		}
		return s, err
	}
	s.Task, s.Updated = TaskRebuilding, op.Started
	return s, nil
}

// storeOther stores a server with another system than it had, and returns what the journal needs to take it back.
func (m *Manager) storeOther(tx Writer, s, was Server, password string) (json.RawMessage, error) {
	if err := tx.UpdateServer(s); err != nil {
		return nil, err
	}
	args := otherArgs{AdminPassword: password, Before: was, Blobs: slices.Concat(was.Blobs(), s.Blobs())}
	made, err := tx.Definition(s.ID)
	switch {
	case err == nil:
		args.Made = &made
	case ignoreMissing(err) != nil:
		return nil, err
	}
	return json.Marshal(args)
}

// rebuilt is a server as a request wants it, with the image that it is to be made of.
func (m *Manager) rebuilt(tx Writer, s Server, req RebuildRequest) (Server, Image, error) {
	img, err := m.rebuildImage(tx, s, req.ImageID)
	if err != nil {
		return s, img, err
	}
	if err := validateSize(s.usableFlavor(), img); err != nil {
		return s, img, err
	}
	s.Rescue, s.Image = nil, imageRef(img)
	if !s.BootsFromVolume() {
		s.ImageID = img.ID
	}
	set(&s.Name, req.Name)
	set(&s.Description, req.Description)
	set(&s.AccessIPv4, req.AccessIPv4)
	set(&s.AccessIPv6, req.AccessIPv6)
	if req.Metadata != nil {
		s.Metadata = maps.Clone(req.Metadata)
	}
	if req.UserData != nil {
		s.UserData = slices.Clone(*req.UserData)
	}
	if req.KeyName != nil {
		s.Keypair = nil
	}
	if req.KeyName != nil && *req.KeyName != "" {
		key, err := tx.Keypair(req.UserID, *req.KeyName)
		if err != nil {
			return s, img, named("key_name", "keypair", *req.KeyName, err)
		}
		s.Keypair = &key
	}
	hardware, err := hardwareOf(s)
	if err != nil {
		return s, img, refused(err)
	}
	if req.AdminPassword != "" || hardware.ConfigDrive {
		m.giveConfigDrive(&s)
	}
	return s, img, nil
}

// usableFlavor is a server's flavor as it was when it was created: that nobody gets it any more does not concern who has it.
func (s Server) usableFlavor() Flavor {
	f := s.claimedFlavor()
	f.Disabled = false
	return f
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

// giveConfigDrive gives a server a config drive that had none.
func (m *Manager) giveConfigDrive(s *Server) {
	if !s.ConfigDrive {
		s.ConfigDrive, s.ConfigDriveFormat = true, m.opt.Guests.ConfigDriveFormat
	}
}

// rebuildImage is the image that a server is rebuilt of. One that boots from a volume keeps what the volume holds, so it can only be the image that the
// volume was made of. Nova before microversion 2.93 has the same rule.
func (m *Manager) rebuildImage(tx Reader, s Server, imageID string) (img Image, err error) {
	if !s.BootsFromVolume() {
		img, err = tx.Image(imageID)
		return img, named("imageRef", "image", imageID, err)
	}
	root, err := rootVolume(tx, s.ID)
	if err != nil {
		return img, err
	}
	made, err := imageUnder(tx, root)
	if err != nil {
		return img, err
	}
	if made != imageID || imageID == "" {
		return img, invalid("imageRef", "Image %s is unacceptable: Unable to rebuild with a different image for a volume-backed server.", imageID)
	}
	img, err = imageOf(tx, BlockDevice{Source: VolumeSource{ImageID: imageID}})
	return img, named("imageRef", "image", imageID, err)
}

// rootVolume is the volume that a server boots from.
func rootVolume(tx VolumeReader, serverID string) (BlockDevice, error) {
	list, err := tx.BlockDevices(serverID)
	if err != nil {
		return BlockDevice{}, err
	}
	i := slices.IndexFunc(list, BlockDevice.root)
	if i < 0 {
		return BlockDevice{}, &Failure{Kind: ErrConflict, Subject: "server " + serverID, Reason: "it has neither an image nor a volume to boot from"}
	}
	return list[i], nil
}

// imageUnder is the image that a boot volume was made of; empty where that is not known.
func imageUnder(tx VolumeReader, root BlockDevice) (string, error) {
	if root.Source.ImageID != "" {
		return root.Source.ImageID, nil
	}
	v, err := tx.Volume(root.VolumeID)
	return v.ImageMetadata["image_id"], ignoreMissing(err)
}

// checkRebuilt settles what the guests of a server keep that gets another image, and says whether this host can make them.
func (m *Manager) checkRebuilt(tx Reader, s Server, on machine) (Server, error) {
	if _, err := m.fill(tx, s.ID, &on); err != nil {
		return s, err
	}
	on = on.limited()
	on.placed, on.devices = nil, nil // which follow from the image, and are its claim's to find
	s.Hardware = nil
	settled, err := on.settle(s)
	if err != nil {
		return s, err
	}
	s.Hardware = settled
	_, err = on.check(s, m.disks.Files(s))
	return s, err
}

func (m *Manager) rebuildProcedure() procedure {
	return procedure{
		steps: []step{
			{name: "prepare", task: TaskRebuilding, do: doPrepare, undo: doDiscard},
			{name: "stop", task: TaskRebuilding, do: doStopForOther, undo: doGoOn},
			{name: "replace", task: TaskRebuildDevices, do: doReplace, undo: doNoteReplaced},
			{name: "volumes", task: TaskRebuildDevices, do: doRenewVolumes},
			{name: "guest", task: TaskRebuildSpawning, do: doRebuildGuest},
			{name: "start", task: TaskRebuildSpawning, do: doStartOther},
		},
		target: Active, stays: Stopped, spares: (*work).notGivenUp, launches: true, patience: m.opt.BuildTimeout,
	}
}

func (w *work) notGivenUp() bool {
	args, err := w.otherArgs()
	return err == nil && !args.GivenUp
}

// doPrepare makes the new disks beside the old ones: what is wrong with the image shows before anything is lost.
func doPrepare(ctx context.Context, w *work) error {
	args, err := w.otherArgs()
	if err != nil {
		return err
	}
	on, err := w.m.attachedTo(ctx, w.server)
	if err != nil {
		return err
	}
	return w.m.disks.Prepare(ctx, w.server, on, Secrets{AdminPassword: args.AdminPassword})
}

// doDiscard gives back what the new system was to have, and the server's record what it said. A server that was given up keeps the new ones.
func doDiscard(ctx context.Context, w *work) error {
	args, err := w.otherArgs()
	if err != nil {
		return err
	}
	if args.GivenUp {
		err = w.moveClaim(ctx)
	} else {
		err = w.takeBack(ctx, args.Before, func(tx Writer) error { return tx.DeleteClaim(ClaimKey{w.op.ServerID, ClaimRebuild}) })
		w.m.ledger.abort(ClaimKey{w.op.ServerID, ClaimRebuild})
	}
	if err != nil {
		return err
	}
	return w.m.disks.Discard(ctx, w.op.ServerID)
}

// takeBack has the server's record say again what it said before it was to get another system.
func (w *work) takeBack(ctx context.Context, was Server, also func(Writer) error) error {
	return w.save(ctx, func(s *Server) {
		s.Name, s.Description, s.AccessIPv4, s.AccessIPv6 = was.Name, was.Description, was.AccessIPv4, was.AccessIPv6
		s.Metadata, s.UserData, s.Keypair = was.Metadata, was.UserData, was.Keypair
		s.ImageID, s.Image, s.Hardware, s.Rescue = was.ImageID, was.Image, was.Hardware, was.Rescue
		s.ConfigDrive, s.ConfigDriveFormat, s.Fault = was.ConfigDrive, was.ConfigDriveFormat, was.Fault
	}, also)
}

// moveClaim makes what the new image's guest takes the server's own claim.
func (w *work) moveClaim(ctx context.Context) error {
	key := ClaimKey{w.op.ServerID, ClaimRebuild}
	err := w.save(ctx, func(*Server) {}, func(tx Writer) error { return tx.MoveClaim(key, ClaimOwn) })
	if err == nil {
		w.m.ledger.move(key, ClaimOwn)
	}
	return err
}

// doStopForOther ends the guest of a server that gets another system. One that was promised to run gets grace.
func doStopForOther(ctx context.Context, w *work) error {
	return w.m.stopGuest(ctx, w.op.ServerID, w.server.VM == Active)
}

// doGoOn has the server's own guest run again if it did. One that cannot be started any more is stopped, and shows it.
func doGoOn(ctx context.Context, w *work) error {
	args, err := w.otherArgs()
	if err != nil || args.GivenUp {
		return err
	}
	if err := w.takeBack(ctx, args.Before, nil); err != nil {
		return err
	}
	guest, known := w.m.look(w.op.ServerID)
	ran := args.Before.Power == virt.PowerRunning
	switch {
	case !known:
		return virt.ErrUnavailable
	case ran && guest.State != virt.PowerRunning:
		err = w.startGuest(ctx)
	case !ran && guest.State == virt.PowerPaused:
		err = w.m.stopGuest(ctx, w.op.ServerID, false)
	}
	return w.unlessFinal(ctx, err)
}

// unlessFinal is the error of an undo that is worth trying again. Another one would keep the server busy for ever.
func (w *work) unlessFinal(ctx context.Context, err error) error {
	if err == nil || transient(err) || ctx.Err() != nil {
		return err
	}
	w.log.Error("the server's guest cannot be what it was", "error", err)
	return nil
}

func doReplace(ctx context.Context, w *work) error {
	args, err := w.otherArgs()
	if err != nil {
		return err
	}
	if args.Before.Rescue != nil {
		if err := w.m.disks.RemoveRescue(ctx, w.op.ServerID); err != nil {
			return err
		}
	}
	return w.m.disks.Replace(ctx, w.server)
}

// doNoteReplaced finds out whether the old disk is still there, and has the journal say if it is not.
func doNoteReplaced(ctx context.Context, w *work) error {
	args, err := w.otherArgs()
	if err != nil || args.GivenUp {
		return err
	}
	if args.GivenUp, err = w.m.disks.Replaced(ctx, w.server); err != nil || !args.GivenUp {
		return err
	}
	if w.op.Args, err = json.Marshal(args); err != nil {
		return err
	}
	return w.save(ctx, func(*Server) {}, nil)
}

// doRenewVolumes has the server's volumes on the host by a new way: what gets at the new guest is checked as at its first attachment.
func doRenewVolumes(ctx context.Context, w *work) error {
	list, err := w.blockDevices(ctx)
	if err != nil {
		return err
	}
	err = eachVolume(ofGuest(list), func(d BlockDevice) error { return w.renewVolume(ctx, d) })
	w.ready = err == nil
	return err
}

// doRebuildGuest makes a guest that has nothing of the old one, neither firmware variables nor a TPM's state.
func doRebuildGuest(ctx context.Context, w *work) error {
	if err := w.m.destroyGuest(w.op.ServerID); err != nil {
		return err
	}
	if err := w.moveClaim(ctx); err != nil {
		return err
	}
	return w.createGuest(ctx)
}

// doStartOther runs the new guest, unless the server was stopped.
func doStartOther(ctx context.Context, w *work) error {
	if w.server.VM == Stopped {
		return w.m.stopGuest(ctx, w.op.ServerID, false)
	}
	return w.startGuest(ctx)
}
