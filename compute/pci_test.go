package compute_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"compute-agent/compute"
	"compute-agent/pci"
	"compute-agent/virt"
	"compute-agent/virt/fake"
)

// pciDevices are a GPU in each of two cells, a NIC with two virtual functions in the first, and a disk that is the
// host's own.
func pciDevices() []virt.HostPCI {
	gpu := func(address string, node int) virt.HostPCI {
		return virt.HostPCI{Address: address, VendorID: "10de", ProductID: "20b5", Class: 0x030200, Node: node, Driver: "nouveau"}
	}
	vf := func(address string) virt.HostPCI {
		return virt.HostPCI{Address: address, VendorID: "8086", ProductID: "154c", Class: 0x020000, Parent: "0000:3b:00.0", Driver: "iavf"}
	}
	return []virt.HostPCI{
		{Address: "0000:18:00.0", VendorID: "144d", ProductID: "a808", Class: 0x010802, Driver: "nvme"},
		{Address: "0000:3b:00.0", VendorID: "8086", ProductID: "1572", Class: 0x020000, MaxVFs: 64, Driver: "i40e", Netdev: "ens1f0"},
		vf("0000:3b:02.0"), vf("0000:3b:02.1"),
		gpu("0000:81:00.0", 0), gpu("0000:c1:00.0", 1),
	}
}

func pciConfig(t testing.TB) compute.PCIConfig {
	t.Helper()
	specs, specsErr := pci.ParseSpecs([]string{
		`{"vendor_id": "10de", "resource_class": "gpu", "traits": "HW_GPU_API_VULKAN, big"}`,
		`{"devname": "ens1f0", "physical_network": "left", "managed": "no"}`,
	})
	aliases, aliasesErr := pci.ParseAliases([]string{
		`{"name": "gpu", "vendor_id": "10de", "numa_policy": "required"}`,
		`{"name": "anygpu", "vendor_id": "10de", "numa_policy": "preferred"}`,
		`{"name": "vf", "vendor_id": "8086", "device_type": "type-VF"}`,
		`{"name": "nic", "vendor_id": "8086", "device_type": "type-PF"}`,
	})
	if err := errors.Join(specsErr, aliasesErr); err != nil {
		t.Fatal(err)
	}
	return compute.PCIConfig{Specs: specs, Aliases: aliases}
}

// withDevices starts an agent on such a host.
func withDevices(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.plug()
	w.boot(nil)
	return w
}

// plug is pin with PCI devices: one for each server of the world's flavor.
func (w *world) plug() {
	w.pin()
	w.hv.SetPCI(pciDevices()...)
	w.options = func(o *compute.Options) { o.Capacity.NUMA, o.Capacity.PCI = pinnedSets(), pciConfig(w.t) }
	w.extra["pci_passthrough:alias"] = "gpu:1"
}

// freeDevices counts the devices of the pools that the node reports.
func (w *world) freeDevices() (n int) {
	w.t.Helper()
	r, err := w.Report()
	w.must(err)
	for _, line := range r.ComputeNode.DeviceLines() {
		if strings.HasSuffix(line, ": available") {
			n++
		}
	}
	return n
}

// device is the line of the report about a device.
func (w *world) device(address string) string {
	w.t.Helper()
	r, err := w.Report()
	w.must(err)
	for _, line := range r.ComputeNode.DeviceLines() {
		if rest, is := strings.CutPrefix(line, address); is {
			return rest[strings.LastIndex(rest, ": ")+2:]
		}
	}
	return "removed"
}

// devices are what a server's guest was made with.
func (w *world) devices(id string) []virt.PCIDevice {
	w.t.Helper()
	spec, err := w.hv.Spec(id)
	w.must(err)
	return spec.PCI
}

func (w *world) refuse(flavorID string) error {
	w.t.Helper()
	r := request()
	r.FlavorID = flavorID
	_, err := w.CreateServer(w.t.Context(), r)
	if err == nil {
		w.t.Fatal("the server was accepted")
	}
	return err
}

func TestServersWithPCIDevices(t *testing.T) {
	w := withDevices(t)
	flavor := w.flavor(2, 512, "hw:cpu_policy=dedicated", "pci_passthrough:alias=gpu:1")
	first, second := w.build(flavor), w.build(flavor)
	for i, id := range []string{first.ID, second.ID} {
		want := []virt.PCIDevice{{Address: []string{"0000:81:00.0", "0000:c1:00.0"}[i], Managed: true}}
		if diff := cmp.Diff(want, w.devices(id)); diff != "" {
			t.Errorf("server %d (-want +got)\n%s", i, diff)
		}
		if cell := w.place(id).Cells[0].HostCell; cell != i {
			t.Errorf("server %d is in cell %d, its device in %d", i, cell, i)
		}
	}
	if got := w.device("0000:c1:00.0"); got != "allocated by server "+second.ID {
		t.Errorf("the second device is %s", got)
	}
	err := w.refuse(flavor)
	if want := `PCI: 1 PCI device of alias "gpu" asked, 0 free, affinity required`; !errors.Is(err, compute.ErrNoCapacity) || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	err = w.refuse(w.flavor(1, 64, "pci_passthrough:alias=fpga:1"))
	var failure *compute.Failure
	if !errors.As(err, &failure) || !errors.Is(err, compute.ErrInvalid) || failure.Field != "flavorRef" {
		t.Errorf("an unknown alias: %v", err)
	}
	plain := w.build(w.flavor(1, 64, "pci_passthrough:alias=vf:1"))
	if diff := cmp.Diff([]virt.PCIDevice{{Address: "0000:3b:02.0"}}, w.devices(plain.ID)); diff != "" {
		t.Errorf("a virtual function, not managed (-want +got)\n%s", diff)
	}
	if err := w.refuse(w.flavor(1, 64, "pci_passthrough:alias=nic:1")); !errors.Is(err, compute.ErrNoCapacity) {
		t.Errorf("the physical function of one that is in use: %v", err)
	}
	w.must(w.DeleteServer(t.Context(), first.ID))
	w.waitAll()
	third := w.build(w.flavor(1, 64, "pci_passthrough:alias=anygpu:1"))
	if got := w.devices(third.ID); len(got) != 1 || got[0].Address != "0000:81:00.0" {
		t.Errorf("the device of the deleted server was not given on: %v", got)
	}
	w.audit()
}

// TestDevicesSurvive makes guests again in every way there is: they keep their devices.
func TestDevicesSurvive(t *testing.T) {
	w := withDevices(t)
	flavor := w.flavor(1, 64, "pci_passthrough:alias=anygpu:1")
	first, second := w.build(flavor), w.build(flavor)
	was := w.devices(second.ID)
	w.must(w.DeleteServer(t.Context(), first.ID)) // a new claim would take its device
	w.waitAll()
	w.must(w.RebootServer(t.Context(), second.ID, compute.Reboot{Hard: true}))
	w.waitAll()
	w.stop()
	w.boot(nil)
	if got := w.device(was[0].Address); got != "allocated by server "+second.ID {
		t.Errorf("after a restart the device is %s", got)
	}
	w.must(w.RebootServer(t.Context(), second.ID, compute.Reboot{Hard: true}))
	w.waitAll()
	if diff := cmp.Diff(was, w.devices(second.ID)); diff != "" {
		t.Errorf("(-before +after)\n%s", diff)
	}
	w.audit()
}

// TestDeviceVanishes pulls a device out from under a server: its operator is told once, and nobody else gets it, also
// when it comes back.
func TestDeviceVanishes(t *testing.T) {
	w := newWorld(t)
	w.plug()
	var log logText
	pinned := w.options
	w.options = func(o *compute.Options) {
		pinned(o)
		logTo(&log)(o)
	}
	w.boot(nil)
	flavor := w.flavor(1, 64, "pci_passthrough:alias=anygpu:1")
	s := w.build(flavor)
	all := pciDevices()
	reread := w.hv.Inject(fake.Fault{Method: "PCIDevices", Do: fake.Pass})
	w.hv.SetPCI(all[:4]...) // both GPUs are gone
	<-reread.Struck()       // the event has asked for it
	for range 2 {
		w.Audit()
	}
	if n := strings.Count(log.String(), "PCI device 0000:81:00.0, which it has, has gone from the host"); n != 1 || !strings.Contains(log.String(), s.ID) {
		t.Errorf("told %d times:\n%s", n, &log)
	}
	if gone, never := w.device("0000:81:00.0"), w.device("0000:c1:00.0"); !strings.HasPrefix(gone, "allocated by server "+s.ID) || never != "removed" {
		t.Errorf("in use it is %s, the other one %s", gone, never)
	}
	if err := w.refuse(flavor); !strings.Contains(err.Error(), "0 free") {
		t.Errorf("without devices: %v", err)
	}
	w.stop() // a restart forgets nothing
	w.boot(nil)
	w.must(w.RebootServer(t.Context(), s.ID, compute.Reboot{Hard: true}))
	if s = w.await(s.ID); s.VM != compute.Error || !strings.Contains(s.Fault.Message, "PCI device 0000:81:00.0, which it has, has gone") {
		t.Errorf("rebooted without its device it is %s: %+v", s.VM, s.Fault)
	}
	w.hv.SetPCI(all...)
	w.Audit()
	if other := w.build(flavor); w.devices(other.ID)[0].Address != "0000:c1:00.0" {
		t.Errorf("another server got %v", w.devices(other.ID))
	}
	w.must(w.RebootServer(t.Context(), s.ID, compute.Reboot{Hard: true}))
	if s = w.await(s.ID); s.VM != compute.Active {
		t.Errorf("rebooted with its device it is %s: %+v", s.VM, s.Fault)
	}
	w.hv.SetPCI(all[:4]...)
	w.Audit()
	w.must(w.DeleteServer(t.Context(), s.ID))
	w.waitAll()
	if got := w.device("0000:81:00.0"); got != "removed" {
		t.Errorf("freed after it had gone it is %s", got)
	}
}

// TestAuditOfDevices makes claims, host and guests differ in their devices, and wants each named.
func TestAuditOfDevices(t *testing.T) {
	w := withDevices(t)
	first := w.build(w.flavor(1, 64, "pci_passthrough:alias=anygpu:1"))
	second := w.build(w.flavor(1, 64, "pci_passthrough:alias=vf:1"))
	w.audit()
	mine, theirs := w.claims()[first.ID], w.claims()[second.ID]
	theirs.PCI = slices.Clone(mine.PCI)
	w.must(w.agent.store.Update(t.Context(), func(tx compute.Writer) error { return tx.PutClaim(theirs) }))
	changed := pciDevices()
	changed[4].ProductID = "ffff"
	w.hv.SetPCI(changed...)
	w.Audit()
	found := w.Differences()
	low, high := min(first.ID, second.ID), max(first.ID, second.ID)
	for _, want := range []string{
		fmt.Sprintf("%s: PCI device 0000:81:00.0 is claimed by server %s too", high, low),
		second.ID + ": its guest has PCI device 0000:3b:02.0, which it does not claim",
		second.ID + ": it claims PCI device 0000:81:00.0, which its guest does not have",
		first.ID + ": PCI device 0000:81:00.0 is now 10de:ffff type-PCI; it has it as 10de:20b5 type-PCI",
	} {
		if !slices.Contains(found, want) {
			t.Errorf("not found: %s\nin %q", want, found)
		}
	}
	if len(found) != 5 { // what has changed is the second server's too
		t.Errorf("%d differences: %q", len(found), found)
	}
}

// TestStrangersDevice gives a device that servers may get to a guest that is nobody's.
func TestStrangersDevice(t *testing.T) {
	w := withDevices(t)
	s := w.build(w.flavor(1, 64))
	spec, err := w.hv.Spec(s.ID)
	w.must(err)
	spec.ID, spec.Name, spec.Disks, spec.Serial = "00000000-0000-4000-8000-000000000001", "stranger", nil, nil
	spec.PCI = []virt.PCIDevice{{Address: "0000:18:00.0"}, {Address: "0000:81:00.0"}}
	driver := w.hv.Open(w.host)
	defer func() { w.must(driver.Close()) }()
	w.must(driver.Create(t.Context(), spec))
	want := []string{spec.ID + ": its guest has PCI device 0000:81:00.0, which it does not claim"}
	if diff := cmp.Diff(want, w.Differences()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	w.must(driver.Destroy(context.Background(), spec.ID))
}

// TestDevicesOfALostHypervisor starts an agent whose hypervisor does not answer: what is claimed stays claimed, and
// what is free is not known until it does.
func TestDevicesOfALostHypervisor(t *testing.T) {
	w := withDevices(t)
	flavor := w.flavor(1, 64, "pci_passthrough:alias=anygpu:1")
	first := w.build(flavor)
	w.stop()
	w.hv.LoseConnection()
	w.boot(nil)
	if err := w.refuse(flavor); !errors.Is(err, compute.ErrUnavailable) {
		t.Errorf("while it is lost: %v", err)
	}
	w.hv.RestoreConnection()
	w.Audit()
	if second := w.build(flavor); w.devices(second.ID)[0] == w.devices(first.ID)[0] {
		t.Errorf("two servers have %v", w.devices(second.ID))
	}
	w.audit()
}

// plainDriver tells of no PCI devices.
type plainDriver struct{ virt.Driver }

func TestDeviceConfigurationForAnotherHost(t *testing.T) {
	remote, err := pci.ParseSpecs([]string{`{"address": "0000:3b:00.0", "remote_managed": "yes"}`})
	if err != nil {
		t.Fatal(err)
	}
	for key, change := range map[string]func(*compute.Options){
		"pci_device_spec": func(o *compute.Options) { o.Driver = plainDriver{o.Driver} },
		"remote_managed":  func(o *compute.Options) { o.Capacity.PCI.Specs = remote },
	} {
		w := newWorld(t)
		w.plug()
		pinned := w.options
		w.options = func(o *compute.Options) {
			pinned(o)
			change(o)
		}
		w.prepare(newFate())
		var wrong *pci.Error
		if err := w.Start(t.Context()); !errors.As(err, &wrong) || wrong.Key != key {
			t.Errorf("%s: error %v", key, err)
		}
	}
}

func TestDevicesOf(t *testing.T) {
	one := virt.HostPCI{Address: "0000:81:00.0", VendorID: "10de", ProductID: "20b5", Node: -1}
	beyond, vdpa := one, one
	beyond.Address = "10000:e1:00.0"
	vdpa.Address, vdpa.Parent, vdpa.VDPA = "0000:82:00.0", "0000:83:00.0", true
	whole := one
	whole.Address, whole.MaxVFs = "0000:83:00.0", 1
	devices, err := compute.DevicesOf([]virt.HostPCI{one, vdpa, whole, beyond})
	if err != nil || len(devices) != 3 || devices[0].Node != nil || devices[1].Type != pci.TypeVDPA || devices[2].Type != pci.TypePF {
		t.Errorf("%+v, %v", devices, err)
	}
	for name, wrong := range map[string]virt.HostPCI{
		"no address":                          {Address: "81:00.0"},
		"no address of a physical function":   {Address: "0000:81:00.0", Parent: "x"},
		"a physical function that is not one": {Address: "0000:84:00.0", Parent: "0000:81:00.0"},
	} {
		if _, err := compute.DevicesOf([]virt.HostPCI{one, wrong}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
