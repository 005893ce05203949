package plan

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"compute-agent/internal/golden"
)

// TestExplainNUMA holds the text for each question of testdata/explain.jsonl against the one that a person has
// read.
func TestExplainNUMA(t *testing.T) {
	questions, err := os.ReadFile("testdata/explain.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	err = Lines(&text, bytes.NewReader(questions), func(line []byte) ([]byte, error) {
		answer, err := ExplainNUMA(line)
		return []byte(answer), err
	})
	if err != nil {
		t.Fatal(err)
	}
	golden.Assert(t, "testdata/explain.golden", text.String())
}

func TestExplainRefuses(t *testing.T) {
	for line, want := range map[string]string{
		`{`: "question: unexpected end",
		`{"id":"a","input":{"op":"parse_cpu_spec","spec":"1"}}`: "question a: only a numa question",
		`{"id":"b","input":{"op":"fit","host":{"cells":[]}}}`:   "question b: only a numa question",
	} {
		if _, err := ExplainNUMA([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", line, err, want)
		}
	}
}
