//go:build lab

package network

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"compute-agent/network"
)

// TestFunctions sets virtual functions of a simulated interface through it, and makes them what they were. The kernel's netdevsim has no
// PCI address: where it is, a tree in place of sysfs says.
func TestFunctions(t *testing.T) {
	h, _ := twoHosts(t)
	h.enter()
	run(t, "modprobe", "netdevsim")
	write(t, "/sys/bus/netdevsim/new_device", "7 1")
	t.Cleanup(func() { write(t, "/sys/bus/netdevsim/del_device", "7") })
	write(t, "/sys/bus/netdevsim/devices/netdevsim7/sriov_numvfs", "2")
	nic := ""
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if n := l.Attrs().Name; n != "lo" && n != uplink {
			nic = n
		}
	}
	h.Sys, h.State = t.TempDir(), t.TempDir()
	device := filepath.Join(h.Sys, "bus/pci/devices/0000:81:00.0")
	if err := os.MkdirAll(filepath.Join(device, "net", nic), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"virtfn0": "../0000:81:00.1", "virtfn1": "../0000:81:00.2"} {
		if err := os.Symlink(to, filepath.Join(device, name)); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "ip", "link", "set", nic, "vf", "1", "mac", "02:00:00:00:00:77", "vlan", "77", "trust", "on")
	function := func() string {
		lines := strings.Split(run(t, "ip", "link", "show", "dev", nic), "\n")
		return strings.Join(strings.Fields(strings.Join(lines[2:], " ")), " ")
	}
	before := function()
	ports := []network.Port{
		{ID: portA, MAC: mac(1), VIF: network.VIFHardware, VNIC: network.VNICDirect, PCI: "0000:81:00.1", VLAN: 100, Trusted: true},
		{ID: portB, MAC: mac(2), VIF: network.VIFHardware, VNIC: network.VNICDirect, PCI: "0000:81:00.2"},
	}
	h.apply(nil, ports)
	for _, part := range []string{
		"vf 0 link/ether fa:16:3e:00:00:01 brd ff:ff:ff:ff:ff:ff, vlan 100, spoof checking on, link-state auto, trust on",
		"vf 1 link/ether fa:16:3e:00:00:02 brd ff:ff:ff:ff:ff:ff, spoof checking on, link-state auto, trust off",
	} {
		if got := function(); !strings.Contains(got, part) {
			t.Errorf("no %q in %s", part, got)
		}
	}
	run(t, "ip", "link", "set", nic, "vf", "0", "vlan", "5", "spoofchk", "off")
	ports[1].NoSpoofCheck = true
	h.apply(nil, ports)
	for _, part := range []string{"vlan 100, spoof checking on", "fa:16:3e:00:00:02 brd ff:ff:ff:ff:ff:ff, spoof checking off"} {
		if got := function(); !strings.Contains(got, part) {
			t.Errorf("no %q in %s", part, got)
		}
	}
	h.apply(nil, nil)
	if after := function(); after != before {
		t.Errorf("it is\n%s\nnot\n%s", after, before)
	}
	t.Log(before)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}
