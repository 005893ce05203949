package router

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"compute-agent/network"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// advertise makes a router's devices say what they are to say. It is called in the router's namespace.
func (rs *Routers) advertise(p *place, r *Router) error {
	var errs []error
	for _, in := range r.Inside {
		if len(in.Advertise) == 0 {
			continue
		}
		if err := rs.send(p, r.ID, in.Device, advertisement{MTU: in.MTU, Prefixes: in.Advertise}); err != nil {
			errs = append(errs, fmt.Errorf("inside: %s: %w", in.Device, err))
		}
	}
	return errors.Join(errs...)
}

// send begins to advertise on a device, or tells the sender that is there what is new.
func (rs *Routers) send(p *place, router, device string, a advertisement) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	a.MAC = link.Attrs().HardwareAddr
	if len(a.MAC) != macLength {
		return fmt.Errorf("its address %q is none of Ethernet", a.MAC)
	}
	if s := p.senders[device]; s != nil {
		if s.socket.index == link.Attrs().Index && s.said.MAC.String() == a.MAC.String() {
			s.change(a)
			return nil
		}
		s.stop(false) // another device, or the same with another address
		delete(p.senders, device)
	}
	socket, err := openSocket(link.Attrs().Index, network.LinkLocal(a.MAC))
	if err != nil {
		return fmt.Errorf("router advertisements: %w", err)
	}
	p.senders[device] = startSender(socket, a, func(err error) {
		rs.report(fmt.Errorf("router %s: router advertisements by %s: %w", router, device, err))
	})
	return nil
}

// stop ends all senders of a namespace.
func (p *place) stop(farewell bool) {
	for _, s := range p.senders {
		s.stop(farewell)
	}
	clear(p.senders)
}

// keep ends the senders of all devices by which the router advertises nothing any more.
func (p *place) keep(r *Router) {
	for device, s := range p.senders {
		if !slices.ContainsFunc(r.Inside, func(in Inside) bool { return in.Device == device && len(in.Advertise) > 0 }) {
			s.stop(true)
			delete(p.senders, device)
		}
	}
}

const macLength = 6

// sender sends the router advertisements of one device.
type sender struct {
	socket  *socket
	said    advertisement // that it was told last
	report  func(error)
	changes chan advertisement
	end     chan bool // whether to say farewell
	done    chan struct{}
}

func startSender(s *socket, a advertisement, report func(error)) *sender {
	out := &sender{socket: s, said: a, report: report, changes: make(chan advertisement), end: make(chan bool), done: make(chan struct{})}
	asked, read := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(read)
		s.solicitations(asked)
	}()
	go func() {
		defer close(out.done)
		out.run(a, asked)
		s.close()
		<-read
	}()
	return out
}

func (s *sender) change(a advertisement) {
	if reflect.DeepEqual(s.said, a) {
		return
	}
	s.said = a
	s.changes <- a
}

// stop ends the sender; a farewell tells guests that the router is none any more.
func (s *sender) stop(farewell bool) {
	s.end <- farewell
	<-s.done
}

func (s *sender) run(a advertisement, asked <-chan struct{}) {
	plan := newSchedule(time.Now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	var went []netip.Prefix // that are still to be withdrawn
	problem := ""
	for {
		select {
		case farewell := <-s.end:
			if farewell {
				_ = s.socket.send(a.farewell()) // the device may be gone already
			}
			return
		case next := <-s.changes:
			went = missing(append(went, prefixes(a)...), prefixes(next))
			a = next
			plan.begin(time.Now())
		case <-asked:
			plan.solicited(time.Now())
		case <-timer.C:
			err := s.socket.send(a.message(went))
			if err == nil {
				went = nil
				plan.done(time.Now())
			} else {
				plan.failed(time.Now())
			}
			problem = s.tell(problem, err)
		}
		timer.Reset(time.Until(plan.next))
	}
}

// tell reports a problem that is not the one before. A device has no address until it has been found to be nobody else's.
func (s *sender) tell(before string, err error) string {
	if err == nil || errors.Is(err, errNoAddress) {
		return ""
	}
	if now := err.Error(); now != before {
		s.report(err)
		return now
	}
	return before
}

func prefixes(a advertisement) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range a.Prefixes {
		out = append(out, p.Prefix.Masked())
	}
	return out
}

// missing are those of before, once, that are not now.
func missing(before, now []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range before {
		if !slices.Contains(now, p) && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// errNoAddress says that the device does not have its link-local address yet.
var errNoAddress = errors.New("no link-local address")

func tellNoAddress(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENETUNREACH) {
		return fmt.Errorf("%w: %w", errNoAddress, err)
	}
	return err
}
