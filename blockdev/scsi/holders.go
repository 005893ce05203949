package scsi

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"compute-agent/internal/shared"
)

// HolderKind is what holds a block device.
type HolderKind string

// The kinds of holders.
const (
	HeldByMap       HolderKind = "map"     // of device-mapper, such as LVM's or multipath's; or an array of md
	HeldByMount     HolderKind = "mount"   // Name is where
	HeldBySwap      HolderKind = "swap"    // Name is the file
	HeldByProcess   HolderKind = "process" // Name is the program and its process ID
	HeldExclusively HolderKind = "claim"   // somebody that is not seen, such as a mount in another namespace
)

// Holder is what holds a block device, or a partition of it.
type Holder struct {
	Kind   HolderKind
	Name   string // of a map its name of device-mapper
	Device string // of a map its name in the kernel: dm-0
	UUID   string // of a map: mpath- and its WWID
}

// String is the holder for a person.
func (h Holder) String() string { return string(h.Kind) + " " + h.Name }

// bystanders are programs that look at every block device, and let go or do not mind when it goes. No guest runs under such a name: QEMU's process has
// libvirt's name for it.
var bystanders = append([]string{"multipathd", "udisksd", "smartd", "iscsid", "multipath", "kpartx", "blkid", "scsi_id", "lvm", "mdadm"}, udevd...)

// udevd are udev's own processes. Whatever a rule has them run is a bystander as well.
var udevd = []string{"systemd-udevd", "(udev-worker)"}

// partitionMap is the UUID of a map that kpartx made for a partition of a map; it is the map's own as a partition is the disk's.
var partitionMap = regexp.MustCompile(`^part\d+-`)

// Holders returns all who hold the block device or a partition of it: maps, mounts, swap, and processes that have it open but for this one
// and those that look at every device. Maps that kpartx made of its partitions are looked through.
func (s System) Holders(name string) ([]Holder, error) {
	w, err := s.walk(name)
	if err != nil {
		return nil, fmt.Errorf("who holds %s: %w", name, err)
	}
	for _, look := range []func(*walk) error{s.mounts, s.swaps, s.processes} {
		if err := look(w); err != nil {
			return nil, fmt.Errorf("who holds %s: %w", name, err)
		}
	}
	if len(w.holders) == 0 {
		switch err := s.claimed(name, w); {
		case errors.Is(err, ErrHeld):
			w.add(Holder{Kind: HeldExclusively, Name: "of a user that is not seen from here"})
		case err != nil && !gone(err):
			return nil, fmt.Errorf("who holds %s: %w", name, err)
		}
	}
	slices.SortStableFunc(w.holders, func(a, b Holder) int { return cmp.Compare(a.String(), b.String()) })
	return w.holders, nil
}

// Busy says who holds a block device besides the maps that are named by the kernel's names (dm-0): the rule by which a disk is neither flushed nor
// removed when another guest, a mount or another map has it. A device that is not there is not busy.
func (s System) Busy(name string, but ...string) (who string, busy bool, err error) {
	if !plain(name) || !exists(s.sys("block", name)) {
		return "", false, nil
	}
	holders, err := s.Holders(name)
	if err != nil {
		return "", false, err
	}
	for _, h := range holders {
		if h.Kind != HeldByMap || !slices.Contains(but, h.Device) {
			return h.String(), true, nil
		}
	}
	return "", false, nil
}

// glance bounds how long a program that looks at every device keeps one for itself.
const glance = 2 * time.Second

// claimed returns ErrHeld when somebody has the device for himself. Programs that udev runs have it so for a moment: they are waited for.
func (s System) claimed(name string, w *walk) error {
	err := s.Kernel.Exclusive(s.Node(name))
	if !errors.Is(err, ErrHeld) {
		return err
	}
	if !w.looked { // one may have come since
		if failed := s.processes(w); failed != nil || !w.looked {
			return err
		}
	}
	watch, failed := s.Kernel.Watch()
	if failed != nil {
		return err
	}
	defer watch.Close() //nolint:errcheck // nothing is lost
	ctx, cancel := context.WithTimeout(context.Background(), glance)
	defer cancel()
	_ = watch.Until(ctx, func() (bool, error) { // udev's event says that its programs have ended
		err = s.Kernel.Exclusive(s.Node(name))
		return !errors.Is(err, ErrHeld), nil
	})
	return err
}

// walk collects a device, its partitions, and the partition maps above it.
type walk struct {
	numbers map[string]bool // major:minor
	holders []Holder
	looked  bool // a bystander has it open
}

func (w *walk) add(h Holder) {
	if !slices.Contains(w.holders, h) {
		w.holders = append(w.holders, h)
	}
}

func (s System) walk(name string) (*walk, error) {
	w := &walk{numbers: map[string]bool{}}
	dir := s.sys("block", name)
	if err := s.visit(w, dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if part := filepath.Join(dir, e.Name()); exists(filepath.Join(part, "partition")) {
			if err := s.visit(w, part); err != nil {
				return nil, err
			}
		}
	}
	return w, nil
}

func (s System) visit(w *walk, dir string) error {
	number, err := readText(dir, "dev")
	if err != nil || w.numbers[number] {
		return err
	}
	w.numbers[number] = true
	entries, err := os.ReadDir(filepath.Join(dir, "holders"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if err := s.above(w, e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// above adds a map that is made of the device, or looks through it.
func (s System) above(w *walk, name string) error {
	h := Holder{Kind: HeldByMap, Name: name, Device: name}
	h.UUID, _ = readText(s.Sys, "block", name, "dm/uuid")
	if dm, err := readText(s.Sys, "block", name, "dm/name"); err == nil {
		h.Name = dm
	}
	if partitionMap.MatchString(h.UUID) {
		return s.visit(w, s.sys("block", name))
	}
	w.add(h)
	return nil
}

// mounts looks into mountinfo (proc_pid_mountinfo(5)): the third field is the device, the fifth where it is mounted.
func (s System) mounts(w *walk) error {
	return lines(filepath.Join(s.Proc, "self/mountinfo"), func(fields []string) {
		if len(fields) > 4 && w.numbers[fields[2]] {
			w.add(Holder{Kind: HeldByMount, Name: fields[4]})
		}
	})
}

func (s System) swaps(w *walk) error {
	return lines(filepath.Join(s.Proc, "swaps"), func(fields []string) {
		if len(fields) == 0 || !strings.HasPrefix(fields[0], "/") {
			return
		}
		if number, err := s.number(s.Name(fields[0])); err == nil && w.numbers[number] {
			w.add(Holder{Kind: HeldBySwap, Name: fields[0]})
		}
	})
}

func lines(path string, each func(fields []string)) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		each(strings.Fields(scanner.Text()))
	}
	return scanner.Err()
}

// openDevices are the processes that have block devices open, by the devices' numbers.
type openDevices map[string][]string

// processes looks at the open files of all: a guest's disk is open in its QEMU and nowhere else to be seen. It is most of the work of finding out who holds a
// disk, and the same for all of them.
func (s System) processes(w *walk) error {
	look := s.open
	if look == nil {
		look = &shared.Look[openDevices]{}
	}
	open, err := look.Do(s.openFiles)
	if err != nil {
		return err
	}
	var all []string
	for number := range w.numbers {
		all = append(all, open[number]...)
	}
	slices.Sort(all)
	for _, pid := range slices.Compact(all) {
		if s.bystander(pid) {
			w.looked = true
			continue
		}
		program, _ := readText(s.Proc, pid, "comm")
		w.add(Holder{Kind: HeldByProcess, Name: program + " (" + pid + ")"})
	}
	return nil
}

// openFiles reads what all processes but this one have open.
func (s System) openFiles() (openDevices, error) {
	entries, err := os.ReadDir(s.Proc)
	if err != nil {
		return nil, err
	}
	open, self := openDevices{}, strconv.Itoa(os.Getpid())
	for _, e := range entries {
		pid := e.Name()
		if _, err := strconv.Atoi(pid); err != nil || pid == self {
			continue
		}
		dir := filepath.Join(s.Proc, pid, "fd")
		files, err := os.ReadDir(dir)
		if err != nil {
			continue // it has ended, or is a thread of the kernel
		}
		for _, f := range files {
			if number := s.Kernel.Number(filepath.Join(dir, f.Name())); number != "" {
				open[number] = append(open[number], pid)
			}
		}
	}
	return open, nil
}

// bystander says whether a process is one of those, or a program that udev runs on each device, such as multipath or blkid.
func (s System) bystander(pid string) bool {
	program, err := readText(s.Proc, pid, "comm")
	if err != nil || slices.Contains(bystanders, program) {
		return true // or it has ended meanwhile
	}
	stat, _ := readText(s.Proc, pid, "stat")
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:]) // proc_pid_stat(5): pid (comm) state ppid
	if len(fields) < 2 {
		return false
	}
	parent, _ := readText(s.Proc, fields[1], "comm")
	return slices.Contains(udevd, parent)
}
