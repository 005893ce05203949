package libvirt

import (
	lv "libvirt.org/go/libvirt"

	"compute-agent/virt"
)

// powerState maps libvirt's states as Nova does (nova.virt.libvirt.guest.LIBVIRT_POWER_STATE): blocked
// counts as running, and a guest that is shutting down as shut down.
func powerState(s lv.DomainState) virt.PowerState {
	switch s {
	case lv.DOMAIN_RUNNING, lv.DOMAIN_BLOCKED:
		return virt.PowerRunning
	case lv.DOMAIN_PAUSED:
		return virt.PowerPaused
	case lv.DOMAIN_SHUTDOWN, lv.DOMAIN_SHUTOFF:
		return virt.PowerShutdown
	case lv.DOMAIN_CRASHED:
		return virt.PowerCrashed
	case lv.DOMAIN_PMSUSPENDED:
		return virt.PowerSuspended
	default:
		return virt.PowerNoState
	}
}

// stateReason names libvirt's reason for a state; empty for the ones that say nothing.
func stateReason(s lv.DomainState, reason int) string {
	switch s {
	case lv.DOMAIN_RUNNING:
		return runningReason[lv.DomainRunningReason(reason)]
	case lv.DOMAIN_PAUSED:
		return pausedReason[lv.DomainPausedReason(reason)]
	case lv.DOMAIN_SHUTOFF:
		return shutoffReason[lv.DomainShutoffReason(reason)]
	case lv.DOMAIN_CRASHED:
		return "crashed"
	default:
		return ""
	}
}

var runningReason = map[lv.DomainRunningReason]string{
	lv.DOMAIN_RUNNING_BOOTED:             "booted",
	lv.DOMAIN_RUNNING_MIGRATED:           "migration",
	lv.DOMAIN_RUNNING_RESTORED:           "restored",
	lv.DOMAIN_RUNNING_FROM_SNAPSHOT:      "from snapshot",
	lv.DOMAIN_RUNNING_UNPAUSED:           "unpaused",
	lv.DOMAIN_RUNNING_MIGRATION_CANCELED: "migration cancelled",
	lv.DOMAIN_RUNNING_SAVE_CANCELED:      "save cancelled",
	lv.DOMAIN_RUNNING_WAKEUP:             "woken up",
	lv.DOMAIN_RUNNING_CRASHED:            "crashed",
	lv.DOMAIN_RUNNING_POSTCOPY:           "post-copy",
	lv.DOMAIN_RUNNING_POSTCOPY_FAILED:    "post-copy failed",
}

var pausedReason = map[lv.DomainPausedReason]string{
	lv.DOMAIN_PAUSED_USER:            "user",
	lv.DOMAIN_PAUSED_MIGRATION:       "migration",
	lv.DOMAIN_PAUSED_SAVE:            "save",
	lv.DOMAIN_PAUSED_DUMP:            "dump",
	lv.DOMAIN_PAUSED_IOERROR:         "I/O error",
	lv.DOMAIN_PAUSED_WATCHDOG:        "watchdog",
	lv.DOMAIN_PAUSED_FROM_SNAPSHOT:   "from snapshot",
	lv.DOMAIN_PAUSED_SHUTTING_DOWN:   "shutting down",
	lv.DOMAIN_PAUSED_SNAPSHOT:        "snapshot",
	lv.DOMAIN_PAUSED_CRASHED:         "crashed",
	lv.DOMAIN_PAUSED_STARTING_UP:     "starting up",
	lv.DOMAIN_PAUSED_POSTCOPY:        "post-copy",
	lv.DOMAIN_PAUSED_POSTCOPY_FAILED: "post-copy failed",
	lv.DOMAIN_PAUSED_API_ERROR:       "libvirt failed half-way",
}

var shutoffReason = map[lv.DomainShutoffReason]string{
	lv.DOMAIN_SHUTOFF_SHUTDOWN:      "shutdown",
	lv.DOMAIN_SHUTOFF_DESTROYED:     "destroyed",
	lv.DOMAIN_SHUTOFF_CRASHED:       "crashed",
	lv.DOMAIN_SHUTOFF_MIGRATED:      "migration",
	lv.DOMAIN_SHUTOFF_SAVED:         "saved",
	lv.DOMAIN_SHUTOFF_FAILED:        "failed to start",
	lv.DOMAIN_SHUTOFF_FROM_SNAPSHOT: "from snapshot",
	lv.DOMAIN_SHUTOFF_DAEMON:        "libvirtd lost it",
}
