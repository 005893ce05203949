package luks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
	"compute-agent/internal/command"
	"compute-agent/internal/keylock"
)

// Host opens encrypted volumes by cryptsetup, as device-mapper maps whose names are made of the volumes' IDs: what a crash left is found by
// that name, and belongs to no other volume. All methods may be called concurrently.
type Host struct {
	System scsi.System
	Run    command.Runner

	volumes keylock.Map[string]
}

// mapPrefix is os-brick's for the names of maps.
const mapPrefix = "crypt-"

// limit is how long cryptsetup may take: key slots that others made may ask for seconds of hashing and much memory.
const limit = 2 * time.Minute

// Map is a volume as it is decrypted.
type Map struct {
	VolumeID string
	Name     string // of device-mapper
	Device   string // the kernel's name: dm-0
	UUID     string // of device-mapper: CRYPT-, the type, LUKS's UUID, the name
	Below    string // the block device that it is made of, by the kernel's name; empty when that is gone
	Bytes    int64
}

// Maps returns the maps that decrypt volumes, whichever agent of the host has made them.
func (h *Host) Maps() ([]Map, error) {
	entries, err := os.ReadDir(filepath.Join(h.System.Sys, "block"))
	if err != nil {
		return nil, err
	}
	var maps []Map
	for _, e := range entries {
		if m, ok := h.read(e.Name()); ok {
			maps = append(maps, m)
		}
	}
	return maps, nil
}

// read reads a map if it is one. One that goes while it is read is none.
func (h *Host) read(device string) (Map, bool) {
	dir := filepath.Join(h.System.Sys, "block", device)
	name, err1 := readText(dir, "dm/name")
	id, err2 := readText(dir, "dm/uuid")
	volume, ours := strings.CutPrefix(name, mapPrefix)
	if err1 != nil || err2 != nil || !ours || !isUUID(volume) {
		return Map{}, false
	}
	m := Map{VolumeID: volume, Name: name, Device: device, UUID: id}
	m.Bytes, _ = h.System.Bytes(device)
	if slaves, err := os.ReadDir(filepath.Join(dir, "slaves")); err == nil && len(slaves) == 1 {
		m.Below = slaves[0].Name()
	}
	return m, true
}

func (h *Host) find(volumeID string) (Map, bool, error) {
	maps, err := h.Maps()
	if err != nil {
		return Map{}, false, err
	}
	for _, m := range maps {
		if m.VolumeID == volumeID {
			return m, true, nil
		}
	}
	return Map{}, false, nil
}

// Open decrypts a volume that is there as dev, and returns dev with the map above it. A map that is there already is used when it is made of dev and
// of the same LUKS header; another, that a crash left above a device that is not the volume's any more, is closed first, and refused with InUse
// when somebody holds it. A wrong key is AuthFailed. Nothing is ever formatted: a volume without a LUKS header, that should have one, is refused.
func (h *Host) Open(ctx context.Context, volumeID string, dev connector.Device, c connector.Cipher) (connector.Device, error) {
	if err := errors.Join(checkID(volumeID), Check(c)); err != nil {
		return connector.Device{}, err
	}
	unlock, err := h.volumes.Lock(ctx, volumeID)
	if err != nil {
		return connector.Device{}, err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	found, err := h.contents(dev.Path, c)
	if err != nil {
		return connector.Device{}, err
	}
	m, there, err := h.find(volumeID)
	if err != nil {
		return connector.Device{}, err
	}
	if there && !h.standsOn(m, dev.Path, found) {
		if err := h.close(ctx, m); err != nil {
			return connector.Device{}, err
		}
		there = false
	}
	if !there {
		if m, err = h.open(ctx, volumeID, dev.Path, c, found); err != nil {
			return connector.Device{}, err
		}
	}
	return h.above(dev, m), nil
}

// contents reads what the volume begins with, and refuses what is not what it is said to be.
func (h *Host) contents(path string, c connector.Cipher) (Contents, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Contents{}, &connector.Error{Reason: connector.NoDevice, Field: "device", Value: path, Rule: "the device that is to be decrypted is not there", Err: err}
	}
	if err != nil {
		return Contents{}, err
	}
	defer f.Close() //nolint:errcheck // only read
	found, err := Header(f)
	if err != nil {
		return Contents{}, fmt.Errorf("%s: %w", path, err)
	}
	isLUKS := found.Kind == LUKS1 || found.Kind == LUKS2
	switch {
	case c.Format == FormatPlain && isLUKS:
		return Contents{}, invalid("provider", c.Format, "the volume has a LUKS header, which a plain map would let a guest write over")
	case c.Format != FormatPlain && !isLUKS:
		return Contents{}, invalid("provider", c.Format, fmt.Sprintf("the volume has no LUKS header (what it begins with is %s): only who made it may format it", found.Kind))
	}
	return found, nil
}

// standsOn says whether a map decrypts what is at path now.
func (h *Host) standsOn(m Map, path string, found Contents) bool {
	if !strings.HasPrefix(m.UUID, found.dmUUID()) || m.Below == "" {
		return false
	}
	if name := h.System.Name(path); name != "" {
		return m.Below == name
	}
	// Of a file cryptsetup makes a loop device.
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	backing, err := readText(h.System.Sys, "block", m.Below, "loop/backing_file")
	return err == nil && backing == file
}

func (h *Host) open(ctx context.Context, volumeID, path string, c connector.Cipher, found Contents) (Map, error) {
	if name := h.System.Name(path); name != "" {
		if err := h.System.CheckFree(name); err != nil {
			return Map{}, err
		}
	}
	if _, err := h.Run.Run(ctx, cryptsetup(c.Key, openArgs(path, mapPrefix+volumeID, c, found.Kind)...)); err != nil {
		return Map{}, refused(path, err)
	}
	m, there, err := h.find(volumeID)
	if err == nil && !there {
		err = &connector.Error{Reason: connector.NoDevice, Field: "device", Value: mapPrefix + volumeID, Rule: "cryptsetup opened the volume and there is no map of it"}
	}
	return m, err
}

func (h *Host) above(dev connector.Device, m Map) connector.Device {
	dev.Below, dev.Path = dev.Path, h.path(m)
	dev.Crypt, dev.Bytes = m.Name, m.Bytes
	return dev
}

func (h *Host) path(m Map) string { return filepath.Join(h.System.Dev, "mapper", m.Name) }

// Close takes away the map of a volume. It is refused with InUse while somebody holds it; one that is not there is closed.
func (h *Host) Close(ctx context.Context, volumeID string) error {
	if err := checkID(volumeID); err != nil {
		return err
	}
	unlock, err := h.volumes.Lock(ctx, volumeID)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	m, there, err := h.find(volumeID)
	if err != nil || !there {
		return err
	}
	return h.close(ctx, m)
}

func (h *Host) close(ctx context.Context, m Map) error {
	if !strings.HasPrefix(m.UUID, "CRYPT-") {
		return &connector.Error{Reason: connector.InUse, Field: "device", Value: m.Name, Rule: "the map of this name is none of cryptsetup's"}
	}
	if err := h.System.CheckFree(m.Device); err != nil {
		return err
	}
	// A map whose device is gone cannot be written out any more.
	if err := h.System.Flush(ctx, m.Device); err != nil && m.Below != "" {
		return err
	}
	_, err := h.Run.Run(ctx, command.Cmd{Name: "cryptsetup", Args: []string{"close", "--", m.Name}})
	var failed *command.Error
	if errors.As(err, &failed) && failed.ExitCode == exitWrongDevice {
		return nil // it went meanwhile
	}
	if err != nil {
		return refused(m.Name, err)
	}
	return nil
}

// Resize makes the map as large as the device below it has become, and returns dev with the new size. The key is asked for where it is kept in the
// kernel's keyring, from which it cannot be read.
func (h *Host) Resize(ctx context.Context, volumeID string, dev connector.Device, c connector.Cipher) (connector.Device, error) {
	if err := errors.Join(checkID(volumeID), Check(c)); err != nil {
		return connector.Device{}, err
	}
	unlock, err := h.volumes.Lock(ctx, volumeID)
	if err != nil {
		return connector.Device{}, err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	m, there, err := h.find(volumeID)
	if err != nil {
		return connector.Device{}, err
	}
	if !there {
		return connector.Device{}, &connector.Error{Reason: connector.NoDevice, Field: "device", Value: mapPrefix + volumeID, Rule: "the volume is not open"}
	}
	if _, err := h.Run.Run(ctx, cryptsetup(c.Key, "resize", "--key-file=-", "--", m.Name)); err != nil {
		return connector.Device{}, refused(m.Name, err)
	}
	if dev.Bytes, err = h.System.Bytes(m.Device); err != nil {
		return connector.Device{}, err
	}
	dev.Path, dev.Crypt = h.path(m), m.Name
	return dev, nil
}

func checkID(volumeID string) error {
	if !isUUID(volumeID) {
		return invalid("volume_id", volumeID, "the ID of a volume must be a UUID")
	}
	return nil
}

// isUUID takes the canonical form only: the name of a map is made of it.
func isUUID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}

func readText(parts ...string) (string, error) {
	data, err := os.ReadFile(filepath.Join(parts...))
	return strings.TrimSpace(string(data)), err
}
