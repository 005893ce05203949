package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"

	"compute-agent/cinder"
)

// sinceETags is the microversion since which a client can say of which metadata its change is one.
const sinceETags microversion = 15

// words are a kind of records with metadata: how one is found, and how its metadata is changed.
type words struct {
	missing string // of the fault for a key that there is not, with the ID and the key
	find    func(a *api, c *call) (id string, metadata map[string]string, err error)
	change  func(a *api, c *call, id string, change func(map[string]string) error) (map[string]string, error)
}

var volumeWords = words{
	missing: "Volume %s has no metadata with key %s.",
	find: func(a *api, c *call) (string, map[string]string, error) {
		v, err := a.volume(c)
		return v.ID, v.Metadata, err
	},
	change: func(a *api, c *call, id string, change func(map[string]string) error) (map[string]string, error) {
		v, err := a.Backend.UpdateVolume(c.Context(), id, func(v *cinder.Volume) error {
			v.Metadata = copyOf(v.Metadata)
			return change(v.Metadata)
		})
		return v.Metadata, err
	},
}

var snapshotWords = words{
	missing: "Snapshot %s has no metadata with key %s.",
	find: func(a *api, c *call) (string, map[string]string, error) {
		s, err := a.snapshot(c)
		return s.ID, s.Metadata, err
	},
	change: func(a *api, c *call, id string, change func(map[string]string) error) (map[string]string, error) {
		s, err := a.Backend.UpdateSnapshot(c.Context(), id, func(s *cinder.Snapshot) error {
			s.Metadata = copyOf(s.Metadata)
			return change(s.Metadata)
		})
		return s.Metadata, err
	},
}

// copyOf is a map that can be changed.
func copyOf(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}

// volumeMetadataRoutes are those of the metadata of a kind of records.
func (a *api) volumeMetadataRoutes(path string, w words) []route {
	of := func(do func(words, *api, *call) (*answer, error)) func(*call) (*answer, error) {
		return func(c *call) (*answer, error) { return do(w, a, c) }
	}
	return []route{
		{pattern: "GET " + path + "/metadata", do: of(words.show)},
		{pattern: "POST " + path + "/metadata", do: of(words.add), schema: "volume_metadata"},
		{pattern: "PUT " + path + "/metadata", do: of(words.replace), schema: "volume_metadata"},
		{pattern: "GET " + path + "/metadata/{key}", do: of(words.showItem)},
		{pattern: "PUT " + path + "/metadata/{key}", do: of(words.setItem), schema: "volume_metadata_item"},
		{pattern: "DELETE " + path + "/metadata/{key}", do: of(words.deleteItem)},
	}
}

// metadataTag changes when the metadata does.
func metadataTag(metadata map[string]string) string {
	text, err := json.Marshal(orEmpty(metadata))
	if err != nil { // a map of texts
		panic("api: metadata cannot be marshalled: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

func (w words) show(a *api, c *call) (*answer, error) {
	_, metadata, err := w.find(a, c)
	if err != nil {
		return nil, err
	}
	ans := &answer{status: http.StatusOK, body: map[string]any{"metadata": orEmpty(metadata)}}
	if c.since(sinceETags) {
		ans = ans.with("Etag", metadataTag(metadata))
	}
	return ans, nil
}

func (w words) showItem(a *api, c *call) (*answer, error) {
	id, metadata, err := w.find(a, c)
	if err != nil {
		return nil, err
	}
	key := c.PathValue("key")
	value, there := metadata[key]
	if !there {
		return nil, notFound(w.missing, id, shorten(key))
	}
	return ok(map[string]any{"meta": map[string]string{key: value}})
}

func (w words) add(a *api, c *call) (*answer, error) { return w.put(a, c, false) }

func (w words) replace(a *api, c *call) (*answer, error) { return w.put(a, c, true) }

func (w words) put(a *api, c *call, replace bool) (*answer, error) {
	var req struct{ Metadata map[string]string }
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	id, _, err := w.find(a, c)
	if err != nil {
		return nil, err
	}
	all, err := w.change(a, c, id, func(items map[string]string) error {
		if tag := c.Header.Get("If-Match"); tag != "" && c.since(sinceETags) && tag != metadataTag(items) {
			return faultf(http.StatusPreconditionFailed, "The metadata has been changed since it was read.")
		}
		if replace {
			clear(items)
		}
		maps.Copy(items, req.Metadata)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"metadata": orEmpty(all)})
}

func (w words) setItem(a *api, c *call) (*answer, error) {
	var req struct{ Meta map[string]string }
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	id, _, err := w.find(a, c)
	if err != nil {
		return nil, err
	}
	key := c.PathValue("key")
	value, same := req.Meta[key]
	if !same {
		return nil, badRequest("Request body and URI mismatch")
	}
	_, err = w.change(a, c, id, func(items map[string]string) error { items[key] = value; return nil })
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"meta": req.Meta})
}

func (w words) deleteItem(a *api, c *call) (*answer, error) {
	id, _, err := w.find(a, c)
	if err != nil {
		return nil, err
	}
	key := c.PathValue("key")
	_, err = w.change(a, c, id, func(items map[string]string) error {
		if _, there := items[key]; !there {
			return notFound(w.missing, id, shorten(key))
		}
		delete(items, key)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return status(http.StatusOK)
}
