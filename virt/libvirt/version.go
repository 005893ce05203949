package libvirt

import lv "libvirt.org/go/libvirt"

// LibraryVersion returns the version of the libvirt library that this process runs with, as libvirt
// counts: major*1000000 + minor*1000 + micro. The daemon's own is in virt.Host.
func LibraryVersion() (int, error) {
	v, err := lv.GetVersion()
	return int(v), err
}
