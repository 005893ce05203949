package api

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// item is one record of a request's body, checked against its kind's schema.
type item struct {
	values map[string]any
	raw    []byte
}

// has tells whether an attribute is given, be it null.
func (in item) has(name string) bool {
	_, there := in.values[name]
	return there
}

// says tells whether an attribute is given with another value than none: what is as it would be anyway, Neutron's policy does not look at.
func (in item) says(name string) bool {
	switch v := in.values[name].(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	default:
		return true
	}
}

func (in item) decode(into any) error {
	if err := json.Unmarshal(in.raw, into); err != nil {
		return badRequest("Body contains invalid data: %s", err.Error())
	}
	return nil
}

// optional is an attribute that may not be given. null gives the zero value.
type optional[T any] struct {
	given bool
	value T
}

// UnmarshalJSON is called for what is given only.
func (o *optional[T]) UnmarshalJSON(data []byte) error {
	o.given = true
	return json.Unmarshal(data, &o.value)
}

func (o optional[T]) set(to *T) {
	if o.given {
		*to = o.value
	}
}

func setBool(o optional[boolean], to *bool) {
	if o.given {
		*to = bool(o.value)
	}
}

// orBool returns the value, otherwise when it is not given.
func orBool(o optional[boolean], otherwise bool) bool {
	setBool(o, &otherwise)
	return otherwise
}

// readRecords reads {"port": {...}}, or for a creation also {"ports": [{...}, ...]}, and refuses in Neutron's words what a kind does not have
// or its schema does not allow.
func (a *api) readRecords(k *resource) func(*call, string) error {
	return func(c *call, schema string) error {
		if err := a.readJSON(c); err != nil {
			return err
		}
		body, _ := c.value.(map[string]any)
		if body == nil {
			return badRequest("Body contains invalid data")
		}
		list, bulk, err := findItems(body, k, c.Method == "POST")
		if err != nil {
			return err
		}
		c.bulk = bulk
		for _, values := range list {
			in, err := a.checkItem(c, k, schema, values)
			if err != nil {
				return err
			}
			c.items = append(c.items, in)
		}
		return nil
	}
}

func findItems(body map[string]any, k *resource, several bool) (list []any, bulk bool, err error) {
	if values, there := body[k.plural]; several && there {
		list, _ = values.([]any)
		if len(list) == 0 {
			return nil, false, badRequest("Resources required")
		}
		return list, true, nil
	}
	values, there := body[k.name]
	if !there || values == nil {
		return nil, false, badRequest("Unable to find '%s' in request body", k.name)
	}
	return []any{values}, false, nil
}

func (a *api) checkItem(c *call, k *resource, schema string, value any) (item, error) {
	values, isObject := value.(map[string]any)
	if !isObject {
		return item{}, badRequest("Object '%s' contains invalid data", k.name)
	}
	creates := c.Method == "POST"
	if err := settleProject(c, values, creates); err != nil {
		return item{}, err
	}
	if err := k.checkAttributes(values, creates); err != nil {
		return item{}, err
	}
	if names := adminsOnly(c, k, values, creates); len(names) > 0 {
		verb := "update"
		if creates {
			verb = "create"
		}
		return item{}, forbiddenAttributes(verb, k, names)
	}
	if err := a.schemas.checkRecord(schema, values); err != nil {
		return item{}, err
	}
	raw, err := json.Marshal(values)
	return item{values: values, raw: raw}, err
}

// settleProject makes project_id what the record shall have. tenant_id is its old name.
func settleProject(c *call, values map[string]any, creates bool) error {
	project, there := values["project_id"]
	if old, too := values["tenant_id"]; too {
		if there && old != project {
			return badRequest("'project_id' and 'tenant_id' do not match")
		}
		project, there = old, true
		delete(values, "tenant_id")
		values["project_id"] = old
	}
	if there && project != c.caller.ProjectID && !c.caller.admin {
		return badRequest("Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin privileges")
	}
	if !there && creates {
		values["project_id"] = c.caller.ProjectID
	}
	return nil
}

// checkAttributes refuses attributes that there are not, or that cannot be given, or that are missing.
func (k *resource) checkAttributes(values map[string]any, creates bool) error {
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		t, known := k.attributes[name]
		switch {
		case !known:
			unknown = append(unknown, shorten(name))
		case creates && t&creatable == 0:
			return badRequest("Attribute '%s' not allowed in POST", name)
		case !creates && t&changeable == 0:
			return badRequest("Cannot update read-only attribute %s", name)
		}
	}
	if len(unknown) > 0 {
		return badRequest("Unrecognized attribute(s) %s", quoted(strings.Join(unknown, ", ")))
	}
	for _, name := range k.required {
		if _, there := values[name]; creates && !there {
			return badRequest("Failed to parse request. Required attribute '%s' not specified", name)
		}
	}
	return nil
}

// adminsOnly are the attributes that the caller may not set.
func adminsOnly(c *call, k *resource, values map[string]any, creates bool) []string {
	if c.caller.admin {
		return nil
	}
	in := item{values: values}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if k.attributes[name]&adminSets != 0 && (!creates || in.says(name)) {
			names = append(names, name)
		}
	}
	return names
}
