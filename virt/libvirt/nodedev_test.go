package libvirt

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"compute-agent/virt"
)

// pciXML is a node device as libvirt 9 writes it.
func pciXML(name, inside string) string {
	var domain, bus, slot, function int
	_, _ = fmt.Sscanf(name, "pci_%x_%x_%x_%x", &domain, &bus, &slot, &function)
	return fmt.Sprintf(`<device><name>%s</name><parent>computer</parent>%s<capability type='pci'><class>0x020000</class>
		<domain>%d</domain><bus>%d</bus><slot>%d</slot><function>%d</function>
		<product id='0x1572'>Ethernet Controller X710</product><vendor id='0x8086'>Intel Corporation</vendor>%s</capability></device>`,
		name, "<driver><name>i40e</name></driver>", domain, bus, slot, function, inside)
}

func TestParseNodeDevices(t *testing.T) {
	child := func(name, parent, capability string) string {
		return fmt.Sprintf(`<device><name>%s</name><parent>%s</parent>%s</device>`, name, parent, capability)
	}
	got, err := parseNodeDevices([]string{
		child("net_ens1f0_aa", "pci_0000_3b_00_0", `<capability type='net'><interface>ens1f0</interface><address>aa:bb:cc:00:00:01</address></capability>`),
		child("net_lo", "computer", `<capability type='net'><interface>lo</interface></capability>`),
		child("vdpa_vdpa0", "pci_0000_3b_02_1", `<capability type='vdpa'><chardev>/dev/vhost-vdpa-0</chardev></capability>`),
		pciXML("pci_0000_3b_02_1", `<capability type='phys_function'><address domain='0x0000' bus='0x3b' slot='0x00' function='0x0'/></capability><numa node='1'/>`),
		pciXML("pci_0000_3b_00_0", `<capability type='virt_functions' maxCount='64'><address domain='0x0000' bus='0x3b' slot='0x02' function='0x1'/></capability><numa node='1'/>`),
		pciXML("pci_0001_03_1f_7", `<iommuGroup number='3'/><pci-express/>`),
		// Whole devices in an old form: no maximum is told.
		pciXML("pci_0000_04_00_0", `<capability type='virt_functions'/>`),
	})
	if err != nil {
		t.Fatal(err)
	}
	device := func(address string) virt.HostPCI {
		return virt.HostPCI{Address: address, VendorID: "8086", ProductID: "1572", Class: 0x020000, Node: -1, Driver: "i40e"}
	}
	whole, part := device("0000:3b:00.0"), device("0000:3b:02.1")
	whole.Node, whole.MaxVFs, whole.Netdev = 1, 64, "ens1f0"
	part.Node, part.Parent, part.VDPA = 1, "0000:3b:00.0", true
	if diff := cmp.Diff([]virt.HostPCI{device("0000:04:00.0"), whole, part, device("0001:03:1f.7")}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestNodeDevicesThatCannotBe(t *testing.T) {
	whole := pciXML("pci_0000_3b_00_0", "")
	for from, to := range map[string]string{
		"0x1572": "0x15720", "0x8086": "intel", "0x020000": "network", "<slot>0</slot>": "",
		"</device>": "", "<function>": `<capability type='phys_function'><address domain='0x0000'/></capability><function>`,
	} {
		if _, err := parseNodeDevices([]string{strings.Replace(whole, from, to, 1)}); err == nil {
			t.Errorf("%q in the place of %q: no error", to, from)
		}
	}
}

func TestHostDevices(t *testing.T) {
	const domain = `<domain type='kvm'><name>x</name><uuid>00000000-0000-4000-8000-000000000001</uuid><devices>
		<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0000' bus='0x86' slot='0x00' function='0x1'/></source></hostdev>
		<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>
		<interface type='hostdev' managed='yes'><source><address type='pci' domain='0x0000' bus='0x3b' slot='0x02' function='0x1'/></source></interface>
		</devices></domain>`
	id, addresses, err := hostDevices(domain)
	if err != nil || id != "00000000-0000-4000-8000-000000000001" {
		t.Fatal(id, err)
	}
	if diff := cmp.Diff([]string{"0000:3b:02.1", "0000:86:00.1"}, addresses); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, _, err := hostDevices(strings.Replace(domain, "bus='0x86'", "", 1)); err == nil {
		t.Error("an incomplete address: no error")
	}
	if _, addresses, err := hostDevices(`<domain><name>none</name></domain>`); err != nil || addresses != nil {
		t.Errorf("a domain without: %v, %v", addresses, err)
	}
}

// TestPCIDevices asks the real libvirtd: the machine that the tests run on has PCI devices, or none.
func TestPCIDevices(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	list, err := d.PCIDevices(within(t))
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(run(t, "virsh", "-q", "-c", testURI(), "nodedev-list", "--cap", "pci"))
	if len(list) != len(names) {
		t.Errorf("%d devices, virsh lists %d", len(list), len(names))
	}
	if _, err := d.PCIOwners(within(t)); err != nil {
		t.Error(err)
	}
}
