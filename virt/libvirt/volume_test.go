package libvirt

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// shell is the shell on a booted guest's serial console.
type shell struct {
	t   *testing.T
	log string
	tty *os.File
	n   int
}

// openShell logs in on the console of a guest that has said that it is ready.
func openShell(t *testing.T, s virt.Spec) *shell {
	t.Helper()
	var domain libvirtxml.Domain
	must(t, domain.Unmarshal(run(t, "virsh", "-c", testURI(), "dumpxml", s.ID)))
	tty, err := os.OpenFile(domain.Devices.Consoles[0].Source.Pty.Path, os.O_RDWR, 0)
	must(t, err)
	drained := make(chan struct{})
	go func() { // else the guest would wait for somebody to read
		defer close(drained)
		_, _ = io.Copy(io.Discard, tty)
	}()
	t.Cleanup(func() {
		_ = tty.Close()
		<-drained
	})
	for _, login := range []struct{ prompt, answer string }{{"tiny login: ", "root\n"}, {"Password: ", "tiny\n"}, {"tiny# ", ""}} {
		waitForText(t, s.ConsoleLog(), login.prompt, time.Minute)
		_, err := tty.WriteString(login.answer)
		must(t, err)
	}
	return &shell{t: t, log: s.ConsoleLog(), tty: tty}
}

// run runs a command in the guest and returns what it wrote; it fails the test when the command fails.
func (sh *shell) run(command string) string {
	sh.t.Helper()
	sh.n++
	// What is typed is echoed: only what echo writes has the words in one.
	_, err := fmt.Fprintf(sh.tty, "echo BE''GIN-%d; %s; echo =$?=E''ND-%d\n", sh.n, command, sh.n)
	must(sh.t, err)
	begin, end := fmt.Sprintf("BEGIN-%d\r\n", sh.n), fmt.Sprintf("=END-%d\r\n", sh.n)
	text := waitForText(sh.t, sh.log, end, time.Minute)
	_, text, _ = strings.Cut(text, begin)
	out, _, _ := strings.Cut(text, end)
	out, ok := strings.CutSuffix(out, "=0")
	if !ok {
		sh.t.Fatalf("%s: failed in the guest: %s", command, out)
	}
	return strings.TrimSpace(strings.ReplaceAll(out, "\r", ""))
}

// device is the name that the guest's kernel gave the disk with a serial. Who has plugged it in need not wait: the guest may.
func (sh *shell) device(serial string) string {
	sh.t.Helper()
	return sh.run(`(n=0; while [ $((n += 1)) -le 200 ]; do for d in /sys/block/vd*; do read -r v <$d/serial; [ "$v" != ` + serial +
		` ] || { echo /dev/${d##*/}; exit 0; }; done; usleep 100000; done; exit 1)`)
}

// sum is the MD5 of a disk as it is in its storage.
func (sh *shell) sum(device string) string {
	sh.t.Helper()
	return strings.Fields(sh.run("sync; echo 3 >/proc/sys/vm/drop_caches; md5sum " + device))[0]
}

// fill writes to all of a disk what nobody knows before.
func (sh *shell) fill(device string) {
	sh.t.Helper()
	sh.run("dd if=/dev/urandom of=" + device + " bs=1M count=4 2>/dev/null")
}

func fileSum(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	return fmt.Sprintf("%x", md5.Sum(content))
}

// volumeBytes is the size of the volumes of these tests.
const volumeBytes = 4 << 20

// randomFile makes a file of the size of a volume, or of another.
func randomFile(t *testing.T, dir, name string, size int) string {
	t.Helper()
	content := make([]byte, size)
	seed := [32]byte{}
	copy(seed[:], name)
	_, err := rand.NewChaCha8(seed).Read(content)
	must(t, err)
	path := filepath.Join(dir, name)
	must(t, os.WriteFile(path, content, 0o644))
	return path
}

// volumes is a booted guest and what its volumes are made of.
type volumes struct {
	d    *Driver
	spec virt.Spec
	sh   *shell
	dir  string
}

// volume is a disk that the guest gets, with a serial by which it finds it.
func volumeOf(source virt.Source, serial string) virt.Disk {
	return virt.Disk{Source: source, Format: "raw", Target: "vdb", Bus: "virtio", Cache: "none", Serial: serial}
}

func (v *volumes) plug(t *testing.T, disk virt.Disk) (device string) {
	t.Helper()
	must(t, v.d.PlugDisk(within(t), v.spec.ID, disk))
	return v.sh.device(disk.Serial)
}

func (v *volumes) unplug(t *testing.T, target string) {
	t.Helper()
	must(t, v.d.UnplugDisk(within(t), v.spec.ID, target, virt.UnplugOptions{Patience: time.Minute, Retry: 5 * time.Second}))
	v.nothingLeft(t)
}

// nothingLeft checks that the guest has its first disk alone, and that QEMU has no other file open.
func (v *volumes) nothingLeft(t *testing.T) {
	t.Helper()
	list, err := v.d.Disks(within(t), v.spec.ID)
	must(t, err)
	if len(list) != 1 {
		t.Errorf("the guest has disks %+v", list)
	}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", qemuPID(t, v.spec.ID)))
	must(t, err)
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, v.dir) {
			t.Errorf("QEMU has %s open", to)
		}
	}
}

// takeAll takes away what a test that failed left, so that the next one does not find it.
func (v *volumes) takeAll(t *testing.T) {
	t.Helper()
	list, err := v.d.Disks(within(t), v.spec.ID)
	must(t, err)
	for _, d := range list[1:] {
		must(t, v.d.UnplugDisk(within(t), v.spec.ID, d.Target, virt.UnplugOptions{Patience: time.Minute, Retry: 5 * time.Second}))
	}
}

// readsAndWrites plugs a disk in whose contents are those of a file; the guest reads them and writes others, and when the
// disk is unplugged the file has those.
func (v *volumes) readsAndWrites(t *testing.T, disk virt.Disk, file string) {
	t.Helper()
	device := v.plug(t, disk)
	if got, want := v.sh.sum(device), fileSum(t, file); got != want {
		t.Errorf("the guest reads %s, written was %s", got, want)
	}
	v.sh.fill(device)
	wrote := v.sh.sum(device)
	v.unplug(t, disk.Target)
	if got := fileSum(t, file); got != wrote {
		t.Errorf("the volume has %s, the guest wrote %s", got, wrote)
	}
}

// TestVolumes gives a booted guest volumes of all kinds and takes them away again.
func TestVolumes(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	s := bootableSpec(t)
	s.SCSI = "virtio-scsi"
	v := &volumes{d: d, spec: s, dir: diskDir(t)}
	t.Run("guest", func(t *testing.T) {
		bootLines(t, d, s)
		v.sh = openShell(t, s)
		for _, c := range []struct {
			name string
			test func(*testing.T, *volumes)
		}{
			{"file", volumeInFile}, {"qcow2", volumeInQcow2}, {"extend", volumeExtended}, {"iscsi", volumeOverISCSI}, {"nbd", volumeOverNBD},
			{"luks", volumeEncrypted}, {"copy", volumeCopied}, {"locked", volumeLocked}, {"buses", volumeOnBuses}, {"refused", volumeRefused},
		} {
			t.Run(c.name, func(t *testing.T) {
				sh := v.sh
				sh.t = t
				defer v.takeAll(t)
				c.test(t, v)
				v.nothingLeft(t)
			})
		}
	})
}

func volumeInFile(t *testing.T, v *volumes) {
	file := randomFile(t, v.dir, "plain", volumeBytes)
	disk := volumeOf(virt.Source{File: file}, "plain")
	disk.Alias, disk.Discard, disk.IO = "ua-plain", "unmap", "native"
	events := v.d.Events(within(t))
	v.readsAndWrites(t, disk, file)
	for e := range events {
		if e.Kind == virt.EventDeviceRemoved {
			if e.ID != v.spec.ID || e.Device != disk.Alias {
				t.Errorf("event is %+v, want one of %s", e, disk.Alias)
			}
			return
		}
	}
	t.Error("no event")
}

func volumeInQcow2(t *testing.T, v *volumes) {
	raw := randomFile(t, v.dir, "qcow2.raw", volumeBytes)
	file := filepath.Join(v.dir, "qcow2")
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, file)
	disk := volumeOf(virt.Source{File: file}, "qcow2")
	disk.Format = "qcow2"
	device := v.plug(t, disk)
	if got, want := v.sh.sum(device), fileSum(t, raw); got != want {
		t.Errorf("the guest reads %s, written was %s", got, want)
	}
	v.sh.fill(device)
	wrote := v.sh.sum(device)
	v.unplug(t, disk.Target)
	run(t, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", file, raw)
	if got := fileSum(t, raw); got != wrote {
		t.Errorf("the volume has %s, the guest wrote %s", got, wrote)
	}
}

// sectors is the size of a disk that the guest sees, as soon as it is this one.
func (v *volumes) seesBytes(device string, bytes uint64) {
	v.sh.t.Helper()
	v.sh.run(fmt.Sprintf(`(n=0; while [ $((n += 1)) -le 200 ]; do read -r v </sys/block/%s/size; [ "$v" != %d ] || exit 0; usleep 100000; done; echo $v; exit 1)`,
		filepath.Base(device), bytes/512))
}

func volumeExtended(t *testing.T, v *volumes) {
	file := randomFile(t, v.dir, "grows", volumeBytes)
	device := v.plug(t, volumeOf(virt.Source{File: file}, "grows"))
	v.seesBytes(device, volumeBytes)
	must(t, os.Truncate(file, 2*volumeBytes))
	must(t, v.d.ResizeDisk(within(t), v.spec.ID, "vdb", 2*volumeBytes))
	v.seesBytes(device, 2*volumeBytes)
	v.sh.run("dd if=/dev/urandom of=" + device + " bs=1M seek=4 count=4 2>/dev/null")
	wrote := v.sh.sum(device)
	v.unplug(t, "vdb")
	if got := fileSum(t, file); got != wrote {
		t.Errorf("the volume has %s, the guest wrote %s", got, wrote)
	}
}

// put keeps a secret until the test ends.
func (v *volumes) put(t *testing.T, usage, value string) (id string) {
	t.Helper()
	id = uuid.NewString()
	t.Cleanup(func() { must(t, v.d.DeleteSecret(context.Background(), id)) })
	must(t, v.d.PutSecret(within(t), virt.Secret{UUID: id, Usage: usage, For: "test-" + id, Value: []byte(value)}))
	return id
}

// serve runs a server of storage until the test ends.
func serve(t *testing.T, name string, args ...string) {
	t.Helper()
	out := &bytes.Buffer{}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, out)
		}
	})
}

// untilRuns runs a command until it succeeds: servers do not say when they listen.
func untilRuns(t *testing.T, name string, args ...string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
	}
}

const (
	chapUser     = "chap-user"
	chapPassword = "chap-passw0rd-12"
	storageHost  = "127.0.4.1"
)

// serveISCSI serves a file as LUN 1 of a target that asks for a password, by a tgtd with control port 47.
func serveISCSI(t *testing.T, file, iqn string) (tgtadm func(args string) string) {
	t.Helper()
	serve(t, "tgtd", "-f", "-C", "47", "--iscsi", "portal="+storageHost+":3260")
	untilRuns(t, "tgtadm", "-C", "47", "--op", "show", "--mode", "sys")
	tgtadm = func(args string) string {
		return run(t, "tgtadm", append([]string{"-C", "47", "--lld", "iscsi"}, strings.Fields(args)...)...)
	}
	tgtadm("--op new --mode target --tid 1 -T " + iqn)
	tgtadm("--op new --mode logicalunit --tid 1 --lun 1 -b " + file)
	tgtadm("--op bind --mode target --tid 1 -I ALL")
	tgtadm("--op new --mode account --user " + chapUser + " --password " + chapPassword)
	tgtadm("--op bind --mode account --tid 1 --user " + chapUser)
	return tgtadm
}

func volumeOverISCSI(t *testing.T, v *volumes) {
	const iqn = "iqn.2010-10.org.openstack:volume-virt"
	file := randomFile(t, v.dir, "iscsi", volumeBytes)
	tgtadm := serveISCSI(t, file, iqn)
	network := &virt.NetworkSource{
		Protocol: "iscsi", Name: iqn + "/1", Hosts: []virt.HostPort{{Host: storageHost, Port: 3260}}, Initiator: "iqn.1994-05.com.example:virt",
		Auth: &virt.SecretRef{User: chapUser, Type: "iscsi", UUID: v.put(t, "iscsi", chapPassword)},
	}
	disk := volumeOf(virt.Source{Network: network}, "iscsi")
	must(t, v.d.PlugDisk(within(t), v.spec.ID, disk))
	if sessions := tgtadm("--op show --mode target"); !strings.Contains(sessions, "Initiator: "+network.Initiator) {
		t.Errorf("the target tells of no session of the initiator:\n%s", sessions)
	}
	list, err := v.d.Disks(within(t), v.spec.ID)
	must(t, err)
	want := virt.PluggedDisk{Target: "vdb", Serial: "iscsi", Source: disk.Source, Live: true, Defined: true, Bytes: volumeBytes}
	if diff := cmp.Diff(want, list[len(list)-1]); diff != "" {
		t.Errorf("the disk is listed otherwise:\n%s", diff)
	}
	device := v.sh.device("iscsi")
	if got, want := v.sh.sum(device), fileSum(t, file); got != want {
		t.Errorf("the guest reads %s, written was %s", got, want)
	}
	v.sh.fill(device)
	wrote := v.sh.sum(device)
	v.unplug(t, "vdb")
	if got := fileSum(t, file); got != wrote {
		t.Errorf("the volume has %s, the guest wrote %s", got, wrote)
	}
	if sessions := tgtadm("--op show --mode target"); strings.Contains(sessions, "Initiator: ") {
		t.Errorf("a session is left:\n%s", sessions)
	}

	const wrong = "wrong-passw0rd-1"
	network.Auth.UUID = v.put(t, "iscsi", wrong)
	for _, spoil := range []func(){
		func() {},
		func() { network.Auth = nil },
		func() { network.Name = iqn + "/9" },
		func() { network.Hosts[0].Port = 1 },
	} {
		spoil()
		err := v.d.PlugDisk(within(t), v.spec.ID, disk)
		if err == nil || strings.Contains(err.Error(), wrong) {
			t.Errorf("error is %v, want one without the password", err)
		}
		t.Logf("refused: %v", err)
		v.nothingLeft(t)
	}
}

func volumeOverNBD(t *testing.T, v *volumes) {
	file := randomFile(t, v.dir, "nbd", volumeBytes)
	pid := filepath.Join(v.dir, "nbd.pid")
	serve(t, "qemu-nbd", "--persistent", "--pid-file="+pid, "-f", "raw", "-b", storageHost, "-p", "10810", "-x", "volume", file)
	untilRuns(t, "qemu-img", "info", "--force-share", "nbd://"+storageHost+":10810/volume")
	v.readsAndWrites(t, volumeOf(virt.Source{Network: &virt.NetworkSource{
		Protocol: "nbd", Name: "volume", Hosts: []virt.HostPort{{Host: storageHost, Port: 10810}},
	}}, "nbd"), file)
}

// luksFile encrypts a file. The header is cryptsetup's: qemu-img measures how fast the machine is, and fails where the count of CPU time is coarse.
func luksFile(t *testing.T, raw, password string) (file string) {
	t.Helper()
	const header = 2 << 20
	file = raw + ".luks"
	info, err := os.Stat(raw)
	must(t, err)
	must(t, os.WriteFile(file, nil, 0o644))
	must(t, os.Truncate(file, info.Size()+header))
	format := exec.Command("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks1", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file=-", file)
	format.Stdin = strings.NewReader(password)
	if out, err := format.CombinedOutput(); err != nil {
		t.Fatalf("cryptsetup: %v: %s", err, out)
	}
	run(t, "qemu-img", "convert", "-n", "--object", "secret,id=key,data="+password, "-f", "raw", raw,
		"--target-image-opts", "driver=luks,key-secret=key,file.filename="+file)
	return file
}

func luksSum(t *testing.T, file, password string) string {
	t.Helper()
	out := file + ".out"
	run(t, "qemu-img", "convert", "--object", "secret,id=key,data="+password, "--image-opts", "driver=luks,key-secret=key,file.filename="+file, "-O", "raw", out)
	return fileSum(t, out)
}

func volumeEncrypted(t *testing.T, v *volumes) {
	const password = "d1sk-key"
	raw := randomFile(t, v.dir, "secret", volumeBytes)
	file := luksFile(t, raw, password)
	disk := volumeOf(virt.Source{File: file}, "luks")
	disk.Key = &virt.DiskKey{Format: "luks", Secret: v.put(t, "volume", password)}
	device := v.plug(t, disk)
	if got, want := v.sh.sum(device), fileSum(t, raw); got != want {
		t.Errorf("the guest reads %s, written was %s", got, want)
	}
	v.sh.run("echo plain-text-marker | dd of=" + device + " bs=512 conv=notrunc,sync 2>/dev/null")
	info, err := os.Stat(file)
	must(t, err)
	must(t, os.Truncate(file, info.Size()+volumeBytes))
	must(t, v.d.ResizeDisk(within(t), v.spec.ID, "vdb", 2*volumeBytes))
	v.seesBytes(device, 2*volumeBytes)
	wrote := v.sh.sum(device)
	v.unplug(t, "vdb")
	if got := luksSum(t, file, password); got != wrote {
		t.Errorf("the volume has %s, the guest wrote %s", got, wrote)
	}
	if content, err := os.ReadFile(file); err != nil || bytes.Contains(content, []byte("plain-text-marker")) {
		t.Errorf("what the guest wrote can be read: %v", err)
	}

	disk.Key.Secret = v.put(t, "volume", "an0ther-key")
	if err := v.d.PlugDisk(within(t), v.spec.ID, disk); err == nil || strings.Contains(err.Error(), "an0ther-key") {
		t.Errorf("with a wrong key: error is %v, want one without the key", err)
	}
	disk.Key.Format = "luks2"
	if err := v.d.PlugDisk(within(t), v.spec.ID, disk); !errors.Is(err, virt.ErrUnsupported) {
		t.Errorf("luks2: error is %v, want ErrUnsupported", err)
	}
}

// volumeCopied copies a volume while the guest writes to it without pause.
func volumeCopied(t *testing.T, v *volumes) {
	from, to := randomFile(t, v.dir, "from", volumeBytes), filepath.Join(v.dir, "to")
	must(t, os.WriteFile(to, nil, 0o644))
	must(t, os.Truncate(to, volumeBytes))
	device := v.plug(t, volumeOf(virt.Source{File: from}, "copied"))
	v.sh.run(`{ (while [ ! -e /run/stop ]; do dd if=/dev/urandom of=` + device + ` bs=64k count=1 seek=$((RANDOM % 64)) conv=notrunc 2>/dev/null; sync; done; >/run/stopped) & }`)
	slow := newDriver(t, Options{CopyBytes: 2 << 20})
	var mu sync.Mutex
	var told []uint64
	begin := time.Now()
	must(t, slow.CopyDisk(within(t), v.spec.ID, "vdb", volumeOf(virt.Source{File: to}, "copied"), func(done, _ uint64) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, done)
	}))
	t.Logf("copied in %v; progress %v", time.Since(begin), told)
	v.sh.run(`>/run/stop; while [ ! -e /run/stopped ]; do usleep 100000; done`)
	wrote := v.sh.sum(device)
	list, err := v.d.Disks(within(t), v.spec.ID)
	must(t, err)
	if got := list[len(list)-1]; got.Source.File != to || !got.Live || !got.Defined {
		t.Errorf("the guest has %+v", got)
	}
	v.copiedOn(t, device, wrote)
	v.unplug(t, "vdb")
	if got := fileSum(t, to); got != wrote {
		t.Errorf("the copy has %s, the guest wrote %s", got, wrote)
	}
}

// copiedOn copies the volume to one that is encrypted, and from there over the network.
func (v *volumes) copiedOn(t *testing.T, device, wrote string) {
	t.Helper()
	const password = "c0py-key"
	encrypted := volumeOf(virt.Source{File: luksFile(t, randomFile(t, v.dir, "encrypted", volumeBytes), password)}, "copied")
	encrypted.Key = &virt.DiskKey{Format: "luks", Secret: v.put(t, "volume", password)}
	remote := randomFile(t, v.dir, "remote", volumeBytes)
	serve(t, "qemu-nbd", "--persistent", "-f", "raw", "-b", storageHost, "-p", "10812", "-x", "remote", remote)
	untilRuns(t, "qemu-img", "info", "--force-share", "nbd://"+storageHost+":10812/remote")
	for _, to := range []virt.Disk{encrypted, volumeOf(virt.Source{Network: &virt.NetworkSource{
		Protocol: "nbd", Name: "remote", Hosts: []virt.HostPort{{Host: storageHost, Port: 10812}},
	}}, "copied")} {
		must(t, v.d.CopyDisk(within(t), v.spec.ID, "vdb", to, nil))
		if got := v.sh.sum(device); got != wrote {
			t.Errorf("after a copy the guest reads %s, it wrote %s", got, wrote)
		}
	}
	if got := luksSum(t, encrypted.Source.File, password); got != wrote {
		t.Errorf("the encrypted copy has %s, the guest wrote %s", got, wrote)
	}
	if got := fileSum(t, remote); got != wrote {
		t.Errorf("the copy over the network has %s, the guest wrote %s", got, wrote)
	}
}

// volumeLocked plugs in what another QEMU writes to.
func volumeLocked(t *testing.T, v *volumes) {
	file := randomFile(t, v.dir, "locked", volumeBytes)
	serve(t, "qemu-nbd", "--persistent", "-f", "raw", "-b", storageHost, "-p", "10811", file)
	untilRuns(t, "qemu-img", "info", "--force-share", "nbd://"+storageHost+":10811")
	err := v.d.PlugDisk(within(t), v.spec.ID, volumeOf(virt.Source{File: file}, "locked"))
	if !errors.Is(err, virt.ErrBusy) {
		t.Errorf("error is %v, want ErrBusy", err)
	}
}

// volumeOnBuses plugs in disks on the other buses, with all that a disk can have.
func volumeOnBuses(t *testing.T, v *volumes) {
	all := []virt.Disk{
		{Target: "sda", Bus: "scsi", WWN: "5000c50015ea71ad", Shared: true, Unit: new(1)},
		{Target: "sdb", Bus: "usb", ReadOnly: true},
		{Target: "vdb", Bus: "virtio", ReadOnly: true, Tune: virt.DiskTune{TotalIOPS: 1000, TotalBytesMax: 4 << 20, TotalBytes: 2 << 20}, BlockIO: virt.BlockIO{Logical: 4096, Physical: 4096}},
	}
	for i := range all {
		d := &all[i]
		d.Source.File, d.Format, d.Serial, d.Alias = randomFile(t, v.dir, "bus-"+d.Bus, volumeBytes), "raw", "bus-"+d.Bus, "ua-bus-"+d.Bus
		must(t, v.d.PlugDisk(within(t), v.spec.ID, *d))
	}
	text := run(t, "virsh", "-c", testURI(), "dumpxml", v.spec.ID)
	for _, want := range []string{
		"<wwn>5000c50015ea71ad</wwn>", "<shareable/>", "<total_iops_sec>1000</total_iops_sec>", `logical_block_size='4096'`,
		`<alias name='ua-bus-usb'/>`, "<serial>bus-scsi</serial>",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the domain has no %s", want)
		}
	}
	device := v.sh.device("bus-virtio")
	if got := v.sh.run("cat /sys/block/" + filepath.Base(device) + "/ro /sys/block/" + filepath.Base(device) + "/queue/logical_block_size"); got != "1\n4096" {
		t.Errorf("read-only and block size are %q", got)
	}
	if got := v.sh.run("(n=0; while [ ! -e /sys/block/sda/size ] && [ $((n += 1)) -le 200 ]; do usleep 100000; done; cat /sys/block/sda/size)"); got != strconv.Itoa(volumeBytes/512) {
		t.Errorf("the disk on bus scsi has %q sectors", got)
	}
	for _, d := range all {
		must(t, v.d.UnplugDisk(within(t), v.spec.ID, d.Target, virt.UnplugOptions{Patience: time.Minute, Retry: 5 * time.Second}))
	}
}

// volumeRefused plugs in what QEMU finds fault with when the definition has it already.
func volumeRefused(t *testing.T, v *volumes) {
	file := randomFile(t, v.dir, "refused", volumeBytes)
	for name, spoil := range map[string]func(*virt.Disk){
		"not a block device":  func(d *virt.Disk) { d.Source = virt.Source{Device: file} },
		"not in qcow2 format": func(d *virt.Disk) { d.Format = "qcow2" },
		"nobody listens": func(d *virt.Disk) {
			d.Source = virt.Source{Network: &virt.NetworkSource{Protocol: "nbd", Hosts: []virt.HostPort{{Host: storageHost, Port: 1}}}}
		},
		"not encrypted":     func(d *virt.Disk) { d.Key = &virt.DiskKey{Format: "luks", Secret: v.put(t, "volume", "key")} },
		"a secret not kept": func(d *virt.Disk) { d.Key = &virt.DiskKey{Format: "luks", Secret: uuid.NewString()} },
	} {
		disk := volumeOf(virt.Source{File: file}, "refused")
		spoil(&disk)
		if err := v.d.PlugDisk(within(t), v.spec.ID, disk); err == nil {
			t.Errorf("%s: it was plugged in", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
		v.nothingLeft(t)
	}
}

// TestPlugDiskWithoutPlace fills a board without free slots: what is plugged in last is nowhere.
func TestPlugDiskWithoutPlace(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	s := smallSpec(t)
	s.Machine = "q35"
	destroyAtEnd(t, d, s.ID)
	must(t, d.Create(within(t), s))
	dir, plugged := diskDir(t), 0
	for ; plugged < 8; plugged++ {
		disk := volumeOf(virt.Source{File: randomFile(t, dir, fmt.Sprint(plugged), 512)}, fmt.Sprint("v", plugged))
		disk.Target = "vd" + string(rune('b'+plugged))
		if err := d.PlugDisk(within(t), s.ID, disk); err != nil {
			if !errors.Is(err, virt.ErrNoCapacity) {
				t.Errorf("error is %v, want ErrNoCapacity", err)
			}
			break
		}
	}
	list, err := d.Disks(within(t), s.ID)
	must(t, err)
	if plugged == 8 || len(list) != 1+plugged {
		t.Errorf("%d disks were plugged in; the guest has %+v", plugged, list)
	}
}

// TestSecretsOfOthers keeps away from a secret that somebody else defined.
func TestSecretsOfOthers(t *testing.T) {
	needLibvirt(t)
	d := newDriver(t, Options{})
	id := uuid.NewString()
	definition := filepath.Join(t.TempDir(), "secret.xml")
	must(t, os.WriteFile(definition, []byte(`<secret ephemeral="yes"><uuid>`+id+`</uuid><usage type="volume"><volume>volume-`+id+`</volume></usage></secret>`), 0o600))
	run(t, "virsh", "-c", testURI(), "secret-define", definition)
	t.Cleanup(func() { run(t, "virsh", "-c", testURI(), "secret-undefine", id) })
	run(t, "virsh", "-c", testURI(), "secret-set-value", id, "--base64", "b3RoZXI=")

	ours := virt.Secret{UUID: uuid.NewString(), Usage: "volume", For: "volume-" + id, Value: []byte("ours")}
	must(t, d.PutSecret(within(t), ours))
	t.Cleanup(func() { must(t, d.DeleteSecret(context.Background(), ours.UUID)) })
	if text := run(t, "virsh", "-c", testURI(), "secret-dumpxml", ours.UUID); !regexp.MustCompile(`ephemeral='yes' private='yes'`).MatchString(text) {
		t.Errorf("our secret is\n%s", text)
	}
	if out, err := exec.Command("virsh", "-c", testURI(), "secret-get-value", ours.UUID).CombinedOutput(); err == nil {
		t.Errorf("the value of our secret can be read: %s", out)
	}
	ours.UUID = id
	if err := d.PutSecret(within(t), ours); !errors.Is(err, virt.ErrExists) {
		t.Errorf("error is %v, want ErrExists", err)
	}
	must(t, d.DeleteSecret(within(t), id))
	list, err := d.Secrets(within(t))
	must(t, err)
	if _, listed := list[id]; listed {
		t.Error("somebody else's secret is listed")
	}
	if value := strings.TrimSpace(run(t, "virsh", "-c", testURI(), "secret-get-value", id)); value != "b3RoZXI=" {
		t.Errorf("somebody else's secret is %s now", value)
	}
}
