package api

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"compute-agent/cinder"
)

// sinceSnapshotInUse is the microversion since which a snapshot of a volume in use needs no force.
const sinceSnapshotInUse microversion = 66

func (a *api) snapshotRoutes() []route {
	return slices.Concat([]route{
		{pattern: "GET /snapshots", do: a.listSnapshots},
		{pattern: "GET /snapshots/detail", do: a.listSnapshotsDetail},
		{pattern: "POST /snapshots", do: a.createSnapshot, schema: "snapshot_create"},
		{pattern: "GET /snapshots/{id}", do: a.showSnapshot},
		{pattern: "PUT /snapshots/{id}", do: a.updateSnapshot, schema: "snapshot_update"},
		{pattern: "DELETE /snapshots/{id}", do: a.deleteSnapshot},
		{pattern: "POST /snapshots/{id}/action", do: a.snapshotAction, schema: "server_action"},
	}, a.volumeMetadataRoutes("/snapshots/{id}", snapshotWords))
}

// ownSnapshot finds the snapshot of an ID, if it is the caller's.
func (a *api) ownSnapshot(c *call, id string) (cinder.Snapshot, error) {
	missing := notFound("Snapshot %s could not be found.", shorten(id))
	if uuid.Validate(id) != nil {
		return cinder.Snapshot{}, missing
	}
	s, err := a.Backend.Snapshot(c.Context(), id)
	if isMissing(err) || (err == nil && !c.caller.mine(s.ProjectID)) {
		return cinder.Snapshot{}, missing
	}
	return s, err
}

func (a *api) snapshot(c *call) (cinder.Snapshot, error) { return a.ownSnapshot(c, c.PathValue("id")) }

var snapshotListing = listing[cinder.Snapshot]{
	missing:  "Snapshot %s could not be found.",
	id:       func(s cinder.Snapshot) string { return s.ID },
	project:  func(s cinder.Snapshot) string { return s.ProjectID },
	metadata: func(s cinder.Snapshot) map[string]string { return s.Metadata },
	added:    map[string]microversion{"metadata": 22, "consumes_quota": 65},
	filters: map[string]func(cinder.Snapshot) string{
		"name":              func(s cinder.Snapshot) string { return s.Name },
		"status":            func(s cinder.Snapshot) string { return string(s.Status) },
		"volume_id":         func(s cinder.Snapshot) string { return s.VolumeID },
		"availability_zone": func(cinder.Snapshot) string { return availabilityZone },
		"consumes_quota":    func(cinder.Snapshot) string { return "true" },
	},
	adminFilters: map[string]func(cinder.Snapshot) string{
		"id":          func(s cinder.Snapshot) string { return s.ID },
		"project_id":  func(s cinder.Snapshot) string { return s.ProjectID },
		"user_id":     func(s cinder.Snapshot) string { return s.UserID },
		"volume_size": func(s cinder.Snapshot) string { return strconv.Itoa(s.SizeGiB) },
	},
	order: map[string]func(a, b cinder.Snapshot) int{
		"created_at":   func(a, b cinder.Snapshot) int { return a.Created.Compare(b.Created) },
		"updated_at":   func(a, b cinder.Snapshot) int { return a.Updated.Compare(b.Updated) },
		"id":           func(a, b cinder.Snapshot) int { return cmp.Compare(a.ID, b.ID) },
		"name":         func(a, b cinder.Snapshot) int { return cmp.Compare(a.Name, b.Name) },
		"display_name": func(a, b cinder.Snapshot) int { return cmp.Compare(a.Name, b.Name) },
		"status":       func(a, b cinder.Snapshot) int { return cmp.Compare(a.Status, b.Status) },
		"volume_id":    func(a, b cinder.Snapshot) int { return cmp.Compare(a.VolumeID, b.VolumeID) },
		"volume_size":  func(a, b cinder.Snapshot) int { return cmp.Compare(a.SizeGiB, b.SizeGiB) },
		"size":         func(a, b cinder.Snapshot) int { return cmp.Compare(a.SizeGiB, b.SizeGiB) },
	},
}

func (a *api) listSnapshots(c *call) (*answer, error) { return a.findSnapshots(c, snapshotSummary) }

func (a *api) listSnapshotsDetail(c *call) (*answer, error) { return a.findSnapshots(c, snapshotView) }

func (a *api) findSnapshots(c *call, show func(*call, cinder.Snapshot) view) (*answer, error) {
	all, err := a.Backend.Snapshots(c.Context())
	if err != nil {
		return nil, err
	}
	p, err := snapshotListing.find(c, all)
	if err != nil {
		return nil, err
	}
	return p.answer("snapshots", "snapshots_links", func(s cinder.Snapshot) view { return show(c, s) })
}

// snapshotSummary is an entry of a list without details, which for snapshots has nearly all.
func snapshotSummary(_ *call, s cinder.Snapshot) view {
	return view{
		"id": s.ID, "created_at": cinderTime(s.Created), "updated_at": cinderTime(s.Updated), "name": s.Name, "description": orNull(s.Description),
		"volume_id": s.VolumeID, "status": string(s.Status), "size": s.SizeGiB, "metadata": orEmpty(s.Metadata),
	}
}

// createdSnapshot is what Cinder answers to the creation of a snapshot, and to an update.
func createdSnapshot(c *call, s cinder.Snapshot) view {
	out := snapshotSummary(c, s)
	if c.since(14) {
		out["group_snapshot_id"] = nil
	}
	if c.since(41) {
		out["user_id"] = s.UserID
	}
	if c.since(65) {
		out["consumes_quota"] = true
	}
	return out
}

func snapshotView(c *call, s cinder.Snapshot) view {
	out := createdSnapshot(c, s)
	out["os-extended-snapshot-attributes:project_id"] = s.ProjectID
	out["os-extended-snapshot-attributes:progress"] = "0%"
	if s.Status != cinder.Creating {
		out["os-extended-snapshot-attributes:progress"] = "100%"
	}
	return out
}

func answerSnapshot(code int, v view) (*answer, error) {
	return &answer{status: code, body: map[string]any{"snapshot": v}}, nil
}

func (a *api) showSnapshot(c *call) (*answer, error) {
	s, err := a.snapshot(c)
	if err != nil {
		return nil, err
	}
	return answerSnapshot(http.StatusOK, snapshotView(c, s))
}

func (a *api) createSnapshot(c *call) (*answer, error) {
	var req struct {
		Snapshot struct {
			recordWords
			VolumeID string            `json:"volume_id"`
			Force    *boolean          `json:"force"`
			Metadata map[string]string `json:"metadata"`
		}
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	in := req.Snapshot
	v, err := a.ownVolume(c, in.VolumeID)
	if err != nil {
		return nil, err
	}
	force := bool(deref(in.Force))
	if c.since(sinceSnapshotInUse) {
		if in.Force != nil && !force {
			return nil, badRequest("Since microversion 3.66 the 'force' flag is invalid for this request. " +
				"For backward compatibility, however, when the 'force' flag is passed with a value evaluating to True, it is silently ignored.")
		}
		force = true
	}
	want := cinder.SnapshotRequest{
		ProjectID: c.caller.ProjectID, UserID: c.caller.UserID, VolumeID: v.ID, Force: force, Metadata: in.Metadata,
	}
	in.change(&want.Name, &want.Description)
	s, err := a.Backend.CreateSnapshot(c.Context(), want)
	if err != nil {
		return nil, err
	}
	return answerSnapshot(http.StatusAccepted, createdSnapshot(c, s))
}

func (a *api) updateSnapshot(c *call) (*answer, error) {
	var req struct{ Snapshot recordWords }
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	s, err := a.snapshot(c)
	if err != nil {
		return nil, err
	}
	s, err = a.Backend.UpdateSnapshot(c.Context(), s.ID, func(s *cinder.Snapshot) error {
		req.Snapshot.change(&s.Name, &s.Description)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return answerSnapshot(http.StatusOK, createdSnapshot(c, s))
}

func (a *api) deleteSnapshot(c *call) (*answer, error) {
	s, err := a.snapshot(c)
	if err != nil {
		return nil, err
	}
	return a.dropSnapshot(c, s)
}

func (a *api) dropSnapshot(c *call, s cinder.Snapshot) (*answer, error) {
	if err := a.Backend.DeleteSnapshot(c.Context(), s.ID); err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

var snapshotActions = map[string]recordAction[cinder.Snapshot]{
	"os-reset_status": {schema: "snapshot_os-reset_status", do: (*api).resetSnapshot, adminOnly: true},
	"os-force_delete": {do: (*api).dropSnapshot, adminOnly: true},
}

func (a *api) snapshotAction(c *call) (*answer, error) {
	return act(a, c, snapshotActions, (*api).snapshot)
}

func (a *api) resetSnapshot(c *call, s cinder.Snapshot) (*answer, error) {
	var req struct {
		Args struct{ Status string } `json:"os-reset_status"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	to := cinder.Status(strings.ToLower(req.Args.Status))
	_, err := a.Backend.UpdateSnapshot(c.Context(), s.ID, func(s *cinder.Snapshot) error { s.Status = to; return nil })
	if err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}
