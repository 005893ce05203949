//go:build lab

package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/nvmeof"
	"compute-agent/blockdev/uevent"
)

// newNVMe is a connector whose host has not connected to anything. Lost connections are asked for every second, so that a test need not wait ten.
func newNVMe(t testing.TB) *nvmeof.Connector {
	t.Helper()
	c := nvmeof.Host(filepath.Join(t.TempDir(), "nvmeof"))
	c.Options.ReconnectDelay = time.Second
	t.Cleanup(func() {
		left, err := c.Controllers()
		if err != nil || len(left) != 0 {
			t.Errorf("left over: %+v, %v", left, err)
		}
		for _, k := range left {
			_ = os.WriteFile("/sys/class/nvme/"+k.Name+"/delete_controller", []byte("1"), 0)
		}
	})
	return c
}

func nvmeInfo(nqn, uuid string, nsid int, addresses ...string) connector.Info {
	if len(addresses) == 0 {
		addresses = nvmePorts
	}
	n := &connector.NVMeInfo{NQN: nqn, UUID: uuid, NSID: nsid}
	for _, a := range addresses {
		n.Portals = append(n.Portals, connector.NVMePortal{Transport: "tcp", Address: a, Port: nvmePort})
	}
	return connector.Info{Type: connector.NVMeoF, NVMe: n}
}

func nvmeConnect(t testing.TB, c *nvmeof.Connector, info connector.Info, known connector.Identity) connector.Device {
	t.Helper()
	dev, err := c.Connect(t.Context(), info, known)
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

func nvmeDisconnect(t testing.TB, c *nvmeof.Connector, info connector.Info, dev connector.Device) {
	t.Helper()
	if err := c.Disconnect(t.Context(), info, dev); err != nil {
		t.Fatal(err)
	}
}

func wantRefusal(t testing.TB, err error, reason connector.Reason, parts ...string) {
	t.Helper()
	var e *connector.Error
	if !errors.As(err, &e) || e.Reason != reason {
		t.Errorf("got %v; want %s", err, reason)
		return
	}
	t.Logf("%s: %v", reason, err)
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%v does not say %q", err, p)
		}
	}
}

// nvmeStates waits until the controllers at an address are in a state. The kernel tells nobody that a connection is lost; it is asked.
func nvmeStates(t testing.TB, c *nvmeof.Connector, address, state string) {
	t.Helper()
	began := time.Now()
	for wrong := true; wrong; time.Sleep(50 * time.Millisecond) {
		all, err := c.Controllers()
		if err != nil {
			t.Fatal(err)
		}
		wrong = slices.ContainsFunc(all, func(k nvmeof.Controller) bool { return k.Address == address && k.State != state })
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("%s does not become %s: %+v", address, state, all)
		}
	}
	t.Logf("%s was %s after %.1f s", address, state, time.Since(began).Seconds())
}

// nvmePaths waits until a disk has so many paths: what a new connection shows comes after it.
func nvmePaths(t testing.TB, c *nvmeof.Connector, nqn string, want int) {
	t.Helper()
	watch, err := uevent.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close() //nolint:errcheck // only read

	watch.Glance(200 * time.Millisecond) // a path that is not the disk's first comes without an event
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = watch.Until(ctx, func() (bool, error) {
		all, err := c.Controllers()
		paths := 0
		for _, k := range all {
			if k.NQN == nqn {
				paths += len(k.Spaces)
			}
		}
		return paths == want, err
	})
	if err != nil {
		t.Error(err)
	}
}

// firewall cuts the way to a port: with drop silently, as a broken cable does, else as a target that is switched off.
func firewall(t testing.TB, address string, drop bool) (open func()) {
	t.Helper()
	rule := []string{"INPUT", "-d", address, "-p", "tcp", "--dport", fmt.Sprint(nvmePort), "-j", "REJECT", "--reject-with", "tcp-reset"}
	if drop {
		rule = append(rule[:7], "-j", "DROP")
	}
	run(t, "iptables", append([]string{"-I"}, rule...)...)
	once := sync.OnceFunc(func() { run(t, "iptables", append([]string{"-D"}, rule...)...) })
	t.Cleanup(once)
	return once
}

// load writes to a disk without end, past all caches, and knows what it wrote.
type load struct {
	t       testing.TB
	file    *os.File
	stop    chan struct{}
	done    chan struct{}
	wrote   []uint64 // generation by block
	count   atomic.Int64
	longest time.Duration
}

const loadBlock = 4096

func aligned(n int) []byte {
	b := make([]byte, n+loadBlock)
	shift := loadBlock - int(uintptr(unsafe.Pointer(&b[0]))%loadBlock)
	return b[shift : shift+n]
}

func newLoad(t testing.TB, path string, blocks int) *load {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := &load{t: t, file: file, stop: make(chan struct{}), done: make(chan struct{}), wrote: make([]uint64, blocks)}
	go l.run()
	t.Cleanup(func() { _ = file.Close() })
	return l
}

func fillBlock(b []byte, block int, generation uint64) {
	for i := 0; i < len(b); i += 16 {
		binary.LittleEndian.PutUint64(b[i:], uint64(block))
		binary.LittleEndian.PutUint64(b[i+8:], generation)
	}
}

func (l *load) run() {
	defer close(l.done)
	buffer := aligned(loadBlock)
	for generation := uint64(1); ; generation++ {
		for block := range l.wrote {
			select {
			case <-l.stop:
				return
			default:
			}
			fillBlock(buffer, block, generation)
			began := time.Now()
			if _, err := l.file.WriteAt(buffer, int64(block)*loadBlock); err != nil {
				if !l.t.Failed() { // or the disk was taken away for that
					l.t.Errorf("block %d: %v", block, err)
				}
				return
			}
			l.longest = max(l.longest, time.Since(began))
			l.wrote[block] = generation
			l.count.Add(1)
		}
	}
}

// more waits until n further blocks are written.
func (l *load) more(n int64) {
	l.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for until := l.count.Load() + n; l.count.Load() < until; {
		if time.Now().After(deadline) {
			l.t.Fatal("no more is written")
		}
		select {
		case <-l.done:
			l.t.Fatal("the writer has ended")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// check ends the load and reads all back.
func (l *load) check() {
	l.t.Helper()
	close(l.stop)
	<-l.done
	want, got := make([]byte, loadBlock), aligned(loadBlock)
	for block, generation := range l.wrote {
		if generation == 0 {
			continue
		}
		fillBlock(want, block, generation)
		if _, err := l.file.ReadAt(got, int64(block)*loadBlock); err != nil || !bytes.Equal(got, want) {
			l.t.Fatalf("block %d is not what was written: %v", block, err)
		}
	}
	l.t.Logf("%d blocks written and read back; the longest write took %.1f s", l.count.Load(), l.longest.Seconds())
	if err := l.file.Close(); err != nil {
		l.t.Error(err)
	}
}

func TestNVMeAttach(t *testing.T) {
	g, c := newNVMeTarget(t), newNVMe(t)
	const nqn = "nqn.2026-11.lab.nvme:attach"
	g.subsystem(nqn)
	n := g.namespace(nqn, 7, nvmeUUID(1), 64<<20)
	for name, info := range map[string]connector.Info{
		"by UUID": nvmeInfo(nqn, nvmeUUID(1), 0), "by number": nvmeInfo(nqn, "", 7), "the only one": nvmeInfo(nqn, "", 0),
		"by NGUID": {Type: connector.NVMeoF, NVMe: &connector.NVMeInfo{NQN: nqn, NGUID: nguidOf(nvmeUUID(1)), Portals: nvmeInfo(nqn, "", 0).NVMe.Portals}},
	} {
		t.Run(name, func(t *testing.T) {
			dev := nvmeConnect(t, c, info, "")
			if dev.Path != "/dev/disk/by-id/nvme-uuid."+nvmeUUID(1) || dev.Bytes != 64<<20 || dev.Identity != connector.Identity("uuid."+nvmeUUID(1)) || len(dev.Paths) == 0 {
				t.Errorf("%+v", dev)
			}
			nvmePaths(t, c, nqn, 2) // the disk is there with the first
			data := make([]byte, 8<<20)
			_, _ = rand.Read(data)
			if err := os.WriteFile(dev.Path, data, 0); err != nil {
				t.Fatal(err)
			}
			nvmeDisconnect(t, c, info, dev) // writes it out
			onTarget, err := os.ReadFile(n.file)
			if err != nil || sha256.Sum256(onTarget[:len(data)]) != sha256.Sum256(data) {
				t.Errorf("what was written is not at the target: %v", err)
			}
			dev = nvmeConnect(t, c, info, dev.Identity)
			back := make([]byte, len(data))
			file, err := os.Open(dev.Path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.Read(back); err != nil || sha256.Sum256(back) != sha256.Sum256(data) {
				t.Errorf("what was written does not come back: %v", err)
			}
			_ = file.Close()
			nvmeDisconnect(t, c, info, dev)
			if left, err := c.Controllers(); len(left) != 0 || err != nil {
				t.Errorf("left over: %+v, %v", left, err)
			}
		})
	}
}

// TestNVMePathLoss: a guest's I/O goes on by the other path, whichever is lost, and both come back.
func TestNVMePathLoss(t *testing.T) {
	g, c := newNVMeTarget(t), newNVMe(t)
	const nqn = "nqn.2026-11.lab.nvme:paths"
	g.subsystem(nqn)
	g.namespace(nqn, 1, nvmeUUID(2), 64<<20)
	info := nvmeInfo(nqn, nvmeUUID(2), 0)
	dev := nvmeConnect(t, c, info, "")
	l := newLoad(t, dev.Path, 1024)
	for i, address := range nvmePorts {
		open := firewall(t, address, i == 0) // the first is lost by keep-alive, the other says so
		nvmeStates(t, c, address, nvmeof.Connecting)
		l.more(200)
		open()
		nvmeStates(t, c, address, nvmeof.Live)
		l.more(200)
	}
	for _, state := range []string{"inaccessible", "optimized"} {
		g.ana(0, state)
		l.more(200)
	}
	l.check()
	nvmeDisconnect(t, c, info, dev)
}

// TestNVMeTargetReboot: I/O waits while the target is away, and goes on. A Connect meanwhile says so in bounded time and leaves the connections alone.
func TestNVMeTargetReboot(t *testing.T) {
	g, c := newNVMeTarget(t), newNVMe(t)
	const nqn = "nqn.2026-11.lab.nvme:reboot"
	g.subsystem(nqn)
	g.namespace(nqn, 1, nvmeUUID(3), 64<<20)
	info := nvmeInfo(nqn, nvmeUUID(3), 0)
	dev := nvmeConnect(t, c, info, "")
	l := newLoad(t, dev.Path, 1024)
	l.more(200)
	for i := range nvmePorts {
		g.hide(i, nqn) // the port's only subsystem: it listens no more
	}
	for _, address := range nvmePorts {
		nvmeStates(t, c, address, nvmeof.Connecting)
	}
	c.Options.ConnectWait = time.Second
	began := time.Now()
	_, err := c.Connect(t.Context(), info, dev.Identity)
	wantRefusal(t, err, connector.Unreachable, nvmePorts[0], nvmePorts[1])
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	for i := range nvmePorts {
		g.show(i, nqn)
	}
	for _, address := range nvmePorts {
		nvmeStates(t, c, address, nvmeof.Live)
	}
	l.more(200)
	l.check()
	if again := nvmeConnect(t, c, info, dev.Identity); again.Path != dev.Path {
		t.Errorf("%+v", again)
	}
	nvmeDisconnect(t, c, info, dev)
}

// TestNVMeGone: a volume whose target never comes back can be taken away.
func TestNVMeGone(t *testing.T) {
	g, c := newNVMeTarget(t), newNVMe(t)
	const nqn = "nqn.2026-11.lab.nvme:gone"
	g.subsystem(nqn)
	g.namespace(nqn, 1, nvmeUUID(4), 64<<20)
	info := nvmeInfo(nqn, nvmeUUID(4), 0)
	dev := nvmeConnect(t, c, info, "")
	for i, address := range nvmePorts {
		g.hide(i, nqn)
		nvmeStates(t, c, address, nvmeof.Connecting)
	}
	began := time.Now()
	nvmeDisconnect(t, c, info, dev)
	t.Logf("taken away after %.1f s", time.Since(began).Seconds())
}

func TestNVMeExtend(t *testing.T) {
	g, c := newNVMeTarget(t), newNVMe(t)
	const nqn = "nqn.2026-11.lab.nvme:extend"
	g.subsystem(nqn)
	n := g.namespace(nqn, 1, nvmeUUID(5), 64<<20)
	info := nvmeInfo(nqn, nvmeUUID(5), 0)
	dev := nvmeConnect(t, c, info, "")
	l := newLoad(t, dev.Path, 1024)
	for _, size := range []int64{96 << 20, 200 << 20} {
		n.grow(t, size)
		began := time.Now()
		var err error
		if dev, err = c.Extend(t.Context(), info, dev); err != nil || dev.Bytes != size {
			t.Fatalf("%+v, %v", dev, err)
		}
		t.Logf("extended after %.2f s", time.Since(began).Seconds())
		if got := strings.TrimSpace(run(t, "blockdev", "--getsize64", dev.Path)); got != fmt.Sprint(size) {
			t.Errorf("the disk has %s bytes", got)
		}
	}
	l.check()
	nvmeDisconnect(t, c, info, dev)
}

// TestNVMeNumberUsedAgain: the target gives the number of a volume to another. Neither a host that has never seen it nor one that is connected takes that
// for the first.
func TestNVMeNumberUsedAgain(t *testing.T) {
	g, c := newNVMeTarget(t), newNVMe(t)
	const nqn = "nqn.2026-11.lab.nvme:again"
	g.subsystem(nqn)
	n := g.namespace(nqn, 7, nvmeUUID(6), 64<<20)
	info := nvmeInfo(nqn, "", 7)
	dev := nvmeConnect(t, c, info, "")
	nvmeDisconnect(t, c, info, dev)

	n.become(t, nvmeUUID(7))
	_, err := c.Connect(t.Context(), info, dev.Identity)
	wantRefusal(t, err, connector.IdentityMismatch, nvmeUUID(6), nvmeUUID(7))
	if left, err := c.Controllers(); len(left) != 0 || err != nil {
		t.Errorf("left over: %+v, %v", left, err)
	}

	g.namespace(nqn, 8, nvmeUUID(8), 64<<20)
	other := nvmeInfo(nqn, nvmeUUID(8), 0)
	held := nvmeConnect(t, c, other, "") // the subsystem stays connected
	n.become(t, nvmeUUID(6))
	nvmeConnect(t, c, info, dev.Identity)
	n.become(t, nvmeUUID(9))
	_, err = c.Connect(t.Context(), info, dev.Identity)
	wantRefusal(t, err, connector.IdentityMismatch, nvmeUUID(6), nvmeUUID(9))
	now := nvmeConnect(t, c, info, "")
	if now.Identity != connector.Identity("uuid."+nvmeUUID(9)) {
		t.Errorf("%+v", now)
	}
	nvmeDisconnect(t, c, info, now)
	nvmeDisconnect(t, c, other, held)
}

func TestNVMeBusy(t *testing.T) {
	g, c := newNVMeTarget(t), newNVMe(t)
	const nqn = "nqn.2026-11.lab.nvme:busy"
	g.subsystem(nqn)
	g.namespace(nqn, 1, nvmeUUID(10), 64<<20)
	info := nvmeInfo(nqn, nvmeUUID(10), 0)
	dev := nvmeConnect(t, c, info, "")

	guest := exec.Command("sh", "-c", `exec 3<>"$0"; echo; read x`, dev.Path) // has it open, as QEMU has
	in, err1 := guest.StdinPipe()
	out, err2 := guest.StdoutPipe()
	if err := errors.Join(err1, err2, guest.Start()); err != nil {
		t.Fatal(err)
	}
	_, _ = out.Read(make([]byte, 1))
	wantRefusal(t, c.Disconnect(t.Context(), info, dev), connector.InUse, "process sh")
	_ = in.Close()
	_ = guest.Wait()

	run(t, "mkfs.ext4", "-q", dev.Path)
	dir := t.TempDir()
	run(t, "mount", dev.Path, dir)
	wantRefusal(t, c.Disconnect(t.Context(), info, dev), connector.InUse, "mount "+dir)
	run(t, "umount", dir)
	nvmeDisconnect(t, c, info, dev)
}

func TestNVMeRefusals(t *testing.T) {
	g, c := newNVMeTarget(t), newNVMe(t)
	const nqn = "nqn.2026-11.lab.nvme:refusals"
	dir := g.subsystem(nqn)
	g.namespace(nqn, 1, nvmeUUID(11), 64<<20)
	c.Options.ConnectWait, c.Options.DeviceWait = 5*time.Second, 3*time.Second
	for _, r := range []struct {
		name   string
		info   connector.Info
		reason connector.Reason
		part   string
	}{
		{"another name", nvmeInfo(nqn+"x", nvmeUUID(11), 0), connector.AuthFailed, nvmePorts[1]},
		{"nobody listens", nvmeInfo(nqn, nvmeUUID(11), 0, "127.0.2.9"), connector.Unreachable, "127.0.2.9:4420"},
		{"no way", nvmeInfo(nqn, nvmeUUID(11), 0, "192.0.2.1"), connector.Unreachable, "192.0.2.1:4420"},
		{"no such namespace", nvmeInfo(nqn, nvmeUUID(12), 0), connector.NoDevice, "no such namespace"},
		{"no such number", nvmeInfo(nqn, "", 99), connector.NoDevice, "no such namespace"},
	} {
		began := time.Now()
		_, err := c.Connect(t.Context(), r.info, "")
		wantRefusal(t, err, r.reason, r.part)
		t.Logf("%s: after %.1f s", r.name, time.Since(began).Seconds())
		if left, err := c.Controllers(); len(left) != 0 || err != nil {
			t.Errorf("%s: left over: %+v, %v", r.name, left, err)
		}
	}

	put(t, filepath.Join(dir, "attr_allow_any_host"), "0")
	_, err := c.Connect(t.Context(), nvmeInfo(nqn, nvmeUUID(11), 0), "")
	wantRefusal(t, err, connector.AuthFailed, "let this host in")
	put(t, filepath.Join(dir, "attr_allow_any_host"), "1")

	for i := range nvmePorts {
		g.ana(i, "inaccessible")
	}
	_, err = c.Connect(t.Context(), nvmeInfo(nqn, nvmeUUID(11), 0), "")
	wantRefusal(t, err, connector.NoDevice, "inaccessible")
	for i := range nvmePorts {
		g.ana(i, "optimized")
	}

	// One portal that swallows everything costs its time and no more; the other is used.
	open := firewall(t, nvmePorts[0], true)
	began := time.Now()
	dev := nvmeConnect(t, c, nvmeInfo(nqn, nvmeUUID(11), 0), "")
	t.Logf("with a silent portal: after %.1f s, by %v", time.Since(began).Seconds(), dev.Paths)
	if took := time.Since(began); took > c.Options.ConnectWait+c.Options.DeviceWait || len(dev.Paths) != 1 {
		t.Errorf("%v, %+v", took, dev)
	}
	open()
	nvmeConnect(t, c, nvmeInfo(nqn, nvmeUUID(11), 0), dev.Identity) // gets the missing one
	nvmePaths(t, c, nqn, 2)
	nvmeDisconnect(t, c, nvmeInfo(nqn, nvmeUUID(11), 0), dev)
}

// TestNVMeManyAtOnce: 50 volumes attached side by side, in one subsystem and in 50, and the time of one to compare.
func TestNVMeManyAtOnce(t *testing.T) {
	g := newNVMeTarget(t)
	const all = 50
	for _, subsystems := range []int{1, 50} {
		t.Run(fmt.Sprintf("%d subsystems", subsystems), func(t *testing.T) {
			c := newNVMe(t)
			c.Options.ConnectWait = 3 * time.Minute
			c.Options.DeviceWait = 3 * time.Minute
			g := &nvmeTarget{t: t, first: g.first}
			infos := make([]connector.Info, all)
			for i := range infos {
				nqn := fmt.Sprintf("nqn.2026-11.lab.nvme:many-%d-%d", subsystems, i%subsystems)
				if i < subsystems {
					g.subsystem(nqn)
				}
				uuid := nvmeUUID(1000*subsystems + i)
				g.namespace(nqn, i+1, uuid, 16<<20)
				infos[i] = nvmeInfo(nqn, uuid, 0)
			}
			began := time.Now()
			one := nvmeConnect(t, c, infos[0], "")
			single := time.Since(began)
			nvmeDisconnect(t, c, infos[0], one)

			alone := nvmeKernelAlone(t, infos)
			devices := make([]connector.Device, all)
			used := cpuOfTest(t)
			began = time.Now()
			var wait sync.WaitGroup
			for i := range infos {
				wait.Go(func() {
					var err error
					devices[i], err = c.Connect(t.Context(), infos[i], "")
					if err != nil || string(devices[i].Identity) != "uuid."+infos[i].NVMe.UUID || len(devices[i].Paths) == 0 {
						t.Errorf("%d: %+v, %v", i, devices[i], err)
					}
				})
			}
			wait.Wait()
			attached := time.Since(began)
			used = cpuOfTest(t) - used
			for i := range subsystems { // a disk is there with its first path
				nvmePaths(t, c, infos[i].NVMe.NQN, 2*all/subsystems)
			}
			began = time.Now()
			for i := range infos {
				wait.Go(func() {
					if err := c.Disconnect(t.Context(), infos[i], devices[i]); err != nil {
						t.Errorf("%d: %v", i, err)
					}
				})
			}
			wait.Wait()
			t.Logf("%d subsystems: one attach %.2f s; %d at once %.2f s (kernel and udev alone %.2f s), processor time of ours %.2f s; detach of all %.2f s",
				subsystems, single.Seconds(), all, attached.Seconds(), alone.Seconds(), used.Seconds(), time.Since(began).Seconds())
		})
	}
}

// nvmeKernelAlone is how long the kernel takes to connect to all subsystems, and udev to have done with all disks, when nobody looks.
func nvmeKernelAlone(t testing.TB, infos []connector.Info) time.Duration {
	t.Helper()
	host, err := nvmeof.ThisHost("/etc", "/sys")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	began := time.Now()
	var wait sync.WaitGroup
	for _, info := range infos {
		if known[info.NVMe.NQN] {
			continue
		}
		known[info.NVMe.NQN] = true
		for _, address := range nvmePorts {
			wait.Go(func() {
				line := fmt.Sprintf("nqn=%s,transport=tcp,traddr=%s,trsvcid=%d,hostnqn=%s,hostid=%s,queue_size=128", info.NVMe.NQN, address, nvmePort, host.NQN, host.ID)
				if err := os.WriteFile("/dev/nvme-fabrics", []byte(line), 0); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wait.Wait()
	nvmeDisks(t, len(infos))
	run(t, "udevadm", "settle")
	took := time.Since(began)
	run(t, "nvme", "disconnect-all")
	run(t, "udevadm", "settle")
	return took
}

// nvmeDisks waits until there are so many disks.
func nvmeDisks(t testing.TB, want int) {
	t.Helper()
	watch, err := uevent.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close() //nolint:errcheck // only read
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err = watch.Until(ctx, func() (bool, error) {
		disks, err := filepath.Glob("/dev/nvme*n*")
		return len(disks) >= want, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// cpuOfTest is the processor time that this process has used.
func cpuOfTest(t testing.TB) time.Duration {
	t.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// TestNVMeSinglePath: without native multipath one portal is used, and the next where the first is away.
func TestNVMeSinglePath(t *testing.T) {
	g := newNVMeTarget(t)
	const nqn = "nqn.2026-11.lab.nvme:single"
	g.subsystem(nqn)
	g.namespace(nqn, 1, nvmeUUID(13), 64<<20)
	for _, module := range []string{"nvme_tcp", "nvme_fabrics", "nvme", "nvme_core"} {
		_, _ = exec.Command("modprobe", "-r", module).CombinedOutput()
	}
	run(t, "modprobe", "nvme_core", "multipath=N")
	t.Cleanup(func() {
		for _, module := range []string{"nvme_tcp", "nvme_fabrics", "nvme_core"} {
			run(t, "modprobe", "-r", module)
		}
		run(t, "modprobe", "nvme_tcp")
	})
	c := newNVMe(t) // which loads the transport itself
	info := nvmeInfo(nqn, nvmeUUID(13), 0)
	open := firewall(t, nvmePorts[0], false)
	dev := nvmeConnect(t, c, info, "")
	open()
	again := nvmeConnect(t, c, info, dev.Identity)
	if controllers, err := c.Controllers(); err != nil || len(controllers) != 1 || controllers[0].Address != nvmePorts[1] || again.Path != dev.Path || len(dev.Paths) != 0 {
		t.Errorf("%+v, %v, %+v", controllers, err, dev)
	}
	info.EnforceMultipath = true
	_, err := c.Connect(t.Context(), info, dev.Identity)
	wantRefusal(t, err, connector.NoMultipath)
	nvmeDisconnect(t, c, info, dev)
}

// TestNVMeHostID: the host has a name, which nvme-cli takes for its own too.
func TestNVMeHostID(t *testing.T) {
	host, err := nvmeof.ThisHost("/etc", "/sys")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(run(t, "nvme", "show-hostnqn")); got != host.NQN {
		t.Errorf("nvme-cli has %s, and here it is %+v", got, host)
	}
	var st unix.Stat_t
	if err := unix.Stat("/etc/nvme/hostid", &st); err != nil {
		t.Error(err)
	}
}
