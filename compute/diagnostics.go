package compute

import (
	"context"
	"errors"

	"compute-agent/virt"
)

// Diagnostics is how a running server does.
type Diagnostics struct {
	Server   Server
	Guest    virt.Guest
	VirtType string            // kvm or qemu
	MACs     map[string]string // of its interfaces, by their names on the host
	// Screenshot is its screen as a PNG; nil if it was not asked for, or there is none.
	Screenshot []byte
}

// Picture says how large a picture of a server's screen is to be.
type Picture int

// The pictures of screens.
const (
	NoPicture Picture = iota
	Thumbnail         // of at most 320 by 240 pixels
	WholeScreen
)

// Diagnostics asks the hypervisor how a server does. ErrConflict if its guest does not run, as in Nova.
func (m *Manager) Diagnostics(ctx context.Context, id string, p Picture) (Diagnostics, error) {
	var d Diagnostics
	var made virt.Spec
	err := m.store.View(ctx, func(tx Reader) (err error) {
		if d.Server, err = tx.Server(id); err != nil {
			return err
		}
		if made, err = tx.Definition(id); errors.Is(err, ErrNotFound) {
			err = nil
		}
		return err
	})
	if err != nil {
		return d, err
	}
	ctx, cancel := context.WithTimeout(ctx, m.opt.CallTimeout)
	defer cancel()
	if d.Guest, err = m.driver.Guest(ctx, id); err != nil {
		return d, m.notDiagnosed(id, err)
	}
	if d.Guest.State != virt.PowerRunning {
		return d, &Failure{Kind: ErrConflict, Reason: "Cannot 'get_diagnostics' instance " + id + " while it is in power state " + d.Guest.State.String()}
	}
	m.mu.Lock()
	d.VirtType = m.host.VirtType
	m.mu.Unlock()
	d.MACs = map[string]string{}
	for _, nic := range made.NICs {
		d.MACs[nic.Target] = nic.MAC
	}
	if p != NoPicture {
		d.Screenshot, err = m.screenshot(ctx, id, p)
	}
	return d, err
}

// screenshot is nil for a guest without a screen.
func (m *Manager) screenshot(ctx context.Context, id string, p Picture) ([]byte, error) {
	driver, ok := m.driver.(virt.Screenshotter)
	if !ok {
		return nil, nil
	}
	picture, err := driver.Screenshot(ctx, id)
	switch {
	case errors.Is(err, virt.ErrUnsupported):
		return nil, nil
	case err != nil:
		return nil, m.notDiagnosed(id, err)
	case p == WholeScreen:
		return picture, nil
	}
	return thumbnail(picture)
}

func (m *Manager) notDiagnosed(id string, err error) error {
	switch {
	case errors.Is(err, virt.ErrNotFound), errors.Is(err, virt.ErrInvalidState):
		return notReady(id, err)
	case errors.Is(err, virt.ErrUnavailable):
		return &Failure{Kind: ErrUnavailable, Subject: "server " + id, Reason: "the hypervisor does not answer", Err: err}
	}
	return err
}
