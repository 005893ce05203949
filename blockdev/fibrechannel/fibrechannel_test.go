package fibrechannel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/lun"
	"compute-agent/blockdev/multipath"
	"compute-agent/blockdev/multipath/multipathtest"
	"compute-agent/blockdev/scsi"
	"compute-agent/blockdev/scsi/scsitest"
	"compute-agent/internal/golden"
)

const (
	qla  = "testdata/sys/qla2xxx.txtar"
	lpfc = "testdata/sys/lpfc.txtar"
	// Ports of the array and of the host in qla.
	left, right, lost = "500a0981891b8dc5", "500a0982891b8dc5", "500a0983891b8dc5"
	hostA, hostB      = "21000024ff30441c", "21000024ff30441d"
	vport             = "2101001b32a9da4e"
)

var disk = scsitest.Disk{Vendor: "NETAPP", Model: "LUN C-Mode", WWID: "naa.600a098038303053453f463045727a32", Bytes: 1 << 30}

type host struct {
	*Connector
	kernel *scsitest.Kernel
	daemon *multipathtest.Daemon
}

func newHost(t *testing.T, file string, o Options) host {
	s, k := scsitest.New(t, file)
	daemon := &multipathtest.Daemon{Kernel: k, Find: "strict"}
	o.LUN.SCSI, o.LUN.Maps = s, multipath.Daemon{SCSI: s, Commands: daemon}
	o.Patience, o.Interval = 20*time.Millisecond, time.Millisecond
	return host{New(o), k, daemon}
}

// info is of a volume at ports of the array, with a LUN at each.
func info(number int, wwpns ...string) connector.Info {
	fc := &connector.FCInfo{}
	for _, w := range wwpns {
		fc.Targets = append(fc.Targets, connector.FCTarget{WWPN: w, LUN: number})
	}
	return connector.Info{Type: connector.FibreChannel, FC: fc}
}

func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func reason(err error) connector.Reason {
	var e *connector.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// TestPorts writes the ports of the host and of the arrays that it sees, of each machine.
func TestPorts(t *testing.T) {
	for _, file := range []string{qla, lpfc} {
		root := scsitest.Extract(t, file)
		ports, err := Ports(root + "/sys")
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, p := range ports {
			fmt.Fprintf(&b, "host%d %s of node %s, online %v, virtual %v\n", p.Host, p.WWPN, p.WWNN, p.Online, p.Virtual)
		}
		wwpns, wwnns, err := WWNs(root + "/sys")
		fmt.Fprintf(&b, "told to the volume service: %v of %v, %v\n", wwpns, wwnns, err)
		seen, err := remotes(root + "/sys")
		for _, r := range seen {
			fmt.Fprintf(&b, "target %d:%d:%d is %s, online %v\n", r.host, r.channel, r.target, r.wwpn, r.online)
		}
		fmt.Fprintf(&b, "%v\n", err)
		golden.Assert(t, strings.TrimSuffix(file, "txtar")+"golden", b.String())
	}
	if ports, err := Ports(t.TempDir()); err != nil || ports != nil {
		t.Errorf("a host without adapters has %v, %v", ports, err)
	}
}

func TestReach(t *testing.T) {
	at := func(number int, wwpns ...string) []connector.FCTarget { return info(number, wwpns...).FC.Targets }
	for _, c := range []struct {
		name string
		info connector.FCInfo
		all  bool
		want string
	}{
		{"every port to every target", connector.FCInfo{Targets: at(7, left, right)}, false, "[5:0:0:7 6:0:0:7 8:0:3:7]"},
		{"those of the map only", connector.FCInfo{Targets: at(7, left, right), Map: map[string][]connector.FCTarget{hostB: at(9, right)}}, false, "[6:0:0:9]"},
		{"virtual port", connector.FCInfo{Targets: at(7, left), Map: map[string][]connector.FCTarget{vport: at(7, left)}}, false, "[8:0:3:7]"},
		{"a map of another host", connector.FCInfo{Targets: at(7, left), Map: map[string][]connector.FCTarget{"1000000000000001": at(7, left)}}, false, "[]"},
		{"an empty map", connector.FCInfo{Targets: at(7, left), Map: map[string][]connector.FCTarget{}}, false, "[]"},
		{"gone", connector.FCInfo{Targets: at(7, lost)}, false, "[]"},
		{"gone or blocked, on the way out", connector.FCInfo{Targets: at(7, left, right, lost)}, true, "[5:0:0:7 5:0:1:7 6:0:12:7 6:0:0:7 8:0:3:7]"},
		{"flat", connector.FCInfo{Targets: at(300, right), AddressingMode: "SAM2"}, false, "[6:0:0:16684]"},
		{"the same target twice", connector.FCInfo{Targets: append(at(7, right), at(7, right)...)}, false, "[6:0:0:7]"},
		{"a LUN at each port", connector.FCInfo{Targets: append(at(1, left), at(2, right)...)}, false, "[5:0:0:1 6:0:0:2 8:0:3:1]"},
	} {
		h := newHost(t, qla, Options{})
		r, err := h.reach(&c.info, c.all)
		if got := fmt.Sprint(r.addresses); err != nil || got != c.want {
			t.Errorf("%s: %s, %v; want %s", c.name, got, err, c.want)
		}
	}
	h := newHost(t, qla, Options{})
	if _, err := h.Connect(t.Context(), connector.Info{FC: &connector.FCInfo{Targets: at(99999, right), AddressingMode: "SAM2"}}, ""); reason(err) != connector.InvalidInfo {
		t.Error(err)
	}
}

func TestConnectScansOnlyWhatWasMapped(t *testing.T) {
	h := newHost(t, qla, Options{})
	volume := info(9, left, right)
	volume.FC.Map = map[string][]connector.FCTarget{hostA: info(9, left).FC.Targets}
	for _, a := range []scsi.Address{{Host: 5, LUN: 9}, {Host: 6, LUN: 9}, {Host: 5, LUN: 10}, {Host: 8, Target: 3, LUN: 9}} {
		h.kernel.Put(a, disk)
	}
	dev, err := h.Connect(patience(t), volume, "")
	if err != nil || dev.Bytes != disk.Bytes || string(dev.Identity) != disk.WWID || len(dev.Paths) != 1 {
		t.Fatalf("%+v, %v", dev, err)
	}
	if w := h.kernel.Writes(); !slices.Equal(w, []string{"class/scsi_host/host5/scan 0 0 9"}) {
		t.Errorf("the kernel was told %q", w)
	}
	if err := h.Disconnect(patience(t), volume, dev); err != nil {
		t.Error(err)
	}
	if devices, _ := h.o.LUN.SCSI.Devices(); len(devices) != 1 || devices[0].Name != "sdb" {
		t.Errorf("there are %+v", devices)
	}
}

// TestMultipath goes a volume's whole way over two paths: there, larger, gone.
func TestMultipath(t *testing.T) {
	h := newHost(t, qla, Options{LUN: lun.Host{Multipath: true, Enforce: true}})
	volume := info(9, left, right)
	addresses := []scsi.Address{{Host: 5, LUN: 9}, {Host: 6, LUN: 9}}
	for _, a := range addresses {
		h.kernel.Put(a, disk)
	}
	dev, err := h.Connect(patience(t), volume, "")
	if err != nil || len(dev.Paths) != 2 || dev.Map != "3"+disk.WWID[4:] || !strings.Contains(dev.Path, "dm-uuid-mpath-") {
		t.Fatalf("%+v, %v", dev, err)
	}
	larger := disk
	larger.Bytes *= 2
	h.kernel.Put(addresses[0], larger)
	if _, err := h.Extend(patience(t), volume, dev); reason(err) != connector.BadSize {
		t.Errorf("one path is larger: %v", err)
	}
	h.kernel.Put(addresses[1], larger)
	if dev, err = h.Extend(patience(t), volume, dev); err != nil || dev.Bytes != larger.Bytes {
		t.Errorf("extended: %+v, %v", dev, err)
	}
	m, _, _ := h.o.LUN.Maps.Find(dev.Map)
	h.kernel.Hold(m.Device, true)
	before := h.kernel.Writes()
	if err := h.Disconnect(patience(t), volume, dev); reason(err) != connector.InUse || !slices.Equal(before, h.kernel.Writes()) {
		t.Errorf("held: %v", err)
	}
	h.kernel.Hold(m.Device, false)
	for range 2 {
		if err := h.Disconnect(patience(t), volume, dev); err != nil {
			t.Error(err)
		}
	}
	if devices, _ := h.o.LUN.SCSI.Devices(); len(devices) != 1 || len(h.daemon.WWIDs()) != 0 {
		t.Errorf("there are %+v, WWIDs %v", devices, h.daemon.WWIDs())
	}
	h.daemon.Stopped = true
	if _, err := h.Connect(patience(t), volume, ""); reason(err) != connector.NoMultipath {
		t.Errorf("enforced without multipathd: %v", err)
	}
}

func TestNothingThere(t *testing.T) {
	h := newHost(t, qla, Options{NoWildcard: true})
	if _, err := h.Connect(patience(t), info(9, right), ""); reason(err) != connector.NoDevice {
		t.Errorf("no LUN: %v", err)
	}
	if _, err := h.Connect(patience(t), info(9, lost), ""); reason(err) != connector.Unreachable || !strings.Contains(err.Error(), lost) {
		t.Errorf("no port: %v", err)
	}
	for _, w := range h.kernel.Writes() {
		if strings.Contains(w, "-") {
			t.Errorf("the kernel was told %q", w)
		}
	}
	down := newHost(t, lpfc, Options{})
	for _, port := range []string{"host0", "host1"} {
		down.kernel.Set("sys/class/fc_host/"+port+"/port_state", "Linkdown")
	}
	if _, err := down.Connect(patience(t), info(9, left), ""); reason(err) != connector.Unsupported {
		t.Errorf("no port of the host: %v", err)
	}
	for _, err := range []error{h.Disconnect(patience(t), connector.Info{}, connector.Device{}), second(h.Connect(patience(t), connector.Info{}, "")), second(h.Extend(patience(t), connector.Info{}, connector.Device{}))} {
		if reason(err) != connector.InvalidInfo {
			t.Errorf("another type: %v", err)
		}
	}
	if _, err := h.Extend(patience(t), info(9, right), connector.Device{}); reason(err) != connector.NoDevice {
		t.Errorf("extend of nothing: %v", err)
	}
}

func second(_ connector.Device, err error) error { return err }

// TestWildcard is the last resort: what it finds besides is removed again.
func TestWildcard(t *testing.T) {
	other := disk
	other.WWID = "naa.600a098038303053453f463045727a33"
	elsewhere, foreign := scsi.Address{Host: 5, Target: 4, LUN: 9}, scsi.Address{Host: 6, Target: 5, LUN: 9}
	h := newHost(t, qla, Options{})
	h.kernel.Put(elsewhere, disk)
	h.kernel.Put(foreign, other)
	if dev, err := h.Connect(patience(t), info(9, lost), ""); reason(err) != connector.Unreachable {
		t.Errorf("a disk without a known identity was taken: %+v, %v", dev, err)
	}
	if devices, _ := h.o.LUN.SCSI.Devices(); len(devices) != 1 {
		t.Errorf("there are %+v", devices)
	}
	dev, err := h.Connect(patience(t), info(9, lost), connector.Identity(disk.WWID))
	if err != nil || string(dev.Identity) != disk.WWID {
		t.Errorf("%+v, %v", dev, err)
	}
	if _, found, _ := h.o.LUN.SCSI.Find(foreign); found {
		t.Error("a disk that nobody asked for is still there")
	}
	if !slices.Contains(h.kernel.Writes(), "class/scsi_host/host5/scan - - 9") {
		t.Errorf("the kernel was told %q", h.kernel.Writes())
	}
}

// TestWildcardLeavesWhatOthersConnect: a volume with the same LUN number is connected while all targets are scanned.
func TestWildcardLeavesWhatOthersConnect(t *testing.T) {
	theirs := disk
	theirs.WWID = "naa.600a098038303053453f463045727a33"
	at := scsi.Address{Host: 5, LUN: 9}
	h := newHost(t, qla, Options{})
	h.kernel.Put(at, theirs)
	connected := false
	h.kernel.After(func() {
		if writes := h.kernel.Writes(); !connected && strings.HasSuffix(writes[len(writes)-1], "scan - - 9") {
			connected = true
			if _, err := h.Connect(patience(t), info(9, left), connector.Identity(theirs.WWID)); err != nil {
				t.Error(err)
			}
		}
	})
	if _, err := h.Connect(patience(t), info(9, lost), connector.Identity(disk.WWID)); reason(err) != connector.Unreachable {
		t.Error(err)
	}
	if _, found, _ := h.o.LUN.SCSI.Find(at); !found || !connected {
		t.Error("the disk of another volume, which is connected, was removed")
	}
	if err := h.Disconnect(patience(t), info(9, left), connector.Device{}); err != nil || len(h.wanted) != 0 {
		t.Errorf("%v, %v", h.wanted, err)
	}
}

// TestPortComes has the array's port come while it is waited for.
func TestPortComes(t *testing.T) {
	h := newHost(t, qla, Options{NoWildcard: true})
	h.o.Patience = time.Minute
	h.kernel.Put(scsi.Address{Host: 5, Target: 2, LUN: 9}, disk)
	go func() {
		h.kernel.Set("sys/class/fc_remote_ports/rport-5:0-2/port_state", "Online")
		h.kernel.Set("sys/class/fc_remote_ports/rport-5:0-2/scsi_target_id", "2")
	}()
	if dev, err := h.Connect(patience(t), info(9, lost), ""); err != nil || dev.Bytes != disk.Bytes {
		t.Errorf("%+v, %v", dev, err)
	}
}

func TestWrongDisk(t *testing.T) {
	h := newHost(t, qla, Options{})
	a := scsi.Address{Host: 6, LUN: 9}
	h.kernel.Put(a, disk)
	volume := info(9, right)
	_, err := h.Connect(patience(t), volume, "naa.600a098038303053453f4630457200ff")
	if reason(err) != connector.IdentityMismatch || !strings.Contains(err.Error(), disk.WWID) || !strings.Contains(err.Error(), "naa.600a098038303053453f4630457200ff") {
		t.Error(err)
	}
	if _, found, _ := h.o.LUN.SCSI.Find(a); found {
		t.Error("the wrong disk is still there")
	}
	volume.WWID = "0x600a098038303053453f4630457200ff"
	if _, err := h.Connect(patience(t), volume, ""); reason(err) != connector.IdentityMismatch {
		t.Error(err)
	}
	volume.WWID = "600A098038303053453F463045727A32"
	dev, err := h.Connect(patience(t), volume, "")
	if err != nil {
		t.Fatal(err)
	}
	// The volume of before is disconnected when the LUN is another's: that one stays.
	old := dev
	old.Identity = "naa.600a098038303053453f4630457200ff"
	if err := h.Disconnect(patience(t), volume, old); err != nil {
		t.Error(err)
	}
	if _, found, _ := h.o.LUN.SCSI.Find(a); !found {
		t.Error("another volume's disk was removed")
	}
	if err := h.Disconnect(patience(t), volume, connector.Device{}); err != nil {
		t.Error(err)
	}
	if _, found, _ := h.o.LUN.SCSI.Find(a); found {
		t.Error("the disk is still there")
	}
}
