package libvirt

import (
	"context"
	"fmt"
	"strings"

	lv "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"compute-agent/virt"
)

// ourUsage begins the usage of the secrets that the agent keeps. libvirt takes one secret for each usage of a type, and
// others, such as Nova, name theirs by the volume alone.
const ourUsage = "compute-agent:"

// usageTypes are the words for libvirt's types of usage.
var usageTypes = map[lv.SecretUsageType]string{
	lv.SECRET_USAGE_TYPE_VOLUME: "volume", lv.SECRET_USAGE_TYPE_ISCSI: "iscsi", lv.SECRET_USAGE_TYPE_CEPH: "ceph",
}

// keptSecret is what libvirt tells of a secret.
type keptSecret struct {
	uuid, usage, purpose string
	ours                 bool
}

// PutSecret implements virt.SecretKeeper. The secret is ephemeral: on no disk; and private: nobody reads it back.
func (d *Driver) PutSecret(ctx context.Context, s virt.Secret) error {
	const op = "keep secret"
	if err := s.Validate(); err != nil {
		return failure(op, s.UUID, err)
	}
	definition, err := renderSecret(&s)
	if err != nil {
		return failure(op, s.UUID, err)
	}
	value := append([]byte(nil), s.Value...)
	return d.onSecrets(ctx, op, s.UUID, func(conn *lv.Connect) error {
		if err := makeRoom(conn, &s); err != nil {
			return err
		}
		secret, err := conn.SecretDefineXML(definition, 0)
		if err != nil {
			return err
		}
		defer freeSecret(secret)
		if err := secret.SetValue(value, 0); err != nil {
			_ = secret.Undefine() // one without a value is of no use
			return err
		}
		return nil
	})
}

// onSecrets runs f, which changes secrets, alone.
func (d *Driver) onSecrets(ctx context.Context, op, uuid string, f func(*lv.Connect) error) error {
	return d.run(ctx, op, uuid, d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		give, err := d.turns.take(ctx, "secrets")
		if err != nil {
			return unavailable(err)
		}
		defer give()
		return c.rpc(ctx, f)
	})
}

// renderSecret makes libvirt's definition of a secret, without its value.
func renderSecret(s *virt.Secret) (string, error) {
	usage := &libvirtxml.SecretUsage{Type: s.Usage}
	switch name := ourUsage + s.For; s.Usage {
	case "iscsi":
		usage.Target = name
	case "ceph":
		usage.Name = name
	default:
		usage.Volume = name
	}
	out := libvirtxml.Secret{Ephemeral: "yes", Private: "yes", UUID: s.UUID, Description: "kept by compute-agent for " + s.For, Usage: usage}
	return out.Marshal()
}

// makeRoom removes the secrets of ours in whose place another comes.
func makeRoom(conn *lv.Connect, s *virt.Secret) error {
	return eachSecret(conn, func(secret *lv.Secret, k keptSecret) error {
		same := k.usage == s.Usage && k.purpose == s.For
		switch {
		case !k.ours && k.uuid == s.UUID:
			return fmt.Errorf("%w: a secret that is not the agent's has this UUID", virt.ErrExists)
		case k.ours && same != (k.uuid == s.UUID):
			return secret.Undefine()
		}
		return nil
	})
}

// eachSecret calls f for all secrets. What libvirt tells of them is in the list: this asks once.
func eachSecret(conn *lv.Connect, f func(*lv.Secret, keptSecret) error) error {
	list, err := conn.ListAllSecrets(0)
	if err != nil {
		return err
	}
	defer func() {
		for i := range list {
			freeSecret(&list[i])
		}
	}()
	for i := range list {
		k, err := readSecret(&list[i])
		if err == nil {
			err = f(&list[i], k)
		}
		if err != nil && !isCode(err, lv.ERR_NO_SECRET) { // somebody has removed it meanwhile
			return err
		}
	}
	return nil
}

func readSecret(secret *lv.Secret) (k keptSecret, err error) {
	if k.uuid, err = secret.GetUUIDString(); err != nil {
		return k, err
	}
	kind, err := secret.GetUsageType()
	if err != nil {
		return k, err
	}
	name, err := secret.GetUsageID()
	if err != nil {
		return k, err
	}
	k.usage = usageTypes[kind]
	k.purpose, k.ours = strings.CutPrefix(name, ourUsage)
	k.ours = k.ours && k.usage != ""
	return k, nil
}

func freeSecret(s *lv.Secret) { _ = s.Free() } // fails only on what is no secret

// DeleteSecret implements virt.SecretKeeper.
func (d *Driver) DeleteSecret(ctx context.Context, uuid string) error {
	return d.onSecrets(ctx, "forget secret", uuid, func(conn *lv.Connect) error {
		return eachSecret(conn, func(secret *lv.Secret, k keptSecret) error {
			if k.ours && k.uuid == uuid {
				return secret.Undefine()
			}
			return nil
		})
	})
}

// Secrets implements virt.SecretKeeper.
func (d *Driver) Secrets(ctx context.Context) (map[string]string, error) {
	result := make(chan map[string]string, 1)
	err := d.run(ctx, "list secrets", "", d.opt.CallTimeout, func(ctx context.Context, c *call) error {
		return c.rpc(ctx, func(conn *lv.Connect) error {
			list := map[string]string{}
			err := eachSecret(conn, func(_ *lv.Secret, k keptSecret) error {
				if k.ours {
					list[k.uuid] = k.purpose
				}
				return nil
			})
			result <- list
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return <-result, nil
}
