package cinder

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"compute-agent/internal/pattern"
)

// The limits are those of Cinder's API; it has none for how many metadata there may be, Nova's is taken.
const (
	maxText     = 255
	maxMetadata = 128
	// maxGiB is the largest size that Cinder's database holds.
	maxGiB = 1<<31 - 1
)

func invalidInput(field, value, rule string, args ...any) error {
	return Refuse("InvalidInput", Invalid, field, value, rule, args...)
}

// checkText says whether a value is text of at most 255 characters, on one line unless it is a description.
func checkText(field, value string) error {
	control := func(r rune) bool {
		return !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r) && (field != "description" || r != '\n' && r != '\t' && r != '\r')
	}
	switch {
	case !utf8.ValidString(value):
		return invalidInput(field, value, "it is not UTF-8")
	case utf8.RuneCountInString(value) > maxText:
		return invalidInput(field, value, "it has %d characters, more than %d", utf8.RuneCountInString(value), maxText)
	case strings.ContainsFunc(value, control):
		return invalidInput(field, value, "it has characters that cannot be printed")
	}
	return nil
}

func checkWords(name, description string) error {
	if err := checkText("name", name); err != nil {
		return err
	}
	return checkText("description", description)
}

// checkName is checkWords for what is known by its name.
func checkName(name, description string) error {
	if strings.TrimSpace(name) == "" {
		return invalidInput("name", name, "it cannot be empty")
	}
	return checkWords(name, description)
}

var metadataKey = pattern.New(`^[a-zA-Z0-9_:. -]{1,255}$`)

// checkMetadata says whether all are keys and values that Cinder takes.
func checkMetadata(field string, all map[string]string) error {
	if len(all) > maxMetadata {
		return Refuse("InvalidVolumeMetadata", Invalid, field, "", "%d are more than %d", len(all), maxMetadata)
	}
	for key, value := range all {
		if !metadataKey.MatchString(key) {
			return Refuse("InvalidVolumeMetadata", Invalid, field, key, "a key has 1 to 255 letters, digits, blanks and _ : . -")
		}
		if !utf8.ValidString(value) || utf8.RuneCountInString(value) > maxText {
			return Refuse("InvalidVolumeMetadataSize", Invalid, field+"."+key, value, "a value has at most %d characters, in UTF-8", maxText)
		}
	}
	return nil
}
