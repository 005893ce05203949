package iscsi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/multipath/multipathtest"
	"compute-agent/blockdev/scsi"
	"compute-agent/blockdev/scsi/scsitest"
	"compute-agent/internal/command"
)

var (
	diskOne = scsitest.Disk{Vendor: "LIO-ORG", Model: "one", WWID: "naa.60014059999999990000000000000001", Bytes: 1 << 30}
	diskTwo = scsitest.Disk{Vendor: "LIO-ORG", Model: "two", WWID: "naa.60014059999999990000000000000002", Bytes: 2 << 30}
)

// programs are iscsiadm and multipathd.
type programs struct {
	host  *host
	paths *multipathtest.Daemon
}

func (p programs) Run(ctx context.Context, c command.Cmd) ([]byte, error) {
	if strings.HasPrefix(c.Name, "multipath") {
		return p.paths.Run(ctx, c)
	}
	return p.host.Run(ctx, c)
}

// newPaths is a host with a target that has two portals, and multipathd.
func newPaths(t *testing.T, change ...func(*Options)) (*host, *multipathtest.Daemon) {
	t.Helper()
	daemon := &multipathtest.Daemon{Find: "yes"}
	h := newHost(t, append(change, func(o *Options) {
		o.Scans = 1
		o.Multipath = true
		o.Runner = programs{o.Runner.(*host), daemon}
	})...)
	daemon.Kernel = h.kernel
	h.put(iqnA, &target{portals: []string{portal1, portal2}, disks: map[uint64]scsitest.Disk{1: diskOne, 2: diskTwo}})
	return h, daemon
}

func info(lun int, portals ...string) connector.Info {
	i := connector.Info{Type: connector.ISCSI, ISCSI: &connector.ISCSIInfo{}}
	for _, p := range portals {
		i.ISCSI.Targets = append(i.ISCSI.Targets, connector.ISCSITarget{Portal: p, IQN: iqnA, LUN: lun})
	}
	return i
}

func reasonOf(err error) connector.Reason {
	var e *connector.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func (h *host) connect(i connector.Info) connector.Device {
	h.t.Helper()
	dev, err := h.c.Connect(h.t.Context(), i, "")
	if err != nil {
		h.t.Fatal(err)
	}
	return dev
}

func (h *host) disconnect(i connector.Info, dev connector.Device) {
	h.t.Helper()
	if err := h.c.Disconnect(h.t.Context(), i, dev); err != nil {
		h.t.Error(err)
	}
}

func one(o *Options) { o.Multipath = false }

func TestConnectOnePath(t *testing.T) {
	h, _ := newPaths(t)
	h.c.Multipath = false
	h.targets[iqnA].user, h.targets[iqnA].password = "user", secret
	i := info(1, portal1, portal2)
	i.ISCSI.Auth = &connector.CHAP{Method: "CHAP", User: "user", Password: secret}
	dev := h.connect(i)
	if dev.Identity != connector.Identity(diskOne.WWID) || dev.Bytes != diskOne.Bytes || dev.Map != "" || len(dev.Paths) != 1 || !strings.HasSuffix(dev.Path, "by-id/scsi-3"+diskOne.WWID[4:]) {
		t.Errorf("%+v", dev)
	}
	if h.logins != 1 {
		t.Errorf("%d logins", h.logins)
	}
	if again := h.connect(i); again.Path != dev.Path || h.logins != 1 {
		t.Errorf("connected again: %+v", again)
	}
	h.disconnect(i, dev)
	h.disconnect(i, dev)
	h.clean()
}

func TestConnectAllPaths(t *testing.T) {
	h, daemon := newPaths(t)
	i := info(1, portal1, portal2)
	dev := h.connect(i)
	if dev.Map != "3"+diskOne.WWID[4:] || !slices.Equal(dev.Paths, []string{"sda", "sdb"}) && !slices.Equal(dev.Paths, []string{"sdb", "sda"}) {
		t.Errorf("%+v", dev)
	}
	other := h.connect(info(2, portal1, portal2))
	if h.logins != 2 {
		t.Errorf("%d logins", h.logins)
	}
	h.disconnect(i, dev)
	if len(h.called("--logout")) > 0 {
		t.Error("the session of another volume has ended")
	}
	h.disconnect(info(2, portal1, portal2), other)
	h.clean()
	if left := daemon.WWIDs(); len(left) > 0 {
		t.Errorf("multipath knows %v", left)
	}
}

// TestConnectBySurvivingPath: a portal that does not answer, and one that refuses, are no reason to go without the volume.
func TestConnectBySurvivingPath(t *testing.T) {
	for _, enforce := range []bool{false, true} {
		h, _ := newPaths(t)
		h.deaf[portal2] = true
		i := info(1, portal2, portal1, portal6)
		i.EnforceMultipath = enforce
		dev := h.connect(i)
		if dev.Map == "" || len(dev.Paths) != 1 {
			t.Errorf("%+v", dev)
		}
		h.disconnect(i, connector.Device{})
		h.clean()
	}
}

func TestConnectDiscovers(t *testing.T) {
	h, _ := newPaths(t)
	h.put("iqn.2026-11.lab:another", &target{portals: []string{portal1}, user: "user", password: secret, disks: map[uint64]scsitest.Disk{1: diskTwo}})
	h.targets[iqnA].user, h.targets[iqnA].password = "user", secret
	h.targets[iqnA].portals = []string{portal1, portal6}
	i := info(1, portal1)
	i.ISCSI.Discover = true
	i.ISCSI.Auth = &connector.CHAP{Method: "CHAP", User: "user", Password: secret}
	i.ISCSI.DiscoveryAuth = i.ISCSI.Auth
	write(t, h.etc+"/send_targets/192.0.2.1,3260/st_config", "discovery.startup = automatic\n")
	dev := h.connect(i)
	if len(dev.Paths) != 2 || h.logins != 2 {
		t.Errorf("%+v", dev)
	}
	if text := read(t, h.etc+"/send_targets/192.0.2.1,3260/st_config"); text != "discovery.startup = automatic\n" {
		t.Errorf("the discovery record of somebody else's is %q", text)
	}
	h.disconnect(i, connector.Device{})
	if left := h.left(); !slices.Equal(left, []string{h.etc + "/send_targets/192.0.2.1,3260"}) {
		t.Errorf("left: %v", left)
	}
}

// TestConnectFaults is what can be wrong, what is said of it, and that nothing is left.
func TestConnectFaults(t *testing.T) {
	failing := func(code int) func(*host) {
		return func(h *host) {
			h.fail = func(args string) error {
				if strings.Contains(args, "--login") {
					return exit(code)
				}
				return nil
			}
		}
	}
	for name, c := range map[string]struct {
		info   connector.Info
		known  connector.Identity
		change func(*host)
		want   connector.Reason
		says   string
	}{
		"no target":        {connector.Info{Type: connector.ISCSI}, "", nil, connector.InvalidInfo, "target_portal: it is missing"},
		"no portals":       {info(1), "", nil, connector.InvalidInfo, "target_portal: it is missing"},
		"LUN":              {info(-1, portal1), "", nil, connector.InvalidInfo, "target_lun"},
		"no answer":        {info(1, portal1, portal2), "", func(h *host) { h.deaf[portal1], h.deaf[portal2] = true, true }, connector.Unreachable, portal2 + `": the portal does not answer: connection refused`},
		"no such target":   {info(1, portal1), "", func(h *host) { delete(h.targets, iqnA) }, connector.Unreachable, "did not come to an end"},
		"CHAP":             {info(1, portal1, portal2), "", func(h *host) { h.targets[iqnA].user, h.targets[iqnA].password = "u", secret }, connector.AuthFailed, portal1},
		"no iscsid":        {info(1, portal1, portal2), "", failing(exitDaemonAway), connector.Unsupported, "iscsid does not run"},
		"no module":        {info(1, portal1), "", failing(exitNoTransport), connector.Unsupported, "module"},
		"strange code":     {info(1, portal1), "", failing(99), connector.Unreachable, "iscsiadm failed: iscsiadm: exit status 99"},
		"no LUN":           {info(3, portal1, portal2), "", nil, connector.NoDevice, `target_lun="3"`},
		"empty":            {info(1, portal1), "", func(h *host) { h.disk(1, scsitest.Disk{Vendor: "v", Model: "m", WWID: diskOne.WWID}) }, connector.BadSize, "empty"},
		"another":          {info(1, portal1, portal2), "naa.1", nil, connector.IdentityMismatch, `="` + diskOne.WWID + `": another disk is where the volume was: it must be naa.1`},
		"not what is told": {with(info(1, portal1), func(i *connector.Info) { i.WWID = "0x600140500000000000000000000000ff" }), "", nil, connector.IdentityMismatch, diskOne.WWID},
		"not enforced":     {with(info(1, portal1), func(i *connector.Info) { i.EnforceMultipath = true }), "", func(h *host) { h.c.Multipath = false }, connector.NoMultipath, "enforce_multipath"},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := newPaths(t)
			if c.change != nil {
				c.change(h)
			}
			_, err := h.c.Connect(t.Context(), c.info, c.known)
			if reasonOf(err) != c.want || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), secret) {
				t.Errorf("%v: %v, want %v: %s", reasonOf(err), err, c.want, c.says)
			}
			h.clean()
		})
	}
}

func with(i connector.Info, change func(*connector.Info)) connector.Info {
	change(&i)
	return i
}

func (h *host) disk(lun uint64, d scsitest.Disk) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.targets[iqnA].disks[lun] = d
}

func TestConnectWithoutIscsiadm(t *testing.T) {
	h, _ := newPaths(t)
	h.fail = func(string) error { return notInstalled(t) }
	_, err := h.c.Connect(t.Context(), info(1, portal1), "")
	if reasonOf(err) != connector.Unsupported || !strings.Contains(err.Error(), "open-iscsi") {
		t.Error(err)
	}
	h.clean()
}

func notInstalled(t *testing.T) error {
	_, err := command.Exec{}.Run(t.Context(), command.Cmd{Name: "no-such-program"})
	return err
}

func TestConnectWithoutMultipathd(t *testing.T) {
	h, daemon := newPaths(t)
	daemon.Stopped = true
	i := info(1, portal1, portal2)
	if dev := h.connect(i); dev.Map != "" || len(dev.Paths) != 1 || h.logins != 1 {
		t.Errorf("%+v", dev)
	}
	h.disconnect(i, connector.Device{})
	for _, operator := range []bool{false, true} {
		i.EnforceMultipath, h.c.Enforce = !operator, operator
		if _, err := h.c.Connect(t.Context(), i, ""); reasonOf(err) != connector.NoMultipath {
			t.Error(err)
		}
	}
	h.clean()
}

// TestPathsThatDiffer: portals that show different disks, or one disk in different sizes, are not one volume.
func TestPathsThatDiffer(t *testing.T) {
	for want, second := range map[connector.Reason]scsitest.Disk{
		connector.IdentityMismatch: diskTwo,
		connector.BadSize:          {Vendor: "LIO-ORG", Model: "one", WWID: diskOne.WWID, Bytes: 5 << 30},
	} {
		h, _ := newPaths(t)
		const other = "iqn.2026-11.lab:b"
		h.put(other, &target{portals: []string{portal2}, disks: map[uint64]scsitest.Disk{1: second}})
		i := info(1, portal1)
		i.ISCSI.Targets = append(i.ISCSI.Targets, connector.ISCSITarget{Portal: portal2, IQN: other, LUN: 1})
		_, err := h.c.Connect(t.Context(), i, "")
		if reasonOf(err) != want || !strings.Contains(err.Error(), portal1) || !strings.Contains(err.Error(), portal2) {
			t.Errorf("%v, want %v", err, want)
		}
		h.clean()
	}
}

// TestTwoVolumesWithOneName: a disk that says of itself what another volume's says is refused, and the other is left alone.
func TestTwoVolumesWithOneName(t *testing.T) {
	h, _ := newPaths(t)
	dev := h.connect(info(1, portal1, portal2))
	h.disk(3, diskOne)
	for host := range 2 {
		h.kernel.Put(scsi.Address{Host: host + 1, LUN: 3}, diskOne)
	}
	_, err := h.c.Connect(t.Context(), info(3, portal1, portal2), "")
	if reasonOf(err) != connector.IdentityMismatch || !strings.Contains(err.Error(), "LUN 1 of "+iqnA) {
		t.Error(err)
	}
	if again := h.connect(info(1, portal1, portal2)); !slices.Equal(again.Paths, dev.Paths) {
		t.Errorf("the other is %+v now, was %+v", again, dev)
	}
	h.disconnect(info(1, portal1, portal2), dev)
	h.clean()
}

// TestMapOfAnotherDisk: a disk that has a name of its own for the kernel, and another volume's for udev and so for multipathd, does not get that volume's map.
func TestMapOfAnotherDisk(t *testing.T) {
	h, _ := newPaths(t)
	victim := h.connect(info(1, portal1, portal2))
	forged := scsitest.Disk{Vendor: "LIO-ORG", Model: "forged", WWID: "naa.60014059999999990000000000000003", Serial: "3" + diskOne.WWID[4:], Bytes: 1 << 30}
	for host := range 2 {
		h.kernel.Put(scsi.Address{Host: host + 1, LUN: 3}, forged)
	}
	if dev, err := h.c.Connect(t.Context(), info(3, portal1, portal2), ""); reasonOf(err) != connector.IdentityMismatch {
		t.Errorf("%+v, %v", dev, err)
	}
	if again := h.connect(info(1, portal1, portal2)); !slices.Equal(again.Paths, victim.Paths) {
		t.Errorf("the other is %+v now, was %+v", again, victim)
	}
	h.disconnect(info(1, portal1, portal2), victim)
	h.clean()
}

// TestDiskOfTheHost: a disk that says of itself what one of the host's own says is refused, whatever that is attached by.
func TestDiskOfTheHost(t *testing.T) {
	h, _ := newPaths(t)
	h.kernel.Set("sys/class/scsi_host/host9/scan", "")
	own := scsi.Address{Host: 9, LUN: 0}
	h.kernel.Put(own, diskOne)
	if err := h.scsi.Scan(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	if dev, err := h.c.Connect(t.Context(), info(1, portal1, portal2), ""); reasonOf(err) != connector.IdentityMismatch || !strings.Contains(err.Error(), own.String()) {
		t.Errorf("%+v, %v", dev, err)
	}
	if left := h.left(); len(left) != 1 {
		t.Errorf("left: %q", left)
	}
}

func TestDisconnectOfWhatIsHeld(t *testing.T) {
	h, _ := newPaths(t)
	i := info(1, portal1, portal2)
	dev := h.connect(i)
	mapDevice := filepath.Base(glob(t, h.scsi.Sys+"/block/dm-*"))
	h.kernel.Hold(mapDevice, true)
	if err := h.c.Disconnect(t.Context(), i, dev); reasonOf(err) != connector.InUse {
		t.Error(err)
	}
	for _, line := range h.kernel.Writes() {
		if strings.Contains(line, "delete") || strings.HasPrefix(line, "flush") {
			t.Errorf("the kernel was told %s", line)
		}
	}
	h.kernel.Hold(mapDevice, false)
	h.disconnect(i, dev)
	h.clean()
}

// TestDisconnectOfAnother: the target has given the number to another volume, which somebody has connected since.
func TestDisconnectOfAnother(t *testing.T) {
	h, _ := newPaths(t)
	i := info(1, portal1)
	before := len(h.left())
	dev := h.connect(i)
	dev.Identity = "naa.old"
	h.disconnect(i, dev)
	if before != 0 || len(h.left()) == 0 {
		t.Error("the other's disk is gone")
	}
	h.disconnect(i, connector.Device{})
	h.clean()
}

func TestExtend(t *testing.T) {
	h, _ := newPaths(t)
	i := info(1, portal1, portal2)
	if _, err := h.c.Extend(t.Context(), i, connector.Device{}); reasonOf(err) != connector.NoDevice {
		t.Errorf("not connected: %v", err)
	}
	dev := h.connect(i)
	grown := diskOne
	grown.Bytes *= 2
	h.kernel.Put(scsi.Address{Host: 1, LUN: 1}, grown)
	if _, err := h.c.Extend(t.Context(), i, dev); reasonOf(err) != connector.BadSize {
		t.Errorf("one path has the new size: %v", err)
	}
	h.kernel.Put(scsi.Address{Host: 2, LUN: 1}, grown)
	if got, err := h.c.Extend(t.Context(), i, dev); err != nil || got.Bytes != grown.Bytes || got.Path != dev.Path {
		t.Errorf("%+v, %v", got, err)
	}
	h.kernel.Set("sys/class/iscsi_session/session1/state", "FAILED")
	var all sync.WaitGroup
	all.Go(func() {
		if err := os.WriteFile(filepath.Join(h.scsi.Sys, "class/iscsi_session/session1/state"), []byte("LOGGED_IN"), 0); err != nil {
			t.Error(err)
		}
	})
	if _, err := h.c.Extend(t.Context(), i, dev); err != nil {
		t.Errorf("one path was cut off and came back: %v", err)
	}
	all.Wait()
	h.kernel.Set("sys/class/iscsi_session/session1/state", "FAILED")
	h.c.Login = time.Millisecond
	if _, err := h.c.Extend(t.Context(), i, dev); reasonOf(err) != connector.Unreachable {
		t.Errorf("one path is cut off: %v", err)
	}
	h.disconnect(i, dev)
	h.clean()
}

// TestShared is many volumes of one target that come and go at once: there is one session, it is there as long as one of them is, and no longer.
func TestShared(t *testing.T) {
	h, _ := newPaths(t, one)
	h.c.Multipath = false
	const volumes, rounds = 6, 6
	disks := map[uint64]scsitest.Disk{}
	for n := range volumes {
		disks[uint64(n)] = scsitest.Disk{Vendor: "LIO-ORG", Model: "many", WWID: fmt.Sprintf("naa.6001405%025d", n), Bytes: 1 << 20}
	}
	h.put(iqnA, &target{portals: []string{portal1}, disks: disks})
	var all sync.WaitGroup
	for n := range volumes {
		all.Go(func() {
			for range rounds {
				dev, err := h.c.Connect(t.Context(), info(n, portal1), connector.Identity(disks[uint64(n)].WWID))
				if err != nil {
					t.Errorf("connect of %d: %v", n, err)
				}
				if err := h.c.Disconnect(t.Context(), info(n, portal1), dev); err != nil {
					t.Errorf("disconnect of %d: %v", n, err)
				}
			}
		})
	}
	all.Wait()
	h.clean()
}

// TestEnded ends a connect at each of its commands and writes, and then takes away what it left without knowing what that is.
func TestEnded(t *testing.T) {
	h, _ := newPaths(t)
	i := info(1, portal1, portal2)
	whole := 0
	for end := 0; ; end++ {
		ctx, cancel := context.WithCancel(t.Context())
		step := 0
		count := func() {
			h.stepping.Lock()
			defer h.stepping.Unlock()
			if step++; step > end {
				cancel()
			}
		}
		h.step(count)
		_, err := h.c.Connect(ctx, i, "")
		h.step(nil)
		cancel()
		if err != nil {
			h.clean()
		}
		h.disconnect(i, connector.Device{})
		h.clean()
		if err == nil {
			whole = end
			break
		}
	}
	if whole < 3 {
		t.Errorf("a connect of %d steps", whole)
	}
}

// glob returns the one file that matches.
func glob(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	return files[0]
}
