package libvirt

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-qemu/qemu"
	"github.com/digitalocean/go-qemu/qmp"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

func TestMonitorStatus(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	spec := smallSpec(t)
	spec.VCPUs, spec.CPU.Sockets = 2, 2
	destroyAtEnd(t, d, spec.ID)
	must(t, d.Create(within(t), spec))
	pid := qemuPID(t, spec.ID)

	got, err := d.MonitorStatus(within(t), spec.ID)
	must(t, err)
	if got.Running || got.Status == "running" || len(got.VCPUs) != 2 {
		t.Errorf("created: %+v", got)
	}
	must(t, d.Start(within(t), spec.ID))
	got, err = d.MonitorStatus(within(t), spec.ID)
	must(t, err)
	if !got.Running || got.Status != "running" {
		t.Errorf("running: %+v", got)
	}
	for _, cpu := range got.VCPUs {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", pid, cpu.Thread)); err != nil {
			t.Errorf("vCPU %d: %v", cpu.Index, err)
		}
	}

	must(t, d.Stop(within(t), spec.ID, virt.StopOptions{}))
	if _, err := d.MonitorStatus(within(t), spec.ID); !errors.Is(err, virt.ErrInvalidState) {
		t.Errorf("stopped: error is %v, want ErrInvalidState", err)
	}
	if _, err := d.MonitorStatus(within(t), "no such guest"); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("no guest: error is %v, want ErrNotFound", err)
	}
}

// TestMonitorServesGoQEMU drives a guest with go-qemu's own helper.
func TestMonitorServesGoQEMU(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	spec := runningGuest(t, d, smallSpec(t))
	dom, err := qemu.NewDomain(d.Monitor(within(t), spec.ID), spec.Name)
	must(t, err)
	events, done, err := dom.Events()
	must(t, err)
	if status, err := dom.Status(); err != nil || status != qemu.StatusRunning {
		t.Errorf("status is %v, %v", status, err)
	}
	if version, err := dom.Version(); err != nil || version == "" {
		t.Errorf("version is %q, %v", version, err)
	}
	if _, err := dom.Run(qmpCommand("no-such-command")); err == nil || !strings.Contains(err.Error(), "CommandNotFound") {
		t.Errorf("an unknown command: error is %v", err)
	}
	must(t, dom.SystemReset())
	for late := time.After(time.Minute); ; {
		select {
		case e := <-events:
			if e.Event != "RESET" {
				continue
			}
			if e.Timestamp.Seconds == 0 {
				t.Errorf("event without time: %+v", e)
			}
		case <-late:
			t.Error("no event of the reset")
		}
		break
	}
	close(done)
	must(t, dom.Close())
}

// TestGuestPanicked writes to the panic device as a guest's kernel would.
func TestGuestPanicked(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	spec := smallSpec(t)
	definePanicking(t, spec)
	destroyAtEnd(t, d, spec.ID)
	must(t, d.Start(within(t), spec.ID))
	events := d.Events(within(t))
	if _, err := d.Monitor(within(t), spec.ID).Run([]byte(
		`{"execute":"human-monitor-command","arguments":{"command-line":"o/b 0x505 1"}}`)); err != nil {
		t.Fatal(err)
	}
	if e := eventually(t, events, virt.EventPanicked); e.ID != spec.ID {
		t.Errorf("panicked is %s, want %s", e.ID, spec.ID)
	}
	if e := eventually(t, events, virt.EventCrashed); e.ID != spec.ID {
		t.Errorf("crashed is %s, want %s", e.ID, spec.ID)
	}
	g, err := d.Guest(within(t), spec.ID)
	must(t, err)
	if g.State != virt.PowerCrashed || g.Reason != "crashed" {
		t.Errorf("state is %v (%s), want CRASHED", g.State, g.Reason)
	}
	must(t, d.Start(within(t), spec.ID))
	if g, err = d.Guest(within(t), spec.ID); err != nil || g.State != virt.PowerRunning {
		t.Errorf("started again: %v, %v", g.State, err)
	}
}

// definePanicking defines a guest with a panic device, which libvirt keeps as it is when it panics.
func definePanicking(t *testing.T, spec virt.Spec) {
	t.Helper()
	var domain libvirtxml.Domain
	must(t, domain.Unmarshal(mustRender(t, spec)))
	domain.OnCrash = "preserve"
	domain.Devices.Panics = []libvirtxml.DomainPanic{{Model: "isa"}}
	text, err := domain.Marshal()
	must(t, err)
	conn, err := lv.NewConnect(testURI())
	must(t, err)
	defer func() { _, _ = conn.Close() }()
	dom, err := conn.DomainDefineXML(text)
	must(t, err)
	free(dom)
}

func qmpCommand(name string) qmp.Command { return qmp.Command{Execute: name} }
