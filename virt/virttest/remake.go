package virttest

import "compute-agent/virt"

var remakePromises = group{"Remake", []promise{
	{"ends the guest in whatever state it is and makes it again of another Spec", remakeAnyState, always},
	{"ends a paused guest", func(e *env) { e.remakes(e.paused(), virt.EventStopped) }, pauser},
	{"without a guest of that ID it is Create", remakeMissing, always},
	{"makes a guest again that has no definition any more", remakeUndefined, byHand},
	{"ErrInvalid when the Spec contradicts itself, and the guest is as it was", remakeInvalid, always},
	{"ErrExists when another guest has the name, and the guest is as it was", remakeName, always},
	{"after an error the guest is still there", remakeFails, always},
}}

// remakes makes a guest again with more memory, and checks that this sends the events of its end, if any, and those of
// Create.
func (e *env) remakes(s virt.Spec, ends ...virt.EventKind) {
	e.Helper()
	w := e.watch(s.ID)
	s.MemoryMiB += 16
	e.ok(e.Driver.Remake(e.within(), s))
	w.expect(append(ends, virt.EventStarted, virt.EventPaused)...)
	g := e.guest(s.ID)
	if g.State != virt.PowerPaused || g.Name != s.Name || g.MemoryMiB != s.MemoryMiB {
		e.Errorf("guest is %+v, made again of %+v", g, s)
	}
	e.ok(e.Driver.Start(e.within(), s.ID))
	w.expect(virt.EventResumed)
}

func remakeAnyState(e *env) {
	e.remakes(e.created(), virt.EventStopped)
	e.remakes(e.running(), virt.EventStopped)
	e.remakes(e.stopped())
}

func remakeMissing(e *env) { e.remakes(e.spec()) }

func remakeUndefined(e *env) {
	s := e.running()
	w := e.watch(s.ID)
	e.UndefineByHand(e, s.ID)
	w.expect(virt.EventUndefined)
	e.remakes(s, virt.EventStopped)
}

func remakeInvalid(e *env) {
	s := e.running()
	s.VCPUs = 0
	e.fails(e.Driver.Remake(e.within(), s), virt.ErrInvalid)
	e.state(s.ID, virt.PowerRunning)
}

func remakeName(e *env) {
	s, other := e.running(), e.created()
	s.Name = other.Name
	e.fails(e.Driver.Remake(e.within(), s), virt.ErrExists)
	e.state(s.ID, virt.PowerRunning)
	e.state(other.ID, virt.PowerPaused)
}

func remakeFails(e *env) {
	good := e.running()
	s := good.Clone()
	s.Graphics = []virt.Graphics{{Type: "vnc", Listen: "203.0.113.1"}} // an address of another host
	if err := e.Driver.Remake(e.within(), s); err == nil {
		e.Error("a guest was made that cannot be")
	}
	e.state(s.ID, virt.PowerShutdown)
	e.ok(e.Driver.Remake(e.within(), good))
	e.state(s.ID, virt.PowerPaused)
}
