package virt

import "regexp"

var (
	macForm       = regexp.MustCompile(`^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$`) // of one station, not a group
	interfaceForm = regexp.MustCompile(`^[A-Za-z0-9_.+-]{1,15}$`)                        // Linux takes 15 characters
)

func (s Spec) validateNICs() error {
	targets := map[string]bool{}
	for _, n := range s.NICs {
		if n.Target != "" && targets[n.Target] {
			return invalid("NIC %s: target %s is another NIC's too", n.MAC, n.Target)
		}
		targets[n.Target] = true
		if err := n.validate(); err != nil {
			return err
		}
	}
	return nil
}

// Validate says whether the NIC contradicts itself, as Spec.Validate does for all of a guest's.
func (n NIC) Validate() error {
	return first(n.validate(), validateAlias("NIC "+n.MAC, n.Alias))
}

func (n NIC) validate() error {
	on := "NIC " + n.MAC
	switch {
	case !macForm.MatchString(n.MAC):
		return invalid("NIC: MAC %q", n.MAC)
	case n.Attach.Existing && n.Target == "":
		return invalid("%s: an existing tap without a name", on)
	}
	return first(n.Attach.validate(on), n.validateDevice(on), n.validateLimits(on))
}

func validateAlias(on, alias string) error {
	if alias != "" && !aliasForm.MatchString(alias) {
		return invalid("%s: alias %q is not ua- and letters, digits, - and _", on, alias)
	}
	return nil
}

func (n NIC) validateDevice(on string) error {
	virtio := n.Model == "virtio"
	switch {
	case n.Model != "" && !wordForm.MatchString(n.Model):
		return invalid("%s: model %q", on, n.Model)
	case n.Target != "" && !interfaceForm.MatchString(n.Target):
		return invalid("%s: target %q is no interface's name", on, n.Target)
	case n.Driver != "" && !virtio:
		return invalid("%s: driver %s for model %q, which is not virtio", on, n.Driver, n.Model)
	case (n.Queues > 1 || n.RxRing != 0 || n.TxRing != 0) && !virtio:
		return invalid("%s: queues or rings for model %q, which is not virtio", on, n.Model)
	}
	return first(
		oneOf(on+": driver", n.Driver, "", "vhost", "qemu"),
		within(on+": queues:", n.Queues, 0, 256),
		validateRing(on+": receive ring", n.RxRing),
		validateRing(on+": transmit ring", n.TxRing),
	)
}

func validateRing(what string, n int) error {
	if n != 0 && (n < 256 || n > 1024 || !powerOfTwo(n)) {
		return invalid("%s of %d is not 256, 512 or 1024", what, n)
	}
	return nil
}

func (n NIC) validateLimits(on string) error {
	if n.MTU != 0 {
		switch n.Attach.Type {
		case "direct", "hostdev", "vdpa":
			return invalid("%s: an MTU for type %s, which has its host device's", on, n.Attach.Type)
		}
		if err := within(on+": MTU", n.MTU, 68, 65535); err != nil {
			return err
		}
	}
	if n.Bandwidth == nil {
		return nil
	}
	return first(n.Bandwidth.Inbound.validate(on+": inbound bandwidth"), n.Bandwidth.Outbound.validate(on+": outbound bandwidth"))
}

func (r Rate) validate(what string) error {
	const most = 1<<32 - 1
	if r.Average == 0 && (r.Peak != 0 || r.Burst != 0) {
		return invalid("%s: a peak or a burst without an average", what)
	}
	return first(within(what+": average", r.Average, 0, most), within(what+": peak", r.Peak, 0, most), within(what+": burst", r.Burst, 0, most))
}

// validate checks that what the type of attachment needs is there, and nothing else.
func (a Attachment) validate(on string) error {
	fields := map[string]bool{
		"bridge": a.Bridge != "", "port": a.Port != "", "device": a.Device != "", "mode": a.Mode != "", "socket": a.Socket != "",
		"address": a.Address != "", "VLAN": a.VLAN != 0, "profile": a.Profile != "", "managed": a.Managed, "existing": a.Existing,
	}
	rule, known := attachments[a.Type]
	if !known {
		return invalid("%s: attachment %q is not ethernet, bridge, direct, hostdev, vhostuser or vdpa", on, a.Type)
	}
	for _, field := range rule.needs {
		if !fields[field] {
			return invalid("%s: attachment %s needs a %s", on, a.Type, field)
		}
		delete(fields, field)
	}
	for _, field := range rule.takes {
		delete(fields, field)
	}
	for field, is := range fields {
		if is {
			return invalid("%s: attachment %s takes no %s", on, a.Type, field)
		}
	}
	return a.validateFields(on)
}

// attachments are the fields of each type of attachment.
var attachments = map[string]struct{ needs, takes []string }{
	"ethernet":  {takes: []string{"existing"}},
	"bridge":    {needs: []string{"bridge"}, takes: []string{"port"}},
	"direct":    {needs: []string{"device", "mode"}, takes: []string{"VLAN", "profile"}},
	"hostdev":   {needs: []string{"address"}, takes: []string{"VLAN", "profile", "managed"}},
	"vhostuser": {needs: []string{"socket", "mode"}},
	"vdpa":      {needs: []string{"device"}},
}

func (a Attachment) validateFields(on string) error {
	switch {
	case a.Bridge != "" && !interfaceForm.MatchString(a.Bridge):
		return invalid("%s: bridge %q is no interface's name", on, a.Bridge)
	case a.Port != "" && !uuidForm.MatchString(a.Port):
		return invalid("%s: port %q is not a UUID in lower case", on, a.Port)
	case a.Type == "direct" && !interfaceForm.MatchString(a.Device):
		return invalid("%s: device %q is no interface's name", on, a.Device)
	case a.Address != "" && !pciForm.MatchString(a.Address):
		return invalid("%s: %q is no PCI address", on, a.Address)
	case a.Profile != "" && (len(a.Profile) > 39 || !wordForm.MatchString(a.Profile)):
		return invalid("%s: profile %q is not at most 39 of [A-Za-z0-9_.+-]", on, a.Profile)
	}
	modes := []string{""}
	switch a.Type {
	case "direct":
		modes = []string{"bridge", "vepa", "private", "passthrough"}
	case "vhostuser":
		modes = []string{"client", "server"}
	case "vdpa":
		if err := validatePath(on, a.Device); err != nil {
			return err
		}
	}
	return first(oneOf(on+": mode", a.Mode, modes...), within(on+": VLAN", a.VLAN, 0, 4094), optionalPath(on+": socket", a.Socket))
}
