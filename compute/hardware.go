package compute

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"

	"compute-agent/blockdev"
	"compute-agent/guest"
	"compute-agent/virt"
)

// HardwarePolicy says whether a hard reboot may change what a guest's operating system sees of its hardware.
type HardwarePolicy string

// The policies.
const (
	HardwareRefuse HardwarePolicy = "refuse" // unless the request says that it may
	HardwareAccept HardwarePolicy = "accept"
)

// properties are the image properties that a server's guests are made by.
func (s Server) properties() map[string]string {
	image, settled := s.guestProperties()
	return (&guest.Request{Image: guest.Image{Properties: image}, Settled: settled}).Properties()
}

// rescueBuses are the properties that a rescue image has for itself where its disk comes first.
var rescueBuses = []string{blockdev.PropDiskBus, blockdev.PropCDROMBus, "hw_scsi_model"}

// guestProperties are the image properties that a server's guest is defined by, and those that were settled for it. All of its hardware stays what it is
// during a rescue; only which bus the disks are on is for the system to say that is booted then.
func (s Server) guestProperties() (image, settled map[string]string) {
	image, settled = s.Image.Properties, s.Hardware
	if !s.inPlaceOfAll() {
		return image, settled
	}
	image, settled = maps.Clone(image), maps.Clone(settled)
	for _, key := range rescueBuses {
		if value := s.Rescue.Image.Properties[key]; value != "" {
			if image == nil {
				image = map[string]string{}
			}
			image[key] = value
			delete(settled, key)
		}
	}
	return image, settled
}

// define says what a server's guest would be made of now, by its claim.
func (m *Manager) define(s Server) (virt.Spec, Claim, error) {
	return m.defineWith(s, func([]BlockDevice) {})
}

// defineWith is define for volumes that are not as they are stored: change gets those.
func (m *Manager) defineWith(s Server, change func([]BlockDevice)) (virt.Spec, Claim, error) {
	on, err := m.machine()
	if err != nil {
		return virt.Spec{}, Claim{}, err
	}
	var made virt.Spec
	var claim Claim
	err = m.store.View(m.base, func(tx Reader) error {
		if claim, err = m.fill(tx, s.ID, &on); err != nil {
			return err
		}
		made, err = tx.Definition(s.ID)
		return ignoreMissing(err)
	})
	if err != nil {
		return virt.Spec{}, Claim{}, err
	}
	change(on.volumes)
	spec, err := buildSpec(s, m.disks.Files(s), on)
	keepUnits(made, &spec)
	keepSerialPorts(made, &spec, m.opt.Guests.SerialPorts)
	return spec, claim, err
}

// definition is what a server's guest was last made of; ErrNotFound where that is not known.
func (m *Manager) definition(ctx context.Context, id string) (spec virt.Spec, err error) {
	err = m.store.View(ctx, func(tx Reader) error {
		spec, err = tx.Definition(id)
		return err
	})
	return spec, err
}

// keepDefinition stores what a guest is about to be made of. What its operating system will find changed is logged: who
// asked for the guest has allowed it, or had no guest any more.
func (w *work) keepDefinition(ctx context.Context, spec virt.Spec) error {
	was, err := w.m.definition(ctx, w.op.ServerID)
	if err == nil && reflect.DeepEqual(was, spec) {
		return nil
	}
	if err == nil {
		if changes := guest.Changes(was, spec); len(changes) > 0 {
			w.log.Warn("the guest is made again with other hardware than before", "changes", inLine(changes))
		}
	}
	// A store that cannot be read cannot be written either: save waits until it can.
	return w.save(ctx, func(*Server) {}, func(tx Writer) error {
		return errors.Join(tx.PutDefinition(w.op.ServerID, spec), keepQueues(tx, spec))
	})
}

// errUntouched says that an operation was refused before it did anything to the guest.
var errUntouched = errors.New("the guest was left as it is")

// checkRemake says why a server's guest must not be ended to be made again.
func (m *Manager) checkRemake(ctx context.Context, s Server, args rebootArgs) error {
	if err := m.checkHost(s); err != nil {
		return err
	}
	return m.checkSurprises(ctx, s, args)
}

// checkHost is ErrConflict when this host cannot make a server's guest again. Why one cannot be defined, the step that
// makes it says.
func (m *Manager) checkHost(s Server) error {
	spec, _, err := m.define(s)
	if err != nil {
		return nil
	}
	host, _, err := m.hostInfo()
	if err != nil {
		return err
	}
	if err := guest.Supported(spec, host, s.asked()); err != nil {
		return &Failure{
			Kind: errors.Join(ErrConflict, errUntouched, err), Subject: "server " + s.ID,
			Reason: "a hard reboot would lose its guest, which this host can no longer make: " + err.Error(),
		}
	}
	return nil
}

// checkSurprises is ErrConflict when a hard reboot would change what the guest's operating system sees of its
// hardware, and nobody has allowed it.
func (m *Manager) checkSurprises(ctx context.Context, s Server, args rebootArgs) error {
	if args.AcceptHardwareChanges || m.opt.HardwareChanges == HardwareAccept {
		return nil
	}
	changes, err := m.surprises(ctx, s)
	if err != nil || len(changes) == 0 {
		return err
	}
	return &Failure{
		Kind: errors.Join(ErrConflict, errUntouched), Subject: "server " + s.ID,
		Reason: "a hard reboot would change its hardware: " + inLine(changes) +
			`; if that is meant, ask for it with "accept_hardware_changes": true beside "type": "HARD"`,
	}
}

// surprises are the changes in its hardware that a server's guest would find if it were made again now. None for a
// server without a guest, which has to be made in any case, and none where it is not known what the guest was made of
// or what it would be made of: the step that makes it says why not.
func (m *Manager) surprises(ctx context.Context, s Server) ([]guest.Change, error) {
	was, err := m.definition(ctx, s.ID)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	is, _, err := m.define(s)
	if err != nil {
		return nil, nil
	}
	changes := guest.Changes(was, is)
	if len(changes) == 0 {
		return nil, nil
	}
	if g, known := m.look(s.ID); known && g.State == virt.PowerNoState {
		return nil, nil
	}
	return changes, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

func inLine(changes []guest.Change) string {
	lines := make([]string, len(changes))
	for i, c := range changes {
		lines[i] = c.String()
	}
	return strings.Join(lines, "; ")
}

// settleOlder decides what the guests of servers keep that an older agent made, as Nova does at start. Such an agent did
// not keep what it had chosen: it is what would be chosen now, but for the machine type, which its guest has. What cannot be settled, because the hypervisor does not
// answer, is left to the next audit; when all is, there is nothing more to look for.
func (m *Manager) settleOlder(ctx context.Context) error {
	if m.isSettled() {
		return nil
	}
	var servers []Server
	err := m.store.View(ctx, func(tx Reader) (err error) {
		servers, err = tx.Servers()
		return err
	})
	if err != nil {
		return err
	}
	older := slices.DeleteFunc(servers, func(s Server) bool { return s.Hardware != nil })
	if len(older) == 0 {
		m.allSettled()
		return nil
	}
	on, err := m.machine()
	if err != nil {
		return nil
	}
	settled := map[string]map[string]string{}
	for _, s := range older {
		hardware, err := m.settleByGuest(on, s)
		if err != nil {
			m.logger(s.ID, "").Warn("cannot settle the hardware of a server that an older agent made", "error", err)
			continue
		}
		settled[s.ID] = hardware
	}
	err = m.store.Update(ctx, func(tx Writer) error {
		for _, s := range older {
			if err := m.putSettled(tx, s.ID, settled[s.ID]); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && len(settled) == len(older) {
		m.allSettled()
	}
	return err
}

func (m *Manager) isSettled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settled
}

func (m *Manager) allSettled() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settled = true
}

// settleByGuest settles the hardware of a server whose guest, if there is one and the driver tells, has a machine type.
func (m *Manager) settleByGuest(on machine, s Server) (map[string]string, error) {
	if teller, can := m.driver.(virt.MachineTeller); can {
		err := m.driverCall(func(ctx context.Context) error {
			machine, err := teller.Machine(ctx, s.ID)
			if err == nil {
				s.Hardware = map[string]string{"hw_machine_type": machine}
			}
			return err
		})
		if ignoreNotFound(err) != nil {
			return nil, err
		}
	}
	return on.settle(s)
}

func (m *Manager) putSettled(tx Writer, id string, hardware map[string]string) error {
	s, err := tx.Server(id)
	if err != nil || hardware == nil || s.Hardware != nil {
		return ignoreMissing(err)
	}
	s.Hardware = hardware
	m.logger(id, "").Info("hardware of a server that an older agent made is settled", "properties", hardware)
	return tx.UpdateServer(s)
}
