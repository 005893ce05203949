package image

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sync/semaphore"

	"compute-agent/internal/command"
)

const (
	defaultMaxSize        = 100 << 30
	defaultMaxVirtualSize = 16 << 40
	// uploadPrefix marks files that are being received. No content address begins like this.
	uploadPrefix = ".upload-"
)

// Options are the store's limits and tools.
type Options struct {
	MaxSize        int64          // bytes of one image's file; zero means 100 GiB
	MaxVirtualSize int64          // bytes of the disk that an image describes; zero means 16 TiB
	Runner         command.Runner // runs qemu-img; nil means the host's programs
}

// Store keeps image files in one directory, each named by the SHA-256 of its bytes in hex: the same
// bytes are there once, however many images have them. The files never change. Its methods may be
// called concurrently.
type Store struct {
	dir string
	opt Options
	// create opens the file that an upload goes to; replaced where a test needs a full disk.
	create func(dir, pattern string) (*os.File, error)
	// readers bounds how many programs read images at once: a hostile one may cost each of them all
	// the memory and time that its limits give it.
	readers *semaphore.Weighted
}

const maxReaders = 2

// Blob is an image's bytes: their length and their digests in hex.
type Blob struct {
	Size   int64
	MD5    string // Glance's "checksum"
	SHA256 string // the name in the store
	SHA512 string // Glance's "os_hash_value"
}

// OpenStore opens the store in dir, which is made if it is not there, and removes what uploads that
// never ended have left. No other process may use dir.
func OpenStore(dir string, opt Options) (*Store, error) {
	if opt.MaxSize == 0 {
		opt.MaxSize = defaultMaxSize
	}
	if opt.MaxVirtualSize == 0 {
		opt.MaxVirtualSize = defaultMaxVirtualSize
	}
	if opt.Runner == nil {
		opt.Runner = command.Exec{}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	// The hypervisor's user has to reach a file whose name it is told; it needs no list of them.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	if err := sweepUploads(dir); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	return &Store{dir: dir, opt: opt, create: os.CreateTemp, readers: semaphore.NewWeighted(maxReaders)}, nil
}

func sweepUploads(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), uploadPrefix) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Upload is an image that was received and is not in the store yet. It ends with Commit or
// Discard.
type Upload struct {
	Blob

	store *Store
	file  *os.File
}

// Receive reads r to its end into a new upload. ErrTooLarge if there is more than the store takes,
// ErrNoSpace if the disk is full, r's own error if it has one; nothing is kept then.
func (s *Store) Receive(ctx context.Context, r io.Reader) (_ *Upload, err error) {
	file, err := s.create(s.dir, uploadPrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("receive image: %w", noSpace(err))
	}
	u := &Upload{store: s, file: file}
	defer func() {
		if err != nil {
			u.Discard()
		}
	}()
	md, sum256, sum512 := md5.New(), sha256.New(), sha512.New()
	limited := io.LimitReader(readUntil{ctx, r}, s.opt.MaxSize+1)
	u.Size, err = io.CopyBuffer(io.MultiWriter(file, md, sum256, sum512), limited, make([]byte, 256<<10))
	if err != nil {
		return nil, fmt.Errorf("receive image: %w", noSpace(err))
	}
	if u.Size > s.opt.MaxSize {
		return nil, fmt.Errorf("receive image: %w: more than %d bytes", ErrTooLarge, s.opt.MaxSize)
	}
	if err := errors.Join(file.Chmod(0o644), file.Sync()); err != nil {
		return nil, fmt.Errorf("receive image: %w", noSpace(err))
	}
	u.MD5 = hex.EncodeToString(md.Sum(nil))
	u.SHA256 = hex.EncodeToString(sum256.Sum(nil))
	u.SHA512 = hex.EncodeToString(sum512.Sum(nil))
	return u, nil
}

// Inspect says what the image is. Its bytes must be what format says; see the package's comment for
// what is refused, as a *Refusal. Any other error is a failure to look.
func (u *Upload) Inspect(ctx context.Context, format string) (Info, error) {
	return u.store.inspect(ctx, u.file, format)
}

// Commit puts the upload into the store. It is quick: the bytes are on stable storage already. A
// file with the same bytes stays, since guests may run on it.
func (u *Upload) Commit() error {
	defer u.Discard()
	path := u.store.path(u.SHA256)
	if stat, err := os.Lstat(path); err == nil && stat.Size() == u.Size {
		return nil
	}
	if err := os.Rename(u.file.Name(), path); err != nil {
		return fmt.Errorf("keep image: %w", noSpace(err))
	}
	return u.store.sync()
}

// Discard removes the upload if it was not committed.
func (u *Upload) Discard() {
	_ = u.file.Close()           // its bytes are synced or unwanted
	_ = os.Remove(u.file.Name()) // gone after Commit; else OpenStore removes what stays
}

// Open opens an image's file for reading. ErrNotFound if it is not in the store.
func (s *Store) Open(sha string) (*os.File, error) {
	if !isSHA256(sha) {
		return nil, fmt.Errorf("%w: %q is not a SHA-256", ErrNotFound, sha)
	}
	file, err := os.Open(s.path(sha))
	if err != nil {
		return nil, missing(sha, err)
	}
	return file, nil
}

// Remove removes an image's file. Removing what is not there succeeds. Whoever has it open keeps
// it until it is closed.
func (s *Store) Remove(sha string) error {
	if !isSHA256(sha) {
		return nil
	}
	if err := os.Remove(s.path(sha)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove image: %w", err)
	}
	return nil
}

// List returns the SHA-256 of every image in the store.
func (s *Store) List() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var out []string
	for _, e := range entries {
		if isSHA256(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

func (s *Store) path(sha string) string { return filepath.Join(s.dir, sha) }

// sync makes a rename in the directory survive a power failure.
func (s *Store) sync() error {
	if err := syncDir(s.dir); err != nil {
		return fmt.Errorf("keep image: %w", noSpace(err))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func isSHA256(s string) bool {
	return len(s) == sha256.Size*2 && strings.Trim(s, "0123456789abcdef") == ""
}

func missing(sha string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNotFound, sha)
	}
	return fmt.Errorf("open image %s: %w", sha, err)
}

// noSpace gives a full disk or an exhausted quota its kind. The file's path is left out: the
// message reaches users.
func noSpace(err error) error {
	var program *command.Error
	said := errors.As(err, &program) && strings.HasSuffix(program.Stderr, "No space left on device")
	if said || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return ErrNoSpace
	}
	return err
}

// readUntil is a reader that ends with a context, between two reads.
type readUntil struct {
	ctx context.Context
	r   io.Reader
}

func (r readUntil) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
