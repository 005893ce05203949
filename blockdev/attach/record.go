package attach

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"compute-agent/blockdev/connector"
)

// record is one volume that was connected, or whose connection was begun. It holds no secret.
type record struct {
	VolumeID string           `json:"volume_id"`
	Info     connector.Info   `json:"connection"`
	Device   connector.Device `json:"device"` // zero while it is not there yet
	Since    time.Time        `json:"since"`  // Connect was called last
	Ending   bool             `json:"ending,omitempty"`
}

const recordSuffix = ".json"

// readRecords reads what earlier agents wrote down. A file that cannot be read is told and left.
func readRecords(dir string, log *slog.Logger) (map[string]record, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("records of volumes: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("records of volumes: %w", err)
	}
	records := map[string]record{}
	for _, e := range entries {
		id, is := strings.CutSuffix(e.Name(), recordSuffix)
		if !is {
			continue
		}
		var rec record
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil {
			err = json.Unmarshal(data, &rec)
		}
		if err == nil && rec.VolumeID != id {
			err = fmt.Errorf("it is of volume %q", rec.VolumeID)
		}
		if err != nil {
			log.Error("a record of a connected volume cannot be read", "file", filepath.Join(dir, e.Name()), "error", err)
			continue
		}
		records[id] = rec
	}
	return records, nil
}

// withoutSecrets is what a connection can be taken away by.
func withoutSecrets(info connector.Info) connector.Info {
	if info.ISCSI != nil {
		i := *info.ISCSI
		i.Auth, i.DiscoveryAuth = nil, nil
		info.ISCSI = &i
	}
	if info.RBD != nil {
		r := *info.RBD
		r.Keyring = ""
		info.RBD = &r
	}
	return info
}

func (h *Host) get(volumeID string) (record, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	rec, ok := h.records[volumeID]
	return rec, ok
}

func (h *Host) all() []record {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]record, 0, len(h.records))
	for _, rec := range h.records {
		out = append(out, rec)
	}
	return out
}

func (h *Host) put(rec record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.write(rec)
}

// write replaces a volume's file, and what is known of it. The caller holds mu.
func (h *Host) write(rec record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	file := h.file(rec.VolumeID)
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		return fmt.Errorf("record of volume %s: %w", rec.VolumeID, err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("record of volume %s: %w", rec.VolumeID, err)
	}
	h.records[rec.VolumeID] = rec
	return nil
}

func (h *Host) file(volumeID string) string {
	return filepath.Join(h.opt.State, volumeID+recordSuffix)
}

func (h *Host) drop(volumeID string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := os.Remove(h.file(volumeID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("record of volume %s: %w", volumeID, err)
	}
	delete(h.records, volumeID)
	return nil
}
