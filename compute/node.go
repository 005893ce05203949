package compute

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"compute-agent/virt"
)

// Node tells of the host: what it has, and what servers claim of it. When the hypervisor does not
// answer it is what was known before, with Up false.
func (m *Manager) Node(ctx context.Context) (Node, error) {
	servers, err := m.Servers(ctx)
	if err != nil {
		return Node{}, err
	}
	host, storage, hostErr := m.learnHost()
	guests, guestsErr := m.listGuests()
	up := hostErr == nil && guestsErr == nil
	if hostErr != nil {
		m.mu.Lock()
		host, storage = m.host, m.storage
		m.mu.Unlock()
	}
	b, c := m.ledger.balance(), m.ledger.capacity
	n := Node{
		ID: m.opt.NodeID, Host: host, Started: m.started, Up: up,
		CPUs: b.host.vcpus, CPUsUsed: b.sum.VCPUs + c.ReservedHostCPUs,
		MemoryMiB: b.host.memoryMiB, MemoryMiBUsed: b.sum.MemoryMiB + c.ReservedHostMemoryMiB,
		DiskGiB: b.host.diskGiB, DiskGiBUsed: b.sum.DiskGiB + c.ReservedHostDiskMiB/1024, DiskGiBFree: availableLeast(storage, guests),
		Servers:            len(servers),
		CPUAllocationRatio: c.CPUAllocationRatio, RAMAllocationRatio: c.RAMAllocationRatio, DiskAllocationRatio: c.DiskAllocationRatio,
	}
	for _, g := range guests {
		if g.State == virt.PowerRunning {
			n.RunningServers++
		}
	}
	return n, nil
}

// Up tells whether the hypervisor answered when it was last spoken to. Unlike Node it asks nothing.
func (m *Manager) Up() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.lost
}

func (m *Manager) setLost(lost bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = lost
}

func (m *Manager) listGuests() ([]virt.Guest, error) {
	ctx, cancel := m.call()
	defer cancel()
	return m.driver.Guests(ctx)
}

// LoadNodeID returns the host's UUID from the file compute_id in the state directory. The first call
// makes it; it stays for as long as the directory, as Nova's file of that name does.
func LoadNodeID(stateDir string) (string, error) {
	path := filepath.Join(stateDir, "compute_id")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeNodeID(path)
	}
	if err != nil {
		return "", fmt.Errorf("read the node's ID: %w", err)
	}
	id, err := uuid.Parse(strings.TrimSpace(string(text)))
	if err != nil {
		return "", fmt.Errorf("read the node's ID from %s: %w", path, err)
	}
	return id.String(), nil
}

// makeNodeID writes beside path and renames, so that a half-written file is never read.
func makeNodeID(path string) (string, error) {
	id := uuid.NewString()
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(id+"\n"), 0o644); err != nil {
		return "", fmt.Errorf("make the node's ID: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return "", fmt.Errorf("make the node's ID: %w", err)
	}
	return id, nil
}
