package fabric

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"compute-agent/network"
	"compute-agent/network/firewall"
)

// errNotFiltered is why a port is not plugged in.
var errNotFiltered = errors.New("its filter cannot be loaded, so it is not plugged in")

// Apply makes the host what a State asks for, and changes only what differs. It may end at any line: the next Apply completes it.
// Filters come first: a port whose filter could not be loaded is not plugged in, or, where it is already, lets nothing pass. What
// cannot be had takes nothing else with it. The error has a *PortError for each port that does not work; what else is in it is about
// services of networks.
func (f *Fabric) Apply(ctx context.Context, want State) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.want, f.asked = want, true
	refused, err := f.filter(ctx, want)
	errs := []error{err}
	// Who is in a namespace that is to go leaves it first: an open socket keeps it in being.
	f.routers.Release(want.Routers)
	f.metadata.Release(want.Metadata)
	errs = append(errs, f.link(ctx, want, refused))
	for _, id := range slices.Sorted(maps.Keys(refused)) {
		errs = append(errs, &PortError{id, refused[id]})
	}
	return errors.Join(append(errs, f.serve(ctx, want))...)
}

// serve makes what runs for networks, in namespaces that are there.
func (f *Fabric) serve(ctx context.Context, want State) error {
	return errors.Join(f.dhcp.Apply(ctx, want.DHCP), f.routers.Apply(ctx, want.Routers), f.metadata.Apply(want.Metadata))
}

// filter loads the filters, and says which ports have none.
func (f *Fabric) filter(ctx context.Context, want State) (refused map[string]error, err error) {
	refused = map[string]error{}
	if len(want.Firewall.Ports) > 0 {
		if err := f.filterBridges(ctx); err != nil {
			refuse(refused, want, err)
			return refused, err
		}
	}
	state, invalid := possible(want.Firewall)
	for id, err := range invalid {
		refused[id] = err
	}
	err = f.firewall.Apply(ctx, state)
	f.generation, _ = firewall.Generation() // without it the rules are looked at once more
	if err == nil {
		return refused, nil
	}
	closed := each[*firewall.ClosedError](err)
	for _, c := range closed {
		refused[c.Port] = c.Err
	}
	if len(closed) == 0 {
		refuse(refused, want, err)
	}
	return refused, err
}

// refuse says of all ports that they have no filter.
func refuse(refused map[string]error, want State, cause error) {
	for _, p := range want.Ports {
		refused[p.ID] = fmt.Errorf("%w: %w", errNotFiltered, cause)
	}
}

// possible is a firewall's State without the ports that make no sense, which would keep all the rest from being loaded.
func possible(s firewall.State) (firewall.State, map[string]error) {
	if s.Validate() == nil {
		return s, nil
	}
	invalid := map[string]error{}
	all := s.Ports
	s.Ports = nil
	for _, p := range all {
		alone := s
		alone.Ports = []firewall.Port{p}
		if err := alone.Validate(); err != nil {
			invalid[p.ID] = err
			continue
		}
		s.Ports = append(s.Ports, p)
	}
	return s, invalid
}

// link makes the links. Of a port without a filter none is made; one that is there stays, since its filter is closed. Ports that are not
// in their bridges afterwards are added to refused.
func (f *Fabric) link(ctx context.Context, want State, refused map[string]error) error {
	have, err := f.os.Links(ctx)
	if err != nil {
		refuse(refused, want, err)
		return fmt.Errorf("read the host's links: %w", err)
	}
	var ports []network.Port
	for _, p := range want.Ports {
		if _, there := have.Links[network.TapName(p.ID)]; there || refused[p.ID] == nil {
			ports = append(ports, p)
		}
	}
	wanted, invalid := network.Wanted(want.Networks, ports, want.Namespaces...)
	problems := errors.Join(invalid, f.links.Apply(ctx, wanted))
	if problems == nil {
		return nil
	}
	have, err = f.os.Links(ctx)
	for _, p := range ports {
		if refused[p.ID] == nil && (err != nil || !plugged(p, have, wanted)) {
			refused[p.ID] = cmp.Or(senseless(p, want.Networks), problems)
		}
	}
	return problems
}

// plugged says whether a port's link is as it is wanted. One that the hypervisor makes is not there before the guest. Of ports that have
// no link of the host, or whose link is not all that there is to them, nobody can say which of them a problem is about.
func plugged(p network.Port, have, wanted network.State) bool {
	want, known := wanted.Links[network.TapName(p.ID)]
	if !known || p.VIF != network.VIFTap && p.VIF != network.VIFMacvtap && p.VIF != network.VIFBridge {
		return false
	}
	if want.Guest {
		_, bridge := have.Links[want.Master]
		return bridge
	}
	is, there := have.Links[want.Name]
	return there && is.Master == want.Master && is.Kind == want.Kind
}

// senseless is what is wrong with a port on any host; nil if nothing is.
func senseless(p network.Port, networks []network.Network) error {
	var its []network.Network
	for _, n := range networks {
		if n.ID == p.Network {
			its = append(its, n)
		}
	}
	_, err := network.Wanted(its, []network.Port{p})
	return err
}
