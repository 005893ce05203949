package libvirt

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"compute-agent/virt"
)

// makeLink makes a link of a type with a name of its own, and removes it when the test ends.
func makeLink(t *testing.T, args ...string) string {
	t.Helper()
	name := "ct" + uuid.NewString()[:8]
	run(t, "ip", strings.Fields(strings.ReplaceAll(strings.Join(args, " "), "NAME", name))...)
	t.Cleanup(func() { run(t, "ip", "link", "del", name) })
	return name
}

func hasLink(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}

// TestPlugIntoRootPorts plugs a tap that is there already, and one that libvirt makes on a bridge, into a booted guest
// with PCI Express, and out of it again: the first stays, the other goes.
func TestPlugIntoRootPorts(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	tap, bridge := makeLink(t, "tuntap add NAME mode tap"), makeLink(t, "link add NAME type bridge")
	s := bootableSpec(t)
	s.Machine, s.RootPorts = "q35", 4
	bootLines(t, d, s)
	own := virt.NIC{MAC: "fa:16:3e:00:20:01", Model: "virtio", Target: tap, MTU: 1450, Attach: virt.Attachment{Type: "ethernet", Existing: true}}
	other := virt.NIC{MAC: "fa:16:3e:00:20:02", Model: "virtio", Target: bridge + "t", Attach: virt.Attachment{Type: "bridge", Bridge: bridge}}
	for _, n := range []virt.NIC{own, other} {
		must(t, d.PlugNIC(within(t), s.ID, n))
		if !hasLink(n.Target) {
			t.Errorf("no tap %s", n.Target)
		}
	}
	for _, n := range []virt.NIC{own, other} {
		must(t, d.UnplugNIC(within(t), s.ID, n.MAC, virt.UnplugOptions{Patience: time.Minute, Retry: time.Second}))
	}
	if !hasLink(tap) || hasLink(other.Target) {
		t.Errorf("the tap that was there is there: %v; the one that libvirt made: %v", hasLink(tap), hasLink(other.Target))
	}
	list, err := d.NICs(within(t), s.ID)
	if err != nil || len(list) != 0 {
		t.Errorf("the guest has %+v, %v", list, err)
	}
}

// TestPlugFails plugs what a guest cannot be given: its process refuses it, and then its definition has it neither.
func TestPlugFails(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	s := smallSpec(t)
	s.Machine = "q35"
	destroyAtEnd(t, d, s.ID)
	must(t, d.Create(within(t), s))
	free := 0
	for ; free < 8; free++ {
		n := virt.NIC{MAC: "fa:16:3e:00:21:0" + string(rune('0'+free)), Model: "virtio", Attach: virt.Attachment{Type: "ethernet"}}
		if err := d.PlugNIC(within(t), s.ID, n); err != nil {
			if !errors.Is(err, virt.ErrNoCapacity) {
				t.Errorf("NIC %d: error is %v, want ErrNoCapacity", free, err)
			}
			break
		}
	}
	if free == 8 {
		t.Error("a guest without root ports has slots without end")
	}
	t.Logf("a guest of machine type q35 has %d free slots", free)
	missing := virt.NIC{MAC: "fa:16:3e:00:22:01", Model: "e1000", Attach: virt.Attachment{Type: "bridge", Bridge: "ctnone"}}
	if err := d.PlugNIC(within(t), s.ID, missing); err == nil {
		t.Error("a NIC on a bridge that is not there was plugged in")
	}
	list, err := d.NICs(within(t), s.ID)
	if err != nil || len(list) != free {
		t.Errorf("the guest has %+v, %v; want %d NICs", list, err, free)
	}
	for _, n := range list {
		if !n.Live || !n.Defined {
			t.Errorf("half a NIC: %+v", n)
		}
	}
}

// TestSetMetadata changes a guest's metadata while it runs and while it is stopped: what a domain tells is then what it would tell
// if it were made with them.
func TestSetMetadata(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	s := smallSpec(t)
	destroyAtEnd(t, d, s.ID)
	must(t, d.Create(within(t), s))
	for _, prepare := range []func() error{
		func() error { return nil },
		func() error { return d.Stop(within(t), s.ID, virt.StopOptions{}) },
	} {
		must(t, prepare())
		m := virt.Metadata{Package: "1", Name: `web "<1>"`, Ports: []virt.PortMetadata{{ID: uuid.NewString(), IPs: []virt.PortAddress{{Address: "192.0.2.7", Version: 4}}}}}
		must(t, d.SetMetadata(within(t), s.ID, m))
		other := smallSpec(t)
		other.Metadata = m
		destroyAtEnd(t, d, other.ID)
		must(t, d.Create(within(t), other))
		for _, flag := range []string{"--current", "--config"} {
			got := run(t, "virsh", "-c", testURI(), "metadata", s.ID, novaNamespace, flag)
			want := run(t, "virsh", "-c", testURI(), "metadata", other.ID, novaNamespace, flag)
			if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") || !strings.Contains(got, "192.0.2.7") {
				t.Errorf("the metadata are\n%s\nof a guest made with them\n%s", got, want)
			}
			if xml := run(t, "virsh", "-c", testURI(), "dumpxml", s.ID); strings.Count(xml, "<nova:instance") != 1 {
				t.Errorf("the domain has\n%s", xml)
			}
		}
	}
}
