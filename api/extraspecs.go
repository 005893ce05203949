package api

import (
	"maps"
	"net/http"

	"compute-agent/compute"
)

func (a *api) listExtraSpecs(c *call) (*answer, error) {
	f, err := a.flavor(c)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"extra_specs": orEmpty(f.ExtraSpecs)})
}

func (a *api) showExtraSpec(c *call) (*answer, error) {
	f, err := a.flavor(c)
	if err != nil {
		return nil, err
	}
	key := c.PathValue("key")
	value, there := f.ExtraSpecs[key]
	if !there {
		return nil, noExtraSpec(f, key)
	}
	return ok(map[string]string{key: value})
}

func noExtraSpec(f compute.Flavor, key string) error {
	return notFound("Flavor %s has no extra specs with key %s.", f.ID, shorten(key))
}

func (a *api) createExtraSpecs(c *call) (*answer, error) {
	var req struct {
		Specs map[string]text `json:"extra_specs"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	specs := plainText(req.Specs)
	if err := a.addExtraSpecs(c, specs); err != nil {
		return nil, err
	}
	return ok(map[string]any{"extra_specs": specs})
}

func (a *api) updateExtraSpec(c *call) (*answer, error) {
	var req map[string]text
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	if _, same := req[c.PathValue("key")]; !same {
		return nil, badRequest("Request body and URI mismatch")
	}
	specs := plainText(req)
	if err := a.addExtraSpecs(c, specs); err != nil {
		return nil, err
	}
	return ok(specs)
}

// addExtraSpecs sets keys of a flavor. From 2.86 on their names and values are checked.
func (a *api) addExtraSpecs(c *call, specs map[string]string) error {
	if c.since(86) {
		if err := checkExtraSpecs(specs); err != nil {
			return err
		}
	}
	_, err := a.changeFlavor(c, func(f *compute.Flavor) error {
		all := maps.Clone(orEmpty(f.ExtraSpecs))
		maps.Copy(all, specs)
		f.ExtraSpecs = all
		return nil
	})
	return err
}

func (a *api) deleteExtraSpec(c *call) (*answer, error) {
	key := c.PathValue("key")
	_, err := a.changeFlavor(c, func(f *compute.Flavor) error {
		if _, there := f.ExtraSpecs[key]; !there {
			return noExtraSpec(*f, key)
		}
		all := maps.Clone(f.ExtraSpecs)
		delete(all, key)
		f.ExtraSpecs = all
		return nil
	})
	if err != nil {
		return nil, err
	}
	return status(http.StatusOK)
}

func plainText(m map[string]text) map[string]string {
	plain := make(map[string]string, len(m))
	for key, value := range m {
		plain[key] = string(value)
	}
	return plain
}
