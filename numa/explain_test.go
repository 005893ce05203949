package numa_test

import (
	"strings"
	"testing"

	"compute-agent/internal/cpuset"
	"compute-agent/numa"
)

// twoCells is a host of two cells with eight pCPUs each, of which the first taken of each cell are pinned.
func twoCells(taken int) numa.Host {
	var host numa.Host
	for id := range 2 {
		cell := numa.HostCell{ID: id, Dedicated: cpuset.Range(8*id, 8*id+7), Pinned: cpuset.Range(8*id, 8*id+taken-1),
			MemoryMiB: 4096, Pages: []numa.Pages{{SizeKiB: 4, Total: 4096 * 256}}}
		for cpu := range cell.Dedicated.All {
			cell.Siblings = append(cell.Siblings, cpuset.Of(cpu))
		}
		host.Cells = append(host.Cells, cell)
	}
	return host
}

// TestExplainInOneLine is what the fault of a server says.
func TestExplainInOneLine(t *testing.T) {
	dedicated := func(more ...string) map[string]string {
		specs := map[string]string{"hw:cpu_policy": "dedicated"}
		for i := 0; i < len(more); i += 2 {
			specs[more[i]] = more[i+1]
		}
		return specs
	}
	for _, c := range []struct {
		name        string
		taken       int
		vcpus, mib  int
		specs       map[string]string
		want        string
		wantChanges string
	}{
		{"cells have too little alone", 2, 8, 1024, dedicated(),
			"host cell 0-1: pCPUs: 8 asked, 6 free (the other dedicated CPUs are pinned); it would fit with hw:numa_nodes=2",
			"hw:numa_nodes=2, 6 vCPUs"},
		{"too many cells", 0, 3, 1536, dedicated("hw:numa_nodes", "3"),
			"the guest has 3 cells and needs as many of the host, which has 2; it would fit with hw:numa_nodes=1",
			"hw:numa_nodes=1"},
		{"everything is taken", 8, 2, 1024, dedicated(),
			"host cell 0-1: pCPUs: 2 asked, 0 free (the other dedicated CPUs are pinned); no single change lets it in", ""},
		{"explicit cells", 6, 4, 1024, dedicated("hw:numa_nodes", "2", "hw:numa_cpus.0", "0-2", "hw:numa_mem.0", "512", "hw:numa_cpus.1", "3", "hw:numa_mem.1", "512"),
			"host cell 0-1: pCPUs: 3 asked, 2 free (the other dedicated CPUs are pinned); no single change lets it in", ""},
		{"by resources", 4, 6, 1024, map[string]string{"resources:PCPU": "6"},
			"host cell 0-1: pCPUs: 6 asked, 4 free (the other dedicated CPUs are pinned); it would fit with hw:numa_nodes=2",
			"hw:numa_nodes=2, 4 vCPUs"},
		{"memory", 0, 2, 8192, dedicated("hw:numa_nodes", "1"),
			"host cell 0-1: memory: 8192 MiB asked, 4096 free (the cell has no more memory); it would fit with hw:numa_nodes=2",
			"hw:numa_nodes=2, 4096 MiB of memory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := numa.Explain(twoCells(c.taken), numa.Request{VCPUs: c.vcpus, MemoryMiB: c.mib, ExtraSpecs: c.specs}, numa.Options{}, nil)
			if err != nil || e == nil {
				t.Fatal(e, err)
			}
			if got := e.String(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			var changes []string
			for _, change := range e.Changes {
				changes = append(changes, change.String())
			}
			if got := strings.Join(changes, ", "); got != c.wantChanges {
				t.Errorf("changes %q, want %q", got, c.wantChanges)
			}
		})
	}
}

func TestExplainWhatFits(t *testing.T) {
	r := numa.Request{VCPUs: 2, MemoryMiB: 512, ExtraSpecs: map[string]string{"hw:numa_nodes": "0"}}
	if _, err := numa.Explain(twoCells(0), r, numa.Options{}, nil); err == nil {
		t.Error("a request that is wrong on any host is explained")
	}
	r.ExtraSpecs["hw:cpu_policy"], r.ExtraSpecs["hw:numa_nodes"] = "dedicated", "1"
	if e, err := numa.Explain(twoCells(0), r, numa.Options{}, nil); e != nil || err != nil {
		t.Errorf("a guest that fits: %v, %v", e, err)
	}
	if e, err := numa.Explain(twoCells(0), numa.Request{VCPUs: 2, MemoryMiB: 512}, numa.Options{}, nil); e != nil || err != nil {
		t.Errorf("a guest without cells: %v, %v", e, err)
	}
}
