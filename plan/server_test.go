package plan

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"compute-agent/compute"
	"compute-agent/guest"
	"compute-agent/internal/cpuset"
	"compute-agent/internal/golden"
	"compute-agent/numa"
	"compute-agent/plan/domaindiff"
	"compute-agent/virt"
)

// planHost has two cells of four cores with two threads each, and huge pages.
func planHost() virt.Host {
	h := virt.Host{
		Hostname: "host1", Hypervisor: "QEMU", HypervisorVersion: 7002000, LibraryVersion: 9000000, VirtType: "kvm", Arch: "x86_64",
		Emulator: "/usr/bin/qemu-system-x86_64", CPUs: 16, MemoryMiB: 32768, FreeMemoryMiB: 30000,
		CPU:       virt.HostCPU{Model: "EPYC", Vendor: "AMD", Sockets: 1, Cores: 8, Threads: 2},
		Supported: []virt.GuestKind{{Arch: "x86_64", VirtType: "kvm", OSType: "hvm"}},
	}
	for id := range 2 {
		cell := virt.Cell{ID: id, MemoryKiB: 16 << 20, Pages: map[int]int{4: 2 << 20, 2048: 4096}, Distances: map[int]int{id: 10, 1 - id: 20}}
		for cpu := id * 8; cpu < id*8+8; cpu++ {
			cell.CPUs = append(cell.CPUs, virt.CellCPU{ID: cpu, Siblings: cpuset.Range(cpu&^1, cpu|1)})
		}
		h.Cells = append(h.Cells, cell)
	}
	return h
}

func planFacts() compute.NodeFacts {
	return compute.NodeFacts{ID: "9f1e6f0a-6d9c-4d6c-8b0e-2f6a9a1c0001", Host: planHost(),
		Storage: compute.Storage{TotalBytes: 100 << 30, FreeBytes: 80 << 30, DirectIO: true}}
}

func planCapacity() compute.Capacity {
	shared, dedicated := cpuset.Of(0, 1, 8, 9), cpuset.Range(2, 7).Union(cpuset.Range(10, 15))
	return compute.Capacity{NUMA: numa.Config{SharedSet: &shared, DedicatedSet: &dedicated}, ReservedHostMemoryMiB: compute.DefaultReservedMemoryMiB}
}

func planOutlook() compute.Outlook {
	return compute.Outlook{Dir: "/var/lib/compute-agent/instances", ImageDir: "/var/lib/compute-agent/images", Version: "1.0",
		Guests: compute.GuestOptions{Options: guest.Options{VNC: "127.0.0.1", StatsPeriod: 10 * time.Second, AppendConsoleLog: true}}}
}

func planOf(t *testing.T, file string, capacity compute.Capacity) ServerPlan {
	t.Helper()
	f, err := ReadServerFile(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	proposal, err := f.Proposal(nil)
	if err != nil {
		t.Fatal(err)
	}
	forecast, err := capacity.Forecast(planFacts(), planOutlook(), proposal)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Server(forecast)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestServerExamples plans the examples that come with the program, on a host that is always the same.
func TestServerExamples(t *testing.T) {
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d examples: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			example, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := planOf(t, string(example), planCapacity())
			if !p.Accepted {
				t.Errorf("refused: %s", p.Refused)
			}
			text, domain, _ := strings.Cut(written(t, p, false), "Domain that libvirt would define\n")
			golden.Assert(t, "testdata/server/"+name+".txt", text)
			if parseDomain(t, domain)["uuid"][0].Text != p.ID {
				t.Errorf("the domain is another's:\n%s", domain)
			}
		})
	}
}

func written(t *testing.T, p ServerPlan, asJSON bool) string {
	t.Helper()
	var b strings.Builder
	write := p.WriteText
	if asJSON {
		write = p.WriteJSON
	}
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func parseDomain(t *testing.T, xml string) domaindiff.Domain {
	t.Helper()
	d, err := domaindiff.Parse(xml)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const smallServer = `{"name": "s", "flavor": {"vcpus": 1, "ram": 512, "disk": 1}, "image": {"name": "i"}}`

func TestServerPlanAsJSON(t *testing.T) {
	p := planOf(t, smallServer, planCapacity())
	parseDomain(t, p.Domain)
	p.Domain = "<domain/>" // the renderer has golden files of its own
	golden.Assert(t, "testdata/server/small.json", written(t, p, true))
}

func TestServerPlanRefusals(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"no room in the cells": {
			`{name: s, flavor: {vcpus: 14, ram: 512, disk: 1, extra_specs: {hw:cpu_policy: dedicated}}, image: {name: i}}`, "the guest's cells do not fit"},
		"no room for memory":   {`{name: s, flavor: {vcpus: 1, ram: 100000, disk: 1}, image: {name: i}}`, "100000 MiB asked"},
		"no name":              {`{flavor: {vcpus: 1, ram: 512, disk: 1}, image: {name: i}}`, "name: it has 0 characters"},
		"a bad policy":         {`{name: s, flavor: {vcpus: 1, ram: 512, disk: 1, extra_specs: {hw:cpu_policy: all}}, image: {name: i}}`, "hw:cpu_policy"},
		"a small disk":         {`{name: s, flavor: {vcpus: 1, ram: 512, disk: 1}, image: {name: i, min_disk: 2}}`, "min_disk of 2 GiB"},
		"no such drive's bus":  {`{name: s, flavor: {vcpus: 1, ram: 512, disk: 1}, image: {name: i, properties: {hw_disk_bus: lava}}}`, "hw_disk_bus"},
		"a machine of no form": {`{name: s, flavor: {vcpus: 1, ram: 512, disk: 1}, image: {name: i, properties: {hw_machine_type: a b}}}`, "hw_machine_type"},
	} {
		t.Run(name, func(t *testing.T) {
			p := planOf(t, c.file, planCapacity())
			if p.Accepted || !strings.Contains(p.Refused, c.want) || p.Domain != "" {
				t.Errorf("accepted %v, %q, want %q", p.Accepted, p.Refused, c.want)
			}
			if text := written(t, p, false); !strings.Contains(text, "Validation: refused") || strings.Contains(text, "Domain") {
				t.Error(text)
			}
		})
	}
}

// TestRefusedCellsClaimNoOrdinaryMemory asks for more huge pages than there are: whether its memory would have been in
// huge pages or its vCPUs pinned nobody can say, so that nothing is said of the rows that depend on it.
func TestRefusedCellsClaimNoOrdinaryMemory(t *testing.T) {
	p := planOf(t, `{name: s, flavor: {vcpus: 2, ram: 30000, disk: 1, extra_specs: {hw:mem_page_size: 2MB, hw:cpu_policy: dedicated}}, image: {name: i}}`, planCapacity())
	var rows []string
	for _, c := range p.Claim {
		rows = append(rows, c.Resource)
	}
	if want := []string{"memory", "disk"}; p.Accepted || !slices.Equal(rows, want) {
		t.Errorf("accepted %v with rows %q, want %q", p.Accepted, rows, want)
	}
}

func TestReadServerFileRefuses(t *testing.T) {
	for name, file := range map[string]string{
		"nothing":                 "",
		"no flavor":               "{name: s, image: {name: i}}",
		"no image":                "{name: s, flavor: small}",
		"an unknown key":          "{name: s, flavor: small, image: i, vcpus: 1}",
		"an unknown flavor key":   "{name: s, flavor: {vpcus: 1}, image: i}",
		"an unknown image key":    "{name: s, flavor: small, image: {formt: raw}}",
		"no address":              "{name: s, flavor: small, image: i, ports: [{fixed_ips: [1.2.3]}]}",
		"no form that there is":   "- a",
		"a flavor that is a list": "{name: s, flavor: [1], image: i}",
	} {
		if _, err := ReadServerFile(strings.NewReader(file)); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	f, err := ReadServerFile(strings.NewReader("{name: s, flavor: small, image: {name: i}}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Proposal(nil); err == nil {
		t.Error("a flavor that nobody knows was found")
	}
}

// known is what an agent knows.
type known struct{ compute.Reader }

func (known) Flavors() ([]compute.Flavor, error) {
	return []compute.Flavor{{ID: "1", Name: "tiny"}, {ID: "2", Name: "small", VCPUs: 3}}, nil
}

func (known) Images() ([]compute.Image, error) {
	return []compute.Image{{ID: "9f1e6f0a-6d9c-4d6c-8b0e-2f6a9a1c0009", Name: "cirros", DiskFormat: "raw"}}, nil
}

func TestServerFileNames(t *testing.T) {
	for _, names := range []string{"{name: s, flavor: small, image: cirros}", "{name: s, flavor: 2, image: 9f1e6f0a-6d9c-4d6c-8b0e-2f6a9a1c0009}"} {
		f, err := ReadServerFile(strings.NewReader(names))
		if err != nil {
			t.Fatal(err)
		}
		p, err := f.Proposal(known{})
		if err != nil || p.Flavor.VCPUs != 3 || p.Image.DiskFormat != "raw" {
			t.Errorf("%s: %+v, %v", names, p, err)
		}
	}
}

func TestCommandLine(t *testing.T) {
	if got := commandLine([]string{"a", "b c", "it's", "", "x=1"}); got != `a 'b c' 'it'\''s' '' x=1` {
		t.Error(got)
	}
}
