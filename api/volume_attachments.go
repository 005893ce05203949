package api

import (
	"cmp"
	"encoding/json"
	"net/http"

	"github.com/google/uuid"

	"compute-agent/blockdev/connector"
	"compute-agent/cinder"
)

// sinceAttachments is the microversion since which attachments are records of their own.
const sinceAttachments microversion = 27

// volumeAttachmentRoutes are those of the attachments of the block storage API. Users see theirs; the Compute API makes and ends them, and
// otherwise only an administrator.
func (a *api) volumeAttachmentRoutes() []route {
	routes := []route{
		{pattern: "GET /attachments", do: a.listVolumeAttachments},
		{pattern: "GET /attachments/detail", do: a.listVolumeAttachmentsDetail},
		{pattern: "GET /attachments/{id}", do: a.showVolumeAttachment},
		{pattern: "POST /attachments", do: a.createVolumeAttachment, access: forAdmin, schema: "volume_attachment_create"},
		{pattern: "PUT /attachments/{id}", do: a.updateVolumeAttachment, access: forAdmin, schema: "volume_attachment_update"},
		{pattern: "DELETE /attachments/{id}", do: a.deleteVolumeAttachment, access: forAdmin},
		{pattern: "POST /attachments/{id}/action", do: a.volumeAttachmentAction, access: forAdmin, schema: "server_action", since: 44},
	}
	for i := range routes {
		routes[i].since = max(routes[i].since, sinceAttachments)
	}
	return routes
}

// ownedAttachment is an attachment with the project of its volume.
type ownedAttachment struct {
	cinder.Attachment
	project string
}

var attachmentListing = listing[ownedAttachment]{
	missing: "Volume attachment could not be found with filter: attachment_id = %s.",
	id:      func(at ownedAttachment) string { return at.ID },
	project: func(at ownedAttachment) string { return at.project },
	filters: map[string]func(ownedAttachment) string{
		"volume_id":     func(at ownedAttachment) string { return at.VolumeID },
		"status":        func(at ownedAttachment) string { return string(at.Status) },
		"attach_status": func(at ownedAttachment) string { return string(at.Status) },
		"instance_id":   func(at ownedAttachment) string { return at.ServerID },
	},
	adminFilters: map[string]func(ownedAttachment) string{
		"id": func(at ownedAttachment) string { return at.ID }, "project_id": func(at ownedAttachment) string { return at.project },
		"attached_host": func(at ownedAttachment) string { return at.Host },
	},
	order: map[string]func(a, b ownedAttachment) int{
		"created_at":    func(a, b ownedAttachment) int { return a.Created.Compare(b.Created) },
		"id":            func(a, b ownedAttachment) int { return cmp.Compare(a.ID, b.ID) },
		"volume_id":     func(a, b ownedAttachment) int { return cmp.Compare(a.VolumeID, b.VolumeID) },
		"attach_status": func(a, b ownedAttachment) int { return cmp.Compare(a.Status, b.Status) },
		"instance_uuid": func(a, b ownedAttachment) int { return cmp.Compare(a.ServerID, b.ServerID) },
	},
}

func (a *api) listVolumeAttachments(c *call) (*answer, error) {
	return a.findAttachments(c, func(at ownedAttachment) view { return attachmentSummary(at.Attachment) })
}

func (a *api) listVolumeAttachmentsDetail(c *call) (*answer, error) {
	return a.findAttachments(c, func(at ownedAttachment) view { return attachmentDetail(at.Attachment, nil) })
}

func (a *api) findAttachments(c *call, show func(ownedAttachment) view) (*answer, error) {
	volumes, err := a.Backend.Volumes(c.Context())
	if err != nil {
		return nil, err
	}
	projects := map[string]string{}
	for _, v := range volumes {
		projects[v.ID] = v.ProjectID
	}
	all, err := a.Backend.VolumeAttachments(c.Context())
	if err != nil {
		return nil, err
	}
	p, err := attachmentListing.find(c, listOf(all, func(at cinder.Attachment) ownedAttachment { return ownedAttachment{at, projects[at.VolumeID]} }))
	if err != nil {
		return nil, err
	}
	p.links = nil // Cinder's answer has none
	return p.answer("attachments", "attachments_links", show)
}

// attachmentSummary is an entry of a list without details.
func attachmentSummary(at cinder.Attachment) view {
	return view{"id": at.ID, "status": string(at.Status), "instance": orNull(at.ServerID), "volume_id": at.VolumeID}
}

// attachmentDetail is the whole view. The connection is told only to the host that asks for it: it has secrets.
func attachmentDetail(at cinder.Attachment, connection json.RawMessage) view {
	out := attachmentSummary(at)
	out["attached_at"], out["detached_at"], out["attach_mode"], out["connection_info"] = "", "", orNull(at.Mode), view{}
	if !at.Attached.IsZero() {
		out["attached_at"] = cinderTime(at.Attached)
	}
	if !at.Detached.IsZero() {
		out["detached_at"] = cinderTime(at.Detached)
	}
	if connection != nil {
		out["connection_info"] = connection
	}
	return out
}

func noAttachment(id string) error {
	return notFound("Volume attachment could not be found with filter: attachment_id = %s.", shorten(id))
}

// volumeAttachment finds the attachment that the path names, if its volume is the caller's.
func (a *api) volumeAttachment(c *call) (cinder.Attachment, error) {
	id := c.PathValue("id")
	at, err := a.Backend.VolumeAttachment(c.Context(), id)
	if isMissing(err) {
		return at, noAttachment(id)
	}
	if err != nil {
		return at, err
	}
	if _, err := a.ownVolume(c, at.VolumeID); err != nil {
		if isNotFound(err) {
			err = noAttachment(id)
		}
		return at, err
	}
	return at, nil
}

func (a *api) showVolumeAttachment(c *call) (*answer, error) {
	at, err := a.volumeAttachment(c)
	return answerAttachment(at, nil, err)
}

func answerAttachment(at cinder.Attachment, connection json.RawMessage, err error) (*answer, error) {
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"attachment": attachmentDetail(at, connection)})
}

// attachmentBody is what a new attachment, or the host that it is for, is told by.
type attachmentBody struct {
	Attachment struct {
		VolumeID  string                `json:"volume_uuid"`
		ServerID  string                `json:"instance_uuid"`
		Mode      string                `json:"mode"`
		Connector *connector.Properties `json:"connector"`
	} `json:"attachment"`
}

func (a *api) createVolumeAttachment(c *call) (*answer, error) {
	var req attachmentBody
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	in := req.Attachment
	v, err := a.ownVolume(c, in.VolumeID)
	if err != nil {
		return nil, err
	}
	if in.ServerID == "" {
		return nil, badRequest("Invalid input received: instance_uuid is missing: volumes of this service are for its servers.")
	}
	if in.Mode == "rw" && v.ReadOnly {
		return nil, badRequest("Invalid volume: Volume %s is read-only: it cannot be attached in mode rw.", v.ID)
	}
	id := uuid.NewString()
	if err := a.Backend.Attach(c.Context(), id, v.ID, in.ServerID); err != nil {
		return nil, missingParts(err)
	}
	return a.connectAttachment(c, id, in.Connector)
}

// connectAttachment asks for the way to a volume, if a host is named, and answers with the attachment as it then is.
func (a *api) connectAttachment(c *call, id string, host *connector.Properties) (*answer, error) {
	var raw connector.Raw
	if host != nil {
		var err error
		if raw, err = a.Backend.Connect(c.Context(), id, *host, host.Mountpoint); err != nil {
			return nil, err
		}
	}
	at, err := a.Backend.VolumeAttachment(c.Context(), id)
	return answerAttachment(at, raw, err)
}

func (a *api) updateVolumeAttachment(c *call) (*answer, error) {
	var req attachmentBody
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	at, err := a.volumeAttachment(c)
	if err != nil {
		return nil, err
	}
	if err := a.refuseUsed(c, at); err != nil {
		return nil, err
	}
	return a.connectAttachment(c, at.ID, req.Attachment.Connector)
}

// deleteVolumeAttachment ends an attachment and answers with those that the volume still has. One that a server here uses is the
// Compute API's to end: a guest must not lose its disk under way, nor keep one that is given to another.
func (a *api) deleteVolumeAttachment(c *call) (*answer, error) {
	at, err := a.volumeAttachment(c)
	if err != nil {
		return nil, err
	}
	if err := a.refuseUsed(c, at); err != nil {
		return nil, err
	}
	if err := a.Backend.Remove(c.Context(), at.ID); err != nil {
		return nil, err
	}
	all, err := a.Backend.VolumeAttachments(c.Context())
	if err != nil {
		return nil, err
	}
	left := []view{}
	for _, other := range all {
		if other.VolumeID == at.VolumeID && other.ID != at.ID {
			left = append(left, attachmentSummary(other))
		}
	}
	return ok(map[string]any{"attachments": left})
}

func (a *api) refuseUsed(c *call, at cinder.Attachment) error {
	used, err := a.Backend.UsesAttachment(c.Context(), at.ID)
	if used && err == nil {
		err = faultf(http.StatusConflict, "ConflictNovaUsingAttachment: Detach volume from instance %s using the Compute API", at.ServerID)
	}
	return err
}

var attachmentActions = map[string]recordAction[cinder.Attachment]{
	"os-complete": {do: func(a *api, c *call, at cinder.Attachment) (*answer, error) {
		if err := a.Backend.Complete(c.Context(), at.ID); err != nil {
			return nil, err
		}
		return status(http.StatusNoContent)
	}},
}

func (a *api) volumeAttachmentAction(c *call) (*answer, error) {
	return act(a, c, attachmentActions, (*api).volumeAttachment)
}
