package compute

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/luks"
)

// VolumeKeys keeps the keys of encrypted volumes, each a file that only the agent can read. A key never changes: without it the volume is lost.
type VolumeKeys struct{ dir string }

const (
	defaultKeyBits = 256
	halfPut        = ".new-*"
)

// NewVolumeKeys keeps keys in dir, which is made if it is not there. There must be no other of that directory.
func NewVolumeKeys(dir string) (*VolumeKeys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keys of volumes: %w", err)
	}
	// What a crash left of put is a second name of a key, or a part of one.
	left, err := filepath.Glob(filepath.Join(dir, halfPut))
	if err == nil && len(left) > 0 {
		err = removeFiles(left...)
	}
	if err != nil {
		return nil, fmt.Errorf("keys of volumes: %w", err)
	}
	return &VolumeKeys{dir}, nil
}

// Make makes a random key of a number of bits; 0 for 256. One that is there stays.
func (k *VolumeKeys) Make(id string, bits int) error {
	if bits == 0 {
		bits = defaultKeyBits
	}
	key := make([]byte, bits/8)
	_, _ = rand.Read(key) // never fails
	return k.put(id, key)
}

// Copy makes a key that is the same as another one. One that is there stays.
func (k *VolumeKeys) Copy(from, to string) error {
	key, err := k.read(from)
	if err != nil {
		return err
	}
	return k.put(to, key)
}

// put writes a key beside its place and links it there, which fails where there is one: a key is there wholly, for good, or not at all.
func (k *VolumeKeys) put(id string, key []byte) (err error) {
	path, err := k.path(id)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	file, err := os.CreateTemp(k.dir, halfPut) // 0600
	if err != nil {
		return fmt.Errorf("keep key %s: %w", id, err)
	}
	defer func() { err = errors.Join(err, os.Remove(file.Name())) }()
	_, err = file.Write(key)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("keep key %s: %w", id, err)
	}
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keep key %s: %w", id, err)
	}
	return syncDir(k.dir)
}

func (k *VolumeKeys) read(id string) ([]byte, error) {
	path, err := k.path(id)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(path)
	if err == nil && len(key) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", id, err)
	}
	return key, nil
}

// Passphrase is what opens the volume that a key is of.
func (k *VolumeKeys) Passphrase(id string) (connector.Secret, error) {
	key, err := k.read(id)
	if err != nil {
		return "", err
	}
	return luks.Passphrase(key), nil
}

// Delete removes a key: what was encrypted with it is lost. One that is not there is deleted.
func (k *VolumeKeys) Delete(id string) error {
	path, err := k.path(id)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete key %s: %w", id, err)
	}
	return syncDir(k.dir)
}

func (k *VolumeKeys) path(id string) (string, error) {
	if err := uuid.Validate(id); err != nil || len(id) != uuidLength {
		return "", fmt.Errorf("key %q is not named by a UUID", id)
	}
	return filepath.Join(k.dir, id), nil
}

// uuidLength is that of the only form of a UUID that names files.
const uuidLength = 36
