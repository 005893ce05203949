package compute

import (
	"errors"
	"maps"
	"strings"
	"testing"
)

func TestValidateRequest(t *testing.T) {
	good := CreateRequest{Name: "a"}
	many := map[string]string{}
	for i := range 129 {
		many[strings.Repeat("k", i+1)] = ""
	}
	few := maps.Clone(many)
	delete(few, "k")
	for name, c := range map[string]struct {
		change func(*CreateRequest)
		field  string // empty: fine
		kind   error
	}{
		"plain":                     {func(*CreateRequest) {}, "", nil},
		"255 characters":            {func(r *CreateRequest) { r.Name = strings.Repeat("ä", 255) }, "", nil},
		"markup":                    {func(r *CreateRequest) { r.Name = `<script a="b">&amp;]]>` }, "", nil},
		"no-break space inside":     {func(r *CreateRequest) { r.Name = "a\u00a0b" }, "", nil},
		"no name":                   {func(r *CreateRequest) { r.Name = "" }, "name", ErrInvalid},
		"256 characters":            {func(r *CreateRequest) { r.Name = strings.Repeat("a", 256) }, "name", ErrInvalid},
		"leading space":             {func(r *CreateRequest) { r.Name = " a" }, "name", ErrInvalid},
		"trailing ideographic":      {func(r *CreateRequest) { r.Name = "a\u3000" }, "name", ErrInvalid},
		"line end":                  {func(r *CreateRequest) { r.Name = "a\nb" }, "name", ErrInvalid},
		"escape":                    {func(r *CreateRequest) { r.Name = "a\x1b[2Jb" }, "name", ErrInvalid},
		"NUL":                       {func(r *CreateRequest) { r.Name = "a\x00b" }, "name", ErrInvalid},
		"direction override":        {func(r *CreateRequest) { r.Name = "a\u202eb" }, "name", ErrInvalid},
		"not UTF-8":                 {func(r *CreateRequest) { r.Name = "a\xff" }, "name", ErrInvalid},
		"user data, just right":     {func(r *CreateRequest) { r.UserData = make([]byte, 49149) }, "", nil},
		"user data, too long":       {func(r *CreateRequest) { r.UserData = make([]byte, 49152) }, "user_data", ErrInvalid},
		"metadata, 128 items":       {func(r *CreateRequest) { r.Metadata = few }, "", nil},
		"metadata, 129 items":       {func(r *CreateRequest) { r.Metadata = many }, "metadata", ErrForbidden},
		"metadata, empty key":       {func(r *CreateRequest) { r.Metadata = map[string]string{"": "x"} }, "metadata", ErrInvalid},
		"metadata, strange key":     {func(r *CreateRequest) { r.Metadata = map[string]string{"a/b": "x"} }, "metadata", ErrInvalid},
		"metadata, long value":      {func(r *CreateRequest) { r.Metadata = map[string]string{"a": strings.Repeat("x", 256)} }, "metadata", ErrInvalid},
		"description, control":      {func(r *CreateRequest) { r.Description = "a\x07" }, "description", ErrInvalid},
		"description, lines":        {func(r *CreateRequest) { r.Description = "a\nb" }, "", nil},
		"admin password, too long":  {func(r *CreateRequest) { r.AdminPassword = strings.Repeat("x", 256) }, "adminPass", ErrInvalid},
		"admin password, not UTF-8": {func(r *CreateRequest) { r.AdminPassword = "\xff" }, "adminPass", ErrInvalid},
	} {
		r := good
		c.change(&r)
		err := r.validate()
		var failure *Failure
		errors.As(err, &failure)
		switch {
		case c.field == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.field != "" && (failure == nil || failure.Field != c.field || !errors.Is(err, c.kind)):
			t.Errorf("%s: error %v, want %v of field %s", name, err, c.kind, c.field)
		}
	}
}

func TestValidateSize(t *testing.T) {
	flavor := Flavor{ID: "1", VCPUs: 1, MemoryMiB: 512, DiskGiB: 2}
	img := Image{ID: "i", Status: ImageActive, MinDiskGiB: 2, MinRAMMiB: 512, VirtualSize: 2 << 30}
	for name, c := range map[string]struct {
		change func(*Flavor, *Image)
		field  string
	}{
		"fits":            {func(*Flavor, *Image) {}, ""},
		"image's own":     {func(f *Flavor, _ *Image) { f.DiskGiB = 0 }, ""},
		"disabled":        {func(f *Flavor, _ *Image) { f.Disabled = true }, "flavorRef"},
		"queued":          {func(_ *Flavor, i *Image) { i.Status = ImageQueued }, "imageRef"},
		"little memory":   {func(f *Flavor, _ *Image) { f.MemoryMiB = 511 }, "flavorRef"},
		"min_disk":        {func(_ *Flavor, i *Image) { i.MinDiskGiB = 3 }, "flavorRef"},
		"image is larger": {func(_ *Flavor, i *Image) { i.VirtualSize++ }, "flavorRef"},
	} {
		f, i := flavor, img
		c.change(&f, &i)
		err := validateSize(f, i)
		var failure *Failure
		errors.As(err, &failure)
		if (c.field == "") != (err == nil) || (failure != nil && failure.Field != c.field) {
			t.Errorf("%s: error %v, want one of field %q", name, err, c.field)
		}
	}
}

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{"a\nb\nc\n", 2, "b\nc\n"}, {"a\nb\nc", 2, "b\nc"}, {"a\nb\n", 9, "a\nb\n"}, {"a\nb\n", -1, "a\nb\n"},
		{"a\nb\n", 0, ""}, {"", 3, ""}, {"\n", 1, "\n"}, {"a\n\n", 1, "\n"}, {"a\n\n", 2, "a\n\n"},
	} {
		if got := lastLines(c.text, c.n); got != c.want {
			t.Errorf("last %d lines of %q: %q, want %q", c.n, c.text, got, c.want)
		}
	}
}
