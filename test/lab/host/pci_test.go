//go:build lab

package host

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"compute-agent/compute"
	"compute-agent/pci"
	"compute-agent/virt/libvirt"
)

// TestPCIDevices reads the machine's PCI devices from sysfs and from libvirt.
func TestPCIDevices(t *testing.T) {
	fromSysfs, err := pci.Discover(os.DirFS("/sys"))
	if err != nil {
		t.Fatal(err)
	}
	driver, err := libvirt.Open(t.Context(), libvirt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer driver.Close() //nolint:errcheck // only read
	list, err := driver.PCIDevices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fromLibvirt, err := compute.DevicesOf(list)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromSysfs, fromLibvirt); diff != "" {
		t.Errorf("sysfs and libvirt disagree, - sysfs, + libvirt:\n%s", diff)
	}
	if len(fromSysfs) == 0 {
		t.Error("the machine has virtio devices, but nobody tells of them")
	}
	t.Logf("%d PCI devices", len(fromSysfs))
}
