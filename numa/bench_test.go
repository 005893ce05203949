package numa_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"os"
	"testing"

	"compute-agent/internal/cpuset"
	"compute-agent/numa"
)

// pythonMicroseconds is the best wall time of nova.virt.hardware on the same questions: Nova 26.2.2, CPython
// 3.11, 2-vCPU Xeon (the baseline recorded with the vectors; the questions are testdata/bench.jsonl.gz).
var pythonMicroseconds = map[string]struct{ fit, usage float64 }{
	"2cell_64cpu_dedicated_4vcpu":               {190, 224},
	"8cell_256cpu_dedicated_4vcpu":              {189, 858},
	"8cell_256cpu_dedicated_16vcpu_1node":       {381, 871},
	"8cell_256cpu_dedicated_16vcpu_2node":       {410, 890},
	"8cell_256cpu_dedicated_64vcpu_4node":       {1772, 985},
	"8cell_256cpu_dedicated_256vcpu_8node":      {5821, 1418},
	"8cell_256cpu_dedicated_32vcpu_isolate_emu": {733, 887},
	"8cell_256cpu_shared_16vcpu_2node":          {64, 765},
	"8cell_last_cell_only_16vcpu":               {336, 933},
	"8cell_nofit_1node":                         {158, 0},
	"8cell_nofit_2node":                         {228, 0},
	"8cell_nofit_4node":                         {2026, 0},
	"8cell_nofit_8node_one_cell_full":           {350588, 0},
}

// faster reports how many times less a call takes than the Python code's.
func faster(b *testing.B, pythonMicroseconds float64) {
	perOp := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	b.ReportMetric(pythonMicroseconds*1000/perOp, "x_python")
}

func BenchmarkFit(b *testing.B) {
	for _, q := range readQuestions(b) {
		b.Run(q.ID, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				numa.Fit(q.host, q.guest, numa.Options{})
			}
			faster(b, pythonMicroseconds[q.ID].fit)
		})
	}
}

func BenchmarkPlace(b *testing.B) {
	for _, q := range readQuestions(b) {
		placed, ok := numa.Fit(q.host, q.guest, numa.Options{})
		if !ok {
			continue
		}
		b.Run(q.ID, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := numa.Place(q.host, placed); err != nil {
					b.Fatal(err)
				}
			}
			faster(b, pythonMicroseconds[q.ID].usage)
		})
	}
}

// BenchmarkFitSixteenCells is the case that a walk over permutations does not finish: 16 host cells, 8 guest
// cells, of which the last fits nowhere together with the others.
func BenchmarkFitSixteenCells(b *testing.B) {
	host, guest := sixteenCells()
	if _, ok := numa.Fit(host, guest, numa.Options{}); ok {
		b.Fatal("the guest fits")
	}
	b.ReportAllocs()
	for b.Loop() {
		numa.Fit(host, guest, numa.Options{})
	}
}

// sixteenCells is a host where seven cells have room for a guest of eight.
func sixteenCells() (numa.Host, numa.Guest) {
	var host numa.Host
	for id := range 16 {
		cpus := cpuset.Range(id*16, id*16+15)
		cell := numa.HostCell{ID: id, Dedicated: cpus, MemoryMiB: 65536, Socket: id / 2}
		for cpu := range cpus.All {
			cell.Siblings = append(cell.Siblings, cpuset.Of(cpu))
		}
		if id >= 7 {
			cell.Pinned = cpuset.Range(id*16, id*16+8) // 7 of 16 are free
		}
		host.Cells = append(host.Cells, cell)
	}
	guest := numa.Guest{}
	for id := range 8 {
		guest.Cells = append(guest.Cells, numa.GuestCell{ID: id, Dedicated: cpuset.Range(id*8, id*8+7), MemoryMiB: 1024,
			CPUPolicy: numa.PolicyDedicated})
	}
	return host, guest
}

// question is a guest to be placed on a host.
type question struct {
	ID    string
	Input struct {
		Flavor struct {
			VCPUs      int               `json:"vcpus"`
			MemoryMiB  int               `json:"memory_mb"`
			ExtraSpecs map[string]string `json:"extra_specs"`
		}
		Host struct {
			Cells []struct {
				ID        int
				CPUSet    cpuset.Set
				PCPUSet   cpuset.Set
				Pinned    cpuset.Set `json:"pinned_cpus"`
				MemoryMiB int        `json:"memory"`
				Pages     []struct {
					SizeKiB int `json:"size_kb"`
					Total   int
				} `json:"mempages"`
				Siblings []cpuset.Set
				Socket   int
			}
		}
	}
	host  numa.Host
	guest numa.Guest
}

func readQuestions(tb testing.TB) []question {
	tb.Helper()
	file, err := os.Open("testdata/bench.jsonl.gz")
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // read only
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		tb.Fatal(err)
	}
	var list []question
	lines := bufio.NewScanner(unzipped)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			tb.Fatal(err)
		}
		q.translate(tb)
		list = append(list, q)
	}
	if lines.Err() != nil || len(list) != len(pythonMicroseconds) {
		tb.Fatalf("%d questions read, %d known: %v", len(list), len(pythonMicroseconds), lines.Err())
	}
	return list
}

func (q *question) translate(tb testing.TB) {
	for _, c := range q.Input.Host.Cells {
		cell := numa.HostCell{ID: c.ID, Shared: c.CPUSet, Dedicated: c.PCPUSet, Pinned: c.Pinned, MemoryMiB: c.MemoryMiB,
			Siblings: c.Siblings, Socket: c.Socket}
		for _, p := range c.Pages {
			cell.Pages = append(cell.Pages, numa.Pages{SizeKiB: p.SizeKiB, Total: p.Total})
		}
		q.host.Cells = append(q.host.Cells, cell)
	}
	f := q.Input.Flavor
	guest, err := numa.Request{VCPUs: f.VCPUs, MemoryMiB: f.MemoryMiB, ExtraSpecs: f.ExtraSpecs}.Constraints()
	if err != nil || guest == nil {
		tb.Fatalf("%s: %v", q.ID, err)
	}
	q.guest = *guest
}
