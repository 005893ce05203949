package network

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHostFiltering: a VLAN-filtering bridge is made, or, by a kernel that has none, refused: nothing is plugged into a bridge in which
// all networks would be one. The lab's network tests send frames through it.
func TestHostFiltering(t *testing.T) {
	inNamespace(t)
	want := mustWant(t, []Network{
		{ID: netA, Type: VLAN, Physical: "up0", VLAN: 100, Filtering: true}, {ID: netB, Type: VLAN, Physical: "up0", VLAN: 200, Filtering: true},
		{ID: netC, Type: Flat, Physical: "up0", Filtering: true}, {ID: netD, Type: Local},
	}, []Port{{ID: one, Network: netA, MAC: mac(1), VIF: VIFTap}, {ID: two, Network: netC, MAC: mac(2), VIF: VIFTap}})
	before := hostText(t)
	err := Apply(t.Context(), Host{}, want)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		t.Log("this kernel has no VLANs in bridges")
		if !strings.HasPrefix(err.Error(), "add brv-up0 bridge mtu 9000 filtering") || strings.Contains(err.Error(), "\n") {
			t.Errorf("it says %v", err)
		}
		if out := ip(t, "link", "show", "master", BridgeName(netD)) + ip(t, "-d", "link", "show", "dev", TapName(one)); strings.Contains(out, "master") {
			t.Errorf("it is plugged in:\n%s", out)
		}
	case err != nil:
		t.Error(err)
	default:
		text := ip(t, "-d", "link", "show", "dev", "brv-up0")
		for _, part := range []string{"mtu 9000", "vlan_filtering 1", "vlan_default_pvid 0", ",UP"} {
			if !strings.Contains(text, part) {
				t.Errorf("no %q in:\n%s", part, text)
			}
		}
		out, err := exec.CommandContext(t.Context(), "bridge", "-c", "vlan", "show").CombinedOutput()
		got := strings.Join(strings.Fields(string(out)), " ")
		for _, part := range []string{
			"up0 1 PVID Egress Untagged 100 200", "brv-up0 1 PVID Egress Untagged", TapName(one) + " 100 PVID Egress Untagged",
			TapName(two) + " 1 PVID Egress Untagged",
		} {
			if !strings.Contains(got, part) {
				t.Errorf("no %q in: %s, %v", part, got, err)
			}
		}
		applied(t, Host{}, want)
	}
	applied(t, Host{}, State{})
	if after := hostText(t); after != before {
		t.Errorf("afterwards:\n%s\nbefore:\n%s", after, before)
	}
}
