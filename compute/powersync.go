package compute

import "compute-agent/virt"

// PowerPolicy says what the agent does when a guest's state is not what its server was promised.
type PowerPolicy string

const (
	// PolicyObserve records what is: a guest that somebody started is active, one that stopped is
	// stopped. It never touches a guest. The default.
	PolicyObserve PowerPolicy = "observe"
	// PolicyEnforce does what Nova does: it stops guests that run though their server is stopped.
	PolicyEnforce PowerPolicy = "enforce"
)

// outcome is what follows from a server's VM state and its guest's power state. The power state is
// recorded in any case.
type outcome struct {
	vm   VMState // the server's new VM state; empty: it stays
	stop bool    // the guest is to be stopped, by an operation
	warn string  // what is strange about it; empty: nothing
}

type outcomes map[VMState]map[virt.PowerState]outcome

// observed is the table of PolicyObserve. VM states that are not in it keep what they are: they are
// in the middle of something, or only an operation can end them.
var observed = outcomes{
	Active: {
		virt.PowerNoState:  {vm: Stopped, warn: "its guest is gone; starting the server makes it again"},
		virt.PowerPaused:   {vm: Paused},
		virt.PowerShutdown: {vm: Stopped},
		virt.PowerCrashed:  {vm: Stopped, warn: "its guest crashed"},
	},
	Stopped: {
		virt.PowerRunning:   {vm: Active},
		virt.PowerPaused:    {vm: Paused},
		virt.PowerSuspended: {vm: Active},
	},
	Paused: {
		virt.PowerNoState:   {vm: Stopped, warn: "its guest is gone; starting the server makes it again"},
		virt.PowerRunning:   {vm: Active},
		virt.PowerShutdown:  {vm: Stopped},
		virt.PowerCrashed:   {vm: Stopped, warn: "its guest crashed"},
		virt.PowerSuspended: {vm: Active},
	},
	Suspended: {
		virt.PowerNoState: {warn: "its saved guest is gone"},
		virt.PowerRunning: {vm: Active},
		virt.PowerPaused:  {vm: Paused},
	},
	SoftDeleted: runsThoughDeleted,
	Deleted:     runsThoughDeleted,
}

// enforced is the table of PolicyEnforce, Nova's _sync_instance_power_state.
var enforced = outcomes{
	Active: {
		virt.PowerNoState:   {warn: "its guest is gone"},
		virt.PowerPaused:    {warn: "its guest is paused"},
		virt.PowerShutdown:  {stop: true, warn: "its guest stopped by itself"},
		virt.PowerCrashed:   {stop: true, warn: "its guest crashed"},
		virt.PowerSuspended: {stop: true, warn: "its guest sleeps"},
	},
	Stopped: {
		virt.PowerRunning:   {stop: true, warn: "its guest runs"},
		virt.PowerPaused:    {stop: true, warn: "its guest is paused, not stopped"},
		virt.PowerSuspended: {stop: true, warn: "its guest sleeps, not stopped"},
	},
	Paused: {
		virt.PowerShutdown: {stop: true, warn: "its guest stopped"},
		virt.PowerCrashed:  {stop: true, warn: "its guest crashed"},
	},
	SoftDeleted: runsThoughDeleted,
	Deleted:     runsThoughDeleted,
}

var runsThoughDeleted = map[virt.PowerState]outcome{
	virt.PowerRunning:   {warn: "its guest runs though it is deleted"},
	virt.PowerPaused:    {warn: "its guest is there though it is deleted"},
	virt.PowerCrashed:   {warn: "its guest is there though it is deleted"},
	virt.PowerSuspended: {warn: "its guest is there though it is deleted"},
}

func (p PowerPolicy) table() outcomes {
	if p == PolicyEnforce {
		return enforced
	}
	return observed
}

// decide looks up what follows from a server's VM state and its guest's power state.
func (p PowerPolicy) decide(vm VMState, power virt.PowerState) outcome { return p.table()[vm][power] }
