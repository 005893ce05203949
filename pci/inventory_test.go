package pci_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"compute-agent/pci"
)

var (
	wholeNIC = pci.Request{Alias: "pf", Count: 1, Specs: []map[string]string{{"product_id": "1572", "dev_type": pci.TypePF}}}
	partNIC  = pci.Request{Alias: "vf", Count: 1, Specs: []map[string]string{{"product_id": "154c", "dev_type": pci.TypeVF}}}
	gpu      = pci.Request{Alias: "gpu", Count: 1, Specs: []map[string]string{{"vendor_id": "10de"}}}
)

func address(text string) pci.Address {
	a, err := pci.ParseAddress("0000:" + text)
	if err != nil {
		panic(err)
	}
	return a
}

// inventory has all devices of the fixture but the bridge.
func inventory(t testing.TB) (*pci.Inventory, []pci.Allowed) {
	t.Helper()
	_, list, err := allowed(t, `{"address": "*:*:*.*"}`)
	if err != nil {
		t.Fatal(err)
	}
	v := &pci.Inventory{}
	if news := v.Update(list); news != nil {
		t.Fatalf("a first look has news: %v", news)
	}
	return v, list
}

// states writes the devices that are not simply available.
func states(v *pci.Inventory) string {
	var parts []string
	for _, a := range v.Addresses() {
		e := v.Entry(a)
		if e.State == pci.Available {
			continue
		}
		text := fmt.Sprintf("%s %s", strings.TrimPrefix(a.String(), "0000:"), e.State)
		if e.Owner != "" {
			text += " " + e.Owner
		}
		if e.Gone {
			text += " gone"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func claim(t *testing.T, v *pci.Inventory, owner string, requests ...pci.Request) [][]pci.Address {
	t.Helper()
	taken, err := v.Claim(owner, requests, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return taken
}

func TestPhysicalExcludesVirtual(t *testing.T) {
	v, _ := inventory(t)
	taken := claim(t, v, "a", wholeNIC)
	if taken[0][0] != address("3b:00.0") {
		t.Errorf("taken %v", taken)
	}
	const whole = "3b:00.0 claimed a, 3b:02.0 unavailable, 3b:02.1 unavailable, 3b:02.2 unavailable, 3b:02.3 unavailable"
	if got := states(v); got != whole {
		t.Errorf("the whole function is claimed: %s", got)
	}
	if _, err := v.Claim("b", []pci.Request{partNIC}, nil, nil); !errors.Is(err, pci.ErrNotEnough) || states(v) != whole {
		t.Errorf("a part of it is claimed: %v; %s", err, states(v))
	}
	v.Free("a")
	claim(t, v, "b", partNIC)
	if got := states(v); got != "3b:00.0 unavailable, 3b:02.0 claimed b" {
		t.Errorf("a part is claimed: %s", got)
	}
	claim(t, v, "c", wholeNIC) // the other port
	if got := states(v); got != "3b:00.0 unavailable, 3b:00.1 claimed c, 3b:02.0 claimed b" {
		t.Errorf("and the other port: %s", got)
	}
	if _, err := v.Claim("d", []pci.Request{wholeNIC}, nil, nil); !errors.Is(err, pci.ErrNotEnough) {
		t.Errorf("a third whole one: %v", err)
	}
	v.Free("b")
	v.Free("c")
	v.Free("nobody")
	if got := states(v); got != "" {
		t.Errorf("all is freed: %s", got)
	}
}

func TestClaimTakesAllOrNothing(t *testing.T) {
	v, _ := inventory(t)
	_, err := v.Claim("a", []pci.Request{gpu, gpu}, nil, nil)
	if want := `1 PCI device of alias "gpu" asked, 0 free, affinity legacy`; !errors.Is(err, pci.ErrNotEnough) || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	either := pci.Request{Alias: "any", Count: 3, Specs: append(slices.Clone(wholeNIC.Specs), partNIC.Specs...)}
	if _, err := v.Claim("a", []pci.Request{either}, nil, nil); !errors.Is(err, pci.ErrNotEnough) {
		t.Errorf("a function and a part of it in one request: %v", err)
	}
	if got := states(v); got != "" {
		t.Errorf("after refused claims: %s", got)
	}
	if taken := claim(t, v, "a", gpu, partNIC); len(taken) != 2 || !slices.Equal(v.Owned("a"), []pci.Address{address("3b:02.0"), address("86:00.0")}) {
		t.Errorf("taken %v, owned %v", taken, v.Owned("a"))
	}
}

func TestAllocate(t *testing.T) {
	v, _ := inventory(t)
	claim(t, v, "a", gpu)
	devices := v.Owned("a")
	for range 2 { // again is fine
		if err := v.Allocate("a", devices); err != nil || states(v) != "86:00.0 allocated a" {
			t.Fatal(err, states(v))
		}
	}
	err := v.Allocate("b", devices)
	if want := "allocate 0000:86:00.0 to server b: the PCI device is not in the state for this: it is allocated by server a"; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if err := v.Allocate("b", []pci.Address{address("99:00.0")}); !errors.Is(err, pci.ErrState) || !strings.Contains(err.Error(), "removed") {
		t.Errorf("a device that is not there: %v", err)
	}
}

func TestDevicesThatVanish(t *testing.T) {
	v, list := inventory(t)
	claim(t, v, "a", gpu)
	without := slices.DeleteFunc(slices.Clone(list), func(a pci.Allowed) bool { return a.VendorID == "10de" || a.VendorID == "144d" })
	news := v.Update(without)
	if !slices.Equal(news, []string{"PCI device 0000:86:00.0 has gone while server a has it"}) || states(v) != "86:00.0 claimed a gone" {
		t.Errorf("news %v, %s", news, states(v))
	}
	if v.Entry(address("18:00.0")).State != pci.Removed {
		t.Error("a device that nobody had is still there")
	}
	if news := v.Update(without); news != nil {
		t.Errorf("told twice: %v", news)
	}
	if news := v.Update(list); !slices.Equal(news, []string{"PCI device 0000:86:00.0 of server a is back"}) {
		t.Errorf("back: %v", news)
	}
	v.Update(without)
	v.Free("a")
	if v.Entry(address("86:00.0")).State != pci.Removed {
		t.Error("a device that has gone can be had again")
	}
	claim(t, v, "a", partNIC)
	other := slices.Clone(list)
	for i := range other {
		if other[i].Address == address("3b:02.0") {
			other[i].ProductID = "ffff"
		}
	}
	want := "PCI device 0000:3b:02.0 is now 8086:ffff type-VF, but server a has it as 8086:154c type-VF"
	if news := v.Update(other); !slices.Equal(news, []string{want}) {
		t.Errorf("changed: %v", news)
	}
}

// TestVirtualFunctionsOfAnAllocatedFunction come up while a guest has the whole: nobody gets them.
func TestVirtualFunctionsOfAnAllocatedFunction(t *testing.T) {
	_, list := inventory(t)
	v := &pci.Inventory{}
	v.Update(slices.DeleteFunc(slices.Clone(list), func(a pci.Allowed) bool { return a.Type == pci.TypeVF }))
	claim(t, v, "a", wholeNIC)
	v.Update(list)
	if _, err := v.Claim("b", []pci.Request{partNIC}, nil, nil); !errors.Is(err, pci.ErrNotEnough) {
		t.Errorf("a virtual function of an allocated one: %v", err)
	}
}

func TestRestore(t *testing.T) {
	v, list := inventory(t)
	mine := []pci.Allowed{list[0], {Device: pci.Device{Address: address("99:00.0"), Type: pci.TypePCI}}}
	if err := v.Restore("a", mine, pci.Allocated); err != nil || states(v) != "18:00.0 allocated a, 99:00.0 allocated a gone" {
		t.Errorf("%v, %s", err, states(v))
	}
	if err := v.Restore("b", mine, pci.Claimed); !errors.Is(err, pci.ErrState) {
		t.Errorf("two servers with one device: %v", err)
	}
	if err := (&pci.Inventory{}).Restore("a", mine, pci.Claimed); err != nil {
		t.Errorf("into an empty inventory: %v", err)
	}
}

func TestAffinityOfClaims(t *testing.T) {
	v, _ := inventory(t)
	host := []pci.Cell{{ID: 0, Socket: 0}, {ID: 1, Socket: 1}}
	far := partNIC // its devices are on node 0
	for policy, fits := range map[string]bool{pci.AffinityRequired: false, pci.AffinityLegacy: false, "": false, pci.AffinitySocket: false, pci.AffinityPreferred: true} {
		far.Affinity = policy
		_, err := v.Clone().Claim("a", []pci.Request{far}, host, host[1:])
		if fits != (err == nil) {
			t.Errorf("policy %q: %v", policy, err)
		}
		short := pci.Short(v.Pools(), []pci.Request{far}, host, host[1:])
		if fits != (short == nil) || short != nil && (short.Alias != "vf" || short.Asked != 1 || short.Free != 4 || short.Near != 0) {
			t.Errorf("policy %q: short of %v", policy, short)
		}
	}
	loose := gpu // its node is not known
	for policy, fits := range map[string]bool{pci.AffinityRequired: false, pci.AffinityLegacy: true, pci.AffinityPreferred: true} {
		loose.Affinity = policy
		if _, err := v.Clone().Claim("a", []pci.Request{loose}, host, host[1:]); fits != (err == nil) {
			t.Errorf("unknown node, policy %q: %v", policy, err)
		}
	}
}

// TestPools wants devices that differ in what can be asked for in different pools.
func TestPools(t *testing.T) {
	_, list, err := allowed(t, `{"address": "0000:3b:02.0", "physical_network": "left"}`, `{"address": "3b:02.*"}`)
	if err != nil {
		t.Fatal(err)
	}
	v := &pci.Inventory{}
	v.Update(list)
	pools := v.Pools()
	if len(pools) != 2 || pools[0].Count != 1 || pools[0].Tags["physical_network"] != "left" || pools[1].Count != 3 || *pools[1].Node != 0 {
		t.Errorf("pools %+v", pools)
	}
}

// TestLifeOfAnInventory plays a random life: no device has two owners, functions and their parts exclude each
// other, and when all servers are gone everything is available.
func TestLifeOfAnInventory(t *testing.T) {
	start, list := inventory(t)
	rapid.Check(t, func(t *rapid.T) {
		v := start.Clone()
		owners := []string{"a", "b", "c", "d"}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			owner := rapid.SampledFrom(owners).Draw(t, "owner")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				v.Free(owner)
			case 1:
				v.Update(list[:rapid.IntRange(0, len(list)).Draw(t, "shown")])
			case 2:
				if err := v.Allocate(owner, v.Owned(owner)); err != nil {
					t.Fatal(err)
				}
			default:
				requests := rapid.SliceOfN(rapid.SampledFrom([]pci.Request{wholeNIC, partNIC, gpu}), 1, 3).Draw(t, "requests")
				before := states(v)
				if _, err := v.Claim(owner, requests, nil, nil); err != nil && states(v) != before {
					t.Fatalf("a refused claim changed %s to %s", before, states(v))
				}
			}
			checkExclusion(t, v)
		}
		v.Update(list)
		for _, owner := range owners {
			v.Free(owner)
		}
		v.Update(list)
		if got := states(v); got != "" || !reflect.DeepEqual(v.Pools(), start.Pools()) {
			t.Fatalf("after all: %s", got)
		}
	})
}

func checkExclusion(t *rapid.T, v *pci.Inventory) {
	used := func(e pci.Entry) bool { return e.State == pci.Claimed || e.State == pci.Allocated }
	for _, a := range v.Addresses() {
		e := v.Entry(a)
		if used(e) != (e.Owner != "") {
			t.Fatalf("%v is %s with owner %q", a, e.State, e.Owner)
		}
		if e.Parent == nil {
			continue
		}
		parent := v.Entry(*e.Parent)
		if used(e) && (used(parent) || parent.State == pci.Available) || used(parent) && e.State == pci.Available {
			t.Fatalf("%v is %s, its physical function %s", a, e.State, parent.State)
		}
	}
}
