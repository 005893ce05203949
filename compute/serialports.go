package compute

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"compute-agent/virt"
)

// PortRange are TCP ports of the host: from First up to the one before End, as Nova counts them. The zero value is none.
type PortRange struct{ First, End int }

func (r PortRange) has(port int) bool { return r.First <= port && port < r.End }

// unchosen stands for the ports of a guest that gets them when it is made: as many as the range could give it.
func (r PortRange) unchosen() []int {
	const most = 4 // serial ports of a machine
	return make([]int, min(most, max(0, r.End-r.First)))
}

// keepSerialPorts leaves serial ports at the TCP ports where they are in the guest that was made: who has looked one up finds it there again. The definition
// of a guest outlives the agent, so these are also the ports that are taken.
func keepSerialPorts(made virt.Spec, spec *virt.Spec, allowed PortRange) {
	for i := range spec.Serial {
		p := &spec.Serial[i]
		if p.Type != "tcp" || i >= len(made.Serial) {
			continue
		}
		if was := made.Serial[i]; was.Type == "tcp" && was.Host == p.Host && allowed.has(was.Port) {
			p.Port = was.Port
		}
	}
}

// leaveSerialPorts takes from a guest that is to be made the ports where another program listens by now, so that it gets others. A guest that is there and
// may be running listens at its ports itself, and keeps them.
func (m *Manager) leaveSerialPorts(spec *virt.Spec) error {
	lost := m.takenMeanwhile(*spec)
	if len(lost) == 0 {
		return nil
	}
	var off bool
	err := m.driverCall(func(ctx context.Context) (err error) {
		off, err = m.isOff(ctx, spec.ID)
		return err
	})
	if err != nil || !off {
		return err
	}
	for _, i := range lost {
		m.log.Warn("another program listens at a server's serial port, which moves to another", "server_id", spec.ID, "port", spec.Serial[i].Port)
		spec.Serial[i].Port = 0
	}
	return nil
}

// takenMeanwhile are the indexes of the serial ports that have a TCP port at which somebody listens.
func (m *Manager) takenMeanwhile(spec virt.Spec) (taken []int) {
	for i, p := range spec.Serial {
		if p.Type == "tcp" && p.Port != 0 && !m.opt.PortFree(net.JoinHostPort(p.Host, strconv.Itoa(p.Port))) {
			taken = append(taken, i)
		}
	}
	return taken
}

// isOff says whether no guest with this ID runs, or there is none.
func (m *Manager) isOff(ctx context.Context, id string) (bool, error) {
	g, err := m.driver.Guest(ctx, id)
	if err != nil {
		return errors.Is(err, virt.ErrNotFound), ignoreNotFound(err)
	}
	return g.State == virt.PowerShutdown || g.State == virt.PowerCrashed, nil
}

func lacksSerialPort(spec virt.Spec) bool {
	for _, p := range spec.Serial {
		if p.Type == "tcp" && p.Port == 0 {
			return true
		}
	}
	return false
}

// chooseSerialPorts gives serial ports that have none yet the first TCP ports that neither another server has, stopped or not, nor anybody else on the host.
// m.choosing is held until the choice is stored. ErrNoCapacity if there are too few.
func (m *Manager) chooseSerialPorts(ctx context.Context, spec *virt.Spec) error {
	taken, err := m.takenPorts(ctx)
	if err != nil {
		return fmt.Errorf("choose serial ports: %w", err)
	}
	for _, p := range spec.Serial {
		taken[p.Port] = true
	}
	next, allowed := m.opt.Guests.SerialPorts.First, m.opt.Guests.SerialPorts
	for i := range spec.Serial {
		p := &spec.Serial[i]
		if p.Type != "tcp" || p.Port != 0 {
			continue
		}
		for allowed.has(next) && (taken[next] || !m.opt.PortFree(net.JoinHostPort(p.Host, strconv.Itoa(next)))) {
			next++
		}
		if !allowed.has(next) {
			return &Failure{Kind: ErrNoCapacity, Subject: "server " + spec.ID,
				Reason: fmt.Sprintf("no port is left for its serial ports: serial_console_port_range has %d, from %d to %d", allowed.End-allowed.First, allowed.First, allowed.End-1)}
		}
		p.Port = next
		next++
	}
	return nil
}

// takenPorts are the TCP ports that guests have by what they were made of.
func (m *Manager) takenPorts(ctx context.Context) (map[int]bool, error) {
	taken := map[int]bool{}
	err := m.store.View(ctx, func(tx Reader) error {
		servers, err := tx.ServerStates()
		if err != nil {
			return err
		}
		for _, s := range servers {
			spec, err := tx.Definition(s.ID)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			for _, p := range spec.Serial {
				taken[p.Port] = true
			}
		}
		return nil
	})
	return taken, err
}

// portFree tries whether somebody listens at an address of this host.
func portFree(address string) bool {
	var l net.ListenConfig
	listener, err := l.Listen(context.Background(), "tcp", address)
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
