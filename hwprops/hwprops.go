// Package hwprops reads what flavors and images say of a guest's devices and firmware: extra specs
// (hw:...) and image properties (hw_...), with Nova's precedence and its conflicts as named
// errors. What they say of CPUs and memory is read by package numa.
package hwprops

import (
	"fmt"
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
	Value string // cut short when it is long
	Rule  string // the sentence that it breaks
}

// Error returns key, value and rule.
func (e *Error) Error() string { return fmt.Sprintf("%s=%q: %s", shown(e.Key), e.Value, e.Rule) }

func failed(class, key, value, rule string, args ...any) *Error {
	return &Error{Class: class, Key: cut(key), Value: cut(value), Rule: fmt.Sprintf(rule, args...)}
}

// Bool reads a yes-or-no setting: hw:key or hw_key. set is false when neither has it. As in Nova, a word that
// is neither is no; Hardware refuses it.
func (s Source) Bool(key string) (value, set bool, err error) {
	flavor, inFlavor := s.ExtraSpecs["hw:"+key]
	image, inImage := s.Properties["hw_"+key]
	if inFlavor && inImage && isTrue(flavor) != isTrue(image) {
		return false, false, failed("FlavorImageConflict", "hw_"+key, image, "the flavor says hw:%s=%s", key, shown(flavor))
	}
	return isTrue(flavor) || isTrue(image), inFlavor || inImage, nil
}

func isTrue(s string) bool {
	form, _ := truth(strings.TrimSpace(s))
	return form == "true"
}

// SecureBoot reads os:secure_boot: disabled, optional, required, or empty.
func (s Source) SecureBoot() (string, error) { return s.one("os:secure_boot") }

// EphemeralEncryptionFormat reads hw:ephemeral_encryption_format: luks, plain, or empty.
func (s Source) EphemeralEncryptionFormat() (string, error) {
	return s.one("hw:ephemeral_encryption_format")
}

// PCIAffinity reads hw:pci_numa_affinity_policy: required, legacy, preferred, socket, or empty.
func (s Source) PCIAffinity() (string, error) { return s.one("hw:pci_numa_affinity_policy") }

func (s Source) one(name string) (string, error) {
	r := s.read()
	word := r.text(name)
	return word, r.err
}

// TPM is an emulated trusted platform module.
type TPM struct {
	Version        string // 1.2 or 2.0
	Model          string // tpm-tis or tpm-crb
	SecretSecurity string // hw:tpm_secret_security: user, host, deployment; empty when not said
}

// TPM reads hw:tpm_version and hw:tpm_model; nil for none.
func (s Source) TPM() (*TPM, error) {
	r := s.read()
	t := r.tpm()
	if r.err != nil {
		return nil, r.err
	}
	return t, nil
}

// SerialPorts reads hw:serial_port_count: how many serial ports the guest has, 1 unless said
// otherwise. The flavor's number is a ceiling for the image's.
func (s Source) SerialPorts() (int, error) {
	r := s.read()
	n, _ := r.serialPorts()
	if r.err != nil {
		return 0, r.err
	}
	return n, nil
}

// serialPorts also returns the key that decided. As in Nova, 0 is nothing said.
func (r *reader) serialPorts() (n int, key string) {
	s := setting("hw:serial_port_count")
	flavor, image := r.number(s, s.Spec), r.number(s, s.Property)
	switch {
	case image > 0 && flavor > 0 && image > flavor:
		r.refuse("ImageSerialPortNumberExceedFlavorValue", s.Property, strconv.Itoa(image), "the flavor allows %d", flavor)
		return 0, s.Property
	case image > 0:
		return image, s.Property
	case flavor > 0:
		return flavor, s.Spec
	}
	return 1, s.Spec
}

// PersistentMemory reads hw:pmem: the labels of the virtual persistent memory that the guest gets.
func (s Source) PersistentMemory() []string {
	labels := []string{}
	for part := range strings.SplitSeq(s.ExtraSpecs["hw:pmem"], ",") {
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
