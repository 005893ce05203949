package api

import (
	"maps"
	"net/http"
	"strings"

	"compute-agent/cinder"
)

// sinceInUseExtend is the microversion since which a volume can grow while a server has it.
const sinceInUseExtend microversion = 42

// recordAction is one of the things that a POST to a record's action does.
type recordAction[T any] struct {
	schema    string
	adminOnly bool
	do        func(a *api, c *call, record T) (*answer, error)
}

// volumeActions are the ones that there are. Of Cinder's others, those that clients have commands for are refused with a reason, the rest
// as an unknown one.
var volumeActions = map[string]recordAction[cinder.Volume]{
	"os-extend":               {schema: "volume_os-extend", do: (*api).extendVolume},
	"os-set_bootable":         {schema: "volume_os-set_bootable", do: (*api).setBootable},
	"os-update_readonly_flag": {schema: "volume_os-update_readonly_flag", do: (*api).setReadOnly},
	"os-reserve":              {do: moveVolume("reserve", cinder.Available, cinder.Reserved), adminOnly: true},
	"os-unreserve":            {do: moveVolume("unreserve", cinder.Reserved, cinder.Available), adminOnly: true},
	"os-reset_status":         {schema: "volume_os-reset_status", do: (*api).resetVolume, adminOnly: true},
	"os-force_delete":         {do: (*api).forceDeleteVolume, adminOnly: true},
	"os-show_image_metadata":  {do: (*api).showImageMetadata},
	"os-set_image_metadata":   {schema: "volume_os-set_image_metadata", do: (*api).setImageMetadata},
	"os-unset_image_metadata": {schema: "volume_os-unset_image_metadata", do: (*api).unsetImageMetadata},
	"os-retype":               {do: notHere("os-retype", "a volume keeps the type that it was made with")},
	"os-migrate_volume":       {do: notHere("os-migrate_volume", "volumes stay in the backend that they were made in"), adminOnly: true},
	"os-volume_upload_image":  {do: notHere("os-volume_upload_image", "make a new volume of this one, or of a snapshot of it")},
	"os-attach":               {do: notHere("os-attach", "use the attachments of the block storage API, or the Compute API")},
	"os-detach":               {do: notHere("os-detach", "use the attachments of the block storage API, or the Compute API")},
	"revert":                  {do: notHere("revert", "make a new volume of the snapshot")},
}

func (a *api) volumeAction(c *call) (*answer, error) { return act(a, c, volumeActions, (*api).volume) }

// act does what the only key of a body says to the record that the path names.
func act[T any](a *api, c *call, known map[string]recordAction[T], find func(*api, *call) (T, error)) (*answer, error) {
	body, _ := c.value.(map[string]any) // the schema has checked that it has exactly one key
	for name := range body {
		does, there := known[name]
		if !there {
			return nil, badRequest("There is no such action: %s. Verify the request body and Content-Type header and try again.", shorten(name))
		}
		if does.schema != "" {
			if err := a.schemas.check(does.schema, c.version, c.value); err != nil {
				return nil, err
			}
		}
		record, err := find(a, c)
		if err != nil {
			return nil, err
		}
		if does.adminOnly && !c.caller.admin {
			return nil, forbiddenAction("volume_extension:" + name)
		}
		return does.do(a, c, record)
	}
	return nil, badRequest("Malformed request body")
}

// notHere refuses an action that this service does not have, and says what to do instead.
func notHere(name, instead string) func(*api, *call, cinder.Volume) (*answer, error) {
	return func(*api, *call, cinder.Volume) (*answer, error) {
		return nil, badRequest("%s is not supported by this service: %s.", name, instead)
	}
}

func (a *api) extendVolume(c *call, v cinder.Volume) (*answer, error) {
	var req struct {
		Args struct {
			NewSize integer `json:"new_size"`
		} `json:"os-extend"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	if v.Status == cinder.InUse && !c.since(sinceInUseExtend) {
		return nil, badRequest("Invalid volume: Volume %s status must be available to extend, currently in-use: that takes microversion 3.42.", v.ID)
	}
	if err := a.Backend.ExtendVolume(c.Context(), v.ID, int(req.Args.NewSize)); err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

func (a *api) setBootable(c *call, v cinder.Volume) (*answer, error) {
	var req struct {
		Args struct{ Bootable boolean } `json:"os-set_bootable"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	return a.changeVolume(c, v, http.StatusOK, func(v *cinder.Volume) error { v.Bootable = bool(req.Args.Bootable); return nil })
}

func (a *api) setReadOnly(c *call, v cinder.Volume) (*answer, error) {
	var req struct {
		Args struct{ ReadOnly boolean } `json:"os-update_readonly_flag"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	return a.changeVolume(c, v, http.StatusAccepted, func(v *cinder.Volume) error { v.ReadOnly = bool(req.Args.ReadOnly); return nil })
}

// changeVolume changes a volume and answers with nothing but a status.
func (a *api) changeVolume(c *call, v cinder.Volume, code int, change func(*cinder.Volume) error) (*answer, error) {
	if _, err := a.Backend.UpdateVolume(c.Context(), v.ID, change); err != nil {
		return nil, err
	}
	return status(code)
}

// moveVolume leads a volume from one status to another.
func moveVolume(verb string, from, to cinder.Status) func(*api, *call, cinder.Volume) (*answer, error) {
	return func(a *api, c *call, v cinder.Volume) (*answer, error) {
		return a.changeVolume(c, v, http.StatusAccepted, func(v *cinder.Volume) error {
			if v.Status != from {
				return badRequest("Invalid volume: Volume status must be %s to %s, but the status is %s.", from, verb, v.Status)
			}
			v.Status = to
			return nil
		})
	}
}

// resetVolume sets a volume's status. Whether it is attached follows from its attachments, and it never migrates.
func (a *api) resetVolume(c *call, v cinder.Volume) (*answer, error) {
	var req struct {
		Args struct {
			Status    string
			Attached  string `json:"attach_status"`
			Migration string `json:"migration_status"`
		} `json:"os-reset_status"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	in := req.Args
	to := cinder.Status(strings.ToLower(in.Status))
	switch {
	case in.Attached != "":
		return nil, badRequest("Invalid input for field/attribute attach_status. Value: %s. It follows from the volume's attachments.", quoted(in.Attached))
	case in.Migration != "" && !strings.EqualFold(in.Migration, "none"):
		return nil, badRequest("Invalid input for field/attribute migration_status. Value: %s. This service does not migrate volumes.", quoted(in.Migration))
	case in.Status == "" && in.Migration == "":
		return nil, badRequest("Invalid input received: Must specify 'status', 'attach_status', or 'migration_status' for update.")
	case in.Status == "":
		return status(http.StatusAccepted)
	}
	return a.changeVolume(c, v, http.StatusAccepted, func(v *cinder.Volume) error { v.Status = to; return nil })
}

func (a *api) showImageMetadata(_ *call, v cinder.Volume) (*answer, error) {
	return ok(map[string]any{"metadata": orEmpty(v.ImageMetadata)})
}

func (a *api) setImageMetadata(c *call, v cinder.Volume) (*answer, error) {
	var req struct {
		Args struct{ Metadata map[string]string } `json:"os-set_image_metadata"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	v, err := a.Backend.UpdateVolume(c.Context(), v.ID, func(v *cinder.Volume) error {
		v.ImageMetadata = copyOf(v.ImageMetadata)
		maps.Copy(v.ImageMetadata, req.Args.Metadata)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.showImageMetadata(c, v)
}

func (a *api) unsetImageMetadata(c *call, v cinder.Volume) (*answer, error) {
	var req struct {
		Args struct{ Key string } `json:"os-unset_image_metadata"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	return a.changeVolume(c, v, http.StatusOK, func(v *cinder.Volume) error {
		if _, there := v.ImageMetadata[req.Args.Key]; !there {
			return notFound("Glance metadata for volume/snapshot %s cannot be found.", v.ID)
		}
		v.ImageMetadata = copyOf(v.ImageMetadata)
		delete(v.ImageMetadata, req.Args.Key)
		return nil
	})
}
