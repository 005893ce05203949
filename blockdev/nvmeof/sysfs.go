package nvmeof

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"compute-agent/blockdev/connector"
)

// States of a controller (drivers/nvme/host/sysfs.c).
const (
	Live       = "live"
	Connecting = "connecting" // it has lost its target and asks for it again
)

// ANA states of a path (asymmetric namespace access; NVM Express Base Specification, 8.1.1) in which it carries I/O.
const (
	Optimized    = "optimized"
	NonOptimized = "non-optimized"
)

// Controller is a connection to a subsystem by one of its portals.
type Controller struct {
	Name      string // nvme0
	NQN       string // of the subsystem
	HostNQN   string // empty where the kernel does not tell (before Linux 5.8)
	Transport string // tcp, rdma, fc, loop, pcie
	Address   string // traddr
	Service   string // trsvcid: the port; empty for fc
	HostAddr  string // host_traddr; empty when none was given
	State     string
	Spaces    []Namespace // that it shows
}

// portal is the controller's end at the subsystem, for people.
func (c Controller) portal() string { return c.asPortal().String() }

// ending says whether the controller is on its way out: its kind of connection may be made again.
func (c Controller) ending() bool {
	return c.State == "dead" || strings.HasPrefix(c.State, "deleting")
}

// leads says whether the controller is a connection to the portal.
func (c Controller) leads(p portal) bool {
	return c.Transport == p.Transport && sameAddress(c.Address, p.Address) && (p.Port == 0 || c.Service == strconv.Itoa(p.Port)) &&
		(p.hostAddr == "" || c.HostAddr == p.hostAddr)
}

func sameAddress(a, b string) bool {
	x, err1 := netip.ParseAddr(a)
	y, err2 := netip.ParseAddr(b)
	if err1 != nil || err2 != nil {
		return strings.EqualFold(a, b)
	}
	return x == y
}

// Namespace is a namespace as a controller shows it. With native multipath that is a path, and Disk the head that stands for all.
type Namespace struct {
	Path string // nvme0c0n1, or nvme0n1 where there is no native multipath
	Disk string // nvme0n1: what there is a block device of, when any path carries I/O
	NSID int
	// UUID and NGUID as sysfs prints them; empty for none. A namespace without a UUID shows its NGUID as one, and volume services call it so. Identity
	// is the wwid attribute.
	UUID, NGUID string
	Identity    connector.Identity
	ANA         string // state of the path; empty where the subsystem has no ANA
}

// pathName is a namespace's directory below its controller: nvme0n1 without native multipath, nvme0c0n1 with it.
var pathName = regexp.MustCompile(`^(nvme\d+)(?:c\d+)?(n\d+)$`)

var controllerName = regexp.MustCompile(`^nvme\d+$`)

// Controllers returns those over fabrics with what they show, in the order of their names. One that goes while it is read is left out.
func (c *Connector) Controllers() ([]Controller, error) { return c.read("", readController) }

// read returns the controllers of a subsystem, or all with an empty name.
func (c *Connector) read(nqn string, one func(dir string) (Controller, error)) ([]Controller, error) {
	dir := c.sys("class/nvme")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the kernel has no NVMe, or not yet
	}
	if err != nil {
		return nil, fmt.Errorf("NVMe controllers: %w", err)
	}
	var out []Controller
	for _, e := range entries {
		if !controllerName.MatchString(e.Name()) {
			continue
		}
		if nqn != "" { // a host may have many
			if of, err := readText(dir, e.Name(), "subsysnqn"); err == nil && of != nqn {
				continue
			}
		}
		found, err := one(filepath.Join(dir, e.Name()))
		if err != nil {
			if _, err := os.Lstat(filepath.Join(dir, e.Name(), "transport")); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return nil, fmt.Errorf("NVMe controller %s: %w", e.Name(), err)
		}
		if found.Transport != "pcie" {
			out = append(out, found)
		}
	}
	return out, nil
}

// readController reads a controller with what it shows.
func readController(dir string) (Controller, error) {
	c, err := readConnection(dir)
	if err != nil {
		return c, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return c, err
	}
	for _, e := range entries {
		if n, ok := readNamespace(filepath.Join(dir, e.Name())); ok {
			c.Spaces = append(c.Spaces, n)
		}
	}
	return c, nil
}

// readConnection reads a controller, without what it shows: that may be hundreds of namespaces.
func readConnection(dir string) (Controller, error) {
	c := Controller{Name: filepath.Base(dir)}
	for _, f := range []struct {
		file  string
		field *string
	}{{"transport", &c.Transport}, {"subsysnqn", &c.NQN}, {"state", &c.State}} {
		var err error
		if *f.field, err = readText(dir, f.file); err != nil {
			return c, err
		}
	}
	c.HostNQN, _ = readText(dir, "hostnqn")
	address, _ := readText(dir, "address")
	for option := range strings.SplitSeq(address, ",") {
		switch key, value, _ := strings.Cut(option, "="); strings.TrimSpace(key) {
		case "traddr":
			c.Address = value
		case "trsvcid":
			c.Service = value
		case "host_traddr":
			c.HostAddr = value
		}
	}
	return c, nil
}

// readNamespace reads a namespace below a controller. One that goes while it is read, or has no number yet, is none.
func readNamespace(dir string) (Namespace, bool) {
	parts := pathName.FindStringSubmatch(filepath.Base(dir))
	if parts == nil {
		return Namespace{}, false
	}
	n := Namespace{Path: parts[0], Disk: parts[1] + parts[2]}
	nsid, err1 := readText(dir, "nsid")
	wwid, err2 := readText(dir, "wwid")
	var err3 error
	if n.NSID, err3 = strconv.Atoi(nsid); errors.Join(err1, err2, err3) != nil {
		return Namespace{}, false
	}
	n.Identity = connector.Identity(strings.Join(strings.Fields(wwid), " "))
	n.NGUID, _ = readText(dir, "nguid")
	n.UUID, _ = readText(dir, "uuid")
	n.ANA, _ = readText(dir, "ana_state")
	if n.NGUID == noUUID {
		n.NGUID = ""
	}
	if n.UUID == noUUID {
		n.UUID = ""
	}
	return n, true
}

const noUUID = "00000000-0000-0000-0000-000000000000"

// usable says whether the path carries I/O.
func (n Namespace) usable() bool { return n.ANA == "" || n.ANA == Optimized || n.ANA == NonOptimized }

// matches says whether a namespace is the one that is asked for, by the best name that there is for it: UUIDs are for ever, an NGUID is the array's, and a
// number is only the subsystem's for the time being.
func (n Namespace) matches(info connector.NVMeInfo) bool {
	switch {
	case info.UUID != "":
		return strings.EqualFold(n.UUID, info.UUID)
	case info.NGUID != "":
		return strings.EqualFold(n.NGUID, info.NGUID)
	case info.NSID != 0:
		return n.NSID == info.NSID
	default:
		return true
	}
}

// NativeMultipath says whether the kernel itself makes one disk of all paths to a namespace.
func NativeMultipath(sys string) bool {
	text, err := readText(sys, "module/nvme_core/parameters/multipath")
	return err == nil && text == "Y"
}

// fcPorts are the addresses (host_traddr) of this host's Fibre Channel ports that are online.
func fcPorts(sys string) []string {
	dirs, _ := filepath.Glob(filepath.Join(sys, "class/fc_host/host*"))
	var out []string
	for _, dir := range dirs {
		node, err1 := readText(dir, "node_name")
		port, err2 := readText(dir, "port_name")
		state, err3 := readText(dir, "port_state")
		if errors.Join(err1, err2, err3) == nil && state == "Online" {
			out = append(out, "nn-"+strings.ToLower(node)+":pn-"+strings.ToLower(port))
		}
	}
	slices.Sort(out)
	return out
}

// fcTraddr is an address on Fibre Channel.
var fcTraddr = regexp.MustCompile(`(?i)^nn-0x[0-9a-f]{16}:pn-0x[0-9a-f]{16}$`)

func (c *Connector) sys(parts ...string) string {
	return filepath.Join(append([]string{c.System.Sys}, parts...)...)
}

func readText(parts ...string) (string, error) {
	data, err := os.ReadFile(filepath.Join(parts...))
	return strings.TrimSpace(strings.ToValidUTF8(string(data), "?")), err
}
