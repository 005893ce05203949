package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"compute-agent/identity"
)

// authRequest is the body of POST /v3/auth/tokens.
type authRequest struct {
	Auth struct {
		Identity struct {
			Methods  []string
			Password struct {
				User struct {
					ID, Name, Password string
					Domain             identity.Domain
				}
			}
			Token struct{ ID string }
		}
		Scope scope
	}
}

// scope is what a token is asked for: a project, or nothing ("unscoped", or no scope at all).
type scope struct {
	Project *struct {
		ID, Name string
		Domain   identity.Domain
	}
	asked    bool // for a project, or for something that there is none of
	unscoped bool // asked for none
}

// UnmarshalJSON also takes the word "unscoped". The schema has refused other words.
func (s *scope) UnmarshalJSON(data []byte) error {
	if s.unscoped = strings.HasPrefix(string(data), `"`); s.unscoped {
		return nil
	}
	s.asked = true
	type plain scope
	return json.Unmarshal(data, (*plain)(s))
}

// issueToken logs a user in, or exchanges a token for another.
func (a *api) issueToken(c *call) (*answer, error) {
	var req authRequest
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	grant, err := a.authorize(c, req)
	if err != nil {
		return nil, err
	}
	if s := req.Auth.Scope; s.asked {
		if s.Project == nil || !grant.User.Owns(identity.Project(*s.Project)) {
			return nil, unauthorized(nil)
		}
		grant.Scoped = true
	}
	secret, token, err := a.Identity.Issue(c.Context(), grant)
	if err != nil {
		return nil, identityError(err)
	}
	ans := &answer{status: http.StatusCreated, body: tokenView(c, token, grant.User)}
	return ans.with(headerSubjectToken, secret).with("Vary", headerToken), nil
}

// authorize checks the credentials of a login.
func (a *api) authorize(c *call, req authRequest) (identity.Grant, error) {
	id := req.Auth.Identity
	switch {
	case slices.Equal(id.Methods, []string{identity.MethodPassword}):
		u := id.Password.User
		user, err := a.Identity.Login(c.Context(), identity.Credential{
			UserID: u.ID, UserName: u.Name, Domain: u.Domain, Password: u.Password,
		})
		if err != nil {
			return identity.Grant{}, identityError(err)
		}
		// A login without a scope is good for the user's own project, as with Keystone's default project.
		return identity.Grant{User: user, Methods: id.Methods, Scoped: !req.Auth.Scope.asked && !req.Auth.Scope.unscoped}, nil
	case slices.Equal(id.Methods, []string{identity.MethodToken}):
		token, user, err := a.Identity.Verify(c.Context(), id.Token.ID)
		if err != nil {
			return identity.Grant{}, identityError(err)
		}
		return identity.Grant{User: user, Methods: id.Methods, Parent: &token}, nil
	default:
		return identity.Grant{}, unauthorized(errors.New("unsupported authentication method"))
	}
}

// subject is the token that a request speaks of.
func (a *api) subject(c *call) (secret string, token identity.Token, user identity.User, err error) {
	secret = c.Header.Get(headerSubjectToken)
	token, user, err = a.Identity.Verify(c.Context(), secret)
	if err != nil || (user.ID != c.caller.UserID && !c.caller.admin) {
		return "", identity.Token{}, identity.User{}, notFound("Could not find token.")
	}
	return secret, token, user, nil
}

func (a *api) showToken(c *call) (*answer, error) {
	secret, token, user, err := a.subject(c)
	if err != nil {
		return nil, err
	}
	ans := &answer{status: http.StatusOK, body: tokenView(c, token, user)}
	return ans.with(headerSubjectToken, secret).with("Vary", headerToken), nil
}

func (a *api) revokeToken(c *call) (*answer, error) {
	secret, _, _, err := a.subject(c)
	if err != nil {
		return nil, err
	}
	if err := a.Identity.Revoke(c.Context(), secret); err != nil {
		return nil, identityError(err)
	}
	return status(http.StatusNoContent)
}

func tokenView(c *call, t identity.Token, u identity.User) any {
	view := map[string]any{
		"methods":    t.Methods,
		"audit_ids":  t.AuditIDs,
		"issued_at":  keystoneTime(t.Issued),
		"expires_at": keystoneTime(t.Expires),
		"user": struct {
			namedInDomain
			PasswordExpiresAt *string `json:"password_expires_at"`
		}{namedInDomain: namedInDomain{named{u.ID, u.Name}, defaultDomain}},
	}
	if t.Scoped {
		view["project"] = namedInDomain{named{u.ProjectID, u.ProjectName}, defaultDomain}
		view["is_domain"] = false
		view["roles"] = rolesOf(u)
		if !c.URL.Query().Has("nocatalog") {
			view["catalog"] = catalog(c.base)
		}
	}
	return map[string]any{"token": view}
}

func (a *api) showCatalog(c *call) (*answer, error) {
	if !c.caller.token.Scoped {
		return nil, faultf(http.StatusForbidden, "The token has no scope, so it has no catalog.")
	}
	return ok(map[string]any{"catalog": catalog(c.base), "links": selfLinks(c, "/auth/catalog")})
}

// catalogService is one service of the catalog, and catalogEndpoint one of its addresses.
type (
	catalogService struct {
		ID        string            `json:"id"`
		Type      string            `json:"type"`
		Name      string            `json:"name"`
		Endpoints []catalogEndpoint `json:"endpoints"`
	}
	catalogEndpoint struct {
		ID        string `json:"id"`
		Interface string `json:"interface"`
		Region    string `json:"region"`
		RegionID  string `json:"region_id"`
		URL       string `json:"url"`
	}
)

// catalog lists the services. The image service's address is without a version, as in most
// clouds: its clients look for the versions below it. The block storage service is there by its name and by the one that its clients
// of before 2023 look for.
func catalog(base string) []catalogService {
	services := []catalogService{
		{Type: "compute", Name: "nova"}, {Type: "identity", Name: "keystone"}, {Type: "image", Name: "glance"},
		{Type: "network", Name: "neutron"}, {Type: "block-storage", Name: "cinder"}, {Type: "volumev3", Name: "cinderv3"},
	}
	paths := map[string]string{
		"compute": computePath, "identity": "/identity", "image": "/image", "network": "/network", "block-storage": volumePath, "volumev3": volumePath,
	}
	for i := range services {
		s := &services[i]
		s.ID = fixedID("service " + s.Type)
		for _, face := range []string{"admin", "internal", "public"} {
			s.Endpoints = append(s.Endpoints, catalogEndpoint{
				ID: fixedID("endpoint " + s.Type + " " + face), Interface: face, Region: Region, RegionID: Region, URL: base + paths[s.Type],
			})
		}
	}
	return services
}

// fixedID is an ID in keystone's form that is the same at every start.
func fixedID(of string) string {
	sum := sha256.Sum256([]byte(of))
	return hex.EncodeToString(sum[:16])
}
