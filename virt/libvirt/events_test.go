package libvirt

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	lv "libvirt.org/go/libvirt"

	"compute-agent/virt"
)

func TestTranslate(t *testing.T) {
	type in struct {
		kind   lv.DomainEventType
		detail int
	}
	for name, c := range map[string]struct {
		in   []in
		want []virt.Event
	}{
		"created with its vCPUs stopped": {
			[]in{{lv.DOMAIN_EVENT_DEFINED, int(lv.DOMAIN_EVENT_DEFINED_ADDED)}, {lv.DOMAIN_EVENT_STARTED, int(lv.DOMAIN_EVENT_STARTED_BOOTED)}, {lv.DOMAIN_EVENT_SUSPENDED, int(lv.DOMAIN_EVENT_SUSPENDED_PAUSED)}},
			[]virt.Event{{Kind: virt.EventStarted, Reason: "booted"}, {Kind: virt.EventPaused, Reason: "user"}},
		},
		"stopped and started, where libvirt says resumed first": {
			[]in{{lv.DOMAIN_EVENT_STOPPED, int(lv.DOMAIN_EVENT_STOPPED_SHUTDOWN)}, {lv.DOMAIN_EVENT_RESUMED, 0}, {lv.DOMAIN_EVENT_STARTED, int(lv.DOMAIN_EVENT_STARTED_BOOTED)}, {lv.DOMAIN_EVENT_RESUMED, 0}},
			[]virt.Event{{Kind: virt.EventStopped, Reason: "shutdown"}, {Kind: virt.EventStarted, Reason: "booted"}, {Kind: virt.EventResumed}},
		},
		"killed process": {
			[]in{{lv.DOMAIN_EVENT_STOPPED, int(lv.DOMAIN_EVENT_STOPPED_FAILED)}},
			[]virt.Event{{Kind: virt.EventCrashed, Reason: "crashed"}},
		},
		"panic that libvirt reports and then ends": {
			[]in{{lv.DOMAIN_EVENT_CRASHED, 0}, {lv.DOMAIN_EVENT_STOPPED, int(lv.DOMAIN_EVENT_STOPPED_CRASHED)}},
			[]virt.Event{{Kind: virt.EventCrashed, Reason: "panicked"}},
		},
		"shutdown is not yet stopped": {
			[]in{{lv.DOMAIN_EVENT_SHUTDOWN, 0}, {lv.DOMAIN_EVENT_STOPPED, int(lv.DOMAIN_EVENT_STOPPED_SHUTDOWN)}, {lv.DOMAIN_EVENT_UNDEFINED, 0}},
			[]virt.Event{{Kind: virt.EventStopped, Reason: "shutdown"}, {Kind: virt.EventUndefined}},
		},
		"a full disk": {
			[]in{{lv.DOMAIN_EVENT_SUSPENDED, int(lv.DOMAIN_EVENT_SUSPENDED_IOERROR)}},
			[]virt.Event{{Kind: virt.EventPaused, Reason: "I/O error"}},
		},
		"migrated": {
			[]in{{lv.DOMAIN_EVENT_RESUMED, int(lv.DOMAIN_EVENT_RESUMED_MIGRATED)}, {lv.DOMAIN_EVENT_STOPPED, int(lv.DOMAIN_EVENT_STOPPED_MIGRATED)}},
			[]virt.Event{{Kind: virt.EventMigrated, Reason: "arrived"}, {Kind: virt.EventMigrated, Reason: "left"}},
		},
		"asleep":  {[]in{{lv.DOMAIN_EVENT_PMSUSPENDED, 0}}, []virt.Event{{Kind: virt.EventSuspended}}},
		"renamed": {[]in{{lv.DOMAIN_EVENT_UNDEFINED, int(lv.DOMAIN_EVENT_UNDEFINED_RENAMED)}}, nil},
	} {
		tr := newTranslator()
		var got []virt.Event
		for _, e := range c.in {
			if out, ok := tr.translate("id", e.kind, e.detail); ok {
				if out.ID != "id" || out.Time.IsZero() {
					t.Errorf("%s: event without guest or time: %+v", name, out)
				}
				out.ID, out.Time = "", time.Time{}
				got = append(got, out)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestPowerState(t *testing.T) {
	for state, want := range map[lv.DomainState]virt.PowerState{
		lv.DOMAIN_NOSTATE:     virt.PowerNoState,
		lv.DOMAIN_RUNNING:     virt.PowerRunning,
		lv.DOMAIN_BLOCKED:     virt.PowerRunning,
		lv.DOMAIN_PAUSED:      virt.PowerPaused,
		lv.DOMAIN_SHUTDOWN:    virt.PowerShutdown,
		lv.DOMAIN_SHUTOFF:     virt.PowerShutdown,
		lv.DOMAIN_CRASHED:     virt.PowerCrashed,
		lv.DOMAIN_PMSUSPENDED: virt.PowerSuspended,
		lv.DomainState(99):    virt.PowerNoState,
	} {
		if got := powerState(state); got != want {
			t.Errorf("libvirt's state %d is %v, want %v", state, got, want)
		}
	}
}
