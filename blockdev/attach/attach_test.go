package attach

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"compute-agent/blockdev/connector"
	"compute-agent/blockdev/remote"
	"compute-agent/internal/command"
	"compute-agent/internal/golden"
	"compute-agent/internal/target"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// array is a storage system with disks at LUNs, and the host's devices for them.
type array struct {
	mu    sync.Mutex
	disks map[string]connector.Device // that there are, by lunOf
	there map[string]int              // connected and not taken away: how often
	held  map[string]bool             // LUNs whose device somebody has open
	away  bool                        // what is there cannot be taken away
	fail  error                       // of the next call
	calls []string
	meet  func() // in Connect, outside of the lock
}

func (a *array) Connect(ctx context.Context, info connector.Info, known connector.Identity) (connector.Device, error) {
	if a.meet != nil {
		a.meet()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	lun := lunOf(info)
	a.calls = append(a.calls, "connect "+lun)
	a.there[lun] = 1
	if a.fail != nil {
		return connector.Device{}, a.fail
	}
	dev, ok := a.disks[lun]
	if !ok {
		delete(a.there, lun)
		return connector.Device{}, &connector.Error{Reason: connector.NoDevice, Rule: "it is not there"}
	}
	return dev, ctx.Err()
}

func (a *array) Disconnect(_ context.Context, info connector.Info, dev connector.Device) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	lun := lunOf(info)
	a.calls = append(a.calls, "disconnect "+lun+" "+dev.Path)
	if a.held[lun] {
		return &connector.Error{Reason: connector.InUse, Rule: "process qemu has it"}
	}
	if a.away {
		return &connector.Error{Reason: connector.Unreachable, Rule: "the target does not answer"}
	}
	delete(a.there, lun)
	return nil
}

func (a *array) Extend(_ context.Context, info connector.Info, dev connector.Device) (connector.Device, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	dev.Bytes = a.disks[lunOf(info)].Bytes
	return dev, nil
}

// ciphers has the maps that are open.
type ciphers struct {
	mu   sync.Mutex
	open map[string]bool // by the volume's ID
	fail error
}

func (c *ciphers) Open(_ context.Context, id string, dev connector.Device, _ connector.Cipher) (connector.Device, error) {
	if c.fail != nil {
		return connector.Device{}, c.fail
	}
	name := "crypt-" + id
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[id] = true
	dev.Below, dev.Path, dev.Crypt, dev.Bytes = dev.Path, "/dev/mapper/"+name, name, dev.Bytes-4096
	return dev, nil
}

func (c *ciphers) Close(_ context.Context, id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, id)
	return nil
}

func (c *ciphers) Resize(_ context.Context, _ string, dev connector.Device, _ connector.Cipher) (connector.Device, error) {
	dev.Bytes -= 4096
	return dev, nil
}

func lun(n int) connector.Info {
	return connector.Info{Type: connector.ISCSI, ISCSI: &connector.ISCSIInfo{
		Targets: []connector.ISCSITarget{{Portal: "192.0.2.1:3260", IQN: "iqn.2026-01.org.example:a", LUN: n}},
		Auth:    &connector.CHAP{Method: "CHAP", User: "u", Password: "the secret"},
	}}
}

func disk(n int) connector.Device {
	return connector.Device{Path: fmt.Sprintf("/dev/sd%c", 'a'+n), Format: "raw", Bytes: 1 << 20, Identity: connector.Identity(fmt.Sprintf("naa.600140500000000000000000000000%02x", n))}
}

type fixture struct {
	*Host
	array   *array
	ciphers *ciphers
	timings []Timing
}

// newHost has an array with disks at LUNs 0 to 9.
func newHost(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{array: &array{disks: map[string]connector.Device{}, there: map[string]int{}, held: map[string]bool{}}, ciphers: &ciphers{open: map[string]bool{}}}
	for n := range 10 {
		f.array.disks[lunOf(lun(n))] = disk(n)
	}
	f.restart(t, filepath.Join(t.TempDir(), "volumes"))
	return f
}

// restart is what an agent does that comes after one that was killed.
func (f *fixture) restart(t *testing.T, state string) {
	t.Helper()
	var mu sync.Mutex
	h, err := New(Options{
		Connectors: map[connector.Type]connector.Connector{connector.ISCSI: f.array}, Cipher: f.ciphers, State: state,
		Observe: func(t Timing) { mu.Lock(); defer mu.Unlock(); f.timings = append(f.timings, t) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	f.Host = h
}

func (f *fixture) files(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(f.opt.State)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func request(n int) connector.Request {
	return connector.Request{VolumeID: uuid.NewString(), Info: lun(n)}
}

func isReason(t *testing.T, err error, reason connector.Reason, says ...string) {
	t.Helper()
	var e *connector.Error
	if !errors.As(err, &e) || e.Reason != reason {
		t.Errorf("got %v; want the reason %s", err, reason)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}

func (f *fixture) nothingLeft(t *testing.T) {
	t.Helper()
	if left := f.files(t); len(left) != 0 || len(f.array.there) != 0 || len(f.ciphers.open) != 0 {
		t.Errorf("left: records %v, devices %v, maps %v", left, f.array.there, f.ciphers.open)
	}
}

func TestLifeOfAVolume(t *testing.T) {
	f := newHost(t)
	r := request(1)
	dev, err := f.Connect(t.Context(), r)
	if err != nil || !reflect.DeepEqual(dev, disk(1)) {
		t.Fatalf("got %+v, %v", dev, err)
	}
	record, err := os.ReadFile(f.file(r.VolumeID))
	if err != nil || strings.Contains(string(record), "the secret") {
		t.Errorf("the record: %v, %s", err, record)
	}
	if info, err := os.Stat(f.file(r.VolumeID)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the record's file: %v, %v", info, err)
	}
	r.Known = dev.Identity
	if again, err := f.Connect(t.Context(), r); err != nil || !reflect.DeepEqual(again, dev) {
		t.Errorf("again: %+v, %v", again, err)
	}
	bigger := disk(1)
	bigger.Bytes *= 2
	f.array.disks[lunOf(r.Info)] = bigger
	if grown, err := f.Extend(t.Context(), r); err != nil || grown.Bytes != 2<<20 {
		t.Errorf("extended: %+v, %v", grown, err)
	}
	shared := r
	shared.Shared = true
	if err := f.Disconnect(t.Context(), shared); err != nil || len(f.array.there) != 1 {
		t.Errorf("a volume that another server has: %v, %v", err, f.array.there)
	}
	for range 2 {
		if err := f.Disconnect(t.Context(), r); err != nil {
			t.Error(err)
		}
	}
	f.nothingLeft(t)
	if got := f.array.calls[2]; got != "disconnect "+lunOf(r.Info)+" /dev/sdb" {
		t.Errorf("it was taken away by %q, without the device that was remembered", got)
	}
}

func TestEncryptedVolume(t *testing.T) {
	f := newHost(t)
	r := request(1)
	r.Cipher = &connector.Cipher{Format: "luks2", Key: "k"}
	dev, err := f.Connect(t.Context(), r)
	if err != nil || dev.Crypt == "" || dev.Below != disk(1).Path || dev.Bytes != 1<<20-4096 {
		t.Fatalf("got %+v, %v", dev, err)
	}
	bigger := disk(1)
	bigger.Bytes *= 2
	f.array.disks[lunOf(r.Info)] = bigger
	r.Device = dev
	grown, err := f.Extend(t.Context(), r)
	if want := dev.Bytes + 1<<20; err != nil || grown.Bytes != want || grown.Path != dev.Path || grown.Below != dev.Below || grown.Crypt != dev.Crypt {
		t.Errorf("extended: %+v, %v", grown, err)
	}
	if err := f.Disconnect(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	f.nothingLeft(t)

	f.ciphers.fail = &connector.Error{Reason: connector.AuthFailed, Rule: "wrong key"}
	_, err = f.Connect(t.Context(), r)
	isReason(t, err, connector.AuthFailed)
	f.nothingLeft(t)
}

// TestWhatFailsLeavesNothing: neither a record nor a device, whatever is wrong with the disk.
func TestWhatFailsLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fixture, *connector.Request)
		reason connector.Reason
		says   string
	}{
		"no LUN":               {func(f *fixture, r *connector.Request) { f.array.disks = nil }, connector.NoDevice, ""},
		"connector fails":      {func(f *fixture, r *connector.Request) { f.array.fail = &connector.Error{Reason: connector.Unreachable} }, connector.Unreachable, ""},
		"another disk":         {func(f *fixture, r *connector.Request) { r.Known = "naa.6" }, connector.IdentityMismatch, "naa.6"},
		"array says otherwise": {func(f *fixture, r *connector.Request) { r.Info.WWID = "naa.60014050000000000000000000000099" }, connector.IdentityMismatch, "99"},
		"empty disk": {func(f *fixture, r *connector.Request) {
			f.array.disks[lunOf(r.Info)] = connector.Device{Path: "/dev/sdz"}
		}, connector.BadSize, "/dev/sdz"},
		"no connector":  {func(f *fixture, r *connector.Request) { r.Info.Type = connector.ISER }, connector.Unsupported, "iser"},
		"a volume's ID": {func(f *fixture, r *connector.Request) { r.VolumeID = "../x" }, connector.InvalidInfo, "UUID"},
		"nobody decrypts": {func(f *fixture, r *connector.Request) {
			f.opt.Cipher = nil
			r.Cipher = &connector.Cipher{Format: "luks2"}
		}, connector.Unsupported, "luks2"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newHost(t)
			r := request(1)
			c.change(f, &r)
			_, err := f.Connect(t.Context(), r)
			isReason(t, err, c.reason, c.says)
			f.nothingLeft(t)
		})
	}
	t.Run("the storage system names the disk in another way", func(t *testing.T) {
		f := newHost(t)
		r := request(1)
		r.Info.WWID = "t10.VENDOR x"
		if _, err := f.Connect(t.Context(), r); err != nil {
			t.Error(err)
		}
	})
}

// TestARunningVolumeStays: that connecting again fails takes nothing away from a guest that has the volume.
// stuck is a storage system that answers nothing, and whose callers give up when they have to.
type stuck struct{}

func (stuck) Connect(ctx context.Context, _ connector.Info, _ connector.Identity) (connector.Device, error) {
	<-ctx.Done()
	return connector.Device{}, context.Cause(ctx)
}

func (stuck) Disconnect(ctx context.Context, _ connector.Info, _ connector.Device) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func (stuck) Extend(ctx context.Context, _ connector.Info, dev connector.Device) (connector.Device, error) {
	<-ctx.Done()
	return dev, context.Cause(ctx)
}

// TestStorageThatDoesNotAnswer: no operation goes on for ever, whose caller would, and the volume's lock with it.
func TestStorageThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Options{Connectors: map[connector.Type]connector.Connector{connector.ISCSI: stuck{}}, State: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		r := connector.Request{VolumeID: uuid.NewString(), Info: lun(1)}
		_, connect := h.Connect(ctx, r)
		_, extend := h.Extend(ctx, r)
		for what, err := range map[string]error{"connect": connect, "extend": extend, "disconnect": h.Disconnect(ctx, r)} {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if ctx.Err() != nil {
			t.Error("the caller's time is over")
		}
	})
}

func TestARunningVolumeStays(t *testing.T) {
	f := newHost(t)
	r := request(1)
	if _, err := f.Connect(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	f.array.fail = &connector.Error{Reason: connector.Unreachable, Rule: "no path"}
	_, err := f.Connect(t.Context(), r)
	isReason(t, err, connector.Unreachable)
	if len(f.array.there) != 1 || len(f.files(t)) != 1 {
		t.Errorf("devices %v, records %v", f.array.there, f.files(t))
	}
}

func TestOneDiskIsOneVolume(t *testing.T) {
	f := newHost(t)
	first, second := request(1), request(1)
	if _, err := f.Connect(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	_, err := f.Connect(t.Context(), second)
	isReason(t, err, connector.InUse, first.VolumeID)
	// The same disk at another place.
	second.Info = lun(2)
	f.array.disks[lunOf(second.Info)] = disk(1)
	_, err = f.Connect(t.Context(), second)
	isReason(t, err, connector.IdentityMismatch, first.VolumeID)
	if slices.ContainsFunc(f.array.calls, func(c string) bool { return strings.HasPrefix(c, "disconnect") }) {
		t.Errorf("the device is the first volume's, and was taken away: %q", f.array.calls)
	}
	// A second device of the same disk goes.
	other := disk(1)
	other.Path = "/dev/sdx"
	f.array.disks[lunOf(second.Info)] = other
	_, err = f.Connect(t.Context(), second)
	isReason(t, err, connector.IdentityMismatch, first.VolumeID)
	if len(f.array.there) != 1 || len(f.files(t)) != 1 {
		t.Errorf("devices %v, records %v", f.array.there, f.files(t))
	}
}

// TestALUNThatWasAnothers: one that could not be taken away when its volume went is taken away before another volume gets the LUN, and refused while it is held.
func TestALUNThatWasAnothers(t *testing.T) {
	f := newHost(t)
	first, second := request(1), request(1)
	if _, err := f.Connect(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	f.array.held[lunOf(first.Info)] = true
	isReason(t, f.Disconnect(t.Context(), first), connector.InUse)
	f.restart(t, f.opt.State)
	_, err := f.Connect(t.Context(), second)
	isReason(t, err, connector.InUse, first.VolumeID)
	f.array.held = map[string]bool{}
	f.array.calls = nil
	if _, err := f.Connect(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	place := lunOf(first.Info)
	if want := []string{"disconnect " + place + " /dev/sdb", "connect " + place}; !slices.Equal(f.array.calls, want) {
		t.Errorf("calls %q, want %q", f.array.calls, want)
	}
	if got := f.files(t); !slices.Equal(got, []string{second.VolumeID + recordSuffix}) {
		t.Errorf("records %v", got)
	}
}

// TestTakenAwayLater: what could not be taken away, because its target did not answer, is tried again until it is gone, and meanwhile nobody else gets the disk.
func TestTakenAwayLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newHost(t)
		gone, again := request(1), request(2)
		for _, r := range []connector.Request{gone, again} {
			if _, err := f.Connect(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		f.array.away = true
		isReason(t, f.Disconnect(t.Context(), gone), connector.Unreachable)
		isReason(t, f.Disconnect(t.Context(), again), connector.Unreachable)
		other := request(3)
		second := disk(1)
		second.Path = "/dev/sdx"
		f.array.disks[lunOf(other.Info)] = second
		_, err := f.Connect(t.Context(), other)
		isReason(t, err, connector.IdentityMismatch, gone.VolumeID, "could not be taken away yet")
		if _, err := f.Connect(t.Context(), again); err != nil { // somebody wants it after all
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		f.array.mu.Lock()
		tries := len(f.array.calls)
		f.array.away = false
		f.array.mu.Unlock()
		if tries < 10 || tries > 30 {
			t.Errorf("%d calls in an hour", tries)
		}
		time.Sleep(longestPause)
		synctest.Wait()
		if left := map[string]int{lunOf(again.Info): 1}; !maps.Equal(f.array.there, left) || len(f.files(t)) != 1 {
			t.Errorf("devices %v, want %v; records %v", f.array.there, left, f.files(t))
		}
	})
}

// TestLeftLater: a leftover that could not be cleaned away goes later.
func TestLeftLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newHost(t)
		if _, err := f.Connect(t.Context(), request(1)); err != nil {
			t.Fatal(err)
		}
		f.restart(t, f.opt.State)
		found, err := f.Stale(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		f.array.held[lunOf(lun(1))] = true
		isReason(t, f.Clean(t.Context(), found), connector.InUse)
		f.array.mu.Lock()
		f.array.held = nil
		f.array.mu.Unlock()
		time.Sleep(firstPause)
		synctest.Wait()
		f.nothingLeft(t)
	})
}

func TestAVolumeThatMoved(t *testing.T) {
	f := newHost(t)
	r := request(1)
	if _, err := f.Connect(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	r.Info = lun(2)
	if _, err := f.Connect(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{lunOf(r.Info): 1}; !maps.Equal(f.array.there, want) {
		t.Errorf("devices %v, want %v", f.array.there, want)
	}
}

// TestLeftovers: what an agent that was killed began is found by the next one, told, and taken away; what is wanted, or was connected meanwhile, stays.
func TestLeftovers(t *testing.T) {
	f := newHost(t)
	wanted, stale, begun := request(1), request(2), request(3)
	stale.Cipher = &connector.Cipher{Format: "luks2", Key: "k"}
	for _, r := range []connector.Request{wanted, stale} {
		if _, err := f.Connect(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	f.array.meet = func() { f.restart(t, f.opt.State) } // killed in the middle
	if _, err := f.Connect(t.Context(), begun); err != nil {
		t.Fatal(err)
	}
	f.array.meet = nil
	anothers := uuid.NewString() // that another agent of the host has opened
	f.ciphers.open[anothers] = true

	found, err := f.Stale(t.Context(), []connector.Request{wanted})
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, l := range found {
		told[l.VolumeID] = l.String()
	}
	want := map[string]string{
		stale.VolumeID: "volume " + stale.VolumeID + ": iscsi, target iqn.2026-01.org.example:a LUN 2, device /dev/sdc, decrypted as crypt-" + stale.VolumeID,
		begun.VolumeID: "volume " + begun.VolumeID + ": iscsi, target iqn.2026-01.org.example:a LUN 3",
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := f.Connect(t.Context(), begun); err != nil { // somebody wants it after all
		t.Fatal(err)
	}
	f.array.held[lunOf(stale.Info)] = true
	isReason(t, f.Clean(t.Context(), found), connector.InUse, stale.VolumeID)
	f.array.held = nil
	if err := f.Clean(t.Context(), found); err != nil {
		t.Fatal(err)
	}
	if left := map[string]int{lunOf(wanted.Info): 1, lunOf(begun.Info): 1}; !maps.Equal(f.array.there, left) || !maps.Equal(f.ciphers.open, map[string]bool{anothers: true}) {
		t.Errorf("left: %v, maps %v", f.array.there, f.ciphers.open)
	}
}

func TestRecordsThatCannotBeRead(t *testing.T) {
	state := t.TempDir()
	for name, text := range map[string]string{"x.json": "{", "other": "{}", uuid.NewString() + ".json": `{"volume_id": "another"}`} {
		if err := os.WriteFile(filepath.Join(state, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h, err := New(Options{State: state})
	if err != nil || len(h.all()) != 0 {
		t.Errorf("%v, records %v", err, h)
	}
}

// TestLUNsSideBySide: fifty volumes are in their connector at the same time, and two calls for one volume are not.
func TestLUNsSideBySide(t *testing.T) {
	f := newHost(t)
	const many = 50
	for n := range many {
		f.array.disks[lunOf(lun(n))] = disk(n)
	}
	var together sync.WaitGroup
	together.Add(many)
	f.array.meet = func() { together.Done(); together.Wait() }
	var wg sync.WaitGroup
	for n := range many {
		wg.Go(func() {
			if _, err := f.Connect(t.Context(), request(n)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f.array.meet = nil

	r, inside := request(3), 0
	f.array.disks[lunOf(lun(3))] = disk(60)
	r.Info.ISCSI.Targets[0].IQN += ":other"
	f.array.disks[lunOf(r.Info)] = disk(61)
	f.array.meet = func() { inside++ } // the race detector sees two
	for range 8 {
		wg.Go(func() {
			if _, err := f.Connect(t.Context(), r); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if inside != 8 {
		t.Errorf("%d calls", inside)
	}
}

func TestProperties(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/iscsi/initiatorname.iscsi":             "## DO NOT EDIT\nInitiatorName=iqn.1993-08.org.debian:01:abc\n",
		"etc/nvme/hostnqn":                          "nqn.2014-08.org.nvmexpress:uuid:1\n",
		"etc/nvme/hostid":                           "6c3f8a5e-9f7f-4b7a-8a44-3d6b2d3c9f10\n",
		"sys/class/dmi/id/product_uuid":             "6C3F8A5E-9F7F-4B7A-8A44-3D6B2D3C9F11\n",
		"sys/module/nvme_core/parameters/multipath": "Y\n",
		"sys/class/fc_host/host1/port_name":         "0x21000024ff30441c\n",
		"sys/class/fc_host/host1/node_name":         "0x20000024ff30441c\n",
		"sys/class/fc_host/host1/port_state":        "Online\n",
		"sys/class/fc_host/host2/port_name":         "0x21000024ff30441d\n",
		"sys/class/fc_host/host2/node_name":         "0x20000024ff30441d\n",
		"sys/class/fc_host/host2/port_state":        "Linkdown\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, facts := range map[string]Facts{
		"all":  {Root: root, Host: "node", IP: "192.0.2.1", Multipath: true, Enforce: true},
		"none": {Root: t.TempDir(), Host: "node", IP: "192.0.2.1", Initiator: "iqn.2026-01.org.example:configured"},
	} {
		h, err := New(Options{State: t.TempDir(), Facts: facts})
		if err != nil {
			t.Fatal(err)
		}
		p, err := h.Properties(t.Context())
		if err != nil || p.Platform == "" {
			t.Errorf("%+v, %v", p, err)
		}
		p.Platform = "x86_64"
		golden.Assert(t, filepath.Join("testdata", "properties-"+name+".json"), golden.JSON(t, p))
	}
}

// TestQEMUsInitiator is the whole of it with a real target: the same volume, another disk at its LUN, and how long it took.
func TestQEMUsInitiator(t *testing.T) {
	s := target.StartISCSI(t)
	iqn := "iqn.2026-01.org.example:volumes"
	s.Add(t, target.LUN{IQN: iqn, Number: 1, File: target.Blank(t, 1<<20), SCSIID: "first"})
	var timings []Timing
	h, err := New(Options{
		Connectors: map[connector.Type]connector.Connector{connector.ISCSI: remote.ISCSI{Run: Measured{command.Exec{}}, Initiator: "iqn.2026-01.org.example:host"}},
		State:      filepath.Join(t.TempDir(), "volumes"), Observe: func(t Timing) { timings = append(timings, t) },
	})
	if err != nil {
		t.Fatal(err)
	}
	info, err := connector.Parse(connector.Raw(fmt.Sprintf(
		`{"driver_volume_type": "iscsi", "data": {"target_portal": %q, "target_iqn": %q, "target_lun": 1}}`, s.Portal, iqn)))
	if err != nil {
		t.Fatal(err)
	}
	r := connector.Request{VolumeID: uuid.NewString(), Info: info}
	dev, err := h.Connect(t.Context(), r)
	if err != nil || dev.Identity != "t10.first" {
		t.Fatalf("%+v, %v", dev, err)
	}
	if err := h.Disconnect(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	s.Remove(t, iqn, 1)
	s.Add(t, target.LUN{IQN: iqn, Number: 1, File: target.Blank(t, 1<<20), SCSIID: "second"})
	r.Known = dev.Identity
	_, err = h.Connect(t.Context(), r)
	isReason(t, err, connector.IdentityMismatch, "t10.first", "t10.second")
	if left, err := h.Stale(t.Context(), nil); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if len(timings) != 3 || timings[0].Programs <= 0 || timings[0].All < timings[0].Programs || timings[2].Err == nil {
		t.Errorf("timings %+v", timings)
	}
}
