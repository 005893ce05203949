// Package virttest is the contract of package virt as a test suite that every driver passes. A
// promise is a sentence of a comment in virt, and the name of the test that checks it.
package virttest

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"compute-agent/virt"
)

// Harness is a driver under test and what the suite needs around it. Open it for one test: the
// suite asks for a new one for each promise, and leaves no guest behind. What it needs to give back
// it gives back with t.Cleanup.
type Harness struct {
	Driver virt.Driver

	// NewSpec returns a valid Spec with an ID and a name that were not used before, at least one
	// disk whose file is there, and a console log in a directory that is there. The guest has no
	// operating system: it never reacts to a request to shut down. Small is good: 64 MiB, 1 vCPU.
	NewSpec func(t testing.TB) virt.Spec

	// Reopen returns another driver for the same hypervisor, as a restarted agent has.
	Reopen func(t testing.TB) virt.Driver

	// BootableSpec is NewSpec for a guest whose operating system shuts down when asked, though
	// perhaps not at the first request, which it may get while it is booting. Nil if there is none.
	BootableSpec func(t testing.TB) virt.Spec

	// The outside world. What is nil is not played.
	CrashGuest       func(t testing.TB, id string)               // kill -9 of the process of a running guest
	DestroyByHand    func(t testing.TB, id string)               // virsh destroy: stops a guest, keeps its definition
	UndefineByHand   func(t testing.TB, id string)               // virsh undefine
	UnplugByHand     func(t testing.TB, id, mac string)          // virsh detach-interface --config
	UnplugDiskByHand func(t testing.TB, id, target string)       // virsh detach-disk --config
	SuspendGuest     func(t testing.TB, id string)               // its own operating system goes to sleep
	BreakLink        func(t testing.TB) (mend func())            // the driver's connection to the hypervisor
	SetPCI           func(t testing.TB, devices ...virt.HostPCI) // PCI devices are plugged in, and others pulled out

	// SlowCopies returns another driver for the same hypervisor, whose copies of disks take longer than any promise does.
	SlowCopies func(t testing.TB) virt.Driver

	// Patience is how long one call or one event may take before a promise counts as broken. Zero is
	// 90 seconds: emulated guests on a busy machine are slow.
	Patience time.Duration

	// Many is how many guests may run at once. Zero is 3.
	Many int
}

// group is a list of promises about one method or subject.
type group struct {
	name     string
	promises []promise
}

// promise is a sentence and how it is checked.
type promise struct {
	name  string
	check func(e *env)
	needs need
}

// need is what a promise presumes of a driver or its harness.
type need string

const (
	always          need = ""
	pauser          need = "a virt.Pauser"
	logger          need = "a virt.ConsoleLogger"
	finder          need = "a virt.ConsoleFinder"
	bootableFinder  need = "a virt.ConsoleFinder and a guest with an operating system"
	screenshotter   need = "a virt.Screenshotter"
	machines        need = "a virt.MachineTeller"
	metadataSetter  need = "a virt.MetadataSetter"
	nicPlugger      need = "a virt.NICPlugger"
	diskPlugger     need = "a virt.DiskPlugger"
	diskResizer     need = "a virt.DiskPlugger that is a virt.DiskResizer"
	diskCopier      need = "a virt.DiskPlugger that is a virt.DiskCopier"
	diskMeter       need = "a virt.DiskPlugger that is a virt.DiskMeter"
	secretKeeper    need = "a virt.SecretKeeper"
	pciLister       need = "a virt.PCILister on a hypervisor that tells of PCI devices"
	pciDevices      need = "PCI devices that guests can have"
	bootable        need = "a guest with an operating system"
	bootablePlugger need = "a virt.NICPlugger and a guest with an operating system"
	crashingPlugger need = "a virt.NICPlugger and a way to crash guests"
	unplugsByHand   need = "a virt.NICPlugger and a way to change definitions by hand"
	bootableDisks   need = "a virt.DiskPlugger and a guest with an operating system"
	crashingDisks   need = "a virt.DiskPlugger and a way to crash guests"
	disksByHand     need = "a virt.DiskPlugger and a way to change definitions by hand"
	slowCopies      need = "a virt.DiskCopier and a way to make copies slow"
	crashes         need = "a way to crash guests"
	byHand          need = "a way to destroy and undefine guests by hand"
	suspends        need = "a way to make a guest suspend itself"
	breakingLink    need = "a way to break the connection"
)

// met says whether a harness has what a promise needs.
func (h Harness) met(n need) bool {
	switch n {
	case pauser, logger, finder, screenshotter, machines, metadataSetter, nicPlugger, pciLister, diskPlugger, diskResizer, diskCopier, diskMeter, secretKeeper:
		return able(h.Driver, n)
	case bootableDisks, crashingDisks, disksByHand, slowCopies:
		return h.metWithDisks(n)
	case bootablePlugger:
		return h.met(nicPlugger) && h.met(bootable)
	case crashingPlugger:
		return h.met(nicPlugger) && h.met(crashes)
	case unplugsByHand:
		return h.met(bootablePlugger) && h.UnplugByHand != nil
	case bootableFinder:
		return h.met(finder) && h.met(bootable)
	case pciDevices:
		return h.SetPCI != nil
	case bootable:
		return h.BootableSpec != nil
	case crashes:
		return h.CrashGuest != nil
	case byHand:
		return h.DestroyByHand != nil && h.UndefineByHand != nil
	case suspends:
		return h.SuspendGuest != nil
	case breakingLink:
		return h.BreakLink != nil
	default:
		return true
	}
}

// metWithDisks is met for needs that are about disks.
func (h Harness) metWithDisks(n need) bool {
	switch n {
	case bootableDisks:
		return h.met(diskPlugger) && h.met(bootable)
	case crashingDisks:
		return h.met(diskPlugger) && h.met(crashes)
	case disksByHand:
		return h.met(bootableDisks) && h.UnplugDiskByHand != nil
	default: // slowCopies
		return h.met(diskCopier) && h.SlowCopies != nil
	}
}

// able says whether a driver has an ability.
func able(d virt.Driver, n need) (ok bool) {
	switch n {
	case pauser:
		_, ok = d.(virt.Pauser)
	case logger:
		_, ok = d.(virt.ConsoleLogger)
	case finder:
		_, ok = d.(virt.ConsoleFinder)
	case screenshotter:
		_, ok = d.(virt.Screenshotter)
	case machines:
		_, ok = d.(virt.MachineTeller)
	case metadataSetter:
		_, ok = d.(virt.MetadataSetter)
	case nicPlugger:
		_, ok = d.(virt.NICPlugger)
	case diskPlugger, diskResizer, diskCopier, diskMeter, secretKeeper:
		return ableWithDisks(d, n)
	case pciLister:
		var lister virt.PCILister
		if lister, ok = d.(virt.PCILister); ok {
			_, err := lister.PCIDevices(context.Background())
			ok = !errors.Is(err, virt.ErrUnsupported)
		}
	}
	return ok
}

// ableWithDisks says whether a driver has an ability that is about disks.
func ableWithDisks(d virt.Driver, n need) (ok bool) {
	switch n {
	case diskPlugger:
		_, ok = d.(virt.DiskPlugger)
	case diskResizer:
		_, ok = d.(virt.DiskResizer)
	case diskCopier:
		_, ok = d.(virt.DiskCopier)
	case diskMeter:
		_, ok = d.(virt.DiskMeter)
	case secretKeeper:
		_, ok = d.(virt.SecretKeeper)
	}
	return ok
}

// TestDriver checks every promise of package virt on the drivers that open returns. Promises about
// one subject are checked in parallel, as far as the -parallel flag allows.
func TestDriver(t *testing.T, open func(t *testing.T) Harness) {
	var done tally
	groups := []group{hostPromises, createPromises, remakePromises, textPromises, startPromises, stopPromises, destroyPromises,
		guestPromises, pausePromises, consolePromises, finderPromises, screenshotPromises, machinePromises, eventPromises, outsidePromises, pciPromises, nicPromises, diskPromises, resizePromises, copyPromises,
		usePromises, secretPromises, metadataPromises, contextPromises,
		closePromises, concurrencyPromises}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, p := range g.promises {
				t.Run(p.name, func(t *testing.T) {
					t.Parallel()
					h := open(t)
					if !h.met(p.needs) {
						done.leave(g.name + ": " + p.name + " (needs " + string(p.needs) + ")")
						t.Skipf("needs %s", p.needs)
					}
					t.Cleanup(func() { done.count(!t.Failed()) })
					h.Patience, h.Many = cmp.Or(h.Patience, 90*time.Second), cmp.Or(h.Many, 3)
					p.check(&env{T: t, Harness: h, watches: map[string]*watch{}})
				})
			}
		})
	}
	t.Logf("driver contract: %d promises checked, %d kept, %d not applicable to this driver", done.checked, done.kept, len(done.left))
	if len(done.left) > 0 {
		t.Logf("not applicable:\n\t%s", strings.Join(done.left, "\n\t"))
	}
}

// tally counts promises.
type tally struct {
	mu            sync.Mutex
	checked, kept int
	left          []string
}

func (c *tally) count(kept bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked++
	if kept {
		c.kept++
	}
}

func (c *tally) leave(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = append(c.left, what)
}
