package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/google/uuid"

	"compute-agent/compute"
	"compute-agent/guest"
)

// guestOptions says zero as the manager understands it, for which zero is the default.
func guestOptions(c *Config) (compute.GuestOptions, error) {
	h := &c.Hardware
	opt := compute.GuestOptions{ForceConfigDrive: c.ForceConfigDrive, ConfigDriveFormat: c.ConfigDriveForm, Options: guest.Options{
		CPUMode: c.CPUMode, CPUFlags: h.CPUFlags, EmulatedCPU: compute.DefaultEmulatedCPU,
		Machines: h.Machines, RootPorts: h.PCIePorts, Serial: h.SysinfoSerial,
		FileBacked: h.FileBackedMiB > 0, TCGCacheMiB: h.TCGCacheMiB, RealtimePriority: h.RealtimePriority,
		CacheModes: h.CacheModes, Discard: h.Discard, NativeIO: true,
		RXQueueSize: h.RXQueueSize, TXQueueSize: h.TXQueueSize, MaxQueues: h.MaxQueues,
		VNC: c.VNCListen, SPICE: h.SPICEListen, NoSPICEAgent: !h.SPICEAgent, SPICEServer: h.spice(), PerfEvents: h.PerfEvents, PointerModel: h.PointerModel,
		AppendConsoleLog: h.KeepConsoleLog, RNG: c.RNGDevice, StatsPeriod: c.MemStatsPeriod, GuestAgent: true,
	}}
	opt.SerialPorts, opt.MaxDrives = h.SerialPorts, max(h.MaxDrives, 0)
	opt.SerialConsole, opt.SerialSockets = h.serial(c.StateDir)
	if c.CPUModel != "" {
		opt.CPUModels = []string{c.CPUModel}
	}
	if c.GuestNames != compute.DefaultGuestNames {
		opt.Names = c.GuestNames
	}
	if c.CPUMode == "auto" {
		opt.CPUMode = ""
	}
	if c.MemStatsPeriod == 0 {
		opt.StatsPeriod = -1
	}
	var err error
	opt.HostSerial, err = hostSerial(h.SysinfoSerial, machineIDFile, boardIDFile)
	return opt, err
}

// Where a host's own numbers are.
const (
	machineIDFile = "/etc/machine-id"
	boardIDFile   = "/sys/class/dmi/id/product_uuid"
)

// hostSerial is the host's number for sysinfo_serial os, hardware and auto; empty for the others.
func hostSerial(kind, machineID, boardID string) (string, error) {
	var files []string
	switch kind {
	case "os":
		files = []string{machineID}
	case "hardware":
		files = []string{boardID}
	case "auto":
		files = []string{machineID, boardID}
	default:
		return "", nil
	}
	var err error
	for _, file := range files {
		var text []byte
		if text, err = os.ReadFile(file); err != nil {
			continue
		}
		var id uuid.UUID
		if id, err = uuid.Parse(strings.TrimSpace(string(text))); err == nil {
			return id.String(), nil
		}
		err = fmt.Errorf("%s: %w", file, err)
	}
	return "", fmt.Errorf("sysinfo_serial %s: %w", kind, err)
}
