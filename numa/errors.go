package numa

import "fmt"

// Error is a request that cannot be honoured on any host: a flavor's extra spec or an image's
// property is wrong, or they contradict each other.
type Error struct {
	// Class is the name of Nova's exception for it, which a conductor or scheduler understands.
	Class string
	// Key is the extra spec (hw:cpu_policy) or image property (hw_cpu_policy) at fault.
	Key string
	// Value is what it was.
	Value string
	// Rule is the sentence that it breaks.
	Rule string
}

// Error returns key, value and rule.
func (e *Error) Error() string {
	switch {
	case e.Key == "":
		return e.Rule
	case e.Value == "":
		return fmt.Sprintf("%s: %s", e.Key, e.Rule)
	default:
		return fmt.Sprintf("%s=%q: %s", e.Key, e.Value, e.Rule)
	}
}

func failed(class, key, value, rule string, args ...any) *Error {
	return &Error{Class: class, Key: key, Value: value, Rule: fmt.Sprintf(rule, args...)}
}
