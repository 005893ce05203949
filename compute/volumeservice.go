package compute

import (
	"context"
	"log/slog"
	"time"

	"compute-agent/cinder"
)

// VolumeOptions are what a VolumeService works with.
type VolumeOptions struct {
	Store  Store
	Quotas *cinder.Quotas // nil for Cinder's
	// InUse is told of a volume that has grown while a server has it; the answer to it is Extended. It stores the request and returns. *Manager
	// gives it. May be nil where no server has volumes.
	InUse  func(ctx context.Context, serverID, volumeID string) error
	Clock  func() time.Time // default time.Now
	Logger *slog.Logger     // default: nothing is logged
}

// VolumeService keeps volumes, snapshots and volume types. Its methods may be called concurrently.
type VolumeService struct {
	opt    VolumeOptions
	store  Store
	quotas cinder.Quotas
	log    *slog.Logger
}

// NewVolumeService returns the service of what is in a store.
func NewVolumeService(opt VolumeOptions) *VolumeService {
	s := &VolumeService{opt: opt, store: opt.Store, quotas: cinder.DefaultQuotas, log: opt.Logger}
	if opt.Quotas != nil {
		s.quotas = *opt.Quotas
	}
	if opt.Clock == nil {
		s.opt.Clock = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

func (s *VolumeService) now() time.Time { return s.opt.Clock().UTC() }
