package api

import (
	"encoding/base64"
	"net/http"
	"path"

	"compute-agent/compute"
)

// The microversions in which rebuild and rescue changed.
const (
	sinceRebuildKey   microversion = 54 // the key can be changed, and is shown
	sinceRebuildData  microversion = 57 // so can user data
	sinceVolumeRescue microversion = 87 // a server that boots from a volume can be rescued
)

// rebuildAsked is the body of the action rebuild.
type rebuildAsked struct {
	Rebuild struct {
		ImageRef    string            `json:"imageRef"`
		Name        *string           `json:"name"`
		Description *string           `json:"description"`
		AdminPass   string            `json:"adminPass"`
		Metadata    map[string]string `json:"metadata"`
		Preserve    boolean           `json:"preserve_ephemeral"`
		Personality []any             `json:"personality"`
		accessAddresses
		KeyName      *string  `json:"key_name"`
		UserData     *string  `json:"user_data"`
		Certificates []string `json:"trusted_image_certificates"`
	} `json:"rebuild"`
}

// rebuild answers with the server as it will be, as Nova does.
func (a *api) rebuild(c *call, s compute.Server) (*answer, error) {
	var asked rebuildAsked
	if err := c.decode(&asked); err != nil {
		return nil, err
	}
	req, err := a.rebuildRequest(c, s, asked)
	if err != nil {
		return nil, err
	}
	if s, err = a.Backend.RebuildServer(c.Context(), s.ID, req); err != nil {
		return nil, missingParts(err)
	}
	has, err := a.belongings(c)
	if err != nil {
		return nil, err
	}
	view := a.rebuiltView(c, s, has)
	if req.AdminPassword != "" {
		view["adminPass"] = req.AdminPassword
	}
	ans := &answer{status: http.StatusAccepted, body: map[string]any{"server": view}}
	return ans.with("Location", serverLinks(c, s.ID)[0].Href), nil
}

// rebuildRequest translates what was asked; null takes away what there was.
func (a *api) rebuildRequest(c *call, s compute.Server, asked rebuildAsked) (req compute.RebuildRequest, err error) {
	in := asked.Rebuild
	switch {
	case bool(in.Preserve): // Nova's words, which it finds too late
		return req, badRequest("The current driver does not support preserving ephemeral partitions.")
	case len(in.Personality) > 0:
		return req, badRequest("Personality files are not supported; use user data.")
	case len(in.Certificates) > 0:
		return req, badRequest("Trusted image certificates are not supported.")
	case len(in.Metadata) > maxMetadata:
		return req, faultf(http.StatusForbidden, "Maximum number of metadata items exceeds %d", maxMetadata)
	}
	req = compute.RebuildRequest{
		ImageID: path.Base(in.ImageRef), Name: in.Name, Description: in.Description, Metadata: in.Metadata, KeyName: in.KeyName, UserID: c.caller.UserID,
		AdminPassword: otherPassword(s, in.AdminPass),
	}
	if !s.BootsFromVolume() { // whose volume must be of the image: the core says so
		if err := a.mayUseImage(c, req.ImageID); err != nil {
			return req, badRequest("Cannot find image for rebuild")
		}
	}
	if req.AccessIPv4, req.AccessIPv6, err = in.read(); err != nil {
		return req, err
	}
	null := func(key string) bool { return mentions(c.value, "rebuild", key) }
	if in.Description == nil && null("description") {
		req.Description = new(string)
	}
	if in.KeyName == nil && null("key_name") {
		req.KeyName = new(string)
	}
	if null("user_data") {
		data, err := base64.StdEncoding.DecodeString(deref(in.UserData))
		if err != nil { // the schema has checked it
			return req, badRequest("Invalid input for field/attribute user_data.")
		}
		req.UserData = &data
	}
	return req, nil
}

// otherPassword is the password of a server's other system: the one that was asked for, or with a config drive a random one.
func otherPassword(s compute.Server, asked string) string {
	if asked == "" && s.ConfigDrive {
		return randomPassword()
	}
	return asked
}

// rebuiltView is all of the server from 2.75 on.
func (a *api) rebuiltView(c *call, s compute.Server, has *belongings) map[string]any {
	if c.since(75) {
		return a.oneServer(c, s, has)
	}
	view := a.serverCore(c, s, has)
	if c.since(sinceRebuildKey) {
		view["key_name"] = nil
		if s.Keypair != nil {
			view["key_name"] = s.Keypair.Name
		}
	}
	if c.since(sinceRebuildData) {
		view["user_data"] = nil
		if len(s.UserData) > 0 {
			view["user_data"] = base64.StdEncoding.EncodeToString(s.UserData)
		}
	}
	if c.since(71) {
		view["server_groups"] = []any{}
	}
	return view
}

// rescue answers 200, as Nova does, though it has only begun.
func (a *api) rescue(c *call, s compute.Server) (*answer, error) {
	var asked struct {
		Rescue struct {
			AdminPass string `json:"adminPass"`
			ImageRef  string `json:"rescue_image_ref"`
		} `json:"rescue"`
	}
	if err := c.decode(&asked); err != nil {
		return nil, err
	}
	req := compute.RescueRequest{
		ImageID: asked.Rescue.ImageRef, AdminPassword: otherPassword(s, asked.Rescue.AdminPass), FromVolume: c.since(sinceVolumeRescue),
	}
	if err := a.mayUseImage(c, req.ImageID); err != nil {
		return nil, badRequest("Requested rescue image '%s' cannot be used", shorten(req.ImageID))
	}
	if err := a.Backend.RescueServer(c.Context(), s.ID, req); err != nil {
		return nil, missingParts(err)
	}
	body := map[string]any{}
	if req.AdminPassword != "" {
		body["adminPass"] = req.AdminPassword
	}
	return ok(body)
}
