// Package cpuset holds sets of CPU numbers and reads and writes them the way Nova does:
// "1-4,^3,6".
package cpuset

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// MaxCPU is the highest CPU number that Parse accepts. Linux supports 8192 CPUs; the limit keeps
// a mistyped range from costing memory.
const MaxCPU = 65535

// Set is a set of CPU numbers. The zero value is the empty set. Methods that combine sets return new
// ones; only Add and Remove change their receiver, which must not share memory with another
// set: Clone first.
type Set struct {
	words []uint64 // bit c%64 of words[c/64]; no trailing zero words
}

// Of returns the set of the given CPUs; negative numbers are left out.
func Of(cpus ...int) Set {
	var s Set
	for _, c := range cpus {
		s.Add(c)
	}
	return s
}

// Range returns the set of first to last, both included.
func Range(first, last int) Set {
	var s Set
	for c := last; c >= first; c-- { // from the top: one allocation
		s.Add(c)
	}
	return s
}

// Add puts a CPU into the set.
func (s *Set) Add(cpu int) {
	if cpu < 0 {
		return
	}
	if need := cpu/64 + 1; need > len(s.words) {
		grown := make([]uint64, need)
		copy(grown, s.words)
		s.words = grown
	}
	s.words[cpu/64] |= 1 << (cpu % 64)
}

// Remove takes a CPU out of the set.
func (s *Set) Remove(cpu int) {
	if cpu < 0 || cpu/64 >= len(s.words) {
		return
	}
	s.words[cpu/64] &^= 1 << (cpu % 64)
	s.words = trim(s.words)
}

// Clone returns a copy that shares no memory.
func (s Set) Clone() Set { return Set{append([]uint64(nil), s.words...)} }

// Has says whether cpu is in the set.
func (s Set) Has(cpu int) bool {
	return cpu >= 0 && cpu/64 < len(s.words) && s.words[cpu/64]&(1<<(cpu%64)) != 0
}

// Len is the number of CPUs in the set.
func (s Set) Len() int {
	n := 0
	for _, w := range s.words {
		n += bits.OnesCount64(w)
	}
	return n
}

// Empty says whether the set has no CPU.
func (s Set) Empty() bool { return len(s.words) == 0 }

// First returns the lowest CPU, -1 for the empty set.
func (s Set) First() int {
	for i, w := range s.words {
		if w != 0 {
			return i*64 + bits.TrailingZeros64(w)
		}
	}
	return -1
}

// Union returns the CPUs that are in either set.
func (s Set) Union(o Set) Set {
	if len(s.words) < len(o.words) {
		s, o = o, s
	}
	if o.Empty() {
		return s
	}
	words := append([]uint64(nil), s.words...)
	for i, w := range o.words {
		words[i] |= w
	}
	return Set{words}
}

// Intersect returns the CPUs that are in both sets.
func (s Set) Intersect(o Set) Set {
	n := min(len(s.words), len(o.words))
	words := make([]uint64, n)
	for i := range words {
		words[i] = s.words[i] & o.words[i]
	}
	return Set{trim(words)}
}

// IntersectLen is the number of CPUs in both sets, without making a new one.
func (s Set) IntersectLen(o Set) int {
	n := 0
	for i := range min(len(s.words), len(o.words)) {
		n += bits.OnesCount64(s.words[i] & o.words[i])
	}
	return n
}

// Minus returns the CPUs of s that are not in o.
func (s Set) Minus(o Set) Set {
	words := append([]uint64(nil), s.words...)
	for i := range min(len(words), len(o.words)) {
		words[i] &^= o.words[i]
	}
	return Set{trim(words)}
}

// SubsetOf says whether every CPU of s is in o.
func (s Set) SubsetOf(o Set) bool { return s.IntersectLen(o) == s.Len() }

// Equal says whether both hold the same CPUs.
func (s Set) Equal(o Set) bool {
	if len(s.words) != len(o.words) {
		return false
	}
	for i, w := range s.words {
		if w != o.words[i] {
			return false
		}
	}
	return true
}

// Slice returns the CPUs in ascending order, never nil.
func (s Set) Slice() []int {
	out := make([]int, 0, s.Len())
	for c := range s.All {
		out = append(out, c)
	}
	return out
}

// All yields the CPUs in ascending order.
func (s Set) All(yield func(int) bool) {
	for i, w := range s.words {
		for ; w != 0; w &= w - 1 {
			if !yield(i*64 + bits.TrailingZeros64(w)) {
				return
			}
		}
	}
}

// String writes the set with ranges: "0-3,6". The empty set is "".
func (s Set) String() string {
	var b strings.Builder
	first, last := -1, -1
	flush := func() {
		if first < 0 {
			return
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(first))
		if last > first {
			b.WriteString("-" + strconv.Itoa(last))
		}
	}
	for c := range s.All {
		if first < 0 || c != last+1 {
			flush()
			first = c
		}
		last = c
	}
	flush()
	return b.String()
}

// List writes the set without ranges: "0,1,2,3,6".
func (s Set) List() string {
	parts := make([]string, 0, s.Len())
	for c := range s.All {
		parts = append(parts, strconv.Itoa(c))
	}
	return strings.Join(parts, ",")
}

// MarshalJSON writes a sorted array of numbers.
func (s Set) MarshalJSON() ([]byte, error) { return json.Marshal(s.Slice()) }

// UnmarshalJSON reads an array of numbers.
func (s *Set) UnmarshalJSON(data []byte) error {
	var cpus []int
	if err := json.Unmarshal(data, &cpus); err != nil {
		return err
	}
	*s = Set{}
	for _, c := range cpus {
		if c < 0 || c > MaxCPU {
			return fmt.Errorf("CPU %d is out of range 0-%d", c, MaxCPU)
		}
		s.Add(c)
	}
	return nil
}

// SyntaxError says which part of a CPU specification cannot be read.
type SyntaxError struct {
	Part   string // as it stands in the text
	Reason string
}

// Error names the part and the reason.
func (e *SyntaxError) Error() string { return fmt.Sprintf("CPU set %q: %s", e.Part, e.Reason) }

// Parse reads a CPU specification: CPUs and ranges separated by commas, those with ^ before them
// taken out of the result, wherever they stand. Blanks around a part and empty parts do not
// matter. It is Nova's syntax (nova.virt.hardware.parse_cpu_spec).
func Parse(spec string) (Set, error) {
	var in, out Set
	for _, part := range strings.Split(spec, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		body, excluded := strings.CutPrefix(part, "^")
		cpus, err := parsePart(body)
		if err != nil {
			err.Part = part
			return Set{}, err
		}
		if excluded {
			out = out.Union(cpus)
		} else {
			in = in.Union(cpus)
		}
	}
	return in.Minus(out), nil
}

func parsePart(body string) (Set, *SyntaxError) {
	first, last, isRange := strings.Cut(body, "-")
	a, ok := parseCPU(first)
	if !ok {
		return Set{}, &SyntaxError{Reason: "not a CPU number or a range of them"}
	}
	if !isRange {
		return Of(a), nil
	}
	b, ok := parseCPU(last)
	if !ok {
		return Set{}, &SyntaxError{Reason: "the end of the range is not a CPU number"}
	}
	if a > b {
		return Set{}, &SyntaxError{Reason: "the range ends before it begins"}
	}
	return Range(a, b), nil
}

func parseCPU(text string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	return n, err == nil && n >= 0 && n <= MaxCPU
}

// trim takes zero words off the end; what is left of nothing is nil, so that equal sets are equal in depth.
func trim(words []uint64) []uint64 {
	for len(words) > 0 && words[len(words)-1] == 0 {
		words = words[:len(words)-1]
	}
	if len(words) == 0 {
		return nil
	}
	return words
}
