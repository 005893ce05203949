package api

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"compute-agent/compute"
)

func (a *api) flavorRoutes() []route {
	return []route{
		{pattern: "GET /flavors", do: a.listFlavors},
		{pattern: "GET /flavors/detail", do: a.listFlavorsDetail},
		{pattern: "POST /flavors", do: a.createFlavor, access: forAdmin, schema: "flavor_create"},
		{pattern: "GET /flavors/{id}", do: a.showFlavor},
		{pattern: "PUT /flavors/{id}", do: a.updateFlavor, access: forAdmin, since: 55, schema: "flavor_update"},
		{pattern: "DELETE /flavors/{id}", do: a.deleteFlavor, access: forAdmin},
		{pattern: "GET /flavors/{id}/os-flavor-access", do: a.listFlavorAccess, access: forAdmin},
		{pattern: "GET /flavors/{id}/os-extra_specs", do: a.listExtraSpecs},
		{pattern: "POST /flavors/{id}/os-extra_specs", do: a.createExtraSpecs, access: forAdmin, schema: "extra_specs"},
		{pattern: "GET /flavors/{id}/os-extra_specs/{key}", do: a.showExtraSpec},
		{pattern: "PUT /flavors/{id}/os-extra_specs/{key}", do: a.updateExtraSpec, access: forAdmin, schema: "extra_spec"},
		{pattern: "DELETE /flavors/{id}/os-extra_specs/{key}", do: a.deleteExtraSpec, access: forAdmin},
	}
}

var flavorOrder = map[string]func(a, b compute.Flavor) int{
	"flavorid":     func(a, b compute.Flavor) int { return cmp.Compare(a.ID, b.ID) },
	"id":           func(a, b compute.Flavor) int { return cmp.Compare(a.ID, b.ID) },
	"name":         func(a, b compute.Flavor) int { return cmp.Compare(a.Name, b.Name) },
	"memory_mb":    func(a, b compute.Flavor) int { return cmp.Compare(a.MemoryMiB, b.MemoryMiB) },
	"vcpus":        func(a, b compute.Flavor) int { return cmp.Compare(a.VCPUs, b.VCPUs) },
	"root_gb":      func(a, b compute.Flavor) int { return cmp.Compare(a.DiskGiB, b.DiskGiB) },
	"ephemeral_gb": func(a, b compute.Flavor) int { return cmp.Compare(a.EphemeralGiB, b.EphemeralGiB) },
	"swap":         func(a, b compute.Flavor) int { return cmp.Compare(a.SwapMiB, b.SwapMiB) },
	"rxtx_factor":  func(a, b compute.Flavor) int { return cmp.Compare(a.RXTXFactor, b.RXTXFactor) },
}

var flavorQuery = []string{"limit", "marker", "is_public", "minRam", "minDisk", "sort_key", "sort_dir"}

// flavors are the flavors that a list request asks for, in its order.
func (a *api) flavors(c *call) (part []compute.Flavor, more bool, err error) {
	q := newQuery(c, c.since(75), flavorQuery)
	minRAM, minDisk, p := q.number("minRam", 0), q.number("minDisk", 0), q.page()
	sorting := sortingUp(q, flavorOrder, "flavorid")
	if q.err != nil {
		return nil, false, q.err
	}
	all, err := a.Backend.Flavors(c.Context())
	if err != nil {
		return nil, false, err
	}
	visible := flavorVisibility(c, q)
	all = slices.DeleteFunc(slices.Clone(all), func(f compute.Flavor) bool {
		return !visible(f) || f.MemoryMiB < minRAM || f.DiskGiB < minDisk
	})
	sorting.sort(all)
	return cut(all, p, func(f compute.Flavor) string { return f.ID })
}

// flavorVisibility reads is_public, which has three values; only an admin may ask for other than
// the public ones.
func flavorVisibility(c *call, q *query) func(compute.Flavor) bool {
	if !c.caller.admin {
		return func(f compute.Flavor) bool { return f.Public }
	}
	if strings.EqualFold(q.text("is_public"), "none") {
		return func(compute.Flavor) bool { return true }
	}
	want := q.boolean("is_public", true)
	return func(f compute.Flavor) bool { return f.Public == want }
}

func (a *api) listFlavors(c *call) (*answer, error) {
	return a.flavorList(c, func(c *call, f compute.Flavor) map[string]any {
		view := map[string]any{"id": f.ID, "name": f.Name, "links": selfAndBookmark(c, "/flavors/"+f.ID)}
		if c.since(55) {
			view["description"] = orNull(f.Description)
		}
		return view
	})
}

func (a *api) listFlavorsDetail(c *call) (*answer, error) { return a.flavorList(c, flavorView) }

func (a *api) flavorList(c *call, view func(*call, compute.Flavor) map[string]any) (*answer, error) {
	flavors, more, err := a.flavors(c)
	if err != nil {
		return nil, err
	}
	views := []any{}
	for _, f := range flavors {
		views = append(views, view(c, f))
	}
	body := map[string]any{"flavors": views}
	if more && len(flavors) > 0 {
		body["flavors_links"] = nextLinks(c, flavors[len(flavors)-1].ID)
	}
	return ok(body)
}

func flavorView(c *call, f compute.Flavor) map[string]any {
	view := map[string]any{
		"id":                         f.ID,
		"name":                       f.Name,
		"ram":                        f.MemoryMiB,
		"disk":                       f.DiskGiB,
		"vcpus":                      f.VCPUs,
		"swap":                       swapView(c, f.SwapMiB),
		"rxtx_factor":                f.RXTXFactor,
		"links":                      selfAndBookmark(c, "/flavors/"+f.ID),
		"OS-FLV-DISABLED:disabled":   f.Disabled,
		"OS-FLV-EXT-DATA:ephemeral":  f.EphemeralGiB,
		"os-flavor-access:is_public": f.Public,
	}
	if c.since(55) {
		view["description"] = orNull(f.Description)
	}
	if c.since(61) {
		view["extra_specs"] = orEmpty(f.ExtraSpecs)
	}
	return view
}

// swapView is a number, but before 2.75 no swap was an empty string.
func swapView(c *call, mib int) any {
	if mib == 0 && !c.since(75) {
		return ""
	}
	return mib
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// flavor finds the flavor that the path names, if the caller may see it.
func (a *api) flavor(c *call) (compute.Flavor, error) {
	id := c.PathValue("id")
	f, err := a.Backend.Flavor(c.Context(), id)
	if errors.Is(err, compute.ErrNotFound) || (err == nil && !f.Public && !c.caller.admin) {
		return compute.Flavor{}, notFound("Flavor %s could not be found.", shorten(id))
	}
	return f, err
}

func (a *api) showFlavor(c *call) (*answer, error) {
	f, err := a.flavor(c)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"flavor": flavorView(c, f)})
}

// flavorRequest is the body of POST /flavors. Numbers may be strings.
type flavorRequest struct {
	Flavor struct {
		ID          *text    `json:"id"`
		Name        string   `json:"name"`
		Description *string  `json:"description"`
		RAM         integer  `json:"ram"`
		VCPUs       integer  `json:"vcpus"`
		Disk        integer  `json:"disk"`
		Swap        integer  `json:"swap"`
		Ephemeral   integer  `json:"OS-FLV-EXT-DATA:ephemeral"`
		RXTXFactor  *decimal `json:"rxtx_factor"`
		Public      *boolean `json:"os-flavor-access:is_public"`
	} `json:"flavor"`
}

func (a *api) createFlavor(c *call) (*answer, error) {
	var req flavorRequest
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	in := req.Flavor
	f := compute.Flavor{
		Name: in.Name, MemoryMiB: int(in.RAM), VCPUs: int(in.VCPUs), DiskGiB: int(in.Disk), SwapMiB: int(in.Swap),
		EphemeralGiB: int(in.Ephemeral), Public: true, RXTXFactor: 1, ExtraSpecs: map[string]string{},
	}
	// The clients' word for "make one up" is auto.
	if f.ID = string(deref(in.ID)); f.ID == "" || f.ID == "auto" {
		f.ID = uuid.NewString()
	}
	f.Description = deref(in.Description)
	if in.Public != nil {
		f.Public = bool(*in.Public)
	}
	if in.RXTXFactor != nil {
		f.RXTXFactor = float64(*in.RXTXFactor)
	}
	f, err := a.Backend.CreateFlavor(c.Context(), f)
	if errors.Is(err, compute.ErrExists) {
		return nil, faultf(http.StatusConflict, "Flavor with name %s or ID %s already exists.", in.Name, string(deref(in.ID)))
	}
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"flavor": flavorView(c, f)})
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func (a *api) updateFlavor(c *call) (*answer, error) {
	var req struct {
		Flavor struct{ Description *string }
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	f, err := a.changeFlavor(c, func(f *compute.Flavor) error {
		f.Description = deref(req.Flavor.Description)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"flavor": flavorView(c, f)})
}

func (a *api) changeFlavor(c *call, change func(*compute.Flavor) error) (compute.Flavor, error) {
	id := c.PathValue("id")
	f, err := a.Backend.UpdateFlavor(c.Context(), id, change)
	if errors.Is(err, compute.ErrNotFound) {
		return f, notFound("Flavor %s could not be found.", shorten(id))
	}
	return f, err
}

func (a *api) deleteFlavor(c *call) (*answer, error) {
	id := c.PathValue("id")
	err := a.Backend.DeleteFlavor(c.Context(), id)
	if errors.Is(err, compute.ErrNotFound) {
		return nil, notFound("Flavor %s could not be found.", shorten(id))
	}
	if err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

// listFlavorAccess lists the projects that may use a private flavor. There is none besides the
// admin's, who may use all.
func (a *api) listFlavorAccess(c *call) (*answer, error) {
	f, err := a.flavor(c)
	if err != nil {
		return nil, err
	}
	if f.Public {
		return nil, notFound("Access list not available for public flavors.")
	}
	return ok(map[string]any{"flavor_access": []any{}})
}
