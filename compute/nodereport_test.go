package compute

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"compute-agent/internal/cpuset"
	"compute-agent/internal/golden"
	"compute-agent/numa"
	"compute-agent/pci"
	"compute-agent/virt"
)

// TestReport describes a host of two cells, of which one has huge pages, with a pinned server on it, one that floats
// and one that could not be built.
func TestReport(t *testing.T) {
	shared, dedicated := cpuset.Of(0, 1), cpuset.Range(2, 7)
	c := Capacity{
		ReservedHostMemoryMiB: 512, ReservedHostDiskMiB: 1500,
		NUMA: numa.Config{SharedSet: &shared, DedicatedSet: &dedicated, Reserved: map[int]map[int]int{0: {2048: 8}}},
	}
	pinned, floats, failed := specServer(), specServer(), specServer()
	pinned.ID, pinned.VM = "pinned", Active
	floats.ID, floats.VM, floats.Task = "floats", Stopped, TaskPoweringOn
	failed.ID, failed.VM = "failed", Error
	report, err := c.Report(NodeFacts{
		ID: "0c0ffee0-1234-4567-89ab-000000000000", Host: reportedHost(), Storage: Storage{TotalBytes: 100 << 30, FreeBytes: 60 << 30},
		Servers: []Server{pinned, floats, failed},
		Claims: []Claim{
			{ServerID: "pinned", VCPUs: 2, MemoryMiB: 512, DiskGiB: 5, NUMA: &numa.Guest{EmulatorThreads: numa.EmulatorIsolate, Cells: []numa.GuestCell{{
				Dedicated: cpuset.Of(0, 1), MemoryMiB: 512, PageKiB: 2048, CPUPolicy: numa.PolicyDedicated,
				Pins: []numa.Pin{{VCPU: 0, PCPU: 2}, {VCPU: 1, PCPU: 4}}, Reserved: cpuset.Of(6),
			}}}},
			{ServerID: "floats", VCPUs: 2, MemoryMiB: 512, DiskGiB: 5},
		},
		Guests: []virt.Guest{{ID: "pinned", Disks: []virt.DiskStats{{CapacityBytes: 5 << 30, AllocatedBytes: 1 << 30}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	if err := enc.Encode(report); err != nil {
		t.Fatal(err)
	}
	for _, line := range report.ComputeNode.CellLines() {
		out.WriteString(line + "\n")
	}
	golden.Assert(t, "testdata/node_report.golden", out.String())
}

// reportedHost has two cells of two cores with two threads.
func reportedHost() virt.Host {
	h := virt.Host{
		Hostname: "node1", Hypervisor: "QEMU", HypervisorVersion: 7002022, Arch: "x86_64", CPUs: 8, MemoryMiB: 8192,
		CPU:       virt.HostCPU{Model: "Broadwell", Vendor: "Intel", Sockets: 2, Cores: 2, Threads: 2, Features: []string{"aes", "pni", "unheard-of", "vmx"}},
		VirtType:  "kvm",
		Supported: []virt.GuestKind{{Arch: "x86_64", VirtType: "qemu", OSType: "hvm"}, {Arch: "x86_64", VirtType: "kvm", OSType: "hvm"}},
		Capabilities: []virt.Capabilities{{
			Arch: "x86_64", VirtType: "kvm", Machine: "pc-q35-7.2", Firmware: virt.Offer{}, DiskBuses: virt.Offer{"virtio"}, DiskDevices: virt.Offer{"disk"},
			VideoModels: virt.Offer{"vga"}, TPMModels: virt.Offer{},
		}},
	}
	for id, siblings := range [][]cpuset.Set{{cpuset.Of(0, 4), cpuset.Of(2, 6)}, {cpuset.Of(1, 5), cpuset.Of(3, 7)}} {
		cell := virt.Cell{ID: id, MemoryKiB: 4 << 20, Pages: map[int]int{4: 1 << 20}, Distances: map[int]int{0: 20, 1: 20}}
		cell.Distances[id] = 10
		for _, core := range siblings {
			for cpu := range core.All {
				cell.CPUs = append(cell.CPUs, virt.CellCPU{ID: cpu, Socket: id, Siblings: core})
			}
		}
		h.Cells = append(h.Cells, cell)
	}
	h.Cells[0].Pages = map[int]int{4: 1 << 19, 2048: 1024}
	return h
}

// TestReportOfDevices describes a host with PCI devices: free ones in pools, in use, gone, and those that placement is told
// of; and a server that is being resized.
func TestReportOfDevices(t *testing.T) {
	l := movingLedger(t)
	c := Capacity{PCI: l.capacity.PCI}
	specs, err := pci.ParseSpecs([]string{
		`{"address": "0000:3b:02.*", "physical_network": "left", "resource_class": "vf", "traits": "HW_NIC_SRIOV"}`,
		`{"vendor_id": "10de", "product_id": "20b5", "traits": "big gpu"}`, `{"vendor_id": "10de"}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.PCI.Specs = specs
	device := func(address, vendor, product string, node int) virt.HostPCI {
		return virt.HostPCI{Address: address, VendorID: vendor, ProductID: product, Class: 0x020000, Node: node}
	}
	whole, part, other := device("0000:3b:00.0", "8086", "1572", 0), device("0000:3b:02.0", "8086", "154c", 0), device("0000:3b:02.1", "8086", "154c", 0)
	whole.MaxVFs, part.Parent, other.Parent = 2, whole.Address, whole.Address
	claimed := func(address string) []ClaimedDevice {
		a, err := pci.ParseAddress(address)
		if err != nil {
			t.Fatal(err)
		}
		return []ClaimedDevice{{Device: pci.Device{Address: a, VendorID: "10de", ProductID: "20b5", Type: pci.TypePCI}, Alias: "gpu", Managed: true}}
	}
	server := specServer()
	server.ID, server.VM = "resized", Active
	report, err := c.Report(NodeFacts{
		Host: reportedHost(), Storage: Storage{TotalBytes: 100 << 30}, Servers: []Server{server},
		Devices: []virt.HostPCI{whole, part, other, device("0000:81:00.0", "10de", "20b5", -1), device("0000:82:00.0", "10de", "20b5", 1), device("0000:83:00.0", "10de", "1db4", 1)},
		Claims: []Claim{
			{ServerID: "resized", VCPUs: 1, MemoryMiB: 512, DiskGiB: 5, PCI: claimed("0000:81:00.0")},
			{ServerID: "resized", Kind: ClaimResize, VCPUs: 2, MemoryMiB: 1024, DiskGiB: 5, PCI: claimed("0000:84:00.0")},
		},
		Owners: map[string][]string{"resized": {"0000:81:00.0"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	n := report.ComputeNode
	if n.VCPUsUsed != 3 || n.MemoryMiBUsed != 1536 || n.DiskGiBUsed != 10 || n.RunningVMs != 1 {
		t.Errorf("both claims are not counted: %d vCPUs, %d MiB, %d GiB, %d servers", n.VCPUsUsed, n.MemoryMiBUsed, n.DiskGiBUsed, n.RunningVMs)
	}
	text, err := json.MarshalIndent(map[string]any{"pci_device_pools": n.PCIPools, "device_providers": report.DeviceProviders}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Assert(t, "testdata/node_devices.golden", string(text)+"\n"+strings.Join(n.DeviceLines(), "\n")+"\n")
}

// TestHostsThatCannotBePlacedOn: without cells a host takes servers that ask for none, and no others.
func TestHostsThatCannotBePlacedOn(t *testing.T) {
	lies := reportedHost()
	lies.Cells[1].CPUs = lies.Cells[0].CPUs // each CPU in two cells
	silent := reportedHost()
	silent.Cells = nil
	for name, host := range map[string]virt.Host{"contradicts itself": lies, "does not tell": silent} {
		l := newLedger(Capacity{})
		size, err := l.capacity.measure(host, Storage{TotalBytes: 1 << 30})
		if (name == "contradicts itself") != (err != nil) {
			t.Errorf("%s: error %v", name, err)
		}
		l.size(size)
		if _, err := l.take(Claim{ServerID: "plain", VCPUs: 1, MemoryMiB: 1}, numa.Request{VCPUs: 1, MemoryMiB: 1}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, err = l.take(Claim{ServerID: "cells", VCPUs: 1, MemoryMiB: 1}, numa.Request{VCPUs: 1, MemoryMiB: 1, ExtraSpecs: map[string]string{"hw:numa_nodes": "1"}})
		if err == nil {
			t.Errorf("%s: a server got a place", name)
		}
	}
}
