package guest

import "time"

// Options are the operator's choices for all guests. The names in comments are Nova's; a zero value is
// Nova's default unless the comment says otherwise.
type Options struct {
	CPUMode  string // cpu_mode; default host-model; see EmulatedCPU
	CPUModel string // cpu_models; for CPUMode custom
	// EmulatedCPU is the model of guests on x86 that are emulated, where CPUMode is empty. Empty: as for others.
	EmulatedCPU string
	Machine     string // hw_machine_type; default pc
	VNC         string // address that guests' screens listen on ([vnc]server_listen); empty: no screen
	RNG         string // rng_dev_path; default /dev/urandom
	// StatsPeriod is how often a guest tells of its memory (mem_stats_period_seconds); default 10 s,
	// negative for never.
	StatsPeriod time.Duration
	// AppendConsoleLog keeps what is in the console log when a guest starts. Nova starts it anew.
	AppendConsoleLog bool
}
