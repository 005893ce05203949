package connector

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// object is one JSON object of a connection_info. The first field that is wrong is kept and stays the answer, so what reads fields need not ask after each.
type object struct {
	name string // "" for the outermost, data.
	raw  map[string]json.RawMessage
	err  **Error // of the whole connection_info
}

const longValue = 80 // runes of a value that an error repeats

// refuse says that a field is wrong.
func (o object) refuse(key, value, rule string, args ...any) {
	if *o.err != nil {
		return
	}
	*o.err = &Error{Reason: InvalidInfo, Field: o.name + key, Value: short(value), Rule: fmt.Sprintf(rule, args...)}
}

func short(value string) string {
	if value = strings.ToValidUTF8(value, "\uFFFD"); utf8.RuneCountInString(value) > longValue {
		return string([]rune(value)[:longValue]) + "..."
	}
	return value
}

// has says whether the field is there; null is as good as absent.
func (o object) has(key string) bool {
	raw, ok := o.raw[key]
	return ok && !bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

// nested is the object of a field; empty when it is not there.
func (o object) nested(key string) object {
	inner := object{name: o.name + key + ".", err: o.err}
	if o.has(key) && json.Unmarshal(o.raw[key], &inner.raw) != nil {
		o.refuse(key, "", "it must be an object") // what it is may hold a password
	}
	return inner
}

// rule says why a text is refused; empty when it is not. It may return the text in its normal form.
type rule func(string) (normal, fault string)

// text is a string that need not be there.
func (o object) text(key string, r rule) string {
	if !o.has(key) {
		return ""
	}
	var s string
	if json.Unmarshal(o.raw[key], &s) != nil {
		o.refuse(key, string(o.raw[key]), "it must be a string")
		return ""
	}
	return o.ruled(key, s, r)
}

func (o object) ruled(key, value string, r rule) string {
	normal, fault := r(value)
	if fault != "" {
		o.refuse(key, value, "%s", fault)
		return ""
	}
	return normal
}

// must is a string that must be there.
func (o object) must(key string, r rule) string {
	if !o.has(key) {
		o.refuse(key, "", "it is missing")
		return ""
	}
	return o.text(key, r)
}

// secret is a string that no error repeats.
func (o object) secret(key string, r rule) Secret {
	if !o.has(key) {
		return ""
	}
	var s string
	if json.Unmarshal(o.raw[key], &s) != nil {
		o.refuse(key, "", "it must be a string")
		return ""
	}
	normal, fault := r(s)
	if fault != "" {
		o.refuse(key, "", "%s", fault)
	}
	return Secret(normal)
}

// boolean is false when the field is not there.
func (o object) boolean(key string) bool {
	var b bool
	if o.has(key) && json.Unmarshal(o.raw[key], &b) != nil {
		o.refuse(key, string(o.raw[key]), "it must be true or false")
	}
	return b
}

// number is an integer between two bounds, written as a number or as its decimal digits, as Cinder's drivers do either; orElse when it is not there.
func (o object) number(key string, low, high, orElse uint64) uint64 {
	if !o.has(key) {
		return orElse
	}
	return o.numeral(key, o.raw[key], low, high)
}

func (o object) numeral(key string, raw json.RawMessage, low, high uint64) uint64 {
	digits := string(bytes.TrimSpace(raw))
	var s string
	if json.Unmarshal(raw, &s) == nil {
		digits = s
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n < low || n > high || strings.HasPrefix(digits, "+") {
		o.refuse(key, digits, "it must be an integer from %d to %d", low, high)
		return 0
	}
	return n
}

// most is how many entries a list may have: more than any array has ports.
const most = 256

// list is the entries of a list; nil when it is not there.
func (o object) list(key string) []json.RawMessage {
	if !o.has(key) {
		return nil
	}
	var out []json.RawMessage
	switch {
	case json.Unmarshal(o.raw[key], &out) != nil:
		o.refuse(key, string(o.raw[key]), "it must be a list")
	case len(out) > most:
		o.refuse(key, "", "the list is longer than %d", most)
	}
	if *o.err != nil {
		return nil
	}
	return out
}

// some is a list that has entries.
func (o object) some(key string, r rule) []string {
	out := o.texts(key, r)
	if len(out) == 0 {
		o.refuse(key, "", "it must be a list that is not empty")
	}
	return out
}

// texts is a list of strings.
func (o object) texts(key string, r rule) []string {
	var out []string
	for i, raw := range o.list(key) {
		out = append(out, o.entry(at(key, i), raw).must("", r))
	}
	return out
}

// entry is a value of a list, to be read as a field of its own.
func (o object) entry(key string, raw json.RawMessage) object {
	return object{name: o.name + key, raw: map[string]json.RawMessage{"": raw}, err: o.err}
}

func at(key string, i int) string { return fmt.Sprintf("%s[%d]", key, i) }
