//go:build lab

package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// nvmet is the kernel's NVMe target, as configfs has it (drivers/nvme/target/configfs.c).
const nvmet = "/sys/kernel/config/nvmet"

// nvmePorts are where the target of these tests listens.
var nvmePorts = []string{"127.0.2.2", "127.0.2.3"}

const nvmePort = 4420

// nvmeTarget is an NVMe target with two ports over TCP. What it makes is gone when the test ends.
type nvmeTarget struct {
	t     testing.TB
	first int // of its ports' numbers
}

func newNVMeTarget(t testing.TB) *nvmeTarget {
	t.Helper()
	for _, module := range []string{"nvmet_tcp", "nvme_tcp"} {
		run(t, "modprobe", module)
	}
	g := &nvmeTarget{t: t, first: 420}
	for i, address := range nvmePorts {
		g.addPort(g.first+i, address)
	}
	return g
}

func (g *nvmeTarget) port(i int) string {
	return filepath.Join(nvmet, "ports", strconv.Itoa(g.first+i))
}

func (g *nvmeTarget) addPort(number int, address string) {
	dir := filepath.Join(nvmet, "ports", strconv.Itoa(number))
	g.mkdir(dir)
	for file, value := range map[string]string{"addr_trtype": "tcp", "addr_adrfam": "ipv4", "addr_traddr": address, "addr_trsvcid": strconv.Itoa(nvmePort)} {
		put(g.t, filepath.Join(dir, file), value)
	}
}

// mkdir makes a directory of configfs, which its removal at the test's end takes away with what it stands for.
func (g *nvmeTarget) mkdir(dir string) {
	g.t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { remove(g.t, dir) })
}

// subsystem makes a subsystem that any host may use, without namespaces, and shows it on both ports.
func (g *nvmeTarget) subsystem(nqn string) string {
	g.t.Helper()
	dir := filepath.Join(nvmet, "subsystems", nqn)
	g.mkdir(dir)
	put(g.t, filepath.Join(dir, "attr_allow_any_host"), "1")
	for i := range nvmePorts {
		g.show(i, nqn)
		g.t.Cleanup(func() { remove(g.t, g.link(i, nqn)) })
	}
	return dir
}

func (g *nvmeTarget) link(port int, nqn string) string {
	return filepath.Join(g.port(port), "subsystems", nqn)
}

// show makes a port offer a subsystem; hide takes it away, with the connections that there are.
func (g *nvmeTarget) show(port int, nqn string) {
	g.t.Helper()
	link(g.t, filepath.Join(nvmet, "subsystems", nqn), g.link(port, nqn))
}

func (g *nvmeTarget) hide(port int, nqn string) { remove(g.t, g.link(port, nqn)) }

// nvmeSpace is a file that a subsystem offers.
type nvmeSpace struct {
	dir, file string
}

// namespace makes an enabled namespace of a new sparse file.
func (g *nvmeTarget) namespace(nqn string, nsid int, uuid string, size int64) nvmeSpace {
	g.t.Helper()
	n := nvmeSpace{filepath.Join(nvmet, "subsystems", nqn, "namespaces", strconv.Itoa(nsid)), filepath.Join(g.t.TempDir(), "ns")}
	if err := errors.Join(os.WriteFile(n.file, nil, 0o600), os.Truncate(n.file, size)); err != nil {
		g.t.Fatal(err)
	}
	g.mkdir(n.dir)
	put(g.t, filepath.Join(n.dir, "device_path"), n.file)
	put(g.t, filepath.Join(n.dir, "device_uuid"), uuid)
	put(g.t, filepath.Join(n.dir, "device_nguid"), nguidOf(uuid))
	put(g.t, filepath.Join(n.dir, "enable"), "1")
	return n
}

// become gives the namespace's number to another volume, as an array does that uses numbers again.
func (n nvmeSpace) become(t testing.TB, uuid string) {
	t.Helper()
	put(t, filepath.Join(n.dir, "enable"), "0")
	put(t, filepath.Join(n.dir, "device_uuid"), uuid)
	put(t, filepath.Join(n.dir, "enable"), "1")
}

// grow makes the namespace larger. The kernel's target looks at the file when it is told to.
func (n nvmeSpace) grow(t testing.TB, size int64) {
	t.Helper()
	if err := os.Truncate(n.file, size); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(n.dir, "revalidate_size"), "1")
}

func nvmeUUID(n int) string { return fmt.Sprintf("6e766d65-0000-4000-8000-%012d", n) }

// nguidOf is the NGUID of the namespaces here: their UUID, with other first digits.
func nguidOf(uuid string) string { return "00000001" + uuid[8:] }

// ana says how a port offers all its namespaces.
func (g *nvmeTarget) ana(port int, state string) {
	put(g.t, filepath.Join(g.port(port), "ana_groups", "1", "ana_state"), state)
}
