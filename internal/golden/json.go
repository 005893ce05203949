package golden

import (
	"bytes"
	"encoding/json"
	"testing"
)

// JSON is a value as text without what is not set in it: no zeros, no empty strings, lists and objects. A zero in a list
// stays.
func JSON(t testing.TB, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(withoutZeros(tree)); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func withoutZeros(tree any) any {
	switch tree := tree.(type) {
	case map[string]any:
		for key, v := range tree {
			if v = withoutZeros(v); v == nil {
				delete(tree, key)
			} else {
				tree[key] = v
			}
		}
		if len(tree) == 0 {
			return nil
		}
	case []any:
		for i := range tree {
			if v := withoutZeros(tree[i]); v != nil {
				tree[i] = v // a CPU 0 stays
			}
		}
		if len(tree) == 0 {
			return nil
		}
	case string:
		if tree == "" {
			return nil
		}
	case float64:
		if tree == 0 {
			return nil
		}
	case bool:
		if !tree {
			return nil
		}
	}
	return tree
}
