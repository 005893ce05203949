package pattern_test

import (
	"fmt"
	"testing"

	"compute-agent/internal/pattern"
)

func TestPattern(t *testing.T) {
	p := pattern.New(`^([a-z]{1,255})-([0-9]+)`)
	for _, c := range []struct{ s, want string }{
		{"vda-12!", "true vda-12 [vda-12 vda 12]"},
		{"12", "false  []"},
	} {
		if got := fmt.Sprint(p.MatchString(c.s), " ", p.FindString(c.s), " ", p.FindStringSubmatch(c.s)); got != c.want {
			t.Errorf("%s: %s, want %s", c.s, got, c.want)
		}
	}
	if got := p.String(); got != `^([a-z]{1,255})-([0-9]+)` {
		t.Error(got)
	}
}

// A wrong expression costs nothing and harms nobody until it is asked.
func TestPatternIsCompiledWhenItIsNeeded(t *testing.T) {
	p := pattern.New(`(`)
	defer func() {
		if recover() == nil {
			t.Error("a wrong expression matched")
		}
	}()
	p.MatchString("")
}
