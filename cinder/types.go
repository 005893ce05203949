package cinder

import (
	"slices"
	"strconv"
	"strings"

	"compute-agent/internal/pattern"
)

// DefaultTypeName is that of the volume type that Cinder makes for those who ask for none.
const DefaultTypeName = "__DEFAULT__"

// The extra specs that mean something here; others are kept and ignored, as scheduler hints of other back ends are.
const (
	specBackend     = "volume_backend_name"
	specMultiattach = "multiattach"
)

// BackendName is where volumes of the type are to be; empty for anywhere.
func (t Type) BackendName() string { return t.ExtraSpecs[specBackend] }

// Multiattach says whether several servers may have a volume of the type.
func (t Type) Multiattach() bool { return t.ExtraSpecs[specMultiattach] == "<is> True" }

// Usable says whether a project may make volumes of the type.
func (t Type) Usable(projectID string) bool {
	return t.Public || slices.Contains(t.Projects, projectID)
}

// Check says whether a type is sound. others are all types.
func (t Type) Check(others []Type, backends []string) error {
	if err := checkName(t.Name, t.Description); err != nil {
		return err
	}
	for _, o := range others {
		if o.ID != t.ID && o.Name == t.Name {
			return Refuse("VolumeTypeExists", Conflict, "", "", "volume type %s already exists", t.Name)
		}
	}
	for key, value := range t.ExtraSpecs {
		if !metadataKey.MatchString(key) {
			return Refuse("InvalidVolumeType", Invalid, "extra_specs", key, "a key has 1 to 255 letters, digits, blanks and _ : . -")
		}
		if err := checkText("extra_specs."+key, value); err != nil {
			return err
		}
	}
	if name := t.BackendName(); name != "" && !slices.Contains(backends, name) {
		return Refuse("InvalidVolumeType", Invalid, "extra_specs."+specBackend, name, "there is no such backend: %s", strings.Join(backends, ", "))
	}
	if value, said := t.ExtraSpecs[specMultiattach]; said && value != "<is> True" && value != "<is> False" {
		return Refuse("InvalidVolumeType", Invalid, "extra_specs."+specMultiattach, value, `it must be "<is> True" or "<is> False"`)
	}
	if t.Encryption == nil {
		return nil
	}
	if t.Multiattach() {
		return Refuse("InvalidVolumeType", Invalid, "encryption", "", "volumes that several servers may have cannot be encrypted")
	}
	return t.Encryption.Check()
}

var cipherName = pattern.New(`^[a-z0-9][a-z0-9:-]{0,254}$`)

// Check says whether an encryption is one that this service can make.
func (e Encryption) Check() error {
	refuse := func(field, value, rule string, args ...any) error {
		return Refuse("VolumeTypeEncryptionInvalid", Invalid, field, value, rule, args...)
	}
	switch {
	case !slices.Contains([]string{"luks", "luks2", "plain"}, e.Provider):
		return refuse("provider", e.Provider, "it must be luks, luks2 or plain")
	case e.Location != "front-end":
		return refuse("control_location", e.Location, "it must be front-end: who attaches the volume encrypts")
	case e.Cipher != "" && !cipherName.MatchString(e.Cipher):
		return refuse("cipher", e.Cipher, "it is no name of a cipher, like aes-xts-plain64")
	case e.KeySize != 0 && !slices.Contains([]int{128, 192, 256, 384, 512}, e.KeySize):
		return refuse("key_size", strconv.Itoa(e.KeySize), "it must be 128, 192, 256, 384 or 512 bits")
	}
	return nil
}

// FindType returns the type of a name or an ID that a project may use, or the default one for an empty word.
func FindType(types []Type, word, defaultName, projectID string) (Type, error) {
	if word == "" {
		word = defaultName
	}
	for _, by := range []func(Type) bool{func(t Type) bool { return t.ID == word }, func(t Type) bool { return t.Name == word }} {
		if i := slices.IndexFunc(types, func(t Type) bool { return by(t) && t.Usable(projectID) }); i >= 0 {
			return types[i], nil
		}
	}
	return Type{}, Refuse("VolumeTypeNotFoundByName", NotFound, "volume_type", word, "volume type could not be found")
}

// CheckDelete says whether a type may go.
func (t Type) CheckDelete(defaultName string, volumes []Volume) error {
	if t.Name == defaultName {
		return Refuse("VolumeTypeDefaultDeletionError", Invalid, "", "", "the volume type %s is a default volume type and cannot be deleted", t.ID)
	}
	return t.checkUnused("deletion is not allowed", volumes)
}

// CheckChange says whether volumes keep what they were made with, when a type changes.
func (t Type) CheckChange(before Type, volumes []Volume) error {
	if before.Multiattach() != t.Multiattach() || before.BackendName() != t.BackendName() {
		return t.checkUnused("extra specs "+specBackend+" and "+specMultiattach+" cannot change", volumes)
	}
	if (before.Encryption == nil) != (t.Encryption == nil) || !sameEncryption(before.Encryption, t.Encryption) {
		return t.checkUnused("its encryption cannot change", volumes)
	}
	return nil
}

func (t Type) checkUnused(what string, volumes []Volume) error {
	for _, v := range volumes {
		if v.TypeID == t.ID {
			return Refuse("VolumeTypeInUse", Invalid, "", "", "volume type %s: %s with volumes present with the type, like %s", t.ID, what, v.ID)
		}
	}
	return nil
}
