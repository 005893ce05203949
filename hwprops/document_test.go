package hwprops

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"compute-agent/internal/golden"
)

const documentHead = `# What a flavor and an image can say of a guest

Generated from the table in ` + "`hwprops/table.go`, by which `hwprops.Source.Hardware`" + ` reads; ` + "`make golden`" + ` writes this page. A flavor says
it with an extra spec (` + "`openstack flavor set --property`" + `), an image with a property (` + "`openstack image set --property`" + `). The
names, values and precedence are Nova's, and so are the names of exceptions.

- A value that is not allowed is refused as Invalid, or as the last column says, naming the key, the value and what is allowed.
  An empty value says nothing.
- Booleans are %s, or %s, in any case.
- Older names of image properties are read too, where the newer one is not there.
- Where flavor and image may both say it, *must agree* refuses them when they differ, *flavor first* and *image first* say whose
  counts, and *either* is yes when one of them says yes.
`

// document is docs/guest-properties.md.
func document() string {
	var page strings.Builder
	fmt.Fprintf(&page, documentHead, strings.Join(trueWords, ", "), strings.Join(falseWords, ", "))
	for _, g := range groups {
		fmt.Fprintf(&page, "\n## %s\n\n", g.Name)
		if g.Settings[0].By == 0 {
			page.WriteString("These are accepted, and change nothing.\n\n| flavor | image | values | what it is |\n|---|---|---|---|\n")
		} else {
			page.WriteString("| flavor | image | values | default | meaning | refused when |\n|---|---|---|---|---|---|\n")
		}
		for _, s := range g.Settings {
			page.WriteString("| " + strings.Join(columns(s), " | ") + " |\n")
		}
	}
	return page.String()
}

func columns(s *Setting) []string {
	image := nameIn(s.Property)
	for _, old := range s.Older {
		image += ", older " + nameIn(old)
	}
	names := []string{nameIn(s.Spec), image, says(s)}
	if s.By == 0 {
		return append(names, s.Meaning)
	}
	return append(names, s.Default, s.Meaning+precedenceOf(s), refusals(s))
}

// nameIn shows a name; the N of a family is no part of it.
func nameIn(name string) string {
	family, numbered := strings.CutSuffix(name, ".N")
	switch {
	case name == "":
		return ""
	case numbered:
		return "`" + family + ".`*N*"
	}
	return "`" + name + "`"
}

func says(s *Setting) string {
	if len(s.FlavorMay.Words) > 0 {
		return strings.Join(s.Words, ", ") + " (the API lets a flavor say " + strings.Join(s.FlavorMay.Words, ", ") + ")"
	}
	if len(s.Words) > 0 {
		return strings.Join(s.Words, ", ")
	}
	return s.Says
}

func precedenceOf(s *Setting) string {
	if s.Spec == "" || s.Property == "" {
		return ""
	}
	return map[precedence]string{mustAgree: "; *must agree*", flavorFirst: "; *flavor first*", imageFirst: "; *image first*", either: "; *either*"}[s.both]
}

func refusals(s *Setting) string {
	var list []string
	if s.Class != "" && s.pattern != anyText.pattern {
		list = append(list, s.Class+": another value")
	}
	if s.both == mustAgree {
		list = append(list, s.differ+": flavor and image differ")
	}
	if s.Refused != "" {
		list = append(list, s.Refused)
	}
	return strings.Join(list, "; ")
}

func TestDocument(t *testing.T) {
	golden.Assert(t, "../docs/guest-properties.md", document())
}

// The table holds together: names stand once, each row says what it is, and older names lead to newer ones.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range groups {
		for _, s := range g.Settings {
			name := cmp.Or(s.Spec, s.Property)
			for _, n := range append([]string{"flavor " + s.Spec, "image " + s.Property}, s.Older...) {
				if seen[n] && n != "flavor " && n != "image " {
					t.Errorf("%s stands twice", n)
				}
				seen[n] = true
			}
			if name == "" || s.Meaning == "" || (s.Says == "" && len(s.Words) == 0) {
				t.Errorf("%q says too little: %+v", name, s)
			}
			if (s.By == 0) != (g.Name == "Known, without effect here") {
				t.Errorf("%s is in the wrong group: %s", name, g.Name)
			}
			if s.both == mustAgree && (s.differ == "" || s.Spec == "" || s.Property == "") {
				t.Errorf("%s must agree with nothing", name)
			}
			if strings.ContainsAny(s.Meaning+s.Refused+s.Default, "|\n`") {
				t.Errorf("%s: the text breaks the page's table", name)
			}
		}
	}
}

func TestFind(t *testing.T) {
	for name, want := range map[string]string{
		"hw:cpu_policy":       "hw:cpu_policy",
		"hw:numa_cpus.12":     "hw:numa_cpus.N",
		"resources:VGPU":      "resources[GROUP]:VGPU",
		"resources_a:VGPU":    "resources[GROUP]:VGPU",
		"resources1:CUSTOM_X": "resources[GROUP]:CLASS",
		"resources:PCPU":      "resources:PCPU",
		"trait9:CUSTOM_X":     "trait[GROUP]:TRAIT",
		"hw:numa_cpus.x":      "",
		"hw:numa_cpus.N":      "",
		"hw_disk_bus":         "",
		"trait:hw_x":          "",
		"":                    "",
	} {
		s, known := Find(name)
		if known != (want != "") || (known && s.Spec != want) {
			t.Errorf("%q: %+v, want %q", name, s, want)
		}
	}
}

func TestCanonical(t *testing.T) {
	for _, c := range []struct {
		values      Values
		value, want string
		allowed     bool
	}{
		{yesOrNo(), "On", "true", true},
		{yesOrNo(), "0", "false", true},
		{yesOrNo(), "", "false", false},
		{yesOrNo(), "maybe", "false", false},
		{atLeast(1), "007", "7", true},
		{atLeast(1), "0", "", false},
		{atLeast(0), "+1", "", false},
		{atLeast(0), "1e3", "", false},
		{atLeast(0), "999999999999999999", "999999999999999999", true},
		{atLeast(0), "9999999999999999999", "", false},
		{anyInteger(), "-1", "-1", true},
		{between(0, 15), "16", "", false},
		{words("a", "b"), "A", "A", false},
		{words("a", "b").inAnyCase(map[string]string{"c": "b"}), "C", "b", true},
		{line(3), "abc", "abc", true},
		{line(3), "abcd", "abcd", false},
		{line(9), "a\tb", "a\tb", false},
		{matching("a+", "a"), "aa\n", "aa\n", false},
	} {
		got, allowed := c.values.Canonical(c.value)
		if got != c.want || allowed != c.allowed {
			t.Errorf("%s of %q: %q %v", c.values.Rule(), c.value, got, allowed)
		}
	}
}

func TestShown(t *testing.T) {
	for value, want := range map[string]string{
		"hw:cpu_policy":           "hw:cpu_policy",
		"":                        `""`,
		"two words":               `"two words"`,
		"a\x00b":                  `"a\x00b"`,
		strings.Repeat("é", 1000): `"` + strings.Repeat("é", 32) + `…"`,
		strings.Repeat("x", 65):   `"` + strings.Repeat("x", 64) + `…"`,
	} {
		if got := shown(value); got != want {
			t.Errorf("%.80q: %s, want %s", value, got, want)
		}
	}
}
