package api

import (
	"cmp"
	"errors"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"compute-agent/cinder"
	"compute-agent/compute"
)

func (a *api) volumeRoutes() []route {
	return slices.Concat([]route{
		{pattern: "GET /volumes", do: a.listVolumes},
		{pattern: "GET /volumes/detail", do: a.listVolumesDetail},
		{pattern: "GET /volumes/summary", do: a.summarizeVolumes, since: 12},
		{pattern: "POST /volumes", do: a.createVolume, schema: "volume_create"},
		{pattern: "GET /volumes/{id}", do: a.showVolume},
		{pattern: "PUT /volumes/{id}", do: a.updateVolume, schema: "volume_update"},
		{pattern: "DELETE /volumes/{id}", do: a.deleteVolume},
		{pattern: "POST /volumes/{id}/action", do: a.volumeAction, schema: "server_action"},
		{pattern: "GET /volumes/{id}/encryption", do: a.showVolumeEncryption},
		{pattern: "GET /volumes/{id}/encryption/{key}", do: a.showVolumeEncryptionItem},
	}, a.volumeMetadataRoutes("/volumes/{id}", volumeWords))
}

// isMissing tells whether a record is not there.
func isMissing(err error) bool {
	refused, is := errors.AsType[*cinder.Refusal](err)
	return errors.Is(err, compute.ErrNotFound) || (is && refused.Kind == cinder.NotFound)
}

// ownVolume finds the volume of an ID, if it is the caller's.
func (a *api) ownVolume(c *call, id string) (cinder.Volume, error) {
	missing := notFound("Volume %s could not be found.", shorten(id))
	if uuid.Validate(id) != nil {
		return cinder.Volume{}, missing
	}
	v, err := a.Backend.Volume(c.Context(), id)
	if isMissing(err) || (err == nil && !c.caller.mine(v.ProjectID)) {
		return cinder.Volume{}, missing
	}
	return v, err
}

// volume finds the one that the path names.
func (a *api) volume(c *call) (cinder.Volume, error) { return a.ownVolume(c, c.PathValue("id")) }

var volumeListing = listing[cinder.Volume]{
	missing:  "Volume %s could not be found.",
	id:       func(v cinder.Volume) string { return v.ID },
	project:  func(v cinder.Volume) string { return v.ProjectID },
	metadata: func(v cinder.Volume) map[string]string { return v.Metadata },
	created:  func(v cinder.Volume) time.Time { return v.Created },
	updated:  func(v cinder.Volume) time.Time { return v.Updated },
	added:    map[string]microversion{"group_id": 10, "consumes_quota": 65},
	filters: map[string]func(cinder.Volume) string{
		"name":              func(v cinder.Volume) string { return v.Name },
		"status":            func(v cinder.Volume) string { return string(v.Status) },
		"bootable":          func(v cinder.Volume) string { return strconv.FormatBool(v.Bootable) },
		"migration_status":  func(cinder.Volume) string { return "" },
		"availability_zone": func(cinder.Volume) string { return availabilityZone },
		"group_id":          func(cinder.Volume) string { return "" },
		"size":              func(v cinder.Volume) string { return strconv.Itoa(v.SizeGiB) },
		"consumes_quota":    func(cinder.Volume) string { return "true" },
	},
	adminFilters: map[string]func(cinder.Volume) string{
		"id":             func(v cinder.Volume) string { return v.ID },
		"project_id":     func(v cinder.Volume) string { return v.ProjectID },
		"user_id":        func(v cinder.Volume) string { return v.UserID },
		"description":    func(v cinder.Volume) string { return v.Description },
		"volume_type_id": func(v cinder.Volume) string { return v.TypeID },
		"snapshot_id":    func(v cinder.Volume) string { return v.SnapshotID },
		"source_volid":   func(v cinder.Volume) string { return v.SourceID },
		"multiattach":    func(v cinder.Volume) string { return strconv.FormatBool(v.Multiattach) },
	},
	order: map[string]func(a, b cinder.Volume) int{
		"created_at":   func(a, b cinder.Volume) int { return a.Created.Compare(b.Created) },
		"updated_at":   func(a, b cinder.Volume) int { return a.Updated.Compare(b.Updated) },
		"id":           func(a, b cinder.Volume) int { return cmp.Compare(a.ID, b.ID) },
		"name":         func(a, b cinder.Volume) int { return cmp.Compare(a.Name, b.Name) },
		"display_name": func(a, b cinder.Volume) int { return cmp.Compare(a.Name, b.Name) },
		"size":         func(a, b cinder.Volume) int { return cmp.Compare(a.SizeGiB, b.SizeGiB) },
		"status":       func(a, b cinder.Volume) int { return cmp.Compare(a.Status, b.Status) },
		"bootable": func(a, b cinder.Volume) int {
			return cmp.Compare(strconv.FormatBool(a.Bootable), strconv.FormatBool(b.Bootable))
		},
		"availability_zone": func(cinder.Volume, cinder.Volume) int { return 0 },
		"host":              func(a, b cinder.Volume) int { return cmp.Compare(a.Backend, b.Backend) },
		"user_id":           func(a, b cinder.Volume) int { return cmp.Compare(a.UserID, b.UserID) },
		"project_id":        func(a, b cinder.Volume) int { return cmp.Compare(a.ProjectID, b.ProjectID) },
	},
}

// findVolumes are the volumes that a list request asks for.
func (a *api) findVolumes(c *call) (part[cinder.Volume], error) {
	all, err := a.Backend.Volumes(c.Context())
	if err != nil {
		return part[cinder.Volume]{}, err
	}
	return volumeListing.find(c, all)
}

func (a *api) listVolumes(c *call) (*answer, error) {
	p, err := a.findVolumes(c)
	if err != nil {
		return nil, err
	}
	return p.answer("volumes", "volumes_links", func(v cinder.Volume) view { return volumeSummary(c, v) })
}

func (a *api) listVolumesDetail(c *call) (*answer, error) {
	p, err := a.findVolumes(c)
	if err != nil {
		return nil, err
	}
	r, err := a.volumeRecords(c)
	if err != nil {
		return nil, err
	}
	return p.answer("volumes", "volumes_links", r.volume)
}

// summarizeVolumes counts a project's volumes, from 3.36 on with the values that each metadata key has.
func (a *api) summarizeVolumes(c *call) (*answer, error) {
	all, err := a.Backend.Volumes(c.Context())
	if err != nil {
		return nil, err
	}
	found, err := volumeListing.matching(c, c.URL.Query(), all)
	if err != nil {
		return nil, err
	}
	size, values := 0, map[string][]string{}
	for _, v := range found {
		size += v.SizeGiB
		for key, value := range v.Metadata {
			if !slices.Contains(values[key], value) {
				values[key] = append(values[key], value)
			}
		}
	}
	summary := view{"total_count": len(found), "total_size": size}
	if c.since(36) {
		for _, list := range values {
			slices.Sort(list)
		}
		summary["metadata"] = values
	}
	return ok(map[string]any{"volume-summary": summary})
}

func (a *api) showVolume(c *call) (*answer, error) {
	v, err := a.volume(c)
	if err != nil {
		return nil, err
	}
	return a.answerVolume(c, http.StatusOK, v, (*volumeRecords).volume)
}

func (a *api) answerVolume(c *call, status int, v cinder.Volume, show func(*volumeRecords, cinder.Volume) view) (*answer, error) {
	r, err := a.volumeRecords(c)
	if err != nil {
		return nil, err
	}
	return &answer{status: status, body: map[string]any{"volume": show(r, v)}}, nil
}

// newVolume is the body of POST /volumes.
type newVolume struct {
	recordWords
	SizeGiB     *integer          `json:"size"`
	Type        string            `json:"volume_type"`
	Metadata    map[string]string `json:"metadata"`
	SnapshotID  string            `json:"snapshot_id"`
	SourceID    string            `json:"source_volid"`
	BackupID    string            `json:"backup_id"`
	GroupID     string            `json:"group_id"`
	Consistency string            `json:"consistencygroup_id"`
	Zone        string            `json:"availability_zone"`
	Multiattach *boolean          `json:"multiattach"`
	ImageRef    string            `json:"imageRef"`
	ImageID     string            `json:"image_id"`
}

// recordWords are the words of a user for a record, by the names of two generations of the API. Spaces around them are not meant.
type recordWords struct {
	Name         optional[string] `json:"name"`
	Description  optional[string] `json:"description"`
	DisplayName  optional[string] `json:"display_name"`
	DisplayWords optional[string] `json:"display_description"`
}

// change applies what is given.
func (w recordWords) change(name, description *string) {
	setWords(name, w.DisplayName, w.Name)
	setWords(description, w.DisplayWords, w.Description)
}

func setWords(to *string, given ...optional[string]) {
	for _, o := range given {
		o.value = strings.TrimSpace(o.value)
		o.set(to)
	}
}

func (a *api) createVolume(c *call) (*answer, error) {
	var req struct {
		Volume newVolume      `json:"volume"`
		Hints  map[string]any `json:"OS-SCH-HNT:scheduler_hints"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	in := req.Volume
	if err := in.refuseAbsent(req.Hints); err != nil {
		return nil, err
	}
	want := cinder.VolumeRequest{
		ProjectID: c.caller.ProjectID, UserID: c.caller.UserID, Type: in.Type, Metadata: in.Metadata,
	}
	in.change(&want.Name, &want.Description)
	if err := a.readSources(c, in, &want); err != nil {
		return nil, err
	}
	v, err := a.Backend.CreateVolume(c.Context(), want)
	if err != nil {
		return nil, err
	}
	return a.answerVolume(c, http.StatusAccepted, v, (*volumeRecords).created)
}

// refuseAbsent refuses what the API has words for and this host does not have.
func (in newVolume) refuseAbsent(hints map[string]any) error {
	switch {
	case in.Multiattach != nil && bool(*in.Multiattach):
		return badRequest("multiattach parameter has been removed. The default behavior is to use multiattach enabled volume types: " +
			"the extra spec multiattach=\"<is> True\".")
	case in.BackupID != "":
		return notFound("Backup %s could not be found.", shorten(in.BackupID))
	case in.GroupID != "":
		return notFound("Group %s could not be found.", shorten(in.GroupID))
	case in.Consistency != "":
		return notFound("Group %s could not be found.", shorten(in.Consistency))
	case in.Zone != "" && in.Zone != availabilityZone:
		return badRequest("Invalid input received: Availability zone '%s' is invalid.", shorten(in.Zone))
	case len(hints) > 0:
		return badRequest("Scheduler hints are not supported: there is only one host.")
	}
	return nil
}

// readSources finds what a new volume is made of and how large it is. Without a size it is as large as its source.
func (a *api) readSources(c *call, in newVolume, want *cinder.VolumeRequest) error {
	if in.SnapshotID != "" {
		s, err := a.ownSnapshot(c, in.SnapshotID)
		if err != nil {
			return err
		}
		want.SnapshotID, want.SizeGiB = s.ID, s.SizeGiB
	}
	if in.SourceID != "" {
		v, err := a.ownVolume(c, in.SourceID)
		if err != nil {
			return err
		}
		want.SourceID, want.SizeGiB = v.ID, v.SizeGiB
	}
	if ref := cmp.Or(in.ImageRef, in.ImageID); ref != "" {
		img, err := a.imageOfRef(c, ref)
		if err != nil {
			return err
		}
		want.ImageID = img.ID
	}
	if in.SizeGiB != nil {
		want.SizeGiB = int(*in.SizeGiB)
	}
	switch {
	case count(want.SnapshotID, want.SourceID, want.ImageID) > 1:
		return badRequest("Invalid input received: only one of snapshot_id, source_volid and imageRef can be what a volume is made of.")
	case want.SizeGiB <= 0:
		return badRequest("Invalid input received: Invalid volume size provided for create request: None " +
			"(size argument must be an integer (or string representation of an integer) and greater than zero).")
	}
	return nil
}

// count is how many of some words there are.
func count(words ...string) int { return len(notEmpty(words)) }

// imageOfRef finds an image by its ID, a link to it, or its name.
func (a *api) imageOfRef(c *call, ref string) (compute.Image, error) {
	all, err := a.Backend.Images(c.Context())
	if err != nil {
		return compute.Image{}, err
	}
	var named []compute.Image
	for _, img := range all {
		switch {
		case !visibleImage(c, img):
		case img.ID == path.Base(ref):
			return img, nil
		case img.Name == ref:
			named = append(named, img)
		}
	}
	switch len(named) {
	case 0:
		return compute.Image{}, badRequest("Invalid image identifier or unable to access requested image.")
	case 1:
		return named[0], nil
	default:
		return compute.Image{}, faultf(http.StatusConflict, "Multiple matches found for %s, use an ID to be more specific.", quoted(ref))
	}
}

func (a *api) updateVolume(c *call) (*answer, error) {
	var req struct {
		Volume struct {
			recordWords
			Metadata map[string]string `json:"metadata"`
		}
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	v, err := a.volume(c)
	if err != nil {
		return nil, err
	}
	v, err = a.Backend.UpdateVolume(c.Context(), v.ID, func(v *cinder.Volume) error {
		req.Volume.change(&v.Name, &v.Description)
		if req.Volume.Metadata != nil {
			v.Metadata = req.Volume.Metadata
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.answerVolume(c, http.StatusOK, v, (*volumeRecords).created)
}

// deleteVolume deletes a volume; with cascade, which this service cannot promise in one step, only one without snapshots.
func (a *api) deleteVolume(c *call) (*answer, error) {
	v, err := a.volume(c)
	if err != nil {
		return nil, err
	}
	q := c.URL.Query()
	if force, _ := parseBool(q.Get("force")); force && c.since(23) {
		return a.forceDeleteVolume(c, v)
	}
	if cascade, _ := parseBool(q.Get("cascade")); cascade {
		if err := a.refuseCascade(c, v); err != nil {
			return nil, err
		}
	}
	if err := a.Backend.DeleteVolume(c.Context(), v.ID, false); err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

func (a *api) refuseCascade(c *call, v cinder.Volume) error {
	snapshots, err := a.Backend.Snapshots(c.Context())
	if err != nil {
		return err
	}
	if slices.ContainsFunc(snapshots, func(s cinder.Snapshot) bool { return s.VolumeID == v.ID }) {
		return badRequest("Invalid volume: Volume %s has snapshots, and cascade is not supported: delete them first.", v.ID)
	}
	return nil
}

// forceDeleteVolume deletes a volume in any state, for administrators.
func (a *api) forceDeleteVolume(c *call, v cinder.Volume) (*answer, error) {
	if !c.caller.admin {
		return nil, forbiddenAction("volume_extension:volume_admin_actions:force_delete")
	}
	if err := a.Backend.DeleteVolume(c.Context(), v.ID, true); err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

func forbiddenAction(rule string) error {
	return faultf(http.StatusForbidden, "Policy doesn't allow %s to be performed.", rule)
}

// volumeEncryption is what a volume's user may know of its encryption: what a host needs to attach it, without the key.
func (a *api) volumeEncryption(c *call) (view, error) {
	v, err := a.volume(c)
	if err != nil {
		return nil, err
	}
	out := view{"encryption_key_id": orNull(v.KeyID)}
	if e := v.Encryption; e != nil {
		out["provider"], out["control_location"], out["cipher"], out["key_size"] = e.Provider, e.Location, orNull(e.Cipher), orNone0(e.KeySize)
	}
	return out, nil
}

func (a *api) showVolumeEncryption(c *call) (*answer, error) {
	out, err := a.volumeEncryption(c)
	if err != nil {
		return nil, err
	}
	return ok(out)
}

func (a *api) showVolumeEncryptionItem(c *call) (*answer, error) {
	out, err := a.volumeEncryption(c)
	if err != nil {
		return nil, err
	}
	key := c.PathValue("key")
	value, there := out[key]
	if !there {
		return nil, notFound("The resource could not be found.")
	}
	return ok(view{key: value})
}
