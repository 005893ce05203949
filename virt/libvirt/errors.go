package libvirt

import (
	"context"
	"errors"
	"strings"

	lv "libvirt.org/go/libvirt"

	"compute-agent/virt"
)

// kinds translates libvirt's error codes, once for the whole driver.
var kinds = map[lv.ErrorNumber]error{
	lv.ERR_NO_DOMAIN: virt.ErrNotFound,

	lv.ERR_DOM_EXIST: virt.ErrExists,

	lv.ERR_XML_ERROR:          virt.ErrInvalid,
	lv.ERR_XML_DETAIL:         virt.ErrInvalid,
	lv.ERR_XML_INVALID_SCHEMA: virt.ErrInvalid,
	lv.ERR_INVALID_ARG:        virt.ErrInvalid,
	lv.ERR_NO_SECRET:          virt.ErrInvalid, // one that a disk names

	lv.ERR_CONFIG_UNSUPPORTED:    virt.ErrUnsupported,
	lv.ERR_NO_SUPPORT:            virt.ErrUnsupported,
	lv.ERR_ARGUMENT_UNSUPPORTED:  virt.ErrUnsupported,
	lv.ERR_OPERATION_UNSUPPORTED: virt.ErrUnsupported,
	lv.ERR_CPU_INCOMPATIBLE:      virt.ErrUnsupported,
	lv.ERR_OS_TYPE:               virt.ErrUnsupported,

	lv.ERR_OPERATION_INVALID: virt.ErrInvalidState,

	lv.ERR_RESOURCE_BUSY:     virt.ErrBusy,
	lv.ERR_OPERATION_TIMEOUT: virt.ErrBusy, // another job holds the domain
	lv.ERR_BLOCK_COPY_ACTIVE: virt.ErrBusy,

	lv.ERR_NO_CONNECT:       virt.ErrUnavailable,
	lv.ERR_INVALID_CONN:     virt.ErrUnavailable,
	lv.ERR_RPC:              virt.ErrUnavailable,
	lv.ERR_AUTH_FAILED:      virt.ErrUnavailable,
	lv.ERR_AUTH_UNAVAILABLE: virt.ErrUnavailable,
	lv.ERR_NO_SERVER:        virt.ErrUnavailable,

	lv.ERR_NO_MEMORY: virt.ErrNoCapacity,
}

// phrases tells apart what libvirt puts under its general codes, its own words and those of QEMU.
var phrases = []struct {
	part string
	kind error
}{
	{"already exists with uuid", virt.ErrExists},
	{"is already defined with uuid", virt.ErrExists},
	{"Cannot allocate memory", virt.ErrNoCapacity},
	{"unable to map backing store for guest RAM", virt.ErrNoCapacity},
	{"is in use by driver QEMU, domain", virt.ErrNoCapacity}, // a PCI device
	{"Device or resource busy", virt.ErrBusy},
	{"Is another process using the image", virt.ErrBusy},
	{`Failed to get "write" lock`, virt.ErrBusy},
	{`Failed to get shared "write" lock`, virt.ErrBusy},
	{"in active block job", virt.ErrBusy},
	{"No more available PCI slots", virt.ErrNoCapacity},
	{"No free USB ports", virt.ErrNoCapacity},
	{"Cannot resize fixed-size raw disks", virt.ErrUnsupported}, // copied to a larger source
	{"Cannot grow", virt.ErrInvalid},                            // a disk whose source has not got that size
	{"is not a valid device model name", virt.ErrUnsupported},
	{"Unknown CPU model", virt.ErrUnsupported},
	{"Unable to find any firmware to satisfy", virt.ErrUnsupported},
	{"Cannot assign requested address", virt.ErrUnsupported},
	{"mage is not in qcow2 format", virt.ErrInvalid},
	{"Volume is not in LUKS format", virt.ErrInvalid},
	{"Invalid password, cannot unlock any keyslot", virt.ErrInvalid},
	{"to be either a character or block device", virt.ErrInvalid},
	{"client socket is closed", virt.ErrUnavailable},
	{"Unable to read from monitor", virt.ErrInvalidState}, // the guest's process ended meanwhile
	{"End of file from qemu monitor", virt.ErrInvalidState},
}

// kindOf returns the kind of an error of libvirt; nil when none fits. Errors of the transport are
// unavailability, whatever their code.
func kindOf(e lv.Error) error {
	for _, p := range phrases {
		if strings.Contains(e.Message, p.part) {
			return p.kind
		}
	}
	if kind := kinds[e.Code]; kind != nil {
		return kind
	}
	if e.Domain == lv.FROM_RPC || e.Domain == lv.FROM_REMOTE {
		return virt.ErrUnavailable
	}
	return nil
}

// cause is libvirt's error with nothing but libvirt's words for a message.
type cause struct{ err lv.Error }

func (c cause) Error() string { return c.err.Message }
func (c cause) Unwrap() error { return c.err }

// failure makes the error that a method returns; nil for nil.
func failure(op, guest string, err error) error {
	if err == nil {
		return nil
	}
	var done *virt.Error
	if errors.As(err, &done) {
		return err
	}
	out := &virt.Error{Op: op, Subject: guest, Err: err}
	var e lv.Error
	switch {
	case errors.As(err, &e):
		out.Kind, out.Err = kindOf(e), cause{e}
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		out.Kind = virt.ErrUnavailable
	}
	return out
}

func isCode(err error, codes ...lv.ErrorNumber) bool {
	var e lv.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, code := range codes {
		if e.Code == code {
			return true
		}
	}
	return false
}

// outcomeUnknown says that what was asked for may have happened in spite of the error.
func outcomeUnknown(err error) bool {
	return errors.Is(failure("", "", err), virt.ErrUnavailable)
}

func isUnsupported(err error) bool {
	return isCode(err, lv.ERR_NO_SUPPORT, lv.ERR_OPERATION_UNSUPPORTED)
}

func isMissing(err error) bool {
	return isCode(err, lv.ERR_NO_DOMAIN) || errors.Is(err, virt.ErrNotFound)
}

func isTimeout(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
