package virt

import "path/filepath"

// NamedPath is a file or a directory of the host, and what it is in the Spec.
type NamedPath struct {
	Field string
	Path  string
}

// Paths are the files and directories that have to be there before the guest can be made, in the order of
// the Spec's fields. Logs and sockets are made with the guest: of them it is the directory.
func (s Spec) Paths() []NamedPath {
	var all []NamedPath
	add := func(field, path string) {
		if path != "" {
			all = append(all, NamedPath{field, path})
		}
	}
	addDirectory := func(field, path string) {
		if path != "" {
			add("directory of the "+field, filepath.Dir(path))
		}
	}
	add("emulator", s.Emulator)
	add("kernel", s.Boot.Kernel)
	add("initrd", s.Boot.Initrd)
	for _, d := range s.Disks {
		add("disk "+d.Target, d.Path())
		for _, b := range d.Backing {
			add("backing file of disk "+d.Target, b.Path)
		}
	}
	for _, n := range s.NICs {
		addDirectory("socket of NIC "+n.MAC, n.Attach.Socket)
		if n.Attach.Type == "vdpa" {
			add("device of NIC "+n.MAC, n.Attach.Device)
		}
	}
	for _, share := range s.Shares {
		add("share "+share.Tag, share.Path)
	}
	for _, p := range s.Serial {
		addDirectory("console log", p.Log)
		addDirectory("socket of a serial port", p.Path)
	}
	addDirectory("guest agent's socket", s.Channels.GuestAgentSocket)
	if s.RNG != nil {
		add("random number source", s.RNG.Source)
	}
	for _, n := range s.NVDIMMs {
		add("persistent memory", n.Path)
	}
	return all
}
