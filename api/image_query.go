package api

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"compute-agent/compute"
)

var imageOrder = map[string]func(a, b compute.Image) int{
	"name":             func(a, b compute.Image) int { return cmp.Compare(a.Name, b.Name) },
	"status":           func(a, b compute.Image) int { return cmp.Compare(a.Status, b.Status) },
	"container_format": func(a, b compute.Image) int { return cmp.Compare(a.ContainerFormat, b.ContainerFormat) },
	"disk_format":      func(a, b compute.Image) int { return cmp.Compare(a.DiskFormat, b.DiskFormat) },
	"size":             func(a, b compute.Image) int { return cmp.Compare(a.Size, b.Size) },
	"id":               func(a, b compute.Image) int { return cmp.Compare(a.ID, b.ID) },
	"created_at":       func(a, b compute.Image) int { return a.Created.Compare(b.Created) },
	"updated_at":       func(a, b compute.Image) int { return a.Updated.Compare(b.Updated) },
}

// imageTexts are the fields that a list can be filtered by: equal, or "in:" one of several.
var imageTexts = map[string]func(compute.Image) string{
	"id":               func(i compute.Image) string { return i.ID },
	"name":             func(i compute.Image) string { return i.Name },
	"status":           func(i compute.Image) string { return string(i.Status) },
	"owner":            func(i compute.Image) string { return i.ProjectID },
	"container_format": func(i compute.Image) string { return i.ContainerFormat },
	"disk_format":      func(i compute.Image) string { return i.DiskFormat },
	"checksum":         func(i compute.Image) string { return i.MD5 },
	"os_hash_value":    func(i compute.Image) string { return i.SHA512 },
}

// imageTimes are the times that a list can be filtered by: "gt:2030-01-01T00:00:00Z".
var imageTimes = map[string]func(compute.Image) time.Time{
	"created_at": func(i compute.Image) time.Time { return i.Created },
	"updated_at": func(i compute.Image) time.Time { return i.Updated },
}

type imageFilter func(compute.Image) bool

func (a *api) listImages(c *call) (*answer, error) {
	q := newQuery(c, false, nil)
	q.splitSort()
	p := q.page()
	inOrder := sorting(q, imageOrder, "created_at", "id")
	filters := imageFilters(c, q)
	if q.err != nil {
		return nil, q.err
	}
	all, err := a.Backend.Images(c.Context())
	if err != nil {
		return nil, err
	}
	found := slices.DeleteFunc(slices.Clone(all), func(img compute.Image) bool {
		return slices.ContainsFunc(filters, func(pass imageFilter) bool { return !pass(img) })
	})
	inOrder.sort(found)
	part, more, err := cut(found, p, func(img compute.Image) string { return img.ID })
	if err != nil {
		return nil, err
	}
	views := []any{}
	for _, img := range part {
		views = append(views, imageView(img))
	}
	body := map[string]any{"images": views, "first": imagesLink(c, ""), "schema": "/v2/schemas/images"}
	if more && len(part) > 0 {
		body["next"] = imagesLink(c, part[len(part)-1].ID)
	}
	return ok(body)
}

// splitSort turns Glance's newer "sort=name:asc,size" into keys and directions.
func (q *query) splitSort() {
	list := q.text("sort")
	if list == "" {
		return
	}
	if q.has("sort_key") || q.has("sort_dir") {
		q.fail(badRequest("Old and new sorting syntax cannot be combined"))
		return
	}
	for part := range strings.SplitSeq(list, ",") {
		key, dir, given := strings.Cut(strings.TrimSpace(part), ":")
		if !given {
			dir = "desc"
		}
		q.values.Add("sort_key", key)
		q.values.Add("sort_dir", dir)
	}
}

// imagesLink is a page of the list, in Glance's form: a path without the host.
func imagesLink(c *call, marker string) string {
	q := c.URL.Query()
	q.Del("marker")
	if marker != "" {
		q.Set("marker", marker)
	}
	if len(q) == 0 {
		return "/v2/images"
	}
	return "/v2/images?" + q.Encode()
}

// imageFilters reads the filters. A parameter that is no field's name is a property's, as in Glance.
func imageFilters(c *call, q *query) []imageFilter {
	filters := []imageFilter{listed(c, q)}
	for name := range q.values {
		if f := newImageFilter(q, name, q.text(name)); f != nil {
			filters = append(filters, f)
		}
	}
	return filters
}

func newImageFilter(q *query, name, value string) imageFilter {
	if field, known := imageTexts[name]; known {
		wanted := []string{value}
		if listOf, several := strings.CutPrefix(value, "in:"); several {
			wanted = strings.Split(listOf, ",")
		}
		return func(i compute.Image) bool { return slices.Contains(wanted, field(i)) }
	}
	if field, known := imageTimes[name]; known {
		return timeFilter(q, name, value, field)
	}
	switch name {
	case "limit", "marker", "sort", "sort_key", "sort_dir", "visibility", "member_status":
		return nil
	case "tag":
		return func(i compute.Image) bool {
			return !slices.ContainsFunc(q.values["tag"], func(tag string) bool { return !slices.Contains(i.Tags, tag) })
		}
	case "protected":
		want := q.boolean(name, false)
		return func(i compute.Image) bool { return i.Protected == want }
	case "os_hidden":
		want := q.boolean(name, false)
		return func(compute.Image) bool { return !want }
	case "min_ram", "min_disk", "size_min", "size_max":
		return sizeFilter(name, q.number(name, 0))
	default:
		return func(i compute.Image) bool {
			property, there := i.Properties[name]
			return there && property == value
		}
	}
}

func sizeFilter(name string, n int) imageFilter {
	return func(i compute.Image) bool {
		switch name {
		case "min_ram":
			return i.MinRAMMiB >= n
		case "min_disk":
			return i.MinDiskGiB >= n
		case "size_min":
			return i.Size >= int64(n)
		default:
			return i.Size <= int64(n)
		}
	}
}

// timeFilter compares a time: eq, neq, gt, gte, lt, lte; eq if no operator is given.
func timeFilter(q *query, name, value string, field func(compute.Image) time.Time) imageFilter {
	op, text, given := strings.Cut(value, ":")
	accept, known := map[string]func(int) bool{
		"eq": func(c int) bool { return c == 0 }, "neq": func(c int) bool { return c != 0 },
		"gt": func(c int) bool { return c > 0 }, "gte": func(c int) bool { return c >= 0 },
		"lt": func(c int) bool { return c < 0 }, "lte": func(c int) bool { return c <= 0 },
	}[op]
	if !given || !known {
		text, accept = value, func(c int) bool { return c == 0 }
	}
	when, err := parseInstant(text)
	if err != nil {
		q.refuse(name, value, quoted(text)+" is not a 'date-time'")
	}
	return func(i compute.Image) bool { return accept(field(i).Truncate(time.Second).Compare(when)) }
}

// listed tells which images a list shows: what the caller may see, but community images only when
// they are asked for.
func listed(c *call, q *query) imageFilter {
	switch want := q.text("visibility"); want {
	case "", "all":
		return func(i compute.Image) bool {
			return visibleImage(c, i) && (want == "all" || i.Visibility != compute.VisibilityCommunity || c.caller.ProjectID == i.ProjectID)
		}
	case compute.VisibilityPublic, compute.VisibilityPrivate, compute.VisibilityShared, compute.VisibilityCommunity:
		return func(i compute.Image) bool { return visibleImage(c, i) && i.Visibility == want }
	default:
		q.fail(badRequest("Invalid visibility value: %s", quoted(want)))
		return func(compute.Image) bool { return false }
	}
}
