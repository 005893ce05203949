package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// withoutKVM is the verdict on a host that lacks what KVM needs: how bad that is depends on
// what guests are to run on.
func (p *patient) withoutKVM(remedy, format string, args ...any) verdict {
	switch p.config.VirtType {
	case "qemu":
		return ok(format+"; not needed for virt_type qemu", args...)
	case "kvm":
		return failure(remedy, format, args...)
	default:
		return warning(remedy, format+"; guests will be slow", args...)
	}
}

func (p *patient) checkCPU(context.Context) verdict {
	data, err := os.ReadFile(p.path("proc/cpuinfo"))
	if err != nil {
		return failure("Mount /proc.", "cannot be read: %v", err)
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != "flags" {
			continue
		}
		flags := strings.Fields(value)
		for _, f := range []string{"vmx", "svm"} {
			if slices.Contains(flags, f) {
				return ok("the CPU has %s", f)
			}
		}
		return p.withoutKVM("Turn on VT-x or AMD-V in the firmware, or nested virtualisation in the hypervisor below.",
			"the CPU has neither vmx nor svm")
	}
	return p.withoutKVM("Run on an x86-64 host.", "no CPU flags in /proc/cpuinfo")
}

func (p *patient) checkKVMDevice(context.Context) verdict {
	f, err := os.OpenFile(p.path("dev/kvm"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return p.withoutKVM("Load the module: modprobe kvm_intel or modprobe kvm_amd.", "/dev/kvm is not there")
	}
	if err != nil {
		return p.withoutKVM("Run as root, or join the group of /dev/kvm.", "/dev/kvm cannot be opened: %v", cause(err))
	}
	_ = f.Close() // it was only a question
	return ok("/dev/kvm can be opened")
}

func (p *patient) checkMemory(context.Context) verdict {
	info, err := meminfo(p.path("proc/meminfo"))
	if err != nil {
		return failure("Mount /proc.", "cannot be read: %v", err)
	}
	total, free := info["MemTotal"]>>10, info["MemAvailable"]>>10
	left := total - int64(p.config.ReservedMemoryMiB)
	detail := fmt.Sprintf("%d MiB, %d MiB available, %d MiB kept back for the host", total, free, p.config.ReservedMemoryMiB)
	switch {
	case left <= 0:
		return failure("Lower reserved_host_memory_mb.", "%s: nothing is left for guests", detail)
	case free < 256:
		return warning("Stop what uses the memory, or expect guests to fail to start.", "%s", detail)
	}
	return ok("%s", detail)
}

// meminfo reads a file in the form of /proc/meminfo, in KiB.
func meminfo(path string) (map[string]int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for line := range strings.Lines(string(data)) {
		name, value, found := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if !found || len(fields) == 0 {
			continue
		}
		if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
			out[name] = n
		}
	}
	if out["MemTotal"] == 0 {
		return nil, errors.New("no MemTotal in it")
	}
	return out, nil
}

func (p *patient) checkHugePages(context.Context) verdict {
	dirs, err := filepath.Glob(p.path("sys/kernel/mm/hugepages/hugepages-*"))
	if err != nil || len(dirs) == 0 {
		return ok("this kernel has none; flavors with hw:mem_page_size will not fit")
	}
	var parts []string
	for _, dir := range dirs {
		name := strings.TrimPrefix(filepath.Base(dir), "hugepages-")
		total, err1 := readInt(filepath.Join(dir, "nr_hugepages"))
		free, err2 := readInt(filepath.Join(dir, "free_hugepages"))
		if err := errors.Join(err1, err2); err != nil {
			return warning("Mount /sys.", "%s cannot be read: %v", name, err)
		}
		parts = append(parts, fmt.Sprintf("%s: %d of %d free", name, free, total))
	}
	return ok("%s", strings.Join(parts, ", "))
}

func (p *patient) checkNUMA(context.Context) verdict {
	dirs, err := filepath.Glob(p.path("sys/devices/system/node/node[0-9]*"))
	if err != nil || len(dirs) == 0 {
		return ok("this kernel shows none; the host counts as one node")
	}
	var parts []string
	for _, dir := range dirs {
		cpus, err := os.ReadFile(filepath.Join(dir, "cpulist"))
		if err != nil {
			return warning("Mount /sys.", "%s cannot be read: %v", filepath.Base(dir), cause(err))
		}
		list := strings.TrimSpace(string(cpus))
		if list == "" {
			list = "none"
		}
		parts = append(parts, fmt.Sprintf("%s (CPUs %s)", filepath.Base(dir), list))
	}
	return ok("%s", strings.Join(parts, ", "))
}

// checkCgroups looks for the controllers that libvirt puts guests under, in the unified
// hierarchy or the older one.
func (p *patient) checkCgroups(context.Context) verdict {
	have, version, err := p.cgroupControllers()
	if err != nil {
		return warning("Mount the cgroup hierarchy on /sys/fs/cgroup.", "no cgroups: %v", cause(err))
	}
	var missing []string
	for _, name := range cgroupControllers {
		if !slices.Contains(have, name) {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return warning("Turn them on with the kernel parameter cgroup_enable or in the parent's cgroup.subtree_control.",
			"cgroup %s without %s: limits and pinning that need them fail", version, strings.Join(missing, ", "))
	}
	return ok("cgroup %s with %s", version, strings.Join(cgroupControllers, ", "))
}

// cgroupControllers are what guests' CPU shares, pinning and memory limits need.
var cgroupControllers = []string{"cpu", "cpuset", "memory"}

func (p *patient) cgroupControllers() (names []string, version string, err error) {
	data, err := os.ReadFile(p.path("sys/fs/cgroup/cgroup.controllers"))
	if err == nil {
		return strings.Fields(string(data)), "v2", nil
	}
	entries, err := os.ReadDir(p.path("sys/fs/cgroup"))
	for _, e := range entries {
		if e.IsDir() {
			// "cpu,cpuacct" is one hierarchy with both.
			names = append(names, strings.Split(e.Name(), ",")...)
		}
	}
	if err == nil && len(names) == 0 {
		err = errors.New("/sys/fs/cgroup is empty")
	}
	return names, "v1", err
}

func (p *patient) checkOpenFiles(context.Context) verdict {
	limit, err := p.openFiles()
	if err != nil {
		return warning("Run doctor on Linux.", "the limit cannot be read: %v", err)
	}
	if limit < 4096 {
		return warning("Raise it: LimitNOFILE= in the unit, or ulimit -n.", "at most %d", limit)
	}
	return ok("at most %d", limit)
}

func (p *patient) checkClock(context.Context) verdict {
	source := "unknown"
	if data, err := os.ReadFile(p.path("sys/devices/system/clocksource/clocksource0/current_clocksource")); err == nil {
		source = strings.TrimSpace(string(data))
	}
	synced, err := p.clock()
	switch {
	case err != nil:
		return warning("Run doctor as root on the host itself.", "clock source %s; cannot be asked: %v", source, err)
	case !synced:
		return warning("Run chrony or systemd-timesyncd: tokens and records carry times.",
			"clock source %s; not synchronised", source)
	}
	return ok("clock source %s; synchronised", source)
}

func readInt(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}

// cause takes the path out of an error that the reader is told otherwise.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
