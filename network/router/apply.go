package router

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"compute-agent/internal/command"
	"compute-agent/network"
	"compute-agent/network/firewall"
)

// Routers makes namespaces route: it loads their rules, puts their floating IPs on their devices, cuts connections whose translation has gone,
// and sends router advertisements. Its methods may be called at the same time.
type Routers struct {
	host    network.Host
	run     command.Runner
	variant firewall.Variant
	report  func(error)

	mu     sync.Mutex
	places map[string]*place // by namespace
}

// New returns the routers of a host, of whose namespaces nothing is known yet. It calls report with what keeps it from sending router advertisements,
// once for each cause; report must not call the Routers.
func New(host network.Host, run command.Runner, variant firewall.Variant, report func(error)) *Routers {
	return &Routers{host: host, run: run, variant: variant, report: report, places: map[string]*place{}}
}

// place is what is known of a router's namespace.
type place struct {
	cookie  uint64
	loaded  *Rules             // nil when they have to be read
	settled string             // the translations to which the connections were last made to fit
	gateway netip.Addr         // of which the neighbours were told
	senders map[string]*sender // of router advertisements, by device
}

// Apply makes the namespaces of the routers, which are there with their devices, do what the routers are to do, and changes only what
// differs. A floating IP goes from one router before it comes to another. What an earlier Apply left half done is completed. A router that
// is not among them any more loses only its router advertisements: its rules go with its namespace. The error joins those of each router
// that failed, and wraps ErrInvalid for one that makes no sense, which stays as it is. The others are done.
func (rs *Routers) Apply(ctx context.Context, routers []Router) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.release(routers)
	var errs []error
	rules := make([]Rules, len(routers))
	failed := make([]bool, len(routers))
	each := func(do func(i int, r *Router) error) {
		for i := range routers {
			if failed[i] {
				continue
			}
			if err := do(i, &routers[i]); err != nil {
				failed[i] = true
				errs = append(errs, fmt.Errorf("router %s: %w", routers[i].ID, err))
			}
		}
	}
	each(func(i int, r *Router) (err error) { rules[i], err = Generate(*r); return err })
	each(func(_ int, r *Router) error {
		return rs.within(r.Namespace, func(uint64) error { return r.dropAddresses() })
	})
	each(func(i int, r *Router) error {
		return rs.within(r.Namespace, func(cookie uint64) error { return rs.apply(ctx, rs.place(r, cookie), r, rules[i]) })
	})
	return errors.Join(errs...)
}

// Release ends what holds on to namespaces and devices of routers that are not wanted any more, and is to be called before those are removed.
// Guests are told that such a router does not route any longer.
func (rs *Routers) Release(wanted []Router) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.release(wanted)
}

// Resync forgets what was loaded, so that the next Apply reads it anew and repairs what others have changed.
func (rs *Routers) Resync() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, p := range rs.places {
		p.loaded, p.settled, p.gateway = nil, "", netip.Addr{}
	}
}

// Close ends the router advertisements without taking back what they said: the routers go on without the agent.
func (rs *Routers) Close() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, p := range rs.places {
		p.stop(false)
	}
	rs.places = map[string]*place{}
}

func (rs *Routers) release(wanted []Router) {
	for namespace, p := range rs.places {
		i := slices.IndexFunc(wanted, func(r Router) bool { return r.Namespace == namespace })
		if i >= 0 {
			p.keep(&wanted[i])
			continue
		}
		p.stop(true)
		delete(rs.places, namespace)
	}
}

// place is what is known of a router's namespace: nothing, if it is another than the one that was known by its name.
func (rs *Routers) place(r *Router, cookie uint64) *place {
	p := rs.places[r.Namespace]
	if p == nil || p.cookie != cookie {
		if p != nil {
			p.stop(false)
		}
		p = &place{cookie: cookie, senders: map[string]*sender{}}
		rs.places[r.Namespace] = p
	}
	return p
}

// apply is called in the router's namespace. Translations are loaded before connections are cut, or they would begin again as they were; and
// before floating IPs answer, or the router itself would.
func (rs *Routers) apply(ctx context.Context, p *place, r *Router, wanted Rules) error {
	if err := rs.load(ctx, p, wanted); err != nil {
		return err
	}
	if translations := firewall.Text(wanted.IPv4[1:2]); p.settled != translations {
		if err := r.cut(); err != nil {
			return err
		}
		p.settled = translations
	}
	if err := r.addAddresses(p.gateway); err != nil {
		return err
	}
	p.gateway = r.SNAT
	return rs.advertise(p, r)
}

// load brings a namespace from the rules that it has to those that are wanted. If what was remembered turns out not to be so, it is read.
func (rs *Routers) load(ctx context.Context, p *place, wanted Rules) error {
	remembered := p.loaded != nil
	for {
		if p.loaded == nil {
			loaded, err := rs.read(ctx)
			if err != nil {
				return err
			}
			p.loaded = &loaded
		}
		err := rs.change(ctx, *p.loaded, wanted)
		if err == nil {
			p.loaded = &wanted
			return nil
		}
		p.loaded = nil
		if !remembered || ctx.Err() != nil {
			return err
		}
		remembered = false
	}
}

// maxSave bounds what is read of a namespace's rules, in bytes.
const maxSave = 16 << 20

func (rs *Routers) read(ctx context.Context) (r Rules, err error) {
	for family, tables := range map[string]*[]firewall.Table{"iptables": &r.IPv4, "ip6tables": &r.IPv6} {
		out, err := rs.run.Run(ctx, command.Cmd{Name: rs.variant.Program(family, "save"), MaxOutput: maxSave})
		if err != nil {
			return r, err
		}
		if *tables, err = firewall.ParseSave(strings.NewReader(string(out))); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (rs *Routers) change(ctx context.Context, loaded, wanted Rules) error {
	for _, family := range []struct {
		name           string
		loaded, wanted []firewall.Table
	}{{"iptables", loaded.IPv4, wanted.IPv4}, {"ip6tables", loaded.IPv6, wanted.IPv6}} {
		var lines []string
		for _, t := range family.wanted {
			lines = append(lines, firewall.Changes(named(family.loaded, t.Name), t)...)
		}
		if len(lines) == 0 {
			continue
		}
		// Ten seconds are for another iptables that holds the lock.
		restore := command.Cmd{Name: rs.variant.Program(family.name, "restore"), Args: []string{"--noflush", "--wait=10"},
			Stdin: strings.NewReader(strings.Join(lines, "\n") + "\n")}
		if _, err := rs.run.Run(ctx, restore); err != nil {
			return err
		}
	}
	return nil
}

func named(tables []firewall.Table, name string) firewall.Table {
	for _, t := range tables {
		if t.Name == name {
			return t
		}
	}
	return firewall.Table{Name: name}
}
