package luks

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"

	"github.com/google/uuid"
)

// Kind is what a volume begins with.
type Kind string

// The kinds.
const (
	Blank   Kind = "blank"   // zeros, as far as BlankBytes
	LUKS1   Kind = "luks1"   // QEMU and the host can open it
	LUKS2   Kind = "luks2"   // only the host can: QEMU knows no LUKS2
	Foreign Kind = "foreign" // anything else: another format, or the encrypted bytes of a plain volume
)

// BlankBytes is how much of a volume has to be zero for it to be blank: all that the largest default header (LUKS2's of 16 MiB) would overwrite.
const BlankBytes = 16 << 20

// ErrHeader is a LUKS header that breaks the rules of its format: it is damaged, or made to do harm.
var ErrHeader = errors.New("damaged LUKS header")

// Contents is what a volume begins with. All but Kind is of LUKS headers.
type Contents struct {
	Kind Kind
	UUID string // of the header, as cryptsetup prints it
	// Cipher is the cipher and its mode (aes-xts-plain64), Payload is where the data begins, in bytes. LUKS1 only: LUKS2 has segments, each with its own.
	Cipher  string
	Payload int64
}

const (
	sector    = 512
	magic     = "LUKS\xba\xbe"
	header1   = 592
	header2   = 4096
	slots1    = 8
	slotOn    = 0x00AC71F3
	slotOff   = 0x0000DEAD
	stripes   = 4000
	minHeader = 16 << 10 // LUKS2: binary header and JSON
	maxHeader = 4 << 20
)

// Header reads what a volume begins with, which may be anything: its bytes are hostile. It names a LUKS version only for a header that has that
// version's form throughout; one that begins as LUKS and has not is ErrHeader. It does not tell blank volumes that begin with zeros by chance from
// others without reading as far as BlankBytes.
func Header(r io.ReaderAt) (Contents, error) {
	head, err := readUpTo(r, 0, header2)
	if err != nil {
		return Contents{}, err
	}
	if bytes.HasPrefix(head, []byte(magic)) && len(head) >= len(magic)+2 {
		switch version := binary.BigEndian.Uint16(head[len(magic):]); version {
		case 1:
			return parse1(head)
		case 2:
			return parse2(r, head)
		default:
			return Contents{}, fmt.Errorf("%w: version %d is not known", ErrHeader, version)
		}
	}
	blank, err := zeros(r, BlankBytes)
	if err != nil {
		return Contents{}, err
	}
	if blank {
		return Contents{Kind: Blank}, nil
	}
	return Contents{Kind: Foreign}, nil
}

// DataOffset is where the data of a device or file begins that holds a LUKS1 volume, in bytes: what is before it no guest sees. ErrHeader for one that
// holds none, or one whose data is elsewhere.
func DataOffset(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // only read
	found, err := Header(f)
	if err == nil && (found.Kind != LUKS1 || found.Payload <= 0) {
		err = fmt.Errorf("%w: it is %s, not luks1 with its data behind it", ErrHeader, found.Kind)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return found.Payload, nil
}

// parse1 checks a LUKS1 header (LUKS On-Disk Format Specification 1.2.3).
func parse1(head []byte) (Contents, error) {
	if len(head) < header1 {
		return Contents{}, fmt.Errorf("%w: it is cut short", ErrHeader)
	}
	name, ok1 := text(head[8:40])
	mode, ok2 := text(head[40:72])
	digest, ok3 := text(head[72:104])
	id, ok4 := text(head[168:208])
	if !ok1 || !ok2 || !ok3 || !ok4 || name == "" || mode == "" || digest == "" {
		return Contents{}, fmt.Errorf("%w: a name in it is not text", ErrHeader)
	}
	if err := uuid.Validate(id); err != nil || len(id) != 36 {
		return Contents{}, fmt.Errorf("%w: its UUID is none", ErrHeader)
	}
	payload := int64(binary.BigEndian.Uint32(head[104:]))
	keyBytes := binary.BigEndian.Uint32(head[108:])
	if keyBytes == 0 || keyBytes > 512 {
		return Contents{}, fmt.Errorf("%w: a key of %d bytes", ErrHeader, keyBytes)
	}
	for i := range slots1 {
		if err := checkSlot(head[208+48*i:], payload, int64(keyBytes)); err != nil {
			return Contents{}, fmt.Errorf("%w: key slot %d: %w", ErrHeader, i, err)
		}
	}
	return Contents{Kind: LUKS1, UUID: id, Cipher: name + "-" + mode, Payload: payload * sector}, nil
}

// checkSlot checks that a key slot's material lies between header and payload. A payload at 0 is a header that is kept elsewhere.
func checkSlot(slot []byte, payload, keyBytes int64) error {
	active := binary.BigEndian.Uint32(slot)
	if active != slotOn && active != slotOff {
		return fmt.Errorf("neither on nor off")
	}
	offset := int64(binary.BigEndian.Uint32(slot[40:]))
	n := int64(binary.BigEndian.Uint32(slot[44:]))
	if n == 0 || n > 1<<20 {
		return fmt.Errorf("%d stripes", n)
	}
	size := (keyBytes*n + sector - 1) / sector
	if offset*sector < header1 || payload > 0 && offset+size > payload {
		return fmt.Errorf("its material is not between header and data")
	}
	if active == slotOn && binary.BigEndian.Uint32(slot[4:]) == 0 {
		return fmt.Errorf("no iterations")
	}
	return nil
}

// parse2 checks a LUKS2 binary header (LUKS2 On-Disk Format Specification 1.1.0) with its checksum, which covers the JSON that follows it.
func parse2(r io.ReaderAt, head []byte) (Contents, error) {
	if len(head) < header2 {
		return Contents{}, fmt.Errorf("%w: it is cut short", ErrHeader)
	}
	size := binary.BigEndian.Uint64(head[8:])
	if size < minHeader || size > maxHeader || size&(size-1) != 0 {
		return Contents{}, fmt.Errorf("%w: %d bytes", ErrHeader, size)
	}
	if offset := binary.BigEndian.Uint64(head[256:]); offset != 0 {
		return Contents{}, fmt.Errorf("%w: it says that it is at %d", ErrHeader, offset)
	}
	id, ok := text(head[168:208])
	if err := uuid.Validate(id); !ok || err != nil || len(id) != 36 {
		return Contents{}, fmt.Errorf("%w: its UUID is none", ErrHeader)
	}
	algorithm, _ := text(head[72:104])
	sum, err := checksum(r, algorithm, int(size))
	if err != nil {
		return Contents{}, err
	}
	if !bytes.Equal(sum, head[448:448+len(sum)]) {
		return Contents{}, fmt.Errorf("%w: its checksum is another", ErrHeader)
	}
	return Contents{Kind: LUKS2, UUID: id}, nil
}

// checksum is that of a whole LUKS2 header, in which the place of the checksum itself counts as zeros.
func checksum(r io.ReaderAt, algorithm string, size int) ([]byte, error) {
	var h hash.Hash
	switch algorithm {
	case "sha256":
		h = sha256.New()
	case "sha512":
		h = sha512.New()
	default:
		return nil, fmt.Errorf("%w: checksum algorithm %q is not known", ErrHeader, algorithm)
	}
	whole, err := readUpTo(r, 0, size)
	if err != nil {
		return nil, err
	}
	if len(whole) < size {
		return nil, fmt.Errorf("%w: it is cut short", ErrHeader)
	}
	clear(whole[448 : 448+64])
	h.Write(whole)
	return h.Sum(nil), nil
}

// text is a string of printable ASCII that ends at the first zero; what comes after that must be zeros too.
func text(field []byte) (string, bool) {
	s, rest, _ := bytes.Cut(field, []byte{0})
	for _, b := range s {
		if b <= ' ' || b > '~' {
			return "", false
		}
	}
	return string(s), len(bytes.Trim(rest, "\x00")) == 0
}

// zeros says whether the first n bytes, or all if there are fewer, are zero.
func zeros(r io.ReaderAt, n int) (bool, error) {
	const chunk = 1 << 20
	for at := 0; at < n; at += chunk {
		data, err := readUpTo(r, int64(at), min(chunk, n-at))
		if err != nil {
			return false, err
		}
		for _, b := range data {
			if b != 0 {
				return false, nil
			}
		}
		if len(data) < chunk {
			break
		}
	}
	return true, nil
}

// readUpTo reads n bytes, or what there is of them.
func readUpTo(r io.ReaderAt, at int64, n int) ([]byte, error) {
	buf := make([]byte, n)
	got, err := r.ReadAt(buf, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return buf[:got], nil
}

// Native says whether QEMU decrypts the volume itself.
func (c Contents) Native() bool { return c.Kind == LUKS1 }

// dmUUID is how the device mapper's UUID of a map begins that cryptsetup opens of such a volume.
func (c Contents) dmUUID() string {
	switch c.Kind {
	case LUKS1, LUKS2:
		return "CRYPT-" + strings.ToUpper(string(c.Kind)) + "-" + strings.ReplaceAll(c.UUID, "-", "") + "-"
	default:
		return "CRYPT-PLAIN-"
	}
}
