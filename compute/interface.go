package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"compute-agent/neutron"
	"compute-agent/virt"
)

// interfaceArgs are in the journal until a server has an interface, or has it no more.
type interfaceArgs struct {
	PortID string `json:"port_id"`
	MAC    string `json:"mac"`
}

func (w *work) interfaceArgs() (args interfaceArgs, err error) {
	if err := json.Unmarshal(w.op.Args, &args); err != nil {
		return args, fmt.Errorf("read the operation's arguments: %w", err)
	}
	return args, nil
}

// Interfaces lists a server's ports, in the order of its interfaces.
func (m *Manager) Interfaces(ctx context.Context, serverID string) (ports []neutron.Port, err error) {
	err = m.store.View(ctx, func(tx Reader) error {
		if _, err := tx.Server(serverID); err != nil {
			return err
		}
		ports, err = tx.PortsOf(serverID)
		return err
	})
	return ports, err
}

// AttachInterface gives a server one more interface: a port that is made for it, or one that is there. The port is the server's, and
// the intent stored, before anything is done; it returns when the guest has the interface, as Nova does. A request that names neither network nor port
// means the only network that the project can use. The errors are those of a
// request for a server, ErrConflict when the server is in no state for it, and ErrAttach when it was taken back because the host or the
// guest could not have it.
func (m *Manager) AttachInterface(ctx context.Context, serverID string, want RequestedNetwork) (neutron.Port, error) {
	if err := m.canPlug(); err != nil {
		return neutron.Port{}, err
	}
	on, err := m.machine()
	if err != nil {
		return neutron.Port{}, &Failure{Kind: ErrUnavailable, Reason: "the hypervisor does not answer", Err: err}
	}
	var port neutron.Port
	r, err := m.beginWith(ctx, serverID, OpAttachInterface, func(tx Writer, s Server) (json.RawMessage, error) {
		if err := admit(CmdAttachInterface, s); err != nil {
			return nil, err
		}
		if port, err = m.addPort(tx, s, want, on); err != nil {
			return nil, err
		}
		return json.Marshal(interfaceArgs{PortID: port.ID, MAC: port.MAC})
	})
	if err != nil {
		return neutron.Port{}, err
	}
	if err := r.wait(ctx); err != nil {
		return neutron.Port{}, m.notAttached(serverID, port.ID, err)
	}
	return m.interfaceOf(ctx, serverID, port.ID)
}

// ErrAttach is an interface that was asked for and taken back. Nova: InterfaceAttachFailed.
var ErrAttach = errors.New("failed to attach the network interface")

// notAttached is why a server has not got an interface. One whose operation another took the place of may have.
func (m *Manager) notAttached(serverID, portID string, cause error) error {
	f := &Failure{Kind: ErrAttach, Subject: "server " + serverID, Reason: "port " + portID + ": " + plainly(cause)}
	switch {
	case errors.Is(cause, errSuperseded):
		f.Kind, f.Reason = ErrConflict, "another operation took the place of the attachment of port "+portID
	case errors.Is(cause, errParked):
		f.Kind, f.Reason = ErrUnavailable, "the agent stops; port "+portID+" is attached at its next start"
	}
	return f
}

// wait returns how an operation ended, or that ctx did. The agent that stops before it begins has parked it.
func (r *run) wait(ctx context.Context) error {
	if r == nil {
		return errParked
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// addPort makes a port a server's, and says whether its guest could then be defined.
func (m *Manager) addPort(tx Writer, s Server, want RequestedNetwork, on machine) (neutron.Port, error) {
	ports, err := tx.PortsOf(s.ID)
	if err != nil {
		return neutron.Port{}, err
	}
	index := 0
	for _, p := range ports {
		index = max(index, p.Index+1)
	}
	if want, err = onlyNetwork(tx, s, want); err != nil {
		return neutron.Port{}, err
	}
	port, err := m.opt.Networks.allocate(tx, portFor{
		RequestedNetwork: want, ServerID: s.ID, ProjectID: s.ProjectID, HostName: hostname(s), Index: index,
	})
	if err != nil {
		return neutron.Port{}, err
	}
	if _, err := m.fill(tx, s.ID, &on); err != nil {
		return neutron.Port{}, err
	}
	spec, err := buildSpec(s, m.disks.Files(s), on)
	if err != nil {
		return port, err
	}
	return port, keepQueues(tx, spec)
}

// onlyNetwork is what a request that names nothing means: the only network that the project can use. Nova's NetworkAmbiguous and
// InterfaceAttachFailedNoNetwork are what is wrong with the request otherwise.
func onlyNetwork(tx Reader, s Server, want RequestedNetwork) (RequestedNetwork, error) {
	if want.NetworkID != "" || want.PortID != "" {
		return want, nil
	}
	found, err := serverNetworks(tx, s.ProjectID, NetworksAuto, nil)
	switch {
	case errors.Is(err, ErrConflict):
		return want, invalid("net_id", "%v", err)
	case err != nil:
		return want, err
	case len(found) == 0:
		return want, invalid("net_id", "no specific network was requested and none are available for project %s", s.ProjectID)
	}
	found[0].Tag = want.Tag
	return found[0], nil
}

// interfaceOf is a port of a server. ErrNotFound if it is not that.
func (m *Manager) interfaceOf(ctx context.Context, serverID, portID string) (neutron.Port, error) {
	ports, err := m.Interfaces(ctx, serverID)
	if err != nil {
		return neutron.Port{}, err
	}
	return portIn(ports, serverID, portID)
}

func portIn(ports []neutron.Port, serverID, portID string) (neutron.Port, error) {
	i := slices.IndexFunc(ports, func(p neutron.Port) bool { return p.ID == portID })
	if i < 0 {
		return neutron.Port{}, &Failure{Kind: ErrNotFound, Subject: "server " + serverID, Reason: "it has no port " + abridge(portID)}
	}
	return ports[i], nil
}

// DetachInterface takes an interface away from a server: out of its guest first, which has to let go of it, and then its port is
// given back. A guest that does not let go keeps the interface. ErrNotFound when the port is not the server's.
func (m *Manager) DetachInterface(ctx context.Context, serverID, portID string) error {
	if err := m.canPlug(); err != nil {
		return err
	}
	_, err := m.beginWith(ctx, serverID, OpDetachInterface, func(tx Writer, s Server) (json.RawMessage, error) {
		if err := admit(CmdDetachInterface, s); err != nil {
			return nil, err
		}
		ports, err := tx.PortsOf(serverID)
		if err != nil {
			return nil, err
		}
		port, err := portIn(ports, serverID, portID)
		if err != nil {
			return nil, err
		}
		return json.Marshal(interfaceArgs{PortID: port.ID, MAC: port.MAC})
	})
	return err
}

// canPlug says why no server of this agent can get another interface, or give one back.
func (m *Manager) canPlug() error {
	if m.opt.Networks == nil || m.opt.HostNetwork == nil {
		return invalid("interfaceAttachment", "this host has no network service")
	}
	_, err := m.nicPlugger()
	return err
}

func (m *Manager) nicPlugger() (virt.NICPlugger, error) {
	p, can := m.driver.(virt.NICPlugger)
	if !can {
		return nil, &Failure{Kind: ErrInvalid, Reason: "the hypervisor cannot plug interfaces into guests"}
	}
	return p, nil
}

// attachInterfaceProcedure has the filter in force before the guest has the interface.
func (m *Manager) attachInterfaceProcedure() procedure {
	return procedure{
		steps: []step{
			{name: "network", task: TaskAttachingInterface, do: doWire, undo: doGiveBack},
			{name: "plug", task: TaskAttachingInterface, do: doPlug, undo: doTakeBack},
		},
		keeps: true, patience: m.opt.OperationTimeout,
	}
}

func (m *Manager) detachInterfaceProcedure() procedure {
	return procedure{
		steps: []step{
			{name: "unplug", task: TaskDetachingInterface, do: doUnplug, undo: doPlug},
			{name: "network", task: TaskDetachingInterface, do: doGiveBack},
		},
		keeps: true, patience: m.opt.OperationTimeout,
	}
}

// doPlug gives the guest the NIC that its definition would have if it were made now, so that it is the same when it is.
// A guest that is not there gets it when it is made.
func doPlug(ctx context.Context, w *work) error {
	args, err := w.interfaceArgs()
	if err != nil {
		return err
	}
	plugger, err := w.m.nicPlugger()
	if err != nil {
		return err
	}
	now, _, err := w.m.define(w.server)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(now.NICs, hasMAC(args.MAC))
	if i < 0 {
		return &Failure{Kind: ErrConflict, Subject: "server " + w.op.ServerID, Reason: "port " + args.PortID + " is not its own any more"}
	}
	nic := now.NICs[i]
	if err := w.redefine(ctx, func(made *virt.Spec) {
		if !slices.ContainsFunc(made.NICs, hasMAC(args.MAC)) {
			made.NICs = append(made.NICs, nic)
		}
		made.Metadata = now.Metadata
	}); err != nil {
		return err
	}
	err = w.m.driverCall(func(ctx context.Context) error { return plugger.PlugNIC(ctx, w.op.ServerID, nic) })
	if err != nil && !errors.Is(err, virt.ErrExists) && !errors.Is(err, virt.ErrNotFound) {
		return err
	}
	w.tell(now.Metadata)
	return nil
}

// tell replaces what a guest tells tools of its server. As in Nova, it is no failure where that cannot be done.
func (w *work) tell(metadata virt.Metadata) {
	setter, can := w.m.driver.(virt.MetadataSetter)
	if !can {
		return
	}
	err := w.m.driverCall(func(ctx context.Context) error { return setter.SetMetadata(ctx, w.op.ServerID, metadata) })
	if ignoreNotFound(err) != nil {
		w.log.Warn("the guest's metadata still tell of its former interfaces", "error", err)
	}
}

// doTakeBack takes away what doPlug gave, for as long as it takes the guest to let go.
func doTakeBack(ctx context.Context, w *work) error { return w.unplug(ctx, w.m.opt.DetachTimeout) }

// doUnplug asks the guest to let go for as long as Nova would: at most DetachAttempts times, DetachTimeout apart.
func doUnplug(ctx context.Context, w *work) error {
	err := w.unplug(ctx, time.Duration(w.m.opt.DetachAttempts)*w.m.opt.DetachTimeout)
	if errors.Is(err, virt.ErrBusy) { // which was tried for long enough
		return &Failure{Kind: ErrConflict, Subject: "server " + w.op.ServerID, Reason: "its guest does not let go of the interface", Err: plain(err)}
	}
	return err
}

// plain is an error's message without its kinds.
func plain(err error) error { return errors.New(err.Error()) }

func (w *work) unplug(ctx context.Context, patience time.Duration) error {
	args, err := w.interfaceArgs()
	if err != nil {
		return err
	}
	plugger, err := w.m.nicPlugger()
	if err != nil {
		return err
	}
	opt := virt.UnplugOptions{Patience: patience, Retry: w.m.opt.DetachTimeout}
	// It ends early when ctx does, with the guest as it then is: what takes its place must not wait for the guest.
	call, cancel := context.WithTimeout(ctx, opt.Patience+w.m.opt.CallTimeout)
	defer cancel()
	if err := ignoreNotFound(plugger.UnplugNIC(call, w.op.ServerID, args.MAC, opt)); err != nil {
		return err
	}
	var metadata *virt.Metadata // nil where it is not known what the guest was made of
	err = w.redefine(ctx, func(made *virt.Spec) {
		made.NICs = without(made.NICs, args.MAC)
		made.Metadata.Ports = withoutPort(made.Metadata.Ports, args.PortID)
		metadata = &made.Metadata
	})
	if err == nil && metadata != nil {
		w.tell(*metadata)
	}
	return err
}

// redefine changes what the store says that the server's guest was made of. Where it says nothing there is nothing to
// compare with later.
func (w *work) redefine(ctx context.Context, change func(*virt.Spec)) error {
	return w.save(ctx, func(*Server) {}, func(tx Writer) error {
		made, err := tx.Definition(w.op.ServerID)
		if err != nil {
			return ignoreMissing(err)
		}
		made = made.Clone()
		change(&made)
		return tx.PutDefinition(w.op.ServerID, made)
	})
}

func hasMAC(mac string) func(virt.NIC) bool {
	return func(n virt.NIC) bool { return strings.EqualFold(n.MAC, mac) }
}

func without(nics []virt.NIC, mac string) []virt.NIC {
	nics = slices.DeleteFunc(nics, hasMAC(mac))
	if len(nics) == 0 {
		return nil // as guest.Define has it
	}
	return nics
}

func withoutPort(ports []virt.PortMetadata, id string) []virt.PortMetadata {
	ports = slices.DeleteFunc(ports, func(p virt.PortMetadata) bool { return p.ID == id })
	if len(ports) == 0 {
		return nil
	}
	return ports
}

// doGiveBack gives a port back that is the server's: one that was made for it goes. The host follows.
func doGiveBack(ctx context.Context, w *work) error {
	args, err := w.interfaceArgs()
	if err != nil {
		return err
	}
	if w.m.opt.Networks == nil || w.m.opt.HostNetwork == nil {
		return errNoNetworks(w.op.ServerID)
	}
	var given []neutron.Port
	err = w.save(ctx, func(*Server) {}, func(tx Writer) error {
		p, err := tx.Port(args.PortID)
		if err != nil || p.DeviceID != w.op.ServerID {
			return ignoreMissing(err)
		}
		given = []neutron.Port{p}
		return w.m.opt.Networks.releasePort(tx, p)
	})
	if err == nil && given != nil {
		w.unwire(ctx, given)
	}
	return err
}
