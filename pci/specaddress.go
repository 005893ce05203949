package pci

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// parseAddress reads the address of a spec: a text whose parts may be * or missing, or an object of regular
// expressions for domain, bus, slot and function.
func (s *Spec) parseAddress(value any) error {
	switch v := value.(type) {
	case nil:
		return nil
	case string:
		return s.parseGlob(v)
	case map[string]any:
		return s.parseRegex(v)
	}
	return failed("PciDeviceWrongAddressFormat", "address", fmt.Sprint(value), "must be a text or an object")
}

const anyPart = "*"

// parseGlob reads domain:bus:slot.function; parts are left out from the left, and the function with its dot.
func (s *Spec) parseGlob(text string) error {
	wrong := func(rule string) error { return failed("PciDeviceWrongAddressFormat", "address", text, "%s", rule) }
	body, function, _ := strings.Cut(text, ".")
	fields := strings.Split(body, ":")
	if len(fields) > 3 {
		return wrong("must be domain:bus:slot.function")
	}
	all := append([]string{anyPart, anyPart, anyPart}[:3-len(fields)], fields...)
	all = append(all, function)
	var want [4]*int
	for i, limit := range []int{maxDomain, maxBus, maxSlot, maxFunction} {
		if all[i] == "" || all[i] == anyPart {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(all[i]), 16, 32)
		if err != nil {
			return wrong(fmt.Sprintf("%q is neither a hexadecimal number nor *", all[i]))
		}
		if int(n) > limit {
			return wrong(fmt.Sprintf("%q is more than %x", all[i], limit))
		}
		part := int(n)
		want[i] = &part
	}
	s.address = func(a Address) bool {
		for i, part := range []int{a.Domain, a.Bus, a.Slot, a.Function} {
			if want[i] != nil && *want[i] != part {
				return false
			}
		}
		return true
	}
	if want[0] != nil && want[1] != nil && want[2] != nil && want[3] != nil {
		s.exact = &Address{*want[0], *want[1], *want[2], *want[3]}
	}
	return nil
}

// parseRegex reads regular expressions, which need to match the beginning of the part, as Python's match does.
func (s *Spec) parseRegex(parts map[string]any) error {
	names := []string{"domain", "bus", "slot", "function"}
	var want [4]*regexp.Regexp
	for key, value := range parts {
		i := indexOf(names, key)
		text, isText := value.(string)
		if i < 0 || !isText {
			return failed("PciDeviceWrongAddressFormat", "address", key, "must have texts for domain, bus, slot and function only")
		}
		if _, err := regexp.Compile(text); err != nil { // alone, so that it cannot leave the group below
			return failed("PciDeviceWrongAddressFormat", "address."+key, text, "is no regular expression: %v", err)
		}
		r, err := regexp.Compile(`^(?:` + text + `)`)
		if err != nil {
			return failed("PciDeviceWrongAddressFormat", "address."+key, text, "is no regular expression: %v", err)
		}
		want[i] = r
	}
	s.address = func(a Address) bool {
		texts := []string{fmt.Sprintf("%04x", a.Domain), fmt.Sprintf("%02x", a.Bus), fmt.Sprintf("%02x", a.Slot), fmt.Sprintf("%x", a.Function)}
		for i, text := range texts {
			if want[i] != nil && !want[i].MatchString(text) {
				return false
			}
		}
		return true
	}
	return nil
}

func indexOf(list []string, text string) int {
	for i, s := range list {
		if s == text {
			return i
		}
	}
	return -1
}
