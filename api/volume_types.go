package api

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"compute-agent/cinder"
)

func (a *api) volumeTypeRoutes() []route {
	return slices.Concat([]route{
		{pattern: "GET /types", do: a.listVolumeTypes},
		{pattern: "POST /types", do: a.createVolumeType, access: forAdmin, schema: "volume_type_create"},
		{pattern: "GET /types/{id}", do: a.showVolumeType},
		{pattern: "PUT /types/{id}", do: a.updateVolumeType, access: forAdmin, schema: "volume_type_update"},
		{pattern: "DELETE /types/{id}", do: a.deleteVolumeType, access: forAdmin},
		{pattern: "POST /types/{id}/action", do: a.volumeTypeAction, access: forAdmin, schema: "server_action"},
		{pattern: "GET /types/{id}/os-volume-type-access", do: a.listTypeAccess, access: forAdmin},
	}, a.typeSpecRoutes())
}

// sinceTypeFilters is the microversion since which types are filtered by their extra specs.
const sinceTypeFilters microversion = 52

// visibleTypes are the volume types that a caller may use.
func (a *api) visibleTypes(c *call) ([]cinder.Type, error) {
	all, err := a.Backend.VolumeTypes(c.Context())
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(t cinder.Type) bool {
		return !c.caller.admin && !t.Usable(c.caller.ProjectID)
	}), nil
}

// volumeType finds the type that the path names. "default" is the one of volumes that are made without a type.
func (a *api) volumeType(c *call) (cinder.Type, error) {
	id := c.PathValue("id")
	types, err := a.visibleTypes(c)
	if err != nil {
		return cinder.Type{}, err
	}
	i := slices.IndexFunc(types, func(t cinder.Type) bool { return t.ID == id })
	if id == "default" {
		i = slices.IndexFunc(types, func(t cinder.Type) bool { return t.Name == a.Backend.DefaultVolumeType() })
	}
	switch {
	case i >= 0:
		return types[i], nil
	case id == "default":
		return cinder.Type{}, notFound("Default volume type can not be found.")
	}
	return cinder.Type{}, notFound("Volume type %s could not be found.", shorten(id))
}

var typeListing = listing[cinder.Type]{
	missing: "Volume type %s could not be found.",
	id:      func(t cinder.Type) string { return t.ID },
	filters: map[string]func(cinder.Type) string{
		"is_public": func(t cinder.Type) string { return strconv.FormatBool(t.Public) },
	},
	adminFilters: map[string]func(cinder.Type) string{
		"id": func(t cinder.Type) string { return t.ID }, "name": func(t cinder.Type) string { return t.Name },
		"description": func(t cinder.Type) string { return t.Description }, "qos_specs_id": func(t cinder.Type) string { return t.QoSID },
	},
	order: map[string]func(a, b cinder.Type) int{
		"created_at": func(a, b cinder.Type) int { return a.Created.Compare(b.Created) },
		"updated_at": func(a, b cinder.Type) int { return a.Updated.Compare(b.Updated) },
		"id":         func(a, b cinder.Type) int { return cmp.Compare(a.ID, b.ID) },
		"name":       func(a, b cinder.Type) int { return cmp.Compare(a.Name, b.Name) },
	},
}

// listVolumeTypes lists types. is_public=None means all that the caller may see, as no filter does here.
func (a *api) listVolumeTypes(c *call) (*answer, error) {
	types, err := a.visibleTypes(c)
	if err != nil {
		return nil, err
	}
	q := c.URL.Query()
	if q.Get("is_public") == "None" {
		q.Del("is_public")
	}
	if asked := q.Get("extra_specs"); asked != "" && c.since(sinceTypeFilters) {
		passes, err := metadataFilter(asked, func(t cinder.Type) map[string]string { return shownSpecs(c, t) })
		if err != nil {
			return nil, err
		}
		types = slices.DeleteFunc(types, func(t cinder.Type) bool { return !passes(t) })
	}
	q.Del("extra_specs")
	p, err := typeListing.findWith(c, q, types)
	if err != nil {
		return nil, err
	}
	return p.answer("volume_types", "volume_type_links", func(t cinder.Type) view { return typeView(c, t) })
}

// userSpecs are the extra specs that every user may see.
var userSpecs = []string{"RESKEY:availability_zones", "multiattach", "replication_enabled"}

func shownSpecs(c *call, t cinder.Type) map[string]string {
	if c.caller.admin {
		return orEmpty(t.ExtraSpecs)
	}
	specs := map[string]string{}
	for _, key := range userSpecs {
		if value, there := t.ExtraSpecs[key]; there {
			specs[key] = value
		}
	}
	return specs
}

func typeView(c *call, t cinder.Type) view {
	out := view{
		"id": t.ID, "name": t.Name, "is_public": t.Public, "description": orNull(t.Description), "extra_specs": shownSpecs(c, t),
		"os-volume-type-access:is_public": t.Public,
	}
	if c.caller.admin {
		out["qos_specs_id"] = orNull(t.QoSID)
	}
	return out
}

func answerType(c *call, t cinder.Type, err error) (*answer, error) {
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"volume_type": typeView(c, t)})
}

func (a *api) showVolumeType(c *call) (*answer, error) {
	t, err := a.volumeType(c)
	return answerType(c, t, err)
}

func (a *api) createVolumeType(c *call) (*answer, error) {
	var req struct {
		Type struct {
			Name        string            `json:"name"`
			Description string            `json:"description"`
			ExtraSpecs  map[string]string `json:"extra_specs"`
			Public      *boolean          `json:"os-volume-type-access:is_public"`
		} `json:"volume_type"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	in := req.Type
	t, err := a.Backend.CreateVolumeType(c.Context(), cinder.Type{
		Name: in.Name, Description: in.Description, ExtraSpecs: in.ExtraSpecs, Public: in.Public == nil || bool(*in.Public),
	})
	return answerType(c, t, err)
}

func (a *api) updateVolumeType(c *call) (*answer, error) {
	var req struct {
		Type struct {
			Name        *string  `json:"name"`
			Description *string  `json:"description"`
			Public      *boolean `json:"is_public"`
		} `json:"volume_type"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	in := req.Type
	switch {
	case in.Name == nil && in.Description == nil && in.Public == nil:
		return nil, badRequest("Specify volume type name, description, is_public or a combination thereof.")
	case in.Name != nil && strings.TrimSpace(*in.Name) == "":
		return nil, badRequest("Volume type name can not be empty.")
	}
	return a.changeType(c, func(t *cinder.Type) error {
		if in.Name != nil {
			t.Name = strings.TrimSpace(*in.Name)
		}
		if in.Description != nil {
			t.Description = *in.Description
		}
		if in.Public != nil {
			t.Public = bool(*in.Public)
		}
		return nil
	})
}

// changeType changes the type that the path names, and answers with it.
func (a *api) changeType(c *call, change func(*cinder.Type) error) (*answer, error) {
	t, err := a.volumeType(c)
	if err == nil {
		t, err = a.Backend.UpdateVolumeType(c.Context(), t.ID, change)
	}
	return answerType(c, t, err)
}

func (a *api) deleteVolumeType(c *call) (*answer, error) {
	t, err := a.volumeType(c)
	if err != nil {
		return nil, err
	}
	if err := a.Backend.DeleteVolumeType(c.Context(), t.ID); err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

func (a *api) listTypeAccess(c *call) (*answer, error) {
	t, err := a.volumeType(c)
	if err != nil {
		return nil, err
	}
	if t.Public {
		return nil, notFound("Access list not available for public volume types.")
	}
	return ok(map[string]any{"volume_type_access": listOf(t.Projects, func(project string) view {
		return view{"volume_type_id": t.ID, "project_id": project}
	})})
}

var volumeTypeActions = map[string]recordAction[cinder.Type]{
	"addProjectAccess":    {schema: "volume_type_access", do: (*api).addTypeAccess},
	"removeProjectAccess": {schema: "volume_type_access", do: (*api).removeTypeAccess},
}

func (a *api) volumeTypeAction(c *call) (*answer, error) {
	return act(a, c, volumeTypeActions, (*api).volumeType)
}

func (a *api) addTypeAccess(c *call, t cinder.Type) (*answer, error) {
	return a.changeTypeAccess(c, t, func(t *cinder.Type, project string) error {
		if slices.Contains(t.Projects, project) {
			return faultf(http.StatusConflict, "Volume type access for %s / %s combination already exists.", t.ID, shorten(project))
		}
		t.Projects = append(slices.Clone(t.Projects), project)
		return nil
	})
}

func (a *api) removeTypeAccess(c *call, t cinder.Type) (*answer, error) {
	return a.changeTypeAccess(c, t, func(t *cinder.Type, project string) error {
		i := slices.Index(t.Projects, project)
		if i < 0 {
			return notFound("Volume type access not found for %s / %s combination.", t.ID, shorten(project))
		}
		t.Projects = slices.Delete(slices.Clone(t.Projects), i, i+1)
		return nil
	})
}

func (a *api) changeTypeAccess(c *call, t cinder.Type, change func(*cinder.Type, string) error) (*answer, error) {
	req := map[string]struct{ Project string }{}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	_, err := a.Backend.UpdateVolumeType(c.Context(), t.ID, func(t *cinder.Type) error {
		if t.Public {
			return badRequest("Invalid volume type: Type access modification is not applicable to public volume type.")
		}
		for _, in := range req { // the only one
			return change(t, in.Project)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}
