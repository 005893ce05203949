package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"compute-agent/image"
	"compute-agent/internal/command"
)

// program is one that the agent runs.
type program struct {
	name, version string // version: the argument that makes it print its version, or end well without doing anything
	use           string
	debian        string // the package that has it
	seldom        bool   // most hosts do without
}

var programs = []program{
	{"qemu-img", "--version", "disks", "qemu-utils", false},
	{"genisoimage", "--version", "config drives", "genisoimage", false},
	{"prlimit", "--version", "limits on programs that read images", "util-linux", false},
}

// networkPrograms are run for networks.
var networkPrograms = []program{
	{"iptables", "--version", "filters", "iptables", false},
	{"ip6tables", "--version", "filters", "iptables", false},
	{"ipset", "--version", "security groups", "ipset", false},
	{"nft", "--version", "filters of bridges", "nftables", false},
	{"dnsmasq", "--version", "DHCP", "dnsmasq-base", false},
}

// volumePrograms are those that the configured ways to volumes need. Encrypted volumes are seldom.
func volumePrograms(c *Config) []program {
	all := []program{{"cryptsetup", "--version", "encrypted volumes", "cryptsetup-bin", true}}
	v := &c.Volume
	if v.Group != "" {
		all = append(all, program{"lvs", "--version", "volume_group", "lvm2", false})
	}
	if v.LUNs == "" {
		return all
	}
	if v.Initiator == "qemu" {
		all = append(all, program{"iscsi-inq", "--help", "LUNs that QEMU reaches", "libiscsi-bin", false})
	} else {
		all = append(all, program{"iscsiadm", "--version", "LUNs by iSCSI", "open-iscsi", false})
	}
	if v.Multipath {
		all = append(all, program{"multipath", "-h", "volume_use_multipath", "multipath-tools", false})
	}
	return all
}

// needed are the programs that the configuration has the agent run.
func needed(c *Config) []program {
	formats := map[image.FileSystem]bool{image.Swap: true} // and whether most hosts need them
	if fixed := c.ephemeral(); fixed != "" {
		formats[fixed] = true
	} else {
		formats[image.Ext4], formats[image.VFAT], formats[image.NTFS] = true, true, false
	}
	all := slices.Clone(programs)
	if c.networked() {
		all = append(all, networkPrograms...)
	}
	if c.ConfigDriveForm == "vfat" {
		formats[image.VFAT] = true
		all = append(all, program{"mcopy", "--version", "config drives in vfat", "mtools", false})
	}
	for _, f := range slices.Sorted(maps.Keys(formats)) {
		name, debian := f.Formatter()
		all = append(all, program{name, formatterVersion[f], "disks in " + string(f), debian, !formats[f]})
	}
	return append(all, volumePrograms(c)...)
}

var formatterVersion = map[image.FileSystem]string{
	image.Ext2: "-V", image.Ext3: "-V", image.Ext4: "-V", image.XFS: "-V", image.VFAT: "--help", image.NTFS: "--version", image.Swap: "--version",
}

func (p *patient) checkPrograms(ctx context.Context) verdict {
	var found, missing, packages []string
	report := warning
	for _, prog := range needed(p.config) {
		out, err := p.runner.Run(ctx, command.Cmd{Name: prog.name, Args: []string{prog.version}})
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s (%s)", prog.name, prog.use))
			packages = append(packages, prog.debian)
			if !prog.seldom {
				report = failure
			}
			continue
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		found = append(found, cmp.Or(line, prog.name))
	}
	if missing != nil {
		return report("apt-get install "+strings.Join(slices.Compact(packages), " "), "do not run: %s", strings.Join(missing, ", "))
	}
	return ok("%s", strings.Join(found, "; "))
}

// checkIPTables asks the kernel for a chain; that also tells whether this process may.
func (p *patient) checkIPTables(ctx context.Context) verdict {
	const name = "iptables"
	version, err := p.runner.Run(ctx, command.Cmd{Name: name, Args: []string{"--version"}})
	if err != nil {
		return warning("apt-get install iptables; servers without networks run without it.", "does not run: %v", err)
	}
	_, err = p.runner.Run(ctx, command.Cmd{Name: name, Args: []string{"-w", "5", "-n", "-L", "FORWARD"}})
	if err != nil {
		return warning("Run as root on a kernel with netfilter; servers without networks run without it.", "cannot list rules: %v", err)
	}
	return ok("%s", strings.TrimSpace(string(version)))
}

// checkVirtlogd looks for the daemon that libvirt by default has write the console logs.
func (p *patient) checkVirtlogd(ctx context.Context) verdict {
	if p.config.Driver != "libvirt" {
		return ok("not used by driver %s", p.config.Driver)
	}
	if p.boundless() {
		return warning("Take the line out, systemctl start virtlogd.socket, and restart libvirtd; guests change over when they are next stopped and started.",
			"not used: stdio_handler is \"file\" in %s, so that nothing bounds or rotates console logs, and a guest can fill the file system of %s", qemuConf, p.config.StateDir)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", p.path("run/libvirt/virtlogd-sock"))
	if err != nil {
		return warning("Start it: systemctl start virtlogd.socket (stdio_handler = \"file\" in qemu.conf does without it, and leaves console logs unbounded).",
			"does not answer on /run/libvirt/virtlogd-sock; guests with a console log fail to start")
	}
	_ = conn.Close() // it was only a question
	return ok("answers")
}
