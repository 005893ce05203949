package compute_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"compute-agent/compute"
	"compute-agent/internal/cpuset"
	"compute-agent/numa"
	"compute-agent/pci"
	"compute-agent/store"
	"compute-agent/virt"
	"compute-agent/virt/fake"
)

const manyServers = 1000

// BenchmarkRestart1000 starts an agent on a host with 1,000 servers that run.
func BenchmarkRestart1000(b *testing.B) {
	st, driver, disks := manyGuests(b)
	for b.Loop() {
		m := startOn(b, st, driver, disks, compute.Capacity{})
		if err := m.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkList1000 lists 1,000 servers with all their details.
func BenchmarkList1000(b *testing.B) {
	st, driver, disks := manyGuests(b)
	m := startOn(b, st, driver, disks, compute.Capacity{})
	defer func() { _ = m.Close(context.Background()) }()
	for b.Loop() {
		all, err := m.Servers(b.Context())
		if err != nil || len(all) != manyServers || all[0].VM != compute.Active {
			b.Fatalf("%d servers, %v", len(all), err)
		}
	}
}

// BenchmarkAudit500Pinned compares 500 pinned servers with their claims and their guests.
func BenchmarkAudit500Pinned(b *testing.B) {
	st, driver, disks := guestsOn(b, fake.Options{Cells: fake.Cells(8, fake.CellShape{Cores: 80, Threads: 2, MemoryMiB: 1 << 17})}, 500, pinnedPlace)
	auditEach(b, startOn(b, st, driver, disks, compute.Capacity{}), driver)
}

// BenchmarkAudit500PCI is the same where each server has a PCI device of its own.
func BenchmarkAudit500PCI(b *testing.B) {
	st, driver, disks := guestsOn(b, fake.Options{Cells: fake.Cells(8, fake.CellShape{Cores: 80, Threads: 2, MemoryMiB: 1 << 17})}, 500, func(i int) compute.Claim {
		c := pinnedPlace(i)
		c.PCI = []compute.ClaimedDevice{{Device: pci.Device{Address: pci.Address{Bus: 1 + i/256, Slot: i / 8 % 32, Function: i % 8},
			VendorID: "10de", ProductID: "20b5", Type: pci.TypePCI}, Alias: "gpu", Managed: true}}
		return c
	})
	auditEach(b, startOn(b, st, driver, disks, compute.Capacity{PCI: pciConfig(b)}), driver)
}

func auditEach(b *testing.B, m *compute.Manager, driver *fake.Driver) {
	b.Helper()
	defer func() { _ = m.Close(context.Background()) }()
	if found := m.Differences(); len(found) > 0 {
		b.Fatalf("%d differences: %s", len(found), found[0])
	}
	lists := driver.Hypervisor().Calls("Guests")
	for b.Loop() {
		m.Audit()
	}
	if calls := driver.Hypervisor().Calls("Guests") - lists; calls != b.N {
		b.Errorf("%d listings of the guests for %d audits", calls, b.N)
	}
}

// pinnedPlace pins guest i to one pCPU.
func pinnedPlace(i int) compute.Claim {
	const perCell = 63
	cell := numa.GuestCell{ID: i / perCell, Dedicated: cpuset.Of(0), MemoryMiB: 64, CPUPolicy: numa.PolicyDedicated,
		Pins: []numa.Pin{{VCPU: 0, PCPU: i/perCell*160 + i%perCell}}}
	return compute.Claim{NUMA: &numa.Guest{Cells: []numa.GuestCell{cell}}}
}

func startOn(b *testing.B, st *store.Store, driver *fake.Driver, disks compute.Disks, c compute.Capacity) *compute.Manager {
	b.Helper()
	m, err := compute.New(compute.Options{Store: st, Driver: driver, Disks: disks, Capacity: c})
	if err != nil {
		b.Fatal(err)
	}
	if err := m.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	return m
}

// manyGuests is a store with servers that run, and a hypervisor with their guests.
func manyGuests(b *testing.B) (*store.Store, *fake.Driver, compute.Disks) {
	b.Helper()
	return guestsOn(b, fake.Options{CPUs: manyServers}, manyServers, func(int) compute.Claim { return compute.Claim{} })
}

// guestsOn is the same on a host, each server with the place and the devices that claim says.
func guestsOn(b *testing.B, host fake.Options, n int, claim func(i int) compute.Claim) (*store.Store, *fake.Driver, compute.Disks) {
	b.Helper()
	dir := b.TempDir()
	st, err := store.Open(filepath.Join(dir, "agent.db"))
	if err != nil {
		b.Fatal(err)
	}
	driver := fake.New(host)
	b.Cleanup(func() {
		if err := errors.Join(driver.Close(), st.Close()); err != nil {
			b.Error(err)
		}
	})
	disks, err := compute.NewFileDisks(filepath.Join(dir, "instances"), filepath.Join(dir, "images"), "", cachedPrograms)
	if err != nil {
		b.Fatal(err)
	}
	var devices []virt.HostPCI
	err = st.Update(b.Context(), func(tx compute.Writer) error {
		for i := range n {
			s, err := tx.InsertServer(compute.Server{
				ID: uuid.NewString(), Name: fmt.Sprintf("server %d", i), VM: compute.Active, Power: virt.PowerRunning,
				Flavor: compute.Flavor{ID: "1", Name: "m1.tiny", VCPUs: 1, MemoryMiB: 64}, Launched: time.Now(),
			})
			if err != nil {
				return err
			}
			spec := virt.Spec{ID: s.ID, Name: s.GuestName(), VirtType: "qemu", Arch: "x86_64", Machine: "pc", VCPUs: 1, MemoryMiB: 64,
				CPU: virt.CPU{Mode: "none", Sockets: 1, Cores: 1, Threads: 1}}
			c := claim(i)
			c.ServerID, c.VCPUs, c.MemoryMiB = s.ID, 1, 64
			for _, d := range c.PCI {
				devices = append(devices, virt.HostPCI{Address: d.Address.String(), VendorID: d.VendorID, ProductID: d.ProductID, Node: -1})
				spec.PCI = append(spec.PCI, virt.PCIDevice{Address: d.Address.String(), Managed: d.Managed})
			}
			driver.Hypervisor().SetPCI(devices...)
			err = errors.Join(tx.PutClaim(c),
				driver.Create(b.Context(), spec), driver.Start(b.Context(), s.ID))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return st, driver, disks
}
