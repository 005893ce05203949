package inside

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"libvirt.org/go/libvirtxml"

	"compute-agent/internal/cpuset"
)

// Virsh runs virsh and returns what it says.
func Virsh(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("virsh", append([]string{"-q", "-c", "qemu:///system"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("virsh %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// Domain is `virsh dumpxml`.
func Domain(t testing.TB, name string) libvirtxml.Domain {
	t.Helper()
	var d libvirtxml.Domain
	if err := d.Unmarshal(Virsh(t, "dumpxml", name)); err != nil {
		t.Fatal(err)
	}
	return d
}

// VCPUPins is `virsh vcpupin`: the CPUs that each vCPU may run on.
func VCPUPins(t testing.TB, name string) []string {
	t.Helper()
	var pins []string
	for line := range strings.Lines(Virsh(t, "vcpupin", name)) {
		f := strings.Fields(line)
		if len(f) != 2 || f[0] != strconv.Itoa(len(pins)) {
			t.Fatalf("virsh vcpupin: line %q", line)
		}
		pins = append(pins, f[1])
	}
	return pins
}

// EmulatorPin is `virsh emulatorpin`: the CPUs of QEMU's other threads.
func EmulatorPin(t testing.TB, name string) string {
	t.Helper()
	f := strings.Fields(Virsh(t, "emulatorpin", name)) // "* 0-3"; quiet ones leave the star out
	if len(f) == 0 {
		t.Fatal("virsh emulatorpin says nothing")
	}
	return f[len(f)-1]
}

// Process is the guest's QEMU.
func Process(t testing.TB, name string) int {
	t.Helper()
	text, err := os.ReadFile("/run/libvirt/qemu/" + name + ".pid")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

var vcpuThread = regexp.MustCompile(`^CPU (\d+)/`)

// Affinities is what the kernel says of QEMU's threads: the CPUs of each vCPU by its number, and of
// the main thread.
func Affinities(t testing.TB, pid int) (vcpus map[int]string, main string) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads of process %d: %v", pid, err)
	}
	vcpus = map[int]string{}
	for _, task := range tasks {
		comm, err := os.ReadFile(task + "/comm")
		if err != nil {
			continue // QEMU's workers come and go
		}
		if m := vcpuThread.FindStringSubmatch(string(comm)); m != nil {
			vcpu, _ := strconv.Atoi(m[1]) // only digits
			vcpus[vcpu] = allowed(t, task)
		}
	}
	return vcpus, allowed(t, fmt.Sprintf("/proc/%d", pid))
}

func allowed(t testing.TB, task string) string {
	t.Helper()
	status, err := os.ReadFile(task + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(status), "Cpus_allowed_list:")
	if !found {
		t.Fatalf("%s/status has no Cpus_allowed_list", task)
	}
	return strings.Fields(rest)[0]
}

// Memory is a mapping of a process, a line of /proc/PID/numa_maps.
type Memory struct {
	Policy  string      // "default", "bind:0"
	File    string      // empty for none
	Huge    bool        // on huge pages
	PageKiB int         // size of the pages below
	Pages   map[int]int // by the node that they are on
}

// Memories are the mappings of a process.
func Memories(t testing.TB, pid int) []Memory {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/numa_maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	var list []Memory
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		m := Memory{Policy: f[1], Pages: map[int]int{}}
		for _, word := range f[2:] {
			key, value, _ := strings.Cut(word, "=")
			number, _ := strconv.Atoi(value)
			switch {
			case key == "file":
				m.File = value
			case key == "huge":
				m.Huge = true
			case key == "kernelpagesize_kB":
				m.PageKiB = number
			case nodeCount.MatchString(key):
				node, _ := strconv.Atoi(key[1:])
				m.Pages[node] = number
			}
		}
		list = append(list, m)
	}
	return list
}

var nodeCount = regexp.MustCompile(`^N\d+$`)

// FreeHugePages is the number of unused pages of 2 MiB on each node.
func FreeHugePages(t testing.TB) []int {
	t.Helper()
	files, _ := filepath.Glob("/sys/devices/system/node/node*/hugepages/hugepages-2048kB/free_hugepages") // well-formed
	var free []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		free = append(free, n)
	}
	return free
}

// CPUs parses a list of CPUs, or of nodes, as the kernel and libvirt write them.
func CPUs(t testing.TB, list string) cpuset.Set {
	t.Helper()
	set, err := cpuset.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return set
}
