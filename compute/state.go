package compute

// VMState is what the users of a server have been promised: it changes only when an operation
// ends. The values are Nova's (nova.compute.vm_states).
type VMState string

// The VM states. Nova's API calls Stopped "SHUTOFF".
const (
	Building         VMState = "building"
	Active           VMState = "active"
	Paused           VMState = "paused"
	Suspended        VMState = "suspended"
	Stopped          VMState = "stopped"
	Rescued          VMState = "rescued"
	Resized          VMState = "resized"
	SoftDeleted      VMState = "soft-delete"
	Deleted          VMState = "deleted"
	Error            VMState = "error"
	Shelved          VMState = "shelved"
	ShelvedOffloaded VMState = "shelved_offloaded"
)

// TaskState is what is being done to a server right now; TaskNone between operations. The values
// are Nova's (nova.compute.task_states).
type TaskState string

// The task states of the operations that exist today.
const (
	TaskNone              TaskState = ""
	TaskScheduling        TaskState = "scheduling"
	TaskNetworking        TaskState = "networking"
	TaskBlockDevices      TaskState = "block_device_mapping"
	TaskSpawning          TaskState = "spawning"
	TaskDeleting          TaskState = "deleting"
	TaskPoweringOn        TaskState = "powering-on"
	TaskPoweringOff       TaskState = "powering-off"
	TaskRebooting         TaskState = "rebooting"
	TaskRebootingHard     TaskState = "rebooting_hard"
	TaskRebootStarted     TaskState = "reboot_started"
	TaskRebootStartedHard TaskState = "reboot_started_hard"
	TaskPausing           TaskState = "pausing"
	TaskUnpausing         TaskState = "unpausing"
	TaskRebuilding        TaskState = "rebuilding"
	TaskRebuildDevices    TaskState = "rebuild_block_device_mapping"
	TaskRebuildSpawning   TaskState = "rebuild_spawning"
	TaskRescuing          TaskState = "rescuing"
	TaskUnrescuing        TaskState = "unrescuing"

	// In Nova nothing shows of these.
	TaskAttachingInterface  TaskState = "attaching_interface"
	TaskDetachingInterface  TaskState = "detaching_interface"
	TaskAttachingVolume     TaskState = "attaching_volume"
	TaskDetachingVolume     TaskState = "detaching_volume"     // its guest has to let go of it
	TaskDisconnectingVolume TaskState = "disconnecting_volume" // its guest has let go of it
	TaskSwappingVolume      TaskState = "swapping_volume"
	TaskExtendingVolume     TaskState = "extending_volume"
)
