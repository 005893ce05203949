package api

import (
	"encoding/json"
	"testing"
)

// Whatever is accepted is JSON, means the same to encoding/json, and has no key twice.
func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{`{"a": [1, 2.5e3, "x", null, true]}`, `{"a":1,"a":2}`, `[[[]]]`, `{"a"`, "\"\xff\"", `1 2`, `{"\u0061":1,"a":2}`, `"\ud800"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := parseJSON(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("accepted %q", data)
		}
		var other any
		if err := json.Unmarshal(data, &other); err != nil {
			return // a number that is too large for a float64: json.Number keeps it
		}
		again, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var back any
		if err := json.Unmarshal(again, &back); err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(back)
		b, _ := json.Marshal(other)
		if string(a) != string(b) {
			t.Fatalf("%q became %s, want %s", data, a, b)
		}
	})
}
