package hwprops

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// reader reads the settings of the table out of a Source. It keeps the first error, and reads on.
type reader struct {
	Source
	saidAs map[string]string // the older name under which a property was said
	err    error
}

// read returns a reader in which the image's older names have become the newer ones, where those are not
// said too (Nova: ImageMetaProps.from_dict).
func (s Source) read() *reader {
	properties, saidAs := make(map[string]string, len(s.Properties)), map[string]string{}
	for name, value := range s.Properties {
		if newer, old := newerNames[name]; old {
			if _, said := s.Properties[newer]; !said {
				properties[newer], saidAs[newer] = value, name
			}
			continue
		}
		properties[name] = value
	}
	return &reader{Source: Source{ExtraSpecs: s.ExtraSpecs, Properties: properties}, saidAs: saidAs}
}

// refuse records that a setting cannot be honoured.
func (r *reader) refuse(class, key, value, rule string, args ...any) {
	if old, renamed := r.saidAs[key]; renamed {
		key = old
	}
	if r.err == nil {
		r.err = failed(class, key, value, rule, args...)
	}
}

// answer is what a setting comes to: its canonical value, and the key that said it. Both are empty when
// nothing is said, as when it is said with an empty value.
type answer struct{ key, value string }

// get reads a setting by its name in the flavor or, if it has none there, in the image.
func (r *reader) get(name string) answer {
	s := setting(name)
	flavor := r.check(s, s.Spec, r.ExtraSpecs)
	image := r.check(s, s.Property, r.Properties)
	both := flavor.value != "" && image.value != ""
	switch {
	case both && s.both == mustAgree && flavor.value != image.value:
		r.refuse(s.differ, s.Property, image.value, "the flavor says %s=%s", s.Spec, shown(flavor.value))
	case both && s.both == either && image.value == "true":
		return image
	case image.value != "" && (s.both == imageFirst || flavor.value == ""):
		return image
	}
	return flavor
}

// check reads one key, which must have an allowed value or an empty one.
func (r *reader) check(s *Setting, key string, settings map[string]string) answer {
	value := settings[key]
	if s.kind == kindBool || s.kind == kindNumber {
		value = strings.TrimSpace(value)
	}
	if key == "" || value == "" {
		return answer{}
	}
	form, allowed := s.Canonical(value)
	if !allowed || !utf8.ValidString(value) {
		r.refuse(s.class(), key, value, "%s", s.Rule())
		return answer{}
	}
	return answer{key, form}
}

func (s *Setting) class() string {
	if s.Class == "" {
		return "Invalid"
	}
	return s.Class
}

func (r *reader) text(name string) string { return r.get(name).value }
func (r *reader) flag(name string) bool   { return r.get(name).value == "true" }

// optionalFlag is nil when nothing is said.
func (r *reader) optionalFlag(name string) *bool {
	a := r.get(name)
	if a.key == "" {
		return nil
	}
	yes := a.value == "true"
	return &yes
}

// integer reads a number that must fit 32 bits, as most of the hypervisor's do; 0 when nothing is said.
func (r *reader) integer(name string) int {
	if n := r.optionalInteger(name); n != nil {
		return *n
	}
	return 0
}

func (r *reader) optionalInteger(name string) *int {
	a := r.get(name)
	if a.key == "" {
		return nil
	}
	n := r.fits(setting(name), a)
	return &n
}

// number reads a number under one key of the flavor or the image.
func (r *reader) number(s *Setting, key string) int {
	from := r.ExtraSpecs
	if key == s.Property {
		from = r.Properties
	}
	a := r.check(s, key, from)
	if a.key == "" {
		return 0
	}
	return r.fits(s, a)
}

func (r *reader) fits(s *Setting, a answer) int {
	n, _ := strconv.Atoi(a.value)
	if n > math.MaxInt32 || n < -math.MaxInt32 {
		r.refuse(s.class(), a.key, a.value, "must be at most %d", math.MaxInt32)
		return 0
	}
	return n
}

// optionalCount reads a number of any size; nil when nothing is said.
func (r *reader) optionalCount(name string) *uint64 {
	a := r.get(name)
	if a.key == "" {
		return nil
	}
	n, _ := strconv.ParseUint(a.value, 10, 64)
	return &n
}
