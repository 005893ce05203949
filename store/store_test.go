package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"compute-agent/compute"
	"compute-agent/store"
	"compute-agent/virt"
)

var noon = time.Date(2025, 3, 4, 12, 0, 0, 123456789, time.UTC)

// fullServer is a server with every field set.
func fullServer(id string) compute.Server {
	return compute.Server{
		ID: id, Name: "web \"<1>\" ü", Description: "front", UserID: "u", ProjectID: "p",
		VM: compute.Active, Task: compute.TaskPausing, Power: virt.PowerRunning,
		Flavor:  compute.Flavor{ID: "1", Name: "tiny", VCPUs: 1, MemoryMiB: 64, Public: true, RXTXFactor: 1, ExtraSpecs: map[string]string{"hw:cpu_policy": "shared"}},
		ImageID: "img", Image: compute.ImageRef{Name: "cirros", Checksum: "abc", Format: "qcow2", Properties: map[string]string{"hw_disk_bus": "virtio"}},
		Keypair:  &compute.Keypair{UserID: "u", Name: "k", Type: "ssh", PublicKey: "ssh-ed25519 AAAA", Fingerprint: "00:11", Created: noon},
		UserData: []byte{0, 1, 0xff}, Metadata: map[string]string{"a": "b"}, ConfigDrive: true,
		Created: noon, Updated: noon.Add(1), Launched: noon.Add(2), Terminated: noon.Add(3),
		Fault: &compute.Fault{Code: 500, Message: "m", Details: "d", Created: noon},
	}
}

func open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "agent.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func update(t *testing.T, s compute.Store, fn func(compute.Writer) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, s compute.Store, fn func(compute.Reader) error) {
	t.Helper()
	if err := s.View(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func TestServerComesBackAsItWas(t *testing.T) {
	s := open(t)
	want := fullServer("a")
	update(t, s, func(w compute.Writer) error {
		got, err := w.InsertServer(want)
		want.Number = got.Number
		return err
	})
	if want.Number != 1 {
		t.Errorf("number %d, want 1", want.Number)
	}
	view(t, s, func(r compute.Reader) error {
		got, err := r.Server("a")
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		return err
	})
}

func TestOperationComesBackAsItWas(t *testing.T) {
	s := open(t)
	want := compute.Operation{ID: "o", ServerID: "a", Kind: compute.OpCreate, RequestID: "req-1",
		Args: json.RawMessage(`{"x": 1}`), Step: "disk", Undoing: true, Cause: "full", Started: noon}
	update(t, s, func(w compute.Writer) error {
		_, err := w.InsertServer(fullServer("a"))
		return errors.Join(err, w.PutOperation(want))
	})
	view(t, s, func(r compute.Reader) error {
		got, err := r.Operations()
		if d := cmp.Diff([]compute.Operation{want}, got); d != "" {
			t.Error(d)
		}
		return err
	})
}
