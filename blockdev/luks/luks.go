// Package luks does what has to be done on the host for encrypted volumes: it says what a volume begins with, formats new ones, and opens and
// closes the device-mapper maps that decrypt those that the hypervisor cannot. QEMU itself opens LUKS1 (block driver luks, as of QEMU 2.6) and no
// other: LUKS2 and plain dm-crypt are opened by cryptsetup. A key reaches a program through its standard input and in no other way.
package luks

import (
	"encoding/hex"
	"errors"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"compute-agent/blockdev/connector"
	"compute-agent/internal/command"
)

// The formats of a connector.Cipher: Cinder's encryption providers. luks has meant LUKS1 since there was only that.
const (
	FormatLUKS  = "luks"
	FormatLUKS2 = "luks2"
	FormatPlain = "plain"
)

// Passphrase is the passphrase that a key of the key manager stands for: its hexadecimal digits, as os-brick's encryptors and Nova have it (binascii.hexlify
// of castellan's key). Both, and everything here, take the digits as they are: no byte is added or cut off.
func Passphrase(key []byte) connector.Secret { return connector.Secret(hex.EncodeToString(key)) }

// cipherName is what may be in a cipher's name: dm-crypt's cipher[:keycount]-mode-iv[:ivopts].
var cipherName = regexp.MustCompile(`^[a-z0-9][a-z0-9_]*(:[a-z0-9]+)?(-[a-z0-9]+(\([a-z0-9_]+\))?(:[a-z0-9_]+)?)*$`)

// maxKeyBits is as much as any cipher of the kernel takes, with room.
const maxKeyBits = 4096

// Check says whether a cipher is one that can be asked for: the names come from the volume service and become arguments of a program.
func Check(c connector.Cipher) error {
	switch {
	case c.Format != FormatLUKS && c.Format != FormatLUKS2 && c.Format != FormatPlain:
		return invalid("provider", c.Format, "the encryption must be luks, luks2 or plain")
	case c.Cipher != "" && (len(c.Cipher) > 64 || !cipherName.MatchString(c.Cipher)):
		return invalid("cipher", c.Cipher, "the cipher must be written as cipher-mode-iv, for example aes-xts-plain64")
	case c.KeySize < 0 || c.KeySize > maxKeyBits || c.KeySize%8 != 0:
		return invalid("key_size", strconv.Itoa(c.KeySize), "the size of a key must be a number of bits that makes whole bytes, at most 4096")
	case c.Key == "":
		return invalid("encryption_key_id", "", "the key must not be empty")
	case len(c.Key) > 8<<10:
		return invalid("encryption_key_id", "", "the key must not be longer than 8 KiB")
	}
	return nil
}

func invalid(field, value, rule string) error {
	return &connector.Error{Reason: connector.InvalidInfo, Field: field, Value: short(value), Rule: rule}
}

// short cuts what others wrote.
func short(s string) string {
	const long = 80
	if s = strings.ToValidUTF8(s, "\uFFFD"); len([]rune(s)) > long {
		return string([]rune(s)[:long]) + "..."
	}
	return s
}

// cryptsetup is a call of the program with the key as its standard input.
func cryptsetup(key connector.Secret, args ...string) command.Cmd {
	return command.Cmd{Name: "cryptsetup", Args: args, Stdin: strings.NewReader(string(key)), Secret: true}
}

// cipherArgs are a cipher in cryptsetup's options. What is not said is left to the program, as os-brick leaves it.
func cipherArgs(c connector.Cipher) []string {
	var args []string
	if c.Cipher != "" {
		args = append(args, "--cipher", c.Cipher)
	}
	if c.KeySize != 0 {
		args = append(args, "--key-size", strconv.Itoa(c.KeySize))
	}
	return args
}

// formatArgs make a new header. PBKDF2 and few iterations: the passphrase is a key of random bytes, which hashing makes no safer, and LUKS2's default
// would take up to 1 GiB of the host's memory each time that a volume is opened.
func formatArgs(path string, c connector.Cipher) []string {
	args := []string{"luksFormat", "--batch-mode", "--key-file=-", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", strconv.Itoa(iterations)}
	if c.Format == FormatLUKS2 {
		// Sectors of 4096 bytes, which the program may choose, are not those that the volume would have without encryption.
		args = append(args, "--type", string(LUKS2), "--sector-size", "512")
	} else {
		args = append(args, "--type", string(LUKS1))
	}
	return append(append(args, cipherArgs(c)...), "--", path)
}

// openArgs open a volume as a map. A LUKS volume says its cipher itself; a plain one has nothing that could.
func openArgs(path, name string, c connector.Cipher, kind Kind) []string {
	if c.Format == FormatPlain {
		args := []string{"open", "--type", "plain", "--key-file=-"}
		return append(append(args, cipherArgs(c)...), "--", path, name)
	}
	return []string{"open", "--type", string(kind), "--key-file=-", "--", path, name}
}

// cryptsetup(8), RETURN CODES.
const (
	exitNoPermission = 2 // the passphrase is wrong
	exitWrongDevice  = 4 // the device is not there, or not what it has to be
	exitBusy         = 5 // the map is there already, or somebody has it open
)

// refused makes of a failed call an error with its reason. It never holds what the program wrote, which may be of the key.
func refused(device string, err error) error {
	var failed *command.Error
	e := &connector.Error{Field: "device", Value: device, Err: err}
	switch {
	case !errors.As(err, &failed):
		return err
	case errors.Is(err, exec.ErrNotFound):
		return &connector.Error{Reason: connector.Unsupported, Rule: "the host has no program cryptsetup, which opens volumes that QEMU cannot decrypt", Err: err}
	case failed.ExitCode == exitNoPermission:
		e.Reason, e.Rule, e.Err = connector.AuthFailed, "the volume's key does not open it", nil
	case failed.ExitCode == exitBusy:
		e.Reason, e.Rule = connector.InUse, "the device is held"
	case failed.ExitCode == exitWrongDevice:
		e.Reason, e.Rule = connector.NoDevice, "the device is not there, or not one that cryptsetup can open"
	default:
		e.Reason, e.Rule = connector.Unsupported, "cryptsetup does not do it"
	}
	return e
}
