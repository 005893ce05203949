package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"compute-agent/internal/command"
)

// program is one that the agent runs.
type program struct {
	name, version string // version: the argument that makes it print its version
	use           string
	debian        string // the package that has it
}

var programs = []program{
	{"qemu-img", "--version", "disks", "qemu-utils"},
	{"genisoimage", "--version", "config drives", "genisoimage"},
	{"prlimit", "--version", "limits on programs that read images", "util-linux"},
}

func (p *patient) checkPrograms(ctx context.Context) verdict {
	var found, missing, packages []string
	for _, prog := range programs {
		out, err := p.runner.Run(ctx, command.Cmd{Name: prog.name, Args: []string{prog.version}})
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s (%s)", prog.name, prog.use))
			packages = append(packages, prog.debian)
			continue
		}
		line, _, _ := strings.Cut(string(out), "\n")
		found = append(found, strings.TrimSpace(line))
	}
	if missing != nil {
		return failure("apt-get install "+strings.Join(packages, " "), "do not run: %s", strings.Join(missing, ", "))
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
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", p.path("run/libvirt/virtlogd-sock"))
	if err != nil {
		return warning("Start it: systemctl start virtlogd.socket (or set stdio_handler = \"file\" in qemu.conf).",
			"does not answer on /run/libvirt/virtlogd-sock; guests with a console log fail to start")
	}
	_ = conn.Close() // it was only a question
	return ok("answers")
}
