package neutron

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Error says why something is refused, in a way that a user can act upon.
type Error struct {
	Class string // the name of Neutron's exception
	Kind  Kind
	Field string // of the request, spelled as the network API does; may be empty
	Value string // cut short when it is long; may be empty
	Rule  string // the sentence that it breaks
}

// Kind is how a front door answers.
type Kind int

// The kinds.
const (
	Invalid  Kind = iota // 400
	NotFound             // 404
	Conflict             // 409
)

// Error returns field, value and rule.
func (e *Error) Error() string {
	switch {
	case e.Field == "":
		return e.Rule
	case e.Value == "":
		return e.Field + ": " + e.Rule
	default:
		return fmt.Sprintf("%s=%q: %s", e.Field, e.Value, e.Rule)
	}
}

// invalid is Neutron's InvalidInput.
func invalid(field, value, rule string, args ...any) *Error {
	return failed("InvalidInput", Invalid, field, value, rule, args...)
}

func failed(class string, kind Kind, field, value, rule string, args ...any) *Error {
	return &Error{Class: class, Kind: kind, Field: field, Value: cut(value), Rule: fmt.Sprintf(rule, args...)}
}

// cut keeps what a user needs to know a value by.
func cut(value string) string {
	const long = 80
	value = strings.ToValidUTF8(value, "\uFFFD")
	if utf8.RuneCountInString(value) <= long {
		return value
	}
	return string([]rune(value)[:long]) + "..."
}
