package cpuset

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// specs are CPU specifications with what they mean; nil is a mistake.
var specs = map[string][]int{
	"":                 {},
	"1":                {1},
	"0-3":              {0, 1, 2, 3},
	"1-4,^3,6":         {1, 2, 4, 6},
	"^3,1-4":           {1, 2, 4},
	" 1 - 3 , ^ 2":     {1, 3},
	"1,,2,":            {1, 2},
	"3-3":              {3},
	"5,^5":             {},
	"^5":               {},
	"63,64,128":        {63, 64, 128},
	"65535":            {65535},
	"65536":            nil,
	"0-99999999999999": nil,
	"3-1":              nil,
	"-1":               nil,
	"1-":               nil,
	"-":                nil,
	"^":                nil,
	"^^1":              nil,
	"1-2-3":            nil,
	"a":                nil,
	"0x1":              nil,
	"1.5":              nil,
	"١":                nil, // a digit elsewhere
	"1;2":              nil,
}

func TestParse(t *testing.T) {
	for spec, want := range specs {
		got, err := Parse(spec)
		if (want == nil) != (err != nil) {
			t.Errorf("%q: %v, %v; want %v", spec, got, err, want)
			continue
		}
		if err == nil && !slices.Equal(got.Slice(), want) {
			t.Errorf("%q: %v, want %v", spec, got, want)
		}
	}
}

func TestSyntaxErrorNamesThePart(t *testing.T) {
	_, err := Parse("1-3, ^7-5 ,9")
	if want := `CPU set "^7-5": the range ends before it begins`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// FuzzParse wants that whatever is accepted is written in a form that means the same.
func FuzzParse(f *testing.F) {
	for spec := range specs {
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		s, err := Parse(spec)
		if err != nil {
			return
		}
		for _, text := range []string{s.String(), s.List()} {
			if again, err := Parse(text); err != nil || !again.Equal(s) {
				t.Errorf("%q is %q, which is %v, %v", spec, text, again, err)
			}
		}
	})
}

// TestAlgebra compares sets with maps.
func TestAlgebra(t *testing.T) {
	cpus := rapid.SliceOf(rapid.IntRange(0, 200))
	rapid.Check(t, func(t *rapid.T) {
		x, y := cpus.Draw(t, "x"), cpus.Draw(t, "y")
		a, b := Of(x...), Of(y...)
		inA, inB := members(x), members(y)
		for name, c := range map[string]struct {
			got  Set
			keep func(cpu int) bool
		}{
			"union":     {a.Union(b), func(c int) bool { return inA[c] || inB[c] }},
			"intersect": {a.Intersect(b), func(c int) bool { return inA[c] && inB[c] }},
			"minus":     {a.Minus(b), func(c int) bool { return inA[c] && !inB[c] }},
			"clone":     {a.Clone(), func(c int) bool { return inA[c] }},
		} {
			var want []int
			for cpu := range 201 {
				if c.keep(cpu) {
					want = append(want, cpu)
				}
				if c.got.Has(cpu) != c.keep(cpu) {
					t.Fatalf("%s: Has(%d) is %v", name, cpu, c.got.Has(cpu))
				}
			}
			if !slices.Equal(c.got.Slice(), want) || c.got.Len() != len(want) || c.got.Empty() != (len(want) == 0) {
				t.Fatalf("%s of %v and %v: %v, want %v", name, a, b, c.got, want)
			}
			if len(want) > 0 && c.got.First() != want[0] {
				t.Fatalf("%s: first is %d", name, c.got.First())
			}
			if !c.got.Equal(Of(want...)) {
				t.Fatalf("%s: %v does not equal %v", name, c.got, want)
			}
		}
		if n := a.Intersect(b).Len(); a.IntersectLen(b) != n || a.SubsetOf(b) != (n == a.Len()) {
			t.Fatalf("IntersectLen or SubsetOf of %v and %v", a, b)
		}
		var read Set
		text, err := json.Marshal(a)
		if err != nil || json.Unmarshal(text, &read) != nil || !read.Equal(a) {
			t.Fatalf("%v as JSON is %s, %v", a, text, err)
		}
	})
}

func members(cpus []int) map[int]bool {
	m := map[int]bool{}
	for _, c := range cpus {
		m[c] = true
	}
	return m
}

func TestAddAndRemove(t *testing.T) {
	s := Of(1, 70, -5)
	kept := s.Clone()
	s.Remove(70)
	s.Remove(-1)
	s.Remove(5000)
	s.Add(-1)
	if !s.Equal(Of(1)) || !kept.Equal(Of(1, 70)) {
		t.Errorf("set %v, its clone %v", s, kept)
	}
	s.Remove(1)
	if !s.Empty() || s.First() != -1 || s.String() != "" {
		t.Errorf("emptied: %v", s)
	}
	if got := slices.Collect(maps.Keys(members(Range(3, 1).Slice()))); len(got) != 0 {
		t.Errorf("a range that ends before it begins: %v", got)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	for _, text := range []string{`[-1]`, `[65536]`, `["1"]`, `{}`, `[1.5]`} {
		var s Set
		if err := json.Unmarshal([]byte(text), &s); err == nil {
			t.Errorf("%s is read as %v", text, s)
		}
	}
}
