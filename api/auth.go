package api

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"compute-agent/identity"
)

// Identity is what the front door asks of the identity service; *identity.Service is it.
type Identity interface {
	// Login returns the user of a right credential; identity.ErrUnauthorized or
	// identity.ErrRateLimited otherwise.
	Login(ctx context.Context, c identity.Credential) (identity.User, error)
	// Issue makes a token and returns its secret.
	Issue(ctx context.Context, g identity.Grant) (secret string, t identity.Token, err error)
	// Verify returns the token of a secret and its user; identity.ErrUnauthorized if there is none.
	Verify(ctx context.Context, secret string) (identity.Token, identity.User, error)
	// Revoke ends a token.
	Revoke(ctx context.Context, secret string) error
}

// The headers that carry a token: who asks, and who is spoken of.
const (
	headerToken        = "X-Auth-Token"
	headerSubjectToken = "X-Subject-Token"
)

// caller is who sends a request.
type caller struct {
	UserID    string
	ProjectID string // empty for an unscoped token
	admin     bool
	user      identity.User
	token     identity.Token
}

// authenticate finds out who sends a request. Only a token of the identity service itself may be
// without a project.
func (a *api) authenticate(r *http.Request) (caller, error) {
	secret := r.Header.Get(headerToken)
	if secret == "" {
		return caller{}, unauthorized(nil)
	}
	token, user, err := a.Identity.Verify(r.Context(), secret)
	if err != nil {
		return caller{}, identityError(err)
	}
	who := caller{UserID: user.ID, user: user, token: token}
	if token.Scoped {
		who.ProjectID = user.ProjectID
		who.admin = slices.Contains(user.Roles, identity.RoleAdmin)
	}
	return who, nil
}

// unauthorized is the same for every reason, so that it tells nothing of which users there are.
func unauthorized(err error) *fault {
	return &fault{
		status:  http.StatusUnauthorized,
		message: "The request you have made requires authentication.",
		err:     err,
	}
}

// identityError maps the identity service's kinds of error.
func identityError(err error) error {
	if throttled, ok := errors.AsType[*identity.Throttled](err); ok {
		return &fault{status: http.StatusTooManyRequests, message: "Too many failed logins.", retryAfter: throttled.RetryAfter, err: err}
	}
	switch {
	case errors.Is(err, identity.ErrUnauthorized):
		return unauthorized(err)
	case errors.Is(err, identity.ErrRateLimited):
		return &fault{status: http.StatusTooManyRequests, message: "Too many failed logins.", err: err}
	case errors.Is(err, identity.ErrInvalid):
		return &fault{status: http.StatusBadRequest, message: identity.ErrInvalid.Error(), err: err}
	case errors.Is(err, identity.ErrNotFound):
		return &fault{status: http.StatusNotFound, message: identity.ErrNotFound.Error(), err: err}
	case errors.Is(err, identity.ErrExists):
		return &fault{status: http.StatusConflict, message: identity.ErrExists.Error(), err: err}
	}
	return err
}

// mine tells whether a caller may see what belongs to a project.
func (c caller) mine(projectID string) bool { return c.admin || c.ProjectID == projectID }
