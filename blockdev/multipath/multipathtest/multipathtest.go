// Package multipathtest has the programs multipath and multipathd for tests: they make and remove maps in the tree of a scsitest.Kernel, by
// the rules of find_multipaths. Their words and exit codes are those of multipath-tools 0.9.4.
package multipathtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"compute-agent/blockdev/scsi/scsitest"
	"compute-agent/internal/command"
)

// Daemon is a command.Runner.
type Daemon struct {
	Kernel *scsitest.Kernel
	// Find is find_multipaths: no, yes or strict.
	Find    string
	Stopped bool
	// Blacklisted are paths that multipathd does not take.
	Blacklisted []string
	// Glances is how often a map is found in use that nobody holds, because udev looks at it.
	Glances int

	mu    sync.Mutex
	calls []string
	wwids []string
	known []string // paths
	next  int
}

// Calls returns the programs that ran, each with its arguments.
func (d *Daemon) Calls() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// WWIDs is the file of WWIDs.
func (d *Daemon) WWIDs() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.wwids)
}

// Run implements command.Runner.
func (d *Daemon) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.Kernel.Event()
	line := c.Name + " " + strings.Join(c.Args, " ")
	d.calls = append(d.calls, line)
	failed := &command.Error{Program: c.Name, ExitCode: 1, Err: fmt.Errorf("exit status 1")}
	args := c.Args
	switch {
	case c.Name == "multipath" && len(args) == 2 && args[0] == "-a":
		d.wwids = append(d.wwids, args[1])
		return fmt.Appendf(nil, "wwid '%s' added\n", args[1]), nil
	case c.Name == "multipath" && len(args) == 2 && args[0] == "-w":
		d.wwids = slices.DeleteFunc(d.wwids, func(w string) bool { return w == args[1] })
		return nil, nil
	case c.Name == "multipath" && len(args) == 4 && args[2] == "-f":
		d.Glances--
		if d.Glances >= 0 || !d.flush(args[3]) {
			failed.Stderr = args[3] + ": map in use"
			return nil, failed
		}
		return nil, nil
	case c.Name != "multipathd":
		return nil, &command.Error{Program: c.Name, ExitCode: -1, Err: fmt.Errorf("unknown: %s", line)}
	case d.Stopped:
		return nil, failed
	}
	out, ok := d.answer(args)
	if !ok {
		return []byte(out), failed
	}
	return []byte(out + "\n"), nil
}

func (d *Daemon) answer(args []string) (string, bool) {
	switch line := strings.Join(args, " "); {
	case line == "show daemon":
		return "pid 634 idle", true
	case len(args) == 3 && strings.HasPrefix(line, "add path "):
		if slices.Contains(d.Blacklisted, args[2]) {
			return "blacklisted", true
		}
		d.known = append(d.known, args[2])
		d.coalesce(args[2])
		return "ok", true
	case len(args) == 3 && strings.HasPrefix(line, "del path "):
		return d.forget(args[2])
	case len(args) == 3 && strings.HasPrefix(line, "resize map "):
		return d.resize(args[2])
	case len(args) == 4 && strings.HasPrefix(line, "show map "):
		return d.show(args[2])
	}
	return "fail", false
}

func (d *Daemon) read(parts ...string) string {
	data, _ := os.ReadFile(filepath.Join(append([]string{d.Kernel.Root}, parts...)...))
	return strings.TrimSpace(string(data))
}

// wwid is what udev's record says of a path.
func (d *Daemon) wwid(path string) string {
	record := d.read("run/udev/data", "b"+d.read("sys/class/block", path, "dev"))
	for line := range strings.Lines(record) {
		if wwid, ok := strings.CutPrefix(strings.TrimSpace(line), "E:ID_SERIAL="); ok {
			return wwid
		}
	}
	return ""
}

func (d *Daemon) device(wwid string) string {
	entries, _ := os.ReadDir(filepath.Join(d.Kernel.Root, "sys/block"))
	for _, e := range entries {
		if d.read("sys/block", e.Name(), "dm/uuid") == "mpath-"+wwid {
			return e.Name()
		}
	}
	return ""
}

// coalesce makes a map of a path, or adds it to the map of its disk.
func (d *Daemon) coalesce(path string) {
	wwid := d.wwid(path)
	if wwid == "" {
		return
	}
	same := 0
	for _, p := range d.known {
		if d.wwid(p) == wwid {
			same++
		}
	}
	device := d.device(wwid)
	if device == "" {
		wanted := slices.Contains(d.wwids, wwid) || d.Find == "no" || d.Find == "yes" && same > 1
		if !wanted {
			return
		}
		device = fmt.Sprintf("dm-%d", 10+d.next)
		d.make(device, wwid, path)
	}
	d.Kernel.Set("sys/devices/virtual/block/"+device+"/slaves/"+path, "-> ../../../../../block/"+path)
	d.Kernel.Set("sys/block/"+path+"/holders/"+device, "-> ../../../../../../../devices/virtual/block/"+device)
}

func (d *Daemon) make(device, wwid, path string) {
	number := fmt.Sprintf("253:%d", 10+d.next)
	d.next++
	dir := "sys/devices/virtual/block/" + device
	for file, text := range map[string]string{
		dir + "/dm/name": wwid + "\n", dir + "/dm/suspended": "0\n", dir + "/dev": number + "\n", dir + "/holders/": "", dir + "/stat": "1 0 8 0 0 0 0 0 0 0 0\n",
		dir + "/size": d.read("sys/block", path, "size") + "\n", "dev/" + device: "",
		"dev/disk/by-id/dm-uuid-mpath-" + wwid: "-> ../../" + device,
		"run/udev/data/b" + number:             "S:disk/by-id/dm-uuid-mpath-" + wwid + "\n",
		"sys/class/block/" + device:            "-> ../../devices/virtual/block/" + device,
		"sys/block/" + device:                  "-> ../devices/virtual/block/" + device,
	} {
		d.Kernel.Set(file, text)
	}
	d.Kernel.Set(dir+"/dm/uuid", "mpath-"+wwid+"\n")
}

func (d *Daemon) paths(device string) []string {
	entries, _ := os.ReadDir(filepath.Join(d.Kernel.Root, "sys/block", device, "slaves"))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// flush removes a map that nobody holds.
func (d *Daemon) flush(wwid string) bool {
	device := d.device(wwid)
	if device == "" {
		return false
	}
	if holders, _ := os.ReadDir(filepath.Join(d.Kernel.Root, "sys/block", device, "holders")); len(holders) > 0 || d.Kernel.Exclusive("/dev/"+device) != nil {
		return false
	}
	number := d.read("sys/block", device, "dev")
	for _, path := range d.paths(device) {
		d.Kernel.Unset("sys/block/" + path + "/holders/" + device)
	}
	for _, file := range []string{"sys/block/" + device, "sys/class/block/" + device, "sys/devices/virtual/block/" + device, "dev/" + device,
		"dev/disk/by-id/dm-uuid-mpath-" + wwid, "run/udev/data/b" + number} {
		d.Kernel.Unset(file)
	}
	return true
}

// forget takes a path out of its map; the last one only with the map.
func (d *Daemon) forget(path string) (string, bool) {
	d.known = slices.DeleteFunc(d.known, func(p string) bool { return p == path })
	holders, _ := os.ReadDir(filepath.Join(d.Kernel.Root, "sys/block", path, "holders"))
	for _, h := range holders {
		wwid, ours := strings.CutPrefix(d.read("sys/block", h.Name(), "dm/uuid"), "mpath-")
		switch {
		case !ours:
		case len(d.paths(h.Name())) > 1:
			d.Kernel.Unset("sys/devices/virtual/block/" + h.Name() + "/slaves/" + path)
			d.Kernel.Unset("sys/block/" + path + "/holders/" + h.Name())
		case !d.flush(wwid):
			return "map in use", true
		}
	}
	return "ok", true
}

func (d *Daemon) resize(wwid string) (string, bool) {
	device := d.device(wwid)
	if device == "" {
		return "fail", false
	}
	d.Kernel.Set("sys/devices/virtual/block/"+device+"/size", d.read("sys/block", d.paths(device)[0], "size")+"\n")
	return "ok", true
}

func (d *Daemon) show(wwid string) (string, bool) {
	device := d.device(wwid)
	if device == "" {
		return "fail", false
	}
	var paths []string
	for _, p := range d.paths(device) {
		paths = append(paths, fmt.Sprintf(`{"dev": %q, "dm_st": "active", "dev_st": "running", "chk_st": "ready"}`, p))
	}
	return fmt.Sprintf(`{"major_version": 0, "minor_version": 1, "map": {"name": %q, "uuid": %q, "sysfs": %q, "path_groups": [{"group": 1, "paths": [%s]}]}}`,
		wwid, wwid, device, strings.Join(paths, ", ")), true
}
