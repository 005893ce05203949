package scsi

import (
	"os"
	"path/filepath"
	"strings"
)

// record is what udev has written of a device when its rules had run: /run/udev/data/b8:0 and so on.
type record struct {
	there      bool
	links      []string // below /dev
	properties map[string]string
}

func (s System) udev(number string) record {
	data, err := os.ReadFile(filepath.Join(s.RunUdev, "data", "b"+number))
	if err != nil || !plain(number) {
		return record{}
	}
	r := record{there: true, properties: map[string]string{}}
	for line := range strings.Lines(string(data)) {
		kind, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		switch kind {
		case "S":
			r.links = append(r.links, value)
		case "E":
			key, text, _ := strings.Cut(value, "=")
			r.properties[key] = text
		}
	}
	return r
}

// Settled says whether udev has done with a block device: its links are there, and udev's programs do not hold it any more. Without udev there is
// nothing to wait for.
func (s System) Settled(name string) bool {
	if !s.HasUdev() {
		return true
	}
	number, err := s.number(name)
	if err != nil {
		return false
	}
	r := s.udev(number)
	return r.there && s.current(r, name)
}

// HasUdev says whether udev runs on the host.
func (s System) HasUdev() bool { return exists(filepath.Join(s.RunUdev, "control")) }

const seqLink = "disk/by-diskseq/"

// current says whether a record is of this device, and not of an earlier one that had its number.
func (s System) current(r record, name string) bool {
	seq, err := readText(s.Sys, "block", name, "diskseq")
	if err != nil {
		return true // a kernel before 5.15
	}
	for _, link := range r.links {
		if is, ok := strings.CutPrefix(link, seqLink); ok {
			return is == seq
		}
	}
	return true
}

// consistent says whether udev knows a disk by the name that the disk has now. It does not when the disk's LUN was given to another while nobody
// looked: udev is told of a change of its size at best.
func (s System) consistent(d Device) bool {
	name, known := MapName(d.Identity), s.udev(d.Number).properties["ID_SERIAL"]
	sameKind := name != "" && known != "" && name[0] == known[0] && len(name) == len(known)
	return !sameKind || name == known
}

// linkKinds are the names that stay the same when the host starts again, the best first.
var linkKinds = []string{"disk/by-id/dm-uuid-mpath-", "disk/by-id/wwn-", "disk/by-id/scsi-", "disk/by-id/"}

// Path is the file to use a block device by: udev's link that has its identity in its name, so that a path that is kept can never become that of
// another disk when the host starts again; where there is none that leads to the device, the kernel's own name.
func (s System) Path(name string) string {
	number, err := s.number(name)
	if err != nil {
		return s.Node(name)
	}
	links := s.udev(number).links
	for _, kind := range linkKinds {
		for _, link := range links {
			path := filepath.Join(s.Dev, link)
			if strings.HasPrefix(link, kind) && s.leadsTo(path, name) {
				return path
			}
		}
	}
	return s.Node(name)
}

// Name returns the kernel's name of the block device that a path leads to; empty when there is none.
func (s System) Name(path string) string {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	dev, err := filepath.EvalSymlinks(s.Dev)
	if err != nil || filepath.Dir(target) != dev {
		return ""
	}
	name := filepath.Base(target)
	if !exists(s.sys("block", name)) {
		return ""
	}
	return name
}

func (s System) leadsTo(path, name string) bool { return s.Name(path) == name }

// number is major:minor of a block device or partition.
func (s System) number(name string) (string, error) {
	if !plain(name) {
		return "", os.ErrNotExist
	}
	return readText(s.Sys, "class/block", name, "dev")
}
