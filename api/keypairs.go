package api

import (
	"errors"
	"net/http"

	"compute-agent/compute"
)

func (a *api) keypairRoutes() []route {
	return []route{
		{pattern: "GET /os-keypairs", do: a.listKeypairs},
		{pattern: "POST /os-keypairs", do: a.createKeypair, schema: "keypair_create"},
		{pattern: "GET /os-keypairs/{name}", do: a.showKeypair},
		{pattern: "DELETE /os-keypairs/{name}", do: a.deleteKeypair},
	}
}

// keypairOwner is the caller, or from 2.10 on whom an admin names.
func keypairOwner(c *call, named string) (string, error) {
	if named == "" || named == c.caller.UserID || !c.since(10) {
		return c.caller.UserID, nil
	}
	if !c.caller.admin {
		return "", faultf(http.StatusForbidden, "Policy doesn't allow other users' keypairs to be seen or changed.")
	}
	return named, nil
}

func keypairView(c *call, k compute.Keypair) map[string]any {
	view := map[string]any{"name": k.Name, "public_key": k.PublicKey, "fingerprint": k.Fingerprint}
	if c.since(2) {
		view["type"] = k.Type
	}
	return view
}

var keypairQuery = []string{"user_id", "limit", "marker"}

func (a *api) listKeypairs(c *call) (*answer, error) {
	q := newQuery(c, c.since(75), keypairQuery)
	p := page{limit: maxLimit}
	if c.since(35) {
		p = q.page()
	}
	if q.err != nil {
		return nil, q.err
	}
	owner, err := keypairOwner(c, q.text("user_id"))
	if err != nil {
		return nil, err
	}
	all, err := a.Backend.Keypairs(c.Context(), owner)
	if err != nil {
		return nil, err
	}
	part, more, err := cut(all, p, func(k compute.Keypair) string { return k.Name })
	if err != nil {
		return nil, err
	}
	views := []any{}
	for _, k := range part {
		views = append(views, map[string]any{"keypair": keypairView(c, k)})
	}
	body := map[string]any{"keypairs": views}
	if more && c.since(35) && len(part) > 0 {
		body["keypairs_links"] = nextLinks(c, part[len(part)-1].Name)
	}
	return ok(body)
}

func (a *api) createKeypair(c *call) (*answer, error) {
	var req struct {
		Keypair struct {
			Name      string
			PublicKey string `json:"public_key"`
			Type      string
			UserID    string `json:"user_id"`
		}
	}
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	in := req.Keypair
	owner, err := keypairOwner(c, in.UserID)
	if err != nil {
		return nil, err
	}
	k, err := a.Backend.CreateKeypair(c.Context(), compute.Keypair{UserID: owner, Name: in.Name, Type: in.Type, PublicKey: in.PublicKey})
	if errors.Is(err, compute.ErrExists) {
		return nil, faultf(http.StatusConflict, "Key pair '%s' already exists.", in.Name)
	}
	if err != nil {
		return nil, err
	}
	view := keypairView(c, k)
	view["user_id"] = k.UserID
	if k.PrivateKey != "" {
		view["private_key"] = k.PrivateKey
	}
	code := http.StatusOK
	if c.since(2) {
		code = http.StatusCreated
	}
	return &answer{status: code, body: map[string]any{"keypair": view}}, nil
}

// keypairOf finds whose keypair the path and the query name.
func keypairOf(c *call) (owner, name string, err error) {
	owner, err = keypairOwner(c, c.URL.Query().Get("user_id"))
	return owner, c.PathValue("name"), err
}

func noKeypair(owner, name string) error {
	return notFound("Keypair %s not found for user %s", shorten(name), owner)
}

func (a *api) showKeypair(c *call) (*answer, error) {
	owner, name, err := keypairOf(c)
	if err != nil {
		return nil, err
	}
	k, err := a.Backend.Keypair(c.Context(), owner, name)
	if errors.Is(err, compute.ErrNotFound) {
		return nil, noKeypair(owner, name)
	}
	if err != nil {
		return nil, err
	}
	view := keypairView(c, k)
	view["user_id"] = k.UserID
	view["created_at"] = usageTime(k.Created)
	view["updated_at"], view["deleted_at"], view["deleted"] = nil, nil, false
	return ok(map[string]any{"keypair": view})
}

func (a *api) deleteKeypair(c *call) (*answer, error) {
	owner, name, err := keypairOf(c)
	if err != nil {
		return nil, err
	}
	err = a.Backend.DeleteKeypair(c.Context(), owner, name)
	if errors.Is(err, compute.ErrNotFound) {
		return nil, noKeypair(owner, name)
	}
	if err != nil {
		return nil, err
	}
	if c.since(2) {
		return status(http.StatusNoContent)
	}
	return status(http.StatusAccepted)
}
