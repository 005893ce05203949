package compute

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"compute-agent/internal/pattern"
)

// The limits are Nova's.
const (
	maxName          = 255
	maxUserData      = 65535 // of its base64 form
	maxMetadataItems = 128   // quota metadata_items
	maxMetadataText  = 255
	maxDescription   = 255
	maxPassword      = 255
)

var metadataKey = pattern.New(`^[a-zA-Z0-9-_:. ]{1,255}$`)

func invalid(field, format string, args ...any) error {
	return &Failure{Kind: ErrInvalid, Field: field, Reason: fmt.Sprintf(format, args...)}
}

// validate checks what can be said of a request without looking anything up.
func (r CreateRequest) validate() error {
	if err := validateName(r.Name); err != nil {
		return err
	}
	if err := validateDescription(r.Description); err != nil {
		return err
	}
	if n := base64.StdEncoding.EncodedLen(len(r.UserData)); n > maxUserData {
		return invalid("user_data", "it is %d bytes in base64, more than %d", n, maxUserData)
	}
	if err := validatePassword(r.AdminPassword); err != nil {
		return err
	}
	return validateMetadata(r.Metadata)
}

// validateName accepts what Nova's parameter type "name" does: 1 to 255 printable characters, no
// space at either end.
func validateName(name string) error {
	switch n := utf8.RuneCountInString(name); {
	case !utf8.ValidString(name):
		return invalid("name", "it is not UTF-8")
	case n < 1 || n > maxName:
		return invalid("name", "it has %d characters, not 1 to %d", n, maxName)
	case strings.TrimSpace(name) != name:
		return invalid("name", "it begins or ends with a space")
	case strings.ContainsFunc(name, unprintable):
		return invalid("name", "it has characters that cannot be printed")
	}
	return nil
}

// unprintable says whether Nova's parameter types refuse a character: controls, surrogates,
// unassigned ones, and line and paragraph separators. Spaces of all kinds are fine.
func unprintable(r rune) bool { return !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r) }

func validateDescription(text string) error {
	control := func(r rune) bool { return unprintable(r) && r != '\n' && r != '\t' && r != '\r' }
	if !utf8.ValidString(text) || utf8.RuneCountInString(text) > maxDescription || strings.ContainsFunc(text, control) {
		return invalid("description", "it is not text of at most %d characters", maxDescription)
	}
	return nil
}

func validatePassword(password string) error {
	if len(password) > maxPassword || !utf8.ValidString(password) {
		return invalid("adminPass", "it is not UTF-8 of at most %d bytes", maxPassword)
	}
	return nil
}

func validateMetadata(items map[string]string) error {
	if len(items) > maxMetadataItems {
		return &Failure{Kind: ErrForbidden, Field: "metadata", Reason: fmt.Sprintf("it has %d items, more than %d", len(items), maxMetadataItems)}
	}
	for key, value := range items {
		switch {
		case !metadataKey.MatchString(key):
			return invalid("metadata", "the key %q is not 1 to 255 of letters, digits, space and -_:.", key)
		case !utf8.ValidString(value) || utf8.RuneCountInString(value) > maxMetadataText:
			return invalid("metadata", "the value of %q is not text of at most %d characters", key, maxMetadataText)
		}
	}
	return nil
}

// validateSize checks that an image can become a server's disk and run in its memory.
func validateSize(f Flavor, img Image) error {
	switch {
	case f.Disabled:
		return invalid("flavorRef", "flavor %s is disabled", f.ID)
	case img.Status != ImageActive:
		return invalid("imageRef", "image %s is %s, not active", img.ID, img.Status)
	case f.MemoryMiB < img.MinRAMMiB:
		return invalid("flavorRef", "its memory of %d MiB is less than the image's min_ram of %d MiB", f.MemoryMiB, img.MinRAMMiB)
	case f.DiskGiB == 0:
		return nil // the disk is as large as the image
	case f.DiskGiB < img.MinDiskGiB:
		return invalid("flavorRef", "its disk of %d GiB is less than the image's min_disk of %d GiB", f.DiskGiB, img.MinDiskGiB)
	case int64(f.DiskGiB)<<30 < img.VirtualSize:
		return invalid("flavorRef", "its disk of %d GiB is smaller than the image's %d bytes", f.DiskGiB, img.VirtualSize)
	}
	return nil
}
