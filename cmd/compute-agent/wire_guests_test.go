package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"compute-agent/compute"
	"compute-agent/guest"
	"compute-agent/virt"
)

func TestGuestOptionsAreTheConfiguration(t *testing.T) {
	byDefault := compute.GuestOptions{ConfigDriveFormat: "iso9660", Options: guest.Options{
		EmulatedCPU: compute.DefaultEmulatedCPU, Machines: map[string]string{}, Serial: "unique", RealtimePriority: 1,
		CacheModes: map[string]string{}, NativeIO: true, VNC: "127.0.0.1", PointerModel: "usbtablet", AppendConsoleLog: true, SerialSockets: true,
		RNG: "/dev/urandom", StatsPeriod: 10 * time.Second, GuestAgent: true,
	}}
	serial := func(change func(*compute.GuestOptions)) compute.GuestOptions {
		o := byDefault
		o.SerialSockets = false
		change(&o)
		return o
	}
	all := compute.GuestOptions{MaxDrives: 26, Names: "vm-%d", ForceConfigDrive: true, ConfigDriveFormat: "vfat", Options: guest.Options{
		CPUMode: "custom", CPUModels: []string{"Nehalem"}, CPUFlags: []string{"pcid", "-mtrr"}, EmulatedCPU: compute.DefaultEmulatedCPU,
		Machines: map[string]string{"x86_64": "q35", "aarch64": "virt-7.2"}, RealtimePriority: 2, FileBacked: true, TCGCacheMiB: 32,
		CacheModes: map[string]string{"file": "writeback", "block": "none"}, Discard: "unmap", NativeIO: true,
		RXQueueSize: 512, TXQueueSize: 256, MaxQueues: 4, VNC: "127.0.0.1", SPICE: "::1", NoSPICEAgent: true, PointerModel: "ps2mouse",
		SPICEServer: virt.SPICE{
			Secure: true, ImageCompression: "lz", JPEGCompression: "auto", ZlibCompression: "never", PlaybackCompression: new(false), StreamingMode: "all",
		},
		PerfEvents: []string{"cpu_clock", "cache_misses"},
		RNG:        "/dev/hwrng", StatsPeriod: -1, RootPorts: 8, GuestAgent: true, Serial: "none", SerialSockets: true,
	}}
	for _, c := range []struct {
		args []string
		want compute.GuestOptions
	}{
		{nil, byDefault},
		{strings.Fields("--instance-name-template=vm-%d --force-config-drive --config-drive-format=vfat --cpu-mode=custom --cpu-model=Nehalem --cpu-model-extra-flags=pcid,-mtrr " +
			"--hw-machine-type=q35,aarch64=virt-7.2 --realtime-scheduler-priority=2 --file-backed-memory=1024 --tb-cache-size=32 " +
			"--disk-cachemodes=file=writeback,block=none --hw-disk-discard=unmap --max-disk-devices-to-attach=26 --rx-queue-size=512 --tx-queue-size=256 --max-queues=4 " +
			"--spice-listen=::1 --spice-agent-enabled=false --spice-require-secure --spice-image-compression=lz --spice-jpeg-compression=auto " +
			"--spice-zlib-compression=never --spice-playback-compression=false --spice-streaming-mode=all " +
			"--enabled-perf-events=cpu_clock,cache_misses --pointer-model=ps2mouse --keep-console-log=false --rng-dev-path=/dev/hwrng " +
			"--mem-stats-period-seconds=0 --num-pcie-ports=8 --sysinfo-serial=none"), all},
		{[]string{"--serial-console-enabled=false"}, serial(func(o *compute.GuestOptions) {})},
		{[]string{"--state-dir=/" + strings.Repeat("d", 51)}, serial(func(o *compute.GuestOptions) { o.SerialSockets = true })},
		{[]string{"--state-dir=/" + strings.Repeat("d", 52)}, serial(func(o *compute.GuestOptions) {})},
		{[]string{"--serial-console-port-range=10000:20000", "--serial-console-listen=::1"}, serial(func(o *compute.GuestOptions) {
			o.SerialConsole, o.SerialPorts = "::1", compute.PortRange{First: 10000, End: 20000}
		})},
	} {
		config, err := load(t, "", nil, c.args)
		if err != nil {
			t.Fatal(err)
		}
		got, err := guestOptions(config)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v (-want +got)\n%s", c.args, diff)
		}
	}
}

func TestHostSerial(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	id, board, none := write("machine-id", "0c0ffee0123445678 9ab0123456789ab\n"), write("board", "AB0FFEE0-1234-4567-89AB-0123456789AB\n"), filepath.Join(dir, "none")
	good := write("good", "0c0ffee01234456789ab0123456789ab\n")
	const os, hardware = "0c0ffee0-1234-4567-89ab-0123456789ab", "ab0ffee0-1234-4567-89ab-0123456789ab"
	for _, c := range []struct{ kind, machineID, want string }{
		{"unique", none, ""}, {"none", none, ""}, {"os", good, os}, {"hardware", none, hardware}, {"auto", good, os}, {"auto", none, hardware},
		{"auto", id, hardware},
	} {
		if got, err := hostSerial(c.kind, c.machineID, board); got != c.want || err != nil {
			t.Errorf("%s of %s: %q, %v, want %q", c.kind, c.machineID, got, err, c.want)
		}
	}
	for _, path := range []string{none, id} {
		if got, err := hostSerial("os", path, board); err == nil || !strings.Contains(err.Error(), "sysinfo_serial os") {
			t.Errorf("of %s: %q, %v", path, got, err)
		}
	}
}
