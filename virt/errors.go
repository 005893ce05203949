package virt

import (
	"errors"
	"fmt"
)

// The kinds of error that a driver returns, to be tested with errors.Is.
var (
	// ErrNotFound: there is no such guest. A caller that wanted it gone is done.
	ErrNotFound = errors.New("not found")
	// ErrExists: a guest with this ID or name is there already. The caller looks at it before it
	// goes on: it may be its own, from before a restart.
	ErrExists = errors.New("already exists")
	// ErrInvalid: the request cannot be right on any host. Tell the user; do not retry.
	ErrInvalid = errors.New("invalid")
	// ErrUnsupported: this hypervisor or version cannot do it. Another host may.
	ErrUnsupported = errors.New("not supported")
	// ErrInvalidState: the guest is in a state in which this cannot be done. Read the state again.
	ErrInvalidState = errors.New("not possible in this state")
	// ErrBusy: something else is under way on this guest or device. Retry later.
	ErrBusy = errors.New("busy")
	// ErrUnavailable: the hypervisor does not answer. Retry when the connection is back; what was
	// asked for may or may not have happened.
	ErrUnavailable = errors.New("unavailable")
	// ErrNoCapacity: the host lacks the memory, CPUs or other resource. Free some or go elsewhere.
	ErrNoCapacity = errors.New("no capacity")
)

// Error is a failed operation on a subject. Its message is operation, subject, cause.
type Error struct {
	Op      string // what was tried: "start guest"
	Subject string // on what: the guest's ID; empty for the host
	Kind    error  // one of the kinds above; nil when none fits
	Err     error  // the cause
}

// Error returns "op subject: cause".
func (e *Error) Error() string {
	what := e.Op
	if e.Subject != "" {
		what += " " + e.Subject
	}
	switch {
	case e.Err == nil:
		return fmt.Sprintf("%s: %v", what, e.Kind)
	case e.Kind == nil || errors.Is(e.Err, e.Kind):
		return fmt.Sprintf("%s: %v", what, e.Err)
	default:
		return fmt.Sprintf("%s: %v: %v", what, e.Kind, e.Err)
	}
}

// Unwrap makes errors.Is find both the kind and the cause.
func (e *Error) Unwrap() []error {
	var errs []error
	for _, err := range []error{e.Kind, e.Err} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
