//go:build lab

package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/iscsi"
	"compute-agent/blockdev/scsi"
	"compute-agent/internal/command"
)

const (
	portalA, portalB = "127.0.1.2:3260", "127.0.1.3:3260"
	portalNone       = "127.0.1.4:3260" // nobody listens there
	mib              = 1 << 20
)

// multipathConf is what the tests of several paths run with. find_multipaths yes is the most common setting, and the one that makes no map of the
// first path by itself.
const multipathConf = `defaults {
	find_multipaths yes
	user_friendly_names no
	polling_interval 1
	max_polling_interval 2
}
blacklist {
	devnode "^(vd|loop|nvme)"
}
`

// initiator is this host with open-iscsi, and a connector that is asked to use it.
type initiator struct {
	*iscsi.Connector
	t    testing.TB
	name string
	spy  *spy
}

// newInitiator starts iscsid, and fails the test when anything of iSCSI is left at its end.
func newInitiator(t testing.TB, change ...func(*iscsi.Options)) *initiator {
	t.Helper()
	name, err := iscsi.InitiatorName("/etc/iscsi")
	if err != nil || name == "" {
		t.Fatalf("initiator name: %q, %v", name, err)
	}
	run(t, "systemctl", "start", "iscsid")
	s := &spy{Kernel: scsi.Host().Kernel}
	o := iscsi.Options{Runner: s, SCSI: scsi.Host(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	o.SCSI.Kernel = s
	for _, f := range change {
		f(&o)
	}
	i := &initiator{Connector: iscsi.New(o), t: t, name: name, spy: s}
	i.clean("before the test")
	t.Cleanup(func() {
		i.clean("after the test")
		i.mop()
	})
	return i
}

// mop takes away what a failed test left, for the sake of the next.
func (i *initiator) mop() {
	if !i.t.Failed() {
		return
	}
	for _, line := range []string{"umount /mnt", "dmsetup remove_all --force", "iscsiadm -m node -u", "rm -rf /etc/iscsi/nodes /etc/iscsi/send_targets", "iptables -F"} {
		words := strings.Fields(line)
		_, _ = command.Exec{}.Run(context.Background(), command.Cmd{Name: words[0], Args: words[1:]})
	}
}

func (i *initiator) clean(when string) {
	i.t.Helper()
	for _, pattern := range []string{
		"/sys/class/iscsi_session/*", "/etc/iscsi/nodes/*", "/etc/iscsi/send_targets/*", "/etc/iscsi/.compute-agent*", "/sys/block/sd*", "/sys/block/dm-*",
	} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			i.t.Errorf("%s there are %q", when, left)
		}
	}
}

// withMultipath starts multipathd for the test.
func withMultipath(t testing.TB) func(*iscsi.Options) {
	t.Helper()
	startMultipathd(t)
	return func(o *iscsi.Options) { o.Multipath = true }
}

func startMultipathd(t testing.TB) {
	t.Helper()
	if err := os.WriteFile("/etc/multipath.conf", []byte(multipathConf), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "modprobe", "dm_multipath")
	run(t, "systemctl", "restart", "multipathd")
	t.Cleanup(func() {
		run(t, "systemctl", "stop", "multipathd.socket", "multipathd")
		remove(t, "/etc/multipath.conf")
	})
}

// spy runs programs and writes to the kernel, and remembers when.
type spy struct {
	scsi.Kernel
	mu    sync.Mutex
	spans []span
}

type span struct {
	what       string
	start, end time.Time
}

func (s *spy) note(what string, start time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spans = append(s.spans, span{what, start, time.Now()})
}

func (s *spy) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	defer s.note(c.Name+" "+strings.Join(c.Args, " "), time.Now())
	return command.Exec{}.Run(ctx, c)
}

func (s *spy) Write(path, value string) error {
	defer s.note("write "+path+" "+value, time.Now())
	return s.Kernel.Write(path, value)
}

// udev adds what the kernel's driver of disks and udev's rules did after each scan since a time: until udev wrote the record of the disk.
func (s *spy) udev(since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range slices.Clone(s.spans) {
		var host, channel, target, lun int
		name := filepath.Base(filepath.Dir(strings.TrimPrefix(p.what, "write "))) // of write /sys/class/scsi_host/host3/scan 0 0 1
		if _, err := fmt.Sscanf(name+" "+p.what[strings.Index(p.what, "/scan")+1:], "host%d scan %d %d %d", &host, &channel, &target, &lun); err != nil || p.start.Before(since) {
			continue
		}
		numbers, _ := filepath.Glob(fmt.Sprintf("/sys/bus/scsi/devices/%d:%d:%d:%d/block/*/dev", host, channel, target, lun))
		for _, file := range numbers {
			number, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			if record, err := os.Stat("/run/udev/data/b" + strings.TrimSpace(string(number))); err == nil {
				s.spans = append(s.spans, span{"udev", p.end, record.ModTime()})
			}
		}
	}
}

// during is how long anything of these ran since a time: what ran side by side counts once.
func (s *spy) during(since time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	spans := slices.DeleteFunc(slices.Clone(s.spans), func(p span) bool { return p.start.Before(since) })
	slices.SortFunc(spans, func(a, b span) int { return a.start.Compare(b.start) })
	var total time.Duration
	var end time.Time
	for _, p := range spans {
		if p.start.After(end) {
			end = p.start
		}
		if p.end.After(end) {
			total += p.end.Sub(end)
			end = p.end
		}
	}
	return total
}

func (i *initiator) patience() context.Context {
	ctx, cancel := context.WithTimeout(i.t.Context(), 6*time.Minute)
	i.t.Cleanup(cancel)
	return ctx
}

func (i *initiator) attach(info connector.Info, known connector.Identity) connector.Device {
	i.t.Helper()
	dev, err := i.Connect(i.patience(), info, known)
	if err != nil {
		i.t.Fatalf("attach: %v", err)
	}
	return dev
}

func (i *initiator) detach(info connector.Info, dev connector.Device) {
	i.t.Helper()
	if err := i.Disconnect(i.patience(), info, dev); err != nil {
		i.t.Errorf("detach: %v", err)
	}
}

// lun is the connection_info of a LUN at one or more portals.
func lun(iqn string, number int, portals ...string) connector.Info {
	info := connector.Info{Type: connector.ISCSI, ISCSI: &connector.ISCSIInfo{}}
	for _, portal := range portals {
		info.ISCSI.Targets = append(info.ISCSI.Targets, connector.ISCSITarget{Portal: portal, IQN: iqn, LUN: number})
	}
	return info
}

// serial is a UUID that differs in its first digits: of the last, none is in a WWID of LIO's.
func serial(n int) string { return fmt.Sprintf("15c5%04x-0000-4000-8000-000000000000", n) }

// expect fails the test unless the error has the reason, and no secret.
func expect(t testing.TB, err error, want connector.Reason, texts ...string) {
	t.Helper()
	var refused *connector.Error
	if !errors.As(err, &refused) || refused.Reason != want {
		t.Errorf("the error is %v, not %s", err, want)
		return
	}
	t.Logf("%s: %v", refused.Reason, err)
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("it does not name %s", text)
		}
	}
	if strings.Contains(err.Error(), chapPassword) || strings.Contains(err.Error(), "wrong-secret") {
		t.Error("it has the secret")
	}
}

const chapUser, chapPassword = "compute", "chap-secret-1234"

func chap(info connector.Info, password string) connector.Info {
	info.ISCSI.Auth = &connector.CHAP{Method: "CHAP", User: chapUser, Password: connector.Secret(password)}
	return info
}

// fill writes random bytes to the device past its page cache, and returns their sum.
func fill(t testing.TB, path string, size int) [32]byte {
	t.Helper()
	data := make([]byte, size)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(data)
	writeAt(t, path, data, 0)
	return sha256.Sum256(data)
}

func writeAt(t testing.TB, path string, data []byte, offset int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|unix.O_SYNC, 0)
	if err == nil {
		_, err = file.WriteAt(data, offset)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		t.Fatalf("write to %s: %v", path, err)
	}
}

func sum(t testing.TB, path string, size int) [32]byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only read
	data := make([]byte, size)
	if _, err := file.ReadAt(data, 0); err != nil {
		t.Fatalf("read of %s: %v", path, err)
	}
	return sha256.Sum256(data)
}

func TestISCSIAttach(t *testing.T) {
	i := newInitiator(t)
	const iqn = "iqn.2026-11.lab.iscsi:attach"
	mine, other := newBackstore(t, "i-attach", serial(1), 64*mib), newBackstore(t, "i-other", serial(2), 64*mib)
	g := newGroup(t, "iscsi", iqn, i.name, portalA, portalB)
	g.chap(chapUser, chapPassword)
	g.show(0, other)
	g.show(1, mine)
	g.show(300, mine)

	info := chap(lun(iqn, 1, portalA), chapPassword)
	dev := i.attach(info, "")
	if string(dev.Identity) != mine.wwid() || dev.Bytes != 64*mib || !strings.HasPrefix(dev.Path, "/dev/disk/by-id/") {
		t.Errorf("the device is %+v", dev)
	}
	if disks, _ := filepath.Glob("/sys/block/sd*"); len(disks) != 1 {
		t.Errorf("besides the volume's there are %v", disks)
	}
	written := fill(t, dev.Path, 8*mib)
	again := i.attach(info, dev.Identity) // it is there
	if again.Path != dev.Path {
		t.Errorf("attached again it is %+v", again)
	}
	i.detach(info, dev)
	i.detach(info, dev) // it is gone
	if sum(t, mine.file, 8*mib) != written {
		t.Error("what was written is not in the target")
	}
	i.clean("after the detach")

	info = chap(lun(iqn, 300, portalA), chapPassword)
	dev = i.attach(info, connector.Identity(mine.wwid()))
	if sum(t, dev.Path, 8*mib) != written {
		t.Error("what was written is not read")
	}
	i.detach(info, dev)
}

func TestISCSIRefusals(t *testing.T) {
	i := newInitiator(t, func(o *iscsi.Options) { o.Login = 10 * time.Second; o.Scans = 2 })
	const iqn = "iqn.2026-11.lab.iscsi:refusals"
	g := newGroup(t, "iscsi", iqn, i.name, portalA)
	g.chap(chapUser, chapPassword)
	g.show(1, newBackstore(t, "i-refusals", serial(3), 16*mib))
	for name, c := range map[string]struct {
		info   connector.Info
		reason connector.Reason
		texts  []string
	}{
		"wrong password": {chap(lun(iqn, 1, portalA), "wrong-secret"), connector.AuthFailed, []string{portalA}},
		"no password":    {lun(iqn, 1, portalA), connector.AuthFailed, nil},
		"no portal":      {chap(lun(iqn, 1, portalNone), chapPassword), connector.Unreachable, []string{portalNone, "refused"}},
		"no target":      {chap(lun(iqn+"x", 1, portalA), chapPassword), connector.Unreachable, []string{portalA}},
		"no LUN":         {chap(lun(iqn, 2, portalA), chapPassword), connector.NoDevice, []string{`target_lun="2"`}},
		"another":        {chap(lun(iqn, 1, portalA), chapPassword), connector.IdentityMismatch, []string{"naa.other", "naa.6001405"}},
	} {
		known := connector.Identity("")
		if name == "another" {
			known = "naa.other"
		}
		t.Run(name, func(t *testing.T) {
			_, err := i.Connect(t.Context(), c.info, known)
			expect(t, err, c.reason, c.texts...)
			i.clean("after it")
		})
	}
}

// TestISCSINumberUsedAgain gives a LUN's number to another volume, once under a disk that a crash left and once under one that is in use.
func TestISCSINumberUsedAgain(t *testing.T) {
	i := newInitiator(t)
	const iqn = "iqn.2026-11.lab.iscsi:reuse"
	first, second := newBackstore(t, "i-first", serial(4), 16*mib), newBackstore(t, "i-second", serial(5), 32*mib)
	g := newGroup(t, "iscsi", iqn, i.name, portalA)
	g.show(1, first)
	info := lun(iqn, 1, portalA)
	dev := i.attach(info, "")
	g.hide(1)
	g.show(1, second)

	_, err := i.Connect(i.patience(), info, connector.Identity(first.wwid()))
	expect(t, err, connector.IdentityMismatch, first.wwid(), second.wwid())
	i.clean("after the refusal")

	dev = i.attach(info, connector.Identity(second.wwid()))
	file, err := os.OpenFile(dev.Path, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	g.hide(1)
	g.show(1, first)
	_, err = i.Connect(i.patience(), info, connector.Identity(first.wwid()))
	expect(t, err, connector.InUse, first.wwid(), second.wwid())
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	i.detach(info, connector.Device{})
}

func TestISCSIBusy(t *testing.T) {
	i := newInitiator(t)
	const iqn = "iqn.2026-11.lab.iscsi:busy"
	g := newGroup(t, "iscsi", iqn, i.name, portalA)
	g.show(1, newBackstore(t, "i-busy", serial(6), 64*mib))
	info := lun(iqn, 1, portalA)
	dev := i.attach(info, "")
	run(t, "mkfs.ext4", "-q", dev.Path)
	run(t, "mount", dev.Path, "/mnt")
	expect(t, i.Disconnect(i.patience(), info, dev), connector.InUse, "/mnt")
	if err := os.WriteFile("/mnt/file", []byte("goes on"), 0o644); err != nil {
		t.Error(err)
	}
	run(t, "umount", "/mnt")
	i.detach(info, dev)
}

func TestISCSIMultipath(t *testing.T) {
	i := newInitiator(t, withMultipath(t))
	const iqn = "iqn.2026-11.lab.iscsi:multipath"
	disk := newGrowingBackstore(t, "i-multipath", serial(7), 64*mib)
	g := newGroup(t, "iscsi", iqn, i.name, portalA, portalB)
	g.chap(chapUser, chapPassword)
	g.show(1, disk)
	info := chap(lun(iqn, 1, portalA, portalB, portalNone), chapPassword)
	dev := i.attach(info, "")
	if dev.Map == "" || len(dev.Paths) != 2 || string(dev.Identity) != disk.wwid() {
		t.Fatalf("the device is %+v", dev)
	}
	written := fill(t, dev.Path, 4*mib)

	cut(t, "127.0.1.3")
	writes(t, dev.Path, func() { awaitPaths(t, dev, 1) })
	mend(t, "127.0.1.3")
	writes(t, dev.Path, func() { awaitPaths(t, dev, 2) })
	if sum(t, dev.Path, 4*mib) != written {
		t.Error("what was written is not read")
	}

	disk.grow(128 * mib)
	grown, err := i.Extend(i.patience(), info, dev)
	if err != nil || grown.Bytes != 128*mib {
		t.Errorf("extended: %+v, %v", grown, err)
	}
	if size := blockSize(t, dev.Path); size != 128*mib {
		t.Errorf("the map has %d bytes", size)
	}
	run(t, "mkfs.ext4", "-q", dev.Path)
	run(t, "mount", dev.Path, "/mnt")
	expect(t, i.Disconnect(i.patience(), info, dev), connector.InUse, "/mnt")
	awaitPaths(t, dev, 2)
	run(t, "umount", "/mnt")
	i.detach(info, grown)
}

func blockSize(t testing.TB, path string) int64 {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only read
	size, err := file.Seek(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// cut drops what goes to a portal; mend lets it through again.
func cut(t testing.TB, address string) {
	t.Helper()
	run(t, "iptables", "-I", "INPUT", "-d", address, "-p", "tcp", "--dport", "3260", "-j", "DROP")
	t.Cleanup(func() {
		_, _ = command.Exec{}.Run(context.Background(), command.Cmd{Name: "iptables", Args: dropRule(address)})
	})
}

func mend(t testing.TB, address string) {
	t.Helper()
	run(t, "iptables", dropRule(address)...)
}

func dropRule(address string) []string {
	return []string{"-D", "INPUT", "-d", address, "-p", "tcp", "--dport", "3260", "-j", "DROP"}
}

// awaitPaths waits until so many paths of the map are used. multipathd sends no events of that to others; it is asked.
func awaitPaths(t testing.TB, dev connector.Device, want int) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		out := run(t, "dmsetup", "status", dev.Map)
		if strings.Count(out, " A ") >= want && usable(out) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("after 2 minutes there are not %d paths: %s", want, out)
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// usable counts the paths that are A(ctive): "8:0 A 0".
func usable(status string) int {
	words := strings.Fields(status)
	n := 0
	for k := 1; k < len(words); k++ {
		if words[k] == "A" && strings.Contains(words[k-1], ":") {
			n++
		}
	}
	return n
}

// writes writes to the device all the while that something is done, and reads it back.
func writes(t testing.TB, path string, meanwhile func()) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := byte(0); ; n++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := roundTrip(path, bytes.Repeat([]byte{n}, 64<<10)); err != nil {
				done <- err
				return
			}
		}
	}()
	meanwhile()
	close(stop)
	if err := <-done; err != nil {
		t.Errorf("I/O: %v", err)
	}
}

// roundTrip writes past the part that fill has written, and reads it back.
func roundTrip(path string, data []byte) error {
	const offset = 16 * mib
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_SYNC, 0)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it is synchronous
	if _, err := file.WriteAt(data, offset); err != nil {
		return err
	}
	if err := unix.Fadvise(int(file.Fd()), offset, int64(len(data)), unix.FADV_DONTNEED); err != nil {
		return err
	}
	back := make([]byte, len(data))
	if _, err := file.ReadAt(back, offset); err != nil {
		return err
	}
	if !bytes.Equal(back, data) {
		return errors.New("what was written is not read")
	}
	return nil
}

// TestISCSIDiscovery asks one portal for the others, with CHAP for the discovery, of which one cannot be reached.
func TestISCSIDiscovery(t *testing.T) {
	i := newInitiator(t, withMultipath(t))
	const iqn = "iqn.2026-11.lab.iscsi:discovery"
	g := newGroup(t, "iscsi", iqn, i.name, portalA, portalB, "127.0.1.5:3260")
	g.show(1, newBackstore(t, "i-discovery", serial(8), 16*mib))
	newGroup(t, "iscsi", iqn+"-other", i.name, portalA)
	const auth = lio + "/iscsi/discovery_auth"
	put(t, auth+"/userid", "finder")
	put(t, auth+"/password", chapPassword)
	put(t, auth+"/enforce_discovery_auth", "1")
	t.Cleanup(func() { put(t, auth+"/enforce_discovery_auth", "0") })
	cut(t, "127.0.1.5")

	info := lun(iqn, 1, portalA)
	info.ISCSI.Discover = true
	info.ISCSI.DiscoveryAuth = &connector.CHAP{Method: "CHAP", User: "finder", Password: "wrong-secret"}
	_, err := i.Connect(i.patience(), info, "")
	expect(t, err, connector.AuthFailed, portalA)
	i.clean("after the refusal")

	info.ISCSI.DiscoveryAuth.Password = chapPassword
	dev := i.attach(info, "")
	if len(dev.Paths) != 2 {
		t.Errorf("the device is %+v", dev)
	}
	if other, _ := filepath.Glob("/etc/iscsi/nodes/" + iqn + "-other*"); len(other) > 0 {
		t.Errorf("there is a record of another target")
	}
	mend(t, "127.0.1.5")
	i.detach(info, connector.Device{})
}

// TestISCSITargetReboot switches the storage server off under a disk that is in use.
func TestISCSITargetReboot(t *testing.T) {
	i := newInitiator(t)
	const iqn = "iqn.2026-11.lab.iscsi:reboot"
	g := newGroup(t, "iscsi", iqn, i.name, portalA)
	g.show(1, newBackstore(t, "i-reboot", serial(9), 32*mib))
	info := lun(iqn, 1, portalA)
	dev := i.attach(info, "")
	written := fill(t, dev.Path, 4*mib)
	writes(t, dev.Path, func() {
		g.stop()
		g.start()
	})
	again := i.attach(info, dev.Identity)
	if again.Path != dev.Path || sum(t, dev.Path, 4*mib) != written {
		t.Errorf("after the target's reboot it is %+v", again)
	}
	g.stop() // for good
	start := time.Now()
	i.detach(info, dev)
	t.Logf("detached from a target that is gone in %v", time.Since(start))
}

// TestISCSIDaemonsStopped says which daemon is missing.
func TestISCSIDaemonsStopped(t *testing.T) {
	i := newInitiator(t, func(o *iscsi.Options) { o.Multipath = true })
	const iqn = "iqn.2026-11.lab.iscsi:daemons"
	g := newGroup(t, "iscsi", iqn, i.name, portalA, portalB)
	g.show(1, newBackstore(t, "i-daemons", serial(10), 16*mib))
	info := lun(iqn, 1, portalA, portalB)
	dev := i.attach(info, "")
	if dev.Map != "" || len(dev.Paths) != 1 {
		t.Errorf("without multipathd the device is %+v", dev)
	}
	i.detach(info, dev)
	info.EnforceMultipath = true
	_, err := i.Connect(i.patience(), info, "")
	expect(t, err, connector.NoMultipath, "multipathd")
	info.EnforceMultipath = false

	run(t, "systemctl", "mask", "--runtime", "--now", "iscsid.socket", "iscsid")
	t.Cleanup(func() {
		run(t, "systemctl", "unmask", "--runtime", "iscsid.socket", "iscsid")
		run(t, "systemctl", "start", "iscsid")
	})
	_, err = i.Connect(i.patience(), info, "")
	expect(t, err, connector.Unsupported, "iscsid does not run")
}

// TestISCSIKilled ends attachments in the middle, at later and later times, and takes away what they left without knowing what that is.
func TestISCSIKilled(t *testing.T) {
	i := newInitiator(t, withMultipath(t))
	const iqn = "iqn.2026-11.lab.iscsi:killed"
	g := newGroup(t, "iscsi", iqn, i.name, portalA, portalB)
	g.show(1, newBackstore(t, "i-killed", serial(11), 16*mib))
	info := lun(iqn, 1, portalA, portalB)
	start := time.Now()
	i.detach(info, i.attach(info, ""))
	whole := time.Since(start)
	for n := range 12 {
		ctx, cancel := context.WithTimeout(t.Context(), whole*time.Duration(n)/12)
		_, err := i.Connect(ctx, info, "")
		cancel()
		if err != nil {
			i.clean(fmt.Sprintf("after a connect that was ended after %d/12", n))
		}
		i.detach(info, connector.Device{})
		i.clean(fmt.Sprintf("after the detach of one that was ended after %d/12", n))
	}
}

// patient is for many disks at once on an emulated machine, whose kernel and udev come to the last of them after minutes.
func patient(o *iscsi.Options) { o.Login, o.Device = 5*time.Minute, 5*time.Minute }

// many makes n LUNs, in one target or in as many.
func many(i *initiator, name string, n, targets int) []connector.Info {
	i.t.Helper()
	var infos []connector.Info
	var groups []*group
	for k := range n {
		disk := newBackstore(i.t, fmt.Sprintf("i-%s%d", name, k), serial(1000+100*targets+k), 8*mib)
		iqn := fmt.Sprintf("iqn.2026-11.lab.iscsi:%s%d", name, k%targets)
		if k < targets {
			groups = append(groups, newGroup(i.t, "iscsi", iqn, i.name, portalA))
		}
		groups[k%targets].show(k/targets+1, disk)
		infos = append(infos, lun(iqn, k/targets+1, portalA))
	}
	return infos
}

// figures are what attaching and detaching all at once took.
type figures struct {
	attach, detach time.Duration
	own            time.Duration // of attach in which no program, kernel or udev was waited for
	processor      time.Duration // of this process, for both
}

// side attaches and detaches all at once.
func side(i *initiator, infos []connector.Info) (f figures) {
	i.t.Helper()
	devices := make([]connector.Device, len(infos))
	used, start := cpuOfTest(i.t), time.Now()
	together(i.t, len(infos), func(k int) error {
		var err error
		devices[k], err = i.Connect(i.patience(), infos[k], "")
		return err
	})
	f.attach = time.Since(start)
	i.spy.udev(start)
	f.own = f.attach - i.spy.during(start)
	start = time.Now()
	together(i.t, len(infos), func(k int) error { return i.Disconnect(i.patience(), infos[k], devices[k]) })
	f.detach, f.processor = time.Since(start), cpuOfTest(i.t)-used
	return f
}

// bare does the same with nothing but what cannot be done without, all at once, and looks at nothing: records, logins, scans, and once the end of what udev
// does; then the deletion of the disks, and the logouts.
func bare(i *initiator, infos []connector.Info) (f figures) {
	i.t.Helper()
	iqns := map[string]bool{}
	for _, info := range infos {
		iqns[info.ISCSI.Targets[0].IQN] = true
	}
	targets := slices.Sorted(maps.Keys(iqns))
	start := time.Now()
	together(i.t, len(targets), func(k int) error {
		return errors.Join(node(targets[k], "-o", "new"), node(targets[k], "-o", "update", "-n", "node.session.scan", "-v", "manual"), node(targets[k], "--login"))
	})
	hosts := hostsOfTargets(i.t)
	together(i.t, len(infos), func(k int) error {
		t := infos[k].ISCSI.Targets[0]
		return os.WriteFile("/sys/class/scsi_host/"+hosts[t.IQN]+"/scan", fmt.Appendf(nil, "0 0 %d", t.LUN), 0)
	})
	run(i.t, "udevadm", "settle", "--timeout=600")
	f.attach = time.Since(start)
	if disks, _ := filepath.Glob("/dev/disk/by-id/wwn-*"); len(disks) != len(infos) {
		i.t.Errorf("%d disks", len(disks))
	}
	start = time.Now()
	together(i.t, len(infos), func(k int) error {
		t := infos[k].ISCSI.Targets[0]
		return os.WriteFile(fmt.Sprintf("/sys/bus/scsi/devices/%s:0:0:%d/delete", strings.TrimPrefix(hosts[t.IQN], "host"), t.LUN), []byte("1"), 0)
	})
	together(i.t, len(targets), func(k int) error {
		return errors.Join(node(targets[k], "--logout"), node(targets[k], "-o", "delete"))
	})
	run(i.t, "udevadm", "settle", "--timeout=600")
	f.detach = time.Since(start)
	return f
}

// Exit codes of iscsiadm (include/iscsi_err.h of open-iscsi).
const (
	exitDatabase      = 6 // it came upon the record of another target that was being made or removed
	exitSessionExists = 15
	exitNothingFound  = 21
)

// node does something with the record of a target, and again when iscsiadm could not read the others': that may have been after it had done its work.
func node(target string, args ...string) error {
	c := command.Cmd{Name: "iscsiadm", Args: slices.Concat([]string{"-m", "node", "-T", target, "-p", portalA}, args)}
	again := false
	for limit := time.Now().Add(5 * time.Minute); ; again = true {
		_, err := command.Exec{}.Run(context.Background(), c)
		var failed *command.Error
		switch {
		case !errors.As(err, &failed):
			return err
		case again && (failed.ExitCode == exitSessionExists || failed.ExitCode == exitNothingFound):
			return nil
		case failed.ExitCode != exitDatabase || time.Now().After(limit):
			return err
		}
	}
}

// hostsOfTargets are the SCSI hosts of the sessions that there are, by the targets' names.
func hostsOfTargets(t testing.TB) map[string]string {
	t.Helper()
	hosts := map[string]string{}
	sessions, err := filepath.Glob("/sys/class/iscsi_host/host*/device/session*/iscsi_session/session*/targetname")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range sessions {
		name, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		hosts[strings.TrimSpace(string(name))] = strings.Split(file, "/")[4]
	}
	return hosts
}

func together(t testing.TB, n int, do func(int) error) {
	t.Helper()
	var all sync.WaitGroup
	errs := make([]error, n)
	for k := range n {
		all.Go(func() { errs[k] = do(k) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// TestISCSIBench prints the figures of attaching and detaching 1, 10 and 50 LUNs, of one target and of as many, beside those of doing it by hand.
func TestISCSIBench(t *testing.T) {
	for _, targets := range []int{1, 50} {
		t.Run(fmt.Sprintf("%d targets", targets), func(t *testing.T) {
			i := newInitiator(t, patient)
			infos := many(i, fmt.Sprintf("bench%d-", targets), 50, targets)
			_ = side(i, infos[:1]) // modules, caches
			var one figures
			for _, n := range []int{1, 10, 50} {
				ours, floor := side(i, infos[:n]), bare(i, infos[:n])
				if n == 1 {
					one = ours
				}
				t.Logf("BENCH iscsi %d LUNs of %d targets: attach %d ms, by hand %d (ratio %.2f), %.1f times one, %d beyond iscsiadm, the kernel and udev; "+
					"detach %d ms, by hand %d (ratio %.2f); processor time of ours %d ms", n, min(n, targets),
					ours.attach.Milliseconds(), floor.attach.Milliseconds(), ratio(ours.attach, floor.attach), ratio(ours.attach, one.attach), ours.own.Milliseconds(),
					ours.detach.Milliseconds(), floor.detach.Milliseconds(), ratio(ours.detach, floor.detach), ours.processor.Milliseconds())
			}
		})
	}
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

// TestISCSIStale attaches one more to a host that has 100 disks which nobody knows of any more.
func TestISCSIStale(t *testing.T) {
	i := newInitiator(t, patient)
	infos := many(i, "stale", 101, 1)
	together(t, 100, func(k int) error {
		_, err := i.Connect(i.patience(), infos[k], "")
		return err
	})
	logins, err := i.Sessions()
	if err != nil || len(logins) != 1 || len(logins[0].Disks) != 100 {
		t.Fatalf("%d sessions, %v", len(logins), err)
	}
	for _, d := range logins[0].Disks {
		if owns, err := i.Owns(infos[0], logins[0].Session, d.Address); err != nil || owns != (d.Address.LUN == 1) {
			t.Errorf("LUN %d is the first volume's: %v, %v", d.Address.LUN, owns, err)
		}
	}
	start := time.Now()
	dev := i.attach(infos[100], "")
	i.detach(infos[100], dev)
	t.Logf("attached and detached among 100 others in %v", time.Since(start))
	together(t, 100, func(k int) error { return i.Disconnect(i.patience(), infos[k], connector.Device{}) })
}
