package neutron

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"compute-agent/internal/pattern"
)

// The limits are Neutron's.
const (
	maxText        = 255
	maxTags        = 50
	maxNameservers = 5
	maxRoutes      = 20
	maxPairs       = 10
	maxOptions     = 32 // Neutron has no limit
	maxDomain      = 253
)

// checkText says whether a value is text of at most 255 characters, on one line unless it is a description.
func checkText(field, value string) error {
	control := func(r rune) bool {
		return !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r) && (field != "description" || r != '\n' && r != '\t' && r != '\r')
	}
	switch {
	case !utf8.ValidString(value):
		return invalid(field, value, "it is not UTF-8")
	case utf8.RuneCountInString(value) > maxText:
		return invalid(field, value, "it has %d characters, more than %d", utf8.RuneCountInString(value), maxText)
	case strings.ContainsFunc(value, control):
		return invalid(field, value, "it has characters that cannot be printed")
	}
	return nil
}

// checkWords checks what every record has.
func checkWords(name, description string, tags []string) error {
	if err := checkText("name", name); err != nil {
		return err
	}
	if err := checkText("description", description); err != nil {
		return err
	}
	if len(tags) > maxTags {
		return invalid("tags", "", "%d are more than %d", len(tags), maxTags)
	}
	for i, tag := range tags {
		if tag == "" || slices.Contains(tags[:i], tag) {
			return invalid("tags", tag, "each must have 1 to %d characters and be there once", maxText)
		}
		if err := checkText("tags", tag); err != nil {
			return err
		}
	}
	return nil
}

// checkAddress says whether it can be somebody's address.
func checkAddress(field string, a netip.Addr) error {
	switch {
	case !a.IsValid():
		return invalid(field, "", "it must be an IP address")
	case a.Is4In6():
		return invalid(field, a.String(), "it is an IPv4 address in IPv6's form")
	case a.Zone() != "":
		return invalid(field, a.String(), "it has a zone")
	case a.IsUnspecified(), a.IsMulticast(), a.Is4() && a.As4() == [4]byte{255, 255, 255, 255}:
		return invalid(field, a.String(), "it is nobody's address")
	}
	return nil
}

// checkPrefix says whether it is a network in its canonical form.
func checkPrefix(field string, p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return failed("InvalidCIDR", Invalid, field, "", "it must be a network: an address with a prefix length")
	case p.Addr().Is4In6():
		return invalid(field, p.String(), "it is an IPv4 network in IPv6's form")
	case p != p.Masked():
		return invalid(field, p.String(), "it is not a recognized CIDR: %s is", p.Masked())
	}
	return nil
}

// CanonicalMAC is a MAC of one device in lower case with colons. field is where it stands.
func CanonicalMAC(field, mac string) (string, error) {
	parsed, err := net.ParseMAC(mac)
	switch {
	case err != nil || len(parsed) != 6:
		return "", invalid(field, mac, "it is no MAC address")
	case parsed[0]&1 != 0:
		return "", invalid(field, mac, "it is a group's address, not one of a device")
	case parsed.String() == "00:00:00:00:00:00":
		return "", invalid(field, mac, "it is nobody's address")
	}
	return parsed.String(), nil
}

var domainName = pattern.New(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.?$`)

func checkDomain(field, name string) error {
	if name != "" && (len(name) > maxDomain || !domainName.MatchString(strings.ToLower(name))) {
		return invalid(field, name, "it is no DNS domain")
	}
	return nil
}

func number(n int) string { return strconv.Itoa(n) }
