package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/digitalocean/go-qemu/qmp"
	"github.com/digitalocean/go-qemu/qmp/raw"
	lv "libvirt.org/go/libvirt"

	"compute-agent/internal/fanout"
)

// MonitorStatus is what QEMU itself says of a guest.
type MonitorStatus struct {
	Status  string // QEMU's run state: "running", "paused", "prelaunch", "guest-panicked", ...
	Running bool
	VCPUs   []VCPUThread
}

// VCPUThread is the host's thread that runs a vCPU.
type VCPUThread struct {
	Index  int
	Thread int // thread ID on the host
}

// MonitorStatus asks the guest's QEMU for its run state and vCPU threads (query-status, query-cpus-fast).
// It is for diagnosis, on an operator's request: libvirt marks a domain that is sent a monitor command as
// tainted ("custom-monitor") until it is stopped. ErrInvalidState if the guest does not run.
func (d *Driver) MonitorStatus(ctx context.Context, id string) (MonitorStatus, error) {
	const op = "ask the monitor of guest"
	m := d.Monitor(ctx, id)
	info, err := raw.NewMonitor(m).QueryStatus()
	if err != nil {
		return MonitorStatus{}, failure(op, id, err)
	}
	out := MonitorStatus{Status: info.Status.String(), Running: info.Running}
	if out.VCPUs, err = vcpuThreads(m); err != nil {
		return MonitorStatus{}, failure(op, id, err)
	}
	return out, nil
}

func vcpuThreads(m qmp.Monitor) ([]VCPUThread, error) {
	command, err := json.Marshal(qmp.Command{Execute: "query-cpus-fast"})
	if err != nil {
		return nil, err
	}
	text, err := m.Run(command)
	if err != nil {
		return nil, err
	}
	var reply struct {
		Return []struct {
			Index  int `json:"cpu-index"`
			Thread int `json:"thread-id"`
		} `json:"return"`
	}
	if err := json.Unmarshal(text, &reply); err != nil {
		return nil, fmt.Errorf("parse the reply to query-cpus-fast: %w", err)
	}
	threads := make([]VCPUThread, 0, len(reply.Return))
	for _, cpu := range reply.Return {
		threads = append(threads, VCPUThread{Index: cpu.Index, Thread: cpu.Thread})
	}
	return threads, nil
}

// Monitor returns a QMP monitor of the guest, for the commands that libvirt's API does not have and for
// go-qemu's helpers. libvirt owns the guest's QMP socket, so everything goes through libvirt; see
// MonitorStatus for what that does to the domain. All of the monitor's commands end with ctx.
func (d *Driver) Monitor(ctx context.Context, id string) qmp.Monitor {
	return &monitor{d: d, id: id, ctx: ctx}
}

// monitor implements qmp.Monitor, whose methods take no context.
type monitor struct {
	d   *Driver
	id  string
	ctx context.Context

	mu   sync.Mutex
	stop []context.CancelFunc // of the streams of events
}

// Connect does nothing: libvirt is connected.
func (m *monitor) Connect() error { return nil }

// Disconnect ends the streams of events.
func (m *monitor) Disconnect() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, stop := range m.stop {
		stop()
	}
	m.stop = nil
	return nil
}

// Run sends a command and returns QEMU's reply. A reply that is an error is returned as one.
func (m *monitor) Run(command []byte) ([]byte, error) {
	result := make(chan string, 1)
	err := m.d.run(m.ctx, "send a monitor command to guest", m.id, m.d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		return c.domain(ctx, m.id, func(dom *lv.Domain) error {
			reply, err := dom.QemuMonitorCommand(string(command), lv.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
			result <- reply
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	reply := []byte(<-result)
	var failed struct {
		Error *struct {
			Class string `json:"class"`
			Desc  string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal(reply, &failed); err != nil {
		return nil, fmt.Errorf("parse the monitor's reply: %w", err)
	}
	if failed.Error != nil {
		return nil, errors.New(failed.Error.Class + ": " + failed.Error.Desc)
	}
	return reply, nil
}

// EventsLost is the event that a reader of monitor events gets in the place of those that it was too slow
// for. It is not one of QEMU's.
const EventsLost = "EVENTS_LOST"

// Events returns QEMU's events of this guest until ctx ends, the monitor is disconnected or the
// connection to libvirt is lost. Listening does not taint the domain.
func (m *monitor) Events(ctx context.Context) (<-chan qmp.Event, error) {
	hub := fanout.New(maxBacklog, func() qmp.Event { return qmp.Event{Event: EventsLost} })
	ctx, cancel := context.WithCancel(ctx)
	stream := hub.Subscribe(ctx)
	err := m.d.run(m.ctx, "listen to the monitor of guest", m.id, m.d.opt.CallTimeout, func(rctx context.Context, c *call) error {
		return c.domain(rctx, m.id, func(dom *lv.Domain) error {
			return c.in.listen(ctx, dom, hub)
		})
	})
	if err != nil {
		cancel()
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stop = append(m.stop, cancel)
	return stream, nil
}

// listen publishes all of QEMU's events of a domain until ctx ends or the connection is lost.
func (s *session) listen(ctx context.Context, dom *lv.Domain, hub *fanout.Hub[qmp.Event]) error {
	id, err := s.conn.DomainQemuMonitorEventRegister(dom, ".*", func(_ *lv.Connect, _ *lv.Domain, e *lv.DomainQemuMonitorEvent) {
		hub.Publish(qmpEvent(e))
	}, lv.CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX)
	if err != nil {
		return err
	}
	s.hold()
	go func() {
		defer s.release()
		defer hub.Close()
		select {
		case <-ctx.Done():
		case <-s.lost:
		}
		_ = s.conn.DomainQemuEventDeregister(id) // fails only when the connection is lost, and with it the events
	}()
	return nil
}

func qmpEvent(e *lv.DomainQemuMonitorEvent) qmp.Event {
	out := qmp.Event{Event: e.Event}
	if err := json.Unmarshal([]byte(e.Details), &out.Data); err != nil {
		out.Data = nil // an event without details
	}
	out.Timestamp.Seconds = e.Seconds
	out.Timestamp.Microseconds = int64(e.Micros)
	return out
}
