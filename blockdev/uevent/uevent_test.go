package uevent

import (
	"context"
	"errors"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestUntilAsksAfterEachEvent(t *testing.T) {
	w, event := Fed()
	asked := 0
	err := w.Until(t.Context(), func() (bool, error) {
		asked++
		event()
		return asked == 3, nil
	})
	if err != nil || asked != 3 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}

func TestUntilEnds(t *testing.T) {
	w, event := Fed()
	cause := errors.New("cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := w.Until(ctx, func() (bool, error) { return false, nil }); !errors.Is(err, cause) {
		t.Errorf("at the end of the context: %v", err)
	}
	event()
	if err := w.Until(t.Context(), func() (bool, error) { return false, cause }); !errors.Is(err, cause) {
		t.Errorf("when the check fails: %v", err)
	}
}

// TestKernelEvents makes the kernel send an event: of a device that every Linux host has, asked for by its uevent file (a synthetic event).
func TestKernelEvents(t *testing.T) {
	const file = "/sys/devices/virtual/mem/null/uevent"
	w, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	err = w.Until(t.Context(), func() (bool, error) {
		if asked++; asked > 1 {
			return true, nil
		}
		return false, os.WriteFile(file, []byte("change"), 0)
	})
	if errors.Is(err, os.ErrPermission) {
		t.Skip("not root: the kernel cannot be asked for an event")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := w.Until(t.Context(), func() (bool, error) { return false, nil }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
