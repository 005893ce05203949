package luks

import (
	"context"
	"crypto/aes"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/uuid"
	"golang.org/x/crypto/xts"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/command"
)

// Payload is where the data of a LUKS1 volume that Format made begins, in bytes: so much less than the volume's size does a guest see. It is where
// cryptsetup would put it.
const Payload = 2 << 20

// iterations of PBKDF2 for a passphrase that is a random key; see formatArgs.
const iterations = 10_000

// Format makes a new, blank volume one that is encrypted with c; a plain volume is one already. The size of the volume stays what it is. The caller
// is who made the volume and knows that it is new. Format does not take its word for it: a volume that holds anything in its first BlankBytes is
// refused with connector.HasData, and one that somebody has open exclusively with InUse. path is absolute, a block device or a file.
//
// LUKS1 with AES-XTS is written here, needs no program and no device mapper. What else there is cryptsetup does.
func Format(ctx context.Context, run command.Runner, path string, c connector.Cipher) error {
	return format(ctx, run, path, c, false)
}

// Reformat is Format for a volume that the volume service itself has just made of space that others used before, or whose Format it began and did not
// end: what the volume holds is lost.
func Reformat(ctx context.Context, run command.Runner, path string, c connector.Cipher) error {
	return format(ctx, run, path, c, true)
}

func format(ctx context.Context, run command.Runner, path string, c connector.Cipher, overwrite bool) error {
	if err := Check(c); err != nil {
		return err
	}
	if !filepath.IsAbs(path) {
		return invalid("device_path", path, "the path of a volume must be absolute")
	}
	f, err := openExclusive(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // what is written is synchronised
	if !overwrite {
		if err := mustBeBlank(f, path); err != nil {
			return err
		}
	}
	keyBytes, native := nativeCipher(c)
	switch {
	case c.Format == FormatPlain:
		return nil
	case native:
		return write1(f, path, keyBytes, c.Key)
	}
	if overwrite {
		if err := wipe(f, path); err != nil {
			return err
		}
	}
	// cryptsetup opens a block device exclusively itself.
	if err := f.Close(); err != nil {
		return err
	}
	if _, err := run.Run(ctx, cryptsetup(c.Key, formatArgs(path, c)...)); err != nil {
		return refused(path, err)
	}
	return nil
}

// openExclusive opens a volume for writing. Of a block device O_EXCL says that nobody has it mounted, mapped or opened in the same way.
func openExclusive(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_EXCL|syscall.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, syscall.EBUSY):
		return nil, &connector.Error{Reason: connector.InUse, Field: "device", Value: path, Rule: "the device that is to be formatted is held", Err: err}
	case errors.Is(err, os.ErrNotExist):
		return nil, &connector.Error{Reason: connector.NoDevice, Field: "device", Value: path, Rule: "the device that is to be formatted is not there", Err: err}
	case err != nil:
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() && info.Mode().Type()&os.ModeDevice == 0 || err == nil && info.Mode()&os.ModeCharDevice != 0 {
		err = invalid("device_path", path, "a volume must be a block device or a file")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func mustBeBlank(f *os.File, path string) error {
	blank, err := zeros(f, BlankBytes)
	if err != nil || blank {
		return err
	}
	rule := "the volume is to be formatted and is not blank"
	if found, err := Header(f); err == nil && (found.Kind == LUKS1 || found.Kind == LUKS2) {
		rule = fmt.Sprintf("the volume is to be formatted and has a %s header, of UUID %s", found.Kind, found.UUID)
	}
	return &connector.Error{Reason: connector.HasData, Field: "device", Value: path, Rule: rule}
}

// nativeCipher is the size of the key of a cipher that LUKS1 headers are written for here; a key size that is not said is that of AES-256.
func nativeCipher(c connector.Cipher) (keyBytes int, ok bool) {
	if c.Format != FormatLUKS || c.Cipher != "" && c.Cipher != "aes-xts-plain64" {
		return 0, false
	}
	switch c.KeySize {
	case 0, 512:
		return 64, true
	case 256:
		return 32, true
	}
	return 0, false
}

// write1 writes a LUKS1 header with a new random volume key. The header itself comes last: a volume whose writing was cut short is none that could
// be opened with a broken key.
func write1(f *os.File, path string, keyBytes int, passphrase connector.Secret) error {
	if err := mustHold(f, path, Payload+sector); err != nil {
		return err
	}
	area, err := header1Area(keyBytes, []byte(passphrase))
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(make([]byte, header2), 0); err != nil {
		return err
	}
	if _, err := f.WriteAt(area[header2:], header2); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := f.WriteAt(area[:header2], 0); err != nil {
		return err
	}
	return f.Sync()
}

// wipe takes away what a program could ask about, or take for a second header.
func wipe(f *os.File, path string) error {
	if err := mustHold(f, path, BlankBytes+sector); err != nil {
		return err
	}
	zero := make([]byte, 1<<20)
	for at := int64(0); at < BlankBytes; at += int64(len(zero)) {
		if _, err := f.WriteAt(zero, at); err != nil {
			return err
		}
	}
	return f.Sync()
}

func mustHold(f *os.File, path string, least int64) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size < least {
		return &connector.Error{Reason: connector.BadSize, Field: "device", Value: path, Rule: fmt.Sprintf("a volume of %d bytes has no room for the header of its encryption", size)}
	}
	return err
}

// header1Area is all that comes before the data: header, and the key material of the one key slot that is used. LUKS On-Disk Format Specification
// 1.2.3.
func header1Area(keyBytes int, passphrase []byte) ([]byte, error) {
	var salts [64]byte
	volumeKey := make([]byte, keyBytes)
	_, _ = rand.Read(salts[:]) // never fails
	_, _ = rand.Read(volumeKey)
	digest, err := pbkdf2.Key(sha256.New, string(volumeKey), salts[:32], iterations, 20)
	if err != nil {
		return nil, err
	}
	slotKey, err := pbkdf2.Key(sha256.New, string(passphrase), salts[32:], iterations, keyBytes)
	if err != nil {
		return nil, err
	}
	area := make([]byte, Payload)
	copy(area, magic)
	binary.BigEndian.PutUint16(area[6:], 1)
	copy(area[8:], "aes")
	copy(area[40:], "xts-plain64")
	copy(area[72:], "sha256")
	binary.BigEndian.PutUint32(area[104:], Payload/sector)
	binary.BigEndian.PutUint32(area[108:], uint32(keyBytes))
	copy(area[112:], digest)
	copy(area[132:], salts[:32])
	binary.BigEndian.PutUint32(area[164:], iterations)
	copy(area[168:], uuid.NewString())

	// Each slot's material begins at a multiple of 4096 bytes.
	room := (keyBytes*stripes + header2 - 1) / header2 * header2
	for i := range slots1 {
		slot := area[208+48*i:]
		binary.BigEndian.PutUint32(slot, slotOff)
		binary.BigEndian.PutUint32(slot[40:], uint32((header2+i*room)/sector))
		binary.BigEndian.PutUint32(slot[44:], stripes)
	}
	binary.BigEndian.PutUint32(area[208:], slotOn)
	binary.BigEndian.PutUint32(area[212:], iterations)
	copy(area[216:], salts[32:])
	return area, encryptSectors(slotKey, area[header2:], split(volumeKey))
}

// encryptSectors writes src to dst as a volume of its own, whose sectors are counted from 0.
func encryptSectors(key, dst, src []byte) error {
	c, err := xts.NewCipher(aes.NewCipher, key)
	if err != nil {
		return err
	}
	for at := 0; at < len(src); at += sector {
		c.Encrypt(dst[at:at+sector], src[at:at+sector], uint64(at/sector))
	}
	return nil
}

// split is the anti-forensic splitter: the key comes out of the stripes only when none of them is missing.
func split(key []byte) []byte {
	out := make([]byte, len(key)*stripes)
	last := out[len(key)*(stripes-1):]
	_, _ = rand.Read(out[:len(key)*(stripes-1)])
	mixed := make([]byte, len(key))
	for at := 0; at < len(key)*(stripes-1); at += len(key) {
		for i := range mixed {
			mixed[i] ^= out[at+i]
		}
		diffuse(mixed)
	}
	for i := range last {
		last[i] = mixed[i] ^ key[i]
	}
	return out
}

// diffuse hashes block by block, each with its number before it.
func diffuse(data []byte) {
	for i := 0; i*sha256.Size < len(data); i++ {
		block := data[i*sha256.Size : min((i+1)*sha256.Size, len(data))]
		sum := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, uint32(i)), block...))
		copy(block, sum[:])
	}
}
