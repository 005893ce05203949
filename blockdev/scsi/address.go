package scsi

import (
	"fmt"
	"regexp"
	"strconv"
)

// Address says where a logical unit is, as the kernel names it: host, channel, target and LUN.
type Address struct {
	Host, Channel, Target int
	// LUN is the eight bytes of a SAM logical unit number as the kernel makes one number of them: LUN 256 in the flat space is 0x4100. See LUN.
	LUN uint64
}

// String is the name of the device in sysfs.
func (a Address) String() string {
	return fmt.Sprintf("%d:%d:%d:%d", a.Host, a.Channel, a.Target, a.LUN)
}

var addressForm = regexp.MustCompile(`^(\d{1,9}):(\d{1,9}):(\d{1,9}):(\d{1,20})$`)

// ParseAddress reads what String writes.
func ParseAddress(name string) (Address, error) {
	parts := addressForm.FindStringSubmatch(name)
	if parts == nil {
		return Address{}, fmt.Errorf("%q is not a SCSI address (host:channel:target:lun)", name)
	}
	var a Address
	for i, field := range []*int{&a.Host, &a.Channel, &a.Target} {
		*field, _ = strconv.Atoi(parts[i+1]) // nine digits fit
	}
	lun, err := strconv.ParseUint(parts[4], 10, 64)
	if err != nil {
		return Address{}, fmt.Errorf("%q is not a SCSI address: the LUN has more than 64 bits", name)
	}
	a.LUN = lun
	return a, nil
}

// The modes in which arrays write a LUN's number (addressing_mode of connection_info).
const (
	Transparent = "transparent" // the number is the address
	SAM         = "SAM"         // so is it here
	SAM2        = "SAM2"        // numbers above 255 are in the flat space
	SAM3Flat    = "SAM3-flat"   // all numbers are in the flat space
)

const (
	flatSpace = 0x4000 // address method 01b in the upper two bits of a LUN's first two bytes
	maxFlat   = 0x3fff
)

// LUN returns the address of the LUN with that number, by os-brick's rules. An empty mode is Transparent.
func LUN(number int, mode string) (uint64, error) {
	if number < 0 {
		return 0, fmt.Errorf("LUN %d: it must not be negative", number)
	}
	switch mode {
	case "", Transparent, SAM:
		return uint64(number), nil
	case SAM2:
		if number < 256 {
			return uint64(number), nil
		}
	case SAM3Flat:
	default:
		return 0, fmt.Errorf("addressing mode %q: it must be SAM, SAM2, SAM3-flat or transparent", mode)
	}
	if number > maxFlat {
		return 0, fmt.Errorf("LUN %d: the flat space ends with %d", number, maxFlat)
	}
	return flatSpace + uint64(number), nil
}

// LUNInPath writes a LUN as udev does in the names below /dev/disk/by-path.
func LUNInPath(lun uint64) string {
	if lun < 256 {
		return strconv.FormatUint(lun, 10)
	}
	return fmt.Sprintf("0x%04x%04x00000000", lun&0xffff, lun>>16&0xffff)
}
