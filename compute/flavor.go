package compute

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"compute-agent/internal/pattern"
)

// Nova's rules for flavors (nova.api.openstack.compute.schemas.flavors and flavors_extraspecs).
var (
	flavorIDPattern  = regexp.MustCompile(`^[A-Za-z0-9._-]([A-Za-z0-9._ -]*[A-Za-z0-9._-])?$`)
	extraSpecPattern = pattern.New(`^[A-Za-z0-9_:. -]{1,255}$`)
)

const (
	maxNameRunes        = 255
	maxDescriptionRunes = 65535
)

// CreateFlavor adds a flavor. An empty ID, or "auto" as Nova's clients say, is replaced by a UUID.
// ErrExists if the ID or the name is taken.
func (c *Catalog) CreateFlavor(ctx context.Context, f Flavor) (Flavor, error) {
	if f.ID == "" || f.ID == "auto" {
		f.ID = uuid.NewString()
	}
	if err := f.validate(); err != nil {
		return Flavor{}, err
	}
	err := c.store.Update(ctx, func(w Writer) error {
		_, err := w.Flavor(f.ID)
		if err == nil {
			return &Failure{Kind: ErrExists, Subject: subjectOf("flavor", f.ID), Field: "id", Reason: "another flavor has it"}
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		return w.PutFlavor(f)
	})
	return f, err
}

// Flavor returns one flavor.
func (c *Catalog) Flavor(ctx context.Context, id string) (f Flavor, err error) {
	err = c.store.View(ctx, func(r Reader) error {
		f, err = r.Flavor(id)
		return err
	})
	return f, err
}

// Flavors returns all flavors in the order of their IDs.
func (c *Catalog) Flavors(ctx context.Context) (all []Flavor, err error) {
	err = c.store.View(ctx, func(r Reader) error {
		all, err = r.Flavors()
		return err
	})
	return all, err
}

// UpdateFlavor applies change to a flavor's description and extra specs; the rest of a flavor
// never changes, as in Nova. Servers that were made of it keep it as it was. The error of change
// is returned as it is.
func (c *Catalog) UpdateFlavor(ctx context.Context, id string, change func(*Flavor) error) (Flavor, error) {
	var f Flavor
	err := c.store.Update(ctx, func(w Writer) error {
		old, err := w.Flavor(id)
		if err != nil {
			return err
		}
		f = old
		f.ExtraSpecs = maps.Clone(old.ExtraSpecs)
		if err := change(&f); err != nil {
			return err
		}
		if err := f.validateChange(old); err != nil {
			return err
		}
		return w.PutFlavor(f)
	})
	if err != nil {
		return Flavor{}, err
	}
	return f, nil
}

// DeleteFlavor removes a flavor. ErrNotFound if there is none.
func (c *Catalog) DeleteFlavor(ctx context.Context, id string) error {
	return c.store.Update(ctx, func(w Writer) error {
		if _, err := w.Flavor(id); err != nil {
			return err
		}
		return w.DeleteFlavor(id)
	})
}

func (f Flavor) validateChange(old Flavor) error {
	rest := f
	rest.Description, rest.ExtraSpecs = old.Description, old.ExtraSpecs
	if !reflect.DeepEqual(rest, old) {
		return &Failure{Kind: ErrInvalid, Subject: subjectOf("flavor", old.ID), Reason: "only its description and extra specs can change"}
	}
	return f.validate()
}

func (f Flavor) validate() error {
	field, reason := f.fault()
	if reason == "" {
		return nil
	}
	return &Failure{Kind: ErrInvalid, Subject: subjectOf("flavor", f.Name), Field: field, Reason: reason}
}

// fault returns the first field, under its name in the API, that breaks a rule.
func (f Flavor) fault() (field, reason string) {
	if reason := nameFault(f.Name); reason != "" {
		return "name", reason
	}
	if len(f.ID) > maxNameRunes || !flavorIDPattern.MatchString(f.ID) {
		return "id", "must be 1 to 255 letters, digits, spaces, dots, dashes and underscores, with no space at the ends"
	}
	if reason := textFault(f.Description, maxDescriptionRunes); reason != "" {
		return "description", reason
	}
	for _, n := range []struct {
		field      string
		value, min int
	}{
		{"vcpus", f.VCPUs, 1},
		{"ram", f.MemoryMiB, 1},
		{"disk", f.DiskGiB, 0},
		{"swap", f.SwapMiB, 0},
		{"OS-FLV-EXT-DATA:ephemeral", f.EphemeralGiB, 0},
	} {
		if n.value < n.min || n.value > math.MaxInt32 {
			return n.field, fmt.Sprintf("must be %d to %d", n.min, math.MaxInt32)
		}
	}
	if !(f.RXTXFactor > 0 && f.RXTXFactor <= math.MaxFloat32) { // also refuses NaN
		return "rxtx_factor", "must be more than 0"
	}
	return extraSpecsFault(f.ExtraSpecs)
}

// extraSpecsFault goes by sorted keys, so that the same request gets the same answer.
func extraSpecsFault(specs map[string]string) (field, reason string) {
	for _, key := range slices.Sorted(maps.Keys(specs)) {
		if !extraSpecPattern.MatchString(key) {
			return "extra_specs", fmt.Sprintf("key %q must be 1 to 255 letters, digits, spaces, colons, dots, dashes and underscores", abridge(key))
		}
		if reason := textFault(specs[key], maxNameRunes); reason != "" {
			return "extra_specs", fmt.Sprintf("value of %q %s", key, reason)
		}
	}
	return "", ""
}

// nameFault says what is wrong with a name by Nova's rules (nova.api.validation.parameter_types.name).
func nameFault(name string) string {
	if name == "" {
		return "must not be empty"
	}
	if strings.TrimSpace(name) != name {
		return "must not begin or end with white space"
	}
	return textFault(name, maxNameRunes)
}

func textFault(text string, limit int) string {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return "must have printable characters only"
	}
	if n := utf8.RuneCountInString(text); n > limit {
		return fmt.Sprintf("has %d characters, at most %d are allowed", n, limit)
	}
	return ""
}

// subjectOf names a thing in an error; the name is the user's and is quoted.
func subjectOf(kind, name string) string { return fmt.Sprintf("%s %q", kind, abridge(name)) }

// abridge cuts a hostile string to what an error message can bear.
func abridge(s string) string {
	const limit = 64
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}
