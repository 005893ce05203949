package pci

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Spec is one entry of [pci]device_spec: which devices of the host guests may get, and what is to be known of
// them. The form and the rules are Nova's.
type Spec struct {
	vendor, product string // empty for any
	address         func(Address) bool
	exact           *Address // when the address has no wildcard: its virtual functions are meant too
	devname         string   // empty for any
	// Tags are what a request can ask for beside vendor, product and type: physical_network,
	// remote_managed, live_migratable and the operator's own.
	Tags          map[string]string
	ResourceClass string   // placement's; empty for the default
	Traits        []string // placement's
	Managed       bool     // libvirt takes the device from its host driver and gives it back
}

// specKeys are the keys of a spec that are not tags.
var specKeys = []string{"vendor_id", "product_id", "address", "devname", "resource_class", "traits", "managed"}

// ParseSpecs reads the values of [pci]device_spec: each a JSON object or a list of them.
func ParseSpecs(values []string) ([]Spec, error) {
	var specs []Spec
	for _, value := range values {
		objects, err := objectsOf(value)
		if err != nil {
			return nil, failed("PciConfigInvalidSpec", "device_spec", value, "%v", err)
		}
		for _, o := range objects {
			s, err := parseSpec(o)
			if err != nil {
				return nil, err
			}
			specs = append(specs, s)
		}
	}
	return specs, nil
}

// objectsOf reads a JSON object or a list of objects.
func objectsOf(text string) ([]map[string]any, error) {
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		var list []map[string]any
		err := json.Unmarshal([]byte(text), &list)
		return list, err
	}
	var one map[string]any
	if err := json.Unmarshal([]byte(text), &one); err != nil {
		return nil, err
	}
	if one == nil {
		return nil, fmt.Errorf("must be a JSON object")
	}
	return []map[string]any{one}, nil
}

func parseSpec(o map[string]any) (s Spec, err error) {
	if o["devname"] != nil && o["address"] != nil {
		return s, failed("PciDeviceInvalidDeviceName", "devname", fmt.Sprint(o["devname"]), "a device_spec may not have both devname and address")
	}
	if s.vendor, err = hexID(o, "vendor_id"); err != nil {
		return s, err
	}
	if s.product, err = hexID(o, "product_id"); err != nil {
		return s, err
	}
	if s.devname, err = textOf(o, "devname"); err != nil {
		return s, err
	}
	if err = s.parseAddress(o["address"]); err != nil {
		return s, err
	}
	if s.Managed, err = flagOf(o, "managed", true); err != nil {
		return s, err
	}
	if s.ResourceClass, err = textOf(o, "resource_class"); err != nil {
		return s, err
	}
	traits, err := textOf(o, "traits")
	if err != nil {
		return s, err
	}
	s.Traits = splitList(traits)
	s.Tags, err = tagsOf(o)
	return s, err
}

// splitList splits at commas and leaves out what is empty.
func splitList(text string) (list []string) {
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// tagsOf collects what is no key of the spec itself. Flags are checked and written alike.
func tagsOf(o map[string]any) (map[string]string, error) {
	tags := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(o)) {
		if slices.Contains(specKeys, key) || o[key] == nil {
			continue
		}
		text, err := textOf(o, key)
		if err != nil {
			return nil, err
		}
		if key == "remote_managed" || key == "live_migratable" {
			flag, err := flagOf(o, key, false)
			if err != nil {
				return nil, err
			}
			text = strconv.FormatBool(flag)
		}
		tags[key] = text
	}
	return tags, nil
}

// textOf reads a string; a flag or a number may stand for its text.
func textOf(o map[string]any, key string) (string, error) {
	switch v := o[key].(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case bool, float64:
		return fmt.Sprint(v), nil
	}
	return "", failed("PciConfigInvalidSpec", key, fmt.Sprint(o[key]), "must be a text")
}

// flagOf reads yes or no in oslo.utils' words.
func flagOf(o map[string]any, key string, unset bool) (bool, error) {
	text, err := textOf(o, key)
	switch {
	case err != nil || o[key] == nil:
		return unset, err
	case slices.Contains([]string{"1", "t", "true", "on", "y", "yes"}, strings.ToLower(text)):
		return true, nil
	case slices.Contains([]string{"0", "f", "false", "off", "n", "no"}, strings.ToLower(text)):
		return false, nil
	}
	return false, failed("PciConfigInvalidSpec", key, text, "must be yes or no")
}

var hexForm = regexp.MustCompile(`^[0-9a-fA-F]{1,4}$`)

// hexID reads a vendor or product: up to four hexadecimal digits, or * for any.
func hexID(o map[string]any, key string) (string, error) {
	text, err := textOf(o, key)
	if err != nil || text == "" || text == "*" {
		return "", err
	}
	if !hexForm.MatchString(strings.TrimPrefix(text, "0x")) {
		return "", failed("PciConfigInvalidSpec", key, text, "must be up to four hexadecimal digits or *")
	}
	n, _ := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 16) // the form has only digits
	return fmt.Sprintf("%04x", n), nil
}

// Matches says whether the spec means the device. netdev finds the network interface of a device by its
// address; an entry for a physical function by name or address means its virtual functions too.
func (s *Spec) Matches(d Device, netdev func(Address) string) bool {
	if s.vendor != "" && s.vendor != d.VendorID || s.product != "" && s.product != d.ProductID {
		return false
	}
	if s.devname != "" {
		return s.devname == d.Netdev || d.Parent != nil && s.devname == netdev(*d.Parent)
	}
	if s.address == nil || s.address(d.Address) {
		return true
	}
	return s.exact != nil && d.Parent != nil && *s.exact == *d.Parent
}

// check refuses what a spec cannot say of a device: a whole physical function is not managed remotely.
func (s *Spec) check(d Device) error {
	if d.Type == TypePF && isTrue(s.Tags["remote_managed"]) {
		return failed("PciDeviceInvalidPFRemoteManaged", "remote_managed", d.Address.String(), "a physical function cannot be managed remotely")
	}
	return nil
}

// Allow returns the devices that guests may get, each with the first spec that means it. The others are the
// host's own. Devices of a class that is never given to guests (bridges) are left out.
func Allow(specs []Spec, devices []Device) ([]Allowed, error) {
	names := map[Address]string{}
	for _, d := range devices {
		names[d.Address] = d.Netdev
	}
	netdev := func(a Address) string { return names[a] }
	var list []Allowed
	for _, d := range devices {
		i := slices.IndexFunc(specs, func(s Spec) bool { return s.Matches(d, netdev) })
		if i < 0 || d.bridge() {
			continue
		}
		if err := specs[i].check(d); err != nil {
			return nil, err
		}
		list = append(list, Allowed{d, specs[i]})
	}
	return list, nil
}

// Allowed is a device with the spec that means it.
type Allowed struct {
	Device
	Spec Spec
}

// bridgeClass is the base class of bridges, which the bus itself is made of.
const bridgeClass = 0x06

func (d Device) bridge() bool { return d.Class>>16 == bridgeClass }
