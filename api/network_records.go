package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"compute-agent/compute"
	"compute-agent/neutron"
)

// view is a record as a user sees it.
type view = map[string]any

// trait says what an attribute of a record is for.
type trait uint

const (
	creatable trait = 1 << iota // may be given when the record is made
	changeable
	adminSets // by an admin only
	adminSees
	compound // neither a filter nor an order
	unseen   // in requests only

	settable = creatable | changeable
)

// resource is one kind of record of the network API: what it is called, what it has, and how it is read and changed. Reading, filters,
// policy and bodies are the same for all.
type resource struct {
	name, plural, path string // as in "security_group", "security_groups" and "security-groups"
	class, missing     string // of the fault when there is none; missing has a %s for the ID
	attributes         map[string]trait
	required           []string

	list   func(*records) ([]view, error)
	show   func(*records, string) (view, error)
	create func(*records, item) (view, error)
	update func(*records, string, item) (view, error) // nil when such a record never changes
	remove func(*records, string) error
	// visible tells whether others than the record's project may see it, owns whether they may change it; nil is no.
	visible, owns func(*records, view) bool
	// restricted are the attributes that an item has and the caller may not set, beyond those that only an admin may; before is the
	// record that is changed, nil for a new one.
	restricted func(r *records, before view, in item) []string
	// tag changes the tags of a record; nil when it has none.
	tag func(r *records, id string, change func(*[]string)) error
}

// records is a request of the network API with what it has read.
type records struct {
	*call
	api     *api
	nets    map[string]neutron.Network
	subnets map[string][]string // IDs, by network
	err     error               // the first one of a reader that a view asked
}

func (a *api) records(c *call) *records { return &records{call: c, api: a} }

func (r *records) ctx() context.Context { return r.Context() }

// network returns a network, the zero one if there is none.
func (r *records) network(id string) neutron.Network {
	if r.nets == nil {
		all, err := r.api.Backend.Networks(r.ctx())
		r.fail(err)
		r.nets = make(map[string]neutron.Network, len(all))
		for _, n := range all {
			r.nets[n.ID] = n
		}
	}
	return r.nets[id]
}

// recordRoutes is the table of a kind.
func (a *api) recordRoutes(k *resource) []route {
	routes := []route{
		{pattern: "GET /" + k.path, do: a.of(k, (*records).answerList)},
		{pattern: "POST /" + k.path, do: a.of(k, (*records).answerCreate), schema: k.name, read: a.readRecords(k)},
		{pattern: "GET /" + k.path + "/{id}", do: a.of(k, (*records).answerShow)},
		{pattern: "DELETE /" + k.path + "/{id}", do: a.of(k, (*records).answerDelete)},
	}
	if k.update != nil {
		routes = append(routes, route{pattern: "PUT /" + k.path + "/{id}", do: a.of(k, (*records).answerUpdate), schema: k.name, read: a.readRecords(k)})
	}
	if k.tag != nil {
		routes = append(routes, a.tagRoutes(k)...)
	}
	return routes
}

func (a *api) of(k *resource, do func(*records, *resource) (*answer, error)) func(*call) (*answer, error) {
	return func(c *call) (*answer, error) { return do(a.records(c), k) }
}

// none is the fault of a record that is not there, or not for the caller.
func (k *resource) none(id string) *fault {
	f := notFound(k.missing, shorten(id))
	f.class = k.class
	return f
}

// mine tells whether a record is of the caller's project, or the caller may act for all.
func (r *records) mine(v view) bool {
	project, _ := v["project_id"].(string)
	return r.caller.mine(project)
}

func (r *records) sees(k *resource, v view) bool {
	return r.mine(v) || (k.visible != nil && k.visible(r, v))
}

func (r *records) mayChange(k *resource, v view) bool {
	return r.mine(v) || (k.owns != nil && k.owns(r, v))
}

// find returns the record that an ID names, if the caller may see it.
func (r *records) find(k *resource, id string) (view, error) {
	v, err := k.show(r, id)
	if errors.Is(err, compute.ErrNotFound) || (err == nil && !r.sees(k, v)) {
		return nil, k.none(id)
	}
	return v, errors.Join(err, r.err)
}

// toChange is find for a record that the caller wants to change. As in Neutron, one that can be seen is forbidden, not missing.
func (r *records) toChange(k *resource, verb string) (view, error) {
	v, err := r.find(k, r.PathValue("id"))
	if err == nil && !r.mayChange(k, v) {
		err = notAuthorized("rule:" + verb + "_" + k.name)
	}
	return v, err
}

func notAuthorized(rules string) *fault {
	f := faultf(http.StatusForbidden, "%s is disallowed by policy", rules)
	f.class = "PolicyNotAuthorized"
	return f
}

func (r *records) answerShow(k *resource) (*answer, error) {
	v, err := r.find(k, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{k.name: r.shown(k, v, r.URL.Query()["fields"])})
}

// shown is the part of a record that the caller may see and asks for.
func (r *records) shown(k *resource, v view, fields []string) view {
	out := view{}
	for name, value := range v {
		t := k.attributes[name]
		if t&unseen == 0 && (t&adminSees == 0 || r.caller.admin) {
			out[name] = value
		}
	}
	if fields = notEmpty(fields); len(fields) == 0 {
		return out
	}
	part := view{}
	for _, name := range fields {
		if value, there := out[name]; there {
			part[name] = value
		}
	}
	return part
}

func notEmpty(words []string) []string {
	var some []string
	for _, w := range words {
		if w != "" {
			some = append(some, w)
		}
	}
	return some
}

// answerCreate makes one record, or all of several or none.
func (r *records) answerCreate(k *resource) (*answer, error) {
	made := make([]view, 0, len(r.items))
	for _, in := range r.items {
		v, err := r.createOne(k, in)
		if err != nil {
			return nil, errors.Join(err, r.undo(k, made))
		}
		made = append(made, v)
	}
	shown := make([]any, len(made))
	for i, v := range made {
		shown[i] = r.shown(k, v, nil)
	}
	if r.bulk {
		return &answer{status: http.StatusCreated, body: map[string]any{k.plural: shown}}, nil
	}
	return &answer{status: http.StatusCreated, body: map[string]any{k.name: shown[0]}}, nil
}

func (r *records) createOne(k *resource, in item) (view, error) {
	if k.restricted != nil {
		if names := k.restricted(r, nil, in); len(names) > 0 {
			return nil, forbiddenAttributes("create", k, names)
		}
	}
	v, err := k.create(r, in)
	return v, errors.Join(err, r.err)
}

func (r *records) undo(k *resource, made []view) error {
	var failed error
	for _, v := range made {
		id, _ := v["id"].(string)
		failed = errors.Join(failed, k.remove(r, id))
	}
	return failed
}

func (r *records) answerUpdate(k *resource) (*answer, error) {
	before, err := r.toChange(k, "update")
	if err != nil {
		return nil, err
	}
	in := r.items[0]
	if k.restricted != nil {
		if names := k.restricted(r, before, in); len(names) > 0 {
			return nil, forbiddenAttributes("update", k, names)
		}
	}
	v, err := k.update(r, r.PathValue("id"), in)
	if err = errors.Join(err, r.err); err != nil {
		return nil, err
	}
	return ok(map[string]any{k.name: r.shown(k, v, nil)})
}

// forbiddenAttributes names the rules of Neutron's policy that refuse some attributes.
func forbiddenAttributes(verb string, k *resource, names []string) *fault {
	rules := []string{"rule:" + verb + "_" + k.name}
	for _, name := range names {
		rules = append(rules, rules[0]+":"+name)
	}
	return notAuthorized("(" + strings.Join(rules, " and ") + ")")
}

func (r *records) answerDelete(k *resource) (*answer, error) {
	if _, err := r.toChange(k, "delete"); err != nil {
		return nil, err
	}
	if err := k.remove(r, r.PathValue("id")); err != nil {
		return nil, err
	}
	return status(http.StatusNoContent)
}

// viewsOf renders a list.
func viewsOf[T any](all []T, err error, show func(T) view) ([]view, error) {
	if err != nil {
		return nil, err
	}
	views := make([]view, len(all))
	for i, record := range all {
		views[i] = show(record)
	}
	return views, nil
}

// viewOf renders a record.
func viewOf[T any](record T, err error, show func(T) view) (view, error) {
	if err != nil {
		return nil, err
	}
	return show(record), nil
}

// fail keeps the error of a reader.
func (r *records) fail(err error) { r.err = errors.Join(r.err, err) }
