package compute

import (
	"context"
	"encoding/json"

	"compute-agent/blockdev"
	"compute-agent/virt"
)

// RescueRequest says what a server is rescued with.
type RescueRequest struct {
	ImageID string // empty for the server's own
	// AdminPassword reaches the rescue system on a config drive, which the guest then has.
	AdminPassword string
	// FromVolume says that a server that boots from a volume may be rescued (Nova: from microversion 2.87 on).
	FromVolume bool
}

// RescueServer has a server boot from another disk, beside its own: one that is made of an image and goes when the server is unrescued. A failure leaves
// the server as it was. The errors are ErrInvalid for an image, or a server, that this cannot be done with, and ErrConflict when the server is in no
// state for it.
func (m *Manager) RescueServer(ctx context.Context, id string, req RescueRequest) error {
	if err := validatePassword(req.AdminPassword); err != nil {
		return err
	}
	on, err := m.machine()
	if err != nil {
		return &Failure{Kind: ErrUnavailable, Reason: "the hypervisor does not answer", Err: err}
	}
	_, err = m.beginWith(ctx, id, OpRescue, func(tx Writer, was Server) (json.RawMessage, error) {
		if err := admit(CmdRescue, was); err != nil {
			return nil, err
		}
		if was.Rescue != nil {
			return nil, &Failure{Kind: ErrConflict, Subject: "server " + id, Reason: "it is being rescued already"}
		}
		s, err := m.rescued(tx, was, req)
		if err != nil {
			return nil, err
		}
		if _, err := m.fill(tx, id, &on); err != nil {
			return nil, err
		}
		if _, err := on.check(s, m.disks.Files(s)); err != nil {
			return nil, err
		}
		return m.storeOther(tx, s, was, req.AdminPassword)
	})
	return err
}

// rescued is a server as it is rescued.
func (m *Manager) rescued(tx Reader, s Server, req RescueRequest) (Server, error) {
	by, err := rescueImage(tx, s, req.ImageID)
	if err != nil {
		return s, err
	}
	bus, device := by.Image.Properties[blockdev.PropRescueBus], by.Image.Properties[blockdev.PropRescueDevice]
	if s.BootsFromVolume() && (!req.FromVolume || bus == "" || device == "") {
		return s, invalid("rescue", "Instance %s cannot be rescued: Cannot rescue a volume-backed instance", s.ID) // Nova's words
	}
	by.Stable = bus != "" || device != ""
	by.ConfigDrive = s.ConfigDrive || req.AdminPassword != ""
	made, err := tx.Definition(s.ID)
	switch {
	case err == nil:
		by.Made = &made
	case ignoreMissing(err) != nil:
		return s, err
	}
	if by.ConfigDrive && s.ConfigDriveFormat == "" {
		s.ConfigDriveFormat = m.opt.Guests.ConfigDriveFormat
	}
	s.Rescue = &by
	return s, nil
}

// rescueImage is what a server is rescued with: an image that is named, or its own, whose bytes are there for as long as the server is.
func rescueImage(tx Reader, s Server, imageID string) (Rescue, error) {
	if imageID == "" && !s.BootsFromVolume() {
		return Rescue{ImageID: s.ImageID, Image: s.Image}, nil
	}
	if imageID == "" {
		root, err := rootVolume(tx, s.ID)
		if err != nil {
			return Rescue{}, err
		}
		if imageID, err = imageUnder(tx, root); err != nil {
			return Rescue{}, err
		}
	}
	img, err := tx.Image(imageID)
	switch {
	case err != nil:
		return Rescue{}, named("rescue_image_ref", "image", imageID, err)
	case img.Status != ImageActive:
		return Rescue{}, invalid("rescue_image_ref", "image %s is %s, not active", img.ID, img.Status)
	}
	return Rescue{ImageID: img.ID, Image: imageRef(img)}, nil
}

// UnrescueServer has a rescued server boot from its own disks again, with the guest that it had. A failure leaves it rescued.
func (m *Manager) UnrescueServer(ctx context.Context, id string) error {
	_, err := m.beginWith(ctx, id, OpUnrescue, func(tx Writer, was Server) (json.RawMessage, error) {
		if err := admit(CmdUnrescue, was); err != nil {
			return nil, err
		}
		s := was
		s.Rescue = nil
		return m.storeOther(tx, s, was, "")
	})
	return err
}

func (m *Manager) rescueProcedure() procedure {
	return procedure{
		steps: []step{
			{name: "files", task: TaskRescuing, do: doMakeRescue, undo: doUnmakeRescue},
			{name: "stop", task: TaskRescuing, do: doStopForOther, undo: doGoOn},
			{name: "guest", task: TaskRescuing, do: doCreateGuest, undo: doGiveGuestBack},
			{name: "start", task: TaskRescuing, do: doStart},
		},
		target: Rescued, spares: always, launches: true, patience: m.opt.OperationTimeout,
	}
}

// always: whatever of it was done can be undone.
func always(*work) bool { return true }

func doMakeRescue(ctx context.Context, w *work) error {
	args, err := w.otherArgs()
	if err != nil {
		return err
	}
	on, err := w.m.attachedTo(ctx, w.server)
	if err != nil {
		return err
	}
	return w.m.disks.MakeRescue(ctx, w.server, on, Secrets{AdminPassword: args.AdminPassword})
}

func doUnmakeRescue(ctx context.Context, w *work) error {
	args, err := w.otherArgs()
	if err != nil {
		return err
	}
	if err := w.takeBack(ctx, args.Before, nil); err != nil {
		return err
	}
	return w.m.disks.RemoveRescue(ctx, w.op.ServerID)
}

// doGiveGuestBack makes the guest again that the server had, in the place of one with another system. It runs in the next step, if it did.
func doGiveGuestBack(ctx context.Context, w *work) error {
	args, err := w.otherArgs()
	if err != nil {
		return err
	}
	if err := w.takeBack(ctx, args.Before, nil); err != nil {
		return err
	}
	return w.unlessFinal(ctx, w.createOf(ctx, args.Made))
}

// createOf makes a guest of what one that the server had was made of, with its volumes where they are now.
func (w *work) createOf(ctx context.Context, made *virt.Spec) error {
	if made == nil {
		return w.createGuest(ctx)
	}
	if err := w.readyVolumes(ctx); err != nil {
		return err
	}
	list, err := w.blockDevices(ctx)
	if err != nil {
		return err
	}
	spec, err := pointAt(*made, ofGuest(list))
	if err != nil {
		return err
	}
	claim, _ := w.m.ledger.place(w.op.ServerID)
	return w.createAs(ctx, spec, claim)
}

func (m *Manager) unrescueProcedure() procedure {
	return procedure{
		steps: []step{
			{name: "stop", task: TaskUnrescuing, do: doEndRescue, undo: doGoOn},
			{name: "guest", task: TaskUnrescuing, do: doUnrescueGuest, undo: doGiveGuestBack},
			{name: "start", task: TaskUnrescuing, do: doStart},
			{name: "files", task: TaskUnrescuing, do: doRemoveRescue},
		},
		target: Active, spares: always, patience: m.opt.OperationTimeout,
	}
}

func doEndRescue(ctx context.Context, w *work) error {
	return w.m.stopGuest(ctx, w.op.ServerID, false)
}

func doUnrescueGuest(ctx context.Context, w *work) error {
	args, err := w.otherArgs()
	if err != nil {
		return err
	}
	if args.Before.Rescue == nil {
		return w.createGuest(ctx)
	}
	return w.createOf(ctx, args.Before.Rescue.Made)
}

// doRemoveRescue removes what the next rescue, or the server's end, would remove too: the server has done with it.
func doRemoveRescue(ctx context.Context, w *work) error {
	if err := w.m.disks.RemoveRescue(ctx, w.op.ServerID); err != nil {
		w.log.Warn("disks that a server was rescued with stay", "error", err)
	}
	return nil
}
