package fake

import (
	"context"

	"compute-agent/virt"
)

// PutSecret implements virt.SecretKeeper.
func (d *Driver) PutSecret(ctx context.Context, s virt.Secret) error {
	return d.call(ctx, "PutSecret", "keep secret", s.UUID, func() error {
		if err := s.Validate(); err != nil {
			return err
		}
		return d.locked(ctx, func() error {
			for uuid, other := range d.hv.secrets {
				if other.Usage == s.Usage && other.For == s.For {
					delete(d.hv.secrets, uuid)
				}
			}
			s.Value = append([]byte(nil), s.Value...)
			d.hv.secrets[s.UUID] = s
			return nil
		})()
	})
}

// DeleteSecret implements virt.SecretKeeper.
func (d *Driver) DeleteSecret(ctx context.Context, uuid string) error {
	return d.call(ctx, "DeleteSecret", "forget secret", uuid, d.locked(ctx, func() error {
		delete(d.hv.secrets, uuid)
		return nil
	}))
}

// Secrets implements virt.SecretKeeper.
func (d *Driver) Secrets(ctx context.Context) (map[string]string, error) {
	list := map[string]string{}
	err := d.call(ctx, "Secrets", "list secrets", "", d.locked(ctx, func() error {
		for uuid, s := range d.hv.secrets {
			list[uuid] = s.For
		}
		return nil
	}))
	if err != nil {
		return nil, err
	}
	return list, nil
}

// SecretValue is the value of a secret, that a guest's disk would be opened with; nil without such a secret.
func (h *Hypervisor) SecretValue(uuid string) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.secrets[uuid].Value
}

// ForgetSecrets forgets all secrets, as a restart of libvirtd does. Guests that run need them no more.
func (h *Hypervisor) ForgetSecrets() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.secrets)
}
