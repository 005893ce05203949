package compute

import (
	"fmt"
	"net/netip"
	"time"

	"compute-agent/virt"
)

// Server is what the agent remembers of one server. It is a value; the store keeps the truth.
type Server struct {
	ID     string // UUID
	Number int64  // given by the store at insert, never used twice; see GuestName
	// GuestNames is the instance_name_template that the server was made under, a format of one
	// integer; empty for the default.
	GuestNames string

	Name        string // the user's name for it; hostile
	Description string
	// AccessIPv4 and AccessIPv6 are addresses that the user notes with it; the zero Addr for none. Nothing uses them.
	AccessIPv4, AccessIPv6 netip.Addr
	UserID                 string
	ProjectID              string
	UserName               string // as it was when the server was created; for the domain's metadata
	ProjectName            string

	VM    VMState
	Task  TaskState
	Power virt.PowerState

	Flavor  Flavor   // as it was when the server was created
	ImageID string   // empty for a server that boots from a volume
	Image   ImageRef // what the root disk was made from; it may be gone from the image service

	// Hardware are the image properties that say what a guest of the server must keep for as long as the server lives:
	// what was chosen when it was created. They come before the image's own; see guest.Request.Settle. Nil for a server that an
	// older agent made, until the next start.
	Hardware map[string]string

	Keypair     *Keypair // as it was when the server was created; nil for none
	UserData    []byte   // decoded
	Metadata    map[string]string
	ConfigDrive bool
	// ConfigDriveFormat is iso9660 or vfat, as it was chosen when the server was created; empty for iso9660.
	ConfigDriveFormat string

	// Rescue is what the server's guest boots from in place of its own system; nil for a server that is not being rescued.
	Rescue *Rescue

	// GuestPassword is what the guest has posted to the metadata service: a password of its own making, encrypted by the server's key. Whoever
	// has the private one can read it. Empty for none.
	GuestPassword string

	Created    time.Time
	Updated    time.Time
	Launched   time.Time // first Active; zero before
	Terminated time.Time

	Fault *Fault // why it is in Error, or about to be once its operation is undone; else nil
}

// DefaultGuestNames is Nova's default instance_name_template.
const DefaultGuestNames = "instance-%08x"

// GuestName is the server's name at the hypervisor.
func (s Server) GuestName() string {
	if s.GuestNames == "" {
		return fmt.Sprintf(DefaultGuestNames, s.Number)
	}
	return fmt.Sprintf(s.GuestNames, s.Number)
}

// BootsFromVolume says that the server has no root disk of its own.
func (s Server) BootsFromVolume() bool { return s.ImageID == "" }

// Rescue is what a rescued server boots, and what it was.
type Rescue struct {
	ImageID string
	Image   ImageRef
	// Stable says that the server's own drives keep their places and the rescue disk comes behind them, as hw_rescue_device or hw_rescue_bus
	// of its image ask. Else it comes first and the server's root disk second, and its volumes are not there.
	Stable      bool
	ConfigDrive bool
	// Made is what the server's guest was made of, and will be again; nil where that is not known.
	Made *virt.Spec
}

// inPlaceOfAll says that a rescued server's guest has none of its drives but the root disk.
func (s Server) inPlaceOfAll() bool { return s.Rescue != nil && !s.Rescue.Stable }

// Blobs are the names of the image bytes that the server's disks are made on, empty ones too.
func (s Server) Blobs() []string {
	if s.Rescue == nil {
		return []string{s.Image.Checksum}
	}
	return []string{s.Image.Checksum, s.Rescue.Image.Checksum}
}

// ImageRef is the part of an image that a server depends on for as long as it lives.
type ImageRef struct {
	Name       string
	Checksum   string // SHA-256 of the bytes in hex: the name of the cached base file
	Format     string // qcow2 or raw
	Properties map[string]string
}

// Fault is what the API shows of a failure (Nova's instance fault).
type Fault struct {
	Code    int    // HTTP status of the like: 500, 400...
	Message string // for the user: no secrets, no paths of the host
	Details string // for the operator
	Created time.Time
}

// Flavor is a size. RAM is in MiB, disks in GiB, swap in MiB, as in Nova.
type Flavor struct {
	ID           string
	Name         string
	Description  string
	VCPUs        int
	MemoryMiB    int
	DiskGiB      int // 0: the image's own size
	EphemeralGiB int
	SwapMiB      int
	Public       bool
	Disabled     bool
	RXTXFactor   float64
	ExtraSpecs   map[string]string
}

// ImageStatus is where an image is in its life, in Glance's words.
type ImageStatus string

// The states of an image.
const (
	ImageQueued ImageStatus = "queued" // a record without bytes
	ImageSaving ImageStatus = "saving" // bytes are arriving
	ImageActive ImageStatus = "active"
	ImageKilled ImageStatus = "killed" // the upload failed; Image.Problem says why
)

// Image is a record of the image service.
type Image struct {
	ID              string
	Name            string
	ProjectID       string
	Status          ImageStatus
	Visibility      string // public, private, shared, community
	Protected       bool
	DiskFormat      string // qcow2 or raw
	ContainerFormat string // bare
	MinDiskGiB      int
	MinRAMMiB       int
	Size            int64 // bytes uploaded
	VirtualSize     int64 // bytes of the disk that it describes
	MD5             string
	SHA256          string // names the bytes in the image cache
	SHA512          string
	Tags            []string
	Properties      map[string]string
	Problem         string
	Created         time.Time
	Updated         time.Time
}

// Keypair is a user's public key.
type Keypair struct {
	UserID      string
	Name        string
	Type        string // ssh
	PublicKey   string // one authorized_keys line
	Fingerprint string // MD5 with colons, as Nova shows it
	Created     time.Time
	// PrivateKey is set only in the answer to the creation that made the key, and never stored:
	// OpenSSH's PEM form.
	PrivateKey string `json:"-"`
}
