package virt

import "slices"

// maxSerial is how many serial ports a PC has.
const maxSerial = 4

func (s Spec) validateSerial() error {
	if len(s.Serial) > maxSerial {
		return invalid("%d serial ports, the most is %d", len(s.Serial), maxSerial)
	}
	for i, p := range s.Serial {
		if err := p.validate(); err != nil {
			return err
		}
		if slices.ContainsFunc(s.Serial[:i], func(o SerialPort) bool { return p.Log != "" && o.Log == p.Log }) {
			return invalid("console log %s is another serial port's too", p.Log)
		}
	}
	return nil
}

func (p SerialPort) validate() error {
	var address error
	switch p.Type {
	case "tcp":
		address = first(validateHost("serial port: host", p.Host), within("serial port: TCP port", p.Port, 0, 65535))
	case "unix":
		address = validatePath("serial port: socket", p.Path)
	}
	if p.Type != "tcp" && (p.Host != "" || p.Port != 0) || p.Type != "unix" && p.Path != "" {
		return invalid("serial port: an address that type %q does not take", p.Type)
	}
	return first(address, oneOf("serial port: type", p.Type, "pty", "tcp", "unix"), optionalPath("console log", p.Log))
}

// hasSPICE says whether viewers can reach the guest with SPICE.
func (s Spec) hasSPICE() bool {
	return slices.ContainsFunc(s.Graphics, func(g Graphics) bool { return g.Type == "spice" })
}

// validateScreen checks what a person at the guest sees, hears and touches.
func (s Spec) validateScreen() error {
	seen := map[string]bool{}
	for _, g := range s.Graphics {
		if seen[g.Type] {
			return invalid("two graphics servers of type %s", g.Type)
		}
		seen[g.Type] = true
		if g.Keymap != "" && !wordForm.MatchString(g.Keymap) {
			return invalid("graphics: keymap %q", g.Keymap)
		}
		if g.Type != "spice" && g.SPICE != (SPICE{}) {
			return invalid("graphics %s: SPICE's settings", g.Type)
		}
		if err := first(oneOf("graphics", g.Type, "vnc", "spice"), validateIP(g.Type+" listen address", g.Listen), g.SPICE.validate()); err != nil {
			return err
		}
	}
	for _, in := range s.Inputs {
		if err := s.validateInput(in); err != nil {
			return err
		}
	}
	if v := s.Video; v != nil {
		if err := first(oneOf("video model", v.Model, "vga", "cirrus", "vmvga", "xen", "qxl", "virtio", "gop", "none", "bochs"),
			within("video RAM, in MiB,", v.RAMMiB, 0, 1<<20)); err != nil {
			return err
		}
	}
	return oneOf("sound device", s.Sound, "", "ich6", "ich9", "ac97", "es1370", "pcspk", "sb16", "usb", "virtio")
}

func (s SPICE) validate() error {
	return first(
		oneOf("graphics spice: image compression", s.ImageCompression, "", "auto_glz", "auto_lz", "quic", "glz", "lz", "off"),
		oneOf("graphics spice: JPEG compression", s.JPEGCompression, "", "auto", "never", "always"),
		oneOf("graphics spice: zlib compression", s.ZlibCompression, "", "auto", "never", "always"),
		oneOf("graphics spice: streaming mode", s.StreamingMode, "", "filter", "all", "off"),
	)
}

func (s Spec) validateInput(in Input) error {
	switch {
	case in.Bus == "usb" && s.USB.Controller == "none":
		return invalid("input %s: bus usb without a USB controller", in.Type)
	case in.Bus == "ps2" && in.Type == "tablet":
		return invalid("input tablet: there is none for bus ps2")
	}
	return first(oneOf("input", in.Type, "tablet", "mouse", "keyboard"), oneOf("input "+in.Type+": bus", in.Bus, "usb", "virtio", "ps2"))
}

func (s Spec) validateUSB() error {
	u, c := s.USB, s.Channels
	switch {
	case u.RedirectedPorts > 0 && u.Controller == "none":
		return invalid("redirected USB ports without a USB controller")
	case u.RedirectedPorts > 0 && !s.hasSPICE():
		return invalid("redirected USB ports without SPICE")
	case c.SPICE && !s.hasSPICE():
		return invalid("a channel for SPICE's agent without SPICE")
	case c.GuestAgentSocket != "" && !c.GuestAgent:
		return invalid("a guest agent's socket without the agent")
	case s.Sound == "usb" && u.Controller == "none":
		return invalid("sound device usb without a USB controller")
	}
	return first(
		oneOf("USB controller", u.Controller, "", "none", "piix3-uhci", "piix4-uhci", "ehci", "ich9-ehci1", "ich9-uhci1", "ich9-uhci2",
			"ich9-uhci3", "vt82c686b-uhci", "pci-ohci", "nec-xhci", "qusb1", "qusb2", "qemu-xhci"),
		within("redirected USB ports:", u.RedirectedPorts, 0, 15),
		optionalPath("guest agent's socket", c.GuestAgentSocket),
	)
}

func (s Spec) validateTPM() error {
	t := s.TPM
	switch {
	case t == nil:
		return nil
	case t.Model == "tpm-crb" && t.Version != "2.0":
		return invalid("TPM model tpm-crb needs version 2.0, not %s", t.Version)
	}
	return first(oneOf("TPM version", t.Version, "1.2", "2.0"), oneOf("TPM model", t.Model, "tpm-tis", "tpm-crb"), optionalUUID("TPM secret", t.Secret))
}

// validateHostDevices checks what the guest gets of the host's own devices.
func (s Spec) validateHostDevices() error {
	seen := map[string]bool{}
	for _, n := range s.NICs {
		if a := n.Attach.Address; a != "" && seen[a] {
			return invalid("NIC %s: PCI device %s is another's too", n.MAC, a)
		}
		seen[n.Attach.Address] = true
	}
	for _, p := range s.PCI {
		switch {
		case !pciForm.MatchString(p.Address):
			return invalid("PCI device %q is no address such as 0000:81:00.0", p.Address)
		case seen[p.Address]:
			return invalid("PCI device %s is passed twice", p.Address)
		}
		seen[p.Address] = true
	}
	for _, m := range s.Mediated {
		if err := validateUUID("mediated device", m.UUID); err != nil {
			return err
		}
		if seen[m.UUID] {
			return invalid("mediated device %s is passed twice", m.UUID)
		}
		seen[m.UUID] = true
	}
	return s.validateNVDIMMs()
}

func (s Spec) validateNVDIMMs() error {
	for _, n := range s.NVDIMMs {
		on := "persistent memory " + n.Path
		switch {
		case s.Placement == nil || len(s.Placement.Cells) == 0:
			return invalid("%s: the guest has no cells for it to be in", on)
		case n.SizeKiB < 4096 || n.SizeKiB >= maxMemoryMiB*1024:
			return invalid("%s: %d KiB", on, n.SizeKiB)
		case n.AlignKiB >= maxMemoryMiB*1024:
			return invalid("%s: alignment of %d KiB", on, n.AlignKiB)
		}
		if err := validatePath("persistent memory", n.Path); err != nil {
			return err
		}
	}
	return nil
}

// maxTag is what virtio-fs holds of a tag, in bytes.
const maxTag = 36

func (s Spec) validateShares() error {
	tags := map[string]bool{}
	for _, share := range s.Shares {
		switch {
		case len(share.Tag) > maxTag:
			return invalid("share: tag %q has %d bytes, the most is %d", share.Tag, len(share.Tag), maxTag)
		case tags[share.Tag]:
			return invalid("share: tag %q is another share's too", share.Tag)
		case !s.canBeShared():
			return invalid("share %s: the guest's memory is not shared", share.Tag)
		}
		tags[share.Tag] = true
		if err := first(validateText("share: tag", share.Tag), validatePath("share", share.Path)); err != nil {
			return err
		}
	}
	return nil
}

func (s Spec) validateDevices() error {
	if s.RNG != nil {
		if err := s.RNG.validate(); err != nil {
			return err
		}
	}
	b := s.Balloon
	switch {
	case b.Period < 0:
		return invalid("balloon period %v", b.Period)
	case b.None && (b != Balloon{None: true}):
		return invalid("balloon: settings for none")
	case s.RootPorts > 0 && !s.isPCIe():
		return invalid("root ports need a machine type with PCI Express, not %s", s.Machine)
	}
	return first(
		oneOf("watchdog", s.Watchdog, "", "pause", "poweroff", "reset", "none"),
		within("root ports:", s.RootPorts, 0, 28),
	)
}

// PerfEvents are the events that libvirt and today's kernels can count (those of Intel's cache monitoring are gone).
func PerfEvents() []string {
	return []string{
		"cpu_cycles", "instructions", "cache_references", "cache_misses", "branch_instructions", "branch_misses", "bus_cycles",
		"stalled_cycles_frontend", "stalled_cycles_backend", "ref_cpu_cycles", "cpu_clock", "task_clock", "page_faults", "context_switches",
		"cpu_migrations", "page_faults_min", "page_faults_maj", "alignment_faults", "emulation_faults",
	}
}

func (s Spec) validatePerfEvents() error {
	known := PerfEvents()
	for i, event := range s.PerfEvents {
		if err := oneOf("perf event", event, known...); err != nil {
			return err
		}
		if slices.Contains(s.PerfEvents[:i], event) {
			return invalid("perf event %s is named twice", event)
		}
	}
	return nil
}

func (r RNG) validate() error {
	if r.Period != 0 && r.Bytes == 0 {
		return invalid("random number rate: a period without bytes")
	}
	return first(
		validatePath("random number source", r.Source),
		within("random number rate: bytes", r.Bytes, 0, 1<<31-1),
		within("random number rate: period", r.Period, 0, 1<<31-1),
	)
}
