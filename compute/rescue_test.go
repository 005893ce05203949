package compute_test

import (
	"compute-agent/compute"
)

// otherStride is how many points lie between two deaths of a pair where a server gets another system.
const otherStride = 9

func rebuild(w *world, id string) error {
	_, err := w.RebuildServer(w.t.Context(), id, compute.RebuildRequest{ImageID: otherImageID, AdminPassword: "new"})
	return err
}

func rescue(w *world, id string) error {
	return w.RescueServer(w.t.Context(), id, compute.RescueRequest{ImageID: otherImageID})
}

// wiredStoring is a server with ports and a volume.
func wiredStoring(w *world) string {
	id := wired(w)
	w.attachVolume(id, fileVolume)
	return id
}

func rescuedStoring(w *world) string {
	id := storing(w)
	w.must(rescue(w, id))
	return w.await(id).ID
}
