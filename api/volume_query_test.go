package api

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A dictionary in JSON's notation, which for texts without escapes is Python's, is read as it was written.
func TestParsePairs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(rapid.StringMatching(`[ -!#-\[\]-~]{0,8}`), rapid.StringMatching(`[ -!#-\[\]-~é]{0,8}`)).Draw(t, "pairs")
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		// encoding/json escapes what is special in HTML, Python does not.
		for _, r := range []struct{ from, to string }{{"\\u003c", "<"}, {"\\u003e", ">"}, {"\\u0026", "&"}} {
			text = []byte(strings.ReplaceAll(string(text), r.from, r.to))
		}
		if got, err := parsePairs(string(text)); err != nil || !maps.Equal(got, want) {
			t.Errorf("%s is read as %q, %v", text, got, err)
		}
	})
	for _, wrong := range []string{"", "{", "}", "x", "{'a'}", "{'a': }", "{'a': 'b' 'c': 'd'}", "{a: 'b'}", "{'a': 5}", "{'a: 'b'}", "{'a': 'b", "['a']", "{'a': {'b': 'c'}}"} {
		if got, err := parsePairs(wrong); err == nil {
			t.Errorf("%q is read as %q", wrong, got)
		}
	}
}

// No text brings the reader down.
func FuzzParsePairs(f *testing.F) {
	for _, seed := range []string{`{'a': 'b'}`, `{"a": u"\\"}`, `{'a': 'b',}`, `{u'`, "{'\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, s string) { _, _ = parsePairs(s) })
}
