package main

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"compute-agent/compute"
	"compute-agent/virt"
)

// guestHardware is what an operator can choose of all guests' hardware.
type guestHardware struct {
	CPUFlags                 []string
	Machines                 map[string]string // by architecture
	CacheModes               map[string]string // by kind of source
	Discard                  string
	MaxDrives                int // -1 for no limit
	RXQueueSize, TXQueueSize int
	MaxQueues                int
	PCIePorts                int
	SPICEListen              string
	SPICEAgent               bool
	SPICESecure              bool
	SPICEImages              string // compression
	SPICEJPEG, SPICEZlib     string
	SPICEPlayback            string
	SPICEStreaming           string
	PerfEvents               []string
	PointerModel             string
	SysinfoSerial            string
	SerialConsole            string // auto, true, false
	SerialListen             string
	SerialPorts              compute.PortRange
	KeepConsoleLog           bool
	FileBackedMiB            int
	TCGCacheMiB              int
	RealtimePriority         int
}

func (h *guestHardware) keys() []key {
	return slices.Concat(h.machineKeys(), h.driveKeys(), h.nicKeys(), h.consoleKeys())
}

func (h *guestHardware) machineKeys() []key {
	return []key{
		{name: "cpu_model_extra_flags", initial: "", value: list(&h.CPUFlags, cpuFlag),
			doc: "CPU flags that guests get or, with a dash before it, do not: pcid, +pdpe1gb, -mtrr."},
		{name: "hw_machine_type", initial: "", value: pairs(&h.Machines, ofArchitecture),
			doc: "Machine type of guests by architecture: x86_64=q35, aarch64=virt. A word alone is for x86_64. Where nothing is\n" +
				"said: pc on x86_64, virt on aarch64, pseries on ppc64le, s390-ccw-virtio on s390x."},
		{name: "num_pcie_ports", initial: "0", value: whole(&h.PCIePorts, 0, 28),
			doc: "PCI Express ports of guests on q35 and virt machines, each for a device that is plugged in later. 0: libvirt's\n" +
				"own number."},
		{name: "sysinfo_serial", initial: "unique", value: choice(&h.SysinfoSerial, "none", "os", "hardware", "auto", "unique"),
			doc: "Serial number that guests' machines have: none, the host's (os: its machine ID; hardware: its board's;\n" +
				"auto: the first of them that there is), or unique: the server's ID."},
		{name: "file_backed_memory", initial: "0", value: whole(&h.FileBackedMiB, 0, 1<<30),
			doc: "MiB of memory that guests may have in files under libvirt's memory_backing_dir. More than 0: all memory of all\n" +
				"guests is there, and this is how much there is for them. 0: guests have the host's memory."},
		{name: "realtime_scheduler_priority", initial: "1", value: whole(&h.RealtimePriority, 1, 99),
			doc: "Priority of vCPUs in real time (hw:cpu_realtime) among the host's real-time tasks."},
		{name: "enabled_perf_events", initial: "", value: list(&h.PerfEvents, perfEvent),
			doc: "What the host's kernel counts of each guest, with commas between: cpu_cycles, cache_misses... `virsh domstats\n" +
				"--perf` shows it."},
		{name: "tb_cache_size", initial: "0", value: whole(&h.TCGCacheMiB, 0, 1<<20),
			doc: "MiB that QEMU keeps of translated code of each emulated guest. 0: QEMU's own choice, 1 GiB or a fraction of\n" +
				"the guest's memory."},
	}
}

func (h *guestHardware) driveKeys() []key {
	return []key{
		{name: "disk_cachemodes", initial: "", value: pairs(&h.CacheModes, cacheMode),
			doc: "How the host caches guests' drives by where they are: file=writeback, block=none, network=writethrough. Else\n" +
				"none, or writeback where the file system cannot go around its cache."},
		{name: "hw_disk_discard", initial: "", value: choice(&h.Discard, "", "ignore", "unmap"),
			doc: "What becomes of blocks that a guest discards on its own disks: ignore keeps them, unmap gives them back to the\n" +
				"host. Empty: QEMU's own choice, ignore."},
		{name: "max_disk_devices_to_attach", initial: "-1", value: driveLimit(&h.MaxDrives),
			doc: "Most drives of a server, its own disks and its volumes together: what is created, rebuilt or attached beyond is\n" +
				"refused. Servers that have more keep them. -1: as many as there is room for. Nova: [compute]max_disk_devices_to_attach."},
	}
}

// driveLimit is a number of drives, or -1 for any; with none no guest could boot.
func driveLimit(field *int) setting {
	parse := func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < -1 || n == 0 {
			return 0, errors.New("must be -1 or a whole number from 1")
		}
		return n, nil
	}
	return place[int]{field, "int", parse, strconv.Itoa}
}

func (h *guestHardware) nicKeys() []key {
	return []key{
		{name: "rx_queue_size", initial: "0", value: queueSize(&h.RXQueueSize),
			doc: "Packets in the receive queues of virtio network interfaces: 256, 512 or 1024. 0: QEMU's own choice."},
		{name: "tx_queue_size", initial: "0", value: queueSize(&h.TXQueueSize),
			doc: "The same for sending, on vhost-user interfaces."},
		{name: "max_queues", initial: "0", value: whole(&h.MaxQueues, 0, 256),
			doc: "Most queues of a network interface with hw:vif_multiqueue_enabled. 0: one for each vCPU."},
	}
}

func (h *guestHardware) consoleKeys() []key {
	return []key{
		{name: "spice_listen", initial: "", value: text(&h.SPICEListen, orEmpty(ipAddress)),
			doc: "Address of the guests' SPICE servers, which have no password. Empty: none."},
		{name: "spice_agent_enabled", initial: "true", value: truth(&h.SPICEAgent),
			doc: "Give guests with SPICE the channel for SPICE's agent."},
		{name: "spice_require_secure", initial: "false", value: truth(&h.SPICESecure),
			doc: "Let viewers of SPICE in over TLS alone, for which QEMU's spice_tls has to be set up on the host."},
		{name: "spice_image_compression", initial: "", value: choice(&h.SPICEImages, "", "auto_glz", "auto_lz", "quic", "glz", "lz", "off"),
			doc: "How SPICE compresses images. Empty, here and in the next four: SPICE's own choice."},
		{name: "spice_jpeg_compression", initial: "", value: choice(&h.SPICEJPEG, "", "auto", "never", "always"),
			doc: "Whether SPICE compresses images with loss on slow links."},
		{name: "spice_zlib_compression", initial: "", value: choice(&h.SPICEZlib, "", "auto", "never", "always"),
			doc: "Whether SPICE compresses images without loss on slow links."},
		{name: "spice_playback_compression", initial: "", value: choice(&h.SPICEPlayback, "", "true", "false"),
			doc: "Whether SPICE compresses sound."},
		{name: "spice_streaming_mode", initial: "", value: choice(&h.SPICEStreaming, "", "filter", "all", "off"),
			doc: "What SPICE sends as a video stream: what its filters find, all that moves, or nothing."},
		{name: "pointer_model", initial: "usbtablet", value: choice(&h.PointerModel, "usbtablet", "ps2mouse"),
			doc: "Pointer of guests with a screen whose image says nothing: usbtablet, or ps2mouse, which is there anyway."},
		{name: "serial_console_enabled", initial: "auto", value: choice(&h.SerialConsole, "auto", "true", "false"),
			doc: "Whether guests' serial ports (hw:serial_port_count of them) take a client. false: guests have one, for the console log. auto: where\n" +
				"state_dir is short enough for sockets, or serial_console_port_range is set. Nova: [serial_console]enabled, which is false there."},
		{name: "serial_console_port_range", initial: "", value: portRange(&h.SerialPorts),
			doc: "TCP ports that serial ports listen on, from the first up to the one before the last: 10000:20000. Empty: sockets in the servers'\n" +
				"directories, which no other user of the host can open. Nova: [serial_console]port_range."},
		{name: "serial_console_listen", initial: "127.0.0.1", value: text(&h.SerialListen, ipAddress),
			doc: "Address of these TCP ports, which ask for no password. Nova: [serial_console]proxyclient_address."},
		{name: "keep_console_log", initial: "true", value: truth(&h.KeepConsoleLog),
			doc: "Keep what is in a server's console log when its guest starts again. false: start it anew, as Nova does."},
	}
}

// portRange reads FIRST:END as Nova does; empty is none.
func portRange(field *compute.PortRange) setting {
	errRange := errors.New("must be two TCP ports with a colon between them, the first the lower one: 10000:20000")
	parse := func(s string) (r compute.PortRange, err error) {
		if s == "" {
			return r, nil
		}
		first, end, _ := strings.Cut(s, ":")
		var firstErr, endErr error
		r.First, firstErr = strconv.Atoi(first)
		r.End, endErr = strconv.Atoi(end)
		if firstErr != nil || endErr != nil || r.First < 1 || r.First >= r.End || r.End > 1<<16 {
			return compute.PortRange{}, errRange
		}
		return r, nil
	}
	format := func(r compute.PortRange) string {
		if r == (compute.PortRange{}) {
			return ""
		}
		return fmt.Sprintf("%d:%d", r.First, r.End)
	}
	return place[compute.PortRange]{field, "string", parse, format}
}

// longestSocket is what Linux takes of a socket's path, in bytes.
const longestSocket = 107

// socketsFit says whether the paths of servers' sockets are short enough.
func socketsFit(stateDir string) bool {
	return len(compute.FilesIn(filepath.Join(stateDir, instancesDir), "", compute.Server{ID: uuid.Nil.String()}).SerialSocket)+1 <= longestSocket
}

// serial says what serial ports listen on: TCP ports of an address, or sockets, or nothing.
func (h *guestHardware) serial(stateDir string) (address string, sockets bool) {
	switch {
	case h.SerialConsole == "false":
		return "", false
	case h.SerialPorts != compute.PortRange{}:
		return h.SerialListen, false
	}
	return "", h.SerialConsole == "true" || socketsFit(stateDir)
}

// cpuFlag accepts libvirt's name of a flag with an optional sign.
func cpuFlag(s string) error {
	if plainWord(strings.TrimLeft(s, "+-")) != nil || len(strings.TrimLeft(s, "+-")) < len(s)-1 {
		return fmt.Errorf("must be CPU flags with commas between them, each with an optional + or - before it")
	}
	return nil
}

func (h *guestHardware) spice() virt.SPICE {
	s := virt.SPICE{
		Secure: h.SPICESecure, ImageCompression: h.SPICEImages, JPEGCompression: h.SPICEJPEG, ZlibCompression: h.SPICEZlib,
		StreamingMode: h.SPICEStreaming,
	}
	if h.SPICEPlayback != "" {
		s.PlaybackCompression = new(h.SPICEPlayback == "true")
	}
	return s
}

func perfEvent(s string) error {
	if !slices.Contains(virt.PerfEvents(), s) {
		return fmt.Errorf("must be of %s", strings.Join(virt.PerfEvents(), ", "))
	}
	return nil
}

// ofArchitecture reads one entry of hw_machine_type.
func ofArchitecture(s string) (arch, machine string, err error) {
	arch, machine, named := strings.Cut(s, "=")
	if !named {
		arch, machine = "x86_64", s
	}
	if plainWord(arch) != nil || plainWord(machine) != nil {
		return "", "", fmt.Errorf("must be machine types by architecture such as x86_64=q35, with commas between them")
	}
	return arch, machine, nil
}

// cacheMode reads one entry of disk_cachemodes.
func cacheMode(s string) (kind, mode string, err error) {
	kind, mode, _ = strings.Cut(s, "=")
	known := slices.Contains([]string{"file", "block", "network", "mount"}, kind) &&
		slices.Contains([]string{"none", "writethrough", "writeback", "directsync", "unsafe"}, mode)
	if !known {
		return "", "", fmt.Errorf("must be entries such as file=writeback with commas between them: file, block, network or mount, " +
			"and none, writethrough, writeback, directsync or unsafe")
	}
	return kind, mode, nil
}

// queueSize is a number of packets that QEMU's queues can have; 0 for its own choice.
func queueSize(field *int) setting {
	parse := func(s string) (int, error) {
		switch s {
		case "0", "256", "512", "1024":
			return strconv.Atoi(s)
		}
		return 0, fmt.Errorf("must be 256, 512, 1024 or 0")
	}
	return place[int]{field, "int", parse, strconv.Itoa}
}

// list is words with commas between them, each of which the rule accepts.
func list(field *[]string, rule func(string) error) setting {
	parse := func(s string) (words []string, err error) {
		for word := range strings.SplitSeq(s, ",") {
			if word = strings.TrimSpace(word); word == "" {
				continue
			}
			if err := rule(word); err != nil {
				return nil, err
			}
			words = append(words, word)
		}
		return words, nil
	}
	return place[[]string]{field, "string", parse, func(words []string) string { return strings.Join(words, ",") }}
}

// pairs is entries with commas between them, each of a name and a value; a name is there once.
func pairs(field *map[string]string, entry func(string) (name, value string, err error)) setting {
	parse := func(s string) (map[string]string, error) {
		entries := map[string]string{}
		for text := range strings.SplitSeq(s, ",") {
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			name, value, err := entry(text)
			if err != nil {
				return nil, err
			}
			if _, twice := entries[name]; twice {
				return nil, fmt.Errorf("must have one entry for %s", name)
			}
			entries[name] = value
		}
		return entries, nil
	}
	format := func(entries map[string]string) string {
		texts := make([]string, 0, len(entries))
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			texts = append(texts, name+"="+entries[name])
		}
		return strings.Join(texts, ",")
	}
	return place[map[string]string]{field, "string", parse, format}
}
