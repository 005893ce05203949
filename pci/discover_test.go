package pci_test

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"compute-agent/internal/golden"
	"compute-agent/pci"
)

// readTree reads a machine's sysfs from testdata/sys; a file that begins with -> is a symbolic link.
func readTree(t testing.TB, name string) fstest.MapFS {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/sys/" + name + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	tree := fstest.MapFS{}
	for _, f := range archive.Files {
		file := &fstest.MapFile{Data: f.Data}
		if target, isLink := strings.CutPrefix(string(f.Data), "-> "); isLink {
			file = &fstest.MapFile{Data: []byte(strings.TrimSpace(target)), Mode: fs.ModeSymlink}
		}
		tree[f.Name] = file
	}
	return tree
}

func discover(t testing.TB, name string) []pci.Device {
	t.Helper()
	devices, err := pci.Discover(readTree(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return devices
}

func describe(d pci.Device) string {
	node, parent := "?", ""
	if d.Node != nil {
		node = fmt.Sprint(*d.Node)
	}
	if d.Parent != nil {
		parent = " of " + d.Parent.String()
	}
	return fmt.Sprintf("%v %s:%s class %06x node %s %s%s driver %q netdev %q\n", d.Address, d.VendorID, d.ProductID, d.Class, node,
		d.Type, parent, d.Driver, d.Netdev)
}

func TestDiscover(t *testing.T) {
	for _, name := range []string{"server", "guest"} {
		var b strings.Builder
		for _, d := range discover(t, name) {
			b.WriteString(describe(d))
		}
		golden.Assert(t, "testdata/sys/"+name+".golden", b.String())
	}
}

// TestDiscoverLies changes one file of a good tree: the tree is refused and the file named.
func TestDiscoverLies(t *testing.T) {
	const dir = "bus/pci/devices/"
	for file, says := range map[string]string{
		dir + "0000:3b:00.0/vendor":    "intel",
		dir + "0000:3b:00.0/device":    "0x12345",
		dir + "0000:3b:00.0/class":     "",
		dir + "0000:3b:00.0/numa_node": "-2",
		dir + "0000:3b:02.0/physfn":    "-> ../0000:18:00.0",
		dir + "0000:3b:02.1/physfn":    "-> ../nowhere",
	} {
		tree := readTree(t, "server")
		tree[file] = &fstest.MapFile{Data: []byte(says + "\n")}
		if target, isLink := strings.CutPrefix(says, "-> "); isLink {
			tree[file] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink}
		}
		if _, err := pci.Discover(tree); err == nil || !strings.Contains(err.Error(), file+": ") {
			t.Errorf("%s says %q: error %v", file, says, err)
		}
	}
	tree := readTree(t, "server")
	tree[dir+"tmp/vendor"] = &fstest.MapFile{Data: []byte("0x8086")}
	if _, err := pci.Discover(tree); err == nil || !strings.Contains(err.Error(), dir+"tmp: ") {
		t.Errorf("a directory that is no address: %v", err)
	}
	tree = readTree(t, "server")
	tree[dir+"10000:e1:00.0/vendor"] = &fstest.MapFile{Data: []byte("0x144d")} // behind Intel's VMD
	if devices, err := pci.Discover(tree); err != nil || len(devices) != len(discover(t, "server")) {
		t.Errorf("a domain of more than 16 bits: %v", err)
	}
	tree = readTree(t, "server")
	delete(tree, dir+"0000:3b:00.0/vendor")
	if _, err := pci.Discover(tree); err == nil || !strings.Contains(err.Error(), dir+"0000:3b:00.0/vendor") {
		t.Errorf("a device without a vendor: %v", err)
	}
}

// TestDiscoverThisMachine reads the host that the test runs on.
func TestDiscoverThisMachine(t *testing.T) {
	devices, err := pci.Discover(os.DirFS("/sys"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/sys/bus/pci/devices")
	if err == nil && len(entries) != len(devices) {
		t.Errorf("%d devices found of %d", len(devices), len(entries))
	}
	if none, err := pci.Discover(fstest.MapFS{}); err != nil || len(none) > 0 {
		t.Errorf("a host without PCI: %v, %v", none, err)
	}
}

func TestAddress(t *testing.T) {
	for text, ok := range map[string]bool{
		"0000:81:00.1": true, "ffff:ff:1f.7": true, "0000:81:20.0": false, "0000:81:00.8": false, "81:00.1": false,
		"0000:81:00": false, "": false, "000g:81:00.1": false, "0000:81:00.1 ": false, "00000:81:00.1": false,
	} {
		a, err := pci.ParseAddress(text)
		if ok != (err == nil) || ok && a.String() != text {
			t.Errorf("%q: %v, %v", text, a, err)
		}
	}
	a, _ := pci.ParseAddress("0000:0A:00.1")
	var b pci.Address
	if err := b.UnmarshalText([]byte("0000:0a:00.2")); err != nil || a.Compare(b) >= 0 {
		t.Errorf("%v and %v: %v", a, b, err)
	}
}
