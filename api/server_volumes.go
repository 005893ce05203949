package api

import (
	"net/http"
	"strings"

	"compute-agent/cinder"
	"compute-agent/compute"
)

// The microversions in which volumes of servers changed their form.
const (
	sinceMultiattach microversion = 60 // a server can get a volume that others have
	sinceVolumeTags  microversion = 70 // a volume's tag is shown
	sinceTermination microversion = 79 // whether it is deleted with the server is asked for and shown
	sinceVolumePut   microversion = 85 // a PUT changes more than which volume it is
	sinceVolumeIDs   microversion = 89 // an attachment has its own ID in place of the volume's
)

// serverVolumeRoutes are those of the volumes of servers.
func (a *api) serverVolumeRoutes() []route {
	const all = "/servers/{id}/os-volume_attachments"
	return []route{
		{pattern: "GET " + all, do: a.listServerVolumes},
		{pattern: "POST " + all, do: a.attachVolume, schema: "server_volume_attach"},
		{pattern: "GET " + all + "/{volume}", do: a.showServerVolume},
		{pattern: "PUT " + all + "/{volume}", do: a.updateServerVolume, schema: "server_volume_update"},
		{pattern: "DELETE " + all + "/{volume}", do: a.detachVolume},
	}
}

// devicePath is a block device's name as a guest's kernel has it.
func devicePath(d compute.BlockDevice) string { return "/dev/" + strings.TrimPrefix(d.Name, "/dev/") }

// serverVolumeView is a server's volume as Nova shows it.
func serverVolumeView(c *call, d compute.BlockDevice) view {
	out := view{"volumeId": d.VolumeID, "serverId": d.ServerID}
	if d.Name != "" {
		out["device"] = devicePath(d)
	}
	if c.since(sinceVolumeTags) {
		out["tag"] = orNull(d.Tag)
	}
	if c.since(sinceTermination) {
		out["delete_on_termination"] = d.DeleteOnTermination
	}
	if c.since(sinceVolumeIDs) {
		out["attachment_id"], out["bdm_uuid"] = orNull(d.AttachmentID), d.ID
	} else {
		out["id"] = d.VolumeID
	}
	return out
}

// serverVolumes are the volumes of the server that the path names. Those that are yet to be made have no ID by which to speak of them.
func (a *api) serverVolumes(c *call) (s compute.Server, devices []compute.BlockDevice, err error) {
	if s, err = a.server(c); err != nil {
		return s, nil, err
	}
	all, err := a.Backend.BlockDevices(c.Context(), s.ID)
	for _, d := range all {
		if d.VolumeID != "" {
			devices = append(devices, d)
		}
	}
	return s, devices, err
}

// serverVolume is the one of them that the path names.
func (a *api) serverVolume(c *call) (s compute.Server, d compute.BlockDevice, err error) {
	s, devices, err := a.serverVolumes(c)
	if err != nil {
		return s, d, err
	}
	id := c.PathValue("volume")
	for _, d := range devices {
		if d.VolumeID == id {
			return s, d, nil
		}
	}
	return s, d, notFound("Instance %s is not attached to volume %s", s.ID, shorten(id))
}

func (a *api) listServerVolumes(c *call) (*answer, error) {
	q := newQuery(c, c.since(75), []string{"limit", "offset"})
	limit, offset := q.number("limit", 0), q.number("offset", 0)
	if q.err != nil {
		return nil, q.err
	}
	_, devices, err := a.serverVolumes(c)
	if err != nil {
		return nil, err
	}
	devices = devices[min(offset, len(devices)):]
	if limit > 0 { // Nova: 0 is no limit
		devices = devices[:min(limit, len(devices))]
	}
	return ok(map[string]any{"volumeAttachments": listOf(devices, func(d compute.BlockDevice) view { return serverVolumeView(c, d) })})
}

func (a *api) showServerVolume(c *call) (*answer, error) {
	_, d, err := a.serverVolume(c)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"volumeAttachment": serverVolumeView(c, d)})
}

// volumeAsked is the body of a request about a server's volume.
type volumeAsked struct {
	Attachment struct {
		VolumeID            string   `json:"volumeId"`
		Device              *string  `json:"device"`
		Tag                 *string  `json:"tag"`
		DeleteOnTermination *boolean `json:"delete_on_termination"`
		ServerID            *string  `json:"serverId"`
		ID                  *string  `json:"id"`
	} `json:"volumeAttachment"`
}

// attachVolume answers as soon as the volume is the server's, as Nova does: what is then done shows in the volume's status.
func (a *api) attachVolume(c *call) (*answer, error) {
	var req volumeAsked
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	in := req.Attachment
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	v, err := a.ownVolume(c, in.VolumeID)
	if err != nil {
		return nil, err
	}
	if err := refuseOldMultiattach(c, v); err != nil {
		return nil, err
	}
	d, err := a.Backend.AttachVolume(c.Context(), s.ID, compute.BlockDeviceRequest{
		VolumeID: v.ID, Device: deref(in.Device), Tag: deref(in.Tag), DeleteOnTermination: bool(deref(in.DeleteOnTermination)),
	})
	if err != nil {
		return nil, err
	}
	out := view{"id": v.ID, "serverId": s.ID, "volumeId": v.ID, "device": devicePath(d)}
	if c.since(sinceVolumeTags) {
		out["tag"] = orNull(d.Tag)
	}
	if c.since(sinceTermination) {
		out["delete_on_termination"] = d.DeleteOnTermination
	}
	return ok(map[string]any{"volumeAttachment": out})
}

func refuseOldMultiattach(c *call, v cinder.Volume) error {
	if v.Multiattach && !c.since(sinceMultiattach) {
		return badRequest("Multiattach volumes are only supported starting with compute API version 2.60.")
	}
	return nil
}

// updateServerVolume changes what can be changed of a server's volume, and gives the server another one in its place if that is asked for. Before
// 2.85 a PUT did only the latter.
func (a *api) updateServerVolume(c *call) (*answer, error) {
	var req volumeAsked
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	old := c.PathValue("volume")
	swaps := !c.since(sinceVolumePut) || req.Attachment.VolumeID != old
	if swaps && !c.caller.admin {
		return nil, forbiddenAction("os_compute_api:os-volumes-attachments:swap")
	}
	s, d, err := a.serverVolume(c)
	if err != nil {
		return nil, err
	}
	if c.since(sinceVolumePut) {
		if err := a.keepVolume(c, d, req); err != nil {
			return nil, err
		}
	}
	if swaps {
		if err := a.swapVolume(c, s, old, req.Attachment.VolumeID); err != nil {
			return nil, err
		}
	}
	return status(http.StatusAccepted)
}

// keepVolume changes whether a volume is deleted with its server, and refuses what would change anything else.
func (a *api) keepVolume(c *call, d compute.BlockDevice, req volumeAsked) error {
	in := req.Attachment
	for _, fixed := range []struct {
		name, is string
		asked    *string
	}{{"id", d.VolumeID, in.ID}, {"serverId", d.ServerID, in.ServerID}, {"device", devicePath(d), in.Device}, {"tag", d.Tag, in.Tag}} {
		if fixed.asked != nil && *fixed.asked != fixed.is {
			return badRequest("The %s property is not mutable", fixed.name)
		}
	}
	if in.DeleteOnTermination == nil {
		return nil
	}
	_, err := a.Backend.KeepVolume(c.Context(), d.ServerID, d.VolumeID, bool(*in.DeleteOnTermination))
	return err
}

// swapVolume refuses a new volume that is not there as a bad request: the path's is the one that must be found.
func (a *api) swapVolume(c *call, s compute.Server, oldID, newID string) error {
	if _, err := a.ownVolume(c, oldID); err != nil {
		return err
	}
	v, err := a.ownVolume(c, newID)
	if isNotFound(err) {
		return badRequest("Volume %s could not be found.", newID)
	}
	if err != nil {
		return err
	}
	return a.Backend.SwapVolume(c.Context(), s.ID, oldID, v.ID)
}

func (a *api) detachVolume(c *call) (*answer, error) {
	s, d, err := a.serverVolume(c)
	if err != nil {
		return nil, err
	}
	if isRoot(d) {
		return nil, badRequest("Cannot detach a root device volume")
	}
	if err := a.Backend.DetachVolume(c.Context(), s.ID, d.VolumeID); err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

// isRoot tells whether a server boots from a volume.
func isRoot(d compute.BlockDevice) bool { return d.BootIndex != nil && *d.BootIndex == 0 }

// attachedVolumes are a server's volumes in its view; from 2.3 on with what happens to them when it is deleted.
func attachedVolumes(c *call, devices []compute.BlockDevice) []view {
	out := []view{}
	for _, d := range devices {
		if d.VolumeID == "" {
			continue
		}
		one := view{"id": d.VolumeID}
		if c.since(3) {
			one["delete_on_termination"] = d.DeleteOnTermination
		}
		out = append(out, one)
	}
	return out
}

// belongings are what servers have that their views show: read once for a whole list.
type belongings struct {
	*interfaces
	volumes map[string][]compute.BlockDevice // by server
}

func (a *api) belongings(c *call) (*belongings, error) {
	i, err := a.interfaces(c)
	if err != nil {
		return nil, err
	}
	devices, err := a.Backend.AllBlockDevices(c.Context())
	if err != nil {
		return nil, err
	}
	has := &belongings{i, map[string][]compute.BlockDevice{}}
	for _, d := range devices {
		has.volumes[d.ServerID] = append(has.volumes[d.ServerID], d)
	}
	return has, nil
}
