//go:build lab

package storage

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/fibrechannel"
	luns "compute-agent/blockdev/lun"
	"compute-agent/blockdev/multipath"
	"compute-agent/blockdev/scsi"
	"compute-agent/internal/command"
)

// fcPath is a host's port and an array's, each a network interface with FCoE between them (VN2VN, without a switch).
type fcPath struct {
	t     testing.TB
	nic   string // of the initiator
	wwpn  string // of the initiator, without colons
	far   string // WWPN of the target, without colons
	group *group
}

// newFCPath makes both ports. The target is there before the initiator logs in, or it would refuse it.
func newFCPath(t testing.TB, near, far string) *fcPath {
	t.Helper()
	run(t, "modprobe", "-a", "libfcoe", "fcoe", "tcm_fc")
	run(t, "ip", "link", "add", near, "type", "veth", "peer", "name", far)
	t.Cleanup(func() { run(t, "ip", "link", "delete", near) })
	for _, nic := range []string{near, far} {
		run(t, "ip", "link", "set", nic, "mtu", "2500", "up")
	}
	newController(t, far)
	p := &fcPath{t: t, nic: near, wwpn: bareWWPN(t, near), far: bareWWPN(t, far)}
	p.group = newGroup(t, "fc", colons(p.far), colons(p.wwpn))
	newController(t, near)
	p.wait(true)
	return p
}

// newController makes a port of a network interface, by libfcoe's files (Documentation/ABI/testing/sysfs-bus-fcoe).
func newController(t testing.TB, nic string) {
	t.Helper()
	put(t, "/sys/bus/fcoe/ctlr_create", nic)
	t.Cleanup(func() { put(t, "/sys/bus/fcoe/ctlr_destroy", nic) })
	put(t, controller(t, nic)+"/mode", "vn2vn")
	put(t, controller(t, nic)+"/enabled", "1")
}

func controller(t testing.TB, nic string) string {
	t.Helper()
	found, err := filepath.Glob("/sys/class/net/" + nic + "/ctlr_*")
	if err != nil || len(found) != 1 {
		t.Fatalf("controllers of %s: %v, %v", nic, found, err)
	}
	return found[0]
}

// bareWWPN is what libfcoe makes of the address of a network interface.
func bareWWPN(t testing.TB, nic string) string {
	t.Helper()
	mac, err := os.ReadFile("/sys/class/net/" + nic + "/address")
	if err != nil {
		t.Fatal(err)
	}
	return "2000" + strings.ReplaceAll(strings.TrimSpace(string(mac)), ":", "")
}

func colons(wwpn string) string {
	var parts []string
	for i := 0; i < len(wwpn); i += 2 {
		parts = append(parts, wwpn[i:i+2])
	}
	return strings.Join(parts, ":")
}

// cut takes the initiator's port away from the fabric, restore brings it back. Both return when the kernel has noticed.
func (p *fcPath) cut() {
	p.t.Helper()
	put(p.t, controller(p.t, p.nic)+"/enabled", "0")
	p.wait(false)
}

func (p *fcPath) restore() {
	p.t.Helper()
	put(p.t, controller(p.t, p.nic)+"/enabled", "1")
	p.wait(true)
}

// wait waits for the state of the array's port as the host's sees it. The kernel sends no event of it.
func (p *fcPath) wait(online bool) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		states, _ := filepath.Glob("/sys/class/fc_remote_ports/rport-*")
		for _, dir := range states {
			name, _ := os.ReadFile(dir + "/port_name")
			state, _ := os.ReadFile(dir + "/port_state")
			target, _ := os.ReadFile(dir + "/scsi_target_id")
			there := strings.TrimSpace(string(state)) == "Online" && strings.TrimSpace(string(target)) != "-1"
			if strings.TrimSpace(string(name)) == "0x"+p.far && there == online {
				return
			}
		}
	}
	p.t.Fatalf("port %s does not become online=%v", p.far, online)
}

func newFC(o luns.Host) *fibrechannel.Connector {
	o.SCSI = scsi.Host()
	o.Maps = multipath.Daemon{SCSI: o.SCSI, Commands: command.Exec{}}
	o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	return fibrechannel.New(fibrechannel.Options{LUN: o, Log: o.Log})
}

func fcInfo(number int, paths ...*fcPath) connector.Info {
	info := connector.Info{Type: connector.FibreChannel, FC: &connector.FCInfo{Map: map[string][]connector.FCTarget{}}}
	for _, p := range paths {
		target := connector.FCTarget{WWPN: p.far, LUN: number}
		info.FC.Targets = append(info.FC.Targets, target)
		info.FC.Map[p.wwpn] = []connector.FCTarget{target}
	}
	return info
}

func fcContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// useDisk writes random bytes past the page cache and reads them back.
func useDisk(t testing.TB, path string) {
	t.Helper()
	if written := fill(t, path, mib); sum(t, path, mib) != written {
		t.Errorf("%s: what was read is not what was written", path)
	}
}

// disks are the addresses of all SCSI disks, for what must not change.
func disks(t testing.TB) []string {
	t.Helper()
	found, err := scsi.Host().Devices()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range found {
		names = append(names, fmt.Sprintf("%v %s", d.Address, d.Identity))
	}
	return names
}

func fcSerial(n int) string { return fmt.Sprintf("fc%06d-0000-4000-8000-000000000000", n) }

func TestFibreChannel(t *testing.T) {
	one := newGrowingBackstore(t, "fc-one", fcSerial(1), 64*mib)
	two := newBackstore(t, "fc-two", fcSerial(2), 32*mib)
	other := newBackstore(t, "fc-other", fcSerial(3), 32*mib)
	p := newFCPath(t, "fcA", "fcB")
	t.Cleanup(func() { removeAll(t, p) })
	c := newFC(luns.Host{})
	wwpns, wwnns, err := fibrechannel.WWNs("/sys")
	if err != nil || !slices.Contains(wwpns, p.wwpn) || !slices.Contains(wwnns, "1000"+p.wwpn[4:]) {
		t.Errorf("ports %v of nodes %v, %v", wwpns, wwnns, err)
	}
	p.group.show(1, one)
	p.group.show(300, other)
	info := fcInfo(1, p)
	before := disks(t)

	start := time.Now()
	dev, err := c.Connect(fcContext(t), info, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("connected after %v: %+v", time.Since(start), dev)
	if dev.Identity != connector.Identity(one.wwid()) || dev.Bytes != 64*mib || !strings.HasPrefix(dev.Path, "/dev/disk/by-id/") {
		t.Errorf("it is %+v, want %s", dev, one.wwid())
	}
	if after := disks(t); len(after) != len(before)+1 {
		t.Errorf("more than one LUN was scanned: %q, before %q", after, before)
	}
	useDisk(t, dev.Path)
	again, err := c.Connect(fcContext(t), info, dev.Identity)
	if err != nil || again.Path != dev.Path {
		t.Errorf("again: %+v, %v", again, err)
	}

	t.Run("LUN above 255", func(t *testing.T) {
		high := fcInfo(300, p)
		found, err := c.Connect(fcContext(t), high, connector.Identity(other.wwid()))
		if err != nil {
			t.Fatal(err)
		}
		useDisk(t, found.Path)
		if err := c.Disconnect(fcContext(t), high, found); err != nil {
			t.Error(err)
		}
	})
	t.Run("extend", func(t *testing.T) {
		one.grow(96 * mib)
		dev, err = c.Extend(fcContext(t), info, dev)
		if err != nil || dev.Bytes != 96*mib {
			t.Errorf("%+v, %v", dev, err)
		}
	})
	t.Run("held", func(t *testing.T) { fcHeld(t, c, info, dev) })
	t.Run("not there", func(t *testing.T) { fcNotThere(t, c, p) })
	if err := c.Disconnect(fcContext(t), info, dev); err != nil {
		t.Error(err)
	}
	if err := c.Disconnect(fcContext(t), info, dev); err != nil {
		t.Errorf("again: %v", err)
	}
	if after := disks(t); !slices.Equal(after, before) {
		t.Errorf("after the end there are %q, before %q", after, before)
	}
	t.Run("LUN given to another volume", func(t *testing.T) { fcReuse(t, c, p, one, two) })
}

// removeAll takes away all disks of a path that a failed test has left.
func removeAll(t testing.TB, p *fcPath) {
	found, err := scsi.Host().Devices()
	if err != nil {
		t.Error(err)
	}
	for _, d := range found {
		if link, _ := os.Readlink("/sys/bus/scsi/devices/" + d.Address.String()); strings.Contains(link, p.nic) {
			_ = scsi.Host().Delete(context.Background(), d.Address)
		}
	}
}

// fcHeld has a mount, a map and a process hold the disk: it is neither flushed nor removed.
func fcHeld(t *testing.T, c *fibrechannel.Connector, info connector.Info, dev connector.Device) {
	before := disks(t)
	refused := func(who string) {
		t.Helper()
		err := c.Disconnect(fcContext(t), info, dev)
		expect(t, err, connector.InUse, who)
		if after := disks(t); !slices.Equal(after, before) {
			t.Fatalf("there are %q, before %q", after, before)
		}
	}
	run(t, "dmsetup", "create", "fcheld", "--table", "0 2048 linear "+dev.Path+" 0")
	refused("map fcheld")
	run(t, "dmsetup", "remove", "--retry", "fcheld")

	dir := t.TempDir()
	run(t, "mkfs.ext4", "-q", "-F", dev.Path)
	run(t, "mount", dev.Path, dir)
	refused("mount " + dir)
	run(t, "umount", dir)

	// A mount that this process does not see, as in a container.
	hidden := exec.Command("unshare", "--mount", "sh", "-c", "mount "+dev.Path+" "+dir+" && echo && read wait")
	in, _ := hidden.StdinPipe()
	out, _ := hidden.StdoutPipe()
	if err := hidden.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	refused("not seen")
	_ = in.Close()
	_ = hidden.Wait()

	file, err := os.Open(dev.Path)
	if err != nil {
		t.Fatal(err)
	}
	guest := exec.Command("sleep", "1000")
	guest.ExtraFiles = []*os.File{file}
	if err := guest.Start(); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	refused(fmt.Sprintf("process sleep (%d)", guest.Process.Pid))
	_ = guest.Process.Kill()
	_ = guest.Wait()
}

// fcNotThere asks for LUNs and ports that are not there: it says so in bounded time, and leaves nothing.
func fcNotThere(t *testing.T, c *fibrechannel.Connector, p *fcPath) {
	before := disks(t)
	bounded := func(info connector.Info, reason connector.Reason) {
		t.Helper()
		start := time.Now()
		_, err := c.Connect(fcContext(t), info, "")
		expect(t, err, reason)
		if took := time.Since(start); took > 4*fibrechannel.DefaultPatience {
			t.Errorf("it took %v", took)
		}
	}
	bounded(fcInfo(77, p), connector.NoDevice)
	bounded(fcInfo(1, &fcPath{wwpn: p.wwpn, far: "50060e8012345678"}), connector.Unreachable)
	bounded(fcInfo(1, &fcPath{wwpn: "50060e8012345678", far: p.far}), connector.Unreachable)
	if after := disks(t); !slices.Equal(after, before) {
		t.Errorf("there are %q, before %q", after, before)
	}
}

// fcReuse gives the LUN of one volume to another one.
func fcReuse(t *testing.T, c *fibrechannel.Connector, p *fcPath, one, two *backstore) {
	info := fcInfo(1, p)
	before := disks(t)
	p.group.hide(1)
	p.group.show(1, two)
	_, err := c.Connect(fcContext(t), info, connector.Identity(one.wwid()))
	expect(t, err, connector.IdentityMismatch, one.wwid(), two.wwid())
	if after := disks(t); !slices.Equal(after, before) {
		t.Errorf("there are %q, before %q", after, before)
	}

	// A crash has left the first volume's disk; then the LUN is another's.
	stale, err := c.Connect(fcContext(t), info, connector.Identity(two.wwid()))
	if err != nil {
		t.Fatal(err)
	}
	p.group.hide(1)
	p.group.show(1, one)
	_, err = c.Connect(fcContext(t), info, connector.Identity(two.wwid()))
	expect(t, err, connector.IdentityMismatch)
	fresh, err := c.Connect(fcContext(t), info, connector.Identity(one.wwid()))
	if err != nil || fresh.Identity != connector.Identity(one.wwid()) || fresh.Bytes == stale.Bytes {
		t.Errorf("%+v, %v", fresh, err)
	}
	if err := c.Disconnect(fcContext(t), info, stale); err != nil {
		t.Error(err)
	}
	if name := scsi.Host().Name(fresh.Path); name == "" {
		t.Error("the disconnect of the volume that was there removed the one that is")
	}
	if err := c.Disconnect(fcContext(t), info, fresh); err != nil {
		t.Error(err)
	}

	// Another guest has the old disk: the new volume must wait.
	if fresh, err = c.Connect(fcContext(t), info, ""); err != nil {
		t.Fatal(err)
	}
	run(t, "dmsetup", "create", "fcheld", "--table", "0 2048 linear "+fresh.Path+" 0")
	p.group.hide(1)
	p.group.show(1, two)
	_, err = c.Connect(fcContext(t), info, connector.Identity(two.wwid()))
	expect(t, err, connector.InUse)
	run(t, "dmsetup", "remove", "--retry", "fcheld")
	if _, err = c.Connect(fcContext(t), info, connector.Identity(two.wwid())); err != nil {
		t.Error(err)
	}
	if err := c.Disconnect(fcContext(t), info, connector.Device{}); err != nil {
		t.Error(err)
	}
	if after := disks(t); !slices.Equal(after, before) {
		t.Errorf("there are %q, before %q", after, before)
	}
}

// TestFibreChannelManyAtOnce connects and disconnects 16 volumes side by side.
func TestFibreChannelManyAtOnce(t *testing.T) {
	const many = 16
	var stores []*backstore
	for n := range many {
		stores = append(stores, newBackstore(t, fmt.Sprintf("fc-many%d", n), fcSerial(100+n), 8*mib))
	}
	p := newFCPath(t, "fcA", "fcB")
	t.Cleanup(func() { removeAll(t, p) })
	for n, store := range stores {
		p.group.show(n+1, store)
	}
	c := newFC(luns.Host{})
	before := disks(t)
	devices := make([]connector.Device, many)
	inParallel := func(do func(n int) error) time.Duration {
		start := time.Now()
		var wg sync.WaitGroup
		for n := range many {
			wg.Go(func() {
				if err := do(n); err != nil {
					t.Errorf("volume %d: %v", n, err)
				}
			})
		}
		wg.Wait()
		return time.Since(start)
	}
	up := inParallel(func(n int) (err error) {
		devices[n], err = c.Connect(fcContext(t), fcInfo(n+1, p), "")
		return err
	})
	for n, d := range devices {
		if want := stores[n].wwid(); d.Identity != connector.Identity(want) {
			t.Errorf("volume %d is %s, want %s", n, d.Identity, want)
		}
	}
	down := inParallel(func(n int) error { return c.Disconnect(fcContext(t), fcInfo(n+1, p), devices[n]) })
	t.Logf("%d volumes were there after %v and gone after %v", many, up, down)
	if after := disks(t); !slices.Equal(after, before) {
		t.Errorf("there are %q, before %q", after, before)
	}
}
