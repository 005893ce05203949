//go:build lab

package storage

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"compute-agent/test/lab/inside"
)

// Tests whose names begin with TestAgent run the agent's program with libvirt and a guest, on LUNs that are handed over to it.

// patience is for what the agent does beside all else: it is asked again and again, since it tells nobody.
const patience = 3 * time.Minute

// array is a storage system to which two paths lead, with a LUN that can grow. Its functions return when the host has noticed.
type array struct {
	luns          []handedOver
	cut, restore  func(t testing.TB)                       // one of the paths
	away, back    func(t testing.TB)                       // all of it
	grow          func(t testing.TB, bytes int64)          // the first LUN
	another, same func(t testing.TB) (was, is string)      // the first LUN is another disk, and itself again; their identities
	sum           func(t testing.TB, lun int) (md5 string) // of the part of a LUN that guests fill, as it is on the array
}

// The sizes of the first LUN. The agent takes the size of a disk from the disk: what is handed over need not be as large as it is said to be.
const (
	growing, grown       = 8 * mib, 12 * mib
	growingGiB, grownGiB = 9, 10 // as they are said to be
)

// handedOver is an entry of the agent's file of LUNs.
type handedOver struct {
	Name       string     `json:"name"`
	SizeGiB    int        `json:"size_gib"`
	Connection connection `json:"connection_info"`
}

type connection struct {
	Type string         `json:"driver_volume_type"`
	Data map[string]any `json:"data"`
}

// rig is an agent with an array and a guest.
type rig struct {
	t      *testing.T
	agent  *inside.Agent
	guest  *inside.Guest
	array  *array
	volume string   // on the first LUN
	before []string // what there was of disks and connections
}

// newRig starts the agent and boots the guest.
func newRig(t *testing.T, a *array, config ...string) *rig {
	t.Helper()
	file := filepath.Join(t.TempDir(), "luns.json")
	data, err := json.Marshal(a.luns)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, array: a}
	r.agent = inside.Start(t, append(config, "volume_luns_file: "+file, "quota_volumes: -1", "device_detach_timeout: 5")...)
	r.before = r.host()
	r.agent.VolumeType("array", false)
	r.volume = r.agent.Volume(growingGiB, map[string]any{"volume_type": "array"})
	began := time.Now()
	r.guest = r.agent.BootGuest()
	t.Logf("the guest runs after %.0f s", time.Since(began).Seconds())
	return r
}

// in is the rig for a subtest.
func (r *rig) in(t *testing.T) *rig {
	sub := *r
	sub.t, sub.agent = t, r.agent.In(t)
	sub.guest = r.guest.In(sub.agent)
	return &sub
}

// host lists the disks, maps, sessions and records of connections that there are.
func (r *rig) host() []string {
	all := r.agent.Connected()
	for _, pattern := range []string{
		"/sys/class/iscsi_session/*", "/etc/iscsi/nodes/*", "/etc/iscsi/send_targets/*", "/etc/iscsi/.compute-agent*", "/sys/block/sd*", "/sys/block/dm-*",
		"/sys/class/nvme/*", "/sys/block/nvme*", "/dev/mapper/*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			r.t.Error(err)
		}
		all = append(all, found...)
	}
	return all
}

// nothingLeft says that the host and the guest have nothing of volumes. Once a volume is available that is so at once; after a crash the agent may be at it still.
func (r *rig) nothingLeft(limit time.Duration) {
	r.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(time.Second) {
		now := r.host()
		if slices.Equal(now, r.before) {
			break
		}
		if time.Now().After(end) {
			r.t.Errorf("the host has (+) and had (-) %s", cmp.Diff(r.before, now))
			break
		}
	}
	if disks := r.guest.Disks(); !slices.Equal(disks, []string{"vda"}) {
		r.t.Errorf("the guest has %q", disks)
	}
	if xml := inside.Virsh(r.t, "dumpxml", r.guest.Domain); strings.Contains(xml, "vdb") {
		r.t.Errorf("the guest's definition has a volume:\n%s", xml)
	}
}

// step is a part of a test; those after one that failed have not what they need.
type step struct {
	name string
	do   func(*rig)
}

func (r *rig) walk(steps ...step) {
	for _, s := range steps {
		began := time.Now()
		if !r.t.Run(s.name, func(t *testing.T) { s.do(r.in(t)) }) {
			r.t.Fatalf("%s failed: the rest is not tested", s.name)
		}
		r.t.Logf("%s: %.0f s", s.name, time.Since(began).Seconds())
	}
}

// life is what a volume goes through in any array.
func (r *rig) life() []step {
	return []step{
		{"attach, write, read, detach", (*rig).used},
		{"path loss and return under the guest's I/O", (*rig).pathLost},
		{"the agent starts again, and is killed, under the guest's I/O", (*rig).agentGone},
		{"extend", (*rig).extended},
		{"detach", (*rig).detached},
		{"the LUN is another disk", (*rig).usedAgain},
		{"target gone at detach", (*rig).targetGone},
	}
}

func (r *rig) used() {
	began := time.Now()
	r.agent.Attach(r.guest.ID, r.volume)
	r.t.Logf("attached after %.1f s", time.Since(began).Seconds())
	disk := r.guest.Disk(r.volume)
	wrote := r.guest.Fill(disk)
	if read := r.guest.Sum(disk); read != wrote {
		r.t.Errorf("the guest reads %s, wrote %s", read, wrote)
	}
	began = time.Now()
	r.agent.Detach(r.guest.ID, r.volume)
	r.t.Logf("detached after %.1f s", time.Since(began).Seconds())
	r.nothingLeft(0)
	if there := r.array.sum(r.t, 0); !strings.HasPrefix(wrote, there) {
		r.t.Errorf("the array has %s, the guest wrote %s", there, wrote)
	}
	r.agent.Attach(r.guest.ID, r.volume)
	if read := r.guest.Sum(r.guest.Disk(r.volume)); read != wrote {
		r.t.Errorf("attached again the guest reads %s, wrote %s", read, wrote)
	}
}

func (r *rig) pathLost() {
	load := r.guest.Load(r.guest.Disk(r.volume))
	for _, change := range []struct {
		name string
		make func(testing.TB)
	}{{"cut", r.array.cut}, {"restored", r.array.restore}} {
		began := time.Now()
		change.make(r.t)
		r.t.Logf("a path is %s: the host knows after %.0f s", change.name, time.Since(began).Seconds())
		load.More(5)
	}
	load.End()
}

// agentGone has the guest write on while there is no agent, and the volume detached by one that did not attach it.
func (r *rig) agentGone() {
	load := r.guest.Load(r.guest.Disk(r.volume))
	r.agent.Restart()
	load.More(5)
	r.agent.Kill()
	load.More(5)
	r.agent.Again()
	load.More(5)
	wrote := load.End()
	if v := r.agent.ShowVolume(r.volume); !v.Of(r.guest.ID) {
		r.t.Errorf("the volume is %+v", v)
	}
	r.agent.Detach(r.guest.ID, r.volume)
	r.nothingLeft(0)
	r.agent.Attach(r.guest.ID, r.volume)
	if read := r.guest.Sum(r.guest.Disk(r.volume)); read != wrote {
		r.t.Errorf("the guest reads %s, wrote %s", read, wrote)
	}
}

func (r *rig) extended() {
	disk := r.guest.Disk(r.volume)
	load := r.guest.Load(disk)
	r.array.grow(r.t, grown)
	if err := r.agent.TryExtend(r.volume, grownGiB); err != nil {
		r.t.Fatal(err)
	}
	if v := r.agent.Settled(r.volume, "in-use", "error_extending"); v.Status != "in-use" || v.Size != grownGiB {
		r.t.Errorf("the volume is %+v", v)
	}
	r.guest.Await("[ $(cat /sys/block/" + disk + "/size) = " + sectors(grown) + " ]")
	load.More(5)
	load.End()
}

func (r *rig) detached() {
	r.agent.Detach(r.guest.ID, r.volume)
	r.nothingLeft(0)
}

// usedAgain gives the LUN's number to another disk while the volume is detached.
func (r *rig) usedAgain() {
	was, is := r.array.another(r.t)
	if err := r.agent.TryAttach(r.guest.ID, r.volume); err != nil {
		r.t.Fatal(err)
	}
	if v := r.agent.Settled(r.volume, "available", "in-use", "error"); v.Status != "available" {
		r.t.Errorf("the volume is %+v", v)
	}
	refusal := r.agent.Logs("another disk is where the volume was")
	r.t.Log(refusal)
	if !strings.Contains(refusal, was) || !strings.Contains(refusal, is) {
		r.t.Errorf("it does not name %s and %s", was, is)
	}
	r.nothingLeft(patience)
	r.array.same(r.t)
	r.agent.Attach(r.guest.ID, r.volume)
	r.guest.Sum(r.guest.Disk(r.volume))
}

// targetGone detaches a volume whose array does not answer any more.
func (r *rig) targetGone() {
	r.guest.Fill(r.guest.Disk(r.volume))
	r.array.away(r.t)
	began := time.Now()
	r.agent.Detach(r.guest.ID, r.volume)
	r.t.Logf("detached after %.1f s", time.Since(began).Seconds())
	r.nothingLeft(patience)
	r.array.back(r.t)
	r.used()
	r.detached()
}
