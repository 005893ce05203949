package plan

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"compute-agent/internal/cpuset"
)

// scalar is a word, number or yes-or-no of JSON as text: Nova's own forms have either. Null is empty.
type scalar string

// UnmarshalJSON takes any single value.
func (t *scalar) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
		*t = ""
	case string:
		*t = scalar(v)
	case bool:
		*t = scalar(strconv.FormatBool(v))
	case float64:
		*t = scalar(strings.TrimSpace(string(b)))
	default:
		return fmt.Errorf("%s is not a single value", b)
	}
	return nil
}

// count is a whole number, in JSON or as text; null and what is empty are 0.
type count int

// UnmarshalJSON takes a number or a text of one.
func (c *count) UnmarshalJSON(b []byte) error {
	var s scalar
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s == "" {
		*c = 0
		return nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(s)))
	if err != nil {
		return fmt.Errorf("%q is not a whole number", string(s))
	}
	*c = count(n)
	return nil
}

// yes reads oslo's words for true.
func (t scalar) yes() bool {
	switch strings.ToLower(strings.TrimSpace(string(t))) {
	case "1", "t", "true", "on", "y", "yes":
		return true
	}
	return false
}

// number is 0 for what is none.
func (t scalar) number() int {
	n, err := strconv.ParseFloat(string(t), 64)
	if err != nil {
		return 0
	}
	return int(n)
}

// plain makes a map of plain strings.
func plain(m map[string]scalar) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = string(v)
	}
	return out
}

// options is Nova's configuration by section.
type options map[string]map[string]json.RawMessage

// raw finds [section]name; key is "section.name". An option that is null is not set.
func (o options) raw(key string) (json.RawMessage, bool) {
	section, name, _ := strings.Cut(key, ".")
	raw, set := o[section][name]
	return raw, set && string(raw) != "null"
}

// text is an option of one value; byDefault when it is not set.
func (o options) text(key, byDefault string) (string, error) {
	raw, set := o.raw(key)
	if !set {
		return byDefault, nil
	}
	var t scalar
	if err := json.Unmarshal(raw, &t); err != nil {
		return "", fmt.Errorf("option %s: %w", key, err)
	}
	return string(t), nil
}

// list is an option of several values, as a list or as one text with commas.
func (o options) list(key string) ([]string, error) {
	raw, set := o.raw(key)
	if !set {
		return nil, nil
	}
	var many []scalar
	if err := json.Unmarshal(raw, &many); err == nil {
		list := make([]string, len(many))
		for i, t := range many {
			list[i] = string(t)
		}
		return list, nil
	}
	one, err := o.text(key, "")
	if err != nil || one == "" {
		return nil, err
	}
	list := strings.Split(one, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list, nil
}

// cpus is an option that is a CPU specification; nil when it is not set or empty.
func (o options) cpus(key string) (*cpuset.Set, error) {
	spec, err := o.text(key, "")
	if err != nil || spec == "" {
		return nil, err
	}
	set, err := cpuset.Parse(spec)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return &set, nil
}

// reader reads options and keeps the first error, so that many can be read in a row.
type reader struct {
	options
	err error
}

func (r *reader) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) text(key, byDefault string) string {
	t, err := r.options.text(key, byDefault)
	r.keep(err)
	return t
}

func (r *reader) yes(key string, byDefault bool) bool {
	return scalar(r.text(key, strconv.FormatBool(byDefault))).yes()
}

func (r *reader) number(key string, byDefault int) int {
	value := r.text(key, strconv.Itoa(byDefault))
	n, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil {
		r.keep(fmt.Errorf("option %s: %q is not a whole number", key, value))
	}
	return n
}

func (r *reader) list(key string) []string {
	list, err := r.options.list(key)
	r.keep(err)
	return list
}

func (r *reader) cpus(key string) *cpuset.Set {
	set, err := r.options.cpus(key)
	r.keep(err)
	return set
}
