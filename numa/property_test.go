package numa_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"compute-agent/internal/cpuset"
	"compute-agent/numa"
)

// drawHost is a small host, some of it in use.
func drawHost(t *rapid.T) numa.Host {
	var host numa.Host
	threads := rapid.IntRange(1, 3).Draw(t, "threads")
	next := 0
	for id := range rapid.IntRange(1, 5).Draw(t, "cells") {
		cores := rapid.IntRange(0, 4).Draw(t, "cores")
		cell := numa.HostCell{ID: id, Socket: id / 2, MemoryMiB: 1024 * rapid.IntRange(1, 3).Draw(t, "GiB"), Shared: cpuset.Range(1000*id, 1000*id+3)}
		for range cores {
			core := cpuset.Range(next, next+threads-1)
			next += threads
			cell.Siblings = append(cell.Siblings, core)
			cell.Dedicated = cell.Dedicated.Union(core)
		}
		for cpu := range cell.Dedicated.All {
			if rapid.IntRange(0, 3).Draw(t, "pinned") == 0 {
				cell.Pinned.Add(cpu)
			}
		}
		cell.CPUUsage = rapid.IntRange(0, 3).Draw(t, "usage")
		cell.UsedMiB = 256 * rapid.IntRange(0, 2).Draw(t, "used")
		huge := rapid.IntRange(0, 256).Draw(t, "huge pages")
		cell.Pages = []numa.Pages{
			{SizeKiB: 4, Total: (cell.MemoryMiB - 2*huge) * 256, Used: cell.UsedMiB * 256},
			{SizeKiB: 2048, Total: huge, Used: min(huge, rapid.IntRange(0, 64).Draw(t, "huge used"))},
		}
		host.Cells = append(host.Cells, cell)
	}
	return host
}

// drawGuest is a small guest.
func drawGuest(t *rapid.T) numa.Guest {
	policy := rapid.SampledFrom([]string{"", numa.PolicyShared, numa.PolicyDedicated, numa.PolicyMixed}).Draw(t, "policy")
	guest := numa.Guest{}
	threadPolicy := ""
	if policy == numa.PolicyDedicated || policy == numa.PolicyMixed {
		threadPolicy = rapid.SampledFrom([]string{"", numa.ThreadsPrefer, numa.ThreadsRequire, numa.ThreadsIsolate}).Draw(t, "threads")
		guest.EmulatorThreads = rapid.SampledFrom([]string{"", numa.EmulatorShare, numa.EmulatorIsolate}).Draw(t, "emulator")
	}
	page := rapid.SampledFrom([]int{0, numa.PageSmall, numa.PageLarge, numa.PageAny, 4, 2048}).Draw(t, "page")
	vcpu := 0
	for id := range rapid.IntRange(1, 4).Draw(t, "guest cells") {
		cell := numa.GuestCell{ID: id, CPUPolicy: policy, ThreadPolicy: threadPolicy, PageKiB: page,
			MemoryMiB: 128 * rapid.IntRange(1, 4).Draw(t, "memory")}
		for range rapid.IntRange(1, 3).Draw(t, "vCPUs") {
			dedicated := policy == numa.PolicyDedicated || policy == numa.PolicyMixed && rapid.Bool().Draw(t, "dedicated")
			if dedicated {
				cell.Dedicated.Add(vcpu)
			} else {
				cell.Shared.Add(vcpu)
			}
			vcpu++
		}
		guest.Cells = append(guest.Cells, cell)
	}
	return guest
}

// someDevices are free devices by cell, of which the guest wants so many in the cells that it gets.
type someDevices struct {
	byCell map[int]int
	wanted int
}

func (d someDevices) Wanted() bool                  { return d.wanted > 0 }
func (d someDevices) InCell(id int) int             { return d.byCell[id] }
func (d someDevices) Short([]*numa.HostCell) string { return "" }

func (d someDevices) Satisfied(cells []*numa.HostCell) bool {
	n := 0
	for _, c := range cells {
		n += d.byCell[c.ID]
	}
	return n >= d.wanted
}

func drawOptions(t *rapid.T, host numa.Host) numa.Options {
	opt := numa.Options{Pack: rapid.Bool().Draw(t, "pack")}
	if rapid.Bool().Draw(t, "limits") {
		opt.Limits = &numa.Limits{CPURatio: 1.5, RAMRatio: 1}
		if rapid.Bool().Draw(t, "network") {
			opt.Limits.Network.Physnets = []string{"net"}
			for i := range host.Cells {
				if rapid.Bool().Draw(t, "reaches") {
					host.Cells[i].Network.Physnets = []string{"net"}
				}
			}
		}
	}
	if rapid.Bool().Draw(t, "pci") {
		d := someDevices{map[int]int{}, rapid.IntRange(0, 3).Draw(t, "wanted")}
		for _, c := range host.Cells {
			d.byCell[c.ID] = rapid.IntRange(0, 2).Draw(t, "devices")
		}
		opt.PCI = d
	}
	return opt
}

// TestFitIsTheFirstOfAllSelections compares Fit with the walk over all ordered selections of host cells that
// Nova makes: three stable sorts, then the first selection that works.
func TestFitIsTheFirstOfAllSelections(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		host, guest := drawHost(t), drawGuest(t)
		opt := drawOptions(t, host)
		want, wantOK := firstSelection(host, guest, opt)
		got, ok := numa.Fit(host, guest, opt)
		if ok != wantOK || !reflect.DeepEqual(got, want) {
			t.Fatalf("Fit: %v %+v\nwalk: %v %+v", ok, got, wantOK, want)
		}
		if e := numa.Diagnose(host, guest, opt); (e == nil) != ok {
			t.Fatalf("Fit says %v, the diagnosis %v", ok, e)
		}
	})
}

func firstSelection(host numa.Host, guest numa.Guest, opt numa.Options) (numa.Guest, bool) {
	cells := slices.Clone(host.Cells)
	if len(guest.Cells) < len(cells) {
		sortAsNova(cells, guest, opt)
	}
	var walk func(chosen []int) (numa.Guest, bool)
	walk = func(chosen []int) (numa.Guest, bool) {
		if len(chosen) == len(guest.Cells) {
			return selection(cells, guest, opt, chosen)
		}
		for j := range cells {
			if !slices.Contains(chosen, j) {
				if placed, ok := walk(append(slices.Clone(chosen), j)); ok {
					return placed, true
				}
			}
		}
		return numa.Guest{}, false
	}
	return walk(nil)
}

func sortAsNova(cells []numa.HostCell, guest numa.Guest, opt numa.Options) {
	sign := -1
	if opt.Pack {
		sign = 1
	}
	slices.SortStableFunc(cells, func(a, b numa.HostCell) int { return sign * (a.FreeMiB() - b.FreeMiB()) })
	if p := guest.Cells[0].CPUPolicy; p == numa.PolicyDedicated || p == numa.PolicyMixed {
		slices.SortStableFunc(cells, func(a, b numa.HostCell) int { return sign * (a.FreePCPUs().Len() - b.FreePCPUs().Len()) })
	} else {
		slices.SortStableFunc(cells, func(a, b numa.HostCell) int { return -sign * (a.CPUUsage - b.CPUUsage) })
	}
	if opt.PCI != nil {
		sign = 1
		if opt.PCI.Wanted() {
			sign = -1
		}
		slices.SortStableFunc(cells, func(a, b numa.HostCell) int { return sign * (opt.PCI.InCell(a.ID) - opt.PCI.InCell(b.ID)) })
	}
}

// selection tries one selection: each guest cell alone on a host of one cell, then the conditions on the set.
func selection(cells []numa.HostCell, guest numa.Guest, opt numa.Options, chosen []int) (numa.Guest, bool) {
	placed := numa.Guest{EmulatorThreads: guest.EmulatorThreads}
	set := []*numa.HostCell{}
	alone := opt
	alone.PCI = nil
	if opt.Limits != nil {
		alone.Limits = &numa.Limits{CPURatio: opt.Limits.CPURatio, RAMRatio: opt.Limits.RAMRatio}
	}
	for i, j := range chosen {
		one := numa.Guest{Cells: guest.Cells[i : i+1]}
		if i == 0 {
			one.EmulatorThreads = guest.EmulatorThreads // whose threads are with the first cell
		}
		got, ok := numa.Fit(numa.Host{Cells: cells[j : j+1]}, one, alone)
		if !ok {
			return numa.Guest{}, false
		}
		placed.Cells, set = append(placed.Cells, got.Cells[0]), append(set, &cells[j])
	}
	if opt.PCI != nil && !opt.PCI.Satisfied(set) {
		return numa.Guest{}, false
	}
	if opt.Limits != nil && opt.Limits.Network.Needs() {
		reaches := func(c numa.HostCell) bool { return len(c.Network.Physnets) > 0 }
		chosenReach := slices.ContainsFunc(set, func(c *numa.HostCell) bool { return reaches(*c) })
		if slices.ContainsFunc(cells, reaches) && !chosenReach {
			return numa.Guest{}, false
		}
	}
	return placed, true
}

// TestPlaceAndFree plays a random life of guests on a host: never more is in use than there is, and when
// all are gone the host is as it was.
func TestPlaceAndFree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := drawHost(t)
		host := start
		var there []numa.Guest
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			if len(there) > 0 && rapid.IntRange(0, 2).Draw(t, "leave") == 0 {
				i := rapid.IntRange(0, len(there)-1).Draw(t, "who")
				host = mustAccount(t, numa.Free, host, there[i])
				there = slices.Delete(there, i, i+1)
				continue
			}
			placed, ok := numa.Fit(host, drawGuest(t), numa.Options{Limits: &numa.Limits{CPURatio: 2, RAMRatio: 1}})
			if ok {
				host = mustAccount(t, numa.Place, host, placed)
				there = append(there, placed)
			}
			checkUse(t, start, host, there)
		}
		for _, g := range rapid.Permutation(there).Draw(t, "order of leaving") {
			host = mustAccount(t, numa.Free, host, g)
		}
		if !reflect.DeepEqual(host, start) {
			t.Fatalf("after all have left: %+v\nat the start: %+v", host, start)
		}
	})
}

func mustAccount(t *rapid.T, account func(numa.Host, numa.Guest) (numa.Host, error), host numa.Host, g numa.Guest) numa.Host {
	after, err := account(host, g)
	if err != nil {
		t.Fatal(err)
	}
	return after
}

// checkUse wants that no more is in use than there is, and that pCPUs are in use by exactly those who have them.
func checkUse(t *rapid.T, start, host numa.Host, there []numa.Guest) {
	pins := map[int]int{}
	for _, g := range there {
		for _, c := range g.Cells {
			pins[c.ID] += len(c.Pins) + c.Reserved.Len()
			if c.ThreadPolicy == numa.ThreadsIsolate && !c.Dedicated.Empty() {
				pins[c.ID] = -1 << 30 // siblings are blocked too: not counted here
			}
		}
	}
	for i, c := range host.Cells {
		if !c.Pinned.SubsetOf(c.Dedicated) {
			t.Fatalf("cell %d: pinned %v, of %v", c.ID, c.Pinned, c.Dedicated)
		}
		if got := c.Pinned.Len() - start.Cells[i].Pinned.Len(); pins[c.ID] >= 0 && got != pins[c.ID] {
			t.Fatalf("cell %d: %d pCPUs in use, %d pins", c.ID, got, pins[c.ID])
		}
		for _, p := range c.Pages {
			if p.SizeKiB > 4 && p.Free() < 0 {
				t.Fatalf("cell %d: %+v oversold", c.ID, p)
			}
		}
	}
}

// TestOrderOfClaims applies the claims of guests that are there together in another order: the sum is the
// same.
func TestOrderOfClaims(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := drawHost(t)
		host := start
		var there []numa.Guest
		for range rapid.IntRange(1, 6).Draw(t, "guests") {
			if placed, ok := numa.Fit(host, drawGuest(t), numa.Options{}); ok {
				host = mustAccount(t, numa.Place, host, placed)
				there = append(there, placed)
			}
		}
		other := start
		for _, g := range rapid.Permutation(there).Draw(t, "order") {
			other = mustAccount(t, numa.Place, other, g)
		}
		if !reflect.DeepEqual(host, other) {
			t.Fatalf("in another order: %+v\nfirst: %+v", other, host)
		}
	})
}

// TestPlaceRefuses gives one pCPU to two guests, and frees what is not there.
func TestPlaceRefuses(t *testing.T) {
	host := twoCells(0)
	guest := numa.Guest{Cells: []numa.GuestCell{{ID: 1, MemoryMiB: 1, Pins: []numa.Pin{{VCPU: 0, PCPU: 9}}}}}
	used, err := numa.Place(host, guest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := numa.Place(used, guest); fmt.Sprint(err) != "host NUMA cell 1: pCPU 9: already pinned" {
		t.Errorf("placed twice: %v", err)
	}
	if _, err := numa.Free(host, guest); fmt.Sprint(err) != "host NUMA cell 1: pCPU 9: not pinned" {
		t.Errorf("freed from an empty host: %v", err)
	}
	guest.Cells[0].Pins[0].PCPU = 3
	if _, err := numa.Place(host, guest); fmt.Sprint(err) != "host NUMA cell 1: pCPU 3: not in the dedicated set" {
		t.Errorf("placed on another cell's pCPU: %v", err)
	}
	if !reflect.DeepEqual(host, twoCells(0)) {
		t.Error("a refused claim has changed the host")
	}
}
