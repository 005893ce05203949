//go:build lab

package storage

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// LIO is told what to serve by files and links of configfs (Documentation/target/tcm_mod_builder.rst). All that a test makes goes with it.

const lio = "/sys/kernel/config/target"

// backstore is a disk that LIO serves.
type backstore struct {
	t      testing.TB
	name   string
	file   string
	loop   string // the block device of the file, of one that can grow
	dir    string // in configfs
	serial string // 25 of its digits are in the WWID
}

// newBackstore makes a disk of a sparse file. Its WWID is that of its serial number, a UUID.
func newBackstore(t testing.TB, name, serial string, bytes int64) *backstore {
	t.Helper()
	b := newFile(t, name, serial, bytes)
	b.enable("fileio_0", fmt.Sprintf("fd_dev_name=%s,fd_dev_size=%d,fd_buffered_io=1", b.file, bytes))
	return b
}

// newGrowingBackstore makes one whose size can be changed: LIO asks a block device for its size each time, and a file never.
func newGrowingBackstore(t testing.TB, name, serial string, bytes int64) *backstore {
	t.Helper()
	b := newFile(t, name, serial, bytes)
	b.loop = strings.TrimSpace(run(t, "losetup", "--find", "--show", b.file))
	t.Cleanup(func() { run(t, "losetup", "--detach", b.loop) })
	b.enable("iblock_0", "udev_path="+b.loop)
	return b
}

func newFile(t testing.TB, name, serial string, bytes int64) *backstore {
	t.Helper()
	run(t, "modprobe", "-a", "target_core_mod", "target_core_file", "target_core_iblock")
	b := &backstore{t: t, name: name, serial: serial, file: filepath.Join(t.TempDir(), name+".img")}
	file, err := os.Create(b.file)
	if err == nil {
		err = file.Truncate(bytes)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *backstore) enable(hba, control string) {
	b.t.Helper()
	b.dir = filepath.Join(lio, "core", hba, b.name)
	makeDir(b.t, b.dir)
	put(b.t, b.dir+"/control", control)
	put(b.t, b.dir+"/wwn/vpd_unit_serial", b.serial)
	put(b.t, b.dir+"/enable", "1")
	b.t.Cleanup(func() { remove(b.t, b.dir) })
}

// wwid is what the initiator's kernel calls the disk: LIO's own NAA 6 with the first 25 digits of the serial number.
func (b *backstore) wwid() string {
	return "naa.6001405" + strings.ReplaceAll(b.serial, "-", "")[:25]
}

// grow makes the disk larger.
func (b *backstore) grow(bytes int64) {
	b.t.Helper()
	if err := os.Truncate(b.file, bytes); err != nil {
		b.t.Fatal(err)
	}
	run(b.t, "losetup", "--set-capacity", b.loop)
}

// group is a portal group of a target, of any fabric.
type group struct {
	t         testing.TB
	dir       string // in configfs
	initiator string // the name that may log in
	user      string // and as whom; empty for anybody
	password  string
	portals   []string
	shown     map[int]*backstore // by LUN
	up        bool
}

// newGroup makes a portal group and lets one initiator in: an IQN of iscsi, a WWPN with colons of fc.
func newGroup(t testing.TB, fabric, name, initiator string, portals ...string) *group {
	t.Helper()
	g := &group{
		t: t, dir: filepath.Join(lio, fabric, name, "tpgt_1"), initiator: initiator, portals: portals, shown: map[int]*backstore{},
	}
	t.Cleanup(g.stop)
	g.start()
	return g
}

// chap makes the initiator log in as a user.
func (g *group) chap(user, password string) {
	g.t.Helper()
	g.user, g.password = user, password
	g.auth()
	put(g.t, g.dir+"/attrib/authentication", "1")
}

func (g *group) auth() {
	if g.user == "" {
		return
	}
	put(g.t, g.acl()+"/auth/userid", g.user)
	put(g.t, g.acl()+"/auth/password", g.password)
}

func (g *group) acl() string { return filepath.Join(g.dir, "acls", g.initiator) }

// show makes a LUN of a disk.
func (g *group) show(lun int, b *backstore) {
	g.t.Helper()
	g.shown[lun] = b
	g.link(lun, b)
	g.t.Cleanup(func() { g.hide(lun) }) // before its disk goes, which may be younger than the group
}

func (g *group) link(lun int, b *backstore) {
	g.t.Helper()
	name := fmt.Sprintf("lun_%d", lun)
	makeDir(g.t, filepath.Join(g.dir, "lun", name))
	link(g.t, b.dir, filepath.Join(g.dir, "lun", name, "disk"))
	makeDir(g.t, filepath.Join(g.acl(), name))
	link(g.t, filepath.Join(g.dir, "lun", name), filepath.Join(g.acl(), name, "lun"))
}

// hide takes a LUN away.
func (g *group) hide(lun int) {
	g.t.Helper()
	if g.shown[lun] != nil && g.up {
		g.unlink(lun)
	}
	delete(g.shown, lun)
}

func (g *group) unlink(lun int) {
	name := fmt.Sprintf("lun_%d", lun)
	remove(g.t, filepath.Join(g.acl(), name, "lun"))
	remove(g.t, filepath.Join(g.acl(), name))
	remove(g.t, filepath.Join(g.dir, "lun", name, "disk"))
	remove(g.t, filepath.Join(g.dir, "lun", name))
}

// start makes all of the group that was there when it was stopped.
func (g *group) start() {
	g.t.Helper()
	if g.up {
		return
	}
	g.up = true
	if strings.Contains(g.dir, "/iscsi/") {
		run(g.t, "modprobe", "iscsi_target_mod")
	} else {
		run(g.t, "modprobe", "tcm_fc")
	}
	makeDir(g.t, g.dir)
	for _, portal := range g.portals {
		makeDir(g.t, filepath.Join(g.dir, "np", portal))
	}
	makeDir(g.t, g.acl())
	for lun, b := range g.shown {
		g.link(lun, b)
	}
	g.auth()
	if len(g.portals) > 0 {
		put(g.t, g.dir+"/attrib/authentication", map[bool]string{true: "1", false: "0"}[g.user != ""])
		put(g.t, g.dir+"/enable", "1")
	}
}

// stop takes the group away with its target, as a storage server that is switched off does.
func (g *group) stop() {
	g.t.Helper()
	if !g.up {
		return
	}
	g.up = false
	if len(g.portals) > 0 {
		put(g.t, g.dir+"/enable", "0")
	}
	for lun := range g.shown {
		g.unlink(lun)
	}
	remove(g.t, g.acl())
	for _, portal := range g.portals {
		remove(g.t, filepath.Join(g.dir, "np", portal))
	}
	remove(g.t, g.dir)
	_ = os.Remove(filepath.Dir(g.dir)) // fails as long as it has another group
}

func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func put(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

func makeDir(t testing.TB, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
}
