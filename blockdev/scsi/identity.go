package scsi

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"

	"compute-agent/blockdev/connector"
)

// maxIdentity bounds what a disk may say of itself: the longest that SPC has is a SCSI name string of 256 bytes.
const maxIdentity = 300

// identify reads who a disk says it is: the kernel's choice of its designators, or ours where an older kernel makes none, or its serial number.
func identify(dir string) connector.Identity {
	if text, err := readText(dir, "wwid"); err == nil && text != "" {
		return clean(text)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "vpd_pg83")); err == nil {
		if d, ok := best(designators(data)); ok {
			return clean(d.kernelForm())
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, "vpd_pg80")); err == nil {
		if serial := serialNumber(data); serial != "" {
			vendor, _ := readText(dir, "vendor")
			model, _ := readText(dir, "model")
			return clean("serial." + vendor + " " + model + " " + serial)
		}
	}
	return ""
}

// clean makes one line of what a disk says, with single spaces.
func clean(text string) connector.Identity {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	return connector.Identity(strings.ToValidUTF8(text[:min(len(text), maxIdentity)], "?"))
}

// designator is one name of a logical unit, of its page 83h (SPC-4 7.8.6).
type designator struct {
	codeSet, kind byte
	data          []byte
}

// The kinds of designators that a disk is known by.
const (
	kindVendor = 0
	kindT10    = 1
	kindEUI    = 2
	kindNAA    = 3
	kindName   = 8 // SCSI name string
	kindUUID   = 0xa
)

const (
	binarySet  = 1
	page83Head = 4
	designHead = 4
)

// designators returns those of the logical unit itself, not of its port or target. What is cut short or runs over is left out.
func designators(page []byte) []designator {
	if len(page) < page83Head || page[1] != 0x83 {
		return nil
	}
	rest := page[page83Head:]
	rest = rest[:min(len(rest), int(binary.BigEndian.Uint16(page[2:4])))]
	var list []designator
	for len(rest) > designHead {
		size := int(rest[3])
		if len(rest) < designHead+size {
			break
		}
		association := rest[1] >> 4 & 3
		if association == 0 && size > 0 {
			list = append(list, designator{codeSet: rest[0] & 0xf, kind: rest[1] & 0xf, data: rest[designHead : designHead+size]})
		}
		rest = rest[designHead+size:]
	}
	return list
}

// rank orders designators as udev's scsi_id does, whose choice is multipath's too; zero is for those that nobody goes by.
func (d designator) rank() int {
	switch d.kind {
	case kindNAA:
		switch d.data[0] >> 4 {
		case 6:
			return 9
		case 5:
			return 8
		}
		return 7
	case kindEUI:
		return 6
	case kindT10:
		return 5
	case kindName:
		return 4
	case kindUUID:
		return 3
	case kindVendor:
		return 1
	}
	return 0
}

func best(list []designator) (designator, bool) {
	var found designator
	rank := 0
	for _, d := range list {
		if r := d.rank(); r > rank {
			found, rank = d, r
		}
	}
	return found, rank > 0
}

// text is the designator without its kind: hexadecimal digits, or the string that it is.
func (d designator) text() string {
	if d.codeSet == binarySet {
		return hex.EncodeToString(d.data)
	}
	return strings.TrimRight(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(d.data), "?")), " ")
}

// kernelForm is how the file wwid has it.
func (d designator) kernelForm() string {
	switch d.kind {
	case kindNAA:
		return "naa." + strings.ToLower(d.text())
	case kindEUI:
		return "eui." + strings.ToLower(d.text())
	case kindT10:
		return "t10." + d.text()
	case kindUUID:
		if len(d.data) == 18 { // two bytes before the UUID say which kind of UUID
			return "uuid." + hex.EncodeToString(d.data[2:])
		}
		return "uuid." + d.text()
	case kindName:
		return d.text()
	}
	return "vendor." + d.text()
}

// serialNumber reads page 80h.
func serialNumber(page []byte) string {
	if len(page) < 4 || page[1] != 0x80 {
		return ""
	}
	size := min(int(binary.BigEndian.Uint16(page[2:4])), len(page)-4)
	return strings.TrimSpace(strings.Trim(string(page[4:4+size]), "\x00"))
}

// WWID is what multipath and udev call the disk: ID_SERIAL of udev's record, or what udev's scsi_id would make of the disk's own pages. Empty when
// the disk has no name.
func (s System) WWID(d Device) string {
	if d.Number != "" {
		if wwid := s.udev(d.Number).properties["ID_SERIAL"]; wwid != "" {
			return wwid
		}
	}
	return s.computedWWID(d)
}

func (s System) computedWWID(d Device) string {
	dir := s.device(d.Address)
	vendor, model := d.Vendor, d.Model
	if data, err := os.ReadFile(filepath.Join(dir, "vpd_pg83")); err == nil {
		if found, ok := best(designators(data)); ok {
			return found.udevForm(vendor, model)
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, "vpd_pg80")); err == nil {
		if serial := serialNumber(data); serial != "" {
			return underscores("S" + padded(vendor, 8) + padded(model, 16) + serial)
		}
	}
	return MapName(d.Identity)
}

// udevForm is how scsi_id writes the designator: its kind's digit, then itself.
func (d designator) udevForm(vendor, model string) string {
	switch d.kind {
	case kindNAA:
		return "3" + strings.ToLower(d.text())
	case kindEUI:
		return "2" + strings.ToLower(d.text())
	case kindT10:
		return underscores("1" + d.text())
	case kindName:
		return underscores("8" + d.text())
	case kindVendor:
		return underscores("0" + padded(vendor, 8) + padded(model, 16) + d.text())
	}
	return underscores(d.text())
}

// MapName is the WWID in multipath's form of an identity in the kernel's: 3 and the digits for NAA, 2 for EUI, 1 for T10. Empty for identities that
// multipath has no name for.
func MapName(id connector.Identity) string {
	kind, rest, _ := strings.Cut(string(id), ".")
	switch kind {
	case "naa":
		return "3" + rest
	case "eui":
		return "2" + rest
	case "t10":
		return underscores("1" + rest)
	}
	return ""
}

// padded is a field of INQUIRY data with the spaces that sysfs does not show.
func padded(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-len(text)))
}

// underscores writes runs of white space as udev does.
func underscores(text string) string { return strings.Join(strings.Fields(text), "_") }

// SameWWID says whether an identity is the WWID that a storage system names (data.wwn of connection_info), in whichever of the forms: with 0x, with
// naa., with multipath's digit before it, with dashes.
func SameWWID(id connector.Identity, wwid string) bool {
	a := bare(string(id))
	return a != "" && a == bare(wwid)
}

func bare(wwid string) string {
	wwid = strings.ToLower(strings.TrimSpace(wwid))
	for _, prefix := range []string{"naa.", "eui.", "uuid.", "nguid.", "0x"} {
		wwid = strings.TrimPrefix(wwid, prefix)
	}
	digits := strings.ReplaceAll(wwid, "-", "")
	if strings.Trim(digits, "0123456789abcdef") != "" {
		return strings.Join(strings.Fields(wwid), "_")
	}
	switch {
	case len(digits) == 17 || len(digits) == 33: // 8 or 16 bytes, and the kind before them
		return digits[1:]
	}
	return digits
}
