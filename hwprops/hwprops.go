// Package hwprops reads what flavors and images say of a guest's devices and firmware: extra specs
// (hw:...) and image properties (hw_...), with Nova's precedence and its conflicts as named
// errors. What they say of CPUs and memory is read by package numa.
package hwprops

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Source is a flavor's extra specs and an image's properties.
type Source struct {
	ExtraSpecs map[string]string
	Properties map[string]string
}

// Error is a setting that cannot be honoured on any host.
type Error struct {
	Class string // the name of Nova's exception
	Key   string // the extra spec or property at fault
	Value string
	Rule  string // the sentence that it breaks
}

// Error returns key, value and rule.
func (e *Error) Error() string { return fmt.Sprintf("%s=%q: %s", e.Key, e.Value, e.Rule) }

func failed(class, key, value, rule string, args ...any) *Error {
	return &Error{Class: class, Key: key, Value: value, Rule: fmt.Sprintf(rule, args...)}
}

var trueWords = []string{"1", "t", "true", "on", "y", "yes"} // oslo.utils' words

func isTrue(s string) bool { return slices.Contains(trueWords, strings.ToLower(strings.TrimSpace(s))) }

// agreed reads a setting that the flavor and the image may both have, if they agree. same says whether
// two values agree.
func (s Source) agreed(spec, property string, same func(a, b string) bool) (value string, set bool, err error) {
	flavor, inFlavor := s.ExtraSpecs[spec]
	image, inImage := s.Properties[property]
	if inFlavor && inImage && !same(flavor, image) {
		return "", false, failed("FlavorImageConflict", property, image, "the flavor says %s=%s", spec, flavor)
	}
	if inFlavor {
		return flavor, true, nil
	}
	return image, inImage, nil
}

func sameWord(a, b string) bool { return a == b }
func sameBool(a, b string) bool { return isTrue(a) == isTrue(b) }

// Bool reads a yes-or-no setting: hw:key or hw_key. set is false when neither has it.
func (s Source) Bool(key string) (value, set bool, err error) {
	text, set, err := s.agreed("hw:"+key, "hw_"+key, sameBool)
	return isTrue(text), set, err
}

// oneOf reads a setting that is one of a few words.
func (s Source) oneOf(spec, property string, allowed ...string) (string, error) {
	value, set, err := s.agreed(spec, property, sameWord)
	if err != nil || !set {
		return "", err
	}
	if !slices.Contains(allowed, value) {
		return "", failed("Invalid", spec, value, "must be one of %s", strings.Join(allowed, ", "))
	}
	return value, nil
}

// SecureBoot reads os:secure_boot: disabled, optional, required, or empty.
func (s Source) SecureBoot() (string, error) {
	return s.oneOf("os:secure_boot", "os_secure_boot", "disabled", "optional", "required")
}

// EphemeralEncryptionFormat reads hw:ephemeral_encryption_format: luks, plain, or empty.
func (s Source) EphemeralEncryptionFormat() (string, error) {
	return s.oneOf("hw:ephemeral_encryption_format", "hw_ephemeral_encryption_format", "luks", "plain")
}

// TPM is an emulated trusted platform module.
type TPM struct {
	Version string // 1.2 or 2.0
	Model   string // tpm-tis or tpm-crb
}

// TPM reads hw:tpm_version and hw:tpm_model; nil for none.
func (s Source) TPM() (*TPM, error) {
	version, err := s.oneOf("hw:tpm_version", "hw_tpm_version", "1.2", "2.0")
	if err != nil {
		return nil, err
	}
	model, err := s.oneOf("hw:tpm_model", "hw_tpm_model", "tpm-tis", "tpm-crb")
	switch {
	case err != nil:
		return nil, err
	case version == "":
		return nil, nil // a model alone asks for nothing
	case model == "":
		model = "tpm-tis"
	case model == "tpm-crb" && version == "1.2":
		return nil, failed("Invalid", "hw:tpm_model", model, "needs hw:tpm_version=2.0")
	}
	return &TPM{Version: version, Model: model}, nil
}

// SerialPorts reads hw:serial_port_count: how many serial ports the guest has, 1 unless said
// otherwise. The flavor's number is a ceiling for the image's.
func (s Source) SerialPorts() (int, error) {
	flavor, err := portCount("hw:serial_port_count", s.ExtraSpecs)
	if err != nil {
		return 0, err
	}
	image, err := portCount("hw_serial_port_count", s.Properties)
	switch {
	case err != nil:
		return 0, err
	case flavor != nil && image != nil && *image > *flavor:
		return 0, failed("ImageSerialPortNumberExceedFlavorValue", "hw_serial_port_count", strconv.Itoa(*image), "the flavor allows %d", *flavor)
	case image != nil:
		return *image, nil
	case flavor != nil:
		return *flavor, nil
	}
	return 1, nil
}

func portCount(key string, settings map[string]string) (*int, error) {
	text, set := settings[key]
	if !set {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return nil, failed("ImageSerialPortNumberInvalid", key, text, "must be a whole number")
	}
	if n == 0 {
		return nil, nil // Nova takes 0 for nothing said
	}
	return &n, nil
}

// PCIAffinity reads hw:pci_numa_affinity_policy: required, legacy, preferred, socket, or empty.
func (s Source) PCIAffinity() (string, error) {
	flavor, inFlavor := s.ExtraSpecs["hw:pci_numa_affinity_policy"]
	image, inImage := s.Properties["hw_pci_numa_affinity_policy"]
	if inFlavor && inImage && flavor != image {
		return "", failed("ImagePCINUMAPolicyForbidden", "hw_pci_numa_affinity_policy", image, "the image may not override hw:pci_numa_affinity_policy=%s of the flavor", flavor)
	}
	policy := flavor
	if !inFlavor {
		policy = image
	}
	if policy != "" && !slices.Contains([]string{"required", "legacy", "preferred", "socket"}, policy) {
		return "", failed("InvalidPCINUMAAffinity", "hw:pci_numa_affinity_policy", policy, "must be one of required, legacy, preferred, socket")
	}
	return policy, nil
}

// PersistentMemory reads hw:pmem: the labels of the virtual persistent memory that the guest gets.
func (s Source) PersistentMemory() []string {
	labels := []string{}
	for _, part := range strings.Split(s.ExtraSpecs["hw:pmem"], ",") {
		if label := strings.TrimSpace(part); label != "" {
			labels = append(labels, label)
		}
	}
	return labels
}

// StableRescue says whether the image names the device or the bus of a rescue disk, and so keeps
// the server's own disks in their places during a rescue.
func (s Source) StableRescue() bool {
	return s.Properties["hw_rescue_device"] != "" || s.Properties["hw_rescue_bus"] != ""
}
