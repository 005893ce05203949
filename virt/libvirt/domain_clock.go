package libvirt

import (
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// renderClock sets the timers of KVM's guests as Nova does: lost ticks of the PIT are delayed and those of the
// RTC caught up, so that a guest that was not scheduled keeps time. The HPET, which is on by default, is
// named in any case; only x86 has it.
func renderClock(d *libvirtxml.Domain, s *virt.Spec) {
	d.Clock = &libvirtxml.DomainClock{Offset: "utc"}
	if s.Clock.LocalTime {
		d.Clock.Offset = "localtime"
	}
	if s.VirtType != "kvm" && !s.Clock.CatchUp {
		return
	}
	d.Clock.Timer = []libvirtxml.DomainTimer{
		{Name: "pit", TickPolicy: "delay"},
		{Name: "rtc", TickPolicy: "catchup"},
	}
	if isX86(s.Arch) {
		d.Clock.Timer = append(d.Clock.Timer, libvirtxml.DomainTimer{Name: "hpet", Present: yesNo(s.Clock.HPET)})
	}
	if s.Clock.HyperV {
		d.Clock.Timer = append(d.Clock.Timer, libvirtxml.DomainTimer{Name: "hypervclock", Present: "yes"})
	}
}
