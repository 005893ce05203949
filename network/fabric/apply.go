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
// Filters come first: a port whose filter could not be loaded is not plugged in, or, where it is already, lets nothing pass; and a port
// that is to go goes before its filter does. What cannot be had takes nothing else with it. The error has a *PortError for each port that
// does not work; what else is in it is about services of networks.
func (f *Fabric) Apply(ctx context.Context, want State) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.want, f.asked = want, true
	f.forget()
	have, err := f.os.Links(ctx)
	if err != nil {
		return errors.Join(append(portErrors(refuse(want, err)), fmt.Errorf("read the host's links: %w", err))...)
	}
	errs := []error{f.leave(ctx, have, want)}
	refused, err := f.filter(ctx, have, want)
	errs = append(errs, err)
	// Who is in a namespace that is to go leaves it first: an open socket keeps it in being.
	f.routers.Release(want.Routers)
	f.metadata.Release(want.Metadata)
	errs = append(errs, f.link(ctx, have, want, refused))
	errs = append(errs, portErrors(refused)...)
	return errors.Join(append(errs, f.serve(ctx, want))...)
}

func portErrors(refused map[string]error) (all []error) {
	for _, id := range slices.Sorted(maps.Keys(refused)) {
		all = append(all, &PortError{id, refused[id]})
	}
	return all
}

// leave takes away the taps that are not wanted any more. Those that it cannot take away are still in have.
func (f *Fabric) leave(ctx context.Context, have network.State, want State) error {
	var errs []error
	for _, tap := range leaving(have, want) {
		if err := f.links.Remove(ctx, []string{tap}); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(have.Links, tap)
	}
	return errors.Join(errs...)
}

// leaving are the taps of ports that are not wanted.
func leaving(have network.State, want State) (taps []string) {
	wanted := map[string]bool{}
	for _, p := range want.Ports {
		wanted[network.TapName(p.ID)] = true
	}
	for name, l := range have.Links {
		if l.Mark.ID != "" && l.Kind == network.KindTap && !wanted[name] {
			taps = append(taps, name)
		}
	}
	slices.Sort(taps)
	return taps
}

// serve makes what runs for networks, in namespaces that are there.
func (f *Fabric) serve(ctx context.Context, want State) error {
	return errors.Join(f.dhcp.Apply(ctx, want.DHCP), f.routers.Apply(ctx, want.Routers), f.metadata.Apply(want.Metadata))
}

// filter loads the filters, and says which ports have none. Taps that are there and have none that can be loaded are closed.
func (f *Fabric) filter(ctx context.Context, have network.State, want State) (refused map[string]error, err error) {
	if len(want.Firewall.Ports) > 0 {
		if err := f.filterBridges(ctx); err != nil {
			return refuse(want, err), err
		}
	}
	state, refused := possible(want.Firewall)
	state.Closed = leaving(have, want)
	for id := range refused {
		if tap := network.TapName(id); have.Links[tap].Mark.ID != "" {
			state.Closed = append(state.Closed, tap)
		}
	}
	err = f.load(ctx, state)
	if err == nil {
		return refused, nil
	}
	closed := each[*firewall.ClosedError](err)
	for _, c := range closed {
		refused[c.Port] = c.Err
	}
	if len(closed) == 0 {
		return refuse(want, err), err
	}
	return refused, err
}

// looks are how often rules are looked at that others change meanwhile; after that the kernel will tell of them again.
const looks = 3

// load loads a firewall's State. What others changed since the last time, or while it was loaded, is put right.
func (f *Fabric) load(ctx context.Context, s firewall.State) (err error) {
	for range looks {
		before, unknown := firewall.Generation()
		if unknown != nil || before != f.generation {
			f.firewall.Resync()
		}
		own := f.firewall.Commits()
		err = f.firewall.Apply(ctx, s)
		f.generation, _ = firewall.Generation() // without it the rules are looked at once more
		if f.generation-before <= f.firewall.Commits()-own {
			return err
		}
		f.generation = 0 // somebody else was there at the same time
	}
	return err
}

// refuse says of all ports that they have no filter.
func refuse(want State, cause error) map[string]error {
	refused := map[string]error{}
	for _, p := range want.Ports {
		refused[p.ID] = fmt.Errorf("%w: %w", errNotFiltered, cause)
	}
	return refused
}

// possible is a firewall's State without the ports that make no sense, which would keep all the rest from being loaded.
func possible(s firewall.State) (firewall.State, map[string]error) {
	invalid := map[string]error{}
	if s.Validate() == nil {
		return s, invalid
	}
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

// link makes the links. Of a port without a filter none is made; one that is there stays where it is. Ports that are not
// in their bridges afterwards are added to refused.
func (f *Fabric) link(ctx context.Context, have network.State, want State, refused map[string]error) error {
	var ports []network.Port
	for _, p := range want.Ports {
		tap, there := have.Links[network.TapName(p.ID)]
		if refused[p.ID] != nil && tap.Master == "" && p.VIF == network.VIFTap { // nor is it plugged in
			p.Network, p.MTU = "", tap.MTU
		}
		if there || refused[p.ID] == nil {
			ports = append(ports, p)
		}
	}
	wanted, invalid := network.Wanted(want.Networks, ports, want.Namespaces...)
	problems := errors.Join(invalid, f.links.Apply(ctx, wanted))
	if problems == nil {
		return nil
	}
	have, err := f.os.Links(ctx)
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
