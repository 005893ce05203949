package api

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"

	"compute-agent/cinder"
)

func (a *api) qosRoutes() []route {
	const one = "/qos-specs/{id}"
	return []route{
		{pattern: "GET /qos-specs", do: a.listQoS, access: forAdmin},
		{pattern: "POST /qos-specs", do: a.createQoS, access: forAdmin, schema: "qos_create"},
		{pattern: "GET " + one, do: a.showQoS, access: forAdmin},
		{pattern: "PUT " + one, do: a.updateQoS, access: forAdmin, schema: "qos_update"},
		{pattern: "DELETE " + one, do: a.deleteQoS, access: forAdmin},
		{pattern: "PUT " + one + "/delete_keys", do: a.deleteQoSKeys, access: forAdmin, schema: "qos_delete_keys"},
		{pattern: "GET " + one + "/associations", do: a.listAssociations, access: forAdmin},
		{pattern: "GET " + one + "/associate", do: a.associate, access: forAdmin},
		{pattern: "GET " + one + "/disassociate", do: a.disassociate, access: forAdmin},
		{pattern: "GET " + one + "/disassociate_all", do: a.disassociateAll, access: forAdmin},
	}
}

var qosListing = listing[cinder.QoS]{
	missing: "No such QoS spec %s.",
	id:      func(q cinder.QoS) string { return q.ID },
	filters: map[string]func(cinder.QoS) string{
		"id": func(q cinder.QoS) string { return q.ID }, "name": func(q cinder.QoS) string { return q.Name },
		"consumer": func(q cinder.QoS) string { return q.Consumer },
	},
	order: map[string]func(a, b cinder.QoS) int{
		"created_at": func(a, b cinder.QoS) int { return a.Created.Compare(b.Created) },
		"id":         func(a, b cinder.QoS) int { return cmp.Compare(a.ID, b.ID) },
		"name":       func(a, b cinder.QoS) int { return cmp.Compare(a.Name, b.Name) },
	},
}

func qosView(q cinder.QoS) view {
	return view{"id": q.ID, "name": q.Name, "consumer": q.Consumer, "specs": orEmpty(q.Specs)}
}

func answerQoS(c *call, q cinder.QoS, err error) (*answer, error) {
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"qos_specs": qosView(q), "links": volumeLinks(c, "/qos-specs/"+q.ID)})
}

// qos finds the QoS specs that the path names.
func (a *api) qos(c *call) (cinder.QoS, error) {
	id := c.PathValue("id")
	q, err := a.Backend.QoS(c.Context(), id)
	if isMissing(err) {
		return q, notFound("No such QoS spec %s.", shorten(id))
	}
	return q, err
}

func (a *api) listQoS(c *call) (*answer, error) {
	all, err := a.Backend.QoSSpecs(c.Context())
	if err != nil {
		return nil, err
	}
	p, err := qosListing.find(c, all)
	if err != nil {
		return nil, err
	}
	return p.answer("qos_specs", "qos_specs_links", qosView)
}

func (a *api) showQoS(c *call) (*answer, error) {
	q, err := a.qos(c)
	return answerQoS(c, q, err)
}

// qosSpecs are the specs of a body, in which name and consumer are among them.
func qosSpecs(c *call) (map[string]string, error) {
	var req struct {
		Specs map[string]*string `json:"qos_specs"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	specs := map[string]string{}
	for key, value := range req.Specs {
		specs[key] = deref(value)
	}
	return specs, nil
}

// takeConsumer takes the consumer out of specs; otherwise when it is not among them.
func takeConsumer(specs map[string]string, otherwise string) string {
	consumer, there := specs["consumer"]
	delete(specs, "consumer")
	if !there {
		return otherwise
	}
	return consumer
}

func (a *api) createQoS(c *call) (*answer, error) {
	specs, err := qosSpecs(c)
	if err != nil {
		return nil, err
	}
	name := specs["name"]
	delete(specs, "name")
	q, err := a.Backend.CreateQoS(c.Context(), cinder.QoS{Name: strings.TrimSpace(name), Consumer: takeConsumer(specs, ""), Specs: specs})
	return answerQoS(c, q, err)
}

// updateQoS adds specs and changes those that there are.
func (a *api) updateQoS(c *call) (*answer, error) {
	specs, err := qosSpecs(c)
	if err != nil {
		return nil, err
	}
	asked := maps.Clone(specs)
	err = a.changeQoS(c, func(q *cinder.QoS) error {
		q.Consumer = takeConsumer(specs, q.Consumer)
		maps.Copy(q.Specs, specs)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"qos_specs": asked})
}

// changeQoS changes the QoS specs that the path names.
func (a *api) changeQoS(c *call, change func(*cinder.QoS) error) error {
	q, err := a.qos(c)
	if err != nil {
		return err
	}
	_, err = a.Backend.UpdateQoS(c.Context(), q.ID, func(q *cinder.QoS) error {
		q.Specs = copyOf(q.Specs)
		return change(q)
	})
	return err
}

func (a *api) deleteQoSKeys(c *call) (*answer, error) {
	var req struct{ Keys []string }
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	err := a.changeQoS(c, func(q *cinder.QoS) error {
		for _, key := range req.Keys {
			if _, there := q.Specs[key]; !there {
				return notFound("QoS spec %s has no spec with key %s.", q.ID, shorten(key))
			}
			delete(q.Specs, key)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

// associated are the volume types that have some QoS specs.
func (a *api) associated(c *call, qosID string) ([]cinder.Type, error) {
	types, err := a.Backend.VolumeTypes(c.Context())
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(types), func(t cinder.Type) bool { return t.QoSID != qosID }), nil
}

// deleteQoS deletes QoS specs, by force also such as types have.
func (a *api) deleteQoS(c *call) (*answer, error) {
	q, err := a.qos(c)
	if err != nil {
		return nil, err
	}
	if force, _ := parseBool(c.URL.Query().Get("force")); force {
		if err := a.freeQoS(c, q); err != nil {
			return nil, err
		}
	}
	if err := a.Backend.DeleteQoS(c.Context(), q.ID); err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

func (a *api) setQoS(c *call, types []cinder.Type, qosID string) error {
	for _, t := range types {
		_, err := a.Backend.UpdateVolumeType(c.Context(), t.ID, func(t *cinder.Type) error { t.QoSID = qosID; return nil })
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *api) listAssociations(c *call) (*answer, error) {
	q, err := a.qos(c)
	if err != nil {
		return nil, err
	}
	types, err := a.associated(c, q.ID)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"qos_associations": listOf(types, func(t cinder.Type) view {
		return view{"association_type": "volume_type", "name": t.Name, "id": t.ID}
	})})
}

// pair finds the QoS specs of the path and the volume type of the parameter.
func (a *api) pair(c *call) (q cinder.QoS, t cinder.Type, err error) {
	id := c.URL.Query().Get("vol_type_id")
	if id == "" {
		return q, t, badRequest("Volume Type id must not be None.")
	}
	if q, err = a.qos(c); err != nil {
		return q, t, err
	}
	t, err = a.Backend.VolumeType(c.Context(), id)
	if isMissing(err) {
		err = notFound("Volume type %s could not be found.", shorten(id))
	}
	return q, t, err
}

func (a *api) associate(c *call) (*answer, error) {
	q, t, err := a.pair(c)
	if err != nil {
		return nil, err
	}
	if t.QoSID != "" && t.QoSID != q.ID {
		return nil, badRequest("Invalid volume type: Type %s is already associated with another qos specs: %s", t.ID, t.QoSID)
	}
	if err := a.setQoS(c, []cinder.Type{t}, q.ID); err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

func (a *api) disassociate(c *call) (*answer, error) {
	q, t, err := a.pair(c)
	if err != nil {
		return nil, err
	}
	if t.QoSID == q.ID {
		err = a.setQoS(c, []cinder.Type{t}, "")
	}
	if err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

func (a *api) disassociateAll(c *call) (*answer, error) {
	q, err := a.qos(c)
	if err != nil {
		return nil, err
	}
	if err := a.freeQoS(c, q); err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

// freeQoS takes QoS specs from all types that have them.
func (a *api) freeQoS(c *call, q cinder.QoS) error {
	types, err := a.associated(c, q.ID)
	if err != nil {
		return err
	}
	return a.setQoS(c, types, "")
}
