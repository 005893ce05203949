package compute

import (
	"errors"
	"strings"
)

// The kinds of error that the manager and the store return, to be tested with errors.Is. A front
// door maps each to one answer.
var (
	ErrInvalid     = errors.New("invalid request")         // 400; the request can never succeed
	ErrForbidden   = errors.New("forbidden")               // 403; a limit or policy refuses it
	ErrNotFound    = errors.New("not found")               // 404
	ErrConflict    = errors.New("conflict")                // 409; not in this state, or the name is taken
	ErrExists      = errors.New("already exists")          // 409
	ErrTooLarge    = errors.New("too large")               // 413
	ErrNoCapacity  = errors.New("no capacity")             // the host lacks a resource
	ErrUnavailable = errors.New("temporarily unavailable") // 503; retry later
)

// Failure is an error with the words that a user needs: what was wrong with which field or thing.
type Failure struct {
	Kind    error  // one of the kinds above
	Subject string // "server 7f3c...", "image cirros"; may be empty
	Field   string // the request's field that is at fault; may be empty
	Reason  string // a sentence without a full stop
	Err     error  // the cause, for the log; may be nil
}

// Error returns "subject: field: reason".
func (f *Failure) Error() string {
	parts := make([]string, 0, 4)
	for _, p := range []string{f.Subject, f.Field, f.Reason} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	if f.Reason == "" && f.Kind != nil {
		parts = append(parts, f.Kind.Error())
	}
	if f.Err != nil {
		parts = append(parts, f.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap makes errors.Is find the kind and the cause.
func (f *Failure) Unwrap() []error {
	var errs []error
	for _, err := range []error{f.Kind, f.Err} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
