package plan

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestClaimsVectors holds the node's state after each step against Nova's.
func TestClaimsVectors(t *testing.T) {
	right := 0
	for _, line := range readLines(t, "testdata/resource_tracker.jsonl.gz") {
		var want, got struct {
			ID     string `json:"id"`
			Output []any  `json:"output"`
		}
		if err := json.Unmarshal(line, &want); err != nil {
			t.Fatal(err)
		}
		t.Run(want.ID, func(t *testing.T) {
			answer, err := Claims(line)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(answer, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.Output, got.Output); diff != "" {
				t.Fatalf("(-nova +got):\n%s", diff)
			}
			right++
		})
	}
	t.Logf("claims vectors: %d right", right)
	if right == 0 {
		t.Fatal("no vectors were read")
	}
}
