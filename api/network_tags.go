package api

import (
	"net/http"
	"slices"
	"unicode/utf8"
)

// maxTag is how long a tag may be, and maxTags how many a record may have; Neutron's limits.
const (
	maxTag  = 255
	maxTags = 50
)

func (a *api) tagRoutes(k *resource) []route {
	path := "/" + k.path + "/{id}/tags"
	return []route{
		{pattern: "GET " + path, do: a.of(k, (*records).answerTags)},
		{pattern: "PUT " + path, do: a.of(k, (*records).replaceTags), schema: "network_tags"},
		{pattern: "POST " + path, do: a.of(k, (*records).addTags), schema: "network_tags"},
		{pattern: "DELETE " + path, do: a.of(k, (*records).deleteTags)},
		{pattern: "GET " + path + "/{tag}", do: a.of(k, (*records).answerTag)},
		{pattern: "PUT " + path + "/{tag}", do: a.of(k, (*records).addTag)},
		{pattern: "DELETE " + path + "/{tag}", do: a.of(k, (*records).deleteTag)},
	}
}

func (r *records) tags(k *resource) ([]string, error) {
	v, err := r.find(k, r.PathValue("id"))
	tags, _ := v["tags"].([]string)
	return tags, err
}

func (r *records) answerTags(k *resource) (*answer, error) {
	tags, err := r.tags(k)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"tags": tags})
}

// answerTag says by its status alone whether a record has a tag.
func (r *records) answerTag(k *resource) (*answer, error) {
	tags, err := r.tags(k)
	if err != nil {
		return nil, err
	}
	if tag := r.PathValue("tag"); !slices.Contains(tags, tag) {
		return nil, noTag(tag)
	}
	return status(http.StatusNoContent)
}

func noTag(tag string) *fault {
	f := notFound("Tag %s could not be found.", shorten(tag))
	f.class = "TagNotFound"
	return f
}

// changeTags changes the tags of a record that the caller may change, and refuses more than it may have.
func (r *records) changeTags(k *resource, change func([]string) []string) error {
	v, err := r.toChange(k, "update")
	if err != nil {
		return err
	}
	if tags, _ := v["tags"].([]string); len(change(slices.Clone(tags))) > maxTags {
		f := badRequest("Bad %s request: The number of tags exceed the per-resource limit of %d.", k.plural, maxTags)
		f.class = "BadRequest"
		return f
	}
	return k.tag(r, r.PathValue("id"), func(tags *[]string) { *tags = change(slices.Clone(*tags)) })
}

func without(tags []string, gone ...string) []string {
	return slices.DeleteFunc(tags, func(t string) bool { return slices.Contains(gone, t) })
}

func (r *records) givenTags() ([]string, error) {
	var b struct {
		Tags []string `json:"tags"`
	}
	err := r.decode(&b)
	return orNone(b.Tags), err
}

func (r *records) replaceTags(k *resource) (*answer, error) {
	given, err := r.givenTags()
	if err != nil {
		return nil, err
	}
	if err := r.changeTags(k, func([]string) []string { return given }); err != nil {
		return nil, err
	}
	return ok(map[string]any{"tags": given})
}

func (r *records) addTags(k *resource) (*answer, error) {
	given, err := r.givenTags()
	if err != nil {
		return nil, err
	}
	if err := r.changeTags(k, func(tags []string) []string { return append(without(tags, given...), given...) }); err != nil {
		return nil, err
	}
	return r.answerTags(k)
}

func (r *records) deleteTags(k *resource) (*answer, error) {
	if err := r.changeTags(k, func([]string) []string { return nil }); err != nil {
		return nil, err
	}
	return status(http.StatusNoContent)
}

func (r *records) addTag(k *resource) (*answer, error) {
	tag := r.PathValue("tag")
	if utf8.RuneCountInString(tag) > maxTag {
		return nil, invalidInput("'%s' exceeds maximum length of %d", shorten(tag), maxTag)
	}
	if err := r.changeTags(k, func(tags []string) []string { return append(without(tags, tag), tag) }); err != nil {
		return nil, err
	}
	return status(http.StatusCreated)
}

func (r *records) deleteTag(k *resource) (*answer, error) {
	tag := r.PathValue("tag")
	tags, err := r.tags(k)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(tags, tag) {
		return nil, noTag(tag)
	}
	if err := r.changeTags(k, func(tags []string) []string { return without(tags, tag) }); err != nil {
		return nil, err
	}
	return status(http.StatusNoContent)
}
