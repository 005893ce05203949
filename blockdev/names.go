package blockdev

import (
	"regexp"
	"strings"
)

const keyName = "device_name" // of a block device mapping

// prefixes begin the names of a bus's drives. SCSI, SATA and USB share theirs. A container has no names.
var prefixes = map[Bus]string{IDE: "hd", Virtio: "vd", SCSI: "sd", USB: "sd", FDC: "fd", SATA: "sd", "lxc": ""}

const (
	ideDrives    = 4 // two channels of two drives
	floppyDrives = 2 // of a controller
)

// lastLetters bounds the names: a to zz.
const lastLetters = 26 + 26*26

// Letters is the end of the name of the drive with this index, from 0: a to z, then aa, as Linux counts.
func Letters(index int) string {
	var out string
	for n := index + 1; n > 0; n = (n - 1) / 26 {
		out = string(rune('a'+(n-1)%26)) + out
	}
	return out
}

// Strip takes /dev/ off a name.
func Strip(name string) string { return strings.TrimPrefix(name, "/dev/") }

// Path puts /dev/ before a name; there is none for an empty one.
func Path(name string) string {
	if name == "" {
		return ""
	}
	return "/dev/" + Strip(name)
}

// busOf guesses the bus from a name; sd may be several.
func (r Request) busOf(name string) (Bus, error) {
	for _, bus := range []Bus{IDE, SCSI, Virtio, FDC} {
		if strings.HasPrefix(name, prefixes[bus]) {
			return bus, nil
		}
	}
	class := InvalidDevicePath
	if r.AsNova {
		class = InternalError
	}
	return "", failed(class, keyName, name, "no bus has drives of this name")
}

// places is how many names there are on a bus.
func (r Request) places(bus Bus) int {
	switch {
	case bus == IDE:
		return ideDrives
	case bus == FDC && !r.AsNova:
		return floppyDrives
	case r.MaxDrives != nil:
		return *r.MaxDrives
	}
	return lastLetters
}

// free is the first name of a bus that is not among the taken ones; empty where drives have no names.
func (r Request) free(bus Bus, taken ...map[string]bool) (string, error) {
	prefix, known := prefixes[bus]
	if r.Prefix != "" {
		prefix, known = r.Prefix, true
	}
	if !known {
		return "", failed(InternalError, keyBus, string(bus), "the bus has no names for drives")
	}
	if prefix == "" {
		return "", nil
	}
	limit := r.places(bus)
	for i := range limit {
		name := prefix + Letters(i)
		if !anyHas(taken, name) {
			return name, nil
		}
	}
	if r.MaxDrives != nil && limit == *r.MaxDrives {
		return "", r.beyond(limit + 1)
	}
	return "", tooMany(keyBus, string(bus), limit, "all %d places of the bus are taken")
}

func anyHas(sets []map[string]bool, name string) bool {
	for _, set := range sets {
		if set[name] {
			return true
		}
	}
	return false
}

var wellFormed = regexp.MustCompile(`^[a-z]{1,8}d[a-z]{1,2}$`)

// nameFault says why a name that was asked for cannot be a drive's on a bus; empty if it can. libvirt makes the
// drive's address of it.
func (r Request) nameFault(name string, bus Bus) string {
	prefix := prefixes[bus]
	if r.Prefix != "" {
		prefix = r.Prefix
	}
	letters, fits := strings.CutPrefix(name, prefix)
	switch {
	case !wellFormed.MatchString(name):
		return "it is not letters of a drive's name"
	case !fits:
		return "drives on " + string(bus) + " begin with " + prefix
	case indexOf(letters) >= r.places(bus):
		return "the bus has no such place"
	}
	return ""
}

// indexOf is the inverse of Letters.
func indexOf(letters string) int {
	n := 0
	for _, c := range letters {
		n = n*26 + int(c-'a') + 1
	}
	return n - 1
}
