package virt

import (
	"math/bits"
	"regexp"
	"strings"

	"compute-agent/internal/pattern"
)

var (
	serialForm = pattern.New(`^[A-Za-z0-9_.+-]{0,64}$`)
	wwnForm    = regexp.MustCompile(`^[0-9a-f]{16}$`)
	targetForm = regexp.MustCompile(`^[a-z]{3,5}$`)
	iqnForm    = pattern.New(`^(iqn|eui|naa)\.[A-Za-z0-9.:_-]{1,219}$`)
)

// targetPrefix is how the names of the drives on a bus begin.
var targetPrefix = map[string]string{"virtio": "vd", "ide": "hd", "sata": "sd", "scsi": "sd", "usb": "sd", "fdc": "fd"}

func (s Spec) validateDisks() error {
	targets, paths, units := map[string]bool{}, map[string]bool{}, map[int]bool{}
	for _, d := range s.Disks {
		if err := d.validate(); err != nil {
			return err
		}
		switch {
		case targets[d.Target]:
			return invalid("two disks with target %s", d.Target)
		case d.Path() != "" && paths[d.Path()]:
			return invalid("disk %s: its file is another disk's too", d.Target)
		case d.Unit != nil && units[*d.Unit]:
			return invalid("disk %s: unit %d is another disk's too", d.Target, *d.Unit)
		case d.Bus == "usb" && s.USB.Controller == "none":
			return invalid("disk %s: bus usb without a USB controller", d.Target)
		}
		targets[d.Target], paths[d.Path()] = true, true
		if d.Unit != nil {
			units[*d.Unit] = true
		}
	}
	return oneOf("SCSI controller", s.SCSI, "", "buslogic", "ibmvscsi", "lsilogic", "lsisas1068", "lsisas1078", "virtio-scsi", "vmpvscsi")
}

// Validate says whether the disk contradicts itself, as Spec.Validate does for all of a guest's.
func (d Disk) Validate() error {
	return first(d.validate(), d.validateStated(), validateAlias("disk "+d.Target, d.Alias))
}

// validateStated refuses what Spec.ValidateForCreate does.
func (d Disk) validateStated() error {
	if d.Unstated {
		return invalid("disk %s: the chain below its image is not stated", d.Target)
	}
	return nil
}

func (d Disk) validate() error {
	for _, check := range []func(on string) error{
		d.validatePlace, d.validateKind, d.validateSource, d.validateModes, d.validateIdentity, d.validateTune, d.validateKey,
	} {
		if err := check("disk " + d.Target); err != nil {
			return err
		}
	}
	return nil
}

func (d Disk) validatePlace(on string) error {
	prefix, known := targetPrefix[d.Bus]
	switch {
	case !targetForm.MatchString(d.Target):
		return invalid("disk target %q", d.Target)
	case !known:
		return invalid("%s: bus %q is not virtio, ide, sata, scsi, usb or fdc", on, d.Bus)
	case !strings.HasPrefix(d.Target, prefix):
		return invalid("%s: targets on bus %s begin with %s", on, d.Bus, prefix)
	case d.Unit != nil && d.Bus != "scsi":
		return invalid("%s: a unit on bus %s", on, d.Bus)
	case d.Unit != nil:
		return within(on+": unit", *d.Unit, 0, 16383)
	}
	return nil
}

func (d Disk) validateKind(on string) error {
	switch {
	case d.Kind == "cdrom" && d.Bus == "virtio":
		return invalid("%s: a CD-ROM cannot be on bus virtio", on)
	case (d.Kind == "floppy") != (d.Bus == "fdc"):
		return invalid("%s: floppies, and nothing else, are on bus fdc", on)
	case d.Kind == "lun" && d.Bus != "scsi" && d.Bus != "virtio":
		return invalid("%s: a LUN on bus %s, which passes no SCSI commands", on, d.Bus)
	case d.Kind == "lun" && d.Source.Device == "" && (d.Source.Network == nil || d.Source.Network.Protocol != "iscsi"):
		return invalid("%s: a LUN needs a block device or iSCSI as its source", on)
	case d.Kind == "lun" && d.Format != "raw":
		return invalid("%s: a LUN of format %s", on, d.Format)
	case d.Kind == "lun" && d.BlockIO != BlockIO{}:
		return invalid("%s: a LUN has block sizes of its own", on)
	case d.Shared && d.Format != "raw":
		return invalid("%s: shared, of format %s, which two cannot write", on, d.Format)
	}
	return oneOf(on+": kind", d.Kind, "", "disk", "cdrom", "floppy", "lun")
}

func (d Disk) validateSource(on string) error {
	named := 0
	for _, is := range []bool{d.Source.File != "", d.Source.Device != "", d.Source.Network != nil} {
		if is {
			named++
		}
	}
	switch {
	case named > 1:
		return invalid("%s: more than one of file, device and network as its source", on)
	case named == 0 && !d.Removable():
		return invalid("%s: no source", on)
	case named == 0 && (d.Format != "" || len(d.Backing) > 0 || d.Key != nil):
		return invalid("%s: an empty drive with a format, a backing file or a key", on)
	case named == 0:
		return nil
	case d.Unstated && len(d.Backing) > 0:
		return invalid("%s: its chain is stated, and is not", on)
	case d.Source.Network != nil:
		if err := d.Source.Network.validate(on); err != nil {
			return err
		}
	default:
		if err := validatePath(on, d.Path()); err != nil {
			return err
		}
	}
	return d.validateFormats(on)
}

func (d Disk) validateFormats(on string) error {
	if d.Format == "raw" && len(d.Backing) > 0 {
		return invalid("%s: a raw image has no backing file", on)
	}
	if err := oneOf(on+": format", d.Format, "qcow2", "raw"); err != nil {
		return err
	}
	for _, layer := range d.Backing {
		if err := first(oneOf(on+": format of a backing file", layer.Format, "qcow2", "raw"), validatePath(on+": backing file", layer.Path)); err != nil {
			return err
		}
	}
	return nil
}

func (n NetworkSource) validate(on string) error {
	switch {
	case n.Protocol != "rbd" && len(n.Hosts) != 1:
		return invalid("%s: %d hosts for protocol %s, which takes one", on, len(n.Hosts), n.Protocol)
	case n.Initiator != "" && n.Protocol != "iscsi":
		return invalid("%s: an initiator for protocol %s", on, n.Protocol)
	case n.Initiator != "" && !iqnForm.MatchString(n.Initiator):
		return invalid("%s: initiator %q is not an IQN", on, n.Initiator)
	}
	if err := oneOf(on+": protocol", n.Protocol, "rbd", "iscsi", "nbd"); err != nil {
		return err
	}
	if n.Protocol != "nbd" || n.Name != "" {
		if err := validateText(on+": name of its source", n.Name); err != nil {
			return err
		}
	}
	for _, h := range n.Hosts {
		if err := first(validateHost(on+": host", h.Host), within(on+": port", h.Port, 0, 65535)); err != nil {
			return err
		}
	}
	return n.Auth.validate(on, n.Protocol)
}

// secretType is what kind of secret a protocol logs in with.
var secretType = map[string]string{"rbd": "ceph", "iscsi": "iscsi"}

func (r *SecretRef) validate(on, protocol string) error {
	switch {
	case r == nil:
		return nil
	case secretType[protocol] == "":
		return invalid("%s: protocol %s logs in with no secret", on, protocol)
	case r.Type != secretType[protocol]:
		return invalid("%s: secret type %q is not %s", on, r.Type, secretType[protocol])
	}
	return first(validateText(on+": user", r.User), validateUUID(on+": secret", r.UUID))
}

func (d Disk) validateModes(on string) error {
	if d.IO == "native" && d.Cache != "none" && d.Cache != "directsync" {
		return invalid("%s: I/O mode native needs cache mode none or directsync", on)
	}
	if d.Packed && d.Bus != "virtio" {
		return invalid("%s: a packed ring on bus %s", on, d.Bus)
	}
	return first(
		oneOf(on+": cache mode", d.Cache, "", "none", "writeback", "writethrough", "directsync", "unsafe"),
		oneOf(on+": I/O mode", d.IO, "", "native", "threads", "io_uring"),
		oneOf(on+": discard", d.Discard, "", "unmap", "ignore"),
		oneOf(on+": detection of zeroes", d.DetectZeroes, "", "off", "on", "unmap"),
	)
}

func (d Disk) validateIdentity(on string) error {
	switch {
	case !serialForm.MatchString(d.Serial):
		return invalid("%s: serial %q is not at most 64 of [A-Za-z0-9_.+-]", on, d.Serial)
	case d.WWN == "":
		return nil
	case !wwnForm.MatchString(d.WWN):
		return invalid("%s: WWN %q is not 16 hexadecimal digits", on, d.WWN)
	case d.Bus != "ide" && d.Bus != "scsi":
		return invalid("%s: a WWN on bus %s", on, d.Bus)
	}
	return nil
}

// maxTune is the most that QEMU takes for a limit.
const maxTune = 1_000_000_000_000_000

// validateTune refuses limits that the hypervisor cannot hold together: of the total beside those of one
// direction, and of bursts beside none of the rate.
func (d Disk) validateTune(on string) error {
	t := d.Tune
	switch {
	case t.TotalBytes > 0 && (t.ReadBytes > 0 || t.WriteBytes > 0):
		return invalid("%s: a limit of all bytes beside one of reading or writing", on)
	case t.TotalIOPS > 0 && (t.ReadIOPS > 0 || t.WriteIOPS > 0):
		return invalid("%s: a limit of all I/Os beside one of reading or writing", on)
	}
	for _, l := range []struct {
		what        string
		rate, burst uint64
	}{
		{"all bytes", t.TotalBytes, t.TotalBytesMax}, {"bytes read", t.ReadBytes, t.ReadBytesMax}, {"bytes written", t.WriteBytes, t.WriteBytesMax},
		{"all I/Os", t.TotalIOPS, t.TotalIOPSMax}, {"reads", t.ReadIOPS, t.ReadIOPSMax}, {"writes", t.WriteIOPS, t.WriteIOPSMax},
		{"bytes that count as one I/O", t.SizeIOPS, 0},
	} {
		switch {
		case l.burst > 0 && l.rate == 0:
			return invalid("%s: limit of %s: %d in bursts, and none a second", on, l.what, l.burst)
		case l.burst > 0 && l.burst < l.rate:
			return invalid("%s: limit of %s: %d in bursts are less than %d a second", on, l.what, l.burst, l.rate)
		case l.rate > maxTune || l.burst > maxTune:
			return invalid("%s: limit of %s: more than %d", on, l.what, uint64(maxTune))
		}
	}
	return first(validateBlockSize(on+": logical block size", d.BlockIO.Logical), validateBlockSize(on+": physical block size", d.BlockIO.Physical))
}

// validateBlockSize has QEMU's rule.
func validateBlockSize(what string, n int) error {
	if n != 0 && (n < 512 || n > 2<<20 || !powerOfTwo(n)) {
		return invalid("%s %d is not a power of two from 512 to 2097152", what, n)
	}
	return nil
}

func powerOfTwo(n int) bool { return n > 0 && bits.OnesCount(uint(n)) == 1 }

func (d Disk) validateKey(on string) error {
	if d.Key == nil {
		return nil
	}
	return first(oneOf(on+": encryption", d.Key.Format, "luks", "luks2", "plain"), validateUUID(on+": secret of its key", d.Key.Secret))
}

// usageForm is what a Secret can be for.
var usageForm = pattern.New(`^[A-Za-z0-9_.:-]{1,128}$`)

// Validate says whether the secret contradicts itself. Its value is in no error.
func (s Secret) Validate() error {
	switch {
	case !usageForm.MatchString(s.For):
		return invalid("secret %s: what it is for, %q, is not 1 to 128 of [A-Za-z0-9_.:-]", s.UUID, s.For)
	case len(s.Value) == 0:
		return invalid("secret %s: it has no value", s.UUID)
	}
	return first(validateUUID("UUID of the secret", s.UUID), oneOf("secret "+s.UUID+": usage", s.Usage, "iscsi", "ceph", "volume"))
}
