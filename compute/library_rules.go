package compute

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"compute-agent/image"
)

// Who sees an image, in Glance's words.
const (
	VisibilityPublic    = "public"
	VisibilityPrivate   = "private"
	VisibilityShared    = "shared" // Glance's default: private until it has members
	VisibilityCommunity = "community"
)

// containerBare is the only container: the file is the disk, nothing around it.
const containerBare = "bare"

// Glance's default quotas (image_property_quota, image_tag_quota) and the widths of its columns.
const (
	maxImageProperties = 128
	maxImageTags       = 128
	maxPropertyName    = 255
	maxPropertyValue   = 65535 // bytes
)

// validate checks the user's part of a record.
func (img Image) validate() error {
	fail := func(kind error, field, reason string) error {
		return &Failure{Kind: kind, Subject: subjectOf("image", img.Name), Field: field, Reason: reason}
	}
	if field, reason := img.quotaFault(); reason != "" {
		return fail(ErrTooLarge, field, reason)
	}
	if field, reason := img.fault(); reason != "" {
		return fail(ErrInvalid, field, reason)
	}
	return nil
}

// validateChange checks a record that was old.
func (img Image) validateChange(old Image) error {
	for _, f := range []struct{ field, now, before string }{
		{"disk_format", img.DiskFormat, old.DiskFormat},
		{"container_format", img.ContainerFormat, old.ContainerFormat},
	} {
		if f.now != f.before && old.Status != ImageQueued {
			return &Failure{Kind: ErrForbidden, Subject: subjectOf("image", old.ID), Field: f.field,
				Reason: "can be changed only while the image is queued"}
		}
	}
	return img.validate()
}

func (img Image) quotaFault() (field, reason string) {
	if n := len(img.Properties); n > maxImageProperties {
		return "properties", fmt.Sprintf("%d properties, at most %d are allowed", n, maxImageProperties)
	}
	if n := len(img.Tags); n > maxImageTags {
		return "tags", fmt.Sprintf("%d tags, at most %d are allowed", n, maxImageTags)
	}
	return "", ""
}

// fault returns the first field, under its name in the API, that breaks a rule.
func (img Image) fault() (field, reason string) {
	if id, err := uuid.Parse(img.ID); err != nil || id.String() != img.ID {
		return "id", "must be a UUID in lower case with dashes"
	}
	if reason := textFault(img.Name, maxNameRunes); reason != "" {
		return "name", reason
	}
	for _, c := range []struct {
		field, value string
		allowed      []string
	}{
		{"disk_format", img.DiskFormat, []string{"", image.FormatQCOW2, image.FormatRaw}},
		{"container_format", img.ContainerFormat, []string{"", containerBare}},
		{"visibility", img.Visibility, []string{VisibilityPublic, VisibilityPrivate, VisibilityShared, VisibilityCommunity}},
	} {
		if !slices.Contains(c.allowed, c.value) {
			words := slices.DeleteFunc(slices.Clone(c.allowed), func(s string) bool { return s == "" })
			return c.field, fmt.Sprintf("%q is not one of: %s", abridge(c.value), strings.Join(words, ", "))
		}
	}
	for _, n := range []struct {
		field string
		value int
	}{{"min_disk", img.MinDiskGiB}, {"min_ram", img.MinRAMMiB}} {
		if n.value < 0 || n.value > math.MaxInt32 {
			return n.field, fmt.Sprintf("must be 0 to %d", math.MaxInt32)
		}
	}
	for _, tag := range img.Tags {
		if reason := textFault(tag, maxNameRunes); reason != "" {
			return "tags", fmt.Sprintf("tag %q %s", abridge(tag), reason)
		}
	}
	return imagePropertyFault(img.Properties)
}

// imagePropertyFault goes by sorted names, so that the same request gets the same answer. A value may
// be any text: Glance keeps whole documents there.
func imagePropertyFault(properties map[string]string) (field, reason string) {
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		value := properties[name]
		switch {
		case name == "" || textFault(name, maxPropertyName) != "":
			return "properties", fmt.Sprintf("name %q must be 1 to %d printable characters", abridge(name), maxPropertyName)
		case len(value) > maxPropertyValue:
			return "properties", fmt.Sprintf("value of %q has %d bytes, at most %d are allowed", abridge(name), len(value), maxPropertyValue)
		case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
			return "properties", fmt.Sprintf("value of %q is not text", abridge(name))
		}
	}
	return "", ""
}
