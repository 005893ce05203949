package compute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"compute-agent/neutron"
)

// NetworkOptions are what a NetworkService works with.
type NetworkOptions struct {
	Store  Store
	Quotas *neutron.Quotas // nil for Neutron's
	// Provider is what the operator offers networks on.
	Provider neutron.Provider
	// Changed is called after a commit that changes what the host must have. It must not block. May be nil.
	Changed func()
	Clock   func() time.Time // default time.Now
	Logger  *slog.Logger     // default: nothing is logged
	// Random is a number below n, for MACs and addresses; default is math/rand/v2's.
	Random func(n uint64) uint64
}

// NetworkService keeps networks, subnets, ports, security groups, routers and floating IPs. Each command is one transaction. What the
// host must have for them is neutron.Plan's to say and a Fabric's to make; the answer to a command does not wait for it, as with Neutron.
// Its methods may be called concurrently.
type NetworkService struct {
	opt    NetworkOptions
	store  Store
	quotas neutron.Quotas
}

// NewNetworkService returns the service of what is in a store.
func NewNetworkService(opt NetworkOptions) *NetworkService {
	s := &NetworkService{opt: opt, store: opt.Store, quotas: neutron.DefaultQuotas}
	if opt.Quotas != nil {
		s.quotas = *opt.Quotas
	}
	if opt.Changed == nil {
		s.opt.Changed = func() {}
	}
	if opt.Clock == nil {
		s.opt.Clock = time.Now
	}
	if opt.Logger == nil {
		s.opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Random == nil {
		s.opt.Random = rand.Uint64N
	}
	return s
}

// Quotas are how many of each record a project may have.
func (s *NetworkService) Quotas() neutron.Quotas { return s.quotas }

func (s *NetworkService) now() time.Time { return s.opt.Clock().UTC() }

// change runs one command, and tells the host of it.
func (s *NetworkService) change(ctx context.Context, command func(Writer) error) error {
	// Not cancelled with the request: a commit must not be in doubt.
	err := s.store.Update(context.WithoutCancel(ctx), command)
	if err == nil {
		s.opt.Changed()
	}
	return refusal(err)
}

// refusal gives what package neutron refuses the kind that it has for front doors. The cause, which has Neutron's name for it, stays
// within reach of errors.As.
func refusal(err error) error {
	e, is := errors.AsType[*neutron.Error](err)
	if _, told := errors.AsType[*Failure](err); !is || told {
		return err
	}
	kind := map[neutron.Kind]error{neutron.Invalid: ErrInvalid, neutron.NotFound: ErrNotFound, neutron.Conflict: ErrConflict}[e.Kind]
	return &Failure{Kind: errors.Join(kind, e), Reason: e.Error()}
}

func conflict(class, reason string, args ...any) error {
	return &neutron.Error{Class: class, Kind: neutron.Conflict, Rule: fmt.Sprintf(reason, args...)}
}

// missingRecord gives the error of a look-up Neutron's name.
func missingRecord(class, what, id string, err error) error {
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	return &neutron.Error{Class: class, Kind: neutron.NotFound, Rule: fmt.Sprintf("%s %s could not be found", what, id)}
}

// show reads one record.
func show[T any](ctx context.Context, s *NetworkService, read func(Reader) (T, error)) (v T, err error) {
	err = s.store.View(ctx, func(r Reader) error {
		v, err = read(r)
		return err
	})
	return v, refusal(err)
}

func networkOf(r Reader, id string) (neutron.Network, error) {
	n, err := r.Network(id)
	return n, missingRecord("NetworkNotFound", "network", id, err)
}

// within checks a project's quota before it gets one more of something.
func (s *NetworkService) within(r Reader, what NetworkResource, projectID string) error {
	limit := map[NetworkResource]int{
		ResourceNetwork: s.quotas.Networks, ResourceSubnet: s.quotas.Subnets, ResourcePort: s.quotas.Ports,
		ResourceSecurityGroup: s.quotas.SecurityGroups, ResourceRouter: s.quotas.Routers, ResourceFloatingIP: s.quotas.FloatingIPs,
	}[what]
	if limit < 0 || projectID == "" { // what is nobody's has none, like a router's gateway port
		return nil
	}
	has, err := r.Owned(what, projectID)
	if err == nil && has >= limit {
		return conflict("OverQuota", "quota exceeded for resources: ['%s']: the project has %d of %d", what, has, limit)
	}
	return err
}

func newID() string { return uuid.NewString() }
