package api

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"compute-agent/compute"
)

// The media types of Glance's JSON patches. The older one names the operation in the key.
const (
	patchMedia    = "application/openstack-images-v2.1-json-patch"
	patchMediaOld = "application/openstack-images-v2.0-json-patch"
)

// patchOp is one operation of a patch.
type patchOp struct {
	op    string   // add, replace or remove
	path  []string // of the attribute; tags may have an index below
	value any
}

func (a *api) patchImage(c *call) (*answer, error) {
	ops, err := a.readPatch(c)
	if err != nil {
		return nil, err
	}
	img, err := a.ownImage(c)
	if err != nil {
		return nil, err
	}
	img, err = a.Backend.UpdateImage(c.Context(), img.ID, func(img *compute.Image) error {
		if img.Properties == nil {
			img.Properties = map[string]string{}
		}
		for _, op := range ops {
			if err := op.apply(c, img); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ok(imageView(img))
}

// readPatch reads and checks a patch's form.
func (a *api) readPatch(c *call) ([]patchOp, error) {
	media, _, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil || (media != patchMedia && media != patchMediaOld) {
		return nil, &fault{status: http.StatusUnsupportedMediaType, message: "The body must be " + patchMedia + "."}
	}
	raw, err := readAll(c)
	if err != nil {
		return nil, err
	}
	value, err := parseJSON(raw)
	if err != nil {
		return nil, err
	}
	if err := a.schemas.check("image_patch", 0, value); err != nil {
		return nil, err
	}
	items, _ := value.([]any) // checked by the schema
	ops := make([]patchOp, 0, len(items))
	for _, item := range items {
		object, _ := item.(map[string]any)
		op, err := newPatchOp(object, media == patchMediaOld)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

var patchVerbs = []string{"add", "replace", "remove"}

func newPatchOp(object map[string]any, old bool) (patchOp, error) {
	verb, _ := object["op"].(string)
	pointer, _ := object["path"].(string)
	if old {
		for _, v := range patchVerbs {
			if p, there := object[v].(string); there {
				verb, pointer = v, p
			}
		}
	}
	if !slices.Contains(patchVerbs, verb) {
		return patchOp{}, badRequest("Operations must be one of: 'add', 'replace', 'remove'. Found %s.", quoted(verb))
	}
	value, given := object["value"]
	if !given && verb != "remove" {
		return patchOp{}, badRequest("Operation \"%s\" requires a member named \"value\".", verb)
	}
	path, ok := strings.CutPrefix(pointer, "/")
	if !ok || path == "" || strings.HasSuffix(path, "/") || strings.Contains(path, "//") {
		return patchOp{}, badRequest("Pointer %s does not start with \"/\" or has an empty part.", quoted(pointer))
	}
	parts := strings.Split(path, "/")
	for i, part := range parts {
		parts[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
	}
	if len(parts) > 2 || (len(parts) == 2 && parts[0] != "tags") {
		return patchOp{}, badRequest("Invalid JSON pointer for this resource: %s", quoted(pointer))
	}
	return patchOp{op: verb, path: parts, value: value}, nil
}

func (p patchOp) apply(c *call, img *compute.Image) error {
	if len(p.path) == 2 {
		return p.applyToTag(img)
	}
	name := p.path[0]
	_, isField := imageAttributes[name]
	_, isProperty := img.Properties[name]
	if p.op != "add" && !isField && !isProperty {
		return faultf(http.StatusConflict, "Property %s does not exist.", shorten(name))
	}
	if p.op != "remove" {
		return setImageAttribute(c, img, name, p.value)
	}
	if isField {
		return faultf(http.StatusForbidden, "Attribute '%s' can not be removed.", name)
	}
	delete(img.Properties, name)
	return nil
}

// applyToTag changes one tag of the list, by its index or at the end ("-").
func (p patchOp) applyToTag(img *compute.Image) error {
	tags, where := slices.Clone(img.Tags), p.path[1]
	i, err := strconv.Atoi(where)
	if where == "-" && p.op == "add" {
		i, err = len(tags), nil
	}
	if err != nil || i < 0 || i > len(tags) || (i == len(tags) && p.op != "add") {
		return faultf(http.StatusConflict, "There is no tag at %s.", quoted(where))
	}
	tag, isText := p.value.(string)
	if !isText && p.op != "remove" {
		return invalidAttribute("tags", p.value, "string")
	}
	switch p.op {
	case "add":
		tags = slices.Insert(tags, i, tag)
	case "replace":
		tags[i] = tag
	default:
		tags = slices.Delete(tags, i, i+1)
	}
	img.Tags = tags
	return nil
}
