package nvmeof

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

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"compute-agent/blockdev/connector"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	nqnA  = "nqn.2026-11.example:a"
	nqnB  = "nqn.2026-11.example:b"
	uuid1 = "6e766d65-0000-4000-8000-000000000001"
	uuid2 = "6e766d65-0000-4000-8000-000000000002"
	uuid3 = "6e766d65-0000-4000-8000-000000000003"
)

func refusal(err error) string {
	var e *connector.Error
	if errors.As(err, &e) {
		return string(e.Reason) + " " + err.Error()
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

func (w *world) connect(c *Connector, info connector.Info, known connector.Identity) connector.Device {
	w.t.Helper()
	dev, err := c.Connect(w.t.Context(), info, known)
	if err != nil {
		w.t.Fatal(err)
	}
	return dev
}

func (w *world) wantNothing(when string) {
	w.t.Helper()
	if left := w.left(); left != "" {
		w.t.Errorf("%s: there is %s", when, left)
	}
}

func TestConnectAndDisconnect(t *testing.T) {
	w, c := newWorld(t)
	w.subsystem(nqnA).spaces[7] = &fakeNamespace{uuid1, 64 << 20}
	w.subs[nqnA].spaces[8] = &fakeNamespace{uuid2, 32 << 20}
	one, two := infoOf(nqnA, uuid1, 0), infoOf(nqnA, "", 8)

	got := w.connect(c, one, "")
	want := connector.Device{Path: got.Path, Format: "raw", Identity: "uuid." + uuid1, Bytes: 64 << 20, Paths: got.Paths}
	if fmt.Sprint(got) != fmt.Sprint(want) || len(got.Paths) != 2 || filepath.Dir(got.Path) != w.path("dev") {
		t.Errorf("got %+v", got)
	}
	if did := w.happened(); did != "connect 127.0.2.2, connect 127.0.2.3" {
		t.Errorf("first: %s", did)
	}
	other := w.connect(c, two, "uuid."+uuid2)
	again := w.connect(c, one, got.Identity)
	if did := w.happened(); did != "" || again.Path != got.Path || other.Path == got.Path || other.Bytes != 32<<20 {
		t.Errorf("second: %s, %+v, %+v", did, again, other)
	}
	for _, step := range []struct {
		info connector.Info
		dev  connector.Device
		did  string
	}{
		{one, got, "flush " + filepath.Base(got.Path)}, // the other is wanted
		{one, connector.Device{}, "flush " + filepath.Base(got.Path)},
		{two, other, "delete 127.0.2.2, delete 127.0.2.3, flush " + filepath.Base(other.Path)},
		{two, other, ""},
	} {
		if err := c.Disconnect(t.Context(), step.info, step.dev); err != nil {
			t.Fatal(err)
		}
		if did := w.happened(); did != step.did {
			t.Errorf("got %q, want %q", did, step.did)
		}
	}
	w.wantNothing("at the end")
}

// TestPathByID: where udev has made the link of the identity, it is what is handed over.
func TestPathByID(t *testing.T) {
	w, c := newWorld(t)
	w.subsystem(nqnA).spaces[1] = &fakeNamespace{uuid1, 1 << 20}
	link := w.path("dev/disk/by-id/nvme-uuid." + uuid1)
	if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink("../../nvme0n1", link)); err != nil {
		t.Fatal(err)
	}
	if got := w.connect(c, infoOf(nqnA, uuid1, 0), ""); got.Path != link {
		t.Errorf("%+v", got)
	}
	w.subsystem(nqnB).spaces[1] = &fakeNamespace{uuid1, 1 << 20} // another subsystem says the same of one of its own
	if got := w.connect(c, infoOf(nqnB, uuid1, 0), ""); got.Path != w.path("dev/nvme1n1") {
		t.Errorf("%+v", got)
	}
}

func TestSinglePath(t *testing.T) {
	w, c := newWorld(t)
	w.singlePath()
	w.subsystem(nqnA).spaces[1] = &fakeNamespace{uuid1, 1 << 20}
	info := infoOf(nqnA, uuid1, 0, "127.0.2.9", "127.0.2.2", "127.0.2.3")
	w.fails["127.0.2.9"] = unix.ECONNREFUSED
	for range 2 {
		if got := w.connect(c, info, ""); len(got.Paths) != 0 || got.Path != w.path("dev/nvme0n1") {
			t.Errorf("%+v", got)
		}
	}
	if did := w.happened(); did != "connect 127.0.2.2" {
		t.Error(did)
	}
	info.EnforceMultipath = true
	if _, err := c.Connect(t.Context(), info, ""); !strings.HasPrefix(refusal(err), "NoMultipath") {
		t.Error(err)
	}
	if err := c.Disconnect(t.Context(), info, connector.Device{}); err != nil {
		t.Error(err)
	}
	w.wantNothing("at the end")
}

// TestOthersConnections: what an administrator has connected is used and stays; what is missing is made, and goes.
func TestOthersConnections(t *testing.T) {
	w, c := newWorld(t)
	w.subsystem(nqnA).spaces[1] = &fakeNamespace{uuid1, 1 << 20}
	if _, err := w.Connect("nqn=" + nqnA + ",transport=tcp,traddr=127.0.2.3,trsvcid=4420,hostnqn=" + ownNQN); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Connect("nqn=" + nqnA + ",transport=tcp,traddr=127.0.2.2,trsvcid=4420,hostnqn=nqn.2026-11.example:somebody"); err != nil {
		t.Fatal(err)
	}
	w.happened()
	dev := w.connect(c, infoOf(nqnA, uuid1, 0), "")
	if did := w.happened(); did != "connect 127.0.2.2" {
		t.Error(did)
	}
	if err := c.Disconnect(t.Context(), infoOf(nqnA, uuid1, 0), dev); err != nil {
		t.Error(err)
	}
	if did := w.happened(); did != "delete 127.0.2.2, flush nvme0n1" || w.left() != "nvme0 nvme1" {
		t.Errorf("%s; there is %s", did, w.left())
	}
}

func TestIdentityMismatch(t *testing.T) {
	w, c := newWorld(t)
	n := &fakeNamespace{uuid2, 1 << 20}
	w.subsystem(nqnA).spaces[7] = n
	dev, err := c.Connect(t.Context(), infoOf(nqnA, "", 7), "uuid."+uuid1)
	if r := refusal(err); !strings.HasPrefix(r, "IdentityMismatch") || !strings.Contains(r, uuid1) || !strings.Contains(r, uuid2) || dev.Path != "" {
		t.Errorf("%+v, %v", dev, err)
	}
	w.wantNothing("the volume was another")

	// The storage system itself says who it has to be.
	info := infoOf(nqnA, "", 7)
	info.WWID = "eui.5a7c1d229e0f4b66800000a098123456"
	if _, err := c.Connect(t.Context(), info, ""); !strings.HasPrefix(refusal(err), "IdentityMismatch") {
		t.Error(err)
	}
	w.wantNothing("the volume was not what was said")

	// A second volume of the subsystem is there on: its connections stay.
	w.subs[nqnA].spaces[8] = &fakeNamespace{uuid3, 1 << 20}
	w.connect(c, infoOf(nqnA, uuid3, 0), "")
	w.happened()
	if _, err := c.Connect(t.Context(), infoOf(nqnA, "", 7), "uuid."+uuid1); !strings.HasPrefix(refusal(err), "IdentityMismatch") {
		t.Error(err)
	}
	if did := w.happened(); did != "" {
		t.Error(did)
	}
}

// TestNumberUsedAgain: the subsystem has given the number to another volume, and the kernel does not know yet: the subsystem is believed.
func TestNumberUsedAgain(t *testing.T) {
	w, c := newWorld(t)
	w.subsystem(nqnA).spaces[7] = &fakeNamespace{uuid1, 1 << 20}
	w.subs[nqnA].spaces[8] = &fakeNamespace{uuid3, 1 << 20}
	w.connect(c, infoOf(nqnA, uuid3, 0), "")
	w.subs[nqnA].spaces[7] = &fakeNamespace{uuid2, 1 << 20}

	if _, err := c.Connect(t.Context(), infoOf(nqnA, "", 7), "uuid."+uuid1); !strings.HasPrefix(refusal(err), "IdentityMismatch") {
		t.Error(err)
	}
	if got := w.connect(c, infoOf(nqnA, "", 7), "uuid."+uuid2); got.Identity != "uuid."+uuid2 {
		t.Errorf("%+v", got)
	}

	// A kernel that will not learn has no disk to give.
	w.ignoring = true
	w.subs[nqnA].spaces[7] = &fakeNamespace{uuid1, 1 << 20}
	c.Options.DeviceWait = time.Second
	_, err := c.Connect(t.Context(), infoOf(nqnA, "", 7), "uuid."+uuid2)
	if r := refusal(err); !strings.HasPrefix(r, "VolumeDeviceNotFound") || !strings.Contains(r, uuid1) || !strings.Contains(r, uuid2) {
		t.Error(err)
	}
}

// TestWithoutDescriptors: a subsystem before NVMe 1.3 does not say more than the kernel has read already.
func TestWithoutDescriptors(t *testing.T) {
	w, c := newWorld(t)
	w.silent = true
	w.subsystem(nqnA).spaces[7] = &fakeNamespace{uuid1, 1 << 20}
	w.connect(c, infoOf(nqnA, "", 7), "uuid."+uuid1)
}

func TestInUse(t *testing.T) {
	w, c := newWorld(t)
	w.subsystem(nqnA).spaces[7] = &fakeNamespace{uuid1, 1 << 20}
	info := infoOf(nqnA, uuid1, 0)
	dev := w.connect(c, info, "")
	w.held["nvme0n1"] = true
	w.happened()
	for _, d := range []connector.Device{dev, {}} {
		if err := c.Disconnect(t.Context(), info, d); !strings.HasPrefix(refusal(err), "InUse") {
			t.Error(err)
		}
	}
	if did := w.happened(); did != "" {
		t.Error(did)
	}
	w.held["nvme0n1"] = false
	if err := c.Disconnect(t.Context(), info, dev); err != nil {
		t.Error(err)
	}
	w.wantNothing("at the end")
}

// TestHeldByAnother: a namespace of the subsystem that nobody asked this agent for is held: the connections stay for it, and go later.
func TestHeldByAnother(t *testing.T) {
	w, c := newWorld(t)
	w.subsystem(nqnA).spaces[7] = &fakeNamespace{uuid1, 1 << 20}
	info := infoOf(nqnA, uuid1, 0)
	dev := w.connect(c, info, "")
	w.subs[nqnA].spaces[8] = &fakeNamespace{uuid2, 1 << 20}
	if err := c.rescan(t.Context(), []Controller{{Name: "nvme0", State: Live}, {Name: "nvme1", State: Live}}); err != nil {
		t.Fatal(err)
	}
	w.held["nvme0n2"] = true
	if err := c.Disconnect(t.Context(), info, dev); err != nil {
		t.Fatal(err)
	}
	left, err := c.Leftovers()
	if err != nil || len(left) != 1 || left[0].NQN != nqnA || len(left[0].Controllers) != 2 {
		t.Fatalf("%+v, %v", left, err)
	}
	w.held["nvme0n2"] = false
	if err := c.Clear(t.Context(), left[0]); err != nil {
		t.Error(err)
	}
	w.wantNothing("at the end")
}

// TestOtherIdentity: what is at the volume's number now is another's: nothing is done to it.
func TestOtherIdentity(t *testing.T) {
	w, c := newWorld(t)
	w.subsystem(nqnA).spaces[7] = &fakeNamespace{uuid1, 1 << 20}
	w.subs[nqnA].spaces[8] = &fakeNamespace{uuid3, 1 << 20}
	dev := w.connect(c, infoOf(nqnA, "", 7), "")
	w.connect(c, infoOf(nqnA, uuid3, 0), "")
	w.subs[nqnA].spaces[7] = &fakeNamespace{uuid2, 1 << 20}
	if err := c.rescan(t.Context(), []Controller{{Name: "nvme0", State: Live}, {Name: "nvme1", State: Live}}); err != nil {
		t.Fatal(err)
	}
	w.happened()
	if err := c.Disconnect(t.Context(), infoOf(nqnA, "", 7), dev); err != nil || w.happened() != "" {
		t.Error(err)
	}
}

func TestConnectRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		info func(w *world, c *Connector) connector.Info
		want string
		bits []string
	}{
		{"no such subsystem", func(*world, *Connector) connector.Info { return infoOf(nqnB, uuid1, 0) }, "AuthenticationFailed", []string{"127.0.2.2", "127.0.2.3"}},
		{"a host that is not let in", func(w *world, _ *Connector) connector.Info {
			w.subs[nqnA].hosts = []string{"nqn.2026-11.example:other"}
			return infoOf(nqnA, uuid1, 0)
		}, "AuthenticationFailed", []string{"let this host in"}},
		{"portals that are away", func(w *world, _ *Connector) connector.Info {
			w.fails["127.0.2.2"], w.fails["127.0.2.3"] = unix.ECONNREFUSED, unix.ETIMEDOUT
			return infoOf(nqnA, uuid1, 0)
		}, "Unreachable", []string{"127.0.2.2:4420", "connection refused", "127.0.2.3:4420", "timed out"}},
		{"a namespace that is not there", func(_ *world, c *Connector) connector.Info {
			c.Options.DeviceWait = time.Second
			return infoOf(nqnA, uuid2, 0)
		}, "VolumeDeviceNotFound", []string{"no such namespace"}},
		{"no path that carries I/O", func(w *world, c *Connector) connector.Info {
			c.Options.DeviceWait = time.Second
			w.subs[nqnA].ana = map[string]string{"127.0.2.2": "inaccessible", "127.0.2.3": "persistent-loss"}
			return infoOf(nqnA, uuid1, 0)
		}, "VolumeDeviceNotFound", []string{"no path", "127.0.2.2:4420 live inaccessible", "persistent-loss"}},
		{"an empty disk", func(w *world, c *Connector) connector.Info {
			c.Options.DeviceWait = time.Second
			w.subs[nqnA].spaces[7].bytes = 0
			return infoOf(nqnA, uuid1, 0)
		}, "BadSize", []string{"no bytes"}},
		{"several that it could be", func(w *world, _ *Connector) connector.Info {
			w.subs[nqnA].spaces[8] = &fakeNamespace{uuid2, 1 << 20}
			return infoOf(nqnA, "", 0)
		}, "VolumeDeviceNotFound", []string{"2 namespaces"}},
		{"an option in a name", func(*world, *Connector) connector.Info { return infoOf(nqnA+",hostnqn=x", uuid1, 0) }, "InvalidConnectionInfo", []string{"target_nqn"}},
		{"a line in a name", func(*world, *Connector) connector.Info { return infoOf(nqnA+"\nx", uuid1, 0) }, "InvalidConnectionInfo", []string{"target_nqn"}},
		{"an option in the host's name", func(*world, *Connector) connector.Info {
			i := infoOf(nqnA, uuid1, 0)
			i.NVMe.HostNQN = ownNQN + ",dhchap_secret=x"
			return i
		}, "InvalidConnectionInfo", []string{"host_nqn"}},
		{"a Fibre Channel port of none", func(*world, *Connector) connector.Info {
			i := infoOf(nqnA, uuid1, 0)
			i.NVMe.Portals = []connector.NVMePortal{{Transport: "fc", Address: "nn-0x200000109b579ef3:pn-0x100000109b579ef3"}}
			return i
		}, "Unreachable", []string{"Fibre Channel port"}},
		{"an option in an address", func(*world, *Connector) connector.Info {
			i := infoOf(nqnA, uuid1, 0)
			i.NVMe.Portals = []connector.NVMePortal{{Transport: "fc", Address: "nn-0x200000109b579ef3:pn-0x100000109b579ef3,x=y"}}
			return i
		}, "InvalidConnectionInfo", []string{"portals"}},
		{"another transport", func(*world, *Connector) connector.Info {
			i := infoOf(nqnA, uuid1, 0)
			i.NVMe.Portals[0].Transport = "loop"
			return i
		}, "InvalidConnectionInfo", []string{"loop"}},
		{"another type", func(*world, *Connector) connector.Info { return connector.Info{Type: connector.ISCSI} }, "InvalidConnectionInfo", []string{"iscsi"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, k := newWorld(t)
			w.subsystem(nqnA).spaces[7] = &fakeNamespace{uuid1, 1 << 20}
			dev, err := k.Connect(t.Context(), c.info(w, k), "")
			r := refusal(err)
			if !strings.HasPrefix(r, c.want+" ") || dev.Path != "" || slices.ContainsFunc(c.bits, func(b string) bool { return !strings.Contains(r, b) }) {
				t.Errorf("%+v, %s; want %s with %q", dev, r, c.want, c.bits)
			}
			w.wantNothing("after the refusal")
		})
	}
}

// TestOneSilentPortal: a portal that does not answer costs ConnectWait and no more, and what comes of it later is not left over.
func TestOneSilentPortal(t *testing.T) {
	w, c := newWorld(t)
	w.subsystem(nqnA).spaces[7] = &fakeNamespace{uuid1, 1 << 20}
	c.Options.ConnectWait = 2 * time.Second
	answer := make(chan struct{})
	w.hangs["127.0.2.3"] = answer
	info := infoOf(nqnA, uuid1, 0)
	dev := w.connect(c, info, "")
	if len(dev.Paths) != 1 {
		t.Errorf("%+v", dev)
	}
	if err := c.Disconnect(t.Context(), info, dev); err != nil {
		t.Error(err)
	}
	watch, err := w.Watch()
	if err != nil {
		t.Fatal(err)
	}
	close(answer)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var did []string
	err = watch.Until(ctx, func() (bool, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		did = slices.Clone(w.log)
		return slices.Contains(did, "delete 127.0.2.3"), nil
	})
	if err != nil {
		t.Errorf("%v: %v", err, did)
	}
	// The notes go last, under the lock.
	unlock, err := c.subsystems.Lock(ctx, subsystem{nqnA, HostID{NQN: ownNQN}}.key())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	w.wantNothing("after the late connection")
}

// TestLateFailure: an attempt that was given up fails after another one has made the same connection, which still goes with its last namespace.
func TestLateFailure(t *testing.T) {
	w, c := newWorld(t)
	w.subsystem(nqnA).spaces[7] = &fakeNamespace{uuid1, 1 << 20}
	info := infoOf(nqnA, uuid1, 0, "127.0.2.2")
	dev := w.connect(c, info, "")
	s, portals, err := c.prepare(t.Context(), info)
	if err != nil {
		t.Fatal(err)
	}
	c.tooLate(s, made+portals[0].key(), unix.ETIMEDOUT)
	if err := c.Disconnect(t.Context(), info, dev); err != nil {
		t.Error(err)
	}
	_ = w.happened()
	w.wantNothing("after the last namespace")
}

// TestComesBack: connections that lost their target are waited for, and none is made beside them.
func TestComesBack(t *testing.T) {
	w, c := newWorld(t)
	w.subsystem(nqnA).spaces[7] = &fakeNamespace{uuid1, 1 << 20}
	info := infoOf(nqnA, uuid1, 0)
	dev := w.connect(c, info, "")
	w.state("127.0.2.2", Connecting)
	w.state("127.0.2.3", Connecting)
	w.happened()

	c.Options.ConnectWait, c.Options.ReconnectDelay = 20*time.Millisecond, 20*time.Millisecond
	_, err := c.Connect(t.Context(), info, dev.Identity)
	if r := refusal(err); !strings.HasPrefix(r, "Unreachable") || !strings.Contains(r, "nvme0 by tcp 127.0.2.2:4420 is connecting") && !strings.Contains(r, "nvme1 by tcp 127.0.2.2:4420 is connecting") {
		t.Error(err)
	}
	if did := w.happened(); did != "" { // a guest may wait for them
		t.Error(did)
	}

	c.Options.ConnectWait = time.Minute
	done := make(chan error, 1)
	go func() {
		_, err := c.Connect(t.Context(), info, dev.Identity)
		done <- err
	}()
	w.state("127.0.2.3", Live)
	if err := <-done; err != nil || w.happened() != "" {
		t.Error(err)
	}
	// Without a path nothing is written out; the connections go all the same.
	w.state("127.0.2.3", Connecting)
	if err := c.Disconnect(t.Context(), info, dev); err != nil {
		t.Error(err)
	}
	if did := w.happened(); did != "delete 127.0.2.2, delete 127.0.2.3" {
		t.Error(did)
	}
	w.wantNothing("at the end")
}

func TestExtend(t *testing.T) {
	w, c := newWorld(t)
	n := &fakeNamespace{uuid1, 1 << 20}
	w.subsystem(nqnA).spaces[7] = n
	info := infoOf(nqnA, uuid1, 0)
	if _, err := c.Extend(t.Context(), info, connector.Device{}); !strings.HasPrefix(refusal(err), "VolumeDeviceNotFound") {
		t.Error(err)
	}
	dev := w.connect(c, info, "")
	n.bytes = 2 << 20
	got, err := c.Extend(t.Context(), info, dev)
	if err != nil || got.Bytes != 2<<20 || got.Path != dev.Path {
		t.Errorf("%+v, %v", got, err)
	}
	w.ignoring, n.bytes = true, 3<<20
	c.Options.DeviceWait = time.Second
	if _, err := c.Extend(t.Context(), info, dev); !strings.HasPrefix(refusal(err), "BadSize") || !strings.Contains(err.Error(), "3145728") {
		t.Error(err)
	}
}

// TestAfterCrash: an agent that was killed in a Connect left its notes; the next one goes on, or takes away what there is.
func TestAfterCrash(t *testing.T) {
	w, c := newWorld(t)
	w.subsystem(nqnA).spaces[7] = &fakeNamespace{uuid1, 1 << 20}
	info := infoOf(nqnA, uuid1, 0)
	s, portals, err := c.prepare(t.Context(), info)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.begin(t.Context(), s, *info.NVMe, portals[:1]); err != nil {
		t.Fatal(err)
	}
	next := w.agent(c.Options)
	dev := w.connect(next, info, "")
	if did := w.happened(); did != "connect 127.0.2.2, connect 127.0.2.3" {
		t.Error(did)
	}
	if err := w.agent(c.Options).Disconnect(t.Context(), info, dev); err != nil {
		t.Error(err)
	}
	w.wantNothing("at the end")
}

// TestManyAtOnce: volumes of the same subsystem and of others come and go side by side; a subsystem is connected once.
func TestManyAtOnce(t *testing.T) {
	w, c := newWorld(t)
	const subsystems, spaces = 5, 10
	for s := range subsystems {
		sub := w.subsystem(fmt.Sprintf("%s%d", nqnA, s))
		for n := 1; n <= spaces; n++ {
			sub.spaces[n] = &fakeNamespace{fmt.Sprintf("6e766d65-0000-4000-8000-%06d%06d", s, n), int64(n) << 20}
		}
	}
	var all sync.WaitGroup
	for s := range subsystems {
		for n := 1; n <= spaces; n++ {
			all.Go(func() {
				info := infoOf(fmt.Sprintf("%s%d", nqnA, s), fmt.Sprintf("6e766d65-0000-4000-8000-%06d%06d", s, n), 0)
				dev, err := c.Connect(t.Context(), info, "")
				if err != nil || dev.Bytes != int64(n)<<20 {
					t.Errorf("%+v, %v", dev, err)
				}
				if err := c.Disconnect(t.Context(), info, dev); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	w.wantNothing("at the end")
}
