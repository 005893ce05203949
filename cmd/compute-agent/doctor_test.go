package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"compute-agent/compute"
	"compute-agent/internal/command"
	"compute-agent/store"
	"compute-agent/virt"
)

// hostTree makes a host's file system from paths and their contents; a path that ends in a slash
// is a directory.
func hostTree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.HasSuffix(path, "/") {
			err = os.MkdirAll(full, 0o755)
		} else {
			err = os.WriteFile(full, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// scriptedRunner answers programs by name; one that is not in it does not exist.
type scriptedRunner map[string]string

func (r scriptedRunner) Run(_ context.Context, c command.Cmd) ([]byte, error) {
	out, found := r[c.Name+" "+c.Args[0]]
	if !found {
		return nil, &command.Error{Program: c.Name, ExitCode: -1, Err: errors.New("executable file not found")}
	}
	return []byte(out), nil
}

// expect checks a verdict: its status, and words in its detail and remedy.
func expect(t *testing.T, got verdict, want status, words ...string) {
	t.Helper()
	if got.Status != want {
		t.Errorf("%s, want %s: %+v", got.Status, want, got)
	}
	if got.Status != statusOK && got.Remedy == "" {
		t.Errorf("no remedy: %+v", got)
	}
	for _, w := range words {
		if !strings.Contains(got.Detail+"\n"+got.Remedy, w) {
			t.Errorf("%+v does not say %q", got, w)
		}
	}
}

const (
	cpuWithVMX = "processor\t: 0\nflags\t\t: fpu vme vmx sse\n\nprocessor\t: 1\nflags\t\t: fpu vme vmx sse\n"
	cpuPlain   = "processor\t: 0\nflags\t\t: fpu vme vmxish sse\n"
)

func TestDoctorLooksAtTheHost(t *testing.T) {
	for _, c := range []struct {
		name   string
		files  map[string]string
		config func(*Config)
		check  func(*patient) verdict
		want   status
		words  []string
	}{
		{"vmx", map[string]string{"proc/cpuinfo": cpuWithVMX}, nil, cpu, statusOK, []string{"vmx"}},
		{"svm", map[string]string{"proc/cpuinfo": "flags : svm\n"}, nil, cpu, statusOK, []string{"svm"}},
		{"no virtualisation", map[string]string{"proc/cpuinfo": cpuPlain}, nil, cpu, statusWarning, []string{"slow"}},
		{"no virtualisation, kvm wanted", map[string]string{"proc/cpuinfo": cpuPlain}, virtType("kvm"), cpu, statusFailure, []string{"firmware"}},
		{"no virtualisation, none wanted", map[string]string{"proc/cpuinfo": cpuPlain}, virtType("qemu"), cpu, statusOK, []string{"not needed"}},
		{"cpuinfo without flags", map[string]string{"proc/cpuinfo": "Features : fp asimd\n"}, nil, cpu, statusWarning, []string{"x86-64"}},
		{"no cpuinfo", nil, nil, cpu, statusFailure, []string{"/proc"}},

		{"kvm device", map[string]string{"dev/kvm": ""}, nil, kvmDevice, statusOK, nil},
		{"no kvm device", nil, nil, kvmDevice, statusWarning, []string{"modprobe"}},
		{"no kvm device, wanted", nil, virtType("kvm"), kvmDevice, statusFailure, []string{"modprobe"}},
		{"kvm device is a directory", map[string]string{"dev/kvm/": ""}, nil, kvmDevice, statusWarning, []string{"cannot be opened"}},

		{"memory", map[string]string{"proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n"}, nil, memory, statusOK, []string{"8192 MiB, 4096 MiB available"}},
		{"memory used up", map[string]string{"proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 100000 kB\n"}, nil, memory, statusWarning, nil},
		{"reserve larger than memory", map[string]string{"proc/meminfo": "MemTotal: 262144 kB\nMemAvailable: 262144 kB\n"}, nil, memory, statusFailure, []string{"reserved_host_memory_mb"}},
		{"meminfo of nonsense", map[string]string{"proc/meminfo": "\x00garbage"}, nil, memory, statusFailure, []string{"MemTotal"}},

		{"huge pages", map[string]string{
			"sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages":   "512\n",
			"sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "500\n",
		}, nil, hugePages, statusOK, []string{"2048kB: 500 of 512 free"}},
		{"huge pages unreadable", map[string]string{"sys/kernel/mm/hugepages/hugepages-2048kB/": ""}, nil, hugePages, statusWarning, []string{"2048kB"}},
		{"no huge pages", nil, nil, hugePages, statusOK, []string{"hw:mem_page_size"}},

		{"NUMA nodes", map[string]string{
			"sys/devices/system/node/node0/cpulist": "0-3\n", "sys/devices/system/node/node1/cpulist": "\n",
		}, nil, numaNodes, statusOK, []string{"node0 (CPUs 0-3), node1 (CPUs none)"}},
		{"no NUMA nodes", nil, nil, numaNodes, statusOK, []string{"one node"}},

		{"cgroup v2", map[string]string{"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n"}, nil, cgroups, statusOK, []string{"v2"}},
		{"cgroup v2 without cpuset", map[string]string{"sys/fs/cgroup/cgroup.controllers": "cpu io memory\n"}, nil, cgroups, statusWarning, []string{"without cpuset"}},
		{"cgroup v1", map[string]string{"sys/fs/cgroup/cpu,cpuacct/": "", "sys/fs/cgroup/memory/": "", "sys/fs/cgroup/cpuset/": ""}, nil, cgroups, statusOK, []string{"v1"}},
		{"no cgroups", nil, nil, cgroups, statusWarning, []string{"/sys/fs/cgroup"}},

		{"virtlogd down", nil, nil, virtlogd, statusWarning, []string{"virtlogd"}},
		{"virtlogd unused", nil, func(c *Config) { c.Driver = "fake" }, virtlogd, statusOK, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &patient{root: hostTree(t, c.files), config: newConfig()}
			if c.config != nil {
				c.config(p.config)
			}
			expect(t, c.check(p), c.want, c.words...)
		})
	}
}

func virtType(v string) func(*Config) { return func(c *Config) { c.VirtType = v } }

func cpu(p *patient) verdict       { return p.checkCPU(context.Background()) }
func kvmDevice(p *patient) verdict { return p.checkKVMDevice(context.Background()) }
func memory(p *patient) verdict    { return p.checkMemory(context.Background()) }
func hugePages(p *patient) verdict { return p.checkHugePages(context.Background()) }
func numaNodes(p *patient) verdict { return p.checkNUMA(context.Background()) }
func cgroups(p *patient) verdict   { return p.checkCgroups(context.Background()) }
func virtlogd(p *patient) verdict  { return p.checkVirtlogd(context.Background()) }

func TestDoctorFindsVirtlogd(t *testing.T) {
	root, err := os.MkdirTemp("", "doctor") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	dir := filepath.Join(root, "run/libvirt")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "virtlogd-sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	p := &patient{root: root, config: newConfig()}
	expect(t, virtlogd(p), statusOK)
}

func TestDoctorLooksAtTheHypervisor(t *testing.T) {
	good := virt.Host{LibraryVersion: 9_000_000, HypervisorVersion: 7_002_022, VirtType: "kvm", Hostname: "node1", Emulator: "/usr/bin/qemu"}
	old := virt.Host{LibraryVersion: 7_009_009, HypervisorVersion: 6_001_999, VirtType: "qemu"}
	down := errors.New("connect to qemu:///system: unavailable")
	for _, c := range []struct {
		name  string
		h     hypervisor
		virt  string
		check func(*patient) verdict
		want  status
		words []string
	}{
		{"up", hypervisor{host: good}, "auto", connection, statusOK, []string{"node1"}},
		{"down", hypervisor{err: down}, "auto", connection, statusFailure, []string{"systemctl start libvirtd", "unavailable"}},
		{"libvirt", hypervisor{host: good}, "auto", libvirtVersion, statusOK, []string{"9.0.0"}},
		{"libvirt is old", hypervisor{host: old}, "auto", libvirtVersion, statusFailure, []string{"7.9.9", "8.0.0"}},
		{"libvirt is down", hypervisor{err: down}, "auto", libvirtVersion, statusWarning, nil},
		{"qemu", hypervisor{host: good}, "auto", qemuVersion, statusOK, []string{"7.2.22"}},
		{"qemu is old", hypervisor{host: old}, "auto", qemuVersion, statusFailure, []string{"6.1.999", "6.2.0"}},
		{"kvm", hypervisor{host: good}, "auto", guestType, statusOK, []string{"kvm"}},
		{"kvm, as wanted", hypervisor{host: good}, "kvm", guestType, statusOK, []string{"kvm"}},
		{"emulation", hypervisor{host: old}, "auto", guestType, statusWarning, []string{"slow"}},
		{"emulation, kvm wanted", hypervisor{host: old}, "kvm", guestType, statusFailure, []string{"virt_type"}},
		{"emulation, as wanted", hypervisor{host: old}, "qemu", guestType, statusOK, nil},
		{"unknown", hypervisor{err: down}, "kvm", guestType, statusWarning, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &patient{config: newConfig(), hypervisor: c.h}
			p.config.VirtType = c.virt
			expect(t, c.check(p), c.want, c.words...)
			p.config.Driver = "fake"
			expect(t, c.check(p), statusOK, "not used by driver fake")
		})
	}
}

func connection(p *patient) verdict     { return p.checkLibvirt(context.Background()) }
func libvirtVersion(p *patient) verdict { return p.checkLibvirtVersion(context.Background()) }
func qemuVersion(p *patient) verdict    { return p.checkQEMUVersion(context.Background()) }
func guestType(p *patient) verdict      { return p.checkVirtType(context.Background()) }

func TestDoctorLooksAtPCIDevices(t *testing.T) {
	const device = "sys/bus/pci/devices/0000:81:00.0/"
	files := map[string]string{device + "vendor": "0x10de\n", device + "device": "0x20b5\n", device + "class": "0x030200\n"}
	p := &patient{root: hostTree(t, files), config: newConfig()}
	expect(t, p.checkPCI(t.Context()), statusOK, "not set")
	p.config.PCIDeviceSpecs = []string{`{"vendor_id":"10de"}`}
	expect(t, p.checkPCI(t.Context()), statusFailure, "IOMMU")
	files["sys/kernel/iommu_groups/0/type"] = "DMA\n"
	p.root = hostTree(t, files)
	expect(t, p.checkPCI(t.Context()), statusOK, "1 that")
	p.config.PCIDeviceSpecs = append(p.config.PCIDeviceSpecs, `{"vendor_id":"8086"}`)
	p.config.PCIAliases = []string{`{"name":"gpu","vendor_id":"10de"}`, `{"name":"nic","vendor_id":"8086"}`}
	expect(t, p.checkPCI(t.Context()), statusWarning, `{"vendor_id":"8086"} and alias nic`)
	files[device+"vendor"] = "nvidia\n"
	p.root = hostTree(t, files)
	expect(t, p.checkPCI(t.Context()), statusFailure, "0000:81:00.0/vendor")
}

func TestDoctorRunsPrograms(t *testing.T) {
	all := scriptedRunner{
		"qemu-img --version":    "qemu-img version 7.2.22\nCopyright",
		"genisoimage --version": "genisoimage 1.1.11 (Linux)",
		"prlimit --version":     "prlimit from util-linux 2.38.1",
		"mkfs.ext4 -V":          "", // it tells its version elsewhere
		"mkfs.vfat --help":      "mkfs.fat 4.2 (2021-01-31)",
		"mkfs.ntfs --version":   "",
		"mkswap --version":      "mkswap from util-linux 2.38.1",
		"iptables --version":    "iptables v1.8.9 (nf_tables)",
		"iptables -w":           "",
		"ip6tables --version":   "ip6tables v1.8.9 (nf_tables)",
		"ipset --version":       "ipset v7.17",
		"nft --version":         "nftables v1.0.6",
		"dnsmasq --version":     "Dnsmasq version 2.90",
		"cryptsetup --version":  "cryptsetup 2.6.1",
	}
	p := &patient{config: newConfig(), runner: all}
	expect(t, p.checkPrograms(t.Context()), statusOK, "qemu-img version 7.2.22; genisoimage 1.1.11", "; mkfs.ext4; mkfs.ntfs; mkswap from util-linux 2.38.1; mkfs.fat 4.2")
	expect(t, p.checkIPTables(t.Context()), statusOK, "v1.8.9")

	p.runner = scriptedRunner{"qemu-img --version": "x", "iptables --version": "iptables v1.8.9"}
	expect(t, p.checkPrograms(t.Context()), statusFailure, "genisoimage (config drives), prlimit", "mkfs.ext4 (disks in ext4)",
		"apt-get install genisoimage util-linux iptables ipset nftables dnsmasq-base e2fsprogs")
	expect(t, p.checkIPTables(t.Context()), statusWarning, "cannot list rules")

	delete(all, "mkfs.ntfs --version")
	p.runner = all
	expect(t, p.checkPrograms(t.Context()), statusWarning, "do not run: mkfs.ntfs (disks in ntfs)", "apt-get install ntfs-3g")
	p.config.EphemeralFormat = "ext4"
	expect(t, p.checkPrograms(t.Context()), statusOK)
	p.config.ConfigDriveForm = "vfat"
	expect(t, p.checkPrograms(t.Context()), statusFailure, "mcopy (config drives in vfat)", "apt-get install mtools")

	p.config.ConfigDriveForm = "iso9660"
	p.config.Volume = volumeOptions{LUNs: "/luns.json", Initiator: "host", Multipath: true, Group: "vg"}
	expect(t, p.checkPrograms(t.Context()), statusFailure, "lvs (volume_group), iscsiadm (LUNs by iSCSI), multipath (volume_use_multipath)",
		"apt-get install lvm2 open-iscsi multipath-tools")
	p.config.Volume = volumeOptions{LUNs: "/luns.json", Initiator: "qemu"}
	expect(t, p.checkPrograms(t.Context()), statusFailure, "do not run: iscsi-inq", "apt-get install libiscsi-bin")

	p.runner = scriptedRunner{}
	expect(t, p.checkIPTables(t.Context()), statusWarning, "apt-get install iptables")
}

func TestDoctorLooksAtLimitsAndClock(t *testing.T) {
	p := &patient{root: hostTree(t, map[string]string{"sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n"})}
	p.openFiles = func() (uint64, error) { return 1024, nil }
	expect(t, p.checkOpenFiles(t.Context()), statusWarning, "1024", "LimitNOFILE")
	p.openFiles = func() (uint64, error) { return 65536, nil }
	expect(t, p.checkOpenFiles(t.Context()), statusOK, "65536")
	p.clock = func() (bool, error) { return false, nil }
	expect(t, p.checkClock(t.Context()), statusWarning, "tsc", "chrony")
	p.clock = func() (bool, error) { return true, nil }
	expect(t, p.checkClock(t.Context()), statusOK, "synchronised")
	p.clock = func() (bool, error) { return false, syscall.EPERM }
	expect(t, p.checkClock(t.Context()), statusWarning, "not permitted")
}

func TestDoctorLooksAtNetworks(t *testing.T) {
	p := &patient{root: hostTree(t, nil), config: newConfig()}
	p.config.StateDir = t.TempDir()
	made := func(links, namespaces []string, err error) {
		p.made = func(context.Context) ([]string, []string, error) { return links, namespaces, err }
	}
	made(nil, nil, nil)
	expect(t, p.checkNetworks(t.Context()), statusOK, "none")
	made(nil, nil, syscall.EPERM)
	expect(t, p.checkNetworks(t.Context()), statusWarning, "not permitted", "root")
	made([]string{"brq1", "tap1", "tap2", "tap3", "tap4"}, []string{"qdhcp-1"}, nil)
	expect(t, p.checkNetworks(t.Context()), statusWarning, "5 links and 1 namespaces", "qdhcp-1, brq1, tap1, tap2, tap3", "network clear")
}

// dirInfo is a directory of an owner, a group and a mode.
type dirInfo struct {
	fs.FileInfo
	stat syscall.Stat_t
	mode fs.FileMode
}

func (d dirInfo) Mode() fs.FileMode { return d.mode }
func (d dirInfo) Sys() any          { return &d.stat }

func TestMayPass(t *testing.T) {
	const uid, gid = 64055, 107
	for _, c := range []struct {
		owner, group uint32
		mode         fs.FileMode
		want         bool
	}{
		{0, 0, 0o711, true},
		{0, 0, 0o755, true},
		{0, 0, 0o750, false},
		{0, gid, 0o710, true},
		{0, gid, 0o701, false}, // the group's bits count, not the others'
		{uid, 0, 0o100, true},
		{uid, gid, 0o011, false}, // the owner's bits count
	} {
		dir := dirInfo{stat: syscall.Stat_t{Uid: c.owner, Gid: c.group}, mode: c.mode}
		if got := mayPass(dir, fmt.Sprint(uid), []string{"5", fmt.Sprint(gid)}); got != c.want {
			t.Errorf("%d:%d %04o: %v, want %v", c.owner, c.group, c.mode, got, c.want)
		}
	}
}

func TestDoctorLooksAtTheStateDirectory(t *testing.T) {
	base := t.TempDir()
	p := &patient{root: "/", config: newConfig(), lookupUser: func(name string) (*user.User, []string, error) {
		if name != "libvirt-qemu" {
			return nil, nil, user.UnknownUserError(name)
		}
		return &user.User{Uid: "64055"}, []string{"64055"}, nil
	}}
	p.config.StateDir = filepath.Join(base, "a/b")
	expect(t, p.checkStateDir(t.Context()), statusOK, "will be made")
	expect(t, p.checkDisk(t.Context()), p.checkDisk(t.Context()).Status, base)
	expect(t, p.checkLeftovers(t.Context()), statusOK, "no database")

	closed := filepath.Join(base, "closed")
	p.config.StateDir = filepath.Join(closed, "state")
	if err := os.MkdirAll(p.config.StateDir, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	expect(t, p.checkStateDir(t.Context()), statusOK, "can be written")
	expect(t, p.checkQEMUAccess(t.Context()), statusFailure, "chmod o+x "+closed)
	p.lookupUser = func(name string) (*user.User, []string, error) { return nil, nil, user.UnknownUserError(name) }
	expect(t, p.checkQEMUAccess(t.Context()), statusOK, "somebody else")
}

func TestDoctorFindsLeftoversAndARunningAgent(t *testing.T) {
	p := &patient{root: "/", config: newConfig()}
	p.config.StateDir = t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	p.config.Listen = l.Addr().String()
	expect(t, p.checkAPIAddress(t.Context()), statusFailure, "in use")

	s, err := store.Open(filepath.Join(p.config.StateDir, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, p.checkAPIAddress(t.Context()), statusOK, "the agent is running")
	server := compute.Server{ID: "11111111-1111-4111-8111-111111111111", VM: compute.Active, Image: compute.ImageRef{Checksum: "abc"}}
	err = s.Update(t.Context(), func(w compute.Writer) error {
		_, err := w.InsertServer(server)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"instances/" + server.ID, "images/abc", "images/.upload-1"} {
		if err := os.MkdirAll(filepath.Join(p.config.StateDir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, p.checkLeftovers(t.Context()), statusOK, "1 servers")
	stray := filepath.Join(p.config.StateDir, "instances/22222222-2222-4222-8222-222222222222")
	if err := os.Mkdir(stray, 0o755); err != nil {
		t.Fatal(err)
	}
	expect(t, p.checkLeftovers(t.Context()), statusWarning, stray)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, p.checkAPIAddress(t.Context()), statusFailure, "in use")
}

func TestDoctorLooksAtAddressesAndTheConfigurationFile(t *testing.T) {
	p := &patient{root: "/", config: newConfig()}
	p.config.Listen, p.config.MetricsListen = "0.0.0.0:0", ""
	expect(t, p.checkAPIAddress(t.Context()), statusWarning, "tls_cert")
	p.config.TLSCert = "/c"
	expect(t, p.checkAPIAddress(t.Context()), statusOK)
	expect(t, p.checkMetricsAddress(t.Context()), statusOK, "off")
	p.config.Listen = "192.0.2.1:1" // TEST-NET-1: nobody's address
	expect(t, p.checkAPIAddress(t.Context()), statusFailure, "192.0.2.1:1")

	expect(t, p.checkConfigFile(t.Context()), statusOK)
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p.config.origin["admin_password"] = path + ":3"
	expect(t, p.checkConfigFile(t.Context()), statusWarning, "chmod 600 "+path)
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, p.checkConfigFile(t.Context()), statusOK)
	p.config.origin["admin_password"] = "environment COMPUTE_AGENT_ADMIN_PASSWORD"
	expect(t, p.checkConfigFile(t.Context()), statusOK)
}

func TestDoctorLooksAtConsoles(t *testing.T) {
	p := &patient{root: "/", config: newConfig()}
	o := &p.config.Console
	o.Listen = "127.0.0.1:0"
	expect(t, p.checkConsoles(t.Context()), statusOK)
	o.Listen = "0.0.0.0:0"
	expect(t, p.checkConsoles(t.Context()), statusWarning, "console_tls_cert")
	o.TLSCert, o.TLSKey = "/nowhere/cert", "/nowhere/key"
	expect(t, p.checkConsoles(t.Context()), statusFailure, "console_tls_cert and console_tls_key")
	o.TLSCert, o.TLSKey, o.Listen = "", "", "127.0.0.1:0"
	o.VNCCA = "/nowhere/ca"
	expect(t, p.checkConsoles(t.Context()), statusFailure, "/nowhere/ca")
	o.VNCCA = ""
	p.config.VNCListen = "0.0.0.0"
	expect(t, p.checkConsoles(t.Context()), statusWarning, "vnc_listen 0.0.0.0", "past the tokens")
	p.config.VNCListen = "::1"
	o.Enabled = false
	expect(t, p.checkConsoles(t.Context()), statusOK, "off")
	o.Enabled, o.Listen = true, "192.0.2.1:1" // TEST-NET-1: nobody's address
	expect(t, p.checkConsoles(t.Context()), statusFailure, "192.0.2.1:1")
}
