package compute

import (
	"fmt"
	"slices"
)

// Command is what a user may ask to be done to a server.
type Command string

// The commands, in Nova's words.
const (
	CmdCreate           Command = "create"
	CmdPause            Command = "pause"
	CmdUnpause          Command = "unpause"
	CmdSuspend          Command = "suspend"
	CmdResume           Command = "resume"
	CmdRescue           Command = "rescue"
	CmdUnrescue         Command = "unrescue"
	CmdSetAdminPassword Command = "set admin password"
	CmdRebuild          Command = "rebuild"
	CmdSoftDelete       Command = "soft delete"
	CmdRestore          Command = "restore"
	CmdForceDelete      Command = "force delete"
	CmdDelete           Command = "delete"
	CmdBackup           Command = "backup"
	CmdSnapshot         Command = "snapshot"
	CmdStart            Command = "start"
	CmdStop             Command = "stop"
	CmdReboot           Command = "reboot"
	CmdRebootHard       Command = "reboot hard"
	CmdResize           Command = "resize"
	CmdRevertResize     Command = "revert resize"
	CmdConfirmResize    Command = "confirm resize"
	CmdAttachInterface  Command = "attach interface"
	CmdDetachInterface  Command = "detach interface"
	CmdAttachVolume     Command = "attach volume"
	CmdDetachVolume     Command = "detach volume"
	CmdSwapVolume       Command = "swap volume"
	CmdExtendVolume     Command = "extend volume"
)

// rule says when a command is allowed and what it leads to.
type rule struct {
	command Command
	from    []VMState // the VM states in which it is allowed
	any     bool      // it is allowed in all of them
	target  VMState   // the VM state that success leads to; empty: the one that it was
	// over are the task states that the command takes the place of; it is a conflict in all others
	// but TaskNone.
	over    []TaskState
	overAny bool
	// launched: only for a server that has been active once. Nova: must_have_launched.
	launched bool
}

// rules is the table of Nova's "Requirements for Commands". Nova's documents call the state
// Stopped both "shutoff" and "stopped". Beyond that table and as in Nova's code: delete is allowed
// in every VM and task state, and a hard reboot also where it is the way out: paused, suspended,
// error, and while a soft reboot is under way or a guest does not let go of an interface or a volume.
// A server in error can be rebuilt and rescued, and a rescued one is neither paused nor stopped: it would come back as something else.
var rules = []rule{
	{command: CmdCreate, from: []VMState{Building}, target: Active},
	{command: CmdPause, from: []VMState{Active, Stopped}, target: Paused},
	{command: CmdUnpause, from: []VMState{Paused}, target: Active},
	{command: CmdSuspend, from: []VMState{Active, Stopped}, target: Suspended},
	{command: CmdResume, from: []VMState{Suspended}, target: Active},
	{command: CmdRescue, from: []VMState{Active, Stopped, Error}, target: Rescued, launched: true},
	{command: CmdUnrescue, from: []VMState{Rescued}, target: Active},
	{command: CmdSetAdminPassword, from: []VMState{Active}, target: Active},
	{command: CmdRebuild, from: []VMState{Active, Stopped, Error}, target: Active, launched: true},
	{command: CmdSoftDelete, from: []VMState{Active, Stopped, Error}, target: SoftDeleted},
	{command: CmdRestore, from: []VMState{SoftDeleted}, target: Active},
	{command: CmdForceDelete, from: []VMState{SoftDeleted}, target: Deleted},
	{command: CmdDelete, any: true, target: Deleted, overAny: true},
	{command: CmdBackup, from: []VMState{Active, Stopped}},
	{command: CmdSnapshot, from: []VMState{Active, Stopped}},
	{command: CmdStart, from: []VMState{Stopped}, target: Active},
	{command: CmdStop, from: []VMState{Active, Stopped}, target: Stopped},
	{command: CmdReboot, from: []VMState{Active, Stopped, Rescued}, target: Active},
	{command: CmdRebootHard, from: []VMState{Active, Stopped, Rescued, Paused, Suspended, Error}, target: Active,
		over: []TaskState{TaskRebooting, TaskRebootStarted, TaskAttachingInterface, TaskDetachingInterface, TaskDetachingVolume}, launched: true},
	{command: CmdResize, from: []VMState{Active, Stopped}, target: Resized},
	{command: CmdRevertResize, from: []VMState{Active, Stopped}, target: Active},
	{command: CmdConfirmResize, from: []VMState{Active, Stopped}, target: Active},
	{command: CmdAttachInterface, from: []VMState{Active, Paused, Stopped}},
	{command: CmdDetachInterface, from: []VMState{Active, Paused, Stopped}},
	{command: CmdAttachVolume, from: []VMState{Active, Paused, Stopped, Resized, SoftDeleted, Shelved}},
	{command: CmdDetachVolume, from: []VMState{Active, Paused, Stopped, Resized, SoftDeleted, Shelved}},
	{command: CmdSwapVolume, from: []VMState{Active, Paused, Resized}},
	{command: CmdExtendVolume, any: true},
}

func ruleOf(cmd Command) rule {
	i := slices.IndexFunc(rules, func(r rule) bool { return r.command == cmd })
	if i < 0 {
		return rule{command: cmd} // allowed nowhere
	}
	return rules[i]
}

func (r rule) allows(vm VMState) bool { return r.any || slices.Contains(r.from, vm) }

func (r rule) overrides(task TaskState) bool { return r.overAny || slices.Contains(r.over, task) }

// admit says whether the command is allowed on the server as it is; otherwise the error is a
// conflict that says why.
func admit(cmd Command, s Server) error {
	r := ruleOf(cmd)
	conflict := func(format string, args ...any) error {
		return &Failure{Kind: ErrConflict, Subject: "server " + s.ID, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case !r.allows(s.VM):
		return conflict("cannot %s while it is in vm_state %s", cmd, s.VM)
	case s.Task != TaskNone && !r.overrides(s.Task):
		return conflict("cannot %s while it is in task_state %s", cmd, s.Task)
	case r.launched && s.Launched.IsZero():
		return conflict("cannot %s while it was never active", cmd)
	}
	return nil
}

// mayBecome says whether a server's VM state may go from one to the other: by a command, by what
// was observed of its guest, or to deleted and error, where all may go.
func mayBecome(from, to VMState) bool {
	if from == to || to == Deleted || to == Error || (from == "" && to == Building) {
		return true
	}
	for _, r := range rules {
		if r.target == to && r.allows(from) {
			return true
		}
	}
	for _, o := range observed[from] {
		if o.vm == to {
			return true
		}
	}
	return false
}

// become assigns the server's VM state; no other function does. A server that leaves Error leaves
// its fault behind. One whose guest is a rescuer's is never active, but rescued.
func become(s *Server, to VMState) error {
	if !mayBecome(s.VM, to) {
		return fmt.Errorf("server %s: no transition from %q to %q", s.ID, s.VM, to)
	}
	if to == Active && s.Rescue != nil {
		to = Rescued
	}
	s.VM = to
	if to != Error {
		s.Fault = nil
	}
	return nil
}
