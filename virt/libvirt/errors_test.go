package libvirt

import (
	"context"
	"errors"
	"fmt"
	"testing"

	lv "libvirt.org/go/libvirt"

	"compute-agent/virt"
)

func TestKinds(t *testing.T) {
	for _, c := range []struct {
		err  lv.Error
		want error
	}{
		{lv.Error{Code: lv.ERR_NO_DOMAIN, Message: "Domain not found"}, virt.ErrNotFound},
		{lv.Error{Code: lv.ERR_DOM_EXIST}, virt.ErrExists},
		{lv.Error{Code: lv.ERR_OPERATION_FAILED, Message: "operation failed: domain 'a' already exists with uuid 1"}, virt.ErrExists},
		{lv.Error{Code: lv.ERR_XML_INVALID_SCHEMA}, virt.ErrInvalid},
		{lv.Error{Code: lv.ERR_INTERNAL_ERROR, Message: "internal error: qemu unexpectedly closed the monitor: Image is not in qcow2 format"}, virt.ErrInvalid},
		{lv.Error{Code: lv.ERR_CONFIG_UNSUPPORTED}, virt.ErrUnsupported},
		{lv.Error{Code: lv.ERR_INTERNAL_ERROR, Message: "internal error: Unknown CPU model Z80"}, virt.ErrUnsupported},
		{lv.Error{Code: lv.ERR_OPERATION_INVALID, Message: "Requested operation is not valid: domain is not running"}, virt.ErrInvalidState},
		{lv.Error{Code: lv.ERR_SYSTEM_ERROR, Domain: lv.FROM_QEMU, Message: "Unable to read from monitor: Connection reset by peer"}, virt.ErrInvalidState},
		{lv.Error{Code: lv.ERR_OPERATION_TIMEOUT, Message: "Timed out during operation: cannot acquire state change lock"}, virt.ErrBusy},
		{lv.Error{Code: lv.ERR_SYSTEM_ERROR, Message: "Failed to terminate process 1 with SIGKILL: Device or resource busy"}, virt.ErrBusy},
		{lv.Error{Code: lv.ERR_INTERNAL_ERROR, Message: "Failed to get \"write\" lock\nIs another process using the image [x]?"}, virt.ErrBusy},
		{lv.Error{Code: lv.ERR_SYSTEM_ERROR, Domain: lv.FROM_RPC, Message: "Failed to connect socket: Connection refused"}, virt.ErrUnavailable},
		{lv.Error{Code: lv.ERR_INTERNAL_ERROR, Domain: lv.FROM_RPC, Message: "internal error: client socket is closed"}, virt.ErrUnavailable},
		{lv.Error{Code: lv.ERR_INVALID_CONN}, virt.ErrUnavailable},
		{lv.Error{Code: lv.ERR_INTERNAL_ERROR, Message: "cannot set up guest memory 'pc.ram': Cannot allocate memory"}, virt.ErrNoCapacity},
		{lv.Error{Code: lv.ERR_INTERNAL_ERROR, Domain: lv.FROM_QEMU, Message: "internal error: something else"}, nil},
	} {
		if got := kindOf(c.err); !errors.Is(got, c.want) {
			t.Errorf("code %d %q: kind is %v, want %v", c.err.Code, c.err.Message, got, c.want)
		}
	}
}

func TestFailure(t *testing.T) {
	if err := failure("start guest", "1", nil); err != nil {
		t.Errorf("no error became %v", err)
	}
	for _, c := range []struct {
		err  error
		want string
		is   []error
	}{
		{lv.Error{Code: lv.ERR_NO_DOMAIN, Message: "Domain not found: no domain with matching uuid"},
			"start guest 1: not found: Domain not found: no domain with matching uuid",
			[]error{virt.ErrNotFound, lv.ERR_NO_DOMAIN}},
		{context.DeadlineExceeded, "start guest 1: unavailable: context deadline exceeded",
			[]error{virt.ErrUnavailable, context.DeadlineExceeded}},
		{fmt.Errorf("%w: it sleeps", virt.ErrInvalidState), "start guest 1: not possible in this state: it sleeps",
			[]error{virt.ErrInvalidState}},
	} {
		got := failure("start guest", "1", c.err)
		if got.Error() != c.want {
			t.Errorf("message is %q, want %q", got, c.want)
		}
		for _, kind := range c.is {
			if !errors.Is(got, kind) {
				t.Errorf("%q is no %v", got, kind)
			}
		}
		if again := failure("other", "2", got); again.Error() != c.want {
			t.Errorf("wrapped twice: %q", again)
		}
	}
}
