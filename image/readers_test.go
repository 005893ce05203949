package image

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

func TestInspectionWaitsForOthers(t *testing.T) {
	store, err := OpenStore(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	upload, err := store.Receive(t.Context(), bytes.NewReader(make([]byte, 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(upload.Discard)
	if err := store.readers.Acquire(t.Context(), maxReaders); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := upload.Inspect(ctx, FormatRaw); !errors.Is(err, context.Canceled) {
		t.Errorf("with all readers busy and nobody waiting any more the error is %v, want context.Canceled", err)
	}
	store.readers.Release(maxReaders)
	if _, err := upload.Inspect(t.Context(), FormatRaw); err != nil {
		t.Errorf("with a reader free: %v", err)
	}
}
