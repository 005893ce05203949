package cinder

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Kind is how a front door answers.
type Kind int

// The kinds.
const (
	Invalid   Kind = iota // 400
	NotFound              // 404
	Conflict              // 409
	OverLimit             // 413: a quota
)

// Refusal says why something is refused, in a way that a user can act upon.
type Refusal struct {
	Class string // the name of Cinder's exception
	Kind  Kind
	Field string // of the request, spelled as the block storage API does; may be empty
	Value string // cut short when it is long; may be empty
	Rule  string // the sentence that it breaks
}

// Error returns field, value and rule.
func (e *Refusal) Error() string {
	switch {
	case e.Field == "":
		return e.Rule
	case e.Value == "":
		return e.Field + ": " + e.Rule
	default:
		return fmt.Sprintf("%s=%q: %s", e.Field, e.Value, e.Rule)
	}
}

// Refuse makes a Refusal.
func Refuse(class string, kind Kind, field, value, rule string, args ...any) *Refusal {
	const long = 80
	if value = strings.ToValidUTF8(value, "\uFFFD"); utf8.RuneCountInString(value) > long {
		value = string([]rune(value)[:long]) + "..."
	}
	return &Refusal{Class: class, Kind: kind, Field: field, Value: value, Rule: fmt.Sprintf(rule, args...)}
}
