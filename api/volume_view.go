package api

import (
	"maps"
	"strconv"
	"time"

	"compute-agent/cinder"
)

// volumeRecords is a request of the block storage API with what it has read of other records to show one.
type volumeRecords struct {
	*call
	api         *api
	types       map[string]cinder.Type
	attachments map[string][]cinder.Attachment // by volume
}

// volumeRecords reads what the views of volumes need.
func (a *api) volumeRecords(c *call) (*volumeRecords, error) {
	r := &volumeRecords{call: c, api: a, types: map[string]cinder.Type{}, attachments: map[string][]cinder.Attachment{}}
	types, err := a.Backend.VolumeTypes(c.Context())
	if err != nil {
		return nil, err
	}
	for _, t := range types {
		r.types[t.ID] = t
	}
	attachments, err := a.Backend.VolumeAttachments(c.Context())
	if err != nil {
		return nil, err
	}
	for _, at := range attachments {
		r.attachments[at.VolumeID] = append(r.attachments[at.VolumeID], at)
	}
	return r, nil
}

// cinderTime is microseconds without a zone, which is UTC; null when it has not happened.
func cinderTime(t time.Time) any { return usageTime(t) }

// cinderHost is the name of a backend and its only pool.
func (a *api) cinderHost(backend string) any {
	if backend == "" {
		return nil
	}
	return a.Hostname + "@" + backend + "#" + backend
}

// volumeSummary is an entry of a list without details.
func volumeSummary(c *call, v cinder.Volume) view {
	return view{"id": v.ID, "name": v.Name, "links": volumeLinks(c, "/volumes/"+v.ID)}
}

// volume is the whole view of a volume.
func (r *volumeRecords) volume(v cinder.Volume) view {
	out := r.created(v)
	out["os-vol-tenant-attr:tenant_id"] = v.ProjectID
	if len(v.ImageMetadata) > 0 {
		out["volume_image_metadata"] = v.ImageMetadata
	}
	if r.caller.admin {
		out["os-vol-host-attr:host"] = r.api.cinderHost(v.Backend)
		out["os-vol-mig-status-attr:migstat"], out["os-vol-mig-status-attr:name_id"] = nil, nil
	}
	return out
}

// created is what Cinder answers to the creation of a volume, and to an update.
func (r *volumeRecords) created(v cinder.Volume) view {
	out := view{
		"id": v.ID, "status": string(v.Status), "size": v.SizeGiB, "availability_zone": availabilityZone,
		"created_at": cinderTime(v.Created), "updated_at": cinderTime(v.Updated),
		"name": v.Name, "description": orNull(v.Description), "volume_type": r.typeName(v.TypeID),
		"snapshot_id": orNull(v.SnapshotID), "source_volid": orNull(v.SourceID), "metadata": volumeMetadata(v),
		"links": volumeLinks(r.call, "/volumes/"+v.ID), "user_id": v.UserID, "bootable": strconv.FormatBool(v.Bootable),
		"encrypted": v.Encryption != nil, "replication_status": nil, "consistencygroup_id": nil, "multiattach": v.Multiattach,
		"attachments": r.attached(v),
	}
	if r.caller.admin {
		out["migration_status"] = nil
	}
	r.addVersioned(v, out)
	return out
}

// addVersioned adds the fields of later microversions.
func (r *volumeRecords) addVersioned(v cinder.Volume, out view) {
	if r.since(13) {
		out["group_id"] = nil
	}
	if r.since(21) && r.caller.admin {
		out["provider_id"] = nil
	}
	if r.since(48) { // what is local is attached without a lock of all that share a target
		out["shared_targets"], out["service_uuid"] = false, nil
	}
	if r.since(61) && r.caller.admin {
		out["cluster_name"] = nil
	}
	if r.since(63) {
		out["volume_type_id"] = orNull(v.TypeID)
	}
	if r.since(64) && v.KeyID != "" {
		out["encryption_key_id"] = v.KeyID
	}
	if r.since(65) {
		out["consumes_quota"] = true
	}
}

// typeName is a type's name, or its ID if it is gone; null for none.
func (r *volumeRecords) typeName(id string) any {
	if t, there := r.types[id]; there {
		return t.Name
	}
	return orNull(id)
}

// volumeMetadata is the user's with what Cinder shows of the administrator's.
func volumeMetadata(v cinder.Volume) map[string]string {
	all := orEmpty(v.Metadata)
	if v.ReadOnly {
		all = maps.Clone(all)
		all["readonly"] = "True"
	}
	return all
}

// attached are the attachments that have got somewhere. The host is for administrators.
func (r *volumeRecords) attached(v cinder.Volume) []view {
	out := []view{}
	for _, at := range r.attachments[v.ID] {
		if at.Status != cinder.AttachmentAttached {
			continue
		}
		one := view{
			"id": at.VolumeID, "attachment_id": at.ID, "volume_id": at.VolumeID, "server_id": orNull(at.ServerID), "host_name": nil,
			"device": orNull(at.Device), "attached_at": cinderTime(at.Attached),
		}
		if r.caller.admin {
			one["host_name"] = orNull(at.Host)
		}
		out = append(out, one)
	}
	return out
}
