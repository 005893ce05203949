package guest

import "fmt"

// Error is a setting, or a drive or port, that no guest can be made of.
type Error struct {
	Class string // the name of Nova's exception
	Key   string // the extra spec, property, option or field at fault
	Value string
	Rule  string // the sentence that it breaks
}

// Error returns key, value and rule.
func (e *Error) Error() string { return fmt.Sprintf("%s=%q: %s", e.Key, e.Value, e.Rule) }

func failed(class, key, value, rule string, args ...any) *Error {
	return &Error{Class: class, Key: key, Value: value, Rule: fmt.Sprintf(rule, args...)}
}

// LostPlace says why a server cannot run where it was placed.
type LostPlace struct{ Reason string }

// Error returns the reason, for the operator to put right.
func (e *LostPlace) Error() string {
	return "the server's place on the host is not there: " + e.Reason
}

func lostPlace(format string, args ...any) error {
	return &LostPlace{Reason: fmt.Sprintf(format, args...)}
}
