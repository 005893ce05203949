package api

import (
	"errors"
	"net/http"
	"slices"
	"strconv"

	"compute-agent/compute"
)

const imagePath = "/image/v2"

// maxImageProperties is Glance's default quota, which old compute clients ask Nova for.
const maxImageProperties = 128

// imageService is Glance's v2 API without what needs several stores, members or import plug-ins.
func (a *api) imageService() service {
	return service{name: "image", shape: imageFault, pages: true, routes: append([]route{
		{pattern: "GET /image", do: a.imageVersions, access: forAll},
		{pattern: "GET /image/{$}", do: a.imageVersions, access: forAll},
		{pattern: "GET /image/versions", do: a.imageVersionsOK, access: forAll},
		{pattern: "GET /image/v2", do: a.imageVersions, access: forAll},
		{pattern: "GET /image/v2/{$}", do: a.imageVersions, access: forAll},
	}, under(imagePath, []route{
		{pattern: "GET /images", do: a.listImages},
		{pattern: "POST /images", do: a.createImage, schema: "image_create"},
		{pattern: "GET /images/{id}", do: a.showImage},
		{pattern: "PATCH /images/{id}", do: a.patchImage},
		{pattern: "DELETE /images/{id}", do: a.deleteImage},
		{pattern: "PUT /images/{id}/file", do: a.uploadImage},
		{pattern: "GET /images/{id}/file", do: a.downloadImage},
		{pattern: "PUT /images/{id}/tags/{tag}", do: a.addImageTag},
		{pattern: "DELETE /images/{id}/tags/{tag}", do: a.deleteImageTag},
		{pattern: "GET /schemas/image", do: a.imageSchema},
		{pattern: "GET /schemas/images", do: a.imagesSchema},
		{pattern: "GET /info/import", do: a.importMethods},
	})...)}
}

func glanceVersions(c *call) any {
	return map[string]any{"versions": []any{map[string]any{
		"id": "v2.9", "status": "CURRENT", "links": []link{{Rel: "self", Href: c.base + imagePath + "/"}},
	}}}
}

func (a *api) imageVersions(c *call) (*answer, error) {
	return &answer{status: http.StatusMultipleChoices, body: glanceVersions(c)}, nil
}

func (a *api) imageVersionsOK(c *call) (*answer, error) { return ok(glanceVersions(c)) }

// importMethods is empty: bytes come by upload.
func (a *api) importMethods(*call) (*answer, error) {
	return ok(map[string]any{"import-methods": map[string]any{
		"description": "Import methods available.", "type": "array", "value": []string{},
	}})
}

// visibleImage tells whether a caller may see an image by its ID.
func visibleImage(c *call, img compute.Image) bool {
	switch img.Visibility {
	case compute.VisibilityPublic, compute.VisibilityCommunity:
		return true
	}
	return c.caller.mine(img.ProjectID)
}

func noImage(id string) error { return notFound("No image found with ID %s", shorten(id)) }

// image finds the image that the path names, if the caller may see it.
func (a *api) image(c *call) (compute.Image, error) {
	id := c.PathValue("id")
	img, err := a.Backend.Image(c.Context(), id)
	if errors.Is(err, compute.ErrNotFound) || (err == nil && !visibleImage(c, img)) {
		return compute.Image{}, noImage(id)
	}
	return img, err
}

// ownImage finds the image that the path names, if the caller may change it.
func (a *api) ownImage(c *call) (compute.Image, error) {
	img, err := a.image(c)
	if err == nil && !c.caller.mine(img.ProjectID) {
		return img, faultf(http.StatusForbidden, "You are not permitted to modify this image.")
	}
	return img, err
}

func (a *api) showImage(c *call) (*answer, error) {
	img, err := a.image(c)
	if err != nil {
		return nil, err
	}
	return ok(imageView(img))
}

func (a *api) createImage(c *call) (*answer, error) {
	attributes, _ := c.value.(map[string]any) // checked by the schema
	img := compute.Image{ProjectID: c.caller.ProjectID, Properties: map[string]string{}}
	if id, given := attributes["id"].(string); given {
		img.ID = id
	}
	for name, value := range attributes {
		if name == "id" {
			continue
		}
		if err := setImageAttribute(c, &img, name, value); err != nil {
			return nil, err
		}
	}
	img, err := a.Backend.CreateImage(c.Context(), img)
	if err != nil {
		return nil, err
	}
	ans := &answer{status: http.StatusCreated, body: imageView(img)}
	return ans.with("Location", c.base+imagePath+"/images/"+img.ID), nil
}

func (a *api) deleteImage(c *call) (*answer, error) {
	img, err := a.ownImage(c)
	if err != nil {
		return nil, err
	}
	if err := a.Backend.DeleteImage(c.Context(), img.ID); err != nil {
		return nil, err
	}
	return status(http.StatusNoContent)
}

// drainAfterRefusal is how much of a refused upload is still read, so that a client that does not
// listen while it sends hears the reason.
const drainAfterRefusal = 16 << 20

func (a *api) uploadImage(c *call) (*answer, error) {
	body := newUpload(c, a.Limits.ImageBytes)
	if err := a.receiveImage(c, body); err != nil {
		body.drain(drainAfterRefusal)
		return nil, err
	}
	return status(http.StatusNoContent)
}

func (a *api) receiveImage(c *call, body *upload) error {
	img, err := a.ownImage(c)
	if err != nil {
		return err
	}
	if c.Header.Get("Content-Type") != "application/octet-stream" {
		return faultf(http.StatusUnsupportedMediaType, "The body must be application/octet-stream.")
	}
	if c.ContentLength > a.Limits.ImageBytes {
		return bodyError(&http.MaxBytesError{Limit: a.Limits.ImageBytes})
	}
	err = a.Backend.UploadImage(c.Context(), img.ID, body)
	if err != nil && body.err != nil {
		return bodyError(body.err)
	}
	return err
}

func (a *api) downloadImage(c *call) (*answer, error) {
	if _, err := a.image(c); err != nil {
		return nil, err
	}
	stream, img, err := a.Backend.DownloadImage(c.Context(), c.PathValue("id"))
	if errors.Is(err, compute.ErrConflict) {
		return status(http.StatusNoContent) // Glance: there is no data yet
	}
	if err != nil {
		return nil, err
	}
	ans := &answer{status: http.StatusOK, stream: stream}
	return ans.with("Content-Type", "application/octet-stream").
		with("Content-Length", strconv.FormatInt(img.Size, 10)).
		with("Content-Md5", img.MD5), nil
}

func (a *api) addImageTag(c *call) (*answer, error) {
	return a.changeTags(c, func(tags []string, tag string) ([]string, error) {
		if slices.Contains(tags, tag) {
			return tags, nil
		}
		return append(tags, tag), nil
	})
}

func (a *api) deleteImageTag(c *call) (*answer, error) {
	return a.changeTags(c, func(tags []string, tag string) ([]string, error) {
		i := slices.Index(tags, tag)
		if i < 0 {
			return nil, notFound("The image has no tag %s.", quoted(tag))
		}
		return slices.Delete(tags, i, i+1), nil
	})
}

func (a *api) changeTags(c *call, change func(tags []string, tag string) ([]string, error)) (*answer, error) {
	img, err := a.ownImage(c)
	if err != nil {
		return nil, err
	}
	_, err = a.Backend.UpdateImage(c.Context(), img.ID, func(img *compute.Image) error {
		tags, err := change(slices.Clone(img.Tags), c.PathValue("tag"))
		if err == nil {
			img.Tags = tags
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return status(http.StatusNoContent)
}
