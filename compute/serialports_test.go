package compute_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"compute-agent/compute"
)

// onPorts starts an agent whose guests' serial ports listen on TCP ports from 10000 up to the one before end, of which some are others'.
func onPorts(t *testing.T, end int, others ...int) *world {
	t.Helper()
	w := newWorld(t)
	w.portOptions(end, others...)
	w.boot(nil)
	return w
}

func (w *world) portOptions(end int, others ...int) {
	w.options = func(o *compute.Options) {
		o.Guests.SerialConsole, o.Guests.SerialPorts = "127.0.0.1", compute.PortRange{First: 10000, End: end}
		o.HardwareChanges = compute.HardwareAccept
		o.PortFree = func(address string) bool {
			return !slices.ContainsFunc(others, func(port int) bool { return address == fmt.Sprintf("127.0.0.1:%d", port) })
		}
	}
}

// serialPorts are the TCP ports of a server's guest.
func (w *world) serialPorts(id string) (ports []int) {
	w.t.Helper()
	w.must(w.agent.store.View(w.t.Context(), func(tx compute.Reader) error {
		spec, err := tx.Definition(id)
		for _, p := range spec.Serial {
			ports = append(ports, p.Port)
		}
		return err
	}))
	return ports
}

func (w *world) hasPorts(id string, want ...int) {
	w.t.Helper()
	if got := w.serialPorts(id); !slices.Equal(got, want) {
		w.t.Errorf("serial ports are %v, want %v", got, want)
	}
}

func TestSerialPortsAreTheServersOwn(t *testing.T) {
	w := onPorts(t, 10100, 10001)
	two := w.flavor(1, 64, "hw:serial_port_count=2")
	first, second := w.build(two), w.build(two)
	w.hasPorts(first.ID, 10000, 10002)
	w.hasPorts(second.ID, 10003, 10004)

	// A server that is gone leaves its ports to others. The others' ports stay, stopped or made again, in an agent that restarted too.
	w.must(w.DeleteServer(t.Context(), first.ID))
	w.waitAll()
	w.must(w.StopServer(t.Context(), second.ID))
	w.await(second.ID)
	w.stop()
	w.boot(nil)
	third := w.build(w.flavor(1, 64, "hw:serial_port_count=3"))
	w.hasPorts(third.ID, 10000, 10002, 10005)
	w.must(w.RebootServer(t.Context(), second.ID, compute.Reboot{Hard: true}))
	w.await(second.ID)
	w.hasPorts(second.ID, 10003, 10004)
}

func TestSerialPortsFollowTheRange(t *testing.T) {
	w := onPorts(t, 10100)
	s := w.build(w.flavor(1, 64, "hw:serial_port_count=2"))
	w.hasPorts(s.ID, 10000, 10001)
	w.stop()
	w.portOptions(10001)
	w.boot(nil)
	w.hasPorts(s.ID, 10000, 10001) // its guest has them
	w.must(w.StopServer(t.Context(), s.ID))
	w.await(s.ID)
	w.stop()
	w.options = nil
	w.boot(nil)
	w.must(w.RebootServer(t.Context(), s.ID, compute.Reboot{Hard: true, AcceptHardwareChanges: true}))
	w.await(s.ID)
	w.hasPorts(s.ID, 0) // a pseudo terminal
}

// What another program took while a server was off is not waited for: a hard reboot gives that port another number, and leaves the others as they are.
func TestSerialPortsTakenMeanwhile(t *testing.T) {
	w := onPorts(t, 10100)
	s := w.build(w.flavor(1, 64, "hw:serial_port_count=2"))
	w.hasPorts(s.ID, 10000, 10001)
	w.must(w.StopServer(t.Context(), s.ID))
	w.await(s.ID)
	w.stop()
	w.portOptions(10100, 10000)
	w.boot(nil)
	w.must(w.RebootServer(t.Context(), s.ID, compute.Reboot{Hard: true}))
	if s = w.await(s.ID); s.VM != compute.Active {
		t.Fatalf("server is %s: %+v", s.VM, s.Fault)
	}
	w.hasPorts(s.ID, 10002, 10001)

	// With no other port the server is in error, and keeps all that it has until there is one.
	w.must(w.StopServer(t.Context(), s.ID))
	w.await(s.ID)
	w.stop()
	w.portOptions(10003, 10000, 10002)
	w.boot(nil)
	w.must(w.RebootServer(t.Context(), s.ID, compute.Reboot{Hard: true}))
	if s = w.await(s.ID); s.VM != compute.Error || s.Fault == nil || !strings.Contains(s.Fault.Message+s.Fault.Details, "no port is left for its serial ports") {
		t.Fatalf("server is %s: %+v", s.VM, s.Fault)
	}
	w.hasPorts(s.ID, 10002, 10001)
	w.stop()
	w.portOptions(10100, 10000)
	w.boot(nil)
	w.must(w.RebootServer(t.Context(), s.ID, compute.Reboot{Hard: true}))
	if s = w.await(s.ID); s.VM != compute.Active {
		t.Fatalf("server is %s: %+v", s.VM, s.Fault)
	}
	w.hasPorts(s.ID, 10002, 10001)
}

func TestSerialPortsEnd(t *testing.T) {
	w := onPorts(t, 10003)
	two := w.flavor(1, 64, "hw:serial_port_count=2")
	w.build(two)
	r := request()
	r.FlavorID = two
	s, err := w.CreateServer(t.Context(), r)
	w.must(err)
	s = w.await(s.ID)
	if s.VM != compute.Error || s.Fault == nil || !strings.Contains(s.Fault.Message+s.Fault.Details, "serial_console_port_range has 3, from 10000 to 10002") {
		t.Errorf("server is %s: %+v", s.VM, s.Fault)
	}
}

func TestSerialPortsOfServersAtOnce(t *testing.T) {
	const servers = 12
	w := onPorts(t, 10000+2*servers)
	two := w.flavor(1, 64, "hw:serial_port_count=2")
	var mu sync.Mutex
	seen := map[int]string{}
	var all sync.WaitGroup
	for range servers {
		all.Go(func() {
			r := request()
			r.FlavorID = two
			s, err := w.CreateServer(t.Context(), r)
			if err != nil {
				t.Error(err)
				return
			}
			if s = w.await(s.ID); s.VM != compute.Active {
				t.Errorf("server is %s: %+v", s.VM, s.Fault)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, port := range w.serialPorts(s.ID) {
				if seen[port] != "" {
					t.Errorf("port %d is that of %s and of %s", port, seen[port], s.ID)
				}
				seen[port] = s.ID
			}
		})
	}
	all.Wait()
	if len(seen) != 2*servers {
		t.Errorf("%d ports are in use, want %d", len(seen), 2*servers)
	}
}
