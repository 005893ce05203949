package pci

import (
	"fmt"
	"regexp"
	"strconv"
)

// Address is where a function of a PCI device is on the host.
type Address struct {
	Domain, Bus, Slot, Function int
}

// The largest parts of an address.
const (
	maxDomain   = 0xffff
	maxBus      = 0xff
	maxSlot     = 0x1f
	maxFunction = 0x7
)

var addressForm = regexp.MustCompile(`^([0-9a-fA-F]{4}):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-7])$`)

// ParseAddress reads an address as the kernel writes it: 0000:81:00.1.
func ParseAddress(text string) (Address, error) {
	m := addressForm.FindStringSubmatch(text)
	if m == nil {
		return Address{}, failed("PciDeviceWrongAddressFormat", "address", text, "must be domain:bus:slot.function, such as 0000:81:00.1")
	}
	part := func(i int) int {
		n, _ := strconv.ParseInt(m[i], 16, 32) // the form has only hexadecimal digits
		return int(n)
	}
	a := Address{part(1), part(2), part(3), part(4)}
	if a.Slot > maxSlot {
		return Address{}, failed("PciDeviceWrongAddressFormat", "address", text, "the highest slot is %02x", maxSlot)
	}
	return a, nil
}

// beyondForm is an address with a domain of more than 16 bits.
var beyondForm = regexp.MustCompile(`^[0-9a-fA-F]{5,8}:`)

// Beyond says whether an address is in a domain of more than 16 bits, as those of the drives behind Intel's VMD are.
// Guests cannot have such devices; Nova leaves them out too.
func Beyond(text string) bool { return beyondForm.MatchString(text) }

// String writes the address as the kernel does.
func (a Address) String() string {
	return fmt.Sprintf("%04x:%02x:%02x.%x", a.Domain, a.Bus, a.Slot, a.Function)
}

// Compare orders addresses as their texts.
func (a Address) Compare(b Address) int {
	return a.key() - b.key()
}

func (a Address) key() int { return a.Domain<<16 | a.Bus<<8 | a.Slot<<3 | a.Function }

// MarshalText writes the address as String does, also as the key of a JSON object.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads an address as ParseAddress does.
func (a *Address) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAddress(string(text))
	return err
}
