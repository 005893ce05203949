package plan

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vector is one question with the answer of the real Nova. variants are answers of the same code
// under other conditions (the order in which Python walks a set, Nova's later release); each is as
// right as the first.
type vector struct {
	ID       string          `json:"id"`
	Family   string          `json:"family"`
	Output   map[string]any  `json:"output"`
	Variants []vectorVariant `json:"variants"`
	line     []byte
}

type vectorVariant struct {
	Names  []string       `json:"names"`
	Output map[string]any `json:"output"`
}

// TestNUMAVectors holds the answers against Nova's, one by one.
func TestNUMAVectors(t *testing.T) {
	right, unscored, families := 0, 0, map[string]int{}
	for _, v := range readVectors(t, "testdata/numa.jsonl.gz") {
		if crashes(v.Output) {
			unscored++ // Nova itself died here: there is no answer to be judged by
			continue
		}
		t.Run(v.ID, func(t *testing.T) {
			if diff := judge(t, v); diff != "" {
				t.Fatalf("no recorded answer matches; against the first (-nova +got):\n%s", diff)
			}
			right++
			families[v.Family]++
		})
	}
	t.Logf("NUMA vectors: %d right in %d families, %d not scored because Nova crashed", right, len(families), unscored)
	if right == 0 {
		t.Fatal("no vectors were read")
	}
}

func judge(t *testing.T, v vector) string {
	line, err := NUMA(v.line)
	if err != nil {
		return err.Error()
	}
	var got struct {
		Output map[string]any `json:"output"`
	}
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	first := compare(v.Output, got.Output)
	if first == "" {
		return ""
	}
	for _, variant := range v.Variants {
		if compare(variant.Output, got.Output) == "" {
			return ""
		}
	}
	return first
}

// compare looks of errors only at their class, and not at what Nova crashed on.
func compare(want, got map[string]any) string {
	w, g := map[string]any{}, map[string]any{}
	for k, v := range want {
		if !crashed(v) {
			w[k] = normalise(v)
			g[k] = normalise(got[k])
		}
	}
	return cmp.Diff(w, g)
}

func normalise(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if e, ok := v["error"].(map[string]any); ok && len(v) == 1 {
			return map[string]any{"error": e["class"]}
		}
		out := map[string]any{}
		for k, x := range v {
			out[k] = normalise(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = normalise(x)
		}
		return out
	}
	return v
}

// crashes says whether an answer holds an exception that is not one of Nova's own.
func crashes(output map[string]any) bool {
	for _, v := range output {
		if crashed(v) {
			return true
		}
	}
	return false
}

func crashed(v any) bool {
	m, _ := v.(map[string]any)
	e, _ := m["error"].(map[string]any)
	return e != nil && e["nova"] != true
}

func readVectors(t *testing.T, path string) []vector {
	t.Helper()
	var list []vector
	for _, line := range readLines(t, path) {
		v := vector{line: line}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}

func readLines(t *testing.T, path string) (list [][]byte) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(unzipped)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		list = append(list, bytes.Clone(lines.Bytes()))
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}
