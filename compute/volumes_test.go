package compute_test

import (
	"testing"

	"compute-agent/compute"
	"compute-agent/virt"
)

func TestAttachAndDetachVolumes(t *testing.T) {
	for name, state := range map[string]func(*world) string{"active": active, "stopped": stopped, "without guest": func(w *world) string {
		id := gone(w)
		w.until(id, func(s compute.Server) bool { return s.Power == virt.PowerNoState })
		return id
	}} {
		t.Run(name, func(t *testing.T) {
			w := withVolumes(t)
			id := state(w)
			first := w.attachVolume(id, fileVolume)
			second := w.attachVolume(id, iscsiVolume)
			if first.Name != "vdb" || second.Name != "vdc" || first.Index != 0 || second.Index != 1 {
				t.Errorf("the volumes are %s and %s", first.Name, second.Name)
			}
			w.audit()
			w.auditVolumes()
			w.wakesUnchanged(w.await(id))
			w.must(w.DetachVolume(t.Context(), id, fileVolume))
			w.await(id)
			w.audit()
			w.auditVolumes()
			w.wakesUnchanged(w.await(id))
			w.must(w.DetachVolume(t.Context(), id, iscsiVolume))
			w.await(id)
			w.audit()
			w.auditVolumes()
			if list, err := w.BlockDevices(t.Context(), id); err != nil || len(list) > 0 {
				t.Errorf("volumes %+v, %v", list, err)
			}
		})
	}
}
