package api

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"compute-agent/cinder"
	"compute-agent/compute"
	"compute-agent/neutron"
)

// fault is an answer that says what went wrong. Its message goes to the user as it is.
type fault struct {
	status     int
	message    string
	retryAfter time.Duration // when to try again; zero says nothing
	allow      string        // the methods that a 405 names
	class      string        // the name of Neutron's exception; only its API tells it
	err        error         // the cause, for the log only
}

// Error returns the message with its cause.
func (f *fault) Error() string {
	if f.err == nil {
		return f.message
	}
	return f.message + ": " + f.err.Error()
}

// Unwrap returns the cause.
func (f *fault) Unwrap() error { return f.err }

func faultf(status int, format string, args ...any) *fault {
	return &fault{status: status, message: fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) *fault {
	return faultf(http.StatusBadRequest, format, args...)
}

func notFound(format string, args ...any) *fault {
	return faultf(http.StatusNotFound, format, args...)
}

// internalMessage is all that a user learns of an error of the agent's own; the rest is in the log.
const internalMessage = "Unexpected API Error. The log of compute-agent tells more under this request's ID."

// kinds maps the kinds of the core's errors to HTTP. A host without room answers like a quota
// that is used up.
var kinds = []struct {
	kind   error
	status int
}{
	{compute.ErrInvalid, http.StatusBadRequest},
	{compute.ErrForbidden, http.StatusForbidden},
	{compute.ErrNoCapacity, http.StatusForbidden},
	{compute.ErrNotFound, http.StatusNotFound},
	{compute.ErrConflict, http.StatusConflict},
	{compute.ErrExists, http.StatusConflict},
	{compute.ErrTooLarge, http.StatusRequestEntityTooLarge},
	{compute.ErrUnavailable, http.StatusServiceUnavailable},
}

// toFault turns any error into what the user is told. Only what the core wrote for users, a
// compute.Failure, is shown; the text of other errors may hold paths and is replaced by the name
// of their kind.
func toFault(err error) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	if tooBig, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return faultf(http.StatusRequestEntityTooLarge, "Request is too large: the limit is %d bytes.", tooBig.Limit)
	}
	if refused, ok := errors.AsType[*cinder.Refusal](err); ok {
		return volumeFault(refused, err)
	}
	for _, k := range kinds {
		if errors.Is(err, k.kind) {
			f := &fault{status: k.status, message: userMessage(err, k.kind), class: neutronClass(err), err: err}
			if k.status == http.StatusServiceUnavailable {
				f.retryAfter = 5 * time.Second
			}
			return f
		}
	}
	return &fault{status: http.StatusInternalServerError, message: internalMessage, err: err}
}

// volumeStatus is how Cinder answers to what it refuses.
var volumeStatus = map[cinder.Kind]int{
	cinder.Invalid: http.StatusBadRequest, cinder.NotFound: http.StatusNotFound, cinder.Conflict: http.StatusConflict,
	cinder.OverLimit: http.StatusRequestEntityTooLarge,
}

// refusalWords are what Cinder's messages begin with, by the name of the exception.
var refusalWords = map[string]string{
	"InvalidVolume": "Invalid volume: ", "InvalidSnapshot": "Invalid snapshot: ", "InvalidInput": "Invalid input received: ",
	"InvalidVolumeType": "Invalid volume type: ", "InvalidQoSSpecs": "Invalid qos specs: ",
}

// volumeFault is what the volume service refuses, in Cinder's words.
func volumeFault(refused *cinder.Refusal, err error) *fault {
	f := &fault{status: volumeStatus[refused.Kind], message: refusalWords[refused.Class] + refused.Error(), err: err}
	if refused.Field == "" {
		f.message = sentence(f.message)
	}
	if refused.Kind == cinder.OverLimit {
		f.retryAfter = time.Second // Cinder says 0, which some clients take for at once and for ever
	}
	return f
}

// sentence begins with a capital letter.
func sentence(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	return string(unicode.ToUpper(first)) + s[size:]
}

// isNotFound tells whether an error is the answer that something is not there.
func isNotFound(err error) bool {
	f, is := errors.AsType[*fault](err)
	return is && f.status == http.StatusNotFound
}

// userMessage is what the failure says to users, without its cause.
func userMessage(err, kind error) string {
	f, ok := errors.AsType[*compute.Failure](err)
	if !ok {
		return kind.Error()
	}
	public := *f
	public.Err = nil
	return public.Error()
}

// computeFaultNames are the keys under which Nova puts a fault, by status (nova.api.openstack.wsgi.Fault).
var computeFaultNames = map[int]string{
	http.StatusBadRequest:            "badRequest",
	http.StatusUnauthorized:          "unauthorized",
	http.StatusForbidden:             "forbidden",
	http.StatusNotFound:              "itemNotFound",
	http.StatusMethodNotAllowed:      "badMethod",
	http.StatusConflict:              "conflictingRequest",
	http.StatusRequestEntityTooLarge: "overLimit",
	http.StatusUnsupportedMediaType:  "badMediaType",
	http.StatusTooManyRequests:       "overLimit",
	http.StatusNotImplemented:        "notImplemented",
	http.StatusServiceUnavailable:    "serviceUnavailable",
}

// computeFault is the shape of Nova.
func computeFault(f *fault) any {
	name, ok := computeFaultNames[f.status]
	if !ok {
		name = "computeFault"
	}
	body := map[string]any{"code": f.status, "message": f.message}
	if f.retryAfter > 0 {
		body["retryAfter"] = retryAfter(f)
	}
	return map[string]any{name: body}
}

// identityFault is the shape of Keystone.
func identityFault(f *fault) any {
	return map[string]any{"error": map[string]any{
		"code":    f.status,
		"title":   http.StatusText(f.status),
		"message": f.message,
	}}
}

// neutronClass is the name that the network service has for an error.
func neutronClass(err error) string {
	if e, ok := errors.AsType[*neutron.Error](err); ok {
		return e.Class
	}
	return ""
}

// networkFaultNames are the exceptions that Neutron answers with when it has no name of its own, by status.
var networkFaultNames = map[int]string{
	http.StatusBadRequest:            "HTTPBadRequest",
	http.StatusForbidden:             "HTTPForbidden",
	http.StatusNotFound:              "HTTPNotFound",
	http.StatusMethodNotAllowed:      "HTTPMethodNotAllowed",
	http.StatusConflict:              "HTTPConflict",
	http.StatusRequestEntityTooLarge: "HTTPRequestEntityTooLarge",
	http.StatusUnsupportedMediaType:  "HTTPUnsupportedMediaType",
	http.StatusTooManyRequests:       "HTTPTooManyRequests",
	http.StatusServiceUnavailable:    "HTTPServiceUnavailable",
}

// networkFault is the shape of Neutron.
func networkFault(f *fault) any {
	class := cmp.Or(f.class, networkFaultNames[f.status], "HTTPInternalServerError")
	return map[string]any{"NeutronError": map[string]string{"type": class, "message": f.message, "detail": ""}}
}

// imageFault is the shape of Glance for clients that accept JSON.
func imageFault(f *fault) any {
	return map[string]any{
		"message": f.message,
		"code":    strconv.Itoa(f.status) + " " + http.StatusText(f.status),
		"title":   http.StatusText(f.status),
	}
}

// imageFaultPage is the shape of Glance for all others: its own client looks for the message in a
// page and stumbles over JSON. It is not a template because package template, which can call any
// method by name, makes the linker keep every method of the program: 3 MB.
const imageFaultPage = `<html>
 <head>
  <title>%[1]s</title>
 </head>
 <body>
  <h1>%[1]s</h1>
  %[2]s<br /><br />
 </body>
</html>`

// imageFaultText leaves quotes as they are, because clients drop the page's tags and no more.
var imageFaultText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func writeFault(w http.ResponseWriter, r *http.Request, s service, f *fault) {
	h := w.Header()
	if f.retryAfter > 0 {
		h.Set("Retry-After", retryAfter(f))
	}
	if f.allow != "" {
		h.Set("Allow", f.allow)
	}
	switch {
	case f.status == http.StatusUnauthorized: // all services leave this one to keystonemiddleware
		h.Set("WWW-Authenticate", `Keystone uri="`+cmp.Or(s.publicURL, requestBase(r))+`/identity"`)
		writeJSON(w, f.status, identityFault(f))
	case s.pages && !strings.Contains(r.Header.Get("Accept"), "application/json"):
		h.Set("Content-Type", "text/html; charset=UTF-8")
		w.WriteHeader(f.status)
		code := strconv.Itoa(f.status) + " " + http.StatusText(f.status)
		_, _ = fmt.Fprintf(w, imageFaultPage, code, imageFaultText.Replace(f.message)) // the client may have gone
	default:
		writeJSON(w, f.status, s.shape(f))
	}
}

func retryAfter(f *fault) string {
	return strconv.Itoa(int(max(1, (f.retryAfter+time.Second-1)/time.Second)))
}
