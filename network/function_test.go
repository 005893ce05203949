package network

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// pciTree writes what sysfs has of interfaces with virtual functions: two of nic0, one of a nic that stands for others too, and one of
// a device that a guest has.
func pciTree(t testing.TB, nic0 string) string {
	t.Helper()
	root := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(root, "bus/pci/devices", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(path, to string) {
		if err := os.Symlink(to, filepath.Join(root, "bus/pci/devices", path)); err != nil {
			t.Fatal(err)
		}
	}
	write("0000:81:00.0/net/"+nic0+"/phys_port_name", "p0\n")
	link("0000:81:00.0/virtfn0", "../0000:81:00.1")
	link("0000:81:00.0/virtfn1", "../0000:81:00.2")
	write("0000:82:00.0/net/eth8/phys_port_name", "pf0vf0\n")
	write("0000:82:00.0/net/eth9/address", "52:54:00:00:00:09\n")
	link("0000:82:00.0/virtfn12", "../0000:82:01.4")
	write("0000:83:00.0/vendor", "0x8086\n")
	link("0000:83:00.0/virtfn0", "../0000:83:00.1")
	return root
}

// TestPlaces finds the interface and number of each virtual function, but for those whose physical function is no interface of the host.
func TestPlaces(t *testing.T) {
	got, err := Host{Sys: pciTree(t, "nic0")}.places()
	want := map[string]place{"0000:81:00.1": {"nic0", 0}, "0000:81:00.2": {"nic0", 1}, "0000:82:01.4": {"eth9", 12}}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v\nwant %v", got, err, want)
	}
}

// TestHostFunctions: a virtual function that is not there is told, and one whose interface cannot set it; all else is done. What
// a function was is written down once, and forgotten with the device.
func TestHostFunctions(t *testing.T) {
	inNamespace(t)
	h := testHost
	h.Sys, h.State = pciTree(t, "up0"), t.TempDir()
	vf := func(id, pci string) Port {
		return Port{ID: id, MAC: mac(1), VIF: VIFHardware, VNIC: VNICDirect, PCI: pci}
	}
	want := mustWant(t, []Network{{ID: netA, Type: Local}}, []Port{vf(one, "0000:84:00.1"), vf(two, "0000:81:00.1")})
	err := Apply(t.Context(), h, want)
	for _, says := range []string{"virtual function 0000:84:00.1: no such interface that has it", "virtual function 0000:81:00.1: no such interface"} {
		if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), says) {
			t.Errorf("it says %v", err)
		}
	}
	ip(t, "link", "show", "dev", BridgeName(netA))

	was := FunctionSettings{MAC: "02:00:00:00:00:01", VLAN: 7, Trusted: true}
	for _, is := range []FunctionSettings{was, {MAC: "02:00:00:00:00:02"}} {
		if err := h.remember("0000:84:00.1", is); err != nil {
			t.Fatal(err)
		}
	}
	have, err := h.Links(t.Context())
	if f := have.Functions["0000:84:00.1"]; err != nil || !f.Owned || f.Before != was {
		t.Errorf("it remembers %s, %v", f, err)
	}
	applied(t, h, State{})
	if left, err := os.ReadDir(h.records()); err != nil || len(left) != 0 {
		t.Errorf("left is %v, %v", left, err)
	}
	if err := os.WriteFile(filepath.Join(h.records(), "0000:81:00.2"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	have, err = h.Links(t.Context())
	if f := have.Functions["0000:81:00.2"]; err != nil || f.Before != (FunctionSettings{MAC: noMAC, SpoofCheck: true}) {
		t.Errorf("of what cannot be read it makes %s, %v", f, err)
	}
}

// TestSetFunction: what differs is set and nothing else, and what a driver cannot set is named. No kernel here has an interface with
// virtual functions: the calls are recorded.
func TestSetFunction(t *testing.T) {
	nic := &netlink.Dummy{}
	is := toSettings(netlink.VfInfo{ID: 3, Mac: make(net.HardwareAddr, 6), Vlan: 7, Spoofchk: true, Trust: 1<<32 - 1})
	if is != (FunctionSettings{MAC: noMAC, VLAN: 7, SpoofCheck: true}) {
		t.Errorf("it is read as %s", is)
	}
	for _, c := range []struct {
		change func(*FunctionSettings)
		calls  string
	}{
		{func(*FunctionSettings) {}, ""},
		{func(f *FunctionSettings) { f.MAC = "fa:16:3e:00:00:01" }, "3 mac fa:16:3e:00:00:01"},
		{func(f *FunctionSettings) { f.VLAN = 0 }, "3 vlan 0"},
		{func(f *FunctionSettings) { f.SpoofCheck = false }, "3 spoof check false"},
		{func(f *FunctionSettings) { f.Trusted = true }, "3 trusted true"},
		{func(f *FunctionSettings) { f.VLAN, f.Trusted = 8, true }, "3 vlan 8, 3 trusted true"},
	} {
		want := is
		c.change(&want)
		var calls []string
		var fails error
		record := func(number int, what string, value any) error {
			calls = append(calls, fmt.Sprint(number, " ", what, " ", value))
			return fails
		}
		s := setter{
			func(_ netlink.Link, n int, mac net.HardwareAddr) error { return record(n, "mac", mac) },
			func(_ netlink.Link, n int, vlan int) error { return record(n, "vlan", vlan) },
			func(_ netlink.Link, n int, on bool) error { return record(n, "spoof check", on) },
			func(_ netlink.Link, n int, on bool) error { return record(n, "trusted", on) },
		}
		if err := s.set(nic, 3, is, want); err != nil || strings.Join(calls, ", ") != c.calls {
			t.Errorf("it calls %q, not %q: %v", calls, c.calls, err)
		}
		fails = errors.New("cannot")
		if err := s.set(nic, 3, is, want); c.calls != "" && (err == nil || !strings.Contains("3 "+err.Error(), strings.Split(c.calls, ", ")[0]+": cannot")) {
			t.Errorf("%s: it says %v", c.calls, err)
		}
	}
}
