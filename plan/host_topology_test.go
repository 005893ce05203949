package plan

import (
	"cmp"
	"encoding/json"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// TestHostTopologyVectors holds the cells that a host offers against Nova's answers.
func TestHostTopologyVectors(t *testing.T) {
	right := 0
	for _, v := range readVectors(t, "testdata/host_topology.jsonl.gz") {
		t.Run(v.ID, func(t *testing.T) {
			line, err := HostTopology(v.line)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Output map[string]any `json:"output"`
			}
			if err := json.Unmarshal(line, &got); err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(normalise(sortCores(v.Output)), normalise(sortCores(got.Output))); diff != "" {
				t.Fatalf("(-nova +got):\n%s", diff)
			}
			right++
		})
	}
	t.Logf("host topology vectors: %d right", right)
	if right == 0 {
		t.Fatal("no vectors were read")
	}
}

// sortCores puts the cores of every cell in order: Nova writes them in the order of Python's sets.
func sortCores(output map[string]any) map[string]any {
	host, _ := output["host_numa_topology"].(map[string]any)
	cells, _ := host["cells"].([]any)
	for _, c := range cells {
		cell, _ := c.(map[string]any)
		cores, _ := cell["siblings"].([]any)
		slices.SortFunc(cores, func(a, b any) int { return cmp.Compare(firstNumber(a), firstNumber(b)) })
	}
	return output
}

func firstNumber(core any) float64 { return core.([]any)[0].(float64) }
