package compute

import (
	"cmp"
	"context"
	"slices"

	"compute-agent/guest"
	"compute-agent/network"
	"compute-agent/neutron"
	"compute-agent/virt"
)

// guestPorts is what a server's guest has to know of its ports.
func guestPorts(tx NetworkReader, serverID string) ([]guest.Port, error) {
	ports, err := tx.PortsOf(serverID)
	if err != nil {
		return nil, err
	}
	out := make([]guest.Port, 0, len(ports))
	for _, p := range ports {
		net, err := tx.Network(p.NetworkID)
		if err != nil {
			return nil, err
		}
		out = append(out, guestPort(p, net))
	}
	return out, nil
}

// guestPort is a port as the guest's definition has it. Its tap is the agent's, made before the guest and kept after it, so that
// the guest never has a device that is not filtered.
func guestPort(p neutron.Port, net neutron.Network) guest.Port {
	out := guest.Port{
		ID: p.ID, MAC: p.MAC, VNICType: cmp.Or(p.VNICType, "normal"), VIFType: p.VIFType, Bridge: network.BridgeName(net.ID), Device: network.TapName(p.ID),
		MTU: net.MTU,
	}
	for _, ip := range p.FixedIPs {
		out.Addresses = append(out.Addresses, ip.Address)
	}
	return out
}

// portsOf reads a server's ports, in the order of its interfaces.
func (m *Manager) portsOf(ctx context.Context, serverID string) (ports []neutron.Port, err error) {
	err = m.store.View(ctx, func(tx Reader) error {
		ports, err = tx.PortsOf(serverID)
		return err
	})
	return ports, err
}

// requestPorts gives a new server the interfaces that it asks for.
func (m *Manager) requestPorts(tx Writer, s Server, req CreateRequest) error {
	networks, err := serverNetworks(tx, s.ProjectID, req.Networking, req.Networks)
	if err != nil || len(networks) == 0 {
		return err
	}
	if m.opt.Networks == nil || m.opt.HostNetwork == nil {
		return invalid("networks", "this host has no network service")
	}
	groups, err := m.opt.Networks.serverGroups(tx, s.ProjectID, req.SecurityGroups)
	if err != nil {
		return err
	}
	for i, n := range networks {
		_, err := m.opt.Networks.allocate(tx, portFor{
			RequestedNetwork: n, ServerID: s.ID, ProjectID: s.ProjectID, HostName: hostname(s), Groups: groups, Index: i,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// keepQueues writes down how many queues the taps of a guest must have: the kernel opens a tap only as what it was made.
func keepQueues(tx Writer, spec virt.Spec) error {
	ports, err := tx.PortsOf(spec.ID)
	if err != nil {
		return err
	}
	for _, p := range ports {
		i := slices.IndexFunc(spec.NICs, func(n virt.NIC) bool { return n.MAC == p.MAC })
		if i < 0 || p.Queues == spec.NICs[i].Queues {
			continue
		}
		p.Queues = spec.NICs[i].Queues
		if err := tx.PutPort(p); err != nil {
			return err
		}
	}
	return nil
}

// doWire makes the host ready for the server's ports.
func doWire(ctx context.Context, w *work) error { return w.wire(ctx) }

// wire makes the host ready for the server's ports, filters first, then taps in their bridges; once in an operation. The taps of a
// server that was there before are there already, but after a restart of the host.
func (w *work) wire(ctx context.Context) error {
	if w.wired {
		return nil
	}
	ports, err := w.m.portsOf(ctx, w.op.ServerID)
	if err != nil {
		return err
	}
	if len(ports) > 0 {
		if w.m.opt.HostNetwork == nil {
			return errNoNetworks(w.op.ServerID)
		}
		if err := w.m.opt.HostNetwork.SyncPorts(ctx, ports); err != nil {
			return err
		}
	}
	w.wired = true
	return nil
}

func errNoNetworks(serverID string) error {
	return &Failure{Kind: ErrUnavailable, Subject: "server " + serverID, Reason: "it has ports, and the agent was started without networks"}
}

// doUnwire gives a server's ports back: those that were made for it go, the others belong to nobody. The host follows. What it could not
// take away it tries again by itself: no record refers to it any more, and what is on the host bears the agent's mark.
func doUnwire(ctx context.Context, w *work) error {
	ports, err := w.m.portsOf(ctx, w.op.ServerID)
	if err != nil || len(ports) == 0 {
		return err
	}
	if w.m.opt.Networks == nil {
		return errNoNetworks(w.op.ServerID)
	}
	err = w.save(ctx, func(*Server) {}, func(tx Writer) error { return w.m.opt.Networks.release(tx, w.op.ServerID) })
	if err != nil || w.m.opt.HostNetwork == nil {
		return err
	}
	w.unwire(ctx, ports)
	return nil
}

// unwire makes the host follow once ports of the server are given back.
func (w *work) unwire(ctx context.Context, ports []neutron.Port) {
	if err := w.m.opt.HostNetwork.SyncPorts(ctx, ports); err != nil {
		w.log.Warn("the host's networks are not rid of the server's ports yet; that is tried again", "error", err)
	}
}
