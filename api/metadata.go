package api

import (
	"maps"
	"net/http"

	"compute-agent/compute"
)

func (a *api) showMetadata(c *call) (*answer, error) {
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"metadata": orEmpty(s.Metadata)})
}

func (a *api) showMetadataItem(c *call) (*answer, error) {
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	key := c.PathValue("key")
	value, there := s.Metadata[key]
	if !there {
		return nil, noMetadataItem()
	}
	return ok(map[string]any{"meta": map[string]string{key: value}})
}

func noMetadataItem() error { return notFound("Metadata item was not found") }

// changeMetadata changes the metadata of the server that the path names.
func (a *api) changeMetadata(c *call, change func(items map[string]string) error) (map[string]string, error) {
	s, err := a.server(c)
	if err != nil {
		return nil, err
	}
	s, err = a.Backend.UpdateServer(c.Context(), s.ID, compute.ServerChange{Metadata: change})
	return orEmpty(s.Metadata), err
}

func (a *api) addMetadata(c *call) (*answer, error) { return a.putMetadata(c, false) }

func (a *api) replaceMetadata(c *call) (*answer, error) { return a.putMetadata(c, true) }

func (a *api) putMetadata(c *call, replace bool) (*answer, error) {
	var req struct{ Metadata map[string]string }
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	all, err := a.changeMetadata(c, func(items map[string]string) error {
		if replace {
			clear(items)
		}
		maps.Copy(items, req.Metadata)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"metadata": all})
}

func (a *api) setMetadataItem(c *call) (*answer, error) {
	var req struct{ Meta map[string]string }
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	key := c.PathValue("key")
	value, same := req.Meta[key]
	if !same {
		return nil, badRequest("Request body and URI mismatch")
	}
	_, err := a.changeMetadata(c, func(items map[string]string) error {
		items[key] = value
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"meta": req.Meta})
}

func (a *api) deleteMetadataItem(c *call) (*answer, error) {
	_, err := a.changeMetadata(c, func(items map[string]string) error {
		key := c.PathValue("key")
		if _, there := items[key]; !there {
			return noMetadataItem()
		}
		delete(items, key)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return status(http.StatusNoContent)
}
