package connector

import "fmt"

// Reason says what is wrong, for who decides what to do about it.
type Reason string

// The reasons.
const (
	InvalidInfo      Reason = "InvalidConnectionInfo" // a field of connection_info; Field, Value and Rule say which and why
	Unsupported      Reason = "Unsupported"           // this host cannot: Rule names what it lacks (a program, a kernel module, a daemon)
	Unreachable      Reason = "Unreachable"           // no path could be had in time
	AuthFailed       Reason = "AuthenticationFailed"  // the target refuses who logs in
	NoDevice         Reason = "VolumeDeviceNotFound"  // the target answers and the LUN is not there
	IdentityMismatch Reason = "IdentityMismatch"      // another disk is where the volume was; Value is what is there, Rule says what was expected
	InUse            Reason = "InUse"                 // somebody holds the device; Rule says who
	NoMultipath      Reason = "NoMultipath"           // it is enforced and cannot be had
	BadSize          Reason = "BadSize"               // the disk is empty, or the paths differ
	HasData          Reason = "VolumeHasData"         // it is to be formatted and is not blank
)

// Error is why a volume cannot be connected or taken away. It holds no secret.
type Error struct {
	Reason Reason
	Field  string // of connection_info, or what the error is about: a portal, a device
	Value  string // hostile; cut short
	Rule   string // the sentence
	Err    error  // the cause; may be nil
}

// Error returns field, value and rule, and the cause.
func (e *Error) Error() string {
	text := e.Rule
	switch {
	case e.Field != "" && e.Value != "":
		text = fmt.Sprintf("%s=%q: %s", e.Field, e.Value, e.Rule)
	case e.Field != "":
		text = e.Field + ": " + e.Rule
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
