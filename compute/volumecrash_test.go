package compute_test

import (
	"strconv"
	"testing"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
)

// volumeScenario is some work of the volume service. prepare makes what act needs; it names the records a, b.
type volumeScenario struct {
	name    string
	prepare func(w *volumeWorld, ids map[string]string)
	act     func(w *volumeWorld, ids map[string]string) error
	// done says whether the work is done, of an agent that came to rest.
	done func(w *volumeWorld, ids map[string]string) bool
}

func available(w *volumeWorld, ids map[string]string) {
	ids["a"] = w.made(cinder.VolumeRequest{SizeGiB: 1}).ID
}

func snapshotted(w *volumeWorld, ids map[string]string) {
	available(w, ids)
	s, err := w.CreateSnapshot(w.t.Context(), cinder.SnapshotRequest{ProjectID: project, VolumeID: ids["a"]})
	must(w.t, err)
	ids["s"] = s.ID
	w.rest()
}

func encrypting(w *volumeWorld, ids map[string]string) {
	w.image("image")
	t, err := w.CreateVolumeType(w.t.Context(), cinder.Type{Name: "secret", Public: true, Encryption: &cinder.Encryption{Provider: "luks"}})
	must(w.t, err)
	ids["t"] = t.ID
}

func inUse(w *volumeWorld, ids map[string]string) {
	available(w, ids)
	w.servers("server")
	w.attached("attachment", ids["a"], "server")
}

// number counts the volumes in a state.
func (w *volumeWorld) number(status cinder.Status) (n int) {
	w.t.Helper()
	volumes, err := w.Volumes(w.t.Context())
	must(w.t, err)
	for _, v := range volumes {
		if v.Status == status {
			n++
		}
	}
	return n
}

var volumeScenarios = []volumeScenario{
	{"create", func(*volumeWorld, map[string]string) {}, func(w *volumeWorld, _ map[string]string) error {
		_, err := w.CreateVolume(w.t.Context(), cinder.VolumeRequest{ProjectID: project, SizeGiB: 1})
		return err
	}, func(w *volumeWorld, _ map[string]string) bool { return w.number(cinder.Available) == 1 }},
	{"create encrypted from an image", encrypting, func(w *volumeWorld, ids map[string]string) error {
		_, err := w.CreateVolume(w.t.Context(), cinder.VolumeRequest{ProjectID: project, ImageID: "image", Type: ids["t"]})
		return err
	}, func(w *volumeWorld, _ map[string]string) bool { return w.number(cinder.Available) == 1 }},
	{"create from a snapshot", snapshotted, func(w *volumeWorld, ids map[string]string) error {
		_, err := w.CreateVolume(w.t.Context(), cinder.VolumeRequest{ProjectID: project, SnapshotID: ids["s"], SizeGiB: 2})
		return err
	}, func(w *volumeWorld, _ map[string]string) bool { return w.number(cinder.Available) == 2 }},
	{"clone", available, func(w *volumeWorld, ids map[string]string) error {
		_, err := w.CreateVolume(w.t.Context(), cinder.VolumeRequest{ProjectID: project, SourceID: ids["a"]})
		return err
	}, func(w *volumeWorld, _ map[string]string) bool { return w.number(cinder.Available) == 2 }},
	{"delete encrypted", func(w *volumeWorld, ids map[string]string) {
		encrypting(w, ids)
		ids["a"] = w.made(cinder.VolumeRequest{SizeGiB: 1, Type: ids["t"]}).ID
	}, func(w *volumeWorld, ids map[string]string) error {
		return w.DeleteVolume(w.t.Context(), ids["a"], false)
	},
		func(w *volumeWorld, _ map[string]string) bool { return w.number(cinder.Available) == 0 }},
	{"extend", available, func(w *volumeWorld, ids map[string]string) error { return w.ExtendVolume(w.t.Context(), ids["a"], 3) },
		func(w *volumeWorld, ids map[string]string) bool { return w.rested(ids["a"]).SizeGiB == 3 }},
	{"extend in use", inUse, func(w *volumeWorld, ids map[string]string) error { return w.ExtendVolume(w.t.Context(), ids["a"], 3) },
		func(w *volumeWorld, ids map[string]string) bool {
			v := w.rested(ids["a"])
			return v.SizeGiB == 3 && v.Status == cinder.InUse && len(w.told) > 0
		}},
	{"snapshot", available, func(w *volumeWorld, ids map[string]string) error {
		_, err := w.CreateSnapshot(w.t.Context(), cinder.SnapshotRequest{ProjectID: project, VolumeID: ids["a"]})
		return err
	}, func(w *volumeWorld, _ map[string]string) bool {
		all, err := w.Snapshots(w.t.Context())
		return err == nil && len(all) == 1 && all[0].Status == cinder.Available
	}},
	{"delete a snapshot", snapshotted, func(w *volumeWorld, ids map[string]string) error { return w.DeleteSnapshot(w.t.Context(), ids["s"]) },
		func(w *volumeWorld, _ map[string]string) bool {
			all, err := w.Snapshots(w.t.Context())
			return err == nil && len(all) == 0
		}},
	{"attach", func(w *volumeWorld, ids map[string]string) { available(w, ids); w.servers("server") },
		func(w *volumeWorld, ids map[string]string) error {
			ctx := w.t.Context()
			if err := w.Attach(ctx, "attachment", ids["a"], "server"); err != nil {
				return err
			}
			if _, err := w.Connect(ctx, "attachment", connector.Properties{Host: "host"}, "/dev/vdb"); err != nil {
				return err
			}
			return w.Complete(ctx, "attachment")
		}, func(w *volumeWorld, ids map[string]string) bool { return w.rested(ids["a"]).Status == cinder.InUse }},
	{"detach", inUse, func(w *volumeWorld, _ map[string]string) error { return w.Remove(w.t.Context(), "attachment") },
		func(w *volumeWorld, ids map[string]string) bool { return w.rested(ids["a"]).Status == cinder.Available }},
}

// stageVolumes makes a world with the scenario's records, whose agent then has the fate.
func (sc volumeScenario) stage(t *testing.T, f *fate) (*volumeWorld, map[string]string) {
	t.Helper()
	w, ids := newVolumeWorld(t), map[string]string{}
	w.boot(nil)
	sc.prepare(w, ids)
	w.end()
	f.sleep(true)
	w.boot(f)
	f.sleep(false)
	return w, ids
}

// TestVolumesKilledAtEveryPoint kills the agent before and after each effect and each write to the store; the next one finishes what was accepted.
func TestVolumesKilledAtEveryPoint(t *testing.T) {
	for _, sc := range volumeScenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			total := 0
			for k := 1; !t.Failed(); k++ {
				f := newFate()
				f.dieAt = k
				var hits []string
				t.Run(strconv.Itoa(k), func(t *testing.T) {
					w, ids := sc.stage(t, f)
					accepted := sc.act(w, ids) == nil
					w.rest()
					w.end()
					hits = f.hits()
					w.boot(nil)
					w.audit(sc.name)
					if accepted && !sc.done(w, ids) {
						t.Errorf("%v: it was accepted and not done", hits)
					}
					w.clear(sc.name)
				})
				if len(hits) == 0 {
					break
				}
				total++
			}
			t.Logf("%d kills", total)
		})
	}
}

// TestVolumesFailAtEveryPoint makes each effect fail once: the record shows it, and an administrator can clear it away.
func TestVolumesFailAtEveryPoint(t *testing.T) {
	for _, sc := range volumeScenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			for k := 1; !t.Failed(); k++ {
				f := newFate()
				f.failAt, f.failWith = k, errBroken
				var hits []string
				t.Run(strconv.Itoa(k), func(t *testing.T) {
					w, ids := sc.stage(t, f)
					_ = sc.act(w, ids) // its error is the failure
					w.rest()
					hits = f.hits()
					w.end() // what could not be stored is gone on with
					w.boot(nil)
					w.audit(sc.name)
					w.clear(sc.name)
				})
				if len(hits) == 0 {
					break
				}
			}
		})
	}
}
