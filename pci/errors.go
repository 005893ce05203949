package pci

import "fmt"

// Error is a configuration or a request that is wrong: a device_spec, an alias or a flavor's
// pci_passthrough:alias.
type Error struct {
	Class string // the name of Nova's exception
	Key   string // the property at fault
	Value string
	Rule  string // the sentence that it breaks
}

// Error returns key, value and rule.
func (e *Error) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s: %s", e.Key, e.Rule)
	}
	return fmt.Sprintf("%s=%q: %s", e.Key, e.Value, e.Rule)
}

func failed(class, key, value, rule string, args ...any) *Error {
	return &Error{Class: class, Key: key, Value: value, Rule: fmt.Sprintf(rule, args...)}
}
