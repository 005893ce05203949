// Package domaindiff compares two libvirt domains by what they mean and not by how they are written: order, units,
// what libvirt would add by itself and names that are made anew each time do not count.
package domaindiff

import (
	"slices"
	"strconv"
)

// Domain is a domain by its sections. The name of a section is that of its elements; devices/disk are the drives. The
// elements of a section are in the order of the document: the order of devices of one kind is the one in which the guest
// finds them.
type Domain map[string][]*Element

// Parse reads a domain's XML.
func Parse(text string) (Domain, error) {
	root, err := ParseElement(text)
	if err != nil {
		return nil, err
	}
	normalise(root, "")
	d := Domain{"domain": {{Name: "domain", Attrs: root.Attrs}}}
	for _, e := range root.Children {
		if e.Name != "devices" {
			d[e.Name] = append(d[e.Name], e)
			continue
		}
		for _, device := range e.Children {
			d["devices/"+device.Name] = append(d["devices/"+device.Name], device)
		}
	}
	return d, nil
}

// Differences are the names of the sections in which two domains differ.
func Differences(a, b Domain) []string {
	var list []string
	for _, name := range sections(a, b) {
		if !slices.Equal(texts(a[name]), texts(b[name])) {
			list = append(list, name)
		}
	}
	return list
}

func sections(domains ...Domain) []string {
	var names []string
	for _, d := range domains {
		for name := range d {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// assumed are attributes that say what holds without them: libvirt's defaults. The key is the element's
// path below the domain.
var assumed = map[string]map[string]string{
	"vcpu":                     {"placement": "static"},
	"cpu":                      {"match": "exact", "mode": "custom"},
	"cpu/model":                {"fallback": "allow"},
	"cpu/feature":              {"policy": "require"},
	"memory":                   {"unit": "KiB"},
	"devices/disk":             {"device": "disk"},
	"devices/graphics":         {"port": "-1"},
	"devices/graphics/listen":  {"type": "address"},
	"devices/serial/target":    {"type": "isa-serial"},
	"devices/memballoon":       {"autodeflate": "off", "freePageReporting": "off"},
	"devices/interface/target": {"managed": "yes"},
	"devices/channel/source":   {"mode": "bind"},
	"devices/hostdev/source":   {"startupPolicy": "mandatory"},
	"devices/watchdog":         {"action": "reset"},
	"devices/video/model":      {"heads": "1"},
	"numatune/memory":          {"mode": "strict"},
	"numatune/memnode":         {"mode": "strict"},
	"devices/disk/driver":      {"name": "qemu"},
	"devices/console/target":   {"type": "serial"},
}

// added are elements that libvirt adds to a domain without them.
var added = map[string][]string{
	"":        {"<on_poweroff>destroy</on_poweroff>", "<on_reboot>restart</on_reboot>", "<on_crash>destroy</on_crash>"},
	"devices": {`<controller index="0" type="usb"/>`, `<memballoon model="virtio"/>`},
}

// left is what does not count: what tells of the maker, and libvirt's own addresses and names.
func left(e *Element, path string) bool {
	switch {
	case path == "metadata":
		return true
	case path == "sysinfo/system/entry":
		return e.Attrs["name"] == "version"
	case e.Name == "alias":
		return len(e.Attrs["name"]) < 3 || e.Attrs["name"][:3] != "ua-"
	}
	return false
}

func normalise(e *Element, path string) {
	inKiB(e, path)
	for name, value := range assumed[path] {
		if e.Attrs[name] == value {
			delete(e.Attrs, name)
		}
	}
	switch {
	case path == "devices/graphics":
		listenChild(e)
	case path == "devices/disk" && e.Attrs["device"] == "cdrom": // they always are
		e.Children = slices.DeleteFunc(e.Children, func(c *Element) bool { return c.String() == "<readonly/>" })
	}
	for _, c := range e.Children {
		normalise(c, join(path, c.Name))
	}
	e.Children = slices.DeleteFunc(e.Children, func(c *Element) bool {
		return left(c, join(path, c.Name)) || slices.Contains(added[path], c.String())
	})
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "/" + name
}

// listenChild writes where a screen listens as an element: the attribute is the older form of the same.
func listenChild(e *Element) {
	address, ok := e.Attrs["listen"]
	if !ok {
		return
	}
	delete(e.Attrs, "listen")
	if e.child("listen") == nil {
		e.Children = append(e.Children, &Element{Name: "listen", Attrs: map[string]string{"address": address}})
	}
}

// units are what libvirt's sizes are given in, in bytes.
var units = map[string]uint64{"b": 1, "bytes": 1, "KB": 1000, "k": 1 << 10, "KiB": 1 << 10, "MB": 1e6, "M": 1 << 20, "MiB": 1 << 20,
	"GB": 1e9, "G": 1 << 30, "GiB": 1 << 30, "TB": 1e12, "T": 1 << 40, "TiB": 1 << 40}

// sized are the elements whose text is a size, and those with attributes that are.
var (
	sized     = []string{"memory", "currentMemory", "maxMemory", "devices/memory/target/size", "devices/memory/target/label/size", "devices/memory/source/alignsize", "devices/memory/source/pagesize", "features/tcg/tb-cache"}
	sizedAttr = map[string]string{"cpu/numa/cell": "memory", "memoryBacking/hugepages/page": "size"}
)

// inKiB states a size in KiB, libvirt's unit where none is named.
func inKiB(e *Element, path string) {
	size, inAttr := sizedAttr[path]
	if !inAttr && !slices.Contains(sized, path) {
		return
	}
	unit := e.Attrs["unit"]
	if unit == "" {
		unit = "KiB"
	}
	text := e.Text
	if inAttr {
		text = e.Attrs[size]
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || units[unit] == 0 || n*units[unit]%1024 != 0 {
		return // then it differs, and that is right
	}
	delete(e.Attrs, "unit")
	text = strconv.FormatUint(n*units[unit]/1024, 10)
	if inAttr {
		e.Attrs[size] = text
	} else {
		e.Text = text
	}
}
