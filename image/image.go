// Package image keeps the bytes of images, looks at them with suspicion, and makes guests' disks
// from them.
//
// Image bytes are hostile. They are named by their SHA-256 and never by anything a user wrote;
// their format is the declared one and never probed; and before a hypervisor or one of its tools
// sees them, the header is read here and refused if it points outside the file: a backing file, an
// external data file, or a feature whose meaning is not known (the class of CVE-2024-32498).
package image

import (
	"errors"
	"fmt"
)

// The formats that are accepted, in the words of Glance's disk_format.
const (
	FormatRaw   = "raw"
	FormatQCOW2 = "qcow2"
)

var (
	// ErrTooLarge is more bytes than the store takes, or a larger disk than it allows.
	ErrTooLarge = errors.New("too large")
	// ErrNoSpace is a full file system under the store or a disk.
	ErrNoSpace = errors.New("no space left for images")
	// ErrNotFound is what the store says of bytes that it does not have.
	ErrNotFound = errors.New("no such image data")
	// ErrTooSmall is a disk that is smaller than the image it is to be made from.
	ErrTooSmall = errors.New("disk is smaller than the image")
)

// Info is what an image's header says of it.
type Info struct {
	Format      string
	VirtualSize int64 // of the disk that the guest will see, in bytes; a multiple of 512
}

// Refusal is an image that is not taken. Its message is for the user who sent it.
type Refusal struct {
	Format string // as declared
	Reason string // a clause: "it has a backing file"
}

// Error returns the reason, with the format that the image was declared to be.
func (r *Refusal) Error() string {
	return fmt.Sprintf("not acceptable as %s: %s", r.Format, r.Reason)
}

// Base is an image that a disk is made from: a file of the store, accepted by Upload.Inspect.
type Base struct {
	Path   string // absolute
	Format string // raw or qcow2
}
