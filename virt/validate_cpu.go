package virt

// maxMemoryMiB is as much as can be counted in bytes.
const maxMemoryMiB = 1 << 44

func (s Spec) validateCPU() error {
	c := s.CPU
	switch {
	case s.VCPUs < 1:
		return invalid("%d vCPUs", s.VCPUs)
	case c.Mode == "custom" && !wordForm.MatchString(c.Model):
		return invalid("CPU mode custom with model %q", c.Model)
	case c.Mode != "custom" && c.Model != "":
		return invalid("CPU model %q with mode %s, which takes none", c.Model, c.Mode)
	case c.Sockets < 1 || c.Cores < 1 || c.Threads < 1 || !multiply(s.VCPUs, c.Sockets, c.Cores, c.Threads):
		return invalid("CPU topology of %d sockets, %d cores and %d threads is not %d vCPUs", c.Sockets, c.Cores, c.Threads, s.VCPUs)
	}
	return first(
		oneOf("CPU mode", c.Mode, "host-model", "host-passthrough", "maximum", "custom", "none"),
		c.validateFeatures(),
		c.validatePhysAddr(),
		s.CPUTime.validate(),
		within("I/O threads:", s.IOThreads, 0, 1024),
	)
}

// multiply says whether the factors make the product, without overflow.
func multiply(product int, factors ...int) bool {
	for _, f := range factors {
		if product%f != 0 {
			return false
		}
		product /= f
	}
	return product == 1
}

func (c CPU) validateFeatures() error {
	seen := map[string]bool{}
	for _, f := range c.Features {
		switch {
		case !wordForm.MatchString(f.Name):
			return invalid("CPU feature %q", f.Name)
		case seen[f.Name]:
			return invalid("CPU feature %s is named twice", f.Name)
		case c.Mode == "none":
			return invalid("CPU feature %s with mode none, which takes none", f.Name)
		}
		seen[f.Name] = true
		if err := oneOf("CPU feature "+f.Name+": policy", f.Policy, "", "require", "disable", "force", "optional", "forbid"); err != nil {
			return err
		}
	}
	return nil
}

func (c CPU) validatePhysAddr() error {
	a := c.PhysAddr
	switch {
	case a == nil:
		return nil
	case a.Mode == "emulate" && a.Bits == 0:
		return invalid("CPU physical address bits: mode emulate needs their number")
	case a.Bits != 0:
		if err := within("CPU physical address bits", a.Bits, 32, 64); err != nil {
			return err
		}
	}
	return oneOf("CPU physical address bits: mode", a.Mode, "emulate", "passthrough")
}

// validate keeps to the kernel's limits for control groups.
func (t CPUTime) validate() error {
	switch {
	case t.Shares != 0 && (t.Shares < 2 || t.Shares > 262144):
		return invalid("CPU shares %d are not from 2 to 262144", t.Shares)
	case t.Period != 0 && (t.Period < 1000 || t.Period > 1000000):
		return invalid("CPU period %d is not from 1000 to 1000000 microseconds", t.Period)
	case t.Quota != 0 && t.Quota != -1 && (t.Quota < 1000 || t.Quota > 17592186044415):
		return invalid("CPU quota %d is not from 1000 to 17592186044415 microseconds, or -1 for none", t.Quota)
	}
	return nil
}

func (s Spec) validateMemory() error {
	m := s.Memory
	switch {
	case s.MemoryMiB < 1:
		return invalid("no memory")
	case s.MemoryMiB >= maxMemoryMiB:
		return invalid("memory of %d MiB", s.MemoryMiB)
	case m.FileBacked && m.Memfd:
		return invalid("memory is backed by files and is anonymous")
	case m.FileBacked && s.onHugepages():
		return invalid("memory is backed by files and on huge pages")
	}
	return nil
}

// onHugepages says whether any cell is on pages that have to be asked for.
func (s Spec) onHugepages() bool {
	if s.Placement == nil {
		return false
	}
	for _, c := range s.Placement.Cells {
		if c.PageKiB > 0 {
			return true
		}
	}
	return false
}

// canBeShared says whether another process of the host can map all of the guest's memory.
func (s Spec) canBeShared() bool {
	if s.Memory.Shared {
		return true
	}
	if s.Placement == nil || len(s.Placement.Cells) == 0 {
		return false
	}
	for _, c := range s.Placement.Cells {
		if c.PageKiB == 0 {
			return false
		}
	}
	return true
}
