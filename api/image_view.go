package api

import (
	"encoding/json"
	"net/http"
	"strconv"

	"compute-agent/compute"
)

// imageAttribute is a field of an image that is not one of its free properties.
type imageAttribute struct {
	kind     string // of JSON
	readOnly bool
	set      func(c *call, img *compute.Image, name string, value any) error // nil for read-only ones
	about    string
}

// imageAttributes are all of them, by name.
var imageAttributes = map[string]imageAttribute{
	"id":               {kind: "string", readOnly: true, about: "An identifier for the image"},
	"name":             {kind: "string", set: setText(func(i *compute.Image) *string { return &i.Name }), about: "Descriptive name for the image"},
	"status":           {kind: "string", readOnly: true, about: "Status of the image"},
	"visibility":       {kind: "string", set: setVisibility, about: "Scope of image accessibility"},
	"protected":        {kind: "boolean", set: setProtected, about: "If true, image will not be deletable."},
	"checksum":         {kind: "string", readOnly: true, about: "MD5 of the image's data"},
	"os_hash_algo":     {kind: "string", readOnly: true, about: "Algorithm of os_hash_value"},
	"os_hash_value":    {kind: "string", readOnly: true, about: "Hash of the image's data"},
	"os_hidden":        {kind: "boolean", set: setHidden, about: "If true, image will not appear in default image list response."},
	"owner":            {kind: "string", set: setOwner, about: "Owner of the image"},
	"size":             {kind: "integer", readOnly: true, about: "Size of image file in bytes"},
	"virtual_size":     {kind: "integer", readOnly: true, about: "Virtual size of image in bytes"},
	"container_format": {kind: "string", set: setText(func(i *compute.Image) *string { return &i.ContainerFormat }), about: "Format of the container"},
	"disk_format":      {kind: "string", set: setText(func(i *compute.Image) *string { return &i.DiskFormat }), about: "Format of the disk"},
	"created_at":       {kind: "string", readOnly: true, about: "Date and time of image registration"},
	"updated_at":       {kind: "string", readOnly: true, about: "Date and time of the last image modification"},
	"tags":             {kind: "array", set: setTags, about: "List of strings related to the image"},
	"min_ram":          {kind: "integer", set: setNumber(func(i *compute.Image) *int { return &i.MinRAMMiB }), about: "Amount of ram (in MB) required to boot image."},
	"min_disk":         {kind: "integer", set: setNumber(func(i *compute.Image) *int { return &i.MinDiskGiB }), about: "Amount of disk space (in GB) required to boot image."},
	"self":             {kind: "string", readOnly: true, about: "The image's URL"},
	"file":             {kind: "string", readOnly: true, about: "The URL of the image's data"},
	"schema":           {kind: "string", readOnly: true, about: "The URL of this schema"},
	"direct_url":       {kind: "string", readOnly: true, about: "Not used"},
	"locations":        {kind: "array", readOnly: true, about: "Not used"},
}

func invalidAttribute(name string, value any, kind string) error {
	return badRequest("Provided object does not match schema 'image': %s is not of type %s (%s)", shown(value, nil), quoted(kind), name)
}

// setImageAttribute sets a field or a property; null empties a field. The core checks the values.
func setImageAttribute(c *call, img *compute.Image, name string, value any) error {
	attribute, known := imageAttributes[name]
	switch {
	case !known:
		text, isText := value.(string)
		if !isText {
			return invalidAttribute(name, value, "string")
		}
		img.Properties[name] = text
		return nil
	case attribute.readOnly:
		return faultf(http.StatusForbidden, "Attribute '%s' is read-only.", name)
	default:
		return attribute.set(c, img, name, value)
	}
}

func setText(field func(*compute.Image) *string) func(*call, *compute.Image, string, any) error {
	return func(_ *call, img *compute.Image, name string, value any) error {
		text, isText := value.(string)
		if !isText && value != nil {
			return invalidAttribute(name, value, "string")
		}
		*field(img) = text
		return nil
	}
}

func setNumber(field func(*compute.Image) *int) func(*call, *compute.Image, string, any) error {
	return func(_ *call, img *compute.Image, name string, value any) error {
		number, isNumber := value.(json.Number)
		n, err := strconv.Atoi(number.String())
		if !isNumber || err != nil {
			return invalidAttribute(name, value, "integer")
		}
		*field(img) = n
		return nil
	}
}

// setVisibility lets only an admin publish, Glance's policy publicize_image.
func setVisibility(c *call, img *compute.Image, name string, value any) error {
	word, isText := value.(string)
	if !isText {
		return invalidAttribute(name, value, "string")
	}
	if word == compute.VisibilityPublic && !c.caller.admin {
		return faultf(http.StatusForbidden, "You are not authorized to complete publicize_image action.")
	}
	img.Visibility = word
	return nil
}

func setProtected(_ *call, img *compute.Image, name string, value any) error {
	flag, isFlag := value.(bool)
	if !isFlag {
		return invalidAttribute(name, value, "boolean")
	}
	img.Protected = flag
	return nil
}

// setHidden takes the default only.
func setHidden(_ *call, _ *compute.Image, _ string, value any) error {
	if value != false {
		return badRequest("os_hidden can only be false: images here cannot be hidden.")
	}
	return nil
}

func setOwner(c *call, img *compute.Image, name string, value any) error {
	owner, isText := value.(string)
	if !isText {
		return invalidAttribute(name, value, "string")
	}
	if owner != c.caller.ProjectID && !c.caller.admin {
		return faultf(http.StatusForbidden, "You are not permitted to create images owned by '%s'.", shorten(owner))
	}
	img.ProjectID = owner
	return nil
}

func setTags(_ *call, img *compute.Image, name string, value any) error {
	list, isList := value.([]any)
	if !isList {
		return invalidAttribute(name, value, "array")
	}
	tags := make([]string, 0, len(list))
	for _, item := range list {
		tag, isText := item.(string)
		if !isText {
			return invalidAttribute(name, item, "string")
		}
		tags = append(tags, tag)
	}
	img.Tags = tags
	return nil
}

// imageView is an image as Glance shows it: its properties stand among its fields.
func imageView(img compute.Image) map[string]any {
	view := make(map[string]any, len(imageAttributes)+len(img.Properties))
	for name, value := range img.Properties {
		view[name] = value
	}
	self := "/v2/images/" + img.ID
	for name, value := range map[string]any{
		"id": img.ID, "name": orNull(img.Name), "status": string(img.Status), "visibility": img.Visibility,
		"protected": img.Protected, "os_hidden": false, "owner": img.ProjectID, "tags": append([]string{}, img.Tags...),
		"container_format": orNull(img.ContainerFormat), "disk_format": orNull(img.DiskFormat),
		"min_disk": img.MinDiskGiB, "min_ram": img.MinRAMMiB,
		"created_at": novaTime(img.Created), "updated_at": novaTime(img.Updated),
		"self": self, "file": self + "/file", "schema": "/v2/schemas/image",
		"checksum": nil, "os_hash_algo": nil, "os_hash_value": nil, "size": nil, "virtual_size": nil,
	} {
		view[name] = value
	}
	if img.Status == compute.ImageActive {
		view["size"], view["virtual_size"] = img.Size, img.VirtualSize
		view["checksum"], view["os_hash_algo"], view["os_hash_value"] = img.MD5, "sha512", img.SHA512
	}
	return view
}

// imageSchemaDocument is the schema by which Glance's own client learns what an image has.
func imageSchemaDocument() map[string]any {
	properties := map[string]any{}
	for name, attribute := range imageAttributes {
		p := map[string]any{"type": []string{"null", attribute.kind}, "description": attribute.about}
		if attribute.readOnly {
			p["readOnly"] = true
		}
		if name == "tags" {
			p["type"], p["items"] = "array", map[string]any{"type": "string", "maxLength": 255}
		}
		properties[name] = p
	}
	return map[string]any{
		"name": "image", "properties": properties, "additionalProperties": map[string]string{"type": "string"},
		"links": []link{{Rel: "self", Href: "{self}"}, {Rel: "enclosure", Href: "{file}"}, {Rel: "describedby", Href: "{schema}"}},
	}
}

func (a *api) imageSchema(*call) (*answer, error) { return ok(imageSchemaDocument()) }

func (a *api) imagesSchema(*call) (*answer, error) {
	return ok(map[string]any{
		"name": "images",
		"properties": map[string]any{
			"images": map[string]any{"type": "array", "items": imageSchemaDocument()},
			"first":  map[string]string{"type": "string"},
			"next":   map[string]string{"type": "string"},
			"schema": map[string]string{"type": "string"},
		},
		"links": []link{{Rel: "first", Href: "{first}"}, {Rel: "next", Href: "{next}"}, {Rel: "describedby", Href: "{schema}"}},
	})
}
