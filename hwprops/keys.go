package hwprops

import (
	"compute-agent/internal/pattern"
	"slices"
)

// Setting is one thing that a flavor or an image can say of a guest. The table of settings is the one
// source of what Hardware accepts, of what the API lets a flavor say, and of docs/guest-properties.md.
type Setting struct {
	Spec     string   // the flavor's extra spec; empty where a flavor may not say it
	Property string   // the image's property; empty where an image may not say it
	Older    []string // older names of the property, which the newer one overrules
	Values
	Default   string // what holds when nothing is said
	Meaning   string // in one line
	Refused   string // Nova's exceptions beyond that for a value which is not allowed
	Class     string // the exception for a value which is not allowed; Invalid when empty
	FlavorMay Values // what the API lets a flavor say, where it differs from the values

	By         Reader
	specs      *pattern.Pattern // the names that Spec stands for, when it is more than one
	properties *pattern.Pattern
	both       precedence
	differ     string // the exception when a flavor and an image must agree and do not
}

// Reader says which parts of the agent read a setting.
type Reader uint

// The readers. A setting that nobody reads is known and has no effect.
const (
	ByHardware Reader = 1 << iota // Source.Hardware
	ByNUMA                        // package numa
)

// precedence says which counts when a flavor and an image both say something.
type precedence int

const (
	flavorFirst precedence = iota
	imageFirst
	mustAgree
	either // yes when one of them says yes
	ownRule
)

// FlavorValues are what the API lets a flavor say from microversion 2.86 on, as Nova does.
func (s *Setting) FlavorValues() Values {
	if len(s.FlavorMay.Words) > 0 {
		return s.FlavorMay
	}
	return s.Values
}

// Settings lists all that Nova knows of, in the order of the documentation.
func Settings() []Group { return groups }

// Group is the settings of one part of a guest.
type Group struct {
	Name     string
	Settings []*Setting
}

// Find returns the setting that a name in a flavor stands for, numbered and named families with it.
func Find(spec string) (*Setting, bool) {
	if s, known := bySpec[spec]; known {
		return s, true
	}
	i := slices.IndexFunc(families, func(s *Setting) bool { return s.specs.MatchString(spec) })
	if i < 0 {
		return nil, false
	}
	return families[i], true
}

var (
	rows       = map[string]*Setting{} // by Spec and by Property
	bySpec     = map[string]*Setting{} // those that are no family
	newerNames = map[string]string{}   // of image properties, by the older name
	families   []*Setting
)

func init() {
	for _, g := range groups {
		for _, s := range g.Settings {
			index(s)
		}
	}
}

func index(s *Setting) {
	for _, old := range s.Older {
		newerNames[old] = s.Property
	}
	for _, name := range []string{s.Property, s.Spec} {
		if name != "" {
			rows[name] = s
		}
	}
	if s.specs != nil {
		families = append(families, s)
	} else if s.Spec != "" {
		bySpec[s.Spec] = s
	}
}

// setting returns the row of a name, by which Hardware reads it: a name that has no row cannot be read.
func setting(name string) *Setting {
	if s, known := rows[name]; known {
		return s
	}
	panic("hwprops: " + name + " is not in the table of settings")
}

// flavorAndImage is the usual pair hw:NAME and hw_NAME.
func flavorAndImage(name string, both precedence, v Values, s Setting) *Setting {
	s.Spec, s.Property, s.Values, s.both = "hw:"+name, "hw_"+name, v, both
	if s.By == 0 {
		s.By = ByHardware
	}
	if both == mustAgree && s.differ == "" {
		s.differ = "FlavorImageConflict"
	}
	return &s
}

func ofFlavor(name string, v Values, s Setting) *Setting {
	s.Spec, s.Values, s.By = name, v, s.By|ByHardware
	return &s
}

func ofImage(name string, v Values, s Setting) *Setting {
	s.Property, s.Values, s.By = name, v, s.By|ByHardware
	return &s
}

// numas is a pair that package numa reads.
func numas(name string, v Values, s Setting) *Setting {
	s.By |= ByNUMA
	return flavorAndImage(name, ownRule, v, s)
}

func numasFlavor(name string, v Values, s Setting) *Setting {
	s.Spec, s.Values, s.By = name, v, s.By|ByNUMA
	return &s
}

// unused is what Nova knows and this agent has no use for.
func unused(spec, property string, v Values, meaning string, older ...string) *Setting {
	return &Setting{Spec: spec, Property: property, Values: v, Meaning: meaning, Older: older}
}
