package plan

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// TestPySet holds the order against what CPython 3.11 printed (testdata/pyset.jsonl).
func TestPySet(t *testing.T) {
	file, err := os.Open("testdata/pyset.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	lines, n := bufio.NewScanner(file), 0
	for ; lines.Scan(); n++ {
		var want struct {
			A, B, Set, Copy, And, Minus, Sib []int
		}
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		a, b := pySetOf(want.A), pySetOf(want.B)
		for name, pair := range map[string][2][]int{
			"set": {a.list(), want.Set}, "copy": {a.copied().list(), want.Copy}, "a & b": {a.and(b).list(), want.And},
			"a - b": {a.minus(b).list(), want.Minus}, "(a - b) & a": {a.minus(b).and(a).list(), want.Sib},
		} {
			if !slices.Equal(pair[0], pair[1]) {
				t.Errorf("a = %v, b = %v: %s is %v, in Python %v", want.A, want.B, name, pair[0], pair[1])
			}
		}
	}
	if lines.Err() != nil || n < 50 {
		t.Fatalf("%d lines: %v", n, lines.Err())
	}
}
