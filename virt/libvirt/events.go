package libvirt

import (
	"strings"
	"time"

	lv "libvirt.org/go/libvirt"

	"compute-agent/virt"
)

// registerEvents asks for the events that publish is to get. All callbacks run one after the other on
// libvirt's event loop: they copy what they need and return, because a call to libvirt from there would
// wait for itself.
func (s *session) registerEvents(publish func(virt.Event)) error {
	lifecycle := newTranslator()
	id, err := s.conn.DomainEventLifecycleRegister(nil, func(_ *lv.Connect, dom *lv.Domain, e *lv.DomainEventLifecycle) {
		if out, ok := lifecycle.translate(uuidOf(dom), e.Event, e.Detail); ok {
			publish(out)
		}
	})
	if err != nil {
		return err
	}
	s.callbacks = append(s.callbacks, id)

	if err := s.registerDeviceEvents(publish); err != nil {
		return err
	}
	// Listening to QEMU's events, unlike sending it commands, does not taint a domain.
	id, err = s.conn.DomainQemuMonitorEventRegister(nil, "GUEST_PANICKED", func(_ *lv.Connect, dom *lv.Domain, _ *lv.DomainQemuMonitorEvent) {
		publish(event(virt.EventPanicked, uuidOf(dom), "", "guest panicked"))
	}, 0)
	if err != nil && !isUnsupported(err) {
		return err
	}
	if err == nil {
		s.qemuEvents = append(s.qemuEvents, id)
	}
	return s.registerNodeEvents(publish)
}

// registerDeviceEvents asks for word of guests that let go of a device, or refuse to.
func (s *session) registerDeviceEvents(publish func(virt.Event)) error {
	removed, err := s.conn.DomainEventDeviceRemovedRegister(nil, func(_ *lv.Connect, dom *lv.Domain, e *lv.DomainEventDeviceRemoved) {
		publish(event(virt.EventDeviceRemoved, uuidOf(dom), e.DevAlias, ""))
	})
	if isUnsupported(err) {
		return nil
	}
	if err != nil {
		return err
	}
	s.callbacks = append(s.callbacks, removed)
	kept, err := s.conn.DomainEventDeviceRemovalFailedRegister(nil, func(_ *lv.Connect, dom *lv.Domain, e *lv.DomainEventDeviceRemovalFailed) {
		publish(event(virt.EventDeviceKept, uuidOf(dom), e.DevAlias, ""))
	})
	if isUnsupported(err) {
		return nil
	}
	if err == nil {
		s.callbacks = append(s.callbacks, kept)
	}
	return err
}

// diskJob is a job on a guest's disk of which something is new; the zero value says that some may have been missed.
type diskJob struct{ id, target string }

// registerJobs asks for word of jobs on disks.
func (s *session) registerJobs(publish func(diskJob)) error {
	id, err := s.conn.DomainEventBlockJob2Register(nil, func(_ *lv.Connect, dom *lv.Domain, e *lv.DomainEventBlockJob) {
		publish(diskJob{uuidOf(dom), e.Disk})
	})
	switch {
	case isUnsupported(err):
		return nil
	case err != nil:
		return err
	}
	s.callbacks = append(s.callbacks, id)
	return nil
}

// registerNodeEvents asks for word of PCI devices that come and go. The host's other devices are many, and come
// and go with guests.
func (s *session) registerNodeEvents(publish func(virt.Event)) error {
	id, err := s.conn.NodeDeviceEventLifecycleRegister(nil, func(_ *lv.Connect, device *lv.NodeDevice, _ *lv.NodeDeviceEventLifecycle) {
		// The name is in the handle: this asks nobody.
		if name, err := device.GetName(); err == nil && strings.HasPrefix(name, "pci_") {
			publish(event(virt.EventHostDevices, "", name, ""))
		}
	})
	switch {
	case isUnsupported(err):
		return nil
	case err != nil:
		return err
	}
	s.nodeEvents = append(s.nodeEvents, id)
	return nil
}

// deregisterEvents fails only on a connection that is lost, where nothing comes any more.
func (s *session) deregisterEvents() {
	for _, id := range s.callbacks {
		_ = s.conn.DomainEventDeregister(id)
	}
	for _, id := range s.qemuEvents {
		_ = s.conn.DomainQemuEventDeregister(id)
	}
	for _, id := range s.nodeEvents {
		_ = s.conn.NodeDeviceEventDeregister(id)
	}
}

// uuidOf reads the UUID out of the handle, which is valid only inside the callback; it asks nobody.
func uuidOf(dom *lv.Domain) string {
	id, err := dom.GetUUIDString()
	if err != nil {
		return ""
	}
	return id
}

func event(kind virt.EventKind, id, device, reason string) virt.Event {
	return virt.Event{Kind: kind, ID: id, Device: device, Reason: reason, Time: time.Now()}
}

// translator makes the contract's events of libvirt's lifecycle events. Where libvirt says one thing
// twice it remembers the first.
type translator struct {
	// crashed are the guests that were reported as crashed and are still there: libvirt says crashed
	// when a guest panics, and stopped when it then ends the process.
	crashed map[string]bool
	// down are the guests that were seen to stop: of one that starts, libvirt first says resumed,
	// because its vCPUs begin to run, and then started.
	down map[string]bool
}

func newTranslator() *translator {
	return &translator{crashed: map[string]bool{}, down: map[string]bool{}}
}

// translate returns the event to publish, and whether there is one.
func (t *translator) translate(id string, kind lv.DomainEventType, detail int) (virt.Event, bool) {
	wasCrashed, wasDown := t.crashed[id], t.down[id]
	delete(t.crashed, id)
	switch kind {
	case lv.DOMAIN_EVENT_STARTED:
		delete(t.down, id)
		return event(virt.EventStarted, id, "", startedDetail[lv.DomainEventStartedDetailType(detail)]), true
	case lv.DOMAIN_EVENT_SUSPENDED:
		return event(virt.EventPaused, id, "", suspendedDetail[lv.DomainEventSuspendedDetailType(detail)]), true
	case lv.DOMAIN_EVENT_RESUMED:
		if lv.DomainEventResumedDetailType(detail) == lv.DOMAIN_EVENT_RESUMED_MIGRATED {
			return event(virt.EventMigrated, id, "", "arrived"), true
		}
		return event(virt.EventResumed, id, "", ""), !wasDown
	case lv.DOMAIN_EVENT_STOPPED:
		t.down[id] = true
		return stopped(id, lv.DomainEventStoppedDetailType(detail), wasCrashed)
	case lv.DOMAIN_EVENT_PMSUSPENDED:
		return event(virt.EventSuspended, id, "", ""), true
	case lv.DOMAIN_EVENT_CRASHED:
		t.crashed[id] = true
		return event(virt.EventCrashed, id, "", "panicked"), true
	case lv.DOMAIN_EVENT_UNDEFINED:
		delete(t.down, id)
		renamed := lv.DomainEventUndefinedDetailType(detail) == lv.DOMAIN_EVENT_UNDEFINED_RENAMED
		return event(virt.EventUndefined, id, "", ""), !renamed
	default: // defined; shutdown, which says that the guest is about to stop
		return virt.Event{}, false
	}
}

func stopped(id string, detail lv.DomainEventStoppedDetailType, wasCrashed bool) (virt.Event, bool) {
	switch detail {
	case lv.DOMAIN_EVENT_STOPPED_CRASHED, lv.DOMAIN_EVENT_STOPPED_FAILED:
		return event(virt.EventCrashed, id, "", stoppedDetail[detail]), !wasCrashed
	case lv.DOMAIN_EVENT_STOPPED_MIGRATED:
		return event(virt.EventMigrated, id, "", "left"), true
	default:
		return event(virt.EventStopped, id, "", stoppedDetail[detail]), true
	}
}

var startedDetail = map[lv.DomainEventStartedDetailType]string{
	lv.DOMAIN_EVENT_STARTED_BOOTED:        "booted",
	lv.DOMAIN_EVENT_STARTED_MIGRATED:      "migrated",
	lv.DOMAIN_EVENT_STARTED_RESTORED:      "restored",
	lv.DOMAIN_EVENT_STARTED_FROM_SNAPSHOT: "from snapshot",
	lv.DOMAIN_EVENT_STARTED_WAKEUP:        "woken up",
}

var suspendedDetail = map[lv.DomainEventSuspendedDetailType]string{
	lv.DOMAIN_EVENT_SUSPENDED_PAUSED:          "user",
	lv.DOMAIN_EVENT_SUSPENDED_MIGRATED:        "migration",
	lv.DOMAIN_EVENT_SUSPENDED_IOERROR:         "I/O error",
	lv.DOMAIN_EVENT_SUSPENDED_WATCHDOG:        "watchdog",
	lv.DOMAIN_EVENT_SUSPENDED_RESTORED:        "restored",
	lv.DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT:   "from snapshot",
	lv.DOMAIN_EVENT_SUSPENDED_API_ERROR:       "libvirt failed half-way",
	lv.DOMAIN_EVENT_SUSPENDED_POSTCOPY:        "post-copy",
	lv.DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED: "post-copy failed",
}

var stoppedDetail = map[lv.DomainEventStoppedDetailType]string{
	lv.DOMAIN_EVENT_STOPPED_SHUTDOWN:      "shutdown",
	lv.DOMAIN_EVENT_STOPPED_DESTROYED:     "destroyed",
	lv.DOMAIN_EVENT_STOPPED_CRASHED:       "crashed",
	lv.DOMAIN_EVENT_STOPPED_SAVED:         "saved",
	lv.DOMAIN_EVENT_STOPPED_FAILED:        "crashed",
	lv.DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT: "from snapshot",
}
