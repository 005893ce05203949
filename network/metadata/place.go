package metadata

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"compute-agent/network"
)

// place is a namespace that is served.
type place struct {
	name   string
	in     *inside
	who    atomic.Pointer[directory]
	limits *limiter
	gate   *gate
	server *http.Server
	log    *slog.Logger

	mu        sync.Mutex
	listening map[string]*listening // by device; the empty one is IPv4's, of all devices
	wg        sync.WaitGroup
}

// listening is an open listener.
type listening struct {
	net.Listener
	index int // of the device; 0 for all
}

// directory is who may ask in a place.
type directory struct {
	devices map[string]int // index by name
	ports   map[netip.Addr][]Port
}

func newDirectory(p Place, devices map[string]int) *directory {
	d := &directory{devices: devices, ports: map[netip.Addr][]Port{}}
	for _, port := range p.Ports {
		for _, addr := range port.Addresses {
			d.ports[addr] = append(d.ports[addr], port)
		}
		if len(port.MAC) == 6 {
			own := network.LinkLocal(port.MAC)
			d.ports[own] = append(d.ports[own], port)
		}
	}
	return d
}

type connKey struct{}

// open begins to serve a namespace, in which nothing listens yet.
func (s *Service) open(name string) (*place, error) {
	in, err := enter(s.host, name)
	if err != nil {
		return nil, err
	}
	p := &place{
		name: name, in: in, log: s.log.With("namespace", name), listening: map[string]*listening{},
		limits: &limiter{limits: s.limits, now: s.now, ports: map[string]*allowance{}},
		gate:   &gate{limits: s.limits, open: map[netip.Addr]int{}},
	}
	p.server = &http.Server{
		Handler:           &handler{source: s.source, place: p, log: p.log},
		ReadHeaderTimeout: s.limits.Timeout, ReadTimeout: s.limits.Timeout, WriteTimeout: s.limits.Timeout, IdleTimeout: s.limits.Timeout,
		MaxHeaderBytes: 8 << 10, DisableGeneralOptionsHandler: true,
		ErrorLog:    slog.NewLogLogger(p.log.Handler(), slog.LevelDebug), // guests cause what it says
		ConnState:   s.watch,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	return p, nil
}

// apply makes the place listen on its devices and know its ports. A device that is not there takes nothing from the others.
func (p *place) apply(want Place) error {
	devices, all := map[string]int{}, error(nil)
	for _, device := range want.Devices {
		index, err := p.in.index(device)
		if err != nil {
			all = errors.Join(all, fmt.Errorf("device %s: %w", device, err))
			continue
		}
		devices[device] = index
	}
	p.who.Store(newDirectory(want, devices))
	named := map[string]bool{}
	for _, port := range want.Ports {
		named[port.ID] = true
	}
	p.limits.forget(func(port string) bool { return !named[port] })
	return errors.Join(all, p.listen(devices))
}

// listen opens what is not open, and closes what is open in vain.
func (p *place) listen(devices map[string]int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	want := map[string]int{"": 0}
	for device, index := range devices {
		want[device] = index
	}
	for device, l := range p.listening {
		if index, is := want[device]; !is || index != l.index {
			_ = l.Close()
			delete(p.listening, device)
		}
	}
	var all error
	for device, index := range want {
		if p.listening[device] != nil {
			continue
		}
		l, err := p.in.listen(index)
		if err != nil {
			all = errors.Join(all, err)
			continue
		}
		p.serve(device, &listening{l, index})
	}
	return all
}

// serve answers on a listener until it is closed. One that fails is opened again by the next apply.
func (p *place) serve(device string, l *listening) {
	p.listening[device] = l
	p.wg.Go(func() {
		err := p.server.Serve(&gated{Listener: l, gate: p.gate, device: device})
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.listening[device] == l {
			delete(p.listening, device)
			if !errors.Is(err, http.ErrServerClosed) {
				p.log.Warn("the metadata service no longer listens", "device", device, "error", err)
			}
		}
	})
}

// close ends the service of the place, with what is under way.
func (p *place) close() {
	_ = p.server.Close() // and its listeners
	p.wg.Wait()
	p.in.leave()
}

// Why somebody is not known.
var (
	errNoPort    = errors.New("no port has the address")
	errOther     = errors.New("the neighbour with the address has not the MAC of its port")
	errAmbiguous = errors.New("ports of two networks have the address and the MAC")
)

// asker is who is at the other end of the connection that a request came by: the one port that has its address, and whose MAC
// the kernel sees there.
func (p *place) asker(ctx context.Context) (Asker, error) {
	c, is := ctx.Value(connKey{}).(*conn)
	if !is {
		return Asker{}, errors.New("the request came by no connection")
	}
	who := p.who.Load()
	candidates := who.ports[c.from]
	if len(candidates) == 0 {
		return Asker{}, fmt.Errorf("%s: %w", c.from, errNoPort)
	}
	found, err := "", errOther
	for device, index := range who.devices {
		if c.device != "" && c.device != device {
			continue
		}
		mac, lookErr := p.in.neighbour(index, c.from)
		if lookErr != nil {
			err = lookErr
			continue
		}
		for i := range candidates {
			port := &candidates[i]
			if !bytes.Equal(port.MAC, mac) || port.Device != "" && port.Device != device || port.ID == found {
				continue
			}
			if found != "" {
				return Asker{}, fmt.Errorf("%s: %w", c.from, errAmbiguous)
			}
			found = port.ID
		}
	}
	if found == "" {
		return Asker{}, fmt.Errorf("%s: %w", c.from, err)
	}
	return Asker{Namespace: p.name, Addr: c.from, Port: found}, nil
}
