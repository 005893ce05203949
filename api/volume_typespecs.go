package api

import (
	"maps"
	"net/http"

	"github.com/google/uuid"

	"compute-agent/cinder"
)

// typeSpecRoutes are those of what a volume type asks of its backend, and of how its volumes are encrypted.
func (a *api) typeSpecRoutes() []route {
	return []route{
		{pattern: "GET /types/{id}/extra_specs", do: a.listTypeSpecs},
		{pattern: "POST /types/{id}/extra_specs", do: a.addTypeSpecs, access: forAdmin, schema: "volume_type_specs"},
		{pattern: "GET /types/{id}/extra_specs/{key}", do: a.showTypeSpec},
		{pattern: "PUT /types/{id}/extra_specs/{key}", do: a.setTypeSpec, access: forAdmin, schema: "volume_type_spec"},
		{pattern: "DELETE /types/{id}/extra_specs/{key}", do: a.deleteTypeSpec, access: forAdmin},
		{pattern: "GET /types/{id}/encryption", do: a.showTypeEncryption, access: forAdmin},
		{pattern: "POST /types/{id}/encryption", do: a.createTypeEncryption, access: forAdmin, schema: "volume_type_encryption_create"},
		{pattern: "GET /types/{id}/encryption/{key}", do: a.showTypeEncryptionItem, access: forAdmin},
		{pattern: "PUT /types/{id}/encryption/{key}", do: a.updateTypeEncryption, access: forAdmin, schema: "volume_type_encryption_update"},
		{pattern: "DELETE /types/{id}/encryption/{key}", do: a.deleteTypeEncryption, access: forAdmin},
	}
}

func (a *api) listTypeSpecs(c *call) (*answer, error) {
	t, err := a.volumeType(c)
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"extra_specs": shownSpecs(c, t)})
}

func (a *api) showTypeSpec(c *call) (*answer, error) {
	t, err := a.volumeType(c)
	if err != nil {
		return nil, err
	}
	key := c.PathValue("key")
	value, there := shownSpecs(c, t)[key]
	if !there {
		return nil, noTypeSpec(t, key)
	}
	return ok(map[string]string{key: value})
}

func noTypeSpec(t cinder.Type, key string) error {
	return notFound("Volume Type %s has no extra specs with key %s.", t.ID, shorten(key))
}

// changeSpecs changes the extra specs of the type that the path names.
func (a *api) changeSpecs(c *call, change func(t cinder.Type, specs map[string]string) error) error {
	_, err := a.changeType(c, func(t *cinder.Type) error {
		t.ExtraSpecs = copyOf(t.ExtraSpecs)
		return change(*t, t.ExtraSpecs)
	})
	return err
}

func (a *api) addTypeSpecs(c *call) (*answer, error) {
	var req struct {
		Specs map[string]string `json:"extra_specs"`
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	err := a.changeSpecs(c, func(_ cinder.Type, specs map[string]string) error { maps.Copy(specs, req.Specs); return nil })
	if err != nil {
		return nil, err
	}
	return ok(map[string]any{"extra_specs": req.Specs})
}

func (a *api) setTypeSpec(c *call) (*answer, error) {
	req := map[string]string{}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	if _, same := req[c.PathValue("key")]; !same {
		return nil, badRequest("Request body and URI mismatch")
	}
	err := a.changeSpecs(c, func(_ cinder.Type, specs map[string]string) error { maps.Copy(specs, req); return nil })
	if err != nil {
		return nil, err
	}
	return ok(req)
}

func (a *api) deleteTypeSpec(c *call) (*answer, error) {
	err := a.changeSpecs(c, func(t cinder.Type, specs map[string]string) error {
		key := c.PathValue("key")
		if _, there := specs[key]; !there {
			return noTypeSpec(t, key)
		}
		delete(specs, key)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}

// encryptionView is a type's encryption as a record of its own; empty for none.
func encryptionView(t cinder.Type) view {
	e := t.Encryption
	if e == nil {
		return view{}
	}
	return view{
		"volume_type_id": t.ID, "encryption_id": e.ID, "provider": e.Provider, "cipher": orNull(e.Cipher), "key_size": orNone0(e.KeySize),
		"control_location": e.Location, "created_at": cinderTime(t.Created), "updated_at": cinderTime(t.Updated), "deleted": false, "deleted_at": nil,
	}
}

func (a *api) showTypeEncryption(c *call) (*answer, error) {
	t, err := a.volumeType(c)
	if err != nil {
		return nil, err
	}
	return ok(encryptionView(t))
}

func (a *api) showTypeEncryptionItem(c *call) (*answer, error) {
	t, err := a.volumeType(c)
	if err != nil {
		return nil, err
	}
	key := c.PathValue("key")
	value, there := encryptionView(t)[key]
	if !there {
		return nil, noTypeEncryption(t)
	}
	return ok(view{key: value})
}

func noTypeEncryption(t cinder.Type) error {
	return notFound("Volume type encryption for type %s does not exist.", t.ID)
}

type encryptionBody struct {
	Encryption struct {
		Provider optional[string]   `json:"provider"`
		Cipher   optional[string]   `json:"cipher"`
		KeySize  optional[*integer] `json:"key_size"`
		Location optional[string]   `json:"control_location"`
	} `json:"encryption"`
}

func (b encryptionBody) change(e *cinder.Encryption) {
	b.Encryption.Provider.set(&e.Provider)
	b.Encryption.Cipher.set(&e.Cipher)
	b.Encryption.Location.set(&e.Location)
	if size := b.Encryption.KeySize; size.given {
		e.KeySize = int(deref(size.value))
	}
}

// changeEncryption changes the encryption of the type that the path names.
func (a *api) changeEncryption(c *call, change func(*cinder.Type) error) (cinder.Type, error) {
	t, err := a.volumeType(c)
	if err != nil {
		return t, err
	}
	return a.Backend.UpdateVolumeType(c.Context(), t.ID, change)
}

func (a *api) createTypeEncryption(c *call) (*answer, error) {
	var req encryptionBody
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	t, err := a.changeEncryption(c, func(t *cinder.Type) error {
		if t.Encryption != nil {
			return badRequest("Volume type encryption for type %s already exists.", t.ID)
		}
		t.Encryption = &cinder.Encryption{ID: uuid.NewString()}
		req.change(t.Encryption)
		return nil
	})
	return answerEncryption(t, err)
}

func (a *api) updateTypeEncryption(c *call) (*answer, error) {
	var req encryptionBody
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	t, err := a.changeEncryption(c, func(t *cinder.Type) error {
		if t.Encryption == nil {
			return noTypeEncryption(*t)
		}
		changed := *t.Encryption
		req.change(&changed)
		t.Encryption = &changed
		return nil
	})
	return answerEncryption(t, err)
}

func answerEncryption(t cinder.Type, err error) (*answer, error) {
	if err != nil {
		return nil, err
	}
	out := encryptionView(t)
	for _, name := range []string{"created_at", "updated_at", "deleted", "deleted_at"} {
		delete(out, name)
	}
	return ok(map[string]any{"encryption": out})
}

func (a *api) deleteTypeEncryption(c *call) (*answer, error) {
	_, err := a.changeEncryption(c, func(t *cinder.Type) error {
		if t.Encryption == nil {
			return noTypeEncryption(*t)
		}
		t.Encryption = nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	return status(http.StatusAccepted)
}
