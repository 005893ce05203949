package virt

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"compute-agent/internal/pattern"
)

var (
	uuidForm  = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	nameForm  = pattern.New(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)
	wordForm  = regexp.MustCompile(`^[A-Za-z0-9_.+-]+$`) // machine types, models, features
	aliasForm = pattern.New(`^ua-[A-Za-z0-9_-]{1,124}$`)
	pciForm   = regexp.MustCompile(`^[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$`)
	hostForm  = pattern.New(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$`)
)

// Validate says whether the Spec contradicts itself. It looks at nothing outside it: whether the files
// exist and whether this hypervisor can do it is the driver's to find out. The error is of kind ErrInvalid
// and names the field.
func (s Spec) Validate() error {
	checks := []func() error{
		s.validateIdentity, s.validateCPU, s.validateMemory, s.validatePlacement, s.validateFirmware, s.validateBoot,
		s.validateFeatures, s.validateEncryption, s.validateDisks, s.validateNICs, s.validateBootOrder, s.validateShares,
		s.validateSerial, s.validateScreen, s.validateUSB, s.validateTPM, s.validateHostDevices, s.validateIOMMU,
		s.validateDevices, s.validatePerfEvents, s.validateAliases, s.validateMetadata,
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// ValidateForCreate is Validate for a guest that is about to be made: of its disks and serial ports everything
// has to be known. Every driver's Create calls it first, so that all refuse the same.
func (s Spec) ValidateForCreate() error {
	for _, d := range s.Disks {
		if d.Unstated {
			return invalid("disk %s: the chain below it is not stated", d.Target)
		}
	}
	for _, p := range s.Serial {
		if p.Type == "tcp" && p.Port == 0 {
			return invalid("serial port: its TCP port is not chosen")
		}
	}
	return s.Validate()
}

func (s Spec) validateIdentity() error {
	switch {
	case !uuidForm.MatchString(s.ID):
		return invalid("ID %q is not a UUID in lower case", s.ID)
	case !nameForm.MatchString(s.Name):
		return invalid("name %q is not 1 to 64 of [A-Za-z0-9_.-], beginning with a letter, a digit or _", s.Name)
	case !wordForm.MatchString(s.Arch):
		return invalid("arch %q", s.Arch)
	case !wordForm.MatchString(s.Machine):
		return invalid("machine %q", s.Machine)
	}
	return first(oneOf("virt type", s.VirtType, "kvm", "qemu"), optionalPath("emulator", s.Emulator))
}

func (s Spec) validateMetadata() error { return s.Metadata.Validate() }

// Validate says whether the metadata contradict themselves.
func (m Metadata) Validate() error {
	return oneOf("metadata root type", m.RootType, "", "image", "volume")
}

// validateAliases checks the users' names for devices, which a guest's devices share.
func (s Spec) validateAliases() error {
	seen := map[string]bool{}
	take := func(what, alias string) error {
		switch {
		case alias == "":
			return nil
		case !aliasForm.MatchString(alias):
			return invalid("%s: alias %q is not ua- and letters, digits, - and _", what, alias)
		case seen[alias]:
			return invalid("%s: alias %s is another device's too", what, alias)
		}
		seen[alias] = true
		return nil
	}
	for _, d := range s.Disks {
		if err := take("disk "+d.Target, d.Alias); err != nil {
			return err
		}
	}
	for _, n := range s.NICs {
		if err := take("NIC "+n.MAC, n.Alias); err != nil {
			return err
		}
	}
	for _, p := range s.PCI {
		if err := take("PCI device "+p.Address, p.Alias); err != nil {
			return err
		}
	}
	return nil
}

// isX86 and isPCIe say what a guest's board is like. Nova tells boards with PCI Express by the same words.
func (s Spec) isX86() bool { return s.Arch == "x86_64" || s.Arch == "i686" }

func (s Spec) isQ35() bool { return s.isX86() && strings.Contains(s.Machine, "q35") }

func (s Spec) isPCIe() bool {
	return s.isQ35() || s.Arch == "aarch64" && strings.HasPrefix(s.Machine, "virt")
}

// invalid is an error with no more of a text than tells it from others.
func invalid(format string, args ...any) error {
	const enough = 100
	for i, arg := range args {
		if text, is := arg.(string); is && len(text) > enough {
			args[i] = text[:enough] + "..."
		}
	}
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

// first returns the first error that is one.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// oneOf refuses a word that is not in the list. An empty word is one that was left out.
func oneOf(what, word string, list ...string) error {
	if slices.Contains(list, word) {
		return nil
	}
	return invalid("%s %q is not one of %v", what, word, slices.DeleteFunc(slices.Clone(list), func(w string) bool { return w == "" }))
}

func within(what string, n, low, high int) error {
	if n < low || n > high {
		return invalid("%s %d is not from %d to %d", what, n, low, high)
	}
	return nil
}

func optionalUUID(what, id string) error {
	if id != "" && !uuidForm.MatchString(id) {
		return invalid("%s %q is not a UUID in lower case", what, id)
	}
	return nil
}

func validateUUID(what, id string) error {
	if id == "" {
		return invalid("%s: no UUID", what)
	}
	return optionalUUID(what, id)
}

// validateIP takes an address that a server can listen on.
func validateIP(what, address string) error {
	if ip, err := netip.ParseAddr(address); err != nil || ip.Zone() != "" {
		return invalid("%s %q is not an IP address", what, address)
	}
	return nil
}

// validateHost takes an IP address or a name.
func validateHost(what, host string) error {
	if net.ParseIP(host) == nil && !hostForm.MatchString(host) {
		return invalid("%s %q is not an IP address or a host's name", what, host)
	}
	return nil
}

// maxText is how long a name in a Spec can be, in bytes; Linux takes no longer path.
const maxText = 4096

// validateText refuses what a domain definition cannot hold.
func validateText(what, text string) error {
	control := func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffe || r == 0xffff }
	switch {
	case text == "":
		return invalid("%s is empty", what)
	case len(text) > maxText:
		return invalid("%s has %d bytes, the most is %d", what, len(text), maxText)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, control):
		return invalid("%s %q has characters that no domain definition can hold", what, text)
	}
	return nil
}

// validatePath refuses also what would be taken for a relative path.
func validatePath(field, path string) error {
	if !filepath.IsAbs(path) {
		return invalid("%s: path %q is not absolute", field, path)
	}
	return validateText(field+": path", path)
}

func optionalPath(field, path string) error {
	if path == "" {
		return nil
	}
	return validatePath(field, path)
}
