package virt

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

var (
	uuidForm    = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	nameForm    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)
	machineForm = regexp.MustCompile(`^[A-Za-z0-9_.+-]+$`)
	serialForm  = regexp.MustCompile(`^[A-Za-z0-9_.+-]*$`)
	targetForm  = regexp.MustCompile(`^[a-z]{3,5}$`)
)

// targetPrefix is how the names of the drives on a bus begin.
var targetPrefix = map[string]string{"virtio": "vd", "ide": "hd", "sata": "sd", "scsi": "sd"}

// Validate says whether the Spec contradicts itself. It looks at nothing outside it: whether the files
// exist and whether this hypervisor can do it is the driver's to find out. Every driver's Create calls
// it first, so that all refuse the same. The error is of kind ErrInvalid and names the field.
func (s Spec) Validate() error {
	checks := []func() error{s.validateIdentity, s.validateCPU, s.validatePlacement, s.validateDisks, s.validateDevices, s.validatePCI}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

func (s Spec) validateIdentity() error {
	switch {
	case !uuidForm.MatchString(s.ID):
		return invalid("ID %q is not a UUID in lower case", s.ID)
	case !nameForm.MatchString(s.Name):
		return invalid("name %q is not 1 to 64 of [A-Za-z0-9_.-], beginning with a letter, a digit or _", s.Name)
	case s.VirtType != "kvm" && s.VirtType != "qemu":
		return invalid("virt type %q is not kvm or qemu", s.VirtType)
	case !machineForm.MatchString(s.Arch):
		return invalid("arch %q", s.Arch)
	case !machineForm.MatchString(s.Machine):
		return invalid("machine %q", s.Machine)
	case s.Metadata.RootType != "" && s.Metadata.RootType != "image" && s.Metadata.RootType != "volume":
		return invalid("metadata root type %q is not image or volume", s.Metadata.RootType)
	}
	return nil
}

func (s Spec) validateCPU() error {
	c := s.CPU
	switch {
	case s.VCPUs < 1:
		return invalid("%d vCPUs", s.VCPUs)
	case s.MemoryMiB < 1:
		return invalid("no memory")
	case !slices.Contains([]string{"host-model", "host-passthrough", "maximum", "custom", "none"}, c.Mode):
		return invalid("CPU mode %q is not host-model, host-passthrough, maximum, custom or none", c.Mode)
	case c.Mode == "custom" && !machineForm.MatchString(c.Model):
		return invalid("CPU mode custom with model %q", c.Model)
	case c.Mode != "custom" && c.Model != "":
		return invalid("CPU model %q with mode %s, which takes none", c.Model, c.Mode)
	case c.Sockets < 1 || c.Cores < 1 || c.Threads < 1 || c.Sockets*c.Cores*c.Threads != s.VCPUs:
		return invalid("CPU topology of %d sockets, %d cores and %d threads is not %d vCPUs", c.Sockets, c.Cores, c.Threads, s.VCPUs)
	}
	return nil
}

func (s Spec) validateDisks() error {
	targets, boots, paths := map[string]bool{}, map[int]bool{}, map[string]bool{}
	for _, d := range s.Disks {
		if err := d.validate(); err != nil {
			return err
		}
		switch {
		case targets[d.Target]:
			return invalid("two disks with target %s", d.Target)
		case d.Boot > 0 && boots[d.Boot]:
			return invalid("two disks with boot position %d", d.Boot)
		case d.Path() != "" && paths[d.Path()]:
			return invalid("disk %s: its file is another disk's too", d.Target)
		}
		targets[d.Target], boots[d.Boot], paths[d.Path()] = true, true, true
	}
	return nil
}

func (d Disk) validate() error {
	prefix, known := targetPrefix[d.Bus]
	switch {
	case !targetForm.MatchString(d.Target):
		return invalid("disk target %q", d.Target)
	case !known:
		return invalid("disk %s: bus %q is not virtio, ide, sata or scsi", d.Target, d.Bus)
	case !strings.HasPrefix(d.Target, prefix):
		return invalid("disk %s: targets on bus %s begin with %s", d.Target, d.Bus, prefix)
	case d.Kind == "cdrom" && d.Bus == "virtio":
		return invalid("disk %s: a CD-ROM cannot be on bus virtio", d.Target)
	case !serialForm.MatchString(d.Serial):
		return invalid("disk %s: serial %q has other characters than [A-Za-z0-9_.+-]", d.Target, d.Serial)
	case d.Boot < 0:
		return invalid("disk %s: boot position %d", d.Target, d.Boot)
	}
	if err := d.validateModes(); err != nil {
		return err
	}
	return d.validateFiles()
}

func (d Disk) validateModes() error {
	switch {
	case !slices.Contains([]string{"", "none", "writeback", "writethrough", "directsync", "unsafe"}, d.Cache):
		return invalid("disk %s: cache mode %q", d.Target, d.Cache)
	case !slices.Contains([]string{"", "native", "threads", "io_uring"}, d.IO):
		return invalid("disk %s: I/O mode %q", d.Target, d.IO)
	case d.IO == "native" && d.Cache != "none" && d.Cache != "directsync":
		return invalid("disk %s: I/O mode native needs cache mode none or directsync", d.Target)
	}
	return nil
}

func (d Disk) validateFiles() error {
	if d.Format == "raw" && len(d.Backing) > 0 {
		return invalid("disk %s: a raw image has no backing file", d.Target)
	}
	for _, layer := range append([]Backing{{d.Path(), d.Format}}, d.Backing...) {
		if layer.Format != "qcow2" && layer.Format != "raw" {
			return invalid("disk %s: format %q is not qcow2 or raw", d.Target, layer.Format)
		}
		if err := validatePath("disk "+d.Target, layer.Path); err != nil {
			return err
		}
	}
	return nil
}

func (s Spec) validateDevices() error {
	paths := map[string]string{"emulator": s.Emulator, "console log": s.ConsoleLog()}
	for field, path := range paths {
		if path == "" {
			continue
		}
		if err := validatePath(field, path); err != nil {
			return err
		}
	}
	if s.RNG != nil {
		if err := validatePath("random number source", s.RNG.Source); err != nil {
			return err
		}
	}
	for _, g := range s.Graphics {
		if _, err := netip.ParseAddr(g.Listen); err != nil {
			return invalid("%s listen address %q", g.Type, g.Listen)
		}
	}
	if s.Balloon.Period < 0 {
		return invalid("balloon period %v", s.Balloon.Period)
	}
	return nil
}

// validatePath refuses what a domain definition cannot hold or would take for a relative path.
func validatePath(field, path string) error {
	control := func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffe || r == 0xffff }
	switch {
	case !filepath.IsAbs(path):
		return invalid("%s: path %q is not absolute", field, path)
	case !utf8.ValidString(path) || strings.ContainsFunc(path, control):
		return invalid("%s: path %q has characters that no domain definition can hold", field, path)
	}
	return nil
}
