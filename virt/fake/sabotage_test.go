package fake_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"compute-agent/virt"
	"compute-agent/virt/fake"
	"compute-agent/virt/virttest"
)

// crooked is a driver with one defect, to show that the suite finds it.
type crooked struct {
	*fake.Driver
	defect string
}

// has says whether the driver has a defect.
func (d crooked) has(defect string) bool { return d.defect == defect }

// defects are the promises that break, by defect.
var defects = map[string]string{
	"created guests run":                 "Create/makes_the_guest_and_leaves_it",
	"the Spec is changed":                "Create/the_Spec_is_not_changed",
	"every error is ErrUnavailable":      "Create/ErrInvalid_when_the_Spec_contradicts_itself",
	"missing files are not seen":         "Create/ErrInvalid_when_the_Spec_names_a_missing_file",
	"creating twice succeeds":            "Create/ErrExists_when_a_guest_with_the_same_ID",
	"the later guest replaces the first": "Create/ErrExists_when_a_guest_with_the_same_ID",
	"a failed Create leaves a guest":     "Create/after_any_error",
	"remade guests are as they were":     "Remake/ends_the_guest",
	"a failed Remake loses the guest":    "Remake/after_an_error",
	"titles with markup are refused":     "Spec_texts/no_text",
	"starting a running guest resets it": "Start/starting_a_running_guest",
	"starting no guest succeeds":         "Start/ErrNotFound",
	"grace is not given":                 "Stop/with_a_Grace",
	"grace has no end":                   "Stop/forces_a_paused_guest",
	"lost patience forces":               "Stop/when_ctx_ends",
	"stopping removes the definition":    "Stop/ends_the_guest's_execution",
	"destroying no guest fails":          "Destroy/destroying_a_guest_that_is_not_there",
	"files are removed":                  "Destroy/files_that_its_Spec_named_stay",
	"disks are not counted":              "Guest/Guests_returns_every_guest",
	"stopped guests are not listed":      "Guest/Guests_has_each_guest_once",
	"stopped guests can be paused":       "Pause/ErrInvalidState",
	"the log has no limit":               "ConsoleLog/returns_at_most_limit",
	"stopped guests have consoles":       "Consoles/ErrInvalidState",
	"serial ports come first":            "Consoles/returns_the_ways_in",
	"pictures are empty":                 "Screenshot/returns_what",
	"machines go by their aliases":       "Machine/returns_the_guest's_machine_type",
	"plugged NICs are live only":         "NICs/PlugNIC_gives_a_running_guest",
	"stopped guests take no NIC":         "NICs/PlugNIC_gives_a_stopped_guest",
	"a NIC replaces one of its MAC":      "NICs/PlugNIC:_ErrExists",
	"NICs are never let go of":           "NICs/UnplugNIC:_ErrBusy",
	"unplugging no NIC fails":            "NICs/UnplugNIC:_without_such_a_NIC",
	"unplugged NICs stay defined":        "NICs/UnplugNIC_takes_the_NIC_from_a_running_guest",
	"plugged disks are live only":        "Disks/PlugDisk_gives_a_running_guest",
	"stopped guests take no disk":        "Disks/PlugDisk_gives_a_stopped_guest",
	"a disk replaces one of its target":  "Disks/PlugDisk:_ErrExists",
	"locks are not seen":                 "Disks/PlugDisk:_ErrBusy_when_another_guest",
	"disks are never let go of":          "Disks/UnplugDisk:_ErrBusy_when_Patience",
	"unplugging no disk fails":           "Disks/UnplugDisk:_without_such_a_disk",
	"disks do not grow":                  "ResizeDisk/makes_the_guest_see",
	"disks shrink":                       "ResizeDisk/ErrInvalid_when_the_disk_would_shrink",
	"copies are not used":                "CopyDisk/has_the_guest_use_another_source",
	"copies keep the limits":             "CopyDisk/with_the_other's_limits",
	"abandoned copies go on":             "CopyDisk/when_ctx_ends",
	"left copies are in the way":         "CopyDisk/one_that_was_under_way",
	"use of disks is not told":           "DiskUse/returns",
	"secrets are not listed":             "Secrets/PutSecret_keeps",
	"secrets are shown":                  "Secrets/PutSecret:_ErrInvalid",
	"no word of pauses":                  "Events/Pause_sends_paused",
	"events come twice":                  "Events/Stop_sends_stopped_once",
	"streams outlive their context":      "Events/a_stream_is_closed_when_ctx_ends",
	"contexts are not heeded":            "Context/a_call_whose_context_has_ended",
	"a closed driver works":              "Close/calls_after_Close",
	"closing stops guests":               "Close/guests_run_on",
	"the loser of a race cleans up":      "Concurrency/of_concurrent_calls_of_Create",
	"destroying twice fails":             "Concurrency/concurrent_calls_of_Destroy",
}

// TestSuiteFindsDefects runs the suite on crooked drivers, each in a process of its own because a
// test cannot watch another fail.
func TestSuiteFindsDefects(t *testing.T) {
	self, err := os.Executable()
	ok(t, err)
	for defect, promise := range defects {
		t.Run(defect, func(t *testing.T) {
			t.Parallel()
			group, name, _ := strings.Cut(promise, "/")
			run := "^TestCrooked$/^" + group + "$/^" + name
			cmd := exec.CommandContext(t.Context(), self, "-test.run="+run, "-test.v")
			cmd.Env = append(os.Environ(), "DEFECT="+defect)
			out, err := cmd.CombinedOutput()
			var failed *exec.ExitError
			if !errors.As(err, &failed) || !strings.Contains(string(out), "--- FAIL: TestCrooked/"+promise) {
				t.Errorf("the suite did not find it (%v):\n%s", err, out)
			}
		})
	}
}

// TestCrooked is the suite on a driver with the defect that the environment names. Without one it
// shows that a crooked driver has no other defect.
func TestCrooked(t *testing.T) {
	defect := os.Getenv("DEFECT")
	open := harness(func(d *fake.Driver) virt.Driver { return crooked{d, defect} })
	virttest.TestDriver(t, func(t *testing.T) virttest.Harness {
		h := open(t)
		if defect != "" {
			h.Patience = time.Second // it will be lost
		}
		return h
	})
}

func (d crooked) Create(ctx context.Context, s virt.Spec) error {
	switch {
	case d.has("the Spec is changed"):
		s.Disks[0].Cache = "none"
	case d.has("titles with markup are refused") && strings.Contains(s.Title, "<"):
		return virt.ErrInvalid
	case d.has("missing files are not seen"):
		for _, disk := range s.Disks {
			_ = fake.MakeDisk(disk.Path(), 1<<20)
		}
	case d.has("the later guest replaces the first"):
		_ = d.Driver.Destroy(ctx, s.ID)
	case d.has("contexts are not heeded"):
		ctx = context.WithoutCancel(ctx)
	}
	err := d.Driver.Create(ctx, s)
	switch {
	case err == nil && d.has("created guests run"):
		return d.Driver.Start(ctx, s.ID)
	case err != nil && d.has("every error is ErrUnavailable"):
		return virt.ErrUnavailable
	case errors.Is(err, virt.ErrExists) && d.has("creating twice succeeds"):
		return nil
	case errors.Is(err, virt.ErrExists) && d.has("the loser of a race cleans up"):
		_ = d.Driver.Destroy(ctx, s.ID)
	case err != nil && d.has("a failed Create leaves a guest"):
		s.Disks, s.Graphics, s.MemoryMiB = nil, nil, 64
		_ = d.Driver.Create(ctx, s)
	}
	return err
}

func (d crooked) Remake(ctx context.Context, s virt.Spec) error {
	if g, err := d.Guest(ctx, s.ID); err == nil && d.has("remade guests are as they were") {
		s.MemoryMiB = g.MemoryMiB
	}
	err := d.Driver.Remake(ctx, s)
	if err != nil && d.has("a failed Remake loses the guest") {
		_ = d.Driver.Destroy(ctx, s.ID)
	}
	return err
}

func (d crooked) Start(ctx context.Context, id string) error {
	if d.has("starting a running guest resets it") {
		if g, err := d.Guest(ctx, id); err == nil && g.State == virt.PowerRunning {
			_ = d.Driver.Stop(ctx, id, virt.StopOptions{})
		}
	}
	err := d.Driver.Start(ctx, id)
	if d.has("starting no guest succeeds") {
		return nil
	}
	return err
}

func (d crooked) Stop(ctx context.Context, id string, opt virt.StopOptions) error {
	switch {
	case d.has("grace is not given"):
		opt.Grace = 0
	case d.has("grace has no end") && opt.Grace > 0:
		<-ctx.Done()
		return virt.ErrUnavailable
	}
	err := d.Driver.Stop(ctx, id, opt)
	switch {
	case ctx.Err() != nil && d.has("lost patience forces"):
		_ = d.Driver.Stop(context.WithoutCancel(ctx), id, virt.StopOptions{})
	case d.has("stopping removes the definition"):
		_ = d.Driver.Destroy(ctx, id)
	}
	return err
}

func (d crooked) Destroy(ctx context.Context, id string) error {
	g, err := d.Guest(ctx, id)
	if (d.has("destroying no guest fails") || d.has("destroying twice fails")) && errors.Is(err, virt.ErrNotFound) {
		return err
	}
	if d.has("files are removed") {
		for _, disk := range g.Disks {
			_ = os.Remove(disk.Path)
		}
	}
	return d.Driver.Destroy(ctx, id)
}

func (d crooked) Guests(ctx context.Context) ([]virt.Guest, error) {
	all, err := d.Driver.Guests(ctx)
	var some []virt.Guest
	for _, g := range all {
		if d.has("disks are not counted") {
			g.Disks = nil
		}
		if !d.has("stopped guests are not listed") || g.State != virt.PowerShutdown {
			some = append(some, g)
		}
	}
	return some, err
}

func (d crooked) Pause(ctx context.Context, id string) error {
	err := d.Driver.Pause(ctx, id)
	if d.has("stopped guests can be paused") && errors.Is(err, virt.ErrInvalidState) {
		return nil
	}
	return err
}

func (d crooked) Machine(ctx context.Context, id string) (string, error) {
	if d.has("machines go by their aliases") {
		s, err := d.Driver.Hypervisor().Spec(id)
		return s.Machine, err
	}
	return d.Driver.Machine(ctx, id)
}

func (d crooked) PlugNIC(ctx context.Context, id string, nic virt.NIC) error {
	g, err := d.Guest(ctx, id)
	if err == nil && g.State == virt.PowerShutdown && d.has("stopped guests take no NIC") {
		return virt.ErrInvalidState
	}
	err = d.Driver.PlugNIC(ctx, id, nic)
	switch {
	case errors.Is(err, virt.ErrExists) && d.has("a NIC replaces one of its MAC"):
		return nil
	case err == nil && d.has("plugged NICs are live only"):
		return d.Hypervisor().UnplugByHand(id, nic.MAC)
	}
	return err
}

func (d crooked) UnplugNIC(ctx context.Context, id, mac string, opt virt.UnplugOptions) error {
	nics, err := d.NICs(ctx, id)
	if err != nil {
		return err
	}
	has := slices.ContainsFunc(nics, func(n virt.PluggedNIC) bool { return n.MAC == mac })
	if !has && d.has("unplugging no NIC fails") {
		return virt.ErrNotFound
	}
	err = d.Driver.UnplugNIC(ctx, id, mac, opt)
	switch {
	case errors.Is(err, virt.ErrBusy) && d.has("NICs are never let go of"):
		return nil
	case err == nil && has && d.has("unplugged NICs stay defined"):
		_ = d.Driver.PlugNIC(ctx, id, virt.NIC{MAC: mac, Attach: virt.Attachment{Type: "ethernet"}})
	}
	return err
}

func (d crooked) ConsoleLog(ctx context.Context, id string, limit int) ([]byte, error) {
	if d.has("the log has no limit") {
		limit = 1 << 30
	}
	return d.Driver.ConsoleLog(ctx, id, limit)
}

func (d crooked) Consoles(ctx context.Context, id string) ([]virt.Console, error) {
	all, err := d.Driver.Consoles(ctx, id)
	switch {
	case errors.Is(err, virt.ErrInvalidState) && d.has("stopped guests have consoles"):
		return nil, nil
	case d.has("serial ports come first"):
		slices.Reverse(all)
	}
	return all, err
}

func (d crooked) Screenshot(ctx context.Context, id string) ([]byte, error) {
	picture, err := d.Driver.Screenshot(ctx, id)
	if d.has("pictures are empty") {
		picture = nil
	}
	return picture, err
}

func (d crooked) Events(ctx context.Context) <-chan virt.Event {
	unread := ctx.Done()
	if d.has("streams outlive their context") {
		ctx, unread = context.WithoutCancel(ctx), nil
	}
	in := d.Driver.Events(ctx)
	out := make(chan virt.Event)
	go func() {
		defer close(out)
		for e := range in {
			if d.has("no word of pauses") && e.Kind == virt.EventPaused && e.Reason == "paused" {
				continue
			}
			copies := 1
			if d.has("events come twice") && e.Kind == virt.EventStopped {
				copies = 2
			}
			for range copies {
				select {
				case out <- e:
				case <-unread:
					return
				}
			}
		}
	}()
	return out
}

func (d crooked) Close() error {
	switch {
	case d.has("a closed driver works"):
		return nil
	case d.has("closing stops guests"):
		all, err := d.Driver.Guests(context.Background())
		for _, g := range all {
			_ = d.Driver.Stop(context.Background(), g.ID, virt.StopOptions{})
		}
		return errors.Join(err, d.Driver.Close())
	default:
		return d.Driver.Close()
	}
}
