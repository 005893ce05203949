// Package api is the front door of a standalone agent: the identity, image, compute, network and block
// storage APIs of OpenStack, as far as the agent has what they speak of, on one listener under the paths
// /identity, /image, /compute, /network and /volume. The openstack command, openstacksdk, gophercloud and Terraform
// are its clients.
//
// A request passes, in order: the request's ID and the access log (middleware.go), the limits of
// rate and size, the route's table entry (route.go), the token (auth.go), the microversion, the
// schema of its body (schema.go), and the handler, which asks the Backend and renders its answer
// (*_view.go). Errors are turned into the service's own shape in one place (fault.go).
package api

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Region is the only region of the catalog.
const Region = "RegionOne"

// availabilityZone is the only one; it has Nova's default name.
const availabilityZone = "nova"

// Options is what the front door needs and how it is limited.
type Options struct {
	Backend  Backend
	Identity Identity
	Logger   *slog.Logger

	// Hostname is the name by which servers show their host: Nova's [DEFAULT]host.
	Hostname string
	// PublicURL is the scheme, host and port under which clients reach the listener, without a
	// path. Empty: what the request itself was sent to.
	PublicURL string

	Limits Limits

	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Limits bound what one client can ask for. Zero means the default; a rate below zero means none.
type Limits struct {
	RequestsPerSecond float64 // of one client address; default 200
	RequestBurst      int     // default 500
	LoginsPerSecond   float64 // of one client address; default 5
	LoginBurst        int     // default 60
	ImageBytes        int64   // of one image upload; default 1 TiB
}

func (l Limits) withDefaults() Limits {
	if l.RequestsPerSecond == 0 {
		l.RequestsPerSecond = 200
	}
	if l.RequestBurst == 0 {
		l.RequestBurst = 500
	}
	if l.LoginsPerSecond == 0 {
		l.LoginsPerSecond = 5
	}
	if l.LoginBurst == 0 {
		l.LoginBurst = 60
	}
	if l.ImageBytes == 0 {
		l.ImageBytes = 1 << 40
	}
	return l
}

// api is the front door's state; it has none that a restart would lose.
type api struct {
	Options
	schemas *schemas
	log     *slog.Logger
}

// New returns the front door. It sets deadlines for reading and writing on each connection itself,
// because an image's upload may last hours while it moves; the http.Server only needs
// ReadHeaderTimeout and IdleTimeout, and must not have ReadTimeout or WriteTimeout.
func New(opt Options) (http.Handler, error) {
	if opt.Backend == nil || opt.Identity == nil {
		return nil, errors.New("api: Backend and Identity are needed")
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	opt.PublicURL = strings.TrimSuffix(opt.PublicURL, "/")
	opt.Limits = opt.Limits.withDefaults()
	schemas, err := loadSchemas()
	if err != nil {
		return nil, err
	}
	a := &api{Options: opt, schemas: schemas, log: opt.Logger}
	return a.observe(a.limitRate(a.router())), nil
}

// router joins the services.
func (a *api) router() http.Handler {
	mux := http.NewServeMux()
	for _, s := range []service{a.identityService(), a.imageService(), a.computeService(), a.networkService(), a.volumeService()} {
		h := a.serve(s)
		if s.projects != "" {
			h = takeProject(s, h)
		}
		mux.Handle("/"+s.name, h)
		mux.Handle("/"+s.name+"/", h)
	}
	mux.Handle("/", a.serve(a.indexService()))
	return mux
}
