// Package scsitest holds machines of the tests: trees of sysfs, udev and proc out of files, and a kernel that scans and removes disks in them.
package scsitest

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/scsi"
	"compute-agent/blockdev/uevent"
)

// Extract writes the trees of an archive to a directory that goes with the test, and returns it. A file that begins with "-> " is a symbolic link, one
// that begins with "hex " the bytes that the digits are, a name that ends with / an empty directory.
func Extract(t testing.TB, file string) string {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, f := range archive.Files {
		if err := extract(root, f.Name, string(f.Data)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"sys", "dev", "proc", "run/udev/data"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func extract(root, name, text string) error {
	path := filepath.Join(root, name)
	if strings.HasSuffix(name, "/") {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if target, ok := strings.CutPrefix(text, "-> "); ok {
		return os.Symlink(strings.TrimSpace(target), path)
	}
	data := []byte(text)
	if digits, ok := strings.CutPrefix(text, "hex "); ok {
		var err error
		if data, err = hex.DecodeString(strings.Join(strings.Fields(digits), "")); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	whole := path + ".new" // who reads meanwhile sees all of it or nothing, as of udev's records
	if err := os.WriteFile(whole, data, 0o644); err != nil {
		return err
	}
	return os.Rename(whole, path)
}

// Disk is what a target has at an address.
type Disk struct {
	Vendor, Model, WWID string // WWID in the kernel's form
	Bytes               int64
	// Serial is udev's name of the disk where it is another than WWID makes: a disk has several, and the two choose by rules of their own.
	Serial string
}

// Kernel scans and removes disks in a tree. It writes nowhere but there.
type Kernel struct {
	Root string

	mu     sync.Mutex
	disks  map[scsi.Address]Disk
	held   map[string]bool // names of devices that Exclusive finds held
	watch  []func()
	next   int
	writes []string
	fail   map[string]error
	hooks  []func()
}

// New returns the machine of an archive.
func New(t testing.TB, file string) (scsi.System, *Kernel) {
	t.Helper()
	k := &Kernel{Root: Extract(t, file), disks: map[scsi.Address]Disk{}, held: map[string]bool{}, fail: map[string]error{}}
	return k.System(), k
}

// System is the machine's.
func (k *Kernel) System() scsi.System {
	return scsi.System{Sys: k.Root + "/sys", Dev: k.Root + "/dev", Proc: k.Root + "/proc", RunUdev: k.Root + "/run/udev", Kernel: k}
}

// Put gives a target a disk at the address, or another one than it had, or with no bytes and no WWID none. Nobody has scanned for it yet.
func (k *Kernel) Put(a scsi.Address, d Disk) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d == (Disk{}) {
		delete(k.disks, a)
		return
	}
	k.disks[a] = d
}

// Hold makes somebody hold a block device exclusively, or nobody.
func (k *Kernel) Hold(name string, held bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held[name] = held
}

// Fail makes writes of an attribute fail whose path below sys ends so.
func (k *Kernel) Fail(suffix string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail[suffix] = err
}

// After calls what udev or a daemon does after each write, with the kernel unlocked.
func (k *Kernel) After(hook func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hooks = append(k.hooks, hook)
}

// Writes returns what was written so far, as "class/scsi_host/host3/scan 0 0 1".
func (k *Kernel) Writes() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.writes)
}

// Set writes a file of the tree and sends an event.
func (k *Kernel) Set(name, text string) {
	if err := os.RemoveAll(filepath.Join(k.Root, name)); err != nil {
		panic(err)
	}
	if err := extract(k.Root, name, text); err != nil {
		panic(err)
	}
	k.Event()
}

// Unset removes a file or tree and sends an event.
func (k *Kernel) Unset(name string) {
	if err := os.RemoveAll(filepath.Join(k.Root, name)); err != nil {
		panic(err)
	}
	k.Event()
}

// Event wakes all who wait.
func (k *Kernel) Event() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, event := range k.watch {
		event()
	}
}

// Write implements scsi.Kernel.
func (k *Kernel) Write(path, value string) error {
	name, err := filepath.Rel(k.Root+"/sys", path)
	if err != nil {
		return err
	}
	err = k.write(name, value)
	k.mu.Lock()
	hooks := slices.Clone(k.hooks)
	k.mu.Unlock()
	for _, hook := range hooks {
		hook()
	}
	k.Event()
	return err
}

func (k *Kernel) write(name, value string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := os.Stat(filepath.Join(k.Root, "sys", name)); err != nil {
		return err
	}
	k.writes = append(k.writes, name+" "+value)
	for suffix, err := range k.fail {
		if strings.HasSuffix(name, suffix) {
			return err
		}
	}
	device, action := filepath.Split(name)
	a, err := scsi.ParseAddress(filepath.Base(device))
	switch {
	case action == "scan":
		return k.scan(filepath.Base(device), value)
	case err != nil:
		return fmt.Errorf("%s: %w", name, fs.ErrInvalid)
	case action == "delete":
		return k.remove(a)
	case action == "rescan":
		return k.rescan(a)
	}
	return fmt.Errorf("%s: %w", name, fs.ErrInvalid)
}

func (k *Kernel) scan(host, value string) error {
	fields := strings.Fields(value)
	if len(fields) != 3 {
		return fs.ErrInvalid
	}
	for _, a := range slices.SortedFunc(maps.Keys(k.disks), func(a, b scsi.Address) int { return strings.Compare(a.String(), b.String()) }) {
		there := []string{fmt.Sprint(a.Channel), fmt.Sprint(a.Target), fmt.Sprint(a.LUN)}
		match := host == fmt.Sprintf("host%d", a.Host)
		for i := range there {
			match = match && (fields[i] == "-" || fields[i] == there[i])
		}
		if match {
			if err := k.add(a); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *Kernel) dir(a scsi.Address) string { return "sys/bus/scsi/devices/" + a.String() }

// add makes the device, as drivers/scsi/scsi_scan.c, drivers/scsi/sd.c and udev do.
func (k *Kernel) add(a scsi.Address) error {
	if _, err := os.Stat(filepath.Join(k.Root, k.dir(a))); err == nil {
		return nil
	}
	name := k.free()
	dir := k.dir(a)
	block := dir + "/block/" + name
	number := fmt.Sprintf("8:%d", k.next*16)
	k.next++
	files := map[string]string{
		dir + "/type": "0\n", dir + "/state": "running\n", dir + "/rescan": "", dir + "/delete": "",
		block + "/dev": number + "\n", block + "/stat": "1 0 8 0 0 0 0 0 0 0 0\n", block + "/holders/": "",
		block + "/device": "-> ../../../" + a.String(), "dev/" + name: "",
		"sys/block/" + name: "-> ../bus/scsi/devices/" + a.String() + "/block/" + name, "sys/class/block/" + name: "-> ../../bus/scsi/devices/" + a.String() + "/block/" + name,
	}
	for file, text := range files {
		if err := extract(k.Root, file, text); err != nil {
			return err
		}
	}
	if err := k.describe(a, name); err != nil {
		return err
	}
	record := ""
	if wwid := cmp.Or(k.disks[a].Serial, scsi.MapName(connector.Identity(k.disks[a].WWID))); wwid != "" {
		record = "S:disk/by-id/scsi-" + wwid + "\nE:ID_SERIAL=" + wwid + "\n"
		link := "dev/disk/by-id/scsi-" + wwid
		_ = os.Remove(filepath.Join(k.Root, link))
		if err := extract(k.Root, link, "-> ../../"+name); err != nil {
			return err
		}
	}
	return extract(k.Root, "run/udev/data/b"+number, record)
}

// free is the first of the names sda, sdb... that is not taken.
func (k *Kernel) free() string {
	for {
		name := "sd" + string(rune('a'+k.next%26))
		if _, err := os.Lstat(filepath.Join(k.Root, "sys/block", name)); errors.Is(err, fs.ErrNotExist) {
			return name
		}
		k.next++
	}
}

// describe writes what INQUIRY and READ CAPACITY tell.
func (k *Kernel) describe(a scsi.Address, name string) error {
	d, dir := k.disks[a], k.dir(a)
	for file, text := range map[string]string{
		dir + "/vendor": fmt.Sprintf("%-8s\n", d.Vendor), dir + "/model": fmt.Sprintf("%-16s\n", d.Model), dir + "/wwid": d.WWID + "\n",
		dir + "/block/" + name + "/size": fmt.Sprintf("%d\n", d.Bytes/512),
	} {
		if err := extract(k.Root, file, text); err != nil {
			return err
		}
	}
	return nil
}

func (k *Kernel) blockName(a scsi.Address) string {
	entries, err := os.ReadDir(filepath.Join(k.Root, k.dir(a), "block"))
	if err != nil || len(entries) == 0 {
		return ""
	}
	return entries[0].Name()
}

func (k *Kernel) rescan(a scsi.Address) error {
	name := k.blockName(a)
	if _, there := k.disks[a]; !there {
		return extract(k.Root, k.dir(a)+"/block/"+name+"/size", "0\n")
	}
	return k.describe(a, name)
}

func (k *Kernel) remove(a scsi.Address) error {
	name := k.blockName(a)
	number, _ := os.ReadFile(filepath.Join(k.Root, k.dir(a), "block", name, "dev"))
	var failed []error
	for _, path := range []string{k.dir(a), "sys/block/" + name, "sys/class/block/" + name, "dev/" + name, "run/udev/data/b" + strings.TrimSpace(string(number))} {
		failed = append(failed, os.RemoveAll(filepath.Join(k.Root, path)))
	}
	return errors.Join(failed...)
}

// Flush implements scsi.Kernel.
func (k *Kernel) Flush(node string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.writes = append(k.writes, "flush "+filepath.Base(node))
	return nil
}

// Exclusive implements scsi.Kernel.
func (k *Kernel) Exclusive(node string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held[filepath.Base(node)] {
		return scsi.ErrHeld
	}
	return nil
}

// Number implements scsi.Kernel: a file of the tree is the block device of that name.
func (k *Kernel) Number(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	data, err := os.ReadFile(filepath.Join(k.Root, "sys/class/block", filepath.Base(target), "dev"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// Watch implements scsi.Kernel.
func (k *Kernel) Watch() (*uevent.Watch, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w, event := uevent.Fed()
	k.watch = append(k.watch, event)
	return w, nil
}
